// Debian's mosquitto clients with hand-made topics.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { NAME, closeHub, deviceToken, newDevice, openHub, run, sendC2d, start, telemetry, waitFor } from './lib/hub.mjs';

let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });

const common = (d, options) => ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '-V', 'mqttv311', '-i', d.id,
  '-u', `${NAME}/${d.id}/?api-version=2021-04-12`, '-P', deviceToken(d, options)];

test('mosquitto_pub: one message with properties, QoS 0 and 1', async () => {
  const d = await newDevice(hub);
  for (const qos of ['0', '1'])
    await run('mosquitto_pub', [...common(d), '-q', qos, '-t', `devices/${d.id}/messages/events/$.ct=application%2Fjson&$.mid=q${qos}&k%201=v%2F1`, '-m', '{"t":21.5}']);
  const rows = await telemetry(hub, d.id, 2);
  for (const r of rows) {
    assert.equal(r.body, '{"t":21.5}');
    assert.equal(r.system['content-type'], 'application/json');
    assert.deepEqual(r.properties, { 'k 1': 'v/1' });
  }
  assert.deepEqual(rows.map((r) => r.system['message-id']).sort(), ['q0', 'q1']);
});

test('mosquitto_pub: a thousand lines in order on one connection', { timeout: 120_000 }, async () => {
  const d = await newDevice(hub);
  const lines = Array.from({ length: 1000 }, (_, i) => `line ${i}`);
  await run('mosquitto_pub', [...common(d), '-q', '1', '-l', '-t', `devices/${d.id}/messages/events/`], { input: `${lines.join('\n')}\n` });
  assert.deepEqual((await telemetry(hub, d.id, 1000)).map((r) => r.body), lines);
});

test('mosquitto_sub: a persistent session gets what was sent while it was away, in order', async () => {
  const d = await newDevice(hub);
  const args = [...common(d), '-c', '-q', '1', '-t', `devices/${d.id}/messages/devicebound/#`, '-F', '%t|%q|%p'];
  await run('mosquitto_sub', [...args, '-E']); // subscribes, waits for SUBACK, goes
  for (let i = 0; i < 10; i++) await sendC2d(hub, d.id, { body: `command ${i}`, messageId: `m${i}` });
  const { stdout } = await run('mosquitto_sub', [...args, '-C', '10', '-W', '30']);
  const rows = stdout.trim().split('\n').map((l) => l.split('|'));
  assert.deepEqual(rows.map((r) => r[2]), Array.from({ length: 10 }, (_, i) => `command ${i}`));
  for (const [i, [topic, qos]] of rows.entries()) {
    assert.equal(qos, '1');
    assert.ok(topic.startsWith(`devices/${d.id}/messages/devicebound/%24.mid=m${i}&%24.to=`), topic);
  }
});

test('mosquitto_sub: survives a restart of the hub by itself', { timeout: 90_000 }, async () => {
  const d = await newDevice(hub);
  const got = [];
  const sub = start('mosquitto_sub', [...common(d), '-c', '-q', '1', '-t', `devices/${d.id}/messages/devicebound/#`], { onLine: (l) => got.push(l) });
  try {
    await sendC2d(hub, d.id, { body: 'before' });
    await waitFor('the first', () => got.length === 1);
    await hub.stop();
    await hub.start();
    await sendC2d(hub, d.id, { body: 'after' });
    await waitFor('the second', () => got.length === 2, { timeout: 60_000 });
    assert.deepEqual(got, ['before', 'after']);
  } finally {
    await sub.stop();
  }
});

test('mosquitto_pub: a wrong password and a foreign topic are refused', async () => {
  const d = await newDevice(hub);
  const wrong = await run('mosquitto_pub', [...common(d, { key: Buffer.alloc(32).toString('base64') }), '-t', `devices/${d.id}/messages/events/`, '-m', 'x'], { ok: false });
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.stderr, /not authori[sz]ed/i);
});
