// The options of the library of Pusher for servers.

export const serverOptions = ({appId, key, secret, host, port, secure}) => ({
  appId, key, secret, host, port: String(port), useTLS: secure,
  encryptionMasterKeyBase64: Buffer.alloc(32, 'k').toString('base64'),
});
