/* port/posix/tls_test.c - who is believed and who is not, against an OpenSSL server in this process whose
 * certificates are made here. */
#include "port/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct party {
    EVP_PKEY *key;
    X509 *cert;
};

static void add_ext(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_true(X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
}

static struct party make(const char *name, const struct party *issuer, const char *alt, long days)
{
    static long serial = 1;
    struct party p = { EVP_EC_gen("P-256"), X509_new() };
    X509_NAME *subject = X509_get_subject_name(p.cert);
    assert_true(
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0));
    X509_set_version(p.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(p.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(p.cert), -86400 * 10);
    X509_gmtime_adj(X509_getm_notAfter(p.cert), 86400 * days);
    X509_set_pubkey(p.cert, p.key);
    X509_set_issuer_name(p.cert, issuer ? X509_get_subject_name(issuer->cert) : subject);
    if (alt) {
        add_ext(p.cert, issuer->cert, NID_subject_alt_name, alt);
        add_ext(p.cert, issuer->cert, NID_basic_constraints, "critical,CA:FALSE");
    } else {
        add_ext(p.cert, issuer ? issuer->cert : p.cert, NID_basic_constraints, "critical,CA:TRUE");
    }
    assert_true(X509_sign(p.cert, issuer ? issuer->key : p.key, EVP_sha256()));
    return p;
}

static void drop(struct party *p)
{
    EVP_PKEY_free(p->key);
    X509_free(p->cert);
}

static void pin_of(const struct party *p, uint8_t pin[TLS_PIN_LEN])
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(p->cert), &der);
    assert_true(n > 0);
    assert_true(EVP_Digest(der, (size_t)n, pin, NULL, EVP_sha256(), NULL));
    OPENSSL_free(der);
}

/* A server for one connection at a time: shakes hands, echoes until the peer closes. */
struct server {
    SSL_CTX *ctx; /* NULL: plain */
    int listen_fd;
    uint16_t port;
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct server *s = (struct server *)arg;
    for (int fd; (fd = accept(s->listen_fd, NULL, NULL)) >= 0; close(fd)) {
        char buf[4096];
        ssize_t n;
        if (!s->ctx) {
            while ((n = read(fd, buf, sizeof buf)) > 0)
                if (write(fd, buf, (size_t)n) < 0)
                    break;
            continue;
        }
        SSL *ssl = SSL_new(s->ctx);
        SSL_set_fd(ssl, fd);
        if (SSL_accept(ssl) == 1)
            while ((n = SSL_read(ssl, buf, sizeof buf)) > 0)
                SSL_write(ssl, buf, (int)n);
        ERR_clear_error();
        SSL_free(ssl);
    }
    return NULL;
}

static void server_start(struct server *s, const struct party *leaf, const struct party *extra)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    s->ctx = NULL;
    if (leaf) {
        s->ctx = SSL_CTX_new(TLS_server_method());
        assert_true(SSL_CTX_use_certificate(s->ctx, leaf->cert));
        assert_true(SSL_CTX_use_PrivateKey(s->ctx, leaf->key));
        SSL_CTX_set_mode(s->ctx, SSL_MODE_NO_AUTO_CHAIN);
        if (extra)
            assert_true(SSL_CTX_add1_chain_cert(s->ctx, extra->cert));
    }
    assert_true((s->listen_fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    assert_int_equal(bind(s->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s->listen_fd, 8), 0);
    assert_int_equal(getsockname(s->listen_fd, (struct sockaddr *)&a, &n), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct server *s)
{
    shutdown(s->listen_fd, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listen_fd);
    SSL_CTX_free(s->ctx);
}

static void wait_for(struct tls_conn *c)
{
    struct pollfd p = { .fd = tls_conn_fd(c), .events = (short)tls_conn_events(c) };
    assert_int_equal(poll(&p, 1, 20000), 1);
}

static enum err settle(struct tls_conn *c)
{
    enum err e;
    while ((e = tls_conn_step(c)) == ERR_AGAIN)
        wait_for(c);
    return e;
}

/* Sends and reads back n bytes of a pattern. */
static void echo(struct tls_conn *c, size_t n)
{
    uint8_t *out = malloc(n), *in = malloc(n);
    size_t sent = 0, got = 0, k;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 7 + i / 256);
    while (got < n) {
        bool moved = false;
        if (sent < n && tls_conn_write(c, span_of(out + sent, n - sent), &k) == ERR_OK) {
            sent += k;
            moved = true;
        }
        enum err e = tls_conn_read(c, in + got, n - got, &k);
        if (e == ERR_OK) {
            assert_true(k > 0);
            got += k;
            moved = true;
        } else {
            assert_int_equal(e, ERR_AGAIN);
        }
        if (!moved)
            wait_for(c);
    }
    assert_memory_equal(in, out, n);
    free(in);
    free(out);
}

static enum err try_host(struct tls_client *t, const struct server *s, const char *host, const uint8_t *pin,
                         struct tls_session **session)
{
    struct tls_conn *c;
    struct tls_target to = {
        .host = span_str(host), .port = s->port, .pin = pin, .plain = !s->ctx, .session = session
    };
    assert_int_equal(tls_conn_open(t, &to, &c), ERR_OK);
    enum err e = settle(c);
    if (e == ERR_OK)
        echo(c, 100000);
    tls_conn_close(c);
    return e;
}

struct world {
    struct party ca, other, leaf;
    uint8_t pin[TLS_PIN_LEN], other_pin[TLS_PIN_LEN];
    struct tls_client *t;
};

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->ca = make("ca", NULL, NULL, 30);
    w->other = make("other", NULL, NULL, 30);
    w->leaf = make("leaf", &w->ca, "DNS:localhost,DNS:hub.localhost,IP:127.0.0.1", 30);
    pin_of(&w->ca, w->pin);
    pin_of(&w->other, w->other_pin);
    assert_int_equal(tls_client_new(&w->t), ERR_OK);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = (struct world *)*state;
    tls_client_free(w->t);
    drop(&w->ca);
    drop(&w->other);
    drop(&w->leaf);
    free(w);
    return 0;
}

static void test_pin_of_the_sent_ca(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    server_start(&s, &w->leaf, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", w->other_pin, NULL), ERR_VERIFY);
    assert_int_equal(try_host(w->t, &s, "localhost", NULL, NULL), ERR_VERIFY); /* not the system's CA */
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "127.0.0.1", w->pin, NULL), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "hub.localhost", w->pin, NULL), ERR_OK); /* no name server asked */
    assert_int_equal(try_host(w->t, &s, "other.localhost", w->pin, NULL), ERR_VERIFY);
    assert_int_equal(tls_client_set_address(w->t, "localhost"), ERR_PROTO);
    assert_int_equal(tls_client_set_address(w->t, "127.0.0.1"), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "not-in-the-certificate.example", w->pin, NULL), ERR_VERIFY);
    /* Learning the CA for its pin has not made it an anchor for everything. */
    assert_int_equal(try_host(w->t, &s, "localhost", NULL, NULL), ERR_VERIFY);
    assert_int_equal(try_host(w->t, &s, "localhost", w->other_pin, NULL), ERR_VERIFY);
    server_stop(&s);
}

static void test_name_must_match(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct party wrong = make("wrong", &w->ca, "DNS:elsewhere.example", 30);
    server_start(&s, &wrong, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_VERIFY);
    assert_int_equal(try_host(w->t, &s, "127.0.0.1", w->pin, NULL), ERR_VERIFY);
    server_stop(&s);
    drop(&wrong);
}

static void test_expired_leaf(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct party old = make("old", &w->ca, "DNS:localhost", -1);
    server_start(&s, &old, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_VERIFY);
    server_stop(&s);
    drop(&old);
}

static void test_pinned_ca_beside_a_foreign_chain(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct party foreign = make("leaf", &w->other, "DNS:localhost", 30);
    server_start(&s, &foreign, &w->ca); /* shows the right CA, which did not sign it */
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_VERIFY);
    server_stop(&s);
    drop(&foreign);
}

static void test_pin_of_a_leaf_is_no_authority(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    uint8_t pin[TLS_PIN_LEN];
    pin_of(&w->leaf, pin);
    server_start(&s, &w->leaf, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", pin, NULL), ERR_VERIFY);
    server_stop(&s);
}

static void test_intermediate_as_the_pinned_ca(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    uint8_t pin[TLS_PIN_LEN];
    struct party mid = make("mid", &w->ca, NULL, 30);
    struct party leaf = make("leaf", &mid, "DNS:localhost", 30);
    pin_of(&mid, pin);
    server_start(&s, &leaf, &mid);
    assert_int_equal(try_host(w->t, &s, "localhost", pin, NULL), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_VERIFY); /* the root is not known */
    server_stop(&s);
    drop(&mid);
    drop(&leaf);
}

static void test_stored_ca_serves_a_short_chain(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s, full;
    uint8_t pem[4096];
    struct wr out = { pem, sizeof pem, 0 };
    server_start(&s, &w->leaf, NULL);
    server_start(&full, &w->leaf, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_VERIFY);
    assert_int_equal(tls_client_stored_ca(w->t, w->pin, &out), ERR_NOTFOUND);
    assert_int_equal(try_host(w->t, &full, "localhost", w->pin, NULL), ERR_OK);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, NULL), ERR_OK);
    assert_int_equal(tls_client_stored_ca(w->t, w->pin, &out), ERR_OK);
    struct tls_client *again;
    assert_int_equal(tls_client_new(&again), ERR_OK);
    assert_int_equal(tls_client_store_ca(again, SPAN("no certificate")), ERR_PROTO);
    assert_int_equal(tls_client_store_ca(again, wr_span(&out)), ERR_OK);
    assert_int_equal(try_host(again, &s, "localhost", w->pin, NULL), ERR_OK);
    tls_client_free(again);
    server_stop(&s);
    server_stop(&full);
}

static void test_stored_cas_are_capped(void **state)
{
    struct world *w = (struct world *)*state;
    uint8_t first[TLS_PIN_LEN], buf[4096];
    for (unsigned i = 0; i < 20; i++) {
        struct party p = make("many", NULL, NULL, 30);
        BIO *bio = BIO_new(BIO_s_mem());
        char *pem;
        PEM_write_bio_X509(bio, p.cert);
        long n = BIO_get_mem_data(bio, &pem);
        assert_int_equal(tls_client_store_ca(w->t, span_of(pem, (size_t)n)), ERR_OK);
        if (i == 0)
            pin_of(&p, first);
        BIO_free(bio);
        drop(&p);
    }
    struct wr out = { buf, sizeof buf, 0 };
    assert_int_equal(tls_client_stored_ca(w->t, first, &out), ERR_NOTFOUND);
}

static void test_second_connection_resumes(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct tls_session *session = NULL;
    struct tls_conn *c;
    server_start(&s, &w->leaf, &w->ca);
    assert_int_equal(try_host(w->t, &s, "localhost", w->pin, &session), ERR_OK);
    assert_non_null(session);
    struct tls_target to = { .host = SPAN("localhost"), .port = s.port, .pin = w->pin, .session = &session };
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_OK);
    assert_int_equal(settle(c), ERR_OK);
    assert_true(tls_conn_resumed(c));
    echo(c, 10);
    tls_conn_close(c);
    /* Another pin never profits from it. */
    assert_int_equal(try_host(w->t, &s, "localhost", w->other_pin, &session), ERR_VERIFY);
    server_stop(&s);
    tls_session_free(session);
}

static void test_plain_and_source_address(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct tls_conn *c;
    server_start(&s, NULL, NULL);
    assert_int_equal(try_host(w->t, &s, "localhost", NULL, NULL), ERR_OK);
    struct tls_target to = {
        .host = SPAN("127.0.0.1"), .port = s.port, .plain = true, .source_ipv4 = 0x7f010203
    };
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_OK);
    assert_int_equal(settle(c), ERR_OK);
    struct sockaddr_in me;
    socklen_t n = sizeof me;
    assert_int_equal(getsockname(tls_conn_fd(c), (struct sockaddr *)&me, &n), 0);
    assert_int_equal(ntohl(me.sin_addr.s_addr), 0x7f010203);
    echo(c, 5);
    tls_conn_close(c);
    server_stop(&s);
}

static void test_what_cannot_be_reached(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct tls_conn *c;
    uint8_t long_name[TLS_HOST_MAX + 1];
    memset(long_name, 'a', sizeof long_name);
    struct tls_target to = { .host = span_of(long_name, sizeof long_name) };
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_LIMIT);
    to.host = SPAN_NONE;
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_LIMIT);
    server_start(&s, NULL, NULL);
    assert_int_equal(try_host(w->t, &s, "no-such-name.invalid", w->pin, NULL), ERR_NOTFOUND);
    server_stop(&s); /* its port is closed now */
    assert_int_equal(try_host(w->t, &s, "127.0.0.1", NULL, NULL), ERR_DENIED);
    to.host = SPAN("127.0.0.1");
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_OK);
    tls_conn_close(c); /* before anything happened */
}

static void test_server_that_speaks_no_tls(void **state)
{
    struct world *w = (struct world *)*state;
    struct server s;
    struct tls_conn *c;
    server_start(&s, NULL, NULL); /* echoes the hello back */
    struct tls_target to = { .host = SPAN("localhost"), .port = s.port, .pin = w->pin };
    assert_int_equal(tls_conn_open(w->t, &to, &c), ERR_OK);
    assert_int_equal(settle(c), ERR_IO);
    uint8_t b[1];
    size_t n;
    assert_int_equal(tls_conn_read(c, b, 1, &n), ERR_IO);
    assert_int_equal(tls_conn_write(c, SPAN("x"), &n), ERR_IO);
    tls_conn_close(c);
    server_stop(&s);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_pin_of_the_sent_ca),
        TEST(test_name_must_match),
        TEST(test_expired_leaf),
        TEST(test_pinned_ca_beside_a_foreign_chain),
        TEST(test_pin_of_a_leaf_is_no_authority),
        TEST(test_intermediate_as_the_pinned_ca),
        TEST(test_stored_ca_serves_a_short_chain),
        TEST(test_stored_cas_are_capped),
        TEST(test_second_connection_resumes),
        TEST(test_plain_and_source_address),
        TEST(test_what_cannot_be_reached),
        TEST(test_server_that_speaks_no_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
