// Failed logins over every protocol, from many sources and under many names: who fails too often has to wait, whatever it
// shows then; others are let in, from the same place under other names and under the same name from elsewhere. Sources
// are addresses of the loopback network, which the hub is told to count.
import assert from 'node:assert/strict';
import https from 'node:https';
import { after, before, test } from 'node:test';
import { NAME, closeHub, deviceToken, newDevice, openHub, sasToken, waitFor } from './lib/hub.mjs';
import { bin, cbs, dial, framesOf, HEADER, saslInit, socket, useHub } from './lib/amqp.mjs';
import { Raw } from './lib/raw.mjs';

const NAMED = 2, SOURCE = 4; // failures a minute: one comes back after 30 s and 15 s, which no step here takes
let hub;
before(async () => {
  hub = await openHub({ settings: { access: { failures_per_minute: NAMED, failures_per_source: SOURCE }, limits: { count_loopback: true } } });
  useHub(hub);
});
after(async () => { await closeHub(hub); });

let last = 1;
const source = () => `127.0.7.${++last}`;
const WRONG = Buffer.alloc(32, 9).toString('base64');

// Each says what became of one login: 'in', 'refused' (the credentials) or 'wait' (not even looked at).
async function mqttOver(c, d, key) {
  c.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clean: true, clientId: d.id, keepalive: 60,
    username: `${NAME}/${d.id}/?api-version=2021-04-12`, password: deviceToken(d, { key }) });
  const { returnCode } = await c.expect('connack');
  c.socket.destroy();
  return { 0: 'in', 5: 'refused', 3: 'wait' }[returnCode];
}
const plain = (d, key) => Buffer.concat([HEADER(3), saslInit('PLAIN', bin(Buffer.from(`\0${d.id}@sas.${NAME.split('.')[0]}\0${deviceToken(d, { key })}`)))]);
const outcome = async (bytes) => {
  const f = await waitFor('an outcome', () => framesOf(bytes()).find((x) => x.code === 0x44));
  return { 0: 'in', 1: 'refused', 4: 'wait' }[f.body[4]];
};
const ways = {
  mqtt: async (from, d, key) => mqttOver(await Raw.tls(hub, { localAddress: from }), d, key),
  'mqtt in a WebSocket': async (from, d, key) => mqttOver(await Raw.ws(hub, { tls: { localAddress: from } }), d, key),
  amqp: async (from, d, key) => {
    const s = await socket({ localAddress: from });
    s.write(plain(d, key));
    const what = await outcome(() => s.chunks);
    s.destroy();
    return what;
  },
  'amqp by a token': async (from, d, key) => {
    const c = await dial({ localAddress: from }), { code } = await (await cbs(c)).put(`${NAME}/devices/${d.id}`, deviceToken(d, { key }));
    c.close();
    return { 200: 'in', 401: 'refused', 503: 'wait' }[code];
  },
  'amqp in a WebSocket': async (from, d, key) => {
    const c = await Raw.ws(hub, { path: '/$servicebus/websocket', protocol: 'AMQPWSB10', tls: { localAddress: from } });
    let bytes = Buffer.alloc(0);
    c.parser = { parse: (b) => { bytes = Buffer.concat([bytes, b]); } };
    c.write(plain(d, key));
    const what = await outcome(() => bytes);
    c.socket.destroy();
    return what;
  },
  https: (from, d, key) => new Promise((done, fail) => {
    https.get({ host: NAME, port: 443, ca: hub.ca, agent: false, localAddress: from, path: `/devices/${d.id}/messages/deviceBound?api-version=2021-04-12`,
      headers: { host: NAME, authorization: deviceToken(d, { key }) } }, (r) => {
      r.resume();
      r.on('end', () => {
        if (r.statusCode === 429) assert.ok(+r.headers['retry-after'] > 0);
        done({ 204: 'in', 401: 'refused', 429: 'wait' }[r.statusCode] ?? r.statusCode);
      });
    }).on('error', fail);
  }),
};
async function counters() {
  const text = await (await fetch(`http://127.0.0.1:${hub.ops}/metrics`)).text();
  const of = (name) => Number(new RegExp(`^roost_${name} (\\d+)$`, 'm').exec(text)[1]);
  return { failed: of('login_failures_total'), limited: of('login_limited_total') };
}
const audit = async () => (await hub.api('GET', '/roost/v1/audit?limit=500')).audit.filter((r) => r.what.startsWith('login.'));

for (const [name, login] of Object.entries(ways)) {
  test(`${name}: a source that fails too often under one name waits under it, and nobody else does`, async () => {
    const here = source(), there = source(), d = await newDevice(hub), other = await newDevice(hub);
    const before = await counters();
    for (let i = 0; i < NAMED; i++) {
      assert.equal(await login(here, d, d.key), 'in'); // costs nothing
      assert.equal(await login(here, d, WRONG), 'refused');
    }
    assert.equal(await login(here, d, WRONG), 'wait');
    assert.equal(await login(here, d, d.key), 'wait');
    assert.equal(await login(here, other, other.key), 'in');
    assert.equal(await login(there, d, d.key), 'in');
    const now = await counters();
    assert.deepEqual([now.failed - before.failed, now.limited - before.limited], [NAMED, 2]);
    const rows = await waitFor('both lines', async () => { // they are written beside the answers
      const found = (await audit()).filter((r) => r.who === here);
      return found.length >= 2 && found;
    });
    assert.deepEqual(rows.map((r) => r.what), ['login.refused', 'login.limited']);
    for (const r of rows) {
      assert.ok(r.subject.includes(d.id), r.subject);
      assert.match(r.detail, new RegExp(`^${name.split(' ')[0].replace('https', 'http')}: `));
      assert.ok(!JSON.stringify(r).includes('sig='), 'no token is kept');
    }
    assert.equal((await audit()).filter((r) => r.who === there).length, 0);
  });

  test(`${name}: a source that fails under many names waits under every name`, async () => {
    const here = source(), there = source(), good = await newDevice(hub);
    for (let i = 0; i < SOURCE; i++) assert.equal(await login(here, { ...good, id: `nobody-${last}-${i}` }, WRONG), 'refused');
    assert.equal(await login(here, good, good.key), 'wait');
    assert.equal(await login(there, good, good.key), 'in');
  });
}

test('what one protocol counted holds in the others, of one source', async () => {
  const here = source(), d = await newDevice(hub);
  for (let i = 0; i < SOURCE; i++) assert.equal(await ways.https(here, { ...d, id: `guess-${i}` }, WRONG), 'refused');
  for (const [name, login] of Object.entries(ways)) assert.equal(await login(here, d, d.key), 'wait', name);
});

test('a policy, too; and a name that is spelled in another way is no other one', async () => {
  const here = source();
  const ask = (resource, key) => new Promise((done, fail) => {
    https.get({ host: NAME, port: 443, ca: hub.ca, agent: false, localAddress: here, path: '/roost/v1/status', headers: { host: NAME, authorization: sasToken(resource, key, 'iothubowner') } },
      (r) => { r.resume(); r.on('end', () => done(r.statusCode)); }).on('error', fail);
  });
  assert.equal(await ask(NAME, WRONG), 401);
  assert.equal(await ask(`${NAME}/roost`, WRONG), 401);
  for (const resource of [NAME, NAME.toUpperCase(), `${NAME}/roost/v1`]) assert.equal(await ask(resource, WRONG), 429, resource);
});

test('a device has one name in all protocols, whatever the resource of its token', async () => {
  const here = source(), there = source(), d = await newDevice(hub), V = 'api-version=2021-04-12';
  const ask = (resource, key) => new Promise((done, fail) => {
    https.get({ host: NAME, port: 443, ca: hub.ca, agent: false, localAddress: here, path: `/devices/${d.id}/messages/deviceBound?${V}`, headers: { host: NAME, authorization: sasToken(resource, key) } },
      (r) => { r.resume(); r.on('end', () => done(r.statusCode)); }).on('error', fail);
  });
  assert.equal(await ask(`${NAME}/devices/${d.id}/messages`, WRONG), 401);
  assert.equal(await ask(`${NAME.toUpperCase()}/devices/${d.id}`, WRONG), 401);
  assert.equal(await ask(`${NAME}/devices/${d.id}`, d.key), 429);
  for (const [name, login] of Object.entries(ways)) {
    assert.equal(await login(here, d, d.key), 'wait', name);
    assert.equal(await login(there, d, d.key), 'in', name);
  }
});

test('many sources that fail fill neither the audit log nor the limits of others', async () => {
  const d = await newDevice(hub), before = (await audit()).length, count = (await counters()).failed;
  for (let at = 1; at < 200; at += 20)
    await Promise.all(Array.from({ length: 20 }, (_, i) => ways.https(`127.0.8.${at + i}`, d, WRONG).then((what) => assert.equal(what, 'refused'))));
  assert.equal((await counters()).failed - count, 200);
  const rows = await audit();
  assert.ok(rows.length - before <= 60, `${rows.length - before} lines`);
  assert.equal(await ways.https(source(), d, d.key), 'in');
});
