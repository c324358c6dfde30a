/* tests/fault/index.c - kill -9 while an index of queries is made and another one is dropped, with twins
 * written beside: before every k-th write and flush, and once more soon after the next start. Wherever it
 * was:
 *   - a twin whose write was acknowledged has it
 *   - the index that is made goes on from where it was; nothing that was done is done again
 *   - when it is ready, it finds what a walk finds, and has nothing else
 *   - of the dropped one nothing is left */
#include "hub/domain/query/query.h"
#include "tests/fault/layer/life_fixture.h"

#include <sqlite3.h>

enum { FLEET = 5 * TWIN_INDEX_ROWS + 10, SITES = 7 };
#define MADE    "tags.site"
#define DROPPED "tags.old"

static struct query_sources sources;
static struct query_index_build build;

/* ---- a hub --------------------------------------------------------------------------------------------- */

static void hub_open(void)
{
    hub = (struct hub){ .wall_ms = clock_wall_ms };
    if (mailbox_init(&mail) || store_sqlite_open(&hub.store, dir, 1))
        _exit(2);
}
static void hub_close(void)
{
    store_close(hub.store);
    mailbox_fini(&mail);
}

static void index_paths(const char *list)
{
    struct span bad;
    if (query_indexes_parse(&sources, span_str(list), &bad) || query_indexes_apply(hub.store, &sources))
        _exit(3);
    query_indexes_build(&build, &hub, &sources, &mail);
}

/* ---- the fleet ----------------------------------------------------------------------------------------- */

struct write {
    unsigned i, site;
};
static enum err write_run(struct store_tx *tx, void *ctx)
{
    const struct write *w = ctx;
    char id[16], tags[64];
    struct twin_row t;
    snprintf(id, sizeof id, "d%u", w->i);
    snprintf(tags, sizeof tags, "{\"site\":\"s%u\",\"old\":%u}", w->site, w->i);
    enum err e = tx_twin_get(tx, span_str(id), &t);
    t.tags = span_str(tags);
    return e ? e : tx_twin_put(tx, &t);
}
static enum err populate(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    enum err e = ERR_OK;
    for (unsigned i = 0; !e && i < FLEET; i++) {
        char id[16];
        snprintf(id, sizeof id, "d%u", i);
        e = tx_device_put(
            tx,
            &(struct device_row){ .id = span_str(id), .generation = SPAN("g"), .origin = SPAN("operator") },
            UINT64_MAX, NULL);
        if (!e)
            e = write_run(tx, &(struct write){ i, i % SITES });
    }
    return e;
}

/* The write numbered nr: all over the fleet, each of another twin. */
static struct write write_nr(unsigned nr)
{
    return (struct write){ nr * 977 % FLEET, nr % 3 };
}

/* ---- what is there ------------------------------------------------------------------------------------- */

static long number(const char *sql)
{
    char path[96];
    sqlite3 *h = NULL;
    sqlite3_stmt *st = NULL;
    snprintf(path, sizeof path, "%s/roost.db", dir);
    assert_int_equal(sqlite3_open_v2(path, &h, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(h, sql, -1, &st, NULL), SQLITE_OK);
    long n = sqlite3_step(st) == SQLITE_ROW ? (long)sqlite3_column_int64(st, 0) : -1;
    sqlite3_finalize(st);
    sqlite3_close(h);
    return n;
}
static long place(void) /* up to where the index is made */
{
    return number("SELECT upto FROM twin_index WHERE path = '" MADE "'");
}
static long left(void) /* of the dropped one */
{
    return number("SELECT count(*) FROM twin_value v JOIN twin_index i ON i.n = v.n WHERE i.path = '" DROPPED
                  "'");
}

struct sites {
    size_t nr[SITES];
    const struct twin_pick *pick;
};
static enum err each_twin(void *ctx, struct twin_view *v)
{
    struct sites *s = ctx;
    struct span tags = twin_view_text(v, TWIN_COL_TAGS);
    assert_true(span_starts(tags, SPAN("{\"site\":\"s")) && tags.n > 11);
    unsigned site = (unsigned)tags.p[10] - '0';
    assert_true(site < SITES);
    if (s->pick)
        assert_int_equal(site, s->pick->low.text.p[1] - '0');
    s->nr[site]++;
    return ERR_OK;
}
static enum err check_run(struct store_tx *tx, void *ctx)
{
    struct sites all = { .pick = NULL }, found = { .pick = NULL };
    uint64_t after = 0;
    (void)ctx;
    assert_int_equal(tx_twin_walk(tx, false, 0, NULL, &after, each_twin, &all), ERR_OK);
    for (unsigned i = 0; i < SITES; i++) {
        char name[3] = { 's', (char)('0' + i), 0 };
        const struct twin_value v = { .kind = TWIN_VALUE_TEXT, .text = span_str(name) };
        const struct twin_pick pick = { .path = SPAN(MADE), .low = v, .high = v };
        size_t nr = 0;
        after = 0;
        found.pick = &pick;
        assert_int_equal(tx_twin_walk(tx, false, 0, &pick, &after, each_twin, &found), ERR_OK);
        assert_int_equal(tx_twin_pick_count(tx, &pick, FLEET, &nr), ERR_OK);
        assert_int_equal(nr, all.nr[i]);
        assert_int_equal(found.nr[i], all.nr[i]);
    }
    return ERR_OK;
}
static enum err check_write(struct store_tx *tx, void *ctx)
{
    const struct write w = write_nr(*(unsigned *)ctx);
    char id[16], tags[64];
    struct twin_row t;
    snprintf(id, sizeof id, "d%u", w.i);
    snprintf(tags, sizeof tags, "{\"site\":\"s%u\",\"old\":%u}", w.site, w.i);
    assert_int_equal(tx_twin_get(tx, span_str(id), &t), ERR_OK);
    assert_true(span_eq(t.tags, span_str(tags)));
    return ERR_OK;
}

/* ---- lives --------------------------------------------------------------------------------------------- */

/* One life: the list without the dropped one, twins written until the work is over. True: killed. *acked:
 * writes that were acknowledged, by this life or before. */
static void child(int fd, unsigned notes)
{
    hub_open();
    index_paths(MADE);
    for (unsigned nr = notes; !build.over; nr++) {
        struct write w = write_nr(nr);
        if (in_tx(write_run, &w) || write(fd, "a", 1) != 1)
            _exit(4);
    }
    hub_close();
}
static bool life(unsigned kinds, uint64_t k, unsigned *acked)
{
    return life_run(kinds, k, child, acked);
}

static void check_all(unsigned acked)
{
    hub_open();
    index_paths(MADE);
    while (!build.over)
        pump();
    assert_true(query_index_is_ready(&sources, 0));
    assert_int_equal(in_tx(check_run, NULL), ERR_OK);
    for (unsigned nr = 0; nr < acked; nr++)
        assert_int_equal(in_tx(check_write, &nr), ERR_OK);
    hub_close();
    assert_int_equal(number("SELECT count(*) FROM twin_index"), 1);
    assert_int_equal(number("SELECT count(*) FROM twin_value"), FLEET);
}

static void killed_at_every(unsigned kinds, uint64_t widen)
{
    unsigned nr = 0, in_fill = 0, in_drop = 0;
    for (uint64_t k = 1;; k += widen ? 1 + k / widen : 1, nr++) {
        unsigned acked = 0;
        copy_dir(fresh, dir);
        bool killed = life(kinds, k, &acked);
        if (killed) {
            long at = place(), rows = left();
            in_drop += rows > 0 && rows < FLEET;
            in_fill += at > 0 && at < FLEET;
            (void)life(kinds, 1 + k * 7 % 20, &acked);
            assert_true(place() >= at && left() <= rows);
        }
        check_all(acked);
        if (!killed)
            break;
    }
    print_message("%u kills, %u with a part of the index there, %u with a part of the dropped one\n", nr,
                  in_fill, in_drop);
    assert_true(nr > 10 && in_fill > 2 && in_drop > 2);
}

static void test_killed_at_every_flush(void **state)
{
    (void)state;
    killed_at_every(FAULT_SYNC | FAULT_TRUNCATE, 0);
}
static void test_killed_at_writes(void **state)
{
    (void)state;
    killed_at_every(FAULT_WRITE, faults_has_alloc() ? 10 : 4);
}

static int setup(void **state)
{
    (void)state;
    if (!life_dirs())
        return 1;
    hub_open();
    if (in_tx(populate, NULL))
        return 1;
    index_paths(DROPPED);
    while (!build.over)
        pump();
    hub_close();
    copy_dir(dir, fresh);
    return 0;
}
int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_killed_at_every_flush),
                                        cmocka_unit_test(test_killed_at_writes) };
    return cmocka_run_group_tests(tests, setup, life_remove);
}
