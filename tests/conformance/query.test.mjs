// Queries over HTTPS: the specification's sample fleet made through the interfaces that everybody has (what those
// cannot set is left out here and held by hub/domain/query/query_test.c), pages, refusals, the service SDK, the CLI.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import service from 'azure-iothub';
import { root } from '../lib/roost.mjs';
import { NAME, closeHub, deviceToken, openHub, parseConnectionString, policyKey, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const vectors = (name) => JSON.parse(readFileSync(join(root, `tests/vectors/query-${name}.json`), 'utf8'));
const fleet = vectors('fleet');
const V = 'api-version=2021-04-12';
let hub;

async function must(method, path, body, headers = {}) {
  const r = await hub.request(method, `${path}?${V}`, { body, headers: { 'content-type': 'application/json', ...headers } });
  assert.equal(r.status, 200, `${method} ${path}: ${r.body}`);
  return r.json;
}
const plain = (section) => Object.fromEntries(Object.entries(section).filter(([k]) => !k.startsWith('$')));
const pathOf = (t) => `/twins/${t.deviceId}${t.moduleId ? `/modules/${t.moduleId}` : ''}`;

// As the device or module itself, over MQTT.
async function report(t, identity) {
  const reported = plain(t.properties.reported);
  if (!Object.keys(reported).length) return;
  const { primaryKey: key } = identity.authentication.symmetricKey;
  const resource = `${NAME}/devices/${t.deviceId}${t.moduleId ? `/modules/${t.moduleId}` : ''}`;
  const who = { id: t.moduleId ? `${t.deviceId}/${t.moduleId}` : t.deviceId, key };
  const c = await connected(hub, who, { password: deviceToken(who, { resource }) });
  await c.subscribe({ topic: '$iothub/twin/res/#', qos: 0 });
  c.send({ cmd: 'publish', topic: '$iothub/twin/PATCH/properties/reported/?$rid=1', payload: JSON.stringify(reported), qos: 0 });
  assert.match((await c.expect('publish')).topic, /res\/204\//);
  await c.disconnect();
}

const canBeMade = (t) => !t.moduleId?.startsWith('$');
const scopes = {}; // the hub names them itself
async function makeDevice(t) {
  const parents = (t.parentScopes ?? []).map((s) => scopes[s]);
  const identity = await must('PUT', `/devices/${t.deviceId}`, {
    deviceId: t.deviceId, capabilities: t.capabilities,
    ...(parents.length ? (t.capabilities.iotEdge ? { parentScopes: parents } : { deviceScope: parents[0] }) : {}),
    authentication: t.authenticationType === 'sas' ? { type: 'sas' } : { type: 'selfSigned', x509Thumbprint: t.x509Thumbprint },
  });
  if (t.capabilities.iotEdge) scopes[t.deviceScope] = identity.deviceScope;
  return identity;
}

before(async () => {
  hub = await openHub({ settings: { query: { indexed_paths: '"tags.site, tags.floor, properties.reported.battery"' } } });
  const identities = [];
  for (const t of fleet.devices) identities.push([t, await makeDevice(t)]);
  for (const t of fleet.modules.filter(canBeMade))
    identities.push([t, await must('PUT', `/devices/${t.deviceId}/modules/${t.moduleId}`, { deviceId: t.deviceId, moduleId: t.moduleId })]);
  for (const [t, identity] of identities) {
    await must('PATCH', pathOf(t), { tags: t.tags, properties: { desired: plain(t.properties.desired) } });
    if (t.authenticationType === 'sas') await report(t, identity);
  }
  // A disabled device does not sign in, so it has reported before.
  for (const [t, identity] of identities.filter(([x]) => x.status === 'disabled'))
    await must('PUT', `/devices/${t.deviceId}`, { ...identity, status: 'disabled', statusReason: t.statusReason }, { 'if-match': '*' });
});
after(async () => { await closeHub(hub); });

function ask(query, { max, next, body = { query }, ...more } = {}) {
  return hub.request('POST', `/devices/query?${V}`, { body, ...more,
    headers: { 'content-type': 'application/json', ...(max ? { 'x-ms-max-item-count': `${max}` } : {}), ...(next ? { 'x-ms-continuation': next } : {}) } });
}
async function pages(query, max) {
  const all = [];
  let next;
  do {
    const r = await ask(query, { max, next });
    assert.equal(r.status, 200, `${query}: ${r.body}`);
    all.push(r.json);
    next = r.headers['x-ms-continuation'];
  } while (next);
  return all;
}

const unset = { 'verbatim': 'versions', 'connection': 'times and connections', 'configurations': 'configurations', 'jobs': 'job records' };
const idOf = (t) => (t.moduleId ? `${t.deviceId}/${t.moduleId}` : t.deviceId);
const inAnyOrder = (list) => list.map((x) => JSON.stringify(x)).sort();

for (const c of vectors('queries')) {
  const left = c.tags.find((t) => unset[t]) ?? (/\$edge/.test(c.query) && 'system modules') ?? undefined;
  test(`[http 80] ${c.id}: ${c.query}`, { skip: left && `the public interfaces cannot set ${unset[left] ?? left}; hub/domain/query/query_test.c has it` }, async () => {
    // Scopes have the hub's own numbers.
    const text = Object.entries(scopes).reduce((q, [theirs, ours]) => q.replaceAll(theirs, ours), c.query);
    const r = await ask(text);
    if (c.expect.error) {
      assert.equal(r.status, c.expect.error);
      return;
    }
    assert.equal(r.status, 200, `${r.body}`);
    assert.equal(r.headers['x-ms-item-type'], c.expect.itemType);
    if (c.expect.ids) assert.deepEqual(r.json.map(idOf).sort(), [...c.expect.ids].sort());
    else assert.deepEqual(inAnyOrder(r.json), inAnyOrder(c.expect.rows));
  });
}

test('indexes that a start finds missing are made while it serves, and status says when they are there', async () => {
  const { queryIndexes } = await waitFor('indexes', async () => {
    const status = await hub.api('GET', '/roost/v1/status');
    return status.queryIndexes.every((i) => i.ready) && status;
  });
  assert.deepEqual(queryIndexes, ['tags.site', 'tags.floor', 'properties.reported.battery'].map((path) => ({ path, ready: true, percent: 100 })));
  assert.doesNotMatch((await hub.roost('status')).stdout, /being made/);
});

test('[http 77] the item type is spelled exactly', async () => {
  for (const [query, type] of [['SELECT * FROM devices', 'Twin'], ['SELECT * FROM devices.modules', 'Twin'],
    ['SELECT deviceId FROM devices', 'Raw'], ['SELECT COUNT() FROM devices', 'Raw'], ['SELECT * FROM devices.jobs', 'DeviceJob']])
    assert.equal((await ask(query)).headers['x-ms-item-type'], type);
});

test('[http 78] pages are full, the last one has no continuation', async () => {
  const sizes = async (query, max) => (await pages(query, max)).map((p) => p.length);
  const five = "SELECT * FROM devices WHERE deviceId IN ['sensor-001', 'sensor-002', 'sensor-003', 'Sensor-004', 'gw-01']";
  assert.deepEqual(await sizes(five, 2), [2, 2, 1]);
  assert.deepEqual(await sizes(five, 5), [5]);
  assert.deepEqual(await sizes('SELECT * FROM devices', 3), [3, 3, 2]);
  assert.deepEqual(await sizes('SELECT * FROM devices', 8), [8]);
  assert.deepEqual(await sizes('SELECT * FROM devices', 100000), [8]);
  assert.deepEqual(await sizes('SELECT TOP 3 * FROM devices', 2), [2, 1]);
  assert.deepEqual(await sizes("SELECT * FROM devices WHERE deviceId = 'nobody'", 3), [0]);
  const all = (await pages('SELECT * FROM devices', 1)).flat();
  assert.deepEqual(all.map((t) => t.deviceId), fleet.devices.map((t) => t.deviceId)); // in the order of their creation
});

test('a document is what the twin itself answers', async () => {
  const r = await ask("SELECT * FROM devices WHERE deviceId = 'sensor-001'");
  assert.deepEqual(r.json[0], await (await hub.request('GET', `/twins/sensor-001?${V}`)).json);
  const m = await ask("SELECT * FROM devices.modules WHERE moduleId = 'probe'");
  assert.deepEqual(m.json[0], await (await hub.request('GET', `/twins/sensor-001/modules/probe?${V}`)).json);
});

test('a continuation is good for its query alone, also after a restart', async () => {
  const query = 'SELECT deviceId FROM devices';
  const next = (await ask(query, { max: 3 })).headers['x-ms-continuation'];
  const refused = async (r) => {
    assert.equal(r.status, 400);
    assert.match(r.json.Message, /^ErrorCode:ArgumentInvalid;BadRequest; x-ms-continuation/);
  };
  await refused(await ask(`${query} `, { max: 3, next }));
  await refused(await ask(query, { next: next.replace(/^../, (x) => (x === '00' ? '01' : '00')) }));
  await refused(await ask(query, { next: 'x' }));
  await hub.stop();
  await hub.start();
  const r = await ask(query, { max: 3, next });
  assert.deepEqual(r.json.map((t) => t.deviceId), fleet.devices.slice(3, 6).map((t) => t.deviceId));
});

test('[http 79] what is not a query is refused with the place in it', async () => {
  const bad = async (body, message) => {
    const r = await ask(undefined, { body });
    assert.equal(r.status, 400);
    assert.equal(r.headers['iothub-errorcode'], 'ArgumentInvalid');
    assert.match(r.json.Message, message);
  };
  await bad({ query: 'SELECT *\nFROM things' }, /^ErrorCode:ArgumentInvalid;BadRequest; line 2, column 6: expected devices, .* found things$/);
  await bad({ query: '' }, /BadRequest; line 1, column 1: expected SELECT/);
  await bad({ query: `SELECT * FROM devices${' '.repeat(8192)}` }, /longer than 8192 characters/);
  await bad({ query: 7 }, /BadRequest/);
  await bad({}, /BadRequest/);
  assert.equal((await ask(undefined, { body: '[' })).status, 400);
  assert.equal((await ask(undefined, { body: JSON.stringify({ query: 'x'.repeat(70000) }) })).status, 413);
  assert.equal((await ask(`SELECT * FROM devices${' '.repeat(8192 - 21)}`)).status, 200);
});

test('the right to it is ServiceConnect', async () => {
  const as = (name) => ask('SELECT * FROM devices', { policy: { name, key: policyKey(hub, name) } });
  assert.equal((await as('service')).status, 200);
  assert.equal((await as('registryRead')).status, 401);
  assert.equal((await as('device')).status, 401);
});

test('[http 81] the service SDK reads all pages', async () => {
  const c = parseConnectionString(hub.connectionString);
  const registry = service.Registry.fromConnectionString(`HostName=${NAME};SharedAccessKeyName=${c.SharedAccessKeyName};SharedAccessKey=${c.SharedAccessKey}`);
  const query = registry.createQuery('SELECT * FROM devices', 3);
  const seen = [];
  let reads = 0;
  while (query.hasMoreResults) {
    const { result } = await query.nextAsTwin(query.continuationToken);
    reads++;
    for (const t of result) {
      assert.equal(typeof t.update, 'function');
      seen.push(t.deviceId);
    }
  }
  assert.deepEqual(seen, fleet.devices.map((t) => t.deviceId));
  assert.equal(reads, 3);
  const raw = registry.createQuery("SELECT COUNT() AS total FROM devices WHERE status = 'enabled'");
  assert.deepEqual((await raw.next()).result, [{ total: 7 }]);
});

test("the hub's own interface: the page and its continuation in one body", async () => {
  const query = "SELECT deviceId FROM devices WHERE tags.site = 'munich'";
  const one = await hub.api('POST', '/roost/v1/query', { query, limit: 2 });
  assert.equal(one.type, 'Raw');
  assert.deepEqual(one.rows, [{ deviceId: 'sensor-001' }, { deviceId: 'sensor-002' }]);
  const two = await hub.api('POST', '/roost/v1/query', { query, limit: 2, next: one.next });
  assert.deepEqual(two, { type: 'Raw', rows: [{ deviceId: 'gw-01' }] });
  const refused = async (body, code, message) => {
    const r = await hub.request('POST', '/roost/v1/query', { body });
    assert.equal(r.status, 400);
    assert.equal(r.json.error.code, code);
    assert.match(r.json.error.message, message);
  };
  await refused({ query: 'SELECT a, FROM devices' }, 'bad-query-text', /^line 1, column 11: expected \*, a path or an aggregate, found FROM$/);
  await refused({ query, next: 'x' }, 'bad-continuation', /next/);
  await refused({ query, x: 1 }, 'unknown-member', /"x"/);
  await refused({}, 'missing-member', /"query"/);
});

test('roost query: a table, JSON, CSV, and a caret below what is wrong', async () => {
  const text = "SELECT deviceId, tags.site, tags.fleet FROM devices WHERE tags.site = 'munich' OR deviceId = 'leaf-01'";
  const table = (await hub.roost('query', text)).stdout.split('\n');
  assert.match(table[0], /^deviceId +site +fleet/i);
  assert.match(table[1], /^sensor-001 +munich +\{"region":"eu","ring":1\}/);
  assert.match(table[4], /^leaf-01 +-/);
  assert.deepEqual(JSON.parse((await hub.roost('query', text, '--json')).stdout)[0], { deviceId: 'sensor-001', site: 'munich', fleet: { region: 'eu', ring: 1 } });
  assert.deepEqual(JSON.parse((await hub.roost('query', "SELECT * FROM devices WHERE false", '--json')).stdout), []);
  assert.deepEqual((await hub.roost('query', text, '--csv')).stdout.split('\r\n').slice(0, 2),
    ['deviceId,site,fleet', 'sensor-001,munich,"{""region"":""eu"",""ring"":1}"']);
  assert.equal(JSON.parse((await hub.roost('query', 'SELECT * FROM devices', '--json', '--limit', '3')).stdout).length, 3);
  assert.match((await hub.roost('query', 'SELECT * FROM devices')).stdout, /^deviceId +status/i);
  const bad = await hub.roost('query', 'SELECT *\nFROM devices WHERE tags.site ==', { ok: false });
  assert.equal(bad.code, 3);
  const lines = bad.stderr.split('\n');
  const at = lines.findIndex((l) => l === '  FROM devices WHERE tags.site ==');
  assert.ok(at > 0, bad.stderr);
  assert.equal(lines[at + 1].indexOf('^'), 2 + 'FROM devices WHERE tags.site ='.length);
});
