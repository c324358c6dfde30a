/* hub/conn/conn_test.c - a connection's life over real sockets: input kept and given again, caps, deadlines,
 * slow readers, closing, descriptors that run out, addresses that outlive their connection; then many
 * threads. */
#include "hub/conn/net_fixture.h"

#include <pthread.h>
#include <sys/resource.h>

struct seen { /* what the protocol under test was told */
    unsigned opened, closed, drained, timers, wakes, eofs, stops;
    size_t bytes, calls;
    uint32_t wake;
    enum conn_close why;
    struct conn *c;
};
static struct seen seen;
static enum { ECHO, LINES, KEEP, SINK } mode;

static void on_open(struct conn *c)
{
    seen.opened++;
    seen.c = c;
    assert_int_equal(*(uint64_t *)conn_state(c), 0); /* fresh */
    *(uint64_t *)conn_state(c) = 1;
}
static void on_bytes(struct conn *c, struct span *in)
{
    seen.calls++;
    seen.bytes = in->n;
    if (mode == KEEP)
        return;
    if (mode == ECHO)
        conn_send(c, *in);
    for (size_t i = 0; mode == LINES && i < in->n; i++)
        if (in->p[i] == '\n') {
            conn_send(c, span_of(in->p, i + 1));
            *in = span_skip(*in, i + 1);
            return; /* one a call, the rest is asked for again */
        }
    if (mode != LINES)
        *in = SPAN_NONE;
}
static void on_drained(struct conn *c)
{
    (void)c;
    seen.drained++;
}
static void on_timer(struct conn *c)
{
    (void)c;
    seen.timers++;
}
static void on_wake(struct conn *c, uint32_t what)
{
    (void)c;
    seen.wakes++;
    seen.wake = what;
}
static void on_close(struct conn *c, enum conn_close why)
{
    assert_int_equal(*(uint64_t *)conn_state(c), 1);
    seen.closed++;
    seen.why = why;
    seen.c = NULL;
}
static const struct conn_proto proto = { .name = "test",
                                         .state_len = sizeof(uint64_t),
                                         .on_open = on_open,
                                         .on_bytes = on_bytes,
                                         .in_max = 200000,
                                         .on_drained = on_drained,
                                         .on_timer = on_timer,
                                         .on_wake = on_wake,
                                         .on_close = on_close };

static struct conn_limits limits;
static int reset(void **state)
{
    (void)state;
    seen = (struct seen){ 0 };
    limits = (struct conn_limits){ 0 };
    mode = ECHO;
    return 0;
}

static void what_is_sent_comes_back_in_one_piece(void **state)
{
    struct net_fixture f;
    char buf[64], peer[64];
    (void)state;
    net_start(&f, NULL, NULL, &proto, (void *)"ctx");
    int fd = net_connect(&f);
    net_write(&f, fd, "hello", 5);
    assert_int_equal(net_read(&f, fd, buf, sizeof buf, 5), 5);
    assert_string_equal(buf, "hello");
    assert_string_equal(conn_listener_ctx(seen.c), "ctx");
    assert_ptr_equal(conn_worker(seen.c), f.w);
    assert_memory_equal(conn_peer(seen.c, peer), "127.0.0.1:", 10);
    assert_false(conn_is_tls(seen.c));
    NET_UNTIL(&f, seen.drained == 1);
    close(fd);
    NET_UNTIL(&f, seen.closed == 1 && net_stats(&f).open == 0);
    assert_int_equal(seen.why, CONN_CLOSE_PEER);
    assert_int_equal(net_stats(&f).bytes_in, 5);
    assert_int_equal(net_stats(&f).bytes_out, 5);
    net_stop(&f);
}

static void what_is_left_comes_again_with_more(void **state)
{
    struct net_fixture f;
    static char big[150000];
    (void)state;
    mode = KEEP;
    memset(big, 'x', sizeof big);
    net_start(&f, NULL, NULL, &proto, NULL);
    int fd = net_connect(&f);
    size_t sent = 0;
    for (size_t piece = 1; sent + piece <= sizeof big;
         piece = piece * 2 + 1) { /* small rests, then large ones */
        net_write(&f, fd, big + sent, piece);
        sent += piece;
        NET_UNTIL(&f, seen.bytes == sent);
    }
    mode = ECHO;
    net_write(&f, fd, "!", 1);
    static char out[160000];
    assert_int_equal(net_read(&f, fd, out, sizeof out, sent + 1), sent + 1);
    assert_int_equal(out[sent - 1], 'x');
    assert_int_equal(out[sent], '!');
    mode = KEEP; /* more than in_max may not be kept */
    for (int i = 0; i < 3 && !seen.closed; i++)
        net_write(&f, fd, big, sizeof big);
    NET_UNTIL(&f, seen.closed == 1);
    assert_int_equal(seen.why, CONN_CLOSE_PROTO);
    close(fd);
    net_stop(&f);
}

static void paused_input_comes_when_it_goes_on(void **state)
{
    struct net_fixture f;
    char buf[64];
    (void)state;
    mode = LINES;
    net_start(&f, NULL, NULL, &proto, NULL);
    int fd = net_connect(&f);
    net_write(&f, fd, "a\nb\n", 4);
    net_read(&f, fd, buf, sizeof buf, 2);
    assert_string_equal(buf, "a\n");
    conn_pause(seen.c, true);
    size_t calls = seen.calls;
    net_write(&f, fd, "c\n", 2);
    for (int i = 0; i < 5; i++)
        worker_turn(f.w, 0);
    assert_int_equal(seen.calls, calls);
    conn_pause(seen.c, false);
    net_read(&f, fd, buf, sizeof buf, 2); /* the kept line, though nothing new was read for it */
    assert_string_equal(buf, "b\n");
    conn_pause(seen.c, true);
    conn_pause(seen.c, false);
    net_read(&f, fd, buf, sizeof buf, 2);
    assert_string_equal(buf, "c\n");
    /* a peer that is gone is noticed while nothing is read */
    conn_pause(seen.c, true);
    worker_turn(f.w, 0);
    struct linger reset_it = { 1, 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_it, sizeof reset_it);
    close(fd);
    NET_UNTIL(&f, seen.closed == 1);
    net_stop(&f);
}

static void the_cap_on_all_is_held_and_given_back(void **state)
{
    struct net_fixture f;
    char buf[8];
    (void)state;
    limits.connections_max = 2;
    net_start(&f, &limits, NULL, &proto, NULL);
    int a = net_connect(&f), b = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 2);
    int c = net_connect(&f);
    assert_int_equal(net_read_all(&f, c, buf, sizeof buf), 0);
    assert_int_equal(net_stats(&f).refused_total, 1);
    assert_int_equal(seen.opened, 2);
    close(a);
    NET_UNTIL(&f, net_stats(&f).open == 1);
    int d = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 3);
    close(b);
    close(c);
    close(d);
    net_stop(&f);
}

static void the_cap_of_a_source_is_its_own(void **state)
{
    struct net_fixture f;
    char buf[8];
    (void)state;
    limits.per_source_max = 2;
    limits.per_source_loopback = true;
    net_start(&f, &limits, NULL, &proto, NULL);
    int a = net_connect_from(&f, 5), b = net_connect_from(&f, 5), c = net_connect_from(&f, 5);
    assert_int_equal(net_read_all(&f, c, buf, sizeof buf), 0);
    assert_int_equal(net_stats(&f).refused_source, 1);
    int d = net_connect_from(&f, 6);
    NET_UNTIL(&f, seen.opened == 3);
    close(a);
    NET_UNTIL(&f, net_stats(&f).open == 2);
    int e = net_connect_from(&f, 5);
    NET_UNTIL(&f, seen.opened == 4);
    close(b);
    close(c);
    close(d);
    close(e);
    net_stop(&f);
}

static void an_exempt_listener_is_always_open(void **state)
{
    struct net_fixture f;
    (void)state;
    limits.connections_max = 1;
    net_start(&f, &limits, NULL, &proto, NULL);
    struct conn_listen cfg = { .name = "ops", .address = "127.0.0.1", .proto = &proto, .exempt = true };
    struct conn_listener *ops;
    assert_int_equal(conn_net_listen(f.net, &cfg, &ops), ERR_OK);
    int a = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    f.port = conn_listener_port(ops);
    int b = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 2);
    close(a);
    close(b);
    net_stop(&f);
}

static void a_port_in_use_is_said_so(void **state)
{
    struct net_fixture f, g;
    (void)state;
    net_start(&f, NULL, NULL, &proto, NULL);
    struct conn_listen cfg = { .name = "twice", .address = "127.0.0.1", .port = f.port, .proto = &proto };
    struct conn_listener *l;
    assert_int_equal(conn_net_listen(f.net, &cfg, &l), ERR_EXISTS);
    net_start(&g, NULL, NULL, &proto, NULL);
    cfg.address = "nowhere";
    assert_int_equal(conn_net_listen(g.net, &cfg, &l), ERR_IO);
    net_stop(&g);
    net_stop(&f);
}

static void when_descriptors_run_out_we_wait_and_go_on(void **state)
{
    struct net_fixture f;
    struct rlimit before, low;
    int fds[12], opened_with_none;
    (void)state;
    net_start(&f, NULL, NULL, &proto, NULL);
    for (int i = 0; i < 12; i++)
        fds[i] = net_connect(&f); /* in the kernel's queue: no turn yet */
    getrlimit(RLIMIT_NOFILE, &before);
    low = before;
    int probe = dup(0);
    close(probe);
    low.rlim_cur = (rlim_t)probe + 4; /* four more descriptors and no fifth */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    NET_UNTIL(&f, net_stats(&f).accept_backoffs >= 2);
    opened_with_none = (int)seen.opened;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(opened_with_none <= 4);
    NET_UNTIL(&f, seen.opened == 12); /* nobody was lost */
    for (int i = 0; i < 12; i++)
        close(fds[i]);
    net_stop(&f);
}

static void who_does_not_prove_himself_is_closed(void **state)
{
    struct net_fixture f;
    char buf[8];
    (void)state;
    limits.first_packet_ms = 30;
    net_start(&f, &limits, NULL, &proto, NULL);
    int good = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_established(seen.c);
    int silent = net_connect(&f);
    assert_int_equal(net_read_all(&f, silent, buf, sizeof buf), 0);
    assert_int_equal(seen.why, CONN_CLOSE_TIMEOUT);
    net_write(&f, good, "x", 1);
    assert_int_equal(net_read(&f, good, buf, sizeof buf, 1), 1);
    assert_int_equal(seen.closed, 1);
    close(good);
    close(silent);
    net_stop(&f);
}

static void timers_move_and_fire_once(void **state)
{
    struct net_fixture f;
    (void)state;
    net_start(&f, NULL, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_established(seen.c);
    conn_arm(seen.c, worker_now_ms(f.w) + 5);
    conn_arm(seen.c, worker_now_ms(f.w) + 40); /* later: the timer underneath fires early, and looks */
    uint64_t armed_at = worker_now_ms(f.w);
    NET_UNTIL(&f, seen.timers == 1);
    assert_true(worker_now_ms(f.w) >= armed_at + 40);
    conn_arm(seen.c, worker_now_ms(f.w) + 5);
    conn_arm(seen.c, 0);
    conn_arm(seen.c, worker_now_ms(f.w) + 1);
    NET_UNTIL(&f, seen.timers == 2);
    close(fd);
    NET_UNTIL(&f, seen.closed == 1);
    net_stop(&f);
}

static void a_reader_that_stands_still_is_closed(void **state)
{
    struct net_fixture f;
    static char block[65536];
    (void)state;
    mode = SINK;
    limits.slow_ms = 40;
    limits.out_max = 64 * 1024 * 1024;
    net_start(&f, &limits, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_established(seen.c);
    for (int i = 0; i < 300; i++) /* more than the kernel takes */
        conn_send(seen.c, span_of(block, sizeof block));
    NET_UNTIL(&f, seen.closed == 1);
    assert_int_equal(seen.why, CONN_CLOSE_SLOW);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    close(fd);
    net_stop(&f);
}

static void unsent_output_has_a_cap(void **state)
{
    struct net_fixture f;
    static char block[65536];
    (void)state;
    mode = SINK;
    limits.out_max = 200000;
    net_start(&f, &limits, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_established(seen.c);
    for (int i = 0; i < 1000 && seen.c && !conn_is_closing(seen.c); i++) {
        conn_send(seen.c, span_of(block, sizeof block));
        assert_true(conn_unsent(seen.c) < 200000 + sizeof block);
    }
    NET_UNTIL(&f, seen.closed == 1);
    assert_int_equal(seen.why, CONN_CLOSE_SLOW);
    close(fd);
    net_stop(&f);
}

static void last_words_arrive_though_input_is_unread(void **state)
{
    struct net_fixture f;
    static char in[300000], out[300000];
    (void)state;
    mode = SINK;
    net_start(&f, NULL, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_send(seen.c, span_of(out, 250000));
    conn_close(seen.c, CONN_CLOSE_DONE);
    conn_close(seen.c, CONN_CLOSE_SLOW); /* the first reason stays */
    conn_send(seen.c, SPAN("never"));
    assert_true(conn_is_closing(seen.c));
    send(fd, in, 100000, MSG_NOSIGNAL); /* would turn our close into a reset */
    assert_int_equal(net_read_all(&f, fd, out, sizeof out), 250000);
    assert_int_equal(seen.why, CONN_CLOSE_DONE);
    assert_int_equal(seen.closed, 1);
    close(fd);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    net_stop(&f);
}

static void who_lingers_too_long_is_let_go(void **state)
{
    struct net_fixture f;
    (void)state;
    limits.linger_ms = 20;
    net_start(&f, &limits, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_close(seen.c, CONN_CLOSE_DONE);
    NET_UNTIL(&f, net_stats(&f).open == 0); /* though the client never closes */
    close(fd);
    net_stop(&f);
}

/* A timer of the protocol that was due before the last deadline must not be the last one. */
static void a_timer_from_before_does_not_keep_who_lingers(void **state)
{
    struct net_fixture f;
    (void)state;
    limits.linger_ms = 50;
    net_start(&f, &limits, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    conn_arm(seen.c, worker_now_ms(f.w) + 10);
    conn_close(seen.c, CONN_CLOSE_DONE);
    NET_UNTIL(&f, net_stats(&f).open == 0); /* though the client never closes */
    assert_int_equal(seen.timers, 0);
    close(fd);
    net_stop(&f);
}

static void an_old_address_finds_nobody(void **state)
{
    struct net_fixture f;
    (void)state;
    net_start(&f, NULL, NULL, &proto, NULL);
    int fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 1);
    struct bus_addr old = conn_addr(seen.c);
    assert_int_equal(old.node, 7);
    assert_ptr_equal(conn_find(f.w, old), seen.c);
    conn_on_bus_wake(f.w, old, BUS_WAKE_C2D);
    assert_int_equal(seen.wakes, 1);
    assert_int_equal(seen.wake, BUS_WAKE_C2D);
    conn_close(seen.c, CONN_CLOSE_TAKEOVER);
    assert_null(conn_find(f.w, old)); /* at once, though it still says goodbye */
    close(fd);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    fd = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 2);
    struct bus_addr now = conn_addr(seen.c);
    assert_int_equal(now.slot, old.slot); /* the memory is used again, the address is not */
    assert_int_not_equal(now.generation, old.generation);
    assert_null(conn_find(f.w, old));
    conn_on_bus_wake(f.w, old, BUS_WAKE_C2D);
    old.slot = 1000000;
    assert_null(conn_find(f.w, old));
    assert_int_equal(seen.wakes, 1);
    close(fd);
    net_stop(&f);
}

static void killing_ends_all_at_once(void **state)
{
    struct net_fixture f;
    int fds[20];
    char buf[8];
    (void)state;
    net_start(&f, NULL, NULL, &proto, NULL);
    for (int i = 0; i < 20; i++)
        fds[i] = net_connect(&f);
    NET_UNTIL(&f, seen.opened == 20);
    conn_net_drain(f.net);
    conn_net_kill(f.net);
    NET_UNTIL(&f, conn_net_open_nr(f.net) == 0);
    assert_int_equal(seen.closed, 20);
    assert_int_equal(net_stats(&f).closed[CONN_CLOSE_STOP], 20);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(net_read_all(&f, fds[i], buf, sizeof buf), 0);
        close(fds[i]);
    }
    net_stop(&f);
}

/* ---- threads ---------------------------------------------------------------------------------------- */

enum { WORKERS = 3, CLIENTS = 4, ROUNDS = 40 };

static void plain_bytes(struct conn *c, struct span *in)
{
    conn_send(c, *in);
    *in = SPAN_NONE;
}
static const struct conn_proto plain = { .name = "plain", .on_bytes = plain_bytes, .in_max = 100 };

static void *client(void *arg)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(*(uint16_t *)arg),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    for (int i = 0; i < ROUNDS; i++) {
        char buf[16];
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ||
            send(fd, "thread", 6, MSG_NOSIGNAL) != 6 || recv(fd, buf, 6, MSG_WAITALL) != 6 ||
            memcmp(buf, "thread", 6) != 0)
            return arg;
        close(fd);
    }
    return NULL;
}

static void many_workers_share_a_port(void **state)
{
    struct worker *w[WORKERS];
    struct conn_net *net;
    struct conn_listener *l;
    pthread_t threads[CLIENTS];
    (void)state;
    limits.per_source_loopback = true;
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(worker_new(&w[i], i), ERR_OK);
    assert_int_equal(conn_net_new(&net, &limits, w, WORKERS, 0), ERR_OK);
    struct conn_listen cfg = { .name = "many", .address = "127.0.0.1", .proto = &plain };
    assert_int_equal(conn_net_listen(net, &cfg, &l), ERR_OK);
    uint16_t port = conn_listener_port(l);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(worker_start(w[i]), ERR_OK);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, client, &port), 0);
    for (int i = 0; i < CLIENTS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    struct conn_stats s;
    conn_net_get_stats(net, &s);
    assert_int_equal(s.accepted, CLIENTS * ROUNDS);
    conn_net_drain(net);
    conn_net_kill(net);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_stop(w[i]);
    conn_net_free(net);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_free(w[i]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, reset)
    const struct CMUnitTest tests[] = {
        T(what_is_sent_comes_back_in_one_piece),
        T(what_is_left_comes_again_with_more),
        T(paused_input_comes_when_it_goes_on),
        T(the_cap_on_all_is_held_and_given_back),
        T(the_cap_of_a_source_is_its_own),
        T(an_exempt_listener_is_always_open),
        T(a_port_in_use_is_said_so),
        T(when_descriptors_run_out_we_wait_and_go_on),
        T(who_does_not_prove_himself_is_closed),
        T(timers_move_and_fire_once),
        T(a_reader_that_stands_still_is_closed),
        T(unsent_output_has_a_cap),
        T(last_words_arrive_though_input_is_unread),
        T(who_lingers_too_long_is_let_go),
        T(a_timer_from_before_does_not_keep_who_lingers),
        T(an_old_address_finds_nobody),
        T(killing_ends_all_at_once),
        T(many_workers_share_a_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
