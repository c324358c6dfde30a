/* hub/domain/job/registry_import.c - lines of a file, applied in their order, and after them those of the
 * file of configurations, if there is one. A batch of lines is one op: what they write, what was refused and
 * the place behind the last of them are one transaction. Places count on from the first file into the second.
 */
#include "hub/domain/job/registry_run.h"

#include "base/log.h"
#include "hub/domain/event/event.h"
#include "hub/domain/job/registry_config.h"
#include "hub/domain/job/registry_line.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES  (256u << 10)
#define BATCH_LINES 256u
#define BATCH_BYTES (256u << 10) /* of text: a batch ends behind the line that goes over it */
#define BATCH_MS    12u          /* a longer transaction would keep others waiting */
#define EVENTS_MS   200          /* how often it is looked whether events have room */
#define ARENA_MAX   (64u << 20)
#define APPLY_MAX   (8u << 20) /* memory for one line */

/* ---- lines ----------------------------------------------------------------------------------------------
 */

struct reader {
    int fd;
    uint64_t at, length; /* of the file: the first byte of buf; all of it */
    uint8_t *buf;        /* REGISTRY_LINE_MAX + READ_BYTES */
    size_t n, taken;     /* bytes in buf; of them lines that were handed out */
    bool end;
};

static enum err more(struct reader *r)
{
    memmove(r->buf, r->buf + r->taken, r->n - r->taken);
    r->at += r->taken;
    r->n -= r->taken;
    r->taken = 0;
    ssize_t got;
    do {
        got = pread(r->fd, r->buf + r->n, READ_BYTES, (off_t)(r->at + r->n));
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        log_error("registry.read", "errno=%d", errno);
        return ERR_IO;
    }
    r->n += (size_t)got;
    r->end = got == 0;
    return ERR_OK;
}

/* The next line without its end, good until the next call; *after: the place behind it. *cut: it is longer
 * than a line may be, and this is its beginning. ERR_NOTFOUND: there is none left. */
static enum err next_line(struct reader *r, struct span *line, uint64_t *after, bool *cut)
{
    enum err e = ERR_OK;
    *cut = false;
    for (size_t seen = 0;;) {
        const uint8_t *from = r->buf + r->taken;
        const uint8_t *nl = r->n - r->taken > seen ? memchr(from + seen, '\n', r->n - r->taken - seen) : NULL;
        if (nl || (r->end && (r->n > r->taken || *cut))) {
            size_t n = nl ? (size_t)(nl - from) : r->n - r->taken;
            *line = span_of(from, n);
            r->taken += n + (nl != NULL);
            *after = r->at + r->taken;
            if (*cut) /* what is left of it tells nothing */
                *line = SPAN_NONE;
            if (line->n && line->p[line->n - 1] == '\r')
                line->n--;
            *cut = *cut || line->n > REGISTRY_LINE_MAX;
            return ERR_OK;
        }
        if (r->end)
            return ERR_NOTFOUND;
        seen = r->n - r->taken;
        if (seen > REGISTRY_LINE_MAX) { /* its rest is passed over */
            *cut = true;
            r->taken = r->n;
            seen = 0;
        }
        if ((e = more(r)))
            return e;
    }
}

/* ---- batches --------------------------------------------------------------------------------------------
 */

struct item {
    union {
        struct registry_line line;
        struct registry_config config;
    };
    struct registry_fault fault;
    bool bad; /* refused before it was applied */
    uint64_t after;
    struct identity_names *names; /* in the arena of the batch */
};
struct batch {
    struct store_op op; /* first */
    struct registry_run *k;
    struct arena a;
    bool configs;  /* lines of configurations */
    uint64_t base; /* the place where this file begins */
    struct item items[BATCH_LINES];
    size_t nr, done; /* lines; applied */
    uint64_t from;   /* of the file: the place before the first that is not done, as the job's row has it */
    uint64_t after;  /* behind the last, and what was passed over */
    size_t applied;  /* by the op at hand */
};

static bool is_object(struct span *line)
{
    while (line->n && (line->p[0] == ' ' || line->p[0] == '\t'))
        *line = span_skip(*line, 1);
    return line->n && line->p[0] == '{';
}

static enum err add(struct batch *b, struct span line, bool cut, const struct registry_mode *mode)
{
    struct item *it = &b->items[b->nr];
    *it = (struct item){ .after = b->after };
    it->names = arena_alloc(&b->a, sizeof *it->names);
    if (!it->names)
        return ERR_NOMEM;
    it->names->nr = 0;
    if (cut) {
        it->bad = true;
        it->fault.code = 400006;
        snprintf(it->fault.text, sizeof it->fault.text, "the line is longer than %u bytes",
                 REGISTRY_LINE_MAX);
    } else {
        line = arena_copy(&b->a, line);
        enum err e = b->configs ? registry_config_read(&b->a, line, &it->config, &it->fault)
                                : registry_line_read(&b->a, line, mode, &it->line, &it->fault);
        if (e && e != ERR_PROTO)
            return e;
        it->bad = e == ERR_PROTO;
    }
    b->nr++;
    return arena_err(&b->a);
}

/* Reads lines until the batch is full or the file is over: *last. */
static enum err fill(struct batch *b, struct reader *r, const struct registry_mode *mode, bool *last)
{
    struct span line;
    uint64_t bytes = b->after;
    enum err e = ERR_OK;
    arena_fini(&b->a);
    arena_init(&b->a, ARENA_MAX);
    b->nr = b->done = 0;
    *last = false;
    while (!e && b->nr < BATCH_LINES && b->after - bytes < BATCH_BYTES) {
        bool cut;
        uint64_t before = b->after;
        e = next_line(r, &line, &b->after, &cut);
        if (e == ERR_NOTFOUND) {
            *last = true;
            return ERR_OK;
        }
        if (!e && before == 0 && span_starts(line, SPAN("\xef\xbb\xbf")))
            line = span_skip(line, 3);
        if (!e && (cut || is_object(&line)))
            e = add(b, line, cut, mode);
    }
    return e;
}

/* ---- applying -------------------------------------------------------------------------------------------
 */

struct applying {
    struct batch *b;
    struct item *it;
    struct arena a;
};

static enum err apply_one(struct store_tx *tx, void *ctx)
{
    struct applying *p = ctx;
    if (p->b->configs)
        return registry_config_apply(p->b->k->r->h, tx, &p->a, &p->it->config, p->b->k->row.created_by,
                                     &p->it->fault);
    return registry_line_apply(p->b->k->r->h, tx, &p->a, &p->it->line, p->it->names, &p->it->fault);
}

static enum err keep_names(struct batch *b, struct identity_names *names)
{
    for (size_t i = 0; i < names->nr; i++)
        names->names[i] = arena_copy(&b->a, names->names[i]);
    return arena_err(&b->a);
}

static void fault_write(struct wr *w, const struct batch *b, const struct item *it,
                        const struct registry_fault *f, bool named)
{
    if (b->configs)
        registry_config_fault_write(w, named ? it->config.n.id : SPAN(""), f);
    else
        registry_fault_write(w, named ? it->line.device : SPAN(""), named ? it->line.module : SPAN_NONE, f);
}

static enum err refuse(struct batch *b, struct store_tx *tx, struct fleet_job_row *row, const struct item *it)
{
    uint8_t text[8192];
    struct wr w = { text, sizeof text, 0 };
    uint64_t nr = row->failed++;
    struct registry_fault fault = it->fault;
    if (nr > REGISTRY_ERRORS_MAX)
        return ERR_OK;
    if (nr == REGISTRY_ERRORS_MAX) /* the last one is told, and that it is the last */
        snprintf(fault.text, sizeof fault.text,
                 "more than %u lines were refused: from here on they are only counted", REGISTRY_ERRORS_MAX);
    fault_write(&w, b, it, &fault, true);
    if (!wr_ok(&w)) { /* an id without an end */
        w.len = 0;
        fault_write(&w, b, it, &fault, false);
    }
    return tx_job_error_add(tx, b->k->row.seq, nr, wr_span(&w));
}

static enum err one(struct batch *b, struct store_tx *tx, struct fleet_job_row *row, struct item *it)
{
    struct applying p = { .b = b, .it = it };
    enum err e = ERR_PROTO;
    if (!it->bad) {
        arena_init(&p.a, APPLY_MAX);
        e = tx_try(tx, apply_one, &p);
        if (!e)
            e = keep_names(b, it->names);
        arena_fini(&p.a);
    }
    switch (e) {
    case ERR_OK:
        row->succeeded++;
        return ERR_OK;
    case ERR_PROTO:
    case ERR_NOTFOUND:
    case ERR_EXISTS:
    case ERR_STALE:
    case ERR_LIMIT:
        it->names->nr = 0;
        return refuse(b, tx, row, it);
    default:
        return e;
    }
}

static enum err run_batch(struct store_tx *tx, struct store_op *self)
{
    struct batch *b = (struct batch *)(void *)self;
    struct fleet_job_row row;
    const struct hub *h = b->k->r->h;
    const uint64_t began_ms = h->wall_ms();
    b->applied = 0;
    enum err e = registry_job_now(b->k, tx, &row);
    if (!e && row.cursor != b->base + b->from) /* nobody else moves it */
        e = ERR_IO;
    if (e)
        return e;
    row.reason = SPAN(""); /* what was read is gone after tx_try */
    for (size_t i = b->done; !e && i < b->nr; i++) {
        e = one(b, tx, &row, &b->items[i]);
        b->applied++;
        if (h->wall_ms() - began_ms >= BATCH_MS)
            break;
    }
    if (e)
        return e;
    size_t done = b->done + b->applied;
    row.cursor = b->base + (done == b->nr ? b->after : b->items[done - 1].after);
    row.total = row.succeeded + row.failed;
    return tx_fleet_job_put(tx, &row);
}

static void announce(struct batch *b)
{
    for (size_t i = b->done; i < b->done + b->applied; i++)
        identity_announce_all(b->k->r->h, b->items[i].names);
    if (b->configs)
        config_poke(b->k->r->h);
}

struct waiting {
    struct store_op op; /* first */
    struct registry_run *k;
};

static enum err run_waiting(struct store_tx *tx, struct store_op *self)
{
    struct fleet_job_row row;
    return registry_job_now(((struct waiting *)(void *)self)->k, tx, &row);
}

/* Events of what it writes have no room: it goes on when they have, unless it is cancelled before. */
static enum err wait_for_events(struct registry_run *k)
{
    struct waiting w = { .op.run = run_waiting, .k = k };
    enum err e = ERR_OK;
    while (!e && !registry_stopped(k->r) &&
           event_should_wait(k->r->h, EVENT_OF_TWINS | 1u << MESSAGE_SOURCE_LIFECYCLE)) {
        registry_pause(k->r, EVENTS_MS); /* ended early by the bell, which a cancellation rings */
        e = registry_read(k->r, &w.op);
    }
    return !e && registry_stopped(k->r) ? ERR_STOPPED : e;
}

static enum err send(struct batch *b)
{
    enum err e = ERR_OK;
    do {
        e = wait_for_events(b->k);
        if (e)
            return e;
        const uint64_t refused = event_refused_nr(b->k->r->h);
        e = registry_write(b->k->r, &b->op);
        if (e == ERR_FULL && event_refused_nr(b->k->r->h) != refused) /* nothing of this was done */
            continue;
        if (e)
            return e;
        announce(b);
        b->done += b->applied;
        b->from = b->done == b->nr ? b->after : b->items[b->done - 1].after;
    } while (b->done < b->nr);
    return e;
}

static enum err apply_all(struct registry_run *k, struct reader *r, struct batch *b)
{
    const struct registry_mode *mode = registry_mode_find(k->body.mode);
    enum err e = ERR_OK;
    bool last = false;
    b->from = b->after = r->at;
    while (!e && !last) {
        e = fill(b, r, mode, &last);
        if (!e)
            e = send(b);
    }
    return e;
}

/* One file, from the place on that the job's row has; nothing when that is behind it. */
static enum err import_file(struct registry_run *k, struct batch *b, uint8_t *buf,
                            const uint8_t id[FILE_ID_LEN], uint64_t from)
{
    struct reader r = { .fd = -1, .at = from, .buf = buf };
    enum err e = files_open_fd(k->r->h->files, id, &r.fd, &r.length);
    if (e == ERR_NOTFOUND) {
        registry_fail(k, "the file was deleted or written anew before all of it was imported");
        return ERR_OK;
    }
    if (!e)
        e = apply_all(k, &r, b);
    if (r.fd >= 0)
        close(r.fd);
    return e;
}

enum err registry_import(struct registry_run *k)
{
    struct batch *b = calloc(1, sizeof *b);
    uint8_t *buf = malloc(REGISTRY_LINE_MAX + 2 * READ_BYTES);
    const uint64_t length = k->body.length;
    enum err e = b && buf ? ERR_OK : ERR_NOMEM;
    if (!e) {
        b->k = k;
        b->op.run = run_batch;
    }
    if (!e && k->row.cursor < length)
        e = import_file(k, b, buf, k->body.file, k->row.cursor);
    if (!e && !k->reason[0] && k->body.configurations.n) {
        b->configs = true;
        b->base = length;
        e = import_file(k, b, buf, k->body.configurations_file,
                        k->row.cursor > length ? k->row.cursor - length : 0);
    }
    if (b)
        arena_fini(&b->a);
    free(b);
    free(buf);
    return e;
}
