#!/usr/bin/env node
// The release step of a pipeline with the Azure IoT service SDK, unmodified: lists all devices, sends each a message,
// and counts what became of them from the delivery feedback. Needs `npm install azure-iothub`; Node 18 or newer.
//
//   IOTHUB_CONNECTION_STRING='HostName=…;SharedAccessKeyName=…;SharedAccessKey=…' node notify-fleet.mjs \
//     [--message update] [--timeout 1800] [--ttl 86400] [--transport amqp|amqp-ws] [--parallel 8]
//
// Exit code: 0 every device took it; 5 some refused it, let it expire, or have a full queue; 6 not known of all in time (the
// hub goes on delivering); 7 the hub cannot be reached; 1 usage. The policy needs RegistryRead and ServiceConnect.
// A hub has one feedback queue: run one such step at a time. `roost send --all --wait` has no such limit.
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';

const { Client, Registry, Amqp, AmqpWs } = createRequire(import.meta.url)('azure-iothub');
const { Message } = createRequire(import.meta.url)('azure-iot-common');

const connectionString = process.env.IOTHUB_CONNECTION_STRING;
let values;
try {
  ({ values } = parseArgs({ options: { message: { type: 'string', default: 'update' }, timeout: { type: 'string', default: '1800' }, ttl: { type: 'string', default: '86400' },
    transport: { type: 'string', default: 'amqp' }, parallel: { type: 'string', default: '8' } } }));
} catch (e) { console.error(e.message); process.exit(1); }
const seconds = Number(values.timeout), ttl = Number(values.ttl), parallel = Number(values.parallel);
if (!connectionString || !(seconds > 0) || !(ttl > 0) || !(parallel > 0) || !['amqp', 'amqp-ws'].includes(values.transport)) {
  console.error('IOTHUB_CONNECTION_STRING has to be set; --timeout SECONDS, --ttl SECONDS, --transport amqp|amqp-ws, --parallel N');
  process.exit(1);
}

const run = randomUUID();
const ends = Date.now() + seconds * 1000, expiry = Date.now() + ttl * 1000;
const waiting = new Set(); // devices whose outcome is not known
const counts = { devices: 0, delivered: 0, refused: 0, gone: 0 };
const trouble = [];
const note = (device, what) => { if (trouble.push(`${device}: ${what}`) <= 20) console.error(`${device}: ${what}`); };

async function devices() {
  const query = Registry.fromConnectionString(connectionString).createQuery('SELECT deviceId FROM devices', 100);
  const ids = [];
  while (query.hasMoreResults) ids.push(...(await query.next()).result.map((d) => d.deviceId));
  return ids;
}

// One record of feedback; those of other senders are none of ours.
function settled({ originalMessageId, deviceId, statusCode, description }) {
  if (!originalMessageId?.startsWith(run) || !waiting.delete(deviceId)) return;
  const outcome = statusCode ?? description;
  if (outcome === 'Success') counts.delivered++;
  else if (outcome === 'Purged') counts.gone++;
  else { counts.refused++; note(deviceId, outcome); }
}

async function main() {
  const client = Client.fromConnectionString(connectionString, values.transport === 'amqp' ? Amqp : AmqpWs);
  await client.open();
  const receiver = await client.getFeedbackReceiver(), feedback = receiver.result ?? receiver;
  feedback.on('message', (m) => {
    const records = JSON.parse(m.data.toString());
    for (const r of Array.isArray(records) ? records : [records]) settled(r);
    feedback.complete(m, () => {});
  });
  feedback.on('errorReceived', (e) => console.error(`feedback: ${e.message}`));

  const ids = await devices();
  counts.devices = ids.length;
  ids.forEach((id) => waiting.add(id));
  const todo = [...ids];
  await Promise.all(Array.from({ length: parallel }, async () => {
    for (let id = todo.shift(); id !== undefined; id = todo.shift()) {
      const m = new Message(values.message);
      m.messageId = `${run}-${id}`;
      m.ack = 'full';
      m.expiryTimeUtc = expiry; // milliseconds: over AMQP the SDK never ends a send with a Date here
      try {
        await client.send(id, m);
      } catch (e) {
        waiting.delete(id);
        if (e.name === 'DeviceNotFoundError') counts.gone++; // deleted since it was listed
        else { counts.refused++; note(id, e.message); }
      }
    }
  }));
  console.log(`sent to ${ids.length} devices`);

  let shown = '';
  const show = () => {
    const line = `${counts.delivered} of ${counts.devices} delivered, ${waiting.size} pending, ${counts.refused} refused`;
    if (line !== shown) console.log(line);
    shown = line;
  };
  while (waiting.size && Date.now() < ends) {
    show();
    await new Promise((done) => setTimeout(done, 500));
  }
  show();
  await client.close();
  return waiting.size ? 6 : counts.refused ? 5 : 0;
}

main().then((code) => process.exit(code), (e) => {
  console.error(`the hub cannot be used: ${e.message}`);
  process.exit(7);
});
