/* hub/domain/message/reader_group_test.c - places of groups: they are kept, go forward only, have a cap, and
 * survive a log that was made anew. */
#define FIXTURE_STREAM
#include "tests/fake/hub_fixture.h"

#include "hub/domain/message/reader_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

static void append(uint32_t partition, unsigned nr)
{
    while (nr--) {
        struct stream_append a = { .partition = partition, .record = SPAN("record") };
        fixture_prepare(&fx, &a.op);
        stream_append(fx.hub.stream, &a);
        assert_int_equal(fixture_wait(&fx, &a.op), ERR_OK);
    }
}

struct call {
    struct store_op store; /* first */
    enum { GET, COMMIT, DELETE, NAMES } what;
    struct span name;
    struct reader_place places[READER_PARTITIONS_MAX];
    char names[64];
};

static enum err add_name(void *ctx, struct span name)
{
    struct call *c = ctx;
    size_t n = strlen(c->names);
    if (n + name.n + 2 < sizeof c->names)
        snprintf(c->names + n, sizeof c->names - n, "%.*s,", (int)name.n, (const char *)name.p);
    return ERR_OK;
}

static enum err run(struct store_tx *tx, struct store_op *self)
{
    struct call *c = (struct call *)(void *)self;
    switch (c->what) {
    case GET:
        return reader_group_get(&fx.hub, tx, c->name, c->places);
    case COMMIT:
        return reader_group_commit(&fx.hub, tx, c->name, c->places);
    case DELETE:
        return reader_group_delete(&fx.hub, tx, c->name);
    default:
        return reader_group_list(tx, add_name, c);
    }
}

static enum err call(struct call *c)
{
    fixture_prepare(&fx, &c->store.op);
    c->store.run = run;
    store_write(fx.hub.store, &c->store);
    return fixture_wait(&fx, &c->store.op);
}

static enum err commit(const char *name, unsigned partition, uint64_t next)
{
    struct call c = { .what = COMMIT, .name = span_str(name) };
    c.places[partition] = (struct reader_place){ true, next };
    return call(&c);
}
static struct reader_place place(const char *name, unsigned partition)
{
    struct call c = { .what = GET, .name = span_str(name) };
    assert_int_equal(call(&c), ERR_OK);
    return c.places[partition];
}

static void test_a_place_goes_forward(void **state)
{
    (void)state;
    append(1, 5);
    assert_int_equal(call(&(struct call){ .what = GET, .name = SPAN("a") }), ERR_NOTFOUND);
    assert_int_equal(commit("a", 1, 3), ERR_OK);
    assert_int_equal(place("a", 1).next, 3);
    assert_false(place("a", 0).known);
    assert_int_equal(commit("a", 1, 2), ERR_OK);
    assert_int_equal(place("a", 1).next, 3);
    assert_int_equal(commit("a", 1, 6), ERR_PROTO); /* there are five */
    assert_int_equal(commit("a", 4, 0), ERR_PROTO); /* there are four partitions */
    assert_int_equal(commit("a", 1, 5), ERR_OK);
    assert_int_equal(place("a", 1).next, 5);
    fixture_shut(&fx);
    fixture_open(&fx);
    assert_int_equal(place("a", 1).next, 5);
    assert_int_equal(call(&(struct call){ .what = DELETE, .name = SPAN("a") }), ERR_OK);
    assert_int_equal(call(&(struct call){ .what = DELETE, .name = SPAN("a") }), ERR_NOTFOUND);
}

static void test_groups_are_apart(void **state)
{
    struct call names = { .what = NAMES };
    (void)state;
    append(0, 2);
    assert_int_equal(commit("b", 0, 1), ERR_OK);
    assert_int_equal(commit("b-2", 0, 2), ERR_OK);
    assert_int_equal(commit("b", 3, 0), ERR_OK);
    assert_int_equal(call(&names), ERR_OK);
    assert_string_equal(names.names, "b-2,b,");
    assert_int_equal(call(&(struct call){ .what = DELETE, .name = SPAN("b") }), ERR_OK);
    assert_int_equal(place("b-2", 0).next, 2);
}

static void test_groups_have_a_cap(void **state)
{
    char name[16];
    (void)state;
    for (unsigned i = 0; i < READER_GROUPS_MAX; i++) {
        snprintf(name, sizeof name, "g%u", i);
        assert_int_equal(commit(name, 0, 0), ERR_OK);
    }
    assert_int_equal(commit("more", 0, 0), ERR_LIMIT);
    assert_int_equal(commit("g7", 1, 0), ERR_OK);
    assert_int_equal(call(&(struct call){ .what = GET, .name = SPAN("more") }), ERR_NOTFOUND);
}

static void test_a_log_made_anew_is_read_from_its_start(void **state)
{
    char command[128];
    (void)state;
    append(2, 9);
    assert_int_equal(commit("a", 2, 9), ERR_OK);
    fixture_shut(&fx);
    snprintf(command, sizeof command, "rm -r '%s/stream'", fx.dir);
    assert_int_equal(system(command), 0);
    fixture_open(&fx);
    append(2, 3);
    assert_int_equal(place("a", 2).next, 0);
    assert_int_equal(commit("a", 2, 2), ERR_OK);
    assert_int_equal(place("a", 2).next, 2);
}

static void test_names(void **state)
{
    static const char *const good[] = { "a", "$Default", "A.b-c_9" }, *const bad[] = { "", "a/b", "a b",
                                                                                       "\xc3\xa9" };
    char longest[READER_GROUP_NAME_MAX + 2];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(reader_group_name_ok(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(reader_group_name_ok(span_str(bad[i])));
    memset(longest, 'x', sizeof longest);
    assert_true(reader_group_name_ok(span_of(longest, READER_GROUP_NAME_MAX)));
    assert_false(reader_group_name_ok(span_of(longest, READER_GROUP_NAME_MAX + 1)));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_a_place_goes_forward),
        T(test_groups_are_apart),
        T(test_groups_have_a_cap),
        T(test_a_log_made_anew_is_read_from_its_start),
        T(test_names),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
