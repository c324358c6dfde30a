/* core/trust/tlv.h - lists of tag, length, value: the three signed bodies and the device report, and whatever
 * needs the same rules. Tags ascend; a length has one way to be written; all numbers are little-endian.
 * Source: the update design, binding formats. */
#ifndef ROOST_CORE_TRUST_TLV_H
#define ROOST_CORE_TRUST_TLV_H

#include "base/err.h"
#include "base/span.h"

#include <string.h>

struct tlv {
    uint8_t tag;
    struct span val;
};
#define TLV_CRITICAL 0x80u /* from here on, a tag that the reader does not know refuses the whole list */

/* Next pair off *in. ERR_AGAIN: the list is empty; ERR_PROTO: cut short, or a length written the long way
 * round. Order is the caller's to check. */
MUST_USE enum err tlv_next(struct span *in, struct tlv *out);
/* The same, held to ascending tags. `again` is set when the tag is that of the pair before: only a tag that
 * is documented as a list, or is unknown, may do that. */
struct tlv_walk {
    struct span rest;
    uint8_t last; /* 0 at the start: there is no tag 0 */
    bool again;
};
MUST_USE enum err tlv_walk_next(struct tlv_walk *w, struct tlv *out);

/* Takes a whole list: each pair goes to field(), whose reader holds the value and has to be used up.
 *   field      ERR_NOTFOUND: a tag it does not know, which is skipped, or refuses the list from TLV_CRITICAL
 *              on; any other error ends the walk and is returned
 *   lists      bit t: the known tag t may come more than once
 *   have       out: bit t: tag t was there (tags below 64)
 * ERR_PROTO: bad order, a value that is too long or too short, a known tag twice. */
typedef enum err tlv_field_fn(void *ctx, uint8_t tag, struct rd *val);
MUST_USE enum err tlv_take_all(struct span list, uint64_t lists, tlv_field_fn *field, void *ctx,
                               uint64_t *have);
/* Copies n bytes of a value; when it has fewer, `out` stays as it was and the value is bad. */
static inline void rd_copy(struct rd *val, uint8_t *out, size_t n)
{
    struct span s = rd_take(val, n);
    if (s.n)
        memcpy(out, s.p, n);
}
#define TLV_BIT(tag) (UINT64_C(1) << (tag))

void tlv_put(struct wr *w, uint8_t tag, struct span val);
void tlv_put_u8(struct wr *w, uint8_t tag, uint8_t v);
void tlv_put_u16(struct wr *w, uint8_t tag, uint16_t v);
void tlv_put_u32(struct wr *w, uint8_t tag, uint32_t v);

#endif
