// A hub with keys, a trust record, a fleet token and releases: what the tests of the device programs begin with.
import { join } from 'node:path';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { Hub, bin, start, tempDir } from './roost.mjs';

export class Fleet {
  // `configure(yaml)` may change the hub's configuration before it starts.
  static async create({ ports, configure } = {}) {
    const f = new Fleet();
    f.temp = tempDir();
    f.dir = f.temp.dir;
    f.children = [];
    f.hub = await Hub.create({ dir: join(f.dir, 'hub'), ports });
    if (configure) {
      const file = join(f.hub.dir, 'roost.yaml');
      writeFileSync(file, configure(readFileSync(file, 'utf8')));
    }
    await f.hub.start();
    const key = (await f.hub.api('GET', '/roost/v1/status')).directorKey;
    f.keys = join(f.dir, 'keys');
    await f.hub.roost('keys', 'init', f.keys, '--director', /^[0-9a-f]{64}$/.test(key) ? key : Buffer.from(key, 'base64').toString('hex'));
    await f.hub.roost('trust', 'publish', f.keys);
    f.token = JSON.parse((await f.hub.roost('token', 'create', 'line', '--json')).stdout).token;
    f.bootstrap = (await f.hub.roost('bootstrap-string')).stdout.trim();
    return f;
  }

  // Builds, signs and pushes; `content` is a buffer or the text of a script. Returns the folder of the release.
  async release(product, hw, version, content, extra = []) {
    const file = join(this.dir, `${product}-${version}.image`), out = join(this.dir, `${product}-${version}`);
    writeFileSync(file, content);
    chmodSync(file, 0o755);
    await this.hub.roost('release', 'build', '-p', product, '-v', version, '--hardware-class', `${hw}`, '--file', file, '--out', out, '--probation', '1', ...extra);
    await this.hub.roost('release', 'sign', out, '--key-file', join(this.keys, 'release-1.key'));
    await this.hub.roost('release', 'push', out);
    return out;
  }

  simArgs(...args) {
    return ['--hub', this.bootstrap, '--address', this.hub.address, '--token', this.token, '--backoff', '100ms,2s', '--quiet', '--source-spread', ...args];
  }

  // Starts a program that belongs to the test; it is ended with it.
  spawn(name, args, opts) {
    const p = start(bin(name), args, opts);
    this.children.push(p);
    return p;
  }

  async remove() {
    await Promise.all(this.children.map((c) => c.stop('SIGKILL')));
    await this.hub.stop();
    this.temp.remove();
  }
}
