// What AMQP peers do that SDKs rarely show: WebSocket frames, deadlines, sections out of order, thousands of tokens, links
// that come and go; and Qpid Proton as one more client.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, parseConnectionString, run, sendC2d, telemetry, waitFor } from './lib/hub.mjs';
import { attachReceiver, attachSender, cbs, deviceToken, dial, frame, framesOf, HEADER, list, NULL, online, ownerToken, rhea, send, serviceOnline, socket, text, useHub } from './lib/amqp.mjs';

const require = createRequire(import.meta.url);
const WebSocket = require('ws');

let hub;
before(async () => {
  hub = await openHub({ settings: { deadlines: { first_packet_s: 3 } } });
  useHub(hub);
});
after(async () => { await closeHub(hub); });

const body = (s) => rhea.message.data_section(Buffer.from(s));

function webSocket(path) {
  return new Promise((done, fail) => {
    const w = new WebSocket(`wss://${NAME}:${hub.https}${path}`, ['AMQPWSB10'], { ca: hub.ca, perMessageDeflate: false });
    w.bytes = Buffer.alloc(0);
    w.on('message', (d) => { w.bytes = Buffer.concat([w.bytes, d]); });
    w.on('open', () => done(w));
    w.on('error', fail);
  });
}

test('[amqp 10] [amqp 11] [amqp 12] WebSockets on every path; frames cut to bytes, and joined', async () => {
  const open = Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c'), text(0xa1, NAME)))]);
  for (const path of ['/$iothub/websocket', '/%24iothub/websocket?iothub-no-client-cert=true', '/$servicebus/websocket', '/$servicebus/websocket/']) {
    const w = await webSocket(path);
    assert.equal(w.protocol, 'AMQPWSB10');
    for (const b of open) w.send(Buffer.from([b]));
    await waitFor('an open', () => framesOf(w.bytes).some((f) => f.code === 0x10));
    const begins = Array.from({ length: 10 }, (_, i) => frame(0x11, list(NULL, Buffer.from([0x43]), Buffer.from([0x52, 100]), Buffer.from([0x52, 100])), { channel: i }));
    w.send(Buffer.concat(begins));
    await waitFor('ten begins', () => framesOf(w.bytes).filter((f) => f.code === 0x11).length === 10);
    w.terminate();
  }
});

test('[amqp 14] who opens nothing, or proves nothing, is closed', async () => {
  const silent = await socket(), opened = await socket();
  opened.write(Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c')))]));
  await waitFor('both to end', () => silent.ended && opened.ended);
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const late = await socket(); // a deadline passes while the good one stays
  await waitFor('another to end', () => late.ended);
  assert.equal((await send(s, { body: body('still here') })).how, 'accepted');
  c.close();
});

test('[amqp 29] a token put before there is credit for the answer is answered when it comes', async () => {
  const d = await newDevice(hub);
  const c = await dial();
  const sender = await attachSender(c, '$cbs');
  const receiver = await attachReceiver(c, '$cbs', { autoaccept: true });
  const accepted = send(sender, { message_id: 'early', application_properties: { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: 'x' }, body: deviceToken(d) });
  assert.equal((await accepted).how, 'accepted');
  assert.equal(receiver.got.length, 0);
  receiver.add_credit(1);
  await waitFor('the answer', () => receiver.got.length === 1);
  assert.equal(receiver.got[0].message.correlation_id, 'early');
  c.close();
});

test('[amqp 41] [amqp 42] $cbs on both termini; three thousand tokens on one connection', async () => {
  const d = await newDevice(hub);
  const c = await dial();
  const sender = await new Promise((done) => { const s = c.open_sender({ source: '$cbs', target: '$cbs', name: '$cbs-sender' }); s.once('sendable', () => done(s)); });
  const receiver = await attachReceiver(c, '$cbs', { target: '$cbs', name: '$cbs-receiver', autoaccept: true, credit_window: 100 });
  const token = deviceToken(d);
  let left = 3000, settled = 0;
  sender.on('accepted', () => { settled++; });
  const more = () => { while (left && sender.sendable()) { left--; sender.send({ message_id: `${left}`, application_properties: { operation: 'put-token', type: 'jwt', name: 'x' }, body: token }); } };
  sender.on('sendable', more);
  more();
  await waitFor('all answers', () => receiver.got.length === 3000 && settled === 3000);
  assert.ok(receiver.got.every((g) => g.message.application_properties['status-code'] === 200));
  c.close();
});

test('[amqp 48] sections out of the normal order are taken', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const section = (code, value) => Buffer.concat([Buffer.from([0, 0x53, code]), value]);
  const map = (key, value) => { const b = Buffer.concat([key, value]); return Buffer.concat([Buffer.from([0xc1, b.length + 1, 2]), b]); };
  const data = section(0x75, Buffer.from('\xa0\x01x', 'latin1')), whole = section(0x74, map(text(0xa1, 'k'), text(0xa1, 'v')));
  const ann = section(0x72, map(text(0xa3, 'dt-subject'), text(0xa1, 'thermostat')));
  assert.equal((await send(s, Buffer.concat([data, whole, ann]), { format: 0 })).how, 'accepted');
  const [row] = await telemetry(hub, d.id, 1);
  assert.equal(row.properties.k, 'v');
  assert.equal(row.system['dt-subject'], 'thermostat');
  c.close();
});

test('[amqp 77] [amqp 78] [amqp 79] links detach in kind, names are used again; ends without detaches, and resets, free all', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  for (const closed of [true, false, true]) {
    const s = await attachSender(c, `/devices/${d.id}/messages/events`, { name: 'same' });
    const gone = new Promise((done) => s.once('sender_close', done).once('sender_detached', done));
    if (closed) s.close(); else s.detach();
    await gone;
  }
  const connected = async () => (await hub.api('GET', `/roost/v1/devices/${d.id}`)).connected;
  const session = c.create_session();
  session.begin();
  await attachSender(session, `/devices/${d.id}/messages/events`, { name: 'same' });
  await waitFor('it to count as connected', async () => (await connected()) === true);
  session.close();
  await waitFor('it to count as gone', async () => (await connected()) === false);
  await attachSender(c, `/devices/${d.id}/messages/events`);
  await waitFor('it to count as connected', async () => (await connected()) === true);
  c.socket.destroy();
  clearTimeout(c.heartbeat_in); // it was not told of its end, and would wait for life
  clearTimeout(c.heartbeat_out);
  await waitFor('it to count as gone', async () => (await connected()) === false);
});

test('the model that a link names is on the twin and on telemetry; a newer one takes its place', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const modelId = async () => (await hub.api('GET', `/twins/${d.id}?api-version=2021-04-12`)).modelId;
  for (const [model, address] of [['dtmi:com:example:Thermostat;1', 'messages/devicebound'], ['dtmi:com:example:Thermostat;2', 'messages/events']]) {
    const link = { properties: { 'com.microsoft:model-id': model }, name: model };
    const s = await (address.endsWith('events') ? attachSender : attachReceiver)(c, `/devices/${d.id}/${address}`, link);
    await waitFor('the twin to have it', async () => (await modelId()) === model);
    if (address.endsWith('events')) assert.equal((await send(s, { body: body('x') })).how, 'accepted');
  }
  const [row] = await telemetry(hub, d.id, 1);
  assert.equal(row.system['dt-dataschema'], 'dtmi:com:example:Thermostat;2');
  await attachSender(c, `/devices/${d.id}/twin`, { properties: { 'com.microsoft:model-id': `dtmi:${'x'.repeat(300)};1` } }); // longer than any real one
  const t = await attachSender(c, `/devices/${d.id}/messages/events`);
  assert.equal((await send(t, { body: body('y') })).how, 'accepted');
  assert.equal(await modelId(), 'dtmi:com:example:Thermostat;2');
  c.close();
});

// What a property is called in each protocol: MQTT bag, AMQP section and name, what a reader of telemetry sees.
const properties = [
  ['$.mid', 'message_id', 'message_id'], ['$.cid', 'correlation_id', 'correlation_id'], ['$.uid', 'user_id', 'user_id'],
  ['$.ct', 'content_type', 'content_type'], ['$.ce', 'content_encoding', 'content_encoding'],
  ['$.ctime', 'a:iothub-creation-time-utc', 'a:iothub-creation-time-utc'], ['$.schema', 'a:iothub-message-schema', 'a:iothub-message-schema'],
  ['iothub-operation', 'a:iothub-operation', 'a:iothub-operation'],
  ['$.on', 'a:iothub-outputname', 'a:iothub-outputname'], ['$.ifid', 'm:iothub-interface-id', 'm:iothub-interface-id'],
  ['$.sub', 'm:dt-subject', 'm:dt-subject'], ['$.diagid', 'm:Diagnostic-Id', 'm:Diagnostic-Id'],
  ['$.diagctx', 'm:Correlation-Context', 'm:Correlation-Context'], ['room', 'a:room', 'a:room'],
];

test('every property of a message is the same through MQTT and AMQP', async () => {
  const { connected } = await import('./lib/raw.mjs');
  const viaMqtt = await newDevice(hub), viaAmqp = await newDevice(hub);
  const value = (name) => `v ${name}/${/c[te]$/.test(name) ? '' : 'ü'}&=`; // content types are ASCII
  const m = await connected(hub, viaMqtt);
  await m.publish(`devices/${viaMqtt.id}/messages/events/${properties.map(([bag]) => `${encodeURIComponent(bag)}=${encodeURIComponent(value(bag))}`).join('&')}`, 'x');
  const c = await online(viaAmqp);
  const s = await attachSender(c, `/devices/${viaAmqp.id}/messages/events`);
  const message = { body: body('x'), application_properties: {}, message_annotations: {} };
  for (const [bag, place] of properties)
    if (place.startsWith('a:')) message.application_properties[place.slice(2)] = value(bag);
    else if (place.startsWith('m:')) message.message_annotations[place.slice(2)] = value(bag);
    else message[place] = place === 'user_id' ? Buffer.from(value(bag)) : value(bag);
  assert.equal((await send(s, message)).how, 'accepted');
  const [one] = await telemetry(hub, viaMqtt.id, 1), [two] = await telemetry(hub, viaAmqp.id, 1);
  const ours = (row) => Object.fromEntries(Object.entries(row.system).filter(([, v]) => String(v).startsWith('v ')));
  assert.deepEqual(ours(two), ours(one));
  assert.deepEqual(two.properties, one.properties);
  assert.equal(Object.keys(ours(one)).length, properties.length - 1);
  const reading = await serviceOnline();
  for (const [d, row] of [[viaMqtt, one], [viaAmqp, two]]) {
    const r = await attachReceiver(reading, `hub/ConsumerGroups/$Default/Partitions/${row.partition}`);
    r.add_credit(1000);
    const got = await waitFor('the event', () => r.got.map((g) => g.message).find((x) => x.message_annotations['iothub-connection-device-id'] === d.id));
    for (const [bag, , place] of properties) {
      const seen = place.startsWith('a:') ? got.application_properties[place.slice(2)] : place.startsWith('m:') ? got.message_annotations[place.slice(2)] : got[place];
      assert.equal(`${seen}`, value(bag), `${bag} as ${place}`);
    }
    assert.equal(got.delivery_annotations.last_enqueued_offset !== undefined, true);
    r.close();
  }
  reading.close();
  c.close();
  await m.disconnect();
});

test('Qpid Proton sends telemetry, takes a command and reads both', { skip: !hasProton() }, async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'command' });
  const program = `
import sys
from proton import Message, SSLDomain
from proton.utils import BlockingConnection
port, user, token, ca, device = sys.argv[1:]
domain = SSLDomain(SSLDomain.MODE_CLIENT)
domain.set_trusted_ca_db(ca)
domain.set_peer_authentication(SSLDomain.ANONYMOUS_PEER)
c = BlockingConnection('amqps://127.0.0.1:' + port, timeout=20, ssl_domain=domain, user=user, password=token, allowed_mechs='PLAIN', virtual_host='${NAME}')
s = c.create_sender('/devices/%s/messages/events' % device)
s.send(Message(body=b'from proton', properties={'k': 'v'}))
r = c.create_receiver('/devices/%s/messages/devicebound' % device, credit=1)
m = r.receive(timeout=20)
r.accept()
print(bytes(m.body).decode())
c.close()
`;
  const { stdout } = await run('/usr/bin/python3', ['-c', program, `${hub.amqp}`, `${d.id}@sas.${NAME}`, deviceToken(d), hub.caFile, d.id], { timeout: 60_000 });
  assert.equal(stdout.trim(), 'command');
  const [row] = await telemetry(hub, d.id, 1);
  assert.equal(row.body, 'from proton');
  assert.equal(row.properties.k, 'v');
});

function hasProton() {
  try {
    execFileSync('/usr/bin/python3', ['-c', 'import proton'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
