/* hub/store/identity_suite.c - the shared tests of devices, modules and certificate authorities. */
#include "hub/store/store_fixture.h"

#include <stdio.h>

static enum err each_module(void *ctx, const struct module_row *r)
{
    text_add(ctx, r->id);
    return ERR_OK;
}

static enum err each_ca(void *ctx, const struct ca_row *r)
{
    text_add(ctx, r->name);
    return ERR_OK;
}

static enum err each_body(void *ctx, const struct c2d_row *r)
{
    text_add(ctx, r->body);
    return ERR_OK;
}

/* ctx: a NULL-terminated array of "device" and "device/module". */
static enum err make(struct store_tx *t, void *ctx)
{
    for (const char **id = ctx; *id; id++) {
        const char *mark = strchr(*id, '/');
        struct device_row d = { .id = span_str(*id), .generation = SPAN("g") };
        struct module_row m = { .generation = SPAN("g"), .key1 = SPAN("one"), .key2 = SPAN("two") };
        if (mark) {
            m.device = span_of(*id, (size_t)(mark - *id));
            m.id = span_str(mark + 1);
            OK(tx_module_put(t, &m, UINT64_MAX, NULL));
        } else {
            OK(tx_device_put(t, &d, UINT64_MAX, NULL));
        }
    }
    return ERR_OK;
}
#define MAKE(...) W(make, ((const char *[]){ __VA_ARGS__, NULL }))

/* ---- what a device can be -------------------------------------------------------------------------- */

static enum err put_full_device(struct store_tx *t, void *ctx)
{
    struct device_row r = { .id = SPAN("gw"),
                            .generation = SPAN("g"),
                            .auth = AUTH_SELF_SIGNED,
                            .thumb1 = SPAN("aaBB"),
                            .thumb2 = SPAN("cc"),
                            .status_reason = SPAN("moved to the attic"),
                            .status_updated_ms = 17,
                            .edge = true,
                            .scope = SPAN("scope://gw"),
                            .parent_scope = SPAN("scope://up"),
                            .seq = 99 };
    (void)ctx;
    return tx_device_put(t, &r, 0, NULL);
}

static enum err check_full_device(struct store_tx *t, void *ctx)
{
    struct device_row r;
    OK(tx_device_get(t, SPAN("gw"), &r));
    assert_int_equal(r.auth, AUTH_SELF_SIGNED);
    same(r.thumb1, "aaBB");
    same(r.thumb2, "cc");
    same(r.status_reason, "moved to the attic");
    assert_int_equal(r.status_updated_ms, 17);
    assert_true(r.edge);
    same(r.scope, "scope://gw");
    same(r.parent_scope, "scope://up");
    assert_int_equal(r.seq, *(uint64_t *)ctx);
    return ERR_OK;
}

static enum err change_full_device(struct store_tx *t, void *ctx)
{
    struct device_row r;
    (void)ctx;
    OK(tx_device_get(t, SPAN("gw"), &r));
    r.auth = AUTH_CA;
    r.thumb1 = r.status_reason = r.parent_scope = SPAN_NONE;
    r.edge = false;
    r.seq = 1234;
    OK(tx_device_put(t, &r, r.etag, NULL));
    OK(tx_device_get(t, SPAN("gw"), &r));
    assert_int_equal(r.auth, AUTH_CA);
    assert_int_equal(r.thumb1.n, 0);
    same(r.thumb2, "cc");
    assert_int_equal(r.status_reason.n, 0);
    assert_int_equal(r.parent_scope.n, 0);
    assert_false(r.edge);
    assert_int_equal(r.seq, 1);
    return ERR_OK;
}

static void test_all_of_a_device_is_kept(void **state)
{
    uint64_t seq = 1;
    (void)state;
    W(put_full_device, NULL);
    R(check_full_device, &seq);
    W(check_full_device, &seq);
    reopen();
    W(put_full_device, NULL); /* again: its place in the order of creation stays */
    R(check_full_device, &seq);
    W(change_full_device, NULL);
}

struct listing {
    uint64_t after;
    size_t limit;
    const char *want;
};

/* As the single looks say it. */
static void seen_as_said(struct store_tx *t, struct span id, const struct identity_seen *seen)
{
    struct report_row r;
    uint64_t nr = 0;
    enum err e = tx_report_get(t, id, &r);
    assert_true(!e || e == ERR_NOTFOUND);
    assert_int_equal(seen->connected, !e && r.connected);
    assert_int_equal(seen->activity_ms, e ? 0 : r.activity_ms);
    assert_int_equal(seen->connected_changed_ms, e ? 0 : r.connected_changed_ms);
    e = tx_c2d_count(t, id, &nr);
    assert_true(!e || e == ERR_NOTFOUND);
    assert_int_equal(seen->waiting, nr);
}

static enum err is_seen(struct store_tx *t, const char *id)
{
    struct identity_seen seen;
    struct device_row d, same;
    OK(tx_identity_seen(t, span_str(id), &seen));
    seen_as_said(t, span_str(id), &seen);
    enum err e = tx_device_get_seen(t, span_str(id), &d, &seen);
    assert_int_equal(e, tx_device_get(t, span_str(id), &same));
    if (!e) {
        assert_true(span_eq(d.id, same.id) && d.seq == same.seq &&
                    span_eq(d.parent_scope, same.parent_scope));
        seen_as_said(t, d.id, &seen);
    }
    return ERR_OK;
}

struct seen_list {
    struct store_tx *t;
    struct text ids;
};

static enum err each_seen(void *ctx, const struct device_row *r, const struct identity_seen *seen)
{
    struct seen_list *l = ctx;
    seen_as_said(l->t, r->id, seen);
    return each_device(&l->ids, r);
}

static enum err check_by_seq(struct store_tx *t, void *ctx)
{
    struct listing *l = ctx;
    struct seen_list x = { .t = t };
    OK(tx_device_list_by_seq(t, l->after, l->limit, each_seen, &x));
    assert_string_equal(x.ids.p, l->want);
    return ERR_OK;
}

static enum err delete_device(struct store_tx *t, void *ctx)
{
    return tx_device_delete(t, span_str(ctx));
}

/* Fails after it made one: its number is not used, or used by the next; nobody else gets it twice. */
static enum err make_and_fail(struct store_tx *t, void *ctx)
{
    enum err e = make(t, ctx);
    return e ? e : ERR_DENIED;
}

static enum err check_seqs(struct store_tx *t, void *ctx)
{
    struct device_row z, m, a;
    struct module_row mod;
    (void)ctx;
    OK(tx_device_get(t, SPAN("z"), &z));
    OK(tx_module_get(t, SPAN("z"), SPAN("m"), &mod));
    uint64_t z_seq = z.seq;
    OK(tx_device_get(t, SPAN("m"), &m));
    uint64_t m_seq = m.seq;
    OK(tx_device_get(t, SPAN("a"), &a));
    assert_true(z_seq > 0 && z_seq < mod.seq && mod.seq < m_seq && m_seq < a.seq);
    return ERR_OK;
}

static void test_the_order_of_creation(void **state)
{
    (void)state;
    MAKE("z", "z/m", "m");
    assert_int_equal(store_write_wait(S, make_and_fail, ((const char *[]){ "lost", NULL })), ERR_DENIED);
    reopen();
    MAKE("a");
    R(check_seqs, NULL);
    R(check_by_seq, &((struct listing){ 0, 100, "z,m,a," }));
    R(check_by_seq, &((struct listing){ 0, 2, "z,m," }));
    R(check_by_seq, &((struct listing){ 1, 100, "m,a," }));
    W(delete_device, "z");
    MAKE("z"); /* another one now, behind the others */
    R(check_by_seq, &((struct listing){ 0, 100, "m,a,z," }));
    R(check_by_seq, &((struct listing){ UINT64_MAX, 100, "" }));
}

/* ---- modules --------------------------------------------------------------------------------------- */

static enum err put_module(struct store_tx *t, void *ctx)
{
    struct module_row r = { .device = SPAN("d1"),
                            .id = SPAN("m1"),
                            .managed_by = SPAN("IoTEdge"),
                            .auth = AUTH_SELF_SIGNED,
                            .key1 = SPAN("one"),
                            .thumb1 = SPAN("t1"),
                            .thumb2 = SPAN("t2"),
                            .generation = SPAN("g1"),
                            .created_ms = 5,
                            .updated_ms = 6 };
    uint64_t etag = 0;
    (void)ctx;
    assert_int_equal(tx_module_put(t, &r, 1, &etag), ERR_STALE);
    assert_int_equal(etag, 0);
    OK(tx_module_put(t, &r, UINT64_MAX, &etag));
    assert_int_equal(etag, 1);
    assert_int_equal(tx_module_put(t, &r, UINT64_MAX, &etag), ERR_EXISTS);
    assert_int_equal(tx_module_put(t, &r, 2, &etag), ERR_STALE);
    r.key2 = SPAN("two");
    OK(tx_module_put(t, &r, 1, &etag));
    assert_int_equal(etag, 2);
    OK(tx_module_put(t, &r, 0, NULL));
    return ERR_OK;
}

static enum err check_module(struct store_tx *t, void *ctx)
{
    struct module_row r;
    (void)ctx;
    OK(tx_module_get(t, SPAN("d1"), SPAN("m1"), &r));
    same(r.device, "d1");
    same(r.id, "m1");
    same(r.managed_by, "IoTEdge");
    assert_int_equal(r.auth, AUTH_SELF_SIGNED);
    same(r.key1, "one");
    same(r.key2, "two");
    same(r.thumb1, "t1");
    same(r.thumb2, "t2");
    same(r.generation, "g1");
    assert_int_equal(r.etag, 3);
    assert_int_equal(r.created_ms, 5);
    assert_int_equal(r.updated_ms, 6);
    assert_int_equal(r.seq, 2);
    assert_int_equal(tx_module_get(t, SPAN("d1"), SPAN("m"), &r), ERR_NOTFOUND);
    assert_int_equal(tx_module_get(t, SPAN("d"), SPAN("m1"), &r), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_a_module_is_kept(void **state)
{
    (void)state;
    MAKE("d1");
    W(put_module, NULL);
    R(check_module, NULL);
    reopen();
    R(check_module, NULL);
}

struct modules {
    const char *device;
    uint64_t nr;
    const char *want;
};

static enum err check_modules(struct store_tx *t, void *ctx)
{
    struct modules *m = ctx;
    struct text x = { .n = 0 };
    uint64_t nr = 77;
    OK(tx_module_list(t, span_str(m->device), each_module, &x));
    OK(tx_module_count(t, span_str(m->device), &nr));
    assert_string_equal(x.p, m->want);
    assert_int_equal(nr, m->nr);
    return ERR_OK;
}
#define MODULES(device, nr, want) R(check_modules, &((struct modules){ device, nr, want }))

struct hanging {
    const char *identity;
    bool there;
};

static enum err hang(struct store_tx *t, void *ctx)
{
    for (const char **id = ctx; *id; id++) {
        struct session_row s = { .id = span_str(*id), .channels = 1 };
        struct c2d_row m = { .device = span_str(*id), .enqueued_ms = 10, .body = span_str(*id) };
        uint64_t seq;
        OK(tx_session_put(t, &s));
        OK(tx_report_set_connected(t, s.id, true, 20));
        OK(tx_c2d_push(t, &m, 50, &seq));
    }
    return ERR_OK;
}

static enum err check_hanging(struct store_tx *t, void *ctx)
{
    struct hanging *h = ctx;
    struct session_row s;
    struct report_row r;
    struct text x = { .n = 0 };
    enum err want = h->there ? ERR_OK : ERR_NOTFOUND;
    assert_int_equal(tx_session_get(t, span_str(h->identity), &s), want);
    assert_int_equal(tx_report_get(t, span_str(h->identity), &r), want);
    OK(is_seen(t, h->identity));
    OK(tx_c2d_list(t, span_str(h->identity), 0, 0, 100, each_body, &x));
    assert_int_equal(x.n, h->there ? strlen(h->identity) + 1 : 0);
    return ERR_OK;
}
#define HANGS(identity, there) R(check_hanging, &((struct hanging){ identity, there }))

static enum err delete_module(struct store_tx *t, void *ctx)
{
    const char *const *id = ctx;
    return tx_module_delete(t, span_str(id[0]), span_str(id[1]));
}

static void test_modules_go_with_what_hangs_on_them(void **state)
{
    const char *all[] = { "d1", "d1/a", "d1/ab", "d1/a0", "d10", "d10/a", "d1!/a", NULL };
    (void)state;
    MAKE("d1", "d1/ab", "d1/a", "d1/a0", "d10", "d10/a", "d1!", "d1!/a");
    MODULES("d1", 3, "a,a0,ab,");
    MODULES("d10", 1, "a,");
    MODULES("d", 0, "");
    W(hang, all);
    for (size_t i = 0; all[i]; i++)
        HANGS(all[i], true);

    W(delete_module, ((const char *[]){ "d1", "a" }));
    assert_int_equal(store_write_wait(S, delete_module, ((const char *[]){ "d1", "a" })), ERR_NOTFOUND);
    HANGS("d1/a", false);
    HANGS("d1/ab", true);
    HANGS("d1/a0", true);
    HANGS("d1", true);
    MODULES("d1", 2, "a0,ab,");

    W(delete_device, "d1");
    HANGS("d1", false);
    HANGS("d1/ab", false);
    HANGS("d1/a0", false);
    HANGS("d10", true);
    HANGS("d10/a", true);
    HANGS("d1!/a", true);
    MODULES("d1", 0, "");
    MODULES("d10", 1, "a,");
}

/* ---- the queue of a module ------------------------------------------------------------------------- */

static enum err module_queue(struct store_tx *t, void *ctx)
{
    struct c2d_row m = { .device = SPAN("d1/m"), .enqueued_ms = 10, .body = SPAN("x") };
    struct text x = { .n = 0 };
    uint64_t seq, all, nr = 0;
    uint32_t deliveries = 0;
    (void)ctx;
    OK(tx_broadcast_push(t, &m, &all));
    for (int i = 0; i < 3; i++)
        OK(tx_c2d_push(t, &m, 3, &seq));
    assert_int_equal(tx_c2d_push(t, &m, 3, &seq), ERR_LIMIT);
    m.device = SPAN("d1/n");
    assert_int_equal(tx_c2d_push(t, &m, 3, &seq), ERR_NOTFOUND);
    OK(tx_c2d_list(t, SPAN("d1/m"), 0, 0, 100, each_body, &x));
    assert_string_equal(x.p, "x,x,x,"); /* the broadcast is for devices */
    OK(tx_c2d_count(t, SPAN("d1/m"), &nr));
    assert_int_equal(nr, 3);
    OK(tx_c2d_delivered(t, SPAN("d1/m"), false, seq, &deliveries));
    assert_int_equal(deliveries, 1);
    assert_int_equal(tx_c2d_settle(t, SPAN("d1/m"), true, all), ERR_NOTFOUND);
    assert_int_equal(tx_c2d_settle(t, SPAN("d1"), false, seq), ERR_NOTFOUND);
    OK(tx_c2d_settle(t, SPAN("d1/m"), false, seq));
    OK(tx_c2d_count(t, SPAN("d1/m"), &nr));
    assert_int_equal(nr, 2);
    OK(tx_c2d_count(t, SPAN("d1"), &nr));
    assert_int_equal(nr, 1); /* the broadcast */
    OK(is_seen(t, "d1"));
    OK(is_seen(t, "d1/m"));
    OK(tx_c2d_settle(t, SPAN("d1"), true, all));
    OK(is_seen(t, "d1"));
    OK(is_seen(t, "d1/n")); /* nobody */
    assert_int_equal(tx_c2d_count(t, SPAN("d1/n"), &nr), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_a_module_has_a_queue(void **state)
{
    (void)state;
    MAKE("d1", "d1/m");
    W(module_queue, NULL);
}

/* ---- authorities, connections ---------------------------------------------------------------------- */

static enum err authorities(struct store_tx *t, void *ctx)
{
    struct ca_row r = { .name = SPAN("plant"), .der = SPAN("\x30\0\x01"), .created_ms = 5 };
    struct text x = { .n = 0 };
    uint64_t etag = 0;
    (void)ctx;
    OK(tx_ca_put(t, &r, UINT64_MAX, &etag));
    assert_int_equal(etag, 1);
    assert_int_equal(tx_ca_put(t, &r, UINT64_MAX, &etag), ERR_EXISTS);
    assert_int_equal(tx_ca_put(t, &r, 9, &etag), ERR_STALE);
    OK(tx_ca_put(t, &r, 1, &etag));
    assert_int_equal(etag, 2);
    r.name = SPAN("attic");
    OK(tx_ca_put(t, &r, 0, NULL));
    OK(tx_ca_get(t, SPAN("plant"), &r));
    assert_true(span_eq(r.der, SPAN("\x30\0\x01")));
    assert_int_equal(r.etag, 2);
    assert_int_equal(r.created_ms, 5);
    OK(tx_ca_list(t, each_ca, &x));
    OK(tx_ca_delete(t, SPAN("plant")));
    assert_int_equal(tx_ca_delete(t, SPAN("plant")), ERR_NOTFOUND);
    assert_int_equal(tx_ca_get(t, SPAN("plant"), &r), ERR_NOTFOUND);
    OK(tx_ca_list(t, each_ca, &x));
    assert_string_equal(x.p, "attic,plant,attic,");
    return ERR_OK;
}

static void test_certificate_authorities(void **state)
{
    (void)state;
    W(authorities, NULL);
}

struct change {
    bool connected;
    uint64_t at_ms, want_ms;
};

static enum err connections(struct store_tx *t, void *ctx)
{
    static const struct change steps[] = {
        { true, 10, 10 }, { true, 20, 10 }, { false, 30, 30 }, { false, 40, 30 }, { true, 50, 50 }
    };
    struct report_row r = { .device = SPAN("d1"), .report = SPAN("r"), .activity_ms = 3 };
    (void)ctx;
    OK(tx_report_clear_connected(t, 1)); /* a hub starts before anybody connects */
    OK(tx_report_put(t, &r));
    OK(tx_report_get(t, SPAN("d1"), &r));
    assert_int_equal(r.connected_changed_ms, 0); /* it reported and never connected */
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        OK(tx_report_set_connected(t, SPAN("d1"), steps[i].connected, steps[i].at_ms));
        OK(tx_report_set_connected(t, SPAN("d1/m"), steps[i].connected, steps[i].at_ms));
        OK(tx_report_get(t, SPAN("d1/m"), &r));
        assert_int_equal(r.connected_changed_ms, steps[i].want_ms);
        OK(tx_report_get(t, SPAN("d1"), &r));
        assert_int_equal(r.connected_changed_ms, steps[i].want_ms);
        assert_int_equal(r.connected, steps[i].connected);
        assert_int_equal(r.activity_ms, steps[i].at_ms);
        OK(tx_report_put(t, &r)); /* a report in between does not lose it */
        OK(is_seen(t, "d1"));
        OK(is_seen(t, "d1/m"));
    }
    OK(tx_report_clear_connected(t, 55)); /* the hub crashed and starts again */
    OK(tx_report_get(t, SPAN("d1"), &r));
    assert_false(r.connected);
    assert_int_equal(r.connected_changed_ms, 55);
    OK(is_seen(t, "d1"));
    OK(tx_report_clear_connected(t, 57)); /* and again: it has been away since the first time */
    OK(tx_report_get(t, SPAN("d1"), &r));
    assert_int_equal(r.connected_changed_ms, 55);
    OK(tx_report_set_connected(t, SPAN("d1/m"), false, 58)); /* heard, but not connected */
    OK(tx_report_get(t, SPAN("d1/m"), &r));
    assert_int_equal(r.connected_changed_ms, 55);
    assert_int_equal(r.activity_ms, 58);
    OK(tx_report_set_connected(t, SPAN("d1"), true, 60));
    OK(tx_report_get(t, SPAN("d1"), &r));
    assert_int_equal(r.connected_changed_ms, 60);
    return ERR_OK;
}

static void test_when_a_connection_changed(void **state)
{
    (void)state;
    W(connections, NULL);
}

int store_suite_identity(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_all_of_a_device_is_kept),   T(test_the_order_of_creation),
        T(test_a_module_is_kept),          T(test_modules_go_with_what_hangs_on_them),
        T(test_a_module_has_a_queue),      T(test_certificate_authorities),
        T(test_when_a_connection_changed),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
