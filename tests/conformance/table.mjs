// Writes docs/conformance.md: which lines of the checklist have a test, which have none, and why.
// `node table.mjs` writes it; conformance.test.mjs fails while it is out of date.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sections } from './checklist.mjs';
import { httpSections } from './checklist_http.mjs';
import { amqpSections } from './checklist_amqp.mjs';
import { limitsSections } from './checklist_limits.mjs';

const here = dirname(fileURLToPath(import.meta.url));
export const page = join(here, '../../docs/conformance.md');

const checklists = [
  { tag: 'mqtt', title: 'Device protocol over MQTT', sections },
  { tag: 'http', title: 'Interface over HTTPS', sections: httpSections },
  { tag: 'amqp', title: 'AMQP 1.0', sections: amqpSections },
  { tag: 'limits', title: 'Limits', sections: limitsSections },
];

// "mqtt 24" -> files whose tests carry it in their names.
export function tagged() {
  const found = new Map();
  const note = (tag, file) => found.set(tag, (found.get(tag) ?? new Set()).add(file));
  for (const file of readdirSync(here).filter((f) => f.endsWith('.test.mjs'))) {
    const text = readFileSync(join(here, file), 'utf8');
    for (const m of text.matchAll(new RegExp(`\\[((?:${checklists.map((c) => c.tag).join('|')}) \\d+)\\]`, 'g'))) note(m[1], file);
  }
  return found;
}

export function render() {
  const found = tagged();
  const known = new Set();
  const totals = [], out = [];
  for (const { tag, title, sections } of checklists) {
    let covered = 0, all = 0;
    const rows = [];
    for (const [name, lines] of sections) {
      rows.push('', `### ${name}`, '', '| line | what | shown by |', '|---|---|---|');
      for (const [n, line] of Object.entries(lines)) {
        const { what, why, part } = typeof line === 'string' ? { what: line } : line;
        const files = [...(found.get(`${tag} ${n}`) ?? [])].sort();
        known.add(`${tag} ${n}`);
        if (files.length && why) throw new Error(`line ${tag} ${n} has a test and a reason for having none`);
        if (!files.length && !why) throw new Error(`line ${tag} ${n} has neither a test nor a reason`);
        all++;
        covered += files.length > 0;
        rows.push(`| ${n} | ${what} | ${files.length ? files.map((f) => `\`${f}\``).join(', ') + (part ? `; in part: ${part}` : '') : `not yet: ${why}`} |`);
      }
    }
    totals.push(`${covered} of ${all} lines of "${title}"`);
    out.push('', `## ${title}`, ...rows);
  }
  for (const tag of found.keys()) if (!known.has(tag)) throw new Error(`a test carries the unknown line ${tag}`);
  return ['# Conformance', '',
    'Clients that we did not write, and bare clients for what those never send, against a real hub: `./dev test conformance`.',
    'Each test hub lives in a directory of its own on free loopback ports; clients that insist on 8883 and 443 are mapped to them',
    'inside the test process (`tests/conformance/lib/hub.mjs`), so that nothing has to run as root.', '',
    '* **Device SDK for Node.js** (`azure-iot-device` with `azure-iot-device-mqtt` over TCP and WebSocket and `azure-iot-device-http`, pinned), unmodified,',
    '  given a connection string and the CA: `sdk`, `twin`, `method`, `device_http`, `upload`.',
    '* **Service SDK for Node.js** (`azure-iothub`, pinned), unmodified: its registry, twins, direct methods, queries, jobs and configurations in `registry`,',
    '  `registry_jobs`, `twin`, `method`, `query`, `jobs`, `configurations`.',
    '* **Storage SDK for JavaScript** (`@azure/storage-blob`, pinned), unmodified: `upload`, `registry_jobs`.',
    '* **Device, service and Event Hubs SDKs for Node.js over AMQP** (`azure-iot-device-amqp`, `azure-iothub`, `@azure/event-hubs`, pinned), unmodified,',
    '  TCP and WebSocket: `amqp_sdk`, `amqp_fleet`, `amqp_events`, `amqp_notices`; **rhea**, **Qpid Proton** and bare bytes: the other `amqp` files.',
    '* **The AMQP engine as a client** of servers of rhea and Qpid Proton: openings, every section, outcomes, credit, drain, ends with errors:',
    '  `amqp_client.test.mjs`.',
    '* **paho-mqtt** of Debian, used as the device SDK for Python uses it, TCP and WebSocket: `paho.test.mjs`.',
    '* **Device SDKs for Python and C, samples of the SDK for embedded C**, unmodified, as far as the directory that `ROOST_SDKS` names has',
    '  checkouts of them (`azure-iot-sdk-python`, `azure-iot-sdk-c` with its submodules, `azure-sdk-for-c`), and the **service SDK for Python**',
    '  (`azure-iot-hub-python`) likewise; skipped without: `sources.test.mjs`.',
    '* **mosquitto_pub and mosquitto_sub** of Debian with hand-made topics: `mosquitto.test.mjs`.',
    '* **Bare connections**, byte for byte, and plain HTTPS requests: the other files.', '',
    `The lines below are the checklists of the protocols. ${totals.join(' and ')} have a test; a test carries its numbers in its`,
    'name, as in `[mqtt 24]` or `[http 31]`. This page is written from them by `node tests/conformance/table.mjs`.', ...out, ''].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, render());
