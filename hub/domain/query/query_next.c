/* hub/domain/query/query_next.c - continuations: the place and a mark over it and the query's text, in
 * hexadecimal. The mark's key is the hub's own, so a continuation outlives a restart. */
#include "base/text.h"
#include "hub/domain/query/query_impl.h"

#include <assert.h>

#define PLACE_LEN 16u
#define MARK_LEN  16u
static_assert(2 * (PLACE_LEN + MARK_LEN) == QUERY_NEXT_LEN, "hexadecimal");

static void mark(struct hub *h, struct span text, struct span place, uint8_t out[SHA256_LEN])
{
    const struct span parts[] = { SPAN("roost query continuation 1"), place, text };
    h->crypto->hmac_sha256(span_of(h->director_seed, sizeof h->director_seed), parts, 3, out);
}

struct span query_next_make(struct hub *h, struct arena *a, struct span text, const struct query_place *p)
{
    uint8_t place[PLACE_LEN], sum[SHA256_LEN];
    struct wr w = { place, sizeof place, 0 };
    struct wr out = { arena_alloc(a, QUERY_NEXT_LEN + 1), QUERY_NEXT_LEN, 0 };
    if (!out.p)
        return SPAN_NONE;
    wr_le64(&w, p->seq);
    wr_le64(&w, p->left);
    mark(h, text, wr_span(&w), sum);
    hex_encode(&out, wr_span(&w));
    hex_encode(&out, span_of(sum, MARK_LEN));
    return wr_span(&out);
}

enum err query_next_read(struct hub *h, struct span text, struct span token, struct query_place *p)
{
    uint8_t raw[PLACE_LEN + MARK_LEN], sum[SHA256_LEN];
    if (hex_decode(token, raw, sizeof raw))
        return ERR_VERIFY;
    mark(h, text, span_of(raw, PLACE_LEN), sum);
    if (!span_eq_ct(span_of(raw + PLACE_LEN, MARK_LEN), span_of(sum, MARK_LEN)))
        return ERR_VERIFY;
    struct rd r = rd_of(span_of(raw, PLACE_LEN));
    p->seq = rd_le64(&r);
    p->left = rd_le64(&r);
    return ERR_OK;
}
