// What services wait for over AMQP: file notifications and what became of messages, by the service SDK and by a bare
// client that releases, rejects, and lets locks run out.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken, NAME, newDevice, openHub, sendC2d, waitFor } from './lib/hub.mjs';
import { attachReceiver, framesOf, online, rhea, serviceOnline, useHub } from './lib/amqp.mjs';

// The service SDK cannot be given a CA: what NODE_EXTRA_CA_CERTS would do, this does.
const secure = tls.createSecureContext;
let extra;
tls.createSecureContext = (options = {}) => secure(options.ca || !extra ? options : { ...options, ca: extra });

const require = createRequire(import.meta.url);
const service = require('azure-iothub');

let hub, owner;
before(async () => {
  hub = await openHub({ settings: { uploads: { notification_lock_s: 5, notification_deliveries: 3 } } });
  extra = hub.ca;
  owner = hub.connectionString.replace(/HostName=[^;]*/, `HostName=${NAME}`);
  useHub(hub);
});
after(async () => { await closeHub(hub); });

const FEEDBACK = '/messages/serviceBound/feedback', FILES = '/messages/serviceBound/filenotifications';
const V = 'api-version=2021-04-12';

async function upload(d, name, bytes) {
  const as = (path, body) => hub.request('POST', `/devices/${d.id}${path}?${V}`, { token: deviceToken(d), body });
  const a = (await as('/files', { blobName: name })).json;
  const put = await hub.request('PUT', `/${a.containerName}/${encodeURI(a.blobName)}${a.sasToken}`, { token: null, body: bytes, headers: { 'x-ms-blob-type': 'BlockBlob' } });
  assert.equal(put.status, 201);
  assert.equal((await as('/files/notifications', { correlationId: a.correlationId, isSuccess: true })).status, 204);
}
const jsonOf = (g) => JSON.parse(g.message.body.content.toString());
const ACCEPTED = rhea.message.accepted().described(), RELEASED = rhea.message.released().described(), REJECTED = rhea.message.rejected().described();

for (const [name, transport] of [['tcp', service.Amqp], ['websocket', service.AmqpWs]]) {
  test(`[amqp 88] the service SDK is told of files over ${name}`, async () => {
    const d = await newDevice(hub);
    const s = service.Client.fromConnectionString(owner, transport);
    await s.open();
    const got = [];
    const receiver = await new Promise((done, fail) => s.getFileNotificationReceiver((e, r) => (e ? fail(e) : done(r))));
    receiver.on('message', (m) => got.push(m));
    await upload(d, 'logs/a b.txt', 'four');
    await waitFor('the first', () => got.length === 1);
    await upload(d, 'second', '');
    await waitFor('the second', () => got.length === 2);
    const [first, second] = got.map((m) => JSON.parse(m.data.toString()));
    assert.deepEqual(Object.keys(first), ['deviceId', 'blobUri', 'blobName', 'lastUpdatedTime', 'blobSizeInBytes', 'enqueuedTimeUtc']);
    assert.equal(first.deviceId, d.id);
    assert.equal(first.blobUri, `https://${NAME}/uploads/${d.id}/logs/a%20b.txt`);
    assert.equal(first.blobName, `${d.id}/logs/a b.txt`);
    assert.equal(first.blobSizeInBytes, 4);
    assert.match(first.lastUpdatedTime, /Z$/);
    assert.match(first.enqueuedTimeUtc, /Z$/);
    assert.equal(second.blobSizeInBytes, 0);
    await s.close();
    await waitFor('the queue to be empty', async () => (await hub.api('GET', '/roost/v1/file-notifications')).notifications.length === 0);
  });
}

test('[amqp 88] a file notification: its form; released it comes again, rejected it is gone', async () => {
  const d = await newDevice(hub);
  const c = await serviceOnline();
  const r = await attachReceiver(c, `amqps://${NAME}${FILES.toUpperCase()}`);
  r.add_credit(10);
  await upload(d, 'f', 'x');
  await waitFor('it', () => r.got.length === 1);
  const [{ message, delivery }] = r.got;
  assert.equal(message.content_type, 'application/vnd.microsoft.iothub.filenotification.json');
  assert.equal(message.user_id.toString(), 'hub');
  assert.ok(message.message_annotations['iothub-enqueuedtime'] instanceof Date);
  assert.equal(delivery.tag.length, 16);
  delivery.update(true, RELEASED);
  await waitFor('it again', () => r.got.length === 2);
  assert.equal(jsonOf(r.got[1]).blobName, `${d.id}/f`);
  r.got[1].delivery.update(true, REJECTED);
  await upload(d, 'g', 'x');
  await waitFor('another', () => r.got.length === 3);
  assert.equal(jsonOf(r.got[2]).blobName, `${d.id}/g`);
  r.got[2].delivery.update(true, ACCEPTED);
  c.close();
});

test('a file notification goes to one receiver, to the next when that one is lost, and is given up after the last delivery', async () => {
  const d = await newDevice(hub);
  const a = await serviceOnline(), b = await serviceOnline();
  const ra = await attachReceiver(a, FILES), rb = await attachReceiver(b, FILES);
  for (const r of [ra, rb]) r.add_credit(1);
  await upload(d, 'one', 'x');
  await waitFor('one to have it', () => ra.got.length + rb.got.length === 1);
  const [first, other] = ra.got.length ? [a, rb] : [b, ra];
  first.socket.destroy();
  clearTimeout(first.heartbeat_in);
  clearTimeout(first.heartbeat_out);
  await waitFor('the other to have it', () => other.got.length === 1);
  other.got[0].delivery.update(true, RELEASED);
  other.add_credit(5);
  await waitFor('its third delivery', () => other.got.length === 2);
  other.got[1].delivery.update(true, RELEASED);
  await upload(d, 'two', 'x');
  await waitFor('the next', () => other.got.length === 3);
  assert.deepEqual(other.got.map((g) => jsonOf(g).blobName.slice(d.id.length + 1)), ['one', 'one', 'two']);
  other.got[2].delivery.update(true, ACCEPTED);
  a.close();
  b.close();
});

test('in the second mode a receiver of files is told that its word is stored, or that its lock was lost', async () => {
  const d = await newDevice(hub);
  const c = await serviceOnline(), other = await serviceOnline();
  const r = await attachReceiver(c, FILES, { rcv_settle_mode: 1 });
  const answers = [];
  c.socket.on('data', (x) => answers.push(...framesOf(x).filter((f) => f.code === 0x15).map((f) => f.body)));
  r.add_credit(2);
  await upload(d, 'a', 'x');
  await waitFor('it', () => r.got.length === 1);
  r.got[0].delivery.update(false, ACCEPTED);
  await waitFor('an answer', () => answers.length === 1);
  assert.ok(answers[0].includes(Buffer.from([0, 0x53, 0x24])));
  await upload(d, 'b', 'x');
  await waitFor('the second', () => r.got.length === 2);
  const ro = await attachReceiver(other, FILES); // gets it when the lock has run out
  ro.add_credit(1);
  await waitFor('it to be with the other', () => ro.got.length === 1);
  r.got[1].delivery.update(false, ACCEPTED);
  await waitFor('an answer', () => answers.length === 2);
  assert.ok(answers[1].includes('com.microsoft:message-lock-lost'));
  ro.got[0].delivery.update(true, ACCEPTED);
  c.close();
  other.close();
});

test('[amqp 87] feedback that is released comes again; accepted it is gone', async () => {
  const d = await newDevice(hub);
  const c = await serviceOnline();
  const r = await attachReceiver(c, FEEDBACK);
  r.add_credit(10);
  const dc = await online(d);
  const rd = await attachReceiver(dc, `/devices/${d.id}/messages/devicebound`, { credit_window: 10, autoaccept: true });
  const became = async (id, nr) => {
    await sendC2d(hub, d.id, { body: 'x', messageId: id, ack: 'full' });
    await waitFor('feedback', () => r.got.length === nr);
    return jsonOf(r.got[nr - 1]);
  };
  const records = await became('m1', 1);
  assert.deepEqual(records.map((x) => [x.originalMessageId, x.statusCode, x.description, x.deviceId]), [['m1', 'Success', 'Success', d.id]]);
  r.got[0].delivery.update(true, RELEASED);
  await waitFor('it again', () => r.got.length === 2);
  assert.deepEqual(jsonOf(r.got[1]), records);
  r.got[1].delivery.update(true, ACCEPTED);
  assert.deepEqual((await became('m2', 3)).map((x) => x.originalMessageId), ['m2']);
  r.got[2].delivery.update(true, ACCEPTED);
  assert.equal(rd.got.length, 2);
  c.close();
  dc.close();
});
