/* tests/fuzz/fuzz_twin.c - a stored section, its stamps and a patch, each any bytes, split at the first two
 * line feeds (the patch may be a JSON Patch as well): what is accepted is written and read again unchanged,
 * and merging keeps every promise. */
#include "hub/domain/twin/twin_digital.h"

#include <stdlib.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

static struct span cut(struct span *in)
{
    const uint8_t *p = in->n ? memchr(in->p, '\n', in->n) : NULL;
    struct span head = span_of(in->p, p ? (size_t)(p - in->p) : in->n);
    *in = p ? span_skip(*in, head.n + 1) : SPAN_NONE;
    return head;
}

static bool has_null(const struct jnode *n)
{
    bool found = n->kind == JNULL;
    for (const struct jnode *c = n->first; c && !found; c = c->next)
        found = has_null(c);
    return found;
}

static void again(struct arena *a, const struct jnode *n)
{
    struct jnode *m;
    struct span text = jtree_text(a, n);
    must(jtree_parse(a, text, &m, NULL) == ERR_OK);
    must(jtree_eq(n, m) && span_eq(text, jtree_text(a, m)));
}

static void stamps_again(struct arena *a, struct jnode *n)
{
    struct wr w = { 0 }, x = { 0 }, y = { 0 };
    struct jnode *m;
    twin_meta_encode(&w, n);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    twin_meta_encode(&w, n);
    must(jtree_parse(a, jtree_text(a, n), &m, NULL) == ERR_OK);
    must(twin_meta_decode(a, wr_span(&w), m) == ERR_OK);
    twin_section_write(&x, TWIN_DESIRED, n, 1, true);
    x = (struct wr){ arena_alloc(a, x.len), x.len, 0 };
    y = (struct wr){ arena_alloc(a, x.cap), x.cap, 0 };
    twin_section_write(&x, TWIN_DESIRED, n, 1, true);
    twin_section_write(&y, TWIN_DESIRED, m, 1, true);
    must(span_eq(wr_span(&x), wr_span(&y)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct twin_stamp now = { 1700000000123, 77 };
    struct arena a;
    struct span in = span_of(data, size);
    struct span base_text = cut(&in), patch_text = cut(&in), meta = in;
    struct jnode *base = NULL, *patch = NULL, *kept = NULL;
    struct twin_fault f = { TWIN_FINE, "" };
    if (size > 4096)
        return 0;
    arena_init(&a, 256u << 20);
    if (!jtree_parse(&a, base_text, &base, NULL))
        again(&a, base);
    if (!jtree_parse(&a, patch_text, &patch, NULL)) {
        again(&a, patch);
        enum err e = twin_check(&a, TWIN_DESIRED, patch, size & 1, &kept, &f);
        must((e == ERR_OK) == (kept != NULL) && (e == ERR_OK) == !f.wrong);
    }
    if (base && (base->kind != JOBJECT || twin_meta_decode(&a, meta, base)))
        base = NULL;
    if (base) {
        (void)twin_size(base);
        (void)!twin_check_size(TWIN_TAGS, base, &f);
        stamps_again(&a, base);
    }
    if (base && kept) {
        struct jnode *next = twin_merge(&a, base, kept, &now);
        must(next && next->mark == &now);
        again(&a, next);
        stamps_again(&a, next);
        must(jtree_eq(next, twin_merge(&a, next, kept, &now))); /* once more changes nothing */
        if (!has_null(next))
            must(jtree_eq(next, twin_merge(&a, base, twin_replacement(&a, base, next), &now)));
    }
    if (base) {
        enum twin_digital_wrong wrong = DIGITAL_FINE;
        struct twin_patch p;
        struct twin t = { .row = { .device = SPAN("d") }, .desired = base, .reported = kept ? kept : base };
        struct wr w = { 0 };
        enum err e = twin_digital_patch(&a, patch_text, base, &p, &wrong, &f);
        must(e == ERR_OK || (e == ERR_PROTO && wrong));
        if (!e)
            again(&a, twin_merge(&a, base, p.desired.patch, &now));
        twin_digital_write(&w, &t);
        w = (struct wr){ arena_alloc(&a, w.len), w.len, 0 };
        twin_digital_write(&w, &t);
        must(jtree_parse(&a, wr_span(&w), &patch, NULL) == ERR_OK || base->nr);
    }
    arena_fini(&a);
    return 0;
}
