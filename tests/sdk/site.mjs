// A web site with the auth endpoint of realtime/README.md for Express. It prints its port.

import {fileURLToPath} from 'node:url';
import express from 'express';
import {auth} from './auth.mjs';

const site = express();
site.use((request, response, next) => {
  const user = /\buser=([\w-]+)/.exec(request.headers.cookie)?.[1];
  if (user) request.user = {id: user, name: 'Ada'};
  next();
});
site.use(auth);
site.get('/', (request, response) => response.send('<!doctype html><title>A page</title>'));
site.get('/scenarios.mjs', (request, response) => response.sendFile(fileURLToPath(new URL('scenarios.mjs', import.meta.url))));
const listener = site.listen(0, '127.0.0.1', () => console.log(listener.address().port));
