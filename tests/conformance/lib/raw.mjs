// A bare MQTT client for tests: it sends what it is told, byte for byte if wanted, over TLS or over a WebSocket
// whose frames it writes itself. Nothing happens by itself: no pings, no acknowledgements.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import mqtt from 'mqtt-packet';
import { NAME, deviceToken } from './hub.mjs';

export const packet = (p) => mqtt.generate(p);

// A queue of what came, and of who waits for it.
class Inbox {
  constructor() {
    this.items = [];
    this.waiting = [];
    this.ended = false;
  }
  put(item) {
    const w = this.waiting.shift();
    if (w) w.done(item);
    else this.items.push(item);
  }
  end() {
    this.ended = true;
    for (const w of this.waiting.splice(0)) w.fail(new Error('the connection was closed'));
  }
  take(what, timeout) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    if (this.ended) return Promise.reject(new Error(`the connection was closed, no ${what}`));
    return new Promise((done, fail) => {
      const timer = setTimeout(() => w.fail(new Error(`no ${what} within ${timeout} ms`)), timeout);
      const stop = (f) => (v) => {
        clearTimeout(timer);
        const at = this.waiting.indexOf(w);
        if (at >= 0) this.waiting.splice(at, 1);
        f(v);
      };
      const w = { done: stop(done), fail: stop(fail) };
      this.waiting.push(w);
    });
  }
}

export class Raw {
  constructor() {
    this.inbox = new Inbox();
    this.parser = mqtt.parser({ protocolVersion: 4 });
    this.parser.on('packet', (p) => this.inbox.put(p));
    this.parser.on('error', (e) => { this.error = e; });
    this.closed = false;
    this.end = new Promise((done) => { this.ended = done; });
  }

  async open(hub, port, options) {
    this.tcp = net.connect({ host: hub.address, port, localAddress: options?.localAddress });
    this.tcp.on('error', () => {});
    this.tcp.on('close', () => this.onClose()); // Node 18 does not tell the TLS socket of a reset
    this.socket = tls.connect({ socket: this.tcp, servername: NAME, ca: hub.ca, ...options });
    this.socket.on('error', (e) => { this.error = e; });
    this.socket.on('close', () => this.onClose());
    await Promise.race([once(this.socket, 'secureConnect'), this.end]);
    if (this.closed) throw new Error(`no TLS: ${this.error?.message ?? 'closed'}`);
  }

  static async tls(hub, options = {}) {
    const c = new Raw();
    await c.open(hub, hub.mqtt, options);
    c.socket.on('data', (d) => c.parser.parse(d));
    return c;
  }

  // A WebSocket: `head` is the server's answer to the handshake.
  static async ws(hub, { path = '/$iothub/websocket', protocol = 'mqtt', fields = [], tls: options = {} } = {}) {
    const c = new Raw();
    const key = randomBytes(16).toString('base64');
    await c.open(hub, hub.https, options);
    c.frames = new Inbox(); // all but data frames
    let bytes = Buffer.alloc(0);
    const head = new Promise((done) => {
      c.socket.on('data', (d) => {
        bytes = Buffer.concat([bytes, d]);
        if (!c.head) {
          const end = bytes.indexOf('\r\n\r\n');
          if (end < 0) return;
          c.head = bytes.subarray(0, end).toString();
          bytes = bytes.subarray(end + 4);
          done();
        }
        bytes = c.takeFrames(bytes);
      });
      c.end.then(done);
    });
    c.socket.write([`GET ${path} HTTP/1.1`, `Host: ${NAME}`, 'Connection: Upgrade', 'Upgrade: websocket',
      'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${key}`, ...(protocol ? [`Sec-WebSocket-Protocol: ${protocol}`] : []),
      ...fields, '', ''].join('\r\n'));
    await head;
    c.accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    c.isWs = true;
    return c;
  }

  takeFrames(bytes) {
    for (;;) {
      if (bytes.length < 2) return bytes;
      let n = bytes[1] & 127;
      let at = 2;
      if (n === 126) {
        if (bytes.length < 4) return bytes;
        n = bytes.readUInt16BE(2);
        at = 4;
      } else if (n === 127) {
        if (bytes.length < 10) return bytes;
        n = Number(bytes.readBigUInt64BE(2));
        at = 10;
      }
      if (bytes.length < at + n) return bytes;
      const op = bytes[0] & 15;
      const payload = bytes.subarray(at, at + n);
      if (op === 2 || op === 0) this.parser.parse(payload);
      else this.frames.put({ op, payload: Buffer.from(payload) });
      bytes = bytes.subarray(at + n);
    }
  }

  onClose() {
    if (this.closed) return;
    this.closed = true;
    this.inbox.end();
    this.frames?.end();
    this.ended();
  }

  // One WebSocket frame, masked. op: 0 continuation, 2 binary, 8 close, 9 ping, 10 pong.
  frame(op, payload = Buffer.alloc(0), fin = true) {
    const mask = randomBytes(4);
    const head = payload.length < 126 ? Buffer.from([0, 0x80 | payload.length])
      : Buffer.from([0, 0x80 | 126, payload.length >> 8, payload.length & 255]);
    head[0] = (fin ? 0x80 : 0) | op;
    this.socket.write(Buffer.concat([head, mask, payload.map((b, i) => b ^ mask[i & 3])]));
  }

  write(bytes) {
    if (this.isWs) this.frame(2, bytes);
    else this.socket.write(bytes);
  }
  send(p) {
    this.write(packet(p));
  }
  next(timeout = 10_000) {
    return this.inbox.take('packet', timeout);
  }
  // The next packet, which has to be of that kind.
  async expect(cmd, timeout) {
    const p = await this.next(timeout);
    if (p.cmd !== cmd) throw new Error(`${p.cmd} came, not ${cmd}: ${JSON.stringify(p)}`);
    return p;
  }
  // Waits until the hub has closed the connection; throws when a packet came instead.
  async expectClose(timeout = 10_000) {
    let timer;
    const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error(`still open after ${timeout} ms`)), timeout); });
    await Promise.race([this.end, late]).finally(() => clearTimeout(timer));
    if (this.inbox.items.length) throw new Error(`came before the close: ${JSON.stringify(this.inbox.items[0])}`);
  }
  // Nothing more will come: the answer to a ping is the next packet.
  async quiet() {
    this.send({ cmd: 'pingreq' });
    await this.expect('pingresp');
  }

  connectPacket(device, { clean = false, keepalive = 60, clientId, username, password, ...more } = {}) {
    return { cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean, keepalive,
      clientId: clientId ?? device.id, username: username ?? `${NAME}/${device.id}/?api-version=2021-04-12`,
      ...(password === null ? {} : { password: password ?? deviceToken(device) }), ...more };
  }
  // CONNECT and its answer.
  async hello(device, options) {
    this.send(this.connectPacket(device, options));
    return this.expect('connack');
  }
  async subscribe(...topics) {
    this.ids = (this.ids ?? 100) + 1;
    this.send({ cmd: 'subscribe', messageId: this.ids,
      subscriptions: topics.map((t) => (typeof t === 'string' ? { topic: t, qos: 1 } : t)) });
    const ack = await this.expect('suback');
    if (ack.messageId !== this.ids) throw new Error('another SUBACK');
    return ack.granted;
  }
  // A QoS 1 publish and its PUBACK.
  async publish(topic, payload = '', more = {}) {
    this.ids = (this.ids ?? 100) + 1;
    this.send({ cmd: 'publish', topic, payload, qos: 1, messageId: this.ids, ...more });
    const ack = await this.expect('puback');
    if (ack.messageId !== this.ids) throw new Error('another PUBACK');
  }
  puback(p) {
    this.send({ cmd: 'puback', messageId: p.messageId });
  }
  async disconnect() {
    this.send({ cmd: 'disconnect' });
    this.socket.end();
    await this.end;
  }
  // As when the network goes: no DISCONNECT, a reset.
  async reset() {
    this.tcp.resetAndDestroy();
    this.socket.destroy();
    await this.end;
  }
}

// Connected and accepted, or an error that says why not.
export async function connected(hub, device, options) {
  const c = await Raw.tls(hub);
  const ack = await c.hello(device, options);
  if (ack.returnCode !== 0) throw new Error(`CONNACK ${ack.returnCode}`);
  c.sessionPresent = ack.sessionPresent;
  return c;
}

// CONNECT must be answered with that code and the connection closed.
export async function refused(hub, device, options, code = 5) {
  const c = await Raw.tls(hub);
  const ack = await c.hello(device, options);
  if (ack.returnCode !== code) throw new Error(`CONNACK ${ack.returnCode}, not ${code}`);
  await c.expectClose();
}
