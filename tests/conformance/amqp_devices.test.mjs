// Devices over AMQP by a bare client: many sessions, heartbeats, forms of twin requests and method answers, modules, drained
// links, and that the hub settles whatever it is sent.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { closeHub, deviceToken as tokenOf, NAME, newDevice, openHub, telemetry, waitFor } from './lib/hub.mjs';
import { attachReceiver, attachSender, cbs, dial, frame, framesOf, HEADER, list, NULL, online, rhea, send, serviceOnline, socket, text, useHub } from './lib/amqp.mjs';

let hub;
before(async () => {
  hub = await openHub();
  useHub(hub);
});
after(async () => { await closeHub(hub); });

const body = (s) => rhea.message.data_section(Buffer.from(s));
const V = 'api-version=2021-04-12';

test('[amqp 17] the hub says something within half of the time that a peer asks for', async () => {
  const s = await socket();
  const idle = Buffer.from([0x70, 0, 0, 3, 232]); // a second
  s.write(Buffer.concat([HEADER(0), frame(0x10, list(text(0xa1, 'c'), text(0xa1, NAME), NULL, NULL, idle))]));
  await waitFor('heartbeats', () => framesOf(s.chunks).filter((f) => f.size === 8).length >= 3);
  s.destroy();
});

test('[amqp 21] a hundred sessions with three links each; one that ends leaves the others alive', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const sessions = [];
  for (let i = 0; i < 100; i++) {
    const session = c.create_session();
    session.begin();
    const sender = await attachSender(session, `/devices/${d.id}/messages/events`, { name: 'TelemetrySenderLink' });
    await attachSender(session, `/devices/${d.id}/twin`, { name: 'TwinSenderLink' });
    await attachReceiver(session, `/devices/${d.id}/twin`, { name: 'TwinReceiverLink' });
    sessions.push({ session, sender });
  }
  const ended = new Promise((done) => sessions[50].session.once('session_close', done));
  sessions[50].session.close();
  await ended;
  for (const [i, { sender }] of sessions.entries())
    if (i !== 50) assert.equal((await send(sender, { body: body(`${i}`) })).how, 'accepted');
  assert.equal((await telemetry(hub, d.id, 99)).length, 99);
  c.close();
});

async function twinLinks(c, address) {
  const properties = { 'com.microsoft:channel-correlation-id': `twin:${address}` };
  const sender = await attachSender(c, `${address}/twin`, { properties });
  const receiver = await attachReceiver(c, `${address}/twin`, { properties, autoaccept: true, credit_window: 100 });
  return async (operation, resource, content) => {
    const nr = receiver.got.length;
    assert.equal((await send(sender, { correlation_id: `c${nr}`, message_annotations: { operation, ...(resource && { resource }) },
      ...(content !== undefined && { body: body(content) }) })).how, 'accepted');
    return (await waitFor('an answer', () => receiver.got.find((g) => g.message.correlation_id === `c${nr}`))).message;
  };
}

test('[amqp 68] empty bodies in each form, for each operation that needs none', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const ask = await twinLinks(c, `/devices/${d.id}`);
  for (const [operation, resource] of [['GET'], ['PUT', '/notifications/twin/properties/desired'], ['DELETE', '/notifications/twin/properties/desired']])
    for (const content of ['', ' ', undefined]) assert.equal((await ask(operation, resource, content)).message_annotations.status, 200, `${operation} "${content}"`);
  c.close();
});

const call = (id, methodName, module = '') => hub.request('POST', `/twins/${id}${module && `/modules/${module}`}/methods?${V}`,
  { body: { methodName, payload: { in: 1 }, responseTimeoutInSeconds: 20, connectTimeoutInSeconds: 0 } });

async function methodLinks(c, address) {
  const sender = await attachSender(c, `${address}/methods/devicebound`);
  const receiver = await attachReceiver(c, `${address}/methods/devicebound`, { autoaccept: true });
  return { sender, receiver };
}

test('[amqp 73] answers of methods: the id as a uuid or its text, the status as int, long or text', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const { sender, receiver } = await methodLinks(c, `/devices/${d.id}`);
  receiver.add_credit(100);
  const hex = (b) => b.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  for (const [n, id] of [(x) => x, (x) => hex(x)].entries())
    for (const [status, value] of [[201, rhea.types.wrap_int(201)], [202, rhea.types.wrap_long(202)], [203, '203'], [204, rhea.types.wrap_uint(204)]]) {
      const nr = receiver.got.length;
      const result = waitFor('the call to be taken', async () => { const r = await call(d.id, 'm'); return r.status === 200 && r; });
      const m = (await waitFor('a call', () => receiver.got[nr])).message;
      assert.equal(m.application_properties['IoThub-methodname'], 'm');
      assert.equal(m.body.content.toString(), '{"in":1}');
      assert.ok(Buffer.isBuffer(m.correlation_id) && m.correlation_id.length === 16);
      const correlation_id = n ? id(m.correlation_id) : rhea.types.wrap_uuid(m.correlation_id);
      assert.equal((await send(sender, { correlation_id, application_properties: { 'IoThub-status': value }, body: body('"out"') })).how, 'accepted');
      assert.deepEqual((await result).json, { status, payload: 'out' });
    }
  c.close();
});

test('[amqp 74] without credit for calls a device is not there', async () => {
  const d = await newDevice(hub);
  const c = await online(d);
  const { sender, receiver } = await methodLinks(c, `/devices/${d.id}`);
  const r = await call(d.id, 'm');
  assert.equal(r.status, 404);
  assert.equal(receiver.got.length, 0);
  receiver.add_credit(1);
  const result = waitFor('the call to be taken', async () => { const x = await call(d.id, 'm'); return x.status === 200 && x; });
  const m = (await waitFor('a call', () => receiver.got[0])).message;
  await send(sender, { correlation_id: rhea.types.wrap_uuid(m.correlation_id), application_properties: { 'IoThub-status': rhea.types.wrap_int(200) }, body: body('null') });
  assert.equal((await result).json.status, 200);
  c.close();
});

test('[amqp 75] modules: telemetry, twin, methods, and a receiver of either address', async () => {
  const d = await newDevice(hub);
  const made = (await hub.request('PUT', `/devices/${d.id}/modules/m?${V}`, { body: { deviceId: d.id, moduleId: 'm' } })).json;
  const token = tokenOf(d, { key: made.authentication.symmetricKey.primaryKey, resource: `${NAME}/devices/${d.id}/modules/m` });
  const c = await dial();
  assert.equal((await (await cbs(c)).put('m', token)).code, 200);
  const address = `/devices/${d.id}/modules/m`;
  const s = await attachSender(c, `${address}/messages/events`);
  assert.equal((await send(s, { body: body('of a module'), application_properties: { 'iothub-outputname': 'out' } })).how, 'accepted');
  const [row] = await telemetry(hub, d.id, 1);
  assert.equal(row.body, 'of a module');
  assert.match(JSON.stringify(row), /"m"/);
  const ask = await twinLinks(c, address);
  assert.equal((await ask('PATCH', '/properties/reported', '{"x":1}')).message_annotations.status, 200);
  assert.equal((await hub.request('GET', `/twins/${d.id}/modules/m?${V}`)).json.properties.reported.x, 1);
  const { sender, receiver } = await methodLinks(c, address);
  receiver.add_credit(10);
  const result = waitFor('the call to be taken', async () => { const x = await call(d.id, 'm', 'm'); return x.status === 200 && x; });
  const m = (await waitFor('a call', () => receiver.got[0])).message;
  await send(sender, { correlation_id: rhea.types.wrap_uuid(m.correlation_id), application_properties: { 'IoThub-status': rhea.types.wrap_int(200) }, body: body('null') });
  assert.equal((await result).json.status, 200);
  const service = await serviceOnline();
  const down = await attachSender(service, '/messages/devicebound');
  for (const place of ['messages/events', 'messages/devicebound']) {
    const r = await attachReceiver(c, `${address}/${place}`, { autoaccept: true });
    r.add_credit(10);
    assert.equal((await send(down, { to: `${address}/messages/devicebound`, body: body(place) })).how, 'accepted');
    await waitFor('the command', () => r.got.length === 1);
    assert.equal(r.got[0].message.body.content.toString(), place);
    r.close();
  }
  await assert.rejects(attachSender(c, `/devices/${d.id}/messages/events`), { condition: 'amqp:unauthorized-access' }); // the device's
  c.close();
  service.close();
});

test('[amqp 107] who drains a link gets its credit back, on every kind of link that sends', async () => {
  const d = await newDevice(hub);
  const c = await online(d), s = await serviceOnline();
  for (const [on, address] of [[c, `/devices/${d.id}/messages/devicebound`], [c, `/devices/${d.id}/twin`], [c, `/devices/${d.id}/methods/devicebound`],
    [s, '/messages/serviceBound/feedback'], [s, '/messages/serviceBound/filenotifications'], [s, '$management'], [s, 'hub/ConsumerGroups/$Default/Partitions/0']]) {
    const r = await attachReceiver(on, address);
    r.add_credit(10);
    r.drain_credit();
    await new Promise((done) => r.once('receiver_drained', done));
    assert.equal(r.credit, 0, address);
    r.close();
  }
  c.close();
  s.close();
});

test('[amqp 110] [amqp 111] whatever is sent is settled, as accepted or rejected and as nothing else', async () => {
  const d = await newDevice(hub);
  const c = await online(d), s = await serviceOnline();
  const ours = [c, s].map((x) => {
    const seen = { dispositions: 0, outcomes: new Set() };
    x.socket.on('data', (b) => {
      for (const f of framesOf(b).filter((y) => y.code === 0x15)) {
        seen.dispositions++;
        const at = f.body.indexOf(Buffer.from([0x00, 0x53]));
        if (at >= 0) seen.outcomes.add(f.body[at + 2]);
      }
    });
    return seen;
  });
  const senders = [];
  for (const address of ['$cbs', `/devices/${d.id}/messages/events`, `/devices/${d.id}/twin`, `/devices/${d.id}/methods/devicebound`]) senders.push([c, await attachSender(c, address)]);
  for (const address of ['$cbs', '/messages/devicebound', '$management']) senders.push([s, await attachSender(s, address)]);
  const everything = [Buffer.from('no message'), Buffer.alloc(0), rhea.message.encode({ body: body('x') }), rhea.message.encode({ body: 'a string' }),
    rhea.message.encode({ body: { a: 1 } }), rhea.message.encode({ application_properties: { operation: 'put-token' }, body: 5 }),
    rhea.message.encode({ to: '/devices/nobody/messages/devicebound', body: body('x') }), rhea.message.encode({ message_annotations: { operation: 'GET' }, correlation_id: 'x', body: body(' ') })];
  let nr = 0;
  for (const [, sender] of senders)
    for (const bytes of everything) {
      const { how } = await send(sender, bytes, { format: 0 });
      assert.ok(['accepted', 'rejected'].includes(how), how);
      nr++;
    }
  assert.equal(nr, senders.length * everything.length);
  for (const seen of ours) for (const code of seen.outcomes) assert.ok([0x24, 0x25].includes(code), code.toString(16));
  assert.equal((await send(senders[1][1], { body: body('still here') })).how, 'accepted');
  c.close();
  s.close();
});
