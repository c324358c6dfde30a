// Rates over AMQP: small ones, so that few operations reach them; what a burst allows is a minute's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, policyKey, sasToken, telemetry } from './lib/hub.mjs';
import { attachReceiver, attachSender, bin, cbs, deviceToken, dial, rhea, sasl, send, useHub } from './lib/amqp.mjs';

let hub, gate; // gate: connections alone have a rate
before(async () => {
  hub = await openHub({ settings: { rates: { d2c_sends: 5, c2d_sends: 4, twin_reads: 2, twin_updates: 2, wait_ms: 0, policies: '"service.c2d_sends=2"' } } });
  gate = await openHub({ settings: { rates: { connections: 3 } } });
});
after(async () => {
  await closeHub(hub);
  await closeHub(gate);
});

const THROTTLED = 'com.microsoft:device-container-throttled';
const body = (s) => rhea.message.data_section(Buffer.from(s));
const metric = async (at, operation) => {
  const text = await (await fetch(`http://127.0.0.1:${at.ops}/metrics`)).text();
  return Number(new RegExp(`^roost_throttle_refused_total{operation="${operation}"} (\\d+)$`, 'm').exec(text)[1]);
};
async function onlineAt(d) {
  const c = await dial({ host: hub.address, port: hub.amqp });
  const k = await cbs(c);
  assert.equal((await k.put('x', deviceToken(d))).code, 200);
  return c;
}

test('telemetry over the rate is rejected; what was accepted is stored, the link stays', async () => {
  useHub(hub);
  const d = await newDevice(hub);
  const c = await onlineAt(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const ends = [];
  for (let i = 0; i < 7; i++) ends.push(await send(s, { body: body(`${i}`) }));
  assert.deepEqual(ends.map((e) => e.how), [...Array(5).fill('accepted'), 'rejected', 'rejected']);
  assert.equal(ends[6].error.condition, THROTTLED);
  assert.deepEqual((await telemetry(hub, d.id, 5)).map((r) => r.body), ['0', '1', '2', '3', '4']);
  assert.equal(await metric(hub, 'd2c_sends'), 2);
  c.close();
});

test('twins over the rate answer 429, and nothing is changed', async () => {
  useHub(hub);
  const d = await newDevice(hub);
  const c = await onlineAt(d);
  const sender = await attachSender(c, `/devices/${d.id}/twin`);
  const receiver = await attachReceiver(c, `/devices/${d.id}/twin`, { autoaccept: true, credit_window: 20 });
  const ask = async (operation, resource, text) => {
    const got = new Promise((done) => receiver.once('message', (x) => done(x.message)));
    await send(sender, { correlation_id: 'x', message_annotations: { operation, ...(resource && { resource }) }, body: body(text) });
    return (await got);
  };
  const status = async (...a) => (await ask(...a)).message_annotations.status;
  assert.deepEqual([await status('GET', null, ' '), await status('GET', null, ' ')], [200, 200]);
  const refused = await ask('GET', null, ' ');
  assert.equal(refused.message_annotations.status, 429);
  JSON.parse(refused.body.content.toString());
  const patch = (n) => status('PATCH', '/properties/reported', JSON.stringify({ n }));
  assert.deepEqual([await patch(1), await patch(2), await patch(3)], [200, 200, 429]);
  const rows = await hub.request('POST', '/devices/query?api-version=2021-04-12', { body: { query: `SELECT * FROM devices WHERE deviceId = '${d.id}'` } });
  assert.equal(rows.json[0].properties.reported.n, 2);
  c.close();
});

test('commands over the rate of a policy are rejected, another policy may go on, until the hub\'s own is used up', async () => {
  useHub(hub);
  const d = await newDevice(hub);
  const open = async (policy) => {
    const c = await dial({ host: hub.address, port: hub.amqp });
    assert.equal((await (await cbs(c)).put('x', sasToken(NAME, policyKey(hub, policy), policy))).code, 200);
    return { c, s: await attachSender(c, '/messages/devicebound') };
  };
  const command = { to: `/devices/${d.id}/messages/devicebound`, body: body('x') };
  const one = await open('service'), two = await open('iothubowner');
  const ends = [];
  for (const { s } of [one, one, one, two, two, two]) ends.push(await send(s, command));
  assert.deepEqual(ends.map((e) => e.how), ['accepted', 'accepted', 'rejected', 'accepted', 'accepted', 'rejected']);
  assert.equal(ends[2].error.condition, THROTTLED);
  assert.ok(ends[2].error.info['com.microsoft:tracking-id']);
  one.c.close();
  two.c.close();
});

test('devices over the rate of connections come later: on $cbs, in SASL, at the link; a renewal is no connection', async () => {
  useHub(gate);
  const at = { host: gate.address, port: gate.amqp };
  const devices = [];
  for (let i = 0; i < 5; i++) devices.push(await newDevice(gate));
  const c = await dial(at);
  const k = await cbs(c);
  for (const d of devices.slice(0, 3)) assert.equal((await k.put('x', deviceToken(d))).code, 200);
  const refused = await k.put('x', deviceToken(devices[3]));
  assert.equal(refused.code, 429);
  assert.match(refused.text, /later/);
  assert.equal((await k.put('x', deviceToken(devices[0]))).code, 200);
  const s = await attachSender(c, `/devices/${devices[0].id}/messages/events`);
  assert.equal((await send(s, { body: body('x') })).how, 'accepted');
  await assert.rejects(attachSender(c, `/devices/${devices[3].id}/messages/events`), { condition: 'amqp:unauthorized-access' });
  const plain = await sasl('PLAIN', bin(Buffer.from(`\0${devices[3].id}@sas.${NAME}\0${deviceToken(devices[3])}`)));
  assert.equal(plain.code, 4);
  plain.s.destroy();
  const any = await dial(at); // a policy that may connect as any device: each of them is a connection
  assert.equal((await (await cbs(any)).put('x', sasToken(NAME, policyKey(gate, 'device'), 'device'))).code, 200);
  await assert.rejects(attachSender(any, `/devices/${devices[4].id}/messages/events`), { condition: THROTTLED });
  const services = await dial(at); // services are no devices
  assert.equal((await (await cbs(services)).put('x', sasToken(NAME, policyKey(gate, 'service'), 'service'))).code, 200);
  await attachSender(services, '/messages/devicebound');
  assert.equal(await metric(gate, 'connections'), 3);
  for (const x of [c, any, services]) x.close();
});
