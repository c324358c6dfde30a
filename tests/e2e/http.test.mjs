// The hub's HTTP interface over its real listeners: rights, ranges, bootstrap and approval, releases, campaigns,
// telemetry, strict bodies, the loopback pages. Everything a device would do here is done by hand.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import https from 'node:https';
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Hub, bin, parseConnectionString, sasToken, start, tempDir, waitFor } from '../lib/roost.mjs';

let hub;
before(async () => { hub = await Hub.create(); await hub.start(); });
after(async () => {
  const end = await hub?.stop();
  const out = hub?.process?.out;
  await hub?.remove();
  assert.equal(end?.code, 0, out); // also what a sanitizer has to say at the end
});

const api = (method, path, body, more = {}) => hub.request(method, path, { body, ...more });
const open = (method, path, body, headers) => hub.request(method, path, { body, token: null, headers });
const code = (r) => r.json?.error?.code;

function plain(method, path, headers = {}, port = hub.http) {
  return new Promise((done, fail) => {
    const req = http.request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (res) => {
      const pieces = [];
      res.on('data', (d) => pieces.push(d));
      res.on('end', () => done({ status: res.statusCode, headers: res.headers, body: Buffer.concat(pieces) }));
    });
    req.on('error', fail);
    req.end();
  });
}

// ---- keys, trees, uploads ----------------------------------------------------------------------------------

const seedKeys = () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  return { raw, privateKey };
};
const sha256 = (b) => createHash('sha256').update(b).digest();
function chunkTree(payload) {
  const hashes = [];
  for (let i = 0; i < payload.length; i += 4096) hashes.push(sha256(payload.subarray(i, i + 4096)));
  const pages = [];
  for (let i = 0; i < hashes.length; i += 32) pages.push(Buffer.concat(hashes.slice(i, i + 32)));
  const roots = Buffer.concat(pages.map(sha256));
  return { tree: Buffer.concat([roots, ...pages]), root: sha256(roots) };
}

async function upload(name, bytes, piece = 1 << 20) {
  for (let at = 0; at < bytes.length; at += piece) {
    const part = bytes.subarray(at, at + piece);
    const r = await api('PUT', `/roost/v1/uploads/${name}`, part,
      { headers: { 'content-range': `bytes ${at}-${at + part.length - 1}/${bytes.length}` } });
    assert.equal(r.status, 204, r.body.toString());
    assert.equal(r.headers['upload-offset'], `${at + part.length}`);
  }
}
let nr = 0;
async function artifact(payload) {
  const { tree, root } = chunkTree(payload);
  const [p, t] = [`p${++nr}`, `t${nr}`];
  await upload(p, payload, 50_000);
  await upload(t, tree);
  const r = await api('POST', '/roost/v1/artifacts',
    { payload: p, tree: t, root: root.toString('hex'), sha256: sha256(payload).toString('hex'), chunkCode: 12, fanOut: 32 });
  assert.equal(r.status, 201, r.body.toString());
  return { payload, tree, root: root.toString('hex') };
}
const payload = Buffer.from(Array.from({ length: 140_001 }, (_, i) => (i * 7 + (i >> 8)) & 255));
let stored;

// ---- rights ------------------------------------------------------------------------------------------------

const id64 = 'ab'.repeat(32);
const routes = [ // method, path, body, rights that open it, status with the right
  ['GET', '/roost/v1/status', , 'RS', 200],
  ['GET', '/roost/v1/devices', , 'R', 200],
  ['PUT', '/roost/v1/devices/rights', {}, 'W', 201],
  ['GET', '/roost/v1/devices/rights', , 'R', 200],
  ['POST', '/roost/v1/devices/rights/approve', '', 'W', 200],
  ['POST', '/roost/v1/devices/rights/messages', { body: 'x' }, 'S', 201],
  ['POST', '/roost/v1/broadcast', { body: 'x' }, 'S', 201],
  ['GET', '/roost/v1/broadcasts', , 'S', 200],
  ['GET', '/roost/v1/broadcasts/999999', , 'S', 404],
  ['GET', '/roost/v1/telemetry/groups', , 'S', 200],
  ['GET', '/roost/v1/telemetry/groups/rights', , 'S', 404],
  ['PUT', '/roost/v1/telemetry/groups/rights', { positions: [{ partition: 0, next: 0 }] }, 'S', 200],
  ['DELETE', '/roost/v1/telemetry/groups/rights', , 'S', 204],
  ['GET', '/roost/v1/feedback', , 'S', 200],
  ['GET', '/roost/v1/tokens', , 'R', 200],
  ['POST', '/roost/v1/tokens', { name: 'rights' }, 'W', 201],
  ['DELETE', '/roost/v1/tokens/rights', , 'W', 204],
  ['GET', '/roost/v1/telemetry?follow=false&from=earliest', , 'S', 200],
  ['GET', '/roost/v1/trust', , 'R', 404],
  ['POST', '/roost/v1/trust', 'x', 'W', 422],
  ['HEAD', '/roost/v1/uploads/rights', , 'W', 200],
  ['POST', '/roost/v1/artifacts', { payload: 'no', tree: 'no', root: id64, sha256: id64 }, 'W', 422],
  ['GET', '/roost/v1/releases', , 'R', 200],
  ['GET', `/roost/v1/releases/${id64}`, , 'R', 404],
  ['POST', '/roost/v1/releases', 'x', 'W', 422],
  ['GET', '/roost/v1/campaigns', , 'RS', 200],
  ['GET', '/roost/v1/campaigns/0102030405060708', , 'RS', 404],
  ['POST', '/roost/v1/campaigns', { all: true, releases: [id64] }, 'S', 422],
  ['GET', '/roost/v1/audit', , 'R', 200],
  ['DELETE', '/roost/v1/devices/rights', , 'W', 204],
];
test('every route needs its right, and no other opens it', async () => {
  const policies = (await policyKeys()).map((p) => ({ ...p }));
  assert.deepEqual(policies.map((p) => p.name), ['registryRead', 'service', 'device', 'registryReadWrite', 'iothubowner']);
  for (const [i, [method, path, body, rights, status]] of routes.entries()) {
    const { name, key } = policies[i % policies.length]; // failures count under a name, and have a limit
    assert.equal((await open(method, path, body)).status, 401, `${method} ${path} without a token`);
    const bad = sasToken(hub.name, Buffer.alloc(32, 1).toString('base64'), name);
    assert.equal((await api(method, path, body, { token: bad })).status, 401, `${method} ${path} signed with another key`);
    const old = sasToken(hub.name, key, name, -3600);
    assert.equal((await api(method, path, body, { token: old })).status, 401, `${method} ${path} expired`);
    const elsewhere = sasToken('other.example', key, name);
    assert.equal((await api(method, path, body, { token: elsewhere })).status, 401, `${method} ${path} for another hub`);
    for (const p of policies) {
      const may = [...p.rights].some((r) => rights.includes(r));
      if (may && p.name !== 'iothubowner') continue; // each is let through once, below
      const r = await api(method, path, body, { policy: p });
      assert.equal(r.status, may ? status : 403, `${method} ${path} as ${p.name}: ${r.body}`);
    }
  }
});
async function policyKeys() { // the other policies' keys are nowhere in the API: read from the data directory
  const { DatabaseSync } = await import('node:sqlite').catch(() => ({}));
  const file = `${hub.dir}/store/${readdirSync(`${hub.dir}/store`).find((f) => /\.(db|sqlite)$/.test(f)) ?? 'roost.db'}`;
  const sql = 'SELECT name, hex(key1), rights FROM policy ORDER BY rights, name';
  let rows;
  if (DatabaseSync) {
    const db = new DatabaseSync(file, { readOnly: true });
    rows = db.prepare(sql).all().map((r) => [r.name, r['hex(key1)'], r.rights]);
    db.close();
  } else {
    rows = execFileSync('python3', ['-c', `import sqlite3,sys\nfor r in sqlite3.connect('file:'+sys.argv[1]+'?mode=ro',uri=True).execute(sys.argv[2]): print(*r)`, file, sql])
      .toString().trim().split('\n').map((l) => l.split(' '));
  }
  return rows.map(([name, hex, rights]) => ({ name, key: Buffer.from(hex, 'hex').toString('base64'),
    rights: [[1, 'R'], [2, 'W'], [4, 'S']].filter(([b]) => Number(rights) & b).map(([, l]) => l).join('') }))
    .sort((a, b) => ['registryRead', 'service', 'device', 'registryReadWrite', 'iothubowner'].indexOf(a.name) -
      ['registryRead', 'service', 'device', 'registryReadWrite', 'iothubowner'].indexOf(b.name));
}

test('unknown paths, methods and lengths', async () => {
  assert.equal((await api('GET', '/roost/v1/nothing')).status, 404);
  const r = await api('DELETE', '/roost/v1/status');
  assert.equal(r.status, 405);
  assert.match(r.headers.allow ?? '', /GET/);
  assert.equal((await open('POST', '/bootstrap', 'x'.repeat(5000))).status, 413);
  assert.equal((await api('PUT', '/roost/v1/uploads/big', Buffer.alloc((1 << 20) + 1),
    { headers: { 'content-range': `bytes 0-${1 << 20}/${(1 << 20) + 1}` } })).status, 413);
});

// ---- registry ------------------------------------------------------------------------------------------------

test('a device is made, shown, disabled, listed, deleted', async () => {
  let r = await api('PUT', '/roost/v1/devices/reg%2B1', {});
  assert.equal(r.status, 201);
  assert.match(r.json.connectionString, /^HostName=hub\.localhost;DeviceId=reg\+1;SharedAccessKey=.{44}$/);
  assert.equal(Buffer.from(r.json.primaryKey, 'base64').length, 32);
  r = await api('PUT', '/roost/v1/devices/reg%2B1', {}, { headers: { 'if-none-match': '*' } });
  assert.equal(r.status, 409);
  assert.equal(code(r), 'device-exists');
  r = await api('PUT', '/roost/v1/devices/reg%2B1', { status: 'disabled' });
  assert.equal(r.status, 200);
  assert.equal(r.json.status, 'disabled');
  assert.equal((await api('PUT', '/roost/v1/devices/reg%2B1', { status: 'pending' })).status, 400);
  assert.equal(code(await api('PUT', '/roost/v1/devices/reg%2B1', { colour: 1 })), 'unknown-member');
  assert.match((await api('PUT', '/roost/v1/devices/reg%2B1', { colour: 1 })).json.error.message, /"colour"/);
  assert.equal(code(await api('PUT', '/roost/v1/devices/a%20b', {})), 'bad-device-id');
  r = await api('GET', '/roost/v1/devices/reg%2B1', undefined,
    { policy: (await policyKeys()).find((p) => p.name === 'registryRead') });
  assert.equal(r.json.primaryKey, undefined); // who may only read gets no keys
  for (let i = 0; i < 5; i++) await api('PUT', `/roost/v1/devices/page${i}`, {});
  const seen = [];
  for (let next = 'page'; next !== undefined;) {
    r = await api('GET', `/roost/v1/devices?limit=2&after=${encodeURIComponent(next)}`);
    assert.ok(r.json.devices.length <= 2);
    seen.push(...r.json.devices.map((d) => d.id));
    next = r.json.next;
  }
  assert.deepEqual(seen.filter((s) => s.startsWith('page')), ['page0', 'page1', 'page2', 'page3', 'page4']);
  r = await api('GET', '/roost/v1/devices?status=disabled');
  assert.deepEqual(r.json.devices.map((d) => d.id), ['reg+1']);
  assert.equal((await api('DELETE', '/roost/v1/devices/reg%2B1')).status, 204);
  assert.equal((await api('DELETE', '/roost/v1/devices/reg%2B1')).status, 404);
  assert.equal((await api('GET', '/roost/v1/devices?limit=0')).status, 400);
  assert.equal((await api('GET', '/roost/v1/devices?limit=x')).status, 400);
});

// ---- bootstrap -------------------------------------------------------------------------------------------------

function ask(members, keys, { spoil } = {}) {
  const body = JSON.stringify({ hardware: 'sensor:7:1', ...members, ...(keys ? { publicKey: keys.raw.toString('base64') } : {}) });
  const sig = keys && sign(null, Buffer.concat([Buffer.from('roost-bootstrap-v1\0'), Buffer.from(body)]), keys.privateKey);
  if (spoil) sig[5] ^= 1;
  return open('POST', '/bootstrap', body, keys ? { 'roost-signature': sig.toString('base64') } : {});
}

test('a blank device waits, is approved, and is told once until it has used its key', async () => {
  let r = await ask({ id: 'blank-1' });
  assert.equal(r.status, 202, r.body.toString());
  assert.equal(r.json.status, 'pending');
  assert.equal(`${r.json.retryAfterSeconds}`, r.headers['retry-after']);
  assert.equal((await api('GET', '/roost/v1/devices?status=pending')).json.devices.length, 1);
  r = await api('POST', '/roost/v1/devices/blank-1/approve', '');
  assert.equal(r.status, 200);
  assert.equal(r.json.status, 'enabled');
  r = await ask({ id: 'blank-1' });
  assert.equal(r.status, 200);
  assert.deepEqual([r.json.id, r.json.host, r.json.httpsPort, r.json.mqttPort], ['blank-1', hub.name, hub.https, hub.mqtt]);
  assert.equal(r.json.checkin, `https://${hub.name}:${hub.https}/roost/v1/checkin`);
  assert.deepEqual(r.json.artifacts, [`https://${hub.name}:${hub.https}/artifacts`, `http://${hub.name}:${hub.http}/artifacts`]);
  assert.ok(Math.abs(r.json.time - Date.now() / 1000) < 60);
  const { key } = r.json;
  assert.equal((await ask({ id: 'blank-1' })).json.key, key); // the answer was lost
  const token = () => sasToken(`${hub.name}/devices/blank-1`, key);
  r = await open('POST', '/roost/v1/checkin', 'not a report');
  assert.equal(r.status, 401);
  r = await api('POST', '/roost/v1/checkin', 'not a report', { token: token() });
  assert.equal(r.status, 400);
  assert.equal(code(r), 'bad-report');
  await waitFor('the use of the key to be written', async () => (await ask({ id: 'blank-1' })).status === 202);
  const again = await hub.request('POST', '/bootstrap', { body: { hardware: 'sensor:7:1', id: 'blank-1' }, token: token() });
  assert.equal(again.status, 200);
  assert.equal(again.json.key, key);
});

test('a public key is the identity', async () => {
  const keys = seedKeys(), other = seedKeys();
  const made = (await api('POST', '/roost/v1/tokens', { name: 'line-1', uses: 1, hardware: 'sensor:7' })).json;
  assert.equal(code(await ask({ token: made.token }, keys, { spoil: true })), 'signature-wrong');
  let r = await ask({ token: made.token }, keys);
  assert.equal(r.status, 200);
  const { id, key } = r.json;
  r = await ask({ id: 'something-else' }, keys); // no token any more: the key says who it is
  assert.deepEqual([r.status, r.json.id, r.json.key], [200, id, key]);
  r = await ask({ id }, other);
  assert.deepEqual([r.status, code(r)], [403, 'id-taken']);
  r = await ask({ token: made.token }, other);
  assert.deepEqual([r.status, code(r)], [401, 'token-used-up']);
  const log = (await api('GET', '/roost/v1/audit')).json.audit.filter((a) => a.what.startsWith('bootstrap.'));
  assert.ok(log.some((a) => a.what === 'bootstrap.assigned' && a.subject === id));
  assert.ok(log.some((a) => a.what === 'bootstrap.refused' && a.detail.includes('id-taken')));
  assert.ok(!JSON.stringify(log).includes(made.token) && !JSON.stringify(log).includes(key));
});

test('a malformed request names what is wrong', async () => {
  const body = JSON.stringify({ hardware: 'sensor:7:1', id: 'cut', trustVersion: 0 });
  for (let n = 0; n < body.length; n++) {
    const r = await open('POST', '/bootstrap', body.slice(0, n));
    if (r.status === 429) break; // the limit of this source; the codec itself is fuzzed elsewhere
    assert.equal(r.status, 400, body.slice(0, n));
    assert.ok(r.json.error.message);
  }
});

test('a source that asks too often is told to wait', async () => {
  const seen = new Set();
  let r;
  for (let i = 0; i < 5000; i++) {
    r = await ask({ id: 'often' });
    seen.add(r.status);
    if (r.status === 429) break;
  }
  assert.equal(r.status, 429);
  assert.ok(Number(r.headers['retry-after']) >= 1);
  assert.equal(code(r), 'too-many-requests');
  const metrics = (await plain('GET', '/metrics', {}, hub.ops)).body.toString();
  assert.ok(Number(/^roost_bootstrap_limited_total (\d+)$/m.exec(metrics)[1]) >= 1);
});

// ---- artifacts ---------------------------------------------------------------------------------------------------

test('uploads go on where they stopped', async () => {
  const put = (from, bytes, total, name = 'resumed') => api('PUT', `/roost/v1/uploads/${name}`, bytes,
    { headers: { 'content-range': `bytes ${from}-${from + bytes.length - 1}/${total}` } });
  let r = await api('HEAD', '/roost/v1/uploads/resumed');
  assert.deepEqual([r.status, r.headers['upload-offset']], [200, '0']);
  assert.equal((await put(0, Buffer.alloc(100), 300)).headers['upload-offset'], '100');
  r = await put(200, Buffer.alloc(100), 300);
  assert.deepEqual([r.status, code(r), r.headers['upload-offset']], [409, 'upload-offset', '100']);
  assert.equal((await api('HEAD', '/roost/v1/uploads/resumed')).headers['upload-offset'], '100');
  assert.equal((await put(100, Buffer.alloc(200), 300)).headers['upload-offset'], '300');
  for (const bad of ['bytes 0-9/5', 'bytes 5-4/9', 'items 0-1/2', 'bytes 0-/2', 'bytes 0-1/*', '', 'bytes 0-2/9'])
    assert.equal((await api('PUT', '/roost/v1/uploads/bad', Buffer.alloc(2), { headers: { 'content-range': bad } })).status, 400, bad);
  assert.equal((await put(0, Buffer.alloc(1), 1, 'no.dots')).status, 400);
});

test('what was tampered with is refused', async () => {
  const { tree, root } = chunkTree(payload);
  const members = { payload: 'bad-p', tree: 'bad-t', root: root.toString('hex'), sha256: sha256(payload).toString('hex') };
  const spoilt = Buffer.from(payload);
  spoilt[70_000] ^= 1;
  await upload('bad-p', spoilt);
  await upload('bad-t', tree);
  let r = await api('POST', '/roost/v1/artifacts', members);
  assert.deepEqual([r.status, code(r)], [422, 'artifact-hash']);
  await upload('bad-p', payload);
  r = await api('POST', '/roost/v1/artifacts', { ...members, root: '00'.repeat(32) });
  assert.deepEqual([r.status, code(r)], [422, 'artifact-root']);
  assert.equal((await open('GET', `/artifacts/${root.toString('hex')}`)).status, 404);
  assert.equal((await api('POST', '/roost/v1/artifacts', { ...members, root: 'xyz' })).status, 400);
});

test('artifacts in ranges, by HTTPS and by plain HTTP', async () => {
  stored = await artifact(payload);
  const path = `/artifacts/${stored.root}`, end = payload.length - 1;
  const etag = `"${stored.root}"`;
  const get = [['https', (h, p = path, m = 'GET') => open(m, p, undefined, h)], ['http', (h, p = path, m = 'GET') => plain(m, p, h)]];
  const table = [ // Range, If-Range, status, first, last
    [undefined, undefined, 200, 0, end],
    ['bytes=0-0', undefined, 206, 0, 0],
    [`bytes=${end}-${end}`, undefined, 206, end, end],
    ['bytes=4096-8191', undefined, 206, 4096, 8191],
    ['bytes=-1', undefined, 206, end, end],
    ['bytes=-999999999', undefined, 206, 0, end],
    [`bytes=100000-`, undefined, 206, 100000, end],
    [`bytes=${end - 9}-999999999`, undefined, 206, end - 9, end],
    ['bytes=0-0', etag, 206, 0, 0],
    ['bytes=0-0', '"other"', 200, 0, end],
    ['bytes=0-0,5-5', undefined, 200, 0, end],
    [`bytes=${end + 1}-`, undefined, 416],
  ];
  for (const [name, fetch] of get) {
    for (const [range, ifRange, status, first, last] of table) {
      const what = `${name} ${range} ${ifRange}`;
      const r = await fetch({ ...(range ? { range } : {}), ...(ifRange ? { 'if-range': ifRange } : {}) });
      assert.equal(r.status, status, what);
      if (status === 416) {
        assert.equal(r.headers['content-range'], `bytes */${payload.length}`);
        continue;
      }
      assert.ok(r.body.equals(payload.subarray(first, last + 1)), what);
      assert.equal(r.headers['content-length'], `${last - first + 1}`, what);
      assert.equal(r.headers.etag, etag);
      assert.equal(r.headers['accept-ranges'], 'bytes');
      assert.equal(r.headers['transfer-encoding'], undefined);
      if (status === 206) assert.equal(r.headers['content-range'], `bytes ${first}-${last}/${payload.length}`);
    }
    const head = await fetch({ range: 'bytes=0-0' }, path, 'HEAD');
    assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, `${payload.length}`, 0]);
    assert.equal((await fetch({ 'if-none-match': etag })).status, 304);
    const tree = await fetch({}, `${path}.tree`);
    assert.ok(tree.body.equals(stored.tree));
    assert.equal((await fetch({}, `/artifacts/${'00'.repeat(32)}`)).status, 404);
    assert.equal((await fetch({}, '/artifacts/../roost.yaml')).status, 404);
    assert.equal((await fetch({}, `/artifacts/${stored.root}.zip`)).status, 404);
  }
  assert.equal((await plain('GET', '/roost/v1/status')).status, 404); // plain HTTP serves nothing else
  assert.equal((await plain('POST', '/bootstrap')).status, 404);
});

// ---- trust, releases, campaigns ------------------------------------------------------------------------------------

test('trust record, release, campaign, and devices that follow', async () => {
  const { dir, remove } = tempDir();
  let sim;
  try {
    let r = await api('GET', '/roost/v1/status');
    assert.match(r.json.warnings.join(), /no trust record/);
    assert.match(r.json.directorKey, /^[0-9a-f]{64}$/);
    const keys = join(dir, 'keys');
    await hub.roost('keys', 'init', keys, '--no-paper', '--director', r.json.directorKey);
    await hub.roost('trust', 'publish', keys);
    r = await api('GET', '/roost/v1/trust');
    assert.equal(r.status, 200);
    const record = r.body;
    assert.equal((await api('POST', '/roost/v1/trust', record)).status, 200); // told twice
    assert.equal((await api('GET', '/roost/v1/trust?version=2')).status, 404);
    for (const at of [20, record.length - 1]) { // the record itself, or a signature
      const spoilt = Buffer.from(record);
      spoilt[at] ^= 1;
      assert.ok([409, 422].includes((await api('POST', '/roost/v1/trust', spoilt)).status));
    }
    assert.deepEqual((await api('GET', '/roost/v1/status')).json.warnings, []);

    const build = async (version, size) => {
      const file = join(dir, `${version}.bin`), out = join(dir, version);
      writeFileSync(file, Buffer.alloc(size, version));
      await hub.roost('release', 'build', '-p', 'sensor', '-v', version, '--hardware-class', '7', '--file', file, '--out', out);
      return { out, manifest: () => readFileSync(join(out, 'manifest.hrm')) };
    };
    const one = await build('1.0.0', 60_000);
    await hub.roost('release', 'sign', one.out, '--key-file', join(keys, 'release-1.key'));
    r = await api('POST', '/roost/v1/releases', one.manifest());
    assert.deepEqual([r.status, code(r)], [422, 'artifact-missing']);
    await hub.roost('release', 'push', one.out);
    assert.equal((await api('POST', '/roost/v1/releases', one.manifest())).status, 200);
    const unsigned = one.manifest();
    unsigned[unsigned.length - 1] ^= 1;
    r = await api('POST', '/roost/v1/releases', unsigned);
    assert.deepEqual([r.status, code(r)], [422, 'release-signatures']);
    r = await api('GET', '/roost/v1/releases');
    assert.equal(r.json.releases.length, 1);
    const { id, ...rest } = r.json.releases[0];
    assert.deepEqual([rest.product, rest.version, rest.hardwareClass], ['sensor', '1.0.0', 7]);
    assert.ok((await api('GET', `/roost/v1/releases/${id}`)).body.equals(one.manifest()));

    // Five blank devices, the real engine; nobody asked for more than the newest release of their class.
    const token = (await api('POST', '/roost/v1/tokens', { name: 'e2e', hardware: 'sensor:7' })).json.token;
    const bootstrap = /bootstrap string: (\S+)/.exec(hub.initOutput)[1];
    sim = start(bin('roost-sim'), ['--hub', bootstrap, '--address', '127.0.0.1', '--source-spread', '--count', '5', '--id-prefix', 'e2e-', '--hardware-class',
      'sensor:7:1', '--token', token, '--telemetry-every', '0', '--checkin-every', '2s', '--quiet']);
    const fleet = async () => (await api('GET', '/roost/v1/devices?after=e2e&limit=5')).json.devices;
    await waitFor('five devices on 1.0.0', async () => (await fleet()).filter((d) => d.report?.version === '1.0.0' && d.deployment?.state === 'CONFIRMED').length === 5);

    const bad = [[{}, 400], [{ all: true }, 400], [{ all: true, releases: [] }, 400], [{ all: true, releases: ['zz'] }, 400],
      [{ releases: [id] }, 400], [{ all: true, devices: ['e2e-0'], releases: [id] }, 400], [{ all: true, releases: ['00'.repeat(32)] }, 422],
      [{ devices: ['nobody'], releases: [id] }, 422], [{ all: true, releases: [id, id] }, 422], [{ all: 'yes', releases: [id] }, 400]];
    for (const [body, status] of bad) assert.equal((await api('POST', '/roost/v1/campaigns', body)).status, status, JSON.stringify(body));

    const two = await build('1.1.0', 61_000);
    await hub.roost('release', 'sign', two.out, '--key-file', join(keys, 'release-1.key'));
    await hub.roost('release', 'push', two.out);
    const id2 = (await api('GET', '/roost/v1/releases')).json.releases[0].id;
    const [lucky, ...others] = (await fleet()).map((d) => d.id);
    r = await api('POST', '/roost/v1/campaigns', { devices: [lucky], releases: [id2] });
    assert.deepEqual([r.status, r.json.told], [201, 1]);
    const listed = r.json.id;
    await waitFor('the listed device to run 1.1.0', async () => (await api('GET', `/roost/v1/campaigns/${listed}`)).json.counts.CONFIRMED === 1);
    assert.ok((await fleet()).filter((d) => others.includes(d.id)).every((d) => d.report.version === '1.0.0'));
    await waitFor('the campaign to be over', async () => (await api('GET', `/roost/v1/campaigns/${listed}`)).json.state === 'completed');
    r = await api('POST', '/roost/v1/campaigns', { all: true, releases: [id2] });
    const standing = r.json.id;
    r = await waitFor('everybody to run 1.1.0', async () => {
      const c = (await api('GET', `/roost/v1/campaigns/${standing}?rows=true`)).json;
      return c.counts.CONFIRMED === 4 && c.counts.SKIPPED === 1 && c;
    });
    assert.equal(r.rows.length, 5);
    assert.ok(r.rows.every((row) => row.running === id2 && row.version === '1.1.0'));
    const log = (await api('GET', '/roost/v1/audit')).json.audit.map((a) => a.what);
    for (const what of ['trust.publish', 'artifact.add', 'release.add', 'campaign.create', 'deployment.confirmed']) assert.ok(log.includes(what), what);
  } finally {
    await sim?.stop();
    remove();
  }
});

// ---- messages and telemetry ----------------------------------------------------------------------------------------

test('messages wait for a device, fifty at most', async () => {
  await api('PUT', '/roost/v1/devices/mailbox', {});
  const send = (body) => api('POST', '/roost/v1/devices/mailbox/messages', body);
  let r = await send({ body: 'one', properties: { a: 'b' }, messageId: 'm1', ack: 'full', ttlSeconds: 60 });
  assert.deepEqual([r.status, r.json.messageId], [201, 'm1']);
  r = await send({ bodyBase64: Buffer.from([0, 1, 255]).toString('base64') });
  assert.equal(r.status, 201);
  assert.ok(r.json.messageId);
  for (const [bad, why] of [[{}, 'bad-member'], [{ body: 'x', bodyBase64: '' }, 'bad-member'], [{ body: 1 }, 'bad-member'],
    [{ body: 'x', ack: 'maybe' }, 'bad-member'], [{ body: 'x', properties: { a: 1 } }, 'bad-member'],
    [{ body: 'x', properties: [] }, 'bad-member'], [{ body: 'x', ttlSeconds: -1 }, 'bad-member'],
    [{ body: 'x', ttlSeconds: 99999999 }, 'bad-message'], [{ body: 'x', to: 'y' }, 'unknown-member'],
    [{ body: 'x', properties: { '': 'y' } }, 'bad-message'], [{ bodyBase64: '!!' }, 'bad-member']]) {
    r = await send(bad);
    assert.deepEqual([r.status, code(r)], [400, why], JSON.stringify(bad));
  }
  assert.equal((await send({ body: 'x'.repeat(65537) })).status, 400);
  assert.equal((await send({ body: 'x'.repeat(65530), properties: { name: 'too much' } })).status, 413);
  assert.equal(code(await api('POST', '/roost/v1/devices/nobody/messages', { body: 'x' })), 'device-not-found');
  let taken = 2;
  for (; taken < 100; taken++) {
    r = await send({ body: `${taken}` });
    if (r.status !== 201) break;
  }
  assert.deepEqual([r.status, code(r)], [403, 'queue-full']);
  assert.equal(taken, 50);
});

function follow(query) {
  const lines = [];
  let partial = '', res;
  const ready = new Promise((done, fail) => {
    const c = parseConnectionString(hub.connectionString);
    const req = https.request({ host: '127.0.0.1', servername: hub.name, port: hub.https, ca: hub.ca, agent: false,
      path: `/roost/v1/telemetry?${query}`, headers: { host: hub.name, authorization: sasToken(hub.name, c.SharedAccessKey, 'iothubowner') } }, (r) => {
      res = r;
      r.on('data', (d) => {
        partial += d;
        const l = partial.split('\n');
        partial = l.pop();
        lines.push(...l.map((x) => JSON.parse(x)));
      });
      r.on('error', () => {});
      done(r);
    });
    req.on('error', fail);
    req.end();
  });
  return { lines, ready, close: () => res?.destroy(), ended: ready.then((r) => new Promise((d) => r.on('end', d))) };
}

test('telemetry is followed, from now, from a place, from a device', async () => {
  const made = (await api('PUT', '/roost/v1/devices/talker', {})).json;
  const other = (await api('PUT', '/roost/v1/devices/other', {})).json;
  const live = follow('from=latest'), filtered = follow('from=latest&device=talker');
  assert.equal((await live.ready).statusCode, 200);
  await filtered.ready;
  const say = await publisher();
  await say(made, 'one', 'a=1&%24.mid=m1');
  await say(other, 'two', '');
  await say(made, Buffer.from([0, 255, 1]), '');
  await waitFor('three lines', () => live.lines.length >= 3);
  await waitFor('two lines', () => filtered.lines.length >= 2);
  const first = live.lines.find((l) => l.body === 'one');
  assert.equal(first.device, 'talker');
  assert.deepEqual(first.properties, { a: '1' });
  assert.equal(first.system['message-id'], 'm1');
  assert.ok(first.enqueued && Number.isInteger(first.sequence) && Number.isInteger(first.partition));
  assert.ok(live.lines.some((l) => l.bodyBase64 === Buffer.from([0, 255, 1]).toString('base64')));
  assert.ok(filtered.lines.every((l) => l.device === 'talker'));
  live.close();
  filtered.close();
  const again = follow('from=earliest&follow=false');
  await again.ended;
  assert.deepEqual(again.lines.filter((l) => l.device === 'talker').length, 2);
  const from = follow(`from=seq:${first.sequence + 1}&partition=${first.partition}&follow=false`);
  await from.ended;
  assert.ok(from.lines.every((l) => l.sequence > first.sequence));
  const later = follow(`from=time:${new Date(Date.now() + 3600_000).toISOString()}&follow=false`);
  await later.ended;
  assert.equal(later.lines.length, 0);
  for (const bad of ['from=seq:1', 'from=yesterday', 'from=seq:x&partition=0', 'partition=99', 'follow=maybe', 'device=a%20b'])
    assert.equal((await api('GET', `/roost/v1/telemetry?${bad}`)).status, 400, bad);
  const readers = Array.from({ length: 70 }, () => follow('from=latest'));
  const statuses = (await Promise.all(readers.map((r) => r.ready))).map((r) => r.statusCode);
  assert.deepEqual([statuses.filter((s) => s === 200).length, statuses.filter((s) => s === 503).length], [64, 6]);
  readers.forEach((r) => r.close());
  await waitFor('the readers to be gone', async () => /^roost_telemetry_readers 0$/m.test((await plain('GET', '/metrics', {}, hub.ops)).body));
});

// One QoS 1 message by a bare MQTT client.
async function publisher() {
  const tls = await import('node:tls');
  const str = (s) => { const b = Buffer.from(s); return Buffer.concat([Buffer.from([b.length >> 8, b.length & 255]), b]); };
  const packet = (type, ...parts) => {
    const body = Buffer.concat(parts);
    const len = [];
    let n = body.length;
    do { len.push((n & 127) | (n > 127 ? 128 : 0)); n >>= 7; } while (n);
    return Buffer.concat([Buffer.from([type, ...len]), body]);
  };
  return (device, body, bag) => new Promise((done, fail) => {
    const s = tls.connect({ host: '127.0.0.1', port: hub.mqtt, servername: hub.name, ca: hub.ca }, () => {
      s.write(packet(0x10, str('MQTT'), Buffer.from([4, 0xc2, 0, 60]), str(device.id), str(`${hub.name}/${device.id}/?api-version=2021-04-12`),
        str(sasToken(`${hub.name}/devices/${device.id}`, device.primaryKey))));
      s.write(packet(0x32, str(`devices/${device.id}/messages/events/${bag}`), Buffer.from([0, 1]), Buffer.from(body)));
    });
    let got = Buffer.alloc(0);
    s.on('data', (d) => {
      got = Buffer.concat([got, d]);
      if (got.length >= 8) { s.destroy(); got[4] === 0x40 ? done() : fail(new Error(`not acknowledged: ${got.toString('hex')}`)); }
    });
    s.on('error', fail);
  });
}

// ---- loopback pages --------------------------------------------------------------------------------------------------

test('metrics and health on the loopback listener alone', async () => {
  const m = await plain('GET', '/metrics', {}, hub.ops);
  assert.equal(m.status, 200);
  assert.match(m.headers['content-type'], /^text\/plain; version=0\.0\.4/);
  const text = m.body.toString();
  for (const name of ['http_requests_total', 'bootstrap_issued_total', 'store_commits_total', 'stream_records_total', 'connections'])
    assert.match(text, new RegExp(`^# TYPE roost_${name} (counter|gauge)\\nroost_${name} \\d+$`, 'm'), name);
  for (const line of text.trim().split('\n'))
    assert.match(line, /^(# (HELP|TYPE) roost_[a-z0-9_]+ .+|roost_[a-z0-9_]+(\{[a-z]+="[^"]+"\})? \d+)$/);
  assert.equal((await plain('GET', '/healthz', {}, hub.ops)).status, 200);
  assert.equal((await plain('GET', '/readyz', {}, hub.ops)).status, 200);
  assert.equal((await open('GET', '/metrics')).status, 404);
  assert.equal((await plain('GET', '/metrics')).status, 404);
});

// ---- reader groups and counts of broadcasts -------------------------------------------------------------------

test('a group of readers: places, what is refused, forgetting', async () => {
  const path = '/roost/v1/telemetry/groups/billing';
  assert.equal((await api('GET', path)).status, 404);
  const opened = await api('GET', '/roost/v1/telemetry?group=billing&from=earliest&follow=false');
  assert.equal(opened.status, 200);
  const lines = opened.body.toString().trim().split('\n').filter(Boolean).map((l) => JSON.parse(l));
  const group = (await api('GET', path)).json; // its first reader made it
  assert.equal(group.name, 'billing');
  assert.equal(group.positions.reduce((n, p) => n + p.behind, 0), lines.length);
  const ends = group.positions.map(({ partition, next, behind }) => ({ partition, next: next + behind }));
  for (const [body, status] of [
    [{}, 400], [{ positions: [] }, 400], [{ positions: [{ partition: 99, next: 0 }] }, 400], [{ positions: [{ partition: 0 }] }, 400],
    [{ positions: [{ partition: 0, next: -1 }] }, 400], [{ positions: [{ partition: 0, next: 0 }, { partition: 0, next: 0 }] }, 400],
    [{ positions: [{ partition: 0, next: 0, more: 1 }] }, 400], [{ positions: [{ partition: ends[0].partition, next: ends[0].next + 1 }] }, 409],
  ]) assert.equal((await api('PUT', path, body)).status, status, JSON.stringify(body));
  assert.deepEqual((await api('GET', path)).json, group, 'nothing of what was refused is kept');
  assert.equal((await api('PUT', path, { positions: ends })).status, 200);
  assert.equal((await api('PUT', path, { positions: group.positions.map(({ partition, next }) => ({ partition, next })) })).status, 200);
  assert.ok((await api('GET', path)).json.positions.every((p) => p.behind === 0), 'a place does not go back');
  assert.equal((await api('GET', '/roost/v1/telemetry?group=billing&from=earliest&follow=false')).body.length, 0);
  assert.equal((await api('GET', '/roost/v1/telemetry?group=billing&device=d')).status, 400);
  assert.equal((await api('GET', '/roost/v1/telemetry?group=a%2Fb')).status, 400);
  assert.equal((await api('GET', `/roost/v1/telemetry?group=${'x'.repeat(65)}`)).status, 400);
  assert.equal((await api('GET', '/roost/v1/telemetry?group=billing&from=soon')).status, 400);
  assert.deepEqual((await api('GET', '/roost/v1/telemetry/groups')).json.groups.map((g) => g.name), ['billing']);
  for (let i = 1; i < 200; i++) assert.equal((await api('PUT', `/roost/v1/telemetry/groups/g${i}`, { positions: [{ partition: 0, next: 0 }] })).status, 200);
  assert.equal((await api('PUT', '/roost/v1/telemetry/groups/one-more', { positions: [{ partition: 0, next: 0 }] })).json.error.code, 'too-many-groups');
  assert.equal((await api('GET', '/roost/v1/telemetry?group=one-more&from=latest')).json.error.code, 'too-many-groups');
  assert.equal((await api('DELETE', path)).status, 204);
  assert.equal((await api('DELETE', path)).status, 404);
});

test('how long ago is a place to begin', async () => {
  for (const from of ['-1s', '-90m', '-2h', '-1d']) assert.equal((await api('GET', `/roost/v1/telemetry?from=${from}&follow=false`)).status, 200, from);
  for (const from of ['-', '-1', '-1w', '-h', '1h', '--1h', '-1.5h']) assert.equal((await api('GET', `/roost/v1/telemetry?from=${from}&follow=false`)).status, 400, from);
});

test('a broadcast is counted, found by number and by id, and a device that is deleted counts as purged', async () => {
  const total = (await api('GET', '/roost/v1/status')).json.devices;
  const before = total.enabled + total.disabled + total.pending;
  for (const id of ['count-1', 'count-2']) assert.equal((await api('PUT', `/roost/v1/devices/${id}`, {})).status, 201);
  const { json: sent } = await api('POST', '/roost/v1/broadcast', { body: 'all', messageId: 'to-all', ttlSeconds: 60 });
  const { json: b } = await api('GET', `/roost/v1/broadcasts/${sent.sequence}`);
  assert.deepEqual(Object.keys(b), ['sequence', 'messageId', 'sent', 'expires', 'devices', 'pending', 'delivered', 'expired', 'deliveryCountExceeded', 'purged', 'rejected']);
  assert.equal(b.devices, before + 2);
  assert.equal(b.pending, before + 2);
  assert.deepEqual((await api('GET', '/roost/v1/broadcasts/to-all')).json, b);
  assert.deepEqual((await api('GET', '/roost/v1/broadcasts')).json.broadcasts[0], b);
  assert.equal((await api('DELETE', '/roost/v1/devices/count-1')).status, 204);
  const now = (await api('GET', '/roost/v1/broadcasts/to-all')).json;
  assert.equal(now.purged, 1);
  assert.equal(now.pending, before + 1);
  assert.equal((await api('GET', '/roost/v1/broadcasts?before=x')).status, 400);
  await api('DELETE', '/roost/v1/devices/count-2');
});

test('feedback from now on', async () => {
  const { json } = await api('GET', '/roost/v1/feedback?after=latest');
  assert.deepEqual(json.feedback, []);
  assert.ok(Number.isInteger(json.next));
  assert.deepEqual((await api('GET', `/roost/v1/feedback?after=${json.next}`)).json.feedback, []);
});
