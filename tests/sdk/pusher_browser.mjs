// Plays a scenario in Chromium. The argument is a JSON object with the settings and the path of Chromium. Prints how far
// it has come, and then the observations; continues after each line of the input.

import {createInterface} from 'node:readline';
import {chromium} from 'playwright-core';
import PusherServer from 'pusher';
import {serverOptions} from './pusher_settings.mjs';

const {executablePath, ...given} = JSON.parse(process.argv[2]);
const server = new PusherServer(serverOptions(given));
const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();
const browser = await chromium.launch({
  executablePath,
  args: ['--ignore-certificate-errors', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
});
const page = await browser.newPage();
await page.exposeFunction('callServer', async (method, args) => {
  const answer = await server[method](...args);
  return method.startsWith('auth') ? answer : null;
});
await page.exposeFunction('signal', async (state) => {
  console.log(JSON.stringify({state}));
  await lines.next();
});
for (const path of ['pusher-js/dist/web/pusher-with-encryption.min.js', 'laravel-echo/dist/echo.iife.js']) {
  await page.addScriptTag({path: `node_modules/${path}`});
}
await page.addScriptTag({path: 'pusher_scenarios.mjs', type: 'module'});
await page.waitForFunction('globalThis.play'); // browsers run modules later
console.log(JSON.stringify(await page.evaluate((settings) => {
  const calls = new Proxy({}, {get: (_, method) => (...args) => callServer(method, args)});
  return play(settings, {Pusher, Echo: globalThis.Echo.default ?? globalThis.Echo}, calls, signal);
}, given)));
await browser.close();
process.exit(0);
