// TLS with clients of many libraries, over HTTPS: full and resumed handshakes, one byte to 1 MiB both ways, half of a
// connection closed, with and without client certificates, keys that change. At the end the hub says who
// protected the records: it itself, but for the one suite that is not AEAD.
import assert from 'node:assert/strict';
import https from 'node:https';
import tls from 'node:tls';
import { X509Certificate, createHash, createHmac, createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { closeSync, existsSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { HEADER, socket, useHub } from './lib/amqp.mjs';
import { Raw } from './lib/raw.mjs';
import { freePorts } from '../lib/roost.mjs';
import { NAME, closeHub, deviceToken, newDevice, openHub, parseConnectionString, run, sasToken, start, telemetry, tempDir, waitFor } from './lib/hub.mjs';

const MAX = 1 << 20;
const content = Buffer.from(Uint8Array.from({ length: MAX }, (_, i) => i * 7 + (i >> 8) + (i >> 16)));
// Another record layer than the usual one: tests/kernel_tls/boot.sh.
const LAYER = process.env.ROOST_TLS_RECORD_LAYER, USED = LAYER ?? 'compact';
let hub, temp, root, authorization, point;
const peer = (name) => join(temp.dir, name);

before(async () => {
  hub = await openHub(LAYER ? { settings: { tls: { record_layer: LAYER } } } : {});
  temp = tempDir();
  const here = fileURLToPath(new URL('.', import.meta.url));
  await run('cc', ['-O1', join(here, 'peers/mbedtls_pipe.c'), '-o', peer('mbedtls_pipe'), '-lmbedtls', '-lmbedx509', '-lmbedcrypto']);
  await run('cc', ['-O1', join(here, 'peers/bearssl_pipe.c'), '-o', peer('bearssl_pipe'), '-lbearssl']);
  const c = parseConnectionString(hub.connectionString);
  authorization = sasToken(NAME, c.SharedAccessKey, c.SharedAccessKeyName);
  root = await artifact(content);
  const server = new X509Certificate(readFileSync(join(hub.dir, 'tls/server-ec.crt')));
  const { x, y } = server.publicKey.export({ format: 'jwk' });
  point = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]).toString('hex');
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=dev-tls',
    '-keyout', peer('own.key'), '-out', peer('own.crt')]);
});
after(async () => {
  await closeHub(hub);
  temp?.remove();
});

// ---- what is exchanged -------------------------------------------------------------------------------------------

const sha256 = (b) => createHash('sha256').update(b).digest();
async function put(name, bytes) {
  const r = await hub.request('PUT', `/roost/v1/uploads/${name}`, { body: bytes, headers: { 'content-range': `bytes 0-${bytes.length - 1}/${bytes.length}` } });
  assert.equal(r.status, 204);
}
// An artifact of the hub, which is what it sends as a file.
async function artifact(payload) {
  const hashes = [], pages = [];
  for (let i = 0; i < payload.length; i += 4096) hashes.push(sha256(payload.subarray(i, i + 4096)));
  for (let i = 0; i < hashes.length; i += 32) pages.push(Buffer.concat(hashes.slice(i, i + 32)));
  const roots = Buffer.concat(pages.map(sha256));
  await put('payload', payload);
  await put('tree', Buffer.concat([roots, ...pages]));
  const r = await hub.request('POST', '/roost/v1/artifacts', { body: { payload: 'payload', tree: 'tree', root: sha256(roots).toString('hex'),
    sha256: sha256(payload).toString('hex'), chunkCode: 12, fanOut: 32 } });
  assert.equal(r.status, 201, r.body.toString());
  return sha256(roots).toString('hex');
}

let nr = 0;
// An upload of n bytes and, on the same connection, a download of as many.
function exchange(n) {
  const head = (line, ...fields) => `${line} HTTP/1.1\r\nHost: ${NAME}\r\nAuthorization: ${authorization}\r\n${fields.map((f) => `${f}\r\n`).join('')}\r\n`;
  return Buffer.concat([
    Buffer.from(head(`PUT /roost/v1/uploads/up-${++nr}`, `Content-Length: ${n}`, `Content-Range: bytes 0-${n - 1}/${n}`)),
    content.subarray(0, n),
    Buffer.from(head(`GET /artifacts/${root}`, `Range: bytes=${MAX - n}-${MAX - 1}`, 'Connection: close')),
  ]);
}
function check(n, answer) {
  const text = answer.toString('latin1');
  assert.match(text, /^HTTP\/1\.1 204 /);
  const second = text.indexOf('HTTP/1.1 206 ');
  assert.ok(second > 0, `no second answer: ${text.slice(0, 400)}`);
  const body = answer.subarray(text.indexOf('\r\n\r\n', second) + 4);
  assert.equal(body.length, n);
  assert.ok(body.equals(content.subarray(MAX - n)), 'the bytes of the file');
}

// A program whose standard input and output are the connection's.
function pipe(file, args, input, { timeout = Number(process.env.ROOST_PEER_TIMEOUT_MS ?? 60_000), keepOpen = false } = {}) {
  return new Promise((done, fail) => {
    const p = spawn(file, args, { stdio: 'pipe' }), out = [];
    let err = '';
    const timer = setTimeout(() => p.kill(), timeout);
    p.stdout.on('data', (d) => out.push(d));
    p.stderr.on('data', (d) => { err += d; });
    p.stdin.on('error', () => {}); // it may go before it has read all
    p.on('error', fail);
    p.on('close', (code, signal) => {
      clearTimeout(timer);
      if (signal) fail(new Error(`${file} was ended after ${timeout} ms: ${err}`));
      else done({ code, out: Buffer.concat(out), err });
    });
    p.stdin.write(input);
    if (!keepOpen) p.stdin.end();
  });
}
const sizes = [1, 100, 16384, 16385, MAX];
const where = () => [`${hub.address}:${hub.https}`];

// ---- OpenSSL ------------------------------------------------------------------------------------------------------

const versions = { 'TLS 1.2': ['-tls1_2'], 'TLS 1.3': ['-tls1_3'] };
const client = (...more) => ['s_client', '-connect', ...where(), '-servername', NAME, '-verify_hostname', NAME, '-CAfile', hub.caFile, '-verify_return_error', ...more];
const suites = { 'TLS 1.2': ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-CHACHA20-POLY1305'], 'TLS 1.3': ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'] };

for (const [version, flag] of Object.entries(versions)) {
  test(`OpenSSL, ${version}: every suite, 1 byte to 1 MiB`, async () => {
    for (const suite of suites[version])
      for (const n of sizes) {
        const r = await pipe('openssl', client('-quiet', ...flag, version === 'TLS 1.2' ? '-cipher' : '-ciphersuites', suite), exchange(n), { keepOpen: true });
        check(n, r.out);
      }
  });

  test(`OpenSSL, ${version}: small fragments, a client certificate, a resumed session with each`, async () => {
    for (const more of [[], ['-maxfraglen', '512'], ['-cert', peer('own.crt'), '-key', peer('own.key')]]) {
      const kept = peer(`session-${version}-${more.length}`);
      const first = await pipe('openssl', client('-quiet', ...flag, '-sess_out', kept, ...more), exchange(40_000), { keepOpen: true });
      check(40_000, first.out);
      assert.ok(existsSync(kept));
      const again = await pipe('openssl', client('-ign_eof', ...flag, '-sess_in', kept, ...more), exchange(5000), { keepOpen: true });
      assert.match(again.out.toString('latin1'), /^Reused, TLSv1/m);
      assert.ok(again.out.includes(content.subarray(MAX - 5000)), 'the bytes of the file');
    }
  });
}

test('OpenSSL: KeyUpdate from the client, with and without asking for ours, between requests', async () => {
  const p = start('openssl', client('-tls1_3'), { stdin: 'pipe' });
  const get = (range) => `GET /artifacts/${root} HTTP/1.1\r\nHost: ${NAME}\r\nRange: bytes=${range}\r\n\r\n`;
  const answers = () => p.out.split('HTTP/1.1 206').length - 1;
  await waitFor('the handshake', () => /Verification: OK|Verify return code: 0/.test(p.out));
  for (let i = 1; i <= 8; i++) {
    p.child.stdin.write(i % 2 && USED !== 'kernel' ? 'K\n' : 'k\n'); // K asks, and a kernel does not change its key
    await waitFor('the command', () => p.out.split('KEYUPDATE').length - 1 === i);
    p.child.stdin.write(get(`${i * 100}-${i * 100 + 4}`));
    await waitFor(`answer ${i}`, () => answers() === i);
  }
  await p.stop();
});

test('OpenSSL: renegotiation is refused', async () => {
  const p = start('openssl', client('-tls1_2'), { stdin: 'pipe' });
  await waitFor('the handshake', () => /Verification: OK|Verify return code: 0/.test(p.out));
  p.child.stdin.write('R\n');
  await waitFor('its end', () => p.exited);
  assert.match(p.out, /no renegotiation/);
});

test('OpenSSL: the one suite that is not AEAD works too', async () => {
  const r = await pipe('openssl', client('-quiet', '-tls1_2', '-cipher', 'ECDHE-RSA-AES128-SHA'), exchange(70_000), { keepOpen: true });
  check(70_000, r.out);
});

// ---- others -------------------------------------------------------------------------------------------------------

const gnutls = (priority, ...more) => ['-p', `${hub.https}`, '--x509cafile', hub.caFile, '--sni-hostname', NAME, '--verify-hostname', NAME,
  '--priority', priority, '--logfile', peer('gnutls.log'), ...more, hub.address];

test('GnuTLS: both versions, each cipher, 1 byte to 1 MiB, client certificate, resumed', async () => {
  for (const version of ['VERS-TLS1.2', 'VERS-TLS1.3'])
    for (const cipher of ['AES-128-GCM', 'AES-256-GCM', 'CHACHA20-POLY1305']) {
      const priority = `NORMAL:-VERS-ALL:+${version}:-CIPHER-ALL:+${cipher}`;
      for (const n of [1, 16385, MAX]) {
        const r = await pipe('gnutls-cli', gnutls(priority), exchange(n), { keepOpen: true });
        check(n, r.out);
      }
      const own = await pipe('gnutls-cli', gnutls(priority, '--x509certfile', peer('own.crt'), '--x509keyfile', peer('own.key')), exchange(3000), { keepOpen: true });
      check(3000, own.out);
      const again = await pipe('gnutls-cli', gnutls(priority, '--resume', '--waitresumption'), exchange(3000), { keepOpen: true });
      assert.match(readFileSync(peer('gnutls.log'), 'utf8'), /This is a resumed session/);
      check(3000, again.out);
    }
});

const mbedtls = (at, fragment, resume, n, ...own) =>
  pipe(peer('mbedtls_pipe'), [at.address, `${at.https}`, NAME, hub.caFile, `${fragment}`, `${resume}`, ...own], exchange(n));

test('mbedTLS: several fragment lengths, client certificate, resumed', async () => {
  for (const fragment of [0, 1024, 2048, 4096])
    for (const resume of [0, 1])
      for (const [n, own] of [[1, []], [100_000, []], [MAX, [peer('own.crt'), peer('own.key')]]]) {
        const r = await mbedtls(hub, fragment, resume, n, ...own);
        assert.equal(r.code, 0, r.err);
        assert.equal(r.err, resume ? 'resumed\n' : '');
        check(n, r.out);
      }
});

// Before its version 3.6.3 mbedTLS does not put a handshake message together from several records. The certificates are the
// one long message: the hub's own and the authority's, 0.9 KB, do not fit fragments of 512 bytes, the hub's alone does.
test('mbedTLS, 512 bytes: what it does with any server, and with a chain that fits', async () => {
  const chain = join(hub.dir, 'tls/server-ec.crt'), whole = readFileSync(chain, 'utf8');
  const leaf = whole.slice(0, whole.indexOf('-----END CERTIFICATE-----') + 26);
  const change = async (text, nr) => {
    writeFileSync(chain, text);
    hub.process.child.kill('SIGHUP');
    await waitFor(`${nr} certificates`, async () =>
      (await run('openssl', [...client('-showcerts'), '-no_ign_eof'], { input: '', ok: false })).stdout.split('BEGIN CERTIFICATE').length - 1 === nr);
  };
  const [port] = await freePorts(1), other = start('openssl', ['s_server', '-accept', `${hub.address}:${port}`, '-cert', chain, '-cert_chain', hub.caFile,
    '-key', join(hub.dir, 'tls/server-ec.key'), '-naccept', '1', '-www']);
  await waitFor('s_server', () => other.out.includes('ACCEPT'));
  const there = await mbedtls({ address: hub.address, https: port }, 512, 0, 1), here = await mbedtls(hub, 512, 0, 1);
  await other.stop();
  assert.equal(here.err, there.err); // "feature unavailable", or nothing
  await change(leaf, 1);
  for (const resume of [0, 1])
    for (const n of [1, 600, 100_000]) {
      const r = await mbedtls(hub, 512, resume, n);
      assert.equal(r.code, 0, r.err);
      check(n, r.out);
    }
  await change(whole, 2);
});

test('BearSSL: fragments of 512 bytes in one buffer, by session id, client certificate', async () => {
  writeFileSync(peer('own.der'), new X509Certificate(readFileSync(peer('own.crt'))).raw);
  const d = Buffer.from(createPrivateKey(readFileSync(peer('own.key'))).export({ format: 'jwk' }).d, 'base64url').toString('hex');
  for (const fragment of [512, 4096, 16384])
    for (const resume of [0, 1])
      for (const [n, own] of [[1, []], [600, [peer('own.der'), d]], [100_000, []], [MAX, []]]) {
        const r = await pipe(peer('bearssl_pipe'), [hub.address, `${hub.https}`, NAME, point, `${fragment}`, `${resume}`, ...own], exchange(n));
        assert.equal(r.code, 0, r.err);
        assert.equal(r.err, resume ? 'resumed\n' : '');
        check(n, r.out);
      }
});

test('curl: both versions, 1 MiB each way, with a certificate', async () => {
  for (const version of [['--tlsv1.2', '--tls-max', '1.2'], ['--tlsv1.3']])
    for (const own of [[], ['--cert', peer('own.crt'), '--key', peer('own.key')]]) {
      const common = ['-sS', '--fail', '--http1.1', '--cacert', hub.caFile, '--resolve', `${NAME}:${hub.https}:${hub.address}`, ...version, ...own, '-H', `Authorization: ${authorization}`];
      const up = await pipe('curl', [...common, '-T', '-', '-H', `Content-Range: bytes 0-${MAX - 1}/${MAX}`, '-H', `Content-Length: ${MAX}`, '-H', 'Transfer-Encoding:',
        `https://${NAME}:${hub.https}/roost/v1/uploads/curl-${++nr}`], content);
      assert.equal(up.code, 0, up.err);
      const down = await pipe('curl', [...common, `https://${NAME}:${hub.https}/artifacts/${root}`], '');
      assert.equal(down.code, 0, down.err);
      assert.ok(down.out.equals(content));
    }
});

test('Node: resumed, half of the connection closed before the answer, with and without a certificate', async () => {
  const cert = readFileSync(peer('own.crt')), key = readFileSync(peer('own.key'));
  for (const [maxVersion, own, n] of [['TLSv1.2', {}, 50_000], ['TLSv1.3', {}, 50_000], ['TLSv1.2', { cert, key }, 1], ['TLSv1.3', { cert, key }, 1],
    ['TLSv1.2', {}, MAX], ['TLSv1.3', { cert, key }, MAX]]) {
    let session;
    for (const round of [0, 1, 2]) {
      const s = tls.connect({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca, minVersion: maxVersion, maxVersion, session, allowHalfOpen: true, ...own });
      s.on('session', (x) => { session = x; });
      await once(s, 'secureConnect');
      assert.equal(s.isSessionReused(), round > 0);
      const got = [];
      s.on('data', (d) => got.push(d));
      s.end(exchange(n)); // close_notify goes with it
      await once(s, 'end');
      check(n, Buffer.concat(got));
      s.destroy();
    }
  }
});

test('Node: many requests on one connection', async () => {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 1; i <= 200; i++) {
    const body = await new Promise((done, fail) => {
      https.get({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca, agent, path: `/artifacts/${root}`, headers: { host: NAME, range: `bytes=0-${i * 97}` } }, (r) => {
        const got = [];
        r.on('data', (d) => got.push(d));
        r.on('end', () => done(Buffer.concat(got)));
      }).on('error', fail);
    });
    assert.ok(body.equals(content.subarray(0, i * 97 + 1)));
  }
  agent.destroy();
});

test("Python's ssl: both versions, resumed, unwrapped, with and without a certificate", async () => {
  const script = `
import socket, ssl, sys
host, port, name, ca, version, own = sys.argv[1:7]
data = sys.stdin.buffer.read()
ctx = ssl.create_default_context(cafile=ca)
ctx.minimum_version = ctx.maximum_version = getattr(ssl.TLSVersion, version)
if own: ctx.load_cert_chain(own + '.crt', own + '.key')
session = None
for last in (False, True):
    s = ctx.wrap_socket(socket.create_connection((host, int(port))), server_hostname=name, session=session)
    s.sendall(data if last else b'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
    got = b''
    while True:
        piece = s.recv(65536)
        if not piece: break
        got += piece
    session = s.session
    reused = s.session_reused
    s.unwrap() # close_notify both ways
    s.close()
assert reused
sys.stdout.buffer.write(got)
`;
  for (const version of ['TLSv1_2', 'TLSv1_3'])
    for (const n of sizes) {
      const r = await pipe('python3', ['-c', script, hub.address, `${hub.https}`, NAME, hub.caFile, version, n % 2 ? peer('own') : ''], exchange(n));
      assert.equal(r.code, 0, r.err);
      check(n, r.out);
    }
});

test('mosquitto_pub: 1 and 200 000 bytes by MQTT in each version, with and without a certificate', async () => {
  const d = await newDevice(hub), body = 'x'.repeat(200_000), own = ['--cert', peer('own.crt'), '--key', peer('own.key')];
  for (const [version, more] of [['tlsv1.2', []], ['tlsv1.3', own]])
    await run('mosquitto_pub', ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '--tls-version', version, ...more, '-V', 'mqttv311', '-i', d.id, '-q', '1',
      '-u', `${NAME}/${d.id}/?api-version=2021-04-12`, '-P', deviceToken(d), '-t', `devices/${d.id}/messages/events/`, '-s'], { input: body });
  for (const r of await telemetry(hub, d.id, 2)) assert.equal(r.body, body);
  const e = await newDevice(hub);
  for (const [version, more] of [['tlsv1.2', own], ['tlsv1.3', []]])
    await run('mosquitto_pub', ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '--tls-version', version, ...more, '-V', 'mqttv311', '-i', e.id, '-q', '0',
      '-u', `${NAME}/${e.id}/?api-version=2021-04-12`, '-P', deviceToken(e), '-t', `devices/${e.id}/messages/events/`, '-m', 'y']); // and is gone at once
  for (const r of await telemetry(hub, e.id, 2)) assert.equal(r.body, 'y');
});

// ---- who did it -----------------------------------------------------------------------------------------------------

const metrics = async () => (await fetch(`http://127.0.0.1:${hub.ops}/metrics`)).text();
const gauge = (page, name, layer) => Number(page.match(new RegExp(`^roost_${name}\\{layer="${layer}"\\} (\\d+)$`, 'm'))[1]);

test('each kind of connection has the record layer: MQTT, AMQP, both in WebSockets, HTTPS', async () => {
  useHub(hub);
  const d = await newDevice(hub);
  const fronts = {
    MQTT: async () => {
      const c = await Raw.tls(hub, { maxVersion: 'TLSv1.2' });
      assert.equal((await c.hello(d)).returnCode, 0);
      return c.socket;
    },
    'MQTT in WebSockets': async () => {
      const c = await Raw.ws(hub);
      assert.equal((await c.hello(d)).returnCode, 0);
      return c.socket;
    },
    AMQP: async () => {
      const s = await socket();
      s.write(HEADER(3));
      await s.got(8);
      return s;
    },
    'AMQP in WebSockets': async () => {
      const c = await Raw.ws(hub, { protocol: 'AMQPWSB10' });
      assert.match(c.head, /^HTTP\/1\.1 101 /);
      return c.socket;
    },
    HTTPS: async () => {
      const s = await socket({ port: hub.https });
      s.write(`GET /artifacts/${root} HTTP/1.1\r\nHost: ${NAME}\r\nRange: bytes=0-9\r\n\r\n`);
      await s.got(100);
      return s;
    },
  };
  for (const [name, open] of Object.entries(fronts)) {
    await waitFor('those before to end', async () => gauge(await metrics(), 'tls_connections', USED) === 0);
    const before = await metrics(), s = await open(), during = await metrics();
    for (const layer of ['compact', 'openssl', 'kernel']) {
      const more = layer === USED ? 1 : 0;
      assert.equal(gauge(during, 'tls_handed_over_total', layer) - gauge(before, 'tls_handed_over_total', layer), more, `${name}, ${layer}`);
      assert.equal(gauge(during, 'tls_connections', layer), more, `${name}, ${layer}`);
    }
    s.destroy();
  }
});

test('a resumed session: its certificate is known, and judged by what is registered now', async () => {
  const own = { cert: readFileSync(peer('own.crt')), key: readFileSync(peer('own.key')) }, thumbprint = new X509Certificate(own.cert).fingerprint256.replaceAll(':', '');
  for (const v of ['TLSv1.2', 'TLSv1.3']) {
    const d = { id: `resumed-${v}` }, version = { minVersion: v, maxVersion: v };
    const signIn = async (options) => {
      const c = await Raw.tls(hub, { ...version, ...options });
      const { returnCode } = await c.hello(d, { password: null });
      const answer = [c.socket.isSessionReused(), returnCode, c.socket.getSession()];
      c.socket.destroy();
      return answer;
    };
    await hub.api('PUT', `/roost/v1/devices/${d.id}`, { authentication: 'selfSigned', thumbprint });
    const [, code, session] = await signIn(own);
    assert.equal(code, 0);
    assert.deepEqual((await signIn({})).slice(0, 2), [false, 5]); // without a certificate
    assert.deepEqual((await signIn({ session })).slice(0, 2), [true, 0], `${v}: the session knows it`);
    await hub.api('DELETE', `/roost/v1/devices/${d.id}`);
    await hub.api('PUT', `/roost/v1/devices/${d.id}`, { authentication: 'selfSigned', thumbprint: 'AB'.repeat(32) });
    assert.deepEqual((await signIn({ session })).slice(0, 2), [true, 5], `${v}: it is no longer the device's`);
  }
});

test('a session of one version in the other, names and protocols nobody knows, another group first', async () => {
  const sessions = {};
  const talk = async (v, options) => {
    const s = tls.connect({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca, minVersion: v, maxVersion: v, ...options });
    await once(s, 'secureConnect');
    const got = [];
    s.on('data', (d) => got.push(d));
    s.write(exchange(3000));
    await once(s, 'end');
    check(3000, Buffer.concat(got));
    sessions[v] = s.getSession();
    const answer = [s.isSessionReused(), s.alpnProtocol];
    s.destroy();
    return answer;
  };
  await talk('TLSv1.2');
  await talk('TLSv1.3');
  assert.deepEqual(await talk('TLSv1.2', { session: sessions['TLSv1.2'] }), [true, false]);
  assert.deepEqual(await talk('TLSv1.3', { session: sessions['TLSv1.2'] }), [false, false]);
  await talk('TLSv1.3');
  assert.deepEqual(await talk('TLSv1.2', { session: sessions['TLSv1.3'] }), [false, false]);
  for (const v of ['TLSv1.2', 'TLSv1.3']) {
    await talk(v, { ALPNProtocols: ['x-amzn-mqtt-ca', 'http/1.1'] });
    await talk(v, { servername: 'nobody.example', checkServerIdentity: () => undefined });
    await talk(v, { ecdhCurve: 'P-384:P-256' }); // TLS 1.3: its first key share is refused, it says hello twice
  }
});

// How often these bytes are in what the hub's process can write to.
function inMemory(pid, ...wanted) {
  const fd = openSync(`/proc/${pid}/mem`, 'r'), nr = wanted.map(() => 0);
  for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
    const m = line.match(/^([0-9a-f]+)-([0-9a-f]+) rw/);
    if (!m || /\[v/.test(line)) continue;
    const from = BigInt(`0x${m[1]}`), length = Number(BigInt(`0x${m[2]}`) - from), piece = Buffer.alloc((1 << 22) + 64);
    if (length > 2 ** 34) continue; // terabytes that a sanitizer keeps its notes in
    for (let at = 0; at < length; at += 1 << 22) { // pieces overlap, so that nothing hides at a seam
      let got = 0;
      try { got = readSync(fd, piece, 0, Math.min(piece.length, length - at), from + BigInt(at)); } catch { continue; }
      wanted.forEach((w, i) => {
        for (let p = piece.subarray(0, got).indexOf(w); p >= 0 && p < 1 << 22; p = piece.subarray(0, got).indexOf(w, p + 1)) nr[i]++;
      });
    }
  }
  closeSync(fd);
  return nr;
}
const expand = (hash, secret, label, n) => {
  const name = `tls13 ${label}`, info = Buffer.concat([Buffer.from([0, n, name.length]), Buffer.from(name), Buffer.from([0, 1])]);
  return createHmac(hash, secret).update(info).digest().subarray(0, n);
};

test('secrets: of a connection only its two traffic secrets and keys are in memory, and nothing when it is over', async () => {
  for (const [cipher, hash, keyLength] of [['TLS_AES_128_GCM_SHA256', 'sha256', 16], ['TLS_AES_256_GCM_SHA384', 'sha384', 32], ['TLS_CHACHA20_POLY1305_SHA256', 'sha256', 32]]) {
    const secrets = {};
    const s = tls.connect({ host: hub.address, port: hub.https, servername: NAME, ca: hub.ca, minVersion: 'TLSv1.3', ciphers: cipher });
    s.on('keylog', (line) => {
      const [label, , secret] = line.toString().trim().split(' ');
      secrets[label] = Buffer.from(secret, 'hex');
    });
    await once(s, 'secureConnect');
    const ask = async () => {
      s.write(`GET /artifacts/${root} HTTP/1.1\r\nHost: ${NAME}\r\nRange: bytes=0-9\r\n\r\n`);
      await once(s, 'data');
    };
    await ask();
    const traffic = [secrets.CLIENT_TRAFFIC_SECRET_0, secrets.SERVER_TRAFFIC_SECRET_0], keys = traffic.map((x) => expand(hash, x, 'key', keyLength));
    const past = [secrets.CLIENT_HANDSHAKE_TRAFFIC_SECRET, secrets.SERVER_HANDSHAKE_TRAFFIC_SECRET, secrets.EXPORTER_SECRET];
    past.push(...past.slice(0, 2).map((x) => expand(hash, x, 'key', keyLength)));
    const { pid } = hub.process.child;
    assert.deepEqual(inMemory(pid, ...traffic), [1, 1], `${cipher}: its own`);
    assert.ok(inMemory(pid, ...keys)[0] >= 1, 'the search finds keys');
    assert.deepEqual(inMemory(pid, ...past), past.map(() => 0), `${cipher}: of the handshake`);
    s.destroy();
    await waitFor('its end', async () => gauge(await metrics(), 'tls_connections', USED) === 0);
    assert.deepEqual(inMemory(pid, ...traffic, ...keys), [0, 0, 0, 0], `${cipher}: when it is over`);
  }
});

test('the hub itself protected all of them but one', async () => {
  const page = await metrics(), of = (layer) => gauge(page, 'tls_handed_over_total', layer);
  assert.equal(of('openssl'), 1);
  assert.ok(of(USED) > 150, `${of(USED)}`);
  const status = (await hub.request('GET', '/roost/v1/status')).json.tlsConnections;
  assert.equal(status.openssl, 0);
  assert.ok(status[USED] >= 1);
  const { stdout } = await hub.roost('status');
  assert.match(stdout, USED === 'kernel' ? /^tls +0 compact, 0 openssl, \d+ kernel$/m : /^tls +\d+ compact, 0 openssl, 0 kernel$/m);
});

test('record_layer kernel: the kernel seals what goes out, or the hub says that there is no such kernel', async () => {
  const k = await openHub({ settings: { tls: { record_layer: 'kernel' } } });
  try {
    const there = / tls( |$)/m.test(` ${readFileSync('/proc/sys/net/ipv4/tcp_available_ulp', 'utf8')}`);
    const s = tls.connect({ host: k.address, port: k.https, servername: NAME, ca: k.ca });
    await once(s, 'secureConnect');
    s.write(`GET /roost/v1/status HTTP/1.1\r\nHost: ${NAME}\r\nAuthorization: ${sasToken(NAME, ...['SharedAccessKey', 'SharedAccessKeyName'].map((n) => parseConnectionString(k.connectionString)[n]))}\r\nConnection: close\r\n\r\n`);
    let answer = '';
    s.on('data', (d) => { answer += d; });
    await once(s, 'end');
    const { tlsConnections, warnings } = JSON.parse(answer.split('\r\n\r\n')[1]);
    assert.deepEqual(tlsConnections, { openssl: 0, compact: there ? 0 : 1, kernel: there ? 1 : 0 });
    assert.equal(warnings.some((w) => /^tls\.record_layer is kernel, but this kernel offers no TLS/.test(w)), !there);
    assert.equal(/tls\.kernel offered=false .*instead=compact/.test(k.process.out), !there);
    assert.equal(/this kernel offers no TLS/.test((await k.roost('status')).stdout), !there);
    s.destroy();
  } finally {
    await closeHub(k);
  }
});
