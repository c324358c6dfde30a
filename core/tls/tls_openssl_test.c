/* core/tls/tls_openssl_test.c - our record layer beside OpenSSL's. After one handshake both have the server's
 * keys; both get the same bytes, in the same random pieces, and have to answer alike: every byte of data,
 * every byte sent, every alert. Streams, fragment sizes, KeyUpdates, padding, damage and nonsense are random;
 * the seed of a failure is in its message. */
#include "core/tls/tls_record.h"
#include "port/tls_crypto.h"
#include "tests/fake/sanitized.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

enum { ROUNDS = SANITIZED ? 20 : 60, STEPS = 24, BUF = 1 << 18 };
static const struct suite {
    const char *name;
    int version;
    enum tls_aead aead;
    enum tls_hash hash;
} suites[] = {
    { "TLS_AES_128_GCM_SHA256", TLS1_3_VERSION, TLS_AES_128_GCM, TLS_SHA256 },
    { "TLS_AES_256_GCM_SHA384", TLS1_3_VERSION, TLS_AES_256_GCM, TLS_SHA384 },
    { "TLS_CHACHA20_POLY1305_SHA256", TLS1_3_VERSION, TLS_CHACHA20_POLY1305, TLS_SHA256 },
    { "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, TLS_AES_128_GCM, TLS_SHA256 },
    { "ECDHE-ECDSA-AES256-GCM-SHA384", TLS1_2_VERSION, TLS_AES_256_GCM, TLS_SHA384 },
    { "ECDHE-ECDSA-CHACHA20-POLY1305", TLS1_2_VERSION, TLS_CHACHA20_POLY1305, TLS_SHA256 },
};

static struct tls_work work;
static struct tls_key_slot slots[64];
static SSL_CTX *server_ctx, *client_ctx;
static SSL *server, *client;
static struct tls_rec ours;
static uint8_t secrets[2][TLS_SECRET_MAX];
static uint8_t to_server[BUF], theirs_out[BUF], ours_out[BUF], theirs_in[BUF], ours_in[BUF], held[BUF];
static size_t held_len;
static uint64_t rng;
static bool is_13, whole;

static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 32) % below;
}

static void on_secret(const SSL *ssl, const char *line)
{
    (void)ssl;
    int which = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0   ? TLS_IN
                : strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) == 0 ? TLS_OUT
                                                                     : -1;
    if (which < 0)
        return;
    line += 24 + 65;
    for (size_t i = 0; i < TLS_SECRET_MAX && line[2 * i]; i++) {
        const char byte[3] = { line[2 * i], line[2 * i + 1], 0 };
        secrets[which][i] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

static int open_library(void **state)
{
    (void)state;
    work.slots = slots;
    work.slots_nr = 64;
    assert_int_equal(tls_crypto_new(&work.crypto), ERR_OK);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_pubkey(x, key);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_use_certificate(server_ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server_ctx, key), 1);
    SSL_CTX_set_options(server_ctx, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_keylog_callback(server_ctx, on_secret);
    X509_free(x);
    EVP_PKEY_free(key);
    return 0;
}
static int close_library(void **state)
{
    (void)state;
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    tls_crypto_free(work.crypto);
    return 0;
}

/* Moves what one has written to the other. Returns the bytes, which are also at `copy`. */
static size_t move(SSL *from, SSL *to, uint8_t *copy)
{
    size_t n = 0;
    if (!BIO_read_ex(SSL_get_wbio(from), copy, BUF, &n))
        return 0;
    if (to)
        assert_int_equal(BIO_write(SSL_get_rbio(to), copy, (int)n), (int)n);
    return n;
}

static void shake_hands(const struct suite *s, uint8_t fragment)
{
    SSL *const both[2] = { client = SSL_new(client_ctx), server = SSL_new(server_ctx) };
    size_t tickets = 0;
    uint64_t base = 0;
    is_13 = s->version == TLS1_3_VERSION;
    for (int i = 0; i < 2; i++) {
        SSL_set_bio(both[i], BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        BIO_set_mem_eof_return(SSL_get_rbio(both[i]), -1);
        SSL_set_min_proto_version(both[i], s->version);
        SSL_set_max_proto_version(both[i], s->version);
        if (is_13)
            SSL_set_ciphersuites(both[i], s->name);
        else
            SSL_set_cipher_list(both[i], s->name);
    }
    if (fragment)
        SSL_set_tlsext_max_fragment_length(client, fragment);
    SSL_set_num_tickets(server, rnd(4));
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 6; i++) {
        SSL_do_handshake(client);
        move(client, server, ours_in);
        int done = SSL_do_handshake(server);
        size_t n = move(server, client, ours_in);
        if (done == 1 && is_13)
            for (size_t at = 0; at < n; tickets++)
                at += 5u + ((size_t)ours_in[at + 3] << 8 | ours_in[at + 4]);
        if (done == 1 && !is_13 && n > 40) /* the last record is Finished: 8 + 16 + 16 bytes with GCM */
            for (size_t k = n - 40; k < n - 32; k++)
                base = base << 8 | ours_in[k];
        if (done == 1 && SSL_is_init_finished(client))
            break;
    }
    assert_true(SSL_is_init_finished(server) && SSL_is_init_finished(client));
    char none;
    SSL_read(client, &none, 1); /* takes the tickets */
    memset(slots, 0, sizeof slots);
    if (is_13) {
        tls_rec_init_13(&ours, s->aead, secrets[TLS_IN], 0, secrets[TLS_OUT], tickets);
    } else {
        uint8_t master[TLS_MASTER_LEN], cr[TLS_RANDOM_LEN], sr[TLS_RANDOM_LEN];
        struct tls_keys c, v;
        assert_int_equal(SSL_SESSION_get_master_key(SSL_get_session(server), master, sizeof master), 48);
        assert_int_equal(SSL_get_client_random(server, cr, sizeof cr), 32);
        assert_int_equal(SSL_get_server_random(server, sr, sizeof sr), 32);
        tls_keys_block(work.crypto, s->aead, s->hash, master, cr, sr, &c, &v);
        tls_rec_init_12(&ours, s->aead, &c, 1, &v, 1, base);
    }
    ours.frag = fragment;
    held_len = 0;
    whole = false;
}

static void hang_up(void)
{
    tls_rec_fini(&ours, &work);
    SSL_free(server);
    SSL_free(client);
    ERR_clear_error();
}

/* Both servers say the same: w is what we do. False: both have ended the connection, with the same last
 * words. */
static bool same_answers(struct tls_opened *o, enum err e, int ssl_e, struct wr w)
{
    if (e == ERR_PROTO) {
        if (o->alert != TLS_CLOSE_NOTIFY)
            assert_int_equal(tls_rec_alert(&ours, &work, (enum tls_alert)o->alert, &w), ERR_OK);
        assert_int_equal(ssl_e, SSL_ERROR_SSL);
    } else if (o->eof) {
        /* SSL_get_error has another name for a close_notify at a wrong level behind a user_canceled */
        assert_true(ssl_e == SSL_ERROR_ZERO_RETURN || ssl_e == SSL_ERROR_SYSCALL);
        assert_true(SSL_get_shutdown(server) & SSL_RECEIVED_SHUTDOWN);
    } else {
        assert_int_equal(ssl_e, SSL_ERROR_WANT_READ);
    }
    size_t n = move(server, client, theirs_out);
    assert_int_equal(n, w.len);
    assert_memory_equal(theirs_out, ours_out, n);
    return e != ERR_PROTO && !o->eof;
}

/* Gives both servers these bytes, in pieces. False: it is over. */
static bool deliver(size_t len)
{
    struct tls_opened o = { 0 };
    for (size_t at = 0; at < len;) {
        size_t piece = 1 + rnd(rnd(3) ? 2000 : 40000), ours_n = 0, theirs_n = 0, used = 0, none;
        struct wr w = { ours_out, BUF, 0 };
        enum err e = ERR_OK;
        int r;
        if (whole || piece > len - at)
            piece = len - at;
        ERR_clear_error();
        assert_int_equal(BIO_write(SSL_get_rbio(server), to_server + at, (int)piece), (int)piece);
        memcpy(held + held_len, to_server + at, piece);
        held_len += piece;
        at += piece;
        while ((r = SSL_read(server, theirs_in + theirs_n, (int)(BUF - theirs_n))) > 0)
            theirs_n += (size_t)r;
        int ssl_e = SSL_get_error(server, r);
        if (ssl_e == SSL_ERROR_WANT_READ)
            SSL_write_ex(server, "", 0, &none); /* a KeyUpdate is answered with the next data, or now */
        while (!e && used < held_len) {
            e = tls_rec_open(&ours, &work, span_of(held + used, held_len - used), ours_in + ours_n,
                             BUF - ours_n, &o);
            if (!e) {
                used += o.used;
                ours_n += o.n;
                assert_int_equal(tls_rec_due(&ours, &work, &w), ERR_OK);
            }
        }
        memmove(held, held + used, held_len -= used);
        assert_true(e == ERR_OK || e == ERR_AGAIN || e == ERR_PROTO);
        assert_int_equal(ours_n, theirs_n);
        assert_memory_equal(ours_in, theirs_in, ours_n);
        if (!same_answers(&o, e, ssl_e, w))
            return false;
    }
    return true;
}

static void client_writes(void)
{
    static uint8_t data[60000];
    size_t n = 1 + rnd(rnd(4) ? 600 : 60000);
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)rnd(256);
    if (is_13 && rnd(4) == 0)
        assert_int_equal(
            SSL_key_update(client, rnd(2) ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    SSL_set_block_padding(client, is_13 && rnd(2) ? 1 + rnd(512) : 1);
    assert_int_equal(SSL_write(client, data, (int)n), (int)n);
    assert_true(deliver(move(client, NULL, to_server)));
}

static void server_writes(void)
{
    static uint8_t data[60000];
    size_t n = 1 + rnd(rnd(4) ? 600 : 60000), got = 0;
    struct span s = span_of(data, n);
    struct wr w = { ours_out, BUF, 0 };
    int r;
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)rnd(256);
    if (is_13 && rnd(4) == 0) { /* what we do when a key wears out */
        bool ask = rnd(2);
        assert_int_equal(
            SSL_key_update(server, ask ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        ours.state |= (uint8_t)(TLS_REC_UPDATE_DUE | (ask ? TLS_REC_UPDATE_ASK : 0));
    }
    assert_int_equal(SSL_write(server, data, (int)n), (int)n);
    size_t len = move(server, client, theirs_out);
    assert_int_equal(tls_rec_seal(&ours, &work, &s, &w), ERR_OK);
    assert_int_equal(w.len, len);
    assert_memory_equal(ours_out, theirs_out, len);
    while ((r = SSL_read(client, theirs_in + got, (int)(BUF - got))) > 0)
        got += (size_t)r;
    assert_int_equal(got, n);
    assert_memory_equal(theirs_in, data, n);
}

static void run(const struct suite *s, uint8_t fragment, uint64_t seed, void (*end)(void))
{
    rng = seed * 0x9e3779b97f4a7c15u + 1;
    shake_hands(s, fragment);
    for (uint32_t i = 0, n = end ? rnd(4) : STEPS; i < n; i++) {
        if (rnd(2))
            client_writes();
        else
            server_writes();
    }
    if (end)
        end();
    hang_up();
}

#define FOR_ALL_SUITES(s, seed)                                                                              \
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)                                                          \
        for (const struct suite *s = suites; s < suites + sizeof suites / sizeof *suites;                    \
             print_seed = seed, s++)
static uint64_t print_seed;
static int say_seed(void **state)
{
    (void)state;
    print_message("last seed passed: %llu\n", (unsigned long long)print_seed);
    return 0;
}

static void streams_are_the_same(void **state)
{
    (void)state;
    FOR_ALL_SUITES(s, seed)
    {
        if (seed <= ROUNDS / 4)
            run(s, (uint8_t)(seed % 5), seed, NULL);
    }
}

static void ends_are_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        rng = i + 1;
        shake_hands(&suites[i], 0);
        client_writes();
        assert_int_equal(SSL_shutdown(client), 0);
        assert_false(deliver(move(client, NULL, to_server)));
        server_writes(); /* half closed */
        struct wr w = { ours_out, BUF, 0 };
        SSL_shutdown(server);
        size_t n = move(server, NULL, theirs_out);
        assert_int_equal(tls_rec_alert(&ours, &work, TLS_CLOSE_NOTIFY, &w), ERR_OK);
        assert_int_equal(n, w.len);
        assert_memory_equal(ours_out, theirs_out, n);
        hang_up();
    }
}

/* A byte of a record is changed, or lost, or the records come twice or in another order. */
static void damaged_records(void)
{
    uint8_t data[300];
    int n = 1 + (int)rnd(300);
    memset(data, 'x', sizeof data);
    assert_int_equal(SSL_write(client, data, n), n);
    assert_int_equal(SSL_write(client, data, n), n);
    size_t len = move(client, NULL, to_server), half = len / 2, cut;
    switch (rnd(5)) {
    case 0: /* the head, most often */
        to_server[rnd(5)] ^= (uint8_t)(1u << rnd(8));
        break;
    case 1:
        to_server[rnd((uint32_t)len)] ^= (uint8_t)(1u << rnd(8));
        break;
    case 2: /* replayed */
        memcpy(to_server + half, to_server, half);
        break;
    case 3: /* reordered */
        memcpy(to_server + len, to_server, half);
        memmove(to_server, to_server + half, len);
        break;
    default: /* some bytes lost */
        cut = 1 + rnd((uint32_t)half - 1);
        memmove(to_server + cut, to_server + cut + 1, len - cut - 1);
        len--;
        break;
    }
    (void)deliver(len); /* a longer length only waits, on both sides */
}

static void damage_is_answered_alike(void **state)
{
    (void)state;
    FOR_ALL_SUITES(s, seed)
    run(s, (uint8_t)(rnd(2) ? 0 : rnd(5)), seed + 1000, damaged_records);
}

/* A record with the client's keys that a decent client would not send. Its length. */
static size_t forge(uint8_t *to, uint8_t type, struct span content, size_t padding)
{
    struct tls_keys k;
    uint8_t nonce[TLS_NONCE_LEN], aad[13], *seq = ours.seq[TLS_IN], *body = to + 5;
    enum tls_aead a = (enum tls_aead)(ours.suite & ~TLS_REC_13);
    size_t skip = !is_13 && a != TLS_CHACHA20_POLY1305 ? 8 : 0, n = content.n;
    if (is_13)
        tls_keys_derive(work.crypto, a, ours.secret[TLS_IN], &k);
    else
        memcpy(&k, ours.secret[TLS_IN], sizeof k);
    memcpy(nonce, k.iv, sizeof nonce);
    for (int i = 0; i < 8 && !skip; i++)
        nonce[4 + i] ^= seq[i];
    memcpy(body, seq, skip);
    memcpy(nonce + (skip ? 4 : 12), seq, skip);
    memcpy(body + skip, content.p, n);
    if (is_13) {
        body[n++] = type;
        memset(body + n, 0, padding);
        n += padding;
    }
    to[0] = is_13 ? 23 : type;
    to[1] = to[2] = 3;
    to[3] = (uint8_t)((skip + n + TLS_TAG_LEN) >> 8);
    to[4] = (uint8_t)(skip + n + TLS_TAG_LEN);
    memcpy(aad, seq, 8);
    memcpy(aad + 8, to, 3);
    aad[11] = (uint8_t)(n >> 8);
    aad[12] = (uint8_t)n;
    assert_true(work.crypto->ops->seal(work.crypto, a, k.key, nonce,
                                       is_13 ? span_of(to, 5) : span_of(aad, 13), span_of(body + skip, n),
                                       body + skip, body + skip + n));
    return 5 + skip + n + TLS_TAG_LEN;
}

static void forged_records(void)
{
    enum { CUT_BEGIN = 8, CUT_END = 9 };
    static const struct {
        uint8_t type, n;
        char content[8];
    } some[] = {
        { 23, 0, "" },
        { 23, 3, "abc" },
        { 22, 5, "\x18\0\0\1\0" },
        { 22, 5, "\x18\0\0\1\1" },
        { 22, 5, "\x18\0\0\1\2" },
        { 22, 6, "\x18\0\0\2\0\0" },
        { 22, 4, "\x18\0\0\0" },
        { 22, 6, "\x18\0\0\1\0\0" },
        { 22, 2, "\x18\0" },
        { 22, 3, "\0\1\0" },
        { 22, 4, "\x04\0\0\0" },
        { 22, 4, "\x0b\0\0\0" },
        { 22, 4, "\x14\0\0\0" },
        { 21, 2, "\1\0" },
        { 21, 2, "\2\0" },
        { 21, 2, "\1\x5a" },
        { 21, 2, "\2\x5a" },
        { 21, 2, "\2\x28" },
        { 21, 2, "\1\x64" },
        { 21, 1, "\1" },
        { 21, 3, "\1\0\0" },
        { 20, 1, "\1" },
        { 24, 3, "\1\0\0" },
        { 0, 0, "" },
        { 99, 1, "x" },
    };
    /* TLS 1.2 clients do not send KeyUpdate; of their handshake messages see a_second_handshake. */
    for (uint32_t i = 0; i < 40; i++) {
        uint32_t which = rnd(sizeof some / sizeof *some);
        if (!is_13 && some[which].type == 22)
            continue;
        if (i < 30 && which > 3 && rnd(3)) /* mostly decent at first */
            which = rnd(is_13 ? 4 : 2);
        if (which == CUT_END && ours.frag >> 4 != 2)
            which = CUT_BEGIN;
        size_t n = forge(to_server, some[which].type, span_of(some[which].content, some[which].n),
                         rnd(3) ? 0 : rnd(300));
        if (!deliver(n))
            return;
    }
}

static void nonsense_is_answered_alike(void **state)
{
    (void)state;
    FOR_ALL_SUITES(s, seed)
    run(s, 0, seed + 2000, forged_records);
}

/* Every alert there can be, at each level. */
static void alerts_are_answered_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i += 3) { /* one of each version */
        for (unsigned level = 0; level < 4; level++)
            for (unsigned what = 0; what < 256; what++) {
                const uint8_t alert[2] = { (uint8_t)level, (uint8_t)what };
                rng = i * 1024 + level * 256 + what + 1;
                shake_hands(&suites[i], 0);
                if (deliver(forge(to_server, 21, span_of(alert, 2), 0))) {
                    assert_true(deliver(forge(to_server, 23, SPAN("and on"), 0)));
                    server_writes();
                }
                hang_up();
            }
    }
}

/* Every content type, and in TLS 1.3 every kind of handshake message. */
static void types_are_answered_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i += 3)
        for (unsigned type = 0; type < 256; type++) {
            const uint8_t message[5] = { (uint8_t)type, 0, 0, 1, 0 };
            rng = i * 256 + type + 1;
            shake_hands(&suites[i], 0);
            if (type != 22) /* the same below */
                (void)deliver(forge(to_server, (uint8_t)type, SPAN("\2\2"), 0));
            hang_up();
            if (suites[i].version != TLS1_3_VERSION)
                continue;
            shake_hands(&suites[i], 0);
            (void)deliver(forge(to_server, 22, span_of(message, 5), 0));
            hang_up();
        }
}

static void sizes_at_the_edge(void)
{
    static uint8_t data[TLS_PLAIN_MAX + 300];
    static const size_t edges[] = { 511, 512, 513, 1024, 1025, 4096, 4097, 16383, 16384, 16385, 16384 + 239 };
    for (int i = 0; i < 8; i++) {
        size_t n = edges[rnd(sizeof edges / sizeof *edges)];
        size_t padding = is_13 && rnd(2) ? rnd(260) : 0;
        if (n + padding > TLS_PLAIN_MAX + 239)
            padding = 0;
        whole = !is_13; /* in TLS 1.2 we refuse by the head what OpenSSL opens first */
        if (!deliver(forge(to_server, 23, span_of(data, n), padding)))
            return;
    }
}

static void edges_are_the_same(void **state)
{
    (void)state;
    FOR_ALL_SUITES(s, seed)
    run(s, (uint8_t)(seed % 5), seed + 3000, sizes_at_the_edge);
}

static void a_second_handshake(void **state)
{
    (void)state;
    for (size_t i = 3; i < sizeof suites / sizeof *suites; i++) {
        uint8_t hello[64] = { 1, 0, 0, 60, 3, 3 };
        rng = i;
        shake_hands(&suites[i], 0);
        assert_true(deliver(forge(to_server, 22, span_of(hello, sizeof hello), 0))); /* refused, no more */
        assert_true(deliver(forge(to_server, 23, SPAN("and on"), 0)));
        hang_up();
        shake_hands(&suites[i], 0);
        assert_false(deliver(forge(to_server, 22, SPAN("\x14\0\0\0"), 0)));
        hang_up();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(streams_are_the_same, say_seed),
        cmocka_unit_test(ends_are_the_same),
        cmocka_unit_test_teardown(damage_is_answered_alike, say_seed),
        cmocka_unit_test_teardown(nonsense_is_answered_alike, say_seed),
        cmocka_unit_test(alerts_are_answered_alike),
        cmocka_unit_test(types_are_answered_alike),
        cmocka_unit_test_teardown(edges_are_the_same, say_seed),
        cmocka_unit_test(a_second_handshake),
    };
    return cmocka_run_group_tests(tests, open_library, close_library);
}
