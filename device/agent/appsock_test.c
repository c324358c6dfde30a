/* device/agent/appsock_test.c - lines of an application: taken in order, refused with a reason, capped. */
#include "device/agent/appsock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct appsock a;
    char dir[64], path[96];
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    snprintf(w->dir, sizeof w->dir, "/tmp/roost-sock-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->path, sizeof w->path, "%s/app.sock", w->dir);
    assert_int_equal(appsock_open(&w->a, w->path, 0660, 1024), ERR_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = (struct world *)*state;
    appsock_close(&w->a);
    assert_int_equal(rmdir(w->dir), 0); /* the socket is gone too */
    free(w);
    return 0;
}

static int dial(const struct world *w)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", w->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* Serves until nothing is left to do. */
static void serve(struct world *w)
{
    struct pollfd p[APPSOCK_CLIENT_MAX + 1];
    for (size_t n; n = appsock_poll(&w->a, p), poll(p, n, 0) > 0;)
        appsock_serve(&w->a, p, n);
}

static void say(int fd, const void *text, size_t n)
{
    assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void hear(int fd, const char *want)
{
    char line[512] = "";
    size_t n = 0;
    struct pollfd p = { .fd = fd, .events = POLLIN };
    do {
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_int_equal(recv(fd, line + n, 1, 0), 1);
    } while (line[n++] != '\n' && n < sizeof line - 1);
    if (!strstr(line, want))
        fail_msg("heard %s, not %s", line, want);
}

static void test_objects_come_out_in_order(void **state)
{
    struct world *w = (struct world *)*state;
    struct stat st;
    int fd = dial(w);
    say(fd, "{\"a\":1}\n\n{\"b\":2}\n{\"c\"", 21);
    serve(w);
    hear(fd, "{\"ok\":true}");
    hear(fd, "{\"ok\":true}");
    assert_true(span_eq(appsock_next(&w->a), SPAN("{\"a\":1}")));
    appsock_pop(&w->a);
    assert_true(span_eq(appsock_next(&w->a), SPAN("{\"b\":2}")));
    appsock_pop(&w->a);
    assert_int_equal(appsock_next(&w->a).n, 0);
    say(fd, ":3}\n", 4);
    serve(w);
    assert_true(span_eq(appsock_next(&w->a), SPAN("{\"c\":3}")));
    assert_int_equal(stat(w->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0660);
    close(fd);
    serve(w);
    assert_true(span_eq(appsock_next(&w->a), SPAN("{\"c\":3}"))); /* what was taken stays */
}

static void test_every_cut_of_a_line(void **state)
{
    static const char line[] = "{\"temperature\":21.5,\"who\":\"\xc3\xa4\"}\n";
    struct world *w = (struct world *)*state;
    for (size_t cut = 0; cut < sizeof line; cut++) {
        int fd = dial(w);
        if (cut)
            say(fd, line, cut);
        serve(w);
        assert_int_equal(w->a.nr, cut == sizeof line - 1);
        if (cut < sizeof line - 1)
            say(fd, line + cut, sizeof line - 1 - cut);
        serve(w);
        assert_true(span_eq(appsock_next(&w->a), span_of(line, sizeof line - 2)));
        appsock_pop(&w->a);
        close(fd);
        serve(w);
    }
}

static void test_what_is_no_object_is_refused(void **state)
{
    static const char *const wrong[] = {
        "hello\n",           "[1]\n", "{\"a\":1\n", "{\"a\":1} x\n", "{\"a\":1,\"a\":2}\n", "\"x\"\n",
        "{\"a\":\"\xff\"}\n"
    };
    struct world *w = (struct world *)*state;
    int fd = dial(w);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        say(fd, wrong[i], strlen(wrong[i]));
        serve(w);
        hear(fd, "JSON object");
    }
    assert_int_equal(w->a.nr, 0);
    assert_int_equal(w->a.refused, sizeof wrong / sizeof *wrong);
    say(fd, "{}\n", 3);
    serve(w);
    hear(fd, "true");
    close(fd);
}

static void test_lengths_are_capped(void **state)
{
    struct world *w = (struct world *)*state;
    char big[APPSOCK_LINE_MAX + 100];
    int fd = dial(w);
    memset(big, ' ', sizeof big);
    big[0] = '{';
    big[1500] = '}';
    big[1501] = '\n';
    say(fd, big, 1502);
    serve(w);
    hear(fd, "too long for a message");
    memset(big, 'x', sizeof big);
    say(fd, big, sizeof big);
    serve(w);
    hear(fd, "line is too long");
    say(fd, "xx\n{}\n", 6);
    serve(w);
    hear(fd, "true"); /* the rest of the long line was skipped, not taken for a new one */
    assert_int_equal(w->a.nr, 1);
    close(fd);
}

static void test_queue_and_connections_are_capped(void **state)
{
    struct world *w = (struct world *)*state;
    int fd = dial(w), more[APPSOCK_CLIENT_MAX];
    for (unsigned i = 0; i < APPSOCK_QUEUE_MAX; i++) {
        say(fd, "{}\n", 3);
        serve(w);
        hear(fd, "true");
    }
    say(fd, "{}\n", 3);
    serve(w);
    hear(fd, "too many messages wait");
    appsock_pop(&w->a);
    say(fd, "{\"x\":0}\n", 8);
    serve(w);
    hear(fd, "true");
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++) {
        more[i] = dial(w);
        serve(w);
    }
    hear(more[APPSOCK_CLIENT_MAX - 1], "too many connections");
    close(fd);
    for (unsigned i = 0; i < APPSOCK_CLIENT_MAX; i++)
        close(more[i]);
    serve(w);
    fd = dial(w);
    serve(w);
    appsock_tell(&w->a, SPAN("{\"body\":\"hi\"}\n"));
    hear(fd, "\"hi\"");
    close(fd);
}

static void test_a_place_that_cannot_be(void **state)
{
    struct appsock a;
    char path[200];
    (void)state;
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = 0;
    assert_int_equal(appsock_open(&a, path, 0600, 100), ERR_LIMIT);
    assert_int_equal(appsock_open(&a, "/nonexistent/s", 0600, 100), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_objects_come_out_in_order),        TEST(test_every_cut_of_a_line),
        TEST(test_what_is_no_object_is_refused),     TEST(test_lengths_are_capped),
        TEST(test_queue_and_connections_are_capped), cmocka_unit_test(test_a_place_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
