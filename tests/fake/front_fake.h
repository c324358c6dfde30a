/* tests/fake/front_fake.h - a hub on the backends of backends_fake.h and connections of conn_fake.h, for the
 * fronts whose connections stay: full disks and fuzz targets. Include it once in a program. */
#ifndef ROOST_TESTS_FAKE_FRONT_FAKE_H
#define ROOST_TESTS_FAKE_FRONT_FAKE_H

#include "tests/fake/backends_fake.h"
#include "tests/fake/conn_fake.h"

#include "base/log.h"
#include "hub/domain/access/access.h"
#include "hub/domain/metrics.h"
#include "port/crypto.h"

static struct hub hub;
static struct hub_metrics metrics;
static struct worker *worker;

static uint64_t fake_wall(void)
{
    return 1795294710000u;
}

/* From the beginning: no failures, no counts. The worker is made once and kept. */
static inline void fake_hub(void)
{
    static const char *const names[] = { "hub.example.net", NULL };
    memset(&fake, 0, sizeof fake);
    memset(&metrics, 0, sizeof metrics);
    hub = (struct hub){ .crypto = &port_crypto, .names = names, .wall_ms = fake_wall, .metrics = &metrics };
    hub.settings = (struct hub_settings){ .c2d_deliveries_max = 10,
                                          .c2d_lock_s = 60,
                                          .sas_skew_s = 300,
                                          .sas_grace_s = 300,
                                          .message_max = 262144,
                                          .methods_in_flight = 4 };
    if (!worker) {
        log_init(LOG_LEVEL_ERROR, stderr);
        assert(worker_new(&worker, 0) == ERR_OK);
    }
    assert(access_new(&hub.access, &port_crypto, 16) == ERR_OK);
}
static inline void fake_hub_end(void)
{
    access_free(hub.access);
}

static inline void fake_turns(int n)
{
    for (int i = 0; i < n; i++) {
        worker_turn(worker, 0);
        fake_turn_end();
    }
}

#endif
