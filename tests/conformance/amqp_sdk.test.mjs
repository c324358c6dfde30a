// Unmodified SDKs over AMQP: a device, a service, and readers of telemetry, each over TCP and WebSocket.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, telemetry, waitFor } from './lib/hub.mjs';

// The service and telemetry SDKs cannot be given a CA: what NODE_EXTRA_CA_CERTS would do, this does.
const secure = tls.createSecureContext;
let extra;
tls.createSecureContext = (options = {}) => secure(options.ca || !extra ? options : { ...options, ca: extra });

const require = createRequire(import.meta.url);
const { Client, Message } = require('azure-iot-device');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
const service = require('azure-iothub');
const { Message: ServiceMessage } = require('azure-iot-common');
const { EventHubConsumerClient, earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');

let hub, owner;
before(async () => {
  hub = await openHub({ settings: { stream: { consumer_groups: '"alerts, archive"' } } });
  extra = hub.ca;
  owner = hub.connectionString.replace(/HostName=[^;]*/, `HostName=${NAME}`);
});
after(async () => { await closeHub(hub); });

const part = (name) => new RegExp(`${name}=([^;]*)`).exec(owner)[1];
const eventsString = () =>
  `Endpoint=sb://${NAME}/;SharedAccessKeyName=${part('SharedAccessKeyName')};SharedAccessKey=${part('SharedAccessKey')};EntityPath=hub`;

async function device(d, transport) {
  const c = Client.fromConnectionString(d.connectionString, transport);
  await c.setOptions({ ca: hub.ca });
  await c.open();
  return c;
}

for (const [name, transport] of [['tcp', Amqp], ['websocket', AmqpWs]]) {
  test(`[amqp 1] [amqp 45] the device SDK sends telemetry over ${name}`, async () => {
    const d = await newDevice(hub);
    const c = await device(d, transport);
    const m = new Message(JSON.stringify({ t: 21 }));
    m.messageId = 'm1';
    m.contentType = 'application/json';
    m.contentEncoding = 'utf-8';
    m.properties.add('room', 'kitchen');
    await c.sendEvent(m);
    const [row] = await telemetry(hub, d.id, 1);
    assert.equal(row.body, '{"t":21}');
    assert.equal(row.properties.room, 'kitchen');
    assert.equal(row.system['message-id'], 'm1');
    await c.close();
  });
}

test('[amqp 52] two thousand messages at full speed do not stall', async () => {
  const d = await newDevice(hub);
  const c = await device(d, Amqp);
  await Promise.all(Array.from({ length: 2100 }, (_, i) => c.sendEvent(new Message(`${i}`))));
  await c.close();
  const rows = await telemetry(hub, d.id, 2100);
  assert.equal(rows.length, 2100);
});

test('[amqp 59] [amqp 81] a service sends; the device completes, abandons and rejects', async () => {
  const d = await newDevice(hub);
  const s = service.Client.fromConnectionString(owner, service.Amqp);
  await s.open();
  const c = await device(d, Amqp);
  const got = [];
  c.on('message', (m) => got.push(m));
  const m = new ServiceMessage('hello');
  m.messageId = 'c1';
  m.ack = 'full';
  m.properties.add('k', 'v');
  await s.send(d.id, m);
  await waitFor('the message', () => got.length === 1);
  assert.equal(got[0].data.toString(), 'hello');
  assert.equal(got[0].messageId, 'c1');
  assert.equal(got[0].properties.getValue('k'), 'v');
  await c.abandon(got[0]);
  await waitFor('it again', () => got.length === 2);
  assert.equal(got[1].messageId, 'c1');
  await c.complete(got[1]);
  await s.send(d.id, Object.assign(new ServiceMessage('no'), { messageId: 'c2', ack: 'full' }));
  await waitFor('the second', () => got.length === 3);
  await c.reject(got[2]);
  const outcomes = await waitFor('feedback', async () => {
    const f = (await hub.api('GET', '/roost/v1/feedback?after=0')).feedback.filter((x) => x.device === d.id);
    return f.length === 2 && f.map((x) => `${x.messageId} ${x.outcome}`).sort();
  });
  assert.deepEqual(outcomes, ['c1 Success', 'c2 Rejected']);
  await c.close();
  await s.close();
});

test('[amqp 82] [amqp 83] [amqp 85] the service SDK gets the documented errors', async () => {
  const d = await newDevice(hub);
  const s = service.Client.fromConnectionString(owner, service.Amqp);
  await s.open();
  await assert.rejects(s.send('nobody', new ServiceMessage('x')), { name: 'DeviceNotFoundError' });
  await assert.rejects(s.send(d.id, new ServiceMessage(Buffer.alloc(65537))), { name: 'MessageTooLargeError' });
  for (let i = 0; i < 50; i++) await s.send(d.id, new ServiceMessage(`${i}`));
  await assert.rejects(s.send(d.id, new ServiceMessage('one more')), { name: 'DeviceMaximumQueueDepthExceededError' });
  await s.close();
});

test('a pipeline sends to every device in a loop, over WebSocket', async () => {
  const all = [];
  for (let i = 0; i < 20; i++) all.push(await newDevice(hub));
  const s = service.Client.fromConnectionString(owner, service.AmqpWs);
  await s.open();
  for (const d of all) await s.send(d.id, new ServiceMessage('update'));
  await s.close();
});

async function collect(options, position, want, from = eventsString()) {
  const consumer = new EventHubConsumerClient('$Default', from, undefined, options);
  const got = [];
  let failed;
  const sub = consumer.subscribe({
    processEvents: async (events) => { got.push(...events); },
    processError: async (e) => { failed = e; },
  }, { startPosition: position, maxWaitTimeInSeconds: 1 });
  try {
    await waitFor('events', () => { if (failed) throw failed; return want(got); });
  } finally {
    await sub.close();
    await consumer.close();
  }
  return got;
}

const { WebSocket: NodeWebSocket } = globalThis;
let ws;
try { ws = require('ws'); } catch { ws = NodeWebSocket; }
for (const [name, options] of [['tcp', {}], ['websocket', { webSocketOptions: { webSocket: ws } }]]) {
  test(`[amqp 92] [amqp 100] [amqp 106] the Event Hubs SDK reads telemetry over ${name}`, async () => {
    const d = await newDevice(hub);
    const c = await device(d, Amqp);
    const m = new Message('{"v":1}');
    m.contentType = 'application/json';
    m.contentEncoding = 'utf-8';
    m.messageId = 'e1';
    m.properties.add('user', 'value');
    await c.sendEvent(m);
    await c.close();
    const got = await collect(options, earliestEventPosition, (g) => g.some((e) => e.systemProperties['iothub-connection-device-id'] === d.id));
    const e = got.find((x) => x.systemProperties['iothub-connection-device-id'] === d.id);
    assert.deepEqual(e.body, { v: 1 });
    assert.equal(e.properties.user, 'value');
    assert.equal(e.systemProperties['iothub-message-source'], 'Telemetry');
    assert.equal(typeof e.sequenceNumber, 'number');
    assert.equal(typeof e.offset, 'string');
  });
}

test('[amqp 92] [amqp 93] properties of the hub and its partitions', async () => {
  const consumer = new EventHubConsumerClient('$Default', eventsString());
  const p = await consumer.getEventHubProperties();
  assert.deepEqual(p.partitionIds, ['0', '1', '2', '3']);
  const q = await consumer.getPartitionProperties('2');
  assert.equal(q.partitionId, '2');
  assert.equal(typeof q.lastEnqueuedSequenceNumber, 'number');
  await assert.rejects(consumer.getPartitionProperties('99'));
  await consumer.close();
});

test('[amqp 65] [amqp 70] the twin over the device SDK', async () => {
  const d = await newDevice(hub);
  const c = await device(d, Amqp);
  const twin = await c.getTwin();
  assert.equal(twin.properties.desired.$version, 1);
  const told = [];
  twin.on('properties.desired', (delta) => told.push(delta));
  await new Promise((done, fail) => twin.properties.reported.update({ fw: '1.2' }, (e) => (e ? fail(e) : done())));
  const registry = service.Registry.fromConnectionString(owner);
  const { responseBody: seen } = await registry.getTwin(d.id);
  assert.equal(seen.properties.reported.fw, '1.2');
  await seen.update({ properties: { desired: { interval: 5 } } });
  await waitFor('the desired properties', () => told.some((t) => t.interval === 5));
  assert.equal(told.at(-1).$version, 2);
  await c.close();
});

test('[amqp 72] direct methods over the device SDK', async () => {
  const d = await newDevice(hub);
  const c = await device(d, Amqp);
  await new Promise((done) => {
    c.onDeviceMethod('reboot', (req, res) => { res.send(201, { got: req.payload }, () => {}); });
    setImmediate(done);
  });
  const s = service.Client.fromConnectionString(owner);
  const { result } = await waitFor('the device to take calls', () =>
    s.invokeDeviceMethod(d.id, { methodName: 'reboot', payload: { in: 5 }, responseTimeoutInSeconds: 20 }).catch(() => null));
  assert.equal(result.status, 201);
  assert.deepEqual(result.payload, { got: { in: 5 } });
  await c.close();
});

test('[amqp 86] feedback reaches the service SDK', async () => {
  const d = await newDevice(hub);
  const s = service.Client.fromConnectionString(owner, service.Amqp);
  await s.open();
  const records = [];
  const receiver = await new Promise((done, fail) => s.getFeedbackReceiver((e, r) => (e ? fail(e) : done(r))));
  receiver.on('message', (m) => records.push(...JSON.parse(m.data.toString())));
  const c = await device(d, Amqp);
  c.on('message', (m) => c.complete(m));
  await s.send(d.id, Object.assign(new ServiceMessage('x'), { messageId: 'f1', ack: 'full' }));
  const mine = await waitFor('the record', () => records.find((r) => r.deviceId === d.id));
  assert.equal(mine.originalMessageId, 'f1');
  assert.equal(mine.statusCode, 'Success');
  assert.match(mine.enqueuedTimeUtc, /Z$/);
  await c.close();
  await s.close();
});

test('two consumer groups read alike; an owner takes a partition over', async () => {
  const d = await newDevice(hub);
  const c = await device(d, Amqp);
  await c.sendEvent(new Message('for both'));
  await c.close();
  const open = (group, options) => {
    const consumer = new EventHubConsumerClient(group, eventsString());
    const seen = { got: [], errors: [] };
    const sub = consumer.subscribe(options?.partition ?? '0', { processEvents: async (e) => { seen.got.push(...e); }, processError: async (e) => { seen.errors.push(e); } },
      { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1, ownerLevel: options?.owner });
    return { seen, close: async () => { await sub.close(); await consumer.close(); } };
  };
  const row = (await telemetry(hub, d.id, 1))[0];
  const partition = `${row.partition}`;
  const readers = ['alerts', 'Archive', '$Default'].map((g) => open(g, { partition }));
  for (const r of readers) await waitFor('the event', () => r.seen.got.some((e) => e.systemProperties['iothub-connection-device-id'] === d.id));
  for (const r of readers) await r.close();
  const first = open('alerts', { partition, owner: 1 });
  await waitFor('events', () => first.seen.got.length > 0);
  const second = open('alerts', { partition, owner: 2 });
  await waitFor('the first to be told', () => first.seen.errors.length > 0);
  assert.equal(first.seen.errors[0].code, 'ReceiverDisconnectedError');
  await waitFor('events', () => second.seen.got.length > 0);
  await first.close();
  await second.close();
});

test('[amqp 98] positions by sequence number, offset and time', async () => {
  const d = await newDevice(hub);
  const c = await device(d, Amqp);
  for (let i = 0; i < 4; i++) await c.sendEvent(new Message(`${i}`));
  await c.close();
  const rows = await telemetry(hub, d.id, 4);
  const mine = (g) => g.filter((e) => e.systemProperties['iothub-connection-device-id'] === d.id);
  const one = async (position, nr = 2) => {
    const consumer = new EventHubConsumerClient('$Default', eventsString());
    const got = [];
    const sub = consumer.subscribe(`${rows[0].partition}`, { processEvents: async (e) => { got.push(...e); }, processError: async () => {} }, { startPosition: position, maxWaitTimeInSeconds: 1 });
    await waitFor('events', () => mine(got).length >= nr);
    await sub.close();
    await consumer.close();
    return mine(got).map((e) => e.sequenceNumber);
  };
  const want = rows.map((r) => r.sequence);
  assert.deepEqual(await one({ sequenceNumber: want[1] }), want.slice(2));
  assert.deepEqual(await one({ sequenceNumber: want[1], isInclusive: true }, 3), want.slice(1));
  assert.deepEqual(await one({ offset: `${want[1]}` }), want.slice(2));
  assert.deepEqual(await one({ enqueuedOn: new Date(Date.now() - 3600_000) }, 4), want);
});
