// Counts and sizes: each is reached, and passed by one. What is at the limit is taken; what is over it is refused with
// Azure's error, and changes nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken, newDevice, openHub, sendC2d } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const VERSION = 'api-version=2021-04-12';
let hub, device;
before(async () => {
  hub = await openHub();
  device = await newDevice(hub);
});
after(async () => { await closeHub(hub); });

const ask = (method, path, body, options = {}) => hub.request(method, `${path}${path.includes('?') ? '&' : '?'}${VERSION}`, { body, ...options });
const own = (method, path, body) => hub.request(method, `/roost/v1${path}`, { body });
const good = async (promise, status = 200) => {
  const r = await promise;
  assert.equal(r.status, status, `${r.body}`);
  return r;
};
const refused = async (promise, status, name) => {
  const r = await promise;
  assert.deepEqual([r.status, r.headers['iothub-errorcode'] ?? r.json?.error?.code ?? r.headers['x-ms-error-code']], [status, name], `${r.body}`);
  return r;
};

// ---- counts ------------------------------------------------------------------------------------------------

test('[limits 35] [limits 36] [limits 37] a hundred routes, ten endpoints, ten enrichments', async () => {
  for (let i = 0; i < 10; i++) await good(own('PUT', `/endpoints/e${i}`, { kind: 'stream' }), 201);
  await refused(own('PUT', '/endpoints/e10', { kind: 'stream' }), 409, 'too-many');
  await good(own('PUT', '/endpoints/e9', { kind: 'stream' })); // one that is there is not one more
  for (let i = 0; i < 100; i++) await good(own('PUT', `/routes/r${i}`, { source: 'TwinChangeEvents', endpoints: ['e0'] }), 201);
  await refused(own('PUT', '/routes/r100', { source: 'TwinChangeEvents', endpoints: ['e0'] }), 409, 'too-many');
  for (let i = 0; i < 10; i++) await good(own('PUT', `/enrichments/k${i}`, { value: 'v', endpoints: ['e0'] }), 201);
  await refused(own('PUT', '/enrichments/k10', { value: 'v', endpoints: ['e0'] }), 409, 'too-many');
  assert.equal((await own('GET', '/routes')).json.routes.length, 100);
  for (let i = 0; i < 100; i++) await good(own('DELETE', `/routes/r${i}`), 204);
});

test('[limits 38] a hundred configurations of devices and modules, a hundred deployments', async () => {
  const put = (id, content) => ask('PUT', `/configurations/${id}`, { id, content, targetCondition: 'tags.none = 1', priority: 1 });
  const content = [{ deviceContent: { 'properties.desired.x': 1 } }, { modulesContent: { $edgeAgent: { 'properties.desired': {} } } }];
  for (const kind of [0, 1]) {
    for (let i = 0; i < 100; i++) await good(put(`c${kind}-${i}`, content[kind]));
    await refused(put(`c${kind}-100`, content[kind]), 413, 'ConfigurationCountLimitExceeded');
    await refused(own('PUT', `/configurations/c${kind}-100`, { content: content[kind], where: 'tags.none = 1' }), 409, 'too-many-configurations');
  }
  for (const kind of [0, 1]) for (let i = 0; i < 100; i++) await good(ask('DELETE', `/configurations/c${kind}-${i}`, undefined, { headers: { 'if-match': '*' } }), 204);
});

test('[limits 39] [limits 40] five metrics of a configuration, fifty modules of a deployment', async () => {
  const metrics = (nr) => ask('PUT', `/configurations/m${nr}`, { id: `m${nr}`, content: { deviceContent: { 'properties.desired.x': 1 } }, targetCondition: 'tags.none = 1', priority: 1,
    metrics: { queries: Object.fromEntries(Array.from({ length: nr }, (_, i) => [`q${i}`, 'SELECT deviceId FROM devices'])) } });
  await good(metrics(5));
  await refused(metrics(6), 400, 'InvalidConfigurationCustomMetricsQuery');
  const modules = (nr) => ask('PUT', `/configurations/d${nr}`, { id: `d${nr}`, targetCondition: 'tags.none = 1', priority: 1,
    content: { modulesContent: { $edgeAgent: { 'properties.desired': {} }, ...Object.fromEntries(Array.from({ length: nr - 1 }, (_, i) => [`m${i}`, { 'properties.desired': {} }])) } } });
  await good(modules(50));
  await refused(modules(51), 400, 'InvalidConfigurationContent');
});

test('[limits 41] [limits 42] ten jobs at a time, a week ahead at most', async () => {
  const job = (jobId, hours) => ask('PUT', `/jobs/v2/${jobId}`, { jobId, type: 'scheduleUpdateTwin', queryCondition: "deviceId = 'nobody'", updateTwin: { etag: '*', tags: { a: 1 } },
    startTime: new Date(Date.now() + hours * 3600e3).toISOString(), maxExecutionTimeInSeconds: 60 });
  await refused(job('too-far', 168.02), 400, 'ArgumentInvalid');
  for (let i = 0; i < 10; i++) await good(job(`j-${i}`, 167.98));
  await refused(job('j-10', 1), 429, 'ThrottlingMaxActiveJobCountExceeded');
  await good(ask('POST', '/jobs/v2/j-0/cancel'));
  await good(job('j-10', 1));
});

test('[limits 43] ids: 128 characters of devices, modules and configurations, 64 of jobs', async () => {
  for (const n of [128, 129]) {
    const id = 'x'.repeat(n), status = n === 128 ? 200 : 400;
    const r = await ask('PUT', `/devices/${id}`, { deviceId: id });
    assert.equal(r.status, status, `${r.body}`);
    assert.equal((await ask('PUT', `/devices/${device.id}/modules/${id}`, { deviceId: device.id, moduleId: id })).status, status);
    assert.equal((await ask('PUT', `/configurations/${id}`, { id, content: { deviceContent: { 'properties.desired.x': 1 } }, targetCondition: 'tags.none = 1' })).status, status);
    assert.equal((await ask('GET', `/devices/${id}`)).status, n === 128 ? 200 : (await ask('GET', `/devices/${id}`)).status);
  }
  assert.equal((await ask('GET', `/devices/${'x'.repeat(128)}`)).json.deviceId.length, 128);
});

test('[limits 44] blocks: ids of 64 bytes, fifty thousand of them', async () => {
  const begun = await good(ask('POST', `/devices/${device.id}/files`, { blobName: 'f' }, { token: deviceToken(device) }));
  const path = `/${begun.json.containerName}/${begun.json.blobName}${begun.json.sasToken}`;
  const block = (bytes) => hub.request('PUT', `${path}&comp=block&blockid=${encodeURIComponent(Buffer.alloc(bytes, 1).toString('base64'))}`, { token: null, body: 'x' });
  await good(block(64), 201);
  await refused(block(65), 400, 'InvalidBlockId');
  const list = (nr) => hub.request('PUT', `${path}&comp=blocklist`, { token: null, body: `<?xml version="1.0"?><BlockList>${'<Latest>AAAA</Latest>'.repeat(nr)}</BlockList>` });
  await refused(list(50_000), 400, 'InvalidBlockList'); // so many are read, and none of that name is there
  await refused(list(50_001), 409, 'BlockCountExceedsLimit');
});

// ---- sizes -------------------------------------------------------------------------------------------------

// Members of 4 + 3996 bytes, the last one as long as it has to be: n in all.
const section = (n) => Object.fromEntries(Array.from({ length: Math.ceil(n / 4000) }, (_, i) => [`k${String(i).padStart(3, '0')}`, 'v'.repeat(Math.min(4000, n - 4000 * i) - 4)]));
const nested = (depth) => (depth ? { k: nested(depth - 1) } : 1);

test('[limits 50] sections of a twin: 8 KB of tags, 32 KB of desired and of reported', async () => {
  const device = await newDevice(hub);
  const patch = (body) => ask('PATCH', `/twins/${device.id}`, body);
  await good(patch({ tags: section(8192) }));
  await refused(patch({ tags: { z: 1 } }), 400, 'ArgumentInvalid'); // what is there counts
  await refused(ask('PUT', `/twins/${device.id}`, { tags: section(8193) }), 400, 'ArgumentInvalid');
  await good(patch({ properties: { desired: section(32768) } }));
  await refused(patch({ properties: { desired: { z: 1 } } }), 400, 'ArgumentInvalid');
  const twin = (await ask('GET', `/twins/${device.id}`)).json;
  assert.equal(Object.keys(twin.tags).length, 3);
  const c = await connected(hub, device);
  await c.subscribe('$iothub/twin/res/#');
  const report = async (rid, payload) => {
    c.send({ cmd: 'publish', topic: `$iothub/twin/PATCH/properties/reported/?$rid=${rid}`, payload: JSON.stringify(payload), qos: 0 });
    return (await c.expect('publish')).topic;
  };
  assert.match(await report('a', section(32768)), /^\$iothub\/twin\/res\/204\/\?\$rid=a/);
  assert.match(await report('b', { z: 1 }), /^\$iothub\/twin\/res\/(400|413)\/\?\$rid=b/);
  assert.match(await report('c', { k000: null, z: 'v'.repeat(3999) }), /^\$iothub\/twin\/res\/204\//); // as much as went
  await c.disconnect();
});

test('[limits 51] keys of 1 KB, strings of 4 KB, ten levels, integers of 2^52', async () => {
  const { id } = await newDevice(hub);
  const take = (desired) => good(ask('PATCH', `/twins/${id}`, { properties: { desired } }));
  const not = (desired) => refused(ask('PATCH', `/twins/${id}`, typeof desired === 'string' ? desired : { properties: { desired } }), 400, 'ArgumentInvalid');
  await take({ ['k'.repeat(1024)]: 1 });
  await not({ ['k'.repeat(1025)]: 1 });
  await take({ s: 'x'.repeat(4096) });
  await not({ s: 'x'.repeat(4097) });
  await take(nested(11)); // a scalar inside the tenth object
  await not(nested(12));
  await take({ i: 4503599627370495, j: -4503599627370496 });
  await not('{"properties":{"desired":{"i":4503599627370496}}}');
  await not('{"properties":{"desired":{"j":-4503599627370497}}}');
});

test('[limits 52] commands: 64 KB with their properties, two days to live', async () => {
  const send = (bytes, more) => hub.request('POST', `/roost/v1/devices/${device.id}/messages`, { body: { body: 'x'.repeat(bytes), messageId: 'm', properties: { ab: 'cd' }, ...more } });
  await good(send(65536 - 5), 201);
  await refused(send(65536 - 4), 413, 'message-too-large');
  await good(send(1, { ttlSeconds: 172800 }), 201);
  await refused(send(1, { ttlSeconds: 172801 + 60 }), 400, 'bad-message');
});

test('[limits 53] direct methods: 128 KB, 5 to 300 seconds for the answer, up to 300 for the connection', async () => {
  const call = (more) => ask('POST', '/twins/nobody/methods', { methodName: 'm', ...more });
  for (const more of [{ payload: 'x'.repeat(131070) }, { responseTimeoutInSeconds: 5 }, { responseTimeoutInSeconds: 300 }, { responseTimeoutInSeconds: 300, connectTimeoutInSeconds: 300 },
    { connectTimeoutInSeconds: 0 }])
    assert.equal((await call(more)).status, 404, JSON.stringify(more).slice(0, 80)); // fine, but for the device
  for (const more of [{ payload: 'x'.repeat(131071) }, { responseTimeoutInSeconds: 4 }, { responseTimeoutInSeconds: 301 }, { responseTimeoutInSeconds: 300, connectTimeoutInSeconds: 301 }])
    assert.ok([400, 413].includes((await call(more)).status), JSON.stringify(more).slice(0, 80));
});

test('[limits 54] telemetry over HTTPS: 256 KB a message and a batch, five hundred messages', async () => {
  const as = (body, type) => ask('POST', `/devices/${device.id}/messages/events`, body, { token: deviceToken(device), headers: type ? { 'content-type': type } : {} });
  await good(as(Buffer.alloc(262144)), 204);
  await refused(as(Buffer.alloc(262145)), 413, 'MessageTooLarge');
  const batch = (nr, bytes = 1) => as(JSON.stringify(Array.from({ length: nr }, () => ({ body: 'x'.repeat(bytes), base64Encoded: false }))), 'application/vnd.microsoft.iothub.json');
  await good(batch(500), 204);
  assert.ok([400, 413].includes((await batch(501)).status));
  await good(batch(4, 65536), 204);
  assert.ok([400, 413].includes((await batch(4, 65537)).status));
});

test('[limits 55] fifty commands wait for a device', async () => {
  const { id } = await newDevice(hub);
  for (let i = 0; i < 50; i++) await sendC2d(hub, id, { body: 'x' });
  await refused(hub.request('POST', `/roost/v1/devices/${id}/messages`, { body: { body: 'x' } }), 403, 'queue-full');
});
