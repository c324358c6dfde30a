/* device/sim/sim_dev.h - one simulated device: flash, boot loader, engine, connections, and the mishaps it
 * was dealt. Belongs to one shard (shard.h), whose thread makes every call. */
#ifndef ROOST_DEVICE_SIM_SIM_DEV_H
#define ROOST_DEVICE_SIM_SIM_DEV_H

#include "base/list.h"
#include "device/dev.h"
#include "device/sim/options.h"
#include "device/sim/sim_http.h"
#include "port/flash_file.h"

#define SIM_ID_CAP 128u

enum sim_power { SIM_OFF, SIM_BOOTING, SIM_RUNNING };
enum sim_wire { SIM_WIRE_HTTP, SIM_WIRE_LINK, SIM_WIRES }; /* the sockets a device may have */

/* What the table shows for a device: the engine's phases and two of our own. */
enum sim_view { SIM_VIEW_OFF = ROOST_DEV_PHASES, SIM_VIEW_BOOTING, SIM_VIEWS };
extern const char *const sim_view_names[SIM_VIEWS];

struct shard;
struct sim_dev {
    struct list waiting; /* in line for a free place to dial, HTTP or link */
    struct shard *shard;
    const struct sim_class *cls;
    struct flash *flash; /* of one of the two: */
    struct flash_sim memory;
    struct flash_file file;
    uint32_t *wear; /* owned: erases of each sector */
    struct roost_dev_config cfg;
    struct roost_dev_mem mem; /* owned */
    struct roost_dev_port port;
    struct roost_dev engine;
    struct boot_result boot;
    struct sim_http *http; /* NULL while there is no connection and no exchange */
    struct tls_session *http_session, *link_session;
    struct tls_conn *link; /* NULL: none */
    uint8_t *link_out;     /* owned: what the socket did not take yet */
    size_t link_out_len, link_out_at;
    uint64_t boot_at, crash_at, drop_at, http_idle_at, deadline;
    uint64_t rng;
    size_t heap_at; /* place in the shard's heap, SIZE_MAX: not there */
    uint32_t samples, acked, confirmed, reverted, refused, homeless, drops, boots, crashes;
    uint32_t progress, last_reason;
    uint32_t index;
    uint8_t power, view; /* enum sim_power, enum sim_view or phase */
    uint8_t cause;       /* enum reset_cause of the next boot */
    bool link_open, http_dialing, link_dialing, wants_dial, doomed_next, engine_up;
    uint8_t doomed[8];              /* start of the id of a release that fails to boot */
    uint16_t rejections;            /* of the loader, as far as they are counted */
    uint8_t running[OBJECT_ID_LEN]; /* confirmed release, zeros: blank */
    char version[RELEASE_TEXT_MAX + 1];
    char id[SIM_ID_CAP]; /* proposed */
};

/* cells: zeroed memory for the flash, or NULL with --flash-dir. ERR_NOMEM, or what flash_file_open says. */
MUST_USE enum err sim_dev_init(struct sim_dev *d, struct shard *s, unsigned index, uint8_t *cells,
                               size_t len);
void sim_dev_fini(struct sim_dev *d);

void sim_dev_run(struct sim_dev *d);                       /* its deadline came, or something happened */
void sim_dev_ready(struct sim_dev *d, enum sim_wire wire); /* its socket is ready */
void sim_dev_dial(struct sim_dev *d);                      /* its place in line was reached */
void sim_dev_unplug(struct sim_dev *d);
void sim_dev_plug(struct sim_dev *d);
void sim_dev_drop(struct sim_dev *d);                                  /* its standing connection breaks */
bool sim_dev_is(const struct sim_dev *d, const struct sim_options *o); /* where --until wants it? */
uint32_t sim_dev_erases(const struct sim_dev *d);

#endif
