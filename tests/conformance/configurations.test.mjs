// Automatic configurations: their life, who wins, what twins hold, contents of edge devices; by HTTPS and the SDK.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import iothub from 'azure-iothub';
import { NAME, closeHub, newDevice, openHub, policyKey, sasToken, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const V = 'api-version=2021-04-12';
let hub, agent, registry;
before(async () => {
  hub = await openHub();
  agent = new https.Agent({ keepAlive: true, ca: hub.ca });
  registry = iothub.Registry.fromConnectionString(`HostName=${NAME};SharedAccessKeyName=iothubowner;SharedAccessKey=${policyKey(hub, 'iothubowner')}`);
  registry._restApiClient.setOptions({ http: { agent } });
});
after(async () => {
  agent?.destroy();
  await closeHub(hub);
});

async function ask(method, path, body, headers = {}) {
  const r = await hub.request(method, `${path}?${V}`,
    { body: body && (typeof body === 'string' ? body : JSON.stringify(body)), headers: { 'content-type': 'application/json', ...headers } });
  return { status: r.status, headers: r.headers, code: r.headers['iothub-errorcode'], json: r.body.length ? JSON.parse(r.body) : undefined };
}
const twin = async (id) => (await ask('GET', `/twins/${id}`)).json;
const plain = (o) => Object.fromEntries(Object.entries(o).filter(([k]) => !k.startsWith('$')));
const tag = (d, tags) => ask('PATCH', `/twins/${d.id}`, { tags });
const deviceContent = (o) => ({ deviceContent: { 'properties.desired': o } });
const put = (c, headers) => ask('PUT', `/configurations/${c.id}`, c, headers);
async function created(c) {
  const r = await put({ content: deviceContent({ a: 1 }), targetCondition: '', priority: 0, ...c });
  assert.equal(r.status, 200, JSON.stringify(r.json));
  return r.json;
}
const drop = async (id) => assert.equal((await ask('DELETE', `/configurations/${id}`)).status, 204);
const has = (d, what, more = {}) => waitFor(`${d.id}: ${JSON.stringify(what)}`, async () => {
  const t = await twin(d.id);
  const applied = Object.entries(t.configurations ?? {}).filter(([, v]) => v.status === 'Applied').map(([k]) => k);
  return JSON.stringify(plain(t.properties.desired)) === JSON.stringify(what) && (!more.applied || JSON.stringify(applied) === JSON.stringify(more.applied)) && t;
});

test('[http 92] create, again, read, delete', async () => {
  const c = await created({ id: 'life', labels: { team: 'a' }, targetCondition: "tags.site = 'nowhere'", metrics: { queries: { all: 'SELECT deviceId FROM devices' } } });
  assert.equal(c.etag, 'MQ==');
  assert.equal(c.schemaVersion, null);
  assert.deepEqual(c.labels, { team: 'a' });
  assert.deepEqual(c.metrics.queries, { all: 'SELECT deviceId FROM devices' });
  const again = await put({ id: 'life', content: deviceContent({}) });
  assert.deepEqual([again.status, again.code], [409, 'ConfigurationAlreadyExists']);
  const got = await ask('GET', '/configurations/life');
  assert.equal(got.headers.etag, '"MQ=="');
  assert.deepEqual(got.json.content, deviceContent({ a: 1 }));
  for (const q of Object.values(got.json.systemMetrics.queries)) assert.equal((await ask('POST', '/devices/query', { query: q })).status, 200, q);
  const stale = await ask('DELETE', '/configurations/life', undefined, { 'if-match': '"Mg=="' });
  assert.deepEqual([stale.status, stale.code], [412, 'PreconditionFailed']);
  await drop('life');
  const gone = await ask('GET', '/configurations/life');
  assert.deepEqual([gone.status, gone.code], [404, 'ConfigurationNotFound']);
  assert.equal((await ask('DELETE', '/configurations/life')).status, 404);
});

test('[http 93] an update keeps the content', async () => {
  await created({ id: 'kept', targetCondition: "tags.site = 'nowhere'" });
  const missing = await put({ id: 'missing', content: deviceContent({ a: 1 }) }, { 'if-match': '*' });
  assert.deepEqual([missing.status, missing.code], [404, 'ConfigurationNotFound']);
  const r = await put({ id: 'kept', content: deviceContent({ a: 2 }), priority: 7 }, { 'if-match': '"MQ=="' });
  assert.equal(r.status, 200);
  assert.deepEqual(r.json.content, deviceContent({ a: 1 }));
  assert.equal(r.json.priority, 7);
  assert.equal(r.json.etag, 'Mg==');
  assert.equal((await put({ id: 'kept', content: deviceContent({ a: 2 }) }, { 'if-match': '"MQ=="' })).status, 412);
  await drop('kept');
});

test('[http 94] the highest priority wins, of equals the newest; deleted, the next one follows', async () => {
  const [d, other] = [await newDevice(hub), await newDevice(hub)];
  await tag(d, { ring: 'w' });
  await created({ id: 'low', targetCondition: "tags.ring = 'w'", priority: 1, content: deviceContent({ v: 'low', low: 1 }) });
  await has(d, { v: 'low', low: 1 }, { applied: ['low'] });
  await created({ id: 'high', targetCondition: "tags.ring = 'w'", priority: 5, content: deviceContent({ v: 'high' }) });
  let t = await has(d, { v: 'high', low: 1 }, { applied: ['high'] });
  assert.deepEqual(t.configurations, { low: { status: 'Targeted' }, high: { status: 'Applied' } });
  await created({ id: 'newer', targetCondition: "tags.ring = 'w'", priority: 5, content: deviceContent({ v: 'newer' }) });
  await has(d, { v: 'newer', low: 1 }, { applied: ['newer'] });
  assert.deepEqual(plain((await twin(other.id)).properties.desired), {});
  await waitFor('numbers', async () => (await ask('GET', '/configurations/newer')).json.systemMetrics.results.appliedCount === 1);
  assert.deepEqual((await ask('GET', '/configurations/low')).json.systemMetrics.results, { targetedCount: 1, appliedCount: 0 });
  await drop('newer');
  await has(d, { v: 'high', low: 1 }, { applied: ['high'] });
  // Another priority.
  const low = (await ask('GET', '/configurations/low')).json;
  assert.equal((await put({ ...low, priority: 9 }, { 'if-match': '*' })).status, 200);
  await has(d, { v: 'low', low: 1 }, { applied: ['low'] });
  // A twin that changes, in and out again; a device that comes later.
  const late = await newDevice(hub);
  await tag(late, { ring: 'w' });
  await has(late, { v: 'low', low: 1 });
  await tag(late, { ring: 'x' });
  t = await waitFor('the entry goes', async () => { const x = await twin(late.id); return !x.configurations && x; });
  assert.deepEqual(plain(t.properties.desired), { v: 'low', low: 1 });
  await drop('high');
  await drop('low');
  t = await waitFor('no configuration', async () => { const x = await twin(d.id); return !x.configurations && x; });
  assert.deepEqual(plain(t.properties.desired), { v: 'low', low: 1 });
  await created({ id: 'low', targetCondition: "tags.ring = 'w'", content: deviceContent({ v: 'made anew' }) });
  await has(d, { v: 'made anew', low: 1 }, { applied: ['low'] });
  await drop('low');
});

test('a null in a content removes, as in a patch; a later one that writes the member brings it back', async () => {
  const d = await newDevice(hub);
  assert.equal((await ask('PATCH', `/twins/${d.id}`, { properties: { desired: { gone: 1, n: { gone: 1, stays: 2 }, o: { p: 1 } } } })).status, 200);
  await tag(d, { nulls: 1 });
  await created({ id: 'nulls', targetCondition: 'tags.nulls = 1', priority: 1,
    content: { deviceContent: { 'properties.desired': { gone: null, x: 1 }, 'properties.desired.n.gone': null, 'properties.desired.o': null } } });
  await has(d, { n: { stays: 2 }, x: 1 }, { applied: ['nulls'] });
  await created({ id: 'back', targetCondition: 'tags.nulls = 1', priority: 2, content: { deviceContent: { 'properties.desired.gone': 3 } } });
  await has(d, { n: { stays: 2 }, x: 1, gone: 3 }, { applied: ['back'] });
  await drop('back');
  await has(d, { n: { stays: 2 }, x: 1 }, { applied: ['nulls'] });
  await drop('nulls');
});

test('every device, those to come too; modules', async () => {
  const d = await newDevice(hub);
  await created({ id: 'everyone', targetCondition: '*', content: { deviceContent: { 'properties.desired.net.ntp': 'pool', 'properties.desired.net.mtu': 1500 } } });
  await has(d, { net: { ntp: 'pool', mtu: 1500 } });
  const later = await newDevice(hub);
  await has(later, { net: { ntp: 'pool', mtu: 1500 } });
  assert.equal((await ask('PUT', `/devices/${d.id}/modules/m`, { deviceId: d.id, moduleId: 'm' })).status, 200);
  await created({ id: 'mods', targetCondition: `FROM devices.modules WHERE deviceId = '${d.id}'`, content: { moduleContent: { 'properties.desired': { m: 1 } } } });
  await waitFor('the module', async () => (await ask('GET', `/twins/${d.id}/modules/m`)).json.properties.desired.m === 1);
  await drop('everyone');
  await drop('mods');
});

test('[http 95] testQueries', async () => {
  const r = await ask('POST', '/configurations/testQueries', { targetCondition: 'tags.a = 1', customMetricQueries: { good: 'SELECT deviceId FROM devices', bad: 'SELECT' } });
  assert.equal(r.status, 200);
  assert.equal(r.json.targetConditionError, null);
  assert.deepEqual(Object.keys(r.json.customMetricQueryErrors), ['bad']);
  const star = await ask('POST', '/configurations/testQueries', { targetCondition: '*' });
  assert.equal(typeof star.json.targetConditionError, 'string');
  assert.equal(typeof (await ask('POST', '/configurations/testQueries', { targetCondition: 'tags.a ==' })).json.targetConditionError, 'string');
});

test('[http 96] what cannot be a configuration', async () => {
  const good = { id: 'bad', content: deviceContent({ a: 1 }), targetCondition: "tags.a = 1" };
  const refused = async (more, code) => {
    const r = await put({ ...good, ...more });
    assert.deepEqual([r.status, r.code], [400, code], JSON.stringify(more));
  };
  for (const targetCondition of ['properties.desired.a = 1', "connectionState = 'Connected'", 'tags.a ==', 'FROM devices.modules WHERE tags.a = 1'])
    await refused({ targetCondition }, 'InvalidConfigurationTargetCondition');
  for (const content of [undefined, {}, { deviceContent: { tags: {} } }, { deviceContent: { 'properties.reported': {} } }, { deviceContent: { 'properties.desired.': 1 } },
    { deviceContent: { 'properties.desired': 5 } }, { deviceContent: {}, moduleContent: {} }, { deviceContent: { 'properties.desired': { 'a$': 1 } } }])
    await refused({ content }, 'InvalidConfigurationContent');
  await refused({ content: { moduleContent: { 'properties.desired': {} } }, targetCondition: '*' }, 'InvalidConfigurationTargetCondition');
  // A client that writes the others empty means the one that is not.
  const three = await put({ ...good, id: 'three', content: { modulesContent: {}, moduleContent: {}, deviceContent: { 'properties.desired': { a: 1 } } } });
  assert.equal(three.status, 200, JSON.stringify(three.json));
  await drop('three');
  // PUT keeps a content: a condition has to fit the one that is there.
  await created({ id: 'fits', targetCondition: 'tags.a = 1' });
  const other = await put({ id: 'fits', content: { moduleContent: {} }, targetCondition: 'FROM devices.modules WHERE tags.a = 1' }, { 'if-match': '*' });
  assert.deepEqual([other.status, other.code], [400, 'InvalidConfigurationTargetCondition']);
  await drop('fits');
  await refused({ metrics: { queries: { a: 'SELECT' } } }, 'InvalidConfigurationCustomMetricsQuery');
  await refused({ metrics: { queries: Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`q${i}`, 'SELECT * FROM devices'])) } }, 'InvalidConfigurationCustomMetricsQuery');
  for (const more of [{ priority: -1 }, { priority: 1.5 }, { labels: { a: 1 } }, { id: 'Upper' }, { schemaVersion: 5 }]) await refused(more, 'ArgumentInvalid');
  const text = JSON.stringify(good);
  for (let n = 0; n < text.length; n += 5) assert.equal((await ask('PUT', '/configurations/bad', text.slice(0, n))).status, 400, `${n}`);
  assert.equal((await ask('GET', '/configurations/bad')).status, 404);
});

test('[http 97] edge: content needs its agent; applied to an edge device; deployments', async () => {
  const no = await put({ id: 'edge', content: { modulesContent: { m: { 'properties.desired': {} } } }, targetCondition: '*' });
  assert.deepEqual([no.status, no.code], [400, 'InvalidConfigurationContent']);
  const d = await newDevice(hub);
  const content = { modulesContent: { $edgeAgent: { 'properties.desired': { modules: { a: { image: 'x' } } } }, $edgeHub: { 'properties.desired': { routes: {} } }, mine: { 'properties.desired': { n: 1, none: null } } } };
  assert.equal((await ask('POST', `/devices/${d.id}/applyConfigurationContent`, content)).status, 400);
  assert.equal((await ask('POST', '/devices/nobody/applyConfigurationContent', content)).status, 404);
  for (const id of ['edge1', 'edge2']) assert.equal((await ask('PUT', `/devices/${id}`, { deviceId: id, capabilities: { iotEdge: true } })).status, 200);
  assert.equal((await ask('POST', '/devices/edge1/applyConfigurationContent', content)).status, 204);
  const module = async (id, m) => plain((await ask('GET', `/twins/${id}/modules/${m}`)).json.properties?.desired ?? {});
  assert.deepEqual(await module('edge1', '$edgeAgent'), { modules: { a: { image: 'x' } } });
  assert.deepEqual(await module('edge1', 'mine'), { n: 1 });
  const own = await ask('POST', '/devices/edge1/applyConfigurationContent', { deviceContent: { 'properties.desired.own': 7, 'properties.desired.not': null } });
  assert.equal(own.status, 204, JSON.stringify(own.json));
  assert.deepEqual(plain((await twin('edge1')).properties.desired), { own: 7 });
  assert.equal((await ask('POST', `/devices/${d.id}/applyConfigurationContent`, { deviceContent: { 'properties.desired.own': 7 } })).status, 400);
  const nameless = await ask('POST', '/devices/edge1/applyConfigurationContent', { moduleContent: { 'properties.desired.own': 7 } });
  assert.deepEqual([nameless.status, nameless.code], [400, 'InvalidConfigurationContent']);
  await tag({ id: 'edge2' }, { edge: 1 });
  await created({ id: 'base', targetCondition: 'tags.edge = 1', priority: 1, content });
  await waitFor('the deployment', async () => (await module('edge2', 'mine')).n === 1);
  await created({ id: 'layer', targetCondition: 'tags.edge = 1', priority: 2, content: { modulesContent: { $edgeAgent: { 'properties.desired.modules.b': { image: 'y' } } } } });
  await waitFor('the layer', async () => (await module('edge2', '$edgeAgent')).modules.b);
  assert.deepEqual((await module('edge2', '$edgeAgent')).modules, { a: { image: 'x' }, b: { image: 'y' } });
  assert.deepEqual((await twin('edge2')).configurations, { base: { status: 'Applied' }, layer: { status: 'Applied' } });
  await drop('layer');
  await waitFor('the layer goes', async () => !(await module('edge2', '$edgeAgent')).modules.b);
  await drop('base');
});

const metrics = async (id) => { const c = (await ask('GET', `/configurations/${id}`)).json; return { ...c.systemMetrics.results, ...c.metrics.results }; };
const counts = (id, want) => waitFor(`${id}: ${JSON.stringify(want)}`, async () => {
  const got = await metrics(id);
  return Object.entries(want).every(([k, v]) => got[k] === v) && got;
});

test('metrics are counted, and again when twins change', async () => {
  const [a, b] = [await newDevice(hub), await newDevice(hub)];
  await created({ id: 'counted', metrics: { queries: { hot: "SELECT deviceId FROM devices WHERE tags.hot = true", none: "SELECT deviceId FROM devices WHERE tags.hot = 'x'" } } });
  await counts('counted', { hot: 0, none: 0, targetedCount: 0 });
  await tag(a, { hot: true });
  await tag(b, { hot: true });
  await counts('counted', { hot: 2, none: 0 });
  await tag(b, { hot: null });
  await counts('counted', { hot: 1 });
  const c = (await ask('GET', '/configurations/counted')).json;
  assert.equal((await put({ ...c, metrics: { queries: { cold: "SELECT deviceId FROM devices WHERE tags.hot = false" } } }, { 'if-match': '*' })).status, 200);
  assert.deepEqual(Object.keys((await counts('counted', { cold: 0 }))).sort(), ['appliedCount', 'cold', 'targetedCount']);
  assert.deepEqual(JSON.parse((await hub.roost('config', 'metrics', 'counted', '--json')).stdout).results, { cold: 0 });
  await drop('counted');
});

// A module as itself; one of the system is given keys first, as a runtime does.
async function reportAs(device, module, reported) {
  const path = `/devices/${device}/modules/${module}`;
  const r = await ask('PUT', path, { ...(await ask('GET', path)).json, authentication: { type: 'sas' } }, { 'if-match': '*' });
  assert.equal(r.status, 200, JSON.stringify(r.json));
  const who = { id: `${device}/${module}`, key: r.json.authentication.symmetricKey.primaryKey };
  const c = await connected(hub, who, { password: sasToken(`${NAME}/devices/${device}/modules/${module}`, who.key) });
  await c.subscribe('$iothub/twin/res/#');
  c.send({ cmd: 'publish', topic: '$iothub/twin/PATCH/properties/reported/?$rid=1', payload: JSON.stringify(reported), qos: 0 });
  assert.match((await c.expect('publish')).topic, /res\/204\//);
  await c.disconnect();
}

test('an edge deployment counts what agents report', async () => {
  const content = { modulesContent: { $edgeAgent: { 'properties.desired': { modules: {} } } } };
  for (const id of ['edge4', 'edge5', 'edge6']) {
    assert.equal((await ask('PUT', `/devices/${id}`, { deviceId: id, capabilities: { iotEdge: true } })).status, 200);
    await tag({ id }, { fleet: 'e' });
  }
  await created({ id: 'reports', targetCondition: "tags.fleet = 'e' or tags.fleet = 'f'", content });
  await counts('reports', { targetedCount: 3, appliedCount: 3, reportedSuccessfulCount: 0, reportedFailedCount: 0 });
  // Agents say what became of the version that they have: one of them well, one badly, one of an older version.
  const report = async (id, code, back = 0) => {
    const t = (await ask('GET', `/twins/${id}/modules/$edgeAgent`)).json;
    await reportAs(id, '$edgeAgent', { lastDesiredVersion: t.properties.desired.$version - back, lastDesiredStatus: { code } });
  };
  await report('edge4', 200);
  await report('edge5', 500);
  await report('edge6', 200, 1);
  await counts('reports', { reportedSuccessfulCount: 1, reportedFailedCount: 1 });
  const { queries } = (await ask('GET', '/configurations/reports')).json.systemMetrics;
  const rows = async (query) => (await ask('POST', '/devices/query', { query })).json;
  assert.deepEqual(await rows(queries.reportedSuccessfulCount), [{ deviceId: 'edge4' }]);
  assert.deepEqual(await rows(queries.reportedFailedCount), [{ deviceId: 'edge5' }]);
  assert.equal((await rows(queries.targetedCount)).length, 3);
  await drop('reports');
});

test('the SDK', async () => {
  const d = await newDevice(hub);
  const config = { id: 'sdk', content: deviceContent({ by: 'sdk' }), targetCondition: `deviceId = '${d.id}'`, priority: 3 };
  await registry.addConfiguration(config);
  await has(d, { by: 'sdk' });
  const { responseBody: got } = await registry.getConfiguration('sdk');
  assert.equal(got.priority, 3);
  await registry.updateConfiguration({ ...got, priority: 4 });
  const { responseBody: all } = await registry.getConfigurations();
  assert.deepEqual(all.filter((c) => c.id === 'sdk').map((c) => c.priority), [4]);
  await registry.removeConfiguration('sdk');
  await assert.rejects(registry.getConfiguration('sdk'));
});

test('roost config: made, listed, changed, watched, deleted', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'roost-config-'));
  try {
    const roost = (...args) => hub.roost('config', ...args, { ok: false });
    const file = (name, text) => { writeFileSync(join(dir, name), text); return join(dir, name); };
    const d = await newDevice(hub);
    const content = file('content.json', '{"deviceContent":{"properties.desired":{"by":"cli","exact":1.0}}}');
    let r = await roost('create', 'cli', '--where', `deviceId = '${d.id}'`, '--priority', '4', '--content', content);
    assert.equal(r.code, 0, r.stderr);
    assert.equal(r.stdout, 'cli: made, priority 4, etag 1\n');
    await has(d, { by: 'cli', exact: 1 });
    assert.match((await hub.request('GET', '/roost/v1/configurations/cli')).body.toString(), /"exact":1\.0/);
    assert.equal((await roost('create', 'cli', '--content', content)).code, 3);
    assert.match((await roost('list')).stdout, /cli\s+4\s+1\s+1\s+deviceId = /);
    assert.deepEqual(JSON.parse((await roost('list', '--json')).stdout).filter((c) => c.id === 'cli').map((c) => c.priority), [4]);
    r = await roost('metrics', 'cli', '--watch', '-n', '1');
    const { targeted, applied } = JSON.parse(r.stdout);
    assert.deepEqual([targeted, applied], [1, 1]);
    r = await roost('set', 'cli', '--priority', '5', '--if-match', '1', '--json');
    assert.equal(JSON.parse(r.stdout).priority, 5);
    assert.equal(JSON.parse(r.stdout).where, `deviceId = '${d.id}'`);
    assert.equal((await roost('set', 'cli', '--priority', '6', '--if-match', '1')).code, 3);
    assert.equal((await roost('set', 'cli', '--where', 'tags.a ==')).code, 3);
    assert.equal((await roost('set', 'cli')).code, 1);
    assert.equal((await roost('set', 'cli', '--labels', file('bad.json', '{"a":'))).code, 1);
    const whole = file('whole.json', JSON.stringify({ where: '', labels: { a: 'b' } }));
    assert.equal((await roost('set', 'cli', '--file', whole)).code, 0);
    const shown = JSON.parse((await roost('show', 'cli', '--json')).stdout);
    assert.deepEqual([shown.where, shown.priority, shown.labels], ['', 0, { a: 'b' }]);
    assert.equal((await roost('create', 'cli2', '--file', file('a.json', JSON.stringify({ content: { deviceContent: {} } })))).code, 0);
    assert.equal((await roost('delete', 'cli', 'cli2')).code, 0);
    assert.equal((await roost('show', 'cli')).code, 1);
    assert.equal((await ask('PUT', '/devices/edge3', { deviceId: 'edge3', capabilities: { iotEdge: true } })).status, 200);
    const modules = file('modules.json', JSON.stringify({ modulesContent: { $edgeAgent: { 'properties.desired': { a: 1 } } } }));
    assert.equal((await roost('apply', 'edge3', '--file', modules)).code, 0);
    assert.equal((await ask('GET', '/twins/edge3/modules/$edgeAgent')).json.properties.desired.a, 1);
    assert.equal((await roost('apply', d.id, '--file', modules)).code, 3);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
