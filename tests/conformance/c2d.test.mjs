// Cloud-to-device messages: topics, order, acknowledgement, redelivery, expiry, depth.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, newDevice, openHub, sendC2d, waitFor } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

let hub;
before(async () => { hub = await openHub({ settings: { messages: { c2d_lock_s: 5, c2d_deliveries: 3 } } }); });
after(async () => { await closeHub(hub); });

const filter = (d) => `devices/${d.id}/messages/devicebound/#`;
const bagOf = (d, m) => m.topic.slice(`devices/${d.id}/messages/devicebound/`.length);
const feedback = async (device) => {
  const rows = [];
  let after = 0;
  for (;;) {
    const page = (await hub.api('GET', `/roost/v1/feedback?after=${after}`)).feedback;
    if (!page.length) return rows.filter((f) => f.device === device);
    rows.push(...page);
    after = page.at(-1).sequence;
  }
};

test('[mqtt 74] [mqtt 75] [mqtt 76] the topic carries to and message id, percent-encoded, nothing empty', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'plain' });
  let m = await c.expect('publish');
  c.puback(m);
  assert.equal(m.retain, false);
  assert.ok(bagOf(d, m).split('&').includes(`%24.to=%2Fdevices%2F${d.id}%2Fmessages%2Fdevicebound`));
  await sendC2d(hub, d.id, { body: 'x', messageId: 'm 1/ü', ack: 'full', properties: { 'a b': 'c/d', empty: '', 'ä+': '1&2=3' } });
  m = await c.expect('publish');
  c.puback(m);
  const items = bagOf(d, m).split('&');
  for (const i of items) assert.match(i, /^[A-Za-z0-9._~%-]+=[A-Za-z0-9._~%-]+$/, i);
  assert.ok(items.includes('%24.mid=m%201%2F%C3%BC'));
  assert.ok(items.includes('a%20b=c%2Fd'));
  assert.ok(items.includes('%C3%A4%2B=1%262%3D3'));
  assert.ok(items.includes('iothub-ack=full'));
  assert.ok(!items.some((i) => i.startsWith('empty')));
  assert.doesNotMatch(bagOf(d, m), /%([a-f]|.[a-f])/, 'upper-case hex');
  assert.doesNotMatch(bagOf(d, m), /\/$/);
  await c.disconnect();
});

test('[mqtt 77] the expiry has seven digits and a Z', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'x', ttlSeconds: 600 });
  const m = await c.expect('publish');
  c.puback(m);
  const exp = bagOf(d, m).split('&').find((i) => i.startsWith('%24.exp='));
  assert.match(decodeURIComponent(exp), /^\$\.exp=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/);
  await c.disconnect();
});

test('[mqtt 78] PUBACK completes, and positive feedback follows when asked for', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'x', messageId: 'fb-1', ack: 'full' });
  c.puback(await c.expect('publish'));
  const [f] = await waitFor('the feedback', async () => {
    const rows = await feedback(d.id);
    return rows.length && rows;
  });
  assert.equal(f.messageId, 'fb-1');
  assert.equal(f.outcome, 'Success');
  await c.disconnect();
  c = await connected(hub, d);
  await c.quiet(); // it does not come again
  await c.disconnect();
});

test('[mqtt 79] what was not acknowledged comes again with DUP on the next connection', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'one' });
  await sendC2d(hub, d.id, { body: 'two' });
  let m = await c.expect('publish');
  assert.equal(m.dup, false);
  await c.reset();
  c = await connected(hub, d);
  m = await c.expect('publish');
  assert.equal(m.payload.toString(), 'one');
  assert.equal(m.dup, true);
  c.puback(m);
  m = await c.expect('publish');
  assert.equal(m.payload.toString(), 'two');
  c.puback(m);
  await c.quiet();
  await c.disconnect();
});

test('a takeover gives what is in flight to the new connection', async () => {
  const d = await newDevice(hub);
  const first = await connected(hub, d);
  await first.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'x' });
  await first.expect('publish');
  const second = await connected(hub, d);
  const m = await second.expect('publish');
  assert.equal(m.payload.toString(), 'x');
  second.puback(m);
  await second.quiet();
  await second.disconnect();
});

test('[mqtt 80] a QoS 0 subscription completes without PUBACK', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  assert.deepEqual(await c.subscribe({ topic: filter(d), qos: 0 }), [0]);
  await sendC2d(hub, d.id, { body: 'x', ack: 'full', messageId: 'q0' });
  assert.equal((await c.expect('publish')).qos, 0);
  await waitFor('its feedback', async () => (await feedback(d.id)).some((f) => f.outcome === 'Success'));
  await c.disconnect();
  c = await connected(hub, d);
  await c.quiet();
  await c.disconnect();
});

test('[mqtt 81] an expired message is not delivered; its sender is told', async () => {
  const d = await newDevice(hub);
  await sendC2d(hub, d.id, { body: 'late', messageId: 'late', ttlSeconds: 1, ack: 'negative' });
  await sendC2d(hub, d.id, { body: 'good', ttlSeconds: 600 });
  await waitFor('negative feedback', async () => (await feedback(d.id)).some((f) => f.messageId === 'late' && f.outcome === 'Expired'), { timeout: 90_000 });
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  const m = await c.expect('publish');
  assert.equal(m.payload.toString(), 'good');
  c.puback(m);
  await c.quiet();
  await c.disconnect();
});

test('[mqtt 82] [mqtt 84] fifty wait, the next is refused, and they leave in order', async () => {
  const d = await newDevice(hub);
  for (let i = 0; i < 50; i++) await sendC2d(hub, d.id, { body: `${i}` });
  const r = await hub.request('POST', `/roost/v1/devices/${d.id}/messages`, { body: { body: 'too many' } });
  assert.equal(r.status, 403);
  assert.equal(r.json.error.code, 'queue-full');
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  for (let i = 0; i < 50; i++) {
    const m = await c.expect('publish');
    assert.equal(m.payload.toString(), `${i}`);
    c.puback(m);
  }
  await c.quiet();
  await sendC2d(hub, d.id, { body: 'there is room again' });
  c.puback(await c.expect('publish'));
  await c.disconnect();
});

test('[mqtt 83] a message that is delivered too often is given up', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'x', messageId: 'stubborn', ack: 'negative' });
  for (let i = 0; i < 3; i++) {
    await c.expect('publish');
    await c.reset();
    c = await connected(hub, d);
  }
  await c.quiet();
  await waitFor('its feedback', async () => (await feedback(d.id)).some((f) => f.outcome === 'DeliveryCountExceeded'));
  await c.disconnect();
});

test('without an acknowledgement it comes once more when the lock is over, then the connection closes', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  await sendC2d(hub, d.id, { body: 'x' });
  assert.equal((await c.expect('publish')).dup, false);
  const again = await c.expect('publish', 30_000);
  assert.equal(again.dup, true);
  await c.expectClose(30_000);
});

test('messages survive kill -9 of the hub', async () => {
  const d = await newDevice(hub);
  for (let i = 0; i < 5; i++) await sendC2d(hub, d.id, { body: `${i}` });
  await hub.stop('SIGKILL');
  await hub.start();
  const c = await connected(hub, d);
  await c.subscribe(filter(d));
  for (let i = 0; i < 5; i++) {
    const m = await c.expect('publish');
    assert.equal(m.payload.toString(), `${i}`);
    c.puback(m);
  }
  await c.disconnect();
});
