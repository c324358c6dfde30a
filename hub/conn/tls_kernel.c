/* hub/conn/tls_kernel.c - sending through the kernel's TLS, where it has one: it gets the key of our
 * direction and the number of the next record; from then on what is written to the socket is sealed there,
 * and pages of files never come to us. Receiving stays with core/tls. The kernel cannot change a key on the
 * way, so a peer that asks for a KeyUpdate, and a key that is used up, end the connection. */
#include "hub/conn/tls_impl.h"

#include "base/log.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ALERT = 21, WARNING = 1, FATAL = 2, FILE_SLICE = 1 << 20 };

static atomic_bool refused; /* the kernel has said that it has no such thing: it is not asked again */
static atomic_bool missed;

static bool is_kernel(const struct tls_compact *c)
{
    return c->tls.ops == &tls_kernel_ops;
}

union crypto_info { /* <linux/tls.h> */
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 gcm_128;
    struct tls12_crypto_info_aes_gcm_256 gcm_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* A socket without a connection is told ENOTCONN by a kernel that has TLS. */
void tls_kernel_probe(bool wanted)
{
    if (!wanted) {
        atomic_store(&missed, false);
        return;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool there =
        fd >= 0 && (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0 || errno == ENOTCONN);
    if (!there)
        log_warn("tls.kernel", "offered=false errno=%d instead=compact hint=\"modprobe tls\"", errno);
    if (fd >= 0)
        close(fd);
    atomic_store(&refused, !there);
    atomic_store(&missed, !there);
}

bool tls_kernel_is_missed(void)
{
    return atomic_load(&missed);
}

/* The kernel's form of a key. Returns its length. */
static socklen_t fill(union crypto_info *u, struct tls_compact *c)
{
    struct tls_keys k;
    uint8_t seq[8], iv[8];
    enum tls_aead a;
    bool v13 = tls_rec_out_key(&c->rec, &c->w->work, &a, &k, seq, iv);
    memset(u, 0, sizeof *u);
    u->info.version = v13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    socklen_t len = 0;
    switch (a) {
#define GCM(field, type)                                                                                     \
    u->info.cipher_type = (type);                                                                            \
    memcpy(u->field.key, k.key, sizeof u->field.key);                                                        \
    memcpy(u->field.salt, k.iv, sizeof u->field.salt);                                                       \
    memcpy(u->field.iv, iv, sizeof u->field.iv);                                                             \
    memcpy(u->field.rec_seq, seq, sizeof u->field.rec_seq);                                                  \
    len = sizeof u->field
    case TLS_AES_128_GCM:
        GCM(gcm_128, TLS_CIPHER_AES_GCM_128);
        break;
    case TLS_AES_256_GCM:
        GCM(gcm_256, TLS_CIPHER_AES_GCM_256);
        break;
#undef GCM
    default:
        u->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(u->chacha.key, k.key, sizeof u->chacha.key);
        memcpy(u->chacha.iv, k.iv, sizeof u->chacha.iv);
        memcpy(u->chacha.rec_seq, seq, sizeof u->chacha.rec_seq);
        len = sizeof u->chacha;
        break;
    }
    tls_wipe(&k, sizeof k);
    return len;
}

bool tls_kernel_take(struct tls_compact *c)
{
    union crypto_info u;
    if (is_kernel(c))
        return true;
    /* It knows no smaller fragments; and what must be said first is said by us. */
    if (atomic_load_explicit(&refused, memory_order_relaxed) || tls_rec_plain_max(&c->rec) != TLS_PLAIN_MAX ||
        tls_rec_is_due(&c->rec))
        return false;
    if (setsockopt(c->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") < 0) {
        if (errno == ENOENT || errno == ENOPROTOOPT || errno == EPERM)
            atomic_store_explicit(&refused, true, memory_order_relaxed);
        return false;
    }
    socklen_t len = fill(&u, c);
    bool taken = setsockopt(c->fd, SOL_TLS, TLS_TX, &u, len) == 0;
    tls_wipe(&u, sizeof u);
    if (taken)
        c->tls.ops = &tls_kernel_ops;
    return taken; /* else the socket is as before: no key, no TLS */
}

/* What has been written, so that the key is not used beyond its limit. */
static enum tls_need sent(struct tls_compact *c, ssize_t n, size_t *out)
{
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? TLS_NEED_WRITE : TLS_FAILED;
    tls_rec_count_out(&c->rec, (uint64_t)n / TLS_PLAIN_MAX + 1);
    *out = (size_t)n;
    return TLS_DONE;
}

static bool may_send(struct tls_compact *c)
{
    return !(c->rec.state & TLS_REC_SHUT) && !tls_rec_is_worn(&c->rec);
}

static enum tls_need kernel_write(struct tls *t, struct span s, size_t *n)
{
    struct tls_compact *c = tls_compact_of(t);
    *n = 0;
    return may_send(c) ? sent(c, send(c->fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT), n) : TLS_FAILED;
}

static enum tls_need kernel_file(struct tls *t, int fd, uint64_t offset, uint64_t len, size_t *n)
{
    struct tls_compact *c = tls_compact_of(t);
    off_t at = (off_t)offset;
    *n = 0;
    if (!may_send(c))
        return TLS_FAILED;
    ssize_t got = sendfile(c->fd, fd, &at, len < FILE_SLICE ? (size_t)len : FILE_SLICE);
    return got == 0 ? TLS_FAILED : sent(c, got, n); /* 0: the file is shorter than was promised */
}

void tls_kernel_alert(struct tls_compact *c, enum tls_alert a)
{
    bool last = a != TLS_NO_RENEGOTIATION;
    uint8_t alert[2] = { a == TLS_CLOSE_NOTIFY || !last ? WARNING : FATAL, (uint8_t)a };
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(1)];
    } control = { 0 };
    struct iovec v = { alert, sizeof alert };
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes
    };
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (c->rec.state & TLS_REC_SHUT)
        return;
    h->cmsg_level = SOL_TLS;
    h->cmsg_type = TLS_SET_RECORD_TYPE;
    h->cmsg_len = CMSG_LEN(1);
    *CMSG_DATA(h) = ALERT;
    (void)sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT); /* the end: it goes, or not */
    if (last)
        c->rec.state |= TLS_REC_SHUT;
}

bool tls_kernel_due(struct tls_compact *c)
{
    if (c->rec.state & TLS_REC_REFUSE_DUE) {
        tls_kernel_alert(c, TLS_NO_RENEGOTIATION);
        c->rec.state &= (uint8_t)~TLS_REC_REFUSE_DUE;
    }
    return !(c->rec.state & TLS_REC_UPDATE_DUE);
}

static void kernel_bye(struct tls *t)
{
    tls_kernel_alert(tls_compact_of(t), TLS_CLOSE_NOTIFY);
}

const struct tls_ops tls_kernel_ops = {
    .layer = TLS_LAYER_KERNEL,
    .read = tls_compact_read,
    .write = kernel_write,
    .file = kernel_file,
    .has_more = tls_compact_has_more,
    .bye = kernel_bye,
    .free = tls_compact_free,
    .peer_certificate = tls_compact_peer_certificate,
    .peer_chain = tls_compact_peer_chain,
    .max_fragment = tls_compact_max_fragment,
};
