"""The Azure IoT service SDK for Python on a hub: the registry with its modules and bulk writes, twins, methods, queries.
Its argument is JSON: source (the SDK's checkout), host, address, ports, connection; the authority comes by
REQUESTS_CA_BUNDLE. Ends with 0 when everything was as it should be. Used by sources.test.mjs."""
import base64
import json
import socket
import sys
import types

it = json.loads(sys.argv[1])
look_up = socket.getaddrinfo


def there(host, port, *a, **k):
    if host == it['host']:
        host, port = it['address'], it['ports'].get(str(port), port)
    return look_up(host, port, *a, **k)


socket.getaddrinfo = there
import azure  # noqa: E402  a package of Debian's without a place for others: they are put beside it

azure.__path__ = [*azure.__path__, f"{it['source']}/src/azure"]
iot = types.ModuleType('azure.iot')
iot.__path__ = [f"{it['source']}/src/azure/iot"]
sys.modules['azure.iot'] = azure.iot = iot
from azure.iot.hub import IoTHubRegistryManager  # noqa: E402
from azure.iot.hub.models import CloudToDeviceMethod, ExportImportDevice, QuerySpecification, Twin, TwinProperties  # noqa: E402
from msrest.exceptions import HttpOperationError  # noqa: E402


def refused(status, call, *args):
    try:
        call(*args)
    except HttpOperationError as e:
        assert e.response.status_code == status, f'{e.response.status_code}, not {status}: {e.response.text}'
    else:
        raise AssertionError(f'{call.__name__} was not refused')


m = IoTHubRegistryManager.from_connection_string(it['connection'])
k1, k2 = (base64.b64encode(c * 32).decode() for c in (b'a', b'b'))
d = m.create_device_with_sas('py-1', k1, k2, 'enabled')
assert (d.device_id, d.authentication.symmetric_key.primary_key, d.connection_state) == ('py-1', k1, 'Disconnected')
refused(409, m.create_device_with_sas, 'py-1', k1, k2, 'enabled')
u = m.update_device_with_sas('py-1', d.etag, k2, k1, 'disabled')
assert (u.status, u.authentication.symmetric_key.primary_key) == ('disabled', k2)
refused(412, m.update_device_with_sas, 'py-1', d.etag, k1, k2, 'enabled')
assert m.update_device_with_sas('py-1', u.etag, k1, k2, 'enabled').status == 'enabled'
x = m.create_device_with_x509('py-x', 'A' * 40, 'B' * 64, 'enabled')
assert m.update_device_with_x509('py-x', x.etag, 'C' * 40, 'D' * 64, 'enabled').authentication.x509_thumbprint.primary_thumbprint == 'C' * 40
assert m.create_device_with_certificate_authority('py-ca', 'enabled').authentication.type == 'certificateAuthority'
edge = m.create_device_with_sas('py-edge', k1, k2, 'enabled', True)
assert m.create_device_with_sas('py-leaf', k1, k2, 'enabled', False, None, edge.device_scope).parent_scopes == [edge.device_scope]
mod = m.create_module_with_sas('py-1', 'm1', 'me', k1, k2)
refused(409, m.create_module_with_sas, 'py-1', 'm1', 'me', k1, k2)
assert m.update_module_with_sas('py-1', 'm1', 'you', mod.etag, k2, k1).managed_by == 'you'
assert [one.module_id for one in m.get_modules('py-1')] == ['m1']
assert m.bulk_create_or_update_devices([ExportImportDevice(id=i, import_mode='create', status='enabled') for i in ('py-b1', 'py-b2')]).is_successful
assert len(m.get_devices(3)) == 3
assert m.get_device_registry_statistics().total_device_count >= 7
assert m.get_service_statistics().connected_device_count == 0
t = m.update_twin('py-1', Twin(tags={'a': 1}, properties=TwinProperties(desired={'x': {'y': 1}})), m.get_twin('py-1').etag)
assert (t.tags, t.properties.desired['x']) == ({'a': 1}, {'y': 1})
refused(412, m.update_twin, 'py-1', Twin(tags={'a': 2}), 'AAAAAAAAAAE=')
t = m.replace_twin('py-1', Twin(tags={'b': 1}), t.etag)
assert t.tags == {'b': 1} and 'x' not in t.properties.desired
assert m.update_module_twin('py-1', 'm1', Twin(tags={'q': 1}), m.get_module_twin('py-1', 'm1').etag).tags == {'q': 1}
refused(404, m.get_module_twin, 'py-1', 'nobody')
refused(404, m.invoke_device_method, 'py-1', CloudToDeviceMethod(method_name='m', payload=1, response_timeout_in_seconds=10))
ids, token = [], None
while True:
    page = m.query_iot_hub(QuerySpecification(query="SELECT * FROM devices WHERE STARTSWITH(deviceId, 'py-')"), token, 2)
    ids, token = ids + [one.device_id for one in page.items], page.continuation_token
    if not token:
        break
assert sorted(ids) == ['py-1', 'py-b1', 'py-b2', 'py-ca', 'py-edge', 'py-leaf', 'py-x'], ids
m.delete_module('py-1', 'm1')
refused(404, m.get_module, 'py-1', 'm1')
for i in ids:
    m.delete_device(i)
    refused(404, m.get_device, i)
