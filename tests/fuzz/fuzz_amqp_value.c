/* tests/fuzz/fuzz_amqp_value.c - any bytes as AMQP values, frames and messages: each is refused, or read so
 * that writing what was read gives a value that reads the same. */
#include "core/amqp/amqp_frame.h"
#include "core/amqp/amqp_message.h"

#include <stdlib.h>

static uint8_t room[1 << 17];

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void rewrite(const struct amqp_value *v)
{
    struct amqp_value again;
    struct wr w = { room, sizeof room, 0 };
    amqp_put_value(&w, v);
    check(wr_ok(&w) && w.len <= v->raw.n);
    check(amqp_read_one(wr_span(&w), &again) == ERR_OK);
    check(again.type == v->type && again.u == v->u && again.count == v->count &&
          span_eq(again.bytes, v->bytes));
    check(amqp_is_valid(&again) == amqp_is_valid(v));
    (void)amqp_map_get(v, SPAN("k"), &again);
}

static void message(struct span in)
{
    struct amqp_message m;
    struct amqp_value k, v;
    struct span at, data;
    uint32_t nr = 0;
    if (amqp_message_decode(in, &m))
        return;
    for (at = m.sections; amqp_data_next(&at, &data);)
        nr++;
    check(m.body != AMQP_DATA || nr == m.body_sections);
    struct amqp_walk walk = amqp_walk_of(&m.application_properties);
    while (amqp_walk_next(&walk, &k) && amqp_walk_next(&walk, &v)) {
        struct wr w = { room, sizeof room, 0 };
        (void)amqp_scalar_text(&w, &v);
    }
    check(!walk.r.bad);
    struct wr w = { room, sizeof room, 0 };
    amqp_properties_encode(&w, &m.properties);
    amqp_id_text(&w, &m.properties.message_id);
}

/* Decoders of performatives must not mind what they are given. */
static void performative(const struct amqp_frame *f)
{
    struct amqp_open o;
    struct amqp_begin b;
    struct amqp_attach a;
    struct amqp_flow l;
    struct amqp_transfer t;
    struct amqp_disposition d;
    struct amqp_detach x;
    struct amqp_error e;
    struct amqp_sasl_init i;
    uint8_t code;
    struct wr w = { room, sizeof room, 0 };
    if (f->code == AMQP_OPEN && !amqp_open_decode(f, &o))
        amqp_open_encode(&w, &o);
    else if (f->code == AMQP_BEGIN && !amqp_begin_decode(f, &b))
        amqp_begin_encode(&w, &b);
    else if (f->code == AMQP_ATTACH && !amqp_attach_decode(f, &a))
        amqp_attach_encode(&w, &a);
    else if (f->code == AMQP_FLOW && !amqp_flow_decode(f, &l))
        amqp_flow_encode(&w, &l);
    else if (f->code == AMQP_TRANSFER && !amqp_transfer_decode(f, &t))
        amqp_transfer_encode(&w, &t);
    else if (f->code == AMQP_DISPOSITION && !amqp_disposition_decode(f, &d) &&
             d.state.outcome != AMQP_STATE_OTHER)
        amqp_disposition_encode(&w, &d);
    else if (f->code == AMQP_DETACH && !amqp_detach_decode(f, &x))
        amqp_detach_encode(&w, &x);
    else if (f->code == AMQP_CLOSE && !amqp_end_decode(f, &e))
        amqp_end_encode(&w, AMQP_CLOSE, &e);
    else if (f->code == AMQP_SASL_INIT && !amqp_sasl_init_decode(f, &i))
        amqp_sasl_init_encode(&w, &i);
    else if (f->code == AMQP_SASL_OUTCOME)
        (void)amqp_sasl_outcome_decode(f, &code);
    (void)amqp_sasl_mechanisms_has(f, SPAN("PLAIN"));
    if (w.len) { /* what was written reads as the same performative with all its fields */
        struct amqp_value v, descriptor, inner;
        check(wr_ok(&w) && amqp_read_one(wr_span(&w), &v) == ERR_OK &&
              amqp_described(&v, &descriptor, &inner));
        check(descriptor.u == f->code && inner.count >= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd r = rd_of(span_of(data, size));
    struct amqp_value v;
    struct amqp_frame f;
    size_t used;
    if (size > 60000)
        return 0;
    message(span_of(data, size));
    if (!amqp_frame_decode(span_of(data, size), 65536, &f, &used))
        performative(&f);
    while (r.n && !r.bad) {
        amqp_read(&r, &v);
        if (!r.bad)
            rewrite(&v);
    }
    return 0;
}
