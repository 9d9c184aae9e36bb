// Plays a scenario in Node. The argument is a JSON object with the settings. Prints how far it has come, and then the
// observations; continues after each line of the input.

import {createInterface} from 'node:readline';
import Echo from 'laravel-echo';
import PusherServer from 'pusher';
import Pusher from 'pusher-js';
import {serverOptions} from './pusher_settings.mjs';
import './pusher_scenarios.mjs';

const given = JSON.parse(process.argv[2]);
const lines = createInterface({input: process.stdin})[Symbol.asyncIterator]();

async function signal(state) {
  console.log(JSON.stringify({state}));
  await lines.next();
}

console.log(JSON.stringify(await play(given, {Pusher, Echo}, new PusherServer(serverOptions(given)), signal)));
process.exit(0);
