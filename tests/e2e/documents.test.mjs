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

test('with --json every command answers with one document', { timeout: 120_000 }, async () => {
  const d = temp.dir, keys = join(d, 'json-keys'), rel = join(d, 'json-rel'), soon = new Date(Date.now() + 3600_000).toISOString();
  writeFileSync(join(d, 'c.json'), '{"deviceContent":{"properties.desired":{"a":1}}}');
  writeFileSync(join(d, 'edge.json'), '{"modulesContent":{"$edgeAgent":{"properties.desired":{"a":1}},"$edgeHub":{"properties.desired":{}}}}');
  writeFileSync(join(d, 'app.bin'), Buffer.alloc(9000, 7));
  writeFileSync(join(d, 'import.txt'), '{"id":"json-edge","status":"enabled","capabilities":{"iotEdge":true}}\n');
  const told = new Set();
  const ask = async (...args) => {
    const r = await hub.roost(...args, '--json');
    told.add(args.slice(0, 2).join(' ')).add(args[0]);
    assert.doesNotThrow(() => JSON.parse(r.stdout), `${args.join(' ')}: ${r.stdout}`);
    return JSON.parse(r.stdout);
  };
  for (const line of `
    keys init ${keys} | keys show ${keys} | trust publish ${keys} | trust show | keys trust ${keys} --new-root | status | bootstrap-string
    device create j1 | device create j2 j3 | device list | device list --status pending | device show j1 | device connection-string j1 | device approve j1 | device approve --all
    module create j1 m | module list j1 | module show j1 m | module delete j1 m | device delete j2 j3 | ca add x ${hub.dir}/ca/ca.crt | ca list | ca delete x | token create t | token list | token delete t
    send j1 hi --ack full | send --all hi | feedback | twin show j1 | twin set j1 x=1 | twin set j1 --tags site=m | twin watch j1 -n 1 | upload list | upload list j1
    endpoint set s kind=stream | endpoint list | route set r --endpoint s | route list | route test r | route fallback off | route fallback on | enrichment set n v --endpoint s | enrichment list
    enrichment delete n | route delete r | endpoint delete s | job create j --where * --desired {"z":1} --wait | job create k --where * --tags {"z":1} --at ${soon} | job list | job show j | job wait j | job cancel k
    config create c --content ${d}/c.json --where * | config list | config show c | config set c --priority 3 | config metrics c | config delete c
    device export ${d}/out.txt | device import ${d}/import.txt | config apply json-edge --file ${d}/edge.json | query SELECT~*~FROM~devices | query SELECT~deviceId~FROM~devices~WHERE~false
    release build -p p -v 1.0.0 --hardware-class 1 --file ${d}/app.bin --out ${rel} | release sign ${rel} --key-file ${keys}/release-1.key | release verify ${rel} | release push ${rel} | release list
    update --all --release 1.0.0 | update j1 --release 1.0.0`.split(/[|\n]/).map((l) => l.trim()).filter(Boolean)) await ask(...line.split(' ').map((w) => w.replaceAll('~', ' ')));
  const commands = [...(await help('roost')).matchAll(/^ {2}([a-z][a-z -]*?) {2,}\S/gm)].map((m) => m[1]);
  // Those have tests of their own: they need a device, a file of one, or standard input; watch has a document a line.
  assert.deepEqual(commands.filter((c) => !told.has(c)), ['method', 'watch', 'keys restore', 'upload get', 'upload delete', 'completion']);
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
