// A bare client of AMQP for tests: frames on a TLS socket, and links of rhea's, where SDKs never look.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import tls from 'node:tls';
import { NAME, parseConnectionString, sasToken, waitFor } from './hub.mjs';

const require = createRequire(import.meta.url);
export const rhea = require('rhea');
let hub, policy; // of the test that runs
export function useHub(h) {
  hub = h;
  policy = parseConnectionString(h.connectionString);
}

export const deviceToken = (d, key = d.key, seconds = 3600) => sasToken(`${NAME}/devices/${d.id}`, key, undefined, seconds);
export const ownerToken = (resource = NAME) => sasToken(resource, policy.SharedAccessKey, policy.SharedAccessKeyName);

// ---- frames on a bare TLS socket ---------------------------------------------------------------------------

export function socket(options = {}) {
  return new Promise((done, fail) => {
    const s = tls.connect({ host: hub.address, port: hub.amqp, servername: NAME, ca: hub.ca, ...options }, () => done(s));
    s.on('error', fail);
    s.chunks = Buffer.alloc(0);
    s.on('data', (d) => { s.chunks = Buffer.concat([s.chunks, d]); });
    s.on('close', () => { s.ended = true; });
    s.got = (n) => waitFor(`${n} bytes`, () => s.chunks.length >= n && s.chunks);
  });
}
export const HEADER = (proto) => Buffer.from([0x41, 0x4d, 0x51, 0x50, proto, 1, 0, 0]);
export const list = (...items) => { const b = Buffer.concat(items); return Buffer.concat([Buffer.from([0xc0, b.length + 1, items.length]), b]); };
export const text = (code, s) => Buffer.concat([Buffer.from([code, s.length]), Buffer.from(s)]);
export function frame(code, fields, { type = 0, channel = 0, payload = Buffer.alloc(0) } = {}) {
  const body = Buffer.concat([Buffer.from([0, 0x53, code]), fields, payload]);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(body.length + 8, 0);
  head.set([2, type], 4);
  head.writeUInt16BE(channel, 6);
  return Buffer.concat([head, body]);
}
export const NULL = Buffer.from([0x40]);
export const saslInit = (mechanism, response) =>
  frame(0x41, list(mechanism === null ? NULL : text(0xa3, mechanism), response === undefined ? NULL : response), { type: 1 });
export const bin = (b) => (b.length < 256 ? Buffer.concat([Buffer.from([0xa0, b.length]), b])
  : Buffer.concat([Buffer.from([0xb0, 0, 0, b.length >> 8, b.length & 255]), b]));
export const list32 = (...items) => {
  const b = Buffer.concat(items), head = Buffer.alloc(9);
  head[0] = 0xd0;
  head.writeUInt32BE(b.length + 4, 1);
  head.writeUInt32BE(items.length, 5);
  return Buffer.concat([head, b]);
};
export function framesOf(bytes) {
  const out = [];
  let at = 0;
  while (at + 8 <= bytes.length) {
    if (bytes[at] === 0x41) { out.push({ header: bytes[at + 4] }); at += 8; continue; }
    const size = bytes.readUInt32BE(at);
    if (at + size > bytes.length) break;
    const code = size > 8 ? bytes[at + 10] : 0;
    const body = bytes.subarray(at + 11, at + size);
    out.push({ size, type: bytes[at + 5], code, count: size > 8 ? (body[0] === 0xd0 ? body.readUInt32BE(5) : body[2]) : 0, body });
    at += size;
  }
  return out;
}

export async function sasl(mechanism, response) {
  const s = await socket();
  s.write(Buffer.concat([HEADER(3), saslInit(mechanism, response)]));
  const outcome = await waitFor('an outcome', () => framesOf(s.chunks).find((f) => f.code === 0x44));
  return { s, code: outcome.body[4] };
}

// ---- a client of rhea's ------------------------------------------------------------------------------------

export async function dial({ user, password, ...more } = {}) {
  const container = rhea.create_container();
  const c = container.connect({ host: NAME, port: 5671, transport: 'tls', servername: NAME, ca: hub.ca, reconnect: false,
    ...(user ? { username: user, password } : {}), ...more });
  c.events = [];
  for (const e of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'disconnected'])
    container.on(e, (ctx) => c.events.push({ e, error: ctx[e.split('_')[0]]?.error }));
  await new Promise((done, fail) => { container.once('connection_open', done); container.once('disconnected', fail); });
  return c;
}

export function attachSender(session, address, options = {}) {
  const s = session.open_sender({ target: address, ...options });
  return new Promise((done, fail) => {
    s.once('sendable', () => done(s));
    s.once('sender_error', () => fail(s.error));
  });
}
export function attachReceiver(session, address, options = {}) {
  const r = session.open_receiver({ source: address, credit_window: 0, autoaccept: false, ...options });
  r.got = [];
  r.on('message', (ctx) => r.got.push(ctx));
  return new Promise((done, fail) => {
    let open = false;
    r.once('receiver_error', () => { r.refused = r.error; fail(r.error); });
    r.once('receiver_open', () => { open = true; if (r.remote.attach.source?.address) done(r); });
    r.once('receiver_close', () => { if (!open || !r.refused) fail(r.error ?? new Error('closed')); });
  });
}
export function send(sender, message, { format, tag } = {}) {
  return new Promise((done) => {
    const d = format === undefined ? sender.send(message) : sender.send(message, tag, format);
    const end = (how) => (ctx) => { if (ctx.delivery === d) done({ how, error: ctx.delivery.remote_state?.error }); };
    sender.on('accepted', end('accepted'));
    sender.on('rejected', end('rejected'));
    sender.on('released', end('released'));
    sender.on('modified', end('modified'));
  });
}

export async function cbs(c, session = c) {
  const sender = await attachSender(session, '$cbs');
  const receiver = await attachReceiver(session, '$cbs', { autoaccept: true });
  receiver.add_credit(100);
  const order = []; // as on the wire
  c.socket.on('data', (d) => order.push(...framesOf(d).filter((f) => f.code === 0x14 || f.code === 0x15).map((f) => (f.code === 0x14 ? 'answer' : 'disposition'))));
  return {
    order,
    async put(name, token, { id = randomUUID(), type = 'servicebus.windows.net:sastoken' } = {}) {
      const nr = receiver.got.length;
      sender.send({ message_id: id, reply_to: 'cbs', application_properties: { operation: 'put-token', type, name }, body: token });
      await waitFor('the answer', () => receiver.got.length > nr);
      const m = receiver.got.at(-1).message;
      return { code: m.application_properties['status-code'], text: m.application_properties['status-description'], correlation: m.correlation_id, to: m.to };
    },
  };
}

export async function online(d) {
  const c = await dial();
  const k = await cbs(c);
  assert.equal((await k.put(`${NAME}/devices/${d.id}`, deviceToken(d))).code, 200);
  c.cbs = k;
  return c;
}
export async function serviceOnline() {
  const c = await dial();
  assert.equal((await (await cbs(c)).put(NAME, ownerToken())).code, 200);
  return c;
}
