// The longest silence of a connection, on a hub whose clock the test moves: what else would take half an hour.
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { closeHub, newDevice, openHub, run, tempDir } from './lib/hub.mjs';
import { connected } from './lib/raw.mjs';

let hub, temp, file;
// The hub's clock is so many seconds ahead from now on, and it has looked at it: its one worker has answered since.
async function ahead(seconds) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(BigInt(seconds * 1000));
  writeSync(file, bytes, 0, 8, 0);
  for (let i = 0; i < 2; i++) assert.equal((await hub.request('GET', '/roost/v1/status')).status, 200);
}

before(async () => {
  temp = tempDir();
  const layer = join(temp.dir, 'clock_ahead.so'), name = join(temp.dir, 'ahead');
  await run('cc', ['-O1', '-shared', '-fPIC', fileURLToPath(new URL('peers/clock_ahead.c', import.meta.url)), '-o', layer]);
  file = openSync(name, 'w+');
  writeSync(file, Buffer.alloc(8), 0, 8, 0);
  const sanitizer = `${process.env.ASAN_OPTIONS ?? ''}:verify_asan_link_order=0`; // which minds what is loaded before it
  hub = await openHub({ settings: { hub: { workers: 1 } }, env: { LD_PRELOAD: layer, CLOCK_AHEAD: name, ASAN_OPTIONS: sanitizer } });
});
after(async () => {
  await closeHub(hub);
  closeSync(file);
  temp.remove();
});

test('[mqtt 33] keep alive 0, and any that would come to more than 1767 s, ends after 1767 s without a packet', async () => {
  const silent = [];
  for (const keepalive of [0, 65535, 1200]) silent.push(await connected(hub, await newDevice(hub), { keepalive }));
  const short = await connected(hub, await newDevice(hub), { keepalive: 1160 }); // 1740 s
  const lively = await connected(hub, await newDevice(hub), { keepalive: 0 });
  await ahead(1700); // less than that, with what the test itself takes
  await lively.quiet();
  assert.equal(short.closed, false);
  await ahead(1740);
  await short.expectClose();
  for (const c of silent) assert.equal(c.closed, false);
  await ahead(1767);
  for (const c of silent) await c.expectClose();
  await lively.quiet(); // a packet begins the time anew
  await ahead(1767 + 1700);
  assert.equal(lively.closed, false);
  await ahead(2 * 1767 + 60);
  await lively.expectClose();
});
