"""A device on paho-mqtt, used as the Azure device SDK for Python uses it: clean_session False, each feature
subscribed once with QoS 1 and never again, everything published with QoS 1, a read of the twin after every
connect. Its argument is JSON: host, address, port, ca, id, user, password, transport. Says what happens in lines
of JSON; each line that it reads is a message to send: {"topic","payload"}. Used by paho.test.mjs."""
import json
import socket
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt

it = json.loads(sys.argv[1])
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *a, **k: look_up(it['address'] if host == it['host'] else host, *a, **k)
lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


client = mqtt.Client(client_id=it['id'], clean_session=False, protocol=mqtt.MQTTv311, transport=it['transport'])
if it['transport'] == 'websockets':
    client.ws_set_options(path='/$iothub/websocket')
context = ssl.SSLContext(ssl.PROTOCOL_TLSv1_2)
context.check_hostname = True
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(cafile=it['ca'])
client.tls_set_context(context)
client.username_pw_set(it['user'], it['password'])
online, answered, gone = threading.Event(), threading.Event(), threading.Event()
rids = iter(range(1, 1 << 30))


def on_connect(_client, _userdata, flags, rc):
    say(connected=rc, present=flags['session present'])
    online.set()


def on_message(_client, _userdata, m):
    say(topic=m.topic, payload=m.payload.decode(), qos=m.qos, dup=bool(m.dup))
    if m.topic.startswith('$iothub/methods/POST/'):
        rid = m.topic.split('$rid=')[1]
        client.publish(f'$iothub/methods/res/200/?$rid={rid}', json.dumps({'was': m.payload.decode()}), qos=1)


def on_disconnect(_client, _userdata, _rc):
    online.clear()
    gone.set()


def on_publish(_client, _userdata, mid):
    say(published=mid)


client.on_connect, client.on_message, client.on_disconnect = on_connect, on_message, on_disconnect
client.on_subscribe = lambda *_: answered.set()
client.on_publish = on_publish


def connect():
    while True:
        try:
            client.connect(it['host'], it['port'], keepalive=60)
            client.loop_start()
            if online.wait(10):
                return
        except OSError:
            time.sleep(0.2)


def read_twin():
    client.publish(f'$iothub/twin/GET/?$rid={next(rids)}', ' ', qos=1)


def listen():
    for line in sys.stdin:
        m = json.loads(line)
        client.publish(m['topic'], m['payload'], qos=1)


connect()
for topic in (f"devices/{it['id']}/messages/devicebound/#", '$iothub/methods/POST/#', '$iothub/twin/res/#',
              '$iothub/twin/PATCH/properties/desired/#'):
    answered.clear()
    client.subscribe(topic, qos=1)
    if not answered.wait(10):
        sys.exit(f'no SUBACK for {topic}')
read_twin()
say(ready=True)
threading.Thread(target=listen, daemon=True).start()
while True:
    gone.wait()
    gone.clear()
    client.loop_stop()
    connect()
    read_twin()
