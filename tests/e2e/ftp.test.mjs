// A real FTP server (vsftpd) serves a release to roost-agent; the transfer is cut by killing the agent, and goes on
// behind what is there already.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePorts, start, waitFor } from '../lib/roost.mjs';
import { Fleet } from '../lib/fleet.mjs';

const vsftpd = ['/usr/sbin/vsftpd', '/usr/bin/vsftpd'].find(existsSync);
const size = 3_000_000, rate = 1_500_000;
let fleet, ftp, pub, dir, log;

before(async () => {
  const [port, low] = await freePorts(2);
  fleet = await Fleet.create({ configure: (yaml) => `${yaml}\nupdates:\n  mirror: "ftp://127.0.0.1:${port}/artifacts"\n` });
  dir = join(fleet.dir, 'agent');
  pub = join(fleet.dir, 'ftp');
  log = join(fleet.dir, 'ftp.log');
  mkdirSync(join(pub, 'artifacts'), { recursive: true });
  mkdirSync(join(fleet.dir, 'empty'));
  chmodSync(fleet.dir, 0o711); // the server's user has to come through
  chmodSync(pub, 0o555);
  chmodSync(join(pub, 'artifacts'), 0o755);
  writeFileSync(join(fleet.dir, 'vsftpd.conf'), `listen=YES
listen_address=127.0.0.1
listen_port=${port}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=${pub}
anon_max_rate=${rate}
local_enable=NO
write_enable=NO
pasv_enable=YES
pasv_address=127.0.0.1
pasv_min_port=${low}
pasv_max_port=${low + 20}
secure_chroot_dir=${join(fleet.dir, 'empty')}
ftp_username=daemon
nopriv_user=nobody
run_as_launching_user=${process.getuid() === 0 ? 'NO' : 'YES'}
seccomp_sandbox=NO
xferlog_enable=YES
xferlog_std_format=NO
log_ftp_protocol=YES
vsftpd_log_file=${log}
`);
  assert.ok(vsftpd, 'vsftpd is not installed: apt-get install vsftpd');
  ftp = start(vsftpd, [join(fleet.dir, 'vsftpd.conf')]);
  fleet.children.push(ftp);
});
after(() => fleet?.remove());

const image = (version) => Buffer.concat([Buffer.from(`#!/bin/sh\necho ${version} > ${join(dir, 'running')}\nexec sleep 100000\n# ${version}\n`), randomBytes(size)]);
const status = () => JSON.parse(readFileSync(join(dir, 'state', 'status.json'), 'utf8'));
// Where each transfer of the payload began, in the order of the server's log: the hash pages are other files.
const starts = (name) => {
  const offsets = [], rest = new Map();
  for (const line of existsSync(log) ? readFileSync(log, 'utf8').split('\n') : []) {
    const m = line.match(/\[pid (\d+)\].*FTP command: .*"(REST|RETR) ([^"]+)"/);
    if (m?.[2] === 'REST') rest.set(m[1], Number(m[3]));
    if (m?.[2] === 'RETR') {
      if (m[3] === name) offsets.push(rest.get(m[1]) ?? 0);
      rest.delete(m[1]);
    }
  }
  return offsets;
};

test('a release comes by FTP, resumes after a kill, and no byte is fetched twice', async () => {
  mkdirSync(dir);
  const release = await fleet.release('gw', 3, '1.0.0', image('1.0.0'));
  for (const f of readdirSync(release)) if (/^[0-9a-f]{64}(\.tree)?$/.test(f)) copyFileSync(join(release, f), join(pub, 'artifacts', f));
  const payload = readdirSync(release).find((f) => /^[0-9a-f]{64}$/.test(f));
  for (const f of [payload, `${payload}.tree`]) chmodSync(join(pub, 'artifacts', f), 0o644);
  writeFileSync(join(dir, 'agent.yaml'), `bootstrap: "${fleet.bootstrap}"
address: 127.0.0.1
state: ${join(dir, 'state')}
hardware: gw:3
id: gw-ftp
token: "${fleet.token}"
backoff-min: 100ms
backoff-max: 1s
slot-size: 4M
plain-http: true
socket: ${join(dir, 'app.sock')}
application:
  settle: 200ms
`, { mode: 0o600 });
  let agent = fleet.spawn('roost-agent', ['--config', join(dir, 'agent.yaml')]);
  await waitFor('a third of the transfer', () => starts(payload).length > 8, { timeout: 60_000, every: 20 });
  await agent.stop('SIGKILL');
  const before = starts(payload);
  assert.ok(before.at(-1) < size / 2, 'it was killed in the middle');

  agent = fleet.spawn('roost-agent', ['--config', join(dir, 'agent.yaml')]);
  await waitFor('the application to run', () => existsSync(join(dir, 'running')), { timeout: 60_000 });
  await waitFor('the hub to call it confirmed', async () => (await fleet.hub.api('GET', '/roost/v1/devices/gw-ftp')).deployment?.state === 'CONFIRMED', { timeout: 30_000 });
  const length = readFileSync(join(release, payload)).length, all = starts(payload), resumed = all[before.length];
  // It went on where it was, and from there on no place was asked for twice.
  assert.ok(resumed >= before.at(-1), `went on at ${resumed}, was at ${before.at(-1)}`);
  for (let i = before.length + 1; i < all.length; i++) assert.ok(all[i] > all[i - 1], `${all[i]} after ${all[i - 1]}`);
  assert.ok(status().bytesFetched < length - before.at(-1) + 100_000, `fetched ${status().bytesFetched} of ${length} after ${before.at(-1)} were there`);
  assert.ok(agent.out.includes('update.confirmed'));
  assert.ok(!agent.out.includes('fetch.failed'), 'all of it came by FTP');
  assert.equal(readFileSync(join(dir, 'running'), 'utf8').trim(), '1.0.0');
});
