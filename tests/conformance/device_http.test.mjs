// Devices over HTTPS: telemetry, commands under locks, one by one; the device SDK's HTTP transport and bare requests.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createRequire } from 'node:module';
import https from 'node:https';
import { NAME, closeHub, deviceToken, newDevice, openHub, policyKey, sasToken, sendC2d, telemetry, waitFor } from './lib/hub.mjs';
import { attachReceiver, online, rhea, useHub } from './lib/amqp.mjs';
import { connected } from './lib/raw.mjs';

const require = createRequire(import.meta.url);
const { Client, Message } = require('azure-iot-device');
const { Http } = require('azure-iot-device-http');

let hub;
before(async () => { hub = await openHub({ settings: { messages: { c2d_lock_s: 5, c2d_deliveries: 3 } } }); });
after(async () => { await closeHub(hub); });

const V = 'api-version=2021-04-12';
const as = (d, method, path, options = {}) => hub.request(method, `/devices/${d.id}${path}${path.includes('?') ? '&' : '?'}${V}`,
  { token: deviceToken(d), ...options });
const bound = (d, method = 'GET', rest = '', options) => as(d, method, `/messages/deviceBound${rest}`, options);
const lockOf = (r) => r.headers.etag.match(/^"([0-9a-f-]{36})"$/)[1];
const feedback = async (device) => (await hub.api('GET', '/roost/v1/feedback')).feedback.filter((f) => f.device === device);
const outcomeOf = (d, id) => waitFor(`feedback of ${id}`, async () => (await feedback(d.id)).find((f) => f.messageId === id)?.outcome);

test('[http 98] an event carries the properties of its headers and the stamps of the hub', async () => {
  const d = await newDevice(hub);
  const r = await as(d, 'POST', '/messages/events', { body: Buffer.from([0, 1, 255]), headers: { 'IoTHub-MessageId': 'm1',
    'iothub-correlationid': 'c1', 'iothub-userid': 'u1', 'iothub-contenttype': 'application/json', 'iothub-contentencoding': 'utf-8',
    'iothub-app-Level': 'a&b=c', 'iothub-to': '/ignored', 'iothub-operation': 'd2c', 'dt-subject': 'thermostat' } });
  assert.equal(r.status, 204);
  assert.equal(r.body.length, 0);
  assert.equal(r.headers['content-type'], undefined);
  assert.match(r.headers['x-ms-request-id'], /^[0-9a-f-]{36}$/);
  const [m] = await telemetry(hub, d.id, 1);
  const text = JSON.stringify(m);
  assert.deepEqual(Buffer.from(m.bodyBase64 ?? m.body, 'base64'), Buffer.from([0, 1, 255]), text);
  assert.equal(m.properties.Level, 'a&b=c');
  const s = m.systemProperties ?? m.system;
  assert.equal(s['message-id'], 'm1');
  assert.equal(s['correlation-id'], 'c1');
  assert.equal(s['user-id'], 'u1');
  assert.equal(s['content-type'], 'application/json');
  assert.equal(s['content-encoding'], 'utf-8');
  assert.equal(s['dt-subject'], 'thermostat');
  assert.equal(s['iothub-connection-device-id'], d.id);
  assert.equal(s['iothub-message-source'], 'Telemetry');
  assert.equal(JSON.parse(s['iothub-connection-auth-method']).scope, 'device');
  assert.ok(!JSON.stringify(m.properties).includes('ignored'));
});

test('[http 99] a batch is two messages in order, or none', async () => {
  const d = await newDevice(hub);
  const send = (body) => as(d, 'POST', '/messages/events', { body: JSON.stringify(body), headers: { 'content-type': 'application/vnd.microsoft.iothub.json' } });
  const bad = await send([{ body: 'AAEC' }, { body: '!' }]);
  assert.equal(bad.status, 400);
  assert.equal(bad.headers['iothub-errorcode'], 'IotHubFormatError');
  assert.equal((await as(d, 'POST', '/messages/events', { body: '[{"body":"AAEC","properties":{"iothub-app-a":"1"2"}}]',
    headers: { 'content-type': 'application/vnd.microsoft.iothub.json' } })).status, 400);
  assert.equal((await send([{ body: Buffer.from('one').toString('base64'), base64Encoded: true, properties: { 'iothub-app-a': '1', 'iothub-messageid': 'm1' } },
    { body: 'two ü', base64Encoded: false }])).status, 204);
  const rows = await telemetry(hub, d.id, 2);
  assert.equal(rows.length, 2);
  assert.deepEqual(rows.map((m) => [m.body, m.properties, m.system['message-id']]), [['one', { a: '1' }, 'm1'], ['two ü', {}, undefined]]);
});

test('[http 100] what is too large is refused whole', async () => {
  const d = await newDevice(hub);
  const r = await as(d, 'POST', '/messages/events', { body: Buffer.alloc(262145) });
  assert.equal(r.status, 413);
  assert.equal(r.headers['iothub-errorcode'], 'MessageTooLarge');
  assert.equal((await as(d, 'POST', '/messages/events', { body: Buffer.alloc(262144) })).status, 204);
  const type = { 'content-type': 'application/vnd.microsoft.iothub.json' };
  assert.equal((await as(d, 'POST', '/messages/events', { body: JSON.stringify(Array(501).fill({ body: '' })), headers: type })).status, 413);
  assert.equal((await as(d, 'POST', '/messages/events', { body: JSON.stringify(Array(3).fill({ body: 'A'.repeat(120000) })), headers: type })).status, 413);
  assert.equal((await as(d, 'POST', '/messages/events', { body: JSON.stringify(Array(500).fill({ body: 'AAEC' })), headers: type })).status, 204);
  assert.equal((await telemetry(hub, d.id, 501)).length, 501);
});

test('[http 16] [http 21] whose credential: the device, a policy with DeviceConnect, nobody else', async () => {
  const [a, b] = [await newDevice(hub, 'ab'), await newDevice(hub, 'abc')];
  const post = (d, token) => hub.request('POST', `/devices/${d.id}/messages/events?${V}`, { body: 'x', token });
  assert.equal((await post(b, deviceToken(a))).status, 401);
  assert.equal((await post(b, deviceToken(b))).status, 204);
  assert.equal((await post(b, sasToken(NAME, policyKey(hub, 'iothubowner'), 'iothubowner'))).status, 204);
  assert.equal((await post(b, sasToken(`${NAME}/devices`, policyKey(hub, 'device'), 'device'))).status, 204);
  const refused = await post(b, sasToken(NAME, policyKey(hub, 'service'), 'service'));
  assert.equal(refused.status, 401);
  assert.equal(refused.headers['iothub-errorcode'], 'IotHubUnauthorizedAccess');
  assert.equal((await hub.request('POST', `/devices/abc/messages/events`, { body: 'x', token: deviceToken(b) })).headers['iothub-errorcode'], 'InvalidProtocolVersion');
});

test('[http 101] [http 106] a command arrives with exact header names, then the queue is empty', async () => {
  const d = await newDevice(hub);
  assert.equal((await bound(d)).status, 204);
  await sendC2d(hub, d.id, { body: 'do it', messageId: 'm1', correlationId: 'c1', contentType: 'text/plain', contentEncoding: 'utf-8',
    ack: 'full', properties: { Speed: '12', 'not a header': 'x' } });
  const token = deviceToken(d);
  const raw = await new Promise((done, fail) => https.get({ host: NAME, port: 443, path: `/devices/${d.id}/messages/devicebound?${V}`,
    ca: hub.ca, headers: { authorization: token }, agent: false }, (res) => { res.resume(); res.on('end', () => done(res)); }).on('error', fail));
  assert.equal(raw.statusCode, 200);
  const names = raw.rawHeaders.filter((_, i) => i % 2 === 0);
  for (const n of ['ETag', 'iothub-messageid', 'iothub-correlationid', 'iothub-to', 'iothub-ack', 'iothub-sequencenumber', 'iothub-deliverycount',
    'iothub-enqueuedtime', 'iothub-expiry', 'ContentType', 'ContentEncoding', 'iothub-contenttype', 'iothub-contentencoding', 'iothub-app-Speed'])
    assert.ok(names.includes(n), `${n} in ${names}`);
  assert.match(raw.headers.etag, /^"[0-9a-f-]{36}"$/);
  assert.equal(raw.headers['iothub-messageid'], 'm1');
  assert.equal(raw.headers['iothub-to'], `/devices/${d.id}/messages/devicebound`);
  assert.equal(raw.headers['iothub-app-speed'], '12');
  assert.equal(raw.headers['iothub-deliverycount'], '0');
  assert.equal(raw.headers['content-type'], 'application/octet-stream');
  assert.equal((await bound(d)).status, 204);
});

test('[http 102] [http 105] a lock hides the message until it has run out; then its token is worth nothing', async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'x', messageId: 'm1' });
  const first = await bound(d);
  assert.equal(first.status, 200);
  assert.equal((await bound(d)).status, 204);
  const again = await waitFor('the end of the lock', async () => { const r = await bound(d); return r.status === 200 && r; });
  assert.equal(again.headers['iothub-deliverycount'], first.headers['iothub-deliverycount']);
  const r = await bound(d, 'DELETE', `/${lockOf(first)}`);
  assert.equal(r.status, 412);
  assert.equal(r.headers['iothub-errorcode'], 'DeviceMessageLockLost');
  assert.equal((await bound(d, 'DELETE', `/${lockOf(again)}`)).status, 204);
  assert.equal((await bound(d, 'DELETE', `/${lockOf(again)}`)).status, 412);
});

test('[http 103] DELETE completes, three spellings reject', async () => {
  const d = await newDevice(hub);
  for (const [i, [query, outcome]] of [['', 'Success'], ['?reject', 'Rejected'], ['?reject=', 'Rejected'], ['?%3Freject=true', 'Rejected']].entries()) {
    await sendC2d(hub, d.id, { body: 'x', messageId: `m${i}`, ack: 'full' });
    const r = await bound(d, 'DELETE', `/${lockOf(await bound(d))}${query}`);
    assert.equal(r.status, 204);
    assert.equal(r.body.length, 0);
    assert.equal(await outcomeOf(d, `m${i}`), outcome);
  }
});

test('[http 104] abandoned it counts, and the last time it is given up', async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'x', messageId: 'm1', ack: 'negative' });
  for (let i = 0; i < 3; i++) {
    const r = await bound(d);
    assert.equal(r.headers['iothub-deliverycount'], `${i}`);
    assert.equal((await bound(d, 'POST', `/${lockOf(r)}/abandon`, { body: ' ', headers: { 'If-Match': lockOf(r) } })).status, 204);
  }
  assert.equal((await bound(d)).status, 204);
  assert.equal(await outcomeOf(d, 'm1'), 'DeliveryCountExceeded');
});

test('an MQTT session and a lock never have the same message', async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'one' });
  const r = await bound(d);
  assert.equal(r.status, 200);
  const c = await connected(hub, d);
  await c.subscribe(`devices/${d.id}/messages/devicebound/#`);
  await c.quiet();
  assert.equal((await bound(d, 'POST', `/${lockOf(r)}/abandon`)).status, 204);
  const m = await c.expect('publish'); // the end of the lock wakes the session
  assert.equal(m.payload.toString(), 'one');
  assert.equal((await bound(d)).status, 204); // it is on its way there
  c.puback(m);
  await c.disconnect();
});

test('an AMQP link and a lock never have the same message', async () => {
  useHub(hub);
  const d = await newDevice(hub);
  for (const body of ['one', 'two']) await sendC2d(hub, d.id, { body });
  const first = await bound(d);
  const c = await online(d);
  const r = await attachReceiver(c, `/devices/${d.id}/messages/devicebound`);
  r.add_credit(10);
  r.drain_credit(); // its answer comes behind whatever would have been sent
  await new Promise((done) => r.once('receiver_drained', done));
  assert.equal(r.got.length, 0);
  assert.equal((await bound(d, 'DELETE', `/${lockOf(first)}`)).status, 204);
  r.drain = false;
  r.add_credit(10); // the end of the lock woke it
  await waitFor('the other message', () => r.got.length === 1);
  assert.equal(r.got[0].message.body.content.toString(), 'two');
  assert.equal((await bound(d)).status, 204); // it is on its way there
  r.got[0].delivery.update(true, rhea.message.accepted().described());
  c.close();
});

test('after kill -9 locks are gone, messages are not', async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'x', messageId: 'm1' });
  const r = await bound(d);
  assert.equal(r.status, 200);
  assert.equal((await as(d, 'POST', '/messages/events', { body: 'kept' })).status, 204);
  await hub.stop('SIGKILL');
  await hub.start();
  assert.equal((await telemetry(hub, d.id, 1)).length, 1);
  assert.equal((await bound(d, 'DELETE', `/${lockOf(r)}`)).status, 412);
  const again = await bound(d);
  assert.equal(again.headers['iothub-messageid'], 'm1');
  assert.equal((await bound(d, 'DELETE', `/${lockOf(again)}`)).status, 204);
});

test('a request moves the last activity, not the connection state', async () => {
  const d = await newDevice(hub);
  const look = () => hub.api('GET', `/devices/${d.id}?${V}`);
  assert.equal((await look()).lastActivityTime, '0001-01-01T00:00:00Z');
  assert.equal((await as(d, 'POST', '/messages/events', { body: 'x' })).status, 204);
  const seen = await waitFor('the activity', async () => { const x = await look(); return x.lastActivityTime !== '0001-01-01T00:00:00Z' && x; });
  assert.equal(seen.connectionState, 'Disconnected');
});

test('[http 107] the device SDK over HTTP sends, receives and settles', async () => {
  const d = await newDevice(hub);
  const client = Client.fromConnectionString(d.connectionString, Http);
  await client.setOptions({ ca: hub.ca, http: { receivePolicy: { interval: 1 } } });
  await client.open();
  const m = new Message('from the SDK');
  m.messageId = 'sdk-1';
  m.properties.add('colour', 'red');
  await client.sendEvent(m);
  await client.sendEventBatch([new Message('b1'), new Message('b2')]);
  const rows = await telemetry(hub, d.id, 3);
  assert.equal(rows[0].properties.colour, 'red');
  for (const [id, verb, outcome] of [['k1', 'complete', 'Success'], ['k2', 'reject', 'Rejected']]) {
    await sendC2d(hub, d.id, { body: 'down', messageId: id, ack: 'full', properties: { a: 'b' } });
    const got = await new Promise((done) => client.once('message', done));
    assert.equal(got.messageId, id);
    assert.equal(got.data.toString(), 'down');
    assert.equal(got.properties.propertyList.find((p) => p.key === 'iothub-app-a')?.value, 'b'); // as that client names it
    await client[verb](got);
    assert.equal(await outcomeOf(d, id), outcome);
  }
  await sendC2d(hub, d.id, { body: 'again', messageId: 'k3' });
  let got = await new Promise((done) => client.once('message', done));
  const twice = new Promise((done) => client.once('message', done));
  await client.abandon(got);
  got = await twice;
  assert.equal(got.messageId, 'k3');
  await client.complete(got);
  await client.close();
});
