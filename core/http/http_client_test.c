/* core/http/http_client_test.c - responses whole, cut at every byte, byte by byte, and wrong in every way. */
#include "core/http/http_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>

struct got {
    struct http_response r;
    uint8_t body[4096];
    size_t body_len;
    int heads, ends;
    enum err e;
};

/* Feeds the wire in pieces of `step` bytes, each in memory of its exact size. */
static void feed(struct got *g, struct span wire, size_t step, bool head_only)
{
    memset(g, 0, sizeof *g);
    http_response_init(&g->r, head_only);
    while (wire.n && (!g->e || g->e == ERR_AGAIN)) {
        size_t n = wire.n < step ? wire.n : step;
        uint8_t *exact = malloc(n);
        memcpy(exact, wire.p, n);
        struct span in = span_of(exact, n), piece;
        enum http_response_event ev;
        while (!(g->e = http_response_next(&g->r, &in, &ev, &piece))) {
            g->heads += ev == HTTP_EV_HEAD;
            g->ends += ev == HTTP_EV_END;
            if (ev == HTTP_EV_BODY) {
                assert_true(g->body_len + piece.n <= sizeof g->body);
                memcpy(g->body + g->body_len, piece.p, piece.n);
                g->body_len += piece.n;
            }
        }
        free(exact);
        wire = span_skip(wire, n);
    }
}

static void all_ways(struct span wire, const char *body, unsigned status, bool by_eof)
{
    for (size_t step = 1; step <= wire.n; step++) {
        struct got g;
        feed(&g, wire, step, false);
        assert_int_equal(g.e, ERR_AGAIN);
        assert_int_equal(g.heads, 1);
        assert_int_equal(g.r.status, status);
        assert_true(span_eq(span_of(g.body, g.body_len), span_str(body)));
        if (by_eof) {
            assert_int_equal(g.ends, 0);
            assert_int_equal(http_response_eof(&g.r), ERR_OK);
        } else {
            assert_int_equal(g.ends, 1);
        }
    }
    for (size_t n = 0; n < wire.n && !by_eof; n++) { /* cut short: never an end, and the reader knows */
        struct got g;
        feed(&g, span_of(wire.p, n), wire.n, false);
        assert_int_equal(g.ends, 0);
        assert_int_equal(http_response_eof(&g.r), ERR_PROTO);
    }
}

static void every_framing_is_read(void **state)
{
    (void)state;
    all_ways(SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "hello", 200, false);
    all_ways(SPAN("HTTP/1.1 200\ncontent-length:5 \n\nhello"), "hello", 200, false);
    all_ways(SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: "
                  "x\r\n\r\n"),
             "hello", 200, false);
    all_ways(SPAN("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello"), "hello", 200, true);
    all_ways(SPAN("HTTP/1.1 204 No Content\r\n\r\n"), "", 204, false);
    all_ways(SPAN("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"), "", 304, false);
    all_ways(SPAN("HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
             "", 201, false);
    struct got g;
    feed(&g, SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), 99, true); /* HEAD */
    assert_int_equal(g.ends, 1);
    assert_true(g.r.has_length && g.r.length == 5);
}

static void fields_are_understood(void **state)
{
    (void)state;
    struct got g;
    feed(&g,
         SPAN("HTTP/1.1 206 Partial\r\nContent-Range: bytes 10-14/100\r\nRetry-After: 30\r\n"
              "Connection: Keep-Alive\r\nContent-Length: 0\r\n\r\n"),
         7, false);
    assert_true(g.r.has_range && g.r.has_range_total && g.r.keep_alive);
    assert_true(g.r.range_from == 10 && g.r.range_to == 14 && g.r.range_total == 100);
    assert_int_equal(g.r.retry_after_s, 30);
    feed(&g,
         SPAN("HTTP/1.1 206 P\r\nContent-Range: Bytes 0-0/*\r\nConnection: x, close\r\n"
              "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n"),
         1, false);
    assert_true(g.r.has_range && !g.r.has_range_total && !g.r.keep_alive);
    assert_int_equal(g.r.retry_after_s, 0);
    static const char *bad[] = { "bytes 5-4/10", "bytes 0-10/10", "bytes -5/10", "bytes 0-/10",
                                 "bytes */10",   "0-1/2",         "bytes 0-1",   "bytes 0/1-2" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[200];
        snprintf(text, sizeof text, "HTTP/1.1 206 P\r\nContent-Range: %s\r\nContent-Length: 0\r\n\r\n",
                 bad[i]);
        feed(&g, span_str(text), 200, false);
        assert_int_equal(g.heads, 1);
        assert_false(g.r.has_range);
    }
}

static void what_is_not_http_is_refused(void **state)
{
    (void)state;
    static const char *bad[] = {
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "220 ftp ready\r\n",
        "\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: x\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1 2\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (size_t step = 1; step < 100; step += 7) {
            struct got g;
            feed(&g, span_str(bad[i]), step, false);
            if (g.e != ERR_PROTO)
                fail_msg("taken: %s", bad[i]);
            struct span more = SPAN("HTTP/1.1 200 OK\r\n\r\n"), piece;
            enum http_response_event ev;
            assert_int_equal(http_response_next(&g.r, &more, &ev, &piece), ERR_PROTO); /* stays refused */
        }
    struct got g;
    feed(&g, SPAN("HTTP/1.1 200 O\0K\r\n\r\n"), 99, false);
    assert_int_equal(g.e, ERR_PROTO);
    feed(&g, SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n"), 99, false);
    assert_int_equal(g.e, ERR_LIMIT);
}

static void the_head_has_its_limits(void **state)
{
    (void)state;
    static char text[HTTP_CLIENT_HEAD_MAX * 2];
    struct got g;
    /* A field longer than a line we keep is skipped, unless the framing hangs on it. */
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 200 OK\r\nSet-Cookie: %0500d\r\nContent-Length: 2\r\n\r\nok", 0);
    for (size_t step = 1; step < 600; step += 13) {
        feed(&g, span_of(text, (size_t)n), step, false);
        assert_int_equal(g.ends, 1);
        assert_int_equal(g.body_len, 2);
    }
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %0500d\r\n\r\n", 0);
    feed(&g, span_of(text, (size_t)n), 50, false);
    assert_int_equal(g.e, ERR_PROTO);
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX: %0*d\r\nContent-Length: 0\r\n\r\n",
                 (int)HTTP_CLIENT_HEAD_MAX - 43, 0);
    assert_int_equal(n, HTTP_CLIENT_HEAD_MAX);
    feed(&g, span_of(text, (size_t)n), 100, false);
    assert_int_equal(g.ends, 1);
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX: %0*d\r\nContent-Length: 0\r\n\r\n",
                 (int)HTTP_CLIENT_HEAD_MAX - 42, 0);
    feed(&g, span_of(text, (size_t)n), 100, false);
    assert_int_equal(g.e, ERR_LIMIT);
}

static void responses_follow_one_another(void **state)
{
    (void)state;
    struct span in =
        SPAN("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nb");
    static const unsigned statuses[] = { 200, 404 };
    for (int i = 0; i < 2; i++) {
        struct http_response r;
        struct span piece;
        enum http_response_event ev;
        http_response_init(&r, false);
        assert_int_equal(http_response_next(&r, &in, &ev, &piece), ERR_OK);
        assert_int_equal(ev, HTTP_EV_HEAD);
        assert_int_equal(r.status, statuses[i]);
        assert_int_equal(http_response_next(&r, &in, &ev, &piece), ERR_OK);
        assert_int_equal(piece.p[0], "ab"[i]);
        assert_int_equal(http_response_next(&r, &in, &ev, &piece), ERR_OK);
        assert_int_equal(ev, HTTP_EV_END);
        assert_true(r.keep_alive);
        assert_int_equal(http_response_next(&r, &in, &ev, &piece), ERR_AGAIN); /* the rest is not its own */
    }
    assert_int_equal(in.n, 0);
}

static void requests_are_written(void **state)
{
    (void)state;
    uint8_t room[512];
    struct wr w = { room, sizeof room, 0 };
    struct http_request q = { .method = "POST",
                              .host = SPAN("hub.localhost:8443"),
                              .target = SPAN("/roost/v1/checkin"),
                              .content_type = SPAN("application/vnd.roost.report"),
                              .authorization = SPAN("SharedAccessSignature x"),
                              .user_agent = SPAN("roost/1"),
                              .fields = SPAN("A: b\r\n"),
                              .has_body = true,
                              .body_len = 12345678901 };
    http_request_encode(&w, &q);
    assert_true(
        span_eq(wr_span(&w),
                SPAN("POST /roost/v1/checkin HTTP/1.1\r\nHost: hub.localhost:8443\r\nUser-Agent: roost/1\r\n"
                     "Authorization: SharedAccessSignature x\r\n"
                     "Content-Type: application/vnd.roost.report\r\nContent-Length: 12345678901\r\n"
                     "A: b\r\n\r\n")));
    struct http_request get = { .method = "GET",
                                .host = SPAN("h"),
                                .target = SPAN("/a"),
                                .ranged = true,
                                .range_from = 100,
                                .range_len = 50,
                                .close = true };
    w.len = 0;
    http_request_encode(&w, &get);
    assert_true(
        span_eq(wr_span(&w),
                SPAN("GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=100-149\r\nConnection: close\r\n\r\n")));
    get.range_len = 0;
    w.len = 0;
    http_request_encode(&w, &get);
    room[w.len] = 0;
    assert_non_null(strstr((char *)room, "bytes=100-\r\n"));
}

static void addresses_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host, *authority, *target;
        uint16_t port;
    } good[] = {
        { "https://hub.localhost", "hub.localhost", "hub.localhost", "/", 443 },
        { "HTTP://h:8080/a/b?c=d", "h", "h:8080", "/a/b?c=d", 8080 },
        { "ftp://127.0.0.1/x", "127.0.0.1", "127.0.0.1", "/x", 21 },
        { "ftps://h/", "h", "h", "/", 990 },
        { "https://[::1]:443/x", "::1", "[::1]:443", "/x", 443 },
        { "https://[::1]", "::1", "[::1]", "/", 443 },
        { "gopher://h/x", "h", "h", "/x", 0 },
    };
    struct http_url u;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(http_url_parse(span_str(good[i].url), &u), ERR_OK);
        assert_true(span_eq(u.host, span_str(good[i].host)));
        assert_true(span_eq(u.authority, span_str(good[i].authority)));
        assert_true(span_eq(u.target, span_str(good[i].target)));
        assert_int_equal(u.port, good[i].port);
    }
    static const char *bad[] = { "",
                                 "https",
                                 "https:/h",
                                 "https://",
                                 "https:///x",
                                 "://h",
                                 "https://h:",
                                 "https://h:0",
                                 "https://h:65536",
                                 "https://h:x",
                                 "https://[::1",
                                 "https://[]",
                                 "https://[::1]x",
                                 "https://u@h/",
                                 "https://h/a b",
                                 "https://h?x",
                                 "https://h/a#b",
                                 "https://h/\r\nX: y" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(http_url_parse(span_str(bad[i]), &u), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_framing_is_read),        cmocka_unit_test(fields_are_understood),
        cmocka_unit_test(what_is_not_http_is_refused),  cmocka_unit_test(the_head_has_its_limits),
        cmocka_unit_test(responses_follow_one_another), cmocka_unit_test(requests_are_written),
        cmocka_unit_test(addresses_are_taken_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
