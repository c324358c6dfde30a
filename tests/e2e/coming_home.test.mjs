// Coming home: a hub is deleted and made anew, under another name and on other ports, behind the same bootstrap
// address, with nothing kept but the operator's authority and root keys. Two hundred devices come back by
// themselves, keep their identity, are not flashed again, and take the next release from the new hub.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import { randomBytes } from 'node:crypto';
import { appendFileSync, cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Hub, bin, freePorts, start, tempDir, waitFor } from '../lib/roost.mjs';

const COUNT = 200;
const temp = tempDir('roost-home-');
const keys = join(temp.dir, 'keys');
const kept = join(temp.dir, 'kept-ca');
let first, second, sim, door, control;

// The bootstrap address stays where it is; what is behind it changes. Bytes pass through untouched.
function openDoor(port) {
  const d = { port, target: 0, sockets: new Set() };
  d.server = net.createServer((c) => {
    const s = net.connect(d.target, '127.0.0.1');
    for (const [a, b] of [[c, s], [s, c]]) {
      d.sockets.add(a);
      a.on('error', () => b.destroy());
      a.on('close', () => { d.sockets.delete(a); b.destroy(); });
      a.pipe(b);
    }
  });
  d.close = () => { d.sockets.forEach((s) => s.destroy()); d.server.close(); };
  return new Promise((done) => d.server.listen(port, '127.0.0.1', () => done(d)));
}

const config = (hub) => appendFileSync(join(hub.dir, 'roost.yaml'), 'bootstrap:\n  rate_per_minute: 1000000\n  burst: 1000000\n  retry_s: 2\n');

// One line to the simulator, one line of JSON back.
function ask(line) {
  return new Promise((done, fail) => {
    const s = net.connect(control);
    let text = '';
    s.on('data', (d) => { text += d; if (text.includes('\n')) { s.end(); done(JSON.parse(text)); } });
    s.on('error', fail);
    s.on('end', () => fail(new Error(`no whole answer: ${text.slice(0, 200)}`)));
    s.write(`${line}\n`);
  });
}

async function release(hub, version) {
  const image = join(temp.dir, `app-${version}`), dir = join(temp.dir, `release-${version}`);
  writeFileSync(image, randomBytes(60_000));
  await hub.roost('release', 'build', '-p', 'sim', '-v', version, '--hardware-class', '1', '--file', image, '--probation', '2', '-o', dir);
  await hub.roost('release', 'sign', dir, '--key-file', join(keys, 'release-1.key'));
  await hub.roost('release', 'push', dir);
}

before(async () => {
  first = await Hub.create({ name: 'first.localhost', init: ['--name', 'home.localhost'] });
  config(first);
  await first.start();
  await first.roost('keys', 'init', keys, '--no-paper');
  await first.roost('trust', 'publish', keys);
  door = await openDoor((await freePorts(1))[0]);
  door.target = first.https;
  control = join(temp.dir, 'sim.sock');
});
after(async () => {
  await sim?.stop();
  door?.close();
  await first?.remove();
  await second?.remove();
  temp.remove();
});

let alive; // the simulator's status before the hub went away
const versions = (status) => {
  const n = {};
  for (const d of status.devices) n[d.version || 'blank'] = (n[d.version || 'blank'] ?? 0) + 1;
  return n;
};
const identities = (status) => Object.fromEntries(status.devices.map((d) => [d.id, d.deviceId]));

test('200 blank devices come alive on the first hub', async () => {
  await release(first, '1.0.0');
  const token = (await first.api('POST', '/roost/v1/tokens', { name: 'batch', hardware: 'sim:1', uses: COUNT, ttlSeconds: 3600 })).token;
  await first.roost('update', '--all', '--release', '1.0.0');
  const { stdout } = await first.roost('bootstrap-string');
  const string = stdout.trim().replace(/^https:\/\/[^#]*/, `https://home.localhost:${door.port}`);
  sim = start(bin('roost-sim'), ['--hub', string, '--address', '127.0.0.1', '--count', `${COUNT}`, '--token', token, '--hardware-class', 'sim:1',
    '--slot-kib', '128', '--telemetry-every', '5s', '--checkin-every', '60s', '--backoff', '200ms,3s', '--control', control, '--seed', '7']);
  await waitFor('the fleet to run 1.0.0', async () => {
    if (sim.exited) throw new Error(sim.out);
    const s = await ask('status');
    return s.counts.confirmed === COUNT && s.phases.online === COUNT && s;
  }, { timeout: 120_000, every: 500 });
  alive = await ask('status');
  assert.deepEqual(versions(alive), { '1.0.0': COUNT });
  const devices = await first.api('GET', '/roost/v1/devices?limit=500');
  assert.equal(devices.devices.length, COUNT);
});

test('the hub is deleted and made anew, elsewhere, with the kept authority and root keys', async () => {
  cpSync(join(first.dir, 'ca'), kept, { recursive: true });
  await first.stop('SIGKILL');
  rmSync(first.dir, { recursive: true });
  door.target = 1; // nothing there
  await waitFor('the fleet to miss its hub', async () => (await ask('status')).counts.homeless >= COUNT, { timeout: 60_000, every: 500 });
  second = await Hub.create({ name: 'second.localhost', init: ['--name', 'home.localhost', '--ca-from', kept] });
  assert.notEqual(second.https, first.https);
  assert.notEqual(second.mqtt, first.mqtt);
  config(second);
  await second.start();
  // The root keys name the new hub's director key; the chain from the first record goes on.
  await second.roost('keys', 'trust', keys);
  await second.roost('trust', 'publish', keys);
  door.target = second.https;
});

test('every device comes back, and none is flashed again', async () => {
  // The new hub knows nobody: who has no token of its own waits for the operator.
  await waitFor('the fleet to be approved and home', async () => {
    await second.roost('device', 'approve', '--all', { ok: false });
    const s = await ask('status');
    return s.phases.online === COUNT && s;
  }, { timeout: 120_000, every: 1000 });
  const status = await ask('status');
  assert.deepEqual(versions(status), { '1.0.0': COUNT });
  assert.equal(status.counts.confirmed, alive.counts.confirmed);
  assert.equal(status.counts.boots, alive.counts.boots);
  assert.equal(status.counts.reverted, 0);
  const { devices } = await second.api('GET', '/roost/v1/devices?limit=500');
  assert.equal(devices.filter((d) => d.status !== 'pending').length, COUNT);
  assert.deepEqual(identities(status), identities(alive)); // everyone is who it was
  assert.deepEqual(new Set(devices.map((d) => d.id)), new Set(Object.values(identities(alive))));
  // Not a sector of a slot was erased: what little was, is configuration.
  const erases = (s) => s.devices.reduce((sum, d) => sum + d.erases, 0);
  assert.ok(erases(status) - erases(alive) <= 12 * COUNT, `${erases(status) - erases(alive)} erases`);
});

test('the new hub is believed: its first release arrives everywhere, as an update', async () => {
  await release(second, '1.1.0');
  await second.roost('update', '--all', '--release', '1.1.0', '--wait', '--timeout', '120s', { timeout: 150_000 });
  const status = await ask('status');
  assert.deepEqual(versions(status), { '1.1.0': COUNT });
  assert.equal(status.counts.confirmed, 2 * COUNT);
  assert.equal(status.counts.reverted, 0);
});
