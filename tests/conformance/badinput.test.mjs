// What must not get in: each has its answer and its counter, and costs nobody else anything.
import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken, newDevice, openHub, sendC2d, telemetry, waitFor } from './lib/hub.mjs';
import { Raw, connected, refused } from './lib/raw.mjs';

let hub, good, witness;
before(async () => {
  hub = await openHub({ settings: { limits: { connections_per_source: 40, count_loopback: true }, deadlines: { handshake_s: 2, first_packet_s: 3 } } });
  good = await newDevice(hub);
  witness = await connected(hub, good); // must be served to the end
  await witness.subscribe(`devices/${good.id}/messages/devicebound/#`);
});
after(async () => {
  await closeHub(hub);
});

// name{labels} -> number
const metrics = () => new Promise((done, fail) => {
  http.get({ host: '127.0.0.1', port: hub.ops, path: '/metrics', agent: false }, (res) => {
    let text = '';
    res.on('data', (d) => { text += d; });
    res.on('end', () => done(Object.fromEntries(text.split('\n').filter((l) => l && !l.startsWith('#')).map((l) => {
      const at = l.lastIndexOf(' ');
      return [l.slice(0, at), Number(l.slice(at + 1))];
    }))));
  }).on('error', fail);
});

// Runs `what` and waits until each counter has grown by at least so much.
async function counted(growth, what) {
  const before = await metrics();
  for (const name of Object.keys(growth)) assert.ok(name in before, `there is a counter ${name}`);
  await what();
  await waitFor(`counters ${JSON.stringify(growth)}`, async () => {
    const now = await metrics();
    return Object.entries(growth).every(([name, by]) => now[name] - before[name] >= by);
  }, { timeout: 10_000 });
}
const closed = (reason) => `roost_connections_closed_total{reason="${reason}"}`;

test('refused credentials are counted', async () => {
  const off = await newDevice(hub);
  await hub.api('PUT', `/roost/v1/devices/${off.id}`, { status: 'disabled' });
  await counted({ roost_mqtt_refused_total: 4, [closed('auth')]: 4 }, async () => {
    await refused(hub, good, { password: deviceToken(good, { key: off.key }) });
    await refused(hub, good, { password: deviceToken(good, { seconds: -3600 }) });
    await refused(hub, { id: 'nobody', key: good.key });
    await refused(hub, off);
  });
});

test('malformed and oversized packets are counted and close only their own connection', async () => {
  const d = await newDevice(hub);
  await counted({ [closed('proto')]: 3 }, async () => {
    for (const bytes of [[0x36, 5, 0, 1, 0x61, 0, 1], [0xf0, 0], [0x30, 2, 0, 0]]) {
      const c = await connected(hub, d);
      c.write(Buffer.from(bytes));
      await c.expectClose();
    }
  });
  const before = (await telemetry(hub, d.id)).length;
  const c = await connected(hub, d);
  c.write(Buffer.from([0x32, 0xff, 0xff, 0xff, 0x7f]));
  await c.expectClose();
  assert.equal((await telemetry(hub, d.id)).length, before);
});

test('random bytes, before and behind CONNECT, never get an answer that means success', async () => {
  const d = await newDevice(hub);
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) & 255;
  for (let i = 0; i < 30; i++) {
    const c = i % 2 ? await connected(hub, d) : await Raw.tls(hub);
    const bytes = Buffer.from(Array.from({ length: 1 + random() }, random));
    if (bytes[0] >> 4 === 14) bytes[0] = 0; // not DISCONNECT by chance
    c.write(bytes);
    const p = await Promise.race([c.next(5000).catch(() => null), c.end.then(() => null)]);
    assert.ok(!p || p.cmd !== 'connack' || p.returnCode !== 0, JSON.stringify(p));
    c.socket.destroy();
  }
});

test('a flood from one source ends at its cap; the others and the open connections stay', async () => {
  const open = [];
  await counted({ roost_connections_refused_source_total: 1 }, async () => {
    for (let i = 0; i < 60; i++) {
      const c = await Raw.tls(hub).catch(() => null);
      if (c) open.push(c);
    }
  });
  assert.ok(open.length < 60);
  await witness.quiet();
  for (const c of open) c.socket.destroy();
  await Promise.all(open.map((c) => c.end));
  await waitFor('room again', async () => (await connected(hub, await newDevice(hub))).disconnect().then(() => true));
});

test('connections that say nothing are timed out and counted', async () => {
  await counted({ [closed('timeout')]: 1 }, async () => {
    const c = await Raw.tls(hub);
    await c.expectClose(20_000);
  });
});

test('whoever was connected all along is still served', async () => {
  await witness.publish(`devices/${good.id}/messages/events/`, 'still here');
  await sendC2d(hub, good.id, { body: 'for you' });
  const m = await witness.expect('publish');
  assert.equal(m.payload.toString(), 'for you');
  witness.puback(m);
  await witness.quiet();
  await witness.disconnect();
  assert.deepEqual((await telemetry(hub, good.id, 1)).map((r) => r.body), ['still here']);
});
