// The registry over HTTPS: the service SDK for Node.js, unmodified, and plain requests for what it never sends.
import assert from 'node:assert/strict';
import { X509Certificate, createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { after, before, test } from 'node:test';
import iothub from 'azure-iothub';
import { NAME, closeHub, openHub, parseConnectionString, policyKey, run, sasToken, sendC2d, tempDir, waitFor } from './lib/hub.mjs';
import { Raw, connected } from './lib/raw.mjs';

const VERSION = 'api-version=2021-04-12';
const SPECIAL = "-:.+%_#*?!(),=@$'";
let hub;
before(async () => {
  hub = await openHub();
});
after(async () => {
  await closeHub(hub);
});

const ask = (method, path, { body, match, headers = {}, ...rest } = {}) =>
  hub.request(method, path.includes('api-version') || rest.bare ? path : `${path}${path.includes('?') ? '&' : '?'}${VERSION}`,
    { body, headers: { ...headers, ...(match === undefined ? {} : { 'if-match': match }) }, ...rest });

let made = 0;
const freshId = () => `d${++made}`;
async function create(extra = {}, id = freshId()) {
  const r = await ask('PUT', `/devices/${encodeURIComponent(id)}`, { body: { deviceId: id, ...extra } });
  assert.equal(r.status, 200, r.body.toString());
  return r.json;
}
const path = (d) => `/devices/${encodeURIComponent(d.deviceId)}`;

// An answer that refuses: the status, and header and body that name the same error.
function refused(r, status, name) {
  assert.equal(r.status, status, `${r.status} ${r.body}`);
  assert.equal(r.headers['iothub-errorcode'], name);
  assert.match(r.headers['content-type'], /application\/json/);
  if (r.json.errorCode) {
    assert.equal(Math.floor(r.json.errorCode / 1000), status);
  } else {
    assert.ok(r.json.Message.startsWith(`ErrorCode:${name};`), r.json.Message);
    assert.match(r.json.ExceptionMessage, /^Tracking ID:[0-9a-f-]{36}-G:0-TimeStamp:\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d$/);
  }
  return r;
}

// ---- transport, version ------------------------------------------------------------------------------------

test('[http 1] a request without api-version is refused', async () => {
  const d = await create();
  refused(await ask('GET', path(d), { bare: true }), 400, 'InvalidProtocolVersion');
  refused(await ask('GET', `${path(d)}?api-version=soon`), 400, 'InvalidProtocolVersion');
});

test('[http 2] [http 3] every known version, and as the last of several parameters', async () => {
  const d = await create();
  for (const v of ['2016-11-14', '2019-10-01', '2020-09-30', '2021-04-12', '2024-03-31', '2020-05-31-preview'])
    assert.equal((await ask('GET', `${path(d)}?api-version=${v}`)).status, 200);
  assert.equal((await ask('GET', `${path(d)}?a=b&top=3&api-version=2021-04-12`)).status, 200);
});

test('[http 4] paths compare without case, ids with case', async () => {
  const d = await create({}, 'lower');
  assert.equal((await ask('GET', '/DEVICES/lower')).json.deviceId, d.deviceId);
  refused(await ask('GET', '/devices/LOWER'), 404, 'DeviceNotFound');
});

test('[http 5] empty segments count for nothing', async () => {
  assert.equal((await ask('GET', `/devices/?${VERSION}`)).status, 200);
  const d = await create();
  assert.equal((await ask('GET', `//devices//${d.deviceId}/?${VERSION}`)).json.deviceId, d.deviceId);
});

test('[http 6] [http 7] an id of every allowed character; a plus stays a plus', async () => {
  const id = `aZ9${SPECIAL}`;
  for (const encode of [encodeURIComponent, (s) => [...s].map((c) => /[A-Za-z0-9+]/.test(c) ? c : `%${c.charCodeAt(0).toString(16)}`).join('')]) {
    const at = `/devices/${encode(id)}`;
    const r = await ask('PUT', at, { body: { deviceId: id } });
    assert.equal(r.status, 200, r.body.toString());
    assert.equal((await ask('GET', at)).json.deviceId, id);
    assert.equal((await ask('DELETE', at, { match: '*' })).status, 204);
    refused(await ask('GET', at), 404, 'DeviceNotFound');
  }
  await create({}, 'a+b');
  assert.equal((await ask('GET', '/devices/a+b')).json.deviceId, 'a+b');
  refused(await ask('GET', '/devices/a%20b'), 404, 'DeviceNotFound');
  for (const bad of ['a b', 'a/b', 'ä', 'a"b', 'x'.repeat(129)])
    refused(await ask('PUT', `/devices/${encodeURIComponent(bad)}`, { body: { deviceId: bad } }), 400, 'ArgumentInvalid');
  await create({}, 'x'.repeat(128));
});

test('[http 8] a POST that says it is a PATCH is one', async () => {
  const d = await create();
  const r = await ask('POST', `/twins/${d.deviceId}`, { body: { tags: { a: 1 } }, headers: { 'x-http-method-override': 'PATCH' } });
  assert.equal(r.status, 200, r.body.toString());
  assert.deepEqual((await ask('GET', `/twins/${d.deviceId}`)).json.tags, { a: 1 });
  refused(await ask('POST', `/twins/${d.deviceId}`, { body: {} }), 405, 'GenericMethodNotAllowed');
});

test('[http 9] one connection serves many requests, also after a 404', async () => {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: hub.ca });
  const token = sasToken(NAME, policyKey(hub, 'iothubowner'), 'iothubowner');
  const ports = new Set();
  const one = (p) => new Promise((done, fail) => {
    const req = https.request({ agent, host: '127.0.0.1', servername: NAME, port: hub.https, path: `${p}?${VERSION}`, headers: { host: NAME, authorization: token } },
      (res) => { ports.add(res.socket.localPort); res.resume(); res.on('end', () => done(res.statusCode)); });
    req.on('error', fail);
    req.end();
  });
  const d = await create();
  assert.equal(await one(path(d)), 200);
  assert.equal(await one('/devices/nobody'), 404);
  assert.equal(await one('/devices/x/y/z'), 404);
  assert.equal(await one(path(d)), 200);
  assert.equal(ports.size, 1);
  agent.destroy();
});

test('[http 10] a chunked body', async () => {
  const id = freshId(), body = JSON.stringify({ deviceId: id, statusReason: 'in pieces' });
  const r = await new Promise((done, fail) => {
    const req = https.request({ agent: false, ca: hub.ca, host: '127.0.0.1', servername: NAME, port: hub.https, method: 'PUT', path: `/devices/${id}?${VERSION}`,
      headers: { host: NAME, authorization: sasToken(NAME, policyKey(hub, 'iothubowner'), 'iothubowner') } }, (res) => {
      let text = '';
      res.on('data', (t) => { text += t; });
      res.on('end', () => done({ status: res.statusCode, json: JSON.parse(text) }));
    });
    req.on('error', fail);
    req.write(body.slice(0, 5));
    req.end(body.slice(5));
  });
  assert.equal(r.status, 200);
  assert.equal(r.json.statusReason, 'in pieces');
});

test('unknown paths and methods are answered in the form of the interface', async () => {
  refused(await ask('GET', '/devices/a/b/c'), 404, 'GenericNotFound');
  refused(await ask('GET', '/twins'), 404, 'GenericNotFound');
  const r = refused(await ask('PATCH', '/devices/a'), 405, 'GenericMethodNotAllowed');
  assert.match(r.headers.allow, /PUT/);
  refused(await ask('PUT', '/devices/a', { body: `{"deviceId":"${'x'.repeat(70000)}"}` }), 413, 'GenericRequestEntityTooLarge');
  assert.match((await ask('GET', '/devices/a/b/c')).headers['x-ms-request-id'], /^[0-9a-f-]{36}$/);
});

// ---- credentials --------------------------------------------------------------------------------------------

const now = () => Math.floor(Date.now() / 1000);
const sign = (key, sr, se) => createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
const owner = () => policyKey(hub, 'iothubowner');
const keyOf = (d) => d.authentication.symmetricKey.primaryKey;
const modulesOf = (d, token) => ask('GET', `${path(d)}/modules`, { token });

test('[http 11] a resource unencoded, in upper-case and in lower-case hex', async () => {
  const d = await create();
  for (const spell of [(s) => s, encodeURIComponent, (s) => encodeURIComponent(s).replace(/%../g, (x) => x.toLowerCase())]) {
    const sr = spell(`${NAME}/devices/${d.deviceId}`), se = now() + 600;
    for (const [key, skn] of [[owner(), '&skn=iothubowner'], [keyOf(d), '']])
      assert.equal((await modulesOf(d, `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sign(key, sr, se))}&se=${se}${skn}`)).status, 200);
  }
});

test('[http 12] [http 13] [http 14] fields in any order, an empty skn, raw characters in the signature', async () => {
  const d = await create(), sr = encodeURIComponent(NAME), se = now() + 600;
  const f = { sr, sig: encodeURIComponent(sign(owner(), sr, se)), se, skn: 'iothubowner' };
  for (const order of [['sr', 'sig', 'se', 'skn'], ['sr', 'sig', 'skn', 'se'], ['se', 'skn', 'sig', 'sr']])
    assert.equal((await ask('GET', path(d), { token: `SharedAccessSignature ${order.map((k) => `${k}=${f[k]}`).join('&')}` })).status, 200);
  const own = encodeURIComponent(`${NAME}/devices/${d.deviceId}`);
  assert.equal((await modulesOf(d, `SharedAccessSignature sr=${own}&sig=${encodeURIComponent(sign(keyOf(d), own, se))}&se=${se}&skn=`)).status, 200);
  for (const char of ['+', '/']) {
    let at = se;
    while (!sign(keyOf(d), own, at).includes(char)) at++;
    assert.equal((await modulesOf(d, `SharedAccessSignature sr=${own}&sig=${sign(keyOf(d), own, at)}&se=${at}`)).status, 200); // nothing escaped, also not =
  }
});

test('[http 15] expired, wrong in one bit, unknown policy', async () => {
  const d = await create(), sr = encodeURIComponent(NAME), se = now() + 600, sig = Buffer.from(sign(owner(), sr, se), 'base64');
  refused(await ask('GET', path(d), { token: sasToken(NAME, owner(), 'iothubowner', -3700) }), 401, 'IotHubUnauthorizedAccess');
  sig[7] ^= 1;
  refused(await ask('GET', path(d), { token: `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig.toString('base64'))}&se=${se}&skn=iothubowner` }), 401, 'IotHubUnauthorizedAccess');
  refused(await ask('GET', path(d), { token: sasToken(NAME, owner(), 'nobody') }), 401, 'IotHubUnauthorizedAccess');
});

test('[http 16] a token of one device does not reach another whose id begins alike', async () => {
  const short = await create({}, 'ab'), long = await create({}, 'abc');
  const token = sasToken(`${NAME}/devices/ab`, keyOf(short));
  assert.equal((await modulesOf(short, token)).status, 200);
  refused(await modulesOf(long, token), 401, 'IotHubUnauthorizedAccess');
  refused(await modulesOf(long, sasToken(`${NAME}/devices/ab`, owner(), 'iothubowner')), 401, 'IotHubUnauthorizedAccess');
});

test('[http 17] a host in upper case is ours, another is not', async () => {
  const d = await create();
  assert.equal((await ask('GET', path(d), { token: sasToken(NAME.toUpperCase(), owner(), 'iothubowner') })).status, 200);
  refused(await ask('GET', path(d), { token: sasToken('other.example.net', owner(), 'iothubowner') }), 401, 'IotHubUnauthorizedAccess');
});

test('[http 18] secondary keys of policies and devices', async () => {
  const d = await create();
  assert.equal((await modulesOf(d, sasToken(`${NAME}/devices/${d.deviceId}`, d.authentication.symmetricKey.secondaryKey))).status, 200);
});

test('[http 19] [http 20] what a policy may', async () => {
  const d = await create();
  const as = (policy, method, p, o) => ask(method, p, { token: sasToken(NAME, policyKey(hub, policy), policy), ...o });
  assert.equal((await as('registryRead', 'GET', path(d))).status, 200);
  refused(await as('registryRead', 'PUT', path(d), { body: { deviceId: d.deviceId }, match: '*' }), 401, 'IotHubUnauthorizedAccess');
  assert.equal((await as('registryReadWrite', 'PUT', path(d), { body: { deviceId: d.deviceId }, match: '*' })).status, 200);
  refused(await as('service', 'GET', path(d)), 401, 'IotHubUnauthorizedAccess');
  refused(await as('device', 'GET', path(d)), 401, 'IotHubUnauthorizedAccess');
  assert.equal((await as('service', 'GET', '/statistics/service')).status, 200);
  assert.equal((await as('service', 'GET', `/twins/${d.deviceId}`)).status, 200);
  for (const policy of ['device', 'registryReadWrite']) refused(await as(policy, 'GET', `/twins/${d.deviceId}`), 401, 'IotHubUnauthorizedAccess');
});

test('[http 22] a disabled device is refused', async () => {
  const d = await create();
  const token = sasToken(`${NAME}/devices/${d.deviceId}`, keyOf(d));
  const post = () => ask('POST', `${path(d)}/messages/events`, { token, body: 'x' });
  assert.equal((await modulesOf(d, token)).status, 200);
  assert.equal((await post()).status, 204);
  const off = await ask('PUT', path(d), { body: { ...d, status: 'disabled' }, match: '*' });
  assert.equal(off.json.status, 'disabled');
  refused(await modulesOf(d, token), 401, 'IotHubUnauthorizedAccess');
  refused(await post(), 401, 'IotHubUnauthorizedAccess');
});

test('[http 23] a device with a certificate needs no token; another certificate is refused', async () => {
  const t = tempDir();
  const certificate = async (name) => {
    await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`,
      '-keyout', `${t.dir}/${name}.key`, '-out', `${t.dir}/${name}.crt`]);
    return { cert: readFileSync(`${t.dir}/${name}.crt`), key: readFileSync(`${t.dir}/${name}.key`) };
  };
  const [mine, other] = [await certificate('mine'), await certificate('other')];
  const d = await create({ authentication: { type: 'selfSigned', x509Thumbprint: { secondaryThumbprint: new X509Certificate(mine.cert).fingerprint256.replaceAll(':', '').toLowerCase() } } });
  const get = (pair, p = `${path(d)}/modules`, method = 'GET') => new Promise((done, fail) => {
    https.request({ agent: false, ca: hub.ca, ...pair, host: '127.0.0.1', servername: NAME, port: hub.https, path: `${p}?${VERSION}`, method, headers: { host: NAME } }, (res) => {
      res.resume();
      res.on('end', () => done(res.statusCode));
    }).on('error', fail).end(method === 'POST' ? 'x' : undefined);
  });
  const post = (pair) => get(pair, `${path(d)}/messages/events`, 'POST');
  assert.equal(await post(mine), 204);
  assert.equal(await post(other), 401);
  assert.equal(await post({}), 401);
  assert.equal(await get(mine), 200);
  assert.equal(await get(other), 401);
  assert.equal(await get({}), 401);
  assert.equal(await get(mine, path(await create()) + '/modules'), 401);
  assert.equal(await get(mine, path(d)), 401); // for a policy only
  t.remove();
});

test('[http 24] [http 25] [http 29] no credentials: header and body say so', async () => {
  refused(await ask('GET', '/devices/d1', { token: null }), 401, 'IotHubUnauthorizedAccess');
  refused(await ask('GET', '/devices/d1', { token: 'Bearer abc' }), 401, 'IotHubUnauthorizedAccess');
  refused(await ask('GET', '/devices/d1', { token: ' ' }), 401, 'IotHubUnauthorizedAccess');
});

test('whoever fails again and again is told to wait', async () => {
  const token = sasToken(`${NAME}/devices/guess`, owner());
  let last;
  for (let i = 0; i < 80 && last?.status !== 429; i++) last = await ask('GET', '/devices/guess/modules', { token });
  refused(last, 429, 'ThrottlingException');
  assert.ok(+last.headers['retry-after'] > 0);
  await create(); // a good login from the same place is not hurt
  const rows = (await hub.api('GET', '/roost/v1/audit?limit=500')).audit;
  const about = rows.filter((r) => r.what.startsWith('login.'));
  assert.ok(about.some((r) => r.what === 'login.limited' && r.subject === 'guess'));
  assert.ok(about.length <= 20, `${about.length} lines of audit`);
});

// ---- devices -------------------------------------------------------------------------------------------------

const times = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{7})?Z$/;

test('[http 30] [http 31] create answers 200, twice is a conflict', async () => {
  const d = await create();
  for (const key of Object.values(d.authentication.symmetricKey)) assert.equal(Buffer.from(key, 'base64').length, 32);
  assert.notEqual(d.authentication.symmetricKey.primaryKey, d.authentication.symmetricKey.secondaryKey);
  assert.match(d.generationId, /^\d+$/);
  assert.equal(d.connectionState, 'Disconnected');
  assert.equal(d.status, 'enabled');
  for (const name of ['connectionStateUpdatedTime', 'statusUpdatedTime', 'lastActivityTime']) assert.match(d[name], times);
  const r = await ask('GET', path(d));
  assert.deepEqual(r.json, d);
  assert.equal(r.headers.etag, `"${d.etag}"`);
  refused(await ask('PUT', path(d), { body: d }), 409, 'DeviceAlreadyExists');
  refused(await ask('PUT', path(d), { body: { ...d, deviceId: 'another' } }), 400, 'ArgumentInvalid');
});

test('[http 32] an update of a missing device', async () => {
  refused(await ask('PUT', '/devices/missing', { body: { deviceId: 'missing' }, match: '*' }), 404, 'DeviceNotFound');
  refused(await ask('PUT', '/devices/missing', { body: { deviceId: 'missing' }, match: '"MQ=="' }), 404, 'DeviceNotFound');
});

test('[http 33] [http 34] If-Match in all its spellings', async () => {
  let d = await create();
  for (const spell of [(e) => `"${e}"`, (e) => e, (e) => `W/"${e}"`, () => '*', () => '"*"']) {
    const old = d.etag;
    const r = await ask('PUT', path(d), { body: d, match: spell(d.etag) });
    assert.equal(r.status, 200, r.body.toString());
    d = r.json;
    assert.notEqual(d.etag, old);
    refused(await ask('PUT', path(d), { body: d, match: `"${old}"` }), 412, 'PreconditionFailed');
  }
  refused(await ask('PUT', path(d), { body: d, match: '"none of yours"' }), 412, 'PreconditionFailed');
});

test('[http 35] [http 36] keys are made when none are given', async () => {
  const d = await create();
  const r = await ask('PUT', path(d), { body: { deviceId: d.deviceId }, match: '*' });
  assert.notDeepEqual(r.json.authentication.symmetricKey, d.authentication.symmetricKey);
  const empty = await create({ authentication: { type: 'sas', symmetricKey: { primaryKey: '', secondaryKey: '' } } });
  assert.equal(Buffer.from(keyOf(empty), 'base64').length, 32);
});

test('[http 37] one key, and lengths of keys', async () => {
  const key = (n) => Buffer.alloc(n, n).toString('base64');
  const put = (primaryKey, secondaryKey, id = freshId()) => ask('PUT', `/devices/${id}`, { body: { deviceId: id, authentication: { type: 'SAS', symmetricKey: { primaryKey, secondaryKey } } } });
  for (const [a, b] of [[key(32), null], [null, key(32)], [key(32), ''], [key(8), key(8)], [key(15), key(32)], [key(65), key(65)], ['???', '???'], [key(32).slice(0, -1), key(32)]])
    refused(await put(a, b), 400, 'ArgumentInvalid');
  for (const n of [16, 32, 64]) assert.deepEqual((await put(key(n), key(n))).json.authentication.symmetricKey, { primaryKey: key(n), secondaryKey: key(n) });
});

test('[http 38] [http 39] thumbprints, and type as the last member', async () => {
  const put = (x509Thumbprint, type = 'selfSigned', id = freshId()) => ask('PUT', `/devices/${id}`, { body: { deviceId: id, authentication: { type, x509Thumbprint } } });
  refused(await put({ primaryThumbprint: 'AA:'.repeat(20).slice(0, -1) }), 400, 'ArgumentInvalid');
  refused(await put({ primaryThumbprint: 'a'.repeat(39) }), 400, 'ArgumentInvalid');
  for (const t of ['a'.repeat(40), 'B'.repeat(64)]) {
    const r = await put({ primaryThumbprint: t }, undefined);
    assert.equal(r.json.authentication.type, 'selfSigned');
    assert.equal(r.json.authentication.x509Thumbprint.primaryThumbprint, t);
    assert.equal(Object.keys(r.json.authentication).at(-1), 'type');
    assert.equal(r.json.authentication.symmetricKey.primaryKey, null);
  }
  assert.equal((await put({}, 'CertificateAuthority')).json.authentication.type, 'certificateAuthority');
  refused(await put({}, 'none'), 400, 'ArgumentInvalid');
  refused(await put({}, 'magic'), 400, 'ArgumentInvalid');
});

test('[http 40] [http 41] delete needs If-Match; made again it is another one', async () => {
  const d = await create();
  refused(await ask('DELETE', path(d)), 412, 'PreconditionFailed');
  refused(await ask('DELETE', path(d), { match: '"OTk5"' }), 412, 'PreconditionFailed');
  assert.equal((await ask('DELETE', path(d), { match: `"${d.etag}"` })).status, 204);
  refused(await ask('DELETE', path(d), { match: '*' }), 404, 'DeviceNotFound');
  assert.notEqual((await create({}, d.deviceId)).generationId, d.generationId);
});

test('[http 42] top', async () => {
  await create();
  await create();
  const all = (await ask('GET', '/devices')).json;
  assert.deepEqual((await ask('GET', '/devices?top=2')).json.map((d) => d.deviceId), all.slice(0, 2).map((d) => d.deviceId));
  for (const top of ['0', '5000', '99999999999999999999999']) assert.equal((await ask('GET', `/devices?top=${top}`)).json.length, all.length);
  refused(await ask('GET', '/devices?top=x'), 400, 'ArgumentInvalid');
});

test('[http 43] the length of a status reason is counted in characters', async () => {
  const id = freshId();
  refused(await ask('PUT', `/devices/${id}`, { body: { deviceId: id, statusReason: 'x'.repeat(129) } }), 400, 'ArgumentInvalid');
  assert.equal((await create({ statusReason: 'ä'.repeat(128) }, id)).statusReason, 'ä'.repeat(128));
});

test('[http 44] [http 45] [http 46] edge devices, their scopes, their children', async () => {
  const edge = await create({ capabilities: { iotEdge: true }, deviceScope: 'mine' });
  assert.match(edge.deviceScope, new RegExp(`^ms-azure-iot-edge://${edge.deviceId}-\\d+$`));
  const modules = (await ask('GET', `${path(edge)}/modules`)).json;
  assert.deepEqual(modules.map((m) => [m.moduleId, m.managedBy, m.authentication.type]), [['$edgeAgent', 'iotEdge', 'none'], ['$edgeHub', 'iotEdge', 'none']]);
  refused(await ask('PUT', path(edge), { body: { ...edge, deviceScope: 'ms-azure-iot-edge://other-1' }, match: '*' }), 400, 'InvalidDeviceScope');
  assert.equal((await ask('PUT', path(edge), { body: edge, match: '*' })).json.deviceScope, edge.deviceScope);
  const leaf = await create({ deviceScope: edge.deviceScope });
  assert.deepEqual(leaf.parentScopes, [edge.deviceScope]);
  const child = await create({ capabilities: { iotEdge: true }, parentScopes: [edge.deviceScope] });
  assert.deepEqual(child.parentScopes, [edge.deviceScope]);
});

test('a device that is connected is shown so, and is let go when it is disabled or deleted', async () => {
  for (const end of ['disabled', 'deleted']) {
    const d = await create();
    const c = await connected(hub, { id: d.deviceId, key: keyOf(d) });
    const shown = await waitFor('the connection to be shown', async () => {
      const { json } = await ask('GET', path(d));
      return json.connectionState === 'Connected' && json;
    });
    assert.match(shown.lastActivityTime, /^20/);
    assert.match(shown.connectionStateUpdatedTime, /^20/);
    assert.equal(shown.etag, d.etag); // no write of the identity
    assert.equal((await ask('GET', '/statistics/service')).json.connectedDeviceCount, 1);
    if (end === 'disabled') await ask('PUT', path(d), { body: { ...d, status: 'disabled' }, match: '*' });
    else await ask('DELETE', path(d), { match: '*' });
    await c.end;
    if (end === 'disabled')
      await waitFor('the end to be shown', async () => (await ask('GET', path(d))).json.connectionState === 'Disconnected');
  }
});

test('over MQTT too, whoever fails again and again is told to wait, and nobody else', async () => {
  const d = await create(), other = await create();
  const bad = { password: sasToken(`${NAME}/devices/${d.deviceId}`, keyOf(other)) };
  let code = 5;
  for (let i = 0; i < 80 && code === 5; i++) {
    const c = await Raw.tls(hub);
    code = (await c.hello({ id: d.deviceId, key: keyOf(d) }, bad)).returnCode;
    await c.end;
  }
  assert.equal(code, 3);
  await (await connected(hub, { id: other.deviceId, key: keyOf(other) })).disconnect();
});

test('a client whose names do not fit, and a certificate that is not the one, fail like any other', async () => {
  const failures = async () => +/^roost_login_failures_total (\d+)$/m.exec(await metrics())[1];
  const d = await create({ authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'a'.repeat(40) } } }), other = await create();
  let before = await failures();
  let code = 5;
  for (let i = 0; i < 80 && code === 5; i++) {
    const c = await Raw.tls(hub);
    code = (await c.hello({ id: other.deviceId, key: keyOf(other) }, { username: `${NAME}/${d.deviceId}/?${VERSION}` })).returnCode;
    await c.end;
  }
  assert.equal(code, 3);
  assert.ok(await failures() >= before + 60);
  const t = tempDir();
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=x', '-keyout', `${t.dir}/key`, '-out', `${t.dir}/crt`]);
  const pair = { cert: readFileSync(`${t.dir}/crt`), key: readFileSync(`${t.dir}/key`) };
  t.remove();
  const post = () => new Promise((done, fail) => {
    https.request({ agent: false, ca: hub.ca, ...pair, host: '127.0.0.1', servername: NAME, port: hub.https, path: `${path(d)}/messages/events?${VERSION}`, method: 'POST', headers: { host: NAME } }, (res) => {
      res.resume();
      res.on('end', () => done(res.statusCode));
    }).on('error', fail).end('x');
  });
  before = await failures();
  let status = 401;
  for (let i = 0; i < 80 && status === 401; i++) status = await post();
  assert.equal(status, 429);
  assert.ok(await failures() >= before + 60);
  await create();
});
const metrics = () => new Promise((done, fail) => {
  http.get({ host: '127.0.0.1', port: hub.ops, path: '/metrics', agent: false }, (res) => {
    let text = '';
    res.on('data', (b) => { text += b; });
    res.on('end', () => done(text));
  }).on('error', fail);
});

test('after a crash nobody is shown as connected who is not', async () => {
  const d = await create();
  const c = await connected(hub, { id: d.deviceId, key: keyOf(d) });
  await waitFor('the connection to be shown', async () => (await ask('GET', path(d))).json.connectionState === 'Connected');
  const { lastActivityTime } = (await ask('GET', path(d))).json;
  await hub.stop('SIGKILL');
  await c.end;
  await hub.start();
  const { json } = await ask('GET', path(d));
  assert.equal(json.connectionState, 'Disconnected');
  assert.equal(json.lastActivityTime, lastActivityTime);
  assert.equal((await ask('GET', '/statistics/service')).json.connectedDeviceCount, 0);
});

// ---- modules, bulk, statistics --------------------------------------------------------------------------------

test('[http 48] [http 49] [http 50] modules', async () => {
  const d = await create(), at = `${path(d)}/modules`;
  assert.deepEqual((await ask('GET', at)).json, []);
  const m = await ask('PUT', `${at}/m1`, { body: { moduleId: 'm1', deviceId: d.deviceId, managedBy: 'me' } });
  assert.equal(m.status, 200);
  assert.equal(m.json.managedBy, 'me');
  assert.equal(m.json.status, undefined);
  assert.equal(Object.keys(m.json.authentication).at(-1), 'type');
  const again = refused(await ask('PUT', `${at}/m1`, { body: { moduleId: 'm1' } }), 409, 'ModuleAlreadyExistsOnDevice');
  assert.equal(again.json.errorCode, 409301);
  refused(await ask('PUT', `${at}/$mine`, { body: { moduleId: '$mine' } }), 400, 'ArgumentInvalid');
  refused(await ask('GET', `${at}/m2`), 404, 'ModuleNotFound');
  refused(await ask('GET', '/devices/missing/modules'), 404, 'DeviceNotFound');
  refused(await ask('PUT', '/devices/missing/modules/m1', { body: { moduleId: 'm1' } }), 404, 'DeviceNotFound');
  const cleared = await ask('PUT', `${at}/m1`, { body: { moduleId: 'm1' }, match: `"${m.json.etag}"` });
  assert.equal(cleared.json.managedBy, null);
  refused(await ask('PUT', `${at}/m1`, { body: { moduleId: 'm1' }, match: `"${m.json.etag}"` }), 412, 'PreconditionFailed');
  for (let i = 2; i <= 50; i++) assert.equal((await ask('PUT', `${at}/m${i}`, { body: {} })).status, 200);
  refused(await ask('PUT', `${at}/m51`, { body: {} }), 413, 'TooManyModulesOnDevice');
  refused(await ask('DELETE', `${at}/m1`), 412, 'PreconditionFailed');
  assert.equal((await ask('DELETE', `${at}/m1`, { match: '*' })).status, 204);
  refused(await ask('DELETE', `${at}/m1`, { match: '*' }), 404, 'ModuleNotFound');
});

test('[http 51] a bulk of creates, one of them existing', async () => {
  const d = await create(), [a, b] = [freshId(), freshId()];
  const r = await ask('POST', '/devices', { body: [{ id: a, importMode: 'create' }, { id: d.deviceId, importMode: 'create' }, { id: b, importMode: 'create', status: 'disabled' }] });
  assert.equal(r.status, 400);
  assert.equal(r.headers['iothub-errorcode'], 'BulkRegistryOperationFailure');
  assert.equal(r.json.isSuccessful, false);
  assert.deepEqual(r.json.errors.map((e) => [e.deviceId, e.moduleId, e.errorCode, e.operation]), [[d.deviceId, null, 409001, 'create']]);
  assert.equal((await ask('GET', `/devices/${a}`)).json.status, 'enabled');
  assert.equal((await ask('GET', `/devices/${b}`)).json.status, 'disabled');
});

test('[http 52] modes in any case, quoted etags, modules', async () => {
  const d = await create();
  const bulk = (body) => ask('POST', '/devices/', { body });
  assert.deepEqual((await bulk([{ id: d.deviceId, importMode: 'Update', statusReason: 'one' }])).json, { isSuccessful: true, errors: [], warnings: [] });
  const { json } = await ask('GET', path(d));
  assert.equal(json.statusReason, 'one');
  assert.equal((await bulk([{ id: d.deviceId, importMode: 'UpdateIfMatchETag', eTag: `"${json.etag}"`, statusReason: 'two' }])).status, 200);
  const stale = await bulk([{ id: d.deviceId, importMode: 'updateIfMatchETag', eTag: json.etag }]);
  assert.equal(stale.json.errors[0].errorCode, 412001);
  assert.equal((await bulk([{ id: d.deviceId, moduleId: 'm', importMode: 'create' }])).status, 200);
  assert.equal((await ask('GET', `${path(d)}/modules/m`)).status, 200);
  assert.equal((await bulk([{ id: 'missing', importMode: 'update' }])).json.errors[0].errorCode, 404001);
  assert.equal((await bulk([{ id: d.deviceId, importMode: 'DeleteIfMatchETag', eTag: '*' }])).status, 200);
  refused(await ask('GET', path(d)), 404, 'DeviceNotFound');
  refused(await bulk([{ id: 'x', importMode: 'explode' }]), 400, 'ArgumentInvalid');
  assert.deepEqual((await bulk([])).json.errors, []);
});

test('a bulk writes twins, with new devices and alone', async () => {
  const id = freshId();
  const bulk = (body) => ask('POST', '/devices', { body });
  assert.equal((await bulk([{ id, importMode: 'create', tags: { a: 1, b: 2 }, properties: { desired: { x: 1 } } }])).status, 200);
  const one = (await ask('GET', `/twins/${id}`)).json;
  assert.deepEqual(one.tags, { a: 1, b: 2 });
  assert.equal(one.properties.desired.x, 1);
  const device = (await ask('GET', `/devices/${id}`)).json;
  assert.equal((await bulk([{ id, importMode: 'updateTwinIfMatchETag', twinETag: `"${one.etag}"`, tags: { a: null, c: 3 } }])).status, 200);
  assert.deepEqual((await ask('GET', `/twins/${id}`)).json.tags, { b: 2, c: 3 });
  assert.deepEqual((await ask('GET', `/devices/${id}`)).json, device); // the identity is not touched
  const stale = await bulk([{ id, importMode: 'updateTwinIfMatchETag', twinETag: one.etag, tags: { d: 4 } }]);
  assert.equal(stale.json.errors[0].errorCode, 412001);
  assert.equal((await bulk([{ id: 'missing', importMode: 'updateTwin', tags: {} }])).json.errors[0].errorCode, 404001);
  const bad = await bulk([{ id: `${id}x`, importMode: 'create', tags: { 'a.b': 1 } }, { id, importMode: 'updateTwin', tags: { e: 5 } }]);
  assert.deepEqual(bad.json.errors.map((e) => [e.deviceId, e.errorCode]), [[`${id}x`, 400004]]);
  refused(await ask('GET', `/devices/${id}x`), 404, 'DeviceNotFound');
  assert.equal((await ask('GET', `/twins/${id}`)).json.tags.e, 5);
});

test('[http 53] [http 54] a device twice, and too many', async () => {
  const a = freshId();
  refused(await ask('POST', '/devices', { body: [{ id: a }, { id: freshId() }, { id: a }] }), 400, 'DeviceDefinedMultipleTimes');
  refused(await ask('GET', `/devices/${a}`), 404, 'DeviceNotFound'); // nothing was done
  const many = (n) => Array.from({ length: n }, (_, i) => ({ id: `bulk${i}` }));
  refused(await ask('POST', '/devices', { body: many(101) }), 413, 'TooManyDevices');
  assert.equal((await ask('POST', '/devices', { body: many(100) })).status, 200);
  assert.equal((await ask('POST', '/devices', { body: many(100).map((e) => ({ ...e, importMode: 'delete' })) })).status, 200);
});

test('[http 55] statistics', async () => {
  const before = (await ask('GET', '/statistics/devices')).json;
  await create();
  await create({ status: 'disabled' });
  const { json } = await ask('GET', '/statistics/devices');
  assert.deepEqual(json, { totalDeviceCount: before.totalDeviceCount + 2, enabledDeviceCount: before.enabledDeviceCount + 1, disabledDeviceCount: before.disabledDeviceCount + 1 });
});

test('keys are made anew, some or all', async () => {
  const d = await create();
  await ask('PUT', `${path(d)}/modules/m`, { body: {} });
  const keys = (policyKey, devices) => ask('POST', `/devices/keys/regenerate?api-version=2024-03-31`, { body: { policyKey, devices } });
  const r = await keys('primaryKey', [{ id: d.deviceId }, { id: d.deviceId, moduleId: 'm' }]);
  assert.equal(r.status, 200, r.body.toString());
  const now_ = (await ask('GET', path(d))).json.authentication.symmetricKey;
  assert.equal(now_.secondaryKey, d.authentication.symmetricKey.secondaryKey);
  assert.notEqual(now_.primaryKey, d.authentication.symmetricKey.primaryKey);
  assert.deepEqual(r.json.rotatedKeys[0], { id: d.deviceId, moduleId: null, ...now_ });
  assert.equal((await keys('both', [{ id: d.deviceId }, { id: 'missing' }])).status, 207);
  assert.equal((await keys('both', [{ id: 'missing' }])).status, 400);
  refused(await keys('third', [{ id: d.deviceId }]), 400, 'InvalidPolicyKey');
  refused(await modulesOf(d, sasToken(`${NAME}/devices/${d.deviceId}`, d.authentication.symmetricKey.secondaryKey)), 401, 'IotHubUnauthorizedAccess');
});

// ---- the queue, feedback --------------------------------------------------------------------------------------

test('a purged queue is empty, and its senders are told once', async () => {
  const d = await create();
  for (const [messageId, ack] of [['m1', 'full'], ['m2', 'none'], ['m3', 'negative']]) await sendC2d(hub, d.deviceId, { body: 'x', messageId, ack });
  assert.equal((await ask('GET', path(d))).json.cloudToDeviceMessageCount, 3);
  assert.deepEqual((await ask('DELETE', `${path(d)}/commands`)).json, { deviceId: d.deviceId, moduleId: null, totalMessagesPurged: 3 });
  assert.equal((await ask('GET', path(d))).json.cloudToDeviceMessageCount, 0);
  const at = '/messages/serviceBound/feedback';
  const one = await ask('GET', at);
  assert.equal(one.status, 200);
  assert.deepEqual(one.json.map((f) => [f.originalMessageId, f.statusCode, f.deviceId, f.deviceGenerationId]),
    [['m1', 'Purged', d.deviceId, d.generationId], ['m3', 'Purged', d.deviceId, d.generationId]]);
  assert.match(one.headers.etag, /^"[0-9a-f-]{36}"$/);
  const token = one.headers.etag.slice(1, -1);
  assert.equal((await ask('GET', at)).status, 204); // locked
  assert.equal((await ask('POST', `${at}/${token}/abandon`)).status, 204);
  refused(await ask('DELETE', `${at}/${token}`), 412, 'DeviceMessageLockLost');
  const two = await ask('GET', at.toLowerCase());
  assert.deepEqual(two.json, one.json);
  assert.equal((await ask('DELETE', `${at}/${two.headers.etag.slice(1, -1)}`)).status, 204);
  assert.equal((await ask('GET', at)).status, 204);
  refused(await ask('DELETE', '/devices/missing/commands'), 404, 'DeviceNotFound');
});

// ---- the SDK ---------------------------------------------------------------------------------------------------

test('[http 27] what the client for .NET reads of a missing device, module and twin: the same error in header and body, 404', async () => {
  const d = await create();
  for (const [at, name] of [['/devices/missing', 'DeviceNotFound'], [`${path(d)}/modules/missing`, 'ModuleNotFound'], ['/twins/missing', 'DeviceNotFound'],
    [`/twins/${d.deviceId}/modules/missing`, 'DeviceNotFound'], ['/configurations/missing', 'ConfigurationNotFound']]) {
    const r = refused(await ask('GET', at), 404, name); // it takes the code behind "ErrorCode:" only when both agree
    assert.equal(/^ErrorCode:([A-Za-z]+);/.exec(r.json.Message)[1], r.headers['iothub-errorcode']);
  }
});

test('[http 26] [http 47] the Node.js service SDK runs the registry', async () => {
  const registry = iothub.Registry.fromConnectionString(`HostName=${NAME};SharedAccessKeyName=iothubowner;SharedAccessKey=${parseConnectionString(hub.connectionString).SharedAccessKey}`);
  const id = freshId();
  await assert.rejects(registry.get(id), { name: 'DeviceNotFoundError' });
  const made = (await registry.create({ deviceId: id })).responseBody;
  assert.equal(made.deviceId, id);
  assert.equal(Buffer.from(made.authentication.symmetricKey.primaryKey, 'base64').length, 32);
  await assert.rejects(registry.create({ deviceId: id }), { name: 'DeviceAlreadyExistsError' });
  const changed = (await registry.update({ ...made, statusReason: 'by the SDK' })).responseBody;
  assert.equal(changed.statusReason, 'by the SDK');
  assert.ok((await registry.list()).responseBody.some((d) => d.deviceId === id));
  const [a, b] = [freshId(), freshId()];
  assert.equal((await registry.addDevices([{ deviceId: a }, { deviceId: b }])).responseBody.isSuccessful, true);
  assert.equal((await registry.updateDevices([{ deviceId: a, status: 'disabled' }], true)).responseBody.isSuccessful, true);
  assert.equal((await registry.get(a)).responseBody.status, 'disabled');
  assert.equal((await registry.removeDevices([{ deviceId: a }, { deviceId: b }], true)).responseBody.isSuccessful, true);
  assert.ok((await registry.getRegistryStatistics()).responseBody.totalDeviceCount > 0);
  const module = (await registry.addModule({ deviceId: id, moduleId: 'm' })).responseBody;
  assert.equal(module.moduleId, 'm');
  assert.deepEqual((await registry.getModulesOnDevice(id)).responseBody.map((m) => m.moduleId), ['m']);
  assert.equal((await registry.updateModule({ ...module, managedBy: 'sdk' }, true)).responseBody.managedBy, 'sdk');
  await registry.removeModule(id, 'm');
  await assert.rejects(registry.getModule(id, 'm'));
  await registry.delete(id);
  await assert.rejects(registry.get(id), { name: 'DeviceNotFoundError' });
});
