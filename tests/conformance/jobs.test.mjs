// Jobs over many devices: twin updates and methods, now and later, through the Azure-compatible interface, the service
// SDK, the hub's own interface and the command line; a hub that is killed goes on where it was.
import assert from 'node:assert/strict';
import https from 'node:https';
import { after, before, test } from 'node:test';
import iothub from 'azure-iothub';
import { NAME, closeHub, newDevice, openHub, policyKey, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const V = 'api-version=2021-04-12';
let hub, agent, client;
before(async () => {
  hub = await openHub();
  agent = new https.Agent({ keepAlive: true, ca: hub.ca });
  const cs = `HostName=${NAME};SharedAccessKeyName=service;SharedAccessKey=${policyKey(hub, 'service')}`;
  client = iothub.JobClient.fromConnectionString(cs);
  client._restApiClient.setOptions({ http: { agent } });
});
after(async () => {
  agent?.destroy();
  await closeHub(hub);
});

async function ask(method, path, body) {
  const r = await hub.request(method, `${path}${path.includes('?') ? '&' : '?'}${V}`,
    { body: body && (typeof body === 'string' ? body : JSON.stringify(body)), headers: { 'content-type': 'application/json' } });
  return { status: r.status, headers: r.headers, code: r.headers['iothub-errorcode'], json: r.body.length ? JSON.parse(r.body) : undefined };
}
const put = (job) => ask('PUT', `/jobs/v2/${job.jobId}`, job);
const get = async (id) => (await ask('GET', `/jobs/v2/${id}`)).json;
const finished = (id) => waitFor(`job ${id}`, async () => {
  const j = await get(id);
  return ['completed', 'failed', 'cancelled'].includes(j.status) && j;
});
const twin = async (id) => (await ask('GET', `/twins/${id}`)).json;
const records = async (id) => (await ask('POST', '/devices/query', { query: `SELECT * FROM devices.jobs WHERE jobId = '${id}'` })).json;
let made = 0;
const twinJob = (more) => ({ jobId: `t-${++made}`, type: 'scheduleUpdateTwin', queryCondition: '*', updateTwin: { etag: '*', tags: { x: 1 } }, startTime: '', maxExecutionTimeInSeconds: 60, ...more });
const methodJob = (more) => ({ jobId: `m-${++made}`, type: 'scheduleDeviceMethod', queryCondition: '*', cloudToDeviceMethod: { methodName: 'reboot', payload: { delay: 1.0 }, responseTimeoutInSeconds: 30 }, maxExecutionTimeInSeconds: 60, ...more });

test('[http 82] a twin job, by the SDK, changes both twins', async () => {
  const [a, b, other] = [await newDevice(hub), await newDevice(hub), await newDevice(hub)];
  assert.equal((await ask('PATCH', `/twins/${a.id}`, { tags: { gone: 1 }, properties: { desired: { net: { gone: 1, stays: 2 } } } })).status, 200);
  const patch = { etag: '*', tags: { ring: 2, gone: null }, properties: { desired: { fw: '2.0', net: { gone: null, more: 3 } } } };
  const { jobStatus: first } = await client.scheduleTwinUpdate('sdk-twin', `deviceId IN ['${a.id}', '${b.id}']`, patch, new Date(), 60);
  assert.equal(first.jobId, 'sdk-twin');
  assert.equal(first.status, 'queued');
  await finished('sdk-twin');
  const { jobStatus: job } = await client.getJob('sdk-twin');
  assert.equal(job.status, 'completed');
  assert.deepEqual(job.deviceJobStatistics, { deviceCount: 2, failedCount: 0, succeededCount: 2, runningCount: 0, pendingCount: 0 });
  for (const d of [a, b]) {
    const t = await twin(d.id);
    assert.deepEqual(t.tags, { ring: 2 });
    assert.equal(t.properties.desired.fw, '2.0');
  }
  assert.deepEqual((await twin(a.id)).properties.desired.net, { stays: 2, more: 3 }, 'null removes, nested too');
  assert.deepEqual((await twin(other.id)).tags, {});
  assert.deepEqual((await records('sdk-twin')).map((r) => [r.deviceId, r.status, r.jobType]),
    [[a.id, 'completed', 'scheduleUpdateTwin'], [b.id, 'completed', 'scheduleUpdateTwin']]);
});

test('[http 83] a method job over one that is there and one that is not', async () => {
  const [on, off] = [await newDevice(hub), await newDevice(hub)];
  const c = await connected(hub, on);
  await c.subscribe('$iothub/methods/POST/#');
  const job = methodJob({ queryCondition: `deviceId IN ['${on.id}', '${off.id}']` });
  assert.equal((await put(job)).status, 200);
  const call = await c.expect('publish');
  assert.equal(call.payload.toString(), '{"delay":1}');
  c.send({ cmd: 'publish', topic: `$iothub/methods/res/201/?$rid=${call.topic.split('$rid=')[1]}`, payload: '{"ok":1.0}', qos: 0 });
  const done = await finished(job.jobId);
  assert.equal(done.status, 'completed');
  assert.deepEqual(done.cloudToDeviceMethod, job.cloudToDeviceMethod);
  assert.deepEqual(done.deviceJobStatistics, { deviceCount: 2, failedCount: 1, succeededCount: 1, runningCount: 0, pendingCount: 0 });
  const [x, y] = await records(job.jobId);
  assert.deepEqual([x.deviceId, x.status, x.outcome], [on.id, 'completed', { deviceMethodResponse: { status: 201, payload: { ok: 1 } } }]);
  assert.equal(y.deviceId, off.id);
  assert.equal(y.status, 'failed');
  assert.equal(y.error.code, '404103');
  await c.disconnect();
});

test('[http 84] ids: twice, unknown, malformed', async () => {
  const job = twinJob({ queryCondition: "deviceId = 'nobody'" });
  assert.equal((await put(job)).status, 200);
  const again = await put(job);
  assert.deepEqual([again.status, again.code], [409, 'JobAlreadyExists']);
  const unknown = await ask('GET', '/jobs/v2/nothing');
  assert.deepEqual([unknown.status, unknown.json], [200, { jobId: 'nothing', type: 'unknown', status: 'unknown' }]);
  const gone = await ask('POST', '/jobs/v2/nothing/cancel');
  assert.deepEqual([gone.status, gone.code], [404, 'JobNotFound']);
  for (const id of ['Upper', 'a_b', 'x'.repeat(65)]) {
    const r = await put(twinJob({ jobId: id }));
    assert.deepEqual([r.status, r.code], [400, 'ArgumentInvalid'], id);
  }
  assert.equal((await put(twinJob({ jobId: 'x'.repeat(64), queryCondition: "deviceId = 'nobody'" }))).status, 200);
  assert.equal((await finished(job.jobId)).deviceJobStatistics.deviceCount, 0);
});

test('[http 85] scheduled, cancelled; what has ended stays', async () => {
  const job = twinJob({ startTime: new Date(Date.now() + 3600e3).toISOString() });
  assert.equal((await put(job)).json.status, 'scheduled');
  assert.equal((await get(job.jobId)).status, 'scheduled');
  const c = await ask('POST', `/jobs/v2/${job.jobId}/cancel`);
  assert.deepEqual([c.status, c.json.status], [200, 'cancelled']);
  const again = await ask('POST', `/jobs/v2/${job.jobId}/cancel`);
  assert.deepEqual([again.status, again.code], [405, 'OperationNotAllowedInCurrentState']);
  const done = twinJob({ queryCondition: "deviceId = 'nobody'" });
  await put(done);
  await finished(done.jobId);
  assert.equal((await ask('POST', `/jobs/v2/${done.jobId}/cancel`)).status, 405);
  await client.scheduleTwinUpdate('sdk-later', '*', { etag: '*', tags: {} , properties: { desired: { a: 1 } } }, new Date(Date.now() + 3600e3), 60);
  assert.equal((await client.cancelJob('sdk-later')).jobStatus.status, 'cancelled');
});

test('[http 86] start times', async () => {
  const at = (ms) => new Date(Date.now() + ms).toISOString();
  const far = await put(twinJob({ startTime: at(8 * 24 * 3600e3) }));
  assert.deepEqual([far.status, far.code], [400, 'ArgumentInvalid']);
  assert.equal((await put(twinJob({ startTime: 'tomorrow' }))).status, 400);
  for (const startTime of ['', null, undefined, at(-3600e3), at(0).replace('Z', '')]) {
    const job = twinJob({ startTime, queryCondition: "deviceId = 'nobody'" });
    assert.equal((await put(job)).status, 200, `${startTime}`);
    assert.equal((await finished(job.jobId)).status, 'completed');
  }
});

test('[http 87] what cannot be asked for', async () => {
  for (const updateTwin of [{ tags: { a: 1 } }, { etag: 'AAAAAAAAAAE=', tags: { a: 1 } }, { etag: 1, tags: {} }, { etag: '*' }, { etag: '*', tags: { 'a.b': 1 } }, [], undefined]) {
    const r = await put(twinJob({ updateTwin }));
    assert.deepEqual([r.status, r.code], [400, 'ArgumentInvalid'], JSON.stringify(updateTwin));
  }
  for (const cloudToDeviceMethod of [{}, { methodName: 'a b' }, { methodName: 'x', responseTimeoutInSeconds: 4 }, { methodName: 'x', connectTimeoutInSeconds: 301 },
    { methodName: 'x', payload: 'y'.repeat(131072) }, undefined])
    assert.equal((await put(methodJob({ cloudToDeviceMethod }))).status, 400, JSON.stringify(cloudToDeviceMethod)?.slice(0, 80));
  for (const more of [{ type: 'export' }, { type: undefined }, { queryCondition: 5 }, { maxExecutionTimeInSeconds: 'x' }, { maxExecutionTimeInSeconds: 2592001 }])
    assert.equal((await put(twinJob(more))).status, 400, JSON.stringify(more));
  const other = await ask('PUT', '/jobs/v2/one', twinJob({ jobId: 'two' }));
  assert.deepEqual([other.status, other.code], [400, 'ArgumentInvalid']);
  const text = JSON.stringify(twinJob());
  for (let n = 0; n < text.length; n += 7) assert.equal((await ask('PUT', '/jobs/v2/cut', text.slice(0, n))).status, 400, `${n}`);
});

test('[http 88] the list: filters without case, pages, item type', async () => {
  const all = await ask('GET', '/jobs/v2/query');
  assert.equal(all.headers['x-ms-item-type'], 'JobResponse');
  const methods = await ask('GET', '/jobs/v2/query?jobType=ScheduleDeviceMethod&jobStatus=Completed');
  assert.ok(methods.json.length >= 1);
  assert.ok(methods.json.every((j) => j.type === 'scheduleDeviceMethod' && j.status === 'completed'));
  assert.equal((await ask('GET', '/jobs/v2/query?jobType=Nonsense')).status, 400);
  const page = await client.createQuery('scheduleUpdateTwin', 'completed', 2).next();
  assert.equal(page.result.length, 2);
  const seen = [];
  let next, pages = 0;
  do {
    const r = await hub.request('GET', `/jobs/v2/query?jobType=&${V}`, { headers: { 'x-ms-max-item-count': '3', ...(next ? { 'x-ms-continuation': next } : {}) } });
    seen.push(...JSON.parse(r.body).map((j) => j.jobId));
    next = r.headers['x-ms-continuation'];
    pages++;
  } while (next);
  assert.deepEqual(seen, all.json.map((j) => j.jobId));
  assert.equal(pages, Math.ceil(seen.length / 3));
});

test('a condition that is not understood: the job ends failed', async () => {
  const job = twinJob({ queryCondition: 'tags.site ==' });
  assert.equal((await put(job)).status, 200);
  const j = await finished(job.jobId);
  assert.equal(j.status, 'failed');
  assert.match(j.failureReason, /condition/);
});

test('modules', async () => {
  const d = await newDevice(hub);
  for (const m of ['a', 'b']) assert.equal((await ask('PUT', `/devices/${d.id}/modules/${m}`, { deviceId: d.id, moduleId: m })).status, 200);
  const job = twinJob({ queryCondition: `FROM devices.modules WHERE deviceId = '${d.id}'`, updateTwin: { etag: '*', tags: { of: 'module' } } });
  await put(job);
  assert.equal((await finished(job.jobId)).deviceJobStatistics.succeededCount, 2);
  assert.deepEqual((await ask('GET', `/twins/${d.id}/modules/b`)).json.tags, { of: 'module' });
  assert.deepEqual((await records(job.jobId)).map((r) => r.moduleId), ['a', 'b']);
});

test('ten jobs hold the slots, scheduled ones included', async () => {
  const jobs = Array.from({ length: 11 }, () => twinJob({ startTime: new Date(Date.now() + 3600e3).toISOString() }));
  for (const j of jobs.slice(0, 10)) assert.equal((await put(j)).status, 200);
  const r = await put(jobs[10]);
  assert.deepEqual([r.status, r.code], [429, 'ThrottlingMaxActiveJobCountExceeded']);
  for (const j of jobs.slice(0, 10)) assert.equal((await ask('POST', `/jobs/v2/${j.jobId}/cancel`)).status, 200);
  assert.equal((await put({ ...jobs[10], startTime: '', queryCondition: "deviceId = 'nobody'" })).status, 200);
});

// ---- the hub's own interface and the command line ------------------------------------------------------------

const roost = (...args) => hub.roost(...args, { ok: false });

test('the own interface: create, show, list, cancel, and what is refused', async () => {
  const own = async (method, path, body) => {
    const r = await hub.request(method, `/roost/v1/jobs${path}`, { body: body && (typeof body === 'string' ? body : JSON.stringify(body)), headers: { 'content-type': 'application/json' } });
    return { status: r.status, json: r.body.length ? JSON.parse(r.body) : undefined };
  };
  const d = await newDevice(hub);
  const made = await own('PUT', '/own-1', { where: `deviceId = '${d.id}'`, twin: { tags: { own: 1.0 }, desired: { a: 1 } } });
  assert.equal(made.status, 201);
  await finished('own-1');
  const shown = (await own('GET', '/own-1')).json;
  assert.equal(shown.status, 'completed');
  assert.deepEqual(shown.devices, { total: 1, succeeded: 1, failed: 0, running: 0, pending: 0, canceled: 0 });
  assert.deepEqual((await twin(d.id)).tags, { own: 1 });
  assert.equal((await own('PUT', '/own-1', { where: '*', twin: { tags: {} } })).status, 409);
  for (const body of [{ twin: { tags: { a: 1 } } }, { where: '*' }, { where: '*', twin: {} }, { where: '*', twin: { tags: { a: 1 } }, method: { name: 'x' } },
    { where: '*', method: {} }, { where: '*', twin: { tags: { a: 1 } }, extra: 1 }, '{', '[]', { where: '*', twin: 5 }, { where: '*', method: { name: 'x' }, start: 'soon' }])
    assert.equal((await own('PUT', '/own-2', body)).status, 400, JSON.stringify(body));
  assert.equal((await own('PUT', '/own-3', { where: '*', method: { name: 'x', connectTimeoutSeconds: 5 }, start: new Date(Date.now() + 3600e3).toISOString() })).json.status, 'scheduled');
  assert.equal((await own('POST', '/own-3/cancel')).json.status, 'cancelled');
  assert.equal((await own('POST', '/own-3/cancel')).status, 409);
  assert.equal((await own('GET', '/nothing')).status, 404);
  const page = (await own('GET', '?limit=1')).json;
  assert.deepEqual(page.jobs.map((j) => j.id), ['own-3']);
  assert.deepEqual((await own('GET', `?limit=1&before=${page.next}`)).json.jobs.map((j) => j.id), ['own-1']);
  assert.equal((await own('GET', '?status=nonsense')).status, 400);
});

test('roost job', async () => {
  const [on, off] = [await newDevice(hub), await newDevice(hub)];
  let r = await roost('job', 'create', 'cli-1', '--where', `deviceId IN ['${on.id}', '${off.id}']`, '--tags', '{"cli":true}', '--wait');
  assert.equal(r.code, 0, r.stderr);
  assert.match(r.stdout, /cli-1: completed, 2 devices, 2 succeeded, 0 failed/);
  r = await roost('job', 'create', 'cli-2', '--where', `deviceId = '${off.id}'`, '--method', 'reboot', '--payload', '{"delay":1}', '--wait', '--json');
  assert.equal(r.code, 5);
  assert.equal(JSON.parse(r.stdout).devices.failed, 1);
  r = await roost('job', 'create', 'cli-3', '--where', '*', '--desired', '{"a":1}', '--at', new Date(Date.now() + 3600e3).toISOString());
  assert.equal(r.stdout, 'cli-3: scheduled\n');
  assert.equal((await roost('job', 'wait', 'cli-3', '--timeout', '1s')).code, 6);
  assert.match((await roost('job', 'cancel', 'cli-3')).stdout, /cli-3: cancelled/);
  assert.match((await roost('job', 'list')).stdout, /cli-2\s+method\s+completed\s+1\s+0\s+1/);
  assert.deepEqual(JSON.parse((await roost('job', 'list', '--status', 'cancelled', '--json')).stdout).filter((j) => j.id === 'cli-3').length, 1);
  assert.match((await roost('job', 'show', 'cli-1')).stdout, /completed/);
  assert.equal((await roost('job', 'create', 'cli-4', '--tags', '{"a":1}')).code, 1);
  assert.equal((await roost('job', 'create', 'cli-4', '--where', '*', '--tags', 'nonsense')).code, 1);
  assert.equal((await roost('job', 'create', 'cli-4', '--where', '*', '--tags', '{"a.b":1}')).code, 3);
});

// ---- a hub that is killed -----------------------------------------------------------------------------------

test('a running job goes on after kill -9, every twin is patched once', async () => {
  const nr = 1500;
  for (let i = 0; i < nr; i += 100) {
    const r = await ask('POST', '/devices', Array.from({ length: 100 }, (_, k) => ({ id: `many-${i + k}`, status: 'enabled', tags: { many: 1 } })));
    assert.equal(r.status, 200);
  }
  const job = twinJob({ queryCondition: 'tags.many = 1', updateTwin: { etag: '*', properties: { desired: { once: 1 } } }, maxExecutionTimeInSeconds: 600 });
  assert.equal((await put(job)).status, 200);
  await waitFor('some of it', async () => (await get(job.jobId)).status !== 'queued');
  await hub.stop('SIGKILL');
  await hub.start();
  const done = await finished(job.jobId);
  assert.equal(done.status, 'completed');
  assert.equal(done.deviceJobStatistics.succeededCount, nr);
  const once = await ask('POST', '/devices/query', { query: 'SELECT COUNT() AS n FROM devices WHERE properties.desired.$version = 2 AND properties.desired.once = 1' });
  assert.equal(once.json[0].n, nr);
});
