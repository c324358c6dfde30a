// node testssl.mjs - runs Debian's testssl.sh against a hub with each record layer and prints what differs; ends with 1
// when something does. Takes some minutes, so it is not part of `./dev test`.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closeHub, openHub, run, tempDir } from './lib/hub.mjs';

const temp = tempDir();
// testssl.sh saves a session with an s_client whose input ends at once, and it with that: before a ticket of TLS 1.3 has come,
// or after. Here the input ends when the session is there.
const patient = join(temp.dir, 'openssl-that-waits');
writeFileSync(patient, `#!/bin/sh
case "$*" in
*-sess_out*)
  file=\${*##*-sess_out }
  file=\${file%% *}
  (i=0; while [ ! -s "$file" ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i + 1)); done) | /usr/bin/openssl "$@" ;;
*) exec /usr/bin/openssl "$@" ;;
esac
`, { mode: 0o755 });
// What a run says of itself, and what differs from hub to hub: keys, serial numbers, dates, times.
const own = /^(scanTime|engine_problem|old_openssl|cert_(serialNumber|fingerprint\w*|notBefore|notAfter|expirationStatus|validityPeriod)|cert( |$)|cert_caIssuers|DROWN_hint|cert_chain|intermediate_cert|HTTP_clock_skew|TLS_timestamp|host_certificate)/;

async function look(layer) {
  const hub = await openHub({ settings: { tls: { record_layer: layer } } });
  const file = join(temp.dir, `${layer}.json`);
  mkdirSync(join(temp.dir, layer));
  await run('testssl', ['--quiet', '--warnings', 'batch', '--color', '0', '--openssl', patient, '--openssl-timeout', '10', '--ip', 'one', '--jsonfile', file,
    '-p', '-s', '-f', '-S', '-P', '-U', '-g', `${hub.address}:${hub.https}`],
  { ok: false, cwd: join(temp.dir, layer), timeout: 900_000 });
  await closeHub(hub);
  return new Map(JSON.parse(readFileSync(file, 'utf8')).filter((f) => !own.test(f.id)).map((f) => [f.id, `${f.severity}: ${f.finding}`]));
}

const [openssl, compact] = [await look('openssl'), await look('compact')];
const differ = [...new Set([...openssl.keys(), ...compact.keys()])].filter((id) => openssl.get(id) !== compact.get(id) &&
  ![openssl, compact].some((m) => /check failed because of connect problem/.test(m.get(id)))); // a slow machine, not a finding
for (const id of differ) console.log(`${id}\n  openssl  ${openssl.get(id) ?? '-'}\n  compact  ${compact.get(id) ?? '-'}`);
const grave = [...compact].filter(([, f]) => /^(HIGH|CRITICAL|MEDIUM)/.test(f));
for (const [id, f] of grave) console.log(`${id}  ${f}`);
console.log(`${compact.size} findings, ${differ.length} differ, ${grave.length} of them medium or worse`);
temp.remove();
process.exit(differ.length ? 1 : 0);
