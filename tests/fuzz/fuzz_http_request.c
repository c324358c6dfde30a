/* tests/fuzz/fuzz_http_request.c - any bytes as requests: head, route, body. Whole and byte by byte must come
 * to the same; a request that two readers could understand differently must not pass. */
#include "hub/conn/http_head.h"
#include "hub/conn/http_route.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void nothing(struct http_req *r)
{
    (void)r;
}
static const struct http_route table[] = { { HTTP_GET_, "/a/{}/b/{}", nothing, 10 },
                                           { HTTP_POST_, "/{}", nothing, 10 },
                                           { 0, NULL, NULL, 0 } };
static const struct http_routes routes = { .table = table };

/* What came out of the first request, as bytes to compare. */
struct outcome {
    enum err head, body;
    uint16_t refuse;
    size_t used; /* of the input, when both are complete */
    struct wr w;
    uint8_t text[65536];
};

static void run(struct span in, size_t piece, struct outcome *o)
{
    struct http_head h;
    struct http_body b = { 0 };
    bool in_body = false;
    size_t taken = 0;
    o->head = o->body = ERR_AGAIN;
    o->refuse = 0;
    o->used = 0;
    o->w = (struct wr){ o->text, sizeof o->text, 0 };
    http_head_init(&h);
    while (in.n && o->body == ERR_AGAIN && (o->head == ERR_AGAIN || o->head == ERR_OK)) {
        struct span s = span_of(in.p, in.n < piece ? in.n : piece);
        size_t offered = s.n;
        if (!in_body) {
            o->head = http_head_feed(&h, &s);
            if (o->head == ERR_OK) {
                http_body_init(&b, &h);
                in_body = true;
            }
        }
        while (in_body) {
            struct span p;
            o->body = http_body_next(&b, &s, &p);
            if (o->body != ERR_OK)
                break;
            if (!p.n)
                abort();
            wr_put(&o->w, p);
            o->body = ERR_AGAIN;
        }
        if (o->head == ERR_AGAIN && s.n)
            abort(); /* it wants more, and has not taken what there is */
        taken += offered - s.n;
        in = span_skip(in, offered - s.n);
        if (offered == s.n && o->head == ERR_OK && o->body == ERR_AGAIN)
            abort(); /* no progress */
    }
    o->refuse = h.refuse;
    if (o->body == ERR_STOPPED)
        o->used = taken;
    if (o->head == ERR_OK) {
        struct span v, path, query;
        size_t at = 0, lengths = 0, codings = 0;
        while (http_head_field(&h, SPAN("content-length"), &at, &v))
            lengths++;
        at = 0;
        while (http_head_field(&h, SPAN("transfer-encoding"), &at, &v))
            codings++;
        if (lengths + codings > 1)
            abort();
        wr_put(&o->w, http_head_target(&h));
        if (!http_target_split(http_head_target(&h), &path, &query)) {
            struct http_match m;
            uint8_t *scratch = malloc(path.n + 1);
            http_route_find(&routes, HTTP_GET_ | HTTP_POST_, path, scratch, &m);
            for (int i = 0; m.route && i < 2; i++)
                wr_put(&o->w, m.params[i]);
            if (http_query_find(query, SPAN("q"), &v))
                wr_put(&o->w, v);
            free(scratch);
        }
    }
    http_head_fini(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome a, b;
    if (size > 40000)
        return 0;
    run(span_of(data, size), SIZE_MAX, &a);
    run(span_of(data, size), 1, &b);
    if ((a.head == ERR_OK) != (b.head == ERR_OK) || a.body != b.body || a.used != b.used ||
        (a.head == ERR_OK && !span_eq(wr_span(&a.w), wr_span(&b.w))))
        abort();
    return 0;
}
