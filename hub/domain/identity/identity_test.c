/* hub/domain/identity/identity_test.c - devices and modules as they are written: the table of modes and
 * etags, the rules of authentication, edge devices and parents, modules and their cap, new keys. */
#include "hub/domain/identity/identity_write.h"
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct fixture F;

static int setup(void **state)
{
    (void)state;
    fixture_init(&F);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_fini(&F);
    return 0;
}

struct call { /* one write, in a transaction of its own; its rows live in the arena until the next */
    struct identity_spec spec;
    struct module_spec module;
    enum identity_mode mode;
    uint64_t if_etag;
    struct device_row d;
    struct module_row m;
    struct module_row *rows;
    size_t nr;
    bool key1, key2;
    enum identity_fault fault;
};
static struct arena arena;

static enum err run_device(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return identity_write(&F.hub, tx, &arena, &c->spec, c->mode, c->if_etag, &c->d, &c->fault);
}
static enum err run_module(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return module_write(&F.hub, tx, &arena, &c->module, c->mode, c->if_etag, &c->m, &c->fault);
}
static enum err run_delete(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return identity_delete(&F.hub, tx, c->spec.id, c->if_etag, &c->fault);
}
static enum err run_module_delete(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return module_delete(&F.hub, tx, c->module.device, c->module.id, c->if_etag, &c->fault);
}
static enum err run_module_list(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return module_list(tx, &arena, c->module.device, &c->rows, &c->nr, &c->fault);
}
static enum err run_rekey(struct store_tx *tx, void *ctx)
{
    struct call *c = ctx;
    return identity_rekey(&F.hub, tx, &arena, c->module.device, c->module.id, c->key1, c->key2, &c->d, &c->m,
                          &c->fault);
}

static enum err call(struct call *c, enum err (*fn)(struct store_tx *tx, void *ctx))
{
    arena_fini(&arena);
    arena_init(&arena, 1 << 20);
    return fixture_tx(&F, fn, c);
}

static struct call device(const char *id, enum identity_mode mode)
{
    return (struct call){ .spec.id = span_str(id), .mode = mode };
}
static struct call module(const char *device_id, const char *id, enum identity_mode mode)
{
    return (struct call){ .module = { .device = span_str(device_id), .id = span_str(id) }, .mode = mode };
}

#define DONE(c, fn) assert_int_equal(call(&(c), fn), ERR_OK)
#define REFUSED(c, fn, e, why)                                                                               \
    do {                                                                                                     \
        assert_int_equal(call(&(c), fn), e);                                                                 \
        assert_int_equal((c).fault, why);                                                                    \
        assert_true(strlen(identity_fault_text(why)) > 8);                                                   \
    } while (0)

static void same(struct span got, const char *want)
{
    assert_int_equal(got.n, strlen(want));
    assert_memory_equal(got.n ? got.p : (const uint8_t *)"", want, got.n);
}

/* ---- modes and etags --------------------------------------------------------------------------------- */

static void test_create_replace_and_etags(void **state)
{
    struct call c = device("d1", IDENTITY_REPLACE);
    (void)state;
    REFUSED(c, run_device, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
    c.mode = IDENTITY_CREATE;
    DONE(c, run_device);
    assert_int_equal(c.d.etag, 1);
    assert_int_equal(c.d.seq, 1);
    assert_int_equal(c.d.generation.n, 18);
    assert_int_equal(c.d.status, DEVICE_ENABLED);
    assert_int_equal(c.d.status_updated_ms, 0);
    REFUSED(c, run_device, ERR_EXISTS, IDENTITY_DEVICE_EXISTS);
    c.mode = IDENTITY_REPLACE;
    c.if_etag = 7;
    REFUSED(c, run_device, ERR_STALE, IDENTITY_ETAG);
    c.if_etag = 1;
    c.spec.disabled = true;
    c.spec.status_reason = SPAN("lost");
    DONE(c, run_device);
    assert_int_equal(c.d.etag, 2);
    assert_int_equal(c.d.status, DEVICE_DISABLED);
    assert_true(c.d.status_updated_ms > 0);
    same(c.d.status_reason, "lost");
    c.mode = IDENTITY_CREATE_OR_REPLACE;
    c.if_etag = 0;
    c.spec.status_reason = SPAN_NONE; /* what is not given is cleared */
    DONE(c, run_device);
    assert_int_equal(c.d.status_reason.n, 0);
    c.if_etag = 1;
    REFUSED(c, run_delete, ERR_STALE, IDENTITY_ETAG);
    c.if_etag = 3;
    DONE(c, run_delete);
    REFUSED(c, run_delete, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
    c = device("d1", IDENTITY_CREATE_OR_REPLACE);
    c.if_etag = 9; /* only for what is there */
    DONE(c, run_device);
    assert_int_equal(c.d.seq, 2);
}

static void test_ids_and_texts(void **state)
{
    char reason[400] = "";
    struct call c = device("has space", IDENTITY_CREATE);
    (void)state;
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_BAD_ID);
    c.spec.id = SPAN("d1");
    for (int i = 0; i < 128; i++)
        strcat(reason, "\xc3\xbc"); /* characters count, not bytes */
    c.spec.status_reason = span_str(reason);
    DONE(c, run_device);
    strcat(reason, "x");
    c.spec.status_reason = span_str(reason);
    c.mode = IDENTITY_REPLACE;
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_BAD_TEXT);
}

/* What the hub itself knows of a device stays when an operator replaces it. */
static enum err put_known(struct store_tx *tx, void *ctx)
{
    struct device_row r = fixture_row("known");
    r.public_key = SPAN("0123456789abcdef0123456789abcdef");
    r.product = SPAN("lamp");
    r.hw_class = 7;
    r.status = *(uint8_t *)ctx;
    r.key1 = r.key2 = SPAN_NONE;
    return tx_device_put(tx, &r, 0, NULL);
}

static void test_a_waiting_device_is_approved_by_enabling_it(void **state)
{
    uint8_t pending = DEVICE_PENDING;
    struct call c = device("known", IDENTITY_REPLACE);
    (void)state;
    assert_int_equal(fixture_tx(&F, put_known, &pending), ERR_OK);
    c.spec.disabled = true;
    DONE(c, run_device);
    assert_int_equal(c.d.status, DEVICE_PENDING);
    c.spec.disabled = false;
    DONE(c, run_device);
    assert_int_equal(c.d.status, DEVICE_ENABLED);
    assert_true(c.d.issued_unused); /* it gets its keys when it asks next */
    same(c.d.product, "lamp");
    assert_int_equal(c.d.hw_class, 7);
    assert_int_equal(c.d.public_key.n, 32);
}

static enum err put_unused(struct store_tx *tx, void *ctx)
{
    struct device_row r = fixture_row(ctx);
    r.issued_unused = true;
    return tx_device_put(tx, &r, 0, NULL);
}

/* Bootstrap hands an unused key out to whoever asks under the id: not one that somebody else has set. */
static void test_keys_that_are_brought_are_not_handed_out(void **state)
{
    struct call c = device("fresh", IDENTITY_REPLACE);
    char id[] = "fresh";
    (void)state;
    assert_int_equal(fixture_tx(&F, put_unused, id), ERR_OK);
    DONE(c, run_device);
    assert_true(c.d.issued_unused); /* made by the hub */
    c.spec.proof = (struct identity_proof){ .given = true,
                                            .has_kind = true,
                                            .kind = AUTH_SAS,
                                            .key1 = FIXTURE_KEY(fixture_key1),
                                            .key2 = FIXTURE_KEY(fixture_key2) };
    assert_int_equal(fixture_tx(&F, put_unused, id), ERR_OK); /* with the same two keys */
    DONE(c, run_device);
    assert_true(c.d.issued_unused);
    c.spec.proof.key2 = SPAN("0123456789abcdef0123456789abcdef");
    DONE(c, run_device);
    assert_false(c.d.issued_unused);
    assert_int_equal(fixture_tx(&F, put_unused, id), ERR_OK);
    c.spec.proof = (struct identity_proof){ .given = true, .has_kind = true, .kind = AUTH_CA };
    DONE(c, run_device);
    assert_false(c.d.issued_unused);
}

/* ---- authentication ---------------------------------------------------------------------------------- */

#define HEX40 "0123456789abcdefABCDEF0123456789abcdef01"
#define HEX64 HEX40 "0123456789abcdef01234567"

static void test_symmetric_keys(void **state)
{
    struct call c = device("d1", IDENTITY_CREATE);
    uint8_t key[32];
    (void)state;
    DONE(c, run_device);
    assert_int_equal(c.d.key1.n, 32);
    assert_int_equal(c.d.key2.n, 32);
    assert_memory_not_equal(c.d.key1.p, c.d.key2.p, 32);
    memcpy(key, c.d.key1.p, 32);
    c.mode = IDENTITY_REPLACE; /* an update without authentication makes new ones */
    DONE(c, run_device);
    assert_memory_not_equal(c.d.key1.p, key, 32);
    c.spec.proof = (struct identity_proof){ .given = true, .key1 = SPAN("0123456789abcdef") };
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_ONE_KEY);
    c.spec.proof.key2 = SPAN("0123456789abcde");
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_KEY_LENGTH);
    uint8_t big[65] = { 1 };
    c.spec.proof.key2 = span_of(big, 65);
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_KEY_LENGTH);
    c.spec.proof.key2 = span_of(big, 64);
    DONE(c, run_device);
    same(c.d.key1, "0123456789abcdef");
    assert_int_equal(c.d.key2.n, 64);
    assert_int_equal(c.d.auth, AUTH_SAS);
}

static void test_certificates(void **state)
{
    struct call c = device("d1", IDENTITY_CREATE);
    (void)state;
    c.spec.proof = (struct identity_proof){ .given = true, .thumb1 = SPAN(HEX40) };
    DONE(c, run_device); /* the kind is inferred */
    assert_int_equal(c.d.auth, AUTH_SELF_SIGNED);
    same(c.d.thumb1, HEX40); /* as given */
    assert_int_equal(c.d.key1.n, 0);
    c.mode = IDENTITY_REPLACE;
    c.spec.proof.thumb2 = SPAN("01:23:45:67:89:ab:cd:ef:01:23:45:67:89:ab");
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_BAD_THUMBPRINT);
    c.spec.proof.thumb2 = SPAN(HEX64 "0");
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_BAD_THUMBPRINT);
    c.spec.proof.thumb2 = SPAN(HEX64);
    DONE(c, run_device);
    same(c.d.thumb2, HEX64);
    c.spec.proof = (struct identity_proof){ .given = true, .has_kind = true, .kind = AUTH_CA };
    c.spec.proof.thumb1 = SPAN(HEX40);
    c.spec.proof.key1 = SPAN("x");
    DONE(c, run_device); /* what does not belong is left out */
    assert_int_equal(c.d.auth, AUTH_CA);
    assert_int_equal(c.d.thumb1.n + c.d.thumb2.n + c.d.key1.n + c.d.key2.n, 0);
    c.spec.proof.kind = AUTH_NONE;
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_NO_AUTH);
    uint8_t auth = 9;
    assert_int_equal(identity_auth_parse(SPAN("SELFsigned"), &auth), ERR_OK);
    assert_int_equal(auth, AUTH_SELF_SIGNED);
    assert_int_equal(identity_auth_parse(SPAN("self"), &auth), ERR_PROTO);
    assert_string_equal(identity_auth_name(AUTH_CA), "certificateAuthority");
}

static void test_new_keys(void **state)
{
    struct call c = device("d1", IDENTITY_CREATE), m = module("d1", "m", IDENTITY_CREATE);
    uint8_t key1[32], key2[32];
    (void)state;
    DONE(c, run_device);
    memcpy(key1, c.d.key1.p, 32);
    memcpy(key2, c.d.key2.p, 32);
    c.module.device = SPAN("d1");
    c.key1 = true;
    DONE(c, run_rekey);
    assert_memory_not_equal(c.d.key1.p, key1, 32);
    assert_memory_equal(c.d.key2.p, key2, 32);
    assert_int_equal(c.d.etag, 2);
    DONE(m, run_module);
    memcpy(key1, m.m.key1.p, 32);
    memcpy(key2, m.m.key2.p, 32);
    m.key2 = true;
    DONE(m, run_rekey);
    assert_memory_equal(m.m.key1.p, key1, 32);
    assert_memory_not_equal(m.m.key2.p, key2, 32);
    m.module.id = SPAN("n");
    REFUSED(m, run_rekey, ERR_NOTFOUND, IDENTITY_NO_MODULE);
    c.module.device = SPAN("d2");
    REFUSED(c, run_rekey, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
    c = device("ca", IDENTITY_CREATE);
    c.spec.proof = (struct identity_proof){ .given = true, .has_kind = true, .kind = AUTH_CA };
    DONE(c, run_device);
    c.module.device = SPAN("ca");
    REFUSED(c, run_rekey, ERR_PROTO, IDENTITY_NO_KEYS);
}

/* ---- edge devices ------------------------------------------------------------------------------------ */

static void test_an_edge_device(void **state)
{
    struct call c = device("gw", IDENTITY_CREATE), l = module("gw", "", IDENTITY_CREATE);
    char scope[64];
    (void)state;
    c.spec.edge = true;
    c.spec.scope = SPAN("mine"); /* ignored */
    DONE(c, run_device);
    assert_true(span_starts(c.d.scope, SPAN("ms-azure-iot-edge://gw-6")));
    assert_int_equal(c.d.scope.n, strlen("ms-azure-iot-edge://gw-") + 18);
    snprintf(scope, sizeof scope, "%.*s", (int)c.d.scope.n, (const char *)c.d.scope.p);
    DONE(l, run_module_list);
    assert_int_equal(l.nr, 2);
    same(l.rows[0].id, "$edgeAgent");
    same(l.rows[1].id, "$edgeHub");
    same(l.rows[0].managed_by, "iotEdge");
    assert_int_equal(l.rows[0].auth, AUTH_NONE);
    assert_int_equal(l.rows[0].key1.n, 0);

    c.mode = IDENTITY_REPLACE;
    REFUSED(c, run_device, ERR_PROTO, IDENTITY_SCOPE_IMMUTABLE);
    c.spec.scope = SPAN_NONE;
    DONE(c, run_device);
    same(c.d.scope, scope);
    c.spec.scope = span_str(scope);
    DONE(c, run_device);
    same(c.d.scope, scope);
    c.spec.edge = false; /* its own scope goes */
    DONE(c, run_device);
    assert_int_equal(c.d.scope.n, 0);
    c.spec.edge = true;
    c.spec.scope = SPAN_NONE;
    DONE(c, run_device);
    same(c.d.scope, "ms-azure-iot-edge://gw-");
    DONE(l, run_module_list);
    assert_int_equal(l.nr, 2);
}

static void test_parents(void **state)
{
    struct call top = device("top-1", IDENTITY_CREATE), mid = device("mid", IDENTITY_CREATE),
                leaf = device("leaf", IDENTITY_CREATE);
    char scope[64], mid_scope[64];
    (void)state;
    top.spec.edge = mid.spec.edge = true;
    DONE(top, run_device);
    snprintf(scope, sizeof scope, "%.*s", (int)top.d.scope.n, (const char *)top.d.scope.p);

    mid.spec.parent_scope = span_str(scope);
    DONE(mid, run_device);
    same(mid.d.parent_scope, scope);
    snprintf(mid_scope, sizeof mid_scope, "%.*s", (int)mid.d.scope.n, (const char *)mid.d.scope.p);
    assert_string_not_equal(mid_scope, scope);
    mid.mode = IDENTITY_REPLACE;
    mid.spec.parent_scope = span_str(mid_scope); /* nobody is its own parent */
    REFUSED(mid, run_device, ERR_PROTO, IDENTITY_BAD_PARENT);
    mid.spec.parent_scope = SPAN_NONE;
    DONE(mid, run_device);
    assert_int_equal(mid.d.parent_scope.n, 0);

    leaf.spec.parent_scope = span_str(scope); /* not how a leaf says it: ignored */
    DONE(leaf, run_device);
    assert_int_equal(leaf.d.parent_scope.n, 0);
    leaf.mode = IDENTITY_REPLACE;
    leaf.spec.scope = span_str(scope);
    DONE(leaf, run_device);
    same(leaf.d.scope, scope);
    same(leaf.d.parent_scope, scope);
    static const char *const bad[] = { "x", "ms-azure-iot-edge://", "ms-azure-iot-edge://nobody-1",
                                       "ms-azure-iot-edge://leaf-", "ms-azure-iot-edge://top-1-7" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        leaf.spec.scope = span_str(bad[i]);
        REFUSED(leaf, run_device, ERR_PROTO, IDENTITY_BAD_PARENT);
    }
    /* A parent that is gone meanwhile does not stand in the way of other changes. */
    DONE(top, run_delete);
    leaf.spec.scope = span_str(scope);
    DONE(leaf, run_device);
    leaf.spec.edge = true;
    REFUSED(leaf, run_device, ERR_PROTO, IDENTITY_SCOPE_IMMUTABLE);
    leaf.spec.scope = SPAN_NONE;
    leaf.spec.parent_scope = SPAN_NONE;
    DONE(leaf, run_device);
    same(leaf.d.scope, "ms-azure-iot-edge://leaf-");
    assert_int_equal(leaf.d.parent_scope.n, 0);
}

/* ---- modules ----------------------------------------------------------------------------------------- */

static void test_modules(void **state)
{
    struct call d = device("d1", IDENTITY_CREATE), c = module("d1", "m1", IDENTITY_CREATE);
    char text[256];
    struct wr w = { (uint8_t *)text, sizeof text, 0 };
    (void)state;
    REFUSED(c, run_module, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
    REFUSED(c, run_module_list, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
    DONE(d, run_device);
    DONE(c, run_module_list);
    assert_int_equal(c.nr, 0);
    c.module.managed_by = SPAN("me");
    c.module.proof = (struct identity_proof){ .given = true, .has_kind = true, .kind = AUTH_NONE };
    DONE(c, run_module);
    assert_int_equal(c.m.auth, AUTH_SAS); /* as the cloud does */
    assert_int_equal(c.m.key1.n, 32);
    assert_int_equal(c.m.etag, 1);
    assert_int_equal(c.m.generation.n, 18);
    same(c.m.managed_by, "me");
    module_connection_string(&F.hub, &c.m, &w);
    assert_true(
        span_starts(wr_span(&w), SPAN("HostName=hub.example.net;DeviceId=d1;ModuleId=m1;SharedAccessKey=")));
    REFUSED(c, run_module, ERR_EXISTS, IDENTITY_MODULE_EXISTS);
    c.mode = IDENTITY_REPLACE;
    c.if_etag = 5;
    REFUSED(c, run_module, ERR_STALE, IDENTITY_ETAG);
    c.if_etag = 1;
    c.module.managed_by = SPAN_NONE;
    c.module.proof = (struct identity_proof){ .given = true, .thumb1 = SPAN(HEX64) };
    DONE(c, run_module);
    assert_int_equal(c.m.managed_by.n, 0);
    assert_int_equal(c.m.auth, AUTH_SELF_SIGNED);
    assert_int_equal(c.m.etag, 2);
    REFUSED(c, run_module_delete, ERR_STALE, IDENTITY_ETAG);
    c.if_etag = 2;
    DONE(c, run_module_delete);
    REFUSED(c, run_module_delete, ERR_NOTFOUND, IDENTITY_NO_MODULE);
    c.if_etag = 0;
    REFUSED(c, run_module, ERR_NOTFOUND, IDENTITY_NO_MODULE);
    c.module.id = SPAN("a/b");
    c.mode = IDENTITY_CREATE;
    REFUSED(c, run_module, ERR_PROTO, IDENTITY_BAD_ID);
    c = module("d2", "m1", IDENTITY_CREATE);
    REFUSED(c, run_module_delete, ERR_NOTFOUND, IDENTITY_NO_DEVICE);
}

static void test_a_device_has_so_many_modules(void **state)
{
    struct call d = device("d1", IDENTITY_CREATE), c;
    char id[16];
    (void)state;
    DONE(d, run_device);
    for (unsigned i = 0; i < IDENTITY_MODULES_MAX; i++) {
        snprintf(id, sizeof id, "m%u", i);
        c = module("d1", id, IDENTITY_CREATE);
        DONE(c, run_module);
    }
    c = module("d1", "more", IDENTITY_CREATE);
    REFUSED(c, run_module, ERR_LIMIT, IDENTITY_TOO_MANY);
    c = module("d1", "m7", IDENTITY_REPLACE);
    DONE(c, run_module);
    c = module("d1", "", IDENTITY_CREATE);
    DONE(c, run_module_list);
    assert_int_equal(c.nr, IDENTITY_MODULES_MAX);
    /* An edge device whose modules do not fit is not made one by half. */
    d.mode = IDENTITY_REPLACE;
    d.spec.edge = true;
    REFUSED(d, run_device, ERR_LIMIT, IDENTITY_TOO_MANY);
    d.spec.edge = false;
    DONE(d, run_device);
    assert_int_equal(d.d.etag, 2);
    assert_int_equal(d.d.scope.n, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_create_replace_and_etags),
        T(test_ids_and_texts),
        T(test_a_waiting_device_is_approved_by_enabling_it),
        T(test_keys_that_are_brought_are_not_handed_out),
        T(test_symmetric_keys),
        T(test_certificates),
        T(test_new_keys),
        T(test_an_edge_device),
        T(test_parents),
        T(test_modules),
        T(test_a_device_has_so_many_modules),
    };
#undef T
    int failed = cmocka_run_group_tests_name("identity", tests, NULL, NULL);
    arena_fini(&arena);
    return failed;
}
