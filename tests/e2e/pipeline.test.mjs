// The release steps of deploy/pipelines against a fleet of simulated devices, a third of them without power at first:
// what the templates for Azure Pipelines and GitHub Actions run is taken from the templates themselves, and what a
// pipeline sees is the exit code.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Fleet } from '../lib/fleet.mjs';
import { bin, parseConnectionString, root, start, waitFor } from '../lib/roost.mjs';

const modules = join(root, 'tests/conformance/node_modules');
const yaml = createRequire(join(modules, 'x.js'))('yaml');
const COUNT = 60, AWAY = 20;

let fleet, hub, checkout, sock, ids;
const control = (line) => new Promise((done, fail) => {
  const s = connect(sock, () => s.end(`${line}\n`));
  let out = '';
  s.on('data', (d) => { out += d; });
  s.on('close', () => done(JSON.parse(out)));
  s.on('error', fail);
});
const connected = async () => (await hub.api('GET', '/roost/v1/status')).connected;
const away = () => ids.slice(0, AWAY);
async function unplug() {
  for (const id of away()) await control(`unplug ${id}`);
  await waitFor('the hub to notice', async () => (await connected()) === COUNT - AWAY, { timeout: 60_000, every: 200 });
}
async function plug() {
  for (const id of away()) await control(`plug ${id}`);
}
async function everybody() {
  if (ids && (await connected()) < COUNT) await plug(); // an earlier test may have ended early
  await waitFor('all devices', async () => (await connected()) === COUNT, { timeout: 90_000, every: 200 });
}

before(async () => {
  fleet = await Fleet.create();
  hub = fleet.hub;
  sock = join(fleet.dir, 'sim.sock');
  const image = Buffer.alloc(20_000, 'one');
  await fleet.release('board', 5, '1.0.0', image);
  fleet.spawn('roost-sim', fleet.simArgs('--count', `${COUNT}`, '--hardware-class', 'board:5', '--keep-link', '--telemetry-every', '60', '--control', sock));
  await everybody();
  ids = (await hub.api('GET', '/roost/v1/devices?limit=500')).devices.map((d) => d.id);
  assert.equal(ids.length, COUNT);
  // A checkout of the project that is released, with the steps in it.
  checkout = join(fleet.dir, 'checkout');
  mkdirSync(checkout);
  cpSync(join(root, 'deploy/pipelines'), join(checkout, 'deploy/pipelines'), { recursive: true });
  symlinkSync(modules, join(checkout, 'node_modules'));
  writeFileSync(join(checkout, 'image.bin'), Buffer.alloc(20_000, 'two'));
});
after(async () => { await fleet?.remove(); });

// ---- what the templates say -------------------------------------------------------------------------------------

const template = (name) => yaml.parse(readFileSync(join(root, 'deploy/pipelines', name), 'utf8'));
// Steps that work on the hub: [script, names of the environment].
function steps(list) {
  return list.flatMap((s) => Object.entries(s).some(([k]) => k.startsWith('${{')) ? steps(Object.values(s).flat())
    : s.env ? [{ script: s.script ?? s.run, env: Object.keys(s.env) }] : []);
}
const azure = () => steps(template('azure-pipelines.yml').jobs[0].strategy.runOnce.deploy.steps);
const github = () => Object.values(template('github-actions.yml').jobs).flatMap((j) => steps(j.steps));
const step = (list, what) => {
  const found = list.filter((s) => s.script.includes(what));
  assert.equal(found.length, 1, what);
  return found[0];
};

// Runs one as an agent would: only the variables that the template names, what it needs from secrets and variables.
function play({ script, env }, more = {}) {
  const policy = parseConnectionString(hub.connectionString);
  const owner = `HostName=${hub.name};SharedAccessKeyName=${policy.SharedAccessKeyName};SharedAccessKey=${policy.SharedAccessKey}`;
  const key = join(fleet.keys, 'release-1.key');
  const all = { ROOST_CONNECTION_STRING: owner, IOTHUB_CONNECTION_STRING: owner, RELEASE_KEY: key, RELEASE_KEY_TEXT: readFileSync(key, 'utf8').trimEnd(),
    PRODUCT: 'board', HARDWARE_CLASS: '5', VERSION: 'v1.1.0', IMAGE: join(checkout, 'image.bin'), TIMEOUT: '120s', ...more };
  for (const name of env) assert.ok(all[name] !== undefined, `${name} is set`);
  return start('bash', ['-e', '-c', script], { cwd: checkout, env: {
    ...Object.fromEntries(env.map((name) => [name, all[name]])), PATH: `${dirname(bin('roost'))}:${process.env.PATH}`,
    ROOST_OPTIONS: `--ca-file ${hub.caFile} --https-port ${hub.https} --address ${hub.address}`, // the agent's own network
    NODE_EXTRA_CA_CERTS: hub.caFile, NODE_OPTIONS: `--import ${pathToFileURL(join(root, 'tests/lib/route.mjs'))}`,
    ROOST_ROUTES: JSON.stringify({ [`${hub.name}:5671`]: { host: hub.address, port: hub.amqp }, [`${hub.name}:443`]: { host: hub.address, port: hub.https } }),
  } });
}
async function says(p, text) {
  await waitFor(text, () => p.exited || p.out.includes(text), { timeout: 90_000 });
  assert.ok(p.out.includes(text), p.out);
}

test('both templates run the same steps', () => {
  const body = (s) => s.script.split('\n').map((l) => l.trim()).filter((l) => l.includes('deploy/')).join('\n');
  assert.deepEqual(azure().map(body), github().map(body));
});

test('the service SDK: a script lists all devices, sends each a message and counts; who was away gets it later', { timeout: 240_000 }, async () => {
  await everybody();
  await unplug();
  const p = play(step(azure(), 'notify-fleet.mjs'));
  await says(p, `${COUNT - AWAY} of ${COUNT} delivered, ${AWAY} pending, 0 refused`);
  await plug();
  const { code } = await p.done;
  assert.equal(code, 0, p.out);
  assert.match(p.out, new RegExp(`${COUNT} of ${COUNT} delivered, 0 pending, 0 refused\n`));
  await everybody();
});

test('the service SDK, not known of all in time: 6; over a WebSocket', { timeout: 240_000 }, async () => {
  await everybody();
  await unplug();
  const { env, script } = step(github(), 'notify-fleet.mjs');
  const p = play({ env, script: script.replace('--timeout 1800', '--timeout 15 --transport amqp-ws') });
  const { code } = await p.done;
  assert.equal(code, 6, p.out);
  assert.match(p.out, new RegExp(`${COUNT - AWAY} of ${COUNT} delivered, ${AWAY} pending, 0 refused\n`));
  await plug();
  await everybody();
});

test('the service SDK without a hub: 7; without a connection string: 1', { timeout: 60_000 }, async () => {
  const one = step(azure(), 'notify-fleet.mjs');
  const wrong = play(one, { IOTHUB_CONNECTION_STRING: `HostName=${hub.name};SharedAccessKeyName=iothubowner;SharedAccessKey=${Buffer.alloc(32, 1).toString('base64')}` });
  assert.equal((await wrong.done).code, 7, wrong.out);
  assert.equal((await play(one, { IOTHUB_CONNECTION_STRING: '' }).done).code, 1);
});

test('the command line: one broadcast, followed to the end', { timeout: 240_000 }, async () => {
  const notify = { script: 'deploy/pipelines/notify.sh', env: ['ROOST_CONNECTION_STRING', 'TIMEOUT', 'TTL'] };
  await everybody();
  await unplug();
  const slow = play(notify, { TIMEOUT: '3s', TTL: '1h' });
  assert.equal((await slow.done).code, 6, slow.out);
  const p = play(notify, { TTL: '1h' });
  await says(p, `${COUNT - AWAY} of ${COUNT} delivered, ${AWAY} pending`);
  await plug();
  assert.equal((await p.done).code, 0, p.out);
  assert.match(p.out, new RegExp(`${COUNT} of ${COUNT} delivered\n`));
  await everybody();
  const first = (await hub.api('GET', '/roost/v1/broadcasts')).broadcasts.at(-1); // its pipeline had given up waiting
  assert.deepEqual([first.devices, first.delivered, first.pending], [COUNT, COUNT, 0]);

  await unplug();
  const short = play(notify, { TTL: '5s' });
  assert.equal((await short.done).code, 5, short.out);
  assert.match(short.out, new RegExp(`${COUNT - AWAY} of ${COUNT} delivered, ${AWAY} expired\n`));
  await plug();
  await everybody();
});

test('feedback of a message, followed from the command line', { timeout: 120_000 }, async () => {
  await everybody();
  const f = start(bin('roost'), ['--hub', hub.dir, 'feedback', '--follow', '--from', 'earliest', '--message-id', 'told', '-n', '3', '--json']);
  for (const id of ids.slice(-3)) await hub.roost('send', id, 'update', '--message-id', 'told', '--ack', 'full');
  assert.equal((await f.done).code, 0, f.out);
  const rows = f.out.trim().split('\n').map((l) => JSON.parse(l));
  assert.deepEqual(rows.map((r) => r.device).sort(), ids.slice(-3).sort());
  assert.ok(rows.every((r) => r.outcome === 'Success' && r.messageId === 'told' && r.at));
  const all = JSON.parse((await hub.roost('feedback', '--message-id', 'told', '--json')).stdout);
  assert.deepEqual([all.feedback.length, all.delivered, all.refused], [3, 3, 0]);
  const one = JSON.parse((await hub.roost('feedback', ids.at(-1), '--message-id', 'told', '--json')).stdout);
  assert.equal(one.feedback.length, 1);
  assert.match((await hub.roost('feedback', '--message-id', 'told')).stdout, /Success[^]*3 delivered, 0 not\n$/);
});

test('the command line: a release is built, signed, pushed and run by every device, those away included', { timeout: 300_000 }, async () => {
  await everybody();
  await unplug();
  const p = play(step(github(), 'release.sh'));
  await says(p, `${COUNT - AWAY} of ${COUNT} confirmed`);
  await plug();
  assert.equal((await p.done).code, 0, p.out);
  assert.match(p.out, new RegExp(`${COUNT} of ${COUNT} run it`));
  const { devices } = await hub.api('GET', '/roost/v1/devices?limit=500');
  assert.deepEqual([...new Set(devices.map((d) => d.report?.version))], ['1.1.0']);
  // The other template, when there is nothing new: the same truth.
  const again = play(step(azure(), 'release.sh'));
  assert.equal((await again.done).code, 0, again.out);
});
