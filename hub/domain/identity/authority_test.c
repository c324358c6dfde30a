/* hub/domain/identity/authority_test.c - certificate authorities: what is taken, what is refused, how many.
 */
#include "hub/domain/identity/authority.h"
#include "tests/fake/certificate_fixture.h"
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena arena;
static struct made root, leaf;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    make(&root, "plant root", NULL, true);
    make(&leaf, "c1", &root, false);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    made_free(&root);
    made_free(&leaf);
    arena_fini(&arena);
    return 0;
}

struct call {
    const char *name;
    struct span pem;
    struct authority out, *rows;
    size_t nr;
    bool fresh;
};
static enum err run_put(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return authority_put(&fx.hub, tx, &arena, span_str(c->name), c->pem, &c->out, &c->fresh);
}
static enum err run_list(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return authority_list(tx, &arena, &c->rows, &c->nr);
}
static enum err run_delete(struct store_tx *tx, void *ctx)
{
    return authority_delete(tx, span_str(((struct call *)ctx)->name));
}
static enum err call(struct call *c, enum err (*fn)(struct store_tx *tx, void *ctx))
{
    arena_fini(&arena);
    arena_init(&arena, 1 << 20);
    return fixture_tx(&fx, fn, c);
}

static void test_put_list_delete(void **state)
{
    char text[4096], own[4096];
    struct call c = { .name = "plant", .pem = made_pem(&root, text, sizeof text) };
    (void)state;
    assert_int_equal(call(&c, run_put), ERR_OK);
    assert_true(c.fresh);
    assert_int_equal(c.out.etag, 1);
    assert_string_equal(c.out.facts.subject, "/CN=plant root");
    assert_int_equal(call(&c, run_put), ERR_OK);
    assert_false(c.fresh);
    assert_int_equal(c.out.etag, 2);
    c.name = "attic";
    assert_int_equal(call(&c, run_put), ERR_OK);
    assert_int_equal(call(&c, run_list), ERR_OK);
    assert_int_equal(c.nr, 2);
    assert_true(span_eq(c.rows[0].name, SPAN("attic")));
    assert_string_equal(c.rows[1].facts.subject, "/CN=plant root");
    assert_memory_equal(c.rows[1].facts.sha256, c.out.facts.sha256, 32);
    assert_int_equal(call(&c, run_delete), ERR_OK);
    assert_int_equal(call(&c, run_delete), ERR_NOTFOUND);

    c.pem = made_pem(&leaf, own, sizeof own); /* may not sign others */
    assert_int_equal(call(&c, run_put), ERR_DENIED);
    c.pem = SPAN("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_int_equal(call(&c, run_put), ERR_PROTO);
    c.pem = SPAN_NONE;
    assert_int_equal(call(&c, run_put), ERR_PROTO);
    assert_int_equal(call(&c, run_list), ERR_OK);
    assert_int_equal(c.nr, 1);
    assert_true(authority_name_ok(SPAN("plant-1")));
    assert_false(authority_name_ok(SPAN("")));
    assert_false(authority_name_ok(SPAN("a b")));
    assert_false(
        authority_name_ok(SPAN("0123456789012345678901234567890123456789012345678901234567890123x")));
}

/* A chain through it would be refused at every login: better said at once. */
static void test_a_weak_one_is_refused(void **state)
{
    static const struct {
        struct made_how how;
        enum err e;
    } cases[] = {
        { { .rsa_bits = 1024 }, ERR_VERIFY },
        { { .rsa_bits = 1536 }, ERR_VERIFY },
        { { .digest = "SHA1" }, ERR_VERIFY },
        { { .rsa_bits = 2048, .digest = "SHA1" }, ERR_VERIFY },
        { { .rsa_bits = 2048, .digest = "MD5" }, ERR_VERIFY },
        { { .rsa_bits = 2048 }, ERR_OK },
        { { .digest = "SHA384" }, ERR_OK },
    };
    char text[4096];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct made m;
        make_how(&m, "plant root", NULL, true, &cases[i].how);
        struct call c = { .name = "weak", .pem = made_pem(&m, text, sizeof text) };
        assert_int_equal(call(&c, run_put), cases[i].e);
        assert_int_equal(call(&c, run_list), ERR_OK);
        assert_int_equal(c.nr, cases[i].e ? 0 : 1);
        if (!cases[i].e)
            assert_int_equal(call(&c, run_delete), ERR_OK);
        made_free(&m);
    }
}

static void test_so_many_and_no_more(void **state)
{
    char text[4096], name[16];
    struct call c = { .name = name, .pem = made_pem(&root, text, sizeof text) };
    (void)state;
    for (unsigned i = 0; i < AUTHORITIES_MAX; i++) {
        snprintf(name, sizeof name, "a%u", i);
        assert_int_equal(call(&c, run_put), ERR_OK);
    }
    c.name = "more";
    assert_int_equal(call(&c, run_put), ERR_LIMIT);
    c.name = "a7"; /* one that is there can be replaced */
    assert_int_equal(call(&c, run_put), ERR_OK);
    assert_int_equal(call(&c, run_list), ERR_OK);
    assert_int_equal(c.nr, AUTHORITIES_MAX);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_put_list_delete), T(test_a_weak_one_is_refused),
                                        T(test_so_many_and_no_more) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
