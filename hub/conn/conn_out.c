/* hub/conn/conn_out.c - what a connection still has to send: a queue of bytes and pieces of files that exists
 * only while the socket does not take it, written once a turn. */
#include "hub/conn/conn_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SEG_SMALL = 1024 - sizeof(struct out_seg), /* the first piece: most turns send little */
    SEG_LARGE = 16384 - sizeof(struct out_seg),
    VECS_MAX = 16,
    FILE_SLICE = 1 << 20,    /* of a file in one turn, so that each connection gets its share */
    TLS_FILE_SLICE = 262144, /* encrypted: more work a byte */
    TLS_RECORD = 16384
};

static struct out *out_of(struct conn *c)
{
    if (!c->out && (c->out = calloc(1, sizeof *c->out)))
        c->out->deadline_ms = conn_now(c) + conn_cw(c)->net->limits.slow_ms;
    return c->out;
}

static struct out_seg *append(struct conn *c, uint32_t cap)
{
    struct out *o = out_of(c);
    struct out_seg *s = o ? malloc(sizeof *s + cap) : NULL;
    if (!s)
        return NULL;
    *s = (struct out_seg){ .fd = -1, .cap = cap };
    if (o->last)
        o->last->next = s;
    else
        o->first = s;
    o->last = s;
    return s;
}

static bool put_bytes(struct conn *c, struct span s)
{
    while (s.n) {
        struct out_seg *t = c->out ? c->out->last : NULL;
        if (!t || t->fd >= 0 || t->len == t->cap) {
            uint32_t cap = !t && s.n <= SEG_SMALL ? SEG_SMALL : SEG_LARGE;
            if (!(t = append(c, cap)))
                return false;
        }
        size_t n = t->cap - t->len < s.n ? (size_t)(t->cap - t->len) : s.n;
        memcpy(t->data + t->len, s.p, n);
        t->len += n;
        c->out->unsent += n;
        s = span_skip(s, n);
    }
    return true;
}

bool out_put(struct conn *c, struct span s)
{
    if (conn_unsent(c) >= conn_cw(c)->net->limits.out_max)
        return false;
    return put_bytes(c, s);
}

bool out_put_file(struct conn *c, int fd, uint64_t offset, uint64_t len)
{
    struct out_seg *s = append(c, 0);
    if (!s)
        return false;
    s->fd = fd;
    s->at = offset;
    s->len = len;
    return true;
}

static void pop(struct out *o)
{
    struct out_seg *s = o->first;
    o->first = s->next;
    if (!o->first)
        o->last = NULL;
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

void out_free(struct conn *c)
{
    if (!c->out)
        return;
    while (c->out->first)
        pop(c->out);
    free(c->out);
    c->out = NULL;
}

/* n bytes of the byte pieces at the front have left. */
static void took(struct conn *c, size_t n)
{
    struct out *o = c->out;
    o->unsent -= n;
    while (o->first && o->first->fd < 0) {
        uint64_t left = o->first->len - o->first->at;
        if (left > n) {
            o->first->at += n;
            return;
        }
        n -= (size_t)left;
        pop(o);
    }
}

static enum err plain_bytes(struct conn *c, size_t *moved)
{
    struct iovec v[VECS_MAX];
    size_t nr = 0, total = 0;
    struct out_seg *s = c->out->first;
    for (; s && s->fd < 0 && nr < VECS_MAX; s = s->next, nr++) {
        v[nr] = (struct iovec){ s->data + s->at, (size_t)(s->len - s->at) };
        total += v[nr].iov_len;
    }
    /* A head in front of a file waits for its first bytes: one packet. */
    struct msghdr m = { .msg_iov = v, .msg_iovlen = nr };
    ssize_t n = sendmsg(c->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT | (s ? MSG_MORE : 0));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
    took(c, (size_t)n);
    *moved += (size_t)n;
    return (size_t)n < total ? ERR_AGAIN : ERR_OK;
}

static enum err plain_file(struct conn *c, size_t *moved)
{
    struct out_seg *s = c->out->first;
    off_t at = (off_t)s->at;
    size_t want = s->len < FILE_SLICE ? (size_t)s->len : FILE_SLICE;
    ssize_t n = want ? sendfile(c->watch.fd, s->fd, &at, want) : 0;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
    if (n == 0 && want)
        return ERR_IO; /* the file is shorter than was promised */
    s->at += (uint64_t)n;
    s->len -= (uint64_t)n;
    *moved += (size_t)n;
    if (s->len)
        return ERR_AGAIN; /* full, or its share of this turn */
    pop(c->out);
    return ERR_OK;
}

static enum err tls_result(struct conn *c, enum tls_need need)
{
    if (need == TLS_DONE)
        return ERR_OK;
    if (need == TLS_NEED_WRITE || need == TLS_NEED_READ)
        return ERR_AGAIN;
    (void)c;
    return ERR_IO;
}

static enum err tls_bytes(struct conn *c, size_t *moved)
{
    struct out_seg *s = c->out->first;
    size_t n = 0;
    enum err e =
        tls_result(c, c->tls->ops->write(c->tls, span_of(s->data + s->at, (size_t)(s->len - s->at)), &n));
    if (e)
        return e;
    took(c, n);
    *moved += n;
    return ERR_OK;
}

static enum err tls_file(struct conn *c, size_t *moved)
{
    struct out_seg *s = c->out->first;
    uint8_t buf[TLS_RECORD];
    if (c->tls->ops->file && s->len) {
        size_t n = 0;
        enum err e = tls_result(c, c->tls->ops->file(c->tls, s->fd, s->at, s->len, &n));
        if (e)
            return e;
        s->at += n;
        s->len -= n;
        *moved += n;
        if (!s->len)
            pop(c->out);
        return ERR_OK;
    }
    size_t want = s->len < sizeof buf ? (size_t)s->len : sizeof buf;
    ssize_t n = want ? pread(s->fd, buf, want, (off_t)s->at) : 0;
    if (n <= 0 && want)
        return ERR_IO;
    size_t sent = 0;
    /* After NEED_WRITE the same bytes are read again and given again, as the record layer asks. */
    enum err e = want ? tls_result(c, c->tls->ops->write(c->tls, span_of(buf, (size_t)n), &sent)) : ERR_OK;
    if (e)
        return e;
    s->at += sent;
    s->len -= sent;
    *moved += sent;
    if (!s->len)
        pop(c->out);
    return ERR_OK;
}

bool out_is_waiting(const struct conn *c)
{
    return c->out || (c->tls && c->tls->ops->has_sealed && c->tls->ops->has_sealed(c->tls));
}

enum err out_flush(struct conn *c)
{
    size_t moved = 0;
    enum err e = ERR_OK;
    if (!c->out && c->tls)
        return tls_result(c, c->tls->ops->write(c->tls, SPAN_NONE, &moved));
    while (!e && c->out && c->out->first) {
        bool is_file = c->out->first->fd >= 0;
        if (c->tls)
            e = is_file ? tls_file(c, &moved) : tls_bytes(c, &moved);
        else
            e = is_file ? plain_file(c, &moved) : plain_bytes(c, &moved);
        if (!e && moved >= (c->tls ? TLS_FILE_SLICE : FILE_SLICE) && c->out->first)
            e = ERR_AGAIN;
    }
    if (moved) {
        conn_count(&conn_cw(c)->nr.bytes_out, moved);
        if (c->out)
            c->out->deadline_ms = conn_now(c) + conn_cw(c)->net->limits.slow_ms;
    }
    if (c->out && !c->out->first)
        out_free(c);
    return e;
}
