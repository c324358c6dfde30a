// Modules, and devices that prove themselves with certificates, made with openssl as an operator would.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NAME, closeHub, deviceToken, newDevice, openHub, policyKey, run, sasToken, sendC2d, telemetry, tempDir, waitFor } from './lib/hub.mjs';
import { Raw, connected, refused } from './lib/raw.mjs';

let hub, files;
before(async () => {
  files = tempDir();
  hub = await openHub();
});
after(async () => {
  await closeHub(hub);
  files.remove();
});

// ---- modules ----

async function newModule(device, id) {
  const m = await hub.api('PUT', `/roost/v1/devices/${device.id}/modules/${encodeURIComponent(id)}`, {});
  return { id: `${device.id}/${id}`, device: device.id, module: id, key: m.primaryKey, key2: m.secondaryKey, connectionString: m.connectionString };
}
const moduleToken = (m, key = m.key) => sasToken(`${NAME}/devices/${m.device}/modules/${m.module}`, key);
// How the hub says that a message's sender proved itself.
function authMethod(row) {
  const { scope, type } = JSON.parse(row.system['iothub-connection-auth-method']);
  return { scope, type };
}
const hello = (m, more) => ({ password: moduleToken(m), ...more });

test('[mqtt 22] [mqtt 31] a module connects beside its device, and its telemetry carries its name', async () => {
  const device = await newDevice(hub), m = await newModule(device, 'sensor');
  assert.match(m.connectionString, new RegExp(`;DeviceId=${device.id};ModuleId=sensor;SharedAccessKey=`));
  const d = await connected(hub, device);
  const c = await connected(hub, m, hello(m));
  await c.publish(`devices/${device.id}/modules/sensor/messages/events/a=b`, 'from the module');
  await d.publish(`devices/${device.id}/messages/events/`, 'from the device');
  const rows = await telemetry(hub, device.id, 2);
  assert.deepEqual(rows.map((r) => [r.module ?? '', r.body]), [['sensor', 'from the module'], ['', 'from the device']]);
  assert.deepEqual(authMethod(rows[0]), { scope: 'module', type: 'sas' });
  assert.deepEqual(authMethod(rows[1]), { scope: 'device', type: 'sas' });
  await d.quiet();
  await c.quiet();
  const other = await connected(hub, m, { password: moduleToken(m, m.key2) }); // takes over from the module alone
  await c.expectClose();
  await d.quiet();
  await other.disconnect();
  await d.disconnect();
});

test('[mqtt 22] a module has keys of its own', async () => {
  const device = await newDevice(hub), m = await newModule(device, 'm1'), other = await newModule(device, 'm2');
  await refused(hub, m, { password: deviceToken(device) });
  await refused(hub, m, { password: moduleToken({ ...m, key: other.key }) });
  await refused(hub, m, { password: moduleToken(other) });
  await refused(hub, { ...m, id: `${device.id}/m3` }, hello(m));
  const key = policyKey(hub, 'device');
  const c = await connected(hub, m, { password: sasToken(`${NAME}/devices`, key, 'device') });
  await c.disconnect();
});

test('a module is thrown out when it, or its device, is deleted or disabled', async () => {
  const device = await newDevice(hub), a = await newModule(device, 'a'), b = await newModule(device, 'b');
  const ca = await connected(hub, a, hello(a)), cb = await connected(hub, b, hello(b));
  await hub.api('DELETE', `/roost/v1/devices/${device.id}/modules/a`);
  await ca.expectClose();
  await cb.quiet();
  await refused(hub, a, hello(a));
  await hub.api('PUT', `/roost/v1/devices/${device.id}`, { status: 'disabled' });
  await cb.expectClose();
  await refused(hub, b, hello(b));
  await hub.api('PUT', `/roost/v1/devices/${device.id}`, { status: 'enabled' });
  const again = await connected(hub, b, hello(b));
  await hub.api('DELETE', `/roost/v1/devices/${device.id}`);
  await again.expectClose();
  await hub.api('PUT', `/roost/v1/devices/${device.id}`, {});
  await refused(hub, b, hello(b)); // it went with its device
});

test('a module is seen as connected', async () => {
  const device = await newDevice(hub), m = await newModule(device, 'seen');
  const state = async () => (await hub.api('GET', `/roost/v1/devices/${device.id}/modules/seen`)).connected;
  assert.equal(await state(), false);
  const c = await connected(hub, m, hello(m));
  await waitFor('the module to be shown as connected', state);
  assert.equal((await hub.api('GET', `/roost/v1/devices/${device.id}`)).connected, false);
  await c.disconnect();
  await waitFor('the module to be shown as gone', async () => !await state());
});

test('[mqtt 54] the filter of everything of a module is granted, and brings its messages', async () => {
  const device = await newDevice(hub), m = await newModule(device, 'down');
  await sendC2d(hub, device.id, { body: 'for the device' });
  const c = await connected(hub, m, hello(m));
  assert.deepEqual(await c.subscribe(`devices/${device.id}/modules/down/#`), [1]);
  await c.quiet(); // the device's message is not the module's
  await sendModule(device.id, 'down', { body: 'for the module', messageId: 'm-1' });
  const p = await c.expect('publish');
  assert.equal(p.payload.toString(), 'for the module');
  assert.ok(p.topic.startsWith(`devices/${device.id}/modules/down/messages/devicebound/%24.mid=m-1`), p.topic);
  assert.ok(p.topic.includes(`%24.to=%2Fdevices%2F${device.id}%2Fmodules%2Fdown%2Fmessages%2Fdevicebound`), p.topic);
  c.puback(p);
  await c.quiet();
  await c.disconnect();
});
const sendModule = (device, module, message) => hub.api('POST', `/roost/v1/devices/${device}/modules/${module}/messages`, message);

test('a device has 50 modules and no more', async () => {
  const device = await newDevice(hub);
  for (let i = 0; i < 50; i++) await newModule(device, `m${i}`);
  const r = await hub.request('PUT', `/roost/v1/devices/${device.id}/modules/more`, { body: {} });
  assert.equal(r.status, 409);
  assert.equal((await hub.api('GET', `/roost/v1/devices/${device.id}/modules`)).modules.length, 50);
});

// ---- certificates ----

const openssl = (...args) => run('openssl', args);
let made = 0;
// by: { key, crt } of who signs, or nothing: it signs itself. Answers what tls.connect takes, and the thumbprints.
async function certificate(cn, { by, ca = false, days = 30, digest = 'sha256' } = {}) {
  const base = join(files.dir, `c${++made}`);
  const f = { key: `${base}.key`, crt: `${base}.crt` };
  await openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', f.key);
  writeFileSync(`${base}.ext`, `basicConstraints=critical,CA:${ca ? 'TRUE' : 'FALSE'}\n`);
  await openssl('req', '-new', '-key', f.key, '-subj', `/CN=${cn}`, '-out', `${base}.csr`);
  await openssl('x509', '-req', '-in', `${base}.csr`, '-days', `${days}`, `-${digest}`, '-extfile', `${base}.ext`, '-out', f.crt,
    ...(by ? ['-CA', by.crt, '-CAkey', by.key, '-set_serial', `${made}`] : ['-signkey', f.key]));
  const print = async (hash) => (await openssl('x509', '-in', f.crt, '-noout', '-fingerprint', `-${hash}`)).stdout.split('=')[1].trim().replaceAll(':', '');
  return { ...f, sha1: await print('sha1'), sha256: await print('sha256'), pem: readFileSync(f.crt, 'utf8'),
    tls: { key: readFileSync(f.key, 'utf8'), cert: readFileSync(f.crt, 'utf8') } };
}
async function signIn(device, cert, options = { password: null }, ws) {
  const c = ws ? await Raw.ws(hub, { ...ws, tls: cert?.tls ?? {} }) : await Raw.tls(hub, cert?.tls ?? {});
  const ack = await c.hello(device, options);
  if (ack.returnCode === 0) await c.quiet();
  else await c.expectClose();
  return { code: ack.returnCode, c };
}
async function code(device, cert, options, ws) {
  const r = await signIn(device, cert, options, ws);
  if (r.code === 0) await r.c.disconnect();
  return r.code;
}
const register = (id, body) => hub.api('PUT', `/roost/v1/devices/${id}`, body);

test('[mqtt 10] an unknown certificate does not stand in the way of a token', async () => {
  const device = await newDevice(hub);
  assert.equal(await code(device, await certificate('anybody'), {}), 0);
});

test('[mqtt 47] [mqtt 48] a certificate by its thumbprint', async () => {
  const one = await certificate('one'), two = await certificate('two'), other = await certificate('one');
  const made = await register('thumbs', { authentication: 'selfSigned', thumbprint: one.sha1, thumbprint2: two.sha256.toLowerCase() });
  assert.equal(made.connectionString, `HostName=${NAME};DeviceId=thumbs;x509=true`);
  assert.equal(made.primaryKey, undefined);
  const again = await hub.request('PUT', '/roost/v1/devices/thumbs', { body: { authentication: 'certificateAuthority' } });
  assert.deepEqual([again.status, again.json.error.code], [409, 'authentication-differs']);
  assert.equal((await hub.request('PUT', '/roost/v1/devices/thumbs', { body: { thumbprint: one.sha1, thumbprint2: two.sha256.toLowerCase() } })).status, 200);
  const { c, code: first } = await signIn({ id: 'thumbs' }, one);
  assert.equal(first, 0);
  await c.publish('devices/thumbs/messages/events/', 'x');
  assert.deepEqual(authMethod((await telemetry(hub, 'thumbs', 1))[0]), { scope: 'device', type: 'x509' });
  await c.disconnect();
  assert.equal(await code({ id: 'thumbs' }, two), 0);
  assert.equal(await code({ id: 'thumbs' }, two, { password: '' }), 0); // an empty password is none
  assert.equal(await code({ id: 'thumbs' }, other), 5);
  assert.equal(await code({ id: 'thumbs' }), 5);
});

test('[mqtt 49] a certificate by its authority', async () => {
  const root = await certificate('the plant', { ca: true });
  const line = await certificate('line 1', { ca: true, by: root });
  const good = await certificate('signed', { by: root }), wrong = await certificate('Signed', { by: root });
  const deep = await certificate('signed', { by: line }), stranger = await certificate('signed');
  await register('signed', { authentication: 'certificateAuthority' });
  assert.equal(await code({ id: 'signed' }, good), 5); // nobody vouches yet
  const put = await hub.request('PUT', '/roost/v1/ca/plant', { body: root.pem, headers: { 'content-type': 'application/x-pem-file' } });
  assert.equal(put.status, 201);
  assert.equal(await code({ id: 'signed' }, good), 0);
  assert.equal(await code({ id: 'signed' }, wrong), 5);
  assert.equal(await code({ id: 'signed' }, stranger), 5);
  assert.equal(await code({ id: 'signed' }, deep), 5); // what stands between is missing
  assert.equal(await code({ id: 'signed' }, { tls: { ...deep.tls, cert: deep.pem + line.pem } }), 0);
  assert.equal((await hub.request('PUT', '/roost/v1/ca/leaf', { body: good.pem })).status, 400); // may not sign
  assert.equal((await hub.request('PUT', '/roost/v1/ca/leaf', { body: 'no pem' })).status, 400);
  const weak = await hub.request('PUT', '/roost/v1/ca/weak', { body: (await certificate('weak', { ca: true, digest: 'sha1' })).pem });
  assert.deepEqual([weak.status, weak.json.error.code], [400, 'weak-certificate']);
  const { authorities } = await hub.api('GET', '/roost/v1/ca');
  assert.deepEqual(authorities.map((a) => [a.name, a.subject, a.sha256]), [['plant', '/CN=the plant', root.sha256.toLowerCase()]]);
  await hub.api('DELETE', '/roost/v1/ca/plant');
  assert.equal(await code({ id: 'signed' }, good), 5);
});

test('[mqtt 47] [mqtt 48] [mqtt 49] [mqtt 50] certificates in WebSockets, of devices and modules', async () => {
  const root = await certificate('ws plant', { ca: true });
  await hub.request('PUT', '/roost/v1/ca/ws-plant', { body: root.pem });
  const own = await certificate('anything'), signed = await certificate('ws-signed', { by: root });
  const module = await certificate('ws-signed\\/camera', { by: root });
  await register('ws-thumb', { authentication: 'selfSigned', thumbprint: own.sha256 });
  await register('ws-signed', { authentication: 'certificateAuthority' });
  await hub.api('PUT', '/roost/v1/devices/ws-signed/modules/camera', { authentication: 'certificateAuthority' });
  await hub.api('PUT', '/roost/v1/devices/ws-signed/modules/thumb', { authentication: 'selfSigned', thumbprint: own.sha1 });
  const none = { password: null };
  for (const ws of [{}, { path: '/$iothub/websocket?iothub-no-client-cert=false', protocol: 'MQTT' }]) {
    for (const [id, cert, want] of [['ws-thumb', own, 0], ['ws-thumb', signed, 5], ['ws-thumb', null, 5], ['ws-signed', signed, 0], ['ws-signed', module, 5],
      ['ws-signed', own, 5], ['ws-signed/camera', module, 0], ['ws-signed/camera', signed, 5], ['ws-signed/thumb', own, 0], ['ws-signed/thumb', module, 5]])
      assert.equal(await code({ id }, cert, none, ws), want, `${id} ${JSON.stringify(ws)}`);
  }
  const { c } = await signIn({ id: 'ws-signed/camera' }, module, none, {});
  await c.publish('devices/ws-signed/modules/camera/messages/events/', 'x');
  assert.deepEqual(authMethod((await telemetry(hub, 'ws-signed', 1))[0]), { scope: 'module', type: 'x509' });
  await hub.api('DELETE', '/roost/v1/ca/ws-plant'); // what vouched for it is gone, and so is it
  await c.expectClose();
});

test('[mqtt 45] [mqtt 49] an authority that is removed takes the connections along of whom it vouched for', async () => {
  const root = await certificate('leaves', { ca: true }), stays = await certificate('stays', { ca: true });
  await hub.request('PUT', '/roost/v1/ca/leaves', { body: root.pem });
  await hub.request('PUT', '/roost/v1/ca/stays', { body: stays.pem });
  for (const id of ['of-leaves', 'of-stays']) await register(id, { authentication: 'certificateAuthority' });
  const { c: gone } = await signIn({ id: 'of-leaves' }, await certificate('of-leaves', { by: root }));
  const { c: kept } = await signIn({ id: 'of-stays' }, await certificate('of-stays', { by: stays }));
  await hub.api('DELETE', '/roost/v1/ca/leaves');
  await gone.expectClose();
  await kept.publish('devices/of-stays/messages/events/', 'x');
  await kept.disconnect();
});

test('[mqtt 45] new keys end the connections of the old ones, in WebSockets as well', async () => {
  const device = await newDevice(hub), m = await newModule(device, 'keys');
  const c = await connected(hub, device), cm = await connected(hub, m, hello(m, { password: moduleToken(m, m.key2) }));
  const regenerate = (policyKey, ...devices) =>
    hub.request('POST', '/devices/keys/regenerate?api-version=2024-03-31', { body: { policyKey, devices } });
  assert.equal((await regenerate('secondaryKey', { id: device.id })).status, 200); // not the one it used
  assert.equal((await regenerate('primaryKey', { id: device.id, moduleId: 'keys' })).status, 200);
  await c.publish(`devices/${device.id}/messages/events/`, 'x');
  await cm.publish(`devices/${device.id}/modules/keys/messages/events/`, 'x');
  assert.equal((await regenerate('both', { id: device.id, moduleId: 'keys' })).status, 200);
  await cm.expectClose();
  await c.publish(`devices/${device.id}/messages/events/`, 'x');
  await c.disconnect();
  const w = await Raw.ws(hub);
  assert.equal((await w.hello(device)).returnCode, 0);
  assert.equal((await regenerate('primaryKey', { id: device.id })).status, 200);
  await w.expectClose();
  await refused(hub, device);
});

test('a chain with a key or a signature that can be forged proves nothing', async () => {
  const root = await certificate('weak', { ca: true });
  await hub.request('PUT', '/roost/v1/ca/weak', { body: root.pem });
  await register('weak-1', { authentication: 'certificateAuthority' });
  assert.equal(await code({ id: 'weak-1' }, await certificate('weak-1', { by: root })), 0);
  assert.notEqual(await code({ id: 'weak-1' }, await certificate('weak-1', { by: root, digest: 'sha1' })).catch(() => 'no TLS'), 0);
});

test('[mqtt 50] a device with a certificate does not come in by a token', async () => {
  const cert = await certificate('only-cert');
  await register('only-cert', { authentication: 'selfSigned', thumbprint: cert.sha256 });
  const key = policyKey(hub, 'device');
  const password = sasToken(`${NAME}/devices`, key, 'device');
  assert.equal(await code({ id: 'only-cert' }, null, { password }), 5);
  assert.equal(await code({ id: 'only-cert' }, cert, { password }), 5); // a password that is there is what counts
  assert.equal(await code({ id: 'only-cert' }, cert), 0);
  const device = await newDevice(hub); // and the other way round
  assert.equal(await code(device, cert), 5);
});

test('a certificate after a restart of the hub', async () => {
  const root = await certificate('lasting', { ca: true }), cert = await certificate('lasting-1', { by: root });
  await hub.request('PUT', '/roost/v1/ca/lasting', { body: root.pem });
  await register('lasting-1', { authentication: 'certificateAuthority' });
  assert.equal(await code({ id: 'lasting-1' }, cert), 0);
  await hub.stop('SIGKILL');
  await hub.start();
  assert.equal(await code({ id: 'lasting-1' }, cert), 0);
});

// ---- the command line ----

test('the command line registers authorities, devices with certificates, and modules', async () => {
  const root = await certificate('cli root', { ca: true }), cert = await certificate('cli-ca', { by: root });
  const out = async (...args) => (await hub.roost(...args)).stdout.trim();
  await out('ca', 'add', 'cli', root.crt);
  const [row] = JSON.parse(await out('ca', 'list', '--json')).authorities.filter((a) => a.name === 'cli');
  assert.equal(row.subject, '/CN=cli root');
  assert.equal(await out('device', 'create', 'cli-ca', '--ca'), `HostName=${NAME};DeviceId=cli-ca;x509=true`);
  assert.equal(await code({ id: 'cli-ca' }, cert), 0);
  await out('device', 'create', 'cli-thumb', '--thumbprint', cert.sha1, '--thumbprint2', cert.sha256);
  const shown = JSON.parse(await out('device', 'show', 'cli-thumb', '--json'));
  assert.deepEqual([shown.authentication, shown.thumbprint, shown.thumbprint2], ['selfSigned', cert.sha1, cert.sha256]);
  assert.equal((await hub.roost('device', 'create', 'x', '--ca', '--thumbprint', cert.sha1, { ok: false })).code, 1);
  assert.equal((await hub.roost('device', 'create', 'x', '--thumbprint', 'aa:bb', { ok: false })).code, 3);
  const connection = await out('device', 'create', 'cli-sas');
  assert.equal(await out('device', 'connection-string', 'cli-sas'), connection);
  assert.match(await out('module', 'create', 'cli-sas', 'm1', '--managed-by', 'me'), /;DeviceId=cli-sas;ModuleId=m1;SharedAccessKey=/);
  const { modules } = JSON.parse(await out('module', 'list', 'cli-sas', '--json'));
  assert.deepEqual(modules.map((m) => [m.id, m.managedBy, m.authentication, m.connected]), [['m1', 'me', 'sas', false]]);
  assert.equal(JSON.parse(await out('module', 'show', 'cli-sas', 'm1', '--json')).device, 'cli-sas');
  await out('module', 'delete', 'cli-sas', 'm1');
  assert.notEqual((await hub.roost('module', 'show', 'cli-sas', 'm1', { ok: false })).code, 0);
  await out('ca', 'delete', 'cli');
  assert.equal(await code({ id: 'cli-ca' }, cert), 5);
  assert.match(await out('completion', 'bash'), /connection-string/);
});
