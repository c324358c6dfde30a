// What is written is so: options, commands, configuration values, metrics and snippets of the documents, held against the programs.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { Hub, bin, parseConnectionString, root, run, sasToken, tempDir, waitFor } from '../lib/roost.mjs';

const read = (path) => readFileSync(join(root, path), 'utf8');
const man = (page) => read(`docs/man/${page}.scd`);
const sorted = (all) => [...new Set(all)].sort();
const help = async (program, ...args) => (await run(bin(program), [...args, '--help'])).stdout;
// Of a help text, the long options it explains; of a page, those it has in bold.
const explained = (text) => sorted([...text.matchAll(/(?<![\w-])--([a-z][a-z0-9-]*)/g)].map((m) => m[1]));
const bold = (text) => sorted([...text.matchAll(/\*--([a-z][a-z0-9-]*)\*/g)].map((m) => m[1]));

let hub, temp;
before(async () => {
  temp = tempDir();
  hub = await Hub.create();
  const file = join(hub.dir, 'roost.yaml');
  writeFileSync(file, `${readFileSync(file, 'utf8')}\nrates:\n  registry: 1000000\n`); // so that all metrics are there
  await hub.start();
});
after(async () => {
  await hub?.remove();
  temp?.remove();
});

// The values in force by default: { 'limits.connections': ['0', '0 to 10000000'] }
async function values() {
  const all = {};
  let section;
  for (const line of (await run(bin('roostd'), ['--print-config', '--markdown'])).stdout.split('\n')) {
    section = /^### (\w+)$/.exec(line)?.[1] ?? section;
    const row = /^\| `(\w+)` \| `(.*?)` \| .*?(?: \((\d+ to \d+)\))? \|$/.exec(line);
    if (row) all[`${section}.${row[1]}`] = [row[2], row[3]];
  }
  assert.ok(Object.keys(all).length > 100);
  return all;
}

test('every value of the configuration is in roostd(8), with its default and range, and nothing else is', async () => {
  const page = man('roostd.8').replaceAll('\\', '');
  const there = Object.fromEntries([...page.matchAll(/^\*(\w+\.\w+)\* = (.*?)(?:, (\d+ to \d+))?\n\t\S/gm)].map(([, name, value, range]) => [name, [value, range]]));
  assert.deepEqual(there, await values());
});

test('values of the configuration that documents name are there', async () => {
  const all = await values(), sections = new Set(Object.keys(all).map((n) => n.split('.')[0]));
  const wrong = [];
  // Names such as tls.expires are events of the log or the audit log.
  const events = new Set([...(await run('git', ['grep', '-hoE', '"[a-z_]+\\.[a-z_-]+"', '--', 'hub'], { cwd: root })).stdout.matchAll(/"(.*)"/g)].map((m) => m[1]));
  for (const doc of ['README.md', ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md')).map((f) => `docs/${f}`)])
    for (const [, name] of read(doc).matchAll(/`(\w+\.\w+)`/g))
      if (sections.has(name.split('.')[0]) && !all[name] && !events.has(name) && name !== 'hub.localhost' && !/\.(c|h|md|mjs|yaml|key|crt|lock|meta|db)$/.test(name)) wrong.push(`${doc}: ${name}`);
  assert.deepEqual(wrong, []);
});

test('configurations that guides show are good ones', async () => {
  let nr = 0;
  for (const doc of readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md') && f !== 'agent.md'))
    for (const [, yaml] of read(`docs/${doc}`).matchAll(/^```yaml\n([\s\S]*?)^```/gm)) {
      if (yaml.startsWith('scrape_configs:')) continue; // Prometheus' own
      const file = join(temp.dir, `${doc}-${++nr}.yaml`);
      writeFileSync(file, yaml);
      const r = await run(bin('roostd'), ['--check-config', file], { ok: false });
      assert.equal(r.code, 0, `${doc}: ${r.stderr}`);
    }
  assert.ok(nr >= 6);
});

test('every command of roost and every option is in roost(1), and the page names no others', async () => {
  const page = man('roost.1'), wrong = [];
  const top = await help('roost');
  const common = explained(top.slice(top.indexOf('Options of every command:'), top.indexOf('The hub is found')));
  const opening = page.slice(page.indexOf('# OPTIONS OF EVERY COMMAND'), page.indexOf('# DEVICES'));
  assert.deepEqual(bold(opening), common);
  const commands = [...top.matchAll(/^ {2}([a-z][a-z -]*?) {2,}\S/gm)].map((m) => m[1]);
  assert.ok(commands.length > 60);
  // A paragraph of the page begins with the commands that it is about.
  const paragraphs = page.slice(page.indexOf('# DEVICES'), page.indexOf('# EXIT STATUS')).split(/\n(?=\*roost )/).filter((p) => p.startsWith('*roost '));
  const about = (p) => sorted([...p.split('\n')[0].matchAll(/\*roost ([a-z -]+?)\*/g)].map((m) => m[1]));
  assert.deepEqual(sorted(paragraphs.flatMap(about)), sorted(commands));
  const known = {};
  for (const command of commands) {
    const text = await help('roost', ...command.split(' '));
    const own = text.includes('\nOptions:\n') ? text.slice(text.indexOf('\nOptions:\n'), text.indexOf('\nOptions of every command:')) : '';
    const options = [...own.matchAll(/^ {2}(?:-(\w), | {4})--([a-z0-9-]+)/gm)].map(([, letter, name]) => ({ letter, name }));
    known[command] = options.map((o) => o.name);
    const said = paragraphs.filter((p) => about(p).includes(command)).join('\n');
    for (const o of options) {
      if (!said.includes(`*--${o.name}*`)) wrong.push(`${command}: --${o.name} is not explained`);
      if (o.letter && !said.includes(`*-${o.letter}*`)) wrong.push(`${command}: -${o.letter} is not explained`);
    }
  }
  const any = Object.values(known).flat().concat(common);
  for (const p of paragraphs) {
    const [head] = p.split('\n'); // below it others may be named, such as --ack of send where feedback is explained
    for (const name of bold(p))
      if (bold(head).includes(name) ? !about(p).some((command) => known[command].includes(name)) : !any.includes(name)) wrong.push(`${about(p).join(', ')}: there is no --${name}`);
  }
  assert.deepEqual(wrong, []);
});

test('the options of the other programs are those of their pages', async () => {
  for (const [program, page] of [['roost-sim', 'roost-sim.1'], ['roost-agent', 'roost-agent.8'], ['roostd', 'roostd.8']])
    assert.deepEqual(bold(man(page)), explained(await help(program)), page);
});

test('keys of the agent are those of its guide', () => {
  const source = read('device/agent/config.c');
  const keys = [...source.matchAll(/(?:TEXT|_PTR|SEQUENCE|UINT_PTR)\(\s*"([a-z-]+)"/g)].map((m) => m[1]);
  const guide = read('docs/agent.md');
  const table = guide.slice(guide.indexOf('## Configuration'), guide.indexOf('## The application'));
  const written = [...table.matchAll(/^\| (`[^|]*`) \|/gm)].flatMap((m) => [...m[1].matchAll(/`\s*([a-z-]+):?`/g)].map((k) => k[1]));
  assert.deepEqual(sorted(written), sorted(keys));
});

test('every metric is in its guide with type, labels and help, and the guide names no others', async () => {
  await hub.roost('endpoint', 'set', 'kept', 'kind=file');
  const text = await waitFor('metrics of the endpoint', () => new Promise((done, fail) => {
    http.get({ host: '127.0.0.1', port: hub.ops, path: '/metrics' }, (res) => {
      let all = '';
      res.on('data', (d) => { all += d; });
      res.on('end', () => done(all.includes('endpoint="kept"') && all));
    }).on('error', fail);
  }));
  const rows = {};
  for (const [, name, what] of text.matchAll(/^# HELP (\w+) (.*)$/gm)) rows[name] = { what, label: '' };
  for (const [, name, type] of text.matchAll(/^# TYPE (\w+) (.*)$/gm)) rows[name].type = type;
  for (const [, name, label] of text.matchAll(/^(\w+)\{(\w+)=/gm)) rows[name].label = label;
  const guide = Object.fromEntries([...read('docs/metrics.md').matchAll(/^\| `(roost_\w+)` \| (counter|gauge) \| `?(\w*)`? \| (.*) \|$/gm)]
    .map(([, name, type, label, what]) => [name, { what, label, type }]));
  assert.deepEqual(guide, rows);
  const wrong = [];
  for (const doc of readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md')))
    for (const [, name] of read(`docs/${doc}`).matchAll(/`(?:roost_)?([a-z0-9_]+_total)\b/g))
      if (!rows[`roost_${name}`]) wrong.push(`${doc}: ${name}`);
  assert.deepEqual(wrong, []);
});

test('commands of the guides are commands', async () => {
  const top = await help('roost');
  const commands = new Set([...top.matchAll(/^ {2}([a-z][a-z -]*?) {2,}\S/gm)].map((m) => m[1]));
  const groups = new Set([...commands].map((c) => c.split(' ')[0]));
  const wrong = [];
  const options = {};
  for (const doc of ['README.md', ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md')).map((f) => `docs/${f}`)]) {
    const text = read(doc);
    const lines = [...text.matchAll(/^```\w*\n([\s\S]*?)^```/gm)].flatMap((m) => m[1].split('\n'))
      .concat([...text.matchAll(/^ {4}(roost .*)$/gm)].map((m) => m[1]), [...text.matchAll(/`(roost [^`]*)`/g)].map((m) => m[1]));
    for (const line of lines) {
      const m = /^(?:\$ )?roost ((?:--[a-z-]+ \S+ )*)([a-z][a-z-]*)(?: ([a-z-]+))?(.*)$/.exec(line.trim());
      if (!m || !groups.has(m[2])) {
        if (m && !/^--/.test(m[2])) wrong.push(`${doc}: ${line}`);
        continue;
      }
      const command = commands.has(`${m[2]} ${m[3]}`) ? `${m[2]} ${m[3]}` : m[2];
      if (!commands.has(command) && m[3]) wrong.push(`${doc}: ${line}`);
      if (!commands.has(command)) continue;
      options[command] ??= explained(await help('roost', ...command.split(' ')));
      for (const name of explained(line.replace(/(['"]).*?\1/g, '').replace(/ # .*/, ''))) if (!options[command].includes(name)) wrong.push(`${doc}: ${line}: --${name}`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('the token of the guide for those who move opens what it should, and no more', async () => {
  const snippet = /```sh\n(sas\(\) \{[\s\S]*?\n\})\n```/.exec(read('docs/migrate.md'))[1];
  const { SharedAccessKey: key } = parseConnectionString((await hub.roost('device', 'create', 'lamp-1')).stdout);
  const policies = readFileSync(join(hub.dir, 'policies'), 'utf8').trim().split('\n').map(parseConnectionString);
  assert.deepEqual(policies.map((p) => p.SharedAccessKeyName), ['iothubowner', 'service', 'device', 'registryRead', 'registryReadWrite']);
  const sas = async (...args) => (await run('sh', ['-c', `${snippet}\nsas "$@"`, 'sh', ...args])).stdout;
  const device = await sas(`${hub.name}/devices/lamp-1`, key);
  const ask = async (token, method, path, body) => (await hub.request(method, `${path}?api-version=2021-04-12`, { token, body })).status;
  assert.equal(await ask(device, 'POST', '/devices/lamp-1/messages/events', '{"t":21}'), 204);
  assert.equal(await ask(device, 'GET', '/twins/lamp-1'), 401);
  const reader = policies.find((p) => p.SharedAccessKeyName === 'registryRead');
  const token = await sas(hub.name, reader.SharedAccessKey, 'registryRead');
  assert.equal(await ask(token, 'GET', '/devices/lamp-1'), 200);
  assert.equal(await ask(token, 'DELETE', '/devices/lamp-1'), 401);
});

test('the backup of the guide is a hub', { timeout: 60_000 }, async () => {
  const commands = /```sh\n(umask 077 [\s\S]*?)```/.exec(read('docs/storage.md'))[1];
  const copy = join(temp.dir, 'copy');
  await hub.roost('device', 'create', 'kept-1');
  await hub.roost('twin', 'set', 'kept-1', '--tags', 'site=here');
  const { SharedAccessKey: key } = parseConnectionString((await hub.roost('device', 'connection-string', 'kept-1')).stdout);
  for (let i = 0; i < 20; i++)
    assert.equal((await hub.request('POST', '/devices/kept-1/messages/events?api-version=2021-04-12', { token: sasToken(`${hub.name}/devices/kept-1`, key), body: `{"i":${i}}` })).status, 204);
  await run('bash', ['-eo', 'pipefail', '-c', commands], { env: { HUB: hub.dir, COPY: copy } });
  await hub.roost('device', 'delete', 'kept-1');
  await hub.stop();
  await run('rm', ['-rf', hub.dir]);
  await run('mv', [copy, hub.dir]);
  await hub.start();
  assert.equal((await hub.api('GET', '/roost/v1/devices/kept-1/twin')).tags.site, 'here');
  assert.equal(parseConnectionString((await hub.roost('device', 'connection-string', 'kept-1')).stdout).SharedAccessKey, key);
  const rows = (await hub.roost('watch', 'kept-1', '--from', 'earliest', '--no-follow', '--json')).stdout.trim().split('\n').map((l) => JSON.parse(l));
  assert.deepEqual(rows.map((r) => r.body), Array.from({ length: 20 }, (_, i) => `{"i":${i}}`));
  assert.equal(statSync(join(hub.dir, 'director.key')).mode & 0o777, 0o600);
  assert.equal(statSync(join(hub.dir, 'store')).mode & 0o777, 0o700);
});
