/* hub/conn/tls.c - TLS by OpenSSL: what small clients need from a hub (docs/operations.md, "TLS"), the
 * handshake and where it leads to, and the record layer of tls.h on an SSL object. */
#include "hub/conn/tls_impl.h"

#include "base/log.h"

#include <openssl/err.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* One list for every client. The last suite is for old firmware that asks with nothing else before it agrees
 * to small fragments; ChaCha20 moves to the front for those that prefer it (SSL_OP_PRIORITIZE_CHACHA). */
static const char ciphers_12[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
                                 "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:"
                                 "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305:"
                                 "ECDHE-RSA-AES128-SHA:@SECLEVEL=2";
/* SHA-256 is what processors have instructions for; 128 bits are enough for everyone who does not insist. */
static const char ciphers_13[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
enum { SESSION_TIMEOUT_S = 12 * 3600, SESSION_CACHE_NR = 20000, PEER_CHAIN_MAX = 16384 };

struct tls_ctx {
    SSL_CTX *ssl;
    struct tls_tickets *tickets;
    enum tls_layer layer;
    atomic_uint refs;
};

static const struct tls_ops handshake_ops, record_ops;
static void record_free(struct tls *t);

const char *tls_layer_name(enum tls_layer l)
{
    static const char *const names[TLS_LAYERS] = { "auto", "openssl", "compact", "kernel" };
    return names[l];
}

static struct tls_ossl *ossl(const struct tls *t)
{
    return (struct tls_ossl *)(void *)t;
}

static int accept_any(X509_STORE_CTX *x, void *arg)
{
    (void)x;
    (void)arg;
    return 1; /* who it is and what it may do is decided by the identity it claims */
}

/* A ticket holds the peer's certificate but not what it sent behind it, which is needed to prove the former:
 * that goes into the ticket as well. False: there is none, or more than anybody needs. */
static bool chain_put(SSL *ssl, struct wr *w)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl); /* of a server: without the peer's own */
    uint8_t *p;
    int nr = chain ? sk_X509_num(chain) : 0;
    for (int i = 0; i < nr; i++) {
        int n = i2d_X509(sk_X509_value(chain, i), NULL);
        if (n <= 0 || (size_t)n > PEER_CHAIN_MAX - w->len)
            return false;
        p = realloc(w->p, w->len + (size_t)n);
        if (!p)
            return false;
        w->p = p;
        p += w->len;
        w->cap = w->len += (size_t)i2d_X509(sk_X509_value(chain, i), &p);
    }
    return nr > 0;
}

static int on_ticket(SSL *ssl, void *arg)
{
    struct wr chain = { 0 };
    int ok = 1;
    (void)arg;
    if (chain_put(ssl, &chain))
        ok = SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), chain.p, chain.len);
    free(chain.p);
    return ok;
}

static SSL_TICKET_RETURN on_ticket_back(SSL *ssl, SSL_SESSION *session, const unsigned char *name,
                                        size_t name_len, SSL_TICKET_STATUS status, void *arg)
{
    (void)ssl, (void)session, (void)name, (void)name_len, (void)arg;
    if (status == SSL_TICKET_SUCCESS)
        return SSL_TICKET_RETURN_USE;
    return status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
}

static void log_ssl(const char *event, const char *file)
{
    char text[160];
    unsigned long e = ERR_peek_last_error();
    ERR_error_string_n(e, text, sizeof text);
    log_error(event, "file=%s reason=%s", file, text);
    ERR_clear_error();
}

static bool load_pair(SSL_CTX *ssl, const char *chain, const char *key)
{
    if (SSL_CTX_use_certificate_chain_file(ssl, chain) != 1) {
        log_ssl("tls.certificate", chain);
        return false;
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        log_ssl("tls.key", key);
        return false;
    }
    return true;
}

enum err tls_ctx_new(struct tls_ctx **out, const struct tls_config *cfg, const struct tls_ctx *before)
{
    static const unsigned char id_context[] = "roost";
    struct tls_ctx *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    atomic_init(&c->refs, 1);
    const char *query = cfg->layer == TLS_LAYER_OPENSSL ? NULL : tls_kdf_query(); /* switched off is off */
    SSL_CTX *ssl = c->ssl = SSL_CTX_new_ex(NULL, query, TLS_server_method());
    if (!ssl)
        goto fail;
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(ssl, 0); /* whatever the system's defaults say */
    if (SSL_CTX_set_cipher_list(ssl, ciphers_12) != 1 || SSL_CTX_set_ciphersuites(ssl, ciphers_13) != 1 ||
        SSL_CTX_set1_groups_list(ssl, "X25519:P-256") != 1) {
        log_ssl("tls.setup", "-");
        goto fail;
    }
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_num_tickets(ssl, 1);
    c->layer = cfg->layer;
    /* Clients without tickets resume by session id; without an id context they would not, silently, once a
     * client certificate is asked for. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_session_id_context(ssl, id_context, sizeof id_context - 1);
    SSL_CTX_sess_set_cache_size(ssl, cfg->session_cache_nr ? (long)cfg->session_cache_nr : SESSION_CACHE_NR);
    SSL_CTX_set_timeout(ssl, cfg->session_timeout_s ? (long)cfg->session_timeout_s : SESSION_TIMEOUT_S);
    if (cfg->ask_client_certificate) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL); /* no CA names are sent: any client may answer */
        SSL_CTX_set_cert_verify_callback(ssl, accept_any, NULL);
        SSL_CTX_set_session_ticket_cb(ssl, on_ticket, on_ticket_back, NULL);
    }
    unsigned loaded = 0;
    for (int i = 0; i < 2; i++) {
        if (!cfg->chain_files[i])
            continue;
        if (!load_pair(ssl, cfg->chain_files[i], cfg->key_files[i]))
            goto fail;
        loaded++;
    }
    if (!loaded) {
        log_error("tls.certificate", "reason=none");
        goto fail;
    }
    if (before) /* tickets handed out before a reload stay good */
        c->tickets = tls_tickets_ref(before->tickets);
    else if (tls_tickets_new(&c->tickets) != ERR_OK)
        goto fail;
    if (!tls_tickets_use(c->tickets, ssl, (uint32_t)SSL_CTX_get_timeout(ssl)))
        goto fail;
    tls_kernel_probe(cfg->layer == TLS_LAYER_KERNEL);
    *out = c;
    return ERR_OK;
fail:
    tls_ctx_unref(c);
    return ERR_IO;
}

struct tls_tickets *tls_ctx_tickets(struct tls_ctx *c)
{
    return c->tickets;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void tls_ctx_unref(struct tls_ctx *c)
{
    if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    SSL_CTX_free(c->ssl);
    tls_tickets_unref(c->tickets);
    free(c);
}

enum err tls_accept_new(struct tls **out, struct tls_ctx *c, struct tls_worker *w, int fd)
{
    struct tls_ossl *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    t->tls.ops = &handshake_ops;
    t->w = w;
    t->fd = fd;
    t->wanted = c->layer;
    t->ssl = SSL_new(c->ssl);
    if (!t->ssl || tls_bio_attach(t) != ERR_OK) {
        SSL_free(t->ssl);
        free(t);
        ERR_clear_error();
        return ERR_NOMEM;
    }
    SSL_set_accept_state(t->ssl);
    *out = &t->tls;
    return ERR_OK;
}

static enum tls_need need_of(SSL *ssl, int r)
{
    switch (SSL_get_error(ssl, r)) {
    case SSL_ERROR_NONE:
        return TLS_DONE;
    case SSL_ERROR_WANT_READ:
        return TLS_NEED_READ;
    case SSL_ERROR_WANT_WRITE:
        return TLS_NEED_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_CLOSED;
    default:
        return TLS_FAILED;
    }
}

/* Done: with another record layer the SSL object goes, before the first byte of the application. */
static enum tls_need go_on(struct tls **t, struct tls_outcome *out)
{
    struct tls_ossl *o = ossl(*t);
    struct tls *next = NULL;
    enum err e = ERR_NOTFOUND;
    out->resumed = SSL_session_reused(o->ssl);
    o->tls.ops = &record_ops;
    if (o->wanted != TLS_LAYER_OPENSSL)
        e = tls_compact_take(o, &next);
    if (e == ERR_NOTFOUND)
        e = tls_bio_settle(o);
    tls_wipe(o->secret, sizeof o->secret);
    if (e) {
        out->why = "memory";
        o->tls.ops = &handshake_ops; /* it never became a record layer */
        return TLS_FAILED;
    }
    if (next) {
        record_free(&o->tls);
        *t = next;
    }
    return TLS_DONE;
}

/* The worker's buffer is everybody's: what OpenSSL has not yet taken while it waits to write is kept aside.
 */
static bool keep_fresh(struct tls_ossl *o)
{
    if (!o->fresh.n)
        return true;
    if (!(o->early = malloc(o->fresh.n)))
        return false;
    memcpy(o->early, o->fresh.p, o->fresh.n);
    o->early_len = (uint32_t)o->fresh.n;
    return true;
}

static void put_fresh_back(struct tls_ossl *o)
{
    o->fresh = SPAN_NONE;
    if (!o->early)
        return;
    memcpy(o->w->in, o->early, o->early_len);
    o->fresh = span_of(o->w->in, o->early_len);
    free(o->early);
    o->early = NULL;
}

enum tls_need tls_handshake(struct tls **t, struct tls_outcome *out)
{
    struct tls_ossl *o = ossl(*t);
    ERR_clear_error();
    put_fresh_back(o);
    o->drained = false;
    tls_shaking = o;
    enum tls_need need = need_of(o->ssl, SSL_do_handshake(o->ssl));
    tls_shaking = NULL;
    *out = (struct tls_outcome){ .why = "" };
    if (need == TLS_FAILED) {
        const char *why = ERR_reason_error_string(ERR_peek_last_error());
        out->why = why ? why : "closed";
    } else if (need == TLS_DONE) {
        need = go_on(t, out);
    } else if (need != TLS_CLOSED && !keep_fresh(o)) {
        out->why = "memory";
        need = TLS_FAILED;
    }
    ERR_clear_error();
    return need;
}

static enum tls_need record_read(struct tls *t, uint8_t *buf, size_t cap, size_t *n)
{
    SSL *ssl = ossl(t)->ssl;
    *n = 0;
    int r = SSL_read_ex(ssl, buf, cap, n);
    if (r == 1)
        return TLS_DONE;
    enum tls_need need = need_of(ssl, r);
    if (need == TLS_FAILED)
        ERR_clear_error();
    return need;
}

static enum tls_need record_write(struct tls *t, struct span s, size_t *n)
{
    SSL *ssl = ossl(t)->ssl;
    *n = 0;
    int r = SSL_write_ex(ssl, s.p, s.n, n);
    if (r == 1)
        return TLS_DONE;
    enum tls_need need = need_of(ssl, r);
    if (need == TLS_FAILED)
        ERR_clear_error();
    return need;
}

static bool record_has_more(const struct tls *t)
{
    return ossl(t)->early || SSL_has_pending(ossl(t)->ssl);
}

static void record_bye(struct tls *t)
{
    SSL_shutdown(ossl(t)->ssl);
    ERR_clear_error();
}

static void handshake_free(struct tls *t)
{
    struct tls_ossl *o = ossl(t);
    tls_ssl_free(o->ssl);
    OPENSSL_free(o->cert);
    free(o->chain.p);
    free(o->early);
    tls_wipe(o->secret, sizeof o->secret);
    free(o);
    ERR_clear_error();
}

static void record_free(struct tls *t)
{
    /* Not closed by both sides is the normal end here: the session stays good for resumption. */
    SSL_set_shutdown(ossl(t)->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    handshake_free(t);
}

static bool record_peer_certificate(struct tls *t, struct span *der)
{
    struct tls_ossl *o = ossl(t);
    if (!o->cert) {
        X509 *x = SSL_get0_peer_certificate(o->ssl);
        o->cert_len = x ? i2d_X509(x, &o->cert) : 0;
    }
    if (o->cert_len <= 0)
        return false;
    *der = span_of(o->cert, (size_t)o->cert_len);
    return true;
}

static bool record_peer_chain(struct tls *t, struct span *ders)
{
    struct tls_ossl *o = ossl(t);
    void *kept;
    size_t n;
    if (!o->chain.p && !chain_put(o->ssl, &o->chain)) {
        const SSL_SESSION *s = SSL_get0_session(o->ssl);
        free(o->chain.p);
        o->chain = (struct wr){ 0 };
        if (!s || SSL_SESSION_get0_ticket_appdata((SSL_SESSION *)(uintptr_t)s, &kept, &n) != 1 || !n)
            return false;
        *ders = span_of(kept, n);
        return true;
    }
    *ders = wr_span(&o->chain);
    return true;
}

static unsigned record_max_fragment(const struct tls *t)
{
    const SSL_SESSION *s = SSL_get0_session(ossl(t)->ssl);
    unsigned code = s ? SSL_SESSION_get_max_fragment_length(s) : 0;
    return code >= 1 && code <= 4 ? 256u << code : 0; /* RFC 6066 section 4 */
}

static const struct tls_ops handshake_ops = { .free = handshake_free };
static const struct tls_ops record_ops = {
    .layer = TLS_LAYER_OPENSSL,
    .read = record_read,
    .write = record_write,
    .has_more = record_has_more,
    .bye = record_bye,
    .free = record_free,
    .peer_certificate = record_peer_certificate,
    .peer_chain = record_peer_chain,
    .max_fragment = record_max_fragment,
};
