/* tests/fault/registry.c - kill -9 of a hub in the middle of an import: before every k-th write, flush, open
 * and rename of asking for it and running it, and once more while it goes on after that. In the end, wherever
 * it was killed:
 *   - an import that was acknowledged is there, and completed
 *   - every line was applied once, or refused once and told in the file of errors, in the order of the lines
 *   - so was every configuration of its second file
 *   - an export after it has all of them */
#include "hub/blob/files.h"
#include "hub/bus/bus.h"
#include "hub/domain/access/access.h"
#include "hub/domain/job/registry_job.h"
#include "hub/domain/metrics.h"
#include "hub/domain/twin/twin.h"
#include "port/crypto.h"
#include "tests/fault/layer/life_fixture.h"

enum { LINES = 60, CONFIGS = 3, PAD = 12000 }; /* some batches */
#define IS_BAD(i)  ((i) % 10 == 3)
#define IS_TWIN(i) ((i) % 10 == 5)
enum { BAD = LINES / 10, TWINS = LINES / 10, MADE = LINES - BAD - TWINS };

static const char *const names[] = { "hub.example.net", NULL };

/* ---- a hub ----------------------------------------------------------------------------------------------
 */

static struct hub_metrics metrics;
static struct registry_jobs *jobs;

static void hub_open(void)
{
    char path[96];
    hub =
        (struct hub){ .crypto = &port_crypto, .names = names, .wall_ms = clock_wall_ms, .metrics = &metrics };
    hub.settings.registry_container = "registry";
    snprintf(path, sizeof path, "%s/files", dir);
    if (mailbox_init(&mail) || store_sqlite_open(&hub.store, dir, 1) || files_open(&hub.files, path, 0) ||
        bus_local_new(&hub.bus, 1) || access_new(&hub.access, &port_crypto, 64) ||
        registry_jobs_new(&jobs, &hub))
        _exit(2);
}
static void hub_close(void)
{
    store_close(hub.store);
    registry_jobs_free(jobs);
    files_close(hub.files);
    bus_free(hub.bus);
    access_free(hub.access);
    mailbox_fini(&mail);
}

/* ---- files ----------------------------------------------------------------------------------------------
 */

struct blob {
    const char *name;
    uint8_t file[FILE_ID_LEN];
    uint64_t length;
};
static enum err put_run(struct store_tx *tx, void *ctx)
{
    struct blob *b = ctx;
    return tx_blob_put(tx, &(struct named_blob_row){ .container = SPAN("registry"),
                                                     .name = span_str(b->name),
                                                     .file = span_of(b->file, FILE_ID_LEN),
                                                     .length = b->length,
                                                     .md5 = SPAN(""),
                                                     .content_type = SPAN(""),
                                                     .meta = SPAN(""),
                                                     .created_ms = 1,
                                                     .modified_ms = 1 });
}
static void put_blob(const char *name, struct span bytes)
{
    struct blob b = { .name = name, .length = bytes.n };
    struct file_writer *w;
    assert_int_equal(file_create(hub.files, &w), ERR_OK);
    assert_int_equal(file_write(w, bytes), ERR_OK);
    assert_int_equal(file_commit(w, b.file), ERR_OK);
    assert_int_equal(in_tx(put_run, &b), ERR_OK);
}
static enum err find_run(struct store_tx *tx, void *ctx)
{
    struct blob *b = ctx;
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, SPAN("registry"), span_str(b->name), &r);
    if (!e)
        memcpy(b->file, r.file.p, FILE_ID_LEN);
    return e;
}
/* The caller frees it. */
static char *get_blob(const char *name)
{
    struct blob b = { .name = name };
    int fd;
    uint64_t len;
    assert_int_equal(in_tx(find_run, &b), ERR_OK);
    assert_int_equal(files_open_fd(hub.files, b.file, &fd, &len), ERR_OK);
    char *text = malloc(len + 1);
    assert_non_null(text);
    assert_int_equal(pread(fd, text, len, 0), (ssize_t)len);
    text[len] = 0;
    close(fd);
    return text;
}

static void put_input(void)
{
    static char text[LINES * (PAD + 200)], pad[PAD + 1];
    size_t n = 0;
    memset(pad, 'x', PAD);
    for (int i = 0; i < LINES; i++) {
        if (IS_TWIN(i)) /* each raises the version of the first */
            n += (size_t)sprintf(text + n, "{\"id\":\"k0\",\"importMode\":\"updateTwin\",\"tags\":{\"n\":%d}",
                                 i);
        else /* a second time it would be refused */
            n += (size_t)sprintf(text + n,
                                 "{\"id\":\"k%s%d\",\"importMode\":\"create\",\"status\":\"enabled\"",
                                 IS_BAD(i) ? " " : "", i);
        n += (size_t)sprintf(text + n, ",\"pad\":\"%s\"}\n", pad);
    }
    put_blob("devices.txt", span_of(text, n));
    n = 0;
    for (int i = 0; i < CONFIGS; i++)
        n += (size_t)sprintf(text + n,
                             "{\"Id\":\"c%d\",\"Content\":{\"DeviceContent\":{\"properties.desired.c%d\":1}},"
                             "\"TargetCondition\":\"*\",\"ImportMode\":\"create\",\"pad\":\"%s\"}\n",
                             i, i, pad);
    put_blob("configurations.txt", span_of(text, n));
}

/* ---- the job --------------------------------------------------------------------------------------------
 */

static struct fleet_job_row found;
static bool is_there;

static enum err see(void *ctx, const struct fleet_job_row *r)
{
    const uint8_t *kind = ctx;
    if (r->kind == *kind) {
        found = *r;
        is_there = true;
    }
    return ERR_OK;
}
static enum err look_run(struct store_tx *tx, void *ctx)
{
    struct fleet_job_filter f = { .before = INT64_MAX, .kind = FLEET_JOB_REGISTRY, .state = -1, .limit = 10 };
    is_there = false;
    return tx_fleet_job_list(tx, &f, see, ctx);
}
static bool look(uint8_t kind)
{
    assert_int_equal(in_tx(look_run, &kind), ERR_OK);
    return is_there;
}

static enum err ask_run(struct store_tx *tx, void *ctx)
{
    struct registry_job_new in = { .kind = *(uint8_t *)ctx,
                                   .by_identity = true,
                                   .configurations = true,
                                   .output_blob = SPAN("out.txt"),
                                   .who = SPAN("test") };
    struct registry_job_fault fault;
    struct fleet_job_row row;
    struct arena a;
    arena_init(&a, 1u << 20);
    if (in.kind == FLEET_JOB_EXPORT)
        in.configurations_blob = SPAN("out-configurations.txt");
    enum err e = registry_job_create(&hub, tx, &a, &in, &row, &fault);
    arena_fini(&a);
    return e;
}
static enum err ask(uint8_t kind)
{
    return in_tx(ask_run, &kind);
}

/* One life of the hub; true: it was killed. *asked: the import was acknowledged, by this one or before. */
static void child(int fd, unsigned notes)
{
    (void)notes;
    hub_open();
    if (!look(FLEET_JOB_IMPORT) && ask(FLEET_JOB_IMPORT))
        _exit(3);
    if (write(fd, "a", 1) != 1) /* what a client would be told */
        _exit(4);
    registry_jobs_turn(jobs);
    hub_close();
}
static bool life(unsigned kinds, uint64_t k, bool *asked)
{
    unsigned notes = 0;
    bool killed = life_run(kinds, k, child, &notes);
    *asked |= notes > 0;
    return killed;
}

/* ---- what has to be so ----------------------------------------------------------------------------------
 */

static enum err identities_run(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    for (int i = 0; i < LINES; i++) {
        char id[16];
        struct device_row d;
        snprintf(id, sizeof id, "k%d", i);
        enum err e = tx_device_get(tx, span_str(id), &d);
        assert_int_equal(e, IS_BAD(i) || IS_TWIN(i) ? ERR_NOTFOUND : ERR_OK);
        if (!e)
            assert_int_equal(d.etag, 1);
    }
    struct twin_row t;
    assert_int_equal(tx_twin_get(tx, SPAN("k0"), &t), ERR_OK);
    assert_int_equal(t.version, 2 + TWINS); /* two of a fresh one */
    assert_true(span_eq(t.tags, SPAN("{\"n\":55}")));
    for (int i = 0; i < CONFIGS; i++) {
        char id[16];
        struct config_row c;
        snprintf(id, sizeof id, "c%d", i);
        assert_int_equal(tx_config_get(tx, span_str(id), &c), ERR_OK);
        assert_int_equal(c.etag, 1);
    }
    return ERR_OK;
}

static size_t count(const char *text, const char *what)
{
    size_t nr = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        nr++;
    return nr;
}

static void check_all(bool asked)
{
    hub_open();
    bool there = look(FLEET_JOB_IMPORT);
    assert_true(there || !asked);
    if (!there)
        assert_int_equal(ask(FLEET_JOB_IMPORT), ERR_OK);
    registry_jobs_turn(jobs);
    assert_true(look(FLEET_JOB_IMPORT));
    assert_int_equal(found.state, FLEET_JOB_COMPLETED);
    assert_false(found.open);
    assert_int_equal(found.succeeded, MADE + TWINS + CONFIGS);
    assert_int_equal(found.failed, BAD);
    assert_int_equal(in_tx(identities_run, NULL), ERR_OK);
    char *log = get_blob("importErrors.log"), *at = log;
    for (int i = 0; i < LINES; i++) {
        char id[24];
        snprintf(id, sizeof id, "\"k %d\"", i);
        if (IS_BAD(i)) {
            at = strstr(at, id);
            assert_non_null(at);
        }
    }
    assert_int_equal(count(log, "\n"), BAD);
    free(log);
    assert_int_equal(ask(FLEET_JOB_EXPORT), ERR_OK);
    registry_jobs_turn(jobs);
    assert_true(look(FLEET_JOB_EXPORT));
    assert_int_equal(found.state, FLEET_JOB_COMPLETED);
    char *out = get_blob("out.txt"), *configs = get_blob("out-configurations.txt");
    assert_int_equal(count(out, "\n"), MADE);
    assert_int_equal(count(configs, "\n"), CONFIGS);
    free(out);
    free(configs);
    hub_close();
}

/* Before every k-th of these calls; with `widen`, in steps that grow by their place divided by it. */
static void killed_at_every(unsigned kinds, uint64_t widen)
{
    unsigned nr = 0;
    for (uint64_t k = 1;; k += widen ? 1 + k / widen : 1, nr++) {
        bool asked = false;
        copy_dir(fresh, dir);
        bool killed = life(kinds, k, &asked);
        if (killed)
            (void)life(kinds, 1 + k * 7 % 40, &asked); /* and again, soon */
        check_all(asked);
        if (!killed) {
            assert_true(asked);
            break;
        }
    }
    print_message("%u kills\n", nr);
    assert_true(nr > 10);
}

static void test_killed_at_every_flush_open_and_rename(void **state)
{
    (void)state;
    killed_at_every(FAULT_SYNC | FAULT_OPEN | FAULT_RENAME | FAULT_TRUNCATE, 0);
}

static void test_killed_at_writes(void **state)
{
    (void)state;
    killed_at_every(FAULT_WRITE, faults_has_alloc() ? 200 : 20); /* sanitizers take their time */
}

static int setup(void **state)
{
    (void)state;
    if (!life_dirs())
        return 1;
    hub_open();
    put_input();
    hub_close();
    copy_dir(dir, fresh);
    return 0;
}
int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_killed_at_every_flush_open_and_rename),
                                        cmocka_unit_test(test_killed_at_writes) };
    return cmocka_run_group_tests(tests, setup, life_remove);
}
