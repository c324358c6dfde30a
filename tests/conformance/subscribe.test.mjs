// SUBSCRIBE and UNSUBSCRIBE: channels, grants, and that they last.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, newDevice, openHub, sendC2d } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });

test('[mqtt 51] five filters of mixed QoS get one SUBACK with five codes', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  const granted = await c.subscribe({ topic: `devices/${d.id}/messages/devicebound/#`, qos: 1 }, { topic: '$iothub/methods/POST/#', qos: 0 },
    { topic: '$iothub/twin/res/#', qos: 0 }, { topic: '$iothub/twin/PATCH/properties/desired/#', qos: 1 }, { topic: 'no/such/topic', qos: 1 });
  assert.deepEqual(granted, [1, 0, 0, 1, 128]);
  await c.disconnect();
});

test('[mqtt 52] QoS 2 is granted as 1', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  assert.deepEqual(await c.subscribe({ topic: `devices/${d.id}/messages/devicebound/#`, qos: 2 }), [1]);
  await sendC2d(hub, d.id, { body: 'x' });
  const m = await c.expect('publish');
  assert.equal(m.qos, 1);
  c.puback(m);
  await c.disconnect();
});

for (const [tag, filter] of [['[mqtt 53]', 'devices/+/messages/devicebound/#'], ['[mqtt 55]', '#']])
  test(`${tag} ${filter} delivers the device's own messages and no others`, async () => {
    const d = await newDevice(hub), other = await newDevice(hub);
    const c = await connected(hub, d);
    assert.deepEqual(await c.subscribe(filter), [1]);
    await sendC2d(hub, other.id, { body: 'not yours' });
    await sendC2d(hub, d.id, { body: 'yours' });
    const m = await c.expect('publish');
    assert.equal(m.payload.toString(), 'yours');
    assert.ok(m.topic.startsWith(`devices/${d.id}/messages/devicebound/`));
    c.puback(m);
    await c.quiet();
    await c.disconnect();
  });

test('[mqtt 56] the filter of another device is not granted', async () => {
  const d = await newDevice(hub), other = await newDevice(hub);
  const c = await connected(hub, d);
  assert.deepEqual(await c.subscribe(`devices/${other.id}/messages/devicebound/#`), [128]);
  await sendC2d(hub, other.id, { body: 'not yours' });
  await c.quiet();
  await c.disconnect();
});

test('[mqtt 57] UNSUBSCRIBE is answered, also for a filter that was never there', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  c.send({ cmd: 'unsubscribe', messageId: 9, unsubscriptions: ['$iothub/methods/POST/#', 'never/there'] });
  assert.equal((await c.expect('unsuback')).messageId, 9);
  await c.subscribe(`devices/${d.id}/messages/devicebound/#`);
  c.send({ cmd: 'unsubscribe', messageId: 10, unsubscriptions: [`devices/${d.id}/messages/devicebound/#`] });
  await c.expect('unsuback');
  await sendC2d(hub, d.id, { body: 'nobody listens' });
  await c.quiet();
  await c.disconnect();
});

test('an id with + # ? % and $ in it is plain text', async () => {
  const d = await newDevice(hub, "a+#?%41$'(!)*");
  const c = await connected(hub, d);
  assert.deepEqual(await c.subscribe(`devices/${d.id}/messages/devicebound/#`), [1]);
  await sendC2d(hub, d.id, { body: 'yours' });
  const m = await c.expect('publish');
  assert.ok(m.topic.startsWith(`devices/${d.id}/messages/devicebound/`));
  c.puback(m);
  await c.publish(`devices/${d.id}/messages/events/`, 'x');
  await c.disconnect();
});

test('[mqtt 58] subscriptions survive a reconnect and a restart of the hub', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.subscribe(`devices/${d.id}/messages/devicebound/#`);
  await c.disconnect();
  await sendC2d(hub, d.id, { body: 'one' });
  c = await connected(hub, d);
  assert.equal(c.sessionPresent, true);
  let m = await c.expect('publish');
  assert.equal(m.payload.toString(), 'one');
  c.puback(m);
  await c.quiet();
  await hub.stop();
  await c.end;
  await hub.start();
  await sendC2d(hub, d.id, { body: 'two' });
  c = await connected(hub, d);
  assert.equal(c.sessionPresent, true);
  m = await c.expect('publish');
  assert.equal(m.payload.toString(), 'two');
  assert.equal(m.qos, 1);
  c.puback(m);
  await c.quiet();
  await c.disconnect();
});
