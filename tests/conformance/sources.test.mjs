// The device SDKs for Python and C and the samples of the SDK for embedded C, unmodified, over TCP and WebSocket, with keys
// and certificates, as devices and as modules, across a restart and a kill of the hub. They are in no package of Debian:
// ROOST_SDKS names a directory with checkouts of them, as far as it has them (azure-iot-sdk-python; azure-iot-sdk-c with its
// submodules; azure-sdk-for-c; azure-iot-hub-python, the service SDK); without one its tests are skipped. What else they need
// are packages: python3-paho-mqtt, python3-janus, python3-deprecation, python3-requests-unixsocket, python3-socks; python3-msrest,
// python3-uamqp, python3-azure; libpaho-mqtt-dev; uuid-dev.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { NAME, closeHub, newDevice, openHub, run, start, telemetry, tempDir, waitFor } from './lib/hub.mjs';

const PYTHON = '/usr/bin/python3';
const from = (name) => (process.env.ROOST_SDKS && existsSync(join(process.env.ROOST_SDKS, name)) ? join(process.env.ROOST_SDKS, name) : null);
const peer = (name) => fileURLToPath(new URL(`peers/${name}`, import.meta.url));
const python = from('azure-iot-sdk-python'), c = from('azure-iot-sdk-c'), embedded = from('azure-sdk-for-c'), service = from('azure-iot-hub-python');
const skip = (source) => (source ? false : 'ROOST_SDKS has no checkout of it');
let hub, temp, certificate, mapped;

before(async () => {
  if (!python && !c && !embedded && !service) return;
  hub = await openHub();
  temp = tempDir();
  const [key, crt] = ['key.pem', 'crt.pem'].map((n) => join(temp.dir, n));
  await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', crt, '-days', '2', '-subj', '/CN=sdk']);
  writeFileSync(join(temp.dir, 'both.pem'), readFileSync(crt, 'utf8') + readFileSync(key, 'utf8'));
  certificate = { key, crt, both: join(temp.dir, 'both.pem'), thumbprint: new X509Certificate(readFileSync(crt)).fingerprint.replaceAll(':', '') };
  const layer = join(temp.dir, 'mapped.so');
  await run('cc', ['-O1', '-shared', '-fPIC', peer('mapped.c'), '-o', layer, '-ldl']);
  mapped = { LD_PRELOAD: layer, MAPPED_NAME: NAME, MAPPED_PORTS: `443=${hub.https},8883=${hub.mqtt}` };
});
after(async () => {
  await closeHub(hub);
  temp?.remove();
});

const V = 'api-version=2021-04-12';
const call = (path, body) => hub.request('POST', `/twins/${path}/methods?${V}`, { body: { connectTimeoutInSeconds: 20, ...body } });
const desired = async (path, properties) => assert.equal((await hub.request('PATCH', `/twins/${path}?${V}`, { body: { properties: { desired: properties } } })).status, 200);
let made = 0;
async function newIdentity(kind) {
  if (kind === 'certificate') {
    const id = `certified-${++made}`;
    await hub.api('PUT', `/roost/v1/devices/${id}`, { authentication: 'selfSigned', thumbprint: certificate.thumbprint });
    return { device: id, path: id, at: id };
  }
  const d = await newDevice(hub);
  if (kind === 'device') return { device: d.id, path: d.id, at: d.id, connection: d.connectionString };
  const m = await hub.api('PUT', `/roost/v1/devices/${d.id}/modules/m1`, {});
  return { device: d.id, path: `${d.id}/modules/m1`, at: `${d.id}/modules/m1`, connection: m.connectionString };
}

// A device that says what happens to it, through everything there is, again after each end of the hub.
async function goThrough(t, d, device, { messages = true, ends = [] } = {}) {
  const got = [];
  const p = start(device.file, device.args, { env: device.env, onLine: (l) => got.push(JSON.parse(l)) });
  t.after(() => p.stop('SIGKILL'));
  const next = (what, is) => waitFor(what, () => {
    if (p.exited) throw new Error(p.out);
    const at = got.findIndex(is);
    return at >= 0 && got.splice(at, 1)[0];
  }, { timeout: 90_000 }).catch((e) => { throw new Error(`${e.message}\n${p.out.slice(-2000)}`); });
  const { twin } = await next('its twin', (m) => m.twin);
  assert.deepEqual(Object.keys(twin).sort(), ['desired', 'reported']);
  for (const [nr, end] of [null, ...ends].entries()) {
    if (end) {
      await hub.stop(end);
      await hub.start();
      await next('the connection', (m) => m.connected === true);
    }
    for (const payload of [null, 7, { a: [1, 'ü'] }]) {
      const r = await call(d.path, { methodName: 'ping', payload });
      assert.deepEqual(r.json, { status: 201, payload: { was: payload } }, `${r.body}`);
      assert.equal((await next('the call', (m) => m.method)).method, 'ping');
    }
    await desired(d.path, { nr, gone: null });
    await next('the desired property', (m) => m.patch?.nr === nr || m.twin?.desired.nr === nr); // read again after a reconnect
    if (messages) {
      await hub.api('POST', `/roost/v1/devices/${d.at}/messages`, { body: `message ${nr}`, messageId: `m-${nr}`, properties: { 'a b': 'c/d&=' } });
      assert.deepEqual(await next('the message', (m) => m.c2d), { c2d: `message ${nr}`, id: `m-${nr}`, value: 'c/d&=' });
    }
    got.splice(0);
    assert.equal((await next('the answer to what it reports', (m) => m.reported)).reported, 204);
    assert.equal((await next('the answer to what it sends', (m) => 'sent' in m)).sent, true);
  }
  const [row] = await telemetry(hub, d.device, 1);
  assert.deepEqual([row.properties, row.system['content-type']], [{ 'k 1': 'v/1&=' }, 'application/json']);
  assert.equal(typeof (await hub.request('GET', `/twins/${d.path}?${V}`)).json.properties.reported.n, 'number');
  await p.stop('SIGKILL');
}
const ENDS = ['SIGTERM', 'SIGKILL'];

for (const [way, tag] of [['tcp', '[mqtt 105] [mqtt 108]'], ['ws', '[mqtt 106] [mqtt 108]']])
  test(`${tag} the SDK for Python, ${way}`, { skip: skip(python), timeout: 400_000 }, async (t) => {
    for (const kind of ['device', 'module', 'certificate']) {
      const d = await newIdentity(kind);
      const args = { source: join(python, 'azure-iot-device'), host: NAME, address: hub.address, ports: { 443: hub.https, 8883: hub.mqtt }, ca: hub.caFile, websockets: way === 'ws',
        ...(d.connection ? { connection: d.connection } : { id: d.device, cert: certificate.crt, key: certificate.key }) };
      // It subscribes to no messages of modules but routed inputs.
      await goThrough(t, d, { file: PYTHON, args: [peer('python_device.py'), JSON.stringify(args)] }, { messages: kind !== 'module', ends: kind === 'device' ? ENDS : [] });
    }
  });

// The SDK's own sources of what a device over MQTT needs.
async function buildC(out) {
  const dirs = ['iothub_client/inc', 'iothub_client/inc/internal', 'umqtt/inc', 'c-utility/inc', 'c-utility/pal/linux', 'c-utility/pal/inc', 'c-utility/pal/generic',
    'c-utility/adapters', 'deps/azure-macro-utils-c/inc', 'deps/umock-c/inc', 'deps/parson', 'deps/c-logging/v2/inc'];
  const client = ['iothub', 'iothub_client_authorization', 'iothub_client_core_ll', 'iothub_client_diagnostic', 'iothub_client_ll', 'iothub_client_retry_control',
    'iothub_device_client_ll', 'iothub_module_client_ll', 'iothub_message', 'iothub_transport_ll_private', 'iothubtransport_mqtt_common', 'iothubtransportmqtt',
    'iothubtransportmqtt_websockets', 'version', 'iothub_client_properties'].map((n) => `iothub_client/src/${n}.c`);
  const utility = ['azure_base32', 'azure_base64', 'buffer', 'connection_string_parser', 'consolelogger', 'constbuffer', 'constmap', 'crt_abstractions', 'doublylinkedlist', 'gb_stdio',
    'gb_time', 'hmac', 'hmacsha256', 'http_proxy_io', 'httpheaders', 'map', 'optionhandler', 'sastoken', 'sha1', 'sha224', 'sha384-512', 'singlylinkedlist', 'string_token',
    'string_tokenizer', 'strings', 'urlencode', 'usha', 'utf8_checker', 'uuid', 'uws_client', 'uws_frame_encoder', 'vector', 'ws_url', 'wsio', 'xio', 'xlogging', 'memory_data',
    'dns_resolver_sync'].map((n) => `c-utility/src/${n}.c`);
  const system = ['pal/tlsio_options', 'pal/agenttime', 'adapters/lock_pthreads', 'adapters/platform_linux', 'adapters/socketio_berkeley', 'adapters/threadapi_pthreads',
    'adapters/tickcounter_linux', 'adapters/linux_time', 'adapters/tlsio_openssl', 'adapters/uniqueid_linux', 'adapters/x509_openssl', 'adapters/random_posix'].map((n) => `c-utility/${n}.c`);
  const macros = readdirSync(join(c, 'deps/azure-macro-utils-c/src')).filter((n) => n.endsWith('.c')).map((n) => `deps/azure-macro-utils-c/src/${n}`);
  const all = [...client, ...utility, ...system, ...macros, 'umqtt/src/mqtt_client.c', 'umqtt/src/mqtt_codec.c', 'umqtt/src/mqtt_message.c', 'deps/parson/parson.c'];
  await run('gcc', ['-w', '-O1', '-D_GNU_SOURCE', '-DUSE_OPENSSL', '-DDONT_USE_UPLOADTOBLOB', '-DUSE_MQTT', '-DLINUX', '-DREFCOUNT_ATOMIC_DONTCARE', '-DNO_LOGGING',
    ...dirs.map((d) => `-I${join(c, d)}`), ...all.map((f) => join(c, f)), peer('c_device.c'), '-o', out, '-lssl', '-lcrypto', '-lpthread', '-luuid', '-lm'], { timeout: 300_000 });
}
let built;
for (const [way, tag] of [['tcp', '[mqtt 105]'], ['ws', '[mqtt 106]']])
  test(`${tag} the SDK for C, ${way}`, { skip: skip(c), timeout: 500_000 }, async (t) => {
    const file = join(temp.dir, 'c_device');
    await (built ??= buildC(file));
    for (const kind of ['device', 'module', 'certificate']) {
      const d = await newIdentity(kind);
      // In WebSockets it has no messages of modules ("not implemented").
      const more = kind === 'certificate' ? [certificate.crt, certificate.key] : [];
      await goThrough(t, d, { file, args: [d.connection ?? `HostName=${NAME};DeviceId=${d.device};x509=true`, way, hub.caFile, ...more], env: mapped },
        { messages: kind !== 'module' || way === 'tcp', ends: kind === 'device' ? ENDS : [] });
    }
  });

test('[mqtt 105] the samples of the SDK for embedded C', { skip: skip(embedded), timeout: 300_000 }, async (t) => {
  const list = (dir, but = []) => readdirSync(join(embedded, dir)).filter((n) => n.endsWith('.c') && !but.includes(n)).map((n) => join(embedded, dir, n));
  const common = [...list('sdk/src/azure/core'), ...list('sdk/src/azure/iot'), ...['az_posix.c', 'az_nohttp.c'].map((n) => join(embedded, 'sdk/src/azure/platform', n)),
    join(embedded, 'sdk/samples/iot/iot_sample_common.c')];
  const sample = async (name, env, more = []) => {
    const out = join(temp.dir, name);
    await run('gcc', ['-w', '-O1', ...['sdk/inc', 'sdk/samples/iot', 'sdk/samples/iot/pnp', 'sdk/src/azure/core'].map((d) => `-I${join(embedded, d)}`),
      join(embedded, `sdk/samples/iot/${name}.c`), ...more, ...common, '-o', out, '-lpaho-mqtt3cs', '-lssl', '-lcrypto', '-lpthread', '-lm'], { timeout: 300_000 });
    const p = start('stdbuf', ['-oL', out], { env: { ...mapped, AZ_IOT_HUB_HOSTNAME: NAME, AZ_IOT_DEVICE_X509_TRUST_PEM_FILE_PATH: hub.caFile, ...env } });
    t.after(() => p.stop('SIGKILL'));
    return p;
  };
  const done = async (p) => assert.equal((await p.done).code, 0, p.out);
  const d = await newIdentity('certificate');
  const certified = { AZ_IOT_HUB_DEVICE_ID: d.device, AZ_IOT_DEVICE_X509_CERT_PEM_FILE_PATH: certificate.both };
  await done(await sample('paho_iot_hub_telemetry_sample', certified));
  assert.equal((await telemetry(hub, d.device, 5)).length, 5);
  const s = await newDevice(hub);
  await done(await sample('paho_iot_hub_sas_telemetry_sample', { AZ_IOT_HUB_SAS_DEVICE_ID: s.id, AZ_IOT_HUB_SAS_KEY: s.key, AZ_IOT_SAS_KEY_DURATION_MINUTES: '60' }));
  await telemetry(hub, s.id, 1);
  for (let i = 0; i < 5; i++) await hub.api('POST', `/roost/v1/devices/${d.device}/messages`, { body: `message ${i}`, properties: { a: 'b' } });
  const c2d = await sample('paho_iot_hub_c2d_sample', certified);
  await done(c2d);
  for (let i = 0; i < 5; i++) assert.ok(c2d.out.includes(`Payload: message ${i}`), c2d.out);
  const methods = await sample('paho_iot_hub_methods_sample', certified);
  assert.deepEqual((await call(d.device, { methodName: 'ping', payload: {} })).json, { status: 200, payload: { response: 'pong' } });
  assert.equal((await call(d.device, { methodName: 'other' })).json.status, 404);
  await methods.stop('SIGKILL');
  const twin = await sample('paho_iot_hub_twin_sample', certified);
  const reported = async (name) => (await hub.request('GET', `/twins/${d.device}?${V}`)).json.properties.reported[name];
  await waitFor('what it reports', async () => await reported('device_count') !== undefined);
  await desired(d.device, { device_count: 42 });
  await waitFor('what it was told', async () => await reported('device_count') === 42);
  await twin.stop('SIGKILL');
  const pnp = await sample('paho_iot_pnp_sample', certified, [...list('sdk/samples/iot/pnp'), join(embedded, 'sdk/samples/iot/paho_iot_pnp_sample_common.c')]);
  const report = (await call(d.device, { methodName: 'getMaxMinReport', payload: '2020-01-01T00:00:00Z' })).json;
  assert.equal(report.status, 200);
  assert.equal(typeof report.payload.avgTemp, 'number');
  await desired(d.device, { targetTemperature: 42.5 });
  await waitFor('the acknowledged property', async () => (await reported('targetTemperature'))?.value === 42.5);
  assert.match((await hub.request('GET', `/twins/${d.device}?${V}`)).json.modelId, /^dtmi:/);
  await pnp.stop('SIGKILL');
});

test('[http 47] the service SDK for Python', { skip: skip(service), timeout: 120_000 }, async () => {
  await run(PYTHON, [peer('python_service.py'), JSON.stringify({ source: service, host: NAME, address: hub.address, ports: { 443: hub.https }, connection: hub.connectionString })],
    { env: { REQUESTS_CA_BUNDLE: hub.caFile } });
});
