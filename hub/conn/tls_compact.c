/* hub/conn/tls_compact.c - the record layer of core/tls on a socket: what a connection keeps of TLS when
 * OpenSSL has shaken hands and its object is gone. 144 bytes; buffers, ciphers and derived keys are the
 * worker's. */
#include "hub/conn/tls_impl.h"

#include "port/tls_crypto.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static_assert(sizeof(struct tls_compact) <= 144, "a million of these: docs/tls.md says what one costs");
static_assert(sizeof(struct tls_rec) <= 128, "a million of these");

/* ---- a worker's part ------------------------------------------------------------------------------ */

enum err tls_worker_new(struct tls_worker **out)
{
    struct tls_worker *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    slab_init(&w->slab);
    enum err e = tls_crypto_new(&w->work.crypto);
    if (!e && (!(w->in = malloc(TLS_RAW_LEN + TLS_RECORD_MAX)) || !(w->out = malloc(TLS_SEAL_LEN))))
        e = ERR_NOMEM;
    if (e) {
        tls_worker_free(w);
        return e;
    }
    *out = w;
    return ERR_OK;
}

/* With the next use after the last tidying. Without memory for it keys are derived for each record. */
static struct tls_work *work_of(struct tls_worker *w)
{
    if (!w->work.slots && (w->work.slots = calloc(TLS_KEY_SLOTS, sizeof *w->work.slots)))
        w->work.slots_nr = TLS_KEY_SLOTS;
    return &w->work;
}

void tls_worker_tidy(struct tls_worker *w)
{
    if (w->work.slots)
        tls_wipe(w->work.slots, TLS_KEY_SLOTS * sizeof *w->work.slots);
    free(w->work.slots);
    w->work.slots = NULL;
    w->work.slots_nr = 0;
}

void tls_worker_free(struct tls_worker *w)
{
    if (!w)
        return;
    slab_fini(&w->slab);
    tls_crypto_free(w->work.crypto);
    tls_worker_tidy(w);
    free(w->in);
    free(w->out);
    free(w);
}

/* ---- what is held --------------------------------------------------------------------------------- */

static struct held *held_of(const struct tls_compact *c, enum held_kind kind)
{
    for (struct held *h = c->held; h; h = h->next)
        if (h->kind == kind)
            return h;
    return NULL;
}

static void drop(struct tls_compact *c, struct held *h)
{
    struct held **at = &c->held;
    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    free(h);
}

static struct held *hold(struct tls_compact *c, enum held_kind kind, struct span s)
{
    struct held *h = malloc(sizeof *h + s.n);
    if (!h)
        return NULL;
    *h = (struct held){ .next = c->held, .kind = kind, .len = (uint32_t)s.n };
    if (s.n)
        memcpy(h->data, s.p, s.n);
    c->held = h;
    return h;
}

/* ---- sending -------------------------------------------------------------------------------------- */

/* TLS_DONE: all of it is with the socket; TLS_NEED_WRITE: the rest is held. */
static enum tls_need send_sealed(struct tls_compact *c, struct span s, size_t plain)
{
    ssize_t n = send(c->fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return TLS_FAILED;
        n = 0;
    }
    if ((size_t)n == s.n)
        return TLS_DONE;
    struct held *h = hold(c, HELD_OUT, span_skip(s, (size_t)n));
    if (!h)
        return TLS_FAILED; /* its number is used: it cannot be sealed again */
    h->plain = (uint32_t)plain;
    return TLS_NEED_WRITE;
}

/* What was sealed before leaves before anything else. TLS_DONE: it has; *n is what data was in it. */
static enum tls_need send_held(struct tls_compact *c, size_t *n)
{
    struct held *h = held_of(c, HELD_OUT);
    if (!h)
        return TLS_DONE;
    ssize_t sent = send(c->fd, h->data + h->at, h->len - h->at, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? TLS_NEED_WRITE : TLS_FAILED;
    h->at += (uint32_t)sent;
    if (h->at < h->len)
        return TLS_NEED_WRITE;
    *n = h->plain;
    drop(c, h);
    return TLS_DONE;
}

/* Whoever gets TLS_NEED_WRITE gives the same bytes again, perhaps with more behind them: those that are
 * sealed already are not looked at a second time, only counted. */
static enum tls_need compact_write(struct tls *t, struct span s, size_t *n)
{
    struct tls_compact *c = tls_compact_of(t);
    *n = 0;
    enum tls_need need = send_held(c, n);
    if (need != TLS_DONE || *n || !s.n)
        return need;
    struct span in = span_of(s.p, s.n < TLS_SEAL_PLAIN ? s.n : TLS_SEAL_PLAIN);
    struct wr out = { c->w->out, TLS_SEAL_LEN, 0 };
    size_t all = in.n;
    if (tls_rec_seal(&c->rec, work_of(c->w), &in, &out))
        return TLS_FAILED;
    need = send_sealed(c, wr_span(&out), all - in.n);
    *n = need == TLS_DONE ? all - in.n : 0;
    return need;
}

/* Pages of the file are read to where their records will be, and sealed there. */
static enum tls_need compact_file(struct tls *t, int fd, uint64_t offset, uint64_t len, size_t *n)
{
    struct tls_compact *c = tls_compact_of(t);
    struct iovec v[TLS_FILE_RECORDS];
    struct wr out = { c->w->out, TLS_SEAL_LEN, 0 };
    size_t max = tls_rec_plain_max(&c->rec), head = tls_rec_head_len(&c->rec);
    size_t around = head + tls_rec_tail_len(&c->rec), done = 0;
    int nr = 0;
    *n = 0;
    enum tls_need need = send_held(c, n);
    if (need != TLS_DONE || *n)
        return need;
    if (tls_rec_due(&c->rec, work_of(c->w), &out))
        return TLS_FAILED;
    for (size_t at = out.len; len && nr < TLS_FILE_RECORDS; nr++) {
        v[nr] = (struct iovec){ out.p + at + head, len < max ? (size_t)len : max };
        len -= v[nr].iov_len;
        at += v[nr].iov_len + around;
    }
    ssize_t got = preadv(fd, v, nr, (off_t)offset);
    if (got <= 0)
        return TLS_FAILED; /* the file is shorter than was promised, or cannot be read */
    for (int i = 0; i < nr && done < (size_t)got; i++) {
        size_t k = (size_t)got - done < v[i].iov_len ? (size_t)got - done : v[i].iov_len;
        if (tls_rec_seal_in_place(&c->rec, work_of(c->w), out.p + out.len, k))
            return TLS_FAILED;
        out.len += k + around;
        done += k;
    }
    need = send_sealed(c, wr_span(&out), done);
    *n = need == TLS_DONE ? done : 0;
    return need;
}

/* What is not data: a KeyUpdate, an alert. It goes behind what the socket has not taken. */
static void say(struct tls_compact *c, struct wr *w)
{
    struct held *h = held_of(c, HELD_OUT), *both;
    if (!h) {
        if (w->len)
            (void)send_sealed(c, wr_span(w), 0);
        return;
    }
    size_t left = h->len - h->at;
    if (!(both = malloc(sizeof *both + left + w->len)))
        return; /* the end all the same, but without a word */
    *both = (struct held){ .kind = HELD_OUT, .len = (uint32_t)(left + w->len), .plain = h->plain };
    memcpy(both->data, h->data + h->at, left);
    memcpy(both->data + left, w->p, w->len);
    drop(c, h);
    both->next = c->held;
    c->held = both;
}

/* False: it has to be said and cannot be. While something is held it waits: a peer that does not read what we
 * send must not make that grow. */
static bool say_due(struct tls_compact *c)
{
    struct wr w = { c->w->out, TLS_SEAL_LEN, 0 };
    if (c->tls.ops->layer == TLS_LAYER_KERNEL)
        return tls_kernel_due(c);
    if (!held_of(c, HELD_OUT) && tls_rec_due(&c->rec, work_of(c->w), &w) == ERR_OK)
        say(c, &w);
    return true;
}

static void compact_bye(struct tls *t)
{
    struct tls_compact *c = tls_compact_of(t);
    struct wr w = { c->w->out, TLS_SEAL_LEN, 0 };
    if (tls_rec_alert(&c->rec, work_of(c->w), TLS_CLOSE_NOTIFY, &w) == ERR_OK)
        say(c, &w);
}

static bool compact_has_sealed(const struct tls *t)
{
    return held_of(tls_compact_of(t), HELD_OUT);
}

/* ---- receiving ------------------------------------------------------------------------------------ */

/* "MUST forget any session-identifiers [...] associated with a failed connection" [RFC 5246, 7.2.2]. */
static void forget_session(struct tls_compact *c)
{
    struct held_session s;
    struct held *h = held_of(c, HELD_SESSION);
    if (!h)
        return;
    memcpy(&s, h->data, sizeof s);
    SSL_CTX_remove_session(s.ctx, s.session);
}

/* False: no memory. */
static bool hold_session(struct tls_compact *c, SSL *ssl)
{
    struct held_session s = { SSL_get_SSL_CTX(ssl), SSL_get_session(ssl) };
    if (!hold(c, HELD_SESSION, span_of(&s, sizeof s)))
        return false;
    SSL_CTX_up_ref(s.ctx);
    SSL_SESSION_up_ref(s.session);
    return true;
}

static void drop_session(struct tls_compact *c)
{
    struct held_session s;
    struct held *h = held_of(c, HELD_SESSION);
    if (!h)
        return;
    memcpy(&s, h->data, sizeof s);
    SSL_SESSION_free(s.session);
    SSL_CTX_free(s.ctx);
}

static void refuse(struct tls_compact *c, uint8_t alert)
{
    forget_session(c);
    struct wr w = { c->w->out, TLS_SEAL_LEN, 0 };
    if (c->tls.ops->layer == TLS_LAYER_KERNEL) {
        if (alert != TLS_CLOSE_NOTIFY)
            tls_kernel_alert(c, (enum tls_alert)alert);
    } else if (alert != TLS_CLOSE_NOTIFY &&
               tls_rec_alert(&c->rec, work_of(c->w), (enum tls_alert)alert, &w) == ERR_OK)
        say(c, &w);
}

enum tls_need tls_compact_read(struct tls *t, uint8_t *buf, size_t cap, size_t *n)
{
    struct tls_compact *c = tls_compact_of(t);
    struct held *h = held_of(c, HELD_IN);
    size_t have = h ? h->len : 0, used = 0;
    enum err e = ERR_OK;
    *n = 0;
    if (c->rec.state & (TLS_REC_EOF | TLS_REC_BROKEN))
        return c->rec.state & TLS_REC_BROKEN ? TLS_FAILED : TLS_CLOSED;
    assert(cap >= TLS_READ_MIN && have < TLS_READ_MIN);
    if (cap > TLS_RAW_LEN)
        cap = TLS_RAW_LEN;
    /* What comes out is less than what goes in: with no more than `cap` of that, there is room for all. */
    ssize_t got = recv(c->fd, c->w->in + have, cap - have, MSG_DONTWAIT);
    if (got <= 0 && (!h || h->at)) { /* h->at: it has been looked at before, and is not whole */
        if (got == 0)
            return have ? TLS_FAILED : TLS_CLOSED; /* in the middle of a record, or without a word */
        return errno == EAGAIN || errno == EINTR ? TLS_NEED_READ : TLS_FAILED;
    }
    if (h) {
        memcpy(c->w->in, h->data, have);
        drop(c, h);
    }
    have += got > 0 ? (size_t)got : 0;
    while (used < have && !e && !(c->rec.state & TLS_REC_EOF)) {
        struct tls_opened o;
        e = tls_rec_open(&c->rec, work_of(c->w), span_of(c->w->in + used, have - used), buf + *n, cap - *n,
                         &o);
        if (e == ERR_PROTO)
            refuse(c, o.alert);
        used += o.used;
        *n += o.n;
    }
    if (e == ERR_AGAIN) {
        if (!(h = hold(c, HELD_IN, span_of(c->w->in + used, have - used)))) {
            c->rec.state |= TLS_REC_BROKEN;
            refuse(c, TLS_INTERNAL_ERROR);
        } else {
            h->at = 1;
        }
    }
    if (tls_rec_is_due(&c->rec) && !(c->rec.state & TLS_REC_BROKEN) && !say_due(c)) {
        c->rec.state |= TLS_REC_BROKEN;
        refuse(c, TLS_INTERNAL_ERROR);
    }
    if (*n)
        return TLS_DONE;
    return c->rec.state & TLS_REC_BROKEN ? TLS_FAILED
           : c->rec.state & TLS_REC_EOF  ? TLS_CLOSED
                                         : TLS_NEED_READ;
}

/* An end that was read behind data has yet to be told. */
bool tls_compact_has_more(const struct tls *t)
{
    return tls_compact_of(t)->rec.state & (TLS_REC_EOF | TLS_REC_BROKEN);
}

void tls_compact_free(struct tls *t)
{
    struct tls_compact *c = tls_compact_of(t);
    drop_session(c);
    while (c->held)
        drop(c, c->held);
    tls_rec_fini(&c->rec, &c->w->work);
    slab_put(&c->w->slab, c, sizeof *c);
}

bool tls_compact_peer_certificate(struct tls *t, struct span *der)
{
    struct held *h = held_of(tls_compact_of(t), HELD_CERT);
    if (h)
        *der = span_of(h->data, h->at);
    return h;
}

bool tls_compact_peer_chain(struct tls *t, struct span *ders)
{
    struct held *h = held_of(tls_compact_of(t), HELD_CERT);
    if (h && h->len > h->at)
        *ders = span_of(h->data + h->at, h->len - h->at);
    return h && h->len > h->at;
}

unsigned tls_compact_max_fragment(const struct tls *t)
{
    size_t max = tls_rec_plain_max(&tls_compact_of(t)->rec);
    return max == TLS_PLAIN_MAX ? 0 : (unsigned)max;
}

static const struct tls_ops compact_ops = {
    .layer = TLS_LAYER_COMPACT,
    .read = tls_compact_read,
    .write = compact_write,
    .file = compact_file,
    .has_more = tls_compact_has_more,
    .has_sealed = compact_has_sealed,
    .bye = compact_bye,
    .free = tls_compact_free,
    .peer_certificate = tls_compact_peer_certificate,
    .peer_chain = tls_compact_peer_chain,
    .max_fragment = tls_compact_max_fragment,
};

/* ---- taking over ---------------------------------------------------------------------------------- */

static bool aead_of(const SSL_CIPHER *cipher, enum tls_aead *a)
{
    switch (SSL_CIPHER_get_cipher_nid(cipher)) {
    case NID_aes_128_gcm:
        *a = TLS_AES_128_GCM;
        return true;
    case NID_aes_256_gcm:
        *a = TLS_AES_256_GCM;
        return true;
    case NID_chacha20_poly1305:
        *a = TLS_CHACHA20_POLY1305;
        return true;
    default:
        return false;
    }
}

static bool take_13(const struct tls_ossl *o, enum tls_aead a, struct tls_rec *r)
{
    size_t n = tls_hash_len(tls_aead_hash(a));
    if (o->secret_len[TLS_IN] != n || o->secret_len[TLS_OUT] != n)
        return false;
    if (o->out.left || o->in.left)
        return false;
    /* OpenSSL sends its flight, reads the client's Finished, and then tickets: they are what was sent since.
     */
    tls_rec_init_13(r, a, o->secret[TLS_IN], 0, o->secret[TLS_OUT], o->out.nr - o->out_at_read);
    return true;
}

static bool take_12(const struct tls_ossl *o, enum tls_aead a, enum tls_hash h, struct tls_rec *r)
{
    uint8_t master[TLS_MASTER_LEN], cr[TLS_RANDOM_LEN], sr[TLS_RANDOM_LEN];
    struct tls_keys client, server;
    if (!o->in.since_ccs || !o->out.since_ccs || o->out.left || o->in.left ||
        SSL_SESSION_get_master_key(SSL_get_session(o->ssl), master, sizeof master) != sizeof master ||
        SSL_get_client_random(o->ssl, cr, sizeof cr) != sizeof cr ||
        SSL_get_server_random(o->ssl, sr, sizeof sr) != sizeof sr)
        return false;
    tls_keys_block(o->w->work.crypto, a, h, master, cr, sr, &client, &server);
    tls_rec_init_12(r, a, &client, o->in.since_ccs, &server, o->out.since_ccs,
                    o->out.nonce - (o->out.since_ccs - 1));
    tls_wipe(master, sizeof master);
    tls_wipe(&client, sizeof client);
    tls_wipe(&server, sizeof server);
    return true;
}

/* False: no memory. */
static bool take_certificates(struct tls_ossl *o, struct tls_compact *c)
{
    struct span leaf, chain = SPAN_NONE;
    if (!o->tls.ops->peer_certificate(&o->tls, &leaf))
        return true;
    if (!o->tls.ops->peer_chain(&o->tls, &chain))
        chain = SPAN_NONE;
    struct held *h = malloc(sizeof *h + leaf.n + chain.n);
    if (!h)
        return false;
    *h = (struct held){
        .next = c->held, .kind = HELD_CERT, .len = (uint32_t)(leaf.n + chain.n), .at = (uint32_t)leaf.n
    };
    memcpy(h->data, leaf.p, leaf.n);
    if (chain.n)
        memcpy(h->data + leaf.n, chain.p, chain.n);
    c->held = h;
    return true;
}

enum err tls_compact_take(struct tls_ossl *o, struct tls **out)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(o->ssl);
    int version = SSL_version(o->ssl);
    uint8_t fragment = SSL_SESSION_get_max_fragment_length(SSL_get_session(o->ssl));
    enum tls_aead a;
    if (!cipher || !aead_of(cipher, &a) || fragment > 4 || SSL_has_pending(o->ssl))
        return ERR_NOTFOUND;
    struct tls_compact *c = slab_get(&o->w->slab, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->tls.ops = &compact_ops;
    c->w = o->w;
    c->fd = o->fd;
    enum tls_hash h =
        EVP_MD_get_type(SSL_CIPHER_get_handshake_digest(cipher)) == NID_sha384 ? TLS_SHA384 : TLS_SHA256;
    if (version == TLS1_3_VERSION ? !take_13(o, a, &c->rec)
                                  : version != TLS1_2_VERSION || !take_12(o, a, h, &c->rec)) {
        tls_compact_free(&c->tls);
        return ERR_NOTFOUND;
    }
    c->rec.frag = fragment;
    unsigned id_len = 0;
    SSL_SESSION_get_id(SSL_get_session(o->ssl), &id_len);
    bool cached = version == TLS1_2_VERSION && id_len && !o->by_ticket;
    if (!take_certificates(o, c) || (o->fresh.n && !hold(c, HELD_IN, o->fresh)) ||
        (cached && !hold_session(c, o->ssl))) {
        tls_compact_free(&c->tls);
        return ERR_NOMEM;
    }
    if (o->wanted == TLS_LAYER_KERNEL)
        (void)tls_kernel_take(c); /* or not: then it stays with us */
    *out = &c->tls;
    return ERR_OK;
}
