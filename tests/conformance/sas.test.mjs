// Shared access signatures: spellings, scopes, ends.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { after, before, test } from 'node:test';
import { NAME, closeHub, deviceToken, newDevice, openHub, policyKey, sasToken, sendC2d } from './lib/hub.mjs';
import { Raw, connected, packet, refused } from './lib/raw.mjs';

let hub, device;
before(async () => {
  hub = await openHub();
  device = await newDevice(hub);
});
after(async () => {
  await closeHub(hub);
});

const now = () => Math.floor(Date.now() / 1000);
const sign = (key, sr, se) => createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
const resource = () => `${NAME}/devices/${device.id}`;

async function accepts(password, d = device) {
  const c = await connected(hub, d, { password });
  await c.disconnect();
}

for (const [tag, what, spell] of [['[mqtt 35]', 'encoded in upper case', encodeURIComponent],
  ['[mqtt 36]', 'encoded in lower case', (s) => encodeURIComponent(s).replace(/%../g, (x) => x.toLowerCase())], ['[mqtt 37]', 'not encoded', (s) => s]])
  test(`${tag} a resource ${what} is accepted`, async () => {
    const sr = spell(resource()), se = now() + 600;
    await accepts(`SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sign(device.key, sr, se))}&se=${se}`);
  });

test('[mqtt 38] the fields in the order sig, se, sr, and names in any case', async () => {
  const sr = encodeURIComponent(resource()), se = now() + 600, sig = encodeURIComponent(sign(device.key, sr, se));
  await accepts(`SharedAccessSignature sig=${sig}&se=${se}&sr=${sr}`);
  await accepts(`SharedAccessSignature SIG=${sig}&Se=${se}&sR=${sr}`);
});

test('[mqtt 39] an empty policy name means the device key', async () => {
  const sr = encodeURIComponent(resource()), se = now() + 600;
  await accepts(`SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sign(device.key, sr, se))}&se=${se}&skn=`);
});

test('[mqtt 40] the secondary key is accepted', async () => {
  assert.notEqual(device.key, device.key2);
  await accepts(deviceToken(device, { key: device.key2 }));
});

test('[mqtt 41] a policy with DeviceConnect lets any registered device in, service does not', async () => {
  const key = policyKey(hub, 'device'), service = policyKey(hub, 'service');
  const owner = policyKey(hub, 'iothubowner');
  assert.ok(key && service && owner, 'roostd init writes the connection string of each policy');
  for (const sr of [`${NAME}/devices`, NAME, resource()]) await accepts(sasToken(sr, key, 'device'));
  await accepts(sasToken(NAME, owner, 'iothubowner'));
  for (const name of ['registryRead', 'registryReadWrite'])
    for (const sr of [NAME, resource()]) await refused(hub, device, { password: sasToken(sr, policyKey(hub, name), name) });
  await refused(hub, device, { password: sasToken(`${NAME}/devices`, service, 'service') });
  await refused(hub, device, { password: sasToken(`${NAME}/devices`, service, 'device') });
  await refused(hub, device, { password: sasToken(`${NAME}/devices`, key, 'nosuchpolicy') });
  await refused(hub, { id: 'nobody', key: device.key }, { password: sasToken(`${NAME}/devices`, key, 'device') });
});

test('[mqtt 42] the token of one device does not serve another whose id begins with its own', async () => {
  const d1 = await newDevice(hub, 'dev1'), d10 = await newDevice(hub, 'dev10');
  await refused(hub, d10, { password: deviceToken(d1) });
  await refused(hub, d1, { password: deviceToken(d1, { resource: `${NAME}/devices/dev10` }) });
  await refused(hub, d1, { password: deviceToken(d1, { resource: `${NAME}/devices` }) });
  await refused(hub, d1, { password: deviceToken(d1, { resource: `other.example/devices/dev1` }) });
  await accepts(deviceToken(d1), d1);
});

test('[mqtt 43] old clients put the api-version behind the resource', async () => {
  await accepts(deviceToken(device, { resource: `${resource()}/api-version=2016-11-14` }));
});

test('[mqtt 44] a token expired by more than the allowed skew is refused', async () => {
  await refused(hub, device, { password: deviceToken(device, { seconds: -301 - 60 }) });
  await accepts(deviceToken(device, { seconds: 10 * 365 * 86400 }));
});

test('[mqtt 45] a live connection ends with its token and the configured grace', async () => {
  const strict = await openHub({ settings: { access: { skew_s: 0, grace_s: 1 } } });
  try {
    const d = await newDevice(strict), e = await newDevice(strict);
    await refused(strict, d, { password: deviceToken(d, { seconds: -1 }) });
    const ends = Date.now() + 2000;
    const c = await connected(strict, d, { password: deviceToken(d, { seconds: 2 }) });
    const other = await connected(strict, e, { password: deviceToken(e, { seconds: 60 }) });
    const pings = setInterval(() => c.closed || c.send({ cmd: 'pingreq' }), 300); // traffic does not prolong it
    await c.end;
    clearInterval(pings);
    assert.ok(Date.now() >= ends - 1000, 'not before its end');
    await other.quiet();
    await other.disconnect();
    await refused(strict, d, { password: deviceToken(d, { seconds: -1 }) });
  } finally {
    await closeHub(strict);
  }
});

test('[mqtt 109] a client that lets the hub end its token, as the SDK for C# does, comes back with a new one and goes on', async () => {
  const strict = await openHub({ settings: { access: { skew_s: 0, grace_s: 1 } } });
  try {
    const d = await newDevice(strict), keepalive = 300, first = '$iothub/twin/res/#';
    const filters = [`devices/${d.id}/messages/devicebound/#`, '$iothub/methods/POST/#', '$iothub/twin/PATCH/properties/desired/#'];
    const c = await connected(strict, d, { password: deviceToken(d, { seconds: 3 }), keepalive });
    for (const f of [first, ...filters]) assert.deepEqual(await c.subscribe(f), [1]);
    await sendC2d(strict, d.id, { body: 'not completed', messageId: 'm1' });
    assert.equal((await c.expect('publish')).dup, false);
    await c.expectClose(30_000);
    await sendC2d(strict, d.id, { body: 'meanwhile', messageId: 'm2' });
    const again = await Raw.tls(strict);
    again.write(Buffer.concat([packet(again.connectPacket(d, { keepalive })), // it does not wait for CONNACK either
      packet({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: first, qos: 1 }] }), packet({ cmd: 'subscribe', messageId: 2, subscriptions: [{ topic: filters[0], qos: 1 }] })]));
    const got = [];
    while (got.length < 5) got.push(await again.next());
    assert.deepEqual([got[0].cmd, got[0].returnCode, got[0].sessionPresent], ['connack', 0, true]);
    assert.deepEqual(got.filter((p) => p.cmd === 'suback').map((p) => [p.messageId, p.granted]), [[1, [1]], [2, [1]]]);
    const messages = got.filter((p) => p.cmd === 'publish');
    assert.deepEqual(messages.map((p) => [p.payload.toString(), p.dup, p.qos]), [['not completed', true, 1], ['meanwhile', false, 1]]);
    messages.forEach((p) => again.puback(p));
    again.send({ cmd: 'publish', topic: '$iothub/twin/GET/?$rid=1', payload: '', qos: 1, messageId: 9 });
    const answers = [await again.next(), await again.next()];
    assert.ok(answers.some((p) => p.cmd === 'puback' && p.messageId === 9));
    assert.ok(answers.some((p) => p.topic === '$iothub/twin/res/200/?$rid=1'));
    const at = `/twins/${d.id}?api-version=2021-04-12`; // what it did not subscribe again is there, too
    assert.equal((await strict.request('PATCH', at, { body: { properties: { desired: { a: 1 } } } })).status, 200);
    assert.equal((await again.expect('publish')).topic, '$iothub/twin/PATCH/properties/desired/?$version=2');
    const call = strict.request('POST', at.replace('?', '/methods?'), { body: { methodName: 'm' } });
    const { topic } = await again.expect('publish');
    again.send({ cmd: 'publish', topic: `$iothub/methods/res/200/${topic.slice(topic.indexOf('?'))}`, payload: '1', qos: 1, messageId: 10 });
    assert.equal((await again.expect('puback')).messageId, 10);
    assert.deepEqual((await call).json, { status: 200, payload: 1 });
    await again.disconnect();
  } finally {
    await closeHub(strict);
  }
});

test('a stream of telemetry ends with its token', async () => {
  const strict = await openHub({ settings: { access: { skew_s: 0, grace_s: 1 } } });
  try {
    const d = await newDevice(strict), key = policyKey(strict, 'service');
    const c = await connected(strict, d);
    const stream = strict.request('GET', '/roost/v1/telemetry?from=earliest', { token: sasToken(NAME, key, 'service', 3) });
    await c.publish(`devices/${d.id}/messages/events/`, 'x');
    const r = await stream; // comes home when the hub ends it, and is whole
    assert.equal(r.status, 200);
    assert.deepEqual(r.body.toString().trimEnd().split('\n').map((l) => JSON.parse(l).body), ['x']);
    await c.quiet();
    await c.disconnect();
  } finally {
    await closeHub(strict);
  }
});

test('[mqtt 46] a raw plus in the signature is a plus', async () => {
  for (let se = now() + 600; ; se++) { // the first expiry whose signature has one
    const sr = encodeURIComponent(resource()), sig = sign(device.key, sr, se);
    if (!sig.includes('+')) continue;
    await accepts(`SharedAccessSignature sr=${sr}&sig=${sig}&se=${se}`);
    return;
  }
});

test('broken tokens are refused', async () => {
  const sr = encodeURIComponent(resource()), se = now() + 600, sig = encodeURIComponent(sign(device.key, sr, se));
  for (const bad of [`SharedAccessSignature sr=${sr}&sig=${sig}`, `SharedAccessSignature sr=${sr}&se=${se}`,
    `SharedAccessSignature sr=${sr}&sr=${sr}&sig=${sig}&se=${se}`, `SharedAccessSignature sr=${sr}&sig=${sig}&se=${se + 1}`,
    `sr=${sr}&sig=${sig}&se=${se}`, `SharedAccessSignature sr=${sr}&sig=${sig.slice(0, 20)}&se=${se}`, 'SharedAccessSignature '])
    await refused(hub, device, { password: bad });
});
