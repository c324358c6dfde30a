// bench/amqp.mjs - AMQP: telemetry in and out, logins by token, cloud-to-device sends by one client of the service SDK and
// by broadcast, memory of an idle connection. Beside it RabbitMQ's AMQP 1.0 plug-in, where it has the like. The clients are
// node programs (rhea, azure-iothub) on the other core, which is what limits the rates of a fast server: read the work
// per second of the server's CPU time. What the numbers mean: bench/README.md.
//
//   node bench/amqp.mjs [--only in,out,cbs,send,broadcast,idle] [--seconds 5] [--links 20] [--conns 500]
//                       [--devices 10000,100000,1000000] [--alone] [--out FILE]
//
// Needs the packages of tests/conformance (npm ci there).
import { fileURLToPath } from 'node:url';
import { createRequire } from 'node:module';
import { createHmac } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Hub, Rabbit, ports, sleep, until } from './servers.mjs';

const top = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(path.join(top, 'tests/conformance/x.js'));
const rhea = require('rhea');
const { values: opt } = parseArgs({ options: { only: { type: 'string', default: 'in,out,cbs,send,broadcast,idle' },
  seconds: { type: 'string', default: '5' }, links: { type: 'string', default: '20' }, conns: { type: 'string', default: '500' },
  devices: { type: 'string', default: '10000' }, alone: { type: 'boolean', default: false }, out: { type: 'string' } } });
const seconds = Number(opt.seconds), links = Number(opt.links), conns = Number(opt.conns);
const NAME = 'hub.localhost';

const cpuOf = (pid) => {
  const f = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').pop().trim().split(/\s+/);
  return (Number(f[11]) + Number(f[12])) / 100;
};
const residentOf = (pid) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
const token = (key, resource, policy) => {
  const se = Math.floor(Date.now() / 1000) + 86400, sr = encodeURIComponent(resource);
  const sig = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}${policy ? `&skn=${policy}` : ''}`;
};

// ---- clients ------------------------------------------------------------------------------------------------

function dial(options) {
  const container = rhea.create_container();
  const c = container.connect({ reconnect: false, ...options });
  return new Promise((done, fail) => {
    container.once('connection_open', () => done(c));
    container.once('disconnected', (ctx) => fail(ctx.error ?? new Error('the connection was closed')));
    container.once('connection_error', () => fail(c.error));
    for (const e of ['error', 'protocol_error', 'disconnected', 'connection_close', 'session_error', 'sender_error', 'receiver_error']) container.on(e, () => {}); // rhea prints what nobody hears
  });
}
const body = rhea.message.data_section(Buffer.alloc(256, 'x'));

// Sends with as much credit as there is until `end()`; counts what was accepted.
function pump(c, address, counter) {
  const s = c.open_sender({ target: address });
  s.on('sendable', () => { while (s.sendable() && !counter.over) s.send({ body, durable: true }); });
  s.on('accepted', () => { counter.nr++; });
  return new Promise((done, fail) => { s.once('sender_open', done); s.once('sender_error', () => fail(s.error)); });
}

async function timed(server, counter, during) {
  const before = { nr: counter.nr, cpu: cpuOf(server.pid), at: Date.now() };
  await (during ? during() : sleep(seconds * 1000));
  const s = (Date.now() - before.at) / 1000, cpu = cpuOf(server.pid) - before.cpu, nr = counter.nr - before.nr;
  return { per_s: nr / s, per_cpu_s: nr / cpu, nr, seconds: s };
}

// ---- the servers --------------------------------------------------------------------------------------------

const work = mkdtempSync(path.join(os.tmpdir(), 'roost-bench-'));

class AmqpHub extends Hub {
  // The hub's AMQP port is the one RabbitMQ has in other runs; they never run together.
  async prepare(devices) {
    await super.prepare(devices);
    this.config = this.config.replace(/^(amqps:\n(?: .*\n)*? {2}port: )\d+/m, `$1${ports.amqp}`);
  }
  ca_() { return readFileSync(this.ca); }
  connect(user, password) {
    return dial({ host: '127.0.0.1', port: ports.amqp, transport: 'tls', servername: NAME, ca: this.ca_(), ...(user ? { username: user, password } : {}) });
  }
  owner() { return this.connect('iothubowner@sas.root.hub', token(this.key, NAME, 'iothubowner')); }
  api(method, target, text) {
    this.agent ??= new https.Agent({ keepAlive: true, maxSockets: 64, ca: this.ca_() });
    return this.request(this.agent, method, target, token(this.key, NAME, 'iothubowner'), text);
  }
  async deviceKey(id) { return JSON.parse((await this.api('GET', `/roost/v1/devices/${id}`)).body).primaryKey; }
  async device(i) {
    const id = `d${i}`;
    return this.connect(`${id}@sas.hub`, token(await this.deviceKey(id), `${NAME}/devices/${id}`));
  }
  address(i) { return `/devices/d${i}/messages/events`; }
  source(i) { return `hub/ConsumerGroups/$Default/Partitions/${i % 4}`; }
  client(i) { return this.device(i); }
  reader() { return this.owner(); }
}

class AmqpRabbit extends Rabbit {
  async start(o) {
    await super.start({ ...o, plugins: '[rabbitmq_mqtt,rabbitmq_amqp1_0].\n' });
  }
  connect() { return dial({ host: '127.0.0.1', port: ports.amqp, username: 'guest', password: 'guest' }); }
  address(i) { return `/queue/q${i}`; }
  source(i) { return `/queue/q${i}`; }
  client() { return this.connect(); }
  reader() { return this.connect(); }
}
const hub = new AmqpHub(work), rabbit = new AmqpRabbit(work);

// ---- what is measured ---------------------------------------------------------------------------------------

async function fill(server, nr = links) {
  const counter = { nr: 0, over: false }, open = [];
  for (let i = 0; i < nr; i++) {
    const c = await server.client(i);
    open.push(c);
    await pump(c, server.address(i), counter);
  }
  return { counter, open, close: async () => { counter.over = true; await sleep(200); for (const c of open) c.close(); } };
}

async function telemetryIn(server) {
  const f = await fill(server);
  await sleep(1000);
  const r = await timed(server, f.counter);
  await f.close();
  return { ...r, what: `messages of 256 bytes accepted, ${links} devices` };
}

async function telemetryOut(server) {
  const f = await fill(server, 4);
  await sleep(seconds * 1000);
  await f.close();
  const counter = { nr: 0 }, c = await server.reader();
  const r = await timed(server, counter, async () => {
    for (let i = 0; i < 4; i++) c.open_receiver({ source: server.source(i), credit_window: 1000 }).on('message', () => { counter.nr++; });
    for (let last = -1; last !== counter.nr || !counter.nr; await sleep(250)) last = counter.nr;
  });
  c.close();
  return { ...r, what: 'stored messages read by one client' };
}

// TLS, open, a token put on $cbs, its answer.
async function logins(server) {
  const key = await server.deviceKey('d0'), text = token(key, `${NAME}/devices/d0`), counter = { nr: 0 };
  const end = Date.now() + seconds * 1000;
  const r = await timed(server, counter, () => Promise.all(Array.from({ length: 8 }, async () => {
    while (Date.now() < end) {
      const c = await server.connect();
      const answers = c.open_receiver({ source: '$cbs' }), ask = c.open_sender({ target: '$cbs' });
      await new Promise((done) => {
        answers.once('message', done);
        ask.once('sendable', () => ask.send({ message_id: 'x', reply_to: 'cbs', body: text,
          application_properties: { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: `${NAME}/devices/d0` } }));
      });
      counter.nr++;
      c.close();
    }
  })));
  return { ...r, what: 'connections with TLS and a token on $cbs' };
}

// One client of a service, as many sends under way as there is credit for; each to another device.
async function sends(server, devices) {
  const c = await server.owner(), counter = { nr: 0 };
  const nr = Math.min(devices, 20000);
  const r = await timed(server, counter, () => new Promise((done, fail) => {
    const s = c.open_sender({ target: '/messages/devicebound' });
    let next = 0;
    s.on('sendable', () => { while (s.sendable() && next < nr) s.send({ to: `/devices/d${next++}/messages/devicebound`, body }); });
    s.on('accepted', () => { if (++counter.nr === nr) done(); });
    s.on('rejected', (ctx) => fail(new Error(String(ctx.delivery.remote_state?.error?.description))));
  }));
  c.close();
  return { ...r, what: `durable sends by one client, one to each of ${nr} devices` };
}

async function broadcast(server, devices) {
  const ms = [];
  for (let i = 0; i < 20; i++) {
    const at = performance.now();
    const { status, body: text } = await server.api('POST', '/roost/v1/broadcast', JSON.stringify({ body: 'update' }));
    ms.push(performance.now() - at);
    if (status !== 201) throw new Error(text);
    const asked = performance.now();
    const { body: counts } = await server.api('GET', `/roost/v1/broadcasts/${JSON.parse(text).sequence}`);
    if (JSON.parse(counts).devices !== devices) throw new Error(`counted ${counts}`);
    ms.asked = performance.now() - asked;
  }
  const p50 = [...ms].sort((a, b) => a - b)[10];
  return { p50_ms: p50, ask_ms: ms.asked, per_s: devices / (p50 / 1000), what: `durable sends by broadcast to ${devices} devices (${p50.toFixed(1)} ms each)` };
}

async function idle(server) {
  const before = residentOf(server.pid), open = [];
  const warm = await server.client(0);
  const base = residentOf(server.pid);
  for (let i = 1; i <= conns; i++) {
    const c = await server.client(i);
    open.push(c);
    await new Promise((done, fail) => {
      const s = c.open_sender({ target: server.address(i) });
      s.once('sender_open', done);
      s.once('sender_error', () => fail(s.error));
    });
  }
  await sleep(500);
  const bytes = (residentOf(server.pid) - base) / conns;
  for (const c of [warm, ...open]) c.close();
  return { bytes, before, what: `resident bytes an idle connection with one link, ${conns} of them (hub: with TLS)` };
}

// ---- the run ------------------------------------------------------------------------------------------------

const results = [];
async function measure(name, server, fn) {
  try {
    const r = await fn(server);
    results.push({ name, server: server.name, ...r });
    const value = r.bytes !== undefined ? `${r.bytes.toFixed(0)} B` : `${r.per_s.toFixed(0)}/s${r.per_cpu_s ? `, ${r.per_cpu_s.toFixed(0)} per CPU-s` : ''}`;
    console.log(`${name.padEnd(10)} ${server.name.padEnd(9)} ${value.padEnd(32)} ${r.what}`);
  } catch (e) {
    results.push({ name, server: server.name, failed: String(e?.message ?? e) });
    console.log(`${name.padEnd(10)} ${server.name.padEnd(9)} failed: ${String(e?.message ?? e).slice(0, 160)}`);
  }
}
const wanted = new Set(opt.only.split(','));
const shared = { in: telemetryIn, out: telemetryOut, idle };
console.log(`load before: ${os.loadavg()[0].toFixed(1)} on ${os.cpus().length} cores`);
try {
  const counts = wanted.has('send') || wanted.has('broadcast') ? opt.devices.split(',').map(Number) : [1];
  for (const [i, devices] of counts.entries()) {
    const there = Math.max(devices, conns + 1, links);
    await hub.prepare(there);
    const each = async (name, fn) => { // each on a fresh directory
      await hub.start({});
      try { await measure(name, hub, fn); } finally { hub.agent?.destroy(); hub.agent = undefined; await hub.stop(); hub.clean(); }
    };
    if (i === 0) for (const name of Object.keys(shared).filter((n) => wanted.has(n))) await each(name, shared[name]);
    if (i === 0 && wanted.has('cbs')) await each('cbs', logins);
    if (wanted.has('send')) await each('send', (s) => sends(s, there));
    if (wanted.has('broadcast')) await each('broadcast', (s) => broadcast(s, there));
  }
  if (Rabbit.there() && !opt.alone)
    for (const name of Object.keys(shared).filter((n) => wanted.has(n))) {
      await rabbit.start({});
      try {
        await until('the AMQP port', 20000, async () => rabbit.connect().then((c) => { c.close(); return true; }, () => false));
        await measure(name, rabbit, shared[name]);
      } finally { await rabbit.stop(); rabbit.clean(); }
    }
} finally {
  hub.clean();
  rmSync(work, { recursive: true, force: true });
}
const out = opt.out ?? path.join(top, 'build/bench/amqp.json');
mkdirSync(path.dirname(out), { recursive: true });
writeFileSync(out, `${JSON.stringify({ at: new Date().toISOString(), load: os.loadavg(), cores: os.cpus().length, cpu: os.cpus()[0]?.model, results }, null, 1)}\n`);
console.log(`JSON: ${path.relative(process.cwd(), out)}`);
