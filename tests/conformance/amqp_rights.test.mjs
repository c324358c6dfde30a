// Every address of AMQP, in the direction it has, asked by every policy, by a device, by a module, by another device
// and by nobody: who gets the link, who is told that it may not.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { NAME, closeHub, newDevice, openHub, policyKey, sasToken } from './lib/hub.mjs';
import { cbs, deviceToken, dial, useHub } from './lib/amqp.mjs';

let hub;
before(async () => {
  hub = await openHub();
  useHub(hub);
});
after(async () => { await closeHub(hub); });

// 'yes', or the condition with which the link was refused.
function attach(c, way, address) {
  const properties = { 'com.microsoft:channel-correlation-id': `pair:${address}` };
  const link = way === 'send' ? c.open_sender({ target: address, properties }) : c.open_receiver({ source: address, properties, credit_window: 0 });
  return new Promise((done) => {
    const kind = way === 'send' ? 'sender' : 'receiver';
    link.once(`${kind}_error`, () => done(link.error.condition));
    link.once(`${kind}_open`, () => {
      const there = way === 'send' ? link.remote.attach.target : link.remote.attach.source;
      if (there?.address) done('yes');
    });
  }).finally(() => link.close());
}

const RIGHTS = { iothubowner: 'RWSD', service: 'S', device: 'D', registryRead: 'R', registryReadWrite: 'RW' };

test('[amqp 35] [amqp 36] [amqp 89] every address, asked by every right', { timeout: 120_000 }, async () => {
  const d = await newDevice(hub, 'asked'), other = await newDevice(hub, 'other');
  const m = await hub.api('PUT', '/roost/v1/devices/asked/modules/m1', {});
  const OF_DEVICE = 'D device', OF_MODULE = 'D module';
  const addresses = [
    ['send', '/devices/asked/messages/events', OF_DEVICE], ['receive', '/devices/asked/messages/devicebound', OF_DEVICE],
    ['send', '/devices/asked/twin', OF_DEVICE], ['receive', '/devices/asked/twin', OF_DEVICE],
    ['send', '/devices/asked/methods/devicebound', OF_DEVICE], ['receive', '/devices/asked/methods/devicebound', OF_DEVICE],
    ['send', '/devices/asked/modules/m1/messages/events', OF_MODULE], ['receive', '/devices/asked/modules/m1/messages/events', OF_MODULE],
    ['receive', '/devices/asked/modules/m1/messages/devicebound', OF_MODULE], ['send', '/devices/asked/modules/m1/twin', OF_MODULE],
    ['receive', '/devices/asked/modules/m1/methods/devicebound', OF_MODULE],
    ['send', '/messages/devicebound', 'S'], ['receive', '/messages/servicebound/feedback', 'S'], ['receive', '/messages/servicebound/filenotifications', 'S'],
    ['send', '$management', 'S'], ['receive', '$management', 'S'], ['receive', 'hub/ConsumerGroups/$Default/Partitions/0', 'S'],
    ['receive', '/messages/events', 'S'],
  ];
  const who = [
    ...Object.entries(RIGHTS).map(([name, rights]) => [name, rights, NAME, sasToken(NAME, policyKey(hub, name), name)]),
    ['its device', 'device', `${NAME}/devices/asked`, deviceToken(d)],
    ['its module', 'module', `${NAME}/devices/asked/modules/m1`, sasToken(`${NAME}/devices/asked/modules/m1`, m.primaryKey)],
    ['another device', '', `${NAME}/devices/other`, deviceToken(other)],
    ['nobody', ''],
  ];
  for (const [name, rights, resource, token] of who) {
    const c = await dial();
    if (token) assert.equal((await (await cbs(c)).put(resource, token)).code, 200, name);
    for (const [way, address, needs] of addresses) {
      const may = needs.split(' ').some((need) => (need.length === 1 ? rights.length <= 4 && rights.includes(need) : rights === need));
      assert.equal(await attach(c, way, address), may ? 'yes' : 'amqp:unauthorized-access', `${name} ${way} ${address}`);
    }
    c.close();
  }
});
