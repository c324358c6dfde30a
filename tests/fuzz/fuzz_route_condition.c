/* tests/fuzz/fuzz_route_condition.c - any text as the condition of a route, evaluated over a message; any
 * bytes as its body, in every encoding. */
#include "core/query/query.h"

#include <stdlib.h>

static uint8_t room[QUERY_MEM(QUERY_TEXT_MAX)] __attribute__((aligned(16)));
static uint8_t scratch[4096], body[1 << 16];

static bool get_system(void *ctx, struct span name, struct span *value)
{
    *value = span_ieq(name, SPAN("contentType")) ? SPAN("application/json") : span_str(ctx);
    return span_ieq(name, SPAN("contentType")) || span_ieq(name, SPAN("contentEncoding"));
}
static bool get_app(void *ctx, struct span name, struct span *value)
{
    (void)ctx;
    *value = name;
    return name.n < 8;
}

static void match(const struct query *q, const char *encoding, struct span bytes)
{
    static struct query_document twin;
    struct query_message m = {
        .ctx = (void *)(uintptr_t)encoding, .system = get_system, .app = get_app, .twin = &twin.row
    };
    struct wr mem = { scratch, sizeof scratch, 0 }, keep = { body, sizeof body, 0 };
    query_document_init(&twin, bytes);
    query_message_init(&m, bytes, &keep);
    (void)query_match(q->where, &m.row, &mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_of(data, size);
    struct query q;
    struct query_error err;
    enum err e = query_parse_route(&q, text, room, sizeof room, &err);
    if (e == ERR_NOMEM || (e && (!err.message[0] || err.at > size)))
        abort();
    if (!e)
        match(&q, "utf-8", SPAN("{\"a\":{\"b\":[1,2,{\"c\":\"x\"}]},\"t\":true}"));
    if (query_parse_route(&q, SPAN("$body.a.b[1].c = 'x' OR $twin.tags.a = LOWER($body.s)"), room,
                          sizeof room, &err))
        abort();
    match(&q, "utf-8", text);
    match(&q, "utf-16", text);
    match(&q, "utf-32", text);
    return 0;
}
