// Bad input over AMQP, byte for byte: the documented condition and the end of the link, the session or the connection; and
// nobody else notices. What needs an engine's view of it is in core/amqp/amqp_conn_test.c.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, newDevice, openHub, telemetry, waitFor } from './lib/hub.mjs';
import { attachReceiver, attachSender, bin, frame, framesOf, HEADER, list, NULL, online, rhea, saslInit, send, serviceOnline, socket, text, useHub } from './lib/amqp.mjs';

let hub, witness;
before(async () => {
  hub = await openHub();
  useHub(hub);
  const d = await newDevice(hub, 'witness');
  const c = await online(d);
  const s = await attachSender(c, '/devices/witness/messages/events');
  let nr = 0;
  witness = {
    async works() { // the same connection, all the time
      assert.equal((await send(s, { body: rhea.message.data_section(Buffer.from(`${nr++}`)) })).how, 'accepted');
    },
    async end() {
      assert.equal((await telemetry(hub, 'witness', nr)).length, nr);
      c.close();
    },
  };
});
after(async () => {
  await witness.end();
  await closeHub(hub);
});

const uint = (n) => (n === 0 ? Buffer.from([0x43]) : n < 256 ? Buffer.from([0x52, n]) : Buffer.from([0x70, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255]));
const T = Buffer.from([0x41]), F = Buffer.from([0x42]);
const OPEN = Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c')))]);
const begin = (channel) => frame(0x11, list(NULL, uint(0), uint(100), uint(100)), { channel });
const target = (address) => Buffer.concat([Buffer.from([0, 0x53, 0x29]), list(text(0xa1, address))]);
const source = (address) => Buffer.concat([Buffer.from([0, 0x53, 0x28]), list(text(0xa1, address))]);
const sender = (handle, name = `l${handle}`, channel = 0, address = '$cbs') =>
  frame(0x12, list(text(0xa1, name), uint(handle), F, NULL, NULL, NULL, target(address)), { channel });
const receiver = (handle, name = `r${handle}`) => frame(0x12, list(text(0xa1, name), uint(handle), T, NULL, NULL, source('$cbs'), NULL));
const transfer = (handle, id, { more = F, tag = bin(Buffer.from('t')), payload = Buffer.from('x') } = {}) =>
  frame(0x14, list(uint(handle), id === null ? NULL : uint(id), tag, NULL, NULL, more), { payload });
const raw = (size, doff, type, rest = Buffer.alloc(0)) => {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(size, 0);
  head.set([doff, type], 4);
  return Buffer.concat([head, rest]);
};
const many = (n, make) => Buffer.concat(Array.from({ length: n }, (_, i) => make(i)));
const LINK = Buffer.concat([OPEN, begin(0), sender(0)]);

// What is said, and the condition that is answered; null: the connection ends without one, before anything was proven.
const ends = [
  ['a frame of no bytes', Buffer.concat([OPEN, raw(0, 2, 0)]), 'amqp:decode-error'],
  ['a frame shorter than its head', Buffer.concat([OPEN, raw(7, 2, 0)]), 'amqp:decode-error'],
  ['a frame larger than was agreed', Buffer.concat([OPEN, raw(65537, 2, 0)]), 'amqp:connection:framing-error'],
  ['a frame of four gigabytes', Buffer.concat([OPEN, raw(0xffffffff, 2, 0)]), 'amqp:connection:framing-error'],
  ['a data offset inside the head', Buffer.concat([OPEN, raw(12, 1, 0, Buffer.alloc(4))]), 'amqp:decode-error'],
  ['a data offset behind the end', Buffer.concat([OPEN, raw(12, 200, 0, Buffer.alloc(4))]), 'amqp:decode-error'],
  ['a frame type that does not exist', Buffer.concat([OPEN, raw(12, 2, 7, Buffer.from([0, 0x53, 0x11, 0x45]))]), 'amqp:decode-error'],
  ['a performative that does not exist', Buffer.concat([OPEN, frame(0x1f, list())]), 'amqp:decode-error'],
  ['a body that is no performative', Buffer.concat([OPEN, raw(12, 2, 0, Buffer.from('????'))]), 'amqp:decode-error'],
  ['fields that are longer than the frame', Buffer.concat([OPEN, raw(14, 2, 0, Buffer.from([0, 0x53, 0x11, 0xc0, 200, 4]))]), 'amqp:decode-error'],
  ['a list of four billion fields', Buffer.concat([OPEN, raw(20, 2, 0, Buffer.from([0, 0x53, 0x11, 0xd0, 0, 0, 0, 4, 255, 255, 255, 255]))]), 'amqp:decode-error'],
  ['a begin before the open', Buffer.concat([HEADER(0), begin(0)]), 'amqp:connection:framing-error'],
  ['a second open', Buffer.concat([OPEN, frame(0x10, list(text(0xa1, 'c')))]), 'amqp:decode-error'],
  ['a frame of SASL behind the open', Buffer.concat([OPEN, saslInit('ANONYMOUS')]), 'amqp:connection:framing-error'],
  ['two sessions on one channel', Buffer.concat([OPEN, begin(0), begin(0)]), 'amqp:not-allowed'],
  ['a link on no session', Buffer.concat([OPEN, sender(0, 'x', 5)]), 'amqp:not-found'],
  ['two links on one handle', Buffer.concat([LINK, sender(0, 'other')]), 'amqp:session:handle-in-use'],
  ['a transfer on no link', Buffer.concat([LINK, transfer(9, 0)]), 'amqp:session:unattached-handle'],
  ['a flow on no link', Buffer.concat([LINK, frame(0x13, list(uint(0), uint(100), uint(0), uint(100), uint(9)))]), 'amqp:session:unattached-handle'],
  ['a transfer against the direction of its link', Buffer.concat([OPEN, begin(0), receiver(0), transfer(0, 0)]), 'amqp:session:unattached-handle'],
  ['a delivery without an id', Buffer.concat([LINK, transfer(0, null, { more: T })]), 'amqp:invalid-field'],
  ['a delivery without a tag', Buffer.concat([LINK, transfer(0, 0, { tag: NULL, more: T })]), 'amqp:invalid-field'],
  ['a tag of more than 32 bytes', Buffer.concat([LINK, transfer(0, 0, { tag: bin(Buffer.alloc(33)) })]), 'amqp:invalid-field'],
  ['a delivery without credit', Buffer.concat([OPEN, begin(0), sender(0, 'refused', 0, '/messages/devicebound'), transfer(0, 0)]), 'amqp:link:transfer-limit-exceeded'],
  ['two thousand sessions', Buffer.concat([OPEN, many(2000, begin)]), 'amqp:resource-limit-exceeded'],
  ['ten thousand links', Buffer.concat([OPEN, begin(0), many(10000, (i) => sender(i))]), 'amqp:resource-limit-exceeded'],
  ['a handle that was not allowed', Buffer.concat([OPEN, begin(0), sender(0x7fffffff)]), 'amqp:connection:framing-error'],
  ['a megabyte before any login', Buffer.concat([OPEN, many(40000, () => raw(8, 2, 0)), begin(0), many(20000, () => frame(0x13, list(uint(0), uint(100), uint(0), uint(100))))]), null],
];

for (const [what, bytes, condition] of ends)
  test(`${what}: told why, closed, and nobody else notices`, async () => {
    const s = await socket();
    s.on('error', () => {}); // it may be closed while we write
    s.write(bytes);
    const told = () => framesOf(s.chunks).filter((f) => [0x16, 0x17, 0x18].includes(f.code) && f.body.includes('amqp:')).map((f) => /(?:amqp|com\.microsoft):[a-z:-]+/.exec(f.body.toString('latin1'))[0]);
    await waitFor('an end', () => s.ended || told().length);
    if (condition) assert.equal(told()[0], condition);
    await witness.works();
    s.destroy();
  });

// Numbers that run over are sums modulo 2^32 here, or credit that is cut: no end, and no more than there is.
test('flows that overflow are counted as the standard says', async () => {
  const s = await socket();
  s.write(Buffer.concat([OPEN, begin(0), receiver(0), many(3, () => frame(0x13, list(uint(0xffffffff), uint(0xffffffff), uint(0xffffffff), uint(0xffffffff), uint(0), uint(0xffffffff), uint(0xffffffff), uint(0xffffffff)))),
    sender(1)]));
  await waitFor('an answer to the last', () => framesOf(s.chunks).filter((f) => f.code === 0x12).length === 2);
  assert.ok(!s.ended);
  await witness.works();
  s.destroy();
});

test('a reader that does not read costs bounded memory, and others nothing', async () => {
  const d = await newDevice(hub);
  const dc = await online(d);
  const up = await attachSender(dc, `/devices/${d.id}/messages/events`);
  const big = rhea.message.data_section(Buffer.alloc(60000, 'x'));
  for (let i = 0; i < 40; i++) assert.equal((await send(up, { body: big })).how, 'accepted'); // 2.4 MB
  const [{ partition }] = await telemetry(hub, d.id, 40);
  const c = await serviceOnline();
  const r = await attachReceiver(c, `hub/ConsumerGroups/$Default/Partitions/${partition}`);
  c.socket.pause();
  r.add_credit(100000);
  for (let i = 0; i < 5; i++) {
    assert.equal((await send(up, { body: big })).how, 'accepted');
    await witness.works();
  }
  const other = await serviceOnline();
  const quick = await attachReceiver(other, `hub/ConsumerGroups/$Default/Partitions/${partition}`);
  quick.add_credit(100000);
  const of = (x) => x.got.filter((g) => g.message.message_annotations['iothub-connection-device-id'] === d.id).length;
  await waitFor('all for who reads', () => of(quick) === 45);
  assert.equal(of(r), 0);
  c.socket.resume(); // nothing was lost for it either
  await waitFor('all for who was slow', () => of(r) === 45);
  for (const x of [dc, c, other]) x.close();
});
