// Rates, counts and times: small rates, so that few requests reach them; what a burst allows is a minute's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken, newDevice, openHub, policyKey, sendC2d, waitFor } from './lib/hub.mjs';
import { Raw, connected } from './lib/raw.mjs';

const VERSION = 'api-version=2021-04-12';
let hub, plain;
before(async () => {
  plain = await openHub();
  hub = await openHub({ settings: { rates: { queries: 3, methods: 5, twin_reads: 4, twin_updates: 3, c2d_sends: 2, connections: 12, d2c_sends: 30, wait_ms: 3000,
    registry: 1000, policies: '"registryRead.registry=4, registryReadWrite.registry=150"' } } });
});
after(async () => {
  await closeHub(hub);
  await closeHub(plain);
});

const ask = (method, path, { body, policy, at = hub } = {}) => at.request(method, `${path}${path.includes('?') ? '&' : '?'}${VERSION}`,
  { body, ...(policy && { policy: { name: policy, key: policyKey(at, policy) } }) });
const query = (at) => ask('POST', '/devices/query', { at, body: { query: 'SELECT * FROM devices' } });
async function throttled(promise, operation) {
  const r = await promise;
  assert.equal(r.status, 429, `${r.body}`);
  assert.equal(r.headers['iothub-errorcode'], 'ThrottlingException');
  assert.equal(r.headers['retry-after'], undefined);
  assert.match(r.json.Message ?? '', /ErrorCode:ThrottlingException;|"errorCode":429001/);
  assert.match(r.body.toString(), new RegExp(`operation type: ${operation}`));
}
async function metric(name, operation) {
  const r = await fetch(`http://127.0.0.1:${hub.ops}/metrics`);
  const m = new RegExp(`^roost_${name}{operation="${operation}"} (\\d+)$`, 'm').exec(await r.text());
  return Number(m[1]);
}

test('[limits 1] [limits 2] [limits 10] a rate is used up, another is not; refusals are counted', async () => {
  for (let i = 0; i < 3; i++) assert.equal((await query()).status, 200);
  await throttled(query(), 'queries');
  await throttled(query(), 'queries');
  assert.equal((await ask('GET', '/statistics/devices')).status, 200);
  assert.equal(await metric('throttle_refused_total', 'queries'), 2);
  assert.equal(await metric('throttle_refused_total', 'registry'), 0);
});

test('[limits 11] the own interface has the same rates, and says when to come again', async () => {
  const { id } = await newDevice(hub);
  for (let i = 0; i < 2; i++) await sendC2d(hub, id, { body: 'x' });
  const r = await hub.request('POST', `/roost/v1/devices/${id}/messages`, { body: { body: 'x' } });
  assert.equal(r.status, 429);
  assert.equal(r.json.error.code, 'throttled');
  assert.ok(Number(r.headers['retry-after']) >= 1);
  const other = await hub.request('POST', '/roost/v1/query', { body: { query: 'SELECT * FROM devices' } });
  assert.equal(other.json?.error?.code, 'throttled'); // the test before has used them up: one rate, two interfaces
});

test('[limits 5] a policy has rates of its own', async () => {
  const policy = 'registryRead';
  for (let i = 0; i < 4; i++) assert.equal((await ask('GET', '/statistics/devices', { policy })).status, 200);
  await throttled(ask('GET', '/devices/none', { policy }), 'registry');
  assert.equal((await ask('GET', '/statistics/devices')).status, 200); // another policy's
});

test('[limits 3] [limits 32] a bulk request counts its entries, at most a hundred', async () => {
  const bulk = (nr, tag) => ask('POST', '/devices', { policy: 'registryReadWrite',
    body: Array.from({ length: nr }, (_, i) => ({ id: `${tag}-${i}`, importMode: 'create' })) });
  assert.equal((await bulk(100, 'a')).status, 200);
  await throttled(bulk(100, 'b'), 'registry');
  assert.equal((await ask('GET', '/devices/b-0')).status, 404); // nothing of it was done
  assert.equal((await bulk(30, 'c')).status, 200);
  await throttled(ask('POST', '/devices/keys/regenerate', { policy: 'registryReadWrite',
    body: { policyKey: 'primaryKey', devices: Array.from({ length: 40 }, (_, i) => ({ id: `a-${i}` })) } }), 'registry');
  const over = await ask('POST', '/devices', { at: plain, body: Array.from({ length: 101 }, (_, i) => ({ id: `d-${i}`, importMode: 'create' })) });
  assert.equal(over.status, 413);
  assert.equal(over.headers['iothub-errorcode'], 'TooManyDevices');
  assert.equal((await ask('GET', '/devices/d-0', { at: plain })).status, 404);
});

test('[limits 4] direct methods count by 4 KiB', async () => {
  const call = (payload) => ask('POST', '/twins/nobody/methods', { body: { methodName: 'm', payload } });
  assert.equal((await call('x'.repeat(9000))).status, 404); // three
  assert.equal((await call('x')).status, 404);
  assert.equal((await call('x')).status, 404);
  await throttled(call('x'), 'methods');
});

test('[limits 9] twins: 429 on either side', async () => {
  const device = await newDevice(hub);
  const c = await connected(hub, device);
  await c.subscribe('$iothub/twin/res/#');
  const request = async (topic, payload) => {
    c.send({ cmd: 'publish', topic, payload, qos: 0 });
    return c.expect('publish');
  };
  for (let i = 0; i < 2; i++) {
    assert.equal((await ask('GET', `/twins/${device.id}`)).status, 200);
    assert.match((await request(`$iothub/twin/GET/?$rid=g${i}`, '')).topic, /^\$iothub\/twin\/res\/200\//);
  }
  const refused = await request('$iothub/twin/GET/?$rid=last', '');
  assert.match(refused.topic, /^\$iothub\/twin\/res\/429\/\?\$rid=last/);
  assert.equal(JSON.parse(refused.payload).errorCode, 429001);
  await throttled(ask('GET', `/twins/${device.id}`), 'twin_reads');
  for (let i = 0; i < 3; i++)
    assert.match((await request(`$iothub/twin/PATCH/properties/reported/?$rid=p${i}`, `{"n":${i}}`)).topic, /^\$iothub\/twin\/res\/204\//);
  assert.match((await request('$iothub/twin/PATCH/properties/reported/?$rid=p', '{"n":9}')).topic, /^\$iothub\/twin\/res\/429\//);
  await throttled(ask('PATCH', `/twins/${device.id}`, { body: { tags: { a: 1 } } }), 'twin_updates');
  await c.disconnect();
});

test('[limits 6] [limits 7] telemetry over the rate waits; who would wait too long is closed', async () => {
  const devices = await Promise.all(Array.from({ length: 6 }, () => newDevice(hub)));
  const [first, ...others] = await Promise.all(devices.map((d) => connected(hub, d)));
  const topic = (d) => `devices/${d.id}/messages/events/`;
  for (let i = 1; i <= 32; i++) first.send({ cmd: 'publish', topic: topic(devices[0]), payload: `${i}`, qos: 1, messageId: i });
  for (let i = 1; i <= 32; i++) assert.equal((await first.expect('puback')).messageId, i); // every one, in order
  assert.ok(await metric('throttle_delayed_total', 'd2c_sends') >= 1);
  assert.equal(await metric('throttle_refused_total', 'd2c_sends'), 0);
  others.forEach((c, i) => c.send({ cmd: 'publish', topic: topic(devices[i + 1]), payload: 'x', qos: 1, messageId: 1 }));
  const ends = await Promise.all(others.map((c) => Promise.race([c.expect('puback').then(() => 'stored', () => 'closed'), c.end.then(() => 'closed')])));
  const closed = ends.filter((e) => e === 'closed').length;
  assert.ok(closed >= 1, `${ends}`);
  assert.equal(await metric('throttle_refused_total', 'd2c_sends'), closed);
  for (const c of [first, ...others]) if (!c.closed) await c.disconnect();
});

test('[limits 8] new sessions over the rate are told to come later', async () => {
  const device = await newDevice(hub);
  let code;
  for (let i = 0; i < 13 && !code; i++) {
    const c = await Raw.tls(hub);
    code = (await c.hello(device)).returnCode;
    if (code) await c.expectClose();
    else c.socket.destroy();
  }
  assert.equal(code, 3);
  assert.ok(await metric('throttle_refused_total', 'connections') >= 1);
});

test('[limits 12] nothing is limited by default', async () => {
  for (let i = 0; i < 50; i++) assert.equal((await query(plain)).status, 200);
  assert.doesNotMatch(await (await fetch(`http://127.0.0.1:${plain.ops}/metrics`)).text(), /roost_throttle/);
});

// ---- activity ----------------------------------------------------------------------------------------------

const identity = async (id) => (await ask('GET', `/devices/${id}`, { at: plain })).json;
const connectedAs = (id) => waitFor('the connection to be written', async () => {
  const d = await identity(id);
  return d.connectionState === 'Connected' && d;
});
const later = (id, than) => waitFor('a later activity', async () => {
  const d = await identity(id);
  return d.lastActivityTime > than && d;
});

test('[limits 20] telemetry moves the time of the last activity', async () => {
  const device = await newDevice(plain);
  const c = await connected(plain, device);
  const was = await connectedAs(device.id);
  await c.publish(`devices/${device.id}/messages/events/`, 'x');
  const is = await later(device.id, was.lastActivityTime);
  assert.equal(is.connectionState, 'Connected');
  assert.equal(is.connectionStateUpdatedTime, was.connectionStateUpdatedTime);
  await c.disconnect();
});

test('[limits 20] and over HTTPS, without being connected', async () => {
  const device = await newDevice(plain);
  const was = await identity(device.id);
  assert.equal(was.lastActivityTime, '0001-01-01T00:00:00Z');
  const r = await plain.request('POST', `/devices/${device.id}/messages/events?${VERSION}`, { body: 'x', token: deviceToken(device) });
  assert.equal(r.status, 204, `${r.body}`);
  assert.equal((await later(device.id, was.lastActivityTime)).connectionState, 'Disconnected');
});

test('[limits 21] a command that came moves it too', async () => {
  const device = await newDevice(plain);
  const c = await connected(plain, device);
  await c.subscribe(`devices/${device.id}/messages/devicebound/#`);
  const was = await connectedAs(device.id);
  await sendC2d(plain, device.id, { body: 'x' });
  c.puback(await c.expect('publish'));
  await later(device.id, was.lastActivityTime);
  await c.disconnect();
});

// ---- counts ------------------------------------------------------------------------------------------------

test('[limits 30] twenty-five certificate authorities', async () => {
  const put = (n) => plain.request('PUT', `/roost/v1/ca/a${n}`, { body: plain.ca, headers: { 'content-type': 'application/x-pem-file' } });
  for (let n = 0; n < 25; n++) assert.equal((await put(n)).status, 201);
  const over = await put(25);
  assert.equal(over.status, 409);
  assert.equal(over.json.error.code, 'too-many-authorities');
  assert.equal((await put(7)).status, 200); // replaced
});

test('[limits 31] a device has fifty modules', async () => {
  const { id } = await newDevice(plain);
  const add = (n) => ask('PUT', `/devices/${id}/modules/m${n}`, { at: plain, body: { deviceId: id, moduleId: `m${n}` } });
  for (let n = 0; n < 50; n++) assert.equal((await add(n)).status, 200);
  const over = await add(50);
  assert.equal(over.status, 413);
  assert.equal(over.headers['iothub-errorcode'], 'TooManyModulesOnDevice');
  assert.equal((await add(0)).status === 413, false); // one that is there is not one more
});

test('[limits 33] a listing has at most a thousand identities', async () => {
  for (let at = 0; at < 1001; at += 100)
    assert.equal((await ask('POST', '/devices', { at: plain,
      body: Array.from({ length: Math.min(100, 1001 - at) }, (_, i) => ({ id: `l-${at + i}`, importMode: 'create' })) })).status, 200);
  assert.equal((await ask('GET', '/devices?top=1000', { at: plain })).json.length, 1000);
  assert.ok((await ask('GET', '/devices?top=1001', { at: plain })).status === 400 || (await ask('GET', '/devices?top=1001', { at: plain })).json.length === 1000);
});

test('[limits 34] a query has at most 8,192 characters', async () => {
  const text = (n) => 'SELECT * FROM devices WHERE deviceId = \''.padEnd(n - 1, 'x') + '\'';
  assert.equal((await ask('POST', '/devices/query', { at: plain, body: { query: text(8192) } })).status, 200);
  assert.equal((await ask('POST', '/devices/query', { at: plain, body: { query: text(8193) } })).status, 400);
  const wide = (n) => text(n).replaceAll('x', 'ü'); // of two bytes each
  assert.equal((await ask('POST', '/devices/query', { at: plain, body: { query: wide(8192) } })).status, 200);
  assert.equal((await ask('POST', '/devices/query', { at: plain, body: { query: wide(8193) } })).status, 400);
});

// ---- the end of that hub -----------------------------------------------------------------------------------

test('[limits 22] who was connected when the hub crashed is away since it started again', async () => {
  const device = await newDevice(plain);
  await connected(plain, device);
  const was = await connectedAs(device.id);
  await plain.stop('SIGKILL');
  const killed = new Date().toISOString();
  await plain.start();
  const is = await identity(device.id);
  assert.equal(is.connectionState, 'Disconnected');
  assert.ok(is.connectionStateUpdatedTime > killed, `${is.connectionStateUpdatedTime} ${killed}`);
  assert.equal(is.lastActivityTime, was.lastActivityTime);
});
