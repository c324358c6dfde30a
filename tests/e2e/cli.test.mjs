// The operator's command line against a real hub and simulated devices: what a person types, what comes out, and
// the exit code that a pipeline sees.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Hub, bin, freePorts, run, start, tempDir, waitFor } from '../lib/roost.mjs';

let hub, tmp, keys;
const children = [];
const cli = (...args) => hub.roost(...args, { ok: false });
const good = async (...args) => {
  const r = await cli(...args);
  assert.equal(r.code, 0, `${args.join(' ')}: ${r.code}\n${r.stderr}${r.stdout}`);
  return r.stdout;
};
const json = async (...args) => JSON.parse(await good(...args, '--json'));

before(async () => {
  tmp = tempDir();
  keys = join(tmp.dir, 'keys');
  hub = await Hub.create();
  await hub.start();
});
after(async () => {
  for (const c of children) await c.stop();
  await hub?.remove();
  tmp?.remove();
});

function image(name, size) {
  const file = join(tmp.dir, name);
  const b = Buffer.alloc(size);
  for (let i = 0; i < size; i += 32) createHash('sha256').update(`${name}${i}`).digest().copy(b, i);
  writeFileSync(file, b);
  return file;
}
async function release(product, version, hw, file, sign = true) {
  const dir = join(tmp.dir, `${product}-${version}-${hw}.roost`);
  await good('release', 'build', '-p', product, '-v', version, '--hardware-class', `${hw}`, '--file', file, '--out', dir);
  if (sign) await good('release', 'sign', dir, '--key-file', join(keys, 'release-1.key'));
  return dir;
}

test('a fleet begins: keys, trust, bootstrap string, tokens', async () => {
  assert.match(await good('status'), /trust\s+none/);
  const before = await cli('bootstrap-string');
  assert.equal(before.code, 0);
  assert.match(before.stdout, /^https:\/\/hub\.localhost:\d+#ca=[0-9a-f]{64}\n$/);
  assert.match(before.stderr, /no trust record/);

  const made = await good('keys', 'init', keys);
  assert.equal(made.match(/^ {4}([0-9a-f]{8} ?)+$/gm).length, 8, 'four keys, two lines of paper each');
  assert.equal(statSync(keys).mode & 0o777, 0o700);
  for (const f of readdirSync(keys).filter((n) => n.endsWith('.key'))) assert.equal(statSync(join(keys, f)).mode & 0o777, 0o600, f);
  assert.equal((await cli('keys', 'init', keys)).code, 1);

  assert.deepEqual(await json('trust', 'publish', keys), { version: 1, published: 1 });
  assert.deepEqual(await json('trust', 'publish', keys), { version: 1, published: 0 });
  const record = await json('trust', 'show');
  assert.deepEqual(record, await json('keys', 'show', keys));
  assert.equal(record.directors[0].public, (await json('status')).directorKey);
  assert.equal(record.homes[0].address, `hub.localhost:${hub.https}`);
  const { bootstrapString } = await json('bootstrap-string');
  assert.ok(bootstrapString.endsWith(`&root=${record.rootPin}`));
  assert.ok(bootstrapString.includes(`#ca=${record.homes[0].caPin}`));
  assert.ok(hub.initOutput.includes(bootstrapString.split('&')[0]), 'roostd init prints the same');

  const token = (await good('token', 'create', 'gone', '--uses', '3', '--ttl', '2h', '--hardware', 'sensor:1')).trim();
  assert.ok(token.length >= 20);
  const list = await good('token', 'list');
  assert.match(list, /gone\s+sensor:1\s+3/);
  assert.ok(!list.includes(token), 'a token is shown once');
  await good('token', 'delete', 'gone');
  assert.deepEqual((await json('token', 'list')).tokens, []);
});

test('a key comes back from paper, and a slip of the pen is noticed', async () => {
  const key = readFileSync(join(keys, 'root-1.key'), 'utf8');
  const other = join(tmp.dir, 'other');
  const made = await good('keys', 'init', other, '--director', 'ab'.repeat(32), '--home', 'h:1');
  const paper = made.split('\n').slice(made.split('\n').findIndex((l) => l.includes('root-1')) + 1).slice(0, 2).join('\n');
  const back = join(tmp.dir, 'back.key');
  const wrong = await run(bin('roost'), ['keys', 'restore', back], { ok: false, input: `${paper.replace(/[0-8]/, (d) => `${+d + 1}`)}\n\n` });
  assert.equal(wrong.code, 1);
  assert.ok(!existsSync(back));
  await run(bin('roost'), ['keys', 'restore', back], { input: `${paper}\n\n` });
  assert.equal(readFileSync(back, 'utf8'), readFileSync(join(other, 'root-1.key'), 'utf8'));
  assert.notEqual(readFileSync(back, 'utf8'), key);
});

test('devices are made, shown, refused twice, deleted', async () => {
  const [one, two] = (await good('device', 'create', 'thermostat-7', 'a+b')).trim().split('\n');
  assert.match(one, /^HostName=hub\.localhost;DeviceId=thermostat-7;SharedAccessKey=.+=$/);
  assert.match(two, /DeviceId=a\+b;/);
  const again = await cli('device', 'create', 'thermostat-7');
  assert.equal(again.code, 3);
  assert.match(again.stderr, /already/);
  assert.equal((await json('device', 'show', 'a+b')).id, 'a+b');
  assert.equal((await json('device', 'show', 'thermostat-7')).connectionString, one);
  assert.deepEqual((await json('device', 'list')).devices.map((d) => d.id), ['a+b', 'thermostat-7']);
  assert.match(await good('device', 'list'), /^DEVICE.*\na\+b +enabled +no/);
  assert.equal((await cli('device', 'show', 'nobody')).code, 1);
  for (const id of ['.', '..']) {
    await good('device', 'create', id);
    assert.equal((await json('device', 'show', id)).id, id);
    assert.equal((await cli('module', 'delete', 'thermostat-7', id)).code, 1, 'there is no such module');
    await good('device', 'delete', id);
  }
  assert.equal((await json('device', 'show', 'thermostat-7')).id, 'thermostat-7', 'which nobody deleted');
  await good('device', 'delete', 'a+b');
  assert.equal((await cli('device', 'delete', 'a+b')).code, 1);
});

test('queries: columns as they were asked for, numbers as they are, nothing lost in CSV', async () => {
  await good('device', 'create', 'q1', 'q2');
  await good('twin', 'set', 'q1', '--tags', 'site=Kjøpenhavn', 't=0.1', 'u=22.4', 'v=1.0', 'big=1e300');
  await good('twin', 'set', 'q2', '--tags', 'site="a,\\"b\\"\\nc"', 'nul="x\\u0000y"');
  const where = "FROM devices WHERE STARTSWITH(deviceId, 'q')";
  const one = await good('query', `SELECT tags.t, tags.none, deviceId, tags.u, tags.v, tags.big ${where}`, '--csv');
  assert.equal(one, 't,none,deviceId,u,v,big\r\n0.1,,q1,22.4,1.0,1e+300\r\n,,q2,,,\r\n');
  assert.equal(await good('query', `SELECT tags.site, tags.nul ${where}`, '--csv'), 'site,nul\r\nKjøpenhavn,\r\n"a,""b""\nc",x?y\r\n');
  assert.equal(await good('query', "SELECT deviceId FROM devices WHERE deviceId = 'none'", '--csv'), 'deviceId\r\n', 'a heading even without rows');
  assert.equal(await good('query', "SELECT * FROM devices.modules WHERE moduleId = 'none'", '--csv'), 'deviceId,moduleId,status,connectionState,version,tags\r\n');
  const rows = await json('query', `SELECT tags ${where}`);
  assert.deepEqual(rows.map((r) => r.tags), [{ site: 'Kjøpenhavn', t: 0.1, u: 22.4, v: 1, big: 1e300 }, { site: 'a,"b"\nc', nul: 'x\0y' }]);
  assert.match(await good('query', `SELECT tags ${where}`, '--json'), /"t":0\.1,"u":22\.4,"v":1\.0,/);
  assert.deepEqual(await json('query', `SELECT deviceId ${where} AND false`), []);
  const table = (await good('query', `SELECT tags.site, deviceId ${where}`)).split('\n');
  assert.equal(table[1].replace(/ø/, 'o').indexOf('q1'), table[0].indexOf('deviceId'), 'columns stand below each other');
  const wrong = await cli('query', 'SELECT deviceId,\n COUNT() FROM devices');
  assert.equal(wrong.code, 3);
  assert.match(wrong.stderr, /line 1, column 8: .*\n {2}SELECT deviceId,\n {9}\^\n/);
  for (const bad of [['SELECT * FROM devices', '--limit', '0'], ['SELECT * FROM devices', '--csv', '--json'], []]) assert.equal((await cli('query', ...bad)).code, 1);
  assert.equal((await json('twin', 'watch', 'q2', '--count', '1')).tags.nul, 'x\0y');
  assert.match(await good('twin', 'set', 'q2', 'a=1'), /version 4, desired version 2/);
  await good('module', 'create', 'q1', 'm');
  assert.match(await good('device', 'connection-string', 'q1/m'), /^HostName=.*;DeviceId=q1;ModuleId=m;SharedAccessKey=/);
  const away = await cli('method', 'q1', 'reboot');
  assert.equal(away.code, 3);
  assert.match(away.stderr, /--connect-timeout/);
  for (const [make, drop] of [[['endpoint', 'set', 'qs', 'kind=stream'], ['endpoint', 'delete', 'qs']], [['config', 'create', 'qc', '--content', '-'], ['config', 'delete', 'qc']]]) {
    const made = await run(bin('roost'), ['--hub', hub.dir, ...make], { ok: false, input: '{"deviceContent":{"properties.desired":{}}}' });
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual(await json(...drop), { deleted: 1 });
  }
  await good('device', 'delete', 'q1', 'q2');
});

test('messages wait for a device; the queue has an end; everyone at once', async () => {
  const sent = await json('send', 'thermostat-7', 'hello', '--message-id', 'm-1', '--property', 'colour=blue', '--ttl', '1h', '--ack', 'full');
  assert.equal(sent.sent[0].messageId, 'm-1');
  assert.equal(sent.sent[0].device, 'thermostat-7');
  const both = await cli('send', 'nobody', 'thermostat-7', 'hello');
  assert.equal(both.code, 1);
  assert.match(both.stdout, /thermostat-7: queued/, 'the others still get theirs');
  const stdin = await run(bin('roost'), ['--hub', hub.dir, 'send', 'thermostat-7', '-'], { input: Buffer.from([0, 255, 1]) });
  assert.equal(stdin.code, 0);
  await good('send', '--all', 'update');
  let code = 0, n = 0;
  for (; !code && n < 60; n++) code = (await cli('send', 'thermostat-7', 'x')).code;
  assert.equal(code, 3, 'a full queue refuses');
  assert.equal((await cli('send', 'hello')).code, 1);
  assert.equal((await cli('send', '--all', 'thermostat-7', 'hello')).code, 1);
});

test('a release is the same bytes each time, and nothing changed passes', async () => {
  const file = image('app.bin', 300_000);
  const one = await release('sensor', '1.0.0', 1, file, false);
  const two = join(tmp.dir, 'again.roost');
  await good('release', 'build', '-p', 'sensor', '-v', '1.0.0', '--hardware-class', '1', '--file', file, '--out', two);
  assert.deepEqual(readdirSync(one).sort(), readdirSync(two).sort());
  for (const f of readdirSync(one)) assert.ok(readFileSync(join(one, f)).equals(readFileSync(join(two, f))), f);

  assert.equal((await cli('release', 'push', one)).code, 3, 'unsigned');
  assert.equal((await cli('release', 'verify', one)).code, 3);
  const stranger = await cli('release', 'sign', two, '--key-file', join(tmp.dir, 'other', 'release-1.key'));
  assert.equal(stranger.code, 0);
  const refused = await cli('release', 'push', two);
  assert.equal(refused.code, 3, 'signed by a key that the trust record does not list: the hub refuses');
  assert.equal((await cli('release', 'sign', one, '--key-file', join(keys, 'root-1.key'))).code, 1, 'roots sign no software');
  chmodSync(join(keys, 'release-1.key'), 0o644);
  assert.equal((await cli('release', 'sign', one, '--key-file', join(keys, 'release-1.key'))).code, 1, 'a key that others may read');
  chmodSync(join(keys, 'release-1.key'), 0o600);
  await good('release', 'sign', one, '--key-file', join(keys, 'release-1.key'));
  await good('release', 'verify', one, '--device', 'sensor:1:0');
  const other = await cli('release', 'verify', one, '--device', 'sensor:2:0');
  assert.equal(other.code, 3);
  assert.match(other.stderr, /hw-mismatch/);

  for (const f of readdirSync(one)) {
    const bad = join(tmp.dir, `bad-${f}`);
    cpSync(one, bad, { recursive: true });
    const b = readFileSync(join(bad, f));
    b[b.length >> 1] ^= 1;
    writeFileSync(join(bad, f), b);
    assert.equal((await cli('release', 'verify', bad)).code, 3, f);
    assert.equal((await cli('release', 'push', bad)).code, 3, f);
  }
  await good('release', 'push', one);
  const pushed = await json('release', 'push', one);
  assert.equal(pushed.releases.length, 1);
  assert.equal((await json('release', 'list')).releases[0].id, pushed.releases[0]);
});

test('a broken upload goes on where it stopped', async () => {
  const file = image('big.bin', 3_500_000);
  const dir = await release('sensor', '0.9.0', 9, file);
  const root = readdirSync(dir).find((f) => /^[0-9a-f]{64}$/.test(f));
  const bytes = readFileSync(file), first = 1 << 20;
  const r = await hub.request('PUT', `/roost/v1/uploads/${root.slice(0, 40)}-payload`, { body: bytes.subarray(0, first),
    headers: { 'content-range': `bytes 0-${first - 1}/${bytes.length}` } });
  assert.ok(r.status < 300, `${r.status}`);
  const push = await cli('release', 'push', dir);
  assert.equal(push.code, 0, push.stderr);
  assert.match(push.stderr, /^sensor 0\.9\.0: 20% \(1\.0 MB of 3\.5 MB\)/m, 'it begins with what is there');
  const stored = await hub.request('GET', `/artifacts/${root}`, { token: null });
  assert.ok(stored.body.equals(bytes));
});

const control = (path, line) => new Promise((done, fail) => {
  const s = connect(path, () => s.end(`${line}\n`));
  let out = '';
  s.on('data', (d) => { out += d; });
  s.on('close', () => done(out));
  s.on('error', fail);
});

test('an update is waited for, and its exit code is the truth', { timeout: 180_000 }, async () => {
  const sock = join(tmp.dir, 'sim.sock');
  await good('release', 'push', await release('lamp', '1.0.0', 4, image('lamp1', 70_000)));
  const { token } = await json('token', 'create', 'batch');
  const boot = (await good('bootstrap-string')).trim();
  const sim = start(bin('roost-sim'), ['--hub', boot, '--address', hub.address, '--count', '3', '--blank', '--id-prefix', 'lamp-',
    '--token', token, '--hardware-class', 'lamp:4', '--telemetry-every', '1', '--backoff', '200ms,2s', '--control', sock]);
  children.push(sim);
  const lamps = async () => (await json('device', 'list')).devices.filter((d) => d.id.startsWith('lamp-'));
  await waitFor('three lamps', async () => {
    assert.ok(!sim.exited, sim.out);
    const l = await lamps();
    return l.length === 3 && l.every((d) => d.connected);
  }, { timeout: 60_000, every: 200 });

  const first = await cli('update', '--all', '--release', 'lamp@1.0.0', '--wait', '--timeout', '60s', '--json');
  assert.equal(first.code, 0, first.stderr + first.stdout);
  const told = JSON.parse(first.stdout);
  assert.equal(told.devices, 3);
  assert.equal((told.counts.CONFIRMED ?? 0) + (told.counts.SKIPPED ?? 0), 3);
  assert.deepEqual((await lamps()).map((d) => d.report.version), ['1.0.0', '1.0.0', '1.0.0']);

  await good('release', 'push', await release('lamp', '1.1.0', 4, image('lamp2', 70_000)));
  const [a, b, c] = (await lamps()).map((d) => d.id);
  const one = await cli('update', a, '--release', '1.1.0', '--wait', '--timeout', '60s');
  assert.equal(one.code, 0, one.stderr);
  assert.match(one.stdout, /1 of 1 run it/);

  await control(sock, `unplug ${b}`);
  await waitFor('the hub to notice', async () => (await lamps()).some((d) => d.id === b && !d.connected), { every: 200 });
  const late = await cli('update', b, '--release', '1.1.0', '--wait', '--timeout', '2s');
  assert.equal(late.code, 6, 'a device that is away is not done');
  await control(sock, `plug ${b}`);
  await waitFor('it to update when it comes back', async () => (await lamps()).find((d) => d.id === b).report.version === '1.1.0', { timeout: 60_000, every: 200 });

  await control(sock, `fail-boot ${c}`);
  const back = await cli('update', c, '--release', '1.1.0', '--wait', '--timeout', '90s', '--json');
  assert.equal(back.code, 10, back.stderr + back.stdout);
  assert.equal(JSON.parse(back.stdout).failed[0].device, c);
  assert.equal((await lamps()).find((d) => d.id === c).report.version, '1.0.0');

  const lines = (await good('watch', '--from', 'earliest', '--count', '5')).trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.length, 5);
  assert.ok(lines.every((l) => l.device.startsWith('lamp-') && l.body));
  const ofOne = (await good('watch', a, '--from', 'earliest', '--no-follow')).trim().split('\n').map((l) => JSON.parse(l));
  assert.ok(ofOne.length > 0 && ofOne.every((l) => l.device === a));
  const group = async (...more) => (await good('watch', '--consumer-group', 'billing', '--from', 'earliest', ...more)).trim().split('\n').filter(Boolean).map((l) => JSON.parse(l));
  const key = (l) => `${l.partition}/${l.sequence}`;
  const reader1 = await group('--count', '4'), reader2 = await group('--count', '3'); // the second reader goes on behind the first
  const all = new Set((await good('watch', '--from', '-1h', '--no-follow')).trim().split('\n').map((l) => key(JSON.parse(l))));
  const seen = [...reader1, ...reader2].map(key);
  assert.equal(new Set(seen).size, 7, 'nothing twice');
  assert.ok(seen.every((k) => all.has(k)));
  const third = await group('--no-follow');
  assert.equal(new Set([...seen, ...third.map(key)]).size, 7 + third.length);
  assert.ok([...all].every((k) => seen.includes(k) || third.some((l) => key(l) === k)), 'nothing left out');
  const waiting = start(bin('roost'), ['--hub', hub.dir, 'watch', '-g', 'billing']);
  await waitFor('a record', async () => waiting.out.includes('\n'));
  await waiting.stop('SIGINT'); // keeps the place before it ends
  assert.equal(waiting.code, 0);
  const printed = waiting.out.trim().split('\n').map((l) => key(JSON.parse(l)));
  assert.ok((await group('--no-follow')).every((l) => !printed.includes(key(l))));
  assert.equal((await cli('watch', a, '--consumer-group', 'billing')).code, 1);
  assert.equal((await cli('watch', '--from', 'tomorrow')).code, 3);
  const live = start(bin('roost'), ['--hub', hub.dir, 'watch', b, '--count', '1']);
  assert.equal((await live.done).code, 0, 'the next message ends it');
  assert.equal((await cli('update', a, '--release', '7.7.7')).code, 1);
  assert.equal((await cli('update', '--release', '1.1.0')).code, 1);
  await sim.stop();
});

test('a device that came without a token waits for approval', { timeout: 60_000 }, async () => {
  const boot = (await good('bootstrap-string')).trim();
  const sim = start(bin('roost-sim'), ['--hub', boot, '--address', hub.address, '--count', '1', '--blank', '--id-prefix', 'new-', '--hardware-class', 'lamp:4', '--backoff', '200ms,1s']);
  children.push(sim);
  const pending = await waitFor('it to ask', async () => (await json('device', 'list', '--status', 'pending')).devices[0], { every: 200 });
  assert.match(await good('status'), /1 waiting for approval/);
  assert.match(await good('device', 'approve', '--all'), new RegExp(`${pending.id} may come in`));
  assert.deepEqual((await json('device', 'list', '--status', 'pending')).devices, []);
  assert.match(await good('device', 'approve', '--all'), /nobody waits/);
  await sim.stop();
});

test('the hub is found by profile, connection string and environment; each failure has its code and its way out', async () => {
  const config = join(tmp.dir, 'config', 'roost');
  mkdirSync(config, { recursive: true });
  cpSync(join(hub.dir, 'operator.profile'), join(config, 'profile'));
  const env = { XDG_CONFIG_HOME: join(tmp.dir, 'config') };
  const roost = (args, more = {}) => run(bin('roost'), args, { ok: false, env: { ...env, ...more } });
  const where = ['--ca-file', hub.caFile, '--https-port', `${hub.https}`, '--address', hub.address];
  assert.equal((await roost(['status'])).code, 0);
  assert.equal((await roost(['status', ...where], { ROOST_CONNECTION_STRING: hub.connectionString, XDG_CONFIG_HOME: '/nonexistent' })).code, 0);
  assert.equal((await roost(['status', '--hub', join(config, 'profile')])).code, 0);
  assert.equal((await roost(['--hub', hub.connectionString, ...where, 'status'])).code, 0);

  chmodSync(join(config, 'profile'), 0o644);
  const open = await roost(['status']);
  assert.equal(open.code, 0);
  assert.match(open.stderr, /holds a key, and everybody may read/);
  chmodSync(join(config, 'profile'), 0o600);
  const none = await roost(['status'], { XDG_CONFIG_HOME: '/nonexistent' });
  assert.equal(none.code, 1);
  assert.match(none.stderr, /--hub DIR/);
  const wrongKey = hub.connectionString.replace(/SharedAccessKey=.*/, 'SharedAccessKey=AAAA');
  const denied = await roost(['--hub', wrongKey, ...where, 'status']);
  assert.equal(denied.code, 2, denied.stderr);
  assert.ok(!denied.stderr.includes('AAAA'));
  assert.match(denied.stderr, /new profile/);
  const shim = join(tmp.dir, 'behind.so');
  await run('cc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', shim], { input: '#include <sys/time.h>\n#include <time.h>\ntime_t time(time_t *t) { struct timeval v; gettimeofday(&v, 0); v.tv_sec -= 7200; if (t) *t = v.tv_sec; return v.tv_sec; }\n' });
  const late = await roost(['--hub', hub.dir, 'status'], { LD_PRELOAD: shim, ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:verify_asan_link_order=0` });
  assert.equal(late.code, 2);
  assert.match(late.stderr, /\(expired\)[^]*the clock of this machine is behind/);
  const stranger = await roost(['--hub', hub.connectionString, ...where.slice(2), 'status']);
  assert.equal(stranger.code, 7, 'an authority that nobody named is not trusted');
  assert.match(stranger.stderr, /--ca-file/);
  const otherName = await roost(['--hub', hub.connectionString.replace('hub.localhost', 'elsewhere.example'), ...where, 'status']);
  assert.equal(otherName.code, 7, 'nor is another name');
  assert.match(otherName.stderr, /Nothing was sent/);
  assert.equal((await roost(['--hub', hub.connectionString.replace('hub.localhost', `hub.localhost:${hub.https}`), '--ca-file', hub.caFile, '--address', hub.address, 'status'])).code, 0);
  const noFile = await roost(['--hub', hub.dir, '--ca-file', '/nonexistent/ca.crt', 'status']);
  assert.equal(noFile.code, 1);
  assert.match(noFile.stderr, /cannot read the CA file \/nonexistent\/ca\.crt: /);
  assert.equal((await roost(['status'], { ROOST_CONNECTION_STRING: '' })).code, 0, 'an empty variable is none');
  const [port] = await freePorts(1);
  const away = await roost(['--hub', hub.dir, '--https-port', `${port}`, 'status']);
  assert.equal(away.code, 7);
  assert.match(away.stderr, /Is roostd running/);
});

test('automatic configurations go into a file beside the identities, and come from one', { timeout: 120_000 }, async () => {
  const devices = join(tmp.dir, 'few.txt'), file = join(tmp.dir, 'configurations.txt');
  const content = join(tmp.dir, 'content.json');
  writeFileSync(content, JSON.stringify({ deviceContent: { 'properties.desired.interval': 7 } }));
  await good('config', 'create', 'kept', '--content', content, '--where', "tags.site = 'kept'", '--priority', '3');
  await good('device', 'export', devices, '--configurations', file);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const kept = readFileSync(file, 'utf8').split('\n').filter(Boolean).map((l) => JSON.parse(l)).find((l) => l.id === 'kept');
  assert.deepEqual([kept.targetCondition, kept.priority, kept.content.deviceContent], ["tags.site = 'kept'", 3, { 'properties.desired.interval': 7 }]);
  await good('config', 'delete', 'kept');

  writeFileSync(devices, '');
  writeFileSync(file, `${JSON.stringify({ ...kept, etag: undefined })}\n{"id":"Not An Id"}\n`);
  const r = await cli('device', 'import', devices, '--configurations', file);
  assert.equal(r.code, 5, r.stderr);
  assert.match(r.stdout, /^1 lines applied, 1 refused$/m);
  assert.match(r.stderr, /^refused: .*"configurationId"/m);
  const back = await json('config', 'show', 'kept');
  assert.deepEqual([back.where, back.priority, back.content], [kept.targetCondition, 3, kept.content]);
  await good('config', 'delete', 'kept');
  assert.deepEqual((await json('upload', 'list')).uploads, []);
  assert.equal((await cli('device', 'import', '-', '--configurations', '-')).code, 3);
  assert.equal((await cli('device', 'export', devices, '--configurations', devices)).code, 3);
  assert.equal((await cli('device', 'import', devices, '--configurations', join(tmp.dir, 'absent'))).code, 1);
});

test('all identities go into a file, and come from one', { timeout: 120_000 }, async () => {
  const file = join(tmp.dir, 'fleet.txt'), back = join(tmp.dir, 'back.txt'), log = join(tmp.dir, 'refused.log');
  const nr = 3000;
  const lines = Array.from({ length: nr }, (_, i) => JSON.stringify({ id: `imported-${i}`, status: 'enabled', tags: { n: i } }));
  writeFileSync(file, `${lines.join('\n')}\n`);
  let r = await cli('device', 'import', file);
  assert.equal(r.code, 0, r.stderr);
  assert.match(r.stdout, /^3000 lines applied, 0 refused$/m);
  assert.match(r.stderr, /^upload: 100% /m);
  assert.match(r.stderr, /^import: 100% /m);

  writeFileSync(file, `${lines.slice(0, 30).join('\n')}\n{"id":"not an id","status":"enabled"}\n{"id":"imported-new","status":"enabled"}`);
  r = await cli('device', 'import', file, '--mode', 'create', '--errors', log);
  assert.equal(r.code, 5);
  assert.match(r.stdout, /^1 lines applied, 31 refused$/m);
  assert.equal(r.stderr.match(/^refused: /gm).length, 20);
  assert.equal(readFileSync(log, 'utf8').split('\n').filter(Boolean).length, 31);
  r = await cli('device', 'import', file, '--mode', 'create', '--json');
  assert.equal(r.code, 5);
  assert.deepEqual([JSON.parse(r.stdout).failedCount, JSON.parse(r.stdout).errors.length, JSON.parse(r.stdout).errors[30].errorCode], [32, 32, 400004]);

  assert.match(await good('device', 'export', back), /^\d+ identities in /m);
  assert.equal(statSync(back).mode & 0o777, 0o600);
  assert.ok(!existsSync(`${back}.part`));
  const exported = readFileSync(back, 'utf8').split('\n').filter(Boolean).map((l) => JSON.parse(l));
  const mine = exported.filter((l) => l.id.startsWith('imported-'));
  assert.equal(mine.length, nr + 1);
  assert.deepEqual(mine[7].tags, { n: 7 });
  assert.ok(mine[7].authentication.symmetricKey.primaryKey);
  const [first, second] = (await good('device', 'export', '-', '--no-keys')).split('\n');
  assert.throws(() => JSON.parse(first));
  assert.equal(JSON.parse(second).authentication.symmetricKey.primaryKey, null);
  assert.ok((await json('device', 'export', back)).succeededCount > nr);

  const gone = await run(bin('roost'), ['--hub', hub.dir, 'device', 'import', '-', '--mode', 'delete', '--json'],
    { ok: false, input: mine.map((l) => JSON.stringify({ id: l.id })).join('\n') });
  assert.equal(gone.code, 0, gone.stderr);
  assert.equal(JSON.parse(gone.stdout).succeededCount, nr + 1);
  assert.equal((await cli('device', 'show', 'imported-7')).code, 1);
  assert.deepEqual((await json('upload', 'list')).uploads, []);

  assert.equal((await cli('device', 'import', join(tmp.dir, 'absent'))).code, 1);
  assert.equal((await cli('device', 'import', file, '--mode', 'replace')).code, 3);
  assert.equal((await cli('device', 'import', file, '--container', 'none')).code, 1);
  const nowhere = await cli('device', 'export', join(tmp.dir, 'no/such/folder'));
  assert.equal(nowhere.code, 1);
  assert.doesNotMatch(nowhere.stderr, /export: /, 'nothing is exported for a file that cannot be written');
});

test('what is fetched appears whole, or not at all', { timeout: 60_000 }, async () => {
  const file = join(tmp.dir, 'kept.bin'), pipe = join(tmp.dir, 'pipe'), part = join(tmp.dir, 'half.txt');
  await good('device', 'create', 'fetched');
  writeFileSync(file, 'what was there');
  const none = await cli('upload', 'get', 'fetched', 'nothing', '-o', file);
  assert.equal(none.code, 1);
  assert.match(none.stderr, /upload-not-found/);
  assert.equal(readFileSync(file, 'utf8'), 'what was there');
  assert.equal((await cli('upload', 'delete', 'fetched', 'nothing')).code, 1);

  const { sasToken: sas } = await hub.api('POST', '/roost/v1/containers/uploads/sas', { permissions: 'w' });
  assert.equal((await hub.request('PUT', `/uploads/fetched/dir/x.txt${sas}`, { token: null, body: 'ten bytes.', headers: { 'x-ms-blob-type': 'BlockBlob' } })).status, 201);
  assert.equal(await good('upload', 'get', 'fetched', 'dir/x.txt', '-o', file), `10 B in ${file}\n`);
  assert.equal(readFileSync(file, 'utf8'), 'ten bytes.');
  assert.equal(await good('upload', 'get', 'fetched', 'dir/x.txt', '-o', '-'), 'ten bytes.');
  assert.deepEqual(await json('upload', 'get', 'fetched', 'dir/x.txt', '-o', file), { device: 'fetched', name: 'dir/x.txt', file, length: 10 });
  await run('mkfifo', [pipe]);
  const told = run('cat', [pipe]);
  assert.deepEqual(await json('upload', 'get', 'fetched', 'dir/x.txt', '-o', pipe), { device: 'fetched', name: 'dir/x.txt', file: pipe, length: 10 });
  assert.equal((await told).stdout, 'ten bytes.');
  assert.deepEqual(await json('upload', 'delete', 'fetched', 'dir/x.txt'), { deleted: 1 });

  const reader = run('cat', [pipe]);
  await good('device', 'export', pipe, '--no-keys');
  assert.match((await reader).stdout, /"id":"fetched"/);
  assert.ok(statSync(pipe).isFIFO(), 'what is no file is not replaced by one');

  const refused = await run(bin('roost'), ['--hub', hub.dir, 'device', 'import', '-', '--mode', 'create', '--errors', '-'], { ok: false, input: '{"id":"fetched","status":"enabled"}' });
  assert.equal(refused.code, 5);
  assert.equal(JSON.parse(refused.stdout.split('\n')[0]).errorCode, 409001);

  hub.process.child.kill('SIGSTOP'); // so that it waits for an answer
  try {
    const p = start(bin('roost'), ['--hub', hub.dir, 'device', 'export', part]);
    await waitFor('the file that is being written', () => existsSync(`${part}.part`));
    assert.deepEqual(await p.stop('SIGINT'), { code: null, signal: 'SIGINT' });
  } finally {
    hub.process.child.kill('SIGCONT');
  }
  assert.ok(!existsSync(part) && !existsSync(`${part}.part`), 'half a file with keys stays nowhere');
});

test('somebody who has read enough is no error, a full disk is; colours are left out alone', async () => {
  const shell = (text) => run('bash', ['-o', 'pipefail', '-c', text], { ok: false, env: { ROOST: bin('roost'), HUB: hub.dir } });
  await run(bin('roost'), ['--hub', hub.dir, 'device', 'import', '-'], { input: Array.from({ length: 2000 }, (_, i) => JSON.stringify({ id: `many-${i}`, status: 'enabled' })).join('\n') });
  for (const command of ['device list', 'device list --json', 'query --csv "SELECT * FROM devices"', 'query --json "SELECT * FROM devices"']) {
    const enough = await shell(`$ROOST --hub $HUB ${command} | head -n 1`);
    assert.deepEqual([enough.code, enough.stderr], [0, ''], command);
    const full = await shell(`$ROOST --hub $HUB ${command} > /dev/full`);
    assert.equal(full.code, 1, command);
    assert.match(full.stderr, /cannot write the output/);
  }
  const terminal = async (colour) => (await shell(`TERM=xterm ${colour} script -qec "$ROOST --hub $HUB device list --status disabled; $ROOST --hub $HUB twin show many-1" /dev/null`)).stdout.replaceAll('\r', '');
  const plain = await terminal('NO_COLOR=1');
  assert.match(await terminal('NO_COLOR='), /^\x1b\[1mDEVICE /);
  assert.ok(!plain.includes('\x1b'));
  assert.match(plain, /^DEVICE .*\nNone is disabled\.\n\{\n {2}"id": "many-1",\n/, 'the form is still that for a person');
  await run(bin('roost'), ['--hub', hub.dir, 'device', 'import', '-', '--mode', 'delete'], { input: Array.from({ length: 2000 }, (_, i) => JSON.stringify({ id: `many-${i}` })).join('\n') });
});

test('every command that may answers with one document', async () => {
  const file = join(tmp.dir, 'doc.key'), made = await run(bin('roost'), ['keys', 'init', join(tmp.dir, 'docs'), '--director', 'ab'.repeat(32), '--home', 'h:1']);
  const lines = made.stdout.split('\n'), at = lines.findIndex((l) => l.includes('release-1'));
  const restored = await run(bin('roost'), ['keys', 'restore', file, '--role', 'release', '--json'], { input: `${lines.slice(at + 1, at + 3).join('\n')}\n\n` });
  assert.deepEqual(Object.keys(JSON.parse(restored.stdout)), ['file', 'role', 'id']);
  const dirs = [await release('docs', '1.0.0', 1, image('d1', 5000), false), await release('docs', '1.0.1', 1, image('d2', 5000), false)];
  const signed = await json('release', 'sign', ...dirs, '--key-file', file);
  assert.deepEqual(signed.map((r) => [r.version, r.signatures]), [['1.0.0', 1], ['1.0.1', 1]]);
  assert.equal((await json('release', 'verify', dirs[0], '--trust', join(tmp.dir, 'docs'))).valid, true);
  assert.deepEqual((await json('release', 'verify', ...dirs, '--trust', join(tmp.dir, 'docs'))).map((r) => r.valid), [true, true]);
  await good('device', 'create', 'doc-1');
  const some = await cli('device', 'create', 'doc-2', 'doc-1', '--json');
  assert.equal(some.code, 3);
  assert.deepEqual(JSON.parse(some.stdout).map((d) => d.id), ['doc-2'], 'whose key is not lost by the refusal of the next');
  await hub.api('PUT', '/roost/v1/devices/doc-3', {});
  assert.equal((await hub.request('PUT', '/devices/doc-3?api-version=2021-04-12', { headers: { 'if-match': '*' }, body: { deviceId: 'doc-3', capabilities: { iotEdge: true } } })).status, 200);
  const content = { modulesContent: { $edgeAgent: { 'properties.desired': { a: 1 } }, $edgeHub: { 'properties.desired': {} } } };
  const applied = await run(bin('roost'), ['--hub', hub.dir, 'config', 'apply', 'doc-3', '--json'], { input: JSON.stringify(content) });
  assert.deepEqual(JSON.parse(applied.stdout), { device: 'doc-3' });
});

test('help, completion and unknown words', async () => {
  const roost = (...args) => run(bin('roost'), args, { ok: false });
  const all = await roost('--help');
  assert.equal(all.code, 0);
  for (const line of all.stdout.matchAll(/^ {2}([a-z][a-z -]*?) {2,}/gm)) {
    const help = await roost(...line[1].trim().split(' '), '--help');
    assert.equal(help.code, 0, line[1]);
    assert.ok(help.stdout.startsWith(`roost ${line[1].trim()}`), line[1]);
  }
  assert.equal((await roost()).code, 1);
  assert.match((await roost('devices', 'list')).stderr, /there is no command devices list\n {2}Is `roost device` meant\?/);
  assert.match((await roost('init', 'x')).stderr, /`roostd init DIR` makes a hub/);
  assert.equal((await roost('devices')).code, 1);
  for (const words of [['device', 'show', ''], ['twin', 'set', '', 'a=1'], ['module', 'show', 'x', ''], ['send', '', 'hi'], ['query', '']]) {
    const empty = await cli(...words);
    assert.equal(empty.code, 1, words.join(' '));
    assert.match(empty.stderr, /: an argument is empty\n {2}roost /);
  }
  await good('device', 'create', 'wordless');
  await good('send', 'wordless', '');
  const nobody = await cli('watch', 'nobody', '--no-follow');
  assert.equal(nobody.code, 0);
  assert.match(nobody.stderr, /there is no device "nobody" now/);
  const group = await roost('twin');
  assert.equal(group.code, 1);
  assert.match(group.stderr, /^ {2}roost twin show .*\n {2}roost twin set .*\n {2}roost twin watch /m);
  for (const words of [['twin', '--help'], ['help', 'twin'], ['twin', '-h']]) {
    const told = await roost(...words);
    assert.equal(told.code, 0);
    assert.equal(told.stderr, '');
    assert.match(told.stdout, /^roost twin show DEVICE.*\n {4}\S[^]*^roost twin watch /m);
  }
  assert.equal((await roost('device', 'list', '--nope')).code, 1);
  const script = (await roost('completion', 'bash')).stdout;
  const complete = async (words) => (await run('bash', ['-c', `${script}\nCOMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]}-1)); _roost; echo "\${COMPREPLY[*]}"`])).stdout.trim().split(' ');
  assert.deepEqual(await complete("roost de"), ['device']);
  const verbs = [...all.stdout.matchAll(/^ {2}device ([a-z-]+)/gm)].map((m) => m[1]);
  assert.deepEqual((await complete("roost device ''")).sort(), verbs.sort());
  assert.ok(verbs.includes('approve'));
  assert.ok((await complete("roost --hub x update --")).includes('--wait'));
  assert.deepEqual(await complete("roost device list --st"), ['--status']);
});
