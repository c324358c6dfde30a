// The device SDK for Node.js, unmodified: given a connection string and our CA, nothing else.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import sdk from 'azure-iot-device';
import transports from 'azure-iot-device-mqtt';
import * as lib from './lib/hub.mjs';
import { closeHub, newDevice, openHub, sendC2d, telemetry, waitFor } from './lib/hub.mjs';

const { Client, Message } = sdk;
let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });

const ways = [['TCP', transports.Mqtt, '[mqtt 105]'], ['WebSocket', transports.MqttWs, '[mqtt 106]']];

// A connected client; it ends with the test, also with one that fails.
async function open(t, device, transport, options = {}) {
  const client = Client.fromConnectionString(device.connectionString, transport);
  t.after(() => client.close().catch(() => {}));
  await client.setOptions({ ca: hub.ca, ...options });
  await client.open();
  return client;
}

// Collects what arrives and completes it, in order.
async function listen(client) {
  const got = [];
  client.on('message', (m) => {
    got.push(m);
    client.complete(m, (e) => { if (e) got.push(e); });
  });
  return got;
}
const texts = (got) => got.map((m) => (m instanceof Error ? `${m}` : m.getData().toString()));

for (const [name, transport, tag] of ways) {
  test(`${tag} ${name}: 1000 messages with properties arrive exactly`, { timeout: 180_000 }, async (t) => {
    const d = await newDevice(hub);
    const client = await open(t, d, transport);
    const sent = new Map();
    const queue = Array.from({ length: 1000 }, (_, i) => i);
    const sender = async () => {
      for (let i = queue.shift(); i !== undefined; i = queue.shift()) {
        const m = new Message(i % 3 ? JSON.stringify({ i, text: 'grüße /+&=#% "quoted"' }) : randomBytes(i % 500));
        m.messageId = `id-${i}`;
        m.correlationId = `corr ${i}/x`;
        m.userId = 'user & co';
        m.contentType = 'application/json';
        m.contentEncoding = 'utf-8';
        m.properties.add('n', `${i}`);
        m.properties.add('temp alert', 'a/b c+d=e&f#g?h%i');
        m.properties.add('ключ', 'ü €');
        sent.set(`${i}`, m);
        await client.sendEvent(m);
      }
    };
    await Promise.all(Array.from({ length: 20 }, sender));
    await client.close();
    const rows = await telemetry(hub, d.id, 1000);
    assert.equal(rows.length, 1000);
    assert.equal(new Set(rows.map((r) => r.properties.n)).size, 1000);
    for (const r of rows) {
      const m = sent.get(r.properties.n);
      const body = r.bodyBase64 === undefined ? Buffer.from(r.body) : Buffer.from(r.bodyBase64, 'base64');
      assert.deepEqual(body, Buffer.from(m.getData()));
      assert.deepEqual(r.properties, { n: r.properties.n, 'temp alert': 'a/b c+d=e&f#g?h%i', 'ключ': 'ü €' });
      assert.equal(r.system['message-id'], m.messageId);
      assert.equal(r.system['correlation-id'], m.correlationId);
      assert.equal(r.system['user-id'], m.userId);
      assert.equal(r.system['content-type'], 'application/json');
      assert.equal(r.system['content-encoding'], 'utf-8');
      assert.equal(r.system['iothub-connection-device-id'], d.id);
    }
  });

  test(`${name}: messages sent while offline arrive in order, with their properties, and are completed`, async (t) => {
    const d = await newDevice(hub);
    for (let i = 0; i < 30; i++)
      await sendC2d(hub, d.id, { body: `${i}`, messageId: `m-${i}`, ack: 'full', properties: { 'k 1': `v/${i}`, 'ä': 'ö' } });
    let client = await open(t, d, transport);
    let got = await listen(client);
    await waitFor('30 messages', () => got.length >= 30);
    assert.deepEqual(texts(got), Array.from({ length: 30 }, (_, i) => `${i}`));
    got.forEach((m, i) => {
      assert.equal(m.messageId, `m-${i}`);
      assert.equal(m.properties.getValue('k 1'), `v/${i}`);
      assert.equal(m.properties.getValue('ä'), 'ö');
      assert.equal(m.to, `/devices/${d.id}/messages/devicebound`);
      assert.equal(m.properties.getValue('iothub-ack'), 'full'); // this SDK reads it as one of the application's
    });
    await waitFor('30 times success', async () =>
      (await hub.api('GET', '/roost/v1/feedback?after=0')).feedback.filter((f) => f.device === d.id && f.outcome === 'Success').length === 30);
    await client.close();
    client = await open(t, d, transport);
    got = await listen(client);
    await sendC2d(hub, d.id, { body: 'the only new one' });
    await waitFor('the new one', () => got.length >= 1);
    assert.deepEqual(texts(got), ['the only new one']);
    await client.close();
  });

  test(`[mqtt 107] ${name}: a renewed token brings a new connection on which messages still arrive`, { timeout: 120_000 }, async (t) => {
    const d = await newDevice(hub);
    const client = await open(t, d, transport, { tokenRenewal: { tokenValidTimeInSeconds: 6, tokenRenewalMarginInSeconds: 3 } });
    const got = await listen(client);
    await sendC2d(hub, d.id, { body: 'before' });
    await waitFor('the first', () => got.length >= 1);
    const made = lib.connections;
    await waitFor('two renewals', () => lib.connections >= made + 2, { timeout: 60_000 });
    await sendC2d(hub, d.id, { body: 'after' });
    await waitFor('the second', () => got.length >= 2);
    assert.deepEqual(texts(got), ['before', 'after']);
    await client.sendEvent(new Message('still here'));
    await client.close();
    assert.equal((await telemetry(hub, d.id, 1))[0].body, 'still here');
  });

  test(`${name}: a restart of the hub is survived with the subscription`, { timeout: 120_000 }, async (t) => {
    const d = await newDevice(hub);
    const client = await open(t, d, transport);
    const got = await listen(client);
    await sendC2d(hub, d.id, { body: 'before' });
    await waitFor('the first', () => got.length >= 1);
    const made = lib.connections;
    await hub.stop();
    await hub.start();
    await sendC2d(hub, d.id, { body: 'after' });
    await waitFor('the second', () => got.length >= 2, { timeout: 90_000 });
    assert.ok(lib.connections > made);
    assert.deepEqual(texts(got), ['before', 'after']);
    await client.sendEvent(new Message('still here'));
    await client.close();
  });

  test(`${name}: a wrong key is told as unauthorized`, async (t) => {
    const d = await newDevice(hub);
    const wrong = { connectionString: d.connectionString.replace(/SharedAccessKey=.*/, `SharedAccessKey=${randomBytes(32).toString('base64')}`) };
    const client = Client.fromConnectionString(wrong.connectionString, transport);
    await client.setOptions({ ca: hub.ca });
    client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
    await assert.rejects(client.open(), { name: 'UnauthorizedError' });
    await client.close().catch(() => {});
  });
}

test('an unknown certificate authority is not trusted', async () => {
  const d = await newDevice(hub);
  const client = Client.fromConnectionString(d.connectionString, transports.Mqtt);
  client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
  await assert.rejects(client.open());
  await client.close().catch(() => {});
});
