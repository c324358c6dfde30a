// docs/openapi.yaml is what the hub does: its paths are the route table, and every answer of a hub that is put
// through all of them has a documented status, content type, body and error code. Whoever adds a route describes it
// there and asks for it here.
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { appendFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import Ajv from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { Fleet } from '../lib/fleet.mjs';
import { Hub, root, run, sasToken, waitFor } from '../lib/roost.mjs';
import { Raw } from './lib/raw.mjs';

const doc = parse(readFileSync(join(root, 'docs/openapi.yaml'), 'utf8'));
const METHODS = ['get', 'put', 'post', 'patch', 'delete', 'head'];
const operations = Object.entries(doc.paths).flatMap(([path, item]) =>
  METHODS.filter((m) => item[m]).map((m) => ({ path, method: m, op: item[m], parameters: [...(item.parameters ?? []), ...(item[m].parameters ?? [])] })));

// ---- the table of routes, from its source ------------------------------------------------------------------

// Macros with a path in them are written out; that is all of the preprocessor the table uses.
function routes(file, table) {
  const text = readFileSync(join(root, file), 'utf8').replace(/\\\n/g, ' ').replace(/\/\* [^]*?\*\//g, '');
  let body = new RegExp(`struct http_route ${table}\\[\\] = \\{([^]*?)\\n\\};`).exec(text)[1];
  for (const [, name, parameter, what] of text.matchAll(/^#define (\w+?)(?:\((\w+)\))?[ ]+(.*HTTP_.*)$/gm))
    body = body.replace(parameter ? new RegExp(`\\b${name}\\(([^)]*)\\)`, 'g') : new RegExp(`\\b${name}\\b`, 'g'),
      (_, given) => (parameter ? what.replace(new RegExp(`\\b${parameter}\\b`, 'g'), given) : what));
  return [...body.matchAll(/\{\s*((?:HTTP_\w+_\s*\|?\s*)+),\s*((?:"[^"]*"\s*)+),\s*(\w+)/g)].filter((m) => m[3] !== 'NULL').flatMap(([, methods, pattern]) =>
    methods.match(/HTTP_\w+?_/g).map((m) => `${m.slice(5, -1)} ${[...pattern.matchAll(/"([^"]*)"/g)].map((p) => p[1]).join('').replace('**', '{}')}`));
}

test('the paths are those of the route table', () => {
  const table = routes('hub/front/roost_http/roost_http.c', 'routes').sort();
  assert.ok(table.length > 40, `${table.length} routes were read`);
  const described = operations.map(({ path, method }) => `${method.toUpperCase()} ${path.replace(/\{\w+\}/g, '{}')}`).sort();
  assert.deepEqual({ undescribed: table.filter((r) => !described.includes(r)), unserved: described.filter((r) => !table.includes(r)) }, { undescribed: [], unserved: [] });
});

// ---- the file itself ---------------------------------------------------------------------------------------

const ajv = new Ajv({ strict: true, allErrors: true, allowUnionTypes: true, strictRequired: false });
ajv.addVocabulary(['components']);
ajv.addSchema({ $id: 'roost', components: doc.components.schemas ? { schemas: doc.components.schemas } : {} });
const resolve = (x) => (x?.$ref ? x.$ref.slice(2).split('/').reduce((at, name) => at[name], doc) : x);
const checks = new Map();
function check(schema) {
  const text = JSON.stringify(schema).replaceAll('"#/components/', '"roost#/components/');
  if (!checks.has(text)) checks.set(text, ajv.compile(JSON.parse(text)));
  return checks.get(text);
}

test('every schema is one, every reference leads somewhere, ids are told apart', () => {
  for (const name of Object.keys(doc.components.schemas)) check({ $ref: `#/components/schemas/${name}` });
  const seen = new Set();
  const walk = (x) => {
    if (!x || typeof x !== 'object') return;
    if (typeof x.$ref === 'string') assert.ok(resolve(x), x.$ref);
    Object.values(x).forEach(walk);
  };
  walk(doc);
  for (const { path, op, parameters } of operations) {
    assert.ok(op.operationId && !seen.has(op.operationId), op.operationId);
    seen.add(op.operationId);
    const inPath = parameters.map(resolve).filter((p) => p.in === 'path').map((p) => p.name).sort();
    assert.deepEqual(inPath, [...path.matchAll(/\{(\w+)\}/g)].map((m) => m[1]).sort(), path);
    assert.ok(op.responses.default, path);
  }
});

// ---- errors ------------------------------------------------------------------------------------------------

const statusesOf = new Map(); // code -> [status]
for (const [status, codes] of Object.entries(doc['x-errors'])) for (const c of codes) statusesOf.set(c, [...(statusesOf.get(c) ?? []), Number(status)]);

test('the errors are those of the sources, with their status', () => {
  const folders = ['hub/front/roost_http', 'hub/front/http', 'hub/conn'];
  const files = [...folders.flatMap((f) => readdirSync(join(root, f)).filter((n) => n.endsWith('.c') && !n.endsWith('_test.c') && (f !== 'hub/conn' || n.startsWith('http'))).map((n) => join(f, n))),
    'hub/domain/provisioning/provisioning.c'];
  const text = files.map((f) => readFileSync(join(root, f), 'utf8')).join('\n');
  const notHere = ['bad-websocket', 'websocket-version']; // of upgrades, which no path of the file takes
  let nr = 0;
  for (const m of text.matchAll(/(?:JOB_REFUSE|job_fail|http_error|refuse_and_close)\(\s*[^;"]{1,40}?(\d{3}),\s*(?:[^";,]{1,60}\?\s*)?"([a-z-]+)"(?:\s*:\s*"([a-z-]+)")?/g))
    for (const code of [m[2], m[3]].filter((c) => c && !notHere.includes(c))) {
      assert.ok(statusesOf.get(code)?.includes(Number(m[1])), `${m[1]} ${code} is not in x-errors`);
      nr++;
    }
  assert.ok(nr > 150, `${nr} errors were read`);
  const used = new Set([...doc['x-common-codes'], ...operations.flatMap(({ op }) => op['x-codes'] ?? [])]);
  for (const code of statusesOf.keys()) {
    assert.ok(text.includes(`"${code}"`), `${code} is in no source`);
    assert.ok(used.has(code), `${code} is of no operation`);
  }
  for (const code of used) assert.ok(statusesOf.has(code), `${code} has no status in x-errors`);
});

// ---- a hub -------------------------------------------------------------------------------------------------

let fleet, hub;
const reached = new Map(); // operation -> statuses that were seen
const refusals = new Set(); // codes that were seen
before(async () => {
  fleet = await Fleet.create();
  hub = fleet.hub;
});
after(async () => {
  await fleet?.remove();
});

function operationOf(method, path) {
  const bare = path.split('?')[0].split('/');
  const fits = operations.filter((o) => o.method === method.toLowerCase() && o.path.split('/').length === bare.length &&
    o.path.split('/').every((s, i) => s.startsWith('{') || s === bare[i]));
  assert.equal(fits.length, 1, `${method} ${path}`);
  return fits[0];
}

const ownerKey = () => /SharedAccessKey=(\S+)/.exec(hub.connectionString)[1];
async function metrics() {
  const r = await fetch(`http://127.0.0.1:${hub.ops}/metrics`);
  return r.text();
}

// `fn` asks another hub; that one ends with it.
async function atAnotherHub(settings, fn) {
  const before = hub;
  hub = await Hub.create();
  try {
    for (const [section, values] of Object.entries(settings))
      appendFileSync(join(hub.dir, 'roost.yaml'), `${section}:\n${Object.entries(values).map(([n, v]) => `  ${n}: ${v}\n`).join('')}`);
    await hub.start();
    await fn();
  } finally {
    await hub.remove();
    hub = before;
  }
}

// Asks, and holds the answer to the file. `want`: the status there has to be.
async function ask(method, path, want, { body, headers, ...options } = {}) {
  const r = await hub.request(method, path, { body, headers, ...options });
  described(method, path, r, want, body);
  return r;
}
// Holds an answer to the file.
function described(method, path, r, want, body) {
  const { op } = operationOf(method, path);
  const what = `${method} ${path}: ${r.status} ${r.body.subarray(0, 400)}`;
  assert.equal(r.status, want, what);
  reached.set(op, (reached.get(op) ?? new Set()).add(r.status));
  const answer = resolve(op.responses[r.status] ?? (r.status >= 400 ? op.responses.default : undefined));
  assert.ok(answer, `${what}: this status is not described`);
  const type = r.headers['content-type']?.split(';')[0];
  for (const [name, h] of Object.entries(answer.headers ?? {})) {
    assert.ok(!resolve(h).required || r.headers[name.toLowerCase()] !== undefined, `${what}: no ${name}`);
  }
  if (method === 'HEAD') return undefined;
  const taken = op.requestBody?.content['application/json']?.schema;
  if (taken && r.status < 300) assert.ok(check(taken)(body), `${what}: what was taken is not described: ${ajv.errorsText(check(taken).errors)}`);
  assert.equal(type, answer.content ? Object.keys(answer.content)[0] : undefined, `${what}: ${type}`);
  if (!answer.content) assert.equal(r.body.length, 0, what);
  const schema = answer.content?.[type]?.schema;
  if (schema && /json$/.test(type)) {
    const values = type === 'application/x-ndjson' ? r.body.toString().trim().split('\n').filter(Boolean).map((l) => JSON.parse(l)) : [JSON.parse(r.body)];
    const ok = check(schema);
    for (const v of values) assert.ok(ok(v), `${what}: ${ajv.errorsText(ok.errors)}`);
  }
  if (r.status >= 400) {
    const codes = [...doc['x-common-codes'], ...(op['x-codes'] ?? [])];
    assert.ok(codes.includes(r.json.error.code), `${what}: this code is not described`);
    assert.ok(statusesOf.get(r.json.error.code).includes(r.status), `${what}: the code has another status`);
    refusals.add(r.json.error.code);
  }
  return r.json;
}

test('devices, modules, twins, messages, methods', async () => {
  await ask('GET', '/roost/v1/status', 200);
  await ask('PUT', '/roost/v1/devices/d1', 201, { body: {} });
  await ask('PUT', '/roost/v1/devices/d1', 200, { body: {} });
  await ask('PUT', '/roost/v1/devices/d1', 409, { body: {}, headers: { 'if-none-match': '*' } });
  await ask('PUT', '/roost/v1/devices/d1', 400, { body: '{' });
  await ask('PUT', '/roost/v1/devices/d1', 400, { body: { statuss: 'x' } });
  await ask('PUT', '/roost/v1/devices/x1', 201, { body: { authentication: 'selfSigned', thumbprint: 'ab'.repeat(32) } });
  await ask('PUT', '/roost/v1/devices/d2', 201, { body: { status: 'disabled' } });
  await ask('GET', '/roost/v1/devices/d1', 200);
  await ask('GET', '/roost/v1/devices/x1', 200);
  await ask('GET', '/roost/v1/devices/nobody', 404);
  await ask('GET', '/roost/v1/devices?limit=2', 200);
  await ask('GET', '/roost/v1/devices?limit=0', 400);
  await ask('POST', '/roost/v1/devices/d1/approve', 200, { body: {} });
  await ask('POST', '/roost/v1/devices/nobody/approve', 404, { body: {} });
  await ask('PUT', '/roost/v1/devices/d1/modules/m', 201, { body: { managedBy: 'x' } });
  await ask('PUT', '/roost/v1/devices/d1/modules/m', 200, { body: {} });
  await ask('PUT', '/roost/v1/devices/d1/modules/m', 409, { body: {}, headers: { 'if-none-match': '*' } });
  await ask('PUT', '/roost/v1/devices/nobody/modules/m', 404, { body: {} });
  await ask('GET', '/roost/v1/devices/d1/modules/m', 200);
  await ask('GET', '/roost/v1/devices/d1/modules/n', 404);
  await ask('GET', '/roost/v1/devices/d1/modules', 200);
  for (const twin of ['/roost/v1/devices/d1/twin', '/roost/v1/devices/d1/modules/m/twin']) {
    await ask('GET', twin, 200);
    await ask('PATCH', twin, 200, { body: { tags: { a: 1 }, desired: { b: { c: [1, 'x'] } } } });
    await ask('GET', `${twin}?metadata=true`, 200);
    await ask('PUT', twin, 200, { body: { tags: {}, desired: {} } });
    await ask('PATCH', twin, 400, { body: { tags: { 'a.b': 1 } } });
    await ask('PATCH', twin, 412, { body: { tags: {} }, headers: { 'if-match': '"AAAAAAAAAAA="' } });
    await ask('GET', twin.replace('d1', 'nobody'), 404);
  }
  await ask('POST', '/roost/v1/devices/d1/messages', 201, { body: { body: 'x', properties: { a: 'b' }, ack: 'full' } });
  await ask('POST', '/roost/v1/devices/nobody/messages', 404, { body: { body: 'x' } });
  await ask('POST', '/roost/v1/devices/d1/messages', 413, { body: { body: 'x'.repeat(65000), properties: { a: 'x'.repeat(1000) } } });
  await ask('POST', '/roost/v1/devices/d1/modules/m/messages', 201, { body: { bodyBase64: 'AAE=' } });
  await ask('POST', '/roost/v1/broadcast', 201, { body: { body: 'all' } });
  await ask('POST', '/roost/v1/devices/d1/methods/reboot', 409, { body: { payload: 1 } });
  await ask('POST', '/roost/v1/devices/nobody/methods/reboot', 404, { body: {} });
  await ask('POST', '/roost/v1/devices/d1/modules/m/methods/reboot', 409, { body: {} });
  await ask('GET', '/roost/v1/broadcasts', 200);
  await ask('GET', '/roost/v1/broadcasts/1000000', 404);
  await ask('GET', `/roost/v1/broadcasts/${(await hub.api('GET', '/roost/v1/broadcasts')).broadcasts[0].sequence}`, 200);
  await ask('GET', '/roost/v1/feedback', 200);
  await ask('GET', '/roost/v1/feedback?after=latest', 200);
  await ask('PUT', '/roost/v1/jobs/j1', 201, { body: { where: '*', twin: { tags: { j: 1 } }, start: new Date(Date.now() + 3600e3).toISOString() } });
  await ask('PUT', '/roost/v1/jobs/j1', 409, { body: { where: '*', method: { name: 'x' } } });
  await ask('PUT', '/roost/v1/jobs/j2', 400, { body: { where: '*', twin: {} } });
  await ask('GET', '/roost/v1/jobs', 200);
  await ask('GET', '/roost/v1/jobs?limit=1&status=scheduled', 200);
  await ask('GET', '/roost/v1/jobs/j1', 200);
  await ask('GET', '/roost/v1/jobs/none', 404);
  await ask('POST', '/roost/v1/jobs/j1/cancel', 200);
  await ask('POST', '/roost/v1/jobs/j1/cancel', 409);
  const config = '/roost/v1/configurations/c1', content = { deviceContent: { 'properties.desired': { c: 1 } } };
  await ask('PUT', config, 404, { body: { content }, headers: { 'if-match': '*' } });
  await ask('PUT', config, 400, { body: { where: 'tags.none = 1' } });
  await ask('PUT', config, 201, { body: { content, where: 'tags.none = 1', priority: 3, labels: { a: 'b' }, metrics: { all: 'SELECT deviceId FROM devices' } } });
  await ask('PUT', config, 200, { body: { where: 'tags.none = 1', schemaVersion: '1' } });
  await ask('PUT', config, 409, { body: { content }, headers: { 'if-none-match': '*' } });
  await ask('PUT', config, 409, { body: { content: { deviceContent: { 'properties.desired': { c: 2 } } } } });
  await ask('PATCH', config, 200, { body: { priority: 4 }, headers: { 'if-match': '"2"' } });
  await ask('PATCH', config, 412, { body: { priority: 5 }, headers: { 'if-match': '"2"' } });
  await ask('PATCH', config, 400, { body: { where: 'tags.a ==' } });
  await ask('PATCH', config, 400, { body: { content } });
  await ask('PATCH', config, 400, { body: { metrics: { m: 'SELECT' } } });
  await ask('PATCH', '/roost/v1/configurations/none', 404, { body: {} });
  await ask('GET', '/roost/v1/configurations', 200);
  await ask('GET', config, 200);
  await ask('GET', '/roost/v1/configurations/none', 404);
  await ask('DELETE', config, 412, { headers: { 'if-match': '"1"' } });
  await ask('DELETE', config, 204);
  await ask('DELETE', config, 404);
  await hub.request('PUT', '/devices/edge?api-version=2021-04-12', { body: { deviceId: 'edge', capabilities: { iotEdge: true } } });
  const modulesContent = { $edgeAgent: { 'properties.desired': { modules: {} } } };
  await ask('POST', '/roost/v1/devices/edge/content', 204, { body: { modulesContent } });
  await ask('POST', '/roost/v1/devices/edge/content', 400, { body: { modulesContent: {} } });
  await ask('POST', '/roost/v1/devices/d1/content', 409, { body: { modulesContent } });
  await ask('POST', '/roost/v1/devices/nobody/content', 404, { body: { modulesContent } });
  await ask('POST', '/roost/v1/query', 200, { body: { query: 'SELECT * FROM devices', limit: 1 } });
  await ask('POST', '/roost/v1/query', 200, { body: { query: 'SELECT COUNT() AS n FROM devices' } });
  await ask('POST', '/roost/v1/query', 400, { body: { query: 'SELECT' } });
  await ask('DELETE', '/roost/v1/devices/d1/modules/m', 204);
  await ask('DELETE', '/roost/v1/devices/d1/modules/m', 404);
  await ask('DELETE', '/roost/v1/devices/d2', 204);
  await ask('DELETE', '/roost/v1/devices/d2', 404);
  await ask('GET', '/roost/v1/audit?limit=5', 200);
  await ask('GET', '/roost/v1/audit?limit=501', 400);
});

test('a device and a module answer methods', async () => {
  const d = (await ask('PUT', '/roost/v1/devices/called', 201, { body: {} })).json;
  const m = (await ask('PUT', '/roost/v1/devices/called/modules/m', 201, { body: {} })).json;
  for (const [id, key, path] of [['called', d.primaryKey, 'called'], ['called/m', m.primaryKey, 'called/modules/m']]) {
    const c = await Raw.tls(hub);
    await c.hello({ id, key }, { username: `hub.localhost/${id}/?api-version=2021-04-12`,
      password: sasToken(`hub.localhost/devices/${path}`, key) });
    await c.subscribe('$iothub/methods/POST/#');
    const answer = ask('POST', `/roost/v1/devices/${path}/methods/greet`, 200, { body: { payload: { a: 1 } } });
    const call = await c.expect('publish');
    c.send({ cmd: 'publish', topic: `$iothub/methods/res/207/?$rid=${/rid=(.+)$/.exec(call.topic)[1]}`, payload: '{"b":[2]}', qos: 0 });
    assert.deepEqual((await answer).json, { status: 207, payload: { b: [2] } });
    await c.disconnect();
  }
});

test('files of devices', async () => {
  const d = (await ask('PUT', '/roost/v1/devices/files', 201, { body: {} })).json;
  const token = sasToken('hub.localhost/devices/files', d.primaryKey), version = 'api-version=2021-04-12';
  const begun = await hub.request('POST', `/devices/files/files?${version}`, { token, body: { blobName: 'log.txt' } });
  assert.equal(begun.status, 200, `${begun.body}`);
  const { containerName, blobName, sasToken: sas, correlationId } = begun.json;
  const put = await hub.request('PUT', `/${containerName}/${blobName.split('/').map(encodeURIComponent).join('/')}${sas}`,
    { token: null, body: 'lines', headers: { 'x-ms-blob-type': 'BlockBlob', 'x-ms-version': '2021-08-06' } });
  assert.equal(put.status, 201, `${put.body}`);
  const over = await hub.request('POST', `/devices/files/files/notifications?${version}`, { token, body: { correlationId, isSuccess: true, statusCode: 200, statusDescription: 'ok' } });
  assert.equal(over.status, 204, `${over.body}`);
  await ask('GET', '/roost/v1/device-uploads', 200);
  const { uploads } = (await ask('GET', '/roost/v1/devices/files/uploads', 200)).json;
  assert.equal(uploads.length, 1);
  await ask('GET', '/roost/v1/file-notifications', 200);
  const file = `/roost/v1/devices/files/uploads/${uploads[0].name}`;
  await ask('GET', file, 200);
  await ask('HEAD', file, 200);
  await ask('GET', file, 206, { headers: { range: 'bytes=0-1' } });
  await ask('GET', file, 416, { headers: { range: 'bytes=99-' } });
  await ask('DELETE', file, 204);
  await ask('DELETE', file, 404);
  await ask('POST', `/roost/v1/containers/${containerName}/sas`, 200, { body: {} });
  await ask('POST', '/roost/v1/containers/none/sas', 404, { body: {} });
});

test('who may not', async () => {
  await ask('GET', '/roost/v1/status', 401, { token: null });
  await ask('GET', '/roost/v1/devices', 401, { token: sasToken('hub.localhost', 'AAAA', 'iothubowner') });
  const policies = readFileSync(join(hub.dir, 'policies'), 'utf8');
  const key = /SharedAccessKeyName=service;SharedAccessKey=(\S+)/.exec(policies)[1];
  await ask('GET', '/roost/v1/devices', 403, { policy: { name: 'service', key } });
});

test('authorities and tokens', async () => {
  await ask('PUT', '/roost/v1/ca/own', 201, { body: hub.ca });
  await ask('PUT', '/roost/v1/ca/own', 200, { body: hub.ca });
  await ask('PUT', '/roost/v1/ca/own', 400, { body: 'nothing' });
  await ask('GET', '/roost/v1/ca', 200);
  await ask('DELETE', '/roost/v1/ca/own', 204);
  await ask('DELETE', '/roost/v1/ca/own', 404);
  await ask('POST', '/roost/v1/tokens', 201, { body: { name: 't', hardware: 'p:1', uses: 5, ttlSeconds: 60 } });
  await ask('POST', '/roost/v1/tokens', 409, { body: { name: 't' } });
  await ask('GET', '/roost/v1/tokens', 200);
  await ask('DELETE', '/roost/v1/tokens/t', 204);
  await ask('DELETE', '/roost/v1/tokens/t', 404);
});

test('routes, endpoints, enrichments', async () => {
  await ask('PUT', '/roost/v1/endpoints/s', 201, { body: { kind: 'stream', retainSeconds: 3600 } });
  await ask('PUT', '/roost/v1/endpoints/s', 200, { body: { kind: 'stream' } });
  await ask('PUT', '/roost/v1/endpoints/s', 409, { body: { kind: 'file' } });
  await ask('PUT', '/roost/v1/endpoints/w', 201, { body: { kind: 'webhook', url: 'https://127.0.0.1:1/', secret: 'of-sixteen-bytes' } });
  await ask('PUT', '/roost/v1/endpoints/x', 400, { body: { kind: 'queue' } });
  await ask('GET', '/roost/v1/endpoints', 200);
  await ask('GET', '/roost/v1/endpoints/w', 200);
  await ask('GET', '/roost/v1/endpoints/nobody', 404);
  await ask('PUT', '/roost/v1/routes/r', 201, { body: { source: 'TwinChangeEvents', condition: '$body.version > 3', endpoints: ['s'] } });
  await ask('PUT', '/roost/v1/routes/r', 200, { body: { endpoints: ['s', 'events'], enabled: false } });
  await ask('PUT', '/roost/v1/routes/r', 400, { body: { endpoints: ['nobody'] } });
  await ask('PUT', '/roost/v1/routes/r', 400, { body: { condition: '=', endpoints: ['s'] } });
  await ask('PUT', '/roost/v1/routes/$fallback', 200, { body: { enabled: true } });
  await ask('GET', '/roost/v1/routes', 200);
  await ask('GET', '/roost/v1/routes/r', 200);
  await ask('GET', '/roost/v1/routes/nobody', 404);
  await ask('POST', '/roost/v1/routes/test', 200, { body: { condition: "a = 'b'", message: { deviceId: 'd1', properties: { a: 'b' }, body: { x: 1 } } } });
  await ask('POST', '/roost/v1/routes/test', 400, { body: { condition: '=', message: { deviceId: 'd1' } } });
  await ask('PUT', '/roost/v1/enrichments/e', 201, { body: { value: '$twin.tags.site', endpoints: ['s'] } });
  await ask('PUT', '/roost/v1/enrichments/e', 200, { body: { value: 'x', endpoints: ['s'] } });
  await ask('PUT', '/roost/v1/enrichments/e', 400, { body: { value: 1, endpoints: ['s'] } });
  await ask('GET', '/roost/v1/enrichments', 200);
  await ask('GET', '/roost/v1/enrichments/e', 200);
  await ask('GET', '/roost/v1/telemetry?stream=s&from=earliest&follow=false', 200);
  await ask('GET', '/roost/v1/telemetry?stream=w', 404);
  await ask('DELETE', '/roost/v1/endpoints/s', 409);
  for (const path of ['enrichments/e', 'routes/r', 'endpoints/s', 'endpoints/w']) {
    await ask('DELETE', `/roost/v1/${path}`, 204);
    await ask('DELETE', `/roost/v1/${path}`, 404);
  }
});

test('blank devices', async () => {
  const device = await ask('POST', '/bootstrap', 200, { token: null, body: { hardware: 'p:1', id: 'blank', token: fleet.token } });
  await ask('POST', '/bootstrap', 202, { token: null, body: { hardware: 'p:1', id: 'waits' } });
  await ask('POST', '/bootstrap', 400, { token: null, body: { hardware: 'p' , id: 'x' } });
  await ask('POST', '/bootstrap', 401, { token: null, body: { hardware: 'p:1', id: 'x', token: 'of-nobody-at-all-0000' } });
  const token = sasToken(`${device.json.host}/devices/blank`, device.json.key);
  await ask('POST', '/roost/v1/checkin', 400, { token, body: 'x' });
  const report = Buffer.from(readFileSync(join(root, 'tests/vectors/report.hex'), 'utf8').replace(/\s/g, ''), 'hex');
  await ask('POST', '/roost/v1/checkin', 204, { token, body: report });
  for (let at = 0; at < report.length; at += 2 + report[at + 1]) // tag, length, value
    if (report[at] === 0x0b) report.fill(0, at + 2, at + 2 + report[at + 1]); // no trust record yet
  assert.ok((await ask('POST', '/roost/v1/checkin', 200, { token, body: report })).body.length > 0);
  await ask('POST', '/roost/v1/devices/waits/approve', 200, { body: {} });
});

test('trust, artifacts, releases, campaigns, and a device that follows', { timeout: 120_000 }, async () => {
  const trust = await ask('GET', '/roost/v1/trust', 200);
  await ask('POST', '/roost/v1/trust', 200, { body: trust.body });
  await ask('POST', '/roost/v1/trust', 422, { body: 'x' });
  await ask('GET', '/roost/v1/trust?version=999', 404);
  await fleet.release('p', 1, '1.0.0', Buffer.alloc(10000, 7));
  const { releases: [release] } = (await ask('GET', '/roost/v1/releases', 200)).json;
  const manifest = await ask('GET', `/roost/v1/releases/${release.id}`, 200);
  await ask('POST', '/roost/v1/releases', 200, { body: manifest.body });
  await ask('POST', '/roost/v1/releases', 422, { body: 'x' });
  await ask('GET', `/roost/v1/releases/${'0'.repeat(64)}`, 404);
  await ask('GET', '/roost/v1/releases/x', 400);
  await ask('HEAD', '/roost/v1/uploads/u', 200);
  await ask('PUT', '/roost/v1/uploads/u', 204, { body: Buffer.alloc(10), headers: { 'content-range': 'bytes 0-9/20' } });
  await ask('PUT', '/roost/v1/uploads/u', 409, { body: Buffer.alloc(10), headers: { 'content-range': 'bytes 0-9/20' } });
  await ask('PUT', '/roost/v1/uploads/u', 400, { body: Buffer.alloc(10) });
  await ask('POST', '/roost/v1/artifacts', 422, { body: { payload: 'u', tree: 'v', root: '0'.repeat(64), sha256: '0'.repeat(64) } });
  const payload = Buffer.from('one chunk of an artifact'), hash = (b) => createHash('sha256').update(b).digest();
  const tree = Buffer.concat([hash(hash(payload)), hash(payload)]), artifact = hash(hash(hash(payload))).toString('hex');
  for (const [name, bytes] of [['pay', payload], ['tree', tree]])
    await ask('PUT', `/roost/v1/uploads/${name}`, 204, { body: bytes, headers: { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` } });
  await ask('POST', '/roost/v1/artifacts', 201, { body: { payload: 'pay', tree: 'tree', root: artifact, sha256: hash(payload).toString('hex'), chunkCode: 12, fanOut: 32 } });
  for (const method of ['GET', 'HEAD']) {
    await ask(method, `/artifacts/${artifact}`, 200, { token: null });
    await ask(method, `/artifacts/${artifact}.tree`, 200, { token: null });
    await ask(method, `/artifacts/${artifact}`, 304, { token: null, headers: { 'if-none-match': `"${artifact}"` } });
  }
  await ask('GET', `/artifacts/${artifact}`, 206, { token: null, headers: { range: 'bytes=0-3' } });
  await ask('GET', `/artifacts/${artifact}`, 416, { token: null, headers: { range: 'bytes=99-' } });
  await ask('GET', `/artifacts/${'0'.repeat(64)}`, 404, { token: null });
  const p = fleet.spawn('roost-sim', fleet.simArgs('--count', '1', '--hardware-class', 'p:1', '--checkin-every', '1s', '--telemetry-every', '100ms'));
  const device = await waitFor('a device that has the release', async () => {
    if (p.exited) throw new Error(p.out);
    const list = (await ask('GET', '/roost/v1/devices', 200)).json.devices;
    return list.find((d) => d.report);
  });
  await ask('GET', `/roost/v1/devices/${device.id}`, 200);
  await ask('POST', '/roost/v1/campaigns', 201, { body: { releases: [release.id], devices: [device.id] } });
  await ask('POST', '/roost/v1/campaigns', 422, { body: { releases: ['0'.repeat(64)], all: true } });
  const { campaigns: [campaign] } = (await ask('GET', '/roost/v1/campaigns', 200)).json;
  await ask('GET', `/roost/v1/campaigns/${campaign.id}?rows=true`, 200);
  await ask('GET', '/roost/v1/campaigns/x', 400);
  await waitFor('telemetry', async () => (await ask('GET', '/roost/v1/telemetry?from=earliest&follow=false', 200)).body.length > 0);
  await ask('GET', '/roost/v1/telemetry?from=nowhere', 400);
  await ask('GET', '/roost/v1/telemetry?from=-1h&follow=false&group=readers', 200);
  await ask('GET', '/roost/v1/telemetry?group=a%20b', 400);
  await ask('PUT', '/roost/v1/telemetry/groups/readers', 200, { body: { positions: [{ partition: 0, next: 0 }] } });
  await ask('PUT', '/roost/v1/telemetry/groups/readers', 409, { body: { positions: [{ partition: 0, next: 999999999 }] } });
  await ask('PUT', '/roost/v1/telemetry/groups/readers', 400, { body: {} });
  await ask('GET', '/roost/v1/telemetry/groups/readers', 200);
  await ask('GET', '/roost/v1/telemetry/groups', 200);
  await ask('DELETE', '/roost/v1/telemetry/groups/readers', 204);
  await ask('GET', '/roost/v1/telemetry/groups/readers', 404);
  await ask('GET', `/roost/v1/campaigns/${'0'.repeat(campaign.id.length)}`, 404);
});

// A refusal that is no operation's own: its status, and one of the common codes.
async function common(method, path, status, code, options) {
  const r = await hub.request(method, path, options);
  assert.deepEqual([r.status, r.json?.error?.code], [status, code], `${r.body}`);
  assert.ok(doc['x-common-codes'].includes(code) && statusesOf.get(code).includes(status), code);
  assert.ok(check({ $ref: '#/components/schemas/Error' })(r.json), `${r.body}`);
  refusals.add(code);
}

test('what is refused, operation by operation', { timeout: 120_000 }, async () => {
  const refuse = async (code, ...args) => {
    const r = await ask(...args);
    assert.equal(r.json.error.code, code, `${r.body}`);
  };
  await common('PATCH', '/roost/v1/status', 405, 'method-not-allowed');
  await common('GET', '/roost/v1/nothing', 404, 'not-found');
  await common('POST', '/roost/v1/tokens', 413, 'body-too-large', { body: 'x'.repeat(5000) });
  await refuse('bad-device-id', 'PUT', '/roost/v1/devices/a%20b', 400, { body: {} });
  await ask('PUT', '/roost/v1/devices/r1', 201, { body: {} });
  await refuse('authentication-differs', 'PUT', '/roost/v1/devices/r1', 409, { body: { authentication: 'selfSigned', thumbprint: 'ab'.repeat(32) } });
  await refuse('bad-message', 'POST', '/roost/v1/devices/r1/messages', 400, { body: { body: 'x', ttlSeconds: 200_000 } });
  for (let i = 0; i < 50; i++) await ask('POST', '/roost/v1/devices/r1/messages', 201, { body: { body: 'x' } });
  await refuse('queue-full', 'POST', '/roost/v1/devices/r1/messages', 403, { body: { body: 'x' } });
  await refuse('bad-method-name', 'POST', '/roost/v1/devices/r1/methods/a%20b', 400, { body: {} });
  await refuse('payload-too-large', 'POST', '/roost/v1/devices/r1/methods/m', 413, { body: { payload: 'x'.repeat(131_071) } });
  await refuse('bad-name', 'PUT', '/roost/v1/endpoints/a%20b', 400, { body: { kind: 'stream' } });
  await refuse('bad-name', 'PUT', '/roost/v1/ca/a%20b', 400, { body: hub.ca });
  await refuse('not-an-authority', 'PUT', '/roost/v1/ca/leaf', 400, { body: readFileSync(join(hub.dir, 'tls/server-ec.crt')) });
  await refuse('bad-upload-name', 'PUT', '/roost/v1/uploads/a%20b', 400, { body: 'x', headers: { 'content-range': 'bytes 0-0/1' } });
  await refuse('bad-query-text', 'POST', '/roost/v1/query', 400, { body: { query: `SELECT * FROM devices WHERE a = '${'x'.repeat(8192)}'` } });
  await refuse('bad-continuation', 'POST', '/roost/v1/query', 400, { body: { query: 'SELECT * FROM devices', next: 'ab'.repeat(32) } });
  await refuse('upload-missing', 'POST', '/roost/v1/artifacts', 422, { body: { payload: 'gone', tree: 'gone', root: '0'.repeat(64), sha256: '0'.repeat(64) } });
  for (let at = 0; at < 1000; at += 20)
    await Promise.all(Array.from({ length: 20 }, (_, i) => hub.request('POST', '/roost/v1/tokens', { body: { name: `n${at + i}` } })));
  await refuse('too-many-tokens', 'POST', '/roost/v1/tokens', 409, { body: { name: 'over' } });
  for (let i = 0; i < 5; i++) await ask('DELETE', `/roost/v1/tokens/n${i}`, 204);
  // a device that waits, one that is disabled
  await ask('POST', '/bootstrap', 202, { token: null, body: { hardware: 'p:1', id: 'waiting' } });
  await refuse('device-pending', 'PUT', '/roost/v1/devices/waiting', 409, { body: { status: 'disabled' } });
  await ask('PUT', '/roost/v1/devices/r1', 200, { body: { status: 'disabled' } });
  await refuse('device-disabled', 'POST', '/roost/v1/devices/r1/approve', 409, { body: {} });
  // proofs of blank devices
  const boot = (code, status, body, headers) => refuse(code, 'POST', '/bootstrap', status, { token: null, body: { hardware: 'p:1', ...body }, headers });
  const publicKey = Buffer.alloc(32, 7).toString('base64');
  await boot('signature-missing', 401, { publicKey });
  await boot('signature-wrong', 401, { publicKey }, { 'roost-signature': Buffer.alloc(64, 1).toString('base64') });
  const token = async (more) => (await ask('POST', '/roost/v1/tokens', 201, { body: more })).json.token;
  const other = await token({ name: 'hw', hardware: 'q:2' }), once = await token({ name: 'once', uses: 1 }), brief = await token({ name: 'brief', ttlSeconds: 1 });
  await boot('token-hardware', 401, { id: 'b1', token: other });
  await ask('POST', '/bootstrap', 200, { token: null, body: { hardware: 'p:1', id: 'b2', token: once } });
  await boot('token-used-up', 401, { id: 'b3', token: once });
  let tries = 0; // a device that it let in is let in again
  await waitFor('the token to expire', async () => (await hub.request('POST', '/bootstrap', { token: null, body: { hardware: 'p:1', id: `late${tries++}`, token: brief } })).status === 401);
  await boot('token-expired', 401, { id: 'later', token: brief });
});

test('methods that fail on the way, modules and jobs that are one too many', { timeout: 60_000 }, async () => {
  const refuse = async (code, ...args) => {
    const r = await ask(...args);
    assert.equal(r.json.error.code, code, `${r.body}`);
  };
  const d = (await ask('PUT', '/roost/v1/devices/mute', 201, { body: {} })).json;
  const c = await Raw.tls(hub);
  await c.hello({ id: 'mute', key: d.primaryKey }, { username: 'hub.localhost/mute/?api-version=2021-04-12', password: sasToken('hub.localhost/devices/mute', d.primaryKey) });
  await c.subscribe('$iothub/methods/POST/#');
  const call = (code, status, body = {}) => refuse(code, 'POST', '/roost/v1/devices/mute/methods/m', status, { body });
  const rid = async () => /rid=(.+)$/.exec((await c.expect('publish')).topic)[1];
  const silent = call('no-answer', 504, { responseTimeoutSeconds: 5 });
  await rid();
  const long = call('answer-too-large', 502);
  c.send({ cmd: 'publish', topic: `$iothub/methods/res/200/?$rid=${await rid()}`, payload: `"${'x'.repeat(131_072)}"`, qos: 0 });
  await long;
  await silent;
  const cut = Array.from({ length: 32 }, () => call('connection-lost', 502));
  for (let i = 0; i < 32; i++) await rid();
  await call('too-many-calls', 429);
  c.socket.destroy();
  await Promise.all(cut);
  for (let i = 0; i < 50; i++) await ask('PUT', `/roost/v1/devices/mute/modules/m${i}`, 201, { body: {} });
  await refuse('too-many-modules', 'PUT', '/roost/v1/devices/mute/modules/m50', 409, { body: {} });
  const start = new Date(Date.now() + 3600e3).toISOString();
  const job = (i) => [`/roost/v1/jobs/many-${i}`, { body: { where: "deviceId = 'nobody'", twin: { tags: { a: 1 } }, start } }];
  for (let i = 0; i < 10; i++) await ask('PUT', job(i)[0], 201, job(i)[1]);
  await refuse('too-many-jobs', 'PUT', job(10)[0], 429, job(10)[1]);
  for (let i = 0; i < 10; i++) await ask('POST', `${job(i)[0]}/cancel`, 200);
});

const refuse = async (code, ...args) => {
  const r = await ask(...args);
  assert.equal(r.json.error.code, code, `${r.body}`);
};

test('artifacts, trust records and releases that do not fit', { timeout: 120_000 }, async () => {
  const hash = (b) => createHash('sha256').update(b).digest(), hex = (b) => b.toString('hex');
  const upload = (name, bytes) => ask('PUT', `/roost/v1/uploads/${name}`, 204, { body: bytes, headers: { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` } });
  const payload = Buffer.from('a payload of its own'), top = hex(hash(hash(hash(payload))));
  const about = { payload: 'fit', tree: 'fit-tree', root: top, sha256: hex(hash(payload)) };
  await upload('fit', payload);
  await refuse('artifact-shape', 'POST', '/roost/v1/artifacts', 422, { body: { ...about, chunkCode: 1 } });
  await upload('fit', payload);
  await upload('fit-tree', Buffer.alloc(64, 1));
  await refuse('artifact-tree', 'POST', '/roost/v1/artifacts', 422, { body: about });
  // One writer at a time: pieces that come at once.
  const piece = Buffer.alloc(1 << 20, 7);
  await waitFor('two at once', async () => {
    const at = await Promise.all(Array.from({ length: 8 }, () => hub.request('PUT', '/roost/v1/uploads/race', { body: piece, headers: { 'content-range': `bytes 0-${piece.length - 1}/${2 * piece.length}` } })));
    const busy = at.find((r) => r.json?.error?.code === 'upload-busy');
    if (busy) described('PUT', '/roost/v1/uploads/race', busy, 409);
    return busy;
  });
  const content = Buffer.alloc(10_007, 3), dir = await fleet.release('o', 1, '1.0.0', content, ['--seq', '5']);
  const tree = readdirSync(dir).filter((n) => /^[0-9a-f]{64}/.test(n));
  assert.ok(tree.length > 0, `${readdirSync(dir)}`);
  const build = async (name, version, seq, change = (b) => b) => {
    const out = join(fleet.dir, name), file = join(fleet.dir, `${name}.image`);
    writeFileSync(file, content);
    await hub.roost('release', 'build', '-p', 'o', '-v', version, '--hardware-class', '1', '--file', file, '--seq', `${seq}`, '--out', out);
    writeFileSync(join(out, 'manifest.hrm'), change(readFileSync(join(out, 'manifest.hrm'))));
    await hub.roost('release', 'sign', out, '--key-file', join(fleet.keys, 'release-1.key'));
    return readFileSync(join(out, 'manifest.hrm'));
  };
  const same = await build('same', '1.0.1', 5), other = await build('other', '1.0.2', 6);
  await refuse('release-sequence', 'POST', '/roost/v1/releases', 409, { body: same });
  const longer = await build('longer', '1.0.3', 7, (b) => { // of another length than the artifact that it names
    const from = Buffer.alloc(4), to = Buffer.alloc(4);
    from.writeUInt32LE(10_007);
    to.writeUInt32LE(10_008);
    for (let at; (at = b.indexOf(from)) >= 0;) to.copy(b, at);
    return b;
  });
  await refuse('artifact-differs', 'POST', '/roost/v1/releases', 422, { body: longer });
  const second = (await ask('POST', '/roost/v1/releases', 201, { body: other })).json;
  const first = (await ask('GET', '/roost/v1/releases', 200)).json.releases.find((r) => r.product === 'o' && r.version === '1.0.0');
  await refuse('releases-overlap', 'POST', '/roost/v1/campaigns', 422, { body: { releases: [first.id, second.id], all: true } });
  // A file of the hub's own that is gone: it says so, and goes on.
  await ask('GET', `/artifacts/${tree.find((n) => n.length === 64)}`, 200, { token: null });
  const sum = hex(hash(content));
  rmSync(join(hub.dir, 'blob/sha256', sum.slice(0, 2), sum));
  await refuse('internal', 'GET', `/artifacts/${tree.find((n) => n.length === 64)}`, 500, { token: null });
  // The next record revokes the key that signed: what it signed is not offered any more.
  const before = (await ask('GET', '/roost/v1/trust', 200)).body;
  const keys = JSON.parse((await hub.roost('keys', 'show', fleet.keys, '--json')).stdout);
  const fresh = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');
  await hub.roost('keys', 'trust', fleet.keys, '--revoke', keys.releaseKeys[0].id, '--add-release', fresh, '--no-paper');
  const records = readdirSync(fleet.keys).filter((n) => /^trust.*2/.test(n));
  assert.equal(records.length, 1, `${readdirSync(fleet.keys)}`);
  const next = readFileSync(join(fleet.keys, records[0])), forged = Buffer.from(next);
  forged[forged.length - 1] ^= 1;
  await refuse('trust-signatures', 'POST', '/roost/v1/trust', 422, { body: forged });
  await ask('POST', '/roost/v1/trust', 201, { body: next });
  await refuse('trust-version', 'POST', '/roost/v1/trust', 409, { body: before });
  await refuse('release-barred', 'POST', '/roost/v1/campaigns', 422, { body: { releases: [first.id], all: true } });
  await atAnotherHub({}, () => refuse('no-trust-record', 'POST', '/roost/v1/releases', 422, { body: same }));
});

test('too much at once', { timeout: 120_000 }, async () => {
  for (let at = 0; at < 1100; at += 100) {
    const r = await hub.request('POST', '/devices?api-version=2021-04-12', { body: Array.from({ length: 100 }, (_, i) => ({ id: `group-${at + i}`, importMode: 'create' })) });
    assert.equal(r.status, 200, `${r.body}`);
  }
  const counts = Array.from({ length: 99 }, (_, i) => `COUNT() AS c${i}`).join(', ');
  await refuse('query-too-large', 'POST', '/roost/v1/query', 400, { body: { query: `SELECT deviceId, ${counts} FROM devices GROUP BY deviceId` } });
  const readers = Array.from({ length: 64 }, () => new Promise((done, fail) => {
    const req = https.request({ host: hub.address, servername: hub.name, port: hub.https, ca: hub.ca, agent: false, path: '/roost/v1/telemetry', headers: { host: hub.name, authorization: sasToken(hub.name, ownerKey(), 'iothubowner') } }, (res) => done({ req, res }));
    req.on('error', fail);
    req.end();
  }));
  for (const { res } of await Promise.all(readers)) assert.equal(res.statusCode, 200);
  await refuse('too-many-readers', 'GET', '/roost/v1/telemetry', 503);
  for (const { req } of await Promise.all(readers)) {
    req.on('error', () => {});
    req.destroy();
  }
  await waitFor('room for a reader', async () => (await hub.request('GET', '/roost/v1/telemetry?follow=false')).status === 200);
  const token = sasToken('hub.localhost', 'AAAA', 'nobody'); // of one name: others from here are let in
  const limited = await waitFor('enough failures', async () => { // one that comes later may be looked at again
    const r = await hub.request('GET', '/roost/v1/status', { token });
    return r.status === 429 && r;
  }, { every: 0 });
  assert.equal(described('GET', '/roost/v1/status', limited, 429).error.code, 'too-many-failures');
  await ask('GET', '/roost/v1/status', 200);
});

test('a hub without room for bodies or files, and one that goes down', { timeout: 120_000 }, async () => {
  await atAnotherHub({ limits: { http_bodies_bytes: 1_048_576 } }, async () => {
    const held = [], body = { name: 'busy' };
    const hold = () => {
      const req = https.request({ host: hub.address, servername: hub.name, port: hub.https, ca: hub.ca, agent: false, method: 'PUT', path: '/roost/v1/uploads/held',
        headers: { host: hub.name, authorization: sasToken(hub.name, ownerKey(), 'iothubowner'), 'content-length': 1 << 20, 'content-range': `bytes 0-${(1 << 20) - 1}/${1 << 20}` } });
      req.on('error', () => {});
      req.write(Buffer.alloc(600_000));
      held.push(req);
    };
    const r = await waitFor('a worker with no room for a body', async () => {
      hold();
      const answer = await hub.request('POST', '/roost/v1/tokens', { body });
      return answer.status === 503 && answer;
    });
    assert.equal(described('POST', '/roost/v1/tokens', r, 503).error.code, 'busy');
    for (const req of held) req.destroy();
    await waitFor('room', async () => (await hub.request('POST', '/roost/v1/tokens', { body })).status !== 503);
  });
  await atAnotherHub({}, async () => {
    await run('prlimit', ['--pid', `${hub.process.child.pid}`, '--fsize=1500000:']);
    const piece = (at) => [`/roost/v1/uploads/full`, { body: Buffer.alloc(1 << 20), headers: { 'content-range': `bytes ${at}-${at + (1 << 20) - 1}/${4 << 20}` } }];
    await ask('PUT', piece(0)[0], 204, piece(0)[1]);
    await refuse('disk-full', 'PUT', piece(1 << 20)[0], 507, piece(1 << 20)[1]);
    await ask('GET', '/roost/v1/status', 200); // it goes on, and so does the upload when there is room
    await run('prlimit', ['--pid', `${hub.process.child.pid}`, '--fsize=unlimited:']);
    const offset = (await ask('HEAD', piece(0)[0], 200)).headers['upload-offset'];
    assert.equal(offset, `${1 << 20}`);
    await ask('PUT', piece(1 << 20)[0], 204, piece(1 << 20)[1]);
  });
  await atAnotherHub({}, async () => {
    await ask('PUT', '/roost/v1/devices/absent', 201, { body: {} });
    const waits = refuse('stopping', 'POST', '/roost/v1/devices/absent/methods/m', 503, { body: { connectTimeoutSeconds: 60 } });
    await waitFor('the call', async () => /^roost_methods_called_total 1$/m.test(await metrics()));
    const end = hub.stop();
    await waits;
    assert.equal((await end).code, 0, hub.process.out);
  });
});

test('every status that the file names was seen', () => {
  const all = operations.flatMap(({ method, path, op }) => Object.keys(op.responses).filter((n) => n !== 'default').map((status) => [op, Number(status), `${method} ${path}: ${status}`]));
  assert.deepEqual(all.filter(([op, status]) => !reached.get(op)?.has(status)).map(([, , what]) => what).sort(), []);
});

test('every error was seen, here or in the test that is named', () => {
  const elsewhere = {
    'tests/e2e/http.test.mjs': ['too-many-requests', 'id-taken', 'too-many-groups', 'release-signatures', 'artifact-missing', 'artifact-root'],
    'tests/e2e/routing.test.mjs': ['events-waiting'],
    'tests/conformance/limits.test.mjs': ['too-many-authorities', 'throttled'],
    'tests/conformance/limits_counts.test.mjs': ['too-many', 'too-many-configurations'],
    'tests/conformance/identities.test.mjs': ['weak-certificate'],
    'hub/front/roost_http/bodies_test.c': ['too-many-queries'],
    'hub/domain/provisioning/provisioning_test.c': ['policy-closed', 'pending-full'],
    'tests/fault/http.c': ['out-of-memory', 'no-memory'], // an allocation has to fail: no request brings that about
  };
  for (const [file, codes] of Object.entries(elsewhere)) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const c of codes) assert.ok(text.includes(c), `${file}: ${c}`);
  }
  // Of requests that no client of this test sends; http_conn_test.c has them, by their status.
  const listener = ['bad-request', 'bad-target', 'bad-body', 'timeout', 'target-too-long', 'expectation-failed', 'head-too-large', 'not-implemented', 'version-not-supported'];
  assert.deepEqual([...statusesOf.keys()].filter((c) => !refusals.has(c)).sort(), [...Object.values(elsewhere).flat(), ...listener].sort());
});
