// Uses the socket tester of the front page in Chromium, as a person does. Its argument is a JSON object: the page's URL, the
// channel, and the secret of the demo key. It prints what there was to see.

import {chromium} from 'playwright-core';

const {executablePath, url, channel, secret} = JSON.parse(process.argv[2]);
const browser = await chromium.launch({executablePath, args: ['--ignore-certificate-errors', '--no-sandbox', '--disable-gpu']});
const page = await browser.newPage();
const faults = [];
page.on('pageerror', (error) => faults.push(error.message));
page.on('console', (message) => message.type() === 'error' && faults.push(message.text()));
const panes = ['Client A', 'Client B'].map((name) => page.getByRole('article', {name}));
const each = (look) => Promise.all(panes.map(look));
const until = (pane, text) => pane.locator('.log').getByText(text, {exact: true}).waitFor();
const state = (text) => each((pane) => pane.locator('.state', {hasText: text}).waitFor());
const saw = {faults};

await page.goto(url);
await page.locator('[name=channel]').fill(`presence-${channel}`);
await panes[0].locator('[name=user]').fill('Ada');
await panes[1].locator('[name=user]').fill('<b>Grace</b>');
await page.locator('#connect-both').click();
await each((pane) => pane.locator('.members li').nth(1).waitFor());
saw.here = await each(async (pane) => [await pane.locator('.count').textContent(), ...await pane.locator('.who').allTextContents()]);

await panes[0].locator('[name=message]').fill('hello');
await panes[0].locator('[name=message]').press('Enter');
await until(panes[1], 'hello');
await page.getByText('Private channels and publishing').click();
await page.locator('[name=secret]').fill(secret);
await page.locator('.backstage [name=message]').fill('{"from": "a server"}');
await page.locator('#publish').click();
await each((pane) => until(pane, '{"from":"a server"}'));
saw.published = await page.locator('#published').textContent();

await panes[1].locator('.toggle').click();
await panes[0].locator('.members li').nth(1).waitFor({state: 'detached'});
saw.left = await panes[0].locator('.who').allTextContents();
await panes[0].locator('.toggle').click();
await state('Closed (1000)');

await page.locator('[name=channel]').fill(`1/private-${channel}`);
await page.locator('#connect-both').click();
await state('Refused (4009)');
await page.locator('#sign').click();
saw.signed = await page.locator('#signed').filter({hasText: 'hour'}).textContent();
await page.locator('#connect-both').click();
await state('Connected');
await panes[1].getByRole('button', {name: 'cmd_status'}).click();
await until(panes[1], '{"system":{"connection_count":2}}');

console.log(JSON.stringify(saw));
await browser.close();
