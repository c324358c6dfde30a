/* bench/query.c - queries over a large fleet, without a connection in front: what writes wait for while the
 * indexes are made and dropped, a page by an index, a walk through all twins, and what single reads take
 * while such walks run. Prints a table and, as its last line,
 * JSON. */
#include "hub/domain/query/query.h"
#include "hub/domain/metrics.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[256];
static struct mailbox home;
static struct hub hub;
static struct hub_metrics metrics;
static struct query_sources sources;
static char json[4096];
static size_t json_len;
static unsigned fleet = 1000000;

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void say(const char *name, const char *what, double value, const char *unit)
{
    printf("%-68s %12.2f %s\n", what, value, unit);
    fflush(stdout);
    json_len += (size_t)snprintf(json + json_len, sizeof json - json_len, "%s\"%s\":%.3f",
                                 json_len ? "," : "", name, value);
}

static void must(enum err e, const char *what)
{
    if (!e)
        return;
    fprintf(stderr, "%s: %s\n", what, err_name(e));
    exit(1);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* Runs done() of what came home. */
static void pump(void)
{
    mailbox_wait(&home, -1);
    for (struct op *op = mailbox_take(&home), *next; op; op = next) {
        next = op->next;
        op->done(op);
    }
}

static void flag(struct op *op)
{
    op->home = NULL;
}

/* ---- the fleet ----------------------------------------------------------------------------------------- */

struct fill {
    struct store_op op;
    unsigned from, to;
};

static enum err fill(struct store_tx *tx, struct store_op *self)
{
    const struct fill *f = (struct fill *)self;
    enum err e = ERR_OK;
    for (unsigned i = f->from; !e && i < f->to; i++) {
        char id[24], tags[96], reported[160];
        struct twin_row t;
        snprintf(id, sizeof id, "device-%08u", i);
        snprintf(tags, sizeof tags, "{\"site\":\"site-%05u\",\"floor\":%u,\"group\":\"%s\"}", i % 20000,
                 i % 7, i % 10 ? "field" : "pilot");
        snprintf(reported, sizeof reported,
                 "{\"firmware\":{\"version\":\"1.%u.%u\"},\"battery\":%u,\"temp\":%u.5,\"uptime\":%u}", i % 3,
                 i % 11, i % 101, i % 40, i);
        struct device_row d = { .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") };
        e = tx_device_put(tx, &d, UINT64_MAX, NULL);
        if (!e)
            e = tx_twin_get(tx, d.id, &t);
        t.tags = span_str(tags);
        t.reported = span_str(reported);
        if (!e)
            e = tx_twin_put(tx, &t);
    }
    return e;
}

static void make_fleet(void)
{
    double from = now_s();
    for (unsigned at = 0; at < fleet; at += 1000) {
        struct fill f = { .op = { .op = { .home = &home, .done = flag }, .run = fill },
                          .from = at,
                          .to = at + 1000 < fleet ? at + 1000 : fleet };
        store_write(hub.store, &f.op);
        while (f.op.op.home)
            pump();
        must(f.op.op.err, "fill");
    }
    say("fill_per_s", "twins made, 1000 an operation, a second", fleet / (now_s() - from), "");
}

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* ---- indexes beside writes ----------------------------------------------------------------------------- */

struct change { /* a reported property of one twin */
    struct store_op op;
    unsigned n, value;
};

static enum err change(struct store_tx *tx, struct store_op *self)
{
    const struct change *c = (struct change *)self;
    char id[24], reported[160];
    struct twin_row t;
    snprintf(id, sizeof id, "device-%08u", c->n);
    snprintf(reported, sizeof reported, "{\"firmware\":{\"version\":\"2.0.%u\"},\"battery\":%u,\"temp\":1.5}",
             c->value % 5, c->value % 101);
    enum err e = tx_twin_get(tx, span_str(id), &t);
    t.reported = span_str(reported);
    return e ? e : tx_twin_put(tx, &t);
}

/* Writes one after the other, until `over` and at least `least` of them. */
static void bench_changes(const char *name, const char *what, bool (*over)(void), unsigned least)
{
    enum { MOST = 2000000 };
    double *took = calloc(MOST, sizeof *took), start = now_s();
    char label[96], title[128];
    size_t nr = 0;
    if (!took)
        must(ERR_NOMEM, "changes");
    while (nr < MOST && (nr < least || !over())) {
        struct change c = { .op = { .op = { .home = &home, .done = flag }, .run = change },
                            .n = (unsigned)(nr * 7919u % fleet),
                            .value = (unsigned)nr };
        double from = now_s();
        store_write(hub.store, &c.op);
        while (c.op.op.home)
            pump();
        must(c.op.op.err, "change");
        took[nr++] = (now_s() - from) * 1e3;
    }
    snprintf(label, sizeof label, "%s_s", name);
    say(label, what, now_s() - start, "s");
    qsort(took, nr, sizeof *took, by_value);
    snprintf(label, sizeof label, "%s_write_p50_ms", name);
    snprintf(title, sizeof title, "   a write meanwhile, %zu of them: p50", nr);
    say(label, title, took[nr / 2], "ms");
    snprintf(label, sizeof label, "%s_write_p99_ms", name);
    say(label, "   p99", took[nr * 99 / 100], "ms");
    snprintf(label, sizeof label, "%s_write_max_ms", name);
    say(label, "   slowest", took[nr - 1], "ms");
    free(took);
}

static struct query_index_build build;
static bool at_once(void)
{
    return true;
}
static bool is_built(void)
{
    return build.over;
}

static void index_paths(const char *list)
{
    struct span bad;
    double from = now_s();
    must(query_indexes_parse(&sources, span_str(list), &bad), "paths");
    must(query_indexes_apply(hub.store, &sources), "indexes");
    say(*list ? "apply_s" : "drop_apply_s", "the list of indexes taken over, at a start", now_s() - from,
        "s");
    query_indexes_build(&build, &hub, &sources, &home);
}

#define INDEXES "tags.site,tags.floor,properties.reported.firmware.version"

static void bench_indexes(void)
{
    bench_changes("none", "twins changed one after the other, without an index", at_once, 2000);
    index_paths(INDEXES);
    bench_changes("index", "three indexes made over all of them", is_built, 1);
    bench_changes("three", "twins changed one after the other, with three indexes", at_once, 2000);
    index_paths("");
    bench_changes("drop", "the three dropped", is_built, 1);
    index_paths(INDEXES);
    double from = now_s();
    while (!is_built())
        pump();
    say("index_alone_s", "and made again, nothing else running", now_s() - from, "s");
}

/* ---- queries ------------------------------------------------------------------------------------------- */

struct running {
    struct store_op op; /* first */
    struct query_run run;
    struct arena a;
    bool again, over;
    unsigned slices;
};

static enum err step(struct store_tx *tx, struct store_op *self)
{
    struct running *r = (struct running *)self;
    enum err e = query_step(&r->run, tx);
    r->again = e == ERR_AGAIN;
    r->slices++;
    return r->again ? ERR_OK : e;
}

static void stepped(struct op *op)
{
    struct running *r = (struct running *)op;
    if (!op->err && r->again)
        store_scan(hub.store, &r->op);
    else
        r->over = true;
}

static void begin(struct running *r, const char *text)
{
    struct query_error err;
    *r = (struct running){ .op = { .op = { .home = &home, .done = stepped }, .run = step } };
    arena_init(&r->a, 16u << 20);
    must(query_open(&r->run, &hub, &r->a, span_str(text), SPAN_NONE, 0, &err), text);
    store_scan(hub.store, &r->op);
}

static void end(struct running *r)
{
    while (!r->over)
        pump();
    must(r->op.op.err, "query");
    arena_fini(&r->a);
}

/* Pages of `form`, with a number for its %u, one after another. */
static void bench_pages(const char *name, const char *what, const char *form, unsigned modulo, unsigned nr)
{
    double *took = calloc(nr, sizeof *took);
    char label[96], title[128];
    uint64_t rows = 0;
    if (!took)
        must(ERR_NOMEM, "pages");
    for (unsigned i = 0; i < nr; i++) {
        struct running r;
        char text[256];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, form, i * 7919u % modulo);
#pragma GCC diagnostic pop
        double from = now_s();
        begin(&r, text);
        end(&r);
        took[i] = (now_s() - from) * 1e3;
        rows += r.run.rows;
    }
    qsort(took, nr, sizeof *took, by_value);
    snprintf(label, sizeof label, "%s_p50_ms", name);
    snprintf(title, sizeof title, "%s, %.1f rows: p50", what, (double)rows / nr);
    say(label, title, took[nr / 2], "ms");
    snprintf(label, sizeof label, "%s_p99_ms", name);
    say(label, "   p99", took[nr * 99 / 100], "ms");
    free(took);
}

/* ---- single reads beside a walk ------------------------------------------------------------------------ */

struct point {
    struct store_op op; /* first */
    unsigned n;
};

static enum err point_run(struct store_tx *tx, struct store_op *self)
{
    char id[24];
    struct twin_row t;
    snprintf(id, sizeof id, "device-%08u", ((struct point *)self)->n);
    return tx_twin_get(tx, span_str(id), &t);
}

/* Reads until `walks` queries are over (at least 2000); sorted times in ms. */
static void bench_points(const char *name, const char *what, unsigned walks)
{
    enum { MOST = 2000000 };
    struct running r[4];
    double *took = calloc(MOST, sizeof *took), slowest = 0;
    size_t nr = 0;
    char label[96], title[128];
    if (!took)
        must(ERR_NOMEM, "points");
    for (unsigned i = 0; i < walks; i++)
        begin(&r[i], "SELECT COUNT() AS n, AVG(properties.reported.battery) AS b FROM devices WHERE "
                     "properties.reported.temp > 20");
    double start = now_s();
    bool busy = true;
    while (nr < MOST && (busy || nr < 2000)) {
        struct point p = { .op = { .op = { .home = &home, .done = flag }, .run = point_run },
                           .n = (unsigned)(nr * 7919u % fleet) };
        double from = now_s();
        store_read(hub.store, &p.op);
        while (p.op.op.home)
            pump();
        must(p.op.op.err, "read");
        took[nr++] = (now_s() - from) * 1e3;
        busy = false;
        for (unsigned i = 0; i < walks; i++)
            busy |= !r[i].over;
        if (busy)
            slowest = now_s() - start;
    }
    for (unsigned i = 0; i < walks; i++)
        end(&r[i]);
    qsort(took, nr, sizeof *took, by_value);
    snprintf(label, sizeof label, "%s_p50_ms", name);
    snprintf(title, sizeof title, "%s, %zu reads: p50", what, nr);
    say(label, title, took[nr / 2], "ms");
    snprintf(label, sizeof label, "%s_p99_ms", name);
    say(label, "   p99", took[nr * 99 / 100], "ms");
    snprintf(label, sizeof label, "%s_max_ms", name);
    say(label, "   slowest", took[nr - 1], "ms");
    if (walks) {
        snprintf(label, sizeof label, "%s_walk_s", name);
        say(label, "   the walks took meanwhile", slowest, "s");
    }
    free(took);
}

static void bench_walk(const char *name, const char *text)
{
    struct running r;
    char title[160];
    double from = now_s();
    begin(&r, text);
    while (!r.over)
        pump();
    double took = now_s() - from;
    snprintf(title, sizeof title, "%.60s (%u slices)", text, r.slices);
    end(&r);
    say(name, title, took, "s");
}

int main(int argc, char **argv)
{
    char top[200];
    if (argc > 1)
        fleet = (unsigned)strtoul(argv[1], NULL, 10);
    snprintf(top, sizeof top, "%s/roost-query-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (!fleet || argc > 3 || !mkdtemp(top)) {
        fprintf(stderr, "query [TWINS [DIRECTORY]]\n");
        return 1;
    }
    snprintf(dir, sizeof dir, "%s/data", top);
    must(mailbox_init(&home), "mailbox");
    must(store_sqlite_open(&hub.store, dir, 2), "store");
    hub.crypto = &port_crypto;
    hub.wall_ms = clock_wall_ms;
    hub.metrics = &metrics;
    hub.queries = &sources;
    make_fleet();
    bench_indexes();
    bench_pages("site", "tags.site = ..., indexed",
                "SELECT deviceId, tags FROM devices WHERE tags.site = 'site-%05u'", 20000, 1000);
    bench_pages("site_star", "the same, SELECT *", "SELECT * FROM devices WHERE tags.site = 'site-%05u'",
                20000, 500);
    bench_pages("floor", "tags.floor = ..., indexed, a full page",
                "SELECT deviceId FROM devices WHERE tags.floor = %u", 7, 100);
    bench_pages("device", "deviceId = ...", "SELECT * FROM devices WHERE deviceId = 'device-%08u'", fleet,
                1000);
    bench_walk("count_s", "SELECT COUNT() AS n FROM devices");
    bench_walk(
        "scan_s",
        "SELECT COUNT() AS n FROM devices WHERE tags.group = 'pilot' AND properties.reported.battery > 50");
    bench_walk("group_s", "SELECT tags.group, COUNT() AS n, AVG(properties.reported.battery) AS b FROM "
                          "devices GROUP BY tags.group");
    bench_walk("status_s", "SELECT COUNT() AS n FROM devices WHERE status = 'enabled'");
    bench_walk("connected_s", "SELECT COUNT() AS n FROM devices WHERE connectionState = 'Disconnected'");
    bench_points("point", "a single twin, nothing else running", 0);
    bench_points("point_1", "a single twin beside one walk", 1);
    bench_points("point_4", "a single twin beside four walks", 4);
    store_close(hub.store);
    mailbox_fini(&home);
    nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    printf("{\"twins\":%u,%s}\n", fleet, json);
    return 0;
}
