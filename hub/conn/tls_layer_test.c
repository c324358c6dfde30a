/* hub/conn/tls_layer_test.c - the step from OpenSSL's handshake to a record layer, and what that does on a
 * real socket: bytes that came early, cuts, damage, a peer that does not read, keys that change. The client
 * is OpenSSL over memory, so that the test has every byte in its hands. Each test runs with each layer. */
#include "hub/config/pki.h"
#include "hub/conn/conn_impl.h"
#include "hub/conn/net_fixture.h"
#include "hub/conn/tls_impl.h"

#include <openssl/err.h>

static char dir[64], ca[80], ca_key[80], chain[80], key[80];
static const char *const names[] = { "hub.localhost" };
static struct tls_ctx *server;
static struct net_fixture f;
static enum tls_layer layer;

/* The protocol above: sends back what it gets, or, told so, many bytes of its own. */
static struct conn *last;
static unsigned closed_nr;
static enum conn_close closed_why;
static uint64_t got_nr;
static bool got_eof, stays_at_eof;
static void on_open(struct conn *c)
{
    last = c;
    conn_established(c);
}
static void on_bytes(struct conn *c, struct span *in)
{
    got_nr += in->n;
    conn_send(c, *in);
    *in = SPAN_NONE;
}
static void on_eof(struct conn *c)
{
    got_eof = true;
    if (!stays_at_eof)
        conn_close(c, CONN_CLOSE_PEER);
}
static void on_close(struct conn *c, enum conn_close why)
{
    (void)c;
    closed_nr++;
    closed_why = why;
    last = NULL;
}
static const struct conn_proto echo = { .name = "echo",
                                        .on_open = on_open,
                                        .on_bytes = on_bytes,
                                        .on_eof = on_eof,
                                        .in_max = 1000000,
                                        .on_close = on_close };

static int make_files(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/roost-layer-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", dir);
    snprintf(chain, sizeof chain, "%s/0.crt", dir);
    snprintf(key, sizeof key, "%s/0.key", dir);
    assert_int_equal(pki_ca_new(ca, ca_key), ERR_OK);
    assert_int_equal(pki_server_new(PKI_EC, names, 1, ca, ca_key, chain, key), ERR_OK);
    return 0;
}
static int remove_files(void **state)
{
    const char *const all[] = { ca, ca_key, chain, key };
    (void)state;
    for (int i = 0; i < 4; i++)
        unlink(all[i]);
    rmdir(dir);
    return 0;
}
static int start(void **state)
{
    struct tls_config c = { .chain_files = { chain }, .key_files = { key }, .layer = layer };
    struct conn_limits l = { .out_max = 64u << 20 };
    (void)state;
    c.ask_client_certificate = true;
    closed_nr = 0;
    got_nr = 0;
    got_eof = stays_at_eof = false;
    last = NULL;
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

/* ---- the client ----------------------------------------------------------------------------------- */

struct client {
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;
    uint8_t out[1 << 20]; /* what it wants to send and the test has not yet let through */
    size_t out_len;
};
static struct client cl;

static void collect(void)
{
    size_t n = 0;
    while (BIO_read_ex(SSL_get_wbio(cl.ssl), cl.out + cl.out_len, sizeof cl.out - cl.out_len, &n))
        cl.out_len += n;
}
static void let_through(size_t n)
{
    net_write(&f, cl.fd, cl.out, n);
    memmove(cl.out, cl.out + n, cl.out_len -= n);
}
/* What the hub has sent by now goes to the client's OpenSSL. False: the connection has ended. */
static bool take(void)
{
    static uint8_t buf[1 << 16];
    for (;;) {
        ssize_t n = net_try_read(cl.fd, buf, sizeof buf);
        if (n <= 0)
            return n == -2;
        assert_int_equal(BIO_write(SSL_get_rbio(cl.ssl), buf, (int)n), n);
    }
}

static void new_client(int version, bool with_certificate)
{
    memset(&cl, 0, sizeof cl);
    cl.ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(cl.ctx, version);
    SSL_CTX_set_max_proto_version(cl.ctx, version);
    if (with_certificate) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(cl.ctx, chain), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(cl.ctx, key, SSL_FILETYPE_PEM), 1);
    }
}
static void dial(void)
{
    cl.ssl = SSL_new(cl.ctx);
    SSL_set_bio(cl.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(cl.ssl), -1);
    SSL_set_connect_state(cl.ssl);
    cl.fd = net_connect(&f);
    cl.out_len = 0;
    last = NULL;
}
/* Shakes hands until the client is done; its last flight is still in cl.out. */
static void shake(void)
{
    for (int turns = 0; SSL_do_handshake(cl.ssl) != 1; turns++) {
        assert_true(turns < 1000);
        collect();
        let_through(cl.out_len);
        worker_turn(f.w, 10);
        assert_true(take());
    }
    collect();
}
static void hang_up(void)
{
    unsigned before = closed_nr;
    bool open = last;
    close(cl.fd);
    SSL_free(cl.ssl);
    cl.ssl = NULL;
    if (open)
        NET_UNTIL(&f, closed_nr == before + 1);
    NET_UNTIL(&f, net_stats(&f).open == 0);
}
static void free_client(void)
{
    SSL_CTX_free(cl.ctx);
    ERR_clear_error();
}
static void write_data(size_t n, uint8_t seed)
{
    static uint8_t data[1 << 18];
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i * 7 + i / 255 + seed);
    assert_int_equal(SSL_write(cl.ssl, data, (int)n), n);
    collect();
}
/* The same comes back. */
static void read_data(size_t n, uint8_t seed)
{
    static uint8_t data[1 << 18];
    size_t got = 0;
    for (int turns = 0; got < n && turns < 2000; turns++) {
        int r = SSL_read(cl.ssl, data + got, (int)(n - got));
        if (r > 0) {
            got += (size_t)r;
            turns = 0;
            continue;
        }
        assert_int_equal(SSL_get_error(cl.ssl, r), SSL_ERROR_WANT_READ);
        collect();
        let_through(cl.out_len);
        worker_turn(f.w, 5);
        take();
    }
    assert_int_equal(got, n);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(data[i], (uint8_t)(i * 7 + i / 255 + seed));
}
/* The end of the connection: the alert the client gets, or -1. */
static int last_alert;
static void on_info(const SSL *ssl, int where, int value)
{
    (void)ssl;
    if (where == SSL_CB_READ_ALERT)
        last_alert = value & 0xff;
}
static int wait_for_alert(void)
{
    char none;
    last_alert = -1;
    SSL_set_info_callback(cl.ssl, on_info);
    for (int turns = 0; turns < 1000 && take(); turns++)
        worker_turn(f.w, 5);
    while (SSL_read(cl.ssl, &none, 1) > 0)
        ;
    return last_alert;
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void records_are_counted_however_they_come(void **state)
{
    static const uint8_t wire[] = { 22, 3, 3, 0, 2, 9, 9,                         /* */
                                    20, 3, 3, 0, 1, 1,                            /* ChangeCipherSpec */
                                    22, 3, 3, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0xee, /* Finished, say */
                                    23, 3, 3, 0, 0,                               /* empty */
                                    23, 3, 3, 0, 3, 7, 7, 7 };
    (void)state;
    for (size_t piece = 1; piece <= sizeof wire; piece++) {
        struct tls_wire w = { 0 };
        for (size_t at = 0; at < sizeof wire; at += piece) {
            tls_wire_pass(&w, wire + at, sizeof wire - at < piece ? sizeof wire - at : piece);
            if (at + piece == 27)
                assert_true(w.nonce == 0x0102030405060708u);
        }
        assert_int_equal(w.nr, 5);
        assert_int_equal(w.since_ccs, 3);
        assert_int_equal(w.left, 0);
    }
}

/* The client's last flight and its first data in one packet, or cut anywhere. */
static void first_bytes_may_come_early(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        size_t len = 1;
        new_client(v, false);
        for (size_t cut = 0; cut <= len; cut += cut < 90 ? 1 : 7) {
            dial();
            shake();
            if (v == TLS1_2_VERSION) { /* the hub was last: nothing is early but with a session */
                let_through(cl.out_len);
                take();
            }
            write_data(20, (uint8_t)cut);
            write_data(300, (uint8_t)cut);
            len = cl.out_len;
            let_through(cut < len ? cut : len);
            worker_turn(f.w, 1);
            worker_turn(f.w, 1);
            let_through(cl.out_len);
            read_data(20, (uint8_t)cut);
            read_data(300, (uint8_t)cut);
            hang_up();
        }
        free_client();
    }
    assert_int_equal(net_stats(&f).tls_total[layer], net_stats(&f).handshakes);
}

static SSL_SESSION *session;
static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

static void first_bytes_of_a_resumed_session_may_come_early(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        for (int tickets = 0; tickets < 2; tickets++) {
            if (v == TLS1_3_VERSION && !tickets)
                continue;
            new_client(v, false);
            SSL_CTX_set_session_cache_mode(cl.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
            SSL_CTX_sess_set_new_cb(cl.ctx, keep_session);
            if (!tickets)
                SSL_CTX_set_options(cl.ctx, SSL_OP_NO_TICKET);
            session = NULL;
            dial();
            shake();
            write_data(5, 1);
            let_through(cl.out_len);
            read_data(5, 1);
            SSL_shutdown(cl.ssl);
            hang_up();
            for (int i = 0; i < 3; i++) {
                dial();
                SSL_set_session(cl.ssl, session);
                shake();
                write_data(50, 2); /* behind Finished, in the same packet */
                let_through(cl.out_len);
                read_data(50, 2);
                assert_true(SSL_session_reused(cl.ssl));
                SSL_shutdown(cl.ssl);
                hang_up();
            }
            SSL_SESSION_free(session);
            free_client();
        }
    }
}

static void established(int version, bool with_certificate)
{
    new_client(version, with_certificate);
    dial();
    shake();
    let_through(cl.out_len);
    NET_UNTIL(&f, last);
    take();
    char none;
    SSL_read(cl.ssl, &none, 1); /* tickets */
}

static void what_is_damaged_ends_with_an_alert(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        for (int how = 0; how < 7; how++) {
            static const int alerts[] = { 20, 20, 20, 20, 22, 10, -1 };
            uint8_t copy[4096];
            established(v, false);
            write_data(100, 3);
            size_t n = cl.out_len;
            memcpy(copy, cl.out, n);
            switch (how) {
            case 0: /* forged */
                cl.out[n - 1] ^= 1;
                break;
            case 1: /* replayed */
                memcpy(cl.out + n, copy, n);
                cl.out_len += n;
                break;
            case 2: /* reordered */
                cl.out_len = 0;
                write_data(100, 4);
                memcpy(cl.out + cl.out_len, copy, n);
                cl.out_len += n;
                break;
            case 3: /* lost */
                cl.out_len = 0;
                write_data(100, 4);
                break;
            case 4: /* too long */
                cl.out[3] = 0x50;
                break;
            case 5: /* of no known kind, or without protection */
                memcpy(cl.out, "\x15\x03\x03\x00\x02\x02\x28", 7);
                cl.out_len = 7;
                break;
            default: /* cut off */
                cl.out_len = n - 1;
                break;
            }
            let_through(cl.out_len);
            if (how == 6) {
                shutdown(cl.fd, SHUT_WR);
                NET_UNTIL(&f, closed_nr);
                assert_int_equal(closed_why, layer == TLS_LAYER_OPENSSL ? CONN_CLOSE_PEER : CONN_CLOSE_TLS);
            } else {
                int alert = wait_for_alert();
                int want = how == 5 && v == TLS1_2_VERSION ? 20 : alerts[how];
                if (!(how == 4 && v == TLS1_2_VERSION && layer == TLS_LAYER_OPENSSL)) /* waits for it all */
                    assert_int_equal(alert, want);
            }
            assert_int_equal(got_nr, how == 1 ? 100 : 0); /* nothing that was not verified has come out */
            closed_nr = 0;
            got_nr = 0;
            hang_up();
            free_client();
        }
    }
}

static void half_a_connection_goes_on(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        established(v, false);
        write_data(1000, 5);
        assert_int_equal(SSL_shutdown(cl.ssl), 0);
        collect();
        got_eof = false;
        stays_at_eof = true;
        let_through(cl.out_len);
        NET_UNTIL(&f, got_eof);
        assert_int_equal(closed_nr, 0);
        conn_send(last, SPAN("more"));
        uint8_t in[1100];
        size_t n = 0;
        for (int turns = 0; n < 1004 && turns < 1000; turns++) {
            worker_turn(f.w, 5);
            take();
            int r = SSL_read(cl.ssl, in + n, (int)(sizeof in - n));
            n += r > 0 ? (size_t)r : 0;
        }
        assert_int_equal(n, 1004);
        assert_memory_equal(in + 1000, "more", 4);
        conn_close(last, CONN_CLOSE_DONE);
        assert_int_equal(wait_for_alert(), 0); /* close_notify */
        hang_up();
        free_client();
        closed_nr = 0;
    }
}

/* Megabytes to a peer that reads in small sips, with a file in between: what the socket has not taken waits.
 */
static void a_peer_that_reads_slowly_misses_nothing(void **state)
{
    enum { FILE_LEN = 3000000, HEAD = 200000 };
    static uint8_t content[FILE_LEN], in[HEAD + FILE_LEN + 100];
    (void)state;
    for (size_t i = 0; i < FILE_LEN; i++)
        content[i] = (uint8_t)(i * 31 + i / 1021);
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        int small = 65536;
        size_t n = 0;
        established(v, false);
        setsockopt(cl.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(last->watch.fd, SOL_SOCKET, SO_SNDBUF, &small,
                   sizeof small); /* it takes parts of records */
        FILE *file = tmpfile();
        assert_int_equal(fwrite(content, 1, FILE_LEN, file), FILE_LEN);
        fflush(file);
        conn_send(last, span_of(content, HEAD));
        conn_send_file(last, dup(fileno(file)), 100, FILE_LEN - 100);
        conn_send(last, SPAN("tail"));
        fclose(file);
        for (int turns = 0; n < HEAD + FILE_LEN - 96 && turns < 20000; turns++) {
            uint8_t sip[10000];
            worker_turn(f.w, 1);
            if (v == TLS1_3_VERSION && turns % 50 == 10) { /* in the middle of it */
                SSL_key_update(cl.ssl, SSL_KEY_UPDATE_REQUESTED);
                SSL_do_handshake(cl.ssl);
                collect();
                let_through(cl.out_len);
            }
            ssize_t k = net_try_read(cl.fd, sip, sizeof sip);
            assert_true(k > 0 || k == -2);
            if (k > 0)
                assert_int_equal(BIO_write(SSL_get_rbio(cl.ssl), sip, (int)k), k);
            int r;
            while ((r = SSL_read(cl.ssl, in + n, (int)(sizeof in - n))) > 0)
                n += (size_t)r;
            assert_int_equal(SSL_get_error(cl.ssl, r), SSL_ERROR_WANT_READ);
        }
        assert_int_equal(n, HEAD + FILE_LEN - 96);
        assert_memory_equal(in, content, HEAD);
        assert_memory_equal(in + HEAD, content + 100, FILE_LEN - 100);
        assert_memory_equal(in + n - 4, "tail", 4);
        hang_up();
        free_client();
        closed_nr = 0;
    }
}

static void keys_change_while_data_flows(void **state)
{
    (void)state;
    established(TLS1_3_VERSION, false);
    for (unsigned i = 0; i < 50; i++) {
        if (i % 3)
            assert_int_equal(
                SSL_key_update(cl.ssl, i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        write_data(1 + i * 700, (uint8_t)i);
        let_through(cl.out_len);
        read_data(1 + i * 700, (uint8_t)i);
    }
    /* and without any data: the answer comes all the same */
    assert_int_equal(SSL_key_update(cl.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(cl.ssl), 1);
    collect();
    let_through(cl.out_len);
    conn_send(last, SPAN("x"));
    char x = 0;
    for (int turns = 0; SSL_read(cl.ssl, &x, 1) != 1 && turns < 100; turns++) {
        worker_turn(f.w, 5);
        take();
    }
    assert_int_equal(x, 'x');
    hang_up();
    free_client();
}

static void a_tidied_worker_keeps_no_keys_and_goes_on(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        established(v, false);
        write_data(1000, 3);
        let_through(cl.out_len);
        read_data(1000, 3);
        const struct conn_worker *cw = &f.net->workers[0];
        bool caches = layer == TLS_LAYER_COMPACT;
        assert_int_equal(cw->tls->work.slots != NULL, caches);
        conn_net_tidy(f.net);
        conn_net_tidy(f.net); /* asked twice is once */
        NET_UNTIL(&f, !atomic_load(&cw->tidying));
        assert_null(cw->tls->work.slots);
        assert_int_equal(cw->tls->work.slots_nr, 0);
        write_data(70000, 4);
        let_through(cl.out_len);
        read_data(70000, 4);
        assert_int_equal(cw->tls->work.slots != NULL, caches);
        hang_up();
        free_client();
    }
}

static void a_certificate_stays_with_its_connection(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        struct span der;
        established(v, false);
        assert_false(conn_peer_certificate(last, &der));
        hang_up();
        free_client();
        established(v, true);
        assert_true(conn_peer_certificate(last, &der));
        const uint8_t *p = der.p;
        X509 *x = d2i_X509(NULL, &p, (long)der.n);
        assert_non_null(x);
        assert_ptr_equal(p, der.p + der.n);
        X509_free(x);
        write_data(10, 1);
        let_through(cl.out_len);
        read_data(10, 1);
        struct span again;
        assert_true(conn_peer_certificate(last, &again));
        assert_ptr_equal(again.p, der.p);
        hang_up();
        free_client();
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(records_are_counted_however_they_come),
        T(first_bytes_may_come_early),
        T(first_bytes_of_a_resumed_session_may_come_early),
        T(what_is_damaged_ends_with_an_alert),
        T(half_a_connection_goes_on),
        T(a_peer_that_reads_slowly_misses_nothing),
        T(keys_change_while_data_flows),
        T(a_tidied_worker_keeps_no_keys_and_goes_on),
        T(a_certificate_stays_with_its_connection),
    };
    int failed = 0;
    for (layer = TLS_LAYER_OPENSSL; layer <= TLS_LAYER_COMPACT; layer++) {
        print_message("---- %s\n", tls_layer_name(layer));
        failed += cmocka_run_group_tests(tests, make_files, remove_files);
    }
    return failed;
}
