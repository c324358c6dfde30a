/* hub/domain/job/registry_job_test.c - import and export on the real store and files: lines cut at every byte
 * and of every wrong type, lines at and over their limit, files of every shape, what is refused, what is
 * capped, a full disk, no room, files that went away. The test is the thread of the jobs. */
#include "tests/fake/hub_fixture.h"

#include "core/storage/service_sas.h"
#include "hub/domain/event/event.h"
#include "hub/domain/job/registry_job.h"
#include "hub/domain/job/registry_line.h"
#include "hub/domain/json_tree.h"
#include "hub/domain/message/upload.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena A;
static struct registry_jobs *jobs;

static void open_files(uint64_t keep_free)
{
    char dir[96];
    snprintf(dir, sizeof dir, "%s/files", fx.dir);
    assert_int_equal(files_open(&fx.hub.files, dir, keep_free), ERR_OK);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    open_files(0);
    fx.hub.settings.upload_container = "uploads";
    fx.hub.settings.registry_container = "registry";
    arena_init(&A, 256u << 20);
    assert_int_equal(registry_jobs_new(&jobs, &fx.hub), ERR_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    registry_jobs_free(jobs);
    arena_fini(&A);
    files_close(fx.hub.files);
    fixture_fini(&fx);
    return 0;
}

/* ---- files ----------------------------------------------------------------------------------------------
 */

struct put {
    const char *name;
    uint8_t file[FILE_ID_LEN];
    uint64_t length;
};
static enum err run_put(struct store_tx *tx, void *ctx)
{
    struct put *p = ctx;
    struct named_blob_row r = { .container = SPAN("registry"),
                                .name = span_str(p->name),
                                .file = span_of(p->file, FILE_ID_LEN),
                                .length = p->length,
                                .md5 = SPAN(""),
                                .content_type = SPAN(""),
                                .meta = SPAN(""),
                                .created_ms = 1,
                                .modified_ms = 1 };
    return tx_blob_put(tx, &r);
}

static void put_file(const char *name, struct span bytes)
{
    struct put p = { .name = name, .length = bytes.n };
    struct file_writer *w;
    assert_int_equal(file_create(fx.hub.files, &w), ERR_OK);
    assert_int_equal(file_write(w, bytes), ERR_OK);
    assert_int_equal(file_commit(w, p.file), ERR_OK);
    assert_int_equal(fixture_tx(&fx, run_put, &p), ERR_OK);
}

static enum err run_find(struct store_tx *tx, void *ctx)
{
    struct put *p = ctx;
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, SPAN("registry"), span_str(p->name), &r);
    if (!e) {
        memcpy(p->file, r.file.p, FILE_ID_LEN);
        p->length = r.length;
    }
    return e;
}

/* The bytes of a blob, in A. */
static struct span get_file(const char *name)
{
    struct put p = { .name = name };
    int fd;
    uint64_t len;
    assert_int_equal(fixture_tx(&fx, run_find, &p), ERR_OK);
    assert_int_equal(files_open_fd(fx.hub.files, p.file, &fd, &len), ERR_OK);
    assert_int_equal(len, p.length);
    uint8_t *bytes = arena_alloc(&A, len + 1);
    assert_non_null(bytes);
    for (size_t n = 0; n < len;) {
        ssize_t got = read(fd, bytes + n, len - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
    close(fd);
    return span_of(bytes, len);
}

static size_t lines_of(struct span s)
{
    size_t nr = 0;
    for (size_t i = 0; i < s.n; i++)
        nr += s.p[i] == '\n';
    return nr;
}

/* ---- jobs -----------------------------------------------------------------------------------------------
 */

static struct registry_job_new wanted;
static struct registry_job_fault fault;
static struct fleet_job_row row;

static enum err run_create(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return registry_job_create(&fx.hub, tx, &A, &wanted, &row, &fault);
}
static enum err run_read(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return registry_job_get(tx, &A, row.id, &row);
}

static enum err create(uint8_t kind)
{
    wanted.kind = kind;
    wanted.input = wanted.output = SPAN("https://hub.example.net/registry");
    wanted.by_identity = true;
    wanted.who = SPAN("test");
    assert_int_equal(registry_job_check(&fx.hub, &A, &wanted, &fault), ERR_OK);
    return fixture_tx(&fx, run_create, NULL);
}

static void run_job(uint8_t kind)
{
    assert_int_equal(create(kind), ERR_OK);
    registry_jobs_turn(jobs);
    assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    assert_false(row.open);
}

static void import(struct span bytes)
{
    put_file("devices.txt", bytes);
    run_job(FLEET_JOB_IMPORT);
}

static enum err run_count(struct store_tx *tx, void *ctx)
{
    uint64_t by[3];
    enum err e = tx_device_count(tx, by);
    *(uint64_t *)ctx = e ? 0 : by[0] + by[1] + by[2];
    return e;
}
static uint64_t devices(void)
{
    uint64_t nr = 0;
    assert_int_equal(fixture_tx(&fx, run_count, &nr), ERR_OK);
    return nr;
}

/* ---- lines ----------------------------------------------------------------------------------------------
 */

#define KEY "\"MDEyMzQ1Njc4OWFiY2RlZg==\""
static const char *const whole[] = {
    "{\"id\":\"a\",\"eTag\":\"MQ==\",\"importMode\":\"createOrUpdate\",\"status\":\"enabled\","
    "\"statusReason\":\"\xc3\xa4\","
    "\"authentication\":{\"symmetricKey\":{\"primaryKey\":" KEY ",\"secondaryKey\":" KEY
    "},\"x509Thumbprint\":{"
    "\"primaryThumbprint\":\"\",\"secondaryThumbprint\":\"\"},\"type\":\"sas\"},\"twinETag\":\"AAAAAAAAAAE="
    "\",\"tags\":{"
    "\"x\":1.0},\"properties\":{\"desired\":{\"y\":[1]},\"reported\":{}},\"capabilities\":{\"iotEdge\":false}"
    ","
    "\"deviceScope\":\"\",\"parentScopes\":[\"\"]}",
    "{\"id\":\"a\",\"moduleId\":\"m\",\"managedBy\":\"me\",\"importMode\":\"update\",\"authentication\":{}}",
    "{\"id\":\"a\",\"importMode\":\"deleteIfMatchETag\",\"eTag\":\"\\\"MQ==\\\"\"}",
    "{\"id\":\"a\",\"importMode\":\"updateTwin\",\"tags\":{}}",
};

static enum err read_line(struct span text, struct registry_line *l)
{
    struct registry_fault f = { 0, "" };
    enum err e = registry_line_read(&A, text, registry_mode_find(SPAN_NONE), l, &f);
    if (e && (!f.code || !f.text[0]))
        fail_msg("no reason for %.*s", (int)text.n, (const char *)text.p);
    return e;
}

static void lines_cut_at_every_byte(void **state)
{
    struct registry_line l;
    (void)state;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        for (size_t n = 0; n <= strlen(whole[i]); n++) {
            uint8_t *exact = malloc(n + 1);
            assert_non_null(exact);
            memcpy(exact, whole[i], n);
            assert_int_equal(read_line(span_of(exact, n), &l), n < strlen(whole[i]) ? ERR_PROTO : ERR_OK);
            free(exact);
        }
}

static void another_type_in_every_member(void **state)
{
    static const char *const members[] = { "id",          "moduleId",   "eTag",           "importMode",
                                           "status",      "twinETag",   "authentication", "capabilities",
                                           "tags",        "properties", "parentScopes",   "deviceScope",
                                           "statusReason" };
    static const char *const values[] = { "7", "true", "[7]", "\"\\u0000\"",
                                          "{\"type\":7,\"iotEdge\":7,\"desired\":7}" };
    struct registry_line l;
    char text[256];
    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            if (strcmp(members[i], "tags") == 0 && values[k][0] == '{')
                continue;
            snprintf(text, sizeof text, "{\"id\":\"a\",\"status\":\"enabled\",\"%s\":%s}", members[i],
                     values[k]);
            if (read_line(span_str(text), &l) != ERR_PROTO)
                fail_msg("taken: %s", text);
            snprintf(text, sizeof text, "{\"id\":\"a\",\"status\":\"enabled\",\"%s\":null}", members[i]);
            bool must = i == 0 || strcmp(members[i], "status") == 0;
            assert_int_equal(read_line(span_str(text), &l), must ? ERR_PROTO : ERR_OK);
        }
}

/* ---- files of every shape -------------------------------------------------------------------------------
 */

#define LINE(id) "{\"id\":\"" id "\",\"status\":\"enabled\"}"

static void files_of_every_shape(void **state)
{
    static const struct {
        const char *text;
        unsigned good, bad;
    } rows[] = {
        { "", 0, 0 },
        { "\n\n\r\n", 0, 0 },
        { LINE("s1"), 1, 0 },
        { LINE("s2") "\n", 1, 0 },
        { "\xef\xbb\xbf" LINE("s3") "\r\n" LINE("s4") "\r\n", 2, 0 },
        { "not JSON\n  \t" LINE("s5") "\n[]\n" LINE("s6") "\r", 2, 0 },
        { LINE("s7") "x\n" LINE("s8") "\n{", 1, 2 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        import(span_str(rows[i].text));
        assert_int_equal(row.state, FLEET_JOB_COMPLETED);
        assert_int_equal(row.succeeded, rows[i].good);
        assert_int_equal(row.failed, rows[i].bad);
        assert_int_equal(row.cursor, strlen(rows[i].text));
        assert_int_equal(lines_of(get_file("importErrors.log")), rows[i].bad);
    }
    assert_int_equal(devices(), 7);
}

/* A line of n bytes: what fills it up is a member that is not known. */
static size_t long_line(uint8_t *out, const char *id, size_t n)
{
    int head = sprintf((char *)out, "{\"id\":\"%s\",\"status\":\"enabled\",\"x\":\"", id);
    assert_true(head > 0);
    memset(out + head, 'x', n - (size_t)head - 2);
    out[n - 2] = '"';
    out[n - 1] = '}';
    out[n] = '\n';
    return n + 1;
}

static void lines_at_and_over_their_limit(void **state)
{
    uint8_t *text = malloc(6 * (REGISTRY_LINE_MAX + 100));
    size_t n = 0;
    (void)state;
    assert_non_null(text);
    n += long_line(text + n, "l1", REGISTRY_LINE_MAX);
    n += long_line(text + n, "l2", REGISTRY_LINE_MAX + 1);
    n += long_line(text + n, "l3", 100);
    n += long_line(text + n, "l4", 3 * REGISTRY_LINE_MAX);
    n += long_line(text + n, "l5", 100);
    import(span_of(text, n));
    assert_int_equal(row.succeeded, 3);
    assert_int_equal(row.failed, 2);
    import(span_of(text, REGISTRY_LINE_MAX + 1 + REGISTRY_LINE_MAX + 1)); /* no line end behind it */
    assert_int_equal(row.failed, 1);
    struct span log = get_file("importErrors.log");
    assert_non_null(memmem(log.p, log.n, "longer than 1048576 bytes", 25));
    free(text);
}

static void refused_lines_are_capped(void **state)
{
    const size_t nr = REGISTRY_ERRORS_MAX + 5;
    uint8_t *text = malloc(nr * 3);
    (void)state;
    assert_non_null(text);
    for (size_t i = 0; i < nr; i++) {
        text[3 * i] = '{';
        text[3 * i + 1] = '}';
        text[3 * i + 2] = '\n';
    }
    import(span_of(text, nr * 3));
    free(text);
    assert_int_equal(row.state, FLEET_JOB_COMPLETED);
    assert_int_equal(row.failed, nr);
    struct span log = get_file("importErrors.log");
    assert_int_equal(lines_of(log), REGISTRY_ERRORS_MAX + 1);
    assert_non_null(memmem(log.p + log.n - 200, 200, "from here on they are only counted", 34));
    import(SPAN(LINE("again")));
    assert_int_equal(get_file("importErrors.log").n, 0);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------
 */

static void a_file_that_went_away(void **state)
{
    struct put p = { .name = "devices.txt" };
    (void)state;
    put_file("devices.txt", SPAN(LINE("gone")));
    assert_int_equal(create(FLEET_JOB_IMPORT), ERR_OK);
    assert_int_equal(create(FLEET_JOB_EXPORT), ERR_LIMIT); /* one at a time */
    assert_int_equal(fixture_tx(&fx, run_find, &p), ERR_OK);
    assert_int_equal(files_delete(fx.hub.files, p.file), ERR_OK);
    wanted.kind = FLEET_JOB_IMPORT;
    registry_jobs_turn(jobs);
    assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    assert_int_equal(row.state, FLEET_JOB_FAILED);
    assert_true(row.reason.n > 0);
    assert_int_equal(devices(), 0);
    wanted.input_blob = SPAN("not/there");
    assert_int_equal(create(FLEET_JOB_IMPORT), ERR_PROTO);
    wanted.input_blob = SPAN_NONE;
    assert_int_equal(fault.wrong, REGISTRY_BAD_CONTAINER);
}

static void no_room_and_a_full_disk(void **state)
{
    (void)state;
    import(SPAN(LINE("r1") "\n{\n"));
    struct span before = get_file("importErrors.log");
    fx.hub.settings.upload_total_bytes = 10;
    run_job(FLEET_JOB_EXPORT);
    assert_int_equal(row.state, FLEET_JOB_FAILED);
    assert_non_null(memmem(row.reason.p, row.reason.n, "no room", 7));
    fx.hub.settings.upload_total_bytes = 0;
    files_close(fx.hub.files);
    open_files(UINT64_MAX / 2); /* nothing is free enough */
    run_job(FLEET_JOB_EXPORT);
    assert_int_equal(row.state, FLEET_JOB_FAILED);
    assert_non_null(memmem(row.reason.p, row.reason.n, "disk", 4));
    run_job(FLEET_JOB_IMPORT); /* it reads, and cannot tell what it refused */
    assert_int_equal(row.state, FLEET_JOB_FAILED);
    assert_int_equal(row.failed, 1);
    struct span after = get_file("importErrors.log");
    assert_true(span_eq(before, after));
    files_close(fx.hub.files);
    open_files(0);
    run_job(FLEET_JOB_EXPORT);
    assert_int_equal(row.state, FLEET_JOB_COMPLETED);
}

static enum err run_cancel(struct store_tx *tx, void *ctx)
{
    (void)ctx;
    return fleet_job_cancel(&fx.hub, tx, &A, row.id, true, SPAN("test"), &row);
}

static void cancelled_before_it_began(void **state)
{
    (void)state;
    put_file("devices.txt", SPAN(LINE("c1")));
    assert_int_equal(create(FLEET_JOB_IMPORT), ERR_OK);
    assert_int_equal(fixture_tx(&fx, run_cancel, NULL), ERR_OK);
    registry_jobs_turn(jobs);
    assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    assert_int_equal(row.state, FLEET_JOB_CANCELLED);
    assert_int_equal(devices(), 0);
    import(SPAN(LINE("c1")));
    assert_int_equal(devices(), 1);
}

/* ---- events ---------------------------------------------------------------------------------------------
 */

static void *serve(void *ctx)
{
    registry_jobs_serve(ctx);
    return NULL;
}

static bool is_half_full(void)
{
    struct store_stats s;
    store_get_stats(fx.hub.store, &s);
    return s.outbox_bytes >= s.outbox_limit / 2;
}

static enum err run_one_device(struct store_tx *tx, void *ctx)
{
    struct identity_spec spec = { .id = SPAN("by-request") };
    struct device_row d;
    enum identity_fault why;
    (void)ctx;
    return identity_write(&fx.hub, tx, &A, &spec, IDENTITY_CREATE, 0, &d, &why);
}

enum { MANY = 2000 };
/* An import of as many as make more events than there is room for, on a thread, up to where it waits. */
static void import_until_it_waits(struct event_out *out, pthread_t *thread)
{
    char *text = malloc(64u * MANY);
    size_t n = 0;
    assert_non_null(text);
    for (unsigned i = 0; i < MANY; i++)
        n += (size_t)sprintf(text + n, "{\"id\":\"ev%u\",\"status\":\"enabled\"}\n", i);
    put_file("devices.txt", span_of(text, n));
    free(text);
    atomic_store(&out->wanted, 1u << MESSAGE_SOURCE_LIFECYCLE);
    fx.hub.events = out;
    store_outbox_limit(fx.hub.store, 600000);
    assert_int_equal(create(FLEET_JOB_IMPORT), ERR_OK);
    assert_int_equal(pthread_create(thread, NULL, serve, jobs), 0);
    while (!is_half_full())
        usleep(1000);
}

/* It ends although there is no room, and the next one may begin. */
static void an_import_that_waits_is_cancelled(void **state)
{
    struct event_out out = { 0 };
    struct store_stats s;
    pthread_t thread;
    (void)state;
    import_until_it_waits(&out, &thread);
    assert_int_equal(fixture_tx(&fx, run_cancel, NULL), ERR_OK);
    registry_jobs_poke(&fx.hub);
    do {
        usleep(1000);
        assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    } while (row.open);
    assert_int_equal(row.state, FLEET_JOB_CANCELLED);
    assert_true(row.succeeded && row.succeeded < MANY);
    assert_int_equal(devices(), row.succeeded);
    assert_true(is_half_full()); /* nothing has made room meanwhile */
    store_get_stats(fx.hub.store, &s);
    assert_true(s.outbox_bytes < s.outbox_limit);
    assert_int_equal(create(FLEET_JOB_EXPORT), ERR_OK);
    store_outbox_limit(fx.hub.store, 0);
    registry_jobs_stop(jobs);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fx.hub.events = NULL;
}

/* An import takes half of the room for events, and then waits; requests have the other half. */
static void an_import_waits_for_room_for_its_events(void **state)
{
    struct event_out out = { 0 };
    struct store_stats s;
    pthread_t thread;
    const unsigned nr = MANY;
    (void)state;
    import_until_it_waits(&out, &thread);
    assert_int_equal(fixture_tx(&fx, run_one_device, NULL), ERR_OK);
    assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    assert_int_equal(row.state, FLEET_JOB_RUNNING);
    assert_true(row.succeeded < nr);
    store_outbox_limit(fx.hub.store, 0);
    do {
        usleep(1000);
        assert_int_equal(fixture_tx(&fx, run_read, NULL), ERR_OK);
    } while (row.open);
    assert_int_equal(row.state, FLEET_JOB_COMPLETED);
    assert_int_equal(row.succeeded, nr);
    assert_int_equal(row.failed, 0);
    store_get_stats(fx.hub.store, &s);
    assert_int_equal(s.outbox_rows, nr + 1);
    registry_jobs_stop(jobs);
    pthread_join(thread, NULL);
    fx.hub.events = NULL;
}

/* ---- exports --------------------------------------------------------------------------------------------
 */

/* One device whose modules' twins are larger than a page, and what stands before and behind it. */
static void pages_of_every_size(void **state)
{
    size_t cap = 64u << 20, n = 0;
    char *text = malloc(cap);
    (void)state;
    assert_non_null(text);
    n += (size_t)sprintf(text + n, LINE("p0") "\n" LINE("big") "\n");
    for (int m = 0; m < 40; m++) {
        n += (size_t)sprintf(text + n, "{\"id\":\"big\",\"moduleId\":\"m%d\",\"properties\":{\"desired\":{",
                             m);
        for (int i = 0; i < 5; i++) {
            n += (size_t)sprintf(text + n, "%s\"k%d\":\"", i ? "," : "", i);
            for (int k = 0; k < 4096; k++) /* each is six bytes of a line */
                n += (size_t)sprintf(text + n, "\\u0001");
            n += (size_t)sprintf(text + n, "\"");
        }
        n += (size_t)sprintf(text + n, "}}}\n");
    }
    for (int i = 1; i < 600; i++)
        n += (size_t)sprintf(text + n, "{\"id\":\"p%d\",\"status\":\"enabled\"}\n", i);
    import(span_of(text, n));
    free(text);
    assert_int_equal(row.failed, 0);
    assert_int_equal(row.succeeded, 641);
    run_job(FLEET_JOB_EXPORT);
    assert_int_equal(row.state, FLEET_JOB_COMPLETED);
    assert_int_equal(row.succeeded, 641);
    struct span all = get_file("devices.txt");
    assert_int_equal(lines_of(all), 641);
    assert_true(all.n > (2u << 20));
    import(all);
    assert_int_equal(row.failed, 0);
    assert_int_equal(row.succeeded, 641);
}

/* ---- addresses ------------------------------------------------------------------------------------------
 */

static enum err check(const char *address)
{
    struct registry_job_new in = { .kind = FLEET_JOB_EXPORT, .output = span_str(address) };
    fault = (struct registry_job_fault){ 0 };
    return registry_job_check(&fx.hub, &A, &in, &fault);
}

static void addresses_of_the_own_container_alone(void **state)
{
    char sas[512], text[1024];
    uint8_t key[SHA256_LEN];
    struct wr w = { (uint8_t *)sas, sizeof sas - 1, 0 };
    (void)state;
    upload_key(&fx.hub, key);
    service_sas_encode(&w, fx.hub.crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT), SPAN("registry"),
                       SPAN_NONE, fixture_wall_ms() + 60000, SPAN("rwdl"));
    sas[w.len] = 0;
    snprintf(text, sizeof text, "https://HUB.example.net:8443//registry/%s#x", sas);
    assert_int_equal(check(text), ERR_OK);
    const size_t end = strlen(text) - 2;
    for (size_t n = 0; n < end; n++) { /* cut at every byte */
        char cut[1024];
        memcpy(cut, text, n);
        cut[n] = 0;
        enum err e = check(cut);
        /* The last letter of sp is one more than is needed. */
        if (e != ERR_PROTO && !(n == end - 1))
            fail_msg("taken: %s", cut);
        assert_null(strstr(fault.text, "sig="));
    }
    static const char *const bad[] = { "https://hub.example.net:99999/registry",
                                       "https://hub.example.net:/registry",
                                       "https://hub.example.net.evil.net/registry",
                                       "https://x@hub.example.net/registry",
                                       "https://hub.example.net/registry/x",
                                       "https://hub.example.net/uploads",
                                       "http://hub.example.net/registry",
                                       "https:/hub.example.net/registry",
                                       "https://10.0.0.1/registry" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "%s%s", bad[i], sas);
        assert_int_equal(check(text), ERR_PROTO);
        assert_int_equal(fault.wrong, REGISTRY_BAD_CONTAINER);
    }
    fixture_clock_offset_ms = 120000;
    snprintf(text, sizeof text, "https://hub.example.net/registry%s", sas);
    assert_int_equal(check(text), ERR_PROTO);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(lines_cut_at_every_byte),
        T(another_type_in_every_member),
        T(files_of_every_shape),
        T(lines_at_and_over_their_limit),
        T(refused_lines_are_capped),
        T(a_file_that_went_away),
        T(no_room_and_a_full_disk),
        T(cancelled_before_it_began),
        T(an_import_waits_for_room_for_its_events),
        T(an_import_that_waits_is_cancelled),
        T(pages_of_every_size),
        T(addresses_of_the_own_container_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
