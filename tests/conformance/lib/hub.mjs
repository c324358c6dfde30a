// A hub for conformance tests, reached by clients that insist on its public name and on ports 8883 and 443: this
// process maps them to the hub's own free ports on loopback, as a router would. TLS still sees the name.
import { webcrypto } from 'node:crypto';
import dns from 'node:dns';
import https from 'node:https';
import net from 'node:net';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Hub, parseConnectionString, sasToken, waitFor } from '../../lib/roost.mjs';

// The newer SDKs expect Web Crypto as a global; Debian's Node 18 has it, but not there.
globalThis.crypto ??= webcrypto;

export { parseConnectionString, sasToken, sleep, waitFor, run, start, tempDir } from '../../lib/roost.mjs';

export const NAME = 'hub.localhost';
const routes = new Map(); // "name:port" -> { host, port }

export let connections = 0; // made through the map: reconnects of a client show here

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  // net.connect and tls.connect hand over one normalized array; others (options, callback).
  const list = Array.isArray(args[0]) ? args[0] : args;
  const options = list[0];
  const route = options && typeof options === 'object' && routes.get(`${options.host}:${options.port}`);
  if (!route) return connect.apply(this, args);
  const there = { ...options, ...route };
  connections++;
  if (Array.isArray(args[0])) {
    const copy = Object.assign([...args[0]], { 0: there });
    for (const s of Object.getOwnPropertySymbols(args[0])) copy[s] = args[0][s];
    return connect.call(this, copy);
  }
  return connect.call(this, there, ...args.slice(1));
};
let authority; // of the hub opened last: clients with agents of their own cannot be given it in another way
const createConnection = https.Agent.prototype.createConnection;
https.Agent.prototype.createConnection = function (options, done) {
  return createConnection.call(this, options.host === NAME ? { ...options, ca: options.ca ?? authority } : options, done);
};
const lookup = dns.lookup; // *.localhost is loopback (RFC 6761), also where the resolver does not know it
dns.lookup = (name, ...rest) => lookup(name === NAME ? '127.0.0.1' : name, ...rest);

// Adds sections to the configuration file that `roostd init` wrote: { section: { name: value } }.
function configure(hub, settings) {
  for (const [section, values] of Object.entries(settings))
    appendFileSync(join(hub.dir, 'roost.yaml'), `${section}:\n${Object.entries(values).map(([n, v]) => `  ${n}: ${v}\n`).join('')}`);
}

export async function openHub({ settings = {}, env, ...options } = {}) {
  const hub = await Hub.create({ name: NAME, ...options });
  configure(hub, settings);
  routes.set(`${NAME}:8883`, { host: hub.address, port: hub.mqtt });
  routes.set(`${NAME}:5671`, { host: hub.address, port: hub.amqp });
  authority = hub.ca;
  routes.set(`${NAME}:443`, { host: hub.address, port: hub.https });
  await hub.start({ env });
  return hub;
}

// Ends the hub; it has to end well (a sanitizer's complaint is an exit code).
export async function closeHub(hub) {
  if (!hub) return;
  const { code, signal } = await hub.stop();
  const out = hub.process.out;
  await hub.remove();
  if (code !== 0) throw new Error(`roostd ended with ${code ?? signal}:\n${out.slice(-4000)}`);
}

let created = 0;
// A new device: { id, key, key2, connectionString }.
export async function newDevice(hub, id = `dev-${++created}`) {
  await hub.api('PUT', `/roost/v1/devices/${encodeURIComponent(id)}`, {});
  const d = await hub.api('GET', `/roost/v1/devices/${encodeURIComponent(id)}`);
  return { id, key: d.primaryKey, key2: d.secondaryKey, connectionString: d.connectionString };
}

// The device's records in the order they were stored.
export async function telemetry(hub, device, nr = 0) {
  const read = async () => {
    const r = await hub.request('GET', `/roost/v1/telemetry?device=${encodeURIComponent(device)}&from=earliest&follow=false`);
    if (r.status !== 200) throw new Error(`telemetry: ${r.status} ${r.body}`);
    return r.body.toString().split('\n').filter(Boolean).map((l) => JSON.parse(l));
  };
  return nr ? waitFor(`${nr} records of ${device}`, async () => {
    const rows = await read();
    return rows.length >= nr && rows;
  }) : read();
}

export const sendC2d = (hub, device, message) =>
  hub.api('POST', `/roost/v1/devices/${encodeURIComponent(device)}/messages`, message);

// The key of a shared access policy: `roostd init` writes their connection strings to one file.
export const policyKey = (hub, name) => readFileSync(join(hub.dir, 'policies'), 'utf8').split('\n').filter(Boolean)
  .map(parseConnectionString).find((c) => c.SharedAccessKeyName === name)?.SharedAccessKey;

export const deviceToken = (device, { key = device.key, seconds = 3600, resource = `${NAME}/devices/${device.id}`, policy } = {}) =>
  sasToken(resource, key, policy, seconds);
