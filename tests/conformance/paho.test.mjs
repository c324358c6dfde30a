// paho-mqtt, on which the device SDK for Python stands, used as that SDK uses it: it subscribes once and never again,
// not even after the hub was gone.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { NAME, closeHub, deviceToken, newDevice, openHub, run, sendC2d, start, telemetry, waitFor } from './lib/hub.mjs';

const PYTHON = '/usr/bin/python3';
let hub;
before(async () => { hub = await openHub(); });
after(async () => { await closeHub(hub); });
const skip = (await run(PYTHON, ['-c', 'import paho.mqtt.client'], { ok: false }).catch(() => ({ code: 1 }))).code ? 'python3-paho-mqtt is missing' : false;

const call = async (d, payload) => (await hub.request('POST', `/twins/${d.id}/methods?api-version=2021-04-12`,
  { body: { methodName: 'ping', payload, connectTimeoutInSeconds: 20 } })).json;
const desired = (d, properties) => hub.request('PATCH', `/twins/${d.id}?api-version=2021-04-12`, { body: { properties: { desired: properties } } });

for (const [name, transport, tag] of [['TCP', 'tcp', '[mqtt 105]'], ['WebSocket', 'websockets', '[mqtt 106]']])
  test(`${tag} [mqtt 108] ${name}: after the hub was restarted and killed, everything arrives without a new SUBSCRIBE`, { skip, timeout: 120_000 }, async (t) => {
    const d = await newDevice(hub), got = [];
    await desired(d, { at: 'first' });
    const device = start(PYTHON, [fileURLToPath(new URL('peers/paho_device.py', import.meta.url)), JSON.stringify({ host: NAME, address: hub.address,
      port: transport === 'tcp' ? hub.mqtt : hub.https, ca: hub.caFile, id: d.id, transport, password: deviceToken(d),
      user: `${NAME}/${d.id}/?api-version=2019-10-01&DeviceClientType=azure-iot-device-iothub-py%2F2.13.0%28%20x%3B%20y%29` })],
    { onLine: (l) => got.push(JSON.parse(l)), stdin: 'pipe' });
    t.after(() => device.stop('SIGKILL'));
    const next = (what, is) => waitFor(what, () => {
      if (device.exited) throw new Error(device.out);
      const at = got.findIndex(is);
      return at >= 0 && got.splice(at, 1)[0];
    }, { timeout: 60_000 });
    const read = async (at) => assert.equal(JSON.parse((await next('its twin', (m) => m.topic?.startsWith('$iothub/twin/res/200/?$rid='))).payload).desired.at, at);
    const everything = async (nr) => {
      await sendC2d(hub, d.id, { body: `message ${nr}` });
      const m = await next('the message', (x) => x.topic?.startsWith(`devices/${d.id}/messages/devicebound/%24.mid=`) || x.topic?.startsWith(`devices/${d.id}/messages/devicebound/%24.to=`));
      assert.deepEqual([m.payload, m.qos, m.dup], [`message ${nr}`, 1, false]);
      assert.deepEqual(await call(d, nr), { status: 200, payload: { was: `${nr}` } });
      await next('the call', (x) => x.topic?.startsWith('$iothub/methods/POST/ping/?$rid='));
      await desired(d, { nr });
      const p = await next('the desired property', (x) => x.topic?.startsWith('$iothub/twin/PATCH/properties/desired/?$version='));
      assert.equal(JSON.parse(p.payload).nr, nr);
      device.child.stdin.write(`${JSON.stringify({ topic: `devices/${d.id}/messages/events/%24.ct=application%2Fjson&k%201=v%2F1`, payload: `${nr}` })}\n`);
      const rows = await telemetry(hub, d.id, nr);
      assert.deepEqual([rows[nr - 1].body, rows[nr - 1].properties, rows[nr - 1].system['content-type']], [`${nr}`, { 'k 1': 'v/1' }, 'application/json']);
    };
    assert.deepEqual(await next('the connection', (m) => 'connected' in m), { connected: 0, present: 0 });
    await next('its start', (m) => m.ready);
    await read('first');
    await everything(1);
    for (const [nr, signal] of [[2, 'SIGTERM'], [3, 'SIGKILL']]) {
      await hub.stop(signal);
      await hub.start();
      assert.deepEqual(await next('the connection', (m) => 'connected' in m), { connected: 0, present: 1 });
      await read('first');
      await everything(nr);
    }
  });
