/* hub/store/fleet_suite.c - what every backend has to pass about releases, campaigns, deployments and the
 * small tables. */
#include "hub/store/store_fixture.h"

#include <stdio.h>
#include <stdlib.h>

static enum err put_reports(struct store_tx *t, void *ctx)
{
    struct report_row r = { .device = SPAN("d1"),
                            .report = SPAN("bytes"),
                            .report_seq = 7,
                            .boot_id = UINT64_MAX,
                            .reported_ms = 9,
                            .running = SPAN("rel"),
                            .connected = true,
                            .activity_ms = 11 };
    (void)ctx;
    OK(tx_report_put(t, &r));
    OK(tx_report_set_connected(t, SPAN("d2"), true, 12));
    OK(tx_report_set_connected(t, SPAN("d3"), true, 12));
    OK(tx_report_set_connected(t, SPAN("d3"), false, 13));
    return ERR_OK;
}

static enum err check_reports(struct store_tx *t, void *ctx)
{
    const bool *connected = ctx;
    struct report_row r;
    OK(tx_report_get(t, SPAN("d1"), &r));
    same(r.report, "bytes");
    same(r.running, "rel");
    assert_int_equal(r.report_seq, 7);
    assert_true(r.boot_id == UINT64_MAX);
    assert_int_equal(r.reported_ms, 9);
    assert_int_equal(r.activity_ms, 11);
    assert_int_equal(r.connected, connected[0]);
    OK(tx_report_get(t, SPAN("d2"), &r));
    assert_int_equal(r.connected, connected[1]);
    assert_int_equal(r.report.n, 0);
    OK(tx_report_get(t, SPAN("d3"), &r));
    assert_int_equal(r.connected, connected[2]);
    assert_int_equal(r.activity_ms, 13);
    return ERR_OK;
}

static enum err clear_connected(struct store_tx *t, void *ctx)
{
    (void)ctx;
    OK(tx_report_clear_connected(t, 13));
    return tx_report_set_connected(t, SPAN("d2"), true, 14);
}

static void test_connections_end_with_the_hub(void **state)
{
    (void)state;
    W(put_reports, NULL);
    R(check_reports, ((bool[]){ true, true, false }));
    W(clear_connected, NULL);
    R(check_reports, ((bool[]){ false, true, false }));
}

static enum err each_token(void *ctx, const struct token_row *r)
{
    text_add(ctx, r->name);
    return ERR_OK;
}

static enum err each_policy(void *ctx, const struct policy_row *r)
{
    text_add(ctx, r->name);
    return ERR_OK;
}

static enum err small_tables(struct store_tx *t, void *ctx)
{
    struct token_row tok = { .name = SPAN("t1"),
                             .hash = SPAN("h1"),
                             .hardware = SPAN("lamp:1"),
                             .created_ms = 1,
                             .expires_ms = 2,
                             .uses_left = UINT64_MAX };
    struct policy_row pol = { .name = SPAN("service"), .key1 = SPAN("k1"), .key2 = SPAN("k2"), .rights = 4 };
    struct artifact_row art = { .root = SPAN("root"),
                                .payload_sha256 = SPAN("p"),
                                .tree_sha256 = SPAN("t"),
                                .payload_len = 10,
                                .tree_len = 20 };
    struct text x = { .n = 0 };
    struct span val;
    (void)ctx;
    OK(tx_token_put(t, &tok));
    tok.name = SPAN("t2");
    assert_int_equal(tx_token_put(t, &tok), ERR_EXISTS); /* the same hash */
    tok.hash = SPAN("h2");
    tok.uses_left = 3;
    OK(tx_token_put(t, &tok));
    tok.uses_left = 2;
    OK(tx_token_put(t, &tok));
    OK(tx_token_get(t, SPAN("h2"), &tok));
    same(tok.name, "t2");
    same(tok.hardware, "lamp:1");
    assert_int_equal(tok.uses_left, 2);
    OK(tx_token_list(t, each_token, &x));
    OK(tx_token_get(t, SPAN("h1"), &tok));
    assert_true(tok.uses_left == UINT64_MAX);
    OK(tx_token_delete(t, SPAN("t1")));
    assert_int_equal(tx_token_delete(t, SPAN("t1")), ERR_NOTFOUND);
    assert_int_equal(tx_token_get(t, SPAN("h1"), &tok), ERR_NOTFOUND);

    OK(tx_policy_put(t, &pol));
    pol.name = SPAN("device");
    pol.rights = UINT32_MAX;
    OK(tx_policy_put(t, &pol));
    OK(tx_policy_get(t, SPAN("device"), &pol));
    assert_true(pol.rights == UINT32_MAX);
    same(pol.key2, "k2");
    OK(tx_policy_list(t, each_policy, &x));
    assert_string_equal(x.p, "t1,t2,device,service,");

    OK(tx_meta_put(t, SPAN("k"), SPAN("v\0w")));
    OK(tx_meta_get(t, SPAN("k"), &val));
    assert_true(span_eq(val, SPAN("v\0w")));
    OK(tx_meta_put(t, SPAN("k"), SPAN_NONE));
    OK(tx_meta_get(t, SPAN("k"), &val));
    assert_int_equal(val.n, 0);
    assert_int_equal(tx_meta_get(t, SPAN("K"), &val), ERR_NOTFOUND);

    assert_int_equal(tx_trust_get(t, 0, &val), ERR_NOTFOUND);
    OK(tx_trust_put(t, 2, SPAN("two")));
    OK(tx_trust_put(t, 1, SPAN("one")));
    assert_int_equal(tx_trust_put(t, 2, SPAN("other")), ERR_EXISTS);
    OK(tx_trust_get(t, 0, &val));
    same(val, "two");
    OK(tx_trust_get(t, 1, &val));
    same(val, "one");
    assert_int_equal(tx_trust_get(t, 3, &val), ERR_NOTFOUND);

    OK(tx_artifact_put(t, &art));
    OK(tx_artifact_get(t, SPAN("root"), &art));
    same(art.tree_sha256, "t");
    assert_int_equal(art.payload_len, 10);
    assert_int_equal(tx_artifact_get(t, SPAN("r"), &art), ERR_NOTFOUND);
    return ERR_OK;
}

static void test_small_tables(void **state)
{
    (void)state;
    W(small_tables, NULL);
}

static enum err each_release(void *ctx, const struct release_row *r)
{
    text_add(ctx, r->version);
    return ERR_OK;
}

static enum err each_campaign(void *ctx, const struct campaign_row *r)
{
    text_add(ctx, r->version);
    return ERR_OK;
}

static enum err each_deployment(void *ctx, const struct deployment_row *r)
{
    text_add(ctx, r->device);
    text_add(ctx, r->campaign);
    return ERR_OK;
}

static enum err releases(struct store_tx *t, void *ctx)
{
    struct release_row rel = { .id = SPAN("r1"),
                               .product = SPAN("lamp"),
                               .version = SPAN("1.0"),
                               .hw_class = 65535,
                               .hw_rev_min = 1,
                               .hw_rev_max = 255,
                               .release_seq = UINT32_MAX,
                               .created_ms = 3,
                               .envelope = SPAN("env") };
    struct campaign_row cam = { .id = SPAN("c1"),
                                .version = SPAN("1.0"),
                                .releases = SPAN("r1r2"),
                                .all = true,
                                .state = CAMPAIGN_RUNNING,
                                .created_ms = 4,
                                .created_by = SPAN("me") };
    struct text x = { .n = 0 };
    (void)ctx;
    OK(tx_release_put(t, &rel));
    rel.id = SPAN("r0");
    rel.version = SPAN("1.1");
    OK(tx_release_put(t, &rel));
    OK(tx_release_put(t, &rel));
    OK(tx_release_list(t, each_release, &x));
    OK(tx_release_get(t, SPAN("r1"), &rel));
    same(rel.envelope, "env");
    assert_int_equal(rel.hw_class, 65535);
    assert_int_equal(rel.hw_rev_max, 255);
    assert_true(rel.release_seq == UINT32_MAX);
    assert_int_equal(tx_release_get(t, SPAN("r2"), &rel), ERR_NOTFOUND);

    OK(tx_campaign_put(t, &cam));
    cam.id = SPAN("c0");
    cam.version = SPAN("1.1");
    cam.all = false;
    OK(tx_campaign_put(t, &cam));
    OK(tx_campaign_get(t, SPAN("c1"), &cam));
    assert_true(cam.all);
    same(cam.created_by, "me");
    cam.state = CAMPAIGN_SUPERSEDED;
    OK(tx_campaign_put(t, &cam));
    OK(tx_campaign_get(t, SPAN("c1"), &cam));
    assert_int_equal(cam.state, CAMPAIGN_SUPERSEDED);
    OK(tx_campaign_list(t, each_campaign, &x));
    assert_string_equal(x.p, "1.1,1.0,1.1,1.0,");
    return ERR_OK;
}

static void test_releases_and_campaigns(void **state)
{
    (void)state;
    W(releases, NULL);
}

static enum err deployments(struct store_tx *t, void *ctx)
{
    static const char *const rows[][2] = { { "d2", "c1" }, { "d1", "c1" }, { "d1", "c2" }, { "d3", "c1" } };
    struct deployment_row d = { .release = SPAN("r"),
                                .attempts = 1,
                                .reason = 2,
                                .updated_ms = 3,
                                .ticket_seq = UINT32_MAX,
                                .bytes_done = 5,
                                .bytes_total = 6 };
    struct text x = { .n = 0 };
    uint64_t nr[DEPLOYMENT_STATES];
    (void)ctx;
    for (size_t i = 0; i < 4; i++) {
        d.device = span_str(rows[i][0]);
        d.campaign = span_str(rows[i][1]);
        d.state = DEPLOYMENT_OFFERED;
        d.deadline_ms = 100 - i;
        OK(tx_deployment_put(t, &d));
    }
    OK(tx_deployment_get(t, SPAN("d3"), SPAN("c1"), &d));
    assert_true(d.ticket_seq == UINT32_MAX);
    assert_int_equal(d.deadline_ms, 97);
    assert_int_equal(d.bytes_total, 6);
    assert_int_equal(d.reason, 2);
    d.state = DEPLOYMENT_CONFIRMED;
    OK(tx_deployment_put(t, &d));
    assert_int_equal(tx_deployment_get(t, SPAN("d3"), SPAN("c2"), &d), ERR_NOTFOUND);
    OK(tx_deployment_list(t, SPAN_NONE, SPAN("c1"), SPAN("d1"), 1, each_deployment, &x));
    text_add(&x, SPAN("|"));
    OK(tx_deployment_list(t, SPAN("d1"), SPAN_NONE, SPAN_NONE, 10, each_deployment, &x));
    text_add(&x, SPAN("|"));
    OK(tx_deployment_due(t, 99, 10, each_deployment, &x));
    assert_string_equal(x.p, "d2,c1,|,d1,c2,d1,c1,|,d1,c2,d1,c1,");
    OK(tx_deployment_count(t, SPAN("c1"), nr));
    assert_int_equal(nr[DEPLOYMENT_OFFERED], 2);
    assert_int_equal(nr[DEPLOYMENT_CONFIRMED], 1);
    return ERR_OK;
}

static void test_deployments(void **state)
{
    (void)state;
    W(deployments, NULL);
}

static enum err each_audit(void *ctx, const struct audit_row *r)
{
    char n[24];
    text_add(ctx, span_of(n, (size_t)snprintf(n, sizeof n, "%llu", (unsigned long long)r->seq)));
    text_add(ctx, r->what);
    return ERR_OK;
}

static enum err audit(struct store_tx *t, void *ctx)
{
    static const char *const whats[] = { "made", "changed", "gone" };
    struct text x = { .n = 0 };
    (void)ctx;
    for (size_t i = 0; i < 3; i++) {
        struct audit_row r = { .at_ms = i,
                               .who = SPAN("me"),
                               .what = span_str(whats[i]),
                               .subject = SPAN("d1"),
                               .detail = SPAN("") };
        OK(tx_audit_push(t, &r));
    }
    OK(tx_audit_list(t, 0, 1, each_audit, &x));
    OK(tx_audit_list(t, 1, 10, each_audit, &x));
    assert_string_equal(x.p, "1,made,2,changed,3,gone,");
    return ERR_OK;
}

static void test_audit(void **state)
{
    (void)state;
    W(audit, NULL);
}

static enum err many_feedback(struct store_tx *t, void *ctx)
{
    struct feedback_row r = { .device = SPAN("d"), .message_id = SPAN("m"), .outcome = SPAN("Success") };
    (void)ctx;
    for (int i = 0; i < 100005; i++)
        OK(tx_feedback_push(t, &r));
    return ERR_OK;
}

static enum err first_feedback(void *ctx, const struct feedback_row *r)
{
    *(uint64_t *)ctx = r->seq;
    return ERR_OK;
}

static enum err check_trim(struct store_tx *t, void *ctx)
{
    uint64_t seq = 0;
    (void)ctx;
    OK(tx_feedback_list(t, 0, 1, first_feedback, &seq));
    assert_int_equal(seq, 6);
    return ERR_OK;
}

static void test_feedback_has_a_cap(void **state)
{
    (void)state;
    W(many_feedback, NULL);
    R(check_trim, NULL);
}

int store_suite_fleet(const struct store_suite *how)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_connections_end_with_the_hub),
        T(test_small_tables),
        T(test_releases_and_campaigns),
        T(test_deployments),
        T(test_audit),
        T(test_feedback_has_a_cap),
    };
#undef T
    store_fixture_use(how);
    return cmocka_run_group_tests_name("store fleet", tests, NULL, NULL);
}
