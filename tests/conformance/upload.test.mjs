// File upload of devices and the blob service: the device SDK, the storage SDK, and bare requests.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { createRequire } from 'node:module';
import https from 'node:https';
import { NAME, closeHub, deviceToken, newDevice, openHub, waitFor } from './lib/hub.mjs';

const require = createRequire(import.meta.url);
const { Client } = require('azure-iot-device');
const { Http } = require('azure-iot-device-http');
const { BlockBlobClient, ContainerClient } = require('@azure/storage-blob');

let hub;
const V = 'api-version=2021-04-12';
before(async () => {
  hub = await openHub({ settings: { uploads: { device_bytes: 40000000, blob_bytes: 20000000, ttl_s: 60 } } });
  https.globalAgent.options.ca = hub.ca; // the SDKs' own connections trust this hub
});
after(async () => { await closeHub(hub); });

const as = (d, path, body) => hub.request('POST', `/devices/${encodeURIComponent(d.id)}${path}?${V}`, { token: deviceToken(d), body });
const announce = async (d, blobName) => {
  const r = await as(d, '/files', { blobName });
  assert.equal(r.status, 200, `${r.body}`);
  return r.json;
};
const pathOf = (a) => `/${a.containerName}/${a.blobName}${a.sasToken}`;
const blob = (method, path, options = {}) => hub.request(method, path, { token: null, ...options });
const put = (path, body, headers = {}) => blob('PUT', path, { body, headers: { 'x-ms-blob-type': 'BlockBlob', ...headers } });
const code = (r) => {
  assert.equal(r.headers['content-type'], 'application/xml');
  assert.ok(r.body.toString().includes(`<Code>${r.headers['x-ms-error-code']}</Code>`));
  return r.headers['x-ms-error-code'];
};
const containerSas = async (permissions) => (await hub.api('POST', '/roost/v1/containers/uploads/sas', { permissions, ttlSeconds: 600 })).sasToken;
const uploads = async (d) => (await hub.api('GET', `/roost/v1/devices/${encodeURIComponent(d.id)}/uploads`)).uploads;

test('[http 108] announcing answers the five members', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'dir/file.txt');
  assert.deepEqual(Object.keys(a).sort(), ['blobName', 'containerName', 'correlationId', 'hostName', 'sasToken']);
  assert.equal(a.blobName, `${d.id}/dir/file.txt`);
  assert.equal(a.hostName, NAME);
  assert.match(a.sasToken, /^\?sv=2018-03-28&sr=b&sig=[^&]+&se=[^&]+&sp=rw$/);
  for (const body of [{}, { blobName: '' }, { blobName: 'a//b' }, { blobName: '../b' }, { blobName: 'a/./b' }, { blobName: '/a' }, { blobName: 'a\u0001' }, { blobName: `${'x/'.repeat(14)}y` }, { blobName: 'x'.repeat(1025) }])
    assert.equal((await as(d, '/files', body)).status, 400, JSON.stringify(body));
  const other = await newDevice(hub);
  assert.equal((await hub.request('POST', `/devices/${d.id}/files?${V}`, { token: deviceToken(other), body: { blobName: 'x' } })).status, 401);
});

test('[http 109] [http 110] completion in three forms; an unknown one is refused', async () => {
  const d = await newDevice(hub);
  for (const form of [(id) => ['/files/notifications', { correlationId: id, isSuccess: true, statusCode: 200, statusDescription: 'OK' }],
    (id) => ['/files/notifications/', { correlationId: id, isSuccess: true }],
    (id) => [`/files/notifications/${id}`, { isSuccess: true, statusCode: 200, statusDescription: 'OK' }]]) {
    const a = await announce(d, 'f');
    assert.equal((await put(pathOf(a), 'x')).status, 201);
    const r = await as(d, ...form(a.correlationId));
    assert.equal(r.status, 204);
    const again = await as(d, ...form(a.correlationId));
    assert.equal(again.status, 400);
    assert.equal(again.headers['iothub-errorcode'], 'InvalidFileUploadCorrelationId');
  }
  const a = await announce(d, 'never');
  assert.equal((await as(d, '/files/notifications', { correlationId: a.correlationId, isSuccess: true })).headers['iothub-errorcode'], 'InvalidStorageEndpointOrBlob');
  assert.equal((await as(d, '/files/notifications', { correlationId: a.correlationId, isSuccess: false })).status, 204);
  const b = await announce(d, 'mine');
  assert.equal((await as(await newDevice(hub), '/files/notifications', { correlationId: b.correlationId, isSuccess: false })).headers['iothub-errorcode'],
    'InvalidFileUploadCorrelationId');
});

test('[http 118] ten uploads are open at a time', async () => {
  const d = await newDevice(hub);
  const open = [];
  for (let i = 0; i < 10; i++) open.push(await announce(d, `f${i}`));
  const r = await as(d, '/files', { blobName: 'eleven' });
  assert.equal(r.status, 403);
  assert.equal(r.headers['iothub-errorcode'], 'DeviceMaximumActiveFileUploadLimitExceeded');
  assert.equal((await as(d, '/files/notifications', { correlationId: open[0].correlationId, isSuccess: false })).status, 204);
  await announce(d, 'eleven');
});

test('[http 111] the device SDK uploads streams of 0, 1 and 9 MB', async () => {
  const d = await newDevice(hub);
  const client = Client.fromConnectionString(d.connectionString, Http);
  await client.setOptions({ ca: hub.ca, http: { receivePolicy: { interval: 60 } } });
  for (const size of [0, 1, 9 * 1024 * 1024]) {
    const bytes = randomBytes(size);
    await client.uploadToBlob(`sdk/${size}.bin`, Readable.from(size ? [bytes] : []), size || 1); // that client wants a length above 0
    const r = await hub.request('GET', `/roost/v1/devices/${d.id}/uploads/sdk/${size}.bin`);
    assert.equal(r.status, 200);
    assert.equal(createHash('sha256').update(r.body).digest('hex'), createHash('sha256').update(bytes).digest('hex'));
  }
  await client.close();
  const notes = (await hub.api('GET', '/roost/v1/file-notifications')).notifications.filter((n) => n.deviceId === d.id);
  assert.deepEqual(notes.map((n) => n.blobSizeInBytes), [0, 1, 9 * 1024 * 1024]);
  assert.equal(notes[0].blobUri, `https://${NAME}/uploads/${d.id}/sdk/0.bin`);
  assert.deepEqual((await uploads(d)).map((u) => u.name), ['sdk/0.bin', 'sdk/1.bin', `sdk/${9 * 1024 * 1024}.bin`]);
});

test('[http 112] blocks as the C client sends them: no x-ms header, CRLF in the list', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'c.bin');
  const ids = ['     1', '     2'].map((t) => Buffer.from(t).toString('base64'));
  for (const [i, id] of ids.entries())
    assert.equal((await blob('PUT', `${pathOf(a)}&comp=block&blockid=${encodeURIComponent(id)}`, { body: `part${i}` })).status, 201);
  const list = `<?xml version="1.0" encoding="utf-8"?>\r\n<BlockList>\r\n${ids.map((i) => `<Latest>${i}</Latest>\r\n`).join('')}</BlockList>\r\n`;
  const r = await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: list });
  assert.equal(r.status, 201);
  assert.match(r.headers.etag, /^"0x[0-9a-f]{16}"$/);
  assert.equal((await blob('GET', pathOf(a))).body.toString(), 'part0part1');
});

test('[http 113] [http 114] both spellings of a slash, both range headers', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'dir/f.txt');
  assert.equal((await put(`/${a.containerName}/${encodeURIComponent(a.blobName)}${a.sasToken}`, '0123456789', { 'x-ms-meta-Colour': 'red', 'x-ms-blob-content-type': 'text/plain' })).status, 201);
  const all = await blob('GET', pathOf(a));
  assert.equal(all.status, 200);
  assert.equal(all.body.toString(), '0123456789');
  assert.equal(all.headers['content-type'], 'text/plain');
  assert.equal(all.headers['x-ms-meta-colour'], 'red');
  assert.equal(all.headers['content-md5'], createHash('md5').update('0123456789').digest('base64'));
  let r = await blob('GET', pathOf(a), { headers: { 'x-ms-range': 'bytes=1-2' } });
  assert.equal(r.status, 206);
  assert.equal(r.headers['content-range'], 'bytes 1-2/10');
  assert.equal(r.body.toString(), '12');
  r = await blob('GET', pathOf(a), { headers: { 'x-ms-range': 'bytes=1-2', range: 'bytes=5-6' } });
  assert.equal(r.body.toString(), '12');
  r = await blob('GET', pathOf(a), { headers: { 'x-ms-range': 'bytes=10-' } });
  assert.equal(r.status, 416);
  assert.equal(code(r), 'InvalidRange');
  r = await blob('HEAD', pathOf(a), { headers: { 'x-ms-client-request-id': 'abc', 'x-ms-version': '2026-04-06' } });
  assert.equal(r.status, 200);
  assert.equal(r.headers['content-length'], '10');
  assert.equal(r.headers['x-ms-client-request-id'], 'abc');
  assert.equal(r.headers['x-ms-version'], '2026-04-06');
  assert.equal(r.headers['x-ms-blob-type'], 'BlockBlob');
  assert.equal((await blob('GET', pathOf(a), { headers: { 'if-none-match': all.headers.etag } })).status, 304);
});

test('a page that a device uploads runs nothing at the address of the hub', async () => {
  const d = await newDevice(hub), a = await announce(d, 'page.html');
  assert.equal((await put(pathOf(a), '<script>alert(1)</script>', { 'x-ms-blob-content-type': 'text/html' })).status, 201);
  for (const headers of [{}, { Range: 'bytes=0-3' }]) {
    const r = await blob('GET', pathOf(a), { headers });
    assert.equal(r.headers['content-type'], 'text/html');
    assert.match(r.headers['content-security-policy'], /^sandbox;/);
    assert.equal(r.headers['x-content-type-options'], 'nosniff');
  }
});

test('[http 115] [http 116] conditions, and lists of blocks that are not there', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'f');
  const first = await put(pathOf(a), 'one', { 'If-None-Match': '*' });
  assert.equal(first.status, 201);
  let r = await put(pathOf(a), 'two', { 'If-None-Match': '*' });
  assert.equal(r.status, 409);
  assert.equal(code(r), 'BlobAlreadyExists');
  assert.equal((await put(pathOf(a), 'two', { 'If-Match': '"0x0000000000000000"' })).status, 412);
  assert.equal((await blob('GET', pathOf(a))).body.toString(), 'one');
  assert.equal((await put(pathOf(a), 'two', { 'If-Match': first.headers.etag })).status, 201);
  r = await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: '<BlockList><Latest>AAAA</Latest></BlockList>' });
  assert.equal(r.status, 400);
  assert.equal(code(r), 'InvalidBlockList');
  assert.equal(code(await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: '<BlockList><Latest>AAAA</Latest>' })), 'InvalidXmlDocument');
  assert.equal((await blob('GET', pathOf(a))).body.toString(), 'two');
  assert.equal((await blob('PUT', `${pathOf(a)}&comp=block&blockid=AAAA`, { body: 'x' })).status, 201);
  assert.equal(code(await blob('PUT', `${pathOf(a)}&comp=block&blockid=AAAAAAAA`, { body: 'x' })), 'InvalidBlobOrBlock');
  assert.equal(code(await blob('PUT', `${pathOf(a)}&comp=block&blockid=!`, { body: 'x' })), 'InvalidBlockId');
  assert.equal((await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: '\ufeff<BlockList />' })).status, 201);
  assert.equal((await blob('GET', pathOf(a))).body.length, 0);
  r = await put(pathOf(a), 'three', { 'Content-MD5': createHash('md5').update('other').digest('base64') });
  assert.equal(code(r), 'Md5Mismatch');
  assert.equal(code(await blob('PUT', pathOf(a), { body: 'x' })), 'MissingRequiredHeader');
  assert.equal(code(await put(pathOf(a), 'x', { 'x-ms-blob-type': 'PageBlob' })), 'UnsupportedHeader');
});

test('[http 116] a whole blob ends the blocks that no list has named', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'f');
  const block = (id, body) => blob('PUT', `${pathOf(a)}&comp=block&blockid=${id}`, { body });
  const used = async () => (await hub.api('GET', `/roost/v1/devices/${d.id}/uploads`));
  for (const id of ['AAAA', 'AAAB', 'AAAC']) assert.equal((await block(id, 'x'.repeat(1000))).status, 201);
  assert.match((await blob('GET', `${pathOf(a)}&comp=blocklist&blocklisttype=uncommitted`)).body.toString(), /<Name>AAAC<\/Name>/);
  assert.equal((await put(pathOf(a), 'whole')).status, 201);
  assert.doesNotMatch((await blob('GET', `${pathOf(a)}&comp=blocklist&blocklisttype=uncommitted`)).body.toString(), /<Name>/);
  const r = await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: '<BlockList><Latest>AAAA</Latest></BlockList>' });
  assert.deepEqual([r.status, code(r)], [400, 'InvalidBlockList']);
  assert.equal((await blob('GET', pathOf(a))).body.toString(), 'whole');
  // Ids of another length are welcome again, and a blob that is refused ends nothing.
  assert.equal((await block('AAAAAAAA', 'y')).status, 201);
  assert.equal((await put(pathOf(a), 'no', { 'If-None-Match': '*' })).status, 409);
  assert.equal((await blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: '<BlockList><Latest>AAAAAAAA</Latest></BlockList>' })).status, 201);
  assert.equal((await blob('GET', pathOf(a))).body.toString(), 'y');
  assert.ok(await used());
});

const list = (...entries) => `<BlockList>${entries.map(([kind, id]) => `<${kind}>${id}</${kind}>`).join('')}</BlockList>`;
const commit = (a, ...entries) => blob('PUT', `${pathOf(a)}&comp=blocklist`, { body: list(...entries) });
const block = async (a, id, body) => assert.equal((await blob('PUT', `${pathOf(a)}&comp=block&blockid=${id}`, { body })).status, 201);
const content = async (a) => (await blob('GET', pathOf(a))).body.toString();
async function blocks(a, type) {
  const r = await blob('GET', `${pathOf(a)}&comp=blocklist${type ? `&blocklisttype=${type}` : ''}`);
  assert.equal(r.status, 200, `${r.body}`);
  const part = (name) => {
    const text = new RegExp(`<${name}>(.*)</${name}>`).exec(r.body.toString())?.[1];
    return text?.match(/<Name>[^<]*<.Name><Size>\d+/g)?.map((m) => m.replace(/<[^>]*>/g, ' ').trim().replace(/ +/, ':')) ?? (text === undefined ? undefined : []);
  };
  return { committed: part('CommittedBlocks'), uncommitted: part('UncommittedBlocks'), headers: r.headers };
}

test('[http 115] a list takes blocks of the blob again', async () => {
  const d = await newDevice(hub), a = await announce(d, 'f');
  let r = await blob('GET', `${pathOf(a)}&comp=blocklist`);
  assert.deepEqual([r.status, code(r)], [404, 'BlobNotFound']);
  await block(a, 'AAAA', 'one');
  await block(a, 'AAAB', 'second');
  await block(a, 'AAAC', 'third');
  let l = await blocks(a, 'all');
  assert.deepEqual([l.committed, l.uncommitted, l.headers.etag], [[], ['AAAA:3', 'AAAB:6', 'AAAC:5'], undefined]);
  r = await commit(a, ['Latest', 'AAAC'], ['Uncommitted', 'AAAA'], ['Latest', 'AAAB'], ['Latest', 'AAAA']);
  assert.equal(r.status, 201);
  l = await blocks(a, 'all');
  assert.deepEqual([l.committed, l.uncommitted], [['AAAC:5', 'AAAA:3', 'AAAB:6', 'AAAA:3'], []]);
  assert.equal(l.headers.etag, r.headers.etag);
  assert.equal(l.headers['x-ms-blob-content-length'], '17');
  assert.equal((await blocks(a)).uncommitted, undefined); // committed is what is meant when nothing is said
  assert.equal((await blocks(a, 'uncommitted')).committed, undefined);
  r = await blob('GET', `${pathOf(a)}&comp=blocklist&blocklisttype=some`);
  assert.deepEqual([r.status, code(r)], [400, 'InvalidQueryParameterValue']);
  // One is uploaded anew: the newest and the one of the blob can be told apart.
  await block(a, 'AAAB', '2nd');
  await block(a, 'AAAD', 'fourth');
  r = await commit(a, ['Committed', 'AAAB'], ['Latest', 'AAAB'], ['Uncommitted', 'AAAD'], ['Committed', 'AAAC'], ['Latest', 'AAAC']);
  assert.equal(r.status, 201);
  assert.equal(await content(a), 'second2ndfourththirdthird');
  assert.deepEqual((await blocks(a, 'all')).committed, ['AAAB:6', 'AAAB:3', 'AAAD:6', 'AAAC:5', 'AAAC:5']);
  assert.equal((await blob('GET', pathOf(a))).headers['content-md5'], createHash('md5').update('second2ndfourththirdthird').digest('base64'));
  // What the blob does not have, or no more, is none of its blocks; and what was refused changes nothing.
  await block(a, 'AAAE', 'fifth');
  for (const bad of [['Committed', 'AAAA'], ['Committed', 'AAAE'], ['Uncommitted', 'AAAD'], ['Latest', 'AAAA'], ['Committed', 'AAA='], ['Committed', 'AAAAAAAA']]) {
    r = await commit(a, ['Committed', 'AAAC'], bad);
    assert.deepEqual([r.status, code(r)], [400, 'InvalidBlockList'], `${bad}`);
  }
  assert.equal(await content(a), 'second2ndfourththirdthird');
  assert.deepEqual((await blocks(a, 'all')).uncommitted, ['AAAE:5']);
  // A whole blob has no blocks.
  assert.equal((await put(pathOf(a), 'whole')).status, 201);
  assert.deepEqual((await blocks(a, 'all')).committed, []);
  r = await commit(a, ['Latest', 'AAAC']);
  assert.deepEqual([r.status, code(r)], [400, 'InvalidBlockList']);
  assert.equal(await content(a), 'whole');
});

test('blocks of a blob survive kill -9 and can be taken again after it', async () => {
  const d = await newDevice(hub), a = await announce(d, 'f');
  const bytes = [randomBytes(300_000), randomBytes(100_000), randomBytes(5)];
  for (const [i, b] of bytes.entries()) await block(a, `AAA${'ABC'[i]}`, b);
  assert.equal((await commit(a, ['Latest', 'AAAA'], ['Latest', 'AAAB'])).status, 201);
  await block(a, 'AAAC', bytes[2]);
  await hub.stop('SIGKILL');
  await hub.start();
  assert.deepEqual((await blocks(a, 'all')).committed, ['AAAA:300000', 'AAAB:100000']);
  assert.equal((await commit(a, ['Committed', 'AAAB'], ['Uncommitted', 'AAAC'], ['Committed', 'AAAA'])).status, 201);
  await hub.stop('SIGKILL');
  await hub.start();
  assert.deepEqual((await blob('GET', pathOf(a))).body, Buffer.concat([bytes[1], bytes[2], bytes[0]]));
  assert.deepEqual((await blocks(a, 'all')).committed, ['AAAB:100000', 'AAAC:5', 'AAAA:300000']);
});

test('fifty thousand blocks with the longest ids, taken again; a blob that is written meanwhile is not overwritten by them', async () => {
  const d = await newDevice(hub), a = await announce(d, 'f');
  const id = Buffer.alloc(64, 7).toString('base64'), many = Array.from({ length: 50_000 }, () => ['Latest', id]);
  await block(a, encodeURIComponent(id), 'xy');
  assert.equal((await commit(a, ...many)).status, 201);
  assert.equal(await content(a), 'xy'.repeat(50_000));
  assert.equal((await blocks(a)).committed.length, 50_000);
  assert.equal((await commit(a, ...many.map(() => ['Committed', id]))).status, 201);
  assert.equal(await content(a), 'xy'.repeat(50_000));
  // Either order is one in which the whole blob is there in the end.
  const late = commit(a, ...many), whole = await put(pathOf(a), 'whole');
  assert.equal(whole.status, 201);
  assert.ok([201, 400].includes((await late).status));
  assert.equal(await content(a), 'whole');
});

test('[http 117] addresses that were changed, are over, or permit something else', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'f');
  assert.equal((await put(pathOf(a), 'x')).status, 201);
  const refused = async (path, method = 'GET', options) => {
    const r = await blob(method, path, options);
    assert.equal(r.status, 403, path);
    return code(r);
  };
  assert.equal(await refused(pathOf(a).replace('/f?', '/g?')), 'AuthenticationFailed');
  assert.equal(await refused(pathOf(a).replace(/se=[^&]+/, 'se=2020-01-01T00%3A00%3A00Z')), 'AuthenticationFailed');
  assert.equal(await refused(`/${a.containerName}/${a.blobName}`), 'AuthenticationFailed');
  assert.equal(await refused(pathOf(a), 'DELETE'), 'AuthorizationPermissionMismatch');
  const read = await containerSas('rl');
  const bytes = randomBytes(3_000_000);
  assert.equal(await refused(`/uploads/${d.id}/new${read}`, 'PUT', { body: bytes, headers: { 'x-ms-blob-type': 'BlockBlob' } }), 'AuthorizationPermissionMismatch');
  assert.equal((await blob('GET', `/uploads/${d.id}/f${read}`)).status, 200);
  assert.equal((await blob('GET', '/other/f?sig=AAAA')).status, 404);
  const plain = await blob('GET', '/no/such/path');
  assert.equal(plain.status, 404);
  assert.equal(plain.json.error.code, 'not-found');
  assert.equal((await hub.request('GET', `/devices/x/y/z?${V}`)).headers['iothub-errorcode'], 'GenericNotFound');
});

test('the storage SDK uploads, lists, reads ranges and deletes', async () => {
  const d = await newDevice(hub);
  const sas = await containerSas('rwdlc');
  const container = new ContainerClient(`https://${NAME}/uploads${sas}`);
  const bytes = randomBytes(5_000_000);
  const one = container.getBlockBlobClient(`${d.id}/a & b/ü.bin`);
  await one.uploadData(bytes, { metadata: { kind: 'test' }, blobHTTPHeaders: { blobContentType: 'image/x' } });
  await container.getBlockBlobClient(`${d.id}/blocks.bin`).uploadData(bytes, { maxSingleShotSize: 1, blockSize: 1_000_000, concurrency: 5 });
  const names = [];
  for await (const page of container.listBlobsFlat({ prefix: `${d.id}/` }).byPage({ maxPageSize: 1 }))
    for (const b of page.segment.blobItems) names.push([b.name, b.properties.contentLength]);
  assert.deepEqual(names, [[`${d.id}/a & b/ü.bin`, 5_000_000], [`${d.id}/blocks.bin`, 5_000_000]]);
  assert.deepEqual(await one.downloadToBuffer(), bytes);
  assert.deepEqual(await container.getBlockBlobClient(`${d.id}/blocks.bin`).downloadToBuffer(1000, 777), bytes.subarray(1000, 1777));
  // Some of its blocks again, with one that is new between them.
  const blocky = container.getBlockBlobClient(`${d.id}/blocks.bin`), fresh = randomBytes(1234);
  const before = await blocky.getBlockList('all');
  assert.deepEqual([before.committedBlocks.map((b) => b.size), before.uncommittedBlocks ?? []], [[1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000], []]);
  const ids = before.committedBlocks.map((b) => b.name), name = Buffer.alloc(Buffer.from(ids[0], 'base64').length, 'n').toString('base64');
  await blocky.stageBlock(name, fresh, fresh.length);
  assert.deepEqual((await blocky.getBlockList('uncommitted')).uncommittedBlocks.map((b) => [b.name, b.size]), [[name, 1234]]);
  await blocky.commitBlockList([ids[4], name, ids[0]]);
  const after = await blocky.getBlockList('all');
  assert.deepEqual(after.committedBlocks.map((b) => [b.name, b.size]), [[ids[4], 1_000_000], [name, 1234], [ids[0], 1_000_000]]);
  assert.equal(after.blobContentLength, 2_001_234);
  assert.deepEqual(await blocky.downloadToBuffer(), Buffer.concat([bytes.subarray(4_000_000), fresh, bytes.subarray(0, 1_000_000)]));
  await assert.rejects(blocky.commitBlockList([ids[4], ids[1]]), { code: 'InvalidBlockList' });
  const p = await one.getProperties();
  assert.equal(p.metadata.kind, 'test');
  assert.equal(p.contentType, 'image/x');
  await one.delete();
  assert.equal(await one.exists(), false);
  await assert.rejects(new BlockBlobClient(`https://${NAME}/uploads/${d.id}/x${await containerSas('r')}`).upload('x', 1), { code: 'AuthorizationPermissionMismatch' });
});

test('what is too large, or over the quota, is refused and leaves nothing', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'big');
  const r = await put(pathOf(a), Buffer.alloc(20_000_001)).catch((e) => e);
  assert.ok(r instanceof Error || r.status === 413);
  for (let i = 0; i < 2; i++) assert.equal((await put(pathOf(await announce(d, `f${i}`)), Buffer.alloc(19_000_000))).status, 201);
  const over = await put(pathOf(a), Buffer.alloc(3_000_000));
  assert.equal(over.status, 507);
  assert.equal(code(over), 'QuotaExceeded');
  assert.deepEqual((await uploads(d)).map((u) => u.name), ['f0', 'f1']);
  for (const id of ['AAAA', 'AAAB']) await block(a, id, id.repeat(100)); // a blob in their place that is refused leaves them as they were
  assert.equal(code(await put(pathOf(a), Buffer.alloc(3_000_000))), 'QuotaExceeded');
  assert.deepEqual((await blocks(a, 'uncommitted')).uncommitted, ['AAAA:400', 'AAAB:400']);
  assert.equal((await commit(a, ['Latest', 'AAAA'], ['Latest', 'AAAB'])).status, 201);
  assert.equal(await content(a), 'AAAA'.repeat(100) + 'AAAB'.repeat(100));
  assert.equal((await hub.request('DELETE', `/roost/v1/devices/${d.id}/uploads/f0`)).status, 204);
  assert.equal((await put(pathOf(a), Buffer.alloc(3_000_000))).status, 201);
});

test('acknowledged files survive kill -9, announced uploads too; what was half sent is gone', async () => {
  const d = await newDevice(hub);
  const bytes = randomBytes(700_000);
  const a = await announce(d, 'kept'), b = await announce(d, 'half');
  assert.equal((await put(pathOf(a), bytes)).status, 201);
  assert.equal((await blob('PUT', `${pathOf(b)}&comp=block&blockid=AAAA`, { body: 'block' })).status, 201);
  const half = https.request({ host: NAME, port: 443, method: 'PUT', path: pathOf(b), ca: hub.ca, agent: false,
    headers: { host: NAME, 'content-length': 1_000_000, 'x-ms-blob-type': 'BlockBlob' } });
  half.on('error', () => {});
  half.write(Buffer.alloc(600_000));
  await new Promise((done) => setTimeout(done, 100));
  await hub.stop('SIGKILL');
  half.destroy();
  await hub.start();
  assert.deepEqual((await blob('GET', pathOf(a))).body, bytes);
  assert.equal((await blob('GET', pathOf(b))).status, 404);
  assert.equal((await blob('PUT', `${pathOf(b)}&comp=blocklist`, { body: '<BlockList><Uncommitted>AAAA</Uncommitted></BlockList>' })).status, 201);
  assert.equal((await as(d, '/files/notifications', { correlationId: a.correlationId, isSuccess: true })).status, 204);
});

test('[http 9] [http 10] a refused body does not cost the connection, a chunked one is taken', async () => {
  const d = await newDevice(hub);
  const a = await announce(d, 'f');
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: hub.ca });
  let sockets = 0;
  const ask = (path, method, body, headers = {}) => new Promise((done, fail) => {
    const req = https.request({ host: NAME, port: 443, method, path, agent, headers: { host: NAME, ...headers } }, (res) => {
      res.resume();
      res.on('end', () => done(res));
    });
    req.on('socket', (s) => { if (!s.counted) sockets++; s.counted = true; });
    req.on('error', fail);
    if (body) for (const piece of body) req.write(piece);
    req.end();
  });
  assert.equal((await ask(pathOf(a).replace('/f?', '/g?'), 'PUT', [Buffer.alloc(2_000_000)], { 'content-length': 2_000_000, 'x-ms-blob-type': 'BlockBlob' })).statusCode, 403);
  assert.equal((await ask(pathOf(a), 'PUT', [Buffer.alloc(300_000, 1), Buffer.alloc(300_000, 2)], { 'x-ms-blob-type': 'BlockBlob' })).statusCode, 201);
  const r = await ask(pathOf(a), 'HEAD');
  assert.equal(r.headers['content-length'], '600000');
  assert.equal(sockets, 1);
  agent.destroy();
});

test('the command line lists and fetches', async () => {
  const d = await newDevice(hub);
  await put(pathOf(await announce(d, 'logs/today.txt')), 'hello');
  const list = JSON.parse((await hub.roost('upload', 'list', d.id, '--json')).stdout);
  assert.deepEqual((list.uploads ?? list).map((u) => [u.name, u.length]), [['logs/today.txt', 5]]);
  assert.equal((await hub.roost('upload', 'get', d.id, 'logs/today.txt', '-o', '-')).stdout, 'hello');
  const none = await hub.roost('upload', 'get', d.id, 'nothing', '-o', '-', { ok: false });
  assert.notEqual(none.code, 0);
  await waitFor('the deletion', async () => (await hub.roost('upload', 'delete', d.id, 'logs/today.txt')).code === 0);
  assert.deepEqual(await uploads(d), []);
});

