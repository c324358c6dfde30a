/* hub/conn/tls_bio.c - the socket as OpenSSL sees it. Bytes are read into the worker's buffer and handed over
 * one record at a time, so that OpenSSL never has more of them than its handshake takes; and the records that
 * pass by are counted, since whoever goes on with the keys has to go on with the numbers. */
#include "hub/conn/tls_impl.h"

#include <errno.h>
#include <openssl/bio.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { CCS = 20, NONCE_LEN = 8 };

void tls_wire_pass(struct tls_wire *w, const uint8_t *p, size_t n)
{
    while (n) {
        if (w->left) {
            size_t k = n < w->left ? n : w->left;
            for (size_t i = 0; i < k && w->body_len < NONCE_LEN; i++, w->body_len++)
                w->nonce = w->nonce << 8 | p[i];
            w->left -= (uint32_t)k;
            p += k;
            n -= k;
            continue;
        }
        w->head[w->head_len++] = *p++;
        n--;
        if (w->head_len < sizeof w->head)
            continue;
        w->head_len = 0;
        if (w->type == CCS || w->since_ccs)
            w->since_ccs++;
        w->nr++;
        w->type = w->head[0];
        w->left = (uint32_t)w->head[3] << 8 | w->head[4];
        w->body_len = 0;
        w->nonce = 0;
    }
}

static struct tls_ossl *of(BIO *b)
{
    return BIO_get_data(b);
}

/* What recv says, with the retry that OpenSSL wants to see. */
static int result(BIO *b, ssize_t n, bool reading)
{
    BIO_clear_retry_flags(b);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (reading)
            BIO_set_retry_read(b);
        else
            BIO_set_retry_write(b);
    }
    return (int)n;
}

static int settled_read(BIO *b, struct tls_ossl *t, char *to, size_t n)
{
    if (t->early) {
        if (n > t->early_len - t->early_at)
            n = t->early_len - t->early_at;
        memcpy(to, t->early + t->early_at, n);
        t->early_at += (uint32_t)n;
        if (t->early_at == t->early_len) {
            free(t->early);
            t->early = NULL;
        }
        BIO_clear_retry_flags(b);
        return (int)n;
    }
    ssize_t got = recv(t->fd, to, n, MSG_DONTWAIT);
    t->eof = got == 0;
    return result(b, got, true);
}

static int bio_read(BIO *b, char *to, int cap)
{
    struct tls_ossl *t = of(b);
    size_t n = cap > 0 ? (size_t)cap : 0;
    if (!t->shaking)
        return settled_read(b, t, to, n);
    if (!t->fresh.n) {
        if (t->drained) { /* the last read did not fill the buffer: there is no more, epoll will tell */
            errno = EAGAIN;
            return result(b, -1, true);
        }
        ssize_t got = recv(t->fd, t->w->in, TLS_SHAKE_LEN, MSG_DONTWAIT);
        t->eof = got == 0;
        if (got <= 0)
            return result(b, got, true);
        t->fresh = span_of(t->w->in, (size_t)got);
        t->drained = got < TLS_SHAKE_LEN;
    }
    if (n > t->fresh.n)
        n = t->fresh.n;
    memcpy(to, t->fresh.p, n);
    t->fresh = span_skip(t->fresh, n);
    tls_wire_pass(&t->in, (const uint8_t *)to, n);
    t->out_at_read = t->out.nr;
    BIO_clear_retry_flags(b);
    return (int)n;
}

static int bio_write(BIO *b, const char *p, int len)
{
    struct tls_ossl *t = of(b);
    ssize_t n = send(t->fd, p, len > 0 ? (size_t)len : 0, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0 && t->shaking)
        tls_wire_pass(&t->out, (const uint8_t *)p, (size_t)n);
    return result(b, n, false);
}

static long bio_ctrl(BIO *b, int what, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    switch (what) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_EOF:
        return of(b)->eof;
    default:
        return 0;
    }
}

static BIO_METHOD *method;

static void make_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "roost connection");
    if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        method = m;
}

enum err tls_bio_attach(struct tls_ossl *t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    BIO *b = method ? BIO_new(method) : NULL;
    if (!b)
        return ERR_NOMEM;
    BIO_set_data(b, t);
    BIO_set_init(b, 1);
    SSL_set_bio(t->ssl, b, b);
    t->shaking = true;
    return ERR_OK;
}

enum err tls_bio_settle(struct tls_ossl *t)
{
    if (t->fresh.n) {
        if (!(t->early = malloc(t->fresh.n)))
            return ERR_NOMEM;
        memcpy(t->early, t->fresh.p, t->fresh.n);
        t->early_len = (uint32_t)t->fresh.n;
    }
    t->fresh = SPAN_NONE;
    t->shaking = false;
    SSL_set_read_ahead(t->ssl, 1);
    return ERR_OK;
}
