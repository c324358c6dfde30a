"""A device or module on the Azure IoT device SDK for Python, as c_device.c is one on that for C. Its argument is JSON:
source (the SDK's checkout), host, address, ports, ca, connection or id with cert and key, websockets. Used by
sources.test.mjs."""
import json
import socket
import sys
import threading
import time

it = json.loads(sys.argv[1])
look_up = socket.getaddrinfo


def there(host, port, *a, **k):
    if host == it['host']:
        host, port = it['address'], it['ports'].get(str(port), port)
    return look_up(host, port, *a, **k)


socket.getaddrinfo = there
sys.path.insert(0, it['source'])
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509  # noqa: E402

lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


more = {'server_verification_cert': open(it['ca']).read(), 'websockets': it['websockets']}
if 'connection' not in it:
    client = IoTHubDeviceClient.create_from_x509_certificate(X509(it['cert'], it['key']), it['host'], it['id'], **more)
elif 'ModuleId=' in it['connection']:
    client = IoTHubModuleClient.create_from_connection_string(it['connection'], **more)
else:
    client = IoTHubDeviceClient.create_from_connection_string(it['connection'], **more)


def on_method(r):
    say(method=r.name, payload=r.payload)
    client.send_method_response(MethodResponse.create_from_method_request(r, 201, {'was': r.payload}))


client.on_connection_state_change = lambda: say(connected=client.connected)
client.on_method_request_received = on_method
client.on_twin_desired_properties_patch_received = lambda patch: say(patch=patch)
client.on_message_received = lambda m: say(c2d=m.data.decode(), id=m.message_id, value=m.custom_properties.get('a b', ''))
client.connect()
n = 0
while True:
    try:
        if n == 0:
            say(twin=client.get_twin())
        client.patch_twin_reported_properties({'n': n})
        say(reported=204)
        m = Message(json.dumps({'n': n}))
        m.content_type, m.custom_properties['k 1'] = 'application/json', 'v/1&='
        client.send_message(m)
        say(sent=True)
        n += 1
    except Exception as e:  # the hub is gone for a moment
        print(repr(e), file=sys.stderr)
    time.sleep(1)
