/* core/amqp/amqp_performative.c - the nine performatives [2.7], each field by field in the order of the
 * standard. Encoders write every field. */
#include "core/amqp/amqp_fields.h"
#include "core/amqp/amqp_frame.h"

static void put_uint_or_null(struct wr *w, uint32_t v, bool has)
{
    if (has)
        amqp_put_uint(w, v);
    else
        amqp_put_null(w);
}
static void put_text_or_null(struct wr *w, struct span s)
{
    if (s.n)
        amqp_put_string(w, s);
    else
        amqp_put_null(w);
}
static void put_raw_or_null(struct wr *w, struct span raw)
{
    if (raw.n)
        wr_put(w, raw);
    else
        amqp_put_null(w);
}
static void put_nulls(struct wr *w, unsigned nr)
{
    while (nr--)
        amqp_put_null(w);
}
static uint32_t u32(struct fields *f, uint32_t absent)
{
    return (uint32_t)amqp_field_u(f, UINT32_MAX, absent);
}
static uint32_t u32_needed(struct fields *f)
{
    return (uint32_t)amqp_field_u_needed(f, UINT32_MAX);
}
static uint32_t u32_maybe(struct fields *f, bool *has)
{
    uint64_t v = amqp_field_u(f, UINT32_MAX, UINT64_MAX);
    *has = v != UINT64_MAX;
    return (uint32_t)v;
}

enum err amqp_open_decode(const struct amqp_frame *f, struct amqp_open *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    struct amqp_value id = amqp_field(&l);
    l.bad = l.bad || !amqp_is_text(&id);
    out->container_id = id.bytes;
    out->hostname = amqp_field_text(&l);
    out->frame_max = u32(&l, UINT32_MAX);
    out->channel_max = (uint16_t)amqp_field_u(&l, UINT16_MAX, UINT16_MAX);
    out->idle_ms = u32(&l, 0);
    for (unsigned i = 0; i < 4; i++) /* locales and capabilities */
        (void)amqp_field(&l);
    out->properties = amqp_field_map(&l);
    l.bad = l.bad || out->frame_max < AMQP_FRAME_MIN;
    return amqp_fields_end(&l);
}

void amqp_open_encode(struct wr *w, const struct amqp_open *o)
{
    amqp_put_descriptor(w, AMQP_OPEN);
    size_t at = amqp_list_begin(w);
    amqp_put_string(w, o->container_id);
    put_text_or_null(w, o->hostname);
    amqp_put_uint(w, o->frame_max);
    amqp_put_ushort(w, o->channel_max);
    put_uint_or_null(w, o->idle_ms, o->idle_ms != 0);
    put_nulls(w, 4);
    put_raw_or_null(w, o->properties);
    amqp_list_end(w, at, 10);
}

enum err amqp_begin_decode(const struct amqp_frame *f, struct amqp_begin *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    out->remote_channel = (uint32_t)amqp_field_u(&l, UINT16_MAX, AMQP_NONE);
    out->next_outgoing_id = u32_needed(&l);
    out->incoming_window = u32_needed(&l);
    out->outgoing_window = u32_needed(&l);
    out->handle_max = u32(&l, UINT32_MAX);
    return amqp_fields_end(&l);
}

void amqp_begin_encode(struct wr *w, const struct amqp_begin *b)
{
    amqp_put_descriptor(w, AMQP_BEGIN);
    size_t at = amqp_list_begin(w);
    if (b->remote_channel == AMQP_NONE)
        amqp_put_null(w);
    else
        amqp_put_ushort(w, (uint16_t)b->remote_channel);
    amqp_put_uint(w, b->next_outgoing_id);
    amqp_put_uint(w, b->incoming_window);
    amqp_put_uint(w, b->outgoing_window);
    amqp_put_uint(w, b->handle_max);
    put_nulls(w, 3);
    amqp_list_end(w, at, 8);
}

enum err amqp_attach_decode(const struct amqp_frame *f, struct amqp_attach *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    struct amqp_value v = amqp_field(&l);
    l.bad = l.bad || !amqp_is_text(&v);
    out->name = v.bytes;
    out->handle = u32_needed(&l);
    v = amqp_field(&l);
    l.bad = l.bad || v.type != AMQP_BOOL;
    out->receiver = v.u != 0;
    out->snd_mode = (uint8_t)amqp_field_u(&l, AMQP_SND_MIXED, AMQP_SND_MIXED);
    out->rcv_mode = (uint8_t)amqp_field_u(&l, AMQP_RCV_SECOND, AMQP_RCV_FIRST);
    v = amqp_field(&l);
    l.bad = !amqp_terminus_decode(&v, &out->source) || l.bad;
    v = amqp_field(&l);
    l.bad = !amqp_terminus_decode(&v, &out->target) || l.bad;
    (void)amqp_field(&l); /* unsettled: nothing is resumed */
    (void)amqp_field(&l); /* incomplete-unsettled */
    out->initial_delivery_count = u32(&l, 0);
    out->max_message_size = amqp_field_u(&l, UINT64_MAX, 0);
    (void)amqp_field(&l); /* offered-capabilities */
    v = amqp_field(&l);
    out->desired_capabilities = v.type == AMQP_NULL ? SPAN_NONE : v.raw;
    out->properties = amqp_field_map(&l);
    return amqp_fields_end(&l);
}

void amqp_attach_encode(struct wr *w, const struct amqp_attach *a)
{
    amqp_put_descriptor(w, AMQP_ATTACH);
    size_t at = amqp_list_begin(w);
    amqp_put_string(w, a->name);
    amqp_put_uint(w, a->handle);
    amqp_put_bool(w, a->receiver);
    amqp_put_ubyte(w, a->snd_mode);
    amqp_put_ubyte(w, a->rcv_mode);
    amqp_source_encode(w, &a->source);
    amqp_target_encode(w, &a->target);
    put_nulls(w, 2);
    put_uint_or_null(w, a->initial_delivery_count, !a->receiver);
    amqp_put_ulong(w, a->max_message_size);
    amqp_put_null(w);
    put_raw_or_null(w, a->desired_capabilities);
    put_raw_or_null(w, a->properties);
    amqp_list_end(w, at, 14);
}

enum err amqp_flow_decode(const struct amqp_frame *f, struct amqp_flow *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    out->next_incoming_id = u32_maybe(&l, &out->has_next_incoming);
    out->incoming_window = u32_needed(&l);
    out->next_outgoing_id = u32_needed(&l);
    out->outgoing_window = u32_needed(&l);
    out->handle = u32_maybe(&l, &out->has_handle);
    out->delivery_count = u32_maybe(&l, &out->has_delivery_count);
    out->credit = u32_maybe(&l, &out->has_credit);
    out->available = u32(&l, 0);
    out->drain = amqp_field_bool(&l, false);
    out->echo = amqp_field_bool(&l, false);
    return amqp_fields_end(&l);
}

void amqp_flow_encode(struct wr *w, const struct amqp_flow *o)
{
    amqp_put_descriptor(w, AMQP_FLOW);
    size_t at = amqp_list_begin(w);
    put_uint_or_null(w, o->next_incoming_id, o->has_next_incoming);
    amqp_put_uint(w, o->incoming_window);
    amqp_put_uint(w, o->next_outgoing_id);
    amqp_put_uint(w, o->outgoing_window);
    put_uint_or_null(w, o->handle, o->has_handle);
    put_uint_or_null(w, o->delivery_count, o->has_delivery_count);
    put_uint_or_null(w, o->credit, o->has_credit);
    put_uint_or_null(w, o->available, o->has_handle);
    amqp_put_bool(w, o->drain);
    amqp_put_bool(w, o->echo);
    amqp_put_null(w);
    amqp_list_end(w, at, 11);
}

enum err amqp_transfer_decode(const struct amqp_frame *f, struct amqp_transfer *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    out->handle = u32_needed(&l);
    out->delivery_id = u32_maybe(&l, &out->has_delivery_id);
    out->tag = amqp_field_binary(&l, &out->has_tag);
    out->format = u32(&l, 0);
    struct amqp_value v = amqp_field(&l);
    l.bad = l.bad || (v.type != AMQP_NULL && v.type != AMQP_BOOL);
    out->has_settled = v.type == AMQP_BOOL;
    out->settled = v.u != 0;
    out->more = amqp_field_bool(&l, false);
    (void)amqp_field(&l); /* rcv-settle-mode */
    (void)amqp_field(&l); /* state */
    (void)amqp_field(&l); /* resume */
    out->aborted = amqp_field_bool(&l, false);
    return amqp_fields_end(&l);
}

void amqp_transfer_encode(struct wr *w, const struct amqp_transfer *t)
{
    amqp_put_descriptor(w, AMQP_TRANSFER);
    size_t at = amqp_list_begin(w);
    amqp_put_uint(w, t->handle);
    put_uint_or_null(w, t->delivery_id, t->has_delivery_id);
    if (t->has_tag)
        amqp_put_binary(w, t->tag);
    else
        amqp_put_null(w);
    put_uint_or_null(w, t->format, t->has_delivery_id);
    amqp_put_bool(w, t->settled);
    amqp_put_bool(w, t->more);
    put_nulls(w, 3);
    amqp_put_bool(w, t->aborted);
    amqp_put_bool(w, false); /* batchable */
    amqp_list_end(w, at, 11);
}

enum err amqp_disposition_decode(const struct amqp_frame *f, struct amqp_disposition *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    struct amqp_value v = amqp_field(&l);
    l.bad = l.bad || v.type != AMQP_BOOL;
    out->receiver = v.u != 0;
    out->first = u32_needed(&l);
    out->last = u32(&l, out->first);
    out->settled = amqp_field_bool(&l, false);
    v = amqp_field(&l);
    l.bad = !amqp_state_decode(&v, &out->state) || l.bad;
    return amqp_fields_end(&l);
}

void amqp_disposition_encode(struct wr *w, const struct amqp_disposition *d)
{
    amqp_put_descriptor(w, AMQP_DISPOSITION);
    size_t at = amqp_list_begin(w);
    amqp_put_bool(w, d->receiver);
    amqp_put_uint(w, d->first);
    amqp_put_uint(w, d->last);
    amqp_put_bool(w, d->settled);
    amqp_state_encode(w, &d->state);
    amqp_put_bool(w, false); /* batchable */
    amqp_list_end(w, at, 6);
}

enum err amqp_detach_decode(const struct amqp_frame *f, struct amqp_detach *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    out->handle = u32_needed(&l);
    out->closed = amqp_field_bool(&l, false);
    struct amqp_value v = amqp_field(&l);
    l.bad = !amqp_error_decode(&v, &out->error) || l.bad;
    return amqp_fields_end(&l);
}

void amqp_detach_encode(struct wr *w, const struct amqp_detach *d)
{
    amqp_put_descriptor(w, AMQP_DETACH);
    size_t at = amqp_list_begin(w);
    amqp_put_uint(w, d->handle);
    amqp_put_bool(w, d->closed);
    amqp_error_encode(w, &d->error);
    amqp_list_end(w, at, 3);
}

enum err amqp_end_decode(const struct amqp_frame *f, struct amqp_error *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    struct amqp_value v = amqp_field(&l);
    l.bad = !amqp_error_decode(&v, out) || l.bad;
    return amqp_fields_end(&l);
}

void amqp_end_encode(struct wr *w, enum amqp_performative end_or_close, const struct amqp_error *e)
{
    amqp_put_descriptor(w, end_or_close);
    size_t at = amqp_list_begin(w);
    amqp_error_encode(w, e);
    amqp_list_end(w, at, 1);
}
