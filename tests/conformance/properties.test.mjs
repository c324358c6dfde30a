// Every system and application property through each protocol, read through each other: one table for telemetry, one
// for commands. A row says how a sender writes the property in each protocol and what each reader has to see, exactly.
// Section 15 of the AMQP notes: "-" there is a missing member here.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken, NAME, newDevice, openHub, parseConnectionString, sasToken, telemetry } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const require = createRequire(import.meta.url);
const rhea = require('rhea');

let hub, policy;
const open = [];
before(async () => {
  hub = await openHub();
  policy = parseConnectionString(hub.connectionString);
});
after(async () => {
  for (const c of open) c.close();
  await closeHub(hub);
});

const V = 'api-version=2021-04-12';

async function amqp(username, password) {
  const container = rhea.create_container();
  const c = container.connect({ host: NAME, port: 5671, transport: 'tls', servername: NAME, ca: hub.ca, reconnect: false, username, password });
  await new Promise((done, fail) => { container.once('connection_open', done); container.once('disconnected', fail); });
  open.push(c);
  return c;
}
const amqpDevice = (d) => amqp(`${d.id}@sas.hub`, deviceToken(d));
const amqpService = () => amqp(`${policy.SharedAccessKeyName}@sas.root.hub`, sasToken(NAME, policy.SharedAccessKey, policy.SharedAccessKeyName));

function amqpSend(c, address, message) {
  const s = c.open_sender({ target: address });
  return new Promise((done, fail) => {
    s.once('sendable', () => s.send(message));
    s.once('accepted', () => { s.close(); done(); });
    for (const e of ['rejected', 'released', 'sender_error']) s.once(e, (ctx) => fail(new Error(`${e}: ${ctx.delivery?.remote_state?.error ?? s.error}`)));
  });
}
async function amqpReceive(c, source) {
  const r = c.open_receiver({ source, credit_window: 10 });
  return new Promise((done, fail) => {
    r.once('message', (ctx) => { done(ctx.message); r.close(); });
    r.once('receiver_error', () => fail(r.error));
  });
}

// ---- telemetry -----------------------------------------------------------------------------------------------

const time = '2031-02-03T04:05:06.7890000Z'; // text stays as it was sent; a timestamp of AMQP gets this form
const odd = 'a b&c=d%e+f/g?h;i,j"k';
const system = (name, value, { mqtt, amqp, http }) => ({ name, value, mqtt, amqp, http, stored: { system: { [name]: value } } });
const app = (name, value, http = true) => ({ name: `property ${JSON.stringify(name)}`, value, mqtt: name, amqp: { application: { [name]: value } },
  http: http ? `iothub-app-${name}` : undefined, stored: { properties: { [name]: value } }, read: { application: { [name]: value } } });
const telemetryRows = [
  system('message-id', 'm-1:2(3)@4', { mqtt: '$.mid', amqp: { message_id: 'm-1:2(3)@4' }, http: 'iothub-messageid' }),
  system('correlation-id', odd, { mqtt: '$.cid', amqp: { correlation_id: odd }, http: 'iothub-correlationid' }),
  system('user-id', 'someone', { mqtt: '$.uid', amqp: { user_id: Buffer.from('someone') }, http: 'iothub-userid' }),
  system('to', '/elsewhere', { mqtt: '$.to', amqp: { to: '/elsewhere' } }), // a header iothub-to is not read
  system('absolute-expiry-time', time, { mqtt: '$.exp', amqp: { absolute_expiry_time: new Date(time) }, http: 'iothub-expiry' }),
  system('content-type', 'application/json', { mqtt: '$.ct', amqp: { content_type: 'application/json' }, http: 'iothub-contenttype' }),
  system('content-encoding', 'utf-8', { mqtt: '$.ce', amqp: { content_encoding: 'utf-8' }, http: 'iothub-contentencoding' }),
  system('iothub-creation-time-utc', time, { mqtt: '$.ctime', amqp: { application: { 'iothub-creation-time-utc': time } }, http: 'iothub-creationtimeutc' }),
  system('iothub-message-schema', 'v7', { mqtt: '$.schema', amqp: { application: { 'iothub-message-schema': 'v7' } }, http: 'iothub-messageschema' }),
  system('iothub-outputname', 'alerts', { mqtt: '$.on', amqp: { application: { 'iothub-outputname': 'alerts' } } }),
  system('iothub-interface-id', 'urn:x:y:1', { mqtt: '$.ifid', amqp: { annotations: { 'iothub-interface-id': 'urn:x:y:1' } }, http: 'iothub-interface-id' }),
  system('dt-subject', 'thermostat', { mqtt: '$.sub', amqp: { annotations: { 'dt-subject': 'thermostat' } }, http: 'dt-subject' }),
  system('diagnostic-id', '12345678', { mqtt: '$.diagid', amqp: { annotations: { 'Diagnostic-Id': '12345678' } } }),
  system('diagnostic-correlation-context', 'creationtimeutc=1', { mqtt: '$.diagctx', amqp: { annotations: { 'Correlation-Context': 'creationtimeutc=1' } } }),
  system('iothub-ack', 'full', { mqtt: 'iothub-ack', amqp: { application: { 'iothub-ack': 'full' } }, http: 'iothub-ack' }),
  app('plain', 'value'),
  app('Case-Kept', odd),
  app('empty', '', false), // an empty header field is none
  app('with space/and&more=', odd, false),
  app('ключ', 'ü €', false),
  app('dt-subject-of-mine', 'x'),
];
const readOf = (row) => row.read ?? row.amqp;

const D2C = {
  async mqtt(d, row) {
    const c = await connected(hub, d);
    await c.publish(`devices/${d.id}/messages/events/${encodeURIComponent(row.mqtt)}=${encodeURIComponent(row.value)}`, 'body');
    await c.disconnect();
  },
  async amqp(d, row) {
    const { application, annotations, ...properties } = row.amqp;
    await amqpSend(await amqpDevice(d), `/devices/${d.id}/messages/events`, { body: rhea.message.data_section(Buffer.from('body')),
      ...properties, ...(application ? { application_properties: application } : {}), ...(annotations ? { message_annotations: annotations } : {}) });
  },
  async http(d, row) {
    const r = await hub.request('POST', `/devices/${d.id}/messages/events?${V}`, { token: deviceToken(d), body: 'body', headers: { [row.http]: row.value } });
    assert.equal(r.status, 204, r.body.toString());
  },
};

// What a reader of the Event-Hubs-compatible endpoint sees of the device's one message.
async function readAmqp(d, partition, sequence) {
  return amqpReceive(await amqpService(), { address: `hub/ConsumerGroups/$Default/Partitions/${partition}`,
    filter: rhea.filter.selector(`amqp.annotation.x-opt-sequence-number >= '${sequence}'`) });
}
const stamps = ['iothub-connection-device-id', 'iothub-connection-auth-generation-id', 'iothub-connection-auth-method', 'iothub-message-source'];
function seenOf(m) {
  const annotations = Object.fromEntries(Object.entries(m.message_annotations ?? {}).filter(([k]) => !stamps.includes(k) && !/^x-opt-|^iothub-(enqueuedtime|deliverycount)$/.test(k)));
  const out = {};
  for (const k of ['message_id', 'user_id', 'to', 'correlation_id', 'content_type', 'content_encoding', 'absolute_expiry_time'])
    if (m[k] !== undefined && m[k] !== null) out[k] = m[k];
  if (out.absolute_expiry_time !== undefined) out.absolute_expiry_time = new Date(out.absolute_expiry_time);
  if (Object.keys(annotations).length) out.annotations = annotations;
  if (m.application_properties && Object.keys(m.application_properties).length) out.application = { ...m.application_properties };
  return out;
}

for (const from of Object.keys(D2C))
  test(`telemetry sent over ${from}: each property as each reader has to see it`, async () => {
    for (const row of telemetryRows.filter((r) => r[from] !== undefined)) {
      const d = await newDevice(hub), what = `${row.name} over ${from}`;
      await D2C[from](d, row);
      const [r] = await telemetry(hub, d.id, 1);
      const own = Object.fromEntries(Object.entries(r.system).filter(([k]) => !stamps.includes(k)));
      assert.deepEqual({ system: own, properties: r.properties }, { system: {}, properties: {}, ...row.stored }, what);
      assert.equal(r.body, 'body', what);
      const m = await readAmqp(d, r.partition, r.sequence);
      assert.equal(m.message_annotations['iothub-connection-device-id'], d.id, what);
      assert.deepEqual(seenOf(m), { to: `/devices/${d.id}/messages/events`, ...readOf(row) }, `${what}, read over AMQP`);
      assert.equal(m.body.content.toString(), 'body', what);
    }
  });

// ---- commands ------------------------------------------------------------------------------------------------

// amqp and http: how a service says it; the others: what a device has to see.
const c2dRows = [
  { name: 'message id', amqp: { message_id: 'c-1:2' }, http: { messageId: 'c-1:2' }, mqtt: { '$.mid': 'c-1:2' }, field: { 'iothub-messageid': 'c-1:2' } },
  { name: 'correlation id', amqp: { correlation_id: odd }, http: { correlationId: odd }, mqtt: { '$.cid': odd }, field: { 'iothub-correlationid': odd } },
  { name: 'user id', amqp: { user_id: Buffer.from('ops') }, mqtt: { '$.uid': 'ops' }, field: { 'iothub-userid': 'ops' } },
  { name: 'content type', amqp: { content_type: 'application/json' }, http: { contentType: 'application/json' }, mqtt: { '$.ct': 'application/json' }, field: { 'iothub-contenttype': 'application/json', contenttype: 'application/json' } },
  { name: 'content encoding', amqp: { content_encoding: 'utf-8' }, http: { contentEncoding: 'utf-8' }, mqtt: { '$.ce': 'utf-8' }, field: { 'iothub-contentencoding': 'utf-8', contentencoding: 'utf-8' } },
  ...['positive', 'negative', 'full'].map((ack) => ({ name: `ack ${ack}`, amqp: { application: { 'iothub-ack': ack } }, http: { ack }, mqtt: { 'iothub-ack': ack }, field: { 'iothub-ack': ack } })),
  { name: 'property', amqp: { application: { Plain: 'value' } }, http: { properties: { Plain: 'value' } }, mqtt: { Plain: 'value' }, field: { 'iothub-app-plain': 'value' } },
  { name: 'odd property', amqp: { application: { 'a-b': odd } }, http: { properties: { 'a-b': odd } }, mqtt: { 'a-b': odd }, field: { 'iothub-app-a-b': odd } },
  { name: 'property of other letters', amqp: { application: { 'ключ &': 'ü €' } }, http: { properties: { 'ключ &': 'ü €' } }, mqtt: { 'ключ &': 'ü €' } },
  { name: 'number', only: 'amqp', amqp: { application: { n: 42 } }, mqtt: { n: '42' }, field: { 'iothub-app-n': '42' }, seen: { application: { n: '42' } } },
  { name: 'boolean', only: 'amqp', amqp: { application: { b: true } }, mqtt: { b: 'true' }, field: { 'iothub-app-b': 'true' }, seen: { application: { b: 'true' } } },
];

const C2D = {
  async amqp(d, row) {
    const { application, ...properties } = row.amqp;
    await amqpSend(await amqpService(), '/messages/devicebound', { to: `/devices/${d.id}/messages/devicebound`, body: rhea.message.data_section(Buffer.from('do')),
      ...properties, ...(application ? { application_properties: application } : {}) });
  },
  async http(d, row) {
    await hub.api('POST', `/roost/v1/devices/${d.id}/messages`, { body: 'do', ...row.http });
  },
};
const expiry = (at) => at === undefined || /^\d{4}-\d\d-\d\dT/.test(at);
const fixed = ['$.to', '$.exp', '$.mid'];
const RECEIVE = {
  async mqtt(d, row, { madeId }) {
    const c = await connected(hub, d);
    await c.subscribe(`devices/${d.id}/messages/devicebound/#`);
    const p = await c.expect('publish');
    c.puback(p);
    await c.disconnect();
    const bag = Object.fromEntries(p.topic.slice(`devices/${d.id}/messages/devicebound/`.length).split('&').map((i) => i.split('=').map(decodeURIComponent)));
    assert.equal(bag['$.to'], `/devices/${d.id}/messages/devicebound`);
    assert.ok(expiry(bag['$.exp']), bag['$.exp']);
    const rest = Object.fromEntries(Object.entries(bag).filter(([k]) => !fixed.includes(k) || (k === '$.mid' && !madeId)));
    assert.deepEqual(rest, row.mqtt);
    assert.equal(p.payload.toString(), 'do');
  },
  async amqp(d, row, { madeId }) {
    const m = await amqpReceive(await amqpDevice(d), `/devices/${d.id}/messages/devicebound`);
    const { to, absolute_expiry_time: at, ...rest } = seenOf(m);
    assert.equal(m.message_annotations['iothub-deliverycount'], 0);
    assert.equal(to, `/devices/${d.id}/messages/devicebound`);
    assert.ok(at === undefined || at instanceof Date);
    if (madeId) delete rest.message_id;
    assert.deepEqual(rest, row.seen ?? row.amqp);
    assert.equal(m.body.content.toString(), 'do');
  },
  async http(d, row, { madeId }) {
    if (!row.field) return; // a header cannot say it
    const r = await hub.request('GET', `/devices/${d.id}/messages/deviceBound?${V}`, { token: deviceToken(d) });
    assert.equal(r.status, 200);
    const given = ['iothub-to', 'iothub-sequencenumber', 'iothub-deliverycount', 'iothub-enqueuedtime', 'iothub-expiry', ...(madeId ? ['iothub-messageid'] : [])];
    const seen = Object.fromEntries(Object.entries(r.headers).filter(([k]) => /^(iothub-|contenttype$|contentencoding$)/.test(k) && !given.includes(k)));
    if (row.field['iothub-ack'] === undefined) delete seen['iothub-ack'];
    assert.equal(r.headers['iothub-to'], `/devices/${d.id}/messages/devicebound`);
    assert.deepEqual(seen, row.field);
    assert.equal(r.body.toString(), 'do');
  },
};

for (const from of Object.keys(C2D))
  for (const to of Object.keys(RECEIVE))
    test(`commands sent over ${from}, received over ${to}: each property exact`, async () => {
      for (const row of c2dRows.filter((r) => r[from] !== undefined)) {
        const d = await newDevice(hub);
        await C2D[from](d, row);
        await assert.doesNotReject(RECEIVE[to](d, row, { madeId: from === 'http' && !row.http.messageId }), `${row.name}`);
      }
    });

test('the expiry of a command is the same moment in all three', async () => {
  const at = new Date(Math.floor(Date.now() / 1000) * 1000 + 600_000);
  const send = async (d) => amqpSend(await amqpService(), '/messages/devicebound', { to: `/devices/${d.id}/messages/devicebound`, absolute_expiry_time: at, body: rhea.message.data_section(Buffer.from('do')) });
  const m = await newDevice(hub), a = await newDevice(hub), h = await newDevice(hub);
  for (const d of [m, a, h]) await send(d);
  const c = await connected(hub, m);
  await c.subscribe(`devices/${m.id}/messages/devicebound/#`);
  const topic = decodeURIComponent((await c.expect('publish')).topic);
  assert.equal(Date.parse(/\$\.exp=([^&]*)/.exec(topic)[1]), +at);
  await c.disconnect();
  assert.equal(+new Date((await amqpReceive(await amqpDevice(a), `/devices/${a.id}/messages/devicebound`)).absolute_expiry_time), +at);
  const r = await hub.request('GET', `/devices/${h.id}/messages/deviceBound?${V}`, { token: deviceToken(h) });
  assert.equal(Date.parse(r.headers['iothub-expiry']), +at);
});
