/* port/posix/resolve.c - see resolve.h. getaddrinfo has no way to be interrupted, so it gets a thread of its
 * own that nobody waits for: the last reference frees the lookup, whoever holds it. */
#include "port/posix/resolve.h"

#include "port/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FOUND_MS  30000u /* how long an answer is remembered */
#define FAILED_MS 2000u

void resolver_init(struct resolver *r)
{
    list_init(&r->cache);
    r->fixed = false;
}

void resolver_fini(struct resolver *r)
{
    for (struct list *n = r->cache.next, *next; n != &r->cache; n = next) {
        next = n->next;
        lookup_unref(CONTAINER_OF(n, struct lookup, node));
    }
    list_init(&r->cache);
}

void lookup_unref(struct lookup *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    int left = --l->refs;
    pthread_mutex_unlock(&l->lock);
    if (left)
        return;
    if (l->event_fd >= 0)
        close(l->event_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

bool lookup_is_done(struct lookup *l)
{
    pthread_mutex_lock(&l->lock);
    bool done = l->done;
    pthread_mutex_unlock(&l->lock);
    return done;
}

static void finish(struct lookup *l, const union resolve_addr *addr, unsigned nr)
{
    pthread_mutex_lock(&l->lock);
    memcpy(l->addr, addr, nr * sizeof *addr);
    l->addr_nr = nr;
    l->until_ms = clock_mono_ms() + (nr ? FOUND_MS : FAILED_MS);
    l->done = true;
    pthread_mutex_unlock(&l->lock);
    if (l->event_fd >= 0)
        (void)!write(l->event_fd, &(uint64_t){ 1 }, 8);
}

static void *run(void *arg)
{
    struct lookup *l = (struct lookup *)arg;
    union resolve_addr addr[RESOLVE_ADDR_MAX];
    unsigned nr = 0;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    if (getaddrinfo(l->host, NULL, &hints, &found) == 0)
        for (struct addrinfo *a = found; a && nr < RESOLVE_ADDR_MAX; a = a->ai_next)
            if ((a->ai_family == AF_INET || a->ai_family == AF_INET6) && a->ai_addrlen <= sizeof *addr)
                memcpy(&addr[nr++], a->ai_addr, a->ai_addrlen);
    if (found)
        freeaddrinfo(found);
    finish(l, addr, nr);
    lookup_unref(l);
    return NULL;
}

static bool literal(const char *host, union resolve_addr *out)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->in.sin_addr) == 1)
        out->in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1)
        out->in6.sin6_family = AF_INET6;
    else
        return false;
    return true;
}

/* localhost and every name below it are this machine, whatever a name server says (RFC 6761 section 6.3). */
static bool loopback_name(struct span host, union resolve_addr out[2])
{
    static const struct span name = { (const uint8_t *)"localhost", 9 };
    if (host.n < name.n || !span_ieq(span_skip(host, host.n - name.n), name) ||
        (host.n > name.n && host.p[host.n - name.n - 1] != '.'))
        return false;
    return literal("127.0.0.1", &out[0]) && literal("::1", &out[1]);
}

enum err resolver_set_address(struct resolver *r, const char *address)
{
    if (!literal(address, &r->at))
        return ERR_PROTO;
    r->fixed = true;
    return ERR_OK;
}

static struct lookup *remembered(struct resolver *r, struct span host)
{
    uint64_t now = clock_mono_ms();
    for (struct list *n = r->cache.next, *next; n != &r->cache; n = next) {
        struct lookup *l = CONTAINER_OF(n, struct lookup, node);
        next = n->next;
        if (lookup_is_done(l) && now >= l->until_ms) {
            list_del(n);
            lookup_unref(l);
        } else if (span_eq(span_str(l->host), host)) {
            return l;
        }
    }
    return NULL;
}

enum err resolve(struct resolver *r, struct span host, struct lookup **out)
{
    struct lookup *l = remembered(r, host);
    if (l) {
        pthread_mutex_lock(&l->lock);
        l->refs++;
        pthread_mutex_unlock(&l->lock);
        *out = l;
        return ERR_OK;
    }
    if (!(l = calloc(1, sizeof *l + host.n + 1)))
        return ERR_NOMEM;
    memcpy(l->host, host.p, host.n);
    list_init(&l->node);
    pthread_mutex_init(&l->lock, NULL);
    l->refs = 1;
    l->event_fd = -1;
    union resolve_addr addr[2];
    unsigned known = literal(l->host, addr) ? 1 : loopback_name(host, addr) ? 2 : 0;
    if (r->fixed) {
        addr[0] = r->at;
        known = 1;
    }
    if (known) { /* nothing to remember */
        finish(l, addr, known);
        *out = l;
        return ERR_OK;
    }
    if ((l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        goto fail;
    pthread_t thread;
    l->refs = 3; /* the asker, the cache, the thread */
    list_push(&r->cache, &l->node);
    if (pthread_create(&thread, NULL, run, l) != 0) {
        list_del(&l->node);
        goto fail;
    }
    pthread_detach(thread);
    *out = l;
    return ERR_OK;
fail:
    if (l->event_fd >= 0)
        close(l->event_fd);
    pthread_mutex_destroy(&l->lock);
    free(l);
    return ERR_IO;
}
