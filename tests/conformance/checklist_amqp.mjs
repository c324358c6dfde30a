// What a hub of the Azure kind has to do over AMQP, by number, as checklist.mjs for MQTT. `none` says why a line has no
// test here; whoever adds the test takes its number out.
const engine = 'held by the unit tests of the engine, core/amqp/amqp_conn_test.c';
const fuzz = 'held by the fuzz targets amqp_value, amqp_conn and amqp_front';
const none = {
  18: engine, 25: fuzz, 44: 'held by hub/front/amqp/address_test.c',
};

const lines = [
  ['Transport, header, SASL', 1, ['no SASL', 'SASL header and mechanisms', 'ANONYMOUS', 'MSSBCBS', 'PLAIN of a policy', 'PLAIN refused',
    'PLAIN with the whole host name', 'null and unknown mechanisms', 'wrong headers', 'WebSocket of the IoT kind', 'WebSocket of the Event Hubs kind',
    'frames cut and joined by WebSocket', 'client certificate asked, not demanded', 'deadlines for open and login']],
  ['Open, heartbeats, sessions', 15, ['the hub\'s open', 'the hub\'s begin', 'heartbeats', 'a silent client', 'small frames', 'frames too large',
    'many sessions and links', 'all fields of performatives', 'attach answers', 'a delivery without an id', 'mutated streams']],
  ['Claims-based security', 26, ['ulong message ids', 'other types of message ids', 'disposition before answer', 'answer waits for credit',
    'status code and description', 'refused tokens', 'spellings of tokens', 'a SAS called jwt', 'signed with the text of the key', 'links of others',
    'rights of policies', 'secondary key', 'renewal', 'expiry', 'many devices on one connection', 'forms of $cbs links', 'thousands of tokens']],
  ['Telemetry of devices', 43, ['a link before any token', 'forms of addresses', 'one message', 'a batch', 'a batch of one', 'sections out of order',
    'many frames', 'too large', 'pre-settled', 'full speed', 'forged annotations', 'undecodable', 'uuid message ids']],
  ['Cloud-to-device messages', 56, ['delivery tags', 'types of annotations', 'credit', 'outcomes', 'answers in the second mode', 'lock lost', 'connection lost',
    'delivery count exceeded', 'one Data section']],
  ['Twin and methods', 65, ['requests and correlation ids', 'types of answers', 'settlement', 'empty bodies', 'invalid JSON', 'notifications', 'pairs of links',
    'method requests', 'method answers', 'no credit', 'modules']],
  ['Life cycle', 76, ['takeover', 'detach', 'end and close', 'reset', 'deleted device']],
  ['Service client', 81, ['send', 'unknown device', 'queue full', 'malformed address', 'too large', 'feedback messages', 'feedback released', 'file notifications',
    'rights']],
  ['Telemetry endpoint', 90, ['redirect', 'redirect in SDKs', 'properties of the hub', 'properties of a partition', 'errors of $management', 'forms of requests',
    'start positions', 'latest and beginning', 'beyond the end', 'settled, within credit', 'types of positions', 'order of a device', 'epochs', 'six readers',
    'unknown group and partition', 'runtime metrics', 'SDKs read', 'drain', 'restart']],
  ['Errors', 109, ['info maps', 'everything settled', 'outcomes never sent', 'a stopping hub']],
];

export const amqpSections = lines.map(([name, first, texts]) => [name, Object.fromEntries(texts.map((what, i) =>
  [first + i, none[first + i] ? { what, why: none[first + i] } : what]))]);
