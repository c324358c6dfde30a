/* bench/backends.c - what the embedded backends do by themselves, without a connection in front: appends and
 * pushes that share flushes, reads beside them, and the time until a large hub's data is open again. Prints a
 * table and, as its last line, JSON. */
#include "hub/store/store.h"
#include "hub/stream/stream.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[256];
static struct mailbox home;
static char json[4096];
static size_t json_len;

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void say(const char *name, const char *what, double value, const char *unit)
{
    printf("%-52s %12.0f %s\n", what, value, unit);
    json_len += (size_t)snprintf(json + json_len, sizeof json - json_len, "%s\"%s\":%.1f",
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

static struct op *take(void)
{
    struct op *op;
    while (!(op = mailbox_take(&home)))
        mailbox_wait(&home, -1);
    return op;
}

/* ---- stream ---------------------------------------------------------------------------------------- */

static void bench_stream(double seconds, unsigned flying)
{
    struct stream_append *a = calloc(flying, sizeof *a);
    struct stream_config cfg = { .dir = dir, .partitions = 4, .segment_bytes = 64u << 20 };
    struct stream *s;
    struct stream_stats st;
    static uint8_t body[256];
    char name[32], what[80];
    size_t nr = 0;
    must(stream_segment_open(&s, &cfg), "stream");
    double from = now_s();
    for (unsigned i = 0; i < flying; i++) {
        a[i] = (struct stream_append){ .op.home = &home,
                                       .partition = i % 4,
                                       .record = span_of(body, sizeof body) };
        stream_append(s, &a[i]);
    }
    for (size_t out = flying; out;)
        for (struct op *op = take(), *next; op; op = next) {
            next = op->next;
            must(op->err, "append");
            nr++;
            if (now_s() - from < seconds)
                stream_append(s, (struct stream_append *)op);
            else
                out--;
        }
    double took = now_s() - from;
    stream_get_stats(s, &st);
    snprintf(name, sizeof name, "appends_%u", flying);
    snprintf(what, sizeof what, "stream: durable appends of 256 B, %u waiting", flying);
    say(name, what, (double)nr / took, "/s");
    snprintf(name, sizeof name, "flush_us_%u", flying);
    say(name, "   a flush takes", (double)st.sync_us_total / (double)st.syncs, "us");
    stream_close(s);
    from = now_s();
    must(stream_segment_open(&s, &cfg), "stream");
    snprintf(name, sizeof name, "stream_open_ms_%u", flying);
    snprintf(what, sizeof what, "   open again with %.0f MB", (double)nr * 256 / 1e6);
    say(name, what, (now_s() - from) * 1e3, "ms");
    stream_close(s);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(a);
}

/* ---- store ----------------------------------------------------------------------------------------- */

struct work {
    struct store_op op;
    uint32_t number;
    uint64_t seq;
};

static struct span id_of(uint32_t n, char out[24])
{
    return span_of(out, (size_t)snprintf(out, 24, "device-%08u", n));
}

static enum err make_devices(struct store_tx *t, struct store_op *op) /* 1000 a time */
{
    struct work *w = (struct work *)op;
    static const uint8_t key[32] = { 1 };
    char id[24];
    enum err e = ERR_OK;
    for (uint32_t i = 0; !e && i < 1000; i++) {
        struct device_row r = { .id = id_of(w->number * 1000 + i, id),
                                .key1 = span_of(key, 32),
                                .key2 = span_of(key, 32),
                                .generation = SPAN("638000000000000000"),
                                .product = SPAN("lamp"),
                                .origin = SPAN("operator") };
        e = tx_device_put(t, &r, 0, NULL);
    }
    return e;
}

/* A message is sent, and the one this op sent before is settled: the queues stay short. */
static enum err push(struct store_tx *t, struct store_op *op)
{
    struct work *w = (struct work *)op;
    char id[24];
    static const uint8_t body[128] = { 1 };
    struct c2d_row r = { .device = id_of(w->number, id),
                         .body = span_of(body, sizeof body),
                         .message_id = SPAN("0123456789abcdef") };
    if (w->seq) {
        enum err e = tx_c2d_settle(t, r.device, false, w->seq);
        if (e)
            return e;
    }
    return tx_c2d_push(t, &r, 50, &w->seq);
}

static enum err get(struct store_tx *t, struct store_op *op)
{
    struct device_row r;
    char id[24];
    return tx_device_get(t, id_of(((struct work *)op)->number, id), &r);
}

static double pump(struct store *s, unsigned flying, double seconds, uint32_t fleet,
                   enum err (*run)(struct store_tx *, struct store_op *),
                   void (*hand)(struct store *, struct store_op *))
{
    struct work *w = calloc(flying, sizeof *w);
    uint32_t seed = 1;
    size_t nr = 0;
    double from = now_s();
    for (unsigned i = 0; i < flying; i++) {
        w[i] = (struct work){ .op = { .op.home = &home, .run = run }, .number = i * 7919u % fleet };
        hand(s, &w[i].op);
    }
    for (size_t out = flying; out;)
        for (struct op *op = take(), *next; op; op = next) {
            struct work *done = (struct work *)op;
            next = op->next;
            must(op->err, "store");
            nr++;
            if (now_s() - from < seconds) {
                seed = seed * 1664525u + 1013904223u;
                if (run == get)
                    done->number = (uint32_t)((uint64_t)seed * fleet >> 32);
                hand(s, &done->op);
            } else
                out--;
        }
    free(w);
    return (double)nr / (now_s() - from);
}

static void bench_store(double seconds, uint32_t fleet)
{
    struct store *s;
    char what[80];
    must(store_sqlite_open(&s, dir, 2), "store");
    double from = now_s();
    for (uint32_t k = 0; k < fleet / 1000; k++) {
        struct work w = { .op = { .op.home = &home, .run = make_devices }, .number = k };
        store_write(s, &w.op);
        must(take()->err, "devices");
    }
    snprintf(what, sizeof what, "store: devices made, 1000 an operation, %u in all", fleet);
    say("devices_made", what, fleet / (now_s() - from), "/s");
    say("messages_512", "store: message pushed and settled, 512 waiting",
        pump(s, 512, seconds, fleet, push, store_write), "/s");
    say("messages_8", "store: message pushed and settled, 8 waiting",
        pump(s, 8, seconds, fleet, push, store_write), "/s");
    say("gets", "store: device read by id, random, 64 waiting", pump(s, 64, seconds, fleet, get, store_read),
        "/s");
    store_close(s);
    from = now_s();
    must(store_sqlite_open(&s, dir, 2), "store");
    struct work w = { .op = { .op.home = &home, .run = get }, .number = fleet / 2 };
    store_read(s, &w.op);
    must(take()->err, "get");
    snprintf(what, sizeof what, "store: open with %u devices, to the first answer", fleet);
    say("store_open_ms", what, (now_s() - from) * 1e3, "ms");
    store_close(s);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv)
{
    char top[200];
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    uint32_t fleet = argc > 2 ? (uint32_t)atol(argv[2]) / 1000 * 1000 : 1000000;
    snprintf(top, sizeof top, "%s/roost-backends-XXXXXX", argc > 3 ? argv[3] : "/tmp");
    if (seconds <= 0 || !fleet || !mkdtemp(top) || mailbox_init(&home)) {
        fprintf(stderr, "backends [SECONDS [DEVICES [DIRECTORY]]]\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "%s/data", top);
    bench_stream(seconds, 1);
    bench_stream(seconds, 64);
    bench_stream(seconds, 4096);
    bench_store(seconds, fleet);
    rmdir(top);
    printf("{%s}\n", json);
    return 0;
}
