// Publishes with piesocket-nodejs. Its argument is a JSON object: the port that has the service, the SDK's options, and
// what to publish. It prints the status of the answer, and its body.

import tls from 'node:tls';
import PieSocket from 'piesocket-nodejs';

const {port, options, message} = JSON.parse(process.argv[2]);

// The SDK has no option for where to go: whatever is PieSocket's, is on this machine.
const {connect} = tls;
tls.connect = (given) => {
  if (given.host !== 'demo.piesocket.com' || given.port !== 443) throw new Error(`It goes to ${given.host}:${given.port}.`);
  return connect({...given, host: '127.0.0.1', port});
};

const {status, data} = await new PieSocket(options).publish(...message).catch((error) => error.response);
console.log(JSON.stringify({status, data}));
