/* hub/conn/tls_edge_test.c - TLS on a socket that takes nothing, takes a part, or is at its end just when it
 * matters. The hub's own calls of send are held back as the test wants it. Each test runs with each layer. */
#include "tests/fake/tls_fixture.h"

#include <sys/syscall.h>

/* ---- in the place of the C library's: the hub's sockets take this many bytes more ------------------- */

static size_t room = SIZE_MAX;

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    if (fd != cl.fd && room != SIZE_MAX) {
        if (!room) {
            errno = EAGAIN;
            return -1;
        }
        n = n < room ? n : room;
        room -= n;
    }
    return syscall(SYS_sendto, fd, p, n, flags, NULL, 0);
}

static int stop_free(void **state)
{
    room = SIZE_MAX;
    return stop(state);
}

/* ---- beginnings ----------------------------------------------------------------------------------- */

/* A connection that has come and gone, and left a session. */
static void make_session(void)
{
    SSL_CTX_set_session_cache_mode(cl.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(cl.ctx, keep_session);
    session = NULL;
    dial();
    shake();
    write_data(5, 1);
    let_through(cl.out_len);
    read_data(5, 1);
    SSL_shutdown(cl.ssl);
    hang_up();
}

/* A client that sends its last flight, its data and its end, and has gone before the hub looks. With TLS 1.2
 * only a resumed session has the client speak last. */
static void all_at_once_and_the_end_behind_it(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        new_client(v, false);
        make_session();
        for (int how = 0; how < 4; how++) {
            dial();
            if (v == TLS1_2_VERSION || how & 2)
                SSL_set_session(cl.ssl, session);
            shake();
            write_data(3000, 2);
            if (how & 1) { /* with a word, or without */
                SSL_shutdown(cl.ssl);
                collect();
            }
            closed_nr = 0;
            got_nr = 0;
            got_eof = false;
            let_through(cl.out_len);
            shutdown(cl.fd, SHUT_WR);
            NET_UNTIL(&f, closed_nr);
            assert_int_equal(got_nr, 3000);
            assert_true(got_eof);
            assert_int_equal(closed_why, CONN_CLOSE_PEER);
            hang_up();
        }
        SSL_SESSION_free(session);
        free_client();
    }
    assert_int_equal(net_stats(&f).tls_total[layer], net_stats(&f).handshakes);
}

/* The hub has read the client's first data with its Finished, and cannot send its ticket: meanwhile another
 * connection uses the buffer. */
static void what_came_stays_while_the_handshake_waits(void **state)
{
    static const uint8_t noise[1200] = { 0x16, 3, 1, 4, 0xab, 1 };
    (void)state;
    new_client(TLS1_3_VERSION, false);
    dial();
    shake();
    write_data(300, 7);
    write_data(20, 8);
    room = 0;
    let_through(cl.out_len);
    uint64_t accepted = net_stats(&f).accepted;
    int other = net_connect(&f);
    assert_int_equal(syscall(SYS_sendto, other, noise, sizeof noise, MSG_NOSIGNAL, NULL, 0), sizeof noise);
    NET_UNTIL(&f, net_stats(&f).accepted == accepted + 1);
    for (int i = 0; i < 20; i++)
        worker_turn(f.w, 1);
    assert_null(last); /* not yet */
    room = SIZE_MAX;
    read_data(300, 7);
    read_data(20, 8);
    assert_int_equal(net_stats(&f).tls_open[layer], 1);
    close(other);
    hang_up();
    free_client();
}

/* The same, and the client gives up. */
static void a_handshake_that_waits_may_end(void **state)
{
    (void)state;
    new_client(TLS1_3_VERSION, false);
    dial();
    shake();
    write_data(300, 7);
    room = 0;
    let_through(cl.out_len);
    for (int i = 0; i < 5; i++)
        worker_turn(f.w, 1);
    struct linger now = { 1, 0 };
    setsockopt(cl.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    room = SIZE_MAX;
    hang_up();
    free_client();
    for (int l = 0; l < TLS_LAYERS; l++)
        assert_int_equal(net_stats(&f).tls_open[l], 0);
}

/* ---- ends ----------------------------------------------------------------------------------------- */

static void an_alert_goes_behind_what_waits(void **state)
{
    static const uint8_t much[100000];
    (void)state;
    if (layer == TLS_LAYER_OPENSSL)
        return; /* it leaves its alert out */
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        established(v, false);
        room = 20000; /* ends within a record */
        conn_send(last, span_of(much, sizeof much));
        NET_UNTIL(&f, !room);
        room = 0;
        write_data(100, 3);
        cl.out[cl.out_len - 1] ^= 1;
        let_through(cl.out_len);
        NET_UNTIL(&f, closed_nr);
        assert_int_equal(closed_why, CONN_CLOSE_TLS);
        assert_int_equal(got_nr, 0);
        room = 7; /* and once more */
        NET_UNTIL(&f, !room);
        room = SIZE_MAX;
        assert_int_equal(wait_for_alert(), TLS_BAD_RECORD_MAC);
        closed_nr = 0;
        hang_up();
        free_client();
    }
}

static void a_close_notify_leaves_whole(void **state)
{
    (void)state;
    if (layer == TLS_LAYER_OPENSSL)
        return; /* it leaves its own cut */
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        for (size_t first = 0; first < 24; first += 5) {
            established(v, false);
            struct conn *c = last;
            room = first;
            conn_close(last, CONN_CLOSE_DONE);
            for (int i = 0; i < 4; i++)
                worker_turn(f.w, 1);
            assert_int_equal(closed_nr, 1);
            assert_true(out_is_waiting(c));
            room = SIZE_MAX;
            assert_int_equal(wait_for_alert(), TLS_CLOSE_NOTIFY);
            closed_nr = 0;
            hang_up();
            free_client();
        }
    }
}

static void last_words_that_nobody_takes_have_a_deadline(void **state)
{
    struct net_fixture usual = f;
    struct conn_limits l = { .linger_ms = 30 };
    (void)state;
    if (layer == TLS_LAYER_OPENSSL)
        return;
    net_start(&f, &l, server, &echo, NULL);
    established(TLS1_3_VERSION, false);
    room = 3;
    conn_close(last, CONN_CLOSE_DONE);
    for (int i = 0; net_stats(&f).open; i++) {
        assert_true(i < 3000);
        worker_turn(f.w, 0); /* which returns at once: the real socket has room */
        usleep(1000);
    }
    assert_int_equal(room, 0);
    room = SIZE_MAX;
    SSL_free(cl.ssl);
    close(cl.fd);
    free_client();
    net_stop(&f);
    f = usual;
}

/* Nothing else is to be sent: the rest of the answer leaves all the same. */
static void an_answer_to_a_key_update_leaves_whole(void **state)
{
    (void)state;
    if (layer == TLS_LAYER_OPENSSL)
        return; /* it answers with its next data */
    for (size_t first = 0; first < 27; first += 13) {
        established(TLS1_3_VERSION, false);
        room = first;
        for (int i = 0; i < 20; i++) { /* one answer for all that come while it waits */
            assert_int_equal(SSL_key_update(cl.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
            assert_int_equal(SSL_do_handshake(cl.ssl), 1);
            collect();
            let_through(cl.out_len);
            worker_turn(f.w, 1);
        }
        assert_true(out_is_waiting(last));
        assert_null(last->out);
        room = SIZE_MAX;
        NET_UNTIL(&f, !out_is_waiting(last));
        write_data(500, 9);
        let_through(cl.out_len);
        read_data(500, 9);
        hang_up();
        free_client();
    }
}

/* The client asks for another key and is gone, with the answer in the middle. */
static void a_connection_may_end_within_a_key_update(void **state)
{
    (void)state;
    for (size_t first = 0; first < 54; first += 9) {
        established(TLS1_3_VERSION, false);
        room = first;
        assert_int_equal(SSL_key_update(cl.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        write_data(40, 1);
        let_through(first % 2 ? cl.out_len : cl.out_len - 30);
        worker_turn(f.w, 1);
        if (first % 4 == 0) {
            struct linger now = { 1, 0 };
            setsockopt(cl.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        }
        room = SIZE_MAX;
        hang_up();
        free_client();
    }
    assert_int_equal(net_stats(&f).tls_open[layer], 0);
}

/* ---- numbers --------------------------------------------------------------------------------------- */

static struct tls_wire heard; /* of the hub */
static void hear(void)
{
    uint8_t buf[4096];
    ssize_t n;
    while ((n = net_try_read(cl.fd, buf, sizeof buf)) > 0) {
        tls_wire_pass(&heard, buf, (size_t)n);
        assert_int_equal(BIO_write(SSL_get_rbio(cl.ssl), buf, (int)n), n);
    }
}

/* A nonce of GCM that comes twice gives the key away, and no client would notice. */
static void nonces_go_on_from_the_handshakes(void **state)
{
    (void)state;
    new_client(TLS1_2_VERSION, false);
    SSL_CTX_set_session_cache_mode(cl.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(cl.ctx, keep_session);
    session = NULL;
    for (int resumed = 0; resumed < 2; resumed++) {
        memset(&heard, 0, sizeof heard);
        dial();
        if (resumed)
            SSL_set_session(cl.ssl, session);
        for (int turns = 0; SSL_do_handshake(cl.ssl) != 1; turns++) {
            assert_true(turns < 1000);
            collect();
            let_through(cl.out_len);
            worker_turn(f.w, 5);
            hear();
        }
        assert_int_equal(SSL_session_reused(cl.ssl), resumed);
        collect();
        let_through(cl.out_len);
        NET_UNTIL(&f, last);
        hear();
        assert_int_equal(heard.since_ccs, 1); /* Finished */
        uint64_t finished = heard.nonce;
        for (unsigned i = 1; i <= 3; i++) {
            conn_send(last, SPAN("x"));
            for (int turns = 0; heard.since_ccs < 1 + i; turns++) {
                assert_true(turns < 1000);
                worker_turn(f.w, 5);
                hear();
            }
            assert_true(heard.nonce == finished + i);
        }
        SSL_shutdown(cl.ssl);
        hang_up();
    }
    SSL_SESSION_free(session);
    free_client();
}

/* A file that is shorter than was promised: the connection ends, with what there was. */
static void a_file_that_shrinks_ends_the_connection(void **state)
{
    static uint8_t in[40000];
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        size_t n = 0, k = 0;
        FILE *file = tmpfile();
        assert_int_equal(fwrite(in, 1, 20000, file), 20000);
        fflush(file);
        established(v, false);
        closed_nr = 0;
        conn_send_file(last, dup(fileno(file)), 0, 30000);
        fclose(file);
        for (int turns = 0; !closed_nr || take(); turns++) {
            assert_true(turns < 1000);
            worker_turn(f.w, 5);
            if (SSL_read_ex(cl.ssl, in + n, sizeof in - n, &k) == 1)
                n += k;
        }
        while (SSL_read_ex(cl.ssl, in + n, sizeof in - n, &k) == 1)
            n += k;
        assert_int_equal(n, 20000);
        assert_int_equal(closed_why, CONN_CLOSE_PEER);
        hang_up();
        free_client();
    }
}

/* ---- what remains --------------------------------------------------------------------------------- */

static bool resumes(void)
{
    dial();
    SSL_set_session(cl.ssl, session);
    shake();
    let_through(cl.out_len);
    NET_UNTIL(&f, last);
    take();
    return SSL_session_reused(cl.ssl);
}

/* In the cache, that is: a ticket is with the client. */
static void a_broken_connection_takes_its_session_along(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        new_client(TLS1_2_VERSION, how);
        SSL_CTX_set_options(cl.ctx, SSL_OP_NO_TICKET);
        make_session();
        assert_true(resumes());
        SSL_shutdown(cl.ssl);
        hang_up(); /* without a word */
        assert_true(resumes());
        if (how) { /* the hub finds fault */
            write_data(5, 1);
            cl.out[cl.out_len - 1] ^= 1;
        } else { /* the client does */
            uint8_t in[100];
            ssize_t n = -2;
            char none;
            conn_send(last, SPAN("x"));
            for (int turns = 0; n == -2 && turns < 1000; turns++) {
                worker_turn(f.w, 5);
                n = net_try_read(cl.fd, in, sizeof in);
            }
            in[n - 1] ^= 1;
            assert_int_equal(BIO_write(SSL_get_rbio(cl.ssl), in, (int)n), n);
            assert_int_equal(SSL_read(cl.ssl, &none, 1), -1);
            collect();
        }
        closed_nr = 0;
        let_through(cl.out_len);
        NET_UNTIL(&f, closed_nr);
        assert_int_equal(closed_why, CONN_CLOSE_TLS);
        SSL_SESSION *mine = SSL_SESSION_dup(session); /* it has forgotten its own */
        hang_up();
        SSL_SESSION_free(session);
        session = mine;
        assert_false(resumes());
        hang_up();
        SSL_SESSION_free(session);
        free_client();
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop_free)
    const struct CMUnitTest tests[] = {
        T(all_at_once_and_the_end_behind_it),
        T(what_came_stays_while_the_handshake_waits),
        T(a_handshake_that_waits_may_end),
        T(an_alert_goes_behind_what_waits),
        T(a_close_notify_leaves_whole),
        T(last_words_that_nobody_takes_have_a_deadline),
        T(an_answer_to_a_key_update_leaves_whole),
        T(a_connection_may_end_within_a_key_update),
        T(nonces_go_on_from_the_handshakes),
        T(a_file_that_shrinks_ends_the_connection),
        T(a_broken_connection_takes_its_session_along),
    };
    int failed = 0;
    RUN_EACH_LAYER(failed, tests)
    return failed;
}
