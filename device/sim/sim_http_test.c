/* device/sim/sim_http_test.c - an exchange against a listener of this test: answers cut at every byte, kept
 * connections, and the ways an exchange can fail. */
#include "device/sim/sim_http.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct tls_client *tls;
    struct sim_http h;
    int listen_fd, fd; /* fd: the server's side of the connection */
    char url[64];
    unsigned status, retry_after;
    char body[256];
    size_t body_len;
};

static void on_status(void *ctx, uint32_t id, unsigned status, uint32_t retry_after_s)
{
    struct world *w = (struct world *)ctx;
    assert_int_equal(id, 7);
    w->status = status;
    w->retry_after = retry_after_s;
}

static void on_body(void *ctx, uint32_t id, struct span piece)
{
    struct world *w = (struct world *)ctx;
    assert_int_equal(id, 7);
    assert_true(w->body_len + piece.n < sizeof w->body);
    memcpy(w->body + w->body_len, piece.p, piece.n);
    w->body_len += piece.n;
    w->body[w->body_len] = 0;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    assert_int_equal(tls_client_new(&w->tls), ERR_OK);
    w->fd = -1;
    w->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(w->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(w->listen_fd, 4), 0);
    assert_int_equal(getsockname(w->listen_fd, (struct sockaddr *)&a, &n), 0);
    snprintf(w->url, sizeof w->url, "http://127.0.0.1:%u/artifacts/x?y", ntohs(a.sin_port));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = (struct world *)*state;
    sim_http_close(&w->h);
    tls_client_free(w->tls);
    if (w->fd >= 0)
        close(w->fd);
    close(w->listen_fd);
    free(w);
    return 0;
}

static enum err move(struct world *w)
{
    uint8_t buf[512];
    struct sim_http_sink sink = { w, on_status, on_body };
    return sim_http_move(&w->h, &sink, buf, sizeof buf);
}

static void wait_client(struct world *w)
{
    struct pollfd p = { .fd = tls_conn_fd(w->h.conn), .events = (short)tls_conn_events(w->h.conn) };
    assert_int_equal(poll(&p, 1, 10000), 1);
}

static struct roost_dev_exchange get(struct world *w)
{
    return (struct roost_dev_exchange){ .id = 7, .method = ROOST_DEV_GET, .url = span_str(w->url) };
}

static void begin(struct world *w, const struct roost_dev_exchange *x)
{
    w->status = 0;
    w->body_len = 0;
    w->body[0] = 0;
    assert_int_equal(sim_http_begin(&w->h, x), ERR_OK);
}

/* Connects and waits until the request is with the server, as text. */
static void deliver(struct world *w, char *text, size_t cap)
{
    size_t n = 0;
    if (!w->h.conn)
        assert_int_equal(sim_http_dial(&w->h, w->tls, 0, NULL), ERR_OK);
    assert_int_equal(move(w), ERR_AGAIN);
    if (!w->h.open)
        wait_client(w);
    assert_int_equal(move(w), ERR_AGAIN);
    if (w->fd < 0)
        w->fd = accept(w->listen_fd, NULL, NULL);
    assert_true(w->fd >= 0);
    while (n < w->h.out_len) {
        ssize_t got = recv(w->fd, text + n, cap - 1 - n, 0);
        assert_true(got > 0);
        n += (size_t)got;
    }
    text[n] = 0;
}

static void answer(struct world *w, const char *text, size_t n)
{
    assert_int_equal(send(w->fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void say(struct world *w, struct span s)
{
    answer(w, (const char *)s.p, s.n);
}

static enum err finish(struct world *w)
{
    enum err e;
    while ((e = move(w)) == ERR_AGAIN)
        wait_client(w);
    return e;
}

static void hang_up(struct world *w)
{
    close(w->fd);
    w->fd = -1;
}

static void test_request_as_it_leaves(void **state)
{
    struct world *w = (struct world *)*state;
    char text[1024];
    struct roost_dev_exchange x = get(w);
    x.method = ROOST_DEV_POST;
    x.body = SPAN("{}");
    x.content_type = SPAN("application/json");
    x.signature = SPAN("c2ln");
    x.authorization = SPAN("SharedAccessSignature sr=x");
    begin(w, &x);
    deliver(w, text, sizeof text);
    assert_non_null(strstr(text, "POST /artifacts/x?y HTTP/1.1\r\n"));
    assert_non_null(strstr(text, "\r\nRoost-Signature: c2ln\r\n"));
    assert_non_null(strstr(text, "\r\nAuthorization: SharedAccessSignature sr=x\r\n"));
    assert_non_null(strstr(text, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(text, "\r\n\r\n{}"));
    say(w, SPAN("HTTP/1.1 429 Slow\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"));
    assert_int_equal(finish(w), ERR_OK);
    assert_int_equal(w->status, 429);
    assert_int_equal(w->retry_after, 9);
    x = get(w);
    x.ranged = true;
    x.offset = 4096;
    x.len = 100;
    assert_true(sim_http_fits(&w->h, &x));
    begin(w, &x);
    deliver(w, text, sizeof text);
    assert_non_null(strstr(text, "\r\nRange: bytes=4096-4195\r\n"));
}

static void test_answer_cut_at_every_byte(void **state)
{
    static const char whole[] =
        "HTTP/1.1 206 Partial\r\nContent-Length: 11\r\nContent-Range: bytes 0-10/50\r\n\r\nhello world";
    struct world *w = (struct world *)*state;
    struct roost_dev_exchange x = get(w);
    char text[1024];
    for (size_t cut = 1; cut < sizeof whole - 1; cut++) {
        begin(w, &x); /* on the connection of the one before */
        deliver(w, text, sizeof text);
        answer(w, whole, cut);
        wait_client(w);
        assert_int_equal(move(w), ERR_AGAIN);
        answer(w, whole + cut, sizeof whole - 1 - cut);
        assert_int_equal(finish(w), ERR_OK);
        assert_int_equal(w->status, 206);
        assert_string_equal(w->body, "hello world");
        assert_non_null(w->h.conn);
    }
    assert_true(w->h.reused);
}

static void test_connection_that_ends_in_the_answer(void **state)
{
    static const char whole[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    struct world *w = (struct world *)*state;
    struct roost_dev_exchange x = get(w);
    char text[1024];
    for (size_t cut = 0; cut < sizeof whole - 1; cut++) {
        begin(w, &x);
        deliver(w, text, sizeof text);
        if (cut)
            answer(w, whole, cut);
        hang_up(w);
        assert_int_equal(finish(w), ERR_IO);
        assert_null(w->h.conn);
    }
}

static void test_kept_connection_that_had_ended(void **state)
{
    struct world *w = (struct world *)*state;
    struct roost_dev_exchange x = get(w);
    char text[1024];
    begin(w, &x);
    deliver(w, text, sizeof text);
    say(w, SPAN("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_int_equal(finish(w), ERR_OK);
    hang_up(w);
    begin(w, &x);
    assert_int_equal(finish(w), ERR_STALE);
    deliver(w, text, sizeof text); /* dials anew; the request is still there */
    say(w, SPAN("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"));
    assert_int_equal(finish(w), ERR_OK);
    assert_string_equal(w->body, "x");
    assert_null(w->h.conn); /* the server would not keep it */
    hang_up(w);
    begin(w, &x);
    deliver(w, text, sizeof text);
}

static void test_what_is_no_http(void **state)
{
    struct world *w = (struct world *)*state;
    struct roost_dev_exchange x = get(w);
    char text[1024];
    begin(w, &x);
    deliver(w, text, sizeof text);
    say(w, SPAN("220 ready to serve you\r\n\r\n"));
    assert_int_equal(finish(w), ERR_PROTO);
    x.url = SPAN("ftp://127.0.0.1/x");
    assert_int_equal(sim_http_begin(&w->h, &x), ERR_PROTO);
    x.url = SPAN("nonsense");
    assert_int_equal(sim_http_begin(&w->h, &x), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_request_as_it_leaves),
        TEST(test_answer_cut_at_every_byte),
        TEST(test_connection_that_ends_in_the_answer),
        TEST(test_kept_connection_that_had_ended),
        TEST(test_what_is_no_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
