/* device/sim/shard.h - a thread of the simulator with its share of the devices: an epoll loop, a heap of
 * deadlines, and a gate that limits how many connections are being opened at once. */
#ifndef ROOST_DEVICE_SIM_SHARD_H
#define ROOST_DEVICE_SIM_SHARD_H

#include "base/op.h"
#include "device/sim/sim_dev.h"

#include <pthread.h>
#include <stdatomic.h>

enum sim_counter {
    SIM_N_SAMPLES, /* telemetry messages written */
    SIM_N_ACKED,
    SIM_N_CONFIRMED, /* updates */
    SIM_N_REVERTED,
    SIM_N_REFUSED,  /* tickets, releases, trust records */
    SIM_N_HOMELESS, /* times a device gave its hub up */
    SIM_N_DROPS,
    SIM_N_BOOTS,
    SIM_N_CRASHES,
    SIM_N_TLS_REFUSED,
    SIM_N_UNREACHABLE,
    SIM_N_CONNECTS,
    SIM_N_RESUMED,
    SIM_COUNTERS
};
extern const char *const sim_counter_names[SIM_COUNTERS];

struct shard {
    pthread_t thread;
    unsigned index;
    const struct sim_options *opt;
    struct tls_client *tls;
    struct mailbox box; /* commands of the main thread */
    int epoll_fd;
    uint8_t *cells; /* all devices' flash, mapped; NULL with --flash-dir */
    size_t cells_len;
    struct sim_dev *devs;
    unsigned dev_nr;
    struct sim_dev **heap;
    size_t heap_nr;
    struct list waiting;
    unsigned dialing, dial_cap;
    unsigned http_nr, http_cap; /* connections kept between exchanges stay below this */
    uint64_t now_ms;
    bool stopping;
    _Atomic uint32_t view[SIM_VIEWS];     /* devices in each; read by anyone */
    _Atomic uint64_t count[SIM_COUNTERS]; /* read by anyone */
    _Atomic uint32_t there;               /* devices where --until wants them */
    uint8_t buf[16384];
};

/* Devices first, first + step, ... below the count. */
MUST_USE enum err shard_new(struct shard **out, const struct sim_options *opt, unsigned index);
MUST_USE enum err shard_start(struct shard *s);
void shard_free(struct shard *s); /* its thread has ended or never began */

/* The main thread's commands: run on the shard's thread, then complete to op.home. */
enum sim_cmd { SIM_CMD_UNPLUG, SIM_CMD_PLUG, SIM_CMD_DROP, SIM_CMD_FAIL_BOOT, SIM_CMD_STATUS, SIM_CMD_STOP };
struct shard_op {
    struct op op; /* first */
    struct shard *shard;
    enum sim_cmd cmd;
    struct sim_dev *dev; /* NULL: the whole shard (status, stop) */
    void *ctx;
    void (*show)(void *ctx, const struct sim_dev *d); /* SIM_CMD_STATUS: for each, on the shard's thread */
};
void shard_post(struct shard_op *op);

/* For sim_dev.c. */
void shard_count(struct shard *s, enum sim_counter c);
void shard_view(struct sim_dev *d, unsigned view);
void shard_arm(struct sim_dev *d, uint64_t at_ms);
bool shard_dial_begin(struct sim_dev *d); /* false: stands in line now, sim_dev_dial follows */
void shard_dial_end(struct shard *s);
void shard_watch(struct sim_dev *d, enum sim_wire wire, const struct tls_conn *c);

#endif
