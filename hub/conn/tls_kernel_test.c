/* hub/conn/tls_kernel_test.c - the kernel gets the right keys: a made-up kernel stands in for the one that
 * this machine may not have. It takes what <linux/tls.h> says, seals what is written to the socket, and an
 * OpenSSL client has to understand it: data, files, alerts, in every suite. A kernel that refuses leaves all
 * as it was. */
#include "hub/conn/conn_impl.h"
#include "hub/conn/net_fixture.h"
#include "hub/conn/tls_impl.h"
#include "port/tls_crypto.h"
#include "tests/fake/pki_fixture.h"

#include <linux/tls.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

enum { FDS = 1024 };
static enum fake_kernel { KERNEL_NONE, KERNEL_NO_CIPHER, KERNEL_THERE } kernel;
static struct fake {
    bool on;
    bool v13;
    enum tls_aead aead;
    uint8_t key[32], nonce[12], seq[8]; /* salt and iv as the kernel keeps them */
} fakes[FDS];
static struct tls_crypto *crypto;
static unsigned sealed_nr;

/* One record onto the real socket. */
static ssize_t fake_send(int fd, struct fake *k, uint8_t type, struct span s)
{
    static uint8_t out[TLS_RECORD_MAX + 64];
    size_t n = s.n < TLS_PLAIN_MAX ? s.n : TLS_PLAIN_MAX, taken = n;
    bool explicit_nonce = !k->v13 && k->aead != TLS_CHACHA20_POLY1305;
    size_t head = 5u + (explicit_nonce ? 8u : 0u);
    uint8_t nonce[12], aad[13];
    struct span a = span_of(out, 5);
    memcpy(out + head, s.p, n);
    if (k->v13)
        out[head + n++] = type;
    out[0] = k->v13 ? 23 : type;
    out[1] = out[2] = 3;
    out[3] = (uint8_t)((head - 5 + n + 16) >> 8);
    out[4] = (uint8_t)(head - 5 + n + 16);
    memcpy(nonce, k->nonce, 12);
    if (explicit_nonce) {
        memcpy(out + 5, k->nonce + 4, 8);
        for (int i = 11; i >= 4 && !++k->nonce[i]; i--)
            ;
    } else {
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= k->seq[i];
    }
    if (!k->v13) {
        memcpy(aad, k->seq, 8);
        memcpy(aad + 8, out, 3);
        aad[11] = (uint8_t)(n >> 8);
        aad[12] = (uint8_t)n;
        a = span_of(aad, 13);
    }
    assert_true(crypto->ops->seal(crypto, k->aead, k->key, nonce, a, span_of(out + head, n), out + head,
                                  out + head + n));
    for (int i = 7; i >= 0 && !++k->seq[i]; i--)
        ;
    ssize_t sent = syscall(SYS_sendto, fd, out, head + n + 16, MSG_NOSIGNAL, NULL, 0);
    assert_int_equal(sent, head + n + 16); /* the test keeps it small */
    sealed_nr++;
    return (ssize_t)taken;
}

static struct fake *fake_of(int fd)
{
    return fd >= 0 && fd < FDS && fakes[fd].on ? &fakes[fd] : NULL;
}

/* ---- in the place of the C library's -------------------------------------------------------------- */

int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
    if (level == IPPROTO_TCP && name == TCP_ULP) {
        if (kernel == KERNEL_NONE) {
            errno = ENOENT;
            return -1;
        }
        assert_string_equal(val, "tls");
        return 0;
    }
    if (level != SOL_TLS)
        return (int)syscall(SYS_setsockopt, fd, level, name, val, len);
    if (kernel == KERNEL_NO_CIPHER) {
        errno = EINVAL;
        return -1;
    }
    struct fake *k = &fakes[fd];
    const struct tls_crypto_info *info = val;
    assert_int_equal(name, TLS_TX);
    memset(k, 0, sizeof *k);
    k->on = true;
    k->v13 = info->version == TLS_1_3_VERSION;
    assert_true(k->v13 || info->version == TLS_1_2_VERSION);
    if (info->cipher_type == TLS_CIPHER_AES_GCM_128) {
        const struct tls12_crypto_info_aes_gcm_128 *c = val;
        assert_int_equal(len, sizeof *c);
        k->aead = TLS_AES_128_GCM;
        memcpy(k->key, c->key, 16);
        memcpy(k->nonce, c->salt, 4);
        memcpy(k->nonce + 4, c->iv, 8);
        memcpy(k->seq, c->rec_seq, 8);
    } else if (info->cipher_type == TLS_CIPHER_AES_GCM_256) {
        const struct tls12_crypto_info_aes_gcm_256 *c = val;
        assert_int_equal(len, sizeof *c);
        k->aead = TLS_AES_256_GCM;
        memcpy(k->key, c->key, 32);
        memcpy(k->nonce, c->salt, 4);
        memcpy(k->nonce + 4, c->iv, 8);
        memcpy(k->seq, c->rec_seq, 8);
    } else {
        const struct tls12_crypto_info_chacha20_poly1305 *c = val;
        assert_int_equal(info->cipher_type, TLS_CIPHER_CHACHA20_POLY1305);
        assert_int_equal(len, sizeof *c);
        k->aead = TLS_CHACHA20_POLY1305;
        memcpy(k->key, c->key, 32);
        memcpy(k->nonce, c->iv, 12);
        memcpy(k->seq, c->rec_seq, 8);
    }
    return 0;
}

ssize_t send(int fd, const void *p, size_t n, int flags)
{
    struct fake *k = fake_of(fd);
    return k ? fake_send(fd, k, 23, span_of(p, n)) : syscall(SYS_sendto, fd, p, n, flags, NULL, 0);
}

ssize_t sendfile(int fd, int in, off_t *at, size_t n)
{
    uint8_t buf[4000];
    struct fake *k = fake_of(fd);
    if (!k)
        return syscall(SYS_sendfile, fd, in, at, n);
    ssize_t got = pread(in, buf, n < sizeof buf ? n : sizeof buf, *at);
    return got > 0 ? fake_send(fd, k, 23, span_of(buf, (size_t)got)) : got;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    struct fake *k = fake_of(fd);
    if (!k)
        return syscall(SYS_sendmsg, fd, m, flags);
    struct cmsghdr *h = CMSG_FIRSTHDR(m);
    assert_non_null(h);
    assert_int_equal(h->cmsg_level, SOL_TLS);
    assert_int_equal(h->cmsg_type, TLS_SET_RECORD_TYPE);
    return fake_send(fd, k, *CMSG_DATA(h), span_of(m->msg_iov->iov_base, m->msg_iov->iov_len));
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS)
        fakes[fd].on = false;
    return (int)syscall(SYS_close, fd);
}

/* ---- a hub and a client --------------------------------------------------------------------------- */

static struct tls_ctx *server;
static struct net_fixture f;
static struct conn *last;
static unsigned closed_nr;
static SSL_CTX *ctx;
static SSL *ssl;

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
    (void)why;
    closed_nr++;
    last = NULL;
}
static const struct conn_proto echo = {
    .name = "echo", .on_open = on_open, .on_bytes = on_bytes, .in_max = 1000000, .on_close = on_close
};

static int setup(void **state)
{
    assert_int_equal(make_files(state), 0);
    assert_int_equal(tls_crypto_new(&crypto), ERR_OK);
    struct tls_config c = { .chain_files = { chain }, .key_files = { key }, .layer = TLS_LAYER_KERNEL };
    kernel = KERNEL_THERE;
    assert_int_equal(tls_ctx_new(&server, &c, NULL), ERR_OK);
    net_start(&f, NULL, server, &echo, NULL);
    return 0;
}
static int teardown(void **state)
{
    net_stop(&f);
    tls_ctx_unref(server);
    tls_crypto_free(crypto);
    return remove_files(state);
}

static void dial(int version, const char *suite, uint8_t fragment)
{
    ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_max_proto_version(ctx, version);
    assert_int_equal(version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(ctx, suite)
                                               : SSL_CTX_set_cipher_list(ctx, suite),
                     1);
    if (fragment)
        SSL_CTX_set_tlsext_max_fragment_length(ctx, fragment);
    ssl = SSL_new(ctx);
    SSL_set_fd(ssl, net_connect(&f));
    last = NULL;
    for (int turns = 0; SSL_connect(ssl) != 1; turns++) {
        assert_true(turns < 1000);
        worker_turn(f.w, 5);
    }
    NET_UNTIL(&f, last);
}
static void hang_up(void)
{
    int fd = SSL_get_fd(ssl);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    ERR_clear_error();
}
static void expect(struct span want)
{
    static uint8_t in[70000];
    size_t n = 0;
    for (int turns = 0; n < want.n && turns < 1000; turns++) {
        int r = SSL_read(ssl, in + n, (int)(want.n - n));
        if (r > 0) {
            n += (size_t)r;
            turns = 0;
        } else {
            assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_WANT_READ);
            worker_turn(f.w, 5);
        }
    }
    assert_int_equal(n, want.n);
    assert_memory_equal(in, want.p, n);
}

static const struct {
    int version;
    const char *suite;
} suites[] = {
    { TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256" },        { TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384" },
    { TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256" },  { TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256" },
    { TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384" }, { TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305" },
};
static uint8_t content[60000];

static void the_kernel_seals_what_the_client_understands(void **state)
{
    (void)state;
    kernel = KERNEL_THERE;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i * 13 + i / 250);
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++) {
        sealed_nr = 0;
        dial(suites[i].version, suites[i].suite, 0);
        assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_KERNEL], 1);
        assert_int_equal(SSL_write(ssl, content, 20000), 20000);
        expect(span_of(content, 20000));
        FILE *file = tmpfile();
        assert_int_equal(fwrite(content, 1, sizeof content, file), sizeof content);
        fflush(file);
        conn_send_file(last, dup(fileno(file)), 1000, 50000);
        conn_send(last, SPAN("tail"));
        expect(span_of(content + 1000, 50000));
        expect(SPAN("tail"));
        fclose(file);
        conn_close(last, CONN_CLOSE_DONE);
        char none;
        int r = -1;
        for (int turns = 0; turns < 100 && (r = SSL_read(ssl, &none, 1)) != 0; turns++)
            worker_turn(f.w, 5);
        assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN); /* close_notify */
        assert_true(sealed_nr > 10);
        hang_up();
    }
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_KERNEL], 0);
}

static void a_key_update_it_cannot_answer_ends_the_connection(void **state)
{
    (void)state;
    kernel = KERNEL_THERE;
    dial(TLS1_3_VERSION, suites[0].suite, 0);
    assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1); /* only the client's own: fine */
    assert_int_equal(SSL_write(ssl, "abc", 3), 3);
    expect(SPAN("abc"));
    closed_nr = 0;
    assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_write(ssl, "x", 1), 1);
    NET_UNTIL(&f, closed_nr == 1);
    hang_up();
}

/* Nor does the kernel change its own: when it has sealed 2^24 records, that was all. */
static void a_worn_key_ends_the_connection(void **state)
{
    char none;
    (void)state;
    kernel = KERNEL_THERE;
    for (int way = 0; way < 2; way++) { /* bytes, a file */
        dial(TLS1_3_VERSION, suites[0].suite, 0);
        uint8_t *seq = tls_compact_of(last->tls)->rec.seq[TLS_OUT];
        memset(seq, 0, 8);
        seq[4] = 1;
        seq[7] = 0;
        unsigned before = sealed_nr;
        closed_nr = 0;
        if (way)
            conn_send_file(last, open(chain, O_RDONLY), 0, 100);
        else
            conn_send(last, SPAN("x"));
        NET_UNTIL(&f, closed_nr == 1);
        assert_int_equal(SSL_read(ssl, &none, 1), 0); /* its close_notify, no data */
        assert_int_equal(SSL_get_error(ssl, 0), SSL_ERROR_ZERO_RETURN);
        assert_int_equal(sealed_nr, before + 1);
        hang_up();
    }
}

static void without_it_the_hub_does_it(void **state)
{
    (void)state;
    kernel = KERNEL_THERE; /* but no small fragments */
    dial(TLS1_3_VERSION, suites[0].suite, TLSEXT_max_fragment_length_512);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_COMPACT], 1);
    assert_int_equal(SSL_write(ssl, content, 10000), 10000);
    expect(span_of(content, 10000));
    hang_up();
    kernel = KERNEL_NO_CIPHER;
    dial(TLS1_2_VERSION, suites[3].suite, 0);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_COMPACT], 1);
    assert_int_equal(SSL_write(ssl, content, 10000), 10000);
    expect(span_of(content, 10000));
    hang_up();
    kernel = KERNEL_NONE;
    dial(TLS1_3_VERSION, suites[1].suite, 0);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_COMPACT], 1);
    assert_int_equal(SSL_write(ssl, content, 10000), 10000);
    expect(span_of(content, 10000));
    hang_up();
    kernel = KERNEL_THERE; /* too late: it has said no */
    dial(TLS1_3_VERSION, suites[1].suite, 0);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_COMPACT], 1);
    hang_up();
}

/* Once for each context: at the start, and when the configuration is read again. */
static void a_new_context_asks_again(void **state)
{
    static const struct {
        enum fake_kernel kernel;
        enum tls_layer layer;
        bool missed;
    } all[] = { { KERNEL_NONE, TLS_LAYER_KERNEL, true },
                { KERNEL_NONE, TLS_LAYER_AUTO, false },
                { KERNEL_NONE, TLS_LAYER_KERNEL, true },
                { KERNEL_THERE, TLS_LAYER_KERNEL, false } };
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tls_config c = { .chain_files = { chain }, .key_files = { key }, .layer = all[i].layer };
        struct tls_ctx *t;
        kernel = all[i].kernel;
        assert_int_equal(tls_ctx_new(&t, &c, NULL), ERR_OK);
        assert_int_equal(tls_kernel_is_missed(), all[i].missed);
        tls_ctx_unref(t);
    }
    dial(TLS1_3_VERSION, suites[0].suite, 0);
    assert_int_equal(net_stats(&f).tls_open[TLS_LAYER_KERNEL], 1);
    closed_nr = 0;
    conn_close(last, CONN_CLOSE_DONE); /* while somebody still listens to its last word */
    NET_UNTIL(&f, closed_nr == 1);
    hang_up();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_seals_what_the_client_understands),
        cmocka_unit_test(a_key_update_it_cannot_answer_ends_the_connection),
        cmocka_unit_test(a_worn_key_ends_the_connection),
        cmocka_unit_test(without_it_the_hub_does_it),
        cmocka_unit_test(a_new_context_asks_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
