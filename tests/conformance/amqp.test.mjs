// AMQP by a bare client (rhea): openings, tokens, links, settlement, and readers of telemetry, where SDKs never look.
import assert from 'node:assert/strict';
import { createHmac, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { closeHub, NAME, newDevice, openHub, parseConnectionString, policyKey, run, sasToken, sendC2d, telemetry, tempDir, waitFor } from './lib/hub.mjs';
import { HEADER, NULL, attachReceiver, attachSender, bin, cbs, deviceToken, dial, frame, framesOf, list, online, ownerToken, sasl, send, serviceOnline, socket, text, rhea, useHub } from './lib/amqp.mjs';

let hub, policy;
before(async () => {
  hub = await openHub({ settings: { messages: { c2d_lock_s: 5, c2d_deliveries: 3 }, access: { grace_s: 1 } } });
  policy = parseConnectionString(hub.connectionString);
  useHub(hub);
});
after(async () => { await closeHub(hub); });

test('[amqp 2] [amqp 3] [amqp 4] [amqp 8] SASL offers its mechanisms and takes them in every form', async () => {
  for (const [mechanism, response, code] of [['ANONYMOUS', undefined, 0], ['ANONYMOUS', bin(Buffer.alloc(0)), 0],
    ['ANONYMOUS', bin(Buffer.from('\0owner')), 0], ['MSSBCBS', undefined, 0], [null, undefined, 1], ['GSSAPI', undefined, 1],
    ['EXTERNAL', undefined, 1], ['PLAIN', undefined, 1]]) {
    const r = await sasl(mechanism, response);
    const offered = framesOf(r.s.chunks);
    assert.equal(offered[0].header, 3);
    assert.equal(offered[1].code, 0x40);
    for (const m of ['MSSBCBS', 'ANONYMOUS', 'PLAIN', 'EXTERNAL']) assert.ok(offered[1].body.includes(m), m);
    assert.equal(r.code, code, `${mechanism}`);
    if (code) await waitFor('the end', () => r.s.ended);
    r.s.destroy();
  }
});

test('[amqp 5] [amqp 6] [amqp 7] SASL PLAIN', async () => {
  const d = await newDevice(hub);
  const plain = (user, password) => sasl('PLAIN', bin(Buffer.from(`\0${user}\0${password}`)));
  const p = policy.SharedAccessKeyName;
  const label = NAME.split('.')[0];
  for (const [user, token, code] of [
    [`${p}@sas.root.${label}`, ownerToken(), 0],
    [`${p}@sas.root.${NAME}`, ownerToken(), 0],
    [`${d.id}@sas.${label}`, deviceToken(d), 0],
    [`${d.id}@sas.${NAME}`, deviceToken(d, d.key2), 0],
    [`${p}@sas.root.${label}`, sasToken(NAME, Buffer.alloc(32).toString('base64'), p), 1],
    [`${p}@sas.root.${label}`, sasToken(NAME, policy.SharedAccessKey, p, -3600), 1],
    [`nobody@sas.root.${label}`, sasToken(NAME, policy.SharedAccessKey, 'nobody'), 1],
    [`${p}@sas.root.otherhub`, ownerToken(), 1],
    [`other@sas.${label}`, deviceToken(d), 1],
    [d.id, deviceToken(d), 1],
    [`${p}@sas.root.${label}`, 'nonsense', 1],
  ]) {
    const r = await plain(user, token);
    assert.equal(r.code, code, user);
    if (code) await waitFor('the end', () => r.s.ended);
    r.s.destroy();
  }
});

test('[amqp 9] a header of something else is answered with ours, and the end', async () => {
  for (const [bytes, want] of [[HEADER(2), 0], [Buffer.from('AMQP\0\0\x09\x01', 'latin1'), 0], [Buffer.from('AMQP\x03\x02\0\0', 'latin1'), 3], [Buffer.from('GET / HTTP/1.1\r\n\r\n'), 0]]) {
    const s = await socket();
    s.write(bytes);
    await waitFor('the end', () => s.ended);
    assert.deepEqual(s.chunks, HEADER(want));
  }
});

test('[amqp 15] [amqp 16] [amqp 22] [amqp 23] open, begin, attach, detach, end and close carry every field', async () => {
  const s = await socket();
  s.write(Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c'), text(0xa1, NAME))),
    frame(0x11, list(NULL, Buffer.from([0x43]), Buffer.from([0x52, 100]), Buffer.from([0x52, 100]))),
    frame(0x12, list(text(0xa1, '$cbs-sender'), Buffer.from([0x43]), Buffer.from([0x42]), NULL, Buffer.from([0x50, 1]),
      Buffer.concat([Buffer.from([0, 0x53, 0x28]), list(text(0xa1, '$cbs'))]), Buffer.concat([Buffer.from([0, 0x53, 0x29]), list(text(0xa1, '$cbs'))]))),
    frame(0x16, list(Buffer.from([0x43]), Buffer.from([0x41]))), frame(0x17, Buffer.from([0x45])), frame(0x18, Buffer.from([0x45]))]));
  await waitFor('the end', () => s.ended);
  const all = framesOf(s.chunks);
  assert.equal(all[0].header, 0);
  const by = (code) => all.find((f) => f.code === code);
  assert.deepEqual([0x10, 0x11, 0x12, 0x16, 0x17, 0x18].map((c) => by(c).count), [10, 8, 14, 3, 1, 1]);
  const open = by(0x10).body;
  assert.ok(open.includes(Buffer.from([0x70, 0, 1, 0, 0])), 'frames of 65536');
  assert.ok(open.includes(Buffer.from([0x70, 0, 3, 0xa9, 0x80])), 'idle time 240000');
  assert.ok(open.includes('DeviceGateway_') && open.includes('product'));
  assert.ok(by(0x11).body.includes(Buffer.from([0x70, 0, 3, 0xff, 0xff])), 'handle-max');
  const attach = by(0x12).body;
  assert.ok(attach.includes('$cbs-sender') && attach.includes('product'));
});

test('[amqp 19] [amqp 20] [amqp 24] small frames, too large ones, and a delivery without an id', async () => {
  const s = await socket();
  s.write(Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c'), NULL, Buffer.from([0x70, 0, 0, 2, 0])))]));
  await s.got(20);
  s.write(Buffer.from([0, 1, 0, 1, 2, 0, 0, 0]));
  await waitFor('the end', () => s.ended);
  for (const f of framesOf(s.chunks)) assert.ok(!f.size || f.size <= 512);
  assert.ok(s.chunks.includes('amqp:connection:framing-error'));
  const t = await socket();
  t.write(Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c'))),
    frame(0x11, list(NULL, Buffer.from([0x43]), Buffer.from([0x52, 100]), Buffer.from([0x52, 100]))),
    frame(0x12, list(text(0xa1, 'x'), Buffer.from([0x43]), Buffer.from([0x42]), NULL, NULL, NULL, Buffer.concat([Buffer.from([0, 0x53, 0x29]), list(text(0xa1, '$cbs'))]))),
    frame(0x14, list(Buffer.from([0x43]), NULL, NULL, NULL, NULL, Buffer.from([0x41])))]));
  await waitFor('the end', () => t.ended);
  assert.ok(t.chunks.includes('amqp:invalid-field'));
  assert.equal((await hub.request('GET', '/roost/v1/status')).status, 200);
});

test('[amqp 26] [amqp 27] [amqp 28] [amqp 30] [amqp 33] put-token: ids of each type, the order of frames, the status', async () => {
  const d = await newDevice(hub);
  const c = await dial();
  const k = await cbs(c);
  const uuid = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
  for (const [id, want] of [[rhea.types.wrap_ulong(0), 0], ['text', 'text'], [rhea.types.wrap_uuid(uuid), uuid], [rhea.types.wrap_binary(Buffer.from([1, 2])), Buffer.from([1, 2])]]) {
    const r = await k.put(`${NAME}/devices/${d.id}`, deviceToken(d), { id });
    assert.equal(r.code, 200);
    assert.equal(typeof r.text, 'string');
    assert.equal(r.to, 'cbs');
    assert.deepEqual(typeof want === 'object' ? Buffer.from(r.correlation) : r.correlation, want);
  }
  assert.deepEqual(k.order, Array(4).fill(['disposition', 'answer']).flat());
  assert.equal((await k.put('x', deviceToken(d), { type: 'jwt' })).code, 200);
  c.close();
});

test('[amqp 31] [amqp 32] [amqp 34] [amqp 37] tokens that are good, and those that are not', async () => {
  const d = await newDevice(hub), gone = { id: 'never-made', key: d.key };
  const c = await dial();
  const k = await cbs(c);
  const sign = (sr, se, key) => createHmac('sha256', key).update(`${sr}\n${se}`).digest('base64');
  const se = Math.floor(Date.now() / 1000) + 600;
  const sr = `${NAME}/devices/${d.id}`;
  const good = encodeURIComponent(sign(sr, se, Buffer.from(d.key, 'base64')));
  const lower = encodeURIComponent(sign(encodeURIComponent(sr), se, Buffer.from(d.key, 'base64'))).replace(/%[0-9A-F]{2}/g, (x) => x.toLowerCase());
  const eh = encodeURIComponent(`sb://${NAME}/hub`);
  const byText = encodeURIComponent(sign(eh, se, policy.SharedAccessKey));
  for (const [token, code] of [
    [`SharedAccessSignature se=${se}&sig=${good}&sr=${sr}`, 200],
    [`SharedAccessSignature sig=${lower}&se=${se}&sr=${encodeURIComponent(sr)}&skn=`, 200],
    [deviceToken(d, d.key2), 200],
    [`SharedAccessSignature sr=${eh}&sig=${byText}&se=${se}&skn=${policy.SharedAccessKeyName}`, 200],
    [deviceToken(d, Buffer.alloc(32).toString('base64')), 401],
    [deviceToken(d, d.key, -3600), 401],
    [deviceToken(gone), 401],
    [sasToken(NAME, policy.SharedAccessKey, 'no-such-policy'), 401],
    ['Bearer abc', 401],
  ]) {
    const r = await k.put(NAME, token);
    assert.equal(r.code, code, `${token}: ${r.text}`);
    assert.ok(r.text.length);
  }
  await hub.api('PUT', `/roost/v1/devices/${d.id}`, { status: 'disabled' });
  assert.equal((await k.put(NAME, deviceToken(d))).code, 401);
  assert.ok(c.is_open());
  c.close();
});

test('[amqp 35] [amqp 36] [amqp 43] [amqp 89] [amqp 109] what a token does not cover is refused, with an info map', async () => {
  const a = await newDevice(hub, 'only-a'), b = await newDevice(hub, 'only-b');
  const none = await dial();
  await assert.rejects(attachSender(none, `/devices/${a.id}/messages/events`), { condition: 'amqp:unauthorized-access' });
  none.close();
  const c = await online(a);
  for (const address of [`/devices/${b.id}/messages/events`, '/devices/Only-A/messages/events', '/messages/devicebound', '/devices/only-a/modules/m/messages/events'])
    await assert.rejects(attachSender(c, address), (e) => e.condition === 'amqp:unauthorized-access' && typeof e.info['com.microsoft:tracking-id'] === 'string', address);
  await assert.rejects(attachReceiver(c, '/messages/servicebound/feedback'), { condition: 'amqp:unauthorized-access' });
  await attachSender(c, `/devices/${a.id}/messages/events`);
  c.close();
  const s = await serviceOnline();
  s.close();
  const narrow = await dial(), tokens = await cbs(narrow); // a policy with all rights, a token for less than the hub
  assert.equal((await tokens.put(NAME, ownerToken(`${NAME}/devices/${a.id}`))).code, 200);
  for (const address of ['/messages/devicebound', '$management'])
    await assert.rejects(attachSender(narrow, address), { condition: 'amqp:unauthorized-access' }, address);
  for (const address of ['/messages/servicebound/feedback', 'hub/ConsumerGroups/$Default/Partitions/0'])
    await assert.rejects(attachReceiver(narrow, address), { condition: 'amqp:unauthorized-access' }, address);
  assert.equal((await tokens.put(NAME, ownerToken(`${NAME}/messages/devicebound`))).code, 200);
  await attachSender(narrow, '/messages/devicebound');
  await assert.rejects(attachReceiver(narrow, '/messages/servicebound/feedback'), { condition: 'amqp:unauthorized-access' });
  narrow.close();
});

test('[amqp 40] [amqp 76] many devices on one connection; one that connects elsewhere leaves the others alone', async () => {
  const a = await newDevice(hub), b = await newDevice(hub);
  const c = await online(a);
  assert.equal((await c.cbs.put(`${NAME}/devices/${b.id}`, deviceToken(b))).code, 200);
  const sa = c.create_session(), sb = c.create_session();
  sa.begin();
  sb.begin();
  const la = await attachSender(sa, `/devices/${a.id}/messages/events`, { name: 'TelemetrySenderLink' });
  const lb = await attachSender(sb, `/devices/${b.id}/messages/events`, { name: 'TelemetrySenderLink' });
  assert.equal((await send(la, { body: rhea.message.data_section(Buffer.from('a')) })).how, 'accepted');
  const lost = new Promise((done) => la.once('sender_error', () => done(la.error)));
  const other = await online(a);
  await attachSender(other, `/devices/${a.id}/messages/events`);
  assert.equal((await lost).condition, 'com.microsoft:link-creation-conflict');
  assert.equal((await send(lb, { body: rhea.message.data_section(Buffer.from('b')) })).how, 'accepted');
  other.close();
  c.close();
});

test('[amqp 49] [amqp 50] [amqp 54] [amqp 55] sizes, undecodable bodies, ids', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const data = (n) => rhea.message.data_section(Buffer.alloc(n, 'x'));
  assert.equal((await send(s, { body: data(200_000), message_id: rhea.types.wrap_uuid(Buffer.from('00112233445566778899aabbccddeeff', 'hex')) })).how, 'accepted');
  const large = await send(s, { body: data(262145) });
  assert.equal(large.how, 'rejected');
  assert.equal(large.error.condition, 'amqp:link:message-size-exceeded');
  const odd = await send(s, { body: [1, 2] });
  assert.equal(odd.error.condition, 'amqp:decode-error');
  assert.equal((await send(s, { body: 'text' })).how, 'accepted');
  const rows = await telemetry(hub, d.id, 2);
  assert.equal(rows[0].system['message-id'], '00112233-4455-6677-8899-aabbccddeeff');
  c.close();
});

test('[amqp 46] [amqp 47] [amqp 53] a batch is stored as its messages, and nobody else can be named', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const inner = (n) => rhea.message.encode({ application_properties: { n }, message_annotations: { 'iothub-connection-device-id': 'someone' }, body: rhea.message.data_section(Buffer.from(`body${n}`)) });
  const batch = (...parts) => rhea.message.encode({ body: rhea.message.data_sections(parts) });
  assert.equal((await send(s, batch(inner('1'), inner('2'), inner('3')), { format: 0x80013700 })).how, 'accepted');
  assert.equal((await send(s, batch(inner('4')), { format: 0x80013700 })).how, 'accepted');
  const rows = await telemetry(hub, d.id, 4);
  assert.deepEqual(rows.map((r) => r.properties.n), ['1', '2', '3', '4']);
  assert.ok(rows.every((r) => r.device === d.id));
  c.close();
});

test('[amqp 51] a settled message is stored', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`, { snd_settle_mode: 1 });
  s.send({ body: rhea.message.data_section(Buffer.from('quiet')) });
  await telemetry(hub, d.id, 1);
  c.close();
});

test('[amqp 56] [amqp 57] [amqp 58] [amqp 64] a message to a device: tag, annotations, credit, one Data section', async () => {
  const d = await newDevice(hub);
  for (const body of ['1', '2', '3']) await sendC2d(hub, d.id, { body });
  const c = await online(d);
  const r = await attachReceiver(c, `/devices/${d.id}/messages/devicebound`);
  r.add_credit(1);
  await waitFor('one', () => r.got.length === 1);
  const echo = (await c.cbs.put('again', deviceToken(d))).code; // whatever was under way has come
  assert.equal(echo, 200);
  assert.equal(r.got.length, 1);
  const { message, delivery } = r.got[0];
  assert.equal(delivery.tag.length, 16);
  assert.equal(message.body.typecode, 0x75);
  assert.equal(message.to, `/devices/${d.id}/messages/devicebound`);
  assert.equal(message.message_annotations['iothub-deliverycount'], 0);
  assert.equal(typeof message.message_annotations['x-opt-sequence-number'], 'number');
  assert.ok(message.message_annotations['iothub-enqueuedtime'] instanceof Date);
  delivery.accept();
  r.add_credit(2);
  await waitFor('all', () => r.got.length === 3);
  assert.equal(new Set(r.got.map((g) => g.delivery.tag.toString('hex'))).size, 3);
  assert.deepEqual(r.got.map((g) => g.message.body.content.toString()), ['1', '2', '3']);
  c.close();
});

test('[amqp 62] [amqp 63] what was not settled comes again in order, and is given up in the end', async () => {
  const d = await newDevice(hub);
  for (const body of ['1', '2']) await sendC2d(hub, d.id, { body, messageId: `m${body}`, ack: 'full' });
  for (let round = 0; round < 3; round++) {
    const c = await online(d);
    const r = await attachReceiver(c, `/devices/${d.id}/messages/devicebound`);
    r.add_credit(10);
    await waitFor('both', () => r.got.length === 2);
    assert.deepEqual(r.got.map((g) => g.message.body.content.toString()), ['1', '2']);
    assert.equal(r.got[0].message.message_annotations['iothub-deliverycount'], round);
    c.close();
    await waitFor('the end', () => c.is_closed());
  }
  const c = await online(d);
  const r = await attachReceiver(c, `/devices/${d.id}/messages/devicebound`);
  r.add_credit(10);
  const outcomes = await waitFor('feedback', async () => {
    const f = (await hub.api('GET', '/roost/v1/feedback?after=0')).feedback.filter((x) => x.device === d.id);
    return f.length === 2 && f;
  });
  assert.deepEqual(outcomes.map((o) => o.outcome), ['DeliveryCountExceeded', 'DeliveryCountExceeded']);
  c.close();
});

test('[amqp 84] a malformed address is an argument error', async () => {
  const c = await serviceOnline();
  const s = await attachSender(c, `amqps://${NAME}/messages/deviceBound`);
  for (const to of ['nowhere', '/devices/messages/devicebound', undefined]) {
    const r = await send(s, { to, body: rhea.message.data_section(Buffer.from('x')) });
    assert.equal(r.error.condition, 'com.microsoft:argument-error', `${to}`);
  }
  const d = await newDevice(hub);
  const bad = await send(s, { to: `/devices/${d.id}/messages/devicebound`, application_properties: { 'iothub-ack': 'maybe' }, body: rhea.message.data_section(Buffer.from('x')) });
  assert.equal(bad.error.condition, 'com.microsoft:argument-error');
  assert.equal((await send(s, { to: `/devices/${encodeURIComponent(d.id)}/messages/devicebound` })).how, 'accepted');
  c.close();
});

test('[amqp 36] policies: a device, a service, and who may be both', async () => {
  const d = await newDevice(hub);
  const as = async (name) => {
    const c = await dial();
    assert.equal((await (await cbs(c)).put(NAME, sasToken(NAME, policyKey(hub, name), name))).code, 200);
    return c;
  };
  const service = await as('service');
  await attachSender(service, '/messages/devicebound');
  await assert.rejects(attachSender(service, `/devices/${d.id}/messages/events`), { condition: 'amqp:unauthorized-access' });
  service.close();
  const device = await as('device');
  const s = await attachSender(device, `/devices/${d.id}/messages/events`);
  assert.equal((await send(s, { body: rhea.message.data_section(Buffer.from('x')) })).how, 'accepted');
  await assert.rejects(attachSender(device, '/devices/never-made/messages/events'), { condition: 'amqp:unauthorized-access' });
  await assert.rejects(attachSender(device, '/messages/devicebound'), { condition: 'amqp:unauthorized-access' });
  device.close();
});

test('[amqp 13] a device proves itself by its certificate, without any token', async () => {
  const dir = tempDir();
  const [key, crt] = ['key', 'crt'].map((n) => join(dir.dir, n));
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', crt, '-days', '2', '-subj', '/CN=by-cert']);
  const cert = readFileSync(crt);
  const thumbprint = new X509Certificate(cert).fingerprint256.replaceAll(':', '');
  await hub.api('PUT', '/roost/v1/devices/by-cert', { authentication: 'selfSigned', thumbprint });
  const c = await dial({ key: readFileSync(key), cert });
  const s = await attachSender(c, '/devices/by-cert/messages/events');
  assert.equal((await send(s, { body: rhea.message.data_section(Buffer.from('x')) })).how, 'accepted');
  const other = await newDevice(hub);
  await assert.rejects(attachSender(c, `/devices/${other.id}/messages/events`), { condition: 'amqp:unauthorized-access' });
  const [row] = await telemetry(hub, 'by-cert', 1);
  assert.match(JSON.stringify(row), /x509/);
  c.close();
  dir.remove();
});

test('[amqp 38] [amqp 39] a renewed token keeps its links; one that ends takes them along', async () => {
  const d = await newDevice(hub), e = await newDevice(hub);
  const c = await dial();
  const k = await cbs(c);
  await k.put('d', deviceToken(d, d.key, 2));
  await k.put('e', deviceToken(e, e.key, 2));
  const sd = await attachSender(c, `/devices/${d.id}/messages/events`), se = await attachSender(c, `/devices/${e.id}/messages/events`);
  const ended = new Promise((done) => se.once('sender_error', () => done(se.error)));
  await k.put('d', deviceToken(d));
  assert.equal((await ended).condition, 'amqp:unauthorized-access');
  assert.equal((await send(sd, { body: rhea.message.data_section(Buffer.from('x')) })).how, 'accepted');
  c.close();
});

test('[amqp 60] [amqp 61] in the second mode the hub answers, and says when a lock was lost', async () => {
  const d = await newDevice(hub);
  for (const body of ['1', '2', '3']) await sendC2d(hub, d.id, { body });
  const c = await online(d);
  const r = await attachReceiver(c, `/devices/${d.id}/messages/devicebound`, { rcv_settle_mode: 1 });
  r.add_credit(3);
  await waitFor('all', () => r.got.length === 3);
  const answers = new Map();
  c.socket.on('data', (b) => {
    for (const f of framesOf(b).filter((x) => x.code === 0x15)) answers.set(answers.size, f.body);
  });
  const say = async (g, how) => {
    const nr = answers.size;
    g.delivery.update(false, how);
    return (await waitFor('an answer', () => answers.size > nr && [...answers.values()].at(-1)));
  };
  const ACCEPTED = Buffer.from([0, 0x53, 0x24]);
  assert.ok((await say(r.got[0], rhea.message.accepted().described())).includes(ACCEPTED));
  assert.ok((await say(r.got[1], rhea.message.rejected().described())).includes(ACCEPTED));
  await waitFor('the lock to run out', async () => { r.add_credit(1); return r.got.length > 3; });
  assert.ok((await say(r.got[2], rhea.message.accepted().described())).includes('com.microsoft:message-lock-lost'));
  c.close();
});

test('[amqp 80] a deleted device loses its links', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const s = await attachSender(c, `/devices/${d.id}/messages/events`);
  const ended = new Promise((done) => s.once('sender_error', () => done(s.error)));
  await hub.api('DELETE', `/roost/v1/devices/${d.id}`);
  assert.equal((await ended).condition, 'amqp:unauthorized-access');
});

const regenerate = async (policyKey, d) => {
  const r = await hub.request('POST', '/devices/keys/regenerate?api-version=2024-03-31', { body: { policyKey, devices: [{ id: d.id }] } });
  assert.equal(r.status, 200, r.body.toString());
};
const lost = (link) => new Promise((done) => link.once('sender_error', () => done(link.error.condition)));

test('[amqp 80] a new key takes the links along that the old one opened, and no others', async () => {
  const a = await newDevice(hub), b = await newDevice(hub), c = await dial();
  const k = await cbs(c);
  const { primaryKey: _, ...row } = await hub.api('GET', `/roost/v1/devices/${b.id}`);
  assert.equal((await k.put('a', deviceToken(a))).code, 200);
  assert.equal((await k.put('b', deviceToken(b, row.secondaryKey))).code, 200);
  const sa = await attachSender(c, `/devices/${a.id}/messages/events`), sb = await attachSender(c, `/devices/${b.id}/messages/events`);
  const ended = lost(sa);
  await regenerate('primaryKey', b); // it used the other one
  await regenerate('primaryKey', a);
  assert.equal(await ended, 'amqp:unauthorized-access');
  assert.equal((await send(sb, { body: rhea.message.data_section(Buffer.from('x')) })).how, 'accepted');
  const gone = lost(sb);
  await regenerate('secondaryKey', b);
  assert.equal(await gone, 'amqp:unauthorized-access');
  c.close();
});

test('[amqp 80] a token that was good opens no link any more once its device is disabled or has other keys', async () => {
  for (const change of [(d) => hub.api('PUT', `/roost/v1/devices/${d.id}`, { status: 'disabled' }), (d) => regenerate('both', d)]) {
    const d = await newDevice(hub), c = await online(d); // a token, and no link yet
    await change(d);
    assert.equal(await lost(c.open_sender({ target: `/devices/${d.id}/messages/events` })), 'amqp:unauthorized-access');
    c.close();
  }
});

test('[amqp 13] an authority that is removed takes the links along of whom it vouched for', async () => {
  const dir = tempDir(), at = (n) => join(dir.dir, n);
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await run('openssl', ['req', '-x509', ...ec, '-keyout', at('ca.key'), '-out', at('ca.crt'), '-days', '2', '-subj', '/CN=amqp plant']);
  await run('openssl', ['req', ...ec, '-keyout', at('key'), '-out', at('csr'), '-subj', '/CN=by-plant']);
  await run('openssl', ['x509', '-req', '-in', at('csr'), '-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-out', at('crt'), '-days', '2']);
  assert.equal((await hub.request('PUT', '/roost/v1/ca/amqp', { body: readFileSync(at('ca.crt'), 'utf8') })).status, 201);
  await hub.api('PUT', '/roost/v1/devices/by-plant', { authentication: 'certificateAuthority' });
  const c = await dial({ key: readFileSync(at('key')), cert: readFileSync(at('crt')) });
  const s = await attachSender(c, '/devices/by-plant/messages/events');
  assert.equal((await send(s, { body: rhea.message.data_section(Buffer.from('x')) })).how, 'accepted');
  const ended = lost(s);
  await hub.api('DELETE', '/roost/v1/ca/amqp');
  assert.equal(await ended, 'amqp:unauthorized-access');
  c.close();
  dir.remove();
});

test('[amqp 66] [amqp 67] [amqp 69] [amqp 71] twin links: types, settlement, invalid JSON, pairs', async () => {
  const a = await newDevice(hub), b = await newDevice(hub);
  const c = await online(a);
  await c.cbs.put('b', deviceToken(b));
  const pair = async (d, id) => {
    const properties = { 'com.microsoft:channel-correlation-id': `twin:${id}` };
    const sender = await attachSender(c, `/devices/${d.id}/twin`, { properties });
    const receiver = await attachReceiver(c, `/devices/${d.id}/twin`, { properties, autoaccept: true });
    receiver.add_credit(10);
    return { sender, receiver };
  };
  const pa = await pair(a, 'one'), pb = await pair(b, 'two');
  const order = [];
  c.socket.on('data', (x) => order.push(...framesOf(x).filter((f) => f.code === 0x14).map((f) => f.body)));
  const ask = (p, operation, resource, body, id) => send(p.sender, { correlation_id: id, message_annotations: { operation, ...(resource ? { resource } : {}) },
    ...(body === undefined ? {} : { body: rhea.message.data_section(Buffer.from(body)) }) });
  assert.equal((await ask(pa, 'PATCH', '/properties/reported', '{"x":1}', 'Patch1')).how, 'accepted');
  await waitFor('an answer', () => pa.receiver.got.length === 1);
  assert.equal(pa.receiver.got[0].message.correlation_id, 'Patch1');
  assert.equal(pa.receiver.got[0].message.message_annotations.status, 200);
  assert.equal(pb.receiver.got.length, 0);
  assert.ok(order.some((x) => x.includes(Buffer.from('\xa3\x06status\x71\0\0\0\xc8', 'latin1')) && x.includes(Buffer.from('\xa3\x07version\x55', 'latin1'))));
  await ask(pb, 'PATCH', '/properties/reported', '{"x":', 'bad');
  await waitFor('an answer', () => pb.receiver.got.length === 1);
  assert.equal(pb.receiver.got[0].message.message_annotations.status, 400);
  JSON.parse(pb.receiver.got[0].message.body.content.toString());
  for (const body of ['', ' ', undefined]) {
    const nr = pa.receiver.got.length;
    await ask(pa, 'GET', undefined, body, `g${nr}`);
    await waitFor('an answer', () => pa.receiver.got.length > nr);
    assert.equal(JSON.parse(pa.receiver.got.at(-1).message.body.content.toString()).reported.x, 1);
  }
  c.close();
});

test('[amqp 93] [amqp 94] [amqp 95] $management: forms of requests and its errors', async () => {
  const c = await serviceOnline();
  const sender = await attachSender(c, `amqps://${NAME}:5671/hub/$management`);
  const receiver = await attachReceiver(c, '$management', { autoaccept: true });
  receiver.add_credit(10);
  const ask = async (properties, id) => {
    const nr = receiver.got.length;
    await send(sender, { message_id: id, application_properties: { operation: 'READ', security_token: rhea.types.wrap_described(5, Buffer.from([1])), ...properties } });
    await waitFor('an answer', () => receiver.got.length > nr);
    return receiver.got.at(-1).message;
  };
  const hubInfo = await ask({ name: 'hub', type: 'com.microsoft:eventhub' }, rhea.types.wrap_ulong(0));
  assert.equal(hubInfo.correlation_id, 0);
  assert.equal(hubInfo.application_properties['status-code'], 200);
  assert.deepEqual([...hubInfo.body.partition_ids], ['0', '1', '2', '3']);
  const p = await ask({ name: 'hub', type: 'com.microsoft:partition', partition: '3' }, 'text');
  assert.equal(p.correlation_id, 'text');
  assert.deepEqual(Object.keys(p.body).sort(), ['begin_sequence_number', 'is_partition_empty', 'last_enqueued_offset', 'last_enqueued_sequence_number', 'last_enqueued_time_utc', 'name', 'partition', 'type']);
  const codes = [];
  for (const q of [{ name: 'other', type: 'com.microsoft:eventhub' }, { name: 'hub', type: 'com.microsoft:partition', partition: '99' }, { name: 'hub', type: 'x' }])
    codes.push((await ask(q, 'e')).application_properties['status-code']);
  assert.deepEqual(codes, [404, 400, 400]);
  c.close();
});

// ---- the telemetry endpoint --------------------------------------------------------------------------------

const at = (expression) => ({ address: undefined, filter: { 'apache.org:selector-filter:string': rhea.types.wrap_described(expression, 0x468c00000004) } });
const place = (p, g = '$Default') => `hub/ConsumerGroups/${g}/Partitions/${p}`;
const reader = (c, p, expression, options = {}) =>
  attachReceiver(c, expression ? { ...at(expression), address: place(p) } : place(p), options);
const epoch = (n) => ({ properties: { 'com.microsoft:epoch': rhea.types.wrap_long(n) } });

test('[amqp 90] a receiver on the hub\'s address is told where telemetry is', async () => {
  const c = await serviceOnline();
  const r = c.open_receiver({ source: `amqps://${NAME}/messages/events/$management`, credit_window: 1 });
  let opened = false;
  r.once('receiver_open', () => { opened = true; });
  const e = await new Promise((done) => r.once('receiver_error', () => done(r.error)));
  assert.ok(opened);
  assert.equal(e.condition, 'amqp:link:redirect');
  assert.equal(e.info.hostname, NAME);
  assert.equal(e.info['network-host'], NAME);
  assert.equal(e.info.address, `amqps://${NAME}:${e.info.port}/hub/$management`);
  c.close();
});

test('[amqp 96] [amqp 97] [amqp 98] [amqp 99] [amqp 101] where a reader starts, and how much it gets', async () => {
  const d = await newDevice(hub);
  const dc = await online(d);
  const s = await attachSender(dc, `/devices/${d.id}/messages/events`);
  for (let i = 0; i < 5; i++) await send(s, { body: rhea.message.data_section(Buffer.from(`${i}`)) });
  const rows = await telemetry(hub, d.id, 5);
  const p = rows[0].partition, seqs = rows.map((r) => r.sequence);
  const c = await serviceOnline();
  const read = async (expression, nr, credit = 50) => {
    const r = await reader(c, p, expression);
    r.add_credit(credit);
    await waitFor('events', () => r.got.filter((g) => g.message.message_annotations['iothub-connection-device-id'] === d.id).length >= nr);
    assert.ok(r.got.length <= credit);
    assert.ok(r.got.every((g) => g.delivery.remote_settled));
    r.close();
    return r.got.map((g) => g.message).filter((m) => m.message_annotations['iothub-connection-device-id'] === d.id);
  };
  const bodies = (list) => list.map((m) => m.body.content.toString());
  assert.deepEqual(bodies(await read(undefined, 5)), ['0', '1', '2', '3', '4']);
  assert.deepEqual(bodies(await read("amqp.annotation.x-opt-offset > '-1'", 5)), ['0', '1', '2', '3', '4']);
  assert.deepEqual(bodies(await read(`amqp.annotation.x-opt-offset > '${seqs[2]}'`, 2)), ['3', '4']);
  assert.deepEqual(bodies(await read(`amqp.annotation.x-opt-sequence-number >= '${seqs[2]}'`, 3)), ['2', '3', '4']);
  const [third] = await read(`amqp.annotation.x-opt-sequence-number >= ${seqs[2]}`, 1, 1);
  const ms = +third.message_annotations['x-opt-enqueued-time'];
  assert.ok((await read(`amqp.annotation.x-opt-enqueued-time >= '${ms}'`, 1)).length >= 3);
  assert.equal(third.message_annotations['x-opt-offset'], `${seqs[2]}`);
  assert.equal(third.delivery_annotations.last_enqueued_sequence_number, seqs[4]);
  const latest = await reader(c, p, "amqp.annotation.x-opt-offset > '@latest'");
  latest.add_credit(10);
  await send(s, { body: rhea.message.data_section(Buffer.from('new')) });
  await waitFor('the new one', () => latest.got.length === 1);
  assert.equal(latest.got[0].message.body.content.toString(), 'new');
  await assert.rejects(reader(c, p, "amqp.annotation.x-opt-sequence-number > '999999'"), { condition: 'com.microsoft:argument-error' });
  await assert.rejects(reader(c, p, 'nonsense'), { condition: 'com.microsoft:argument-error' });
  c.close();
  dc.close();
});

test('[amqp 102] [amqp 103] [amqp 104] epochs, the sixth reader, places that are not there', async () => {
  const c = await serviceOnline();
  await assert.rejects(attachReceiver(c, place(0, 'nobodys')), { condition: 'amqp:not-found' });
  await assert.rejects(attachReceiver(c, place(99)), { condition: 'com.microsoft:argument-out-of-range' });
  await assert.rejects(attachReceiver(c, 'other/ConsumerGroups/$Default/Partitions/0'), { condition: 'amqp:not-found' });
  const first = await reader(c, 1, undefined, epoch(1));
  const stolen = new Promise((done) => first.once('receiver_error', () => done(first.error)));
  await assert.rejects(reader(c, 1), { condition: 'amqp:link:stolen' });
  await assert.rejects(reader(c, 1, undefined, epoch(0)), { condition: 'amqp:link:stolen' });
  const second = await reader(c, 1, undefined, epoch(1));
  assert.equal((await stolen).condition, 'amqp:link:stolen');
  second.close();
  for (let i = 0; i < 5; i++) await reader(c, 2);
  await assert.rejects(reader(c, 2), { condition: 'amqp:resource-limit-exceeded' });
  c.close();
});

test('[amqp 112] a hub that stops says so', async () => {
  const other = await openHub();
  const old = hub;
  useHub(other);
  try {
    const c = await dial();
    const error = new Promise((done) => c.once('connection_error', () => done(c.error)));
    await other.stop();
    assert.equal((await error).condition, 'amqp:connection:forced');
  } finally {
    useHub(old);
    await closeHub(other);
  }
});
