// Transport and CONNECT. The number in a test's name is its line of the checklist: docs/conformance.md.
import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { NAME, closeHub, deviceToken, newDevice, openHub, run, sendC2d, telemetry, tempDir } from './lib/hub.mjs';
import { Raw, connected, packet, refused } from './lib/raw.mjs';

const FIRST_PACKET_S = 4; // 30 unless configured
let hub, device, silent, silentWs, temp;
before(async () => {
  hub = await openHub({ settings: { deadlines: { first_packet_s: FIRST_PACKET_S } } });
  device = await newDevice(hub);
  temp = tempDir();
  silent = await Raw.tls(hub); // says nothing until the last test
  silentWs = await Raw.ws(hub);
});
after(async () => {
  await closeHub(hub);
  temp?.remove();
});

test('[mqtt 1] TLS 1.2 connects; plain text on the TLS port is closed', async () => {
  const c = await Raw.tls(hub, { maxVersion: 'TLSv1.2' });
  assert.equal(c.socket.getProtocol(), 'TLSv1.2');
  assert.equal((await c.hello(device)).returnCode, 0);
  await c.disconnect();
  const plain = net.connect(hub.mqtt, hub.address);
  plain.on('error', () => {});
  await once(plain, 'connect');
  plain.write(packet(new Raw().connectPacket(device)));
  const got = [];
  plain.on('data', (d) => got.push(d));
  await once(plain, 'close');
  assert.notEqual(Buffer.concat(got)[0], 0x20, 'no CONNACK in plain text');
});

test('TLS 1.3 connects', async () => {
  const c = await Raw.tls(hub, { minVersion: 'TLSv1.3' });
  assert.equal(c.socket.getProtocol(), 'TLSv1.3');
  assert.equal((await c.hello(device)).returnCode, 0);
  await c.disconnect();
});

for (const [tag, path, protocol] of [['[mqtt 2]', '/$iothub/websocket', 'mqtt'], ['[mqtt 3]', '/$iothub/websocket', 'MQTT'],
  ['[mqtt 4]', '/$iothub/websocket?iothub-no-client-cert=true', 'mqtt'], ['[mqtt 4]', '/%24iothub/websocket', 'mqtt']])
  test(`${tag} WebSocket at ${path} with ${protocol}`, async () => {
    const c = await Raw.ws(hub, { path, protocol });
    assert.match(c.head, /^HTTP\/1\.1 101 /);
    assert.match(c.head, new RegExp(`^Sec-WebSocket-Protocol: ${protocol}$`, 'm'));
    assert.equal((await c.hello(device)).returnCode, 0);
    await c.disconnect();
  });

test('[mqtt 5] the upgrade answer has what RFC 6455 wants, one space after each colon, no empty value', async () => {
  const c = await Raw.ws(hub);
  const lines = c.head.split('\r\n').slice(1);
  for (const line of lines) assert.match(line, /^[A-Za-z0-9-]+: \S.*$/);
  const fields = Object.fromEntries(lines.map((l) => l.split(': ')));
  assert.equal(fields.Connection, 'Upgrade');
  assert.equal(fields.Upgrade, 'websocket');
  assert.equal(fields['Sec-WebSocket-Accept'], c.accept);
  assert.equal(fields['Sec-WebSocket-Protocol'], 'mqtt');
  c.socket.end();
});

test('[mqtt 6] permessage-deflate is not taken', async () => {
  const c = await Raw.ws(hub, { fields: ['Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits'] });
  assert.match(c.head, /^HTTP\/1\.1 101 /);
  assert.doesNotMatch(c.head, /Sec-WebSocket-Extensions/i);
  assert.equal((await c.hello(device)).returnCode, 0);
  await c.disconnect();
});

test('a WebSocket that offers no MQTT is refused', async () => {
  const c = await Raw.ws(hub, { protocol: 'soap' });
  assert.doesNotMatch(c.head ?? '', /^HTTP\/1\.1 101 /);
  c.socket.destroy();
});

test('[mqtt 7] a packet in three frames, a message in two, two packets in one frame, a byte a frame', async () => {
  const c = await Raw.ws(hub);
  const hello = packet(c.connectPacket(device));
  c.frame(2, hello.subarray(0, 1));
  c.frame(2, hello.subarray(1, 20));
  c.frame(2, hello.subarray(20));
  assert.equal((await c.expect('connack')).returnCode, 0);
  const ping = packet({ cmd: 'pingreq' });
  c.frame(2, Buffer.concat([ping, ping]));
  await c.expect('pingresp');
  await c.expect('pingresp');
  c.frame(2, ping.subarray(0, 1), false); // a fragmented message
  c.frame(0, ping.subarray(1), true);
  await c.expect('pingresp');
  for (const b of packet({ cmd: 'publish', topic: `devices/${device.id}/messages/events/`, payload: 'x', qos: 1, messageId: 5 }))
    c.frame(2, Buffer.from([b]));
  await c.expect('puback');
  await c.disconnect();
});

test('[mqtt 8] an unsolicited pong changes nothing, a ping is answered, a close frame ends it', async () => {
  const c = await Raw.ws(hub);
  assert.equal((await c.hello(device)).returnCode, 0);
  c.frame(10, Buffer.from('unasked'));
  c.frame(9, Buffer.from('are you there'));
  const pong = await c.frames.take('pong', 5000);
  assert.equal(pong.op, 10);
  assert.equal(pong.payload.toString(), 'are you there');
  await c.quiet();
  c.frame(8);
  await c.end;
});

test('[mqtt 9] no client certificate: the handshake completes', async () => {
  const c = await Raw.tls(hub);
  assert.equal((await c.hello(device)).returnCode, 0);
  await c.disconnect();
});

test('[mqtt 10] an unknown self-signed client certificate: the handshake completes', async () => {
  const cert = join(temp.dir, 'cert.pem'), key = join(temp.dir, 'key.pem');
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key,
    '-out', cert, '-subj', '/CN=nobody', '-days', '2']);
  const c = await Raw.tls(hub, { cert: readFileSync(cert), key: readFileSync(key) });
  assert.equal((await c.hello(device)).returnCode, 0);
  await c.disconnect();
});

test('SNI is not required', async () => {
  const socket = tls.connect({ host: hub.address, port: hub.mqtt, servername: '', ca: hub.ca, checkServerIdentity: () => undefined });
  await once(socket, 'secureConnect');
  assert.ok(socket.authorized);
  socket.destroy();
});

test('[mqtt 12] SUBSCRIBE and PUBLISH in the segment of CONNECT are answered after CONNACK', async () => {
  const c = await Raw.tls(hub);
  c.write(Buffer.concat([packet(c.connectPacket(device)),
    packet({ cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: `devices/${device.id}/messages/devicebound/#`, qos: 1 }] }),
    packet({ cmd: 'publish', topic: `devices/${device.id}/messages/events/`, payload: 'x', qos: 1, messageId: 8 })]));
  assert.equal((await c.expect('connack')).returnCode, 0);
  assert.deepEqual((await c.expect('suback')).granted, [1]);
  assert.equal((await c.expect('puback')).messageId, 8);
  await c.disconnect();
});

test('[mqtt 13] a second CONNECT closes the connection', async () => {
  const c = await connected(hub, device);
  c.send(c.connectPacket(device));
  await c.expectClose();
});

test('a first packet that is not CONNECT closes the connection without an answer', async () => {
  const c = await Raw.tls(hub);
  c.send({ cmd: 'pingreq' });
  await c.expectClose();
});

test('[mqtt 14] protocol levels 3 and 5 are answered with code 1 and closed', async () => {
  for (const bytes of [Buffer.from('101200064d51497364700302003c00046465763100', 'hex').subarray(0, 20),
    Buffer.from('101000044d5154540502003c00000364657600', 'hex').subarray(0, 18)]) {
    const c = await Raw.tls(hub);
    c.write(bytes);
    assert.equal((await c.expect('connack')).returnCode, 1);
    await c.expectClose();
  }
});

const names = [['[mqtt 15]', 'with /?api-version', '/?api-version=2021-04-12'], ['[mqtt 16]', 'with /api-version', '/api-version=2016-11-14'],
  ['[mqtt 17]', 'without api-version', ''], ['[mqtt 17]', 'with nothing but a slash', '/'], ['[mqtt 18]', 'with unknown keys', '/?x=y&flag&api-version=2099-01-01-preview&z=%2F'],
  ['[mqtt 18]', 'with characters that no URI has', '/?api-version=2021-04-12&DeviceClientType=a (b; c:d) "e"']];
for (const [tag, what, tail] of names)
  test(`${tag} a user name ${what} connects`, async () => {
    const c = await connected(hub, device, { username: `${NAME}/${device.id}${tail}` });
    await c.disconnect();
  });

for (const [tag, what, model] of [['[mqtt 19]', 'raw', 'dtmi:a:b;1'], ['[mqtt 20]', 'encoded', 'dtmi%3Aa%3Ab%3B1']])
  test(`${tag} a ${what} model id connects and is stamped on telemetry`, async () => {
    const d = await newDevice(hub);
    const c = await connected(hub, d, { username: `${NAME}/${d.id}/?api-version=2021-04-12&model-id=${model}` });
    await c.publish(`devices/${d.id}/messages/events/`, 'x');
    await c.disconnect();
    assert.equal((await telemetry(hub, d.id, 1))[0].system['dt-dataschema'], 'dtmi:a:b;1');
  });

test('[mqtt 21] a client id that differs in case is refused with 5', async () => {
  await refused(hub, device, { clientId: device.id.toUpperCase() });
  await refused(hub, device, { username: `${NAME}/${device.id.toUpperCase()}/?api-version=2021-04-12` });
});

test('[mqtt 23] the host in the user name is compared without case', async () => {
  const c = await connected(hub, device, { username: `${NAME.toUpperCase()}/${device.id}/?api-version=2021-04-12` });
  await c.disconnect();
});

test('[mqtt 24] an unknown device is refused with 5 and closed', async () => {
  await refused(hub, { id: 'nobody', key: device.key });
});

test('[mqtt 25] a disabled device is refused with 5, and its live connection is closed', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await hub.api('PUT', `/roost/v1/devices/${d.id}`, { status: 'disabled' });
  await c.expectClose();
  await refused(hub, d);
  await hub.api('PUT', `/roost/v1/devices/${d.id}`, { status: 'enabled' });
  await (await connected(hub, d)).disconnect();
});

test('a deleted device is closed and refused', async () => {
  const d = await newDevice(hub);
  const c = await connected(hub, d);
  await hub.api('DELETE', `/roost/v1/devices/${d.id}`);
  await c.expectClose();
  await refused(hub, d);
});

test('[mqtt 26] a wrong key is refused with 5', async () => {
  await refused(hub, device, { password: deviceToken(device, { key: Buffer.alloc(32, 7).toString('base64') }) });
});

test('[mqtt 27] no password, an empty one, or something else is refused with 5', async () => {
  await refused(hub, device, { password: null });
  await refused(hub, device, { password: '' });
  await refused(hub, device, { password: 'secret' });
  await refused(hub, device, { clientId: '' , clean: true });
});

test('[mqtt 28] session present is 0 on the first persistent connect and 1 on the next', async () => {
  const d = await newDevice(hub);
  for (const present of [false, true, true]) {
    const c = await connected(hub, d);
    assert.equal(c.sessionPresent, present);
    await c.disconnect();
  }
});

test('[mqtt 29] a clean connect has session present 0 and forgets the subscriptions', async () => {
  const d = await newDevice(hub);
  let c = await connected(hub, d);
  await c.subscribe(`devices/${d.id}/messages/devicebound/#`);
  await c.disconnect();
  c = await connected(hub, d, { clean: true });
  assert.equal(c.sessionPresent, false);
  await sendC2d(hub, d.id, { body: 'nobody listens' });
  await c.quiet();
  await c.disconnect();
  c = await connected(hub, d);
  assert.equal(c.sessionPresent, false, 'the clean session left nothing behind');
  await c.quiet();
  await c.disconnect();
});

test('[mqtt 30] a second connection closes the first and survives', async () => {
  const d = await newDevice(hub);
  const first = await connected(hub, d);
  const second = await connected(hub, d);
  await first.expectClose();
  await second.quiet();
  const third = await connected(hub, d, { clean: true });
  await second.expectClose();
  await third.disconnect();
});

test('[mqtt 32] silence of one and a half keep alives closes the connection, traffic does not', async () => {
  const d = await newDevice(hub), e = await newDevice(hub);
  const c = await connected(hub, d, { keepalive: 2 });
  const busy = await connected(hub, e, { keepalive: 2 });
  const since = Date.now();
  const pings = setInterval(() => busy.closed || busy.send({ cmd: 'pingreq' }), 500);
  await c.expectClose(20_000);
  clearInterval(pings);
  assert.ok(Date.now() - since >= 2900, 'not before one and a half keep alives');
  assert.equal(busy.closed, false);
  await busy.disconnect();
});

test('[mqtt 34] PINGREQ is answered', async () => {
  const c = await connected(hub, device);
  await c.quiet();
  await c.disconnect();
});

test('a malformed packet closes the connection, at any place', async () => {
  const bad = [[0x00, 0x00], [0xf0, 0x00], [0x11, 0x00], [0x30, 0xff, 0xff, 0xff, 0xff, 0x7f], [0x36, 0x05, 0, 1, 0x61, 0, 1],
    [0x32, 0x05, 0, 1, 0x61, 0, 0], [0x80, 0x06, 0, 1, 0, 1, 0x61, 0], [0x82, 0x02, 0, 1], [0x40, 0x02, 0, 0], [0x30, 0x02, 0, 0],
    [0xc0, 0x01, 0], [0x50, 0x02, 0, 1], [0x62, 0x02, 0, 1], [0x70, 0x02, 0, 1], [0x20, 0x02, 0, 0], [0x90, 0x03, 0, 1, 0]];
  for (const bytes of bad) {
    const c = await connected(hub, device);
    c.write(Buffer.from(bytes));
    await c.expectClose();
  }
  const hello = packet(new Raw().connectPacket(device));
  for (let at = 3; at < 11; at++) { // behind two bytes of length: protocol name, level and flags, broken one by one
    const c = await Raw.tls(hub);
    const broken = Buffer.from(hello);
    broken[at] ^= 0x41;
    c.write(broken);
    const first = await c.next().catch(() => null);
    assert.ok(!first || (first.cmd === 'connack' && first.returnCode !== 0), `byte ${at}`);
    c.socket.destroy();
  }
});

test('[mqtt 11] a connection that never says CONNECT is closed when the deadline is over', async () => {
  await silent.expectClose();
  await silentWs.expectClose();
  const late = await Raw.tls(hub);
  const since = Date.now();
  await late.expectClose(20_000);
  assert.ok(Date.now() - since >= FIRST_PACKET_S * 1000 - 200, 'a slow link gets its time');
});
