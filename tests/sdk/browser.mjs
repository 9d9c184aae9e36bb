// Plays scenarios in Chromium, each in its own page with a published bundle of piesocket-js. The argument is a JSON object
// with the path of Chromium, the URL of the site and the port of the service. Each line of the input is a JSON object with
// the bundle, the user who is logged in to the site, and the scenario. Each line of the output is a JSON object with the
// observations, or with the error.

import {createInterface} from 'node:readline';
import {chromium} from 'playwright-core';

const {executablePath, site, port} = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath,
  args: [
    `--host-resolver-rules=MAP *.piesocket.com:443 127.0.0.1:${port}`,
    '--ignore-certificate-errors', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});

async function playInPage({sdk, user, ...settings}) {
  const context = await browser.newContext();
  try {
    await context.addCookies([{name: 'user', value: user, url: site}]);
    const page = await context.newPage();
    await page.goto(site);
    await page.evaluate(async () => Object.assign(window, await import('/scenarios.mjs')));
    await page.addScriptTag({path: `node_modules/${sdk}/dist/piesocket.js`});
    return await page.evaluate((given) => play(PieSocket.default ?? PieSocket, given), settings);
  } catch (error) {
    return {failed: error.message};
  } finally {
    await context.close();
  }
}

for await (const line of createInterface({input: process.stdin})) {
  console.log(JSON.stringify(await playInPage(JSON.parse(line))));
}
await browser.close();
