// The sample messages and route conditions of the vectors (tests/vectors/query-*.json) by a whole hub: asked about each, and
// sent by devices and a module through routes of every condition at once.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Hub, root, run, sasToken, waitFor } from '../lib/roost.mjs';

const vectors = (name) => JSON.parse(readFileSync(join(root, 'tests/vectors', name), 'utf8'));
const { devices, modules, messages } = vectors('query-fleet.json');
const routes = vectors('query-routes.json');
const good = routes.filter((r) => r.expect.match), refusedOnes = routes.filter((r) => r.expect.error);
const NAME = 'samplehub.localhost';

let hub;
const api = (method, path, body) => hub.api(method, `/roost/v1/${path}`, body);
before(async () => {
  hub = await Hub.create({ name: NAME });
  appendFileSync(join(hub.dir, 'roost.yaml'), '\nrouting:\n  endpoints: 31\n');
  await hub.start();
});
after(async () => { await hub?.remove(); });

const twinOf = (m) => {
  const s = m.systemProperties;
  const of = s.connectionModuleId ? modules.find((t) => t.deviceId === s.connectionDeviceId && t.moduleId === s.connectionModuleId)
    : devices.find((t) => t.deviceId === s.connectionDeviceId);
  return { tags: of.tags, properties: of.properties };
};

test('there are 32 of them', () => assert.deepEqual([good.length, refusedOnes.length], [30, 2]));

test('each condition over each message, as the hub is asked', async () => {
  const wrong = [];
  for (const r of good)
    for (const m of messages) {
      const message = { systemProperties: m.systemProperties, properties: m.appProperties, ...(m.body ? { body: m.body } : { bodyText: m.bodyText }) };
      const { matches } = await api('POST', 'routes/test', { condition: r.condition, source: m.source, message, twin: twinOf(m) });
      if (matches !== r.expect.match.includes(m.id)) wrong.push(`${r.id} ${m.id}: ${matches}`);
    }
  assert.deepEqual(wrong, []);
});

test('what is refused, is when it is saved', async () => {
  for (const r of refusedOnes) {
    const answer = await hub.request('PUT', `/roost/v1/routes/${r.id}`, { body: { condition: r.condition, endpoints: ['events'] } });
    assert.deepEqual([answer.status, answer.json.error.code], [r.expect.error, 'bad-definition'], r.id);
    assert.match(answer.json.error.message, /line 1, column \d+/);
  }
  assert.deepEqual((await api('GET', 'routes')).routes, []);
});

const V = 'api-version=2021-04-12';
const plain = (o) => Object.fromEntries(Object.entries(o).filter(([k]) => !k.startsWith('$')));
async function publish(id, key, topic, payload, more = '') {
  await run('mosquitto_pub', ['-h', hub.address, '-p', `${hub.mqtt}`, '--cafile', hub.caFile, '--insecure', '-V', 'mqttv311', '-i', id, '-u', `${NAME}/${id}/?${V}${more}`,
    '-P', sasToken(`${NAME}/devices/${id}`, key), '-q', '1', '-t', topic, '-m', payload]);
}

test('the messages themselves, through a route of every condition', { timeout: 120_000 }, async () => {
  const keys = {};
  for (const t of devices.filter((d) => ['sensor-001', 'sensor-002', 'gw-01'].includes(d.deviceId))) {
    await api('PUT', `devices/${t.deviceId}`, {});
    keys[t.deviceId] = (await api('GET', `devices/${t.deviceId}`)).primaryKey;
    await api('PATCH', `devices/${t.deviceId}/twin`, { tags: t.tags, desired: plain(t.properties.desired) });
    const { $version, ...reported } = t.properties.reported;
    if (Object.keys(reported).length) {
      await publish(t.deviceId, keys[t.deviceId], '$iothub/twin/PATCH/properties/reported/?$rid=1', JSON.stringify(reported));
      await waitFor('the reported properties', async () => (await hub.request('GET', `/twins/${t.deviceId}?${V}`)).json.properties.reported.battery === reported.battery);
    }
  }
  const filter = modules.find((m) => m.moduleId === 'filter');
  const made = await hub.request('PUT', `/devices/gw-01/modules/filter?${V}`, { body: { deviceId: 'gw-01', moduleId: 'filter' } });
  assert.equal(made.status, 200);
  assert.equal((await hub.request('PATCH', `/twins/gw-01/modules/filter?${V}`, { body: { tags: filter.tags } })).status, 200);
  for (const r of good) {
    await api('PUT', `endpoints/${r.id}`, { kind: 'stream' });
    for (const source of ['DeviceMessages', 'TwinChangeEvents'])
      await api('PUT', `routes/${r.id}-${source}`, { source, condition: r.condition, endpoints: [r.id] });
  }
  const [m1, m2, m3, m4] = messages;
  const bag = (o) => Object.entries(o).map(([k, v]) => `${encodeURIComponent(k).replace('%24', '$')}=${encodeURIComponent(v)}`).join('&');
  await publish('sensor-001', keys['sensor-001'],
    `devices/sensor-001/messages/events/${bag({ '$.ct': 'application/json', '$.ce': 'utf-8', '$.mid': 'a-1', '$.sub': 'thermostat1', ...m1.appProperties })}`, JSON.stringify(m1.body),
    `&model-id=${encodeURIComponent(m1.systemProperties['dt-dataschema'])}`);
  await publish('sensor-002', keys['sensor-002'], `devices/sensor-002/messages/events/${bag(m2.appProperties)}`, m2.bodyText);
  const headers = { 'iothub-contenttype': 'application/json', 'iothub-contentencoding': 'UTF-8' };
  for (const [k, v] of Object.entries(m3.appProperties)) headers[`iothub-app-${k}`] = v;
  const sent = await hub.request('POST', `/devices/gw-01/modules/filter/messages/events?${V}`,
    { token: sasToken(`${NAME}/devices/gw-01/modules/filter`, made.json.authentication.symmetricKey.primaryKey), body: JSON.stringify(m3.body), headers });
  assert.equal(sent.status, 204, `${sent.body}`);
  await api('PATCH', 'devices/sensor-001/twin', { desired: plain(m4.body.properties.desired) });

  const idOf = (row) => (row.system['iothub-message-source'] === 'twinChangeEvents' ? 'm4' : { 'sensor-001': 'm1', 'sensor-002': 'm2', 'gw-01': 'm3' }[row.device]);
  const got = async (name) => {
    const r = await hub.request('GET', `/roost/v1/telemetry?from=earliest&follow=false&stream=${name}`);
    return r.body.toString().split('\n').filter(Boolean).map((l) => idOf(JSON.parse(l))).sort();
  };
  await waitFor('all of them', async () => (await got('R01')).length >= 4);
  await waitFor('the router', async () => { // what is decided is in all its streams
    const all = await Promise.all(good.map((r) => got(r.id)));
    return all.flat().length >= good.flatMap((r) => r.expect.match).length;
  });
  // Their time is now, not that of the vectors.
  for (const r of good) assert.deepEqual(await got(r.id), r.id === 'R23' ? ['m1', 'm2', 'm3', 'm4'] : r.expect.match, `${r.id}: ${r.condition}`);
});
