// The AMQP engine as a client, against servers that we did not write: rhea in this process, Qpid Proton beside it. Each
// scenario is held to the exact events on both sides. The client is tests/conformance/peers/amqp_client.c.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bin } from '../lib/roost.mjs';
import { run, waitFor } from './lib/hub.mjs';

const rhea = createRequire(import.meta.url)('rhea');
const program = bin('../tests/amqp_client');

// ---- the servers: what they do with a link or message, its address says ---------------------------------------

const pattern = (n) => Buffer.from(Uint8Array.from({ length: n }, (_, i) => i * 7 + (i >> 8)));
const offers = () => [[1, 'one'], [100000, 'two'], [null, 'three'], [1, 'four'], [1, 'five']];

function plainBody(body) {
  if (body.typecode !== 0x75) return body;
  return `data ${body.content.length}${body.content.equals(pattern(body.content.length)) ? '' : ' damaged'}`;
}

// Resolves to { port, log, close }: log holds what came, a list for each.
async function rheaServer() {
  const log = [];
  const say = (...what) => log.push(what);
  const container = rhea.create_container({ id: 'rhea' });
  const over = { condition: 'amqp:internal-error', description: 'it is over' };
  let mechanism = null;
  const offered = container.sasl_server_mechanisms;
  offered.enable_anonymous();
  offered.enable_plain((user, password) => {
    const right = user === 'me' && password === 'secret';
    if (!right) mechanism = null; // no open follows that it could belong to
    return right;
  });
  for (const [name, make] of Object.entries(offered))
    offered[name] = () => {
      mechanism = name;
      return make();
    };
  const server = container.listen({ host: '127.0.0.1', port: 0, max_frame_size: 600, receiver_options: { credit_window: 0, autoaccept: false }, sender_options: { treat_modified_as_released: false } });
  await once(server, 'listening');

  const serve = (sender) => {
    while (sender.offers.length && sender.sendable()) {
      const [n, name] = sender.offers.shift();
      sender.send({ message_id: name, subject: 'down', message_annotations: { 'x-opt-a': 'b' }, application_properties: { k: name },
        body: n === null ? 'a value' : rhea.message.data_section(pattern(n)) });
    }
  };
  const opened = (kind, link, remote) => {
    say(kind, remote.address);
    if (remote.address === 'refused') link.close({ condition: 'amqp:not-found', description: 'no such thing' });
    return remote.address !== 'refused';
  };
  container.on('connection_open', ({ connection }) => {
    say('open', mechanism, connection.remote.open.container_id, connection.remote.open.hostname);
    mechanism = null;
  });
  container.on('receiver_open', ({ receiver }) => {
    if (!opened('receiver', receiver, receiver.remote.attach.target)) return;
    receiver.set_source(receiver.remote.attach.source);
    receiver.set_target(receiver.remote.attach.target);
    receiver.add_credit(10);
  });
  container.on('sender_open', ({ sender }) => {
    if (!opened('sender', sender, sender.remote.attach.source)) return;
    sender.set_source(sender.remote.attach.source);
    sender.set_target(sender.remote.attach.target);
    sender.offers = offers();
  });
  container.on('sendable', ({ sender }) => serve(sender));
  container.on('sender_draining', ({ sender }) => {
    serve(sender);
    sender.set_drained(true);
  });
  container.on('message', ({ message: m, delivery, receiver, session, connection }) => {
    const { address } = receiver.remote.attach.target;
    say('message', address, Boolean(delivery.remote_settled), m.durable, m.priority, m.ttl, m.delivery_count, m.delivery_annotations, m.message_annotations,
      m.message_id, m.correlation_id, m.user_id.toString(), m.to, m.subject, m.reply_to, m.content_type, m.content_encoding,
      Number(m.creation_time), m.group_id, m.application_properties, plainBody(m.body));
    if (!delivery.remote_settled) {
      if (address === 'reject') delivery.reject({ condition: 'amqp:not-allowed', description: 'no thanks' });
      else if (address === 'release') delivery.release();
      else if (address === 'modify') delivery.modified({ delivery_failed: true });
      else delivery.accept();
    }
    ({ detach: receiver, end: session, close: connection })[address]?.close(over);
  });
  container.on('accepted', () => say('outcome', 'accepted'));
  container.on('rejected', ({ delivery }) => say('outcome', 'rejected', delivery.remote_state.error.condition, delivery.remote_state.error.description));
  container.on('released', () => say('outcome', 'released'));
  container.on('modified', () => say('outcome', 'modified'));
  for (const [event, what] of [['receiver_close', 'link'], ['sender_close', 'link'], ['session_close', 'session'], ['connection_close', 'connection']])
    container.on(event, (context) => {
      const end = context[event.split('_')[0]];
      say(`${end.state.local_open ? 'closing' : 'closed'} ${what}`);
    });
  return { port: server.address().port, log, close: () => server.close() };
}

async function protonServer() {
  const script = fileURLToPath(new URL('peers/proton_server.py', import.meta.url));
  const child = spawn('/usr/bin/python3', [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const log = [];
  createInterface({ input: child.stdout }).on('line', (line) => log.push(JSON.parse(line)));
  await waitFor('the port', () => log.length > 0);
  const [[, port]] = log.splice(0, 1);
  return { port, log, close: () => child.kill() };
}

// ---- scenarios ------------------------------------------------------------------------------------------------

const message = (address, nr, body, settled = false) => ['message', address, settled, true, 6, 60000, 2, { 'x-opt-delivery': 'yes' }, { 'x-opt-message': 'yes' },
  'first', nr, 'me', 'there', 'interop', 'back', 'text/plain', 'utf-8', 1700000000000, 'group', { text: '\u00e4', number: -5, flag: true }, body];
const sender = (address) => [`attached ${address} source=here target=${address}`, 'credit 10'];
const delivery = (name, body) => `delivery id=${name} subject=down x-opt-a=b k=${name} ${body}`;

const byKind = (log) => [log.filter((l) => l[0] === 'outcome'), log.filter((l) => l[0] !== 'outcome')];

for (const [name, start, skip] of [['rhea', rheaServer, false], ['proton', protonServer, !hasProton()]])
  describe(`the engine as a client of ${name}`, { skip }, () => {
    let server;
    before(async () => { server = await start(); });
    after(() => server?.close());

    const hello = [`open ${name} frames of 600`, 'begin'];
    // What the client tells after its begin, and what the server saw after its open.
    async function play(commands, client, seen) {
      server.log.length = 0;
      const { stdout } = await run(program, [`${server.port}`, 'none', ...commands]);
      assert.deepEqual(stdout.trimEnd().split('\n'), [...hello, ...client]);
      const all = [['open', null, 'client', 'localhost'], ...seen];
      await waitFor('the server to see all', () => server.log.length >= all.length);
      // rhea tells an outcome after what came behind it in the same read: outcomes are compared by themselves
      assert.deepEqual(byKind(server.log), byKind(all));
    }

    test('openings without SASL and with ANONYMOUS and PLAIN', async () => {
      const open = async (sasl) => (await run(program, [`${server.port}`, sasl, 'close'])).stdout.trimEnd().split('\n');
      server.log.length = 0;
      const bye = [...hello, 'end', 'close'];
      const plain = name === 'rhea'; // Debian's Proton offers none
      assert.deepEqual(await open('none'), bye);
      assert.deepEqual(await open('anonymous'), ['sasl 0', ...bye]);
      assert.deepEqual(await open('plain:me:secret'), plain ? ['sasl 0', ...bye] : ['failed: the server does not offer our mechanism']);
      if (plain) assert.deepEqual(await open('plain:me:guess'), ['sasl 1']);
      const opens = () => server.log.filter((l) => l[0] === 'open').map((l) => l[1]);
      const want = [null, 'ANONYMOUS', ...(plain ? ['PLAIN'] : [])];
      await waitFor('the opens', () => opens().length >= want.length);
      assert.deepEqual(opens(), want);
    });

    test('messages of one byte, of many frames, of a value, and pre-settled, every section as it was', () =>
      play(['sender:accept', 'data:1', 'data:100000', 'value', 'settled:3', 'detach', 'end', 'close'],
        [...sender('accept'), 'accepted 1', 'accepted 2', 'accepted 3', 'detach accept', 'end', 'close'],
        [['receiver', 'accept'], message('accept', 1, 'data 1'), message('accept', 2, 'data 100000'), message('accept', 3, 'a value'),
          message('accept', 4, 'data 3', true), ['closing link'], ['closing session'], ['closing connection']]));

    for (const [address, told] of [['reject', 'rejected 1 amqp:not-allowed: no thanks'], ['release', 'released 1'], ['modify', 'modified 1']])
      test(`a message to ${address}`, () => play([`sender:${address}`, 'data:1', 'detach', 'end', 'close'],
        [...sender(address), told, `detach ${address}`, 'end', 'close'],
        [['receiver', address], message(address, 1, 'data 1'), ['closing link'], ['closing session'], ['closing connection']]));

    test('messages taken with credit in portions, and the rest of it given back', () =>
      play(['receiver:source', 'credit:2:accepted', 'credit:1:rejected', 'drain:1:modified', 'drain:10:released', 'detach', 'end', 'close'],
        ['attached source source=source target=here', delivery('one', 'data=1'), delivery('two', 'data=100000'), delivery('three', 'value=a value'),
          delivery('four', 'data=1'), delivery('five', 'data=1'), 'drained 0', 'detach source', 'end', 'close'],
        [['sender', 'source'], ['outcome', 'accepted'], ['outcome', 'accepted'], ['outcome', 'rejected', 'amqp:not-allowed', 'not this one'],
          ['outcome', 'modified'], ['outcome', 'released'], ['closing link'], ['closing session'], ['closing connection']]));

    for (const role of ['sender', 'receiver'])
      test(`a refused ${role}`, () => play([`${role}:refused`, 'await:detach', 'end', 'close'],
        ['attached refused source= target=', 'detach refused amqp:not-found: no such thing', 'end', 'close'],
        [[role === 'sender' ? 'receiver' : 'sender', 'refused'], ['closed link'], ['closing session'], ['closing connection']]));

    const why = 'amqp:internal-error: it is over';
    for (const [address, commands, told, seen] of [
      ['detach', ['await:detach', 'end', 'close'], [`detach detach ${why}`, 'end', 'close'], [['closed link'], ['closing session'], ['closing connection']]],
      ['end', ['await:end', 'close'], ['detach end', `end ${why}`, 'close'], [['closed session'], ['closing connection']]],
      ['close', ['await:close'], ['detach close', 'end', `close ${why}`], [['closed connection']]],
    ])
      test(`a server that says ${address} with an error`, () => play([`sender:${address}`, 'data:1', ...commands],
        [...sender(address), 'accepted 1', ...told], [['receiver', address], message(address, 1, 'data 1'), ...seen]));
  });

function hasProton() {
  try {
    execFileSync('/usr/bin/python3', ['-c', 'import proton'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
