// Plays a scenario with piesocket-js in Node. The argument is a JSON object with the settings. Prints the observations.

import './page.mjs';
import {play} from './scenarios.mjs';
import PieSocket from 'piesocket-js';

console.log(JSON.stringify(await play(PieSocket, JSON.parse(process.argv[2]))));
process.exit(0);
