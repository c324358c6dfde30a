/* hub/conn/tls_test.c - what small, old and new clients get from our TLS, by an OpenSSL client in the same
 * thread: versions, both certificates, preference, small fragments, resumption of each kind, client
 * certificates, reload. All of it with each record layer. */
#include "hub/config/pki.h"
#include "hub/conn/net_fixture.h"

#include <openssl/ssl.h>

static char dir[64], ca[80], ca_key[80], chain[2][80], key[2][80];
static const char *const names[] = { "hub.localhost", "127.0.0.1" };
static struct tls_ctx *server;
static struct net_fixture f;
static size_t largest_record;
static enum tls_layer layer;

static struct conn *last;
static unsigned closed_nr;
static enum conn_close closed_why;
static void on_open(struct conn *c)
{
    last = c;
    conn_established(c);
}
static void on_bytes(struct conn *c, struct span *in)
{
    conn_send(c, *in);
    *in = SPAN_NONE;
}
static void on_close(struct conn *c, enum conn_close why)
{
    (void)c;
    closed_nr++;
    closed_why = why;
    last = NULL;
}
static const struct conn_proto echo = {
    .name = "echo", .on_open = on_open, .on_bytes = on_bytes, .in_max = 1000000, .on_close = on_close
};

static int make_files(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/roost-tls-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", dir);
    assert_int_equal(pki_ca_new(ca, ca_key), ERR_OK);
    for (int i = 0; i < 2; i++) {
        snprintf(chain[i], sizeof chain[i], "%s/%d.crt", dir, i);
        snprintf(key[i], sizeof key[i], "%s/%d.key", dir, i);
        assert_int_equal(pki_server_new(i ? PKI_RSA : PKI_EC, names, 2, ca, ca_key, chain[i], key[i]),
                         ERR_OK);
    }
    return 0;
}
static int remove_files(void **state)
{
    (void)state;
    const char *const all[] = { ca, ca_key, chain[0], chain[1], key[0], key[1] };
    for (int i = 0; i < 6; i++)
        unlink(all[i]);
    rmdir(dir);
    return 0;
}

static struct tls_config config(void)
{
    return (struct tls_config){ .chain_files = { chain[0], chain[1] },
                                .key_files = { key[0], key[1] },
                                .layer = layer,
                                .ask_client_certificate = true };
}
static int start(void **state)
{
    struct tls_config c = config();
    struct conn_limits l = { .out_max = 8u << 20 };
    (void)state;
    closed_nr = 0;
    last = NULL;
    largest_record = 0;
    assert_int_equal(tls_ctx_new(&server, &c, NULL), ERR_OK);
    net_start(&f, &l, server, &echo, NULL);
    return 0;
}
static int stop(void **state)
{
    (void)state;
    net_stop(&f);
    tls_ctx_unref(server);
    return 0;
}

static SSL_CTX *client_ctx(int version)
{
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    assert_int_equal(SSL_CTX_load_verify_locations(c, ca, NULL), 1);
    SSL_CTX_set_min_proto_version(c, version);
    SSL_CTX_set_max_proto_version(c, version);
    return c;
}

static void look_at_records(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                            void *arg)
{
    const uint8_t *p = buf;
    (void)version;
    (void)ssl;
    (void)arg;
    if (type == SSL3_RT_HEADER && !write_p && len >= 5) {
        size_t n = (size_t)p[3] << 8 | p[4];
        largest_record = n > largest_record ? n : largest_record;
    }
}

/* Turns the hub until op has what it wants. Returns op's last result. */
static int drive(SSL *ssl, int (*op)(SSL *))
{
    for (int turns = 0; turns < 2000; turns++) {
        int r = op(ssl);
        int e = SSL_get_error(ssl, r);
        if (r > 0 || (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE))
            return r;
        worker_turn(f.w, 10);
    }
    fail_msg("the handshake does not end");
    return -1;
}

/* NULL: the handshake failed. */
static SSL *dial(SSL_CTX *ctx, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, net_connect(&f));
    SSL_set_tlsext_host_name(ssl, "hub.localhost");
    SSL_set1_host(ssl, "hub.localhost");
    SSL_set_msg_callback(ssl, look_at_records);
    if (session)
        SSL_set_session(ssl, session);
    if (drive(ssl, SSL_connect) == 1) {
        NET_UNTIL(&f, last); /* the client may be done before we are */
        return ssl;
    }
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    return NULL;
}

/* n bytes there and back. */
static void say(SSL *ssl, size_t n)
{
    uint8_t *out = malloc(n), *in = malloc(n);
    size_t sent = 0, got = 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 13 + i / 251);
    for (int idle = 0; got < n && idle < 2000; idle++) {
        size_t k = 0;
        if (sent < n && SSL_write_ex(ssl, out + sent, n - sent, &k) == 1)
            sent += k;
        if (SSL_read_ex(ssl, in + got, n - got, &k) == 1) {
            got += k;
            idle = 0;
        } else {
            worker_turn(f.w, sent < n ? 0 : 10);
        }
    }
    assert_int_equal(got, n);
    assert_memory_equal(in, out, n);
    free(out);
    free(in);
}

static void hang_up(SSL *ssl)
{
    unsigned before = closed_nr;
    SSL_shutdown(ssl);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    NET_UNTIL(&f, closed_nr == before + 1);
    assert_int_equal(closed_why, CONN_CLOSE_PEER);
}

static void both_versions_carry_data(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        SSL_CTX *ctx = client_ctx(v);
        SSL *ssl = dial(ctx, NULL);
        assert_non_null(ssl);
        assert_int_equal(SSL_version(ssl), v);
        assert_true(conn_is_tls(last));
        say(ssl, 5);
        say(ssl, 700000); /* many records, more than a turn reads */
        assert_int_equal(conn_max_fragment(last), 0);
        assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(ssl)), 2); /* the chain file, no more */
        hang_up(ssl);
        SSL_CTX_free(ctx);
    }
    assert_int_equal(net_stats(&f).handshakes, 2);
    assert_int_equal(net_stats(&f).resumed, 0);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    assert_int_equal(net_stats(&f).tls_total[layer], 2);
    assert_int_equal(net_stats(&f).tls_open[layer], 0);
}

static void old_versions_are_refused(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_1_VERSION);
    SSL_CTX_set_security_level(ctx, 0);
    assert_null(dial(ctx, NULL));
    NET_UNTIL(&f, net_stats(&f).handshake_failed == 1 && net_stats(&f).open == 0);
    assert_int_equal(closed_nr, 0); /* the protocol above never heard of it */
    SSL_CTX_free(ctx);
}

static int peer_key_type(SSL *ssl)
{
    return EVP_PKEY_get_base_id(X509_get0_pubkey(SSL_get0_peer_certificate(ssl)));
}

static void the_certificate_fits_the_client(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_2_VERSION);
    SSL *ssl = dial(ctx, NULL);
    assert_int_equal(peer_key_type(ssl), EVP_PKEY_EC);
    hang_up(ssl);
    /* the probe of old firmware: one suite, RSA and CBC */
    SSL_CTX_set_cipher_list(ctx, "ECDHE-RSA-AES128-SHA");
    ssl = dial(ctx, NULL);
    assert_non_null(ssl);
    assert_int_equal(peer_key_type(ssl), EVP_PKEY_RSA);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_OPENSSL], 1); /* whatever was asked for */
    say(ssl, 100);
    say(ssl, 100000);
    hang_up(ssl);
    SSL_CTX_free(ctx);
    ctx = client_ctx(TLS1_3_VERSION);
    SSL_CTX_set1_sigalgs_list(ctx, "rsa_pss_rsae_sha256");
    ssl = dial(ctx, NULL);
    assert_non_null(ssl);
    assert_int_equal(peer_key_type(ssl), EVP_PKEY_RSA);
    hang_up(ssl);
    SSL_CTX_free(ctx);
}

static void small_chips_get_x25519_and_chacha(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_2_VERSION);
    SSL_CTX_set1_groups_list(ctx, "P-256:X25519"); /* in this order, as BearSSL has it */
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256");
    SSL *ssl = dial(ctx, NULL);
    EVP_PKEY *peer = NULL;
    assert_string_equal(SSL_get_cipher(ssl), "ECDHE-ECDSA-CHACHA20-POLY1305");
    assert_int_equal(SSL_get_peer_tmp_key(ssl, &peer), 1);
    assert_int_equal(EVP_PKEY_get_id(peer), EVP_PKEY_X25519);
    EVP_PKEY_free(peer);
    hang_up(ssl);
    SSL_CTX_set_cipher_list(ctx, "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
                                 "ECDHE-ECDSA-AES128-GCM-SHA256");
    ssl = dial(ctx, NULL);
    assert_string_equal(SSL_get_cipher(ssl),
                        "ECDHE-ECDSA-AES128-GCM-SHA256"); /* ours, for those who do not mind */
    hang_up(ssl);
    SSL_CTX_free(ctx);
}

static void fragments_are_as_small_as_asked(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        SSL_CTX *ctx = client_ctx(v);
        SSL_CTX_set_tlsext_max_fragment_length(ctx, TLSEXT_max_fragment_length_512);
        SSL_CTX_set_cipher_list(ctx,
                                "ECDHE-RSA-AES128-GCM-SHA256"); /* the long chain has to be cut as well */
        largest_record = 0;
        SSL *ssl = dial(ctx, NULL);
        assert_non_null(ssl);
        say(ssl, 20000);
        assert_int_equal(conn_max_fragment(last), 512);
        assert_in_range(largest_record, 400, 512 + 32);
        hang_up(ssl);
        SSL_CTX_free(ctx);
    }
}

static SSL_SESSION *newest;
static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(newest);
    newest = s;
    return 1;
}

/* Connects, takes the session, connects again with it. */
static void resume(int version, bool tickets, bool with_certificate, bool reload)
{
    SSL_CTX *ctx = client_ctx(version);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    if (!tickets)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    if (with_certificate) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(ctx, chain[0]), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key[0], SSL_FILETYPE_PEM), 1);
    }
    newest = NULL;
    uint64_t before = net_stats(&f).resumed;
    SSL *ssl = dial(ctx, NULL);
    assert_non_null(ssl);
    say(ssl, 10);
    assert_false(SSL_session_reused(ssl));
    struct span der, behind = SPAN_NONE, again = SPAN_NONE;
    uint8_t first[4096];
    assert_int_equal(conn_peer_chain(last, &behind), with_certificate);
    size_t first_len = behind.n;
    assert_in_range(first_len, with_certificate ? 100 : 0, sizeof first);
    if (first_len)
        memcpy(first, behind.p, first_len);
    hang_up(ssl);
    assert_non_null(newest);
    if (reload) {
        struct tls_config c = config();
        struct tls_ctx *after;
        assert_int_equal(tls_ctx_new(&after, &c, server), ERR_OK);
        conn_listener_set_tls(f.listener, after);
        worker_turn(f.w, 10);
        tls_ctx_unref(server);
        server = after;
    }
    for (uint64_t round = 1; round <= 3; round++) { /* the first from that, with TLS 1.3 the others from it */
        ssl = dial(ctx, newest);
        assert_non_null(ssl);
        say(ssl, 10);
        assert_true(SSL_session_reused(ssl));
        assert_int_equal(net_stats(&f).resumed, before + round);
        assert_int_equal(conn_peer_certificate(last, &der), with_certificate); /* also in a resumed session */
        again = SPAN_NONE;
        assert_int_equal(conn_peer_chain(last, &again), with_certificate);
        assert_true(span_eq(again, span_of(first, first_len)));
        hang_up(ssl);
    }
    SSL_SESSION_free(newest);
    newest = NULL;
    SSL_CTX_free(ctx);
}

static void sessions_resume_by_ticket_and_by_id(void **state)
{
    (void)state;
    resume(TLS1_3_VERSION, true, false, false);
    resume(TLS1_2_VERSION, true, false, false);
    resume(TLS1_2_VERSION, false, false, false); /* by session id, from our cache */
    resume(TLS1_3_VERSION, true, true, false);
    resume(TLS1_2_VERSION, true, true, false);
    resume(TLS1_2_VERSION, false, true, false);
}

static void tickets_outlive_a_reload(void **state)
{
    (void)state;
    resume(TLS1_3_VERSION, true, false, true);
    resume(TLS1_2_VERSION, true, false, true);
}

static void a_client_certificate_is_asked_for_without_names(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_use_certificate_file(ctx, chain[1], SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(ctx, key[1], SSL_FILETYPE_PEM), 1);
    SSL *ssl = dial(ctx, NULL);
    assert_non_null(ssl);
    say(ssl, 1);
    assert_true(sk_X509_NAME_num(SSL_get0_peer_CA_list(ssl)) <= 0);
    struct span der;
    assert_true(conn_peer_certificate(last, &der)); /* any is taken; whose it is, the identity decides */
    const uint8_t *p = der.p;
    X509 *x = d2i_X509(NULL, &p, (long)der.n);
    assert_non_null(x);
    X509_free(x);
    hang_up(ssl);
    SSL_CTX_free(ctx);
}

static void renegotiation_is_refused(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_2_VERSION);
    SSL *ssl = dial(ctx, NULL);
    assert_non_null(ssl);
    say(ssl, 1);
    SSL_renegotiate(ssl);
    assert_int_not_equal(drive(ssl, SSL_do_handshake), 1);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    NET_UNTIL(&f, net_stats(&f).open == 0);
}

static void our_end_is_a_close_notify(void **state)
{
    (void)state;
    SSL_CTX *ctx = client_ctx(TLS1_3_VERSION);
    SSL *ssl = dial(ctx, NULL);
    uint8_t buf[16];
    size_t n = 0;
    int r = 0;
    assert_non_null(ssl);
    say(ssl, 1);
    conn_send(last, SPAN("bye"));
    conn_close(last, CONN_CLOSE_DONE);
    for (int turns = 0; turns < 500; turns++) {
        size_t k = 0;
        r = SSL_read_ex(ssl, buf + n, sizeof buf - n, &k);
        n += k;
        if (r != 1 && SSL_get_error(ssl, r) != SSL_ERROR_WANT_READ)
            break;
        worker_turn(f.w, 5);
    }
    assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(n, 3);
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    NET_UNTIL(&f, net_stats(&f).open == 0);
}

static void a_file_goes_through_tls(void **state)
{
    (void)state;
    enum { LEN = 900000 };
    SSL_CTX *ctx = client_ctx(TLS1_3_VERSION);
    SSL *ssl = dial(ctx, NULL);
    static uint8_t in[LEN + 16], content[LEN];
    size_t n = 0;
    for (size_t i = 0; i < LEN; i++)
        content[i] = (uint8_t)(i * 31 + i / 7);
    FILE *file = tmpfile();
    assert_int_equal(fwrite(content, 1, LEN, file), LEN);
    fflush(file);
    say(ssl, 1);
    conn_send(last, SPAN("head"));
    conn_send_file(last, dup(fileno(file)), 5, LEN - 5);
    conn_send(last, SPAN("tail"));
    fclose(file);
    for (int idle = 0; n < LEN + 3 && idle < 500; idle++) {
        size_t k = 0;
        if (SSL_read_ex(ssl, in + n, sizeof in - n, &k) == 1) {
            n += k;
            idle = 0;
        } else {
            worker_turn(f.w, 5);
        }
    }
    assert_int_equal(n, LEN + 3);
    assert_memory_equal(in, "head", 4);
    assert_memory_equal(in + 4, content + 5, LEN - 5);
    assert_memory_equal(in + 4 + LEN - 5, "tail", 4);
    hang_up(ssl);
    SSL_CTX_free(ctx);
}

static void who_does_not_shake_hands_is_closed(void **state)
{
    struct net_fixture g;
    struct conn_limits l = { .handshake_ms = 30 };
    char buf[16];
    (void)state;
    int noise = net_connect(&f);
    net_write(&f, noise, "GET / HTTP/1.1\r\n\r\n", 18); /* not TLS at all */
    net_read_all(&f, noise, buf, sizeof buf);
    assert_int_equal(net_stats(&f).handshake_failed, 1);
    net_start(&g, &l, server, &echo, NULL); /* which waits for 30 ms only */
    int silent = net_connect(&g);
    assert_int_equal(net_read_all(&g, silent, buf, sizeof buf), 0);
    assert_int_equal(net_stats(&g).closed[CONN_CLOSE_TIMEOUT], 1);
    assert_int_equal(net_stats(&g).handshakes, 0);
    close(silent);
    close(noise);
    NET_UNTIL(&g, net_stats(&g).open == 0);
    net_stop(&g);
}

static void wrong_files_are_refused(void **state)
{
    struct tls_config c = config();
    struct tls_ctx *t;
    (void)state;
    c.key_files[0] = key[1];
    assert_int_equal(tls_ctx_new(&t, &c, NULL), ERR_IO);
    c = config();
    c.chain_files[0] = "/nowhere";
    assert_int_equal(tls_ctx_new(&t, &c, NULL), ERR_IO);
    c.chain_files[0] = c.chain_files[1] = NULL;
    assert_int_equal(tls_ctx_new(&t, &c, NULL), ERR_IO);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(both_versions_carry_data),        T(old_versions_are_refused),
        T(the_certificate_fits_the_client), T(small_chips_get_x25519_and_chacha),
        T(fragments_are_as_small_as_asked), T(sessions_resume_by_ticket_and_by_id),
        T(tickets_outlive_a_reload),        T(a_client_certificate_is_asked_for_without_names),
        T(renegotiation_is_refused),        T(our_end_is_a_close_notify),
        T(a_file_goes_through_tls),         T(who_does_not_shake_hands_is_closed),
        T(wrong_files_are_refused),
    };
    int failed = 0;
    for (layer = TLS_LAYER_OPENSSL; layer <= TLS_LAYER_COMPACT; layer++) {
        print_message("---- %s\n", tls_layer_name(layer));
        failed += cmocka_run_group_tests(tests, make_files, remove_files);
    }
    return failed;
}
