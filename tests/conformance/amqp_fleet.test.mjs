// A fleet over AMQP: the release pipeline's loop of the service SDK over two hundred devices, which share one connection as
// a gateway's do, and devices of the SDK that prove themselves with certificates.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, policyKey, run, sasToken, sendC2d, telemetry, tempDir, waitFor } from './lib/hub.mjs';
import { attachReceiver, attachSender, cbs, deviceToken, dial, rhea, send, useHub } from './lib/amqp.mjs';

// The service SDK cannot be given a CA: what NODE_EXTRA_CA_CERTS would do, this does.
const secure = tls.createSecureContext;
let extra;
tls.createSecureContext = (options = {}) => secure(options.ca || !extra ? options : { ...options, ca: extra });

const require = createRequire(import.meta.url);
const { Client, Message } = require('azure-iot-device');
const { Amqp, AmqpWs } = require('azure-iot-device-amqp');
const service = require('azure-iothub');
const { Message: ServiceMessage } = require('azure-iot-common');

let hub, owner;
before(async () => {
  hub = await openHub();
  extra = hub.ca;
  owner = hub.connectionString.replace(/HostName=[^;]*/, `HostName=${NAME}`);
  useHub(hub);
});
after(async () => { await closeHub(hub); });

const ACCEPTED = rhea.message.accepted().described(), REJECTED = rhea.message.rejected().described();
const body = (s) => rhea.message.data_section(Buffer.from(s));

// One connection for many devices, each a link of its own in one session: by a policy that may connect as any device.
async function gateway(ids, onMessage) {
  const c = await dial();
  assert.equal((await (await cbs(c)).put('all', sasToken(NAME, policyKey(hub, 'device'), 'device'))).code, 200);
  for (const id of ids) {
    const r = await attachReceiver(c, `/devices/${id}/messages/devicebound`, { name: `${id}-link` });
    r.on('message', (ctx) => onMessage(id, ctx.delivery));
    r.add_credit(10);
  }
  return c;
}

for (const [name, transport] of [['tcp', service.Amqp], ['websocket', service.AmqpWs]]) {
  test(`the article's loop sends to two hundred devices over ${name}, and feedback counts them`, async () => {
    const all = Array.from({ length: 200 }, (_, i) => `${name}-${i}`);
    for (let at = 0; at < all.length; at += 100)
      await hub.request('POST', '/devices?api-version=2021-04-12', { body: all.slice(at, at + 100).map((id) => ({ id, importMode: 'create' })) });
    const there = all.slice(0, 120); // the others are offline
    // Two connections, for that client may say one outcome for neighbours that have different ones.
    const refusing = await gateway(there.slice(0, 10), (_, delivery) => delivery.update(true, REJECTED));
    const devices = await gateway(there.slice(10), (_, delivery) => delivery.update(true, ACCEPTED));
    const client = service.Client.fromConnectionString(owner, transport);
    await client.open();
    const ends = new Map();
    const receiver = await new Promise((done, fail) => client.getFeedbackReceiver((e, r) => (e ? fail(e) : done(r))));
    receiver.on('message', (m) => { for (const f of JSON.parse(m.data.toString())) ends.set(f.originalMessageId, f.statusCode); });
    const { responseBody: listed } = await service.Registry.fromConnectionString(owner).list();
    const mine = listed.filter((d) => d.deviceId.startsWith(`${name}-`));
    assert.equal(mine.length, 200);
    for (const d of mine) {
      const message = new ServiceMessage(JSON.stringify({ release: '1.2.3' }));
      message.ack = 'full';
      message.messageId = `${d.deviceId}-m`;
      await client.send(d.deviceId, message);
    }
    await waitFor('a word of everybody who is there', () => ends.size >= there.length);
    const count = (status) => [...ends.values()].filter((s) => s === status).length;
    assert.deepEqual([count('Success'), count('Rejected'), ends.size], [110, 10, 120]);
    const late = await gateway(all.slice(120, 123), (_, delivery) => delivery.update(true, ACCEPTED)); // it waited for them
    await waitFor('those who came late', () => ends.size === 123);
    assert.equal(count('Success'), 113);
    await client.close();
    for (const c of [refusing, devices, late]) c.close();
  });
}

test('one connection for many devices by a policy: each sends as itself; the policy alone sends as nobody', async () => {
  const devices = [await newDevice(hub), await newDevice(hub), await newDevice(hub)];
  const c = await dial();
  const k = await cbs(c);
  assert.equal((await k.put('all', sasToken(NAME, policyKey(hub, 'device'), 'device'))).code, 200);
  assert.equal((await k.put('own', deviceToken(devices[2]))).code, 200); // beside it, one of its own
  for (const d of devices) {
    const session = c.create_session(); // with the same link names in each
    session.begin();
    const s = await attachSender(session, `/devices/${d.id}/messages/events`, { name: 'TelemetrySenderLink' });
    assert.equal((await send(s, { body: body(d.id) })).how, 'accepted');
  }
  for (const [i, d] of devices.entries()) {
    const [row] = await telemetry(hub, d.id, 1);
    assert.equal(row.body, d.id);
    const method = row.system['iothub-connection-auth-method'] ?? JSON.stringify(row);
    assert.match(method, i < 2 ? /"scope\\?":\\?"hub/ : /"scope\\?":\\?"device/);
  }
  await assert.rejects(attachSender(c, '/devices/nobody-at-all/messages/events'), { condition: 'amqp:unauthorized-access' });
  await assert.rejects(attachSender(c, '/messages/devicebound'), { condition: 'amqp:unauthorized-access' }); // no ServiceConnect
  await hub.api('DELETE', `/roost/v1/devices/${devices[0].id}`); // one that goes takes no other with it
  const again = await attachSender(c, `/devices/${devices[1].id}/messages/events`);
  assert.equal((await send(again, { body: body('still') })).how, 'accepted');
  c.close();
});

async function certificate(cn) {
  const dir = tempDir();
  const key = join(dir.dir, 'key'), crt = join(dir.dir, 'crt');
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', crt, '-days', '2', '-subj', `/CN=${cn}`]);
  const cert = readFileSync(crt, 'utf8');
  const made = { cert, key: readFileSync(key, 'utf8'), thumbprint: new X509Certificate(cert).fingerprint256.replaceAll(':', '') };
  dir.remove();
  return made;
}

for (const [name, transport] of [['tcp', Amqp], ['websocket', AmqpWs]]) {
  test(`the device SDK with a certificate over ${name}: telemetry, a command, the twin, a method`, async () => {
    const id = `x509-${name}`;
    const own = await certificate(id);
    await hub.api('PUT', `/roost/v1/devices/${id}`, { authentication: 'selfSigned', thumbprint: own.thumbprint });
    const c = Client.fromConnectionString(`HostName=${NAME};DeviceId=${id};x509=true`, transport);
    await c.setOptions({ ca: hub.ca, cert: own.cert, key: own.key });
    await c.open();
    await c.sendEvent(new Message('by certificate'));
    const [row] = await telemetry(hub, id, 1);
    assert.equal(row.body, 'by certificate');
    assert.match(JSON.stringify(row), /x509/);
    const got = [];
    c.on('message', (m) => got.push(m));
    await sendC2d(hub, id, { body: 'command', messageId: 'm1', ack: 'full' });
    await waitFor('the command', () => got.length === 1);
    await c.complete(got[0]);
    await waitFor('its end', async () => (await hub.api('GET', '/roost/v1/feedback')).feedback.some((f) => f.device === id && f.outcome === 'Success'));
    const twin = await c.getTwin();
    await new Promise((done, fail) => twin.properties.reported.update({ fw: '1' }, (e) => (e ? fail(e) : done())));
    await new Promise((done) => { c.onDeviceMethod('reboot', (req, res) => { res.send(200, { got: req.payload }, () => {}); }); setImmediate(done); });
    const s = service.Client.fromConnectionString(owner);
    const { result } = await waitFor('the device to take calls', () =>
      s.invokeDeviceMethod(id, { methodName: 'reboot', payload: 5, responseTimeoutInSeconds: 20 }).catch(() => null));
    assert.deepEqual(result, { status: 200, payload: { got: 5 } });
    await c.close();
  });
}

test('a certificate that is not the device\'s is refused', async () => {
  const own = await certificate('x509-other'), wrong = await certificate('x509-other');
  await hub.api('PUT', '/roost/v1/devices/x509-other', { authentication: 'selfSigned', thumbprint: own.thumbprint });
  const c = await dial({ key: wrong.key, cert: wrong.cert });
  await assert.rejects(attachSender(c, '/devices/x509-other/messages/events'), { condition: 'amqp:unauthorized-access' });
  c.close();
});
