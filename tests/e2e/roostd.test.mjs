// roostd as a process: exit codes, one hub a directory, signals, reload, drain, ports that may not be bound.
import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Hub, bin, freePorts, run, start, tempDir, waitFor } from '../lib/roost.mjs';

const temp = tempDir();
after(() => temp.remove());
const roostd = (...args) => run(bin('roostd'), args, { ok: false });

async function made(name, more = []) {
  const dir = join(temp.dir, name);
  const [https, mqtt, amqp, ops] = await freePorts(4);
  const r = await roostd('init', dir, '--listen', '127.0.0.1', '--https-port', `${https}`, '--mqtt-port', `${mqtt}`, '--amqp-port', `${amqp}`, '--ops-port', `${ops}`, ...more);
  assert.equal(r.code, 0, r.stderr);
  return { dir, https, mqtt, amqp, ops, out: r.stdout };
}
const served = async (dir) => {
  const p = start(bin('roostd'), [dir]);
  await waitFor('hub.ready', () => {
    if (p.exited) throw new Error(p.out);
    return p.out.includes('hub.ready');
  });
  return p;
};
const fingerprint = (port, ca) => new Promise((done, fail) => {
  const s = tls.connect({ host: '127.0.0.1', port, ca, servername: 'hub.localhost' }, () => {
    done(s.getPeerCertificate().fingerprint256);
    s.destroy();
  });
  s.on('error', fail);
});

test('init makes a hub once, with private files, and prints its two strings', async () => {
  const h = await made('once');
  assert.match(h.out, /^connection string: HostName=hub\.localhost;SharedAccessKeyName=iothubowner;SharedAccessKey=[A-Za-z0-9+/]{43}=$/m);
  assert.match(h.out, new RegExp(`^bootstrap string: https://hub\\.localhost:${h.https}#ca=[0-9a-f]{64}$`, 'm'));
  assert.equal(statSync(h.dir).mode & 0o777, 0o700);
  for (const f of ['ca/ca.key', 'tls/server-ec.key', 'tls/server-rsa.key', 'director.key', 'operator.profile'])
    assert.equal(statSync(join(h.dir, f)).mode & 0o777, 0o600, f);
  const again = await roostd('init', h.dir);
  assert.equal(again.code, 4);
  assert.match(again.stderr, /is not empty/);
});

test('wrong arguments, directories and configurations have their exit codes', async () => {
  const h = await made('codes');
  assert.equal((await roostd('--nonsense')).code, 2);
  assert.equal((await roostd('init')).code, 2);
  assert.equal((await roostd('init', join(temp.dir, 'x'), '--https-port', '70000')).code, 2);
  assert.equal((await roostd('--version')).code, 0);
  for (const words of [['--help'], ['-h'], ['init', '--help'], ['renew', '--help'], [h.dir, '--help']]) {
    const told = await roostd(...words);
    assert.deepEqual([told.code, told.stderr], [0, ''], words.join(' '));
    assert.match(told.stdout, /^roostd init DIR/m);
  }
  assert.match((await roostd('init', '--nonsense', 'x')).stderr, /^roostd init: .*nonsense/);
  assert.equal((await roostd('renew', join(temp.dir, 'nowhere'))).code, 4);
  const missing = await roostd(join(temp.dir, 'nowhere'));
  assert.equal(missing.code, 4);
  assert.match(missing.stderr, /roostd init/);
  const unset = await roostd('init', '');
  assert.equal(unset.code, 2);
  assert.match(unset.stderr, /which directory/);
  const file = join(h.dir, 'roost.yaml');
  const noDirectory = await roostd(file);
  assert.equal(noDirectory.code, 4);
  assert.match(noDirectory.stderr, /reason="not a directory"/);
  const good = readFileSync(file, 'utf8');
  assert.equal((await roostd('--check-config', h.dir)).code, 0);
  writeFileSync(file, `${good}limits:\n  connections: many\n`);
  const line = good.split('\n').length + 1;
  const wrong = await roostd('--check-config', h.dir);
  assert.equal(wrong.code, 3);
  assert.match(wrong.stderr, new RegExp(`roost\\.yaml:${line}:16: limits\\.connections`));
  assert.equal((await roostd(h.dir)).code, 3);
  writeFileSync(file, good);
  const printed = await roostd('--print-config', h.dir);
  assert.match(printed.stdout, new RegExp(`port: ${h.https}`));
  if (process.getuid() !== 0) {
    chmodSync(h.dir, 0);
    assert.equal((await roostd(h.dir)).code, 4);
    chmodSync(h.dir, 0o700);
  }
});

test('two hubs do not serve one directory, nor one port', async () => {
  const h = await made('two');
  const p = await served(h.dir);
  const second = await roostd(h.dir);
  assert.equal(second.code, 5);
  assert.match(second.stderr, /another roostd/);
  const other = join(temp.dir, 'other');
  await roostd('init', other, '--listen', '127.0.0.1', '--https-port', `${h.https}`, '--mqtt-port', `${h.mqtt}`, '--amqp-port', `${h.amqp}`, '--ops-port', `${h.ops}`);
  const third = await roostd(other);
  assert.equal(third.code, 6);
  assert.match(third.stderr, /listener\.in_use/);
  assert.equal((await p.stop()).code, 0);
});

test('SIGTERM ends it although connections are open and idle', async () => {
  const h = await made('drain');
  const p = await served(h.dir);
  const open = await Promise.all([h.https, h.mqtt, h.ops].map((port) => new Promise((done) => {
    const s = net.connect(port, '127.0.0.1', () => done(s));
    s.on('error', () => {});
  })));
  const began = Date.now();
  assert.equal((await p.stop()).code, 0);
  assert.ok(Date.now() - began < 5000, 'the promise of 5 s'); // the documented bound, not a measurement
  assert.match(p.out, /hub\.stopped/);
  open.forEach((s) => s.destroy());
  const again = await served(h.dir); // nothing is left behind that would hold the directory or the ports
  assert.equal((await again.stop('SIGINT')).code, 0);
});

test('SIGHUP takes new certificates and says what needs a restart; a wrong file changes nothing', async () => {
  const h = await made('reload');
  const p = await served(h.dir);
  const ca = readFileSync(join(h.dir, 'ca/ca.crt'));
  const before = await fingerprint(h.https, ca);
  assert.equal((await roostd('renew', h.dir)).code, 0);
  const file = join(h.dir, 'roost.yaml');
  const good = readFileSync(file, 'utf8');
  writeFileSync(file, `${good}limits:\n  connections: 77\n`);
  p.child.kill('SIGHUP');
  await waitFor('the reload', () => p.out.includes('hub.reloaded'));
  assert.match(p.out, /config\.restart_needed value=limits\.connections/);
  const after_ = await waitFor('the new certificate', async () => {
    const now = await fingerprint(h.https, ca);
    return now !== before && now;
  });
  assert.match(p.out, /hub\.reloaded dir=\S+ what=configuration,certificates$/m);
  writeFileSync(file, 'https:\n  port: x\n');
  p.child.kill('SIGHUP');
  await waitFor('the certificates alone', () => / what=certificates$/m.test(p.out));
  writeFileSync(join(h.dir, 'tls/server-ec.crt'), 'nothing');
  p.child.kill('SIGHUP');
  await waitFor('the complaint', () => p.out.includes('tls.reload'));
  assert.equal(p.out.match(/config\.reload reason=.*roost\.yaml:2:9/g).length, 2);
  assert.equal(await fingerprint(h.mqtt, ca), after_);
  assert.equal((await p.stop()).code, 0);
});

test('a certificate from elsewhere: who renews it, and a key that others may read', async () => {
  const h = await made('elsewhere');
  const [key, crt] = ['own.key', 'own.crt'].map((n) => join(temp.dir, n));
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', crt, '-days', '9', '-subj', '/CN=hub.localhost', '-addext', 'subjectAltName=DNS:hub.localhost']);
  const file = join(h.dir, 'roost.yaml');
  writeFileSync(file, `${readFileSync(file, 'utf8')}tls:\n  ec_certificate: ${crt}\n  ec_key: ${key}\n  rsa_certificate: ""\n`);
  chmodSync(key, 0o644);
  const p = await served(h.dir);
  assert.match(p.out, /tls\.expires file=\S+own\.crt days=\d hint="renew it where it comes from, then SIGHUP"/);
  assert.match(p.out, /tls\.key file=\S+own\.key mode=644 /);
  assert.equal((await run(bin('roost'), ['--hub', h.dir, '--ca-file', crt, 'status'], { ok: false })).code, 0);
  assert.equal((await run(bin('roost'), ['--hub', h.dir, 'status'], { ok: false })).code, 7, 'its own authority did not sign it');
  assert.equal((await p.stop()).code, 0);
});

test('readiness and watchdog reach the service manager', async (t) => {
  const h = await made('notify');
  if (!existsSync('/usr/bin/python3')) return t.skip('no datagram socket without python3');
  const path = join(temp.dir, 'notify.sock');
  const listen = start('/usr/bin/python3', ['-u', '-c', `import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(${JSON.stringify(path)})
print("bound")
while True: print(s.recv(4096).decode())`]);
  await waitFor('the socket', () => listen.out.includes('bound'));
  const p = start(bin('roostd'), [h.dir], { env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: '300000' } });
  await waitFor('READY', () => listen.out.includes('READY=1'));
  await waitFor('a fed watchdog', () => listen.out.split('WATCHDOG=1').length > 3);
  p.child.kill('SIGHUP');
  await waitFor('RELOADING', () => listen.out.includes('RELOADING=1'));
  await p.stop();
  await waitFor('STOPPING', () => listen.out.includes('STOPPING=1'));
  await listen.stop();
});

test('a hub whose port is refused goes on with the others', async (t) => {
  if (process.getuid() !== 0) return t.skip('needs root, to give the right up');
  const h = await made('ports');
  const file = join(h.dir, 'roost.yaml');
  writeFileSync(file, readFileSync(file, 'utf8').replace(`port: ${h.https}`, 'port: 443'));
  // without the capability to bind low ports
  const p = start('/usr/bin/setpriv', ['--bounding-set=-net_bind_service', '--inh-caps=-net_bind_service', bin('roostd'), h.dir]);
  await waitFor('hub.ready', () => {
    if (p.exited) throw new Error(p.out);
    return p.out.includes('hub.ready');
  });
  assert.match(p.out, /listener\.denied name=https port=443 hint=.*CAP_NET_BIND_SERVICE/);
  assert.match(p.out, /hub\.partial/);
  await new Promise((done, fail) => net.connect(h.mqtt, '127.0.0.1', done).on('error', fail).unref());
  assert.equal((await p.stop()).code, 0);
});
