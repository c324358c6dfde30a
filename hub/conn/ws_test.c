/* hub/conn/ws_test.c - WebSocket rules frame by frame, cut at every byte; then over a real upgrade. */
#include "hub/conn/http_conn.h"
#include "hub/conn/net_fixture.h"
#include "hub/conn/ws.h"

/* One client frame; the mask is not zero so that forgetting it shows. */
static size_t frame(uint8_t *out, unsigned first, const void *p, size_t n)
{
    static const uint8_t mask[4] = { 0x12, 0x34, 0x56, 0x78 };
    struct wr w = { out, SIZE_MAX, 0 };
    wr_u8(&w, (uint8_t)first);
    if (n < 126) {
        wr_u8(&w, (uint8_t)(0x80 | n));
    } else if (n < 65536) {
        wr_u8(&w, 0x80 | 126);
        wr_be16(&w, (uint16_t)n);
    } else {
        wr_u8(&w, 0x80 | 127);
        wr_be16(&w, 0);
        wr_be16(&w, 0);
        wr_be16(&w, (uint16_t)(n >> 16));
        wr_be16(&w, (uint16_t)n);
    }
    wr_put(&w, span_of(mask, 4));
    for (size_t i = 0; i < n; i++)
        wr_u8(&w, ((const uint8_t *)p)[i] ^ mask[i % 4]);
    return w.len;
}

static uint8_t answers[4096];
static size_t answers_len;
static void put(void *ctx, struct span f)
{
    (void)ctx;
    memcpy(answers + answers_len, f.p, f.n);
    answers_len += f.n;
}

/* Decodes in pieces of `piece`; stops at the first error. */
static enum err decode(const uint8_t *in, size_t n, size_t piece, struct wr *stream)
{
    struct ws *ws;
    enum err e = ERR_OK;
    assert_int_equal(ws_new(&ws), ERR_OK);
    answers_len = 0;
    for (size_t i = 0; i < n && !e; i += piece)
        e = ws_decode(ws, span_of(in + i, n - i < piece ? n - i : piece), stream, put, NULL);
    ws_free(ws);
    return e;
}

static void frames_become_a_stream_however_they_are_cut(void **state)
{
    (void)state;
    static uint8_t in[70000], out[70000], big[66000];
    size_t n = 0;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7);
    n += frame(in + n, 0x82, "a", 1); /* one byte a message, as one SDK begins */
    n += frame(in + n, 0x82, "", 0);
    n += frame(in + n, 0x02, "bc", 2); /* fragmented, a ping in between */
    n += frame(in + n, 0x89, "ping", 4);
    n += frame(in + n, 0x00, "", 0);
    n += frame(in + n, 0x80, "d", 1);
    n += frame(in + n, 0x8a, "unasked", 7);
    n += frame(in + n, 0x82, big, 200);
    n += frame(in + n, 0x82, big, sizeof big);
    for (size_t piece = 1; piece < 6000; piece = piece * 3 + 1) {
        struct wr w = { out, sizeof out, 0 };
        assert_int_equal(decode(in, n, piece, &w), ERR_OK);
        assert_int_equal(w.len, 4 + 200 + sizeof big);
        assert_memory_equal(out, "abcd", 4);
        assert_memory_equal(out + 4, big, 200);
        assert_memory_equal(out + 204, big, sizeof big);
        assert_int_equal(answers_len, 6);
        assert_memory_equal(answers, "\x8a\x04ping", 6);
    }
}

static void every_cut_is_waited_for(void **state)
{
    (void)state;
    uint8_t in[64], out[64];
    size_t n = frame(in, 0x82, "hello", 5);
    n += frame(in + n, 0x89, "p", 1);
    for (size_t cut = 0; cut <= n; cut++) {
        struct ws *ws;
        struct wr w = { out, sizeof out, 0 };
        answers_len = 0;
        assert_int_equal(ws_new(&ws), ERR_OK);
        assert_int_equal(ws_decode(ws, span_of(in, cut), &w, put, NULL), ERR_OK);
        assert_int_equal(ws_decode(ws, span_of(in + cut, n - cut), &w, put, NULL), ERR_OK);
        assert_int_equal(w.len, 5);
        assert_memory_equal(out, "hello", 5);
        assert_int_equal(answers_len, 3);
        ws_free(ws);
    }
}

static void what_breaks_the_rules_is_closed(void **state)
{
    (void)state;
    uint8_t out[512], big[200] = { 0 };
    struct {
        uint8_t in[400];
        size_t n;
        uint16_t code;
    } c[16] = { { .code = 0 } };
    size_t nr = 0;
#define CASE(code_, ...)                                                                                     \
    do {                                                                                                     \
        c[nr].n = __VA_ARGS__;                                                                               \
        c[nr++].code = code_;                                                                                \
    } while (0)
    memcpy(c[nr].in, "\x82\x01x", 3);
    CASE(1002, 3);                                /* not masked */
    CASE(1003, frame(c[nr].in, 0x81, "text", 4)); /* text */
    CASE(1002, frame(c[nr].in, 0xc2, "x", 1));    /* a reserved bit */
    CASE(1002, frame(c[nr].in, 0x80, "x", 1));    /* continues nothing */
    CASE(1002, frame(c[nr].in, 0x83, "x", 1));    /* unknown kind */
    CASE(1002, frame(c[nr].in, 0x8b, "x", 1));    /* unknown control */
    CASE(1002, frame(c[nr].in, 0x09, "x", 1));    /* fragmented control */
    CASE(1002, frame(c[nr].in, 0x89, big, 126));  /* control too long */
    CASE(1002, frame(c[nr].in, 0x88, "x", 1));    /* closing with half a code */
    size_t first = frame(c[nr].in, 0x02, "x", 1);
    CASE(1002, first + frame(c[nr].in + first, 0x82, "y", 1)); /* a message within a message */
    memcpy(c[nr].in, "\x82\xfe\x00\x05\x00\x00\x00\x00hello", 13);
    CASE(1002, 13); /* a length longer than it need be */
    for (size_t i = 0; i < nr; i++)
        for (size_t piece = 1; piece <= c[i].n; piece += c[i].n > 1 ? c[i].n - 1 : 1) {
            struct wr w = { out, sizeof out, 0 };
            assert_int_equal(decode(c[i].in, c[i].n, piece, &w), ERR_PROTO);
            assert_true(answers_len >= 4);
            assert_int_equal(answers[0], 0x88);
            assert_int_equal(answers[2] << 8 | answers[3], c[i].code);
        }
}

static void closing_is_answered_with_the_same_code(void **state)
{
    (void)state;
    uint8_t in[64], out[64];
    struct wr w = { out, sizeof out, 0 };
    size_t n = frame(in, 0x88,
                     "\x03\xe8"
                     "bye",
                     5);
    n += frame(in + n, 0x82, "ignored", 7);
    assert_int_equal(decode(in, n, n, &w), ERR_STOPPED);
    assert_int_equal(answers_len, 4);
    assert_memory_equal(answers, "\x88\x02\x03\xe8", 4);
    assert_int_equal(w.len, 0);
    n = frame(in, 0x88, "", 0);
    assert_int_equal(decode(in, n, 1, &w), ERR_STOPPED);
    assert_int_equal(answers_len, 2);
}

/* ---- over a connection ----------------------------------------------------------------------------- */

static unsigned closed_nr;
static enum conn_close closed_why;
static void echo_bytes(struct conn *c, struct span *in)
{
    conn_established(c);
    if (in->n < 3)
        return; /* units of three: the rest is kept */
    size_t n = in->n - in->n % 3;
    conn_send(c, span_of(in->p, n));
    *in = span_skip(*in, n);
}
static void echo_close(struct conn *c, enum conn_close why)
{
    (void)c;
    closed_nr++;
    closed_why = why;
}
static const struct conn_proto echo_proto = {
    .name = "echo", .state_len = 8, .on_bytes = echo_bytes, .in_max = 16, .on_close = echo_close
};
static bool upgrade(struct http_req *r)
{
    if (!span_eq(r->path, SPAN("/ws")))
        return false;
    http_websocket_accept(r, http_field(r, "Sec-WebSocket-Protocol"), &echo_proto, NULL);
    return true;
}
static const struct http_route no_routes[] = { { 0, NULL, NULL, 0 } };
static struct http_routes second = { .table = no_routes, .on_upgrade = upgrade };
static struct http_routes routes = { .table = no_routes, .next = &second };

#define UPGRADE(path)                                                                                        \
    "GET " path " HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"          \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: "   \
    "mqtt\r\n\r\n"

static void an_upgrade_carries_a_stream(void **state)
{
    struct net_fixture f;
    static char out[4096];
    uint8_t in[2048];
    (void)state;
    net_start(&f, NULL, NULL, &http_proto, &routes);
    closed_nr = 0;
    int fd = net_connect(&f);
    /* The first frame comes with the request: nothing of it may be lost. */
    size_t n = (size_t)snprintf((char *)in, sizeof in, "%s", UPGRADE("/ws"));
    n += frame(in + n, 0x82, "ab", 2);
    net_write(&f, fd, in, n);
    n = net_read(&f, fd, out, sizeof out, 120);
    assert_memory_equal(out, "HTTP/1.1 101", 12);
    assert_non_null(strstr(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    n = frame(in, 0x82, "cdefg", 5);
    for (size_t i = 0; i < n; i++) {
        net_write(&f, fd, in + i, 1);
        worker_turn(f.w, 0);
    }
    n = net_read(&f, fd, out, sizeof out, 10); /* two messages at most: abc, def */
    assert_true(n == 8 || n == 10);
    assert_int_equal((uint8_t)out[0], 0x82);
    n = frame(in, 0x89, "?", 1);
    n += frame(in + n, 0x88, "\x03\xe8", 2);
    net_write(&f, fd, in, n);
    n = net_read_all(&f, fd, out, sizeof out);
    assert_memory_equal(out + n - 7, "\x8a\x01?\x88\x02\x03\xe8", 7);
    close(fd);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    assert_int_equal(closed_nr, 1);
    assert_int_equal(closed_why, CONN_CLOSE_PEER);
    net_stop(&f);
}

static void a_stream_that_breaks_in_max_is_closed(void **state)
{
    struct net_fixture f;
    static char out[4096];
    uint8_t in[256];
    (void)state;
    net_start(&f, NULL, NULL, &http_proto, &routes);
    closed_nr = 0;
    int fd = net_connect(&f);
    net_write(&f, fd, UPGRADE("/ws"), sizeof UPGRADE("/ws") - 1);
    net_read(&f, fd, out, sizeof out, 120);
    size_t n = frame(in, 0x81, "text", 4);
    net_write(&f, fd, in, n);
    n = net_read_all(&f, fd, out, sizeof out);
    assert_int_equal(n, 4);
    assert_memory_equal(out, "\x88\x02\x03\xeb", 4); /* 1003, once */
    assert_int_equal(closed_why, CONN_CLOSE_PROTO);
    close(fd);
    net_stop(&f);
}

static void bad_upgrades_are_refused(void **state)
{
    static const struct {
        const char *in, *status;
    } cases[] = {
        { UPGRADE("/elsewhere"), "404" },
        { "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "400" },
        { "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
          "abcd\r\n"
          "Sec-WebSocket-Version: 13\r\n\r\n",
          "400" },
        { "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 8\r\n\r\n",
          "426" },
        { "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", "404" },
        { "POST /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: "
          "0\r\n\r\n",
          "404" },
    };
    struct net_fixture f;
    static char out[4096];
    (void)state;
    net_start(&f, NULL, NULL, &http_proto, &routes);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = net_connect(&f);
        net_write(&f, fd, cases[i].in, strlen(cases[i].in));
        net_read(&f, fd, out, sizeof out, 20);
        if (strncmp(out + 9, cases[i].status, 3))
            fail_msg("%s--> %s", cases[i].in, out);
        close(fd);
    }
    net_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_become_a_stream_however_they_are_cut),
        cmocka_unit_test(every_cut_is_waited_for),
        cmocka_unit_test(what_breaks_the_rules_is_closed),
        cmocka_unit_test(closing_is_answered_with_the_same_code),
        cmocka_unit_test(an_upgrade_carries_a_stream),
        cmocka_unit_test(a_stream_that_breaks_in_max_is_closed),
        cmocka_unit_test(bad_upgrades_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
