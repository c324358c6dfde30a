/* tests/fault/tls.c - TLS connections when memory runs out: every allocation of the hub's process fails once,
 * from the accepted socket over handshake and hand-over to data that waits for a slow reader. A connection
 * may end; what arrives is right, and the next connection is served. The clients are processes of their own.
 */
#include "hub/conn/net_fixture.h"
#include "tests/fake/pki_fixture.h"
#include "tests/fault/layer/faults.h"

#include <openssl/ssl.h>
#include <signal.h>
#include <sys/wait.h>

enum { LEN = 300000, CHILD_OK = 0, CHILD_WRONG = 3, CHILD_ENDED = 4 };

static void on_open(struct conn *c)
{
    conn_established(c);
}
static void on_bytes(struct conn *c, struct span *in)
{
    conn_send(c, *in);
    *in = SPAN_NONE;
}
static const struct conn_proto echo = {
    .name = "echo", .on_open = on_open, .on_bytes = on_bytes, .in_max = 1000000
};

static uint8_t byte_of(size_t i)
{
    return (uint8_t)(i * 11 + i / 250);
}

/* The other process: sends LEN bytes, reads them back, slowly at first. */
static int client(uint16_t port, int version)
{
    static uint8_t data[LEN], back[LEN];
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { 5, 0 };
    int fd = socket(AF_INET, SOCK_STREAM, 0), small = 8192;
    signal(SIGPIPE, SIG_IGN);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_use_certificate_chain_file(ctx, chain);
    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
    SSL *ssl = SSL_new(ctx);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 || SSL_set_fd(ssl, fd) != 1 ||
        SSL_connect(ssl) != 1)
        return CHILD_ENDED;
    for (size_t i = 0; i < LEN; i++)
        data[i] = byte_of(i);
    for (size_t sent = 0, got = 0; got < LEN;) {
        int n = sent < LEN ? SSL_write(ssl, data + sent, LEN - sent < 30001 ? (int)(LEN - sent) : 30001) : 1;
        if (n <= 0)
            return CHILD_ENDED;
        sent += sent < LEN ? (size_t)n : 0;
        if (sent < LEN && sent < got + 120000)
            continue; /* let the hub's output wait */
        if ((n = SSL_read(ssl, back + got, (int)(LEN - got))) <= 0)
            return CHILD_ENDED;
        for (int i = 0; i < n; i++, got++)
            if (back[got] != byte_of(got))
                return CHILD_WRONG;
    }
    return CHILD_OK;
}

static int talk(struct net_fixture *f, int version)
{
    int status = 0;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        faults_disarm(); /* of the hub only */
        _exit(client(f->port, version));
    }
    assert_true(pid > 0);
    while (waitpid(pid, &status, WNOHANG) == 0)
        worker_turn(f->w, 5);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    if (!faults_has_alloc())
        skip();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct tls_config c = { .chain_files = { chain }, .key_files = { key } };
        struct conn_limits l = { .out_max = 8u << 20 };
        struct net_fixture f;
        struct tls_ctx *server;
        uint64_t seen = 0;
        unsigned ended = 0;
        c.ask_client_certificate = true;
        for (uint64_t k = 0; !k || k <= seen; k += 1 + k / 12) { /* most of them are OpenSSL's */
            assert_int_equal(tls_ctx_new(&server, &c, NULL), ERR_OK);
            net_start(&f, &l, server, &echo, NULL);
            faults_arm(FAULT_ALLOC, k ? k : UINT64_MAX, 1, ENOMEM); /* first all are counted */
            int r = talk(&f, version);
            if (faults_seen() > seen)
                seen = faults_seen();
            faults_disarm();
            assert_true(r == CHILD_OK || r == CHILD_ENDED);
            ended += r == CHILD_ENDED;
            assert_int_equal(talk(&f, version), CHILD_OK); /* and afterwards all is well */
            NET_UNTIL(&f, net_stats(&f).open == 0);
            assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_COMPACT], 0);
            net_stop(&f);
            tls_ctx_unref(server);
        }
        assert_true(seen > 100);
        assert_true(ended > 3);
    }
}

/* The last allocations are ours: the record that came in part, the one that left in part, the certificate. */
static void every_late_allocation_may_fail(void **state)
{
    (void)state;
    if (!faults_has_alloc())
        skip();
    struct tls_config c = { .chain_files = { chain }, .key_files = { key } };
    struct conn_limits l = { .out_max = 8u << 20 };
    struct net_fixture f;
    struct tls_ctx *server;
    c.ask_client_certificate = true;
    assert_int_equal(tls_ctx_new(&server, &c, NULL), ERR_OK);
    net_start(&f, &l, server, &echo, NULL);
    assert_int_equal(talk(&f, TLS1_3_VERSION), CHILD_OK);
    faults_arm(FAULT_ALLOC, UINT64_MAX, 1, ENOMEM);
    assert_int_equal(talk(&f, TLS1_3_VERSION), CHILD_OK);
    uint64_t all = faults_seen();
    for (uint64_t back = 0; back < 60 && back < all; back++) {
        faults_arm(FAULT_ALLOC, all - back, 1, ENOMEM);
        int r = talk(&f, TLS1_3_VERSION);
        faults_disarm();
        assert_true(r == CHILD_OK || r == CHILD_ENDED);
    }
    assert_int_equal(talk(&f, TLS1_3_VERSION), CHILD_OK);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    net_stop(&f);
    tls_ctx_unref(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_late_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
