/* hub/domain/method/method.h - direct methods: a service calls, a connected device answers, within a time.
 * Nothing is queued and nothing is stored: a call reaches the device at most once.
 *
 * The caller's side is struct method_call, all of it on one worker. The device's side is whoever gets a bus
 * message of kind BUS_METHOD: it reads it with method_request_parse and answers it with method_answer_encode,
 * or with an error: ERR_CLOSED (the connection went away), ERR_LIMIT (too many calls under way), ERR_PROTO
 * (the answer is longer than METHOD_PAYLOAD_MAX). It calls bus_announce when it begins to take calls. */
#ifndef ROOST_HUB_DOMAIN_METHOD_METHOD_H
#define ROOST_HUB_DOMAIN_METHOD_METHOD_H

#include "base/arena.h"
#include "hub/domain/hub.h"

#define METHOD_NAME_MAX           128u
#define METHOD_PAYLOAD_MAX        131072u /* bytes, each way */
#define METHOD_RESPONSE_MIN_S     5u
#define METHOD_RESPONSE_MAX_S     300u
#define METHOD_RESPONSE_DEFAULT_S 30u
#define METHOD_CONNECT_MAX_S      300u
#define METHOD_IN_FLIGHT_DEFAULT  32u
#define METHOD_ANSWER_HEAD        4u

/* 1..METHOD_NAME_MAX printable ASCII characters; none of $ ( ) < > @ , ; : \ " / [ ] ? = { } and space, which
 * the callers' documentation rules out, none of + #, which no MQTT topic name may have. */
bool method_name_ok(struct span name);

/* ---- calling ----------------------------------------------------------------------------------------- */

enum method_why {
    METHOD_ANSWERED,  /* status and body are the device's */
    METHOD_UNKNOWN,   /* no such device or module */
    METHOD_OFFLINE,   /* not connected, or without a subscription, within connect_ms */
    METHOD_TIMEOUT,   /* no answer within response_ms */
    METHOD_CLOSED,    /* it was delivered, then the connection went away: whether it ran is not known */
    METHOD_BUSY,      /* too many calls to this device are under way */
    METHOD_TOO_LARGE, /* the device's answer */
    METHOD_FAILED     /* err says why: ERR_FULL (the hub's own queues), ERR_STOPPED, ERR_NOMEM, the store's */
};
enum method_timer { METHOD_TIMER_CONNECT, METHOD_TIMER_RESPONSE };

struct method_call {
    /* By the caller; spans live until done(). Times and sizes are within the limits above. */
    struct hub *hub;
    struct mailbox *home; /* of the caller's worker, on which everything runs */
    struct span device, module /* empty: the device itself */, name;
    struct span payload; /* JSON text as the device gets it; empty: null, or nothing (a setting) */
    uint32_t connect_ms, response_ms; /* connect_ms 0: it has to be there now */
    /* Starts one of two timers anew (ms 0: stops it); when it ends, method_on_timer. */
    void (*arm)(struct method_call *m, enum method_timer which, uint32_t ms);
    void (*done)(struct method_call *m); /* once, never inside method_start */
    /* The result, until method_fini. */
    enum method_why why;
    enum err err;
    int32_t status;
    struct span body; /* as the device sent it */

    /* The domain's own. */
    struct bus_call call;
    struct bus_wait wait;
    struct store_op store;
    uint8_t *request; /* owned */
    size_t request_len;
    bool calling, waiting, reading; /* on their way: the memory is lent out */
    bool known, again, connect_over, over;
    uint16_t identity_len;
    uint8_t identity[2 * DEVICE_ID_MAX + 1];
};
/* The rest of *m is zero. */
void method_start(struct method_call *m);
void method_on_timer(struct method_call *m, enum method_timer which);
void method_fini(struct method_call *m); /* in or after done() */

/* ---- answering --------------------------------------------------------------------------------------- */

struct method_request { /* spans into the message */
    struct span name, payload;
    uint32_t response_ms; /* afterwards nobody waits for the answer */
};
MUST_USE enum err method_request_parse(struct span message, struct method_request *out); /* ERR_PROTO */
/* The message of the answer is METHOD_ANSWER_HEAD bytes, and the body behind them. */
void method_answer_encode(struct wr *w, int32_t status, struct span body);

/* ---- payloads as JSON text --------------------------------------------------------------------------- */

/* What a device answered, as one JSON value whatever it is: JSON as it stands, nothing as null, other text as
 * a string, other bytes as a string in base64. Into the arena where it is not the body itself. */
struct span method_body_json(struct arena *a, struct span body);
bool method_is_json(struct span text); /* one JSON value */
/* The text of a member of a JSON object, as it stands there. `object` is known to be JSON. False: none of
 * that name, spelled without escapes. */
bool method_member_text(struct span object, const char *name, struct span *out);
/* The body of a call, any bytes, as a JSON library may read it: with null in the place of its member
 * "payload", when that is JSON. A payload has numbers of any length, and strings with \u0000. */
struct span method_call_json(struct arena *a, struct span body);

#endif
