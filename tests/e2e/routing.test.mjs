// Messages on their way to endpoints of every kind: conditions, enrichments, the fallback, events with their exact
// bodies; endpoints that are dead, slow or come back; and a hub that is killed in between.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { Hub, bin, freePorts, run, sasToken, start, tempDir, waitFor } from '../lib/roost.mjs';

let hub, tmp, ca, server, serverPort, broker, brokerPort;
const SECRET = 'a-secret-of-the-hook';
const hooks = { batches: [], answer: () => 200 }; // what the HTTPS server got, and what it says
const heard = []; // what came out of the other broker: "topic|payload"

// ---- the outside world: an authority, an HTTPS server, a broker

async function certificates() {
  const f = (n) => join(tmp.dir, n);
  const openssl = (...args) => run('openssl', args);
  writeFileSync(f('ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=test authority',
    '-keyout', f('ca.key'), '-out', f('ca.crt'));
  await openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=localhost', '-keyout', f('s.key'), '-out', f('s.csr'));
  await openssl('x509', '-req', '-in', f('s.csr'), '-CA', f('ca.crt'), '-CAkey', f('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', f('ext'), '-out', f('s.crt'));
  ca = readFileSync(f('ca.crt'), 'utf8');
}

async function startServer() {
  server = https.createServer({ key: readFileSync(join(tmp.dir, 's.key')), cert: readFileSync(join(tmp.dir, 's.crt')) }, (req, res) => {
    const pieces = [];
    req.on('data', (d) => pieces.push(d));
    req.on('end', () => {
      const body = Buffer.concat(pieces);
      const status = hooks.answer(req, body);
      if (status === null) return; // says nothing, ever
      if (status === 200) hooks.batches.push({ path: req.url, headers: req.headers, body, rows: JSON.parse(body) });
      res.writeHead(status, status === 302 ? { location: 'https://127.0.0.1/elsewhere' } : {}).end();
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  serverPort = server.address().port;
}

async function startBroker() {
  [brokerPort] = brokerPort ? [brokerPort] : await freePorts(1);
  const conf = join(tmp.dir, 'mosquitto.conf');
  writeFileSync(join(tmp.dir, 'passwords'), '');
  await run('mosquitto_passwd', ['-b', join(tmp.dir, 'passwords'), 'roost', 'broker-password']);
  writeFileSync(conf, `listener ${brokerPort} 127.0.0.1\ncafile ${tmp.dir}/ca.crt\ncertfile ${tmp.dir}/s.crt\nkeyfile ${tmp.dir}/s.key\n` +
    `password_file ${tmp.dir}/passwords\nallow_anonymous false\nuser root\n`);
  broker = start('mosquitto', ['-c', conf]);
  await waitFor('the broker', async () => broker.out.includes('running') || (broker.exited && Promise.reject(new Error(broker.out))));
  broker.sub = start('mosquitto_sub', ['-h', '127.0.0.1', '-p', `${brokerPort}`, '--cafile', join(tmp.dir, 'ca.crt'), '-u', 'roost', '-P', 'broker-password',
    '-q', '1', '-v', '-F', '%t|%p', '-t', '#'], { onLine: (l) => { if (l.includes('|')) heard.push(l); } });
  await waitFor('the subscription', async () => {
    await run('mosquitto_pub', ['-h', '127.0.0.1', '-p', `${brokerPort}`, '--cafile', join(tmp.dir, 'ca.crt'), '-u', 'roost', '-P', 'broker-password', '-t', 'probe', '-m', 'x']);
    if (broker.sub.exited) throw new Error(broker.sub.out);
    return heard.length;
  });
}

// ---- the hub

const api = (method, path, body) => hub.api(method, `/roost/v1/${path}`, body);
const refused = async (method, path, body) => {
  const r = await hub.request(method, `/roost/v1/${path}`, { body });
  assert.ok(r.status >= 400, `${method} ${path}: ${r.status}`);
  return { status: r.status, ...r.json.error };
};
const keys = new Map();
async function device(id) {
  await api('PUT', `devices/${id}`, {});
  keys.set(id, (await api('GET', `devices/${id}`)).primaryKey);
  return id;
}
// A message of a device; resolves when the hub has acknowledged it.
async function say(id, body, { app = {}, type, encoding = 'utf-8' } = {}) {
  const headers = Object.fromEntries(Object.entries(app).map(([k, v]) => [`iothub-app-${k}`, v]));
  if (type) Object.assign(headers, { 'iothub-contenttype': type, 'iothub-contentencoding': encoding });
  const r = await hub.request('POST', `/devices/${id}/messages/events?api-version=2020-03-13`, {
    token: sasToken(`${hub.name}/devices/${id}`, keys.get(id)), body: typeof body === 'string' ? body : JSON.stringify(body), headers });
  assert.equal(r.status, 204, `${r.body}`);
}
async function stream(name, { device: id } = {}) {
  const r = await hub.request('GET', `/roost/v1/telemetry?from=earliest&follow=false${name ? `&stream=${name}` : ''}${id ? `&device=${id}` : ''}`);
  assert.equal(r.status, 200, `${r.body}`);
  return r.body.toString().split('\n').filter(Boolean).map((l) => JSON.parse(l));
}
const rowsOf = (name, nr, options) => waitFor(`${nr} records of ${name ?? 'events'}`, async () => {
  const rows = await stream(name, options);
  return rows.length >= nr && rows;
});
const hooked = (path) => hooks.batches.filter((b) => b.path === path).flatMap((b) => b.rows);
const fileRows = (name) => {
  const dir = join(hub.dir, 'endpoints', name);
  if (!existsSync(dir)) return [];
  return readdirSync(dir).sort((a, b) => (a === 'messages.jsonl') - (b === 'messages.jsonl') || (a < b ? -1 : 1))
    .flatMap((f) => readFileSync(join(dir, f), 'utf8').split('\n').filter(Boolean)).map((l) => JSON.parse(l));
};
const endpoint = async (name) => (await api('GET', 'endpoints')).endpoints.find((e) => e.name === name);
async function clear() {
  await api('PUT', 'routes/$fallback', { enabled: true });
  for (const r of (await api('GET', 'routes')).routes) await api('DELETE', `routes/${r.name}`);
  for (const r of (await api('GET', 'enrichments')).enrichments) await api('DELETE', `enrichments/${r.name}`);
  for (const r of (await api('GET', 'endpoints')).endpoints) await api('DELETE', `endpoints/${r.name}`);
  hooks.batches.length = heard.length = 0;
  hooks.answer = () => 200;
}
const webhook = (path, more = {}) => ({ kind: 'webhook', url: `https://localhost:${serverPort}${path}`, secret: SECRET, ca, ...more });
const mqtt = (topic, more = {}) => ({ kind: 'mqtt', host: 'localhost', port: brokerPort, topic, username: 'roost', password: 'broker-password', ca, ...more });

before(async () => {
  tmp = tempDir();
  await certificates();
  await startServer();
  await startBroker();
  hub = await Hub.create();
  await hub.start();
});
after(async () => {
  const end = await hub?.stop();
  const out = hub?.process.out;
  await hub?.remove();
  await broker?.sub.stop();
  await broker?.stop();
  server?.closeAllConnections();
  server?.close();
  tmp?.remove();
  if (end && end.code !== 0) throw new Error(`roostd ended with ${end.code ?? end.signal}:\n${out.slice(-4000)}`);
});

test('a condition decides for endpoints of every kind; what matches none falls back', async () => {
  await clear();
  const d = await device('c1');
  await api('PUT', 'endpoints/hot', { kind: 'stream' });
  await api('PUT', 'endpoints/hook', webhook('/c1'));
  await api('PUT', 'endpoints/bridge', mqtt('from/{device}/{source}'));
  await api('PUT', 'endpoints/log', { kind: 'file' });
  await api('PUT', 'routes/critical', { condition: "level = 'critical' AND $body.t > 20", endpoints: ['hot', 'hook', 'bridge', 'log'] });
  await api('PUT', 'routes/again', { condition: "$connectionDeviceId = 'c1' AND level = 'critical' AND $body.t > 20", endpoints: ['HOT'] });
  await say(d, { t: 21.5 }, { app: { level: 'critical' }, type: 'application/json' });
  await say(d, { t: 1 }, { app: { level: 'critical' }, type: 'application/json' });
  await say(d, 'no json', { app: { level: 'normal' } });
  const hot = await rowsOf('hot', 1);
  assert.deepEqual(hot.map((r) => [r.device, r.body, r.properties, r.system['iothub-message-source']]), [['c1', '{"t":21.5}', { level: 'critical' }, 'Telemetry']]);
  const [batch] = await waitFor('the webhook', async () => hooks.batches.length && hooks.batches);
  assert.equal(batch.rows.length, 1);
  assert.equal(batch.rows[0].body, '{"t":21.5}');
  assert.equal(batch.headers['content-type'], 'application/json');
  assert.equal(batch.headers['roost-endpoint'], 'hook');
  assert.equal(batch.headers['roost-signature'], `v1=${createHmac('sha256', SECRET).update(`${batch.headers['roost-timestamp']}.`).update(batch.body).digest('hex')}`);
  await waitFor('the broker', async () => heard.length);
  assert.deepEqual(heard, ['from/c1/Telemetry|{"t":21.5}']);
  await waitFor('the file', async () => fileRows('log').length);
  assert.deepEqual(fileRows('log').map((r) => r.body), ['{"t":21.5}']);
  assert.deepEqual((await rowsOf(undefined, 2, { device: d })).map((r) => r.body), ['{"t":1}', 'no json']);
  for (const name of ['hook', 'bridge', 'log']) {
    const e = await waitFor(`${name} to be counted`, async () => { const x = await endpoint(name); return x.behind === 0 && x; });
    assert.deepEqual([e.delivered, e.failed, e.deadLettered, e.lost], [1, 0, 0, 0], name);
  }
  assert.equal((await refused('GET', 'telemetry?stream=hook')).status, 404);
});

test('the fallback off: what no route takes is dropped; an explicit route to events', async () => {
  await clear();
  const d = await device('f1');
  await api('PUT', 'routes/$fallback', { enabled: false });
  assert.equal((await api('GET', 'routes')).fallback, false);
  await say(d, 'dropped');
  await api('PUT', 'routes/some', { condition: 'keep = \'yes\'', endpoints: ['events'] });
  await say(d, 'kept', { app: { keep: 'yes' } });
  await say(d, 'dropped too', { app: { keep: 'no' } });
  await api('PUT', 'routes/some', { condition: 'keep = \'yes\'', endpoints: ['events'], enabled: false });
  await say(d, 'dropped again', { app: { keep: 'yes' } });
  await api('PUT', 'routes/$fallback', { enabled: true });
  await say(d, 'last');
  assert.deepEqual((await rowsOf(undefined, 2, { device: d })).map((r) => r.body), ['kept', 'last']);
});

test('order of a device holds while the way changes between direct and routed', async () => {
  await clear();
  const d = await device('o1');
  const n = 60;
  for (let i = 0; i < n; i++) {
    if (i % 20 === 10) await api('PUT', 'routes/all', { endpoints: ['events'] });
    if (i % 20 === 0 && i) await api('DELETE', 'routes/all');
    await say(d, `${i}`);
  }
  assert.deepEqual((await rowsOf(undefined, n, { device: d })).map((r) => r.body), Array.from({ length: n }, (_, i) => `${i}`));
});

test('the twin in conditions, and enrichments', async () => {
  await clear();
  const d = await device('t1'), other = await device('t2');
  await api('PATCH', `devices/${d}/twin`, { tags: { site: 'north', floor: 3 } });
  await api('PUT', 'endpoints/s', { kind: 'stream' });
  await api('PUT', 'routes/north', { condition: "$twin.tags.site = 'north'", endpoints: ['s', 'events'] });
  await api('PUT', 'enrichments/site', { value: '$twin.tags.site', endpoints: ['s'] });
  await api('PUT', 'enrichments/floor', { value: '$twin.tags.floor', endpoints: ['s'] });
  await api('PUT', 'enrichments/none', { value: '$twin.tags.nothing', endpoints: ['s'] });
  await api('PUT', 'enrichments/hub', { value: '$iothubname', endpoints: ['s'] });
  await api('PUT', 'enrichments/mine', { value: 'theirs', endpoints: ['s', 'events'] });
  await say(d, 'a', { app: { mine: 'own' } });
  await say(other, 'b');
  const [row] = await rowsOf('s', 1);
  assert.deepEqual(row.properties, { mine: 'own', floor: '3', hub: 'hub', none: '$twin.tags.nothing', site: 'north' });
  assert.deepEqual((await rowsOf(undefined, 1, { device: d }))[0].properties, { mine: 'own' });
  assert.deepEqual((await rowsOf(undefined, 1, { device: other }))[0].properties, { mine: 'theirs' }, 'also what falls back');
  assert.equal((await stream('s')).length, 1);
});

test('events: identities, twins and connections', async () => {
  await clear();
  await api('PUT', 'endpoints/ev', { kind: 'stream' });
  for (const source of ['TwinChangeEvents', 'DeviceLifecycleEvents', 'DeviceConnectionStateEvents'])
    await api('PUT', `routes/${source}`, { source, endpoints: ['ev'] });
  const d = await device('e1');
  await api('PATCH', `devices/${d}/twin`, { tags: { a: 1 }, desired: { b: { c: 2 } } });
  const token = sasToken(`${hub.name}/devices/${d}`, keys.get(d));
  await run('mosquitto_pub', ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '--insecure', '-V', 'mqttv311', '-i', d, '-u', `${hub.name}/${d}/?api-version=2021-04-12`,
    '-P', token, '-q', '1', '-t', `devices/${d}/messages/events/`, '-m', 'x', '--repeat', '4', '--repeat-delay', '1']);
  await waitFor('the device to be seen gone', async () => (await stream('ev')).some((r) => r.properties.opType === 'deviceDisconnected'));
  await api('DELETE', `devices/${d}`);
  const rows = await rowsOf('ev', 5);
  const of = (op) => rows.filter((r) => r.properties.opType === op);
  const [made] = of('createDeviceIdentity');
  assert.equal(made.system['iothub-message-source'], 'deviceLifecycleEvents');
  assert.equal(made.system['content-type'], 'application/json');
  assert.equal(made.system['content-encoding'], 'utf-8');
  assert.equal(made.system['user-id'], 'hub');
  assert.match(made.properties.operationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
  assert.deepEqual({ ...made.properties, operationTimestamp: 'T' }, { hubName: 'hub', deviceId: d, operationTimestamp: 'T',
    'iothub-message-schema': 'deviceLifecycleNotification', opType: 'createDeviceIdentity' });
  const never = { $lastUpdated: '0001-01-01T00:00:00Z' };
  assert.deepEqual(JSON.parse(made.body), { deviceId: d, etag: 'AAAAAAAAAAE=', version: 2, properties: {
    desired: { $metadata: { ...never, $lastUpdatedVersion: 1 }, $version: 1 }, reported: { $metadata: never, $version: 1 } } });
  const [changed] = of('updateTwin');
  assert.equal(changed.system['iothub-message-source'], 'twinChangeEvents');
  const body = JSON.parse(changed.body);
  delete body.properties.desired.$metadata;
  assert.deepEqual(body, { version: 3, tags: { a: 1 }, properties: { desired: { b: { c: 2 }, $version: 2 } } });
  const on = of('deviceConnected')[0], off = of('deviceDisconnected')[0];
  assert.equal(on.system['iothub-message-source'], 'deviceConnectionStateEvents');
  for (const r of [on, off]) assert.match(JSON.parse(r.body).sequenceNumber, /^[0-9A-F]{64}$/);
  assert.ok(JSON.parse(on.body).sequenceNumber < JSON.parse(off.body).sequenceNumber);
  assert.equal(of('deleteDeviceIdentity').length, 1);
  assert.equal((await stream(undefined, { device: d })).filter((r) => r.system['iothub-message-source'] !== 'Telemetry').length, 0, 'no fallback for events');
});

test('events: jobs, configurations, digital twins, replaced twins, modules', async () => {
  await clear();
  const V = 'api-version=2021-04-12';
  const azure = async (method, path, body, headers = {}) => {
    const r = await hub.request(method, `${path}?${V}`, { body, headers });
    assert.ok(r.status < 300, `${method} ${path}: ${r.status} ${r.body}`);
    return r.json;
  };
  const d = await device('ev1'), away = await device('ev2');
  await api('PUT', 'endpoints/ev', { kind: 'stream' });
  for (const source of ['DeviceJobLifecycleEvents', 'DigitalTwinChangeEvents', 'TwinChangeEvents', 'DeviceLifecycleEvents'])
    await api('PUT', `routes/${source}`, { source, endpoints: ['ev'] });
  const of = async (nr, pick) => waitFor(`${nr} of them`, async () => { const rows = (await stream('ev')).filter(pick); return rows.length >= nr && rows; });
  const source = (name) => (r) => r.system['iothub-message-source'] === name;

  // Modules: made and deleted, each with its own name.
  await azure('PUT', '/devices/ev1/modules/cam', { deviceId: 'ev1', moduleId: 'cam' });
  const [module] = await of(1, (r) => r.properties.opType === 'createDeviceIdentity');
  assert.deepEqual([module.properties.deviceId, module.properties.moduleId, module.module, JSON.parse(module.body).moduleId], ['ev1', 'cam', 'cam', 'cam']);

  // A job: one event for each device that had its turn, with what came of it; of a module with its name.
  await azure('PUT', '/jobs/v2/ev-job', { jobId: 'ev-job', type: 'scheduleUpdateTwin', queryCondition: "deviceId IN ['ev1', 'ev2']", updateTwin: { etag: '*', tags: { by: 'job' } } });
  const jobs = await of(2, source('deviceJobLifecycleEvents'));
  assert.deepEqual(jobs.map((r) => [r.device, r.properties.opType, r.properties['iothub-message-schema']]).sort(),
    [[d, 'completed', 'deviceJobLifecycleNotification'], [away, 'completed', 'deviceJobLifecycleNotification']]);
  const told = JSON.parse(jobs[0].body);
  assert.deepEqual([told.jobId, told.jobType, told.status], ['ev-job', 'scheduleUpdateTwin', 'completed']);
  await azure('PUT', '/jobs/v2/ev-mod', { jobId: 'ev-mod', type: 'scheduleUpdateTwin', queryCondition: "FROM devices.modules WHERE deviceId = 'ev1'", updateTwin: { etag: '*', tags: { by: 'job' } } });
  const [ofModule] = await of(1, (r) => source('deviceJobLifecycleEvents')(r) && r.properties.moduleId);
  assert.deepEqual([ofModule.properties.moduleId, JSON.parse(ofModule.body).moduleId], ['cam', 'cam']);
  await azure('PUT', '/jobs/v2/ev-call', { jobId: 'ev-call', type: 'scheduleDeviceMethod', queryCondition: "deviceId = 'ev2'", cloudToDeviceMethod: { methodName: 'm' } });
  const [failed] = await of(1, (r) => r.properties.opType === 'failed');
  assert.match(failed.body, /404103/);

  // A configuration: what it writes into a twin is a change of that twin.
  await azure('PUT', '/configurations/ev-conf', { id: 'ev-conf', targetCondition: "deviceId = 'ev1'", content: { deviceContent: { 'properties.desired.conf': 1 } } });
  const [written] = await of(1, (r) => source('twinChangeEvents')(r) && JSON.parse(r.body).properties?.desired?.conf === 1);
  assert.deepEqual([written.device, written.properties.opType], [d, 'updateTwin']);
  await azure('DELETE', '/configurations/ev-conf');

  // A whole twin, replaced.
  await azure('PUT', '/twins/ev1', { tags: { only: 1 }, properties: { desired: { z: 1 } } });
  const [replaced] = await of(1, (r) => r.properties.opType === 'replaceTwin');
  const whole = JSON.parse(replaced.body);
  assert.deepEqual([whole.deviceId, whole.tags, whole.properties.desired.z, typeof whole.etag, typeof whole.properties.reported.$version], ['ev1', { only: 1 }, 1, 'string', 'number']);

  // A digital twin, of a device that has a model: none before it has one.
  assert.equal((await stream('ev')).filter(source('digitalTwinChangeEvents')).length, 0);
  await run('mosquitto_pub', ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '--insecure', '-V', 'mqttv311', '-i', d, '-u', `${hub.name}/${d}/?${V}&model-id=dtmi:a:b;1`,
    '-P', sasToken(`${hub.name}/devices/${d}`, keys.get(d)), '-q', '1', '-t', '$iothub/twin/PATCH/properties/reported/?$rid=1', '-m', '{"temp":21,"th1":{"__t":"c","max":35}}']);
  const [digital] = await of(1, source('digitalTwinChangeEvents'));
  assert.equal(digital.system['content-type'], 'application/json-patch+json');
  assert.deepEqual(JSON.parse(digital.body), [{ op: 'add', path: '/temp', value: 21 }, { op: 'add', path: '/th1/max', value: 35 }]);
});

test('a dead endpoint delays no other, comes back, and gives up into the dead-letter stream', async () => {
  await clear();
  const d = await device('x1');
  const [nobody] = await freePorts(1);
  await api('PUT', 'endpoints/dead', webhook('/dead', { url: `https://localhost:${nobody}/dead`, deadLetterSeconds: 2 }));
  await api('PUT', 'endpoints/mute', webhook('/mute'));
  await api('PUT', 'endpoints/wrongca', webhook('/wrongca', { ca: hub.ca }));
  await api('PUT', 'endpoints/turns', webhook('/turns'));
  await api('PUT', 'endpoints/good', webhook('/good'));
  await api('PUT', 'endpoints/log2', { kind: 'file' });
  hooks.answer = (req) => (req.url === '/mute' ? null : req.url === '/turns' ? 302 : 200);
  await api('PUT', 'routes/all', { endpoints: ['dead', 'mute', 'wrongca', 'turns', 'good', 'log2', 'events'] });
  for (let i = 0; i < 20; i++) await say(d, `${i}`);
  await waitFor('the good ones', async () => hooked('/good').length >= 20 && fileRows('log2').length >= 20);
  assert.deepEqual(hooked('/good').map((r) => r.body), Array.from({ length: 20 }, (_, i) => `${i}`));
  const dead = await rowsOf('dead-letter', 20);
  assert.deepEqual(dead.map((r) => [r.body, r.properties['roost-endpoint']]), Array.from({ length: 20 }, (_, i) => [`${i}`, 'dead']));
  assert.ok(dead[0].properties['roost-error']);
  const e = await endpoint('wrongca');
  assert.equal(e.delivered, 0);
  assert.match(e.lastError, /certificate|SSL/i);
  assert.match((await endpoint('turns')).lastError, /302/);
  assert.equal(hooked('/wrongca').length + hooked('/turns').length, 0);
  hooks.answer = () => 200;
  await waitFor('the one that turned away to be served', async () => hooked('/turns').length === 20, { timeout: 60_000 });
  const metrics = await new Promise((done) => import('node:http').then(({ get }) => get(`http://127.0.0.1:${hub.ops}/metrics`, (res) => {
    let text = '';
    res.on('data', (x) => { text += x; }).on('end', () => done(text));
  })));
  assert.match(metrics, /roost_routing_dead_total\{endpoint="dead"\} 20/);
  assert.match(metrics, /roost_routing_delivered_total\{endpoint="good"\} 20/);
});

test('a message that a webhook refuses for what it is goes to the dead-letter stream, and holds up no other', async () => {
  await clear();
  const d = await device('p1');
  const before = (await stream('dead-letter').catch(() => [])).length;
  await api('PUT', 'endpoints/picky', webhook('/picky'));
  await api('PUT', 'endpoints/lost', webhook('/lost'));
  let open = false; // until then all of it gathers
  hooks.answer = (req, body) => (req.url === '/lost' ? 404 : !open ? 503 : body.includes('poison') ? 422 : 200);
  await api('PUT', 'routes/all', { endpoints: ['picky', 'lost'] });
  for (let i = 0; i < 30; i++) await say(d, i % 13 === 5 ? `poison ${i}` : `${i}`);
  open = true;
  const bad = [5, 18].map((i) => `poison ${i}`);
  await waitFor('the good ones', async () => hooked('/picky').length >= 28, { timeout: 60_000 });
  assert.deepEqual(hooked('/picky').map((r) => r.body), Array.from({ length: 30 }, (_, i) => `${i}`).filter((_, i) => i % 13 !== 5));
  const dead = (await rowsOf('dead-letter', before + 2)).slice(before);
  assert.deepEqual(dead.map((r) => [r.body, r.properties['roost-endpoint'], r.properties['roost-error']]), bad.map((b) => [b, 'picky', 'the server answered 422']));
  const [picky, lost] = [await endpoint('picky'), await endpoint('lost')];
  assert.deepEqual([picky.delivered, picky.deadLettered], [28, 2]);
  assert.deepEqual([lost.delivered, lost.deadLettered], [0, 0]); // an address that is wrong says nothing of the messages
  assert.match(lost.lastError, /404/);
});

test('an MQTT endpoint sends the body, or the whole message as JSON', async () => {
  await clear();
  const d = await device('j1');
  const mqtt = { kind: 'mqtt', host: 'localhost', port: brokerPort, username: 'roost', password: 'broker-password', ca };
  await api('PUT', 'endpoints/bare', { ...mqtt, topic: 'bare/{device}' });
  await api('PUT', 'endpoints/whole', { ...mqtt, topic: 'whole/{device}', payload: 'json' });
  await api('PUT', 'routes/all', { endpoints: ['bare', 'whole'] });
  await say(d, '{"t":1}', { app: { level: 'high' }, type: 'application/json' });
  await waitFor('both', async () => heard.some((l) => l.startsWith('bare/')) && heard.some((l) => l.startsWith('whole/')));
  assert.equal(heard.find((l) => l.startsWith('bare/')), 'bare/j1|{"t":1}');
  const row = JSON.parse(heard.find((l) => l.startsWith('whole/')).slice('whole/j1|'.length));
  assert.deepEqual([row.device, row.body, row.properties], ['j1', '{"t":1}', { level: 'high' }]);
  assert.equal(row.system['content-type'], 'application/json');
  assert.match((await refused('PUT', 'endpoints/whole', { ...mqtt, topic: 'x', payload: 'xml' })).message, /payload/);
});

test('endpoints of one broker do not take the connection from each other; a message without a topic is given up alone', async () => {
  await clear();
  const d = await device('q1');
  for (const name of ['one', 'two', 'three']) await api('PUT', `endpoints/${name}`, mqtt(`${name}/{device}`));
  await api('PUT', 'endpoints/mod', mqtt('{module}'));
  await api('PUT', 'routes/all', { endpoints: ['one', 'two', 'three', 'mod'] });
  const n = 40;
  for (let i = 0; i < n; i++) await say(d, `${i}`);
  for (const name of ['one', 'two', 'three'])
    await waitFor(`all at ${name}`, async () => new Set(heard.filter((l) => l.startsWith(`${name}/q1|`))).size === n);
  for (const name of ['one', 'two', 'three']) {
    const e = await waitFor(`${name} to be counted`, async () => { const x = await endpoint(name); return x.behind === 0 && x; });
    assert.deepEqual([e.delivered, e.failed], [n, 0], name);
  }
  const dead = await waitFor('the first without a topic', async () => (await stream('dead-letter')).find((r) => r.properties['roost-endpoint'] === 'mod'));
  assert.deepEqual([dead.body, dead.properties['roost-error']], ['0', 'the topic made of it is empty or too long']);
});

test('an endpoint that cannot be opened at first is, later', async () => {
  await clear();
  const d = await device('late1');
  const place = join(hub.dir, 'endpoints', 'late');
  mkdirSync(join(hub.dir, 'endpoints'), { recursive: true });
  writeFileSync(place, 'in the way');
  await api('PUT', 'endpoints/late', { kind: 'file' });
  await api('PUT', 'routes/all', { endpoints: ['late', 'events'] });
  await say(d, 'waits');
  const e = await waitFor('the reason, and what waits', async () => { const x = await endpoint('late'); return x.lastError && x.behind && x; });
  assert.match(e.lastError, /directory/);
  rmSync(place);
  await waitFor('the file', async () => fileRows('late').length === 1, { timeout: 60_000 });
  assert.equal(fileRows('late')[0].body, 'waits');
  await waitFor('no reason any more', async () => !(await endpoint('late')).lastError);
});

test('files of endpoints in the place of hubs before are told of at each start, and left alone', async () => {
  const place = join(hub.dir, 'files', 'before');
  mkdirSync(join(hub.dir, 'files', 'other'), { recursive: true });
  mkdirSync(place);
  writeFileSync(join(place, 'messages.jsonl'), '{}\n');
  const told = () => hub.process.out.split('\n').filter((l) => l.includes('routing.files'));
  assert.deepEqual(told(), []);
  await hub.stop();
  await hub.start();
  await waitFor('the line', async () => told().length > 0);
  assert.equal(told().length, 1);
  assert.ok(told()[0].includes(`left=${place} `), told()[0]);
  assert.equal(readFileSync(join(place, 'messages.jsonl'), 'utf8'), '{}\n');
  rmSync(join(hub.dir, 'files', 'other'), { recursive: true });
  rmSync(place, { recursive: true });
});

test('killed in between: everything acknowledged reaches every endpoint, at least once', { timeout: 180_000 }, async () => {
  await clear();
  const d = await device('k1');
  await api('PUT', 'endpoints/ks', { kind: 'stream' });
  await api('PUT', 'endpoints/kh', webhook('/kill', { batch: 7 }));
  await api('PUT', 'endpoints/kb', mqtt('kill/{device}'));
  await api('PUT', 'endpoints/kf', { kind: 'file', rotateBytes: 8192 });
  await api('PUT', 'routes/all', { endpoints: ['ks', 'kh', 'kb', 'kf'] });
  await api('PUT', 'routes/twins', { source: 'TwinChangeEvents', endpoints: ['ks'] });
  const sent = [];
  let versions = 0;
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: 4 }, async (_, lane) => {
      for (let i = 0; i < 15; i++) {
        const text = `${round}-${lane}-${i}`;
        await say(d, text);
        sent.push(text);
      }
    }));
    await api('PATCH', `devices/${d}/twin`, { tags: { round } });
    versions = 3 + round;
    await hub.process.stop('SIGKILL');
    await hub.start();
  }
  await say(d, 'end');
  sent.push('end');
  const missing = (got) => sent.filter((s) => !got.includes(s));
  for (const [name, got] of [['ks', async () => (await stream('ks')).map((r) => r.body)], ['kh', () => hooked('/kill').map((r) => r.body)],
    ['kb', () => heard.filter((l) => l.startsWith('kill/k1|')).map((l) => l.slice(8))], ['kf', () => fileRows('kf').map((r) => r.body)]])
    await waitFor(`all of them at ${name}`, async () => { const left = missing(await got()); return left.length === 0 || Promise.reject(new Error(`${left.length}: ${left.slice(0, 5)}`)); }, { timeout: 60_000 });
  const twins = (await stream('ks')).filter((r) => r.properties.opType === 'updateTwin').map((r) => JSON.parse(r.body).version);
  for (let v = 3; v <= versions; v++) assert.ok(twins.includes(v), `version ${v} of ${twins}`);
  assert.ok(readdirSync(join(hub.dir, 'endpoints', 'kf')).length > 1, 'the file was rotated');
});

test('what is refused, and why', async () => {
  await clear();
  await api('PUT', 'endpoints/e', webhook('/e'));
  const shown = await api('GET', 'endpoints/e');
  assert.equal(shown.secretSet, true);
  assert.ok(!JSON.stringify(shown).includes(SECRET));
  await api('PUT', 'endpoints/e', { ...webhook('/e2'), secret: undefined });
  assert.equal((await api('GET', 'endpoints/e')).secretSet, true, 'a secret that is not sent again stays');
  assert.deepEqual((({ status, code }) => [status, code])(await refused('PUT', 'routes/r', { condition: 'level =', endpoints: ['e'] })), [400, 'bad-definition']);
  assert.match((await refused('PUT', 'routes/r', { condition: "level IN ['a']", endpoints: ['e'] })).message, /line 1, column \d+/);
  assert.match((await refused('PUT', 'routes/r', { condition: "STARTSWITH(level, 'c')", endpoints: ['e'] })).message, /line 1, column 1/);
  assert.equal((await refused('PUT', 'routes/r', { endpoints: ['nobody'] })).code, 'unknown-endpoint');
  assert.equal((await refused('PUT', 'routes/r', { endpoints: ['e'], colour: 1 })).code, 'bad-definition');
  assert.equal((await refused('PUT', 'routes/r', { endpoints: [] })).code, 'bad-definition');
  assert.equal((await refused('PUT', 'routes/r', '{"endpoints":["e"]')).code, 'bad-json');
  assert.equal((await refused('PUT', 'endpoints/e', { kind: 'stream' })).code, 'endpoint-kind');
  assert.equal((await refused('PUT', 'endpoints/x', { kind: 'webhook', url: 'http://localhost/' })).code, 'bad-definition');
  assert.equal((await refused('PUT', 'endpoints/events', { kind: 'stream' })).code, 'bad-definition');
  assert.equal((await refused('PUT', 'endpoints/a%2Fb', { kind: 'stream' })).code, 'bad-name');
  assert.equal((await refused('PUT', 'enrichments/x', { value: '$twin.deviceId', endpoints: ['e'] })).code, 'bad-definition');
  await api('PUT', 'routes/r', { endpoints: ['e'] });
  assert.equal((await refused('DELETE', 'endpoints/e')).code, 'endpoint-in-use');
  assert.equal((await refused('DELETE', 'routes/nobody')).status, 404);
  for (let i = 0; i < 9; i++) await api('PUT', `endpoints/n${i}`, { kind: 'stream' });
  assert.equal((await refused('PUT', 'endpoints/n10', { kind: 'stream' })).code, 'too-many');
  for (let i = 0; i < 10; i++) await api('PUT', `enrichments/n${i}`, { value: 'x', endpoints: ['e'] });
  assert.equal((await refused('PUT', 'enrichments/n10', { value: 'x', endpoints: ['e'] })).code, 'too-many');
  await clear();
});

test('a condition is tried out', async () => {
  await clear();
  const d = await device('try1');
  await api('PATCH', `devices/${d}/twin`, { tags: { floor: 1 } });
  const message = { deviceId: d, properties: { level: 'critical' }, systemProperties: { contentType: 'application/json', contentEncoding: 'utf-8' }, body: { t: 5 } };
  const verdict = async (condition, more = {}) => (await api('POST', 'routes/test', { condition, message, ...more })).result;
  assert.equal(await verdict("level = 'critical' AND $body.t = 5"), 'true');
  assert.equal(await verdict('$twin.tags.floor = 1'), 'true');
  assert.equal(await verdict('$twin.tags.floor = 1', { twin: { tags: { floor: 2 } } }), 'false');
  assert.equal(await verdict('$body.nothing = 1'), 'undefined');
  assert.match((await refused('POST', 'routes/test', { condition: 'a = ', message })).message, /line 1, column/);
  await api('PUT', 'routes/r', { condition: 'level = \'low\'', endpoints: ['events'] });
  assert.deepEqual(await api('POST', 'routes/test', { route: 'r', message }), { matches: false, result: 'false' });
  await clear();
});

test('what waits for the router is counted right, also after many changes, refusals and imports at once', async () => {
  await clear();
  await api('PUT', 'endpoints/all', { kind: 'stream' });
  for (const source of ['TwinChangeEvents', 'DeviceLifecycleEvents', 'DeviceConnectionStateEvents', 'DeviceJobLifecycleEvents', 'DigitalTwinChangeEvents'])
    await api('PUT', `routes/${source}`, { source, endpoints: ['all'] });
  const V = 'api-version=2021-04-12';
  const { sasToken: sas } = await api('POST', 'containers/registry/sas', { permissions: 'rwdl' });
  // Every third line makes an identity, whose event is undone with it: its twin is refused.
  const lines = Array.from({ length: 3000 }, (_, i) => JSON.stringify({ id: `cnt${i}`, status: 'enabled', tags: i % 3 ? { i } : { 'a.b': 1, $bad: i } }));
  const put = await hub.request('PUT', `/registry/devices.txt${sas}`, { token: null, body: lines.join('\n'), headers: { 'x-ms-blob-type': 'BlockBlob' } });
  assert.equal(put.status, 201);
  const uri = `https://${hub.name}/registry`;
  const { json: job } = await hub.request('POST', `/jobs/create?${V}`, { body: { type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri, storageAuthenticationType: 'identityBased' } });
  const d = await device('cnt');
  await Promise.all(Array.from({ length: 8 }, async (_, lane) => {
    for (let i = 0; i < 40; i++) {
      await api('PATCH', `devices/${d}/twin`, { tags: { [`lane${lane}`]: i } });
      await hub.request('PATCH', `/twins/${d}?${V}`, { body: { tags: { stale: i } }, headers: { 'if-match': '"AAAAAAAAAAA="' } });
      await hub.request('PUT', `/devices/${d}?${V}`, { body: { deviceId: d } }); // there already
    }
  }));
  const done = await waitFor('the import', async () => { const { json } = await hub.request('GET', `/jobs/${job.jobId}?${V}`); return json.endTimeUtc && json; });
  assert.deepEqual([done.status, done.succeededCount, done.failedCount], ['completed', 2000, 1000]);
  const { bytesMax, ...left } = await waitFor('the router', async () => { const { events } = await api('GET', 'status'); return !events.waiting && events; });
  assert.deepEqual(left, { waiting: 0, bytes: 0, refused: 0 });
  assert.equal(bytesMax, 268435456);
  // Those that were made, each with its tags, and no others.
  const count = async () => Object.fromEntries(['createDeviceIdentity', 'updateTwin'].map((op) => [op, 0]));
  const rows = await waitFor('all events', async () => { const all = await stream('all'); return all.filter((r) => r.device?.startsWith('cnt')).length >= 2000 * 2 + 1 + 320 && all; });
  const seen = await count();
  for (const r of rows.filter((x) => x.device?.startsWith('cnt'))) seen[r.properties.opType]++;
  assert.deepEqual(seen, { createDeviceIdentity: 2001, updateTwin: 2320 });
});

// The router's log is on a disk without room (its file may not grow), the database is not; and the endpoint is dead.
test('events have no more room: changes are refused with nothing done, also after kill -9; with room all go on', { timeout: 180_000 }, async () => {
  const before = hub, V = 'api-version=2021-04-12', LIMIT = 10_000_000;
  hub = await Hub.create();
  try {
    appendFileSync(join(hub.dir, 'roost.yaml'), '\nrouting:\n  events_bytes: 1048576\n');
    await hub.start();
    hooks.batches.length = 0;
    hooks.answer = () => 503;
    await api('PUT', 'endpoints/dead', webhook('/dead'));
    await api('PUT', 'endpoints/sink', { kind: 'stream' });
    const devices = [];
    for (let i = 0; i < 4; i++) devices.push(await device(`full${i}`));
    await api('PUT', 'routes/telemetry', { endpoints: ['sink'] });
    await api('PUT', 'routes/twins', { source: 'TwinChangeEvents', endpoints: ['dead'] });
    const large = 'x'.repeat(250_000);
    for (let i = 0; i < 12; i++) await Promise.all(devices.map((d) => say(d, large)));
    await waitFor('the log to be empty', async () => (await stream('sink')).length === 48);
    await run('prlimit', ['--pid', `${hub.process.child.pid}`, `--fsize=${LIMIT}:`]);

    const taken = new Map(devices.map((d) => [d, []])); // the versions of its twin that were acknowledged
    const pad = 'y'.repeat(3900);
    const patch = (d, i) => hub.request('PATCH', `/roost/v1/devices/${d}/twin`, { body: { tags: { i, a: pad, b: pad.slice(100) } } });
    let i = 0, r;
    const fill = async () => {
      for (;;) {
        const d = devices[i % 4];
        r = await patch(d, i);
        if (r.status !== 200) return d;
        taken.get(d).push(i++);
        assert.ok(i < 1000, 'it is refused at last');
      }
    };
    const last = await fill();
    assert.ok(i > 100, `${i}`); // each has some 8 KB
    const isRefused = (answer) => {
      assert.deepEqual([answer.status, answer.json.error.code, answer.headers['retry-after']], [503, 'events-waiting', '10'], `${answer.body}`);
    };
    isRefused(r);
    const twin = async (d) => (await hub.api('GET', `/roost/v1/devices/${d}/twin`));
    assert.equal((await twin(last)).tags.i, taken.get(last).at(-1)); // nothing of it was done
    const azure = await hub.request('PATCH', `/twins/${last}?${V}`, { body: { tags: { i: -1 } } });
    assert.deepEqual([azure.status, azure.headers['iothub-errorcode']], [503, 'GenericServiceUnavailable'], `${azure.body}`);
    const { events } = await api('GET', 'status');
    assert.deepEqual([events.waiting, events.bytesMax, events.refused], [i, 1048576, 2]);
    assert.ok(events.bytes >= 1048576);
    assert.match((await (await fetch(`http://127.0.0.1:${hub.ops}/metrics`)).text()), new RegExp(`^roost_events_waiting ${i}$`, 'm'));
    // What makes no event goes on; a job stands still.
    await api('POST', `devices/${last}/messages`, { body: 'a command' });
    await api('PUT', 'jobs/still', { where: "STARTSWITH(deviceId, 'full')", twin: { tags: { job: true } } });
    const job = async () => api('GET', 'jobs/still');
    await waitFor('the job to be under way', async () => (await job()).status === 'running');
    // So does an import; cancelled it ends, and leaves its place to the next, as little room as there is.
    const { sasToken: sas } = await api('POST', 'containers/registry/sas', { permissions: 'rwdl' }), uri = `https://${hub.name}/registry`;
    const put = await hub.request('PUT', `/registry/devices.txt${sas}`, { token: null, body: '{"id":"imported","status":"enabled"}\n', headers: { 'x-ms-blob-type': 'BlockBlob' } });
    assert.equal(put.status, 201);
    const create = () => hub.request('POST', `/jobs/create?${V}`, { body: { type: 'import', inputBlobContainerUri: uri, outputBlobContainerUri: uri, storageAuthenticationType: 'identityBased' } });
    const one = await create();
    assert.equal(one.status, 200, `${one.body}`);
    await waitFor('the import to be under way', async () => (await hub.request('GET', `/jobs/${one.json.jobId}?${V}`)).json.status === 'running');
    assert.equal((await create()).headers['iothub-errorcode'], 'JobQuotaExceeded');
    assert.equal((await hub.request('DELETE', `/jobs/${one.json.jobId}?${V}`)).status, 204);
    const next = await waitFor('the next import to be taken', async () => { const answer = await create(); return answer.status === 200 && answer.json; });

    await hub.stop('SIGKILL');
    hub.process = start('prlimit', [`--fsize=${LIMIT}:`, bin('roostd'), hub.dir]);
    await waitFor('the hub', async () => {
      if (hub.process.exited) throw new Error(hub.process.out);
      return (await hub.request('GET', '/roost/v1/status').catch(() => null))?.status === 200;
    });
    assert.equal((await api('GET', 'status')).events.waiting, i);
    isRefused(await patch(last, -1));
    for (const d of devices) assert.equal((await twin(d)).tags.i, taken.get(d).at(-1), d);

    hooks.answer = () => 200; // the endpoint is back, the room is not: nothing comes of it
    assert.equal((await api('GET', 'status')).events.waiting, i);
    assert.deepEqual([(await job()).status, (await twin(last)).tags.job], ['running', undefined]);
    await run('prlimit', ['--pid', `${hub.process.child.pid}`, '--fsize=unlimited:']);
    await waitFor('a change to be taken', async () => {
      r = await patch(last, i);
      if (r.status === 200) taken.get(last).push(i++);
      else isRefused(r);
      return r.status === 200;
    });
    await waitFor('the job', async () => (await job()).status === 'completed', { timeout: 60_000 });
    await waitFor('the import', async () => (await hub.request('GET', `/jobs/${next.jobId}?${V}`)).json.status === 'completed', { timeout: 60_000 });
    assert.equal((await hub.request('GET', `/devices/imported?${V}`)).status, 200);
    // Each that was acknowledged arrives, in the order of its device, and nothing of what was refused.
    const told = () => hooked('/dead').filter((row) => row.properties.opType === 'updateTwin').map((row) => ({ d: row.device, tags: (typeof row.body === 'string' ? JSON.parse(row.body) : row.body).tags ?? {} }));
    await waitFor('all events', async () => told().filter((t) => t.tags.job).length >= 4 && devices.every((d) => new Set(told().filter((t) => t.d === d && 'i' in t.tags).map((t) => t.tags.i)).size >= taken.get(d).length), { timeout: 60_000 });
    for (const d of devices) {
      const order = [...new Set(told().filter((t) => t.d === d && 'i' in t.tags).map((t) => t.tags.i))];
      assert.deepEqual(order, taken.get(d), d);
    }
    await waitFor('the router', async () => (await api('GET', 'status')).events.waiting === 0);
    const end = await hub.stop();
    assert.equal(end.code, 0, hub.process.out.slice(-4000));
  } finally {
    hooks.answer = () => 200;
    await hub.remove();
    hub = before;
  }
});

test('the command line', async () => {
  await clear();
  const d = await device('cli1');
  const good = async (...args) => (await hub.roost(...args)).stdout;
  writeFileSync(join(tmp.dir, 'hook.key'), `${SECRET}\n`);
  await good('endpoint', 'set', 'cs', 'kind=stream', 'retainSeconds=3600');
  await good('endpoint', 'set', 'ch', 'kind=webhook', `url=https://localhost:${serverPort}/cli`, `secret=@${tmp.dir}/hook.key`, `ca=@${tmp.dir}/ca.crt`);
  assert.match(await good('route', 'set', 'hot', '--condition', "level = 'hot'", '-e', 'cs', '-e', 'ch'), /in force/);
  await good('enrichment', 'set', 'where', 'here', '-e', 'cs');
  await good('route', 'fallback', 'off');
  assert.match(await good('route', 'list'), /hot +DeviceMessages +level = 'hot' +cs, ch +on\n.*fallback off/s);
  const test_ = (...args) => hub.roost('route', 'test', ...args, { ok: false });
  assert.equal((await test_('hot', '--property', 'level=hot')).code, 0);
  assert.equal((await test_('hot', '--property', 'level=cold')).code, 3);
  assert.equal((await test_('--condition', '$body.t > 3', '--body', '{"t":4}')).stdout, 'true\n');
  const bad = await hub.roost('route', 'set', 'bad', '--condition', 'level =', '-e', 'cs', { ok: false });
  assert.equal(bad.code, 3);
  assert.match(bad.stderr, /column/);
  await say(d, 'cold');
  await say(d, 'hot', { app: { level: 'hot' } });
  const line = JSON.parse(await good('watch', '--stream', 'cs', '--from', 'earliest', '-n', '1'));
  assert.deepEqual([line.body, line.properties], ['hot', { level: 'hot', where: 'here' }]);
  const [batch] = await waitFor('the webhook', async () => hooks.batches.length && hooks.batches);
  assert.equal(batch.headers['roost-signature'], `v1=${createHmac('sha256', SECRET).update(`${batch.headers['roost-timestamp']}.`).update(batch.body).digest('hex')}`);
  await waitFor('the numbers', async () => /ch +webhook +1 +0 +0 +0/.test(await good('endpoint', 'list')));
  await good('route', 'delete', 'hot');
  await good('enrichment', 'delete', 'where');
  await good('endpoint', 'delete', 'cs', 'ch');
  await good('route', 'fallback', 'on');
  assert.deepEqual((await api('GET', 'endpoints')).endpoints, []);
});
