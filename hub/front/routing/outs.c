/* hub/front/routing/outs.c - the endpoints that are open: made and ended as the definitions say. */
#include "hub/front/routing/routing_impl.h"

#include "base/crc32.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define GONE ".deleted"

uint32_t out_partition(const struct stream *s, struct span device)
{
    return crc32_update(0, device) % stream_partitions(s);
}

/* ---- directories -------------------------------------------------------------------------------------- */

/* A stream's directory holds files only. */
static void dir_remove(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *f;
    if (!d)
        return;
    while ((f = readdir(d)))
        if (strcmp(f->d_name, ".") != 0 && strcmp(f->d_name, "..") != 0 && unlinkat(dirfd(d), f->d_name, 0))
            log_warn("routing.remove", "file=%s errno=%d", f->d_name, errno);
    closedir(d);
    if (rmdir(dir))
        log_warn("routing.remove", "dir=%s errno=%d", dir, errno);
}

static void dirs_clean(const struct routing *r)
{
    DIR *d = opendir(r->dir);
    struct dirent *f;
    char path[PATH_MAX + 300];
    while (d && (f = readdir(d))) {
        size_t n = strlen(f->d_name);
        if (n <= strlen(GONE) || strcmp(f->d_name + n - strlen(GONE), GONE) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", r->dir, f->d_name);
        dir_remove(path);
    }
    if (d)
        closedir(d);
}

/* ---- one endpoint ------------------------------------------------------------------------------------- */

static void out_free(struct out *o)
{
    if (!o)
        return;
    if (o->stream)
        stream_close(o->stream);
    arena_fini(&o->a);
    pthread_mutex_destroy(&o->why_lock);
    free(o);
}

static enum err out_spec(struct out *o, const struct endpoint_spec *s)
{
    struct jnode *n;
    struct route_fault f = { "" };
    struct arena a;
    struct endpoint_spec spec;
    arena_init(&a, 4 * ROUTE_SPEC_MAX + 65536);
    struct span text = arena_copy(&a, s->text), name = arena_copy(&a, s->name);
    enum err e = arena_err(&a);
    if (!e)
        e = jtree_parse(&a, text, &n, NULL);
    if (!e)
        e = endpoint_parse(&a, name, n, &spec, &f);
    if (e) {
        arena_fini(&a);
        return e;
    }
    arena_fini(&o->a);
    o->a = a;
    spec.text = text;
    spec.created_ms = s->created_ms;
    o->spec = spec;
    return ERR_OK;
}

static enum err out_open(struct routing *r, struct out *o, uint64_t retain_ms, uint64_t retain_bytes,
                         uint32_t partitions)
{
    struct stream_config c = { .dir = o->dir,
                               .partitions = partitions,
                               .segment_bytes = r->cfg.segment_bytes,
                               .retain_ms = retain_ms,
                               .retain_bytes = retain_bytes,
                               .wall_ms = r->cfg.wall_ms };
    /* What is kept is at least a few files, or the newest could not go. */
    if (retain_bytes && c.segment_bytes > retain_bytes / 8)
        c.segment_bytes = retain_bytes / 8 < 65536 ? 65536 : retain_bytes / 8;
    return stream_segment_open(&o->stream, &c);
}

static enum err out_new(struct routing *r, const struct endpoint_spec *s, struct out **out)
{
    struct out *o = calloc(1, sizeof *o);
    if (!o)
        return ERR_NOMEM;
    o->r = r;
    pthread_mutex_init(&o->why_lock, NULL);
    snprintf(o->name, sizeof o->name, "%.*s", (int)s->name.n, (const char *)s->name.p);
    enum err e = ERR_LIMIT;
    int n = snprintf(o->dir, sizeof o->dir, "%s/%s-%llu", r->dir, o->name, (unsigned long long)s->created_ms);
    if (n > 0 && (size_t)n < sizeof o->dir)
        e = out_spec(o, s);
    if (!e)
        e = out_open(r, o, s->retain_s * 1000, s->retain_bytes,
                     s->kind == ENDPOINT_STREAM ? stream_partitions(r->hub->stream) : 1);
    o->cursor.h = r->hub;
    snprintf(o->cursor.name, sizeof o->cursor.name, "endpoint/%s-%llu", o->name,
             (unsigned long long)s->created_ms);
    if (!e && s->kind != ENDPOINT_STREAM)
        e = cursor_load(&o->cursor, o->stream);
    atomic_store(&o->place, o->cursor.seq);
    if (e)
        out_free(o);
    else
        *out = o;
    return e;
}

static enum err out_dead(struct routing *r)
{
    struct out *o = r->dead ? NULL : calloc(1, sizeof *o);
    if (r->dead)
        return ERR_OK;
    if (!o)
        return ERR_NOMEM;
    o->r = r;
    pthread_mutex_init(&o->why_lock, NULL);
    o->spec.kind = ENDPOINT_STREAM;
    strcpy(o->name, ROUTE_DEAD_LETTER);
    enum err e = ERR_LIMIT;
    int n = snprintf(o->dir, sizeof o->dir, "%s/" ROUTE_DEAD_LETTER, r->dir);
    if (n > 0 && (size_t)n < sizeof o->dir)
        e = out_open(r, o, 7ull * 24 * 3600 * 1000, 1ull << 30, stream_partitions(r->hub->stream));
    if (e) {
        out_free(o);
        return e;
    }
    pthread_mutex_lock(&r->lock);
    o->next = r->outs;
    r->outs = o;
    pthread_mutex_unlock(&r->lock);
    r->dead = o;
    return ERR_OK;
}

/* ---- all of them -------------------------------------------------------------------------------------- */

static struct out *find(struct routing *r, const struct endpoint_spec *s)
{
    for (struct out *o = r->outs; o; o = o->next)
        if (!o->gone && o != r->dead && o->spec.created_ms == s->created_ms &&
            span_ieq(span_str(o->name), s->name))
            return o;
    return NULL;
}

static enum err cursor_drop(struct store_tx *tx, void *ctx)
{
    return tx_cursor_delete(tx, span_str(((struct out *)ctx)->cursor.name));
}

static void out_gone(struct routing *r, struct out *o)
{
    char dir[PATH_MAX + sizeof GONE];
    deliver_stop(o);
    o->gone = true;
    snprintf(dir, sizeof dir, "%s" GONE, o->dir);
    if (rename(o->dir, dir))
        log_warn("routing.remove", "dir=%s errno=%d", o->dir, errno);
    if (wait_write(r->hub->store, cursor_drop, o) != ERR_OK)
        log_warn("routing.remove", "endpoint=%s: its place in the stream stays stored", o->name);
    log_info("routing.endpoint", "name=%s state=deleted", o->name);
}

static enum err out_want(struct routing *r, const struct endpoint_spec *s, struct out **out)
{
    struct out *o = find(r, s);
    enum err e = ERR_OK;
    if (o && span_eq(o->spec.text, s->text) && (s->kind == ENDPOINT_STREAM || o->deliver.running)) {
        *out = o;
        return ERR_OK;
    }
    if (o) {
        deliver_stop(o);
        e = out_spec(o, s);
    } else {
        e = out_new(r, s, &o);
        if (e)
            return e;
        pthread_mutex_lock(&r->lock);
        o->next = r->outs;
        r->outs = o;
        pthread_mutex_unlock(&r->lock);
    }
    *out = o;
    if (!e && o->spec.kind != ENDPOINT_STREAM)
        e = out_dead(r);
    if (!e && o->spec.kind != ENDPOINT_STREAM)
        e = deliver_start(o);
    if (!e)
        log_info("routing.endpoint", "name=%s kind=%s state=open", o->name, endpoint_kind_name(o->spec.kind));
    return e;
}

enum err outs_load(struct routing *r)
{
    static bool cleaned;
    struct out *of[ROUTE_TARGETS_MAX] = { NULL };
    struct stat st;
    char dead[PATH_MAX + 16];
    enum err first = ERR_OK;
    if (!cleaned)
        dirs_clean(r);
    cleaned = true;
    snprintf(dead, sizeof dead, "%s/" ROUTE_DEAD_LETTER, r->dir);
    if (!r->dead && stat(dead, &st) == 0 && (first = out_dead(r)))
        log_error("routing.endpoint", "name=" ROUTE_DEAD_LETTER " err=%s", err_name(first));
    for (size_t i = 0; i < r->set->endpoints_nr; i++) {
        enum err e = out_want(r, &r->set->endpoints[i], &of[i + 1]);
        if (!e)
            continue;
        first = first ? first : e;
        log_error("routing.endpoint",
                  "name=%.*s err=%s hint=\"messages for it are not taken; it is tried again\"",
                  (int)r->set->endpoints[i].name.n, (const char *)r->set->endpoints[i].name.p, err_name(e));
    }
    for (struct out *o = r->outs; o; o = o->next) {
        bool wanted = o == r->dead || o->gone;
        for (size_t i = 0; i < ROUTE_TARGETS_MAX && !wanted; i++)
            wanted = of[i] == o;
        if (!wanted)
            out_gone(r, o);
    }
    pthread_mutex_lock(&r->lock);
    memcpy(r->out_of, of, sizeof of);
    pthread_mutex_unlock(&r->lock);
    return first;
}

void outs_close_gone(struct routing *r)
{
    for (struct out **at = &r->outs; *at;) {
        struct out *o = *at;
        char dir[PATH_MAX + sizeof GONE];
        pthread_mutex_lock(&r->lock);
        bool close = o->gone && !atomic_load(&o->refs);
        if (close)
            *at = o->next;
        pthread_mutex_unlock(&r->lock);
        if (!close) {
            at = &o->next;
            continue;
        }
        snprintf(dir, sizeof dir, "%s" GONE, o->dir);
        out_free(o);
        dir_remove(dir);
    }
}

void outs_stop(struct routing *r)
{
    for (struct out *o = r->outs; o; o = o->next)
        deliver_stop(o);
}

void outs_free(struct routing *r)
{
    for (struct out *o = r->outs, *next; o; o = next) {
        next = o->next;
        out_free(o);
    }
    r->outs = NULL;
}

/* ---- readers and numbers ------------------------------------------------------------------------------ */

enum err routing_stream_get(struct routing *r, struct span name, struct out **out)
{
    enum err e = ERR_NOTFOUND;
    pthread_mutex_lock(&r->lock);
    for (struct out *o = r->outs; o && e; o = o->next)
        if (!o->gone && o->spec.kind == ENDPOINT_STREAM && span_ieq(span_str(o->name), name)) {
            atomic_fetch_add(&o->refs, 1);
            *out = o;
            e = ERR_OK;
        }
    pthread_mutex_unlock(&r->lock);
    return e;
}

struct stream *routing_stream_of(struct out *o)
{
    return o->stream;
}

void routing_stream_put(struct out *o)
{
    atomic_fetch_sub(&o->refs, 1); /* the router closes it when it is gone */
}

bool routing_stats(struct routing *r, size_t i, struct routing_stats *out)
{
    bool found = false;
    pthread_mutex_lock(&r->lock);
    for (struct out *o = r->outs; o && !found; o = o->next) {
        if (o->gone || i--)
            continue;
        struct stream_info info = { 0 };
        found = true;
        *out = (struct routing_stats){ .delivers = o->spec.kind != ENDPOINT_STREAM,
                                       .delivered = o->delivered,
                                       .failed = o->failed,
                                       .dead = o->dead,
                                       .lost = o->lost };
        strcpy(out->name, o->name);
        if (out->delivers) {
            uint64_t place = o->place;
            stream_get_info(o->stream, 0, &info);
            out->behind = info.next_seq > place ? info.next_seq - place : 0;
        }
        pthread_mutex_lock(&o->why_lock);
        memcpy(out->why, o->why, sizeof out->why);
        pthread_mutex_unlock(&o->why_lock);
    }
    pthread_mutex_unlock(&r->lock);
    return found;
}
