/* hub/domain/twin/twin_digital_test.c - the Plug and Play view, and what each operation of a patch becomes.
 */
#include "hub/domain/twin/twin_digital.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants the two above */
#include <cmocka.h>

static struct arena a;

static int setup(void **state)
{
    (void)state;
    arena_init(&a, 64u << 20);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    arena_fini(&a);
    return 0;
}
static void is(struct span got, const char *want)
{
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("got  %.*s\nwant %s", (int)got.n, (const char *)got.p, want);
}
static struct jnode *stamped(const char *text, const struct twin_stamp *stamp)
{
    struct jnode *n = NULL;
    assert_int_equal(jtree_parse(&a, span_str(text), &n, NULL), ERR_OK);
    return twin_merge(&a, NULL, n, stamp);
}

static void test_the_view(void **state)
{
    static const struct twin_stamp r = { 1000, 2 }, d = { 2000, 4 };
    struct twin t = { .row = { .device = SPAN("dev1"), .model_id = SPAN("dtmi:x:y;1") } };
    uint8_t buf[2048];
    struct wr w = { buf, sizeof buf, 0 };
    (void)state;
    t.reported = stamped(
        "{\"temp\":21.0,\"th1\":{\"__t\":\"c\",\"max\":35,\"target\":{\"value\":20,\"ac\":200,\"av\":4,"
        "\"ad\":\"ok\"}},\"plain\":{\"value\":1}}",
        &r);
    t.desired =
        stamped("{\"th1\":{\"__t\":\"c\",\"target\":20},\"th2\":{\"__t\":\"c\",\"x\":1},\"mode\":\"a\"}", &d);
    twin_digital_write(&w, &t);
    is(wr_span(&w),
       "{\"$dtId\":\"dev1\",\"temp\":21.0,"
       "\"th1\":{\"max\":35,\"target\":20,\"$metadata\":{\"max\":{\"lastUpdateTime\":\"1970-01-01T00:00:01."
       "0000000Z\"},"
       "\"target\":{\"desiredValue\":20,\"desiredVersion\":4,\"ackVersion\":4,\"ackCode\":200,"
       "\"ackDescription\":\"ok\","
       "\"lastUpdateTime\":\"1970-01-01T00:00:01.0000000Z\"}}},\"plain\":{\"value\":1},"
       "\"th2\":{\"$metadata\":{\"x\":{\"desiredValue\":1,\"desiredVersion\":4,\"lastUpdateTime\":"
       "\"1970-01-01T00:00:02.0000000Z\"}}},"
       "\"$metadata\":{\"$model\":\"dtmi:x:y;1\",\"temp\":{\"lastUpdateTime\":\"1970-01-01T00:00:01."
       "0000000Z\"},"
       "\"plain\":{\"lastUpdateTime\":\"1970-01-01T00:00:01.0000000Z\"},"
       "\"mode\":{\"desiredValue\":\"a\",\"desiredVersion\":4,\"lastUpdateTime\":\"1970-01-01T00:00:02."
       "0000000Z\"}}}");
}

static enum twin_digital_wrong patch(const char *body, const char *want)
{
    static const struct twin_stamp now = { 1, 1 };
    struct twin_patch p;
    struct twin_fault f;
    enum twin_digital_wrong wrong = DIGITAL_FINE;
    const struct jnode *desired =
        stamped("{\"mode\":\"a\",\"o\":{\"x\":1,\"y\":2},\"th1\":{\"__t\":\"c\",\"target\":20}}", &now);
    if (twin_digital_patch(&a, span_str(body), desired, &p, &wrong, &f))
        return wrong;
    is(jtree_text(&a, p.desired.patch), want);
    assert_true(p.service && !p.tags.patch && !p.reported.patch && !p.desired.replace);
    return DIGITAL_FINE;
}

static void test_operations(void **state)
{
    static const char *const rows[][2] = {
        { "[{\"op\":\"replace\",\"path\":\"/mode\",\"value\":1.0}]", "{\"mode\":1.0}" },
        { "[{\"op\":\"add\",\"path\":\"/o\",\"value\":{\"y\":3}}]", "{\"o\":{\"y\":3,\"x\":null}}" },
        { "[{\"op\":\"remove\",\"path\":\"/o\"}]", "{\"o\":null}" },
        { "[{\"op\":\"add\",\"path\":\"/a~1b~0\",\"value\":[1]}]", "{\"a/b~\":[1]}" },
        { "[{\"op\":\"replace\",\"path\":\"/th1/target\",\"value\":21}]",
          "{\"th1\":{\"__t\":\"c\",\"target\":21}}" },
        { "[{\"op\":\"remove\",\"path\":\"/th1/target\"}]", "{\"th1\":{\"__t\":\"c\",\"target\":null}}" },
        { "[{\"op\":\"add\",\"path\":\"/th2/z\",\"value\":0}]", "{\"th2\":{\"__t\":\"c\",\"z\":0}}" },
        { "[{\"op\":\"add\",\"path\":\"/th1\",\"value\":{\"q\":1,\"$metadata\":{}}}]",
          "{\"th1\":{\"__t\":\"c\",\"q\":1,\"target\":null}}" },
        { "[{\"op\":\"add\",\"path\":\"/p\",\"value\":1},{\"op\":\"add\",\"path\":\"/p\",\"value\":2},"
          "{\"op\":\"add\",\"path\":\"/th3/a\",\"value\":1},{\"op\":\"add\",\"path\":\"/th3/b\",\"value\":2},"
          "{\"op\":\"remove\",\"path\":\"/mode\"}]",
          "{\"p\":2,\"th3\":{\"__t\":\"c\",\"a\":1,\"b\":2},\"mode\":null}" },
    };
    static const struct {
        const char *body;
        enum twin_digital_wrong wrong;
    } bad[] = {
        { "", DIGITAL_NO_PATCH },
        { "{}", DIGITAL_NO_PATCH },
        { "[]", DIGITAL_NO_PATCH },
        { "[1]", DIGITAL_NO_PATCH },
        { "[{\"op\":\"add\"}]", DIGITAL_NO_PATCH },
        { "[{\"op\":\"add\",\"path\":\"/a\"}]", DIGITAL_NO_PATCH },
        { "[{\"op\":\"move\",\"path\":\"/a\",\"value\":1}]", DIGITAL_BAD_OP },
        { "[{\"op\":\"add\",\"path\":\"\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/a/b/c\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/a~2\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/a~\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/$metadata\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/mode/x\",\"value\":1}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"remove\",\"path\":\"/none\"}]", DIGITAL_BAD_PATH },
        { "[{\"op\":\"remove\",\"path\":\"/mode\"},{\"op\":\"remove\",\"path\":\"/mode\"}]",
          DIGITAL_BAD_PATH },
        { "[{\"op\":\"add\",\"path\":\"/th1\",\"value\":{\"q\":1}}]", DIGITAL_BAD_VALUE },
        { "[{\"op\":\"add\",\"path\":\"/th1/t\",\"value\":{\"$metadata\":{}}}]", DIGITAL_BAD_VALUE },
        { "[{\"op\":\"add\",\"path\":\"/a.b\",\"value\":1}]", DIGITAL_BAD_VALUE },
        { "[{\"op\":\"add\",\"path\":\"/a\",\"value\":4503599627370496}]", DIGITAL_BAD_VALUE },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(patch(rows[i][0], rows[i][1]), DIGITAL_FINE);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (patch(bad[i].body, "") != bad[i].wrong)
            fail_msg("%s", bad[i].body);
    const char *whole = rows[8][0];
    for (size_t n = 0; n < strlen(whole); n++) {
        char cut[400];
        snprintf(cut, sizeof cut, "%.*s", (int)n, whole);
        assert_int_equal(patch(cut, ""), DIGITAL_NO_PATCH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_view, setup, teardown),
        cmocka_unit_test_setup_teardown(test_operations, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
