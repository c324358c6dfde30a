// Readers of telemetry, by the Event Hubs SDK over TCP and WebSocket: where they start, groups, owners, the way from the
// hub's own address, runtime metrics, and a hub that is started again beneath them.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, telemetry, waitFor } from './lib/hub.mjs';
import { attachReceiver, attachSender, online, ownerToken, rhea, send, serviceOnline, useHub } from './lib/amqp.mjs';

// The SDK cannot be given a CA: what NODE_EXTRA_CA_CERTS would do, this does.
const secure = tls.createSecureContext;
let extra;
tls.createSecureContext = (options = {}) => secure(options.ca || !extra ? options : { ...options, ca: extra });

const require = createRequire(import.meta.url);
const { EventHubConsumerClient, earliestEventPosition, latestEventPosition } = require('@azure/event-hubs');
const { Connection, ReceiverEvents } = require('rhea-promise');
const ws = require('ws');

let hub, owner;
before(async () => {
  hub = await openHub({ settings: { stream: { consumer_groups: '"alerts"' } } });
  extra = hub.ca;
  owner = hub.connectionString;
  useHub(hub);
});
after(async () => { await closeHub(hub); });

const part = (name) => new RegExp(`${name}=([^;]*)`).exec(owner)[1];
const stringOf = (entity) => `Endpoint=sb://${NAME}/;SharedAccessKeyName=${part('SharedAccessKeyName')};SharedAccessKey=${part('SharedAccessKey')};EntityPath=${entity}`;
const body = (s) => rhea.message.data_section(Buffer.from(s));
const transports = [['tcp', {}], ['websocket', { webSocketOptions: { webSocket: ws } }]];

async function sendAll(d, texts) {
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  for (const t of texts) assert.equal((await send(s, { body: body(t) })).how, 'accepted');
  c.close();
}
const of = (d) => (e) => e.systemProperties['iothub-connection-device-id'] === d.id;

// A reader of one partition: { got, errors, close }.
function reader(options, { group = '$Default', partition, position, owner: ownerLevel, string = stringOf('hub') }) {
  const consumer = new EventHubConsumerClient(group, string, undefined, options);
  const r = { got: [], errors: [] };
  const sub = consumer.subscribe(`${partition}`, { processEvents: async (e) => { r.got.push(...e); }, processError: async (e) => { r.errors.push(e); } },
    { startPosition: position, maxWaitTimeInSeconds: 1, ownerLevel, trackLastEnqueuedEventProperties: true });
  r.close = async () => { await sub.close(); await consumer.close(); };
  return r;
}

for (const [name, options] of transports) {
  test(`from the first, an offset, a number and a time over ${name}`, async () => {
    const d = await newDevice(hub);
    await sendAll(d, ['0', '1', '2', '3']);
    const rows = await telemetry(hub, d.id, 4), partition = rows[0].partition, want = rows.map((r) => r.sequence);
    const read = async (position, nr) => {
      const r = reader(options, { partition, position });
      await waitFor('events', () => r.got.filter(of(d)).length >= nr);
      await r.close();
      assert.deepEqual(r.errors, []);
      return r.got.filter(of(d)).map((e) => e.sequenceNumber);
    };
    assert.deepEqual(await read(earliestEventPosition, 4), want);
    assert.deepEqual(await read({ offset: `${want[1]}` }, 2), want.slice(2));
    assert.deepEqual(await read({ offset: `${want[1]}`, isInclusive: true }, 3), want.slice(1));
    assert.deepEqual(await read({ sequenceNumber: want[2] }, 1), want.slice(3));
    assert.deepEqual(await read({ enqueuedOn: new Date(Date.now() - 3600_000) }, 4), want);
    const latest = reader(options, { partition, position: latestEventPosition });
    const more = setInterval(() => { sendAll(d, ['later']).catch(() => {}); }, 500); // until it reads
    await waitFor('a new one', () => latest.got.some(of(d)));
    clearInterval(more);
    assert.ok(latest.got.filter(of(d)).every((e) => e.sequenceNumber > want[3]));
    await latest.close();
  });

  test(`properties, two groups, and an owner that takes over, over ${name}`, async () => {
    const d = await newDevice(hub);
    await sendAll(d, ['for both']);
    const [{ partition }] = await telemetry(hub, d.id, 1);
    const consumer = new EventHubConsumerClient('$Default', stringOf('hub'), undefined, options);
    const all = await consumer.getEventHubProperties();
    assert.deepEqual([all.name, all.partitionIds], ['hub', ['0', '1', '2', '3']]);
    assert.ok(all.createdOn instanceof Date);
    const one = await consumer.getPartitionProperties(`${partition}`);
    assert.equal(one.isEmpty, false);
    assert.ok(one.lastEnqueuedSequenceNumber >= one.beginningSequenceNumber);
    assert.equal(one.lastEnqueuedOffset, `${one.lastEnqueuedSequenceNumber}`);
    await consumer.close();
    const readers = ['$Default', 'ALERTS'].map((group) => reader(options, { group, partition, position: earliestEventPosition }));
    for (const r of readers) await waitFor('the event', () => r.got.some(of(d)));
    for (const r of readers) await r.close();
    const first = reader(options, { partition, position: earliestEventPosition, owner: 1 });
    await waitFor('events', () => first.got.some(of(d)));
    const second = reader(options, { partition, position: earliestEventPosition, owner: 2 });
    await waitFor('the first to be told', () => first.errors.length > 0);
    assert.equal(first.errors[0].code, 'ReceiverDisconnectedError');
    await waitFor('events', () => second.got.some(of(d)));
    await first.close();
    await second.close();
  });
}

test('[amqp 91] from the hub\'s connection string to a reader, as the samples go', async () => {
  const d = await newDevice(hub);
  await sendAll(d, ['redirected']);
  const label = NAME.split('.')[0];
  const c = new Connection({ transport: 'tls', host: NAME, hostname: NAME, port: 5671, reconnect: false, ca: hub.ca,
    username: `${part('SharedAccessKeyName')}@sas.root.${label}`, password: ownerToken() });
  await c.open();
  const r = await c.createReceiver({ source: { address: `amqps://${NAME}/messages/events/$management` } });
  const e = await new Promise((done) => r.on(ReceiverEvents.receiverError, (context) => done(context.receiver.error))); // only now
  assert.equal(e.condition, 'amqp:link:redirect');
  const [, entity] = /:\d+\/(.*)\/\$management/.exec(e.info.address);
  await c.close();
  const [{ partition }] = await telemetry(hub, d.id, 1);
  const string = stringOf(entity).replace(/sb:\/\/[^/]*/, `sb://${e.info.hostname}`);
  const got = reader({}, { partition, position: earliestEventPosition, string });
  await waitFor('the event', () => got.got.some(of(d)));
  await got.close();
});

test('[amqp 105] the runtime metrics of a partition, in their types', async () => {
  const d = await newDevice(hub);
  await sendAll(d, ['0', '1']);
  const rows = await telemetry(hub, d.id, 2);
  const c = await serviceOnline();
  const r = await attachReceiver(c, `hub/ConsumerGroups/$Default/Partitions/${rows[0].partition}`);
  const raw = [];
  c.socket.on('data', (b) => raw.push(b));
  r.add_credit(1000);
  await waitFor('events', () => r.got.length >= 2);
  const last = r.got[0].message.delivery_annotations;
  assert.deepEqual(Object.keys(last).sort(), ['last_enqueued_offset', 'last_enqueued_sequence_number', 'last_enqueued_time_utc', 'runtime_info_retrieval_time_utc']);
  assert.ok(last.last_enqueued_sequence_number >= rows[1].sequence);
  assert.equal(last.last_enqueued_offset, `${last.last_enqueued_sequence_number}`);
  for (const t of ['last_enqueued_time_utc', 'runtime_info_retrieval_time_utc']) assert.ok(last[t] instanceof Date, t);
  const wire = Buffer.concat(raw);
  const typeOf = (key) => wire[wire.indexOf(key) + key.length];
  assert.ok([0x55, 0x81].includes(typeOf('last_enqueued_sequence_number'))); // long, short or whole
  assert.equal(typeOf('last_enqueued_offset'), 0xa1);
  assert.equal(typeOf('last_enqueued_time_utc'), 0x83);
  const consumer = reader({}, { partition: rows[0].partition, position: earliestEventPosition });
  await waitFor('the event', () => consumer.got.some(of(d)));
  await consumer.close();
  c.close();
});

test('[amqp 108] a hub that is started again: readers go on where they were', async () => {
  const d = await newDevice(hub);
  await sendAll(d, ['before']);
  const [{ partition }] = await telemetry(hub, d.id, 1);
  const readers = transports.map(([, options]) => reader(options, { partition, position: earliestEventPosition }));
  for (const r of readers) await waitFor('the event', () => r.got.some(of(d)));
  await hub.stop();
  await hub.start();
  await sendAll(d, ['after']);
  const bodies = (r) => r.got.filter(of(d)).map((e) => (Buffer.isBuffer(e.body) ? e.body.toString() : e.body));
  for (const r of readers) {
    await waitFor('the next event', () => bodies(r).length >= 2, { timeout: 60_000 });
    assert.deepEqual(bodies(r), ['before', 'after']); // nothing twice
    await r.close();
  }
});
