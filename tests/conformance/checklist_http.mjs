// What a hub of the Azure kind has to do over HTTPS, by number. A test that proves a line carries "[http N]" in its
// name. `why` says why a line has no test here; `part` what is left out of the test there is.
const jobs = 'jobs, import and export are not served yet';
const configurations = 'configurations are not served yet';
const device = 'the device side over HTTPS is not served yet';
const files = 'file upload is not served yet';
const twins = 'served; the line is still to be shown by a test over HTTPS';
const query = 'queries are not served over HTTPS yet';
const events = 'posting events over HTTPS is not served yet';
const sdk = 'needs the .NET SDK';

const later = (first, why, ...lines) => Object.fromEntries(lines.map((what, i) => [first + i, { what, why }]));

export const httpSections = [
  ['Transport, version, authentication', {
    1: 'no api-version',
    2: 'all known versions',
    3: 'api-version last of several',
    4: 'case of paths and of ids',
    5: 'empty path segments',
    6: { what: 'an id of every allowed character', part: 'no semicolon: an id with one cannot stand in a connection string, so the hub makes none' },
    7: 'a plus in a path',
    8: 'X-HTTP-Method-Override',
    9: 'two requests on one connection, also after a 404',
    10: 'chunked request body',
    11: 'spellings of the resource in a token',
    12: 'order of the fields of a token',
    13: 'empty policy name',
    14: 'raw characters in the signature',
    15: 'expired, wrong signature, unknown policy',
    16: { what: 'ids that begin alike', part: 'with the modules of the device, as events are not served yet' },
    17: 'case of the host, another host',
    18: 'secondary keys',
    19: 'policies',
    20: 'registryReadWrite on a twin',
    21: { what: 'iothubowner on a device endpoint', why: events },
    22: { what: 'disabled device', part: 'on a path of its own modules, as events are not served yet' },
    23: { what: 'device with a certificate', why: events },
    24: 'no credentials at all',
  }],
  ['Error form', {
    25: 'body and header name the same error',
    26: 'missing device, Node SDK',
    27: { what: 'missing device, .NET SDK', why: sdk },
    28: 'method to an offline device',
    29: 'tracking id',
  }],
  ['Devices', {
    30: 'create',
    31: 'create twice',
    32: 'update of a missing device',
    33: 'stale and current etag, all spellings',
    34: 'both wildcards',
    35: 'update without authentication',
    36: 'empty keys',
    37: 'one key, lengths of keys',
    38: 'thumbprints',
    39: { what: 'type comes last', part: 'the order of members, not the .NET SDK' },
    40: 'delete',
    41: 'generation of a device made again',
    42: 'top',
    43: 'length of the status reason',
    44: 'edge device',
    45: 'scope of an edge device',
    46: 'parents of a leaf',
    47: { what: 'SDKs', part: 'the Node.js SDK' },
  }],
  ['Modules, bulk, statistics', {
    48: 'module twice',
    49: 'module of the system',
    50: 'no modules',
    51: 'bulk with one that exists',
    52: 'bulk modes in any case, quoted etags',
    53: 'bulk with one device twice',
    54: 'bulk of 101',
    55: 'statistics',
  }],
  ['Twins', later(56, twins, 'fresh twin', 'merge', 'If-Match', 'replace', 'versions and stamps', 'etags of twin and identity', 'keys',
    'depth and long strings', 'numbers', 'section size', 'a whole twin sent back', 'module twins', 'the connected device is told', 'Java SDK')],
  ['Methods', {
    70: 'online device',
    71: 'offline device',
    72: 'silent device',
    73: 'payloads',
    74: 'time-outs',
    75: 'largest payload',
    76: { what: 'modules', why: 'served; the line is still to be shown by a test over HTTPS' },
  }],
  ['Query', later(77, query, 'item type', 'pages', 'syntax error', 'the queries of the language', 'SDKs')],
  ['Jobs, import, export', later(82, jobs, 'twin job', 'method job', 'ids', 'cancel', 'start time', 'etag of a twin update', 'filter', 'export and import',
    'a bad line', 'one at a time')],
  ['Configurations', later(92, configurations, 'life', 'update', 'two on one device', 'testQueries', 'condition on desired', 'edge content')],
  ['Device side', later(98, device, 'event', 'batch', 'sizes', 'receive', 'lock', 'complete and reject', 'abandon', 'old lock', 'header names', 'SDKs')],
  ['Files and blobs', later(108, files, 'begin', 'complete', 'unknown upload', 'Node SDK', 'other SDKs', 'encoded paths', 'ranges', 'If-None-Match', 'block list',
    'signatures', 'too many uploads')],
];
