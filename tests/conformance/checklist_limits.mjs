// Rates, counts and times of the published limits: what a test shows, by line. Rates are off unless configured.
export const limitsSections = [
  ['Rates', {
    1: 'over a rate: 429 ThrottlingException, named in header and body, without Retry-After',
    2: 'each operation has a rate of its own',
    3: 'a bulk request counts its entries',
    4: 'direct methods count by blocks of 4 KiB',
    5: 'a policy has rates of its own below the hub\'s',
    6: 'telemetry over MQTT waits, unread, before anything is refused',
    7: 'who would wait too long is closed',
    8: 'new sessions over the rate: CONNACK 3',
    9: 'twins over MQTT: status 429, error 429001',
    10: 'refused and delayed operations are counted at /metrics',
    11: 'the own interface: 429 throttled with Retry-After',
    12: 'nothing is limited by default',
  }],
  ['Activity', {
    20: 'telemetry moves lastActivityTime',
    21: 'a received and settled command moves lastActivityTime',
    22: 'after a crash: disconnected since the hub started again',
  }],
  ['Counts', {
    30: 'certificate authorities: 25',
    31: 'modules of a device: 50',
    32: 'entries of a bulk request: 100',
    33: 'identities of a listing: 1,000',
    34: 'query text: 8,192 characters',
  }],
];
