// bench/run.mjs - `./dev bench`: measures the hub and its peers in turn, in one run, the server on one core and
// the load generator on the other. Prints a table and writes JSON. What the numbers mean: bench/README.md.
//
//   node bench/run.mjs [--only 1,2,9] [--rounds 3] [--seconds 5] [--conns 19000] [--out FILE]
import { fileURLToPath } from 'node:url';
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { Hub, LOAD_CORE, Mosquitto, Nginx, Rabbit, ports, sleep } from './servers.mjs';

const top = fileURLToPath(new URL('..', import.meta.url));
const { values: opt } = parseArgs({ options: {
  only: { type: 'string' }, rounds: { type: 'string', default: '3' }, seconds: { type: 'string', default: '5' },
  conns: { type: 'string', default: '19000' }, out: { type: 'string' }, keep: { type: 'boolean', default: false },
} });
const rounds = Number(opt.rounds), seconds = opt.seconds, conns = Number(opt.conns);
const run = promisify(execFile);

// ---- one run of the generator ------------------------------------------------------------------------------

const busy = () => {
  const n = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0].trim().split(/\s+/).slice(1).map(Number);
  return (n.reduce((a, b) => a + b, 0) - n[3] - n[4]) / 100;
};
const cpuOf = (pid) => {
  const f = readFileSync(`/proc/${pid}/stat`, 'utf8').split(')').pop().trim().split(/\s+/);
  return (Number(f[11]) + Number(f[12])) / 100;
};

async function load(server, mode, args) {
  const before = { busy: busy(), at: Date.now(), cpu: cpuOf(server.pid) };
  const { stdout } = await run('taskset', ['-c', String(LOAD_CORE), path.join(top, 'build/release/bench/load'), mode,
    '--pid', String(server.pid), ...args.map(String)], { maxBuffer: 1 << 20 });
  const r = JSON.parse(stdout);
  const s = (Date.now() - before.at) / 1000;
  // What neither core was asked for: other programs, as a share of one core. The generator takes at most one.
  let server_cpu = 0;
  try { server_cpu = cpuOf(server.pid) - before.cpu; } catch { /* it was killed */ }
  r.machine = Math.round((busy() - before.busy) / s * 100) / 100;
  r.server_share = Math.round(server_cpu / s * 100) / 100;
  return r;
}

const median = (list) => {
  const s = [...list].sort((a, b) => a - b);
  return s.length ? s[Math.floor(s.length / 2)] : NaN;
};

// ---- the metrics -------------------------------------------------------------------------------------------
// Each: number, what, unit, better, the target as a ratio to the peer, and how one server is measured once.

const work = mkdtempSync(path.join(os.tmpdir(), 'roost-bench-'));
const hub = new Hub(work), mosquitto = new Mosquitto(work, hub), rabbit = new Rabbit(work);
const nginx = new Nginx(work, hub), openssl = new Hub(work), plain = new Hub(work);
const procs = Math.max(1, Math.ceil(conns / 9500));

const idle = (tls, sub, nr) => async (server) => {
  await server.start({ tls, login: true });
  try {
    const r = await load(server, 'idle', [...server.args({ tls }), '--conns', nr, '--procs', Math.ceil(nr / 9500), '--spread', '--warm', 2,
      '--seconds', 1, ...(sub ? ['--sub', server === hub ? 'hub' : 'one'] : [])]);
    if (r.connected < nr) r.note = `${r.connected} of ${nr} connected`;
    return { value: r.bytes_per_conn, ...r };
  } finally { await server.stop(); }
};
// TLS beside plain, as many connections and subscriptions each: what TLS adds to one. It has a bound of its own.
const idleTls = (nr) => async (server) => {
  const r = await idle(true, true, nr)(server);
  if (server !== hub) return r;
  server.clean();
  const without = (await idle(false, true, nr)(server)).value, more = r.value - without;
  return { ...r, plain: without, more, note: `${r.note ?? ''} ${nr} connections: plain ${without.toFixed(0)} B, TLS ${more.toFixed(0)} B more` };
};
const storm = (tls, resume, login = true) => async (server) => {
  await server.start({ tls, login });
  try {
    const r = await load(server, 'connect', [...server.args({ tls }), '--conns', 200, '--spread', '--seconds', seconds, ...(resume ? ['--resume'] : [])]);
    return { value: r.per_cpu_s, ...r };
  } finally { await server.stop(); }
};
const publish = async (server) => {
  await server.start({ memory: true, login: true });
  try {
    const r = await load(server, 'publish', [...server.args(), '--conns', 1000, '--qos', 1, '--window', 1, '--seconds', seconds]);
    return { value: r.per_cpu_s, ...r };
  } finally { await server.stop(); server.clean(); }
};

// Pairs of a caller and a device that answers at once. Callers of the hub post method calls over plain HTTP; the peer has
// two topics a pair.
const calls = (pairs, alone) => async (server) => {
  await server.start({ login: true, plainHttps: true });
  try {
    const r = await load(server, 'call', [...server.args(), '--conns', pairs, '--seconds', seconds, ...(server === hub ? ['--http', ports.https] : [])]);
    if (r.refused || r.broken) r.note = `${r.refused} refused, ${r.broken} broken`;
    return { ...r, value: alone ? r.p50_us : r.per_cpu_s };
  } finally { await server.stop(); }
};

// The same with one reader of everything: a subscriber to all topics, or the hub's telemetry feed. What counts is what
// the reader got for the server's time.
const fanIn = async (server) => {
  await server.start({ memory: true, login: true });
  const [command, ...args] = server.reader();
  const reader = spawn('taskset', ['-c', String(LOAD_CORE), command, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  let got = 0;
  reader.stdout.on('data', (d) => { for (const b of d) if (b === 10) got++; });
  try {
    await sleep(1000); // it has connected
    const r = await load(server, 'publish', [...server.args(), '--conns', 1000, '--qos', 1, '--window', 1, '--seconds', seconds, '--warm', 0]);
    for (let before = -1; before !== got; await sleep(1000)) before = got;
    return { ...r, value: r.per_cpu_s * Math.min(1, got / r.acked), note: `${got} of ${r.acked} reached the reader` };
  } finally { reader.kill('SIGTERM'); await server.stop(); server.clean(); }
};

// As metric 9, over TLS (but for the hub that is called plain).
const publishTls = async (server) => {
  const tls = server !== plain;
  await server.start({ memory: true, login: true, tls });
  try {
    const r = await load(server, 'publish', [...server.args({ tls }), '--conns', 1000, '--qos', 1, '--window', 1, '--seconds', seconds]);
    return { value: r.per_cpu_s, ...r };
  } finally { await server.stop(); server.clean(); }
};
// 1 MiB from 16 connections; the value is MiB for each second of the server's CPU time.
const download = (tls) => async (server) => {
  const bytes = Buffer.alloc(1 << 20, 'firmware');
  await server.start({ bytes });
  try {
    if (server !== nginx) {
      await server.artifact(bytes);
      if (!tls) { await server.stop(); await server.start({ keep: true, plainHttps: true }); }
    }
    const before = { busy: busy(), cpu: cpuOf(server.pid), at: Date.now() };
    const { stdout } = await run('taskset', ['-c', String(LOAD_CORE), 'wrk', '-t1', '-c16', `-d${Math.ceil(Number(seconds))}`, server.url(tls)]);
    const s = (Date.now() - before.at) / 1000, cpu = cpuOf(server.pid) - before.cpu;
    const nr = Number(/(\d+) requests in/.exec(stdout)[1]), bad = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0);
    if (bad || !nr) throw new Error(stdout);
    return { value: nr / cpu, note: `${(nr / s).toFixed(0)} MiB/s`, machine: Math.round((busy() - before.busy) / s * 100) / 100 };
  } finally { await server.stop(); server.clean(); }
};

const numbers = (prefix) => {
  const dir = path.dirname(prefix), all = new Set();
  for (const f of readdirSync(dir).filter((n) => n.startsWith(`${path.basename(prefix)}.`)))
    for (const line of readFileSync(path.join(dir, f), 'utf8').split('\n')) if (line.length === 16) all.add(line);
  return all;
};

// Publishes from 100 connections with a window, kills the server in the middle of it, starts it again, and looks for
// every message that was acknowledged.
const durable = async (server) => {
  const acks = path.join(work, `acks-${server.name}`), drained = path.join(work, `drained-${server.name}`);
  for (const f of readdirSync(work).filter((n) => /^(acks|drained)-/.test(n))) rmSync(path.join(work, f));
  await server.start({});
  const queues = server !== hub;
  if (queues) await load(server, 'subscribe', [...server.args(), '--conns', 100, '--persistent', '--prefix', 's', '--sub', 'one', '--queues', 100]);
  const working = load(server, 'publish', [...server.args(), '--conns', 100, '--qos', 1, '--window', 16, '--seconds', seconds, '--ack-log', acks,
    '--prefix', queues ? 'p' : 'd', '--topics', queues ? 'queue' : 'hub', '--queues', 100]);
  const r = await working;
  // The rate is of the window; the kill comes under load, in a second run.
  const again = load(server, 'publish', [...server.args(), '--conns', 100, '--qos', 1, '--window', 16, '--seconds', Number(seconds) + 30,
    '--ack-log', `${acks}-killed`, '--prefix', queues ? 'x' : 'd', '--topics', queues ? 'queue' : 'hub', '--queues', 100]).catch(() => null);
  await sleep(1000 + Number(seconds) * 500);
  await server.kill();
  await again;
  const t0 = Date.now();
  await server.start({ keep: true });
  const up = Date.now() - t0;
  const promised = numbers(`${acks}-killed`);
  let found;
  if (queues) {
    await load(server, 'drain', [...server.args(), '--conns', 100, '--persistent', '--prefix', 's', '--queues', 100, '--ack-log', drained, '--quiet', 5]);
    found = numbers(drained);
  } else found = (await server.stored()).found;
  const first = await load(server, 'publish', [...server.args(), '--conns', 100, '--qos', 1, '--window', 1, '--seconds', 0.2, '--warm', 0,
    '--prefix', queues ? 'y' : 'd', '--topics', queues ? 'queue' : 'hub']);
  await server.stop();
  let lost = 0;
  for (const n of promised) if (!found.has(n)) lost++;
  return { ...r, value: r.per_s, lost, acknowledged_before_kill: promised.size, start_ms: up, first_publish_s: first.connect_s,
    note: `p50 ${(r.p50_us / 1000).toFixed(1)} ms, killed after ${promised.size} more: ${lost} lost, up in ${up} ms` };
};

const TLS_MORE = 250; // bytes a connection
const metrics = [
  { nr: 1, what: 'memory per idle plain connection, authenticated', unit: 'B', target: 0.5, better: 'less', peer: mosquitto, measure: idle(false, false, conns) },
  { nr: 2, what: 'memory per device with its subscriptions (peer: one)', unit: 'B', target: 0.2, better: 'less', peer: mosquitto, measure: idle(false, true, conns) },
  { nr: 3, what: `memory per device as 2, over TLS, ${Math.min(conns, 10000)}`, unit: 'B', target: 0.06, more: TLS_MORE, better: 'less', peer: mosquitto, measure: idleTls(Math.min(conns, 10000)) },
  { nr: '3b', what: `as 3, ${conns}`, unit: 'B', target: 0.06, more: TLS_MORE, better: 'less', peer: mosquitto, measure: idleTls(conns) },
  { nr: 5, what: 'plain connect, authenticated, per server CPU second', unit: '/CPU-s', target: 2.1, better: 'more', peer: mosquitto, measure: storm(false, false) },
  { nr: 6, what: 'full TLS 1.3 handshake to CONNACK, per server CPU second', unit: '/CPU-s', target: 2, better: 'more', peer: mosquitto, measure: storm(true, false) },
  { nr: 7, what: 'resumed TLS 1.3 to CONNACK, per server CPU second', unit: '/CPU-s', target: 2, better: 'more', peer: mosquitto, measure: storm(true, true) },
  { nr: 9, what: 'QoS 1 acknowledged in memory, window 1, per server CPU second', unit: '/CPU-s', target: 1.4, better: 'more', peer: mosquitto, measure: publish },
  { nr: '9r', what: 'the same with one reader of everything, read messages per CPU second', unit: '/CPU-s', target: 1.3, better: 'more', peer: mosquitto, measure: fanIn },
  { nr: '9t', what: 'as 9, over TLS; peer: the same hub with OpenSSL records', unit: '/CPU-s', target: 1, better: 'more', peer: openssl, measure: publishTls },
  { nr: '9p', what: 'as 9, over TLS; peer: the same hub without TLS', unit: '/CPU-s', target: 0.9, better: 'more', peer: plain, measure: publishTls },
  { nr: 12, what: '1 MiB file, 16 connections, MiB per server CPU second', unit: '/CPU-s', target: 1, better: 'more', peer: nginx, measure: download(false) },
  { nr: '12t', what: 'as 12, over TLS 1.3', unit: '/CPU-s', target: 1, better: 'more', peer: nginx, measure: download(true) },
  { nr: 10, what: 'QoS 1 durable, 100 publishers, window 16, kill -9', unit: '/s', target: 8, better: 'more', peer: rabbit, measure: durable },
  { nr: 11, what: 'method calls over HTTP, 100 pairs, per CPU second (peer: topics)', unit: '/CPU-s', target: 0.66, better: 'more', peer: mosquitto, measure: calls(100, false) },
  { nr: '11a', what: 'one pair alone, p50 (peer: topics)', unit: 'us', target: 1.5, better: 'less', peer: mosquitto, measure: calls(1, true) },
].filter((m) => !opt.only || opt.only.split(',').includes(String(m.nr)));

// ---- the run -----------------------------------------------------------------------------------------------

const short = (n) => (Number.isFinite(n) ? (n >= 10000 ? `${(n / 1000).toFixed(1)} k` : n.toFixed(n < 10 ? 2 : 0)) : '-');
const results = [];
try {
  process.stderr.write(`preparing a hub with ${conns} devices\n`);
  await hub.prepare(Math.max(conns, 1000));
  Object.assign(openssl, { key: hub.key, ca: hub.ca, config: hub.config, layer: 'openssl', name: 'roost, openssl' });
  Object.assign(plain, { key: hub.key, ca: hub.ca, config: hub.config, name: 'roost, plain' });
  for (const m of metrics) {
    const there = m.peer === rabbit ? Rabbit.there() : m.peer === nginx ? Nginx.there() : m.peer === openssl || m.peer === plain || Mosquitto.there();
    const row = { nr: m.nr, what: m.what, unit: m.unit, target: m.target, better: m.better, peer: m.peer.name, rounds: [] };
    for (let round = 1; round <= rounds; round++) {
      const one = {};
      for (const server of there ? [m.peer, hub] : [hub]) {
        try {
          one[server.name] = await m.measure(server);
        } catch (e) {
          one[server.name] = { value: NaN, note: String(e.message ?? e).slice(0, 200) };
        }
        server.clean();
        const o = one[server.name];
        process.stderr.write(`  ${m.nr} round ${round} ${server.name}: ${short(o.value)} ${m.unit} ${o.note ?? ''}` +
          ` (cores busy: ${o.machine ?? '?'})\n`);
      }
      row.rounds.push(one);
    }
    row.hub = median(row.rounds.map((r) => r[hub.name].value));
    row.peer_value = median(row.rounds.map((r) => r[m.peer.name]?.value ?? NaN));
    row.ratio = row.hub / row.peer_value;
    row.lost = row.rounds.reduce((n, r) => n + (r[hub.name].lost ?? 0), 0);
    row.met = (m.better === 'less' ? row.ratio <= m.target : row.ratio >= m.target) && row.lost === 0;
    if (m.more) {
      row.more = median(row.rounds.map((r) => r[hub.name].more ?? NaN));
      row.more_target = m.more;
      row.met &&= row.more <= m.more;
    }
    results.push(row);
  }
} finally {
  for (const s of [hub, mosquitto, rabbit]) s.clean();
  if (!opt.keep) rmSync(work, { recursive: true, force: true });
}

console.log('\n  # metric                                                          hub          peer    ratio   target');
for (const r of results)
  console.log(`${String(r.nr).padStart(3)} ${r.what.padEnd(58)} ${short(r.hub).padStart(9)} ${short(r.peer_value).padStart(9)} ${r.unit.padEnd(7)}` +
    `${short(r.ratio).padStart(6)}x ${r.better === 'less' ? '<=' : '>='} ${r.target}x ${r.met ? 'met' : 'MISSED'}` +
    (r.more_target ? ` (TLS adds ${short(r.more)} ${r.unit}, <= ${r.more_target})` : ''));
const out = opt.out ?? path.join(top, 'build/bench/results.json');
mkdirSync(path.dirname(out), { recursive: true });
writeFileSync(out, `${JSON.stringify({ at: new Date().toISOString(), machine: { cpu: os.cpus()[0]?.model, cores: os.cpus().length,
  memory: os.totalmem(), kernel: os.release() }, rounds, seconds: Number(seconds), conns, results }, null, 1)}\n`);
console.log(`\nJSON: ${path.relative(process.cwd(), out)}`);
