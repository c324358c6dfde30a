// Paths and heads of requests that mean something else than they look like: each has its answer, and what is not
// named in them is neither served nor changed. Twins that are far deeper and larger than any may be, from both sides.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tls from 'node:tls';
import { after, before, test } from 'node:test';
import { NAME, closeHub, newDevice, openHub, parseConnectionString, sasToken, sendC2d } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

const API = 'api-version=2021-04-12';
let hub, device, bearer;
before(async () => {
  hub = await openHub();
  device = await newDevice(hub, 'witness');
  const c = parseConnectionString(hub.connectionString);
  bearer = sasToken(NAME, c.SharedAccessKey, c.SharedAccessKeyName);
});
after(async () => { await closeHub(hub); });

// One request byte for byte as it is written here, since clients tidy up paths and heads. The connection ends with it.
function raw(line, fields, body = '') {
  return new Promise((done, fail) => {
    const s = tls.connect({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca });
    const pieces = [];
    s.on('data', (d) => pieces.push(d));
    s.on('error', fail);
    s.setTimeout(30_000, () => s.destroy(new Error(`${line}: no answer`)));
    s.on('end', () => {
      const text = Buffer.concat(pieces).toString('latin1');
      const at = text.indexOf('\r\n\r\n');
      let json;
      try { json = JSON.parse(text.slice(at + 4)); } catch { /* not JSON */ }
      done({ status: +text.split(' ')[1], head: text.slice(0, at), text, json });
      s.end();
    });
    s.write(Buffer.from(`${line} HTTP/1.1\r\n${fields.map((f) => `${f}\r\n`).join('')}\r\n${body}`, 'latin1'));
  });
}
const host = `Host: ${NAME}`, close = 'Connection: close';
const auth = () => `Authorization: ${bearer}`;
const get = (path, ...more) => raw(`GET ${path}`, [host, auth(), close, ...more]);

const snapshot = async () => {
  const { devices } = await hub.api('GET', '/roost/v1/devices');
  const twin = await hub.request('GET', `/twins/${device.id}?${API}`);
  return JSON.stringify([devices.map((d) => [d.id, d.status]), twin.json.etag, twin.json.version]);
};

test('paths that climb, hide a slash, end early or go on for ever', async () => {
  const before = await snapshot();
  const secrets = ['SharedAccessKey', 'BEGIN PRIVATE KEY', 'data_dir', readFileSync(join(hub.dir, 'policies'), 'utf8').split('\n')[0]];
  const root = 'a'.repeat(64);
  const climbs = ['..', '../..', '%2e%2e', '%2E%2e', '.%2e', '%2e%2e%2f%2e%2e', '..%2f..%2froost.yaml', '..%5croost.yaml', '%252e%252e%252froost.yaml',
    '../roost.yaml', '../../etc/passwd', '%00', 'x%00', 'roost.yaml%00', '%c0%ae%c0%ae', '%c0%af', '....', 'x/../../roost.yaml', '%2fetc%2fpasswd', '/etc/passwd',
    'policies', '../policies', 'CON', '~', '%', '%2', '%zz', 'x'.repeat(4000), '%61'.repeat(300), '%ff%fe'];
  for (const base of ['/artifacts/', `/artifacts/${root}`, `/artifacts/${root}/`, '/devices/', '/twins/', '/configurations/', '/jobs/v2/', '/roost/v1/devices/',
    '/roost/v1/uploads/', '/roost/v1/releases/', '/roost/v1/ca/', `/roost/v1/devices/${device.id}/uploads/`, '/uploads/', `/uploads/${device.id}/`])
    for (const climb of climbs) {
      const r = await get(`${base}${climb}?${API}`);
      // A job that nobody knows is answered as one of that id, and unknown; all else is no name or names nothing.
      if (base === '/jobs/v2/' && r.status === 200) assert.equal(r.json.status, 'unknown', r.text);
      else assert.ok([400, 401, 403, 404, 405, 414].includes(r.status), `${base}${climb}: ${r.text.slice(0, 300)}`);
      for (const s of secrets) assert.ok(!r.text.includes(s), `${base}${climb}`);
    }
  assert.equal(await snapshot(), before);
});

test('a name is what is between two slashes, decoded once, byte for byte', async () => {
  for (const [path, status] of [[`/devices/${device.id}`, 200], [`/devices/%77itness`, 200], [`/devices/${device.id}%20`, 404], [`/devices/${device.id}.`, 404],
    [`/devices/${device.id}%2e`, 404], [`/devices/${device.id}%00`, 404], [`/devices/${device.id.toUpperCase()}`, 404], [`/devices/x/../${device.id}`, 404],
    [`/devices/./${device.id}`, 404], [`/devices/${device.id}%2fmodules`, 404], [`/devices/%2577itness`, 404], [`/devices/${device.id};v=1`, 404]]) {
    const r = await get(`${path}?${API}`);
    if (status === 200) assert.equal(r.status, 200, `${path}: ${r.text}`);
    else assert.ok([400, 404].includes(r.status), `${path}: ${r.text}`);
  }
});

test('changes under names that cannot be make nothing', async () => {
  const before = await snapshot();
  for (const id of ['%2e%2e%2fa', 'a%2fb', 'a%00b', 'a%20b', '%c3%a4', 'a%0d%0ab', 'x'.repeat(129), '..%2f', '%09']) {
    for (const [path, body] of [[`/devices/${id}?${API}`, '{}'], [`/roost/v1/devices/${id}`, '{}'],
      [`/devices/${device.id}/modules/${id}?${API}`, '{}'], [`/configurations/${id}?${API}`, '{"content":{"deviceContent":{"properties.desired.a":1}}}']]) {
      const r = await raw(`PUT ${path}`, [host, auth(), close, `Content-Length: ${body.length}`], body);
      assert.ok([400, 404].includes(r.status), `${path}: ${r.text}`);
    }
  }
  assert.deepEqual((await hub.request('GET', `/devices/${device.id}/modules?${API}`)).json, []);
  assert.deepEqual((await hub.request('GET', `/configurations?top=20&${API}`)).json, []);
  assert.equal(await snapshot(), before);
});

test('heads that are absent or doubled', async () => {
  const before = await snapshot();
  const body = '{"tags":{"a":1}}', length = `Content-Length: ${body.length}`, json = 'Content-Type: application/json';
  const twin = `PATCH /twins/${device.id}?${API}`;
  for (const [fields, status] of [
    [[auth(), close, length], 400], [[host, host, auth(), close, length], 400], [[host, close, length], 401],
    [[host, auth(), auth(), close, length], 400], [[host, 'Authorization:', close, length], 401], [[host, auth(), close, length, length], 400],
    [[host, auth(), close, length, 'If-Match: *', 'If-Match: "AAAAAAAAAAE="'], 400], [[host, auth(), close, length, 'If-Match: "AAAAAAAAAP8="'], 412],
    [[host, auth(), close, length, json, json], 400], [[host, auth(), close, length, json, 'content-type: text/plain'], 400],
    [[host, auth(), close], 400], // no length: no body
  ]) {
    const r = await raw(twin, fields, fields.includes(length) ? body : '');
    assert.equal(r.status, status, `${fields}: ${r.text}`);
  }
  assert.equal(await snapshot(), before);
});

test('twins as deep and as large as bodies may be, from both sides', async () => {
  const nested = (open, shut, nr) => `${open.repeat(nr)}1${shut.repeat(nr)}`;
  const wide = `{${Array.from({ length: 20_000 }, (_, i) => `"${i}":1`).join()}}`;
  const sections = [nested('{"k":', '}', 12), nested('{"k":', '}', 1000), nested('{"k":', '}', 20_000), `{"k":${nested('[', ']', 1000)}}`, `{"k":${nested('[', ']', 60_000)}}`,
    wide, `{"k":"${'x'.repeat(100_000)}"}`, `{"${'k'.repeat(100_000)}":1}`, `{"k":${'9'.repeat(100_000)}}`, `{"k":[${Array(50_000).fill(1)}]}`];
  const before = await snapshot();
  for (const s of sections)
    for (const body of [`{"tags":${s}}`, `{"properties":{"desired":${s}}}`, `{"tags":{"a":1},"properties":{"desired":${s}}}`])
      for (const method of ['PATCH', 'PUT']) {
        const r = await hub.request(method, `/twins/${device.id}?${API}`, { body });
        assert.ok([400, 413].includes(r.status), `${method} ${body.slice(0, 60)}: ${r.status} ${r.body}`);
        assert.match(r.json.Message, /^ErrorCode:/);
      }
  assert.equal(await snapshot(), before);
  const c = await connected(hub, device);
  await c.subscribe({ topic: '$iothub/twin/res/#', qos: 0 });
  for (const [i, s] of sections.entries()) {
    c.send({ cmd: 'publish', topic: `$iothub/twin/PATCH/properties/reported/?$rid=${i}`, payload: s, qos: 0 });
    const p = await c.expect('publish');
    assert.match(p.topic, new RegExp(`^\\$iothub/twin/res/(400|413)/\\?\\$rid=${i}$`), s.slice(0, 60));
  }
  assert.equal(await snapshot(), before);
  await c.disconnect();
  await sendC2d(hub, device.id, { body: 'all is well' });
});
