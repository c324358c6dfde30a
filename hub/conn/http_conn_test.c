/* hub/conn/http_conn_test.c - the HTTP server over real sockets: order, keep-alive, limits, smuggling,
 * streams, files, late answers, cut input, deadlines, drain. */
#include "hub/conn/http_conn.h"
#include "hub/conn/net_fixture.h"

#include <sys/stat.h>

static struct http_req *held[8];
static int held_nr, gone_nr, room_nr;
static char big[400000];
enum { HUGE_LEN = 32 << 20 };

static void echo(struct http_req *r)
{
    http_answer(r, 200, "text/plain", r->body, NULL);
}
static void show(struct http_req *r)
{
    char out[600];
    struct span q = SPAN_NONE;
    bool has = http_query(r, "Name", &q);
    snprintf(out, sizeof out, "[%.*s][%.*s][%.*s][%.*s]", (int)r->params[0].n, (const char *)r->params[0].p,
             (int)r->params[1].n, (const char *)r->params[1].p, has ? (int)q.n : 4,
             has ? (const char *)q.p : "none", (int)http_field(r, "x-test").n,
             (const char *)http_field(r, "X-TEST").p);
    http_answer(r, 200, "text/plain", span_str(out), "X-More: 1\r\n");
}
static void hold(struct http_req *r)
{
    held[held_nr++] = r;
}
static void empty(struct http_req *r)
{
    http_answer(r, 204, NULL, SPAN_NONE, NULL);
}
static void large(struct http_req *r)
{
    http_answer(r, 200, "text/plain", span_of(big, sizeof big), NULL);
}
static void file(struct http_req *r)
{
    FILE *f = tmpfile();
    assert_int_equal(fwrite(big, 1, sizeof big, f), sizeof big);
    fflush(f);
    http_answer_file(r, 200, "application/octet-stream", dup(fileno(f)), 100, sizeof big - 100, NULL);
    fclose(f);
}
static void huge(struct http_req *r) /* more than the kernel keeps for a reader that stands still */
{
    FILE *f = tmpfile();
    assert_int_equal(ftruncate(fileno(f), HUGE_LEN), 0);
    http_answer_file(r, 200, "application/octet-stream", dup(fileno(f)), 0, HUGE_LEN, NULL);
    fclose(f);
}
static void on_gone(struct http_req *r)
{
    gone_nr++;
    http_stream_end(r);
}
static void more(struct http_req *r)
{
    room_nr++;
    http_stream_send(r, SPAN("second"));
    if (room_nr == 1)
        http_stream_on_room(r, more);
    else
        http_stream_end(r);
}
static void stream(struct http_req *r)
{
    http_stream_begin(r, 200, "text/plain", NULL);
    http_stream_send(r, SPAN("first"));
    http_stream_on_room(r, more);
}
static void endless(struct http_req *r)
{
    r->on_gone = on_gone;
    http_stream_begin(r, 200, "text/plain", NULL);
    http_stream_send(r, SPAN("tick"));
}

static const struct http_route table[] = {
    { HTTP_POST_ | HTTP_PUT_, "/echo", echo, 100000 },
    { HTTP_GET_ | HTTP_HEAD_, "/Devices/{}/modules/{}", show, 0 },
    { HTTP_GET_ | HTTP_HEAD_, "/large", large, 0 },
    { HTTP_GET_ | HTTP_HEAD_, "/file", file, 0 },
    { HTTP_GET_, "/huge", huge, 0 },
    { HTTP_GET_, "/hold", hold, 0 },
    { HTTP_GET_, "/empty", empty, 0 },
    { HTTP_GET_, "/stream", stream, 0 },
    { HTTP_GET_, "/endless", endless, 0 },
    { 0, NULL, NULL, 0 },
};
static void patched(struct http_req *r)
{
    char out[64];
    assert_int_equal(r->method, HTTP_PATCH_);
    snprintf(out, sizeof out, "patched %.*s", (int)r->body.n, (const char *)r->body.p);
    http_answer(r, 200, "text/plain", span_str(out), NULL);
}
static void over_error(struct http_req *r, unsigned status, const char *code, const char *message)
{
    char out[32];
    (void)code, (void)message;
    snprintf(out, sizeof out, "over %u", status);
    http_answer(r, status, "text/plain", span_str(out), NULL);
}
static const struct http_route over_table[] = {
    { HTTP_PATCH_, "/over/{}", patched, 100 },
    { 0, "/over/**", NULL, 0 },
    { 0, NULL, NULL, 0 },
};
static struct http_routes over_routes = { .table = over_table,
                                          .on_error = over_error,
                                          .method_override = true };
static struct http_routes routes = { .table = table, .next = &over_routes };

static int start(void **state)
{
    struct net_fixture *f = calloc(1, sizeof *f);
    memset(big, 'b', sizeof big);
    routes.limits = NULL;
    held_nr = gone_nr = room_nr = 0;
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

/* Sends it in pieces of `piece` bytes and returns all that comes until the hub closes. */
static size_t talk(struct net_fixture *f, const char *in, size_t n, size_t piece, char *out, size_t cap)
{
    int fd = net_connect(f);
    for (size_t i = 0; i < n; i += piece) {
        net_write(f, fd, in + i, n - i < piece ? n - i : piece);
        worker_turn(f->w, 0);
    }
    n = net_read_all(f, fd, out, cap);
    close(fd);
    return n;
}

static const struct {
    const char *in;
    const char *status;
    const char *has; /* in the answer, or NULL */
} cases[] = {
    { "GET /devices/a%2Fb/MODULES/m%20n?x=1&NAME=v%41+ HTTP/1.1\r\nHost: h\r\nX-Test:  t \r\nConnection: "
      "close\r\n\r\n",
      "200", "\r\n\r\n[a/b][m n][vA+][t]" },
    { "GET //devices/a+b//modules/c/?name HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200",
      "[a+b][c][][]" },
    { "GET http://h:1/devices/a/modules/b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200",
      "[a][b][none][]" },
    { "GET /devices/a/modules/b HTTP/1.0\r\n\r\n", "200", "Connection: close\r\n" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "204", NULL },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "200",
      "\r\n\r\nhello" },
    { "\r\n\r\nPOST /echo/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n"
      "3\r\nhel\r\n2;x=\"y\"\r\nlo\r\n0\r\nTrailer: t\r\n\r\n",
      "200", "\r\n\r\nhello" },
    { "POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", "200", "\r\n\r\nhi" },
    { "GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", "\"code\":\"not-found\"" },
    { "DELETE /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "405", "Allow: POST, PUT\r\n" },
    { "OPTIONS /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "405", "Allow: POST, PUT\r\n" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n", "413", "Connection: close" },
    /* nothing in a path means "up", and what is decoded is not looked at again */
    { "GET /devices/../empty HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", NULL },
    { "GET /./empty HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", NULL },
    { "GET /devices/%2e%2e/modules/%2525 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200",
      "[..][%25]" },
    { "GET /%65mpty HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "204", NULL },
    { "GET /devices/%2/modules/%zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200", "[%2][%zz]" },
    { "GET /empty%00 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", NULL },
    { "GET /1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
      "404", NULL },
    /* a method in a field, where the front wants it */
    { "POST /over/d HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: patch\r\nContent-Length: 2\r\nConnection: "
      "close\r\n\r\nhi",
      "200", "\r\n\r\npatched hi" },
    { "POST /over/d HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n",
      "405", "Allow: PATCH\r\n" },
    { "PUT /over/d HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: PATCH\r\nConnection: close\r\n\r\n", "405",
      NULL },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: PATCH\r\nConnection: close\r\n\r\n", "200",
      NULL },
    /* errors in the form of the front whose path it is */
    { "GET /over/d/e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", "\r\n\r\nover 404" },
    { "GET /OVER HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", "\r\n\r\nover 404" },
    { "GET /overt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "404", "\"code\":\"not-found\"" },
    /* two messages in one, for different readers */
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
      "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhello", "400",
      "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400",
      "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", "501", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
      "chunked\r\n\r\n0\r\n\r\n",
      "400", "close" },
    { "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\nHost: h\n\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nauthorization: a\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nIf-Match: *\r\nif-match: \"a\"\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/1.1\r\n\r\n", "400", "close" },
    { "GET /empty#f HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close" },
    { "GET empty HTTP/1.1\r\nHost: h\r\n\r\n", "400", "close" },
    { "GET /empty HTTP/2.0\r\nHost: h\r\n\r\n", "505", "close" },
    { "BREW /empty HTTP/1.1\r\nHost: h\r\n\r\n", "501", "close" },
    { "GET /empty HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n", "417", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "400",
      "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello", "400", "close" },
    { "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000000000000000\r\n", "400",
      "close" },
};

static void every_case_whole_and_in_single_bytes(void **state)
{
    struct net_fixture *f = *state;
    static char out[2][8192];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].in);
        talk(f, cases[i].in, n, n, out[0], sizeof out[0]);
        talk(f, cases[i].in, n, 1, out[1], sizeof out[1]);
        if (strncmp(out[0], "HTTP/1.1 ", 9) || strncmp(out[0] + 9, cases[i].status, 3) ||
            (cases[i].has && !strstr(out[0], cases[i].has)))
            fail_msg("case %zu: %s\n--> %s", i, cases[i].in, out[0]);
        if (strncmp(out[0], out[1], 12) || strcmp(strstr(out[0], "\r\n\r\n"), strstr(out[1], "\r\n\r\n")))
            fail_msg("case %zu differs when cut: %s\n--> %s\n--> %s", i, cases[i].in, out[0], out[1]);
    }
}

static void requests_in_one_packet_are_answered_in_order(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const char in[] =
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1GET /hold HTTP/1.1\r\nHost: h\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nConnection: close\r\n\r\n3";
    int fd = net_connect(f);
    net_write(f, fd, in, sizeof in - 1);
    NET_UNTIL(f, held_nr == 1);
    worker_turn(f->w, 0); /* the third may not overtake */
    size_t n = net_read(f, fd, out, sizeof out, 100);
    assert_non_null(strstr(out, "\r\n\r\n1"));
    assert_null(strstr(out, "\r\n\r\n3"));
    http_answer(held[0], 200, "text/plain", SPAN("2"), NULL);
    net_read_all(f, fd, out + n, sizeof out - n);
    const char *two = strstr(out, "\r\n\r\n2HTTP/1.1 200"), *three = strstr(out, "\r\n\r\n3");
    assert_true(two && three && two < three);
    assert_non_null(strstr(three - 60, "Connection: close"));
    close(fd);
}

static void the_connection_lives_on_after_an_error(void **state)
{
    struct net_fixture *f = *state;
    static char out[8192];
    const char in[] =
        "POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nGET "
        "DELETE /echo HTTP/1.1\r\nHost: h\r\n\r\n"
        "POST /over/d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast";
    talk(f, in, sizeof in - 1, sizeof in, out, sizeof out);
    const char *one = strstr(out, "HTTP/1.1 404"), *two = one ? strstr(one, "HTTP/1.1 405") : NULL,
               *three = two ? strstr(two + 1, "HTTP/1.1 405") : NULL;
    assert_non_null(three);
    assert_non_null(strstr(three, "\r\n\r\nlast"));
}

static void head_has_the_length_but_no_body(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const char in[] =
        "HEAD /large HTTP/1.1\r\nHost: h\r\n\r\nHEAD /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    talk(f, in, sizeof in - 1, sizeof in, out, sizeof out);
    assert_non_null(strstr(out, "Content-Length: 400000\r\n"));
    assert_non_null(strstr(out, "Content-Length: 399900\r\n"));
    assert_null(strstr(out, "bbbb"));
}

static void large_answers_and_files_arrive_whole(void **state)
{
    struct net_fixture *f = *state;
    static char out[2000000];
    const char in[] = "GET /large HTTP/1.1\r\nHost: h\r\n\r\nGET /file HTTP/1.1\r\nHost: h\r\n\r\n"
                      "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    size_t n = talk(f, in, sizeof in - 1, sizeof in, out, sizeof out), b = 0;
    for (size_t i = 0; i < n; i++)
        b += out[i] == 'b' && out[i + 1] == 'b';
    assert_in_range(b, 400000 + 399900 + 400000 - 3, 400000 + 399900 + 400000);
    assert_int_equal(net_stats(f).closed[CONN_CLOSE_SLOW], 0);
}

static void continue_is_said_when_it_is_waited_for(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const char head[] = "PUT /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    int fd = net_connect(f);
    net_write(f, fd, head, sizeof head - 1);
    net_read(f, fd, out, sizeof out, 25);
    assert_string_equal(out, "HTTP/1.1 100 Continue\r\n\r\n");
    net_write(f, fd, "hi", 2);
    net_read(f, fd, out, sizeof out, 60);
    assert_non_null(strstr(out, "HTTP/1.1 200 OK"));
    close(fd);
    const char wrong[] =
        "PUT /nowhere HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    talk(f, wrong, sizeof wrong - 1, sizeof wrong, out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 404", 12);
}

static void streams_go_on_when_there_is_room(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const char in[] =
        "GET /stream HTTP/1.1\r\nHost: h\r\n\r\nGET /empty HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    talk(f, in, sizeof in - 1, sizeof in, out, sizeof out);
    assert_non_null(strstr(out, "\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n6\r\nsecond\r\n0\r\n\r\nHTTP/1.1 204"));
    room_nr = 0;
    const char old[] = "GET /stream HTTP/1.0\r\n\r\n";
    talk(f, old, sizeof old - 1, sizeof old, out, sizeof out);
    assert_non_null(strstr(out, "\r\n\r\nfirstsecondsecond"));
}

static void an_answer_to_nobody_is_harmless(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    int a = net_connect(f), b = net_connect(f);
    net_write(f, a, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 31);
    net_write(f, b, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n", 34);
    NET_UNTIL(f, held_nr == 1);
    net_read(f, b, out, sizeof out, 60);
    struct linger reset = { 1, 0 };
    setsockopt(a, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(a);
    close(b);
    NET_UNTIL(f, gone_nr == 1 && !held[0]->conn && net_stats(f).open == 0);
    http_answer(held[0], 200, "text/plain", SPAN("late"), NULL);
}

static void a_half_closed_client_gets_its_answer(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    int fd = net_connect(f);
    net_write(f, fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 31);
    shutdown(fd, SHUT_WR);
    NET_UNTIL(f, held_nr == 1);
    for (int i = 0; i < 5; i++)
        worker_turn(f->w, 0);
    http_answer(held[0], 200, "text/plain", SPAN("still"), NULL);
    net_read_all(f, fd, out, sizeof out);
    assert_non_null(strstr(out, "\r\n\r\nstill"));
    close(fd);
}

/* Its end is seen after the first answer, and before what it sent behind that request is looked at again. */
static void a_half_closed_client_gets_all_its_answers(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    static const char in[] = "GET /hold HTTP/1.1\r\nHost: h\r\n\r\nGET /hold HTTP/1.1\r\nHost: h\r\n\r\n";
    int fd = net_connect(f);
    net_write(f, fd, in, sizeof in - 1);
    NET_UNTIL(f, held_nr == 1);
    shutdown(fd, SHUT_WR);
    http_answer(held[0], 200, "text/plain", SPAN("one"), NULL);
    NET_UNTIL(f, held_nr == 2);
    http_answer(held[1], 200, "text/plain", SPAN("two"), NULL);
    net_read_all(f, fd, out, sizeof out);
    assert_non_null(strstr(out, "\r\n\r\none"));
    assert_non_null(strstr(out, "\r\n\r\ntwo"));
    close(fd);
}

static void heads_and_targets_have_a_limit(void **state)
{
    struct net_fixture *f = *state;
    static char in[20000], out[4096];
    int n = snprintf(in, sizeof in, "GET /");
    memset(in + n, 'a', 9000);
    snprintf(in + n + 9000, 100, " HTTP/1.1\r\nHost: h\r\n\r\n");
    talk(f, in, strlen(in), strlen(in), out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 414", 12);
    n = snprintf(in, sizeof in, "GET /empty HTTP/1.1\r\nHost: h\r\nX: ");
    memset(in + n, 'a', 17000);
    snprintf(in + n + 17000, 100, "\r\n\r\n");
    talk(f, in, strlen(in), strlen(in), out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 431", 12);
    n = snprintf(in, sizeof in, "GET /empty HTTP/1.1\r\nHost: h\r\n");
    for (int i = 0; i < 70; i++)
        n += snprintf(in + n, sizeof in - (size_t)n, "X%d: 1\r\n", i);
    snprintf(in + n, sizeof in - (size_t)n, "\r\n");
    talk(f, in, strlen(in), strlen(in), out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 431", 12);
}

static void bodies_share_a_limit(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const struct http_limits tight = { .bodies_max = 1500 };
    routes.limits = &tight;
    int a = net_connect(f);
    const char part[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nx";
    net_write(f, a, part, sizeof part - 1);
    worker_turn(f->w, 10);
    worker_turn(f->w, 0);
    talk(f, part, sizeof part - 1, sizeof part, out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 503", 12);
    close(a);
    NET_UNTIL(f, net_stats(f).open == 0);
    const char whole[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    talk(f, whole, sizeof whole - 1, sizeof whole, out, sizeof out); /* what was held is free again */
    assert_memory_equal(out, "HTTP/1.1 200", 12);
}

static void deadlines_end_what_does_not_come(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    const struct http_limits quick = { .idle_ms = 20, .head_ms = 20, .body_ms = 20 };
    routes.limits = &quick;
    talk(f, "GET /emp", 8, 8, out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 408", 12);
    const char part[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nx";
    talk(f, part, sizeof part - 1, sizeof part, out, sizeof out);
    assert_memory_equal(out, "HTTP/1.1 408", 12);
    talk(f, "GET /empty HTTP/1.1\r\nHost: h\r\n\r\n", 32, 32, out,
         sizeof out); /* answered, then closed as idle */
    assert_memory_equal(out, "HTTP/1.1 204", 12);
    assert_true(net_stats(f).closed[CONN_CLOSE_TIMEOUT] >= 1);
}

/* Who takes longer for an answer than he may be idle is idle afterwards, not before and not never. */
static void idle_time_begins_when_the_answer_has_left(void **state)
{
    struct net_fixture *f = *state;
    static char out[500000];
    const struct http_limits quick = { .idle_ms = 20, .head_ms = 20, .body_ms = 20 };
    size_t got = 0;
    routes.limits = &quick;
    int fd = net_connect(f);
    net_write(f, fd, "GET /huge HTTP/1.1\r\nHost: h\r\n\r\n", 31);
    uint64_t from = worker_now_ms(f->w);
    NET_UNTIL(f, worker_now_ms(f->w) > from + 60);
    assert_int_equal(net_stats(f).open, 1);
    for (ssize_t n, turns = 0; (n = net_try_read(fd, out, sizeof out)) != 0 && turns < 300;) {
        assert_int_not_equal(n, -1);
        if (n > 0) {
            got += (size_t)n;
        } else {
            worker_turn(f->w, 10);
            turns += got >= HUGE_LEN; /* all is here: now the end is due */
        }
    }
    assert_true(got > HUGE_LEN);
    assert_int_equal(net_stats(f).closed[CONN_CLOSE_TIMEOUT], 1);
    close(fd);
}

static void draining_lets_requests_finish(void **state)
{
    struct net_fixture *f = *state;
    static char out[4096];
    int busy = net_connect(f), idle = net_connect(f), open = net_connect(f);
    net_write(f, busy, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 31);
    net_write(f, open, "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n", 34);
    NET_UNTIL(f, held_nr == 1 && net_stats(f).accepted == 3);
    net_read(f, open, out, sizeof out, 60);
    conn_net_drain(f->net);
    assert_int_equal(net_read_all(f, idle, out, sizeof out), 0);
    NET_UNTIL(f, gone_nr == 1);
    http_answer(held[0], 200, "text/plain", SPAN("last"), NULL);
    net_read_all(f, busy, out, sizeof out);
    assert_non_null(strstr(out, "Connection: close"));
    assert_non_null(strstr(out, "\r\n\r\nlast"));
    close(busy);
    close(idle);
    close(open);
    NET_UNTIL(f, conn_net_open_nr(f->net) == 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(every_case_whole_and_in_single_bytes),   T(requests_in_one_packet_are_answered_in_order),
        T(the_connection_lives_on_after_an_error), T(head_has_the_length_but_no_body),
        T(large_answers_and_files_arrive_whole),   T(continue_is_said_when_it_is_waited_for),
        T(streams_go_on_when_there_is_room),       T(an_answer_to_nobody_is_harmless),
        T(a_half_closed_client_gets_its_answer),   T(a_half_closed_client_gets_all_its_answers),
        T(heads_and_targets_have_a_limit),         T(bodies_share_a_limit),
        T(deadlines_end_what_does_not_come),       T(idle_time_begins_when_the_answer_has_left),
        T(draining_lets_requests_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
