/* core/amqp/amqp_frame.h - frames and what they carry: protocol headers, SASL frames, the nine performatives,
 * termini, delivery states and errors. One struct, one decode, one encode each. Encoders write the list of
 * fields in full, nulls included: some clients read fields by position without asking how many there are.
 * Pure. Spans point into the input. Source: OASIS AMQP 1.0 part 2 (transport), 3.4 and 3.5 (messaging), 5.3
 * (SASL); sections in [brackets]. */
#ifndef ROOST_CORE_AMQP_AMQP_FRAME_H
#define ROOST_CORE_AMQP_AMQP_FRAME_H

#include "core/amqp/amqp_value.h"

#define AMQP_HEADER_LEN     8u
#define AMQP_FRAME_HEAD_LEN 8u
#define AMQP_FRAME_MIN      512u /* every peer takes frames of this size [2.4.1] */

enum amqp_proto { AMQP_PROTO_AMQP = 0, AMQP_PROTO_TLS = 2, AMQP_PROTO_SASL = 3 };
extern const uint8_t amqp_header_amqp[AMQP_HEADER_LEN], amqp_header_sasl[AMQP_HEADER_LEN];
/* ERR_AGAIN: not whole yet and right so far; ERR_PROTO: not a header of AMQP 1.0 with protocol 0 or 3. */
MUST_USE enum err amqp_header_decode(struct span in, uint8_t *proto);

enum amqp_frame_type { AMQP_FRAME_AMQP = 0, AMQP_FRAME_SASL = 1 };
struct amqp_frame {
    uint8_t type; /* enum amqp_frame_type */
    uint16_t channel;
    uint8_t code;             /* enum amqp_performative, or enum amqp_sasl_code; 0: an empty frame */
    struct amqp_value fields; /* its list */
    struct span payload;      /* what follows the performative */
};
/* Takes the first frame off `in`. On ERR_OK: *out and *used.
 *   ERR_AGAIN  not complete      ERR_LIMIT  larger than frame_max; known from the first four bytes
 *   ERR_PROTO  a size or data offset that cannot be, no performative in front, or one that is unknown */
MUST_USE enum err amqp_frame_decode(struct span in, size_t frame_max, struct amqp_frame *out, size_t *used);
/* Around a frame's body; `at` is what begin returned. */
size_t amqp_frame_begin(struct wr *w, enum amqp_frame_type type, uint16_t channel);
void amqp_frame_end(struct wr *w, size_t at);

enum amqp_performative {
    AMQP_OPEN = 0x10,
    AMQP_BEGIN,
    AMQP_ATTACH,
    AMQP_FLOW,
    AMQP_TRANSFER,
    AMQP_DISPOSITION,
    AMQP_DETACH,
    AMQP_END,
    AMQP_CLOSE
};
enum amqp_sasl_code {
    AMQP_SASL_MECHANISMS = 0x40,
    AMQP_SASL_INIT,
    AMQP_SASL_CHALLENGE,
    AMQP_SASL_RESPONSE,
    AMQP_SASL_OUTCOME
};
/* The number of a descriptor given as number or as symbol; 0: unknown. */
uint64_t amqp_descriptor_code(const struct amqp_value *descriptor);

/* ---- errors, termini, states ------------------------------------------------------------------------ */

struct amqp_error {
    struct span condition; /* empty: no error */
    struct span description;
    struct span info; /* an encoded map; empty: an empty one is written */
};
/* decode functions: false when the list is not what the type demands. */
bool amqp_error_decode(const struct amqp_value *v, struct amqp_error *out); /* null: no error */
void amqp_error_encode(struct wr *w, const struct amqp_error *e);           /* no error: null */

struct amqp_terminus { /* source [3.5.3] or target [3.5.4] */
    bool present, dynamic, coordinator;
    struct span address; /* string or symbol; empty: none */
    struct span filter;  /* source: an encoded map; empty: none */
    struct span raw;     /* the whole encoding, for an echo */
};
bool amqp_terminus_decode(const struct amqp_value *v, struct amqp_terminus *out);
/* raw when it is there, else made of address and filter; not present: null. */
void amqp_source_encode(struct wr *w, const struct amqp_terminus *t);
void amqp_target_encode(struct wr *w, const struct amqp_terminus *t);

enum amqp_outcome { /* [3.4] */
                    AMQP_STATE_NONE = 0,
                    AMQP_RECEIVED = 0x23,
                    AMQP_ACCEPTED,
                    AMQP_REJECTED,
                    AMQP_RELEASED,
                    AMQP_MODIFIED,
                    AMQP_STATE_OTHER = 0xff /* a state of some other specification */
};
struct amqp_state {
    uint8_t outcome;                          /* enum amqp_outcome */
    bool delivery_failed, undeliverable_here; /* modified */
    struct amqp_error error;                  /* rejected */
};
bool amqp_state_decode(const struct amqp_value *v, struct amqp_state *out);
void amqp_state_encode(struct wr *w, const struct amqp_state *s);

/* ---- performatives [2.7] ---------------------------------------------------------------------------- */

#define AMQP_NONE UINT32_MAX /* an optional number that is absent */

struct amqp_open {
    struct span container_id, hostname;
    uint32_t frame_max, idle_ms; /* idle_ms 0: none */
    uint16_t channel_max;
    struct span properties; /* encoded map, or empty */
};
MUST_USE enum err amqp_open_decode(const struct amqp_frame *f, struct amqp_open *out);
void amqp_open_encode(struct wr *w, const struct amqp_open *o);

struct amqp_begin {
    uint32_t remote_channel; /* AMQP_NONE: the peer begins */
    uint32_t next_outgoing_id, incoming_window, outgoing_window, handle_max;
};
MUST_USE enum err amqp_begin_decode(const struct amqp_frame *f, struct amqp_begin *out);
void amqp_begin_encode(struct wr *w, const struct amqp_begin *b);

enum amqp_snd_mode { AMQP_SND_UNSETTLED = 0, AMQP_SND_SETTLED, AMQP_SND_MIXED };
enum amqp_rcv_mode { AMQP_RCV_FIRST = 0, AMQP_RCV_SECOND };
struct amqp_attach {
    struct span name;
    uint32_t handle;
    bool receiver; /* role of who sends the attach */
    uint8_t snd_mode, rcv_mode;
    struct amqp_terminus source, target;
    uint32_t initial_delivery_count;
    uint64_t max_message_size;        /* 0: no limit */
    struct span desired_capabilities; /* encoded symbol or array, or empty */
    struct span properties;           /* encoded map, or empty */
};
MUST_USE enum err amqp_attach_decode(const struct amqp_frame *f, struct amqp_attach *out);
void amqp_attach_encode(struct wr *w, const struct amqp_attach *a);

struct amqp_flow {
    uint32_t next_incoming_id; /* has_next_incoming */
    uint32_t incoming_window, next_outgoing_id, outgoing_window;
    uint32_t handle; /* has_handle */
    uint32_t delivery_count, credit, available;
    bool has_next_incoming, has_handle, has_delivery_count, has_credit, drain, echo;
};
MUST_USE enum err amqp_flow_decode(const struct amqp_frame *f, struct amqp_flow *out);
void amqp_flow_encode(struct wr *w, const struct amqp_flow *l);

struct amqp_transfer {
    uint32_t handle, delivery_id; /* has_delivery_id */
    struct span tag;
    uint32_t format;
    bool has_delivery_id, has_tag, has_settled, settled, more, aborted;
};
MUST_USE enum err amqp_transfer_decode(const struct amqp_frame *f, struct amqp_transfer *out);
void amqp_transfer_encode(struct wr *w, const struct amqp_transfer *t);

struct amqp_disposition {
    bool receiver; /* role of who sends it */
    uint32_t first, last;
    bool settled;
    struct amqp_state state;
};
MUST_USE enum err amqp_disposition_decode(const struct amqp_frame *f, struct amqp_disposition *out);
void amqp_disposition_encode(struct wr *w, const struct amqp_disposition *d);

struct amqp_detach {
    uint32_t handle;
    bool closed;
    struct amqp_error error;
};
MUST_USE enum err amqp_detach_decode(const struct amqp_frame *f, struct amqp_detach *out);
void amqp_detach_encode(struct wr *w, const struct amqp_detach *d);

/* end and close: an error or none. */
MUST_USE enum err amqp_end_decode(const struct amqp_frame *f, struct amqp_error *out);
void amqp_end_encode(struct wr *w, enum amqp_performative end_or_close, const struct amqp_error *e);

/* ---- SASL [5.3] ------------------------------------------------------------------------------------- */

void amqp_sasl_mechanisms_encode(struct wr *w, const char *const *names); /* NULL-terminated */
/* Is `name` among the mechanisms of the frame? */
bool amqp_sasl_mechanisms_has(const struct amqp_frame *f, struct span name);
struct amqp_sasl_init {
    struct span mechanism; /* empty: null */
    struct span response, hostname;
};
MUST_USE enum err amqp_sasl_init_decode(const struct amqp_frame *f, struct amqp_sasl_init *out);
void amqp_sasl_init_encode(struct wr *w, const struct amqp_sasl_init *i);
MUST_USE enum err amqp_sasl_outcome_decode(const struct amqp_frame *f, uint8_t *code);
void amqp_sasl_outcome_encode(struct wr *w, uint8_t code, struct span additional);

#endif
