/* device/device.h - the device engine: blank -> bootstrap -> check-in -> update -> trial -> confirmed ->
 * connected, and home again when the hub is gone. C99, no heap, no I/O, no clock: the caller (the driver:
 * a chip's main loop, the Linux agent, the simulator) gives all memory, moves the bytes and tells the time.
 *
 * The driver's loop:
 *     roost_dev_tick(d, now)                       timers; cheap, call it whenever something happened
 *     while (roost_dev_exchange(d, &x)) start x    at most one request is open at a time: where one still
 *                                                  is, the engine gave it up; close it, its end is not told
 *     roost_dev_link(d, ...)                       open or close the standing connection as asked
 *     roost_dev_link_take(d, buf, cap)             bytes to send on it
 *     roost_dev_wants_reboot(d)                    then run the boot loader (boot.h) and init again
 *     sleep until roost_dev_deadline(d) or bytes
 *
 * All state that must outlive a power cut is in flash: the boot journal, the slots, and the configuration
 * pair (identity, keys, trust record, sequence numbers). See docs/device.md. */
#ifndef ROOST_DEVICE_DEVICE_H
#define ROOST_DEVICE_DEVICE_H

#include "core/trust/release.h"
#include "core/trust/report.h"
#include "device/boot.h"
#include "port/flash.h"

/* What is compiled or configured in; borrowed for the life of the engine. Nothing here is secret but the
 * fleet token, where one is used. */
struct roost_dev_config {
    struct span bootstrap_url; /* "https://host[:port]": the one address a blank device knows */
    bool has_ca_pin;           /* from the bootstrap string: what the driver's TLS must see */
    uint8_t ca_pin[SHA256_LEN];
    bool has_root_pin; /* from the bootstrap string: the first trust record must match it */
    uint8_t root_pin[SHA256_LEN];
    struct span product; /* <= 24 bytes */
    uint16_t hw_class;
    uint8_t hw_rev;
    struct span proposed_id;                 /* e.g. the MAC; the hub may give another */
    struct span fleet_token;                 /* empty: the open policy, which waits for approval */
    struct span client_info;                 /* DeviceClientType of the MQTT user name */
    uint32_t telemetry_every_ms;             /* 0: only what the application hands in */
    uint32_t checkin_every_ms;               /* re-check period, +-20 % jitter; default 6 h when 0 */
    uint32_t backoff_min_ms, backoff_max_ms; /* default 1 s, 5 min when 0; full jitter */
    bool keep_link;                          /* room for two connections: stay connected while updating */
    bool confirm_app;      /* a trial is confirmed only after roost_dev_app_health(true), whatever it asks */
    bool accept_package;   /* a component of type package is an application too: this driver unpacks it */
    bool allow_plain_http; /* chunks are authenticated: plain HTTP is allowed for artifacts */
};

/* Buffers; sizes in bytes. chunk >= 4096 (one chunk); page >= 1024 (one hash page) + root list;
 * packet >= 1024: requests, answers, MQTT. */
struct roost_dev_mem {
    uint8_t *chunk, *page, *packet;
    size_t chunk_cap, page_cap, packet_cap;
};

enum roost_dev_event {
    ROOST_DEV_EV_PHASE,    /* arg: enum roost_dev_phase */
    ROOST_DEV_EV_PROGRESS, /* arg: bytes of the payload verified and in flash */
    ROOST_DEV_EV_REFUSED,  /* arg: enum reason: a ticket, release or trust record was refused */
    ROOST_DEV_EV_STAGED,
    ROOST_DEV_EV_CONFIRMED,
    ROOST_DEV_EV_REVERTED, /* arg: enum reason */
    ROOST_DEV_EV_HOMELESS, /* arg: failures in a row; the device bootstraps again */
    ROOST_DEV_EV_SENT,     /* arg: telemetry messages acknowledged so far */
};

/* What the driver lends besides flash. */
struct roost_dev_port {
    const struct crypto_ops *crypto;
    void *ctx;
    /* Writes the telemetry body (JSON) of this moment; returns false when there is none. */
    bool (*sample)(void *ctx, struct wr *body);
    /* A cloud-to-device message that is not the update command. May be NULL. */
    void (*on_message)(void *ctx, struct span props, struct span body);
    /* Something a person may want to see; may be NULL. */
    void (*on_event)(void *ctx, enum roost_dev_event ev, uint32_t arg);
    /* Chip facts for the report: heap, battery, rssi, reset cause; fills what it knows. May be NULL. */
    void (*facts)(void *ctx, struct report *r);
};

enum roost_dev_phase { /* what the engine is at; see docs/device.md for the diagram */
                       ROOST_DEV_BOOTSTRAP,
                       ROOST_DEV_PENDING,
                       ROOST_DEV_CHECKIN,
                       ROOST_DEV_UPDATE,
                       ROOST_DEV_ONLINE,
                       ROOST_DEV_BACKOFF,
                       ROOST_DEV_REBOOTING,
                       ROOST_DEV_PHASES
};

enum roost_dev_method { ROOST_DEV_GET, ROOST_DEV_POST };
struct roost_dev_exchange { /* one request; spans stay until the exchange ends or another one is given */
    uint32_t id;
    uint8_t method;
    struct span url;          /* absolute: https, http, ftp or ftps */
    struct span content_type; /* POST */
    struct span body;
    struct span authorization; /* value of the Authorization field, or empty */
    struct span signature;     /* value of the Roost-Signature field, or empty */
    bool ranged;               /* GET: only bytes offset .. offset + len - 1 */
    uint32_t offset, len;
    const uint8_t *ca_pin; /* 32 bytes: some certificate of the chain must have it; NULL: system trust */
};
enum roost_dev_result {
    ROOST_DEV_DONE,
    ROOST_DEV_UNREACHABLE, /* no name, no route, or an established connection broke */
    ROOST_DEV_TLS_REFUSED, /* somebody answered, but it is not our hub */
    ROOST_DEV_TIMED_OUT,
    ROOST_DEV_REFUSED /* the host answered that nobody listens: the network works, the hub is down */
};

struct roost_dev_link { /* the standing connection: MQTT over TLS */
    struct span host;
    uint16_t port;
    const uint8_t *ca_pin;
};

struct roost_dev; /* defined in device/dev.h: the driver only needs its size to place it */

/* flash, config, mem, port are borrowed for the engine's life. `boot` is what the loader decided.
 * Reads the configuration pair. now_ms is monotonic from here on; wall_s may be 0 (unknown).
 *   ERR_LIMIT  a buffer or string is outside its bounds; ERR_IO flash */
MUST_USE enum err roost_dev_init(struct roost_dev *d, const struct roost_dev_config *cfg, struct flash *flash,
                                 const struct roost_dev_mem *mem, const struct roost_dev_port *port,
                                 const struct boot_result *boot, uint64_t now_ms, uint32_t wall_s);

void roost_dev_tick(struct roost_dev *d, uint64_t now_ms);
/* The driver learned the time (an HTTP Date field, a clock that was set). */
void roost_dev_wall(struct roost_dev *d, uint32_t wall_s, uint64_t now_ms);
uint64_t roost_dev_deadline(const struct roost_dev *d); /* next time tick has something to do */

/* True: start this request now (each is returned once). */
bool roost_dev_exchange(struct roost_dev *d, struct roost_dev_exchange *out);
/* Its answer: once the status, any number of body pieces, once the end. retry_after_s: 0 if absent. */
void roost_dev_exchange_status(struct roost_dev *d, uint32_t id, unsigned status, uint32_t retry_after_s);
void roost_dev_exchange_body(struct roost_dev *d, uint32_t id, struct span piece);
void roost_dev_exchange_end(struct roost_dev *d, uint32_t id, enum roost_dev_result result, uint64_t now_ms);

/* True: a link is wanted, to *out. False: close it if one is open (first send what is still in hand) and say
 * so with roost_dev_link_closed: exchanges may wait for it. Ask after every tick and every link_take. */
bool roost_dev_link(struct roost_dev *d, struct roost_dev_link *out);
void roost_dev_link_opened(struct roost_dev *d, uint64_t now_ms);
void roost_dev_link_bytes(struct roost_dev *d, struct span in, uint64_t now_ms);
void roost_dev_link_closed(struct roost_dev *d, enum roost_dev_result result, uint64_t now_ms);
size_t roost_dev_link_take(struct roost_dev *d, uint8_t *buf, size_t cap); /* bytes to send */

/* The application: its telemetry (ERR_AGAIN: not connected or one is still unacknowledged), and, while on
 * trial, whether it is well. A trial is confirmed only after well = true (when the manifest asks for it). */
MUST_USE enum err roost_dev_publish(struct roost_dev *d, struct span props, struct span body);
void roost_dev_app_health(struct roost_dev *d, bool well);

bool roost_dev_wants_reboot(const struct roost_dev *d);
enum roost_dev_phase roost_dev_phase(const struct roost_dev *d);
/* Facts for a status page; spans live until the next call into the engine. */
struct span roost_dev_id(const struct roost_dev *d); /* empty while blank */
void roost_dev_report(const struct roost_dev *d, struct report *out);

#endif
