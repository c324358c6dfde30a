// Writes docs/conformance.md: which lines of the checklist have a test, which have none, and why.
// `node table.mjs` writes it; conformance.test.mjs fails while it is out of date.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sections } from './checklist.mjs';

const here = dirname(fileURLToPath(import.meta.url));
export const page = join(here, '../../docs/conformance.md');

// number -> files whose tests carry it in their names.
export function tagged() {
  const found = new Map();
  const note = (n, file) => found.set(n, (found.get(n) ?? new Set()).add(file));
  for (const file of readdirSync(here).filter((f) => f.endsWith('.test.mjs'))) {
    const text = readFileSync(join(here, file), 'utf8');
    for (const m of text.matchAll(/\[mqtt (\d+)\]/g)) note(+m[1], file);
  }
  return found;
}

export function render() {
  const found = tagged();
  let covered = 0, all = 0;
  const out = [];
  for (const [title, lines] of sections) {
    out.push('', `## ${title}`, '', '| line | what | shown by |', '|---|---|---|');
    for (const [n, line] of Object.entries(lines)) {
      const { what, why, part } = typeof line === 'string' ? { what: line } : line;
      const files = [...(found.get(+n) ?? [])].sort();
      if (files.length && why) throw new Error(`line ${n} has a test and a reason for having none`);
      if (!files.length && !why) throw new Error(`line ${n} has neither a test nor a reason`);
      all++;
      covered += files.length > 0;
      out.push(`| ${n} | ${what} | ${files.length ? files.map((f) => `\`${f}\``).join(', ') + (part ? `; in part: ${part}` : '') : `not yet: ${why}`} |`);
    }
  }
  const numbers = new Set(sections.flatMap(([, lines]) => Object.keys(lines).map(Number)));
  for (const n of found.keys()) if (!numbers.has(n)) throw new Error(`a test carries the unknown line ${n}`);
  return ['# Conformance', '',
    'Clients that we did not write, and a bare MQTT client for what those never send, against a real hub: `./dev test conformance`.',
    'Each test hub lives in a directory of its own on free loopback ports; clients that insist on 8883 and 443 are mapped to them',
    'inside the test process (`tests/conformance/lib/hub.mjs`), so that nothing has to run as root.', '',
    '* **Device SDK for Node.js** (`azure-iot-device`, `azure-iot-device-mqtt`, pinned), TCP and WebSocket, unmodified, given a connection',
    '  string and the CA: `sdk.test.mjs`.',
    '* **mosquitto_pub and mosquitto_sub** of Debian with hand-made topics: `mosquitto.test.mjs`.',
    '* **Bare connections**, byte for byte: the other files.', '',
    `The lines below are the checklist of the device protocol over MQTT. ${covered} of ${all} have a test; a test carries its numbers in its`,
    'name, as in `[mqtt 24]`. This page is written from them by `node tests/conformance/table.mjs`.', ...out, ''].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, render());
