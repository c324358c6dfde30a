// The staircase: includes point up the list of docs/architecture.md, never down.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--', '*.c', '*.h'], { cwd: root, encoding: 'utf8' })
  .split('\n').filter(Boolean);

// What each place may include besides itself; the longest prefix decides.
const ground = ['base', 'core', 'port'];
const backends = ['hub/store', 'hub/stream', 'hub/blob', 'hub/bus'];
const may = {
  'base': [],
  'core': ['base'],
  'port': ['base', 'core'],
  'device': ground,
  'device/sim': [...ground, 'device'],
  'device/agent': [...ground, 'device'],
  'hub/loop': ground,
  'hub/conn': [...ground, 'hub/loop', 'hub/bus'],
  'hub/store': ground,
  'hub/stream': ground,
  'hub/blob': ground,
  'hub/bus': ground,
  'hub/domain': [...ground, ...backends],
  'hub/config': [...ground, 'hub/loop', 'hub/conn', ...backends, 'hub/domain'],
  'hub/front': [...ground, 'hub/loop', 'hub/conn', ...backends, 'hub/domain'],
  'hub': [...ground, 'hub'],
  'cli': ground,
  'bench': [...ground, 'hub'],
  'tests': [...ground, 'device', 'hub', 'cli'],
};
const placeOf = (path) => Object.keys(may).filter((p) => path.startsWith(p + '/')).sort((a, b) => b.length - a.length)[0];

function wrongIncludes(path, list) {
  const place = placeOf(path);
  if (!place) return [`${path}: not in any known folder`];
  // A unit test may use what lies below as its reference, and the fakes; never another front or program.
  const allowed = isTest(path) ? [...ground, 'device', 'hub', 'cli', 'tests/fake'] : may[place];
  const wrong = [];
  for (const inc of list) {
    if (!inc.includes('/')) wrong.push(`${path}: "${inc}" is not named from the top of the tree`);
    else if (placeOf(inc) !== place && !allowed.some((p) => inc.startsWith(p + '/')))
      wrong.push(`${path}: includes "${inc}", which lies further down the staircase`);
  }
  return wrong;
}
const isTest = (f) => /_(test|suite)\.[ch]$/.test(f) || f.startsWith('tests/');
const read = (f) => readFileSync(join(root, f), 'utf8');
const includes = (f) => [...read(f).matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].map((m) => m[1]);

test('every include points up the staircase', () => {
  assert.deepEqual(files.flatMap((f) => wrongIncludes(f, includes(f))), []);
});

test('an include that points down is found', () => {
  for (const [from, to] of [
    ['core/mqtt/x.c', 'hub/conn/conn.h'], ['hub/domain/x.c', 'hub/loop/worker.h'], ['hub/domain/x.c', 'hub/front/mqtt/session.h'],
    ['base/x.c', 'core/mqtt/mqtt_packet.h'], ['device/x.c', 'hub/store/store.h'], ['hub/store/x.c', 'hub/loop/worker.h'],
  ]) assert.equal(wrongIncludes(from, [to]).length, 1, `${from} -> ${to}`);
  assert.deepEqual(wrongIncludes('hub/domain/x.c', ['hub/store/store.h', 'core/sas/sas.h']), []);
});

// The rooms of the domain, each above those that it may use. What stands in hub/domain itself is used by all.
const rooms = ['access', 'message', 'method', 'twin', 'query', 'event', 'identity', 'configuration', 'job', 'update', 'provisioning'];
const roomOf = (path) => path.match(/^hub\/domain\/(\w+)\//)?.[1];
const wrongRooms = (path, list) => list.filter((inc) => inc.startsWith('hub/domain/') && rooms.indexOf(roomOf(inc)) > rooms.indexOf(roomOf(path)));

test('within the domain too, includes point one way', () => {
  const own = files.filter((f) => f.startsWith('hub/domain/') && !isTest(f));
  assert.deepEqual([...new Set(own.map(roomOf).filter(Boolean))].sort(), [...rooms].sort());
  assert.deepEqual(own.flatMap((f) => wrongRooms(f, includes(f)).map((inc) => `${f}: includes "${inc}"`)), []);
  assert.equal(wrongRooms('hub/domain/twin/x.c', ['hub/domain/event/event.h', 'hub/domain/hub.h']).length, 1);
  assert.equal(wrongRooms('hub/domain/x.c', ['hub/domain/access/access.h']).length, 1);
});

test('the device side keeps to what a chip has', () => {
  const allowed = new Set(['stdint.h', 'stddef.h', 'stdbool.h', 'string.h', 'jsmn.h', 'assert.h', 'limits.h']);
  const wrong = [];
  // The query language is the hub's alone: it computes with floating point.
  for (const f of files.filter((p) => /^(core|device)\//.test(p) && !/^(device\/(sim|agent)|core\/query)\//.test(p) && !isTest(p)))
    for (const m of read(f).matchAll(/^\s*#\s*include\s+<([^>]+)>/gm))
      if (!allowed.has(m[1])) wrong.push(`${f}: <${m[1]}>`);
  assert.deepEqual(wrong, []);
});

test('every source file opens by saying what it is for', () => {
  assert.deepEqual(files.filter((f) => !/^\s*\/\*/.test(read(f))), []);
});

test('a file that has grown too long is split', () => {
  assert.deepEqual(files.filter((f) => !isTest(f) && read(f).split('\n').length > 751), []);
});

test('files that are named in code and documents are there', () => {
  const named = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' }).split('\n')
    .filter((f) => /\.(c|h|mjs|ts|md)$/.test(f) && f !== 'CHANGELOG.md' && f !== 'tests/layout.test.mjs' && existsSync(join(root, f)));
  const path = /(?<![\w/.-])(?:base|core|port|device|hub|cli|tests|bench|demo|deploy|docs)\/[\w./-]*\.(?:c|h|md|mjs|ts|lua)\b/g;
  const missing = named.flatMap((f) => [...read(f).matchAll(path)].map(([p]) => p).filter((p) => !/NAME/.test(p) && !existsSync(join(root, p))).map((p) => `${f}: ${p}`));
  assert.deepEqual(missing, []);
});

test('the map names only what is there', () => {
  const missing = [];
  for (const doc of ['docs/architecture.md', 'README.md', 'CONTRIBUTING.md'])
    for (const [, path] of read(doc).matchAll(/`((?:base|core|port|device|hub|cli|tests|bench|demo|deploy|docs)\/[\w./-]*)`/g))
      if (!existsSync(join(root, path)) && !/NAME/.test(path)) missing.push(`${doc}: ${path}`);
  assert.deepEqual(missing, []);
});

// What a change of the tables in the code has to bring along; tests/e2e/documents.test.mjs compares with the programs themselves.
test('values of the configuration stand in roostd(8) as in their guide', () => {
  const guide = read('docs/configuration.md'), page = read('docs/man/roostd.8.scd').replaceAll('\\', '');
  const missing = guide.slice(guide.indexOf('### hub'), guide.indexOf('## Examples')).split(/^### /m).slice(1).flatMap((section) => {
    const name = section.split('\n')[0];
    return [...section.matchAll(/^\| `(\w+)` \| `(.*?)` \| .*?(?: \((\d+ to \d+)\))? \|$/gm)]
      .map(([, key, value, range]) => `*${name}.${key}* = ${value}${range ? `, ${range}` : ''}`).filter((line) => !page.includes(`\n${line}\n`));
  });
  assert.deepEqual(missing, []);
});

test('counters of the hub are in the guide of the metrics', () => {
  const names = [...read('hub/domain/metrics.h').matchAll(/X\((\w+), "/g)].map((m) => m[1]), guide = read('docs/metrics.md');
  assert.ok(names.length > 40);
  assert.deepEqual(names.filter((n) => !guide.includes(`| \`roost_${n}\` | counter |`)), []);
});
