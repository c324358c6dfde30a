// bench/registry.mjs - `./dev bench registry`: the operations of services on a fleet that was imported in bulk, beside
// the figures of the largest Azure hub (10 units of S3): registry, twins, methods, queries, commands; what the import
// takes, the memory after it and the time to start again. The hub uses every core, the generator (wrk, bench/load)
// shares them. Prints a table and writes JSON.
//
//   node bench/registry.mjs [--fleet 20000] [--seconds 5] [--rounds 1] [--only twin_read,query] [--out FILE]
import { fileURLToPath } from 'node:url';
import { execFile, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import http from 'node:http';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';

const top = fileURLToPath(new URL('..', import.meta.url)), bin = process.env.ROOST_BIN ?? path.join(top, 'build/release/bin');
const { values: opt } = parseArgs({ options: {
  fleet: { type: 'string', default: '20000' }, seconds: { type: 'string', default: '5' }, rounds: { type: 'string', default: '1' },
  conns: { type: 'string', default: '64' }, only: { type: 'string' }, job: { type: 'boolean', default: false }, out: { type: 'string' }, keep: { type: 'boolean', default: false },
} });
const fleet = Number(opt.fleet), rounds = Number(opt.rounds);
const run = promisify(execFile);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const work = mkdtempSync(path.join(os.tmpdir(), 'roost-bench-')), dir = path.join(work, 'hub');

// What the largest real hub allows a second; `of`: operations in one request.
const kinds = [
  { kind: 'identity_read', what: 'identities read', azure: 833 },
  { kind: 'identity_create', what: 'identities created, one by one', azure: 833 },
  { kind: 'identity_update', what: 'identities updated', azure: 833 },
  { kind: 'identity_delete', what: 'identities deleted', azure: 833 },
  { kind: 'identity_list', what: 'lists of 1 000 identities', azure: 833, conns: 8 },
  { kind: 'bulk_create', what: 'identities created, 100 a request', azure: 833, of: 100, conns: 16 },
  { kind: 'twin_read', what: 'twins read', azure: 5000 },
  { kind: 'twin_update', what: 'twins updated (desired)', azure: 2500 },
  { kind: 'query', what: 'queries by an index, a page of 100', azure: 167 },
  { kind: 'c2d_send', what: 'commands sent', azure: 833 },
  { kind: 'method', what: 'direct methods, 100 devices', azure: 61440 },
  { kind: 'job', what: 'devices of a job that sets a desired property', azure: 500 },
].filter((k) => !opt.only || opt.only.split(',').includes(k.kind));

// ---- the hub -----------------------------------------------------------------------------------------------

const ports = { https: 17443, mqtt: 17883, ops: 17464 };
const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
let child, token;

async function prepare() {
  await run(path.join(bin, 'roostd'), ['init', dir, '--listen', '127.0.0.1', '--https-port', ports.https, '--mqtt-port', ports.mqtt,
    '--amqp-port', 0, '--ops-port', ports.ops].map(String));
  const file = path.join(dir, 'roost.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(/^(https|mqtts):\n/mg, '$1:\n  tls: false\n') + 'hub:\n  log: warn\n');
  const key = /SharedAccessKey=([A-Za-z0-9+/=]+)/.exec(readFileSync(path.join(dir, 'operator.profile'), 'utf8'))[1];
  const se = Math.floor(Date.now() / 1000) + 7 * 86400, sr = 'hub.localhost';
  const sig = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  token = { key, text: `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}&skn=iothubowner` };
}
function ask(method, target, body) {
  return new Promise((done, fail) => {
    const r = http.request({ agent, host: '127.0.0.1', port: ports.https, method, path: target,
      headers: { host: 'hub.localhost', authorization: token.text, 'content-type': 'application/json', 'content-length': Buffer.byteLength(body ?? '') } }, (res) => {
      const parts = [];
      res.on('data', (d) => parts.push(d));
      res.on('end', () => done({ status: res.statusCode, body: Buffer.concat(parts).toString() }));
    });
    r.on('error', fail);
    r.end(body);
  });
}
// Milliseconds until it answers for a device, or for its status while there is none.
async function start(device) {
  const at = performance.now();
  child = spawn(path.join(bin, 'roostd'), [dir], { stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.pipe(createWriteStream(path.join(work, 'hub.log'), { flags: 'a' }));
  child.gone = new Promise((done) => child.once('exit', done));
  for (;;) {
    const r = await ask('GET', device ? `/devices/${device}?api-version=2021-04-12` : '/roost/v1/status').catch(() => null);
    if (r?.status === 200) return performance.now() - at;
    if (child.exitCode !== null || performance.now() - at > 60000) throw new Error(`roostd: ${readFileSync(path.join(work, 'hub.log'), 'utf8').slice(-500)}`);
    await sleep(2);
  }
}
async function stop(signal = 'SIGTERM') {
  child.kill(signal);
  await child.gone;
}
const cpu = () => {
  const f = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(')').pop().trim().split(/\s+/);
  return (Number(f[11]) + Number(f[12])) / 100;
};
const busy = () => {
  const n = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0].trim().split(/\s+/).slice(1).map(Number);
  return (n.reduce((a, b) => a + b, 0) - n[3] - n[4]) / 100;
};
const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))[1]) * 1024;

// ---- the fleet ---------------------------------------------------------------------------------------------

async function load() {
  let next = 0, failed;
  const one = async () => {
    for (let at = next; at < fleet && !failed; at = next) {
      const nr = Math.min(100, fleet - at);
      next += nr;
      const body = JSON.stringify(Array.from({ length: nr }, (_, i) => ({ id: `d${at + i}`, importMode: 'create', status: 'enabled',
        tags: { site: `s${Math.floor((at + i) / 100)}`, group: `g${(at + i) % 10}` }, properties: { desired: { interval: 60, firmware: { version: '1.0.0' } } } })));
      const r = await ask('POST', '/devices?api-version=2021-04-12', body);
      if (r.status !== 200) failed = new Error(`${r.status} ${r.body.slice(0, 300)}`);
    }
  };
  const before = { at: performance.now(), cpu: cpu(), busy: busy() };
  await Promise.all(Array.from({ length: 16 }, one));
  if (failed) throw failed;
  const s = (performance.now() - before.at) / 1000;
  return { seconds: s, per_s: fleet / s, per_cpu_s: fleet / (cpu() - before.cpu), machine: (busy() - before.busy) / s };
}

// The same fleet as a file, through an import job; then all of it through an export job.
async function loadByJob() {
  const { sasToken } = JSON.parse((await ask('POST', '/roost/v1/containers/registry/sas', '{"permissions":"rwdl","ttlSeconds":86400}')).body);
  const good = async (what, status, ...request) => {
    const r = await ask(...request);
    if (r.status !== status) throw new Error(`${what}: ${r.status} ${r.body.slice(0, 300)}`);
    return r.body && r.body[0] === '{' ? JSON.parse(r.body) : null;
  };
  const ids = [];
  for (let at = 0; at < fleet; at += 20000) {
    const id = Buffer.from(String(ids.length).padStart(6, '0')).toString('base64');
    const lines = Array.from({ length: Math.min(20000, fleet - at) }, (_, i) => JSON.stringify({ id: `d${at + i}`, importMode: 'create', status: 'enabled',
      tags: { site: `s${Math.floor((at + i) / 100)}`, group: `g${(at + i) % 10}` }, properties: { desired: { interval: 60, firmware: { version: '1.0.0' } } } }));
    await good('block', 201, 'PUT', `/registry/devices.txt${sasToken}&comp=block&blockid=${encodeURIComponent(id)}`, `${lines.join('\n')}\n`);
    ids.push(id);
  }
  await good('blocks', 201, 'PUT', `/registry/devices.txt${sasToken}&comp=blocklist`, `<BlockList>${ids.map((i) => `<Latest>${i}</Latest>`).join('')}</BlockList>`);
  const uri = 'https://hub.localhost/registry', storageAuthenticationType = 'identityBased';
  const job = async (body) => {
    const before = { at: performance.now(), cpu: cpu(), busy: busy() };
    let peak = rss(), j = await good('job', 200, 'POST', '/jobs/create?api-version=2021-04-12', JSON.stringify({ outputBlobContainerUri: uri, storageAuthenticationType, ...body }));
    while (!j.endTimeUtc) {
      await sleep(100);
      peak = Math.max(peak, rss());
      j = await good('job', 200, 'GET', `/jobs/${j.jobId}?api-version=2021-04-12`);
    }
    if (j.status !== 'completed' || j.succeededCount !== fleet || j.failedCount) throw new Error(JSON.stringify(j));
    const s = (performance.now() - before.at) / 1000;
    return { seconds: s, per_s: fleet / s, per_cpu_s: fleet / (cpu() - before.cpu), machine: (busy() - before.busy) / s, peak };
  };
  const r = await job({ type: 'import', inputBlobContainerUri: uri });
  r.export = await job({ type: 'export', outputBlobName: 'export.txt' });
  return r;
}

// ---- one kind ----------------------------------------------------------------------------------------------

// One job over the whole fleet, from its creation until it is over; in rounds, jobs after each other.
async function job(round) {
  const at = performance.now(), target = `/jobs/v2/bench-${round}?api-version=2021-04-12`;
  const made = await ask('PUT', target, JSON.stringify({ jobId: `bench-${round}`, type: 'scheduleUpdateTwin', queryCondition: '*',
    updateTwin: { etag: '*', properties: { desired: { job: round } } }, maxExecutionTimeInSeconds: 86400 }));
  if (made.status !== 200) throw new Error(`${made.status} ${made.body.slice(0, 300)}`);
  for (;;) {
    const r = JSON.parse((await ask('GET', target)).body), nr = r.deviceJobStatistics?.succeededCount ?? 0;
    const seconds = (performance.now() - at) / 1000;
    if (r.status === 'completed') return { nr, bad: Math.max(0, fleet - nr), seconds, per_s: nr / seconds, p50_us: 0, p99_us: 0 };
    if (!['queued', 'scheduled', 'running', 'enqueued'].includes(r.status)) throw new Error(`the job is ${r.status}: ${r.failureReason}`);
    await sleep(50);
  }
}
async function generate({ kind, of = 1, conns }, round) {
  if (kind === 'job') return job(round);
  if (kind === 'method') {
    const { stdout } = await run(path.join(top, 'build/release/bench/load'), ['call', '--port', ports.mqtt, '--login', 'hub', '--key', token.key,
      '--policy', 'iothubowner', '--conns', Math.min(100, fleet), '--seconds', opt.seconds, '--http', ports.https, '--pid', child.pid].map(String));
    const r = JSON.parse(stdout);
    return { nr: r.acked ?? r.per_s * Number(opt.seconds), bad: r.refused + r.broken, seconds: Number(opt.seconds), per_s: r.per_s, p50_us: r.p50_us, p99_us: r.p99_us };
  }
  const { stdout } = await run('wrk', ['-t2', '--timeout', '60s', `-c${conns ?? opt.conns}`, `-d${opt.seconds}`, '-s', fileURLToPath(new URL('registry.lua', import.meta.url)),
    `http://127.0.0.1:${ports.https}`, '--', kind, fleet, token.text, kind === 'identity_delete' ? `identity_create${round}` : `${kind}${round}`].map(String));
  const r = JSON.parse(/^JSON (.*)$/m.exec(stdout)[1]);
  return { ...r, nr: (r.requests - r.bad) * of, per_s: (r.requests - r.bad) * of / r.seconds };
}
async function measure(k, round) {
  const before = { at: performance.now(), cpu: cpu(), busy: busy() };
  const r = await generate(k, round);
  const s = (performance.now() - before.at) / 1000, spent = cpu() - before.cpu;
  return { ...r, per_cpu_s: r.per_s * s / spent, hub_share: spent / s, machine: (busy() - before.busy) / s };
}

// ---- the run -----------------------------------------------------------------------------------------------

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const n = (v) => (v >= 10000 ? `${(v / 1000).toFixed(1)} k` : v.toFixed(v < 10 ? 2 : 0));
const results = { at: new Date().toISOString(), machine: { cpu: os.cpus()[0]?.model, cores: os.cpus().length, memory: os.totalmem(), kernel: os.release() },
  fleet, seconds: Number(opt.seconds), rounds, operations: [] };
try {
  await prepare();
  await start();
  const empty = rss();
  results.import = await (opt.job ? loadByJob() : load());
  results.import.rss_empty = empty;
  results.import.rss = rss();
  console.log(`import of ${fleet} identities with twins: ${results.import.seconds.toFixed(1)} s, ${n(results.import.per_s)}/s, ${n(results.import.per_cpu_s)} per CPU-s; ` +
    `memory ${(empty / 1e6).toFixed(1)} MB before, ${(results.import.rss / 1e6).toFixed(1)} MB after`);
  if (opt.job)
    console.log(`by an import job, at most ${(results.import.peak / 1e6).toFixed(1)} MB; export of it: ${results.import.export.seconds.toFixed(1)} s, ${n(results.import.export.per_s)}/s, ` +
      `${n(results.import.export.per_cpu_s)} per CPU-s, at most ${(results.import.export.peak / 1e6).toFixed(1)} MB; the machine was busy with ${results.import.machine.toFixed(2)} and ${results.import.export.machine.toFixed(2)} cores`);
  await stop();
  results.restart_ms = await start('d0');
  await stop('SIGKILL');
  results.restart_killed_ms = await start('d0');
  results.rss_restarted = rss();
  console.log(`start to the first answer: ${results.restart_ms.toFixed(0)} ms after a stop, ${results.restart_killed_ms.toFixed(0)} ms after kill -9; memory ${(results.rss_restarted / 1e6).toFixed(1)} MB\n`);
  console.log(`${'operation'.padEnd(40)} ${'a second'.padStart(9)} ${'per CPU-s'.padStart(9)} ${'10 x S3'.padStart(8)} ${'ratio'.padStart(7)}   p50, p99 ms   hub, machine: cores`);
  for (const k of kinds) {
    const all = [];
    for (let round = 1; round <= rounds; round++) all.push(await measure(k, round));
    const per_s = median(all.map((r) => r.per_s)), per_cpu_s = median(all.map((r) => r.per_cpu_s)), last = all.at(-1);
    results.operations.push({ ...k, per_s, per_cpu_s, ratio: per_s / k.azure, rounds: all });
    console.log(`${k.what.padEnd(40)} ${n(per_s).padStart(9)} ${n(per_cpu_s).padStart(9)} ${String(k.azure).padStart(8)} ${`${n(per_s / k.azure)}x`.padStart(7)}   ` +
      `${(last.p50_us / 1000).toFixed(1)}, ${(last.p99_us / 1000).toFixed(1)}`.padEnd(14) + ` ${last.hub_share.toFixed(2)}, ${last.machine.toFixed(2)}${last.bad ? `   ${last.bad} not taken` : ''}`);
  }
  await stop();
} finally {
  agent.destroy();
  if (child && child.exitCode === null && child.signalCode === null) await stop('SIGKILL');
  if (!opt.keep) rmSync(work, { recursive: true, force: true });
}
const out = opt.out ?? path.join(top, 'build/bench/registry.json');
mkdirSync(path.dirname(out), { recursive: true });
writeFileSync(out, `${JSON.stringify(results, null, 1)}\n`);
console.log(`\nJSON: ${path.relative(process.cwd(), out)}`);
