/* hub/domain/access/access_test.c - credentials against the real store: every refusal, both keys, policies,
 * and a cache that never outlives a change. */
#include "tests/fake/hub_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fx);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    fixture_device(&fx, "off", DEVICE_DISABLED);
    fixture_device(&fx, "waits", DEVICE_PENDING);
    fixture_policy(&fx, "device", ACCESS_DEVICE_CONNECT);
    fixture_policy(&fx, "service", ACCESS_SERVICE_CONNECT);
    fixture_policy(&fx, "reader", ACCESS_REGISTRY_READ);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    fixture_fini(&fx);
    return 0;
}

static struct access_check check;

static enum access_why device_check(const char *device, struct span token)
{
    memset(&check, 0, sizeof check);
    check.hub = &fx.hub;
    check.token = token;
    check.device = span_str(device);
    fixture_prepare(&fx, &check.store.op);
    access_start(&check);
    enum err e = fixture_wait(&fx, &check.store.op);
    assert_int_equal(e, check.why == ACCESS_OK ? ERR_OK : ERR_DENIED);
    return check.why;
}
static enum access_why policy_check(struct span token, uint32_t rights, const char *path)
{
    memset(&check, 0, sizeof check);
    check.hub = &fx.hub;
    check.token = token;
    check.policy_only = true;
    check.rights = rights;
    check.path = span_str(path);
    fixture_prepare(&fx, &check.store.op);
    access_start(&check);
    (void)fixture_wait(&fx, &check.store.op);
    return check.why;
}

static void test_both_keys_of_a_device(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    for (int again = 0; again < 2; again++) { /* from the store, then from the cache */
        struct span token = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
        assert_int_equal(device_check("d1", token), ACCESS_OK);
        assert_int_equal(check.granted, 0);
        assert_true(span_eq(span_of(check.identity, check.identity_len), SPAN("d1")));
        assert_true(span_eq(span_of(check.generation, check.generation_len), SPAN("637000000000000001")));
        token = fixture_token(t, "HUB.example.net/devices/d1", fixture_key2, 60, "");
        assert_int_equal(device_check("d1", token), ACCESS_OK);
    }
    assert_int_equal(atomic_load(&fx.metrics.access_reads_total), 1);
}

static void test_device_is_taken_from_the_audience(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    assert_int_equal(device_check("", fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "")),
                     ACCESS_OK);
    assert_true(span_eq(span_of(check.identity, check.identity_len), SPAN("d1")));
    assert_int_equal(device_check("", fixture_token(t, "hub.example.net", fixture_key1, 60, "")),
                     ACCESS_AUDIENCE);
    assert_int_equal(device_check("", fixture_token(t, "hub.example.net/devices/", fixture_key1, 60, "")),
                     ACCESS_AUDIENCE);
}

static void test_refusals(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    static const uint8_t wrong[32] = "not-a-key-of-anybody-not-a-key!";
    const char *own = "hub.example.net/devices/d1";
    assert_int_equal(device_check("d1", SPAN("")), ACCESS_NO_TOKEN);
    assert_int_equal(device_check("d1", SPAN("password")), ACCESS_BAD_TOKEN);
    assert_int_equal(device_check("d1", fixture_token(t, own, wrong, 60, "")), ACCESS_SIGNATURE);
    assert_int_equal(device_check("d1", fixture_token(t, own, fixture_key1, -299, "")), ACCESS_OK);
    assert_int_equal(device_check("d1", fixture_token(t, own, fixture_key1, -310, "")), ACCESS_EXPIRED);
    assert_int_equal(device_check("d10", fixture_token(t, own, fixture_key1, 60, "")), ACCESS_AUDIENCE);
    assert_int_equal(device_check("d1", fixture_token(t, "other.net/devices/d1", fixture_key1, 60, "")),
                     ACCESS_AUDIENCE);
    assert_int_equal(
        device_check("nobody", fixture_token(t, "hub.example.net/devices/nobody", fixture_key1, 60, "")),
        ACCESS_UNKNOWN);
    assert_int_equal(
        device_check("off", fixture_token(t, "hub.example.net/devices/off", fixture_key1, 60, "")),
        ACCESS_DISABLED);
    assert_int_equal(
        device_check("waits", fixture_token(t, "hub.example.net/devices/waits", fixture_key1, 60, "")),
        ACCESS_DISABLED);
}

static void test_every_cut_of_a_token_is_refused(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span token = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    for (size_t n = 0; n < token.n; n++)
        assert_int_not_equal(device_check("d1", span_of(token.p, n)), ACCESS_OK);
    assert_int_equal(device_check("d1", token), ACCESS_OK);
}

static void test_policies_connect_devices_only_with_the_right(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    assert_int_equal(device_check("d1", fixture_token(t, "hub.example.net", fixture_key1, 60, "device")),
                     ACCESS_OK);
    assert_int_equal(check.granted, ACCESS_DEVICE_CONNECT);
    assert_int_equal(
        device_check("d1", fixture_token(t, "hub.example.net/devices", fixture_key2, 60, "device")),
        ACCESS_OK);
    assert_int_equal(device_check("d1", fixture_token(t, "hub.example.net", fixture_key1, 60, "service")),
                     ACCESS_RIGHTS);
    assert_int_equal(device_check("d1", fixture_token(t, "hub.example.net", fixture_key1, 60, "nopolicy")),
                     ACCESS_UNKNOWN);
    assert_int_equal(device_check("off", fixture_token(t, "hub.example.net", fixture_key1, 60, "device")),
                     ACCESS_DISABLED);
    assert_int_equal(device_check("ghost", fixture_token(t, "hub.example.net", fixture_key1, 60, "device")),
                     ACCESS_UNKNOWN);
}

static enum err put_module(struct store_tx *tx, void *ctx)
{
    return tx_module_put(tx, ctx, 0, NULL);
}
/* The cache knows "off/m" as a module, and a module is nobody while its device is disabled. */
static void test_a_module_is_not_a_device_with_a_slash(void **state)
{
    char t[SAS_TOKEN_MAX];
    struct module_row m = { .device = SPAN("off"),
                            .id = SPAN("m"),
                            .key1 = FIXTURE_KEY(fixture_key1),
                            .key2 = FIXTURE_KEY(fixture_key2),
                            .generation = SPAN("77") };
    (void)state;
    assert_int_equal(fixture_tx(&fx, put_module, &m), ERR_OK);
    struct span token = fixture_token(t, "hub.example.net", fixture_key1, 60, "device");
    for (int again = 0; again < 2; again++) {
        memset(&check, 0, sizeof check);
        check.hub = &fx.hub;
        check.token = token;
        check.device = SPAN("off");
        check.module = SPAN("m");
        fixture_prepare(&fx, &check.store.op);
        access_start(&check);
        assert_int_equal(fixture_wait(&fx, &check.store.op), ERR_DENIED);
        assert_int_equal(check.why, ACCESS_DISABLED);
    }
    assert_int_equal(device_check("off/m", token), ACCESS_UNKNOWN);
    assert_int_equal(device_check("off/", token), ACCESS_UNKNOWN);
}

static void test_service_requests_need_all_rights(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span token = fixture_token(t, "hub.example.net", fixture_key1, 60, "reader");
    assert_int_equal(policy_check(token, ACCESS_REGISTRY_READ, "/roost/v1/devices"), ACCESS_OK);
    assert_int_equal(policy_check(token, ACCESS_REGISTRY_WRITE, "/roost/v1/devices"), ACCESS_RIGHTS);
    assert_int_equal(policy_check(token, ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE, "/roost/v1/devices"),
                     ACCESS_RIGHTS);
    token = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    assert_int_equal(policy_check(token, ACCESS_REGISTRY_READ, "/roost/v1/devices"), ACCESS_RIGHTS);
}

static void test_a_change_is_seen_at_once(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span token = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    assert_int_equal(device_check("d1", token), ACCESS_OK);
    fixture_device(&fx, "d1", DEVICE_DISABLED);
    assert_int_equal(device_check("d1", token), ACCESS_DISABLED);
    fixture_device(&fx, "d1", DEVICE_ENABLED);
    assert_int_equal(device_check("d1", token), ACCESS_OK);
    assert_int_equal(fixture_tx(&fx, fixture_delete_device, (void *)(uintptr_t) "d1"), ERR_OK);
    access_forget(fx.hub.access, SPAN("d1"));
    assert_int_equal(device_check("d1", token), ACCESS_UNKNOWN);
    struct span policy = fixture_token(t, "hub.example.net", fixture_key1, 60, "reader");
    assert_int_equal(policy_check(policy, ACCESS_REGISTRY_READ, "/"), ACCESS_OK);
    fixture_policy(&fx, "reader", 0);
    assert_int_equal(policy_check(policy, ACCESS_REGISTRY_READ, "/"), ACCESS_RIGHTS);
}

/* A change while the row is being read: whichever comes first, the next check reads again. */
static void test_a_row_read_before_a_change_is_not_kept(void **state)
{
    char t[SAS_TOKEN_MAX];
    (void)state;
    struct span token = fixture_token(t, "hub.example.net/devices/d1", fixture_key1, 60, "");
    for (int i = 0; i < 20; i++) {
        access_forget(fx.hub.access, SPAN("d1"));
        memset(&check, 0, sizeof check);
        check.hub = &fx.hub;
        check.token = token;
        check.device = SPAN("d1");
        fixture_prepare(&fx, &check.store.op);
        access_start(&check);
        access_forget(fx.hub.access, SPAN("d1"));
        assert_int_equal(fixture_wait(&fx, &check.store.op), ERR_OK);
        uint64_t reads = atomic_load(&fx.metrics.access_reads_total);
        assert_int_equal(device_check("d1", token), ACCESS_OK);
        assert_int_equal(atomic_load(&fx.metrics.access_reads_total), reads + 1);
        assert_int_equal(device_check("d1", token), ACCESS_OK);
        assert_int_equal(atomic_load(&fx.metrics.access_reads_total), reads + 1);
    }
}

/* The cache holds 64 entries here: more identities than that go through it and all are right. */
static void test_more_identities_than_the_cache_holds(void **state)
{
    char t[SAS_TOKEN_MAX], id[16], resource[64];
    (void)state;
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof id, "many%d", i);
        fixture_device(&fx, id, DEVICE_ENABLED);
    }
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 200; i++) {
            snprintf(id, sizeof id, "many%d", i);
            snprintf(resource, sizeof resource, "hub.example.net/devices/%s", id);
            assert_int_equal(device_check(id, fixture_token(t, resource, fixture_key1, 60, "")), ACCESS_OK);
        }
    assert_true(atomic_load(&fx.metrics.access_reads_total) >= 200);
}

static enum err is_used(struct store_tx *tx, void *ctx)
{
    struct device_row r;
    enum err e = tx_device_get(tx, span_str(ctx), &r);
    return e ? e : r.issued_unused ? ERR_STALE : ERR_OK;
}
static void test_first_use_of_a_handed_out_key_is_written_down(void **state)
{
    char t[SAS_TOKEN_MAX], name[] = "fresh";
    (void)state;
    struct device_row r = fixture_row(name);
    r.issued_unused = true;
    assert_int_equal(fixture_tx(&fx, fixture_put_device, &r), ERR_OK);
    /* A policy's token says nothing about the device's own key. */
    assert_int_equal(device_check(name, fixture_token(t, "hub.example.net", fixture_key1, 60, "device")),
                     ACCESS_OK);
    assert_int_equal(fixture_tx(&fx, is_used, name), ERR_STALE);
    assert_int_equal(
        device_check(name, fixture_token(t, "hub.example.net/devices/fresh", fixture_key1, 60, "")),
        ACCESS_OK);
    assert_int_equal(fixture_tx(&fx, is_used, name), ERR_OK); /* the writer works in order */
    assert_int_equal(
        device_check(name, fixture_token(t, "hub.example.net/devices/fresh", fixture_key2, 60, "")),
        ACCESS_OK);
}

static void test_status(void **state)
{
    (void)state;
    struct access_status s = { .hub = &fx.hub,
                               .identity = SPAN("d1"),
                               .generation = SPAN("637000000000000001") };
    fixture_prepare(&fx, &s.store.op);
    access_status_start(&s);
    assert_int_equal(fixture_wait(&fx, &s.store.op), ERR_OK);
    s.generation = SPAN("637000000000000002"); /* deleted and made again */
    fixture_prepare(&fx, &s.store.op);
    access_status_start(&s);
    assert_int_equal(fixture_wait(&fx, &s.store.op), ERR_DENIED);
    s = (struct access_status){ .hub = &fx.hub,
                                .identity = SPAN("off"),
                                .generation = SPAN("637000000000000001") };
    fixture_prepare(&fx, &s.store.op);
    access_status_start(&s);
    assert_int_equal(fixture_wait(&fx, &s.store.op), ERR_DENIED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_both_keys_of_a_device),
        T(test_device_is_taken_from_the_audience),
        T(test_refusals),
        T(test_every_cut_of_a_token_is_refused),
        T(test_policies_connect_devices_only_with_the_right),
        T(test_a_module_is_not_a_device_with_a_slash),
        T(test_service_requests_need_all_rights),
        T(test_a_change_is_seen_at_once),
        T(test_a_row_read_before_a_change_is_not_kept),
        T(test_more_identities_than_the_cache_holds),
        T(test_first_use_of_a_handed_out_key_is_written_down),
        T(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
