// Import and export jobs: the registry of the service SDK, the storage SDK, and bare requests.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRequire } from 'node:module';
import https from 'node:https';
import { NAME, closeHub, openHub, policyKey, sasToken, waitFor } from './lib/hub.mjs';
import { Hub } from '../lib/roost.mjs';

const require = createRequire(import.meta.url);
const { Registry } = require('azure-iothub');
const { ContainerClient } = require('@azure/storage-blob');

let hub, registry;
const V = 'api-version=2021-04-12';
before(async () => {
  hub = await openHub();
  https.globalAgent.options.ca = hub.ca; // the SDKs' own connections trust this hub
  registry = Registry.fromConnectionString(hub.connectionString);
});
after(async () => { await closeHub(hub); });

const containerUri = async (permissions = 'rwdl') =>
  `https://${NAME}/registry${(await hub.api('POST', '/roost/v1/containers/registry/sas', { permissions, ttlSeconds: 600 })).sasToken}`;
const blobOf = (uri, name) => new ContainerClient(uri).getBlockBlobClient(name);
const linesOf = async (uri, name = 'devices.txt') => (await blobOf(uri, name).downloadToBuffer()).toString().split('\n').filter(Boolean);
const put = async (uri, lines, name = 'devices.txt') => {
  const text = lines.map((l) => (typeof l === 'string' ? l : JSON.stringify(l))).join('\n');
  await blobOf(uri, name).upload(text, Buffer.byteLength(text));
};
const ended = (id) => waitFor(`job ${id}`, async () => {
  const { responseBody: j } = await registry.getJob(id).then((r) => (r.responseBody ? r : { responseBody: r }));
  return ['completed', 'failed', 'cancelled'].includes(j.status) && j;
});
const body = (r) => r.responseBody ?? r;
const create = (job) => hub.request('POST', `/jobs/create?${V}`, { body: job });
const code = (r) => r.headers['iothub-errorcode'];
const importLines = async (lines, more = {}) => {
  const uri = await containerUri();
  await put(uri, lines);
  const r = await create({ type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri, ...more });
  assert.equal(r.status, 200, `${r.body}`);
  const job = await ended(r.json.jobId);
  return { job, errors: (await linesOf(uri, 'importErrors.log')).map((l) => JSON.parse(l)) };
};
const device = async (id) => (await hub.request('GET', `/devices/${id}?${V}`)).json;
const twin = async (id) => (await hub.request('GET', `/twins/${id}?${V}`)).json;
const KEY = (c) => Buffer.alloc(32, c).toString('base64');
const keys = (a, b) => ({ symmetricKey: { primaryKey: KEY(a), secondaryKey: KEY(b) } });

test('[http 89] the export of one hub, imported into an empty one, makes keys, twins and modules again', async () => {
  await registry.addDevices([
    { deviceId: 'e1', status: 'enabled', authentication: keys('a', 'b') },
    { deviceId: 'e2', status: 'disabled', statusReason: 'lent "out"' },
    { deviceId: 'e3', status: 'enabled', authentication: { x509Thumbprint: { primaryThumbprint: 'a'.repeat(40), secondaryThumbprint: 'b'.repeat(64) } } },
    { deviceId: 'e4', status: 'enabled', authentication: { type: 'certificateAuthority' } },
    { deviceId: 'edge', status: 'enabled', capabilities: { iotEdge: true } },
  ]);
  const edge = await device('edge');
  assert.equal((await hub.request('PUT', `/devices/leaf?${V}`, { body: { deviceId: 'leaf', deviceScope: edge.deviceScope } })).status, 200);
  await registry.addModule({ deviceId: 'e1', moduleId: 'cam', managedBy: 'me', authentication: keys('c', 'd') });
  await registry.updateTwin('e1', { tags: { site: 'munich', n: { deep: 1.5 } }, properties: { desired: { fw: '2.0', list: [1, 2] } } }, '*');
  await registry.updateModuleTwin('e1', 'cam', { tags: { eye: true } }, '*');
  await registry.updateModuleTwin('edge', '$edgeAgent', { properties: { desired: { schemaVersion: '1.1' } } }, '*');

  const uri = await containerUri();
  const job = body(await registry.exportDevicesToBlob(uri, false));
  for (const member of ['jobId', 'startTimeUtc', 'endTimeUtc', 'type', 'status', 'progress', 'inputBlobContainerUri', 'inputBlobName', 'outputBlobContainerUri', 'outputBlobName',
    'excludeKeysInExport', 'storageAuthenticationType', 'identity', 'failureReason', 'includeConfigurations', 'configurationsBlobName']) assert.ok(member in job, member);
  assert.equal(job.type, 'export');
  assert.match(job.jobId, /^[0-9a-f-]{36}$/);
  assert.equal(job.outputBlobContainerUri, null, 'addresses have signatures: they are not shown');
  const done = await ended(job.jobId);
  assert.equal(done.status, 'completed');
  assert.equal(done.progress, 100);
  assert.ok(done.startTimeUtc <= done.endTimeUtc);
  const text = await linesOf(uri);
  const lines = text.map((l) => JSON.parse(l));
  assert.deepEqual(lines.map((l) => (l.moduleId ? `${l.id}/${l.moduleId}` : l.id)), ['e1', 'e1/cam', 'e2', 'e3', 'e4', 'edge', 'edge/$edgeAgent', 'edge/$edgeHub', 'leaf']);
  assert.equal(lines[0].authentication.symmetricKey.primaryKey, KEY('a'));
  assert.equal(Object.keys(lines[0].authentication).at(-1), 'type');
  assert.deepEqual(lines[0].tags, { site: 'munich', n: { deep: 1.5 } });
  assert.equal(lines[2].statusReason, 'lent "out"');

  const other = await Hub.create({ name: NAME });
  try {
    await other.start();
    const { sasToken: sas } = await other.api('POST', '/roost/v1/containers/registry/sas', { permissions: 'rwdl' });
    const crlf = text.join('\r\n');
    assert.equal((await other.request('PUT', `/registry/devices.txt${sas}`, { token: null, body: crlf, headers: { 'x-ms-blob-type': 'BlockBlob' } })).status, 201);
    const target = `https://${NAME}:${other.https}/registry${sas}`;
    const made = await other.request('POST', `/jobs/create?${V}`, { body: { type: 'import', inputBlobContainerUri: target, outputBlobContainerUri: target } });
    assert.equal(made.status, 200, `${made.body}`);
    const j = await waitFor('the import', async () => { const { json } = await other.request('GET', `/jobs/${made.json.jobId}?${V}`); return json.endTimeUtc && json; });
    assert.deepEqual([j.status, j.type, j.succeededCount, j.failedCount], ['completed', 'import', 9, 0], JSON.stringify(j));
    const get = async (path) => (await other.request('GET', `${path}?${V}`)).json;
    for (const id of ['e1', 'e2', 'e3', 'e4', 'edge', 'leaf', 'e1/modules/cam']) {
      const a = (await hub.request('GET', `/devices/${id}?${V}`)).json, b = await get(`/devices/${id}`);
      assert.deepEqual(b.authentication, a.authentication, id);
      assert.deepEqual([b.status, b.statusReason, b.managedBy, b.capabilities], [a.status, a.statusReason, a.managedBy, a.capabilities], id);
    }
    for (const id of ['e1', 'e1/modules/cam', 'edge/modules/$edgeAgent']) {
      const strip = (t) => [t.tags, Object.entries(t.properties.desired).filter(([k]) => !k.startsWith('$'))];
      assert.deepEqual(strip(await get(`/twins/${id}`)), strip((await hub.request('GET', `/twins/${id}?${V}`)).json), id);
    }
    assert.equal((await get('/devices/leaf')).deviceScope, (await get('/devices/edge')).deviceScope);
  } finally {
    await closeHub(other);
  }
});

test('[http 89] without keys the file begins with a line that is no JSON, which imports pass over', async () => {
  const uri = await containerUri();
  const job = body(await registry.exportDevicesToBlob(uri, true));
  assert.equal((await ended(job.jobId)).excludeKeysInExport, true);
  const [first, ...rest] = await linesOf(uri);
  assert.throws(() => JSON.parse(first));
  for (const l of rest.map((t) => JSON.parse(t)))
    assert.deepEqual([l.authentication.symmetricKey.primaryKey, l.authentication.symmetricKey.secondaryKey], [null, null]);
  const { job: j, errors } = await importLines(['', first, '\ufeff', ...rest.filter((l) => JSON.parse(l).id === 'e2')]);
  assert.deepEqual([j.status, j.succeededCount, j.failedCount, errors], ['completed', 1, 0, []]);
});

test('[http 90] one bad line: the job ends completed, importErrors.log has one line', async () => {
  const { job, errors } = await importLines([{ id: 'b1', status: 'enabled' }, { id: 'b 2', status: 'enabled' }, { id: 'b3', status: 'enabled' }]);
  assert.deepEqual([job.status, job.progress, job.succeededCount, job.failedCount], ['completed', 100, 2, 1]);
  assert.deepEqual(errors.map((e) => [e.deviceId, e.errorCode]), [['b 2', 400004]]);
  assert.ok(errors[0].errorStatus.includes('id is 1 to 128'));
  assert.ok(await device('b3'));
});

test('[http 90] every import mode, and what it refuses', async () => {
  const line = (id, importMode, more = {}) => ({ id, importMode, status: 'enabled', ...more });
  let r = await importLines([line('m1', 'create', { tags: { a: 1 }, properties: { desired: { x: 1 } } }), line('m2', undefined), line('m3', 'createOrUpdate'), line('m4', 'Create')]);
  assert.deepEqual(r.errors, []);
  const etag = (await device('m2')).etag, twinETag = (await twin('m3')).etag, key = (await device('m1')).authentication.symmetricKey.primaryKey;
  r = await importLines([
    line('m1', 'create'), line('absent', 'update'), line('m2', 'updateIfMatchETag', { eTag: '"bm8="' }), line('absent', 'delete'),
    line('m2', 'deleteIfMatchETag', { eTag: 'bm8=' }), line('m3', 'updateTwinIfMatchETag', { twinETag: 'AAAAAAAAAP8=', tags: {} }), line('absent', 'updateTwin', { tags: {} }),
    line('m1', 'replace'), { id: 'm1' }, '{"id":', '{}', line('m1', 'update', { authentication: { symmetricKey: { primaryKey: KEY('a') } } }),
    line('m1', 'update', { tags: { 'a.b': 1 } }), line('m1', 'update', { moduleId: 'none' }), line('nobody', 'create', { moduleId: 'x' }), line('new', 'create', { tags: { $x: 1 } }),
  ]);
  assert.deepEqual(r.errors.map((e) => e.errorCode),
    [409001, 404001, 412001, 404001, 412001, 412001, 404001, 400004, 400004, 400006, 400004, 400004, 400004, 404010, 404001, 400004]);
  assert.equal(r.errors[13].moduleId, 'none');
  assert.equal(r.job.status, 'completed');
  assert.equal((await hub.request('GET', `/devices/new?${V}`)).status, 404, 'what is refused has no part that stays');
  assert.equal((await device('m1')).authentication.symmetricKey.primaryKey, key);
  r = await importLines([
    line('m2', 'updateIfMatchETag', { eTag: `"${etag}"`, status: 'disabled', authentication: keys('e', 'f') }), line('m3', 'updateTwinIfMatchETag', { twinETag, tags: { t: 1 } }),
    line('m1', 'updateTwin', { tags: { a: null, b: 2 } }), line('m4', 'Delete'), line('m1', 'create', { moduleId: 'mod', tags: { m: 1 } }),
    line('m3', 'createOrUpdateIfMatchETag', { eTag: '*' }), line('m3', 'deleteIfMatchETag', { eTag: '*' }),
  ]);
  assert.deepEqual(r.errors, []);
  assert.deepEqual([(await device('m2')).status, (await device('m2')).authentication.symmetricKey.primaryKey], ['disabled', KEY('e')]);
  assert.deepEqual((await twin('m1')).tags, { b: 2 });
  assert.equal((await twin('m1')).properties.desired.x, 1);
  assert.deepEqual((await twin('m1/modules/mod')).tags, { m: 1 });
  for (const id of ['m3', 'm4']) assert.equal((await hub.request('GET', `/devices/${id}?${V}`)).status, 404);
  r = await importLines([{ id: 'm1' }, { id: 'm2', importMode: 'updateTwin', tags: { kept: 1 } }], { importMode: 'delete' });
  assert.deepEqual([r.job.importMode, r.errors], ['delete', []]);
  assert.equal((await hub.request('GET', `/devices/m1?${V}`)).status, 404);
  assert.deepEqual((await twin('m2')).tags, { kept: 1 });
});

test('[http 90] a file of another hub, in which an edge device has its modules of the system, has no line that is refused', async () => {
  const proof = (key, type) => ({ symmetricKey: { primaryKey: key, secondaryKey: key }, x509Thumbprint: { primaryThumbprint: null, secondaryThumbprint: null }, type });
  const scope = 'ms-azure-iot-edge://az-edge-638000000000000000';
  const azure = [
    { id: 'az-edge', eTag: 'NjMzMTQ2Nzgw', status: 'enabled', statusReason: null, authentication: proof(KEY('p'), 'sas'), twinETag: 'AAAAAAAAAAE=',
      tags: { site: 'munich' }, properties: { desired: { $metadata: { $lastUpdated: '2024-01-01T00:00:00Z' }, $version: 1 }, reported: { $version: 1 } }, capabilities: { iotEdge: true }, deviceScope: scope },
    { id: 'az-edge', moduleId: '$edgeAgent', eTag: 'MQ==', managedBy: 'iotEdge', authentication: proof(KEY('q'), 'sas'), tags: {}, properties: { desired: { schemaVersion: '1.1', $version: 4 } } },
    { id: 'az-edge', moduleId: '$edgeHub', eTag: 'MQ==', authentication: proof(null, 'none'), tags: {}, properties: { desired: {} } },
    { id: 'az-edge', moduleId: 'mine', eTag: 'MQ==', managedBy: 'iotEdge', authentication: proof(KEY('r'), 'sas'), tags: {}, properties: { desired: {} } },
    { id: 'az-leaf', eTag: 'MQ==', status: 'enabled', authentication: proof(null, 'certificateAuthority'), capabilities: { iotEdge: false }, deviceScope: scope },
  ];
  for (const time of ['first', 'second']) {
    const r = await importLines(azure);
    assert.deepEqual([r.errors, r.job.succeededCount], [[], 5], time);
  }
  assert.equal((await device('az-edge/modules/$edgeAgent')).authentication.symmetricKey.primaryKey, KEY('q'));
  assert.equal((await twin('az-edge/modules/$edgeAgent')).properties.desired.schemaVersion, '1.1');
  assert.equal((await device('az-edge/modules/$edgeHub')).authentication.type, 'none');
  assert.equal((await device('az-leaf')).deviceScope, (await device('az-edge')).deviceScope);
  const { errors } = await importLines([{ id: 'az-edge', moduleId: '$edgeHub', importMode: 'delete' }, { id: 'az-edge', moduleId: '$edgeHub', importMode: 'create' }, { id: 'az-leaf', moduleId: '$edgeAgent' }, { id: 'az-edge', moduleId: '$other' }]);
  assert.deepEqual(errors.map((e) => e.errorCode), [400004, 400004, 404010, 404010]);
});

test('[http 91] a second job while one runs is refused; signatures and places that do not do, too', async () => {
  const uri = await containerUri();
  const many = Array.from({ length: 20000 }, (_, i) => ({ id: `q${i}`, status: 'enabled' }));
  await put(uri, many);
  const first = await create({ type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri });
  assert.equal(first.status, 200);
  assert.ok(['enqueued', 'running'].includes(first.json.status));
  const second = await create({ type: 'export', outputBlobContainerUri: uri });
  assert.deepEqual([second.status, code(second)], [403, 'JobQuotaExceeded']);
  await assert.rejects(registry.exportDevicesToBlob(uri, false), (e) => e.response?.statusCode === 403);
  const cancelled = await registry.cancelJob(first.json.jobId).then(() => true);
  assert.ok(cancelled);
  const j = await ended(first.json.jobId);
  assert.equal(j.status, 'cancelled');
  const again = await hub.request('DELETE', `/jobs/${first.json.jobId}?${V}`);
  assert.deepEqual([again.status, code(again)], [405, 'OperationNotAllowedInCurrentState']);

  const good = { type: 'export', outputBlobContainerUri: uri };
  const sas = uri.slice(uri.indexOf('?'));
  const uploads = (await hub.api('POST', '/roost/v1/containers/uploads/sas', { permissions: 'rwdl' })).sasToken;
  for (const [why, outputBlobContainerUri] of Object.entries({
    'no signature': `https://${NAME}/registry`, 'a wrong one': uri.replace(/sig=.../, 'sig=AAA'), 'not to delete': await containerUri('rwl'),
    'of another container': `https://${NAME}/uploads${uploads}`, 'of another under this name': `https://${NAME}/registry${uploads}`,
    'another host': `https://169.254.169.254/registry${sas}`, 'a host behind credentials': `https://${NAME}@example.com/registry${sas}`,
    'a name that begins alike': `https://${NAME}.example.com/registry${sas}`, 'not TLS': `http://${NAME}/registry${sas}`, 'a file': `file:///etc/passwd`, 'no address': 'registry',
    'a blob': `https://${NAME}/registry/devices.txt${sas}`,
  })) {
    const r = await create({ ...good, outputBlobContainerUri });
    assert.deepEqual([r.status, code(r)], [400, 'BlobContainerValidationError'], why);
    assert.ok(!r.body.toString().includes('sig='), why);
  }
  const gone = await create({ type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri, inputBlobName: 'not/there' });
  assert.deepEqual([gone.status, code(gone)], [400, 'BlobContainerValidationError']);
  for (const bad of [{}, { type: 'copy' }, { type: 'export' }, { ...good, excludeKeysInExport: 'yes' }, { ...good, outputBlobName: 'a//b' }, { ...good, storageAuthenticationType: 'x' },
    { ...good, includeConfigurations: 'yes' }, { ...good, includeConfigurations: true, configurationsBlobName: 'devices.txt' }, { ...good, includeConfigurations: true, configurationsBlobName: 'a//b' }, { ...good, type: 'import', inputBlobContainerUri: uri, importMode: 'x' }, { ...good, outputBlobContainerUri: `https://${NAME}/${'x'.repeat(5000)}` }]) {
    const r = await create(bad);
    assert.deepEqual([r.status, code(r)], [400, 'ArgumentInvalid'], JSON.stringify(bad));
  }
  assert.equal((await create('{"type":')).status, 400);
});

test('[http 89] configurations are exported beside the identities, and imported into another hub', async () => {
  const configuration = (id, more) => registry.addConfiguration({ id, schemaVersion: '1.0', labels: { a: 'b' }, priority: 7, targetCondition: "tags.site='munich'",
    content: { deviceContent: { 'properties.desired.x': 1.5 } }, metrics: { queries: { ok: 'SELECT deviceId FROM devices' } }, ...more });
  await configuration('by-tag');
  await configuration('of-edge', { targetCondition: 'tags.none=1', labels: undefined, schemaVersion: undefined, metrics: undefined, priority: 1,
    content: { modulesContent: { $edgeAgent: { 'properties.desired': { schemaVersion: '1.1' } } } } });
  const uri = await containerUri();
  const made = await create({ type: 'export', outputBlobContainerUri: uri, includeConfigurations: true, outputBlobName: 'both/d.txt', configurationsBlobName: 'both/c.txt' });
  assert.deepEqual([made.status, made.json.includeConfigurations, made.json.configurationsBlobName], [200, true, 'both/c.txt'], `${made.body}`);
  assert.equal((await ended(made.json.jobId)).status, 'completed');
  const text = await linesOf(uri, 'both/c.txt');
  const lines = text.map((l) => JSON.parse(l));
  const shown = (await hub.request('GET', `/configurations?${V}`)).json;
  assert.deepEqual(lines.map((l) => l.id), ['by-tag', 'of-edge']);
  for (const [i, l] of lines.entries())
    for (const member of ['schemaVersion', 'labels', 'content', 'targetCondition', 'priority', 'etag', 'contentType']) assert.deepEqual(l[member], shown[i][member], member);
  assert.deepEqual(lines[0].metrics.queries, { ok: 'SELECT deviceId FROM devices' });
  assert.ok((await linesOf(uri, 'both/d.txt')).length > 0);
  const plain = body(await registry.exportDevicesToBlob(uri, false));
  assert.deepEqual([plain.includeConfigurations, plain.configurationsBlobName], [false, null]);
  await ended(plain.jobId);

  const other = await Hub.create({ name: NAME });
  try {
    await other.start();
    const { sasToken: sas } = await other.api('POST', '/roost/v1/containers/registry/sas', { permissions: 'rwdl' });
    const upload = async (name, content) => assert.equal((await other.request('PUT', `/registry/${name}${sas}`, { token: null, body: content, headers: { 'x-ms-blob-type': 'BlockBlob' } })).status, 201);
    const target = `https://${NAME}/registry${sas}`;
    const importBoth = async (configurations, more = {}) => {
      await upload('devices.txt', JSON.stringify({ id: 'd1', status: 'enabled', tags: { site: 'munich' } }));
      await upload('configurations.txt', configurations.map((l) => (typeof l === 'string' ? l : JSON.stringify(l))).join('\n'));
      // The container of the errors may be left out: it is that of the input.
      const r = await other.request('POST', `/jobs/create?${V}`, { body: { type: 'import', inputBlobContainerUri: target, includeConfigurations: true, ...more } });
      assert.equal(r.status, 200, `${r.body}`);
      const job = await waitFor('the import', async () => { const { json } = await other.request('GET', `/jobs/${r.json.jobId}?${V}`); return json.endTimeUtc && json; });
      const errors = (await other.request('GET', `/registry/importErrors.log${sas}`, { token: null })).body.toString().split('\n').filter(Boolean).map((l) => JSON.parse(l));
      return { job, errors };
    };
    const get = async (id) => (await other.request('GET', `/configurations/${id}?${V}`)).json;
    let r = await importBoth(text);
    assert.deepEqual([r.job.status, r.job.progress, r.job.succeededCount, r.errors, r.job.configurationsBlobName], ['completed', 100, 3, [], 'configurations.txt']);
    for (const id of ['by-tag', 'of-edge']) {
      const a = shown.find((c) => c.id === id), b = await get(id);
      for (const member of ['schemaVersion', 'labels', 'content', 'targetCondition', 'priority']) assert.deepEqual(b[member], a[member], `${id} ${member}`);
    }
    // And it works there: the device of the other file has it.
    await waitFor('the configuration to be applied', async () => (await other.request('GET', `/twins/d1?${V}`)).json.properties.desired.x === 1.5);
    // As Azure IoT Hub spells it; without a mode an etag has to match what is there.
    const pascal = (more) => ({ Id: 'by-tag', SchemaVersion: null, Labels: null, Content: { DeviceContent: { 'properties.desired.x': 2 }, ModulesContent: null }, TargetCondition: '*', Priority: 9, Metrics: { Results: {}, Queries: {} }, ...more });
    const { etag } = await get('by-tag');
    r = await importBoth([pascal({ ETag: 'bm8=' }), pascal({}), pascal({ ETag: etag }), { ...lines[1], etag: '*', priority: 3 }]);
    assert.deepEqual(r.errors.map((e) => [e.configurationId, e.errorCode]), [['by-tag', 412001], ['by-tag', 412001]]);
    const after = await get('by-tag');
    assert.deepEqual([after.priority, after.targetCondition, after.content], [9, '*', lines[0].content], 'a content stays what it is');
    assert.equal((await get('of-edge')).priority, 3);
    r = await importBoth(['not JSON: passed over', { id: 'NO' }, { id: 'x', content: {} }, { id: 'x', content: { deviceContent: {} }, targetCondition: 'tags.a =' }, '{"id":',
      { id: 'x', content: { deviceContent: {} }, metrics: { queries: { a: 'SELECT' } } }, { id: 'x', content: { deviceContent: {} }, priority: -1 }, { id: 'x', importMode: 'updateTwin' },
      { id: 'of-edge', importMode: 'create', content: lines[1].content }, { id: 'none', importMode: 'update', content: lines[1].content }, { id: 'none', importMode: 'delete' },
      { id: 'by-tag', etag: '*', content: { moduleContent: {} }, targetCondition: 'FROM devices.modules WHERE tags.a = 1' }, { id: 'of-edge', importMode: 'delete' }]);
    assert.deepEqual(r.errors.map((e) => e.errorCode), [400004, 400402, 400401, 400006, 400404, 400004, 400004, 409401, 404301, 404301, 400401], JSON.stringify(r.errors));
    assert.equal(r.job.status, 'completed');
    assert.deepEqual((await other.request('GET', `/configurations?${V}`)).json.map((c) => c.id), ['by-tag']);
    const gone = await other.request('POST', `/jobs/create?${V}`, { body: { type: 'import', inputBlobContainerUri: target, includeConfigurations: true, configurationsBlobName: 'not/there' } });
    assert.deepEqual([gone.status, code(gone)], [400, 'BlobContainerValidationError']);
  } finally {
    await closeHub(other);
  }
});

test('[http 90] the SDK imports', async () => {
  const uri = await containerUri();
  await put(uri, [{ id: 'by-sdk', status: 'enabled', tags: { a: 1 } }]);
  const job = body(await registry.importDevicesFromBlob(uri, uri));
  assert.deepEqual([job.type, job.inputBlobName], ['import', 'devices.txt']);
  assert.equal((await ended(job.jobId)).status, 'completed');
  assert.deepEqual((await twin('by-sdk')).tags, { a: 1 });
  const bare = `https://${NAME}/registry`;
  const second = body(await registry.importDevicesFromBlobByIdentity(bare, bare));
  assert.deepEqual([(await ended(second.jobId)).status, second.storageAuthenticationType], ['completed', 'identityBased']);
});

test('[http 89] identity based access needs no signature; another port is the same hub', async () => {
  const job = body(await registry.exportDevicesToBlobByIdentity(`https://${NAME}:4443/registry/`, true));
  assert.deepEqual([(await ended(job.jobId)).status, job.storageAuthenticationType], ['completed', 'identityBased']);
});

test('[http 91] jobs are listed and read; unknown ones are not found; rights', async () => {
  const all = body(await registry.listJobs());
  assert.ok(all.length >= 5 && all.every((j) => ['import', 'export'].includes(j.type)));
  assert.ok(all[0].startTimeUtc >= all.at(-1).startTimeUtc);
  const missing = await hub.request('GET', `/jobs/none?${V}`);
  assert.deepEqual([missing.status, code(missing)], [404, 'JobNotFound']);
  assert.equal(code(await hub.request('DELETE', `/jobs/none?${V}`)), 'JobNotFound');
  const as = (policy) => ({ token: sasToken(NAME, policyKey(hub, policy), policy) });
  assert.equal((await hub.request('GET', `/jobs?${V}`, as('registryRead'))).status, 200);
  assert.equal((await hub.request('GET', `/jobs/${all[0].jobId}?${V}`, as('registryRead'))).status, 200);
  for (const policy of ['registryRead', 'service', 'device']) {
    assert.equal((await hub.request('POST', `/jobs/create?${V}`, { ...as(policy), body: { type: 'export' } })).status, 401, policy);
    assert.equal((await hub.request('DELETE', `/jobs/x?${V}`, as(policy))).status, 401, policy);
  }
  assert.equal((await hub.request('POST', `/jobs/create?${V}`, { ...as('registryReadWrite'), body: { type: 'export' } })).status, 400);
});

test('[http 89] the container is there, and is asked for like any other', async () => {
  const uri = await containerUri('rwdlc');
  const container = new ContainerClient(uri);
  assert.equal(await container.exists(), true);
  assert.equal((await container.createIfNotExists()).succeeded, false);
  const names = [];
  for await (const b of container.listBlobsFlat()) names.push(b.name);
  assert.deepEqual(names, ['both/c.txt', 'both/d.txt', 'devices.txt', 'importErrors.log']);
  await container.getBlockBlobClient('devices.txt').delete();
});

test('[http 90] a hub that is killed goes on behind the last line that it applied', async () => {
  const uri = await containerUri();
  const nr = 30000;
  const lines = Array.from({ length: nr }, (_, i) => JSON.stringify(i % 1000 === 7 ? { id: `bad ${i}`, status: 'enabled' } : { id: `k${i}`, importMode: 'create', status: 'enabled', tags: { n: i } }));
  await put(uri, lines);
  const { jobId } = (await create({ type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri })).json;
  const job = async () => (await hub.request('GET', `/jobs/${jobId}?${V}`)).json;
  let kills = 0, before = 0;
  while (kills < 3) {
    const j = await waitFor('some of it', async () => { const now = await job(); return (now.succeededCount > before || now.endTimeUtc) && now; }, { every: 1 });
    if (j.endTimeUtc) break;
    before = j.succeededCount;
    await hub.stop('SIGKILL');
    await hub.start();
    kills++;
  }
  assert.ok(kills >= 1);
  const done = await waitFor('its end', async () => { const now = await job(); return now.endTimeUtc && now; }, { timeout: 120_000 });
  // A line that were applied twice would be refused: all of them say "create".
  assert.deepEqual([done.status, done.succeededCount, done.failedCount, done.progress], ['completed', nr - 30, 30, 100]);
  assert.deepEqual((await linesOf(uri, 'importErrors.log')).map((l) => JSON.parse(l).deviceId), Array.from({ length: 30 }, (_, i) => `bad ${i * 1000 + 7}`));
  assert.equal((await twin(`k${nr - 1}`)).tags.n, nr - 1);
  const exported = (await create({ type: 'export', outputBlobContainerUri: uri })).json.jobId;
  await hub.stop('SIGKILL');
  await hub.start();
  assert.equal((await ended(exported)).status, 'completed');
  assert.equal((await linesOf(uri)).filter((l) => l.startsWith('{"id":"k')).length, nr - 30);
});
