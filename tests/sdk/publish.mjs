// Publishes with piesocket-nodejs. The argument is a JSON object with the port of the service, the SDK's options, and the
// message. Prints the status and the body of the answer.

import tls from 'node:tls';
import PieSocket from 'piesocket-nodejs';

const {port, options, message} = JSON.parse(process.argv[2]);

// The SDK has no option for the host, so connect to this machine in place of PieSocket's host.
const {connect} = tls;
tls.connect = (given) => {
  if (given.host !== 'demo.piesocket.com' || given.port !== 443) throw new Error(`Unexpected connection to ${given.host}:${given.port}.`);
  return connect({...given, host: '127.0.0.1', port});
};

const {status, data} = await new PieSocket(options).publish(...message).catch((error) => error.response);
console.log(JSON.stringify({status, data}));
