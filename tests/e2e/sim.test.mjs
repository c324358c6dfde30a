// roost-sim against the real hub: blank devices come alive, are updated, revert what does not boot, come back.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { bin, run, waitFor } from '../lib/roost.mjs';
import { Fleet } from '../lib/fleet.mjs';

let fleet;
before(async () => {
  fleet = await Fleet.create();
  await fleet.release('sensor', 1, '1.0.0', randomBytes(70_001));
  await fleet.release('fridge', 2, '1.0.0', randomBytes(33_000));
});
after(() => fleet?.remove());

const control = (line) => new Promise((done, fail) => {
  let out = '';
  const s = createConnection(join(fleet.dir, 'sim.sock'), () => s.write(`${line}\n`));
  s.on('data', (d) => {
    out += d;
    if (out.includes('\n')) s.end();
  });
  s.on('close', (failed) => {
    if (!failed) done(JSON.parse(out));
  });
  s.on('error', fail);
});
const phases = async () => (await control('status')).phases;

test('100 blank devices come alive; an update reaches all but those whose trial fails', async () => {
  const sim = fleet.spawn('roost-sim', fleet.simArgs('--count', '100', '--hardware-class', 'sensor:1', '--hardware-class', 'fridge:2',
    '--telemetry-every', '1s', '--control', join(fleet.dir, 'sim.sock'), '--json', '--list'));
  const first = await waitFor('100 devices online and confirmed', async () => {
    const s = await control('status');
    return s.phases.online === 100 && s.counts.confirmed === 100 && s;
  }, { timeout: 60_000 });
  assert.equal(first.counts.reverted, 0);
  assert.ok(first.devices.every((d) => d.version === '1.0.0' && d.deviceId === d.id));
  assert.equal((await fleet.hub.api('GET', '/roost/v1/status')).devices.enabled, 100);

  // Two without power, two that will not boot what comes.
  const bad = ['sim-0004', 'sim-0007'], off = ['sim-0010', 'sim-0011'];
  for (const id of bad) assert.deepEqual(await control(`fail-boot ${id}`), { ok: true });
  for (const id of off) assert.deepEqual(await control(`unplug ${id}`), { ok: true });
  assert.equal((await phases()).unplugged, 2);
  await fleet.release('sensor', 1, '1.1.0', randomBytes(70_003));
  await fleet.release('fridge', 2, '1.1.0', randomBytes(33_333));
  await fleet.hub.roost('update', '--all', '--release', '1.1.0');
  await waitFor('96 updates and 2 reversions', async () => {
    const s = await control('status');
    return s.counts.confirmed === 196 && s.counts.reverted === 2 && s.phases.online === 98;
  }, { timeout: 60_000 });

  for (const id of off) await control(`plug ${id}`);
  await waitFor('the two that come back', async () => (await control('status')).counts.confirmed === 198, { timeout: 60_000 });
  for (const id of off) await waitFor(`the hub to know of ${id}`, async () => (await fleet.hub.api('GET', `/roost/v1/devices/${id}`)).deployment?.state === 'CONFIRMED');
  for (const id of bad) {
    const d = await waitFor(`the hub to know of ${id}`, async () => {
      const r = await fleet.hub.api('GET', `/roost/v1/devices/${id}`);
      return r.deployment?.state === 'ROLLED_BACK' && r;
    });
    assert.equal(d.report.version, '1.0.0');
    assert.equal((await control(`status ${id}`)).devices[0].reason, 'boot');
  }

  // A broken connection is only that.
  assert.deepEqual(await control('drop sim-0001'), { ok: true });
  await waitFor('all to be back', async () => (await phases()).online === 100, { timeout: 30_000 });
  assert.equal((await control('unplug nobody')).ok, false);
  assert.equal((await control('nonsense')).ok, false);

  await sim.stop();
  assert.equal(sim.code, 0);
  const summary = JSON.parse(sim.out);
  assert.equal(summary.devices, 100);
  assert.deepEqual(summary.versions, { '1.0.0': 2, '1.1.0': 98 });
  assert.equal(summary.counts.linkDrops, 1);
  assert.equal(summary.counts.crashes, 6, 'three attempts each');
  assert.equal(summary.counts.refused, 0);
  assert.equal(summary.counts.tlsRefused, 0);
  assert.ok(summary.counts.telemetryAcknowledged > 100);
  assert.ok(summary.flashErases > 0);
  assert.equal(summary.list.length, 100);
});

test('--until and --duration end it, and the exit code tells', async () => {
  const until = await run(bin('roost-sim'), fleet.simArgs('--count', '5', '--id-prefix', 'u-', '--hardware-class', 'fridge:2', '--until', 'confirmed=1.1.0', '--duration', '60s', '--json'));
  assert.equal(JSON.parse(until.stdout).reached, true);
  const never = await run(bin('roost-sim'), fleet.simArgs('--count', '2', '--id-prefix', 'n-', '--hardware-class', 'unknown:9', '--until', 'confirmed=9.9.9', '--duration', '500ms', '--json'), { ok: false });
  assert.equal(never.code, 6);
  assert.equal(JSON.parse(never.stdout).reached, false);
});

test('flash files outlive the simulator: the same devices, not flashed again', async () => {
  const dir = join(fleet.dir, 'flash');
  const args = fleet.simArgs('--count', '3', '--id-prefix', 'f-', '--hardware-class', 'sensor:1', '--flash-dir', dir, '--slot-kib', '128', '--duration', '60s', '--json', '--list');
  const first = JSON.parse((await run(bin('roost-sim'), [...args, '--until', 'confirmed=1.1.0'])).stdout);
  assert.equal(first.counts.confirmed, 3);
  const second = JSON.parse((await run(bin('roost-sim'), [...args, '--until', 'online'])).stdout);
  assert.equal(second.counts.confirmed, 0);
  assert.equal(second.counts.boots, 3);
  assert.deepEqual(second.versions, { '1.1.0': 3 });
  assert.deepEqual(second.list.map((d) => d.release), first.list.map((d) => d.release));
});

test('a hub with another key is refused, never spoken to', async () => {
  const wrong = fleet.bootstrap.replace(/ca=[0-9a-f]{64}/, `ca=${'00'.repeat(32)}`);
  const r = await run(bin('roost-sim'), ['--hub', wrong, '--address', fleet.hub.address, '--token', fleet.token, '--count', '2', '--id-prefix', 'w-', '--until', 'online',
    '--duration', '1s', '--backoff', '100ms,200ms', '--json', '--quiet'], { ok: false });
  assert.equal(r.code, 6);
  const s = JSON.parse(r.stdout);
  assert.ok(s.counts.tlsRefused >= 2);
  assert.equal(s.counts.connects, 0);
});
