// The story of the README, told live: a fresh hub, twenty blank devices and one real agent, an update with two
// devices unplugged and one that fails its trial boot. Everything is done with the programs a user has (roostd, roost,
// roost-sim, roost-agent); everything on the screen is what the hub answers. `--exit` ends after the story, non-zero if
// any part of it was not true; `--plain` prints lines instead of a live table; `--picture FILE` keeps the last screen.
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'node:net';
import https from 'node:https';
import { Hub, bin, freePorts, root, run, sasToken, parseConnectionString, sleep, start, waitFor } from '../tests/lib/roost.mjs';
import { Screen } from './screen.mjs';

const options = new Set(process.argv.slice(2));
const picture = process.argv[process.argv.indexOf('--picture') + 1];
const live = process.stdout.isTTY && !options.has('--plain');
const exitAfter = options.has('--exit') || !process.stdout.isTTY;

const classes = [
  { product: 'sensor', hw: 1, label: 'sensor:1' },
  { product: 'fridge', hw: 2, label: 'fridge:2' },
  { product: 'gateway', hw: 3, label: 'gateway:3' }, // the real agent
];
const simulated = 20;
const screen = new Screen({ live, picture: options.has('--picture') ? picture : null });
const facts = []; // what is claimed at the end, each true or false
const claim = (text, holds) => facts.push({ text, holds: Boolean(holds) });

const dir = join(root, 'build/demo');
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir, { recursive: true, mode: 0o700 });
const children = [];
let hub;
let stopping = false;

async function stopAll() {
  stopping = true;
  await Promise.all(children.reverse().map((c) => Promise.race([c.stop(), sleep(5000).then(() => c.stop('SIGKILL'))])));
  await hub?.stop();
}

// ---- the devices' side --------------------------------------------------------------------------------------

// The simulator's control socket: one line in, one line out.
function control(line) {
  return new Promise((done, fail) => {
    let out = '';
    const s = createConnection(join(dir, 'sim.sock'), () => s.write(`${line}\n`));
    s.on('data', (d) => {
      out += d;
      if (out.includes('\n')) s.end();
    });
    s.on('close', () => done(out.trim()));
    s.on('error', fail);
  });
}

// An application that a Linux device really runs, and the agent supervises.
function application(version) {
  return `#!/bin/sh
# version ${version} of the demo's gateway application
trap 'exit 0' TERM INT
while :; do sleep 1; done
`;
}

// Firmware of a simulated chip: bytes that look like an image; what they are does not matter to the engine.
function firmware(product, version) {
  const size = 96 * 1024;
  const b = Buffer.alloc(size);
  let x = [...`${product}${version}`].reduce((a, c) => (a * 33 + c.charCodeAt(0)) >>> 0, 5381);
  for (let i = 0; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    b[i] = x >>> 24;
  }
  b.write(`${product} ${version}`, 0);
  return b;
}

// ---- the operator's side ------------------------------------------------------------------------------------

async function roost(...args) {
  screen.command(`roost ${args.map((a) => (a.startsWith(dir) ? a.slice(dir.length + 1) : a)).join(' ')}`);
  return hub.roost(...args);
}

async function release(version) {
  for (const c of classes) {
    const file = join(dir, `${c.product}-${version}.bin`);
    writeFileSync(file, c.product === 'gateway' ? application(version) : firmware(c.product, version));
    chmodSync(file, 0o755);
    const out = join(dir, `${c.product}-${version}`);
    await roost('release', 'build', '-p', c.product, '-v', version, '--hardware-class', `${c.hw}`, '--file', file, '--out', out, '--probation', '1');
    await roost('release', 'sign', out, '--key-file', join(dir, 'keys', 'release-1.key'));
    await roost('release', 'verify', out, '--trust', join(dir, 'keys'));
    await roost('release', 'push', out);
  }
}

// What the hub knows, twice a second, onto the screen.
const telemetry = new Map();
let telemetryCount = 0;
let devices = [];
async function refresh() {
  const list = await hub.api('GET', '/roost/v1/devices?limit=100');
  devices = list.devices.map((d) => ({ ...d, telemetry: telemetry.get(d.id) }));
  screen.table(devices, telemetryCount);
  return devices;
}

function watchTelemetry() {
  const c = parseConnectionString(hub.connectionString);
  const host = c.HostName.split(':')[0];
  const req = https.get({ host: hub.address, servername: host, port: hub.https, ca: hub.ca, agent: false, path: '/roost/v1/telemetry?from=earliest',
    headers: { host, authorization: sasToken(host, c.SharedAccessKey, c.SharedAccessKeyName) } }, (res) => {
    let partial = '';
    res.on('data', (d) => {
      const lines = (partial + d).split('\n');
      partial = lines.pop();
      for (const line of lines) {
        if (!line) continue;
        const m = JSON.parse(line);
        let body;
        try { body = JSON.parse(m.body ?? Buffer.from(m.bodyBase64, 'base64')); } catch { body = {}; }
        telemetry.set(m.device, { body, nr: (telemetry.get(m.device)?.nr ?? 0) + 1 });
        telemetryCount++;
      }
    });
    res.on('error', () => {});
  });
  req.on('error', (e) => { if (!stopping) screen.note(`telemetry: ${e.message}`); });
}

const running = (d) => d.report?.version;
const all = (list, holds) => list.length === simulated + 1 && list.every(holds);

async function story() {
  screen.phase('A fresh hub');
  const ports = await freePorts(4);
  screen.command('roostd init hub');
  hub = await Hub.create({ dir: join(dir, 'hub'), ports });
  await hub.start();
  const status = await hub.api('GET', '/roost/v1/status');
  await roost('keys', 'init', join(dir, 'keys'), '--director', status.directorKey);
  await roost('trust', 'publish', join(dir, 'keys'));
  const token = JSON.parse((await roost('token', 'create', 'line-1', '--json')).stdout).token;
  const bootstrap = (await roost('bootstrap-string')).stdout.trim();

  screen.phase('Release 1.0.0: built, signed, verified, pushed');
  await release('1.0.0');

  screen.phase('Twenty blank devices and one agent wake up; each knows one address');
  watchTelemetry();
  children.push(start(bin('roost-sim'), ['--hub', bootstrap, '--address', hub.address, '--count', `${simulated}`, '--blank', '--id-prefix', 'dev-', '--token', token,
    '--hardware-class', classes[0].label, '--hardware-class', classes[1].label, '--telemetry-every', '2', '--seed', '7',
    '--control', join(dir, 'sim.sock'), '--backoff', '200ms,3s']));
  writeFileSync(join(dir, 'agent.yaml'), `bootstrap: "${bootstrap}"
address: ${hub.address}
token: "${token}"
id: gateway-1
state: ${join(dir, 'agent')}
hardware: ${classes[2].label}
telemetry-every: 2
slot-size: 1048576
backoff-min: 200ms
backoff-max: 3s
socket: ${join(dir, 'agent', 'app.sock')}
`, { mode: 0o600 });
  children.push(start(bin('roost-agent'), ['--config', join(dir, 'agent.yaml')]));
  for (const c of children) c.done.then(({ code, signal }) => { if (!stopping) screen.note(`a device program ended (${code ?? signal}): ${c.out.slice(-300)}`); });

  await waitFor('all devices to run 1.0.0 and to be connected', async () => all(await refresh(), (d) => running(d) === '1.0.0' && d.connected), { timeout: 60_000, every: 250 });
  await waitFor('telemetry of every device', async () => (await refresh()).every((d) => d.telemetry), { timeout: 20_000, every: 250 });
  claim(`${simulated + 1} blank devices of ${classes.length} hardware classes got an identity and flashed 1.0.0`, all(devices, (d) => running(d) === '1.0.0'));
  claim('every one of them sends temperature and battery', devices.every((d) => 'temperature' in d.telemetry.body && 'battery' in d.telemetry.body));

  screen.phase('Release 1.1.0');
  await release('1.1.0');
  const ids = devices.map((d) => d.id).filter((id) => id.startsWith('dev-')).sort();
  const unplugged = [ids[4], ids[11]];
  const bad = ids[7];
  screen.phase(`${unplugged.join(' and ')} are unplugged; ${bad} will fail its trial boot`);
  for (const id of unplugged) await control(`unplug ${id}`);
  await control(`fail-boot ${bad}`);
  await waitFor('the hub to notice', async () => (await refresh()).filter((d) => !d.connected).length === 2, { timeout: 20_000, every: 250 });

  screen.phase('One command for the whole fleet');
  const update = JSON.parse((await roost('update', '--all', '--release', '1.1.0', '--json')).stdout);
  const campaign = update.campaign?.id ?? update.id ?? update.campaign;
  const row = (d) => d.deployment?.campaign === campaign ? d.deployment.state : undefined;
  await waitFor('18 confirmed, 1 reverted', async () => {
    await refresh();
    return devices.filter((d) => row(d) === 'CONFIRMED').length === simulated - 2 && devices.some((d) => d.id === bad && row(d) === 'ROLLED_BACK');
  }, { timeout: 60_000, every: 250 });
  const asleep = devices.filter((d) => unplugged.includes(d.id));
  claim('the two unplugged devices were not called updated', asleep.every((d) => running(d) === '1.0.0' && row(d) !== 'CONFIRMED'));

  screen.phase('The two come back');
  for (const id of unplugged) await control(`plug ${id}`);
  await waitFor('the two to update', async () => {
    await refresh();
    return devices.filter((d) => unplugged.includes(d.id)).every((d) => row(d) === 'CONFIRMED' && d.connected);
  }, { timeout: 60_000, every: 250 });
  await refresh();
  const final = await hub.api('GET', `/roost/v1/campaigns/${campaign}?rows=true`);
  const reverted = devices.find((d) => d.id === bad);
  claim(`${simulated} of ${simulated + 1} run 1.1.0, proven by what they report after their trial boot`, final.counts.CONFIRMED === simulated && devices.filter((d) => running(d) === '1.1.0').length === simulated);
  claim('the two that were unplugged updated when they came back', devices.filter((d) => unplugged.includes(d.id)).every((d) => running(d) === '1.1.0'));
  claim(`${bad} reverted to 1.0.0 by itself and is reported as such (${reverted.deployment?.reason})`, running(reverted) === '1.0.0' && final.counts.ROLLED_BACK === 1 && row(reverted) === 'ROLLED_BACK');
  claim('the real agent runs 1.1.0 of its application', running(devices.find((d) => d.hardware.startsWith('gateway'))) === '1.1.0');
  const before = telemetryCount;
  await waitFor('telemetry to go on', async () => { await refresh(); return telemetryCount > before + simulated; }, { timeout: 20_000, every: 250 });
  claim(`${telemetryCount} telemetry messages arrived, each durable before it was acknowledged`, telemetryCount > 2 * simulated);
}

let failed;
process.on('SIGINT', async () => {
  if (stopping) return;
  screen.end();
  await stopAll();
  process.exit(exitAfter ? 1 : 0);
});
try {
  await story();
} catch (e) {
  failed = e;
}
const good = !failed && facts.every((f) => f.holds);
screen.summary(facts, failed);
if (failed && !live) console.error(failed.stack, '\n', hub?.process?.out.slice(-3000), ...children.map((c) => c.out.slice(-1500)));
if (exitAfter || !good) {
  await stopAll();
  process.exit(good ? 0 : 1);
}
screen.next([
  `export PATH=${join(root, 'build/release/bin')}:$PATH; alias roost='roost --hub ${hub.dir}'`,
  'roost device list',
  'roost watch                          # live telemetry',
  'roost send dev-0003 "hello"          # waits while it is unplugged',
  'roost update dev-0008 --release 1.1.0 --wait',
  'roost status',
]);
const tick = setInterval(() => { if (!stopping) refresh().catch(() => {}); }, 1000);
await new Promise(() => tick);
