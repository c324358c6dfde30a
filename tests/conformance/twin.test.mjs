// Twins from both sides: bare MQTT and HTTPS, the device SDK over TCP and WebSocket, the service SDK, the CLI.
import assert from 'node:assert/strict';
import https from 'node:https';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import sdk from 'azure-iot-device';
import transports from 'azure-iot-device-mqtt';
import service from 'azure-iothub';
import { NAME, closeHub, newDevice, openHub, parseConnectionString, policyKey, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const RES = '$iothub/twin/res/#';
const DESIRED = '$iothub/twin/PATCH/properties/desired/#';
let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });

/* ---- the service's side, by hand -------------------------------------------------------------------- */

const path = (id, module) => `/twins/${encodeURIComponent(id)}${module ? `/modules/${encodeURIComponent(module)}` : ''}?api-version=2021-04-12`;
function ask(method, id, body, { match, module, headers = {}, ...more } = {}) {
  return hub.request(method, path(id, module), { body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...(match === undefined ? {} : { 'if-match': match }), ...headers }, ...more });
}
async function must(method, id, body, options) {
  const r = await ask(method, id, body, options);
  assert.equal(r.status, 200, `${r.body}`);
  return r.json;
}
const desired = (id, properties, options) => must('PATCH', id, { properties: { desired: properties } }, options);
async function refusedWith(status, name, promise, text) {
  const r = await promise;
  assert.equal(r.status, status, `${r.body}`);
  assert.equal(r.headers['iothub-errorcode'], name);
  assert.match(r.json.Message, new RegExp(`^ErrorCode:${name};`));
  if (text) assert.match(r.json.Message, text);
}
async function newModule(id, module) {
  const r = await hub.request('PUT', `/devices/${id}/modules/${module}?api-version=2021-04-12`, { body: { deviceId: id, moduleId: module } });
  assert.equal(r.status, 200, `${r.body}`);
  return r.json;
}

/* ---- the device's side, by hand --------------------------------------------------------------------- */

let rids = 0;
async function request(c, topic, payload = '', rid = `r${++rids}`, qos = 0) {
  c.send({ cmd: 'publish', topic: `${topic}?$rid=${rid}`, payload, qos, ...(qos ? { messageId: 9 } : {}) });
  return c.expect('publish');
}
const GET = '$iothub/twin/GET/', PATCH = '$iothub/twin/PATCH/properties/reported/';
async function read(c) {
  const p = await request(c, GET, ' ');
  assert.equal(p.topic, `$iothub/twin/res/200/?$rid=r${rids}`);
  return JSON.parse(p.payload);
}
async function report(c, body) {
  const p = await request(c, PATCH, typeof body === 'string' ? body : JSON.stringify(body));
  const m = /^\$iothub\/twin\/res\/(\d{3})\/\?\$rid=r(\d+)(?:&\$version=(\d+))?$/.exec(p.topic);
  assert.ok(m, p.topic);
  assert.equal(+m[2], rids);
  return { status: +m[1], version: m[3] && +m[3], body: p.payload.toString() };
}
async function online(...filters) {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.subscribe(...filters.map((topic) => ({ topic, qos: 0 })));
  return [c, d];
}

test('[mqtt 85] [mqtt 86] a read has desired and reported alone, under the request id', async () => {
  const [c, d] = await online(RES);
  assert.deepEqual(await read(c), { desired: { $version: 1 }, reported: { $version: 1 } });
  await must('PATCH', d.id, { tags: { secret: 1 }, properties: { desired: { a: { b: 1 } } } });
  assert.deepEqual(await read(c), { desired: { a: { b: 1 }, $version: 2 }, reported: { $version: 1 } });
  await c.disconnect();
});

test('[mqtt 87] [mqtt 88] a patch is merged, numbered and answered without a body; null deletes', async () => {
  const [c] = await online(RES);
  assert.deepEqual(await report(c, '{"a":1.0,"o":{"x":1,"y":2}}'), { status: 204, version: 2, body: '' });
  assert.deepEqual(await report(c, { o: { x: null }, gone: null }), { status: 204, version: 3, body: '' });
  assert.deepEqual((await read(c)).reported, { a: 1, o: { y: 2 }, $version: 3 });
  await c.disconnect();
});

test('[mqtt 89] [mqtt 90] [mqtt 91] what cannot be taken is answered with a code and a path, and nothing changes', async () => {
  const [c] = await online(RES);
  const deep = (n) => (n ? { k: deep(n - 1) } : 1);
  assert.equal((await report(c, deep(11))).status, 204); // ten objects, a scalar in the tenth
  const bad = [['{"a":', /not JSON/], ['[1]', /object/], ['5', /object/], [deep(12), /ten levels/], [{ 'a.b': 1 }, /properties\.reported\.a\.b: a key/],
    [{ $x: 1 }, /key/], [{ 'a b': 1 }, /key/], [{ a: 'x'.repeat(4097) }, /4096/], [{ a: [null] }, /null/], ['{"a":4503599627370496}', /integer/],
    [Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`k${i}`, 'x'.repeat(4090)])), /32768/]];
  for (const [body, text] of bad) {
    const r = await report(c, body);
    assert.equal(r.status, 400, `${r.body}`);
    const e = JSON.parse(r.body);
    assert.ok(e.errorCode === 400004 || e.errorCode === 400006);
    assert.ok(e.trackingId && /^\d{4}-.*\.\d{7}Z$/.test(e.timestampUtc));
    assert.match(e.message, text);
  }
  assert.equal((await read(c)).reported.$version, 2);
  await c.disconnect();
});

test('[mqtt 92] [http 68] a change of desired properties reaches the device as it was applied', async () => {
  const [c, d] = await online(RES, DESIRED);
  await desired(d.id, { interval: 30, old: 1 });
  let p = await c.expect('publish');
  assert.equal(p.topic, '$iothub/twin/PATCH/properties/desired/?$version=2');
  assert.deepEqual(JSON.parse(p.payload), { interval: 30, old: 1, $version: 2 });
  await must('PATCH', d.id, { tags: { t: 1 } }); // not the device's business
  await must('PATCH', d.id, '{"properties":{"desired":{"interval":60.0,"old":null}}}');
  p = await c.expect('publish');
  assert.equal(p.topic, '$iothub/twin/PATCH/properties/desired/?$version=3');
  assert.equal(p.payload.toString(), '{"interval":60.0,"old":null,"$version":3}');
  await must('PUT', d.id, { properties: { desired: { fresh: true } } });
  p = await c.expect('publish');
  assert.deepEqual(JSON.parse(p.payload), { fresh: true, interval: null, $version: 4 });
  await c.disconnect();
});

test('[mqtt 93] nothing is kept for a device that is away', async () => {
  const [c, d] = await online(RES, DESIRED);
  await c.disconnect();
  await desired(d.id, { a: 1 });
  const again = await connected(hub, d);
  assert.equal(again.sessionPresent, true);
  assert.deepEqual((await read(again)).desired, { a: 1, $version: 2 }); // the first thing that comes
  await again.disconnect();
});

test('[mqtt 94] requests with QoS 1 are acknowledged and answered', async () => {
  const [c] = await online({ topic: RES, qos: 1 }.topic);
  c.send({ cmd: 'publish', topic: `${GET}?$rid=q`, payload: '', qos: 1, messageId: 7 });
  const got = [await c.next(), await c.next()];
  assert.equal(got.find((p) => p.cmd === 'puback').messageId, 7);
  assert.equal(got.find((p) => p.cmd === 'publish').topic, '$iothub/twin/res/200/?$rid=q');
  await c.disconnect();
});

test('[mqtt 95] a patch for another version is refused', async () => {
  const [c] = await online(RES);
  await report(c, { a: 1 });
  const stale = await request(c, PATCH, '{"a":2}', 'x&$version=1');
  assert.equal(stale.topic, '$iothub/twin/res/412/?$rid=x');
  assert.equal(JSON.parse(stale.payload).errorCode, 412001);
  const good = await request(c, PATCH, '{"a":3}', 'y&$version=2');
  assert.equal(good.topic, '$iothub/twin/res/204/?$rid=y&$version=3');
  await c.disconnect();
});

test('[mqtt 96] request ids come back byte for byte', async () => {
  const [c] = await online(RES);
  for (const rid of ['7d1f5b2e-8a34-4c3f-9d0e-0a1b2c3d4e5f', '65535', 'x'.repeat(100)])
    assert.equal((await request(c, GET, '', rid)).topic, `$iothub/twin/res/200/?$rid=${rid}`);
  await c.disconnect();
});

test('[mqtt 19] [mqtt 20] the model of a device is on its twin, however it was spelled', async () => {
  const d = await newDevice(hub);
  for (const [text, model] of [['dtmi:a:b;1', 'dtmi:a:b;1'], ['dtmi%3Aa%3Ac%3B2', 'dtmi:a:c;2']]) {
    const c = await connected(hub, d, { username: `${NAME}/${d.id}/?api-version=2021-04-12&model-id=${text}` });
    assert.equal((await must('GET', d.id)).modelId, model);
    await c.disconnect();
  }
});

/* ---- the service's rules ---------------------------------------------------------------------------- */

test('[http 56] a fresh twin', async () => {
  const d = await newDevice(hub);
  const r = await ask('GET', d.id);
  assert.equal(r.headers.etag, '"AAAAAAAAAAE="');
  assert.equal(r.headers['content-type'], 'application/json; charset=utf-8');
  const t = r.json;
  assert.equal(t.etag, 'AAAAAAAAAAE=');
  assert.equal(t.version, 2);
  assert.deepEqual(t.tags, {});
  assert.equal(t.properties.desired.$version, 1);
  assert.equal(t.properties.reported.$version, 1);
  assert.equal(t.connectionState, 'Disconnected');
  assert.equal(t.moduleId, undefined);
});

test('[http 57] merging: objects deeply, arrays wholly, null removes', async () => {
  const d = await newDevice(hub);
  await must('PATCH', d.id, { tags: { a: { b: { c: 1 } }, l: [1, 2, 3] } });
  assert.deepEqual((await must('PATCH', d.id, { tags: { a: { b: { d: 2 } }, l: [4] } })).tags, { a: { b: { c: 1, d: 2 } }, l: [4] });
  assert.deepEqual((await must('PATCH', d.id, { tags: { a: { b: { c: null, d: null } }, l: null } })).tags, { a: { b: {} } });
});

test('[http 58] conditions', async () => {
  const d = await newDevice(hub);
  const { etag } = await must('PATCH', d.id, { tags: { a: 1 } });
  await refusedWith(412, 'PreconditionFailed', ask('PATCH', d.id, { tags: { a: 2 } }, { match: '"AAAAAAAAAAE="' }));
  await refusedWith(412, 'PreconditionFailed', ask('PUT', d.id, {}, { match: '"no etag at all"' }));
  let t = await must('PATCH', d.id, { tags: { a: 3 } }, { match: `"${etag}"` });
  for (const form of ['*', '"*"', undefined]) t = await must('PATCH', d.id, { tags: { a: 4 } }, { match: form });
  t = await must('PATCH', d.id, { tags: { a: 5 } }, { match: t.etag });
  t = await must('PUT', d.id, { tags: { a: 6 } }, { match: `W/"${t.etag}"` });
  assert.deepEqual(t.tags, { a: 6 });
});

test('[http 59] a replacement leaves nothing but reported properties', async () => {
  const [c, d] = await online(RES);
  await report(c, { r: 1 });
  await must('PATCH', d.id, { tags: { a: 1 }, properties: { desired: { b: 1 } } });
  let t = await must('PUT', d.id, { properties: { desired: { c: 1 } } });
  assert.deepEqual(t.tags, {});
  assert.equal(t.properties.desired.b, undefined);
  t = await must('PUT', d.id, { tags: { z: 1 } });
  assert.deepEqual(t.tags, { z: 1 });
  assert.equal(t.properties.desired.c, undefined);
  assert.equal(t.properties.reported.r, 1);
  await c.disconnect();
});

test('[http 60] versions, and when each leaf was written', async () => {
  const d = await newDevice(hub);
  await desired(d.id, { fw: { v: '1', url: 'x' } });
  await must('PATCH', d.id, { tags: { a: 1 } });
  const { desired: s } = (await desired(d.id, { fw: { v: '2' } })).properties;
  assert.equal(s.$version, 3);
  assert.deepEqual([s.$metadata, s.$metadata.fw, s.$metadata.fw.v, s.$metadata.fw.url].map((m) => m.$lastUpdatedVersion), [3, 3, 3, 2]);
  for (const m of [s.$metadata, s.$metadata.fw, s.$metadata.fw.v, s.$metadata.fw.url])
    assert.match(m.$lastUpdated, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
});

test('[http 61] the twin and its identity have etags of their own', async () => {
  const d = await newDevice(hub);
  const before = await must('GET', d.id);
  const tagged = await must('PATCH', d.id, { tags: { a: 1 } });
  assert.notEqual(tagged.etag, before.etag);
  assert.equal(tagged.deviceEtag, before.deviceEtag);
  const r = await hub.request('PUT', `/devices/${d.id}?api-version=2021-04-12`, { body: { deviceId: d.id, status: 'disabled' }, headers: { 'if-match': '*' } });
  assert.equal(r.status, 200, `${r.body}`);
  const disabled = await must('GET', d.id);
  assert.equal(disabled.etag, tagged.etag);
  assert.equal(disabled.deviceEtag, r.json.etag);
  assert.notEqual(disabled.deviceEtag, before.deviceEtag);
  assert.equal(disabled.status, 'disabled');
});

test('[http 62] [http 63] [http 64] [http 65] what may be in a twin', async () => {
  const d = await newDevice(hub);
  const deep = (n) => (n ? { k: deep(n - 1) } : 1);
  const tag = (v) => ask('PATCH', d.id, { tags: v });
  for (const key of ['a.b', '$a', 'a b', 'a\u0001', 'a\u0085']) await refusedWith(400, 'ArgumentInvalid', tag({ [key]: 1 }), /tags\..*key/);
  assert.equal((await tag({ ['k'.repeat(1024)]: null })).status, 200);
  await refusedWith(400, 'ArgumentInvalid', tag({ ['k'.repeat(1025)]: null }));
  assert.equal((await tag(deep(11))).status, 200);
  await refusedWith(400, 'ArgumentInvalid', tag(deep(12)), /ten levels/);
  assert.equal((await tag({ s: 'x'.repeat(4096) })).status, 200);
  await refusedWith(400, 'ArgumentInvalid', tag({ s: 'x'.repeat(4097) }));
  const numbers = await ask('PATCH', d.id, '{"properties":{"desired":{"a":4503599627370495,"b":-4503599627370496,"c":1.0,"d":1.10}}}');
  assert.match(numbers.body.toString(), /"a":4503599627370495,"b":-4503599627370496,"c":1\.0,"d":1\.10,/);
  await refusedWith(400, 'ArgumentInvalid', ask('PATCH', d.id, '{"tags":{"a":4503599627370496}}'));
  await refusedWith(400, 'ArgumentInvalid', tag({ a: 'x'.repeat(4000), b: 'x'.repeat(4000) }), /8192/);
  const full = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, 'x'.repeat(4094)]));
  await must('PUT', d.id, { properties: { desired: { ...full, $version: 9, $metadata: { more: 'x'.repeat(4000) } } } });
  await refusedWith(400, 'ArgumentInvalid', ask('PATCH', d.id, { properties: { desired: { k8: 1 } } }), /properties\.desired.*32768/);
  await refusedWith(400, 'IotHubFormatError', ask('PATCH', d.id, '{"tags":'));
  assert.equal((await ask('PATCH', d.id, ' '.repeat(1024 * 1024 + 1))).status, 413);
});

test('[http 66] a whole twin may be sent back', async () => {
  const d = await newDevice(hub);
  const t = await must('PATCH', d.id, { tags: { a: 1 }, properties: { desired: { b: { c: 2 } } } });
  const again = await must('PATCH', d.id, t, { match: `"${t.etag}"` });
  assert.deepEqual(again.tags, t.tags);
  assert.deepEqual(again.properties.desired.b, { c: 2 });
});

test('[http 67] a module has a twin of its own', async () => {
  const d = await newDevice(hub);
  await newModule(d.id, 'm1');
  const t = await must('PATCH', d.id, { tags: { only: 'the module' } }, { module: 'm1' });
  assert.equal(t.moduleId, 'm1');
  assert.deepEqual((await must('GET', d.id)).tags, {});
  for (const [method, body] of [['GET'], ['PATCH', {}], ['PUT', {}]]) {
    await refusedWith(404, 'DeviceNotFound', ask(method, d.id, body, { module: 'm2' }));
    await refusedWith(404, 'DeviceNotFound', ask(method, 'no-such-device', body));
    await refusedWith(404, 'DeviceNotFound', ask(method, `${d.id}/m1`, body)); // as one id it names nobody
  }
});

test('[http 8] [http 69] a POST that says PATCH is one', async () => {
  const d = await newDevice(hub);
  assert.deepEqual((await must('POST', d.id, { tags: { a: 1 } }, { headers: { 'x-http-method-override': 'PATCH' } })).tags, { a: 1 });
});

test('[http 19] [http 20] who may see twins', async () => {
  const d = await newDevice(hub);
  const as = (name) => ask('GET', d.id, undefined, { policy: { name, key: policyKey(hub, name) } });
  assert.equal((await as('service')).status, 200);
  for (const name of ['registryRead', 'registryReadWrite', 'device']) {
    const r = await as(name);
    assert.equal(r.status, 401);
    assert.equal(r.headers['iothub-errorcode'], 'IotHubUnauthorizedAccess');
  }
});

test('a digital twin: components, what is desired and acknowledged, JSON Patch', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d, { username: `${NAME}/${d.id}/?api-version=2021-04-12&model-id=dtmi:a:b;1` });
  await c.subscribe({ topic: RES, qos: 0 }, { topic: DESIRED, qos: 0 });
  const digital = (method, body, headers = {}) => hub.request(method, `/digitaltwins/${d.id}?api-version=2021-04-12`, { body: body && JSON.stringify(body), headers });
  let r = await digital('PATCH', [{ op: 'add', path: '/th1', value: { target: 20, $metadata: {} } }, { op: 'replace', path: '/mode', value: 'a' }]);
  assert.equal(r.status, 202, `${r.body}`);
  assert.equal(r.headers.location, `/digitaltwins/${d.id}`);
  assert.deepEqual(JSON.parse((await c.expect('publish')).payload), { th1: { __t: 'c', target: 20 }, mode: 'a', $version: 2 });
  await report(c, { temp: 21, th1: { __t: 'c', target: { value: 20, ac: 200, av: 2, ad: 'ok' } } });
  const etag = r.headers.etag;
  r = await digital('GET');
  assert.equal(r.headers.etag, etag);
  assert.equal(r.json.$dtId, d.id);
  assert.equal(r.json.$metadata.$model, 'dtmi:a:b;1');
  assert.equal(r.json.temp, 21);
  assert.equal(r.json.th1.target, 20);
  const { lastUpdateTime, ...known } = r.json.th1.$metadata.target;
  assert.deepEqual(known, { desiredValue: 20, desiredVersion: 2, ackVersion: 2, ackCode: 200, ackDescription: 'ok' });
  assert.equal(r.json.$metadata.mode.desiredValue, 'a');
  for (const [body, name] of [[{}, 'InvalidDigitalTwinJsonPatch'], [[{ op: 'move', path: '/a' }], 'InvalidDigitalTwinPatch'],
    [[{ op: 'add', path: '/a/b/c', value: 1 }], 'InvalidDigitalTwinPatchPath'], [[{ op: 'add', path: '/a.b', value: 1 }], 'InvalidDigitalTwinPayload']])
    await refusedWith(400, name, digital('PATCH', body));
  await refusedWith(412, 'PreconditionFailed', digital('PATCH', [{ op: 'remove', path: '/mode' }], { 'if-match': '"AAAAAAAAAAE="' }));
  assert.equal((await digital('PATCH', [{ op: 'remove', path: '/mode' }], { 'if-match': etag })).status, 202);
  await c.disconnect();
});

test('digital twins by the SDKs: the device has a model, the service reads, patches and commands', { timeout: 60_000 }, async (t) => {
  const d = await newDevice(hub), MODEL = 'dtmi:com:example:TemperatureController;1';
  const client = sdk.Client.fromConnectionString(d.connectionString, transports.Mqtt);
  t.after(() => client.close().catch(() => {}));
  await client.setOptions({ ca: hub.ca, modelId: MODEL });
  await client.open();
  const answer = (status) => async (request, response) => response.send(status, { got: request.payload });
  client.onDeviceMethod('reboot', answer(200));
  client.onDeviceMethod('thermostat1*getMaxMinReport', answer(404));
  const twin = await client.getTwin();
  await new Promise((done, fail) => twin.properties.reported.update({ serialNumber: 'abc', thermostat1: { __t: 'c', maxTemp: 35 } }, (e) => (e ? fail(e) : done())));
  const digital = new service.DigitalTwinClient(new service.IoTHubTokenCredentials(hub.connectionString));
  const view = await digital.getDigitalTwin(d.id);
  assert.deepEqual([view.$dtId, view.$metadata.$model, view.serialNumber, view.thermostat1.maxTemp], [d.id, MODEL, 'abc', 35]);
  const told = new Promise((done) => twin.on('properties.desired.thermostat1', (delta) => delta.targetTemperature && done(delta)));
  await digital.updateDigitalTwin(d.id, [{ op: 'add', path: '/thermostat1', value: { targetTemperature: 22, $metadata: {} } }]);
  assert.equal((await told).targetTemperature, 22);
  await new Promise((done, fail) => twin.properties.reported.update({ thermostat1: { __t: 'c', targetTemperature: { value: 22, ac: 200, av: 2, ad: 'done' } } }, (e) => (e ? fail(e) : done())));
  const after = await digital.getDigitalTwin(d.id);
  assert.deepEqual([after.thermostat1.targetTemperature, after.thermostat1.$metadata.targetTemperature.ackCode], [22, 200]);
  await assert.rejects(digital.updateDigitalTwin(d.id, [{ op: 'move', path: '/a' }]), (e) => e.statusCode === 400);
  await assert.rejects(digital.getDigitalTwin('nobody'), (e) => e.statusCode === 404);
  const root = await digital.invokeCommand(d.id, 'reboot', { delay: 3 });
  assert.deepEqual([root.body.got, root.xMsCommandStatuscode], [{ delay: 3 }, 200]);
  const component = await digital.invokeComponentCommand(d.id, 'thermostat1', 'getMaxMinReport', '2026-08-10T00:00:00Z');
  assert.deepEqual([component.body.got, component.xMsCommandStatuscode], ['2026-08-10T00:00:00Z', 404]);
});

/* ---- SDKs ------------------------------------------------------------------------------------------- */

for (const [name, transport, tag] of [['TCP', transports.Mqtt, '[mqtt 105]'], ['WebSocket', transports.MqttWs, '[mqtt 106]']])
  test(`${tag} ${name}: the device SDK reads its twin, reports, and hears what is desired`, { timeout: 60_000 }, async (t) => {
    const d = await newDevice(hub);
    await desired(d.id, { before: 1 });
    const client = sdk.Client.fromConnectionString(d.connectionString, transport);
    t.after(() => client.close().catch(() => {}));
    await client.setOptions({ ca: hub.ca });
    await client.open();
    const twin = await client.getTwin();
    assert.equal(twin.properties.desired.before, 1);
    const got = [];
    twin.on('properties.desired', (delta) => got.push(delta));
    const deep = [];
    twin.on('properties.desired.fan.speed', (v) => deep.push(v));
    await waitFor('what is there already', () => got.length === 1); // the SDK tells of it first
    await desired(d.id, { fan: { speed: 3 } });
    await waitFor('the change', () => got.length === 2);
    assert.deepEqual(got[1], { fan: { speed: 3 }, $version: 3 });
    await waitFor('the part of it', () => deep.length === 1);
    assert.deepEqual(deep, [3]);
    const update = (patch) => new Promise((done, fail) => { twin.properties.reported.update(patch, (e) => (e ? fail(e) : done())); });
    await update({ fw: '1.2', n: { a: 1 } });
    await update({ n: { a: null, b: [1] } });
    const { reported } = (await must('GET', d.id)).properties;
    assert.equal(reported.$version, 3);
    assert.equal(reported.fw, '1.2');
    assert.deepEqual(reported.n, { b: [1] });
    await assert.rejects(update({ 'a.b': 1 }));
    await update({ still: 'here' });
    await client.close();
  });

test('[mqtt 22] a module reads its own twin and hears of it', { timeout: 60_000 }, async () => {
  const d = await newDevice(hub);
  const m = await newModule(d.id, 'm1');
  const id = `${d.id}/m1`;
  const device = { id, key: m.authentication.symmetricKey.primaryKey };
  const { deviceToken } = await import('./lib/hub.mjs');
  const c = await connected(hub, device, { username: `${NAME}/${id}/?api-version=2021-04-12`,
    password: deviceToken(device, { resource: `${NAME}/devices/${d.id}/modules/m1` }) });
  await c.subscribe({ topic: RES, qos: 0 }, { topic: DESIRED, qos: 0 });
  await desired(d.id, { not: 'yours' });
  await desired(d.id, { yours: 1 }, { module: 'm1' });
  const p = await c.expect('publish');
  assert.deepEqual(JSON.parse(p.payload), { yours: 1, $version: 2 });
  assert.deepEqual(await read(c), { desired: { yours: 1, $version: 2 }, reported: { $version: 1 } });
  await c.disconnect();
});

test('the service SDK reads, updates and replaces twins', { timeout: 60_000 }, async (t) => {
  const d = await newDevice(hub);
  const key = parseConnectionString(hub.connectionString).SharedAccessKey;
  const registry = service.Registry.fromConnectionString(`HostName=${NAME};SharedAccessKeyName=${parseConnectionString(hub.connectionString).SharedAccessKeyName};SharedAccessKey=${key}`);
  const agent = new https.Agent({ ca: hub.ca });
  t.after(() => agent.destroy());
  registry._restApiClient.setOptions({ http: { agent } }); // it has no option of its own for a CA
  const twin = (await registry.getTwin(d.id)).responseBody;
  assert.equal(twin.deviceId, d.id);
  await twin.update({ tags: { site: 'a' }, properties: { desired: { x: 1 } } });
  assert.deepEqual(twin.tags, { site: 'a' });
  assert.equal(twin.properties.desired.x, 1);
  await assert.rejects(registry.updateTwin(d.id, { tags: { site: 'b' } }, 'AAAAAAAAAAE='), (e) => e.name === 'InvalidEtagError' || /412|Precondition/.test(`${e.name} ${e.message}`));
  await registry.updateTwin(d.id, { tags: { site: 'c' } }, '*');
  await assert.rejects(registry.getTwin('no-such-device'), (e) => e.name === 'DeviceNotFoundError');
});

/* ---- the own interface and the CLI ------------------------------------------------------------------ */

test('the own interface: show, merge, replace', async () => {
  const d = await newDevice(hub);
  const at = `/roost/v1/devices/${d.id}/twin`;
  assert.deepEqual(await hub.api('GET', at), { id: d.id, etag: 'AAAAAAAAAAE=', version: 2, model: '', tags: {}, desired: { $version: 1 }, reported: { $version: 1 } });
  const t = await hub.api('PATCH', at, { desired: { a: { b: 1 } }, tags: { t: 1 } });
  assert.deepEqual(t.desired, { a: { b: 1 }, $version: 2 });
  assert.equal((await hub.api('GET', `${at}?metadata=true`)).desired.$metadata.a.b.$lastUpdatedVersion, 2);
  const stale = await hub.request('PUT', at, { body: '{}', headers: { 'if-match': '"AAAAAAAAAAE="' } });
  assert.equal(stale.status, 412);
  assert.equal(stale.json.error.code, 'etag-differs');
  assert.deepEqual((await hub.api('PUT', at, { tags: { z: 1 } })).desired, { $version: 3 });
  for (const [body, text] of [['{}', /neither/], ['[]', /object/], ['{', /JSON/], ['{"tags":{"a.b":1}}', /tags\.a\.b: a key/]]) {
    const r = await hub.request('PATCH', at, { body });
    assert.equal(r.status, 400);
    assert.match(r.json.error.message, text);
  }
  assert.equal((await hub.request('GET', '/roost/v1/devices/nobody/twin')).status, 404);
  await newModule(d.id, 'm1');
  assert.equal((await hub.api('PATCH', `/roost/v1/devices/${d.id}/modules/m1/twin`, { tags: { m: 1 } })).id, `${d.id}/m1`);
});

test('roost twin: show, set, watch', { timeout: 60_000 }, async () => {
  const d = await newDevice(hub);
  let r = await hub.roost('twin', 'set', d.id, 'fan.speed=1.10', 'fan.mode=auto', 'on=true', 'list=[1,2]');
  assert.match(r.stdout, /version 3, desired version 2/);
  await hub.roost('twin', 'set', d.id, '--tags', 'site=halle 3');
  r = await hub.roost('twin', 'show', d.id);
  assert.match(r.stdout, /"speed":1\.10,/);
  const t = JSON.parse(r.stdout);
  assert.deepEqual(t.desired, { fan: { speed: 1.1, mode: 'auto' }, on: true, list: [1, 2], $version: 2 });
  assert.deepEqual(t.tags, { site: 'halle 3' });
  await hub.roost('twin', 'set', d.id, 'fan.speed=null', '--if-match', t.etag);
  assert.equal((await hub.roost('twin', 'set', d.id, 'x=1', '--if-match', t.etag, { ok: false })).code, 3);
  await hub.roost('twin', 'set', d.id, '--file', '-', '--replace', { input: '{"tags":{"only":1.0}}' });
  const file = join(hub.dir, 'desired.json');
  writeFileSync(file, '{"z":1.0}');
  await hub.roost('twin', 'set', d.id, '--desired', '--file', file);
  r = await hub.roost('twin', 'show', d.id, '--metadata');
  assert.match(r.stdout, /"tags":\{"only":1\.0\},"desired":\{"z":1\.0,"\$metadata"/);
  for (const args of [['x'], ['=1'], ['a=1', 'a.b=2'], ['a=1', 'a=2'], []])
    assert.equal((await hub.roost('twin', 'set', d.id, ...args, { ok: false })).code, 1);
  assert.equal((await hub.roost('twin', 'set', d.id, 'a b=1', { ok: false })).code, 3);
  assert.equal((await hub.roost('twin', 'show', 'nobody', { ok: false })).code, 1);
  await newModule(d.id, 'm1');
  await hub.roost('twin', 'set', `${d.id}/m1`, 'of=module');
  assert.equal(JSON.parse((await hub.roost('twin', 'show', `${d.id}/m1`)).stdout).desired.of, 'module');
  const watching = hub.roost('twin', 'watch', d.id, '-n', '2');
  await waitFor('both documents', async () => {
    await desired(d.id, { n: 1 });
    return Promise.race([watching, new Promise((done) => { setTimeout(done, 300); })]);
  });
  const lines = (await watching).stdout.trim().split('\n').map((l) => JSON.parse(l));
  assert.equal(lines.length, 2);
  assert.ok(lines[1].version > lines[0].version);
});
