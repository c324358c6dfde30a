/* core/amqp/amqp_frame.c - headers, frames, descriptors, SASL, errors, termini and states. The performatives
 * are in amqp_performative.c. */
#include "core/amqp/amqp_frame.h"
#include "core/amqp/amqp_fields.h"

const uint8_t amqp_header_amqp[AMQP_HEADER_LEN] = { 'A', 'M', 'Q', 'P', AMQP_PROTO_AMQP, 1, 0, 0 };
const uint8_t amqp_header_sasl[AMQP_HEADER_LEN] = { 'A', 'M', 'Q', 'P', AMQP_PROTO_SASL, 1, 0, 0 };

enum err amqp_header_decode(struct span in, uint8_t *proto)
{
    for (size_t i = 0; i < AMQP_HEADER_LEN; i++) {
        if (i >= in.n)
            return ERR_AGAIN;
        if (in.p[i] != amqp_header_amqp[i] && (i != 4 || in.p[i] != AMQP_PROTO_SASL))
            return ERR_PROTO;
    }
    *proto = in.p[4];
    return ERR_OK;
}

/* ---- descriptors ------------------------------------------------------------------------------------ */

static const struct {
    uint8_t code;
    const char *name;
} descriptors[] = {
    { AMQP_OPEN, "amqp:open:list" },
    { AMQP_BEGIN, "amqp:begin:list" },
    { AMQP_ATTACH, "amqp:attach:list" },
    { AMQP_FLOW, "amqp:flow:list" },
    { AMQP_TRANSFER, "amqp:transfer:list" },
    { AMQP_DISPOSITION, "amqp:disposition:list" },
    { AMQP_DETACH, "amqp:detach:list" },
    { AMQP_END, "amqp:end:list" },
    { AMQP_CLOSE, "amqp:close:list" },
    { 0x1d, "amqp:error:list" },
    { AMQP_RECEIVED, "amqp:received:list" },
    { AMQP_ACCEPTED, "amqp:accepted:list" },
    { AMQP_REJECTED, "amqp:rejected:list" },
    { AMQP_RELEASED, "amqp:released:list" },
    { AMQP_MODIFIED, "amqp:modified:list" },
    { 0x28, "amqp:source:list" },
    { 0x29, "amqp:target:list" },
    { 0x30, "amqp:coordinator:list" },
    { AMQP_SASL_MECHANISMS, "amqp:sasl-mechanisms:list" },
    { AMQP_SASL_INIT, "amqp:sasl-init:list" },
    { AMQP_SASL_CHALLENGE, "amqp:sasl-challenge:list" },
    { AMQP_SASL_RESPONSE, "amqp:sasl-response:list" },
    { AMQP_SASL_OUTCOME, "amqp:sasl-outcome:list" },
    { 0x70, "amqp:header:list" },
    { 0x71, "amqp:delivery-annotations:map" },
    { 0x72, "amqp:message-annotations:map" },
    { 0x73, "amqp:properties:list" },
    { 0x74, "amqp:application-properties:map" },
    { 0x75, "amqp:data:binary" },
    { 0x76, "amqp:amqp-sequence:list" },
    { 0x77, "amqp:amqp-value:*" },
    { 0x78, "amqp:footer:map" },
};

uint64_t amqp_descriptor_code(const struct amqp_value *d)
{
    if (d->type == AMQP_ULONG)
        return d->u;
    if (d->type == AMQP_SYMBOL)
        for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
            if (span_eq(d->bytes, span_str(descriptors[i].name)))
                return descriptors[i].code;
    return 0;
}

/* ---- frames [2.3] ----------------------------------------------------------------------------------- */

enum err amqp_frame_decode(struct span in, size_t frame_max, struct amqp_frame *out, size_t *used)
{
    struct rd r = rd_of(in);
    struct amqp_frame f = { 0 };
    size_t size = rd_be32(&r);
    if (r.bad)
        return ERR_AGAIN;
    if (size < AMQP_FRAME_HEAD_LEN)
        return ERR_PROTO;
    if (size > frame_max)
        return ERR_LIMIT;
    size_t doff = rd_u8(&r) * (size_t)4;
    if (!r.bad && (doff < AMQP_FRAME_HEAD_LEN || doff > size))
        return ERR_PROTO;
    f.type = rd_u8(&r);
    if (!r.bad && f.type > AMQP_FRAME_SASL)
        return ERR_PROTO;
    f.channel = rd_be16(&r);
    if (in.n < size)
        return ERR_AGAIN;
    *used = size;
    if (doff < size) {
        struct rd body = rd_of(span_of(in.p + doff, size - doff));
        struct amqp_value v, descriptor;
        amqp_read(&body, &v);
        if (body.bad || !amqp_described(&v, &descriptor, &f.fields) || f.fields.type != AMQP_LIST)
            return ERR_PROTO;
        uint64_t code = amqp_descriptor_code(&descriptor);
        bool known = f.type == AMQP_FRAME_SASL ? code >= AMQP_SASL_MECHANISMS && code <= AMQP_SASL_OUTCOME
                                               : code >= AMQP_OPEN && code <= AMQP_CLOSE;
        if (!known)
            return ERR_PROTO;
        f.code = (uint8_t)code;
        f.payload = span_of(body.p, body.n);
    }
    *out = f;
    return ERR_OK;
}

size_t amqp_frame_begin(struct wr *w, enum amqp_frame_type type, uint16_t channel)
{
    size_t at = w->len;
    wr_be32(w, 0);
    wr_u8(w, AMQP_FRAME_HEAD_LEN / 4);
    wr_u8(w, (uint8_t)type);
    wr_be16(w, channel);
    return at;
}

void amqp_frame_end(struct wr *w, size_t at)
{
    if (!wr_ok(w))
        return;
    struct wr size = { w->p + at, 4, 0 };
    wr_be32(&size, (uint32_t)(w->len - at));
}

/* ---- fields: a list read by position ---------------------------------------------------------------- */

struct fields amqp_fields_of(const struct amqp_value *list)
{
    return (struct fields){ amqp_walk_of(list), list->type != AMQP_LIST };
}

struct amqp_value amqp_field(struct fields *f)
{
    struct amqp_value v = { 0 };
    if (!amqp_walk_next(&f->w, &v)) {
        f->bad = f->bad || f->w.r.bad;
        v = (struct amqp_value){ 0 };
    }
    return v;
}

uint64_t amqp_field_u(struct fields *f, uint64_t max, uint64_t absent)
{
    struct amqp_value v = amqp_field(f);
    uint64_t u = absent;
    if (v.type != AMQP_NULL && (v.type > AMQP_ULONG || !amqp_get_u64(&v, max, &u)))
        f->bad = true;
    return u;
}

uint64_t amqp_field_u_needed(struct fields *f, uint64_t max)
{
    struct amqp_value v = amqp_field(f);
    uint64_t u = 0;
    if (v.type > AMQP_ULONG || !amqp_get_u64(&v, max, &u))
        f->bad = true;
    return u;
}

bool amqp_field_bool(struct fields *f, bool absent)
{
    struct amqp_value v = amqp_field(f);
    if (v.type != AMQP_NULL && v.type != AMQP_BOOL)
        f->bad = true;
    return v.type == AMQP_NULL ? absent : v.u != 0;
}

struct span amqp_field_text(struct fields *f)
{
    struct amqp_value v = amqp_field(f);
    if (v.type != AMQP_NULL && !amqp_is_text(&v))
        f->bad = true;
    return v.bytes;
}

struct span amqp_field_binary(struct fields *f, bool *has)
{
    struct amqp_value v = amqp_field(f);
    if (v.type != AMQP_NULL && v.type != AMQP_BINARY)
        f->bad = true;
    *has = v.type == AMQP_BINARY;
    return v.bytes;
}

struct span amqp_field_map(struct fields *f)
{
    struct amqp_value v = amqp_field(f);
    if (v.type != AMQP_NULL && v.type != AMQP_MAP)
        f->bad = true;
    return v.raw.n && v.type == AMQP_MAP ? v.raw : SPAN_NONE;
}

enum err amqp_fields_end(const struct fields *f)
{
    return f->bad ? ERR_PROTO : ERR_OK;
}

/* ---- errors, termini, states ------------------------------------------------------------------------ */

/* The list behind the descriptor `code`. */
static bool described_list(const struct amqp_value *v, uint64_t *code, struct fields *out)
{
    struct amqp_value descriptor, inner;
    if (!amqp_described(v, &descriptor, &inner))
        return false;
    *code = amqp_descriptor_code(&descriptor);
    *out = amqp_fields_of(&inner);
    return !out->bad;
}

bool amqp_error_decode(const struct amqp_value *v, struct amqp_error *out)
{
    uint64_t code;
    struct fields f;
    *out = (struct amqp_error){ 0 };
    if (v->type == AMQP_NULL)
        return true;
    if (!described_list(v, &code, &f) || code != 0x1d)
        return false;
    out->condition = amqp_field_text(&f);
    out->description = amqp_field_text(&f);
    out->info = amqp_field_map(&f);
    return !f.bad;
}

void amqp_error_encode(struct wr *w, const struct amqp_error *e)
{
    if (!e->condition.n) {
        amqp_put_null(w);
        return;
    }
    amqp_put_descriptor(w, 0x1d);
    size_t at = amqp_list_begin(w);
    amqp_put_symbol(w, e->condition);
    amqp_put_string(w, e->description);
    if (e->info.n)
        wr_put(w, e->info);
    else
        amqp_map_end(w, amqp_map_begin(w), 0);
    amqp_list_end(w, at, 3);
}

bool amqp_terminus_decode(const struct amqp_value *v, struct amqp_terminus *out)
{
    uint64_t code;
    struct fields f;
    *out = (struct amqp_terminus){ 0 };
    if (v->type == AMQP_NULL)
        return true;
    if (!described_list(v, &code, &f) || (code != 0x28 && code != 0x29 && code != 0x30))
        return false;
    out->present = true;
    out->raw = v->raw;
    out->coordinator = code == 0x30;
    if (out->coordinator)
        return true;
    struct amqp_value address = amqp_field(&f);
    if (amqp_is_text(&address))
        out->address = address.bytes;
    (void)amqp_field(&f); /* durable */
    (void)amqp_field(&f); /* expiry-policy */
    (void)amqp_field(&f); /* timeout */
    out->dynamic = amqp_field_bool(&f, false);
    (void)amqp_field(&f); /* dynamic-node-properties */
    if (code == 0x28) {
        (void)amqp_field(&f); /* distribution-mode */
        out->filter = amqp_field_map(&f);
    }
    return !f.bad;
}

static void terminus_encode(struct wr *w, const struct amqp_terminus *t, uint64_t code, uint32_t fields_nr,
                            uint32_t filter_at)
{
    if (!t->present) {
        amqp_put_null(w);
        return;
    }
    if (t->raw.n) {
        wr_put(w, t->raw);
        return;
    }
    amqp_put_descriptor(w, code);
    size_t at = amqp_list_begin(w);
    if (t->address.n)
        amqp_put_string(w, t->address);
    else
        amqp_put_null(w);
    for (uint32_t i = 1; i < fields_nr; i++)
        if (i == 4 && t->dynamic)
            amqp_put_bool(w, true);
        else if (i == filter_at && t->filter.n)
            wr_put(w, t->filter);
        else
            amqp_put_null(w);
    amqp_list_end(w, at, fields_nr);
}

void amqp_source_encode(struct wr *w, const struct amqp_terminus *t)
{
    terminus_encode(w, t, 0x28, 11, 7);
}
void amqp_target_encode(struct wr *w, const struct amqp_terminus *t)
{
    terminus_encode(w, t, 0x29, 7, UINT32_MAX);
}

bool amqp_state_decode(const struct amqp_value *v, struct amqp_state *out)
{
    uint64_t code;
    struct fields f;
    *out = (struct amqp_state){ 0 };
    if (v->type == AMQP_NULL)
        return true;
    if (!described_list(v, &code, &f))
        return false;
    out->outcome = code >= AMQP_RECEIVED && code <= AMQP_MODIFIED ? (uint8_t)code : AMQP_STATE_OTHER;
    if (code == AMQP_REJECTED) {
        struct amqp_value e = amqp_field(&f);
        if (!amqp_error_decode(&e, &out->error))
            return false;
    } else if (code == AMQP_MODIFIED) {
        out->delivery_failed = amqp_field_bool(&f, false);
        out->undeliverable_here = amqp_field_bool(&f, false);
    }
    return !f.bad;
}

void amqp_state_encode(struct wr *w, const struct amqp_state *s)
{
    size_t at;
    switch (s->outcome) {
    case AMQP_STATE_NONE:
        amqp_put_null(w);
        return;
    case AMQP_REJECTED:
        amqp_put_descriptor(w, AMQP_REJECTED);
        at = amqp_list_begin(w);
        amqp_error_encode(w, &s->error);
        amqp_list_end(w, at, 1);
        return;
    case AMQP_MODIFIED:
        amqp_put_descriptor(w, AMQP_MODIFIED);
        at = amqp_list_begin(w);
        amqp_put_bool(w, s->delivery_failed);
        amqp_put_bool(w, s->undeliverable_here);
        amqp_put_null(w);
        amqp_list_end(w, at, 3);
        return;
    default:
        amqp_put_descriptor(w, s->outcome);
        wr_u8(w, 0x45); /* the empty list */
    }
}

/* ---- SASL ------------------------------------------------------------------------------------------- */

void amqp_sasl_mechanisms_encode(struct wr *w, const char *const *names)
{
    uint32_t nr = 0;
    amqp_put_descriptor(w, AMQP_SASL_MECHANISMS);
    size_t list = amqp_list_begin(w), array = amqp_array_begin(w, AMQP_SYM32);
    for (; names[nr]; nr++)
        amqp_array_text_put(w, span_str(names[nr]));
    amqp_array_end(w, array, nr);
    amqp_list_end(w, list, 1);
}

bool amqp_sasl_mechanisms_has(const struct amqp_frame *f, struct span name)
{
    struct fields fields = amqp_fields_of(&f->fields);
    struct amqp_value v = amqp_field(&fields), item;
    struct amqp_walk w = amqp_walk_of(&v);
    if (v.type == AMQP_SYMBOL) /* "multiple" [1.6.23]: one may stand alone */
        return span_eq(v.bytes, name);
    while (amqp_walk_next(&w, &item))
        if (item.type == AMQP_SYMBOL && span_eq(item.bytes, name))
            return true;
    return false;
}

enum err amqp_sasl_init_decode(const struct amqp_frame *f, struct amqp_sasl_init *out)
{
    struct fields l = amqp_fields_of(&f->fields);
    bool has;
    out->mechanism = amqp_field_text(&l);
    out->response = amqp_field_binary(&l, &has);
    out->hostname = amqp_field_text(&l);
    return amqp_fields_end(&l);
}

void amqp_sasl_init_encode(struct wr *w, const struct amqp_sasl_init *i)
{
    amqp_put_descriptor(w, AMQP_SASL_INIT);
    size_t at = amqp_list_begin(w);
    amqp_put_symbol(w, i->mechanism);
    if (i->response.p)
        amqp_put_binary(w, i->response);
    else
        amqp_put_null(w);
    amqp_put_string(w, i->hostname);
    amqp_list_end(w, at, 3);
}

enum err amqp_sasl_outcome_decode(const struct amqp_frame *f, uint8_t *code)
{
    struct fields l = amqp_fields_of(&f->fields);
    uint64_t c = amqp_field_u_needed(&l, 255);
    if (l.bad)
        return ERR_PROTO;
    *code = (uint8_t)c;
    return ERR_OK;
}

void amqp_sasl_outcome_encode(struct wr *w, uint8_t code, struct span additional)
{
    amqp_put_descriptor(w, AMQP_SASL_OUTCOME);
    size_t at = amqp_list_begin(w);
    amqp_put_ubyte(w, code);
    if (additional.n)
        amqp_put_binary(w, additional);
    else
        amqp_put_null(w);
    amqp_list_end(w, at, 2);
}
