/* core/trust/tlv.c - the rules of tag-length-value lists, and writing them. */
#include "core/trust/tlv.h"

#include <assert.h>

enum err tlv_next(struct span *in, struct tlv *out)
{
    struct rd r = rd_of(*in);
    struct tlv t;
    size_t len;

    if (in->n == 0)
        return ERR_AGAIN;
    t.tag = rd_u8(&r);
    len = rd_u8(&r);
    if (len == 0xff) {
        len = rd_le16(&r);
        if (len < 0xff) /* one way to write a length, so that one list has one encoding */
            return ERR_PROTO;
    }
    t.val = rd_take(&r, len);
    if (r.bad)
        return ERR_PROTO;
    *in = span_of(r.p, r.n);
    *out = t;
    return ERR_OK;
}

enum err tlv_walk_next(struct tlv_walk *w, struct tlv *out)
{
    struct tlv t;
    enum err e = tlv_next(&w->rest, &t);
    if (e)
        return e;
    if (t.tag == 0 || t.tag < w->last)
        return ERR_PROTO;
    w->again = t.tag == w->last;
    w->last = t.tag;
    *out = t;
    return ERR_OK;
}

enum err tlv_take_all(struct span list, uint64_t lists, tlv_field_fn *field, void *ctx, uint64_t *have)
{
    struct tlv_walk w = { .rest = list };
    struct tlv f;
    enum err e;

    *have = 0;
    while ((e = tlv_walk_next(&w, &f)) == ERR_OK) {
        struct rd val = rd_of(f.val);
        uint64_t bit = f.tag < 64 ? TLV_BIT(f.tag) : 0;
        e = field(ctx, f.tag, &val);
        if (e == ERR_NOTFOUND && f.tag < TLV_CRITICAL)
            continue;
        if (e == ERR_NOTFOUND || (!e && (val.bad || val.n)) || (!e && w.again && !(lists & bit)))
            return ERR_PROTO;
        if (e)
            return e;
        *have |= bit;
    }
    return e == ERR_AGAIN ? ERR_OK : e;
}

void tlv_put(struct wr *w, uint8_t tag, struct span val)
{
    assert(val.n <= 0xffff);
    wr_u8(w, tag);
    if (val.n < 0xff) {
        wr_u8(w, (uint8_t)val.n);
    } else {
        wr_u8(w, 0xff);
        wr_le16(w, (uint16_t)val.n);
    }
    wr_put(w, val);
}

void tlv_put_u8(struct wr *w, uint8_t tag, uint8_t v)
{
    wr_u8(w, tag);
    wr_u8(w, 1);
    wr_u8(w, v);
}

void tlv_put_u16(struct wr *w, uint8_t tag, uint16_t v)
{
    wr_u8(w, tag);
    wr_u8(w, 2);
    wr_le16(w, v);
}

void tlv_put_u32(struct wr *w, uint8_t tag, uint32_t v)
{
    wr_u8(w, tag);
    wr_u8(w, 4);
    wr_le32(w, v);
}
