// bench/servers.mjs - the servers that are measured: the hub, mosquitto, RabbitMQ. Each is started on a fresh
// directory, pinned to one core, and stopped by its process id. All speak on 127.0.0.1 only.
import { fileURLToPath } from 'node:url';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import { createHash, createHmac } from 'node:crypto';

const top = fileURLToPath(new URL('..', import.meta.url));
const bin = path.join(top, 'build/release/bin');
export const SERVER_CORE = 0;
export const LOAD_CORE = 1;
const base = Number(process.env.ROOST_BENCH_PORT ?? 24300);
export const ports = {
  https: base, hub: base + 1, ops: base + 2, mosquitto: base + 3, rabbit: base + 4, epmd: base + 5,
  dist: base + 6, amqp: base + 7,
};

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export async function until(what, ms, test) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(5)) {
    const got = await test();
    if (got) return got;
  }
  throw new Error(`${what}: not within ${ms / 1000} s`);
}

const answers = (port) => new Promise((done) => {
  const s = net.connect({ host: '127.0.0.1', port }, () => { s.destroy(); done(true); });
  s.on('error', () => done(false));
});

// A child on the server's core whose output goes to a file.
function pinned(log, command, args, env = {}) {
  mkdirSync(path.dirname(log), { recursive: true });
  const child = spawn('sh', ['-c', `exec taskset -c ${SERVER_CORE} "$@" >>"$LOG" 2>&1`, 'sh', command, ...args],
    { env: { ...process.env, ...env, LOG: log }, stdio: 'ignore' });
  child.gone = new Promise((done) => child.on('exit', done));
  return child;
}

// ---- the hub -----------------------------------------------------------------------------------------------

function token(key, policy, resource) {
  const se = Math.floor(Date.now() / 1000) + 86400;
  const sr = encodeURIComponent(resource);
  const sig = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}&skn=${policy}`;
}

export class Hub {
  constructor(work) {
    this.name = 'roost';
    this.work = work;
    this.template = path.join(work, 'hub-template');
    this.dir = path.join(work, 'hub');
  }

  // Makes a hub with `devices` identities d0, d1, ... once; every start copies it.
  async prepare(devices) {
    rmSync(this.template, { recursive: true, force: true });
    execFileSync(path.join(bin, 'roostd'), ['init', this.template, '--listen', '127.0.0.1', '--https-port', ports.https,
      '--mqtt-port', ports.hub, '--amqp-port', 0, '--ops-port', ports.ops].map(String));
    const profile = readFileSync(path.join(this.template, 'operator.profile'), 'utf8');
    this.key = /SharedAccessKey=([A-Za-z0-9+/=]+)/.exec(profile)[1];
    this.ca = path.join(this.template, 'ca/ca.crt');
    this.config = readFileSync(path.join(this.template, 'roost.yaml'), 'utf8');
    this.dir = this.template;
    await this.#launch(true);
    const agent = new https.Agent({ keepAlive: true, maxSockets: 64, ca: readFileSync(this.ca) });
    const authorization = token(this.key, 'iothubowner', 'hub.localhost');
    let next = 0;
    const one = async () => {
      for (let i = next++; i < devices; i = next++) {
        const { status, body } = await this.request(agent, 'PUT', `/roost/v1/devices/d${i}`, authorization, '{}');
        if (status !== 201) throw new Error(`device d${i}: ${status} ${body}`);
      }
    };
    await Promise.all(Array.from({ length: 64 }, one));
    agent.destroy();
    await this.stop();
    this.dir = path.join(this.work, 'hub');
  }

  request(agent, method, target, authorization, body, more = {}) {
    return new Promise((done, failed) => {
      const r = https.request({ agent, host: '127.0.0.1', port: ports.https, servername: 'hub.localhost', method, path: target,
        headers: { host: 'hub.localhost', authorization, 'content-type': 'application/json', ...more } }, (res) => {
        const parts = [];
        res.on('data', (d) => parts.push(d));
        res.on('end', () => done({ status: res.statusCode, body: Buffer.concat(parts).toString() }));
      });
      r.on('error', failed);
      r.end(body);
    });
  }

  async #launch(tls, plainHttps = false) {
    const config = plainHttps ? this.config.replace(/^https:\n/m, 'https:\n  tls: false\n') : this.config;
    writeFileSync(path.join(this.dir, 'roost.yaml'), config.replace(/^mqtts:\n/m, `mqtts:\n  tls: ${tls}\n`) +
      'hub:\n  workers: 1\n  log: warn\n' + (this.layer ? `tls:\n  record_layer: ${this.layer}\n` : ''));
    this.child = pinned(path.join(this.work, 'hub.log'), path.join(bin, 'roostd'), [this.dir]);
    await until('roostd', 20000, async () => {
      if (this.child.exitCode !== null) throw new Error(`roostd ended: ${readFileSync(path.join(this.work, 'hub.log'), 'utf8').slice(-500)}`);
      return answers(ports.hub);
    });
    this.pid = this.child.pid;
  }

  // memory: the data directory lies in memory (metric 9: a flush costs nothing).
  async start({ tls = false, memory = false, keep = false, plainHttps = false } = {}) {
    if (!keep) {
      this.dir = memory ? path.join('/dev/shm', `roost-bench-${process.pid}`) : path.join(this.work, 'hub');
      rmSync(this.dir, { recursive: true, force: true });
      cpSync(this.template, this.dir, { recursive: true });
    }
    await this.#launch(tls, plainHttps);
  }

  // Stores these bytes as an artifact; url() is where it is.
  async artifact(bytes) {
    const agent = new https.Agent({ keepAlive: true, ca: readFileSync(this.ca) });
    const authorization = token(this.key, 'iothubowner', 'hub.localhost');
    const sha = (b) => createHash('sha256').update(b).digest();
    const hashes = [], pages = [];
    for (let i = 0; i < bytes.length; i += 4096) hashes.push(sha(bytes.subarray(i, i + 4096)));
    for (let i = 0; i < hashes.length; i += 32) pages.push(Buffer.concat(hashes.slice(i, i + 32)));
    const roots = Buffer.concat(pages.map(sha));
    const ask = async (want, method, target, body, headers = {}) => {
      const r = await this.request(agent, method, target, authorization, body, headers);
      if (r.status !== want) throw new Error(`${target}: ${r.status} ${r.body}`);
    };
    for (const [name, b] of [['payload', bytes], ['tree', Buffer.concat([roots, ...pages])]])
      await ask(204, 'PUT', `/roost/v1/uploads/${name}`, b, { 'content-range': `bytes 0-${b.length - 1}/${b.length}` });
    this.root = sha(roots).toString('hex');
    await ask(201, 'POST', '/roost/v1/artifacts', JSON.stringify({ payload: 'payload', tree: 'tree', root: this.root, sha256: sha(bytes).toString('hex'), chunkCode: 12, fanOut: 32 }));
    agent.destroy();
  }
  url(tls) { return `${tls ? 'https' : 'http'}://127.0.0.1:${ports.https}/artifacts/${this.root}`; }

  args({ tls = false } = {}) {
    return ['--port', ports.hub, '--login', 'hub', '--key', this.key, '--policy', 'iothubowner',
      ...(tls ? ['--tls', '--ca', this.ca] : [])];
  }

  // A program that prints a line for each message of everybody.
  reader() { return [path.join(bin, 'roost'), 'watch', '--json', '--hub', this.dir]; }

  async kill() { this.child.kill('SIGKILL'); await this.child.gone; }
  async stop() { this.child.kill('SIGTERM'); await this.child.gone; }
  clean() { rmSync(path.join('/dev/shm', `roost-bench-${process.pid}`), { recursive: true, force: true }); }

  // Every record of the log from the beginning, as one set of the 16 digits its body begins with.
  async stored() {
    const agent = new https.Agent({ ca: readFileSync(this.ca) });
    const found = new Set();
    let records = 0;
    for (let partition = 0; partition < 4; partition++)
      await new Promise((done, failed) => {
        const r = https.request({ agent, host: '127.0.0.1', port: ports.https, servername: 'hub.localhost',
          path: `/roost/v1/telemetry?from=earliest&follow=false&partition=${partition}`,
          headers: { host: 'hub.localhost', authorization: token(this.key, 'iothubowner', 'hub.localhost') } }, (res) => {
          if (res.statusCode !== 200) failed(new Error(`telemetry: ${res.statusCode}`));
          let rest = '';
          res.on('data', (d) => {
            const lines = (rest + d).split('\n');
            rest = lines.pop();
            for (const line of lines) {
              const m = /"body":"([0-9a-f]{16})/.exec(line);
              const b = m ? null : /"bodyBase64":"([A-Za-z0-9+/=]+)"/.exec(line);
              if (m) found.add(m[1]);
              else if (b) found.add(Buffer.from(b[1], 'base64').toString('latin1').slice(0, 16));
              if (m || b) records++;
            }
          });
          res.on('end', done);
          res.on('error', failed);
        });
        r.on('error', failed);
        r.end();
      });
    agent.destroy();
    return { found, records };
  }
}

// ---- nginx: files ------------------------------------------------------------------------------------------

export class Nginx {
  constructor(work, hub) {
    this.name = 'nginx';
    this.work = work;
    this.hub = hub;
    this.port = base + 8; // TLS one above
  }

  static there() { return existsSync('/usr/sbin/nginx'); }

  // One worker process, the hub's certificate, the bytes as fw.bin.
  async start({ bytes }) {
    const dir = path.join(this.work, 'nginx');
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(path.join(dir, 'www'), { recursive: true });
    writeFileSync(path.join(dir, 'www/fw.bin'), bytes);
    const tls = path.join(this.hub.template, 'tls/server-ec');
    writeFileSync(path.join(dir, 'nginx.conf'), `daemon off; worker_processes 1; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; root ${dir}/www;
${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${dir}/${n};`).join(' ')}
server { listen 127.0.0.1:${this.port}; }
server { listen 127.0.0.1:${this.port + 1} ssl; ssl_certificate ${tls}.crt; ssl_certificate_key ${tls}.key; ssl_protocols TLSv1.3; } }\n`);
    this.child = pinned(path.join(this.work, 'nginx.log'), '/usr/sbin/nginx', ['-p', dir, '-c', path.join(dir, 'nginx.conf'), '-e', path.join(dir, 'error.log')]);
    await until('nginx', 5000, () => answers(this.port));
    this.pid = this.child.pid;
  }

  url(tls) { return tls ? `https://127.0.0.1:${this.port + 1}/fw.bin` : `http://127.0.0.1:${this.port}/fw.bin`; }
  async stop() { this.child.kill('SIGTERM'); await this.child.gone; }
  clean() {}
}

// ---- mosquitto ---------------------------------------------------------------------------------------------

export class Mosquitto {
  constructor(work, hub) {
    this.name = 'mosquitto';
    this.work = work;
    this.hub = hub;
  }

  static there() { return existsSync('/usr/sbin/mosquitto'); }

  // login: with a user name and a password, which it checks against a salted hash; else anybody may come.
  async start({ tls = false, login = false } = {}) {
    const conf = path.join(this.work, 'mosquitto.conf'), passwords = path.join(this.work, 'mosquitto.passwords');
    rmSync(passwords, { force: true });
    if (login) execFileSync('mosquitto_passwd', ['-b', '-c', passwords, 'bench', 'bench-password'], { stdio: 'ignore' });
    const t = path.join(this.hub.template, 'tls');
    writeFileSync(conf, `user root\nlistener ${ports.mosquitto} 127.0.0.1\nmax_connections -1\npersistence false\nlog_type error\n` +
      'max_queued_messages 0\n' + // a reader that lags loses nothing, as with the hub
      (login ? `allow_anonymous false\npassword_file ${passwords}\n` : 'allow_anonymous true\n') +
      (tls ? `cafile ${this.hub.ca}\ncertfile ${t}/server-ec.crt\nkeyfile ${t}/server-ec.key\n` : ''));
    this.login = login;
    this.child = pinned(path.join(this.work, 'mosquitto.log'), '/usr/sbin/mosquitto', ['-c', conf]);
    await until('mosquitto', 10000, () => answers(ports.mosquitto));
    this.pid = this.child.pid;
  }

  args({ tls = false } = {}) {
    return ['--port', ports.mosquitto,
      ...(this.login ? ['--login', 'password', '--key', Buffer.from('bench-password').toString('base64')] : ['--login', 'none']),
      ...(tls ? ['--tls', '--ca', this.hub.ca] : [])];
  }

  reader() {
    return ['mosquitto_sub', '-p', String(ports.mosquitto), '-t', '#', '-q', '1', '-F', '%l', ...(this.login ? ['-u', 'bench', '-P', 'bench-password'] : [])];
  }

  async kill() { this.child.kill('SIGKILL'); await this.child.gone; }
  async stop() { this.child.kill('SIGTERM'); await this.child.gone; }
  clean() {}
}

// ---- RabbitMQ ----------------------------------------------------------------------------------------------

export class Rabbit {
  constructor(work) {
    this.name = 'rabbitmq';
    this.work = work;
    this.dir = path.join(work, 'rabbit');
  }

  static there() { return existsSync('/usr/lib/rabbitmq/bin/rabbitmq-server'); }

  async start({ keep = false, plugins = '[rabbitmq_mqtt].\n' } = {}) {
    if (!keep) rmSync(this.dir, { recursive: true, force: true });
    mkdirSync(this.dir, { recursive: true });
    writeFileSync(path.join(this.dir, 'plugins'), plugins);
    writeFileSync(path.join(this.dir, 'rabbit.conf'), `listeners.tcp.1 = 127.0.0.1:${ports.amqp}\n` +
      `mqtt.listeners.tcp.1 = 127.0.0.1:${ports.rabbit}\nmqtt.allow_anonymous = true\nmqtt.subscription_ttl = 86400000\n` +
      'log.file.level = error\nloopback_users = none\ndisk_free_limit.absolute = 100MB\n');
    this.env = { HOME: this.dir, RABBITMQ_NODENAME: 'roostbench@localhost', RABBITMQ_MNESIA_BASE: path.join(this.dir, 'data'),
      RABBITMQ_LOG_BASE: path.join(this.dir, 'log'), RABBITMQ_CONFIG_FILE: path.join(this.dir, 'rabbit.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: path.join(this.dir, 'plugins'), RABBITMQ_PID_FILE: path.join(this.dir, 'pid'),
      RABBITMQ_DIST_PORT: String(ports.dist), ERL_EPMD_PORT: String(ports.epmd), ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '+S 1:1 -start_epmd true' };
    rmSync(path.join(this.dir, 'pid'), { force: true });
    this.child = pinned(path.join(this.work, 'rabbit.log'), '/usr/lib/rabbitmq/bin/rabbitmq-server', [], this.env);
    await until('rabbitmq', 60000, () => answers(ports.rabbit));
    this.pid = Number(readFileSync(path.join(this.dir, 'pid'), 'utf8'));
  }

  args() { return ['--port', ports.rabbit, '--login', 'none']; }

  async kill() {
    process.kill(this.pid, 'SIGKILL');
    await Promise.race([this.child.gone, sleep(5000)]);
  }

  async stop() {
    process.kill(this.pid, 'SIGTERM');
    await Promise.race([this.child.gone, sleep(15000)]);
    spawnSync('epmd', ['-port', String(ports.epmd), '-kill'], { stdio: 'ignore' });
  }

  clean() { spawnSync('epmd', ['-port', String(ports.epmd), '-kill'], { stdio: 'ignore' }); }
}
