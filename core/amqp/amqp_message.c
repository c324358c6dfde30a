/* core/amqp/amqp_message.c - see amqp_message.h. */
#include "core/amqp/amqp_message.h"

#include "base/text.h"
#include "core/amqp/amqp_fields.h"
#include "core/amqp/amqp_frame.h"

static bool id_is_valid(const struct amqp_value *v)
{
    return v->type == AMQP_NULL || v->type == AMQP_ULONG || v->type == AMQP_UUID || v->type == AMQP_BINARY ||
           v->type == AMQP_STRING;
}

static struct span text_or_none(struct fields *f)
{
    struct amqp_value v = amqp_field(f);
    if (v.type == AMQP_NULL)
        return SPAN_NONE;
    if (!amqp_is_text(&v) && v.type != AMQP_BINARY)
        f->bad = true;
    return v.bytes;
}

static bool time_of(struct fields *f, uint64_t *ms)
{
    struct amqp_value v = amqp_field(f);
    if (v.type == AMQP_NULL)
        return false;
    /* Before 1970 is 1970: long past either way. */
    *ms = v.u >> 63 ? 0 : v.u;
    if (v.type != AMQP_TIMESTAMP)
        f->bad = true;
    return true;
}

static bool properties_decode(const struct amqp_value *list, struct amqp_properties *p)
{
    struct fields f = amqp_fields_of(list);
    p->message_id = amqp_field(&f);
    p->user_id = text_or_none(&f);
    p->to = text_or_none(&f);
    p->subject = text_or_none(&f);
    p->reply_to = text_or_none(&f);
    p->correlation_id = amqp_field(&f);
    p->content_type = text_or_none(&f);
    p->content_encoding = text_or_none(&f);
    p->has_expiry = time_of(&f, &p->expiry_ms);
    p->has_creation = time_of(&f, &p->creation_ms);
    p->group_id = text_or_none(&f);
    return !f.bad && id_is_valid(&p->message_id) && id_is_valid(&p->correlation_id);
}

static bool section_next(struct rd *r, uint64_t *code, struct amqp_value *inner)
{
    struct amqp_value v, descriptor;
    if (!r->n)
        return false;
    amqp_read(r, &v);
    if (r->bad || !amqp_described(&v, &descriptor, inner)) {
        r->bad = true;
        return false;
    }
    *code = amqp_descriptor_code(&descriptor);
    return true;
}

enum err amqp_message_decode(struct span in, struct amqp_message *out)
{
    struct rd r = rd_of(in);
    struct amqp_message m = { .sections = in };
    struct amqp_value v;
    unsigned seen = 0;
    uint64_t code;
    while (section_next(&r, &code, &v)) {
        if (code < AMQP_HEADER || code > AMQP_FOOTER)
            return ERR_PROTO;
        bool body = code >= AMQP_DATA && code <= AMQP_VALUE, again = seen & 1u << (code - AMQP_HEADER);
        seen |= 1u << (code - AMQP_HEADER);
        if ((again && code != AMQP_DATA && code != AMQP_SEQUENCE) || (body && m.body && m.body != code))
            return ERR_PROTO;
        bool good = true;
        switch (code) {
        case AMQP_HEADER:
            good = v.type == AMQP_LIST;
            break;
        case AMQP_PROPERTIES:
            good = properties_decode(&v, &m.properties);
            break;
        case AMQP_MESSAGE_ANNOTATIONS:
            good = v.type == AMQP_MAP && amqp_is_valid(&v);
            m.message_annotations = v;
            break;
        case AMQP_APPLICATION_PROPERTIES:
            good = v.type == AMQP_MAP && amqp_is_valid(&v);
            m.application_properties = v;
            break;
        case AMQP_DATA:
            good = v.type == AMQP_BINARY;
            break;
        case AMQP_SEQUENCE:
            good = v.type == AMQP_LIST && amqp_is_valid(&v);
            break;
        case AMQP_VALUE:
            good = amqp_is_valid(&v);
            break;
        default: /* delivery annotations, footer: a map */
            good = v.type == AMQP_MAP;
        }
        if (!good)
            return ERR_PROTO;
        if (body && !m.body) {
            m.body = (uint8_t)code;
            m.value = v;
        }
        m.body_sections += body;
    }
    if (r.bad)
        return ERR_PROTO;
    *out = m;
    return ERR_OK;
}

bool amqp_data_next(struct span *at, struct span *data)
{
    struct rd r = rd_of(*at);
    struct amqp_value v;
    uint64_t code;
    while (section_next(&r, &code, &v)) {
        if (code != AMQP_DATA || v.type != AMQP_BINARY)
            continue;
        *data = v.bytes;
        *at = span_of(r.p, r.n);
        return true;
    }
    *at = SPAN_NONE;
    return false;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

static void put_text(struct wr *w, struct span s, bool symbol)
{
    if (!s.p)
        amqp_put_null(w);
    else if (symbol)
        amqp_put_symbol(w, s);
    else
        amqp_put_string(w, s);
}
static void put_time(struct wr *w, bool has, uint64_t ms)
{
    if (has)
        amqp_put_timestamp(w, ms);
    else
        amqp_put_null(w);
}

void amqp_properties_encode(struct wr *w, const struct amqp_properties *p)
{
    amqp_section_begin(w, AMQP_PROPERTIES);
    size_t at = amqp_list_begin(w);
    amqp_put_value(w, &p->message_id);
    if (p->user_id.p)
        amqp_put_binary(w, p->user_id);
    else
        amqp_put_null(w);
    put_text(w, p->to, false);
    put_text(w, p->subject, false);
    put_text(w, p->reply_to, false);
    amqp_put_value(w, &p->correlation_id);
    put_text(w, p->content_type, true);
    put_text(w, p->content_encoding, true);
    put_time(w, p->has_expiry, p->expiry_ms);
    put_time(w, p->has_creation, p->creation_ms);
    put_text(w, p->group_id, false);
    amqp_put_null(w);
    amqp_put_null(w);
    amqp_list_end(w, at, 13);
}

void amqp_data_head(struct wr *w, size_t n)
{
    amqp_section_begin(w, AMQP_DATA);
    amqp_put_binary_head(w, n);
}

void amqp_id_text(struct wr *w, const struct amqp_value *id)
{
    static const uint8_t groups[] = { 4, 2, 2, 2, 6 };
    size_t at = 0;
    switch (id->type) {
    case AMQP_ULONG:
        u64_encode(w, id->u);
        break;
    case AMQP_UUID:
        for (size_t i = 0; i < sizeof groups; i++) {
            if (i)
                wr_u8(w, '-');
            hex_encode(w, span_of(id->bytes.p + at, groups[i]));
            at += groups[i];
        }
        break;
    case AMQP_BINARY:
        hex_encode(w, id->bytes);
        break;
    case AMQP_NULL:
        break;
    default:
        wr_put(w, id->bytes);
    }
}

bool amqp_scalar_text(struct wr *w, const struct amqp_value *v)
{
    int64_t i;
    switch (v->type) {
    case AMQP_BOOL:
        wr_str(w, v->u ? "true" : "false");
        return true;
    case AMQP_STRING:
    case AMQP_SYMBOL:
    case AMQP_BINARY:
        wr_put(w, v->bytes);
        return true;
    case AMQP_UUID:
        amqp_id_text(w, v);
        return true;
    case AMQP_TIMESTAMP:
    case AMQP_ULONG:
        u64_encode(w, v->u);
        return true;
    default:
        if (!amqp_get_i64(v, &i))
            return false;
        if (i < 0)
            wr_u8(w, '-');
        u64_encode(w, i < 0 ? ~(uint64_t)i + 1 : (uint64_t)i);
        return true;
    }
}
