// What the tests and the demo share: a hub of one's own on free loopback ports, its operator API, its programs.
import { spawn, execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import https from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const bin = (name) => join(process.env.ROOST_BIN ?? join(root, 'build/release/bin'), name);
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export function tempDir(prefix = 'roost-') {
  const dir = mkdtempSync(join(tmpdir(), prefix));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

// Ports nobody listens on now.
export async function freePorts(n) {
  const servers = await Promise.all(Array.from({ length: n }, () => new Promise((done, fail) => {
    const s = createServer();
    s.once('error', fail);
    s.listen(0, '127.0.0.1', () => done(s));
  })));
  const ports = servers.map((s) => s.address().port);
  await Promise.all(servers.map((s) => new Promise((done) => s.close(done))));
  return ports;
}

// Asks until it gets something true; the only way tests wait.
export async function waitFor(what, ask, { timeout = 30_000, every = 50 } = {}) {
  const end = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      last = await ask();
      if (last) return last;
    } catch (e) {
      last = e;
    }
    if (Date.now() > end) throw new Error(`waited ${timeout} ms for ${what}; last: ${last instanceof Error ? last.message : JSON.stringify(last)}`);
    await sleep(every);
  }
}

// Runs a program to its end: { code, stdout, stderr }. `ok: true` throws unless it ends with 0.
export function run(file, args, { ok = true, env, input, timeout = 120_000, cwd } = {}) {
  return new Promise((done, fail) => {
    const child = execFile(file, args, { env: { ...process.env, ...env }, timeout, cwd, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : -1) : 0;
      if (ok && code !== 0) fail(new Error(`${file.split('/').pop()} ${args.join(' ')}: exit ${code}${error?.signal ? ` (${error.signal})` : ''}\n${stderr}${stdout}`));
      else done({ code, stdout, stderr });
    });
    if (input !== undefined) child.stdin.end(input);
  });
}

// A program that goes on: its output is kept, stop() ends it by pid.
export function start(file, args, { env, cwd, onLine, stdin = 'ignore' } = {}) {
  const child = spawn(file, args, { env: { ...process.env, ...env }, cwd, stdio: [stdin, 'pipe', 'pipe'] });
  const p = { child, out: '', exited: false };
  let partial = '';
  const keep = (stream) => (d) => {
    const text = d.toString();
    p.out = (p.out + text).slice(-1 << 20);
    if (onLine && stream === 'out') {
      partial += text;
      const lines = partial.split('\n');
      partial = lines.pop();
      lines.forEach(onLine);
    }
  };
  child.stdout.on('data', keep('out'));
  child.stderr.on('data', keep('err'));
  p.done = new Promise((done) => child.on('close', (code, signal) => {
    p.exited = true;
    p.code = code;
    p.signal = signal;
    done({ code, signal });
  }));
  child.on('error', (e) => { p.out += `\n${e.message}`; });
  p.stop = async (signal = 'SIGTERM') => {
    if (!p.exited) child.kill(signal);
    return p.done;
  };
  return p;
}

export function sasToken(resource, key, policy, seconds = 3600) {
  const se = Math.floor(Date.now() / 1000) + seconds;
  const sr = encodeURIComponent(resource);
  const sig = encodeURIComponent(createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64'));
  return `SharedAccessSignature sr=${sr}&sig=${sig}&se=${se}${policy ? `&skn=${policy}` : ''}`;
}

export const parseConnectionString = (text) =>
  Object.fromEntries(text.trim().split(';').filter(Boolean).map((p) => [p.slice(0, p.indexOf('=')), p.slice(p.indexOf('=') + 1)]));

// A hub in a directory of its own. `names[0]` is its public name, reached at 127.0.0.1.
export class Hub {
  static async create({ dir, name = 'hub.localhost', ports, init = [], address = '127.0.0.1' } = {}) {
    const hub = new Hub();
    hub.temp = dir ? null : tempDir();
    hub.dir = dir ?? join(hub.temp.dir, 'hub');
    hub.name = name;
    hub.address = address;
    [hub.https, hub.mqtt, hub.http, hub.ops, hub.amqp = 0] = ports ?? await freePorts(5);
    const { stdout } = await run(bin('roostd'), ['init', hub.dir, '--name', name, '--listen', address, '--https-port', `${hub.https}`,
      '--mqtt-port', `${hub.mqtt}`, '--amqp-port', `${hub.amqp}`, '--http-port', `${hub.http}`, '--ops-port', `${hub.ops}`, ...init]);
    hub.initOutput = stdout;
    hub.readProfile();
    return hub;
  }

  readProfile() {
    const profile = Object.fromEntries(readFileSync(join(this.dir, 'operator.profile'), 'utf8').split('\n')
      .filter((l) => l.includes('=')).map((l) => [l.slice(0, l.indexOf('=')), l.slice(l.indexOf('=') + 1)]));
    this.connectionString = profile['connection-string'];
    this.ca = readFileSync(profile['ca-file'], 'utf8');
    this.caFile = profile['ca-file'];
  }

  async start({ env, args = [] } = {}) {
    this.process = start(bin('roostd'), [this.dir, ...args], { env });
    await waitFor('the hub to serve', async () => {
      if (this.process.exited) throw new Error(`roostd ended: ${this.process.out}`);
      return (await this.request('GET', '/roost/v1/status').catch(() => null))?.status === 200;
    }, { timeout: 20_000 });
    return this;
  }

  async stop(signal = 'SIGTERM') {
    const end = await this.process?.stop(signal);
    return end;
  }

  async remove() {
    await this.stop();
    this.temp?.remove();
  }

  // One request to the operator API: { status, headers, body, json }.
  request(method, path, { body, headers = {}, policy, token, ca = this.ca, port = this.https, address = this.address } = {}) {
    const c = parseConnectionString(this.connectionString);
    const host = c.HostName.split(':')[0];
    const auth = token === null ? {} : { authorization: token ?? sasToken(host, policy?.key ?? c.SharedAccessKey, policy?.name ?? c.SharedAccessKeyName) };
    const data = body === undefined || Buffer.isBuffer(body) || typeof body === 'string' ? body : JSON.stringify(body);
    return new Promise((done, fail) => {
      const req = https.request({ host: address, servername: host, port, method, path, ca, agent: false,
        headers: { host, ...auth, ...(data === undefined ? {} : { 'content-length': Buffer.byteLength(data) }), ...headers } }, (res) => {
        const pieces = [];
        res.on('data', (d) => pieces.push(d));
        res.on('error', fail);
        res.on('end', () => {
          const whole = Buffer.concat(pieces);
          let json;
          try { json = JSON.parse(whole); } catch { /* not JSON */ }
          done({ status: res.statusCode, headers: res.headers, body: whole, json });
        });
      });
      req.on('error', fail);
      req.setTimeout(30_000, () => req.destroy(new Error(`${method} ${path}: no answer`)));
      req.end(data);
    });
  }

  async api(method, path, body) {
    const r = await this.request(method, path, { body });
    if (r.status >= 400) throw new Error(`${method} ${path}: ${r.status} ${r.body}`);
    return r.json;
  }

  roost(...args) {
    const opts = typeof args.at(-1) === 'object' ? args.pop() : {};
    return run(bin('roost'), ['--hub', this.dir, ...args], opts);
  }
}
