/* hub/conn/listener.c - one listening socket a worker and listener, the caps, back-off when descriptors run
 * out, and what concerns all connections at once. */
#include "hub/conn/listener.h"

#include "base/log.h"
#include "hub/conn/conn_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPT_BATCH = 64,
    BACKLOG = 4096,
    BACKOFF_MIN_MS = 50,
    BACKOFF_MAX_MS = 1000,
    DESCRIPTORS_KEPT = 256 /* for the store, the stream, files being sent */
};

struct listen_socket { /* a listener's part on one worker */
    struct watch watch;
    struct conn_worker *cw;
    struct conn_listener *l;
    struct tls_ctx *tls;
    struct timer backoff;
    uint32_t backoff_ms;
    bool is_watched;
};
struct conn_listener {
    struct list node;
    struct conn_net *net;
    struct conn_listen cfg;
    char *name;
    uint16_t port;
    struct listen_socket sockets[]; /* one a worker */
};

/* ---- accepting ------------------------------------------------------------------------------------ */

/* IPv4 whole, IPv6 by its /64: what one subscriber has. */
static void source_key(const struct sockaddr_storage *ss, uint8_t key[16], bool *loopback)
{
    memset(key, 0, 16);
    *loopback = false;
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)ss;
        memcpy(key + 12, &in->sin_addr, 4);
        *loopback = key[12] == 127;
    } else if (ss->ss_family == AF_INET6) {
        const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)ss)->sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(a);
        memcpy(key + (mapped ? 12 : 0), a->s6_addr + (mapped ? 12 : 0), mapped ? 4 : 8);
        *loopback = mapped ? key[12] == 127 : IN6_IS_ADDR_LOOPBACK(a);
    }
}

static void take(struct listen_socket *s, int fd, const struct sockaddr_storage *peer)
{
    struct conn_net *net = s->cw->net;
    struct source *source = NULL;
    struct tls *tls = NULL;
    uint8_t key[16];
    bool loopback;
    if (!s->l->cfg.exempt) {
        if (atomic_load(&net->counted) >= net->limits.connections_max) {
            conn_count(&s->cw->nr.refused_total, 1);
            goto refuse;
        }
        source_key(peer, key, &loopback);
        if (!loopback || net->limits.per_source_loopback) {
            enum err e = source_take(net->sources, key, net->limits.per_source_max, &source);
            if (e) {
                conn_count(&s->cw->nr.refused_source, 1);
                goto refuse;
            }
        }
    }
    if (s->tls && ((!s->cw->tls && tls_worker_new(&s->cw->tls) != ERR_OK) ||
                   tls_accept_new(&tls, s->tls, s->cw->tls, fd) != ERR_OK)) {
        log_warn("conn.memory", "listener=%s", s->l->name);
        goto refuse;
    }
    conn_start(s->cw, fd, source, tls, s->l->cfg.proto, s->l->cfg.ctx, s->l->cfg.exempt);
    return;
refuse:
    if (source)
        source_give_back(net->sources, source);
    close(fd);
}

static void on_backoff_over(struct timer *t)
{
    struct listen_socket *s = CONTAINER_OF(t, struct listen_socket, backoff);
    if (s->watch.fd >= 0 && worker_watch(s->cw->w, &s->watch, EPOLLIN) == ERR_OK)
        s->is_watched = true;
}

/* No descriptor or no memory: those who wait stay in the kernel's queue, and we do not spin. */
static void back_off(struct listen_socket *s, int why)
{
    conn_count(&s->cw->nr.accept_backoffs, 1);
    if (!s->backoff_ms)
        log_warn("listener.backoff", "listener=%s worker=%u errno=%d open=%llu", s->l->name,
                 worker_index(s->cw->w), why, (unsigned long long)atomic_load(&s->cw->net->open));
    s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (s->backoff_ms > BACKOFF_MAX_MS)
        s->backoff_ms = BACKOFF_MAX_MS;
    worker_unwatch(s->cw->w, &s->watch);
    s->is_watched = false;
    timer_arm(s->cw->w, &s->backoff, worker_now_ms(s->cw->w) + s->backoff_ms);
}

static void on_ready(struct watch *f, uint32_t events)
{
    struct listen_socket *s = CONTAINER_OF(f, struct listen_socket, watch);
    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd = accept4(s->watch.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            s->backoff_ms = 0;
            take(s, fd, &peer);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            back_off(s, errno);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return; /* nobody else waits */
        }
    }
}

/* ---- listening ------------------------------------------------------------------------------------ */

static bool parse_address(const char *text, uint16_t port, struct sockaddr_storage *ss, socklen_t *len)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    memset(ss, 0, sizeof *ss);
    if (strcmp(text, "*") == 0 || inet_pton(AF_INET6, text, &in6.sin6_addr) == 1) {
        if (strcmp(text, "*") == 0)
            in6.sin6_addr = in6addr_any;
        memcpy(ss, &in6, *len = sizeof in6);
        return true;
    }
    if (inet_pton(AF_INET, text, &in.sin_addr) == 1) {
        memcpy(ss, &in, *len = sizeof in);
        return true;
    }
    return false;
}

/* shared: with the other workers' sockets. Without, a port that another program listens on is refused. */
static int open_socket(const struct conn_listen *cfg, uint16_t port, bool shared)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int one = 1, zero = 0;
    if (!parse_address(cfg->address, port, &ss, &len)) {
        errno = EINVAL;
        return -1;
    }
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && strcmp(cfg->address, "*") == 0) { /* a machine without IPv6 */
        parse_address("0.0.0.0", port, &ss, &len);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (shared)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (ss.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, strcmp(cfg->address, "*") == 0 ? &zero : &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&ss, len) < 0 || (shared && listen(fd, BACKLOG) < 0)) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage ss = { 0 };
    socklen_t len = sizeof ss;
    getsockname(fd, (struct sockaddr *)&ss, &len);
    return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&ss)->sin6_port
                                          : ((struct sockaddr_in *)(void *)&ss)->sin_port);
}

static void close_socket(struct listen_socket *s)
{
    if (s->watch.fd < 0)
        return;
    if (s->is_watched)
        worker_unwatch(s->cw->w, &s->watch);
    s->is_watched = false;
    timer_disarm(&s->backoff);
    close(s->watch.fd);
    s->watch.fd = -1;
}

static void listener_free(struct conn_listener *l)
{
    for (unsigned i = 0; i < l->net->worker_nr; i++) {
        close_socket(&l->sockets[i]);
        tls_ctx_unref(l->sockets[i].tls);
    }
    free(l->name);
    free(l);
}

enum err conn_net_listen(struct conn_net *n, const struct conn_listen *cfg, struct conn_listener **out)
{
    /* A probe first: two sets of shared sockets of one user would quietly split the connections. */
    int fd = open_socket(cfg, cfg->port, false);
    if (fd < 0)
        return errno == EACCES ? ERR_DENIED : errno == EADDRINUSE ? ERR_EXISTS : ERR_IO;
    uint16_t port = port_of(fd);
    close(fd);
    struct conn_listener *l = calloc(1, sizeof *l + n->worker_nr * sizeof l->sockets[0]);
    if (!l)
        return ERR_NOMEM;
    *l = (struct conn_listener){ .net = n, .cfg = *cfg, .port = port, .name = strdup(cfg->name) };
    for (unsigned i = 0; i < n->worker_nr; i++)
        l->sockets[i].watch.fd = -1;
    if (!l->name)
        goto fail;
    for (unsigned i = 0; i < n->worker_nr; i++) {
        struct listen_socket *s = &l->sockets[i];
        s->cw = &n->workers[i];
        s->l = l;
        s->backoff.on_timer = on_backoff_over;
        s->tls = cfg->tls ? tls_ctx_ref(cfg->tls) : NULL;
        s->watch = (struct watch){ open_socket(cfg, port, true), on_ready };
        if (s->watch.fd < 0 || worker_watch(s->cw->w, &s->watch, EPOLLIN) != ERR_OK) {
            log_error("listener.open", "listener=%s errno=%d", cfg->name, errno);
            goto fail;
        }
        s->is_watched = true;
    }
    list_push(&n->listeners, &l->node);
    if (out)
        *out = l;
    return ERR_OK;
fail:
    listener_free(l);
    return ERR_IO;
}

uint16_t conn_listener_port(const struct conn_listener *l)
{
    return l->port;
}

struct new_tls {
    struct op op;
    struct listen_socket *s;
    struct tls_ctx *tls;
};

static void change_tls(struct op *op)
{
    struct new_tls *n = (struct new_tls *)(void *)op;
    tls_ctx_unref(n->s->tls);
    n->s->tls = n->tls;
    free(n);
}

void conn_listener_set_tls(struct conn_listener *l, struct tls_ctx *tls)
{
    for (unsigned i = 0; i < l->net->worker_nr; i++) {
        struct new_tls *n = calloc(1, sizeof *n);
        if (!n) {
            log_error("listener.reload", "listener=%s worker=%u err=nomem", l->name, i);
            return; /* the old certificates stay there */
        }
        *n = (struct new_tls){ .op.done = change_tls, .s = &l->sockets[i], .tls = tls_ctx_ref(tls) };
        worker_post(l->sockets[i].cw->w, &n->op);
    }
}

/* ---- all connections ------------------------------------------------------------------------------ */

static uint32_t descriptors_allow(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0 || r.rlim_cur == RLIM_INFINITY)
        return 1000000;
    rlim_t kept = r.rlim_cur > 2 * DESCRIPTORS_KEPT ? DESCRIPTORS_KEPT : r.rlim_cur / 2;
    return r.rlim_cur - kept < 4000000 ? (uint32_t)(r.rlim_cur - kept) : 4000000;
}

static void or_default(uint32_t *v, uint32_t value)
{
    if (!*v)
        *v = value;
}

static void on_drain(struct op *op)
{
    struct conn_worker *cw = CONTAINER_OF(op, struct conn_worker, drain_op);
    for (struct list *n = cw->net->listeners.next; n != &cw->net->listeners; n = n->next) {
        struct conn_listener *l = CONTAINER_OF(n, struct conn_listener, node);
        close_socket(&l->sockets[cw - cw->net->workers]);
    }
    conn_stop_worker(cw, false);
}

static void on_kill(struct op *op)
{
    conn_stop_worker(CONTAINER_OF(op, struct conn_worker, kill_op), true);
}

/* The C library keeps some small pieces of each size for the thread that freed them. After a wave of
 * connections these lie all over its heap, each on a page that cannot go back. Pieces that lie together take
 * their place. */
static void gather_small_pieces(void)
{
    enum { STEP = 16, SIZES = 64, EACH = 7 }; /* what glibc keeps; other libraries lose nothing by it */
    void *volatile pieces[2][SIZES * EACH]; /* volatile: a compiler may leave out what is only freed again */
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < SIZES * EACH; k++)
            pieces[i][k] = malloc((k / EACH + 1) * STEP + 8);
    for (size_t i = 2; i-- > 0;) /* the new ones first: they are kept, and there is no room for the old */
        for (size_t k = 0; k < SIZES * EACH; k++)
            free(pieces[i][k]);
}

static void on_tidy(struct op *op)
{
    struct conn_worker *cw = CONTAINER_OF(op, struct conn_worker, tidy_op);
    if (cw->tls)
        tls_worker_tidy(cw->tls);
    gather_small_pieces();
    atomic_store(&cw->tidying, false);
}

enum err conn_net_new(struct conn_net **out, const struct conn_limits *limits, struct worker *const *workers,
                      unsigned worker_nr, uint16_t node)
{
    struct conn_net *n = calloc(1, sizeof *n);
    if (!n)
        return ERR_NOMEM;
    list_init(&n->listeners);
    n->limits = *limits;
    n->node = node;
    or_default(&n->limits.connections_max, descriptors_allow());
    if (n->limits.connections_max > descriptors_allow()) {
        log_warn("hub.capacity", "asked=%u possible=%u reason=\"descriptors\"", n->limits.connections_max,
                 descriptors_allow());
        n->limits.connections_max = descriptors_allow();
    }
    or_default(&n->limits.per_source_max, 4096);
    or_default(&n->limits.handshake_ms, 15000);
    or_default(&n->limits.first_packet_ms, 30000);
    or_default(&n->limits.slow_ms, 30000);
    or_default(&n->limits.linger_ms, 2000);
    or_default(&n->limits.out_max, 512 * 1024);
    n->workers = calloc(worker_nr, sizeof *n->workers);
    if (!n->workers)
        goto fail;
    for (unsigned i = 0; i < worker_nr; i++, n->worker_nr++) {
        struct conn_worker *cw = &n->workers[i];
        cw->net = n;
        cw->w = workers[i];
        cw->flush.run = conn_flush_worker;
        cw->drain_op.done = on_drain;
        cw->kill_op.done = on_kill;
        cw->tidy_op.done = on_tidy;
        atomic_init(&cw->tidying, false);
        cw->forget.run = conn_forget_worker;
        slab_init(&cw->slab);
        list_init(&cw->old);
        if (!(cw->in = malloc(CONN_KEEP_SMALL + CONN_READ_MAX)))
            goto fail;
        worker_set_local(workers[i], WORKER_LOCAL_CONN, cw);
    }
    if (source_table_new(&n->sources) != ERR_OK)
        goto fail;
    *out = n;
    return ERR_OK;
fail:
    conn_net_free(n);
    return ERR_NOMEM;
}

void conn_net_free(struct conn_net *n)
{
    if (!n)
        return;
    while (!list_is_empty(&n->listeners))
        listener_free(CONTAINER_OF(list_pop(&n->listeners), struct conn_listener, node));
    for (unsigned i = 0; i < n->worker_nr; i++) {
        struct conn_worker *cw = &n->workers[i];
        conn_stop_worker(cw, true);
        while (cw->flush_queued) { /* what else waits in the worker is none of ours: no turn */
            list_del(&cw->flush.node);
            conn_flush_worker(&cw->flush);
        }
        if (!list_is_empty(&cw->old)) {
            list_del(&cw->forget.node);
            conn_forget_worker(&cw->forget);
        }
        for (uint32_t k = 0; k < cw->slab_nr; k++)
            free(cw->slabs[k]);
        free(cw->slabs);
        free(cw->in);
        free(cw->raw);
        tls_worker_free(cw->tls);
        slab_fini(&cw->slab);
        worker_set_local(cw->w, WORKER_LOCAL_CONN, NULL);
    }
    source_table_free(n->sources);
    free(n->workers);
    free(n);
}

void conn_net_drain(struct conn_net *n)
{
    for (unsigned i = 0; i < n->worker_nr; i++)
        if (!n->workers[i].draining) {
            n->workers[i].draining = true;
            worker_post(n->workers[i].w, &n->workers[i].drain_op);
        }
}

void conn_net_kill(struct conn_net *n)
{
    for (unsigned i = 0; i < n->worker_nr; i++)
        if (!n->workers[i].killing) {
            n->workers[i].killing = true;
            worker_post(n->workers[i].w, &n->workers[i].kill_op);
        }
}

void conn_net_tidy(struct conn_net *n)
{
    for (unsigned i = 0; i < n->worker_nr; i++)
        if (!atomic_exchange(&n->workers[i].tidying, true))
            worker_post(n->workers[i].w, &n->workers[i].tidy_op);
}

uint64_t conn_net_open_nr(const struct conn_net *n)
{
    return atomic_load(&n->open);
}

uint32_t conn_net_connections_max(const struct conn_net *n)
{
    return n->limits.connections_max;
}

void conn_net_get_stats(const struct conn_net *n, struct conn_stats *sum)
{
    memset(sum, 0, sizeof *sum);
    for (unsigned i = 0; i < n->worker_nr; i++) {
        const struct conn_counters *k = &n->workers[i].nr;
#define ADD(field) sum->field += atomic_load_explicit(&k->field, memory_order_relaxed)
        ADD(open);
        ADD(accepted);
        ADD(handshakes);
        ADD(handshake_failed);
        ADD(resumed);
        ADD(refused_total);
        ADD(refused_source);
        ADD(accept_backoffs);
        ADD(bytes_in);
        ADD(bytes_out);
        for (unsigned why = 0; why < CONN_CLOSE_REASONS; why++)
            ADD(closed[why]);
        for (unsigned layer = 0; layer < TLS_LAYERS; layer++) {
            ADD(tls_open[layer]);
            ADD(tls_total[layer]);
        }
#undef ADD
    }
}
