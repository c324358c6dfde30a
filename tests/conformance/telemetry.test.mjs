// Device-to-cloud messages, by hand-made topics, as they arrive in the stream.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, newDevice, openHub, telemetry, waitFor } from './lib/hub.mjs';
import { connected, packet } from './lib/raw.mjs';

let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });

const events = (d, bag = '') => `devices/${d.id}/messages/events/${bag}`;

test('[mqtt 59] all five forms of the telemetry topic', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  const base = `devices/${d.id}/messages/events`;
  for (const tail of ['', '/', '/a=b', '/a=b/', '/?a=b']) await c.publish(base + tail, tail);
  await c.disconnect();
  const rows = await telemetry(hub, d.id, 5);
  assert.deepEqual(rows.map((r) => r.body), ['', '/', '/a=b', '/a=b/', '/?a=b']);
  assert.deepEqual(rows.map((r) => r.properties?.a ?? null), [null, null, 'b', 'b', 'b']);
});

test('[mqtt 60] [mqtt 61] [mqtt 62] [mqtt 67] properties in every spelling', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.publish(events(d, '%24.ct=application%2Fjson&%24.ce=utf-8&%24.mid=m%201&%24.cid=c'), '{}');
  await c.publish(events(d, '$.ct=application%2Fjson&$.sub=thermostat1'), '{}');
  await c.publish(events(d, 'a%20b=c%2Fd&a+b=1+1&flag&empty=&%D0%BA=%C3%BC&x=%zz&eq=a=b'), 'x');
  await c.disconnect();
  const [one, two, three] = await telemetry(hub, d.id, 3);
  assert.equal(one.system['content-type'], 'application/json');
  assert.equal(one.system['content-encoding'], 'utf-8');
  assert.equal(one.system['message-id'], 'm 1');
  assert.equal(one.system['correlation-id'], 'c');
  assert.deepEqual(one.properties ?? {}, {});
  assert.equal(two.system['content-type'], 'application/json');
  assert.equal(two.system['dt-subject'], 'thermostat1');
  assert.deepEqual(three.properties, { 'a b': 'c/d', 'a+b': '1+1', flag: null, empty: '', 'к': 'ü', x: '%zz', eq: 'a=b' });
});

test('what the hub stamps', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  const before = Date.now() - 1;
  await c.publish(events(d), 'x');
  await c.disconnect();
  const [r] = await telemetry(hub, d.id, 1);
  assert.equal(r.device, d.id);
  assert.equal(r.system['iothub-connection-device-id'], d.id);
  assert.ok(r.system['iothub-connection-auth-generation-id']);
  const method = JSON.parse(r.system['iothub-connection-auth-method']);
  assert.equal(method.scope, 'device');
  assert.equal(method.type, 'sas');
  assert.equal(r.system['iothub-message-source'], 'Telemetry');
  assert.ok(Date.parse(r.enqueued) >= before && Date.parse(r.enqueued) <= Date.now());
});

test('[mqtt 63] QoS 1 is acknowledged when it is in the stream; QoS 0 gets no reply', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.publish(events(d), 'one');
  assert.equal((await telemetry(hub, d.id)).length, 1, 'there as soon as it is acknowledged');
  c.send({ cmd: 'publish', topic: events(d), payload: 'zero', qos: 0 });
  await c.quiet();
  await telemetry(hub, d.id, 2);
  await c.disconnect();
});

test('[mqtt 64] QoS 2 closes the connection', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  c.send({ cmd: 'publish', topic: events(d), payload: 'x', qos: 2, messageId: 1 });
  await c.expectClose();
  assert.equal((await telemetry(hub, d.id)).length, 0);
});

test('[mqtt 65] 262144 bytes are taken, one more closes the connection; properties count', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.publish(events(d), Buffer.alloc(262144, 'x'));
  await c.publish(events(d, 'ab=cde'), Buffer.alloc(262144 - 5, 'x'));
  c.send({ cmd: 'publish', topic: events(d), payload: Buffer.alloc(262145, 'x'), qos: 1, messageId: 9 });
  await c.expectClose();
  c = await connected(hub, d);
  c.send({ cmd: 'publish', topic: events(d, 'ab=cde'), payload: Buffer.alloc(262144 - 4, 'x'), qos: 1, messageId: 9 });
  await c.expectClose();
  assert.equal((await telemetry(hub, d.id, 2)).length, 2);
});

test('a packet that announces more than the largest message is refused before it comes', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  c.write(Buffer.from([0x32, 0xff, 0xff, 0xff, 0x7f]));
  await c.expectClose();
});

test('[mqtt 66] RETAIN is told and nothing is retained; DUP is told', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.publish(events(d), 'x', { retain: true });
  await c.publish(events(d), 'x', { dup: true });
  await c.subscribe('#');
  await c.quiet();
  await c.disconnect();
  const rows = await telemetry(hub, d.id, 2);
  assert.equal(rows[0].properties['mqtt-retain'], 'true');
  assert.equal(rows[1].properties['mqtt-dup'], 'true');
});

for (const [tag, what, topic] of [['[mqtt 68]', 'of another device', 'devices/nobody/messages/events/'], ['[mqtt 69]', 'of nobody', 'foo/bar'],
  ['[mqtt 69]', 'of the broker', '$SYS/x'], ['[mqtt 69]', 'unknown under $iothub', '$iothub/twin/FOO'], ['[mqtt 69]', 'with a wildcard', 'devices/+/messages/events/']])
  test(`${tag} a topic ${what} closes the connection`, async () => {
    const d = await newDevice(hub);
    const c = await connected(hub, d);
    // by hand: a library would refuse the wildcard itself
    c.write(Buffer.concat([Buffer.from([0x32, 4 + topic.length + 1, 0, topic.length]), Buffer.from(topic), Buffer.from([0, 1, 0x78])]));
    await c.expectClose();
  });

test('[mqtt 70] twenty pipelined publishes are acknowledged in order', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  c.write(Buffer.concat(Array.from({ length: 20 }, (_, i) => packet({ cmd: 'publish', topic: events(d), payload: `${i}`, qos: 1, messageId: 500 - i }))));
  for (let i = 0; i < 20; i++) assert.equal((await c.expect('puback')).messageId, 500 - i);
  await c.disconnect();
  assert.deepEqual((await telemetry(hub, d.id, 20)).map((r) => r.body), Array.from({ length: 20 }, (_, i) => `${i}`));
});

test('[mqtt 71] an empty payload', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.publish(events(d, 'a=b'), '');
  await c.disconnect();
  const [r] = await telemetry(hub, d.id, 1);
  assert.equal(r.body ?? r.bodyBase64, '');
});

test('any bytes arrive as they were sent', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  await c.publish(events(d), all);
  await c.disconnect();
  const [r] = await telemetry(hub, d.id, 1);
  assert.deepEqual(Buffer.from(r.bodyBase64, 'base64'), all);
});

test('[mqtt 72] [mqtt 73] the will comes after a reset, not after DISCONNECT', async () => {
  const d = await newDevice(hub);
  const will = { topic: events(d, 'why=gone'), payload: 'last words', qos: 1, retain: false };
  let c = await connected(hub, d, { will });
  await c.reset();
  const [r] = await telemetry(hub, d.id, 1);
  assert.equal(r.body, 'last words');
  assert.equal(r.properties['iothub-MessageType'], 'Will');
  assert.equal(r.properties.why, 'gone');
  c = await connected(hub, d, { will });
  await c.disconnect();
  c = await connected(hub, d, { will, keepalive: 1 }); // silence
  await c.end;
  await telemetry(hub, d.id, 2);
  c = await connected(hub, d, { will: { topic: 'somewhere/else', payload: 'x', qos: 0 } }); // ignored
  await c.reset();
  c = await connected(hub, d);
  await c.publish(events(d), 'mark');
  await c.disconnect();
  const rows = await telemetry(hub, d.id, 3);
  assert.deepEqual(rows.map((x) => x.body), ['last words', 'last words', 'mark']);
});

test('a certificate request is answered with an error, a late method answer is ignored, and the connection stays', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.subscribe('$iothub/credentials/res/#');
  c.send({ cmd: 'publish', topic: '$iothub/credentials/POST/issueCertificate/?$rid=0-9a-f', payload: '{}', qos: 1, messageId: 3 });
  await c.expect('puback');
  const m = await c.expect('publish');
  assert.equal(m.topic, '$iothub/credentials/res/503/?$rid=0-9a-f');
  assert.ok(JSON.parse(m.payload).errorCode);
  await c.publish('$iothub/methods/res/200/?$rid=1', '{}');
  await c.quiet();
  await c.disconnect();
});

test('acknowledged telemetry survives kill -9', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  for (let i = 0; i < 10; i++) await c.publish(events(d), `${i}`);
  await hub.stop('SIGKILL');
  await c.end;
  await hub.start();
  await waitFor('ten records', async () => (await telemetry(hub, d.id)).length === 10);
  assert.deepEqual((await telemetry(hub, d.id)).map((r) => r.body), Array.from({ length: 10 }, (_, i) => `${i}`));
});
