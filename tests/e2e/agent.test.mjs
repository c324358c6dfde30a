// roost-agent against the real hub: blank, flashed, application running, telemetry, updated, a failing application
// given up, the agent killed and started again, a package, a configuration reloaded.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { createConnection } from 'node:net';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bin, run, waitFor } from '../lib/roost.mjs';
import { Fleet } from '../lib/fleet.mjs';

let fleet, dir, agent;
const out = (name) => join(dir, name);
const status = () => JSON.parse(readFileSync(join(dir, 'state', 'status.json'), 'utf8'));
const device = () => fleet.hub.api('GET', '/roost/v1/devices/gw-1');
const config = (more = '') => writeFileSync(out('agent.yaml'), `bootstrap: "${fleet.bootstrap}"
address: ${fleet.hub.address}
state: ${out('state')}
hardware: gw:3
id: gw-1
token: "${fleet.token}"
telemetry-every: 500ms
backoff-min: 100ms
backoff-max: 2s
slot-size: 1M
socket: ${out('app.sock')}
sensors: ${out('sys')}
application:
  settle: 300ms
  stop-timeout: 5s
${more}`, { mode: 0o600 });
// An application that says where it runs and stays; `more` may end it.
const app = (version, more = 'exec sleep 100000') => `#!/bin/sh
# ${version}
echo "$ROOST_VERSION $ROOST_SLOT $ROOST_DEVICE_ID $$" > ${out('running.new')}; mv ${out('running.new')} ${out('running')}
${more}
`;
const running = () => existsSync(out('running')) ? readFileSync(out('running'), 'utf8').trim().split(' ') : [];
const startAgent = () => { agent = fleet.spawn('roost-agent', ['--config', out('agent.yaml')]); };
const update = (version) => fleet.hub.roost('update', 'gw-1', '--release', `gw@${version}`);
const isAlive = (pid) => { try { process.kill(Number(pid), 0); return true; } catch { return false; } };

before(async () => {
  fleet = await Fleet.create();
  dir = join(fleet.dir, 'agent');
  mkdirSync(out('sys/class/thermal/thermal_zone0'), { recursive: true });
  writeFileSync(out('sys/class/thermal/thermal_zone0/temp'), '47300\n');
  await fleet.release('gw', 3, '1.0.0', app('1.0.0'));
  config();
});
after(() => fleet?.remove());

test('a blank machine gets an identity, an application, and runs it', async () => {
  startAgent();
  await waitFor('1.0.0 to run', () => running()[0] === '1.0.0', { timeout: 30_000 });
  await waitFor('the hub to call it confirmed', async () => (await device()).deployment?.state === 'CONFIRMED');
  await waitFor('the standing connection', async () => (await device()).connected);
  const d = await device();
  assert.equal(d.report.version, '1.0.0');
  assert.equal(running()[2], 'gw-1');
  assert.equal(statSync(out('state')).mode & 0o777, 0o700);
  assert.equal(statSync(out('state/flash.img')).mode & 0o777, 0o600);
  assert.equal(statSync(out('app.sock')).mode & 0o777, 0o660);
  const second = await run(bin('roost-agent'), ['--config', out('agent.yaml')], { ok: false });
  assert.equal(second.code, 1, 'one agent a state folder');
  assert.match(second.stderr, /another agent/);
});

test('telemetry of the machine and of the application arrives', async () => {
  const answer = await new Promise((done, fail) => {
    const s = createConnection(out('app.sock'), () => s.write('{"doorOpen":true}\nnonsense\n'));
    let text = '';
    s.on('data', (x) => {
      text += x;
      if (text.split('\n').length > 2) s.end();
    });
    s.on('close', (failed) => failed || done(text.trim().split('\n').map((l) => JSON.parse(l))));
    s.on('error', fail);
  });
  assert.deepEqual(answer[0], { ok: true });
  assert.equal(answer[1].ok, false);
  const records = await waitFor('both kinds', async () => {
    const r = await fleet.hub.request('GET', '/roost/v1/telemetry?device=gw-1&from=earliest&follow=false');
    const lines = r.body.toString().trim().split('\n').filter(Boolean).map((l) => JSON.parse(l));
    return lines.some((l) => l.properties?.source === 'application') && lines;
  });
  const ours = records.find((l) => l.properties?.source === 'application');
  assert.deepEqual(JSON.parse(ours.body), { doorOpen: true });
  const sensors = JSON.parse(records.find((l) => !l.properties?.source).body);
  assert.equal(sensors.temperature, 47.3);
  assert.equal(typeof sensors.battery, 'number');
  assert.deepEqual(sensors.simulatedValues, ['battery']);
  assert.equal(sensors.simulated, true);
});

test('an update replaces the running application', async () => {
  const [, slot, , pid] = running();
  await fleet.release('gw', 3, '1.1.0', app('1.1.0'));
  await update('1.1.0');
  await waitFor('1.1.0 confirmed', async () => { const d = await device(); return d.deployment?.state === 'CONFIRMED' && d.report.version === '1.1.0'; }, { timeout: 30_000 });
  assert.equal(running()[0], '1.1.0');
  assert.notEqual(running()[1], slot);
  assert.equal(isAlive(pid), false);
});

test('an application that dies is given up after three attempts', async () => {
  await fleet.release('gw', 3, '1.2.0', app('1.2.0', `echo x >> ${out('attempts')}\nexit 1`));
  await update('1.2.0');
  await waitFor('the reversion', async () => (await device()).deployment?.state === 'ROLLED_BACK', { timeout: 30_000 });
  await waitFor('1.1.0 to run again', () => running()[0] === '1.1.0');
  assert.equal(readFileSync(out('attempts'), 'utf8'), 'x\nx\nx\n');
  const d = await device();
  assert.equal(d.report.version, '1.1.0');
  assert.equal(d.deployment.reason, 'boot');
  assert.equal(status().version, '1.1.0');
});

test('a health command that says no gives it up as well, and one that says yes confirms', async () => {
  config(`  health: ["/bin/sh", "-c", "! grep -q unwell {app}"]\n  health-every: 100ms\n  health-tries: 2\n`);
  agent.child.kill('SIGHUP');
  await waitFor('the reload', () => agent.out.includes('agent.reload'));
  await fleet.release('gw', 3, '1.3.0', app('1.3.0 unwell'));
  await update('1.3.0');
  const d = await waitFor('the reversion', async () => { const x = await device(); return x.deployment?.state === 'ROLLED_BACK' && x.deployment.version === '1.3.0' && x; }, { timeout: 30_000 });
  assert.equal(d.deployment.reason, 'probation-app');
  await fleet.release('gw', 3, '1.4.0', app('1.4.0'));
  await update('1.4.0');
  await waitFor('1.4.0 confirmed', async () => { const x = await device(); return x.deployment?.state === 'CONFIRMED' && x.report.version === '1.4.0'; }, { timeout: 30_000 });
});

test('killed and started again it goes on: same identity, nothing fetched, application back', async () => {
  const before = await device(), [, , , pid] = running();
  await agent.stop('SIGKILL');
  await waitFor('the application to die with its agent', () => !isAlive(pid));
  startAgent();
  await waitFor('the application to run again', () => running()[3] !== pid && running()[0] === '1.4.0');
  await waitFor('to be connected', () => status().phase === 'online');
  const after_ = await device();
  assert.equal(after_.publicKey, before.publicKey);
  assert.equal(status().bytesFetched, 0);
  assert.equal(status().trial, false);
});

test('a package is unpacked and run', async () => {
  const src = out('package');
  mkdirSync(join(src, 'share'), { recursive: true });
  writeFileSync(join(src, 'share/word'), 'unpacked');
  writeFileSync(join(src, 'app'), app('2.0.0', `cat share/word > ${out('word')}; exec sleep 100000`), { mode: 0o755 });
  execFileSync('tar', ['-C', src, '-czf', out('package.tgz'), 'app', 'share']);
  await fleet.release('gw', 3, '2.0.0', readFileSync(out('package.tgz')), ['--type', 'package']);
  await update('2.0.0');
  await waitFor('2.0.0 confirmed', async () => (await device()).report.version === '2.0.0' && (await device()).deployment?.state === 'CONFIRMED', { timeout: 30_000 });
  assert.equal(readFileSync(out('word'), 'utf8'), 'unpacked');
});

test('a wrong configuration is told with its line; SIGTERM stops agent and application', async () => {
  writeFileSync(out('wrong.yaml'), `bootstrap: "${fleet.bootstrap}"\ntelemetry-every: often\n`);
  const wrong = await run(bin('roost-agent'), ['--config', out('wrong.yaml'), '--check-config'], { ok: false });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /wrong\.yaml:2:1: telemetry-every/);
  assert.equal((await run(bin('roost-agent'), ['--config', out('agent.yaml'), '--check-config'])).code, 0);
  assert.equal(JSON.parse((await run(bin('roost-agent'), ['--config', out('agent.yaml'), '--status'])).stdout).id, 'gw-1');
  const [, , , pid] = running();
  await agent.stop();
  assert.equal(agent.code, 0);
  assert.equal(isAlive(pid), false);
  assert.equal(existsSync(out('app.sock')), false);
});

test('a hub whose authority is not the pinned one is refused by name of the reason, and learns nothing', async () => {
  const file = out('other.yaml');
  writeFileSync(file, readFileSync(out('agent.yaml'), 'utf8').replace(/ca=[0-9a-f]{64}/, `ca=${'11'.repeat(32)}`)
    .replace('id: gw-1', 'id: gw-2').replaceAll(out('state'), out('other')).replaceAll(out('app.sock'), out('other.sock')));
  const other = fleet.spawn('roost-agent', ['--config', file]);
  await waitFor('two attempts', () => other.out.split('fetch.failed').length > 2);
  assert.match(other.out, /certificate/);
  await other.stop();
  assert.equal(other.code, 0);
  assert.equal((await fleet.hub.request('GET', '/roost/v1/devices/gw-2')).status, 404);
});
