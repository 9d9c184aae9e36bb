// Uses the WebSocket tester of the front page in Chromium, as a person would. The argument is a JSON object with the URL
// of the page, the channel, and the secret of the demo key. Prints what the page showed.

import {chromium} from 'playwright-core';

const {executablePath, url, channel, secret} = JSON.parse(process.argv[2]);
const browser = await chromium.launch({executablePath, args: ['--ignore-certificate-errors', '--no-sandbox', '--disable-gpu']});
const page = await browser.newPage();
const errors = [];
page.on('pageerror', (error) => errors.push(error.message));
page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
const panes = ['Client A', 'Client B'].map((name) => page.getByRole('article', {name}));
const inEachPane = (action) => Promise.all(panes.map(action));
const logged = (pane, text) => pane.locator('.log').getByText(text, {exact: true}).waitFor();
const stateIs = (text) => inEachPane((pane) => pane.locator('.state', {hasText: text}).waitFor());
const names = (pane) => pane.locator('.member-user').allTextContents();
const connectBoth = async () => {
  await page.locator('#connect-both').click();
  await inEachPane((pane) => pane.locator('.members li').nth(1).waitFor());
};
/** Disconnects both. Returns the members that the first one saw last. */
const disconnectBoth = async () => {
  await panes[1].locator('.toggle').click();
  await panes[0].locator('.members li').nth(1).waitFor({state: 'detached'});
  const remaining = await names(panes[0]);
  await panes[0].locator('.toggle').click();
  await stateIs('Closed (1000)');
  return remaining;
};
const shown = {errors};

await page.goto(url);
await page.locator('[name=channel]').fill(`presence-${channel}`);
await panes[0].locator('[name=user]').fill('Ada');
await panes[1].locator('[name=user]').fill('<b>Grace</b>');
await connectBoth();
shown.members = await inEachPane(async (pane) => [
  await pane.locator('.count').textContent(),
  ...await names(pane),
]);

await panes[0].locator('[name=message]').fill('hello');
await panes[0].locator('[name=message]').press('Enter');
await logged(panes[1], 'hello');
await page.getByText('Private channels and publishing').click();
await page.locator('[name=secret]').fill(secret);
await page.locator('.secret-tools [name=message]').fill('{"from": "a server"}');
await page.locator('#publish').click();
await inEachPane((pane) => logged(pane, '{"from":"a server"}'));
shown.published = await page.locator('#published').filter({hasText: /^\d/}).textContent();

shown.remaining = await disconnectBoth();

await page.locator('[name=channel]').fill(`1/private-${channel}`);
await page.locator('#connect-both').click();
await stateIs('Rejected (4009)');
await page.locator('#sign').click();
shown.signed = await page.locator('#signed').filter({hasText: 'hour'}).textContent();
await page.locator('#connect-both').click();
await stateIs('Connected');
await panes[1].getByRole('button', {name: 'cmd_status'}).click();
await logged(panes[1], '{"system":{"connection_count":2}}');

for (const pane of panes) await pane.locator('.toggle').click();  // one after the other: there is one mouse
await stateIs('Closed (1000)');
await page.locator('[name=protocol]').selectOption('Pusher');
await page.locator('[name=channel]').fill(`presence-${channel}`);
await connectBoth();
shown.pusherMembers = await inEachPane(names);
await panes[0].locator('[name=message]').fill('hello');
await panes[0].locator('[name=message]').press('Enter');
await panes[1].locator('.log').getByText('"event":"client-message"').waitFor();
await disconnectBoth();

await page.locator('[name=protocol]').selectOption('PieSocket v4');
await page.locator('[name=jwt]').fill('');  // it belongs to another channel
await connectBoth();
shown.v4Members = await inEachPane(names);
await panes[0].locator('[name=message]').fill('{"event":"v4-message"}');
await panes[0].locator('[name=message]').press('Enter');
await panes[1].locator('.log').getByText('"event":"v4-message"').waitFor();
await page.locator('#publish').click();
await inEachPane((pane) => pane.locator('.log').getByText('"from":"a server","system::channel":').waitFor());
await disconnectBoth();

await page.locator('[name=api_key]').fill('unknown');
await page.locator('#connect-both').click();
await stateIs('Rejected (4001)');

console.log(JSON.stringify(shown));
await browser.close();
