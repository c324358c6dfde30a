/* hub/conn/tls_tickets_test.c - keys of session tickets grow old: what the one before has sealed still
 * resumes and is replaced, what the one before that has sealed does not, and a reload changes nothing of it.
 */
#include "tests/fake/tls_fixture.h"

#include "port/clock.h"

enum { LIFE_MS = 12 * 3600 * 1000 };
static uint64_t now_ms;

/* A connection with this session, or none. True: it was resumed. Its own session is in `session` then. */
static bool resumes(SSL_SESSION *with)
{
    SSL_SESSION *copy = with ? SSL_SESSION_dup(with) : NULL; /* OpenSSL uses a session of TLS 1.3 once */
    dial();
    if (copy)
        SSL_set_session(cl.ssl, copy);
    SSL_SESSION_free(copy);
    shake();
    write_data(5, 1);
    let_through(cl.out_len);
    read_data(5, 1);
    bool reused = SSL_session_reused(cl.ssl);
    if (SSL_version(cl.ssl) == TLS1_2_VERSION) { /* a new ticket in a resumed session is not told */
        SSL_SESSION_free(session);
        session = SSL_get1_session(cl.ssl);
    }
    SSL_shutdown(cl.ssl);
    hang_up();
    return reused;
}

static void begin(int version)
{
    new_client(version, false);
    SSL_CTX_set_session_cache_mode(cl.ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(cl.ctx, keep_session);
    session = NULL;
    now_ms = clock_mono_ms();
}

static void age(uint64_t by_ms)
{
    now_ms += by_ms;
    assert_true(tls_tickets_turn(tls_ctx_tickets(server), now_ms));
}

/* A session of our own, whatever becomes of `session`. */
static SSL_SESSION *fresh_session(void)
{
    assert_false(resumes(NULL));
    assert_non_null(session);
    SSL_SESSION *s = session;
    session = NULL;
    return s;
}

static void a_key_lives_twice_as_long_as_its_sessions(void **state)
{
    (void)state;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        begin(v);
        SSL_SESSION *first = fresh_session();
        age(LIFE_MS - 60000);
        assert_true(resumes(first)); /* still the same key */
        age(120000);                 /* there is another */
        SSL_SESSION_free(session);
        session = NULL;
        assert_true(resumes(first));
        assert_non_null(session); /* and another ticket, sealed with the other key */
        SSL_SESSION *second = session;
        session = NULL;
        age(LIFE_MS);
        assert_false(resumes(first));
        assert_true(resumes(second));
        SSL_SESSION *third = session;
        session = NULL;
        age(2 * LIFE_MS); /* nobody came: its key is as old as if somebody had */
        assert_false(resumes(third));
        SSL_SESSION_free(third);
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        SSL_SESSION_free(session);
        session = NULL;
        free_client();
        stop(state);
        start(state);
    }
}

static void a_reload_keeps_the_keys_and_their_age(void **state)
{
    struct tls_config c = { .chain_files = { chain }, .key_files = { key }, .layer = layer };
    (void)state;
    c.ask_client_certificate = true;
    begin(TLS1_3_VERSION);
    SSL_SESSION *first = fresh_session();
    dial(); /* one that shakes hands while its context goes */
    SSL_do_handshake(cl.ssl);
    collect();
    let_through(cl.out_len);
    worker_turn(f.w, 10);
    take();
    for (int i = 0; i < 3; i++) {
        struct tls_ctx *after;
        assert_int_equal(tls_ctx_new(&after, &c, server), ERR_OK);
        conn_listener_set_tls(f.listener, after);
        worker_turn(f.w, 10);
        tls_ctx_unref(server);
        server = after;
    }
    shake();
    write_data(10, 1);
    let_through(cl.out_len);
    read_data(10, 1);
    hang_up();
    age(LIFE_MS + 1);
    assert_true(resumes(first));
    age(LIFE_MS);
    assert_false(resumes(first));
    SSL_SESSION_free(first);
    SSL_SESSION_free(session);
    session = NULL;
    free_client();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        T(a_key_lives_twice_as_long_as_its_sessions),
        T(a_reload_keeps_the_keys_and_their_age),
    };
    int failed = 0;
    RUN_EACH_LAYER(failed, tests)
    return failed;
}
