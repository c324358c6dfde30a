/* core/amqp/amqp_value.c - see amqp_value.h. The second digit of a constructor says how wide a value is, so
 * one table of types and one rule of widths read everything. */
#include "core/amqp/amqp_value.h"

#include <assert.h>

/* [1.2] the high digit of a constructor: how the data behind it is measured. */
enum {
    W_EMPTY = 0x4,
    W_VAR8 = 0xa,
    W_VAR32 = 0xb,
    W_COMP8 = 0xc,
    W_COMP32 = 0xd,
    W_ARR8 = 0xe,
    W_ARR32 = 0xf
};
#define COUNT_MAX 65536u /* elements of an array that take no bytes */

/* [1.6] which type a constructor makes; AMQP_TYPES: none. */
static uint8_t type_of(uint8_t code)
{
    switch (code) {
    case 0x40:
        return AMQP_NULL;
    case 0x41:
    case 0x42:
    case 0x56:
        return AMQP_BOOL;
    case 0x50:
        return AMQP_UBYTE;
    case 0x60:
        return AMQP_USHORT;
    case 0x43:
    case 0x52:
    case 0x70:
        return AMQP_UINT;
    case 0x44:
    case 0x53:
    case 0x80:
        return AMQP_ULONG;
    case 0x51:
        return AMQP_BYTE;
    case 0x61:
        return AMQP_SHORT;
    case 0x54:
    case 0x71:
        return AMQP_INT;
    case 0x55:
    case 0x81:
        return AMQP_LONG;
    case 0x72:
        return AMQP_FLOAT;
    case 0x82:
        return AMQP_DOUBLE;
    case 0x74:
        return AMQP_DECIMAL32;
    case 0x84:
        return AMQP_DECIMAL64;
    case 0x94:
        return AMQP_DECIMAL128;
    case 0x73:
        return AMQP_CHAR;
    case 0x83:
        return AMQP_TIMESTAMP;
    case 0x98:
        return AMQP_UUID;
    case 0xa0:
    case 0xb0:
        return AMQP_BINARY;
    case 0xa1:
    case 0xb1:
        return AMQP_STRING;
    case 0xa3:
    case 0xb3:
        return AMQP_SYMBOL;
    case 0x45:
    case 0xc0:
    case 0xd0:
        return AMQP_LIST;
    case 0xc1:
    case 0xd1:
        return AMQP_MAP;
    case 0xe0:
    case 0xf0:
        return AMQP_ARRAY;
    default:
        return AMQP_TYPES;
    }
}

static uint64_t be(struct span s)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | s.p[i];
    return v;
}

static bool is_signed(uint8_t type)
{
    return type == AMQP_BYTE || type == AMQP_SHORT || type == AMQP_INT || type == AMQP_LONG;
}

static void read_at(struct rd *r, struct amqp_value *out, unsigned depth);

/* A described value: the 0x00 is taken. */
static void read_described(struct rd *r, struct amqp_value *out, unsigned depth)
{
    const uint8_t *p = r->p;
    struct amqp_value skip;
    if (depth >= AMQP_DEPTH_MAX) {
        r->bad = true;
        return;
    }
    read_at(r, &skip, depth + 1);
    read_at(r, &skip, depth + 1);
    out->type = AMQP_DESCRIBED;
    out->bytes = span_of(p, (size_t)(r->p - p));
}

static void read_array_head(struct amqp_value *out, bool *bad)
{
    struct rd r = rd_of(out->bytes);
    struct amqp_value descriptor;
    out->item = rd_u8(&r);
    if (out->item == 0) { /* described elements: the descriptor stays in bytes and is read by the walk */
        amqp_read(&r, &descriptor);
        uint8_t code = rd_u8(&r);
        *bad = r.bad || type_of(code) == AMQP_TYPES;
        if (!*bad && code >> 4 == W_EMPTY)
            *bad = out->count > COUNT_MAX;
        else if (!*bad)
            *bad = out->count > r.n;
        return;
    }
    *bad = r.bad || type_of(out->item) == AMQP_TYPES ||
           (out->item >> 4 == W_EMPTY ? out->count > COUNT_MAX : out->count > r.n);
    out->bytes = span_of(r.p, r.n);
}

/* The data behind constructor `code`. */
static void read_data(struct rd *r, uint8_t code, struct amqp_value *out)
{
    unsigned width = code >> 4;
    uint8_t type = type_of(code);
    bool bad = type == AMQP_TYPES;
    if (bad) {
        r->bad = true;
        return;
    }
    out->type = type;
    if (width == W_EMPTY) {
        out->u = code == 0x41; /* true; false, zeros, null and the empty list */
        return;
    }
    if (width < W_VAR8) { /* 1, 2, 4, 8 or 16 bytes */
        struct span s = rd_take(r, (size_t)1 << (width - 5));
        out->bytes = s.n == 16 ? s : SPAN_NONE;
        out->u = s.n < 16 ? be(s) : 0;
        if (is_signed(type) && s.n && s.n < 8 && (s.p[0] & 0x80))
            out->u |= ~(uint64_t)0 << (8 * s.n);
        if (type == AMQP_BOOL && out->u > 1)
            r->bad = true;
        return;
    }
    size_t n = width & 1 ? rd_be32(r) : rd_u8(r); /* odd digits: four bytes of length */
    struct span s = rd_take(r, n);
    out->bytes = s;
    if (width <= W_VAR32)
        return;
    struct rd inner = rd_of(s);
    out->count = width & 1 ? rd_be32(&inner) : rd_u8(&inner);
    out->bytes = span_of(inner.p, inner.n);
    bad = inner.bad;
    if (type == AMQP_ARRAY && !bad)
        read_array_head(out, &bad);
    else
        bad = bad || out->count > inner.n || (type == AMQP_MAP && out->count % 2);
    if (bad)
        r->bad = true;
}

static void read_at(struct rd *r, struct amqp_value *out, unsigned depth)
{
    const uint8_t *p = r->p;
    struct amqp_value v = { 0 };
    uint8_t code = rd_u8(r);
    if (code == 0 && !r->bad)
        read_described(r, &v, depth);
    else if (!r->bad)
        read_data(r, code, &v);
    if (r->bad) {
        *out = (struct amqp_value){ 0 };
        return;
    }
    v.raw = span_of(p, (size_t)(r->p - p));
    *out = v;
}

void amqp_read(struct rd *r, struct amqp_value *out)
{
    read_at(r, out, 0);
}

enum err amqp_read_one(struct span s, struct amqp_value *out)
{
    struct rd r = rd_of(s);
    struct amqp_value v;
    amqp_read(&r, &v);
    if (r.bad || r.n)
        return ERR_PROTO;
    *out = v;
    return ERR_OK;
}

struct amqp_walk amqp_walk_of(const struct amqp_value *v)
{
    struct amqp_walk w = { .r = rd_of(v->bytes), .type = v->type, .item = v->item };
    if (v->type != AMQP_LIST && v->type != AMQP_MAP && v->type != AMQP_ARRAY)
        return w;
    w.left = v->count;
    if (v->type == AMQP_ARRAY && v->item == 0 && v->bytes.n) {
        struct amqp_value descriptor;
        (void)rd_u8(&w.r);
        amqp_read(&w.r, &descriptor);
        w.descriptor = descriptor.raw;
        w.item = rd_u8(&w.r);
    }
    return w;
}

bool amqp_walk_next(struct amqp_walk *w, struct amqp_value *out)
{
    if (!w->left || w->r.bad)
        return false;
    w->left--;
    if (w->type != AMQP_ARRAY) {
        amqp_read(&w->r, out);
    } else { /* an element of described values shows as its inner value; the walk has the descriptor */
        struct amqp_value v = { 0 };
        const uint8_t *p = w->r.p;
        read_data(&w->r, w->item, &v);
        v.raw = span_of(p, (size_t)(w->r.p - p));
        *out = v;
    }
    return !w->r.bad;
}

static bool valid_at(const struct amqp_value *v, unsigned depth)
{
    struct amqp_walk w = amqp_walk_of(v);
    struct amqp_value item, inner;
    if (depth > AMQP_DEPTH_MAX)
        return false;
    if (v->type == AMQP_DESCRIBED)
        return amqp_described(v, &item, &inner) && valid_at(&item, depth + 1) && valid_at(&inner, depth + 1);
    while (amqp_walk_next(&w, &item))
        if (!valid_at(&item, depth + 1))
            return false;
    return !w.r.bad && (w.r.n == 0 || v->type < AMQP_LIST);
}

bool amqp_is_valid(const struct amqp_value *v)
{
    return valid_at(v, 0);
}

bool amqp_map_get(const struct amqp_value *map, struct span key, struct amqp_value *out)
{
    struct amqp_value k, v;
    struct amqp_walk w = amqp_walk_of(map);
    if (map->type != AMQP_MAP)
        return false;
    while (amqp_walk_next(&w, &k) && amqp_walk_next(&w, &v))
        if (amqp_is_text(&k) && span_eq(k.bytes, key)) {
            *out = v;
            return true;
        }
    return false;
}

bool amqp_described(const struct amqp_value *v, struct amqp_value *descriptor, struct amqp_value *inner)
{
    struct rd r = rd_of(v->bytes);
    if (v->type != AMQP_DESCRIBED)
        return false;
    amqp_read(&r, descriptor);
    amqp_read(&r, inner);
    return !r.bad;
}

bool amqp_get_u64(const struct amqp_value *v, uint64_t max, uint64_t *out)
{
    bool integer = (v->type >= AMQP_UBYTE && v->type <= AMQP_LONG) || v->type == AMQP_TIMESTAMP;
    if (!integer || (v->type > AMQP_ULONG && v->u >> 63) || v->u > max)
        return false;
    *out = v->u;
    return true;
}

bool amqp_get_i64(const struct amqp_value *v, int64_t *out)
{
    if (v->type < AMQP_UBYTE || v->type > AMQP_LONG || (v->type == AMQP_ULONG && v->u >> 63))
        return false;
    *out = v->u >> 63 ? -(int64_t)(~v->u) - 1 : (int64_t)v->u;
    return true;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

void amqp_put_null(struct wr *w)
{
    wr_u8(w, 0x40);
}
void amqp_put_bool(struct wr *w, bool v)
{
    wr_u8(w, v ? 0x41 : 0x42);
}
void amqp_put_ubyte(struct wr *w, uint8_t v)
{
    wr_u8(w, 0x50);
    wr_u8(w, v);
}
void amqp_put_ushort(struct wr *w, uint16_t v)
{
    wr_u8(w, 0x60);
    wr_be16(w, v);
}
/* An unsigned number: none, one or all of its bytes. */
static void put_unsigned(struct wr *w, uint64_t v, uint8_t zero, uint8_t small, uint8_t full)
{
    wr_u8(w, v == 0 ? zero : v < 256 ? small : full);
    if (v == 0)
        return;
    if (v < 256)
        wr_u8(w, (uint8_t)v);
    else if (full >> 4 == 7)
        wr_be32(w, (uint32_t)v);
    else
        wr_be64(w, v);
}
void amqp_put_uint(struct wr *w, uint32_t v)
{
    put_unsigned(w, v, 0x43, 0x52, 0x70);
}
void amqp_put_ulong(struct wr *w, uint64_t v)
{
    put_unsigned(w, v, 0x44, 0x53, 0x80);
}
void amqp_put_int(struct wr *w, int32_t v)
{
    bool small = v >= -128 && v < 128;
    wr_u8(w, small ? 0x54 : 0x71);
    if (small)
        wr_u8(w, (uint8_t)v);
    else
        wr_be32(w, (uint32_t)v);
}
void amqp_put_long(struct wr *w, int64_t v)
{
    bool small = v >= -128 && v < 128;
    wr_u8(w, small ? 0x55 : 0x81);
    if (small)
        wr_u8(w, (uint8_t)v);
    else
        wr_be64(w, (uint64_t)v);
}
void amqp_put_timestamp(struct wr *w, uint64_t wall_ms)
{
    wr_u8(w, 0x83);
    wr_be64(w, wall_ms);
}
void amqp_put_uuid(struct wr *w, const uint8_t v[16])
{
    wr_u8(w, 0x98);
    wr_put(w, span_of(v, 16));
}

static void put_var_head(struct wr *w, uint8_t code8, size_t n)
{
    wr_u8(w, n < 256 ? code8 : (uint8_t)(code8 + 0x10));
    if (n < 256)
        wr_u8(w, (uint8_t)n);
    else
        wr_be32(w, (uint32_t)n);
}
void amqp_put_binary_head(struct wr *w, size_t n)
{
    put_var_head(w, 0xa0, n);
}
void amqp_put_binary(struct wr *w, struct span v)
{
    put_var_head(w, 0xa0, v.n);
    wr_put(w, v);
}
void amqp_put_string(struct wr *w, struct span v)
{
    put_var_head(w, 0xa1, v.n);
    wr_put(w, v);
}
void amqp_put_symbol(struct wr *w, struct span v)
{
    put_var_head(w, 0xa3, v.n);
    wr_put(w, v);
}

void amqp_put_value(struct wr *w, const struct amqp_value *v)
{
    switch (v->type) {
    case AMQP_NULL:
        amqp_put_null(w);
        break;
    case AMQP_BOOL:
        amqp_put_bool(w, v->u);
        break;
    case AMQP_UBYTE:
        amqp_put_ubyte(w, (uint8_t)v->u);
        break;
    case AMQP_USHORT:
        amqp_put_ushort(w, (uint16_t)v->u);
        break;
    case AMQP_UINT:
        amqp_put_uint(w, (uint32_t)v->u);
        break;
    case AMQP_ULONG:
        amqp_put_ulong(w, v->u);
        break;
    case AMQP_BYTE:
        wr_u8(w, 0x51);
        wr_u8(w, (uint8_t)v->u);
        break;
    case AMQP_SHORT:
        wr_u8(w, 0x61);
        wr_be16(w, (uint16_t)v->u);
        break;
    case AMQP_INT:
        amqp_put_int(w, (int32_t)(uint32_t)v->u);
        break;
    case AMQP_LONG:
        amqp_put_long(w, (int64_t)v->u);
        break;
    case AMQP_FLOAT:
    case AMQP_DECIMAL32:
    case AMQP_CHAR:
        wr_u8(w, v->type == AMQP_FLOAT ? 0x72 : v->type == AMQP_CHAR ? 0x73 : 0x74);
        wr_be32(w, (uint32_t)v->u);
        break;
    case AMQP_DOUBLE:
    case AMQP_DECIMAL64:
        wr_u8(w, v->type == AMQP_DOUBLE ? 0x82 : 0x84);
        wr_be64(w, v->u);
        break;
    case AMQP_TIMESTAMP:
        amqp_put_timestamp(w, v->u);
        break;
    case AMQP_DECIMAL128:
    case AMQP_UUID:
        wr_u8(w, v->type == AMQP_UUID ? 0x98 : 0x94);
        wr_put(w, v->bytes);
        break;
    case AMQP_BINARY:
        amqp_put_binary(w, v->bytes);
        break;
    case AMQP_STRING:
        amqp_put_string(w, v->bytes);
        break;
    case AMQP_SYMBOL:
        amqp_put_symbol(w, v->bytes);
        break;
    default:
        wr_put(w, v->raw);
    }
}

void amqp_put_descriptor(struct wr *w, uint64_t code)
{
    wr_u8(w, 0);
    amqp_put_ulong(w, code);
}

/* A compound begins in its short form; when it has grown past it, its content moves up by six bytes. Growing
 * never hides that w has overflowed, which shrinking could. */
static size_t compound_begin(struct wr *w, uint8_t code)
{
    size_t at = w->len;
    wr_u8(w, code);
    wr_u8(w, 0);
    wr_u8(w, 0);
    return at;
}

static void compound_end(struct wr *w, size_t at, uint32_t count)
{
    size_t n = w->len - at - 3; /* bytes inside */
    struct wr head = { NULL, 0, 0 };
    if (n + 1 < 256 && count < 256) {
        if (!wr_ok(w))
            return;
        w->p[at + 1] = (uint8_t)(n + 1);
        w->p[at + 2] = (uint8_t)count;
        return;
    }
    w->len += 6;
    if (!wr_ok(w))
        return;
    memmove(w->p + at + 9, w->p + at + 3, n);
    head = (struct wr){ w->p + at, 9, 0 };
    wr_u8(&head, (uint8_t)(w->p[at] + 0x10));
    wr_be32(&head, (uint32_t)(n + 4));
    wr_be32(&head, count);
}

size_t amqp_list_begin(struct wr *w)
{
    return compound_begin(w, 0xc0);
}
void amqp_list_end(struct wr *w, size_t at, uint32_t count)
{
    compound_end(w, at, count);
}
size_t amqp_map_begin(struct wr *w)
{
    return compound_begin(w, 0xc1);
}
void amqp_map_end(struct wr *w, size_t at, uint32_t count)
{
    assert(count % 2 == 0);
    compound_end(w, at, count);
}
size_t amqp_array_begin(struct wr *w, uint8_t constructor)
{
    size_t at = compound_begin(w, 0xe0);
    wr_u8(w, constructor);
    return at;
}
void amqp_array_end(struct wr *w, size_t at, uint32_t count)
{
    compound_end(w, at, count);
}
void amqp_array_text_put(struct wr *w, struct span v)
{
    wr_be32(w, (uint32_t)v.n);
    wr_put(w, v);
}
