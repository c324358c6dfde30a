// Direct methods: what a device sees, what its caller gets, through the Azure-compatible interface, the service SDK,
// the hub's own interface and the command line.
import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import sdk from 'azure-iot-device';
import transports from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import * as lib from './lib/hub.mjs';
import { NAME, closeHub, newDevice, openHub, policyKey, sendC2d, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const { Client } = sdk;
const FILTER = '$iothub/methods/POST/#';
let hub, service, agent;
before(async () => {
  hub = await openHub({ settings: { messages: { methods_in_flight: 3 } } });
  agent = new https.Agent({ keepAlive: true, ca: hub.ca });
  service = iothub.Client.fromConnectionString(`HostName=${NAME};SharedAccessKeyName=service;SharedAccessKey=${policyKey(hub, 'service')}`);
  service._restApiClient.setOptions({ http: { agent } }); // it has no option of its own for a CA
});
after(async () => {
  agent?.destroy();
  await closeHub(hub);
});

const metric = (name) => new Promise((done, fail) => {
  http.get({ host: '127.0.0.1', port: hub.ops, path: '/metrics', agent: false }, (res) => {
    let text = '';
    res.on('data', (b) => { text += b; });
    res.on('end', () => done(+text.match(new RegExp(`^roost_${name} (\\d+)$`, 'm'))?.[1]));
  }).on('error', fail);
});
// One call through the Azure-compatible interface: { status, headers, json, error }; error is the typed one, unwrapped.
async function invoke(d, body, { version = '2021-04-12', path = `/twins/${encodeURIComponent(d.id)}/methods`, ...more } = {}) {
  const r = await hub.request('POST', `${path}${path.includes('?') ? '&' : '?'}api-version=${version}`,
    { body: typeof body === 'string' ? body : JSON.stringify({ methodName: 'reboot', ...body }), ...more });
  const text = r.body.toString();
  let error;
  if (r.status >= 400) {
    const outer = JSON.parse(text);
    error = outer.Message.startsWith('{') ? JSON.parse(outer.Message) : { name: outer.Message.split(/[:;]/)[1], message: outer.Message };
    error.outer = outer;
  }
  return { status: r.status, headers: r.headers, text, json: r.status === 200 ? JSON.parse(text) : undefined, error };
}
// The next call as a bare client sees it: { name, rid, payload }.
async function expectCall(c) {
  const m = await c.expect('publish');
  assert.equal(m.qos, 0);
  assert.equal(m.retain, false);
  const [, name, rid] = m.topic.match(/^\$iothub\/methods\/POST\/([^/]+)\/\?\$rid=(.+)$/);
  assert.match(rid, /^[0-9a-f]+$/, 'nothing behind the request id');
  return { name, rid, payload: m.payload.toString() };
}
const reply = (c, rid, status, payload = '', more = {}) => c.send({ cmd: 'publish', topic: `$iothub/methods/res/${status}/?$rid=${rid}`, payload, qos: 0, ...more });
async function listening(d, options) {
  const c = await connected(hub, d, options);
  await c.subscribe(FILTER);
  return c;
}

test('[mqtt 97] [mqtt 98] [http 70] [http 73] payloads reach the device as they were written, answers come back as they are', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const rids = new Set();
  const texts = ['null', '5', '1.10', '123456789012345678', '18446744073709551615', '-99999999999999999999', '"\\u0000"', '{"a":1,"a":2}',
    '"grüße \\u0041"', 'true', '[1, [2]]', '{"a": {"b":1e2} }', '{}'];
  for (const text of texts) {
    const call = invoke(d, `{"methodName":"reboot","payload" : ${text} ,"responseTimeoutInSeconds":30}`);
    const { name, rid, payload } = await expectCall(c);
    assert.equal(name, 'reboot');
    assert.equal(payload, text);
    rids.add(rid);
    reply(c, rid, 200, text);
    const r = await call;
    assert.equal(r.status, 200);
    assert.match(r.headers['content-type'], /^application\/json/);
    assert.equal(r.text, `{"status":200,"payload":${text}}`);
  }
  assert.equal(rids.size, texts.length);
  const call = invoke(d, {});
  const { rid, payload } = await expectCall(c);
  assert.equal(payload, 'null', 'a payload that is left out');
  reply(c, rid, 200);
  assert.deepEqual((await call).json, { status: 200, payload: null });
  for (const [body, payload] of [['', null], ['not JSON "at all"', 'not JSON "at all"'], ['{"a":', '{"a":'], [Buffer.from([0xff, 0xfe]), '//4='], [' 7 ', 7]]) {
    const odd = invoke(d, { payload: 1 });
    reply(c, (await expectCall(c)).rid, 200, body);
    assert.deepEqual((await odd).json, { status: 200, payload });
  }
  await c.disconnect();
});

test('[mqtt 103] any whole number is a status', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  for (const status of [200, 500, 404, 0, -1, -2147483647, 999, 2147483647]) {
    const call = invoke(d, {});
    const { rid } = await expectCall(c);
    reply(c, rid, status, '{}', status === 500 ? { qos: 1, messageId: 7 } : {});
    if (status === 500) assert.equal((await c.expect('puback')).messageId, 7);
    const r = await call;
    assert.equal(r.status, 200);
    assert.deepEqual(r.json, { status, payload: {} });
  }
  await c.disconnect();
});

test('[mqtt 99] [http 28] [http 71] a device that is not there: 404103 at once, and after the time it was given', async () => {
  const d = await newDevice(hub);
  for (const seconds of [0, 1]) {
    const r = await invoke(d, { connectTimeoutInSeconds: seconds });
    assert.equal(r.status, 404);
    assert.equal(r.headers['iothub-errorcode'], 'DeviceNotOnline');
    assert.equal(r.error.errorCode, 404103);
    assert.deepEqual(r.error.info, { timeout: `00:00:0${seconds}` });
    assert.equal(r.error.outer.ExceptionMessage, '');
    assert.match(r.error.timestampUtc, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
  }
  const c = await connected(hub, d); // connected, but it does not listen
  assert.equal((await invoke(d, {})).error.errorCode, 404103);
  await c.quiet();
  await c.disconnect();
  const unknown = await invoke({ id: 'nobody' }, { connectTimeoutInSeconds: 20 });
  assert.equal(unknown.status, 404);
  assert.equal(unknown.headers['iothub-errorcode'], 'DeviceNotFound');
  assert.equal(unknown.error.name, 'DeviceNotFound');
});

test('[http 76] a module is an identity of its own: unknown, not there, called', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const path = (m) => ({ path: `/twins/${d.id}/modules/${m}/methods` });
  assert.equal((await invoke(d, {}, path('m1'))).headers['iothub-errorcode'], 'DeviceNotFound');
  assert.equal((await hub.request('PUT', `/devices/${d.id}/modules/m1?api-version=2021-04-12`, { body: { deviceId: d.id, moduleId: 'm1' } })).status, 200);
  assert.equal((await invoke(d, {}, path('m1'))).error.errorCode, 404103);
  assert.equal((await hub.request('POST', `/roost/v1/devices/${d.id}/modules/m2/methods/x`, { body: {} })).json?.error?.code, 'module-not-found');
  assert.equal((await hub.roost('method', `${d.id}/m1`, 'x', { ok: false })).code, 3);
  await c.quiet(); // its device hears nothing of it
  const key = (await hub.request('GET', `/devices/${d.id}/modules/m1?api-version=2021-04-12`)).json.authentication.symmetricKey.primaryKey;
  const m = await listening({ id: `${d.id}/m1` }, { password: lib.sasToken(`${NAME}/devices/${d.id}/modules/m1`, key),
    username: `${NAME}/${d.id}/m1/?api-version=2021-04-12` });
  const call = invoke(d, { payload: 'for m1' }, path('m1'));
  const got = await expectCall(m);
  assert.equal(got.payload, '"for m1"');
  reply(m, got.rid, 200, '"from m1"');
  assert.deepEqual((await call).json, { status: 200, payload: 'from m1' });
  assert.equal((await invoke({ id: `${d.id}/m1` }, {})).headers['iothub-errorcode'], 'DeviceNotFound'); // as one id it names nobody
  const other = invoke(d, {}); // and the device is still called as itself
  reply(c, (await expectCall(c)).rid, 200, '"from its device"');
  assert.deepEqual((await other).json, { status: 200, payload: 'from its device' });
  const run = hub.roost('method', `${d.id}/m1`, 'x', { ok: false });
  reply(m, (await expectCall(m)).rid, 200, '1');
  assert.equal((await run).stdout, '1\n');
  await m.quiet();
  await m.disconnect();
  await c.disconnect();
});

test('a module of an edge device calls its neighbours and the devices behind it, with its own credential; nobody else', async () => {
  const V = 'api-version=2021-04-12';
  const put = async (path, body) => {
    const r = await hub.request('PUT', `${path}?${V}`, { body });
    assert.equal(r.status, 200, r.body.toString());
    return r.json;
  };
  const edge = await put('/devices/gate', { deviceId: 'gate', capabilities: { iotEdge: true } });
  const leaf = await put('/devices/leaf', { deviceId: 'leaf', deviceScope: edge.deviceScope });
  const plain = await newDevice(hub);
  const key = (await put('/devices/gate/modules/caller', { deviceId: 'gate', moduleId: 'caller' })).authentication.symmetricKey.primaryKey;
  await put('/devices/gate/modules/other', { deviceId: 'gate', moduleId: 'other' });
  const plainKey = (await put(`/devices/${plain.id}/modules/m`, { deviceId: plain.id, moduleId: 'm' })).authentication.symmetricKey.primaryKey;
  const by = (id, k, sr = id.replace('/', '/modules/')) => ({ headers: { 'x-ms-edge-moduleId': id }, token: lib.sasToken(`${NAME}/devices/${sr}`, k) });
  const ask = (path, who) => invoke(plain, {}, { path, ...who });
  const caller = by('gate/caller', key);
  const c = await listening({ id: 'leaf', key: leaf.authentication.symmetricKey.primaryKey });
  const call = ask('/twins/leaf/methods', caller);
  reply(c, (await expectCall(c)).rid, 200, '"behind"');
  assert.deepEqual((await call).json, { status: 200, payload: 'behind' });
  assert.equal((await ask('/twins/gate/modules/other/methods', caller)).error.errorCode, 404103); // allowed, not there
  // Devices of others, none at all, another's credential, a module of a device that is no edge device, no field.
  for (const [path, who] of [[`/twins/${plain.id}/methods`, caller], ['/twins/nobody/methods', caller], ['/twins/leaf/methods', by('gate/caller', plainKey)],
    ['/twins/leaf/methods', by('gate/other', key, 'gate/modules/caller')], ['/twins/leaf/methods', by(`${plain.id}/m`, plainKey)],
    [`/twins/${plain.id}/methods`, by(`${plain.id}/m`, plainKey)], ['/twins/leaf/methods', { token: caller.token }],
    ['/twins/leaf/methods', { ...caller, headers: { 'x-ms-edge-moduleId': 'gate' } }]]) {
    const r = await ask(path, who);
    assert.deepEqual([r.status, r.error.name], [401, 'IotHubUnauthorizedAccess'], `${path} ${JSON.stringify(who)}`);
  }
  await c.quiet();
  await c.disconnect();
});

test('[mqtt 100] [http 71] a device that connects and subscribes in time gets the call', async () => {
  const d = await newDevice(hub);
  const before = await metric('methods_called_total');
  let call = invoke(d, { connectTimeoutInSeconds: 20, payload: 'first' });
  await waitFor('the call to wait', async () => await metric('methods_called_total') > before);
  let c = await connected(hub, d);
  await c.quiet(); // it does not listen yet
  c.send({ cmd: 'subscribe', messageId: 5, subscriptions: [{ topic: FILTER, qos: 0 }] });
  assert.equal((await c.expect('suback')).messageId, 5);
  let got = await expectCall(c);
  assert.equal(got.payload, '"first"');
  reply(c, got.rid, 200, '1');
  assert.deepEqual((await call).json, { status: 200, payload: 1 });
  await c.reset();
  // Back with the session that it had: no SUBSCRIBE.
  await waitFor('the hub to notice', async () => (await invoke(d, {})).error?.errorCode === 404103);
  call = invoke(d, { connectTimeoutInSeconds: 20, payload: 'second' });
  c = await connected(hub, d);
  assert.equal(c.sessionPresent, true);
  got = await expectCall(c);
  assert.equal(got.payload, '"second"');
  reply(c, got.rid, 200, '2');
  assert.deepEqual((await call).json, { status: 200, payload: 2 });
  await c.disconnect();
});

test('[mqtt 101] [mqtt 102] [http 72] no answer is 504101, and a late one is ignored', { timeout: 60_000 }, async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const r = await invoke(d, { responseTimeoutInSeconds: 5 });
  assert.equal(r.status, 504);
  assert.equal(r.headers['iothub-errorcode'], 'GatewayTimeout');
  assert.equal(r.error.errorCode, 504101);
  assert.deepEqual(r.error.info, { timeout: '00:00:05' });
  const { rid } = await expectCall(c);
  reply(c, rid, 200, '{}');
  await c.publish(`$iothub/methods/res/200/?$rid=${rid}`, '{}');
  await c.publish('$iothub/methods/res/200/?$rid=unknown', '{}');
  const call = invoke(d, {});
  const next = await expectCall(c);
  reply(c, rid, 201, '"the late one"');
  reply(c, next.rid, 200, '"the right one"');
  assert.deepEqual((await call).json, { status: 200, payload: 'the right one' });
  await c.disconnect();
});

test('[mqtt 104] [http 75] a payload of 128 KB passes both ways, a longer one is refused', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const largest = `"${'x'.repeat(131072 - 2)}"`;
  const call = invoke(d, `{"methodName":"m","payload":${largest}}`);
  const got = await expectCall(c);
  assert.equal(got.payload, largest);
  reply(c, got.rid, 200, largest);
  assert.equal((await call).json.payload.length, 131070);
  const longer = await invoke(d, `{"methodName":"m","payload":"x${largest.slice(1)}}`);
  assert.equal(longer.status, 413);
  assert.equal(longer.headers['iothub-errorcode'], 'MessageTooLarge');
  assert.equal((await invoke(d, `{"methodName":"m","payload":"${'x'.repeat(200_000)}"}`)).status, 413);
  const back = invoke(d, {});
  reply(c, (await expectCall(c)).rid, 200, `"x${largest.slice(1)}`);
  assert.equal((await back).status, 502);
  await c.quiet();
  await c.disconnect();
});

test('[http 74] bad arguments are 400, and say which', async () => {
  const d = await newDevice(hub);
  const bad = [
    [{ responseTimeoutInSeconds: 4 }, /responseTimeoutInSeconds/], [{ responseTimeoutInSeconds: 301 }, /responseTimeoutInSeconds/],
    [{ responseTimeoutInSeconds: 0 }, /responseTimeoutInSeconds/], [{ responseTimeoutInSeconds: -5 }, /responseTimeoutInSeconds/],
    [{ responseTimeoutInSeconds: '30' }, /responseTimeoutInSeconds/], [{ responseTimeoutInSeconds: 7.5 }, /responseTimeoutInSeconds/],
    [{ connectTimeoutInSeconds: 301, responseTimeoutInSeconds: 300 }, /connectTimeoutInSeconds/],
    [{ connectTimeoutInSeconds: 20, responseTimeoutInSeconds: 10 }, /connectTimeoutInSeconds/],
    [{ methodName: '' }, /method name/], [{ methodName: 'a b' }, /method name/], [{ methodName: 'a/b' }, /method name/],
    [{ methodName: 'a#' }, /method name/], [{ methodName: 'ä' }, /method name/], [{ methodName: 'x'.repeat(129) }, /method name/],
    [{ methodName: 5 }, /methodName/], [{ methodName: null }, /methodName/],
  ];
  for (const [body, says] of bad) {
    const r = await invoke(d, body);
    assert.equal(r.status, 400, JSON.stringify(body));
    assert.match(r.error.message, says);
    assert.match(r.headers['iothub-errorcode'], /^Argument(Invalid|Null)$/);
  }
  for (const text of ['', '{', '[]', '5', '{"methodName":"a","methodName":"b"}']) assert.equal((await invoke(d, text)).status, 400, text);
  const get = await hub.request('GET', `/twins/${d.id}/methods?api-version=2021-04-12`);
  assert.equal(get.status, 405);
  assert.equal((await invoke(d, {}, { policy: { name: 'registryReadWrite', key: policyKey(hub, 'registryReadWrite') } })).status, 401);
});

test('a connect timeout above the response timeout: lowered for clients of before 2021-04-12, with a response timeout left out no mistake', async () => {
  const d = await newDevice(hub);
  const old = await invoke(d, { connectTimeoutInSeconds: 60, responseTimeoutInSeconds: 5 }, { version: '2020-09-30' });
  assert.equal(old.error.errorCode, 404103);
  assert.deepEqual(old.error.info, { timeout: '00:00:05' });
  const c = await listening(d);
  const call = invoke(d, { connectTimeoutInSeconds: 60 });
  reply(c, (await expectCall(c)).rid, 200);
  assert.equal((await call).status, 200);
  await c.disconnect();
});

test('a connection that ends, or is taken over, after the call was delivered: 404104', async () => {
  const d = await newDevice(hub);
  let c = await listening(d);
  let call = invoke(d, {});
  await expectCall(c);
  await c.reset();
  let r = await call;
  assert.equal(r.status, 404);
  assert.equal(r.headers['iothub-errorcode'], 'DeviceConnectionClosedRemotely');
  assert.equal(r.error.errorCode, 404104);
  c = await connected(hub, d);
  call = invoke(d, {});
  await expectCall(c);
  const second = await connected(hub, d);
  r = await call;
  assert.equal(r.error.errorCode, 404104);
  await c.expectClose();
  call = invoke(d, {}); // the newer one has the subscription
  reply(second, (await expectCall(second)).rid, 200, '"new"');
  assert.deepEqual((await call).json, { status: 200, payload: 'new' });
  await second.disconnect();
});

test('more calls than a device may have open: 403800, until it answers one', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const calls = [], rids = [];
  for (let i = 0; i < 3; i++) {
    calls.push(invoke(d, { payload: i }));
    rids.push((await expectCall(c)).rid);
  }
  const r = await invoke(d, {});
  assert.equal(r.status, 403);
  assert.equal(r.headers['iothub-errorcode'], 'DeviceMaximumInflightMethodExceeded');
  assert.equal(r.error.errorCode, 403800);
  reply(c, rids[1], 200, '"one"'); // in any order
  assert.deepEqual((await calls[1]).json, { status: 200, payload: 'one' });
  const again = invoke(d, {});
  reply(c, (await expectCall(c)).rid, 200, '"again"');
  assert.equal((await again).status, 200);
  reply(c, rids[2], 200);
  reply(c, rids[0], 200);
  assert.deepEqual((await Promise.all([calls[0], calls[2]])).map((x) => x.status), [200, 200]);
  await c.disconnect();
});

test('a caller that goes away while it waits does no harm', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const body = JSON.stringify({ methodName: 'm' });
  const gone = tls.connect({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca });
  gone.on('error', () => {});
  gone.write([`POST /twins/${d.id}/methods?api-version=2021-04-12 HTTP/1.1`, `Host: ${NAME}`,
    `Authorization: ${lib.sasToken(NAME, policyKey(hub, 'service'), 'service')}`, `Content-Length: ${body.length}`, '', body].join('\r\n'));
  const { rid } = await expectCall(c);
  gone.destroy();
  reply(c, rid, 200, '1');
  const call = invoke(d, {});
  reply(c, (await expectCall(c)).rid, 200, '2');
  assert.deepEqual((await call).json, { status: 200, payload: 2 });
  await c.disconnect();
});

test('commands of digital twins are methods: of the root, and component*command', async () => {
  const d = await newDevice(hub);
  const c = await listening(d);
  const at = `/digitaltwins/${d.id}`;
  for (const [path, name, body, status] of [[`${at}/commands/reboot?responseTimeoutInSeconds=10`, 'reboot', '{"delay":5}', 200],
    [`${at}/components/thermostat1/commands/getMax`, 'thermostat1*getMax', '', 404], [`${at}/commands/x?connectTimeoutInSeconds=3`, 'x', 'null', -3]]) {
    const call = hub.request('POST', `${path}${path.includes('?') ? '&' : '?'}api-version=2021-04-12`, { body });
    const got = await expectCall(c);
    assert.equal(got.name, name);
    assert.equal(got.payload, body || 'null');
    reply(c, got.rid, status, '{"r":1}');
    const r = await call;
    assert.equal(r.status, 200);
    assert.equal(r.body.toString(), '{"r":1}');
    assert.equal(r.headers['x-ms-command-statuscode'], `${status}`);
    assert.match(r.headers['x-ms-request-id'], /^[0-9a-f-]{36}$/);
  }
  assert.equal((await hub.request('POST', `${at}/commands/x?api-version=2021-04-12`, { body: 'no json' })).status, 400);
  assert.equal((await hub.request('POST', `${at}/commands/x?api-version=2021-04-12&responseTimeoutInSeconds=4`, { body: '' })).status, 400);
  assert.equal((await hub.request('POST', '/digitaltwins/nobody/commands/x?api-version=2021-04-12', { body: '' })).status, 404);
  await c.disconnect();
});

test('a hub that stops answers the calls that are under way', async () => {
  const d = await newDevice(hub), away = await newDevice(hub);
  const c = await listening(d);
  const before = await metric('methods_called_total');
  const waiting = invoke(away, { connectTimeoutInSeconds: 300, responseTimeoutInSeconds: 300 });
  const delivered = invoke(d, {});
  await expectCall(c);
  await waitFor('both calls', async () => await metric('methods_called_total') >= before + 2);
  const { code } = await hub.stop();
  assert.equal(code, 0, hub.process.out.slice(-2000));
  for (const call of [waiting, delivered]) assert.equal((await call).status, 503);
  await c.end;
  await hub.start();
});

test('the command line calls a method, prints the answer and ends with its code', async () => {
  const d = await newDevice(hub);
  const cli = (...args) => hub.roost('method', ...args, { ok: false });
  assert.equal((await cli(d.id, 'reboot')).code, 3, 'not there');
  assert.equal((await cli('nobody', 'reboot')).code, 1);
  assert.equal((await cli(d.id, 'reboot', 'not json')).code, 1);
  assert.equal((await cli(d.id, 'reboot', '--timeout', '1s')).code, 1);
  assert.equal((await cli(d.id, 'a b')).code, 3);
  const c = await listening(d);
  let run = cli(d.id, 'reboot', '{"delay":1.10}', '--connect-timeout', '5s');
  let got = await expectCall(c);
  assert.equal(got.payload, '{"delay":1.10}');
  reply(c, got.rid, 200, '{"ok": 1.10}');
  assert.deepEqual(await run, { code: 0, stdout: '{"ok": 1.10}\n', stderr: '' });
  run = cli(d.id, 'reboot', '--json');
  got = await expectCall(c);
  reply(c, got.rid, 207, '[1]');
  assert.deepEqual(await run, { code: 0, stdout: '{"status":207,"payload":[1]}\n', stderr: '' });
  run = cli(d.id, 'reboot');
  reply(c, (await expectCall(c)).rid, 500, '"no"');
  const failed = await run;
  assert.equal(failed.code, 5);
  assert.equal(failed.stdout, '"no"\n');
  assert.match(failed.stderr, /status 500/);
  run = cli(d.id, 'reboot', '--timeout', '5s');
  await expectCall(c);
  const silent = await run;
  assert.equal(silent.code, 6, silent.stderr);
  run = cli(d.id, 'reboot');
  await expectCall(c);
  await c.reset();
  assert.equal((await run).code, 5);
});

for (const [name, transport] of [['TCP', transports.Mqtt], ['WebSocket', transports.MqttWs]]) {
  test(`${name}: the service SDK calls, the device SDK answers`, async (t) => {
    const d = await newDevice(hub);
    await assert.rejects(service.invokeDeviceMethod(d.id, { methodName: 'reboot' }));
    const client = Client.fromConnectionString(d.connectionString, transport);
    t.after(() => client.close().catch(() => {}));
    await client.setOptions({ ca: hub.ca });
    await client.open();
    const seen = [];
    client.onDeviceMethod('reboot', (request, response) => {
      seen.push(request.payload);
      response.send(200, { was: request.payload }, () => {});
    });
    client.onDeviceMethod('empty', (request, response) => response.send(-5, () => {}));
    const payloads = [{ delay: 5 }, null, 'text', 7, [1, 2], true];
    for (const payload of payloads) {
      const { result } = await service.invokeDeviceMethod(d.id, { methodName: 'reboot', payload, connectTimeoutInSeconds: 20, responseTimeoutInSeconds: 30 });
      assert.deepEqual(result, { status: 200, payload: { was: payload } });
    }
    const { result } = await service.invokeDeviceMethod(d.id, { methodName: 'reboot', connectTimeoutInSeconds: 20 });
    assert.deepEqual(result, { status: 200, payload: { was: null } }, 'a payload that is left out reaches the handler');
    assert.deepEqual(seen, [...payloads, null]);
    assert.deepEqual((await service.invokeDeviceMethod(d.id, { methodName: 'empty' })).result, { status: -5, payload: null });
    await client.close();
  });

  test(`[mqtt 107] ${name}: methods reach a device whose token was renewed, without a new SUBSCRIBE`, { timeout: 120_000 }, async (t) => {
    const d = await newDevice(hub);
    const client = Client.fromConnectionString(d.connectionString, transport);
    t.after(() => client.close().catch(() => {}));
    await client.setOptions({ ca: hub.ca, tokenRenewal: { tokenValidTimeInSeconds: 6, tokenRenewalMarginInSeconds: 3 } });
    await client.open();
    const got = [];
    client.on('message', (m) => { got.push(m.getData().toString()); client.complete(m, () => {}); });
    const twin = await client.getTwin();
    const desired = [];
    twin.on('properties.desired', (delta) => { if (delta.color) desired.push(delta.color); });
    client.onDeviceMethod('ping', (request, response) => response.send(200, request.payload, () => {}));
    const ping = async (n) => assert.deepEqual((await service.invokeDeviceMethod(d.id, { methodName: 'ping', payload: n, connectTimeoutInSeconds: 20 })).result,
      { status: 200, payload: n });
    await ping(1);
    const made = lib.connections;
    // The service SDK connects too, so count generously, then look at both ways down.
    await waitFor('renewals', () => lib.connections >= made + 2, { timeout: 60_000 });
    await sendC2d(hub, d.id, { body: 'after' });
    await waitFor('the message', () => got.length === 1);
    await ping(2);
    await ping(3);
    assert.deepEqual(got, ['after']);
    const patch = await hub.request('PATCH', `/twins/${d.id}?api-version=2021-04-12`, { body: { properties: { desired: { color: 'red' } } } });
    assert.equal(patch.status, 200);
    await waitFor('the desired property', () => desired.length === 1);
    assert.deepEqual(desired, ['red']);
    await client.close();
  });
}
