/* hub/conn/http_pull_test.c - bodies taken in pieces, over real sockets: all of it in order, chunked and with
 * a length, every cut, early answers, lost connections, what is too long; and tables of last resort. */
#include "hub/conn/http_conn.h"
#include "hub/conn/net_fixture.h"

static uint64_t sum, pieces, longest;
static int lost_nr;
static struct http_req *waiting;

static void answer_sum(struct http_req *r)
{
    char out[64];
    snprintf(out, sizeof out, "%llu", (unsigned long long)sum);
    http_answer(r, 200, "text/plain", span_str(out), NULL);
}

static void on_piece(struct http_req *r)
{
    if (!r->conn) {
        lost_nr++;
        http_answer(r, 500, NULL, SPAN_NONE, NULL); /* to nobody */
        return;
    }
    pieces++;
    longest = r->body.n > longest ? r->body.n : longest;
    for (size_t i = 0; i < r->body.n; i++)
        sum = sum * 31 + r->body.p[i];
    if (r->body_end)
        answer_sum(r);
    else
        http_read(r, on_piece);
}
static void take(struct http_req *r)
{
    sum = pieces = longest = 0;
    http_read(r, on_piece);
}
static void later(struct http_req *r) /* the body waits for a test */
{
    sum = pieces = longest = 0;
    waiting = r;
}
static void refuse(struct http_req *r)
{
    http_answer(r, 403, "text/plain", SPAN("no"), NULL);
}
static void found(struct http_req *r)
{
    http_answer(r, 200, "text/plain", r->params[0], NULL);
}

static const struct http_route table[] = {
    { HTTP_PUT_ | HTTP_PULLED, "/take", take, 3000000 },
    { HTTP_PUT_ | HTTP_PULLED, "/later", later, 3000000 },
    { HTTP_PUT_ | HTTP_PULLED, "/refuse", refuse, (size_t)1 << 30 },
    { 0, "/ours/**", NULL, 0 },
    { 0, NULL, NULL, 0 },
};
static const struct http_route last_table[] = { { HTTP_GET_ | HTTP_PUT_, "/{}/**", found, 100 },
                                                { 0, NULL, NULL, 0 } };
static struct http_routes last = { .table = last_table, .last_resort = true };
static struct http_routes routes = { .table = table, .next = &last };

static int start(void **state)
{
    struct net_fixture *f = calloc(1, sizeof *f);
    lost_nr = 0;
    waiting = NULL;
    net_start(f, NULL, NULL, &http_proto, &routes);
    *state = f;
    return 0;
}
static int stop(void **state)
{
    net_stop(*state);
    free(*state);
    return 0;
}

static uint64_t sum_of(const char *p, size_t n)
{
    uint64_t s = 0;
    for (size_t i = 0; i < n; i++)
        s = s * 31 + (uint8_t)p[i];
    return s;
}

/* The answer to one request; `in` in pieces. */
static const char *talk(struct net_fixture *f, const char *in, size_t n, size_t piece)
{
    static char out[4096];
    int fd = net_connect(f);
    for (size_t i = 0; i < n; i += piece) {
        net_write(f, fd, in + i, n - i < piece ? n - i : piece);
        worker_turn(f->w, 0);
    }
    out[net_read_all(f, fd, out, sizeof out - 1)] = 0;
    close(fd);
    return out;
}
static bool says(const char *answer, uint64_t value)
{
    char tail[40];
    snprintf(tail, sizeof tail, "\r\n\r\n%llu", (unsigned long long)value);
    return strstr(answer, "HTTP/1.1 200") && strstr(answer, tail);
}

static void every_cut_of_both_forms(void **state)
{
    static const char
        length[] = "PUT /take HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabcdef",
        chunked[] = "PUT /take HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
                    "\r\n2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n",
        none[] = "PUT /take HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (size_t piece = 1; piece < 40; piece++) {
        assert_true(says(talk(*state, length, sizeof length - 1, piece), sum_of("abcdef", 6)));
        assert_true(says(talk(*state, chunked, sizeof chunked - 1, piece), sum_of("abcdef", 6)));
        assert_true(says(talk(*state, none, sizeof none - 1, piece), 0));
    }
}

static void a_large_body_comes_in_pieces(void **state)
{
    enum { LEN = 2500000 };
    static char in[LEN + 200];
    int n = snprintf(in, 200,
                     "PUT /take HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", LEN);
    for (int i = 0; i < LEN; i++)
        in[n + i] = (char)(i * 7);
    assert_true(says(talk(*state, in, (size_t)n + LEN, 60000), sum_of(in + n, LEN)));
    assert_true(pieces >= 5);
    assert_true(longest < 2 * HTTP_PIECE);
}

static void a_half_closed_client_sends_all_its_body(void **state)
{
    struct net_fixture *f = *state;
    static char out[1024];
    int fd = net_connect(f);
    static const char in[] = "PUT /later HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc";
    net_write(f, fd, in, sizeof in - 1);
    NET_UNTIL(f, waiting != NULL);
    shutdown(fd, SHUT_WR);
    http_read(waiting, on_piece); /* what was kept is looked at again after the end was seen */
    out[net_read_all(f, fd, out, sizeof out - 1)] = 0;
    assert_true(says(out, sum_of("abc", 3)));
    close(fd);
}

static void a_body_waits_for_its_handler(void **state)
{
    struct net_fixture *f = *state;
    static char out[1024];
    int fd = net_connect(f);
    static const char in[] = "PUT /later HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                             "GET /x/y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    net_write(f, fd, in, sizeof in - 1);
    NET_UNTIL(f, waiting != NULL);
    http_read(waiting, on_piece);
    out[net_read_all(f, fd, out, sizeof out - 1)] = 0;
    assert_true(says(out, sum_of("abc", 3)));
    assert_non_null(strstr(out, "\r\n\r\nx")); /* and the request behind it */
    close(fd);
}

static void continue_is_said_when_the_handler_wants_it(void **state)
{
    struct net_fixture *f = *state;
    static char out[1024];
    int fd = net_connect(f);
    static const char head[] =
        "PUT /later HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\n"
        "Content-Length: 3\r\n\r\n";
    net_write(f, fd, head, sizeof head - 1);
    NET_UNTIL(f, waiting != NULL);
    assert_true(net_try_read(fd, out, sizeof out) <= 0);
    http_read(waiting, on_piece);
    net_read(f, fd, out, sizeof out, 25);
    assert_memory_equal(out, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    net_write(f, fd, "abc", 3);
    out[net_read_all(f, fd, out, sizeof out - 1)] = 0;
    assert_true(says(out, sum_of("abc", 3)));
    close(fd);
}

static void a_refused_body_is_skipped_or_ends_the_connection(void **state)
{
    enum { LEN = 400000 };
    static char in[LEN + 400], out[2048];
    struct net_fixture *f = *state;
    int n = snprintf(in, 200, "PUT /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", LEN);
    memset(in + n, 'z', LEN);
    strcpy(in + n + LEN, "GET /x/y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    strcpy(out, talk(f, in, strlen(in), 50000));
    assert_non_null(strstr(out, "HTTP/1.1 403"));
    assert_non_null(strstr(out, "HTTP/1.1 200")); /* the next request is still answered */
    static const char huge[] = "PUT /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 900000000\r\n\r\nzz";
    strcpy(out, talk(f, huge, sizeof huge - 1, 1000));
    assert_non_null(strstr(out, "HTTP/1.1 403"));
    assert_non_null(strstr(out, "Connection: close"));
}

static void who_goes_away_is_told_to_the_handler(void **state)
{
    struct net_fixture *f = *state;
    static const char part[] = "PUT /take HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
                      bad[] = "PUT /take HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                      late[] = "PUT /later HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc";
    int fd = net_connect(f);
    net_write(f, fd, part, sizeof part - 1);
    worker_turn(f->w, 0);
    close(fd);
    NET_UNTIL(f, lost_nr == 1);
    (void)talk(f, bad, sizeof bad - 1, 100);
    assert_int_equal(lost_nr, 2);
    fd = net_connect(f);
    net_write(f, fd, late, sizeof late - 1);
    NET_UNTIL(f, waiting != NULL);
    conn_net_kill(f->net);
    NET_UNTIL(f, conn_net_open_nr(f->net) == 0);
    http_read(waiting, on_piece);
    assert_int_equal(lost_nr, 3);
    close(fd);
}

static void a_body_has_its_limit(void **state)
{
    static char in[3200000];
    struct net_fixture *f = *state;
    static const char length[] = "PUT /take HTTP/1.1\r\nHost: h\r\nContent-Length: 3000001\r\n\r\n";
    assert_non_null(strstr(talk(f, length, sizeof length - 1, 100), "HTTP/1.1 413"));
    int n =
        snprintf(in, 200, "PUT /take HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2dc6c1\r\n");
    memset(in + n, 'z', 3000001);
    int fd = net_connect(f);
    for (size_t i = 0, all = (size_t)n + 3000001; i < all && !lost_nr; i += 60000) {
        ssize_t sent = send(fd, in + i, all - i < 60000 ? all - i : 60000, MSG_NOSIGNAL);
        if (sent < 60000)
            break;
        worker_turn(f->w, 0);
    }
    NET_UNTIL(f, lost_nr == 1);
    close(fd);
}

static void other_tables_come_first(void **state)
{
    struct net_fixture *f = *state;
#define GET(path) "GET " path " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    assert_non_null(strstr(talk(f, GET("/box/a/b"), strlen(GET("/box/a/b")), 99), "\r\n\r\nbox"));
    assert_non_null(strstr(talk(f, GET("/ours/a"), strlen(GET("/ours/a")), 99), "HTTP/1.1 404"));
    assert_non_null(strstr(talk(f, GET("/take"), strlen(GET("/take")), 99), "HTTP/1.1 405"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(every_cut_of_both_forms),
        T(a_large_body_comes_in_pieces),
        T(a_body_waits_for_its_handler),
        T(a_half_closed_client_sends_all_its_body),
        T(continue_is_said_when_the_handler_wants_it),
        T(a_refused_body_is_skipped_or_ends_the_connection),
        T(who_goes_away_is_told_to_the_handler),
        T(a_body_has_its_limit),
        T(other_tables_come_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
