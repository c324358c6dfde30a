/* device/dev.h - the engine's memory, so that a driver can place it. Its members are the engine's own: use
 * device/device.h. Sizes are in docs/device.md and held by a test. C99. */
#ifndef ROOST_DEVICE_DEV_H
#define ROOST_DEVICE_DEV_H

#include "core/mqtt/mqtt_client.h"
#include "core/trust/chunk_tree.h"
#include "device/answer.h"
#include "device/config.h"
#include "device/device.h"

#define DEV_REQUEST_MAX 1536u /* URL, authorization, signature and body of a request together */
#define DEV_BASE_MAX    160u  /* a base URL of a ticket */
#define DEV_ACK_MAX     8u    /* C2D messages received and not yet acknowledged */

enum dev_exchange_kind { EX_NONE, EX_BOOTSTRAP, EX_CHECKIN, EX_REPORT, EX_ROOTS, EX_PAGE, EX_CHUNKS };
enum dev_exchange_state { EX_IDLE, EX_READY, EX_OPEN };

struct dev_exchange {
    struct roost_dev_exchange x; /* as the driver gets it; its spans point into request */
    uint8_t kind, state;
    bool answered; /* the status is there */
    bool spoilt;   /* the rest of the body is not worth looking at */
    unsigned status;
    uint32_t retry_after_s;
    uint32_t got; /* bytes of the answer in its buffer, or at which the body stands */
    uint64_t deadline_ms;
    uint8_t pin[SHA256_LEN];
    uint8_t request[DEV_REQUEST_MAX];
    struct wr w; /* over request */
};

struct dev_bundle {   /* a check-in's answer, gathered in mem->chunk */
    uint32_t len;     /* bytes there */
    uint32_t at;      /* where the next object begins */
    uint32_t release; /* bytes of the release manifest at the front, 0: none */
    uint32_t ticket;  /* where the ticket begins */
    bool has_ticket;
    bool trust_changed;
    uint16_t reason; /* enum reason: why the rest was not looked at */
};

enum dev_update_step { UPDATE_OFF, UPDATE_ROOTS, UPDATE_PAGE, UPDATE_CHUNKS, UPDATE_REPORT, UPDATE_WAIT };

struct dev_update {
    uint8_t step; /* enum dev_update_step */
    uint8_t slot, tries, hash_tries, write_tries;
    uint8_t url_nr, url_at, chunk_code;
    bool stage_only;
    bool is_wrong;             /* the exchange brought a chunk that is not the manifest's */
    struct slot_header header; /* what will be programmed last */
    uint8_t tree_root[SHA256_LEN];
    struct chunk_shape shape;
    uint32_t page, chunk;         /* next to look at */
    uint32_t fill;                /* bytes of `chunk` in mem->chunk */
    uint32_t erased, erased_end;  /* flash addresses erased in this session and not yet programmed */
    uint64_t window_ms, until_ms; /* activation not before, not after */
    uint8_t url_len[TICKET_URL_MAX];
    uint8_t url[TICKET_URL_MAX][DEV_BASE_MAX];
};

enum dev_link_state { LINK_OFF, LINK_WANTED, LINK_CONNECTING, LINK_UP, LINK_CLOSING, LINK_DROP };

struct dev_link {
    struct mqtt_client mqtt;
    uint8_t state;                          /* enum dev_link_state */
    bool connect_due, subscribe_due, again; /* again: reconnect at once when closed */
    bool retry_is_dup;
    bool told; /* what roost_dev_link answered last */
    uint8_t ack_nr;
    uint16_t ack[DEV_ACK_MAX];
    uint16_t publish_id; /* in flight; 0: none */
    uint16_t props_len;  /* of the message in the upper half of mem->packet */
    uint32_t body_len;   /* with has_message */
    bool has_message;
    uint32_t rx_len;  /* in the lower half of mem->packet */
    uint32_t sent_nr; /* acknowledged telemetry */
    uint64_t renew_ms, telemetry_ms, drop_ms;
    uint8_t pin[SHA256_LEN];
};

struct roost_dev {
    const struct roost_dev_config *cfg;
    struct flash *flash;
    const struct roost_dev_mem *mem;
    const struct roost_dev_port *port;
    struct boot_result boot;
    struct config conf;
    struct config_pos conf_pos;

    uint64_t now_ms, second_ms; /* second_ms: when up_s last moved */
    uint64_t start_ms;
    uint32_t up_s, wall_off; /* wall clock = up_s + wall_off while wall_known */
    bool wall_known;

    uint8_t phase, after;   /* enum roost_dev_phase; after: what follows BACKOFF */
    uint64_t next_ms;       /* the phase has something to do then */
    uint64_t checkin_ms;    /* next regular check-in */
    uint16_t failures;      /* in a row, of whatever leads home */
    uint16_t boot_failures; /* of bootstrap */
    uint8_t home_at; /* which bootstrap address is next: 0 the configured one, then the trust record's */
    bool checkin_due, reboot, without_token;

    bool trial, trial_net, trial_hub, trial_refused, app_well, app_ill;
    uint16_t probation_s, confirm_checks;
    uint64_t trial_until_ms;

    uint32_t boot_id, report_seq, report_left;
    uint8_t nonce[8];
    bool nonce_live;
    uint16_t refused, told_refused; /* enum reason of the last refusal; the one the hub knows */
    uint8_t refused_digest[8];

    struct dev_exchange ex;
    union {
        struct dev_bundle bundle;
        struct answer answer;
    } in;
    struct dev_update up;
    struct dev_link link;
};

#endif
