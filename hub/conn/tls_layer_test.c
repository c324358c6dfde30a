/* hub/conn/tls_layer_test.c - the step from OpenSSL's handshake to a record layer, and what that does on a
 * real socket: bytes that came early, cuts, damage, a peer that does not read, keys that change. The client
 * is OpenSSL over memory, so that the test has every byte in its hands. Each test runs with each layer. */
#include "tests/fake/tls_fixture.h"

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
    RUN_EACH_LAYER(failed, tests)
    return failed;
}
