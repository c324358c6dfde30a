/* tests/fuzz/fuzz_query.c - any text as a query, a target condition and a JSON document; what is taken can be
 * evaluated over it. */
#include "core/query/query.h"

#include <stdlib.h>

static uint8_t room[QUERY_MEM(QUERY_TEXT_MAX)] __attribute__((aligned(16)));
static uint8_t scratch[4096], out[1 << 17];

static void run(const struct query *q, struct span json)
{
    struct query_document d;
    struct query_fold fold[QUERY_ITEMS_MAX];
    struct wr mem = { scratch, sizeof scratch, 0 }, w = { out, sizeof out, 0 };
    struct query_value none = { .kind = QUERY_UNDEFINED };
    query_document_init(&d, json);
    (void)query_match(q->where, &d.row, &mem);
    memset(fold, 0, sizeof fold);
    if (q->aggregates) {
        query_fold_row(q, &d.row, &mem, fold);
        query_fold_put(q, &none, fold, &w);
    } else {
        query_project(q, &d.row, &mem, &w);
    }
    if (query_json_valid(json) && wr_ok(&w) && !query_json_valid(wr_span(&w)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct span doc =
        SPAN("{\"deviceId\":\"d\",\"tags\":{\"a\":1,\"b\":[1,\"x\"],\"c\":{\"d\":null}}}");
    struct span text = span_of(data, size);
    struct query q;
    struct query_error err;
    enum err e = query_parse(&q, text, room, QUERY_MEM(size < QUERY_TEXT_MAX ? size : QUERY_TEXT_MAX), &err);
    if (e == ERR_NOMEM || (e && (!err.message[0] || err.at > size)))
        abort();
    if (!e)
        run(&q, doc);
    if (!query_parse_condition(&q, QUERY_MODULES, text, room, sizeof room, &err))
        run(&q, doc);
    /* The same bytes as what is looked at. */
    if (!query_parse(&q,
                     SPAN("SELECT tags.a, tags.[[b c]].c[1] AS x, deviceId FROM devices WHERE "
                          "ARRAY_CONTAINS(tags.b, 'x') OR tags.a > 1"),
                     room, sizeof room, &err))
        run(&q, text);
    return 0;
}
