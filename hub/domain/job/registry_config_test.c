/* hub/domain/job/registry_config_test.c - configurations as lines: cut at every byte, of every wrong type, in
 * any spelling of their names, and written and read again. */
#include "hub/domain/job/registry_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct arena A;

static int setup(void **state)
{
    (void)state;
    arena_init(&A, 256u << 20);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&A);
    return 0;
}

static enum err read_line(struct span text, struct registry_config *c, struct registry_fault *f)
{
    *f = (struct registry_fault){ 0, "" };
    enum err e = registry_config_read(&A, text, c, f);
    if (e && (!f->code || !f->text[0]))
        fail_msg("no reason for %.*s", (int)text.n, (const char *)text.p);
    return e;
}

static const char whole[] =
    "{\"id\":\"c1\",\"schemaVersion\":\"1.0\",\"labels\":{\"a\":\"b\"},\"content\":{\"deviceContent\":{"
    "\"properties.desired.x\":1.0}},\"targetCondition\":\"tags.a = 'x'\",\"priority\":7,\"metrics\":{"
    "\"results\":{\"q\":1},\"queries\":{\"q\":\"SELECT * FROM devices\"}},\"etag\":\"Nw==\",\"importMode\":"
    "\"createOrUpdateIfMatchETag\"}";

static void a_line_cut_at_every_byte(void **state)
{
    struct registry_config c;
    struct registry_fault f;
    (void)state;
    for (size_t n = 0; n < sizeof whole; n++) {
        uint8_t *exact = malloc(n + 1);
        assert_non_null(exact);
        memcpy(exact, whole, n);
        assert_int_equal(read_line(span_of(exact, n), &c, &f), n < sizeof whole - 1 ? ERR_PROTO : ERR_OK);
        free(exact);
    }
    assert_int_equal(read_line(span_str(whole), &c, &f), ERR_OK);
    assert_true(span_eq(c.n.id, SPAN("c1")));
    assert_true(span_eq(c.n.content, SPAN("{\"deviceContent\":{\"properties.desired.x\":1.0}}")));
    assert_true(span_eq(c.n.metrics, SPAN("{\"q\":\"SELECT * FROM devices\"}")));
    assert_int_equal(c.n.priority, 7);
    assert_int_equal(c.if_etag, 7);
    assert_int_equal(c.kind, CONFIG_DEVICE);
}

static void another_type_in_every_member(void **state)
{
    static const struct {
        const char *name;
        uint32_t code;
    } members[] = { { "id", 400004 },        { "schemaVersion", 400004 }, { "labels", 400004 },
                    { "content", 400402 },   { "targetCondition", 0 },    { "priority", 400004 },
                    { "importMode", 400004 } };
    static const char *const values[] = { "true", "[7]", "{\"a\":7}", "-1", "1.5", "\"7\"" };
    struct registry_config c;
    struct registry_fault f;
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            const bool is_text = values[k][0] == '"';
            if (is_text && (i <= 1 || members[i].code == 0)) /* is one, or is a condition */
                continue;
            snprintf(text, sizeof text, "{\"content\":{\"deviceContent\":{}},\"id\":\"c1\",\"%s\":%s}",
                     members[i].name, values[k]);
            if (read_line(span_str(text), &c, &f) != ERR_PROTO)
                fail_msg("taken: %s", text);
            if (members[i].code)
                assert_int_equal(f.code, members[i].code);
        }
    assert_int_equal(read_line(SPAN("{\"content\":{\"deviceContent\":{}},\"id\":\"c1\",\"targetCondition\":"
                                    "\"tags.a\"}"),
                               &c, &f),
                     ERR_OK);
    assert_int_equal(
        read_line(SPAN("{\"id\":\"c1\",\"content\":{\"deviceContent\":{},\"moduleContent\":{}}}"), &c, &f),
        ERR_PROTO);
    assert_int_equal(f.code, 400402);
    assert_int_equal(read_line(SPAN("[]"), &c, &f), ERR_PROTO);
    assert_int_equal(f.code, 400006);
}

static void names_in_any_case_and_nulls(void **state)
{
    struct registry_config c;
    struct registry_fault f;
    (void)state;
    assert_int_equal(
        read_line(SPAN("{\"Id\":\"c1\",\"SchemaVersion\":null,\"Labels\":null,\"Content\":{\"DeviceContent\":"
                       "null,\"ModuleContent\":{\"properties.desired.x\":1},\"ModulesContent\":null},"
                       "\"TargetCondition\":\"FROM devices.modules WHERE tags.a = 1\",\"Priority\":3,"
                       "\"Metrics\":{\"Results\":{},\"Queries\":{}},\"ETag\":\"*\",\"SystemMetrics\":7}"),
                  &c, &f),
        ERR_OK);
    assert_int_equal(c.kind, CONFIG_MODULE);
    assert_true(span_eq(c.n.content, SPAN("{\"moduleContent\":{\"properties.desired.x\":1}}")));
    assert_int_equal(c.n.labels.n, 0);
    assert_int_equal(c.if_etag, 0);
    assert_int_equal(read_line(SPAN("{\"id\":\"c1\",\"importMode\":\"Delete\"}"), &c, &f), ERR_OK);
    assert_int_equal(c.mode->doing, REGISTRY_DELETE);
    assert_int_equal(read_line(SPAN("{\"id\":\"c1\",\"importMode\":\"updateTwin\"}"), &c, &f), ERR_PROTO);
    /* Without an etag it matches nothing that is there. */
    assert_int_equal(read_line(SPAN("{\"id\":\"c1\",\"content\":{\"deviceContent\":{}}}"), &c, &f), ERR_OK);
    assert_int_equal(c.if_etag, UINT64_MAX);
}

static void written_and_read_again(void **state)
{
    const struct config_row rows[] = {
        { .id = SPAN("c1"),
          .condition = SPAN("tags.a = 'x\"y'"),
          .content = SPAN("{\"deviceContent\":{\"properties.desired.x\":1.0}}"),
          .labels = SPAN("{\"a\":\"b\"}"),
          .metrics = SPAN("{\"q\":\"SELECT * FROM devices\"}"),
          .results = SPAN("{\"q\":3}"),
          .schema_version = SPAN("2"),
          .priority = CONFIG_PRIORITY_MAX,
          .etag = 12,
          .created_ms = 1000,
          .updated_ms = 2000 },
        { .id = SPAN("c2"), .content = SPAN("{\"deviceContent\":{}}"), .etag = 1 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t room[2048];
        struct wr w = { room, sizeof room, 0 };
        struct registry_config c;
        struct registry_fault f;
        const struct config_row *r = &rows[i];
        registry_config_write(&w, r);
        assert_true(wr_ok(&w) && room[w.len - 1] == '\n');
        assert_int_equal(read_line(span_of(room, w.len - 1), &c, &f), ERR_OK);
        assert_true(span_eq(c.n.id, r->id) && span_eq(c.n.condition, r->condition));
        assert_true(span_eq(c.n.content, r->content) && span_eq(c.n.labels, r->labels));
        assert_true(span_eq(c.n.schema_version, r->schema_version));
        assert_true(span_eq(c.n.metrics, r->metrics) || (i == 1 && span_eq(c.n.metrics, SPAN("{}"))));
        assert_int_equal(c.n.priority, r->priority);
        assert_int_equal(c.if_etag, r->etag);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(a_line_cut_at_every_byte), T(another_type_in_every_member),
                                        T(names_in_any_case_and_nulls), T(written_and_read_again) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
