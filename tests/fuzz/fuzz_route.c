/* tests/fuzz/fuzz_route.c - a definition of a route, an endpoint, an enrichment and the fallback, any bytes
 * up to the first line feed; behind it any bytes as a record. What is accepted is accepted again when it is
 * written anew; what is decided and added keeps the message. */
#include "hub/domain/event/route.h"

#include "hub/domain/metrics.h"

#include <stdlib.h>

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void decide(const struct route_spec *r, const struct enrichment_spec *n, struct span record)
{
    static const char *const names[] = { "hub.example.net", NULL };
    static uint8_t keep[1 << 20], scratch[QUERY_SCRATCH], out[1 << 20];
    static struct hub_metrics metrics;
    struct hub h = { .names = names, .metrics = &metrics, .settings.message_max = 262144 };
    struct route_spec route = *r;
    struct enrichment_spec more = *n;
    struct route_set s = {
        .routes = &route, .routes_nr = 1, .enrichments = &more, .enrichments_nr = 1, .fallback = true
    };
    struct message m, again;
    struct route_eval v;
    struct wr w = { out, sizeof out, 0 };
    if (message_decode(record, &m) || ROUTE_KEEP(m.body.n) > sizeof keep)
        return;
    route.targets = 2;
    more.targets = 3;
    route_eval_init(&v, &h, NULL, &m, 1000, (struct wr){ keep, sizeof keep, 0 },
                    (struct wr){ scratch, sizeof scratch, 0 });
    query_document_init(&v.given,
                        SPAN("{\"tags\":{\"a\":{\"b\":[1,\"x\"]}},\"properties\":{\"reported\":{\"c\":5}}}"));
    uint32_t targets = route_set_targets(&s, &v);
    must(!(targets & ~3u));
    enum err e = route_set_enrich(&s, &v, 1, record, &w);
    must(!e || e == ERR_LIMIT);
    if (e || !wr_ok(&w))
        return;
    must(!message_decode(wr_span(&w), &again));
    must(span_eq(again.body, m.body) && span_eq(again.device, m.device) &&
         message_size(&again) >= message_size(&m));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    struct span text = span_of(data, end ? (size_t)(end - data) : size);
    struct span record = end ? span_of(end + 1, size - text.n - 1) : SPAN_NONE;
    struct arena a;
    struct jnode *o;
    arena_init(&a, 64 << 20);
    if (!jtree_parse(&a, text, &o, NULL)) {
        struct route_spec r, r2, all;
        struct endpoint_spec p, p2;
        struct enrichment_spec n, n2, none;
        struct route_fault f;
        struct jnode *again, *any, *text_only;
        bool on;
        must(!jtree_parse(&a, jtree_text(&a, o), &again, NULL));
        must(!jtree_parse(&a, SPAN("{\"endpoints\":[\"events\"]}"), &any, NULL));
        must(!jtree_parse(&a, SPAN("{\"endpoints\":[\"events\"],\"value\":\"x\"}"), &text_only, NULL));
        must(!route_parse(&a, SPAN("r"), any, &all, &f) &&
             !enrichment_parse(&a, SPAN("n"), text_only, &none, &f));
        bool route = !route_parse(&a, SPAN("r"), o, &r, &f);
        must(route == !route_parse(&a, SPAN("r"), again, &r2, &f));
        bool enrichment = !enrichment_parse(&a, SPAN("n"), o, &n, &f);
        must(enrichment == !enrichment_parse(&a, SPAN("n"), again, &n2, &f));
        must(!endpoint_parse(&a, SPAN("p"), o, &p, &f) == !endpoint_parse(&a, SPAN("p"), again, &p2, &f));
        (void)!fallback_parse(o, &on, &f);
        decide(route ? &r : &all, enrichment ? &n : &none, record);
    }
    arena_fini(&a);
    return 0;
}
