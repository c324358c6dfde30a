/* hub/domain/update/campaign_test.c - campaigns and check-ins on the real store: devices made of reports
 * alone. */
#include "tests/fake/hub_fixture.h"
#include "tests/fake/trust_fixture.h"

#include "hub/domain/update/campaign.h"
#include "hub/domain/update/trust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena arena;
static struct trust_record trust;
static struct trust_object trust_raw;
static struct trust_payload payload;
static uint8_t r1[OBJECT_ID_LEN], r2[OBJECT_ID_LEN], r8[OBJECT_ID_LEN]; /* class 7 seq 1 and 2; class 8 */

static enum err run_publish(struct store_tx *tx, void *ctx)
{
    struct trust_published p;
    return trust_publish(&fx.hub, tx, &arena, SPAN("t"), ((struct trust_object *)ctx)->raw, &p);
}
static enum err run_artifact(struct store_tx *tx, void *ctx)
{
    const struct trust_payload *p = ctx;
    struct artifact_row row = { .root = span_of(p->root, 32),
                                .payload_sha256 = span_of(p->sha256, 32),
                                .tree_sha256 = span_of(p->sha256, 32),
                                .payload_len = p->len,
                                .tree_len = p->tree_len };
    return tx_artifact_put(tx, &row);
}
static enum err run_release(struct store_tx *tx, void *ctx)
{
    struct release_added added;
    enum err e = release_add(&fx.hub, tx, &arena, SPAN("t"), ((struct trust_object *)ctx)->raw, &added);
    assert_int_equal(added.refusal, RELEASE_TAKEN);
    return e;
}
static void push(uint32_t seq, uint16_t hw_class, uint8_t id[OBJECT_ID_LEN])
{
    struct trust_object o;
    trust_fixture_release(&o, seq, hw_class, &payload, TRUST_KEY_RELEASE, id);
    assert_int_equal(fixture_tx(&fx, run_release, &o), ERR_OK);
}

static int setup(void **state)
{
    struct envelope env;
    size_t used;
    (void)state;
    fixture_init(&fx);
    arena_init(&arena, 64u << 20);
    fx.hub.settings.checkin_s = 100;
    fx.hub.settings.ticket_ttl_s = 3600;
    fx.hub.https_port = 8443;
    fx.hub.http_port = 80;
    trust_fixture_seed(fx.hub.director_seed, TRUST_KEY_DIRECTOR);
    memcpy(fx.hub.director_pub, trust_fixture_key(TRUST_KEY_DIRECTOR).pub, ED25519_KEY_LEN);
    trust_fixture_record(&trust_raw, 1, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT);
    assert_int_equal(fixture_tx(&fx, run_publish, &trust_raw), ERR_OK);
    assert_int_equal(envelope_decode(trust_raw.raw, ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
    assert_int_equal(trust_record_decode(env.body, &port_crypto, &trust), ERR_OK);
    trust_fixture_payload(&payload, 9000, 1);
    assert_int_equal(fixture_tx(&fx, run_artifact, &payload), ERR_OK);
    push(1, 7, r1);
    push(2, 7, r2);
    push(1, 8, r8);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    free(payload.tree);
    arena_fini(&arena);
    fixture_fini(&fx);
    return 0;
}

/* ---- a device that is only its reports ---------------------------------------------------------------- */

struct dev {
    const char *id;
    struct report r;
    struct ticket ticket; /* the newest it was given */
    bool got_ticket, got_trust;
    uint8_t bundle[40000];
};

static struct dev device(const char *id, uint16_t hw_class)
{
    fixture_device(&fx, id, DEVICE_ENABLED);
    struct dev d = { .id = id };
    d.r = (struct report){ .product = SPAN("widget"),
                           .hw_class = hw_class,
                           .hw_rev = 1,
                           .boot_id = 77,
                           .trust_version = 1,
                           .battery_pct = 255 };
    return d;
}

static struct checkin_answer answer;
struct asked {
    struct dev *d;
    struct span raw;
};
static enum err run_checkin(struct store_tx *tx, void *ctx)
{
    struct asked *a = ctx;
    return checkin_decide(&fx.hub, tx, &arena, span_str(a->d->id), a->raw, &answer);
}

/* Checks in; reads the bundle as a device would. */
static void checkin_as_is(struct dev *d)
{
    uint8_t mem[REPORT_MAX];
    struct wr w = { mem, sizeof mem, 0 };
    struct span bundle;
    report_encode(&w, &d->r);
    assert_true(wr_ok(&w));
    struct asked a = { d, wr_span(&w) };
    assert_int_equal(fixture_tx(&fx, run_checkin, &a), ERR_OK);
    assert_int_equal(checkin_bundle(&fx.hub, &arena, &answer, &bundle), ERR_OK);
    d->got_ticket = d->got_trust = false;
    assert_true(bundle.n <= sizeof d->bundle);
    memcpy(d->bundle, bundle.p, bundle.n);
    struct span in = span_of(d->bundle, bundle.n);
    bool got_release = false;
    uint8_t release_id[OBJECT_ID_LEN];
    while (in.n) {
        struct envelope env;
        struct release rel;
        size_t used;
        assert_int_equal(envelope_decode(in, ENVELOPE_BODY_MAX, &env, &used), ERR_OK);
        in = span_skip(in, used);
        switch (env.kind) {
        case ENVELOPE_TRUST_RECORD:
            d->got_trust = true;
            break;
        case ENVELOPE_RELEASE:
            assert_int_equal(release_decode(env.body, &rel), ERR_OK);
            assert_int_equal(release_verify(&port_crypto, &trust, &rel, &env), ERR_OK);
            envelope_id(&port_crypto, &env, release_id);
            got_release = true;
            break;
        default: {
            uint8_t hash[DEVICE_HASH_LEN];
            struct ticket t;
            assert_true(got_release);
            assert_int_equal(ticket_decode(env.body, &t), ERR_OK);
            assert_int_equal(ticket_verify(&port_crypto, &trust, &env), ERR_OK);
            device_hash_of(&port_crypto, span_str(d->id), hash);
            assert_memory_equal(t.device_hash, hash, sizeof hash);
            assert_memory_equal(t.nonce, d->r.nonce, sizeof t.nonce);
            assert_memory_equal(t.release_id, release_id, sizeof release_id);
            assert_true(t.ticket_seq > d->ticket.ticket_seq && t.ticket_seq > d->r.ticket_seq);
            d->ticket = t;
            d->got_ticket = true;
        }
        }
    }
    assert_int_equal(got_release, d->got_ticket);
}
static void checkin(struct dev *d)
{
    d->r.report_seq++;
    d->r.nonce[0]++;
    checkin_as_is(d);
}
static void take_ticket(struct dev *d) /* it obeys: the attempt is now its own */
{
    memcpy(d->r.campaign, d->ticket.campaign, CAMPAIGN_ID_LEN);
    d->r.attempt = d->ticket.attempt;
    d->r.ticket_seq = d->ticket.ticket_seq;
    d->r.state = DEVICE_DOWNLOADING;
    d->r.reason = REASON_NONE;
}
static void trial(struct dev *d)
{
    struct rd id = rd_of(span_of(d->ticket.release_id, OBJECT_ID_LEN));
    d->r.trial_release = rd_le32(&id);
    memcpy(d->r.other, d->r.running, OBJECT_ID_LEN);
    memcpy(d->r.running, d->ticket.release_id, OBJECT_ID_LEN);
    d->r.state = DEVICE_TRIAL;
    d->r.boot_id++;
}
static void confirm(struct dev *d)
{
    d->r.state = DEVICE_IDLE;
    d->r.trial_release = 0;
}
static void revert(struct dev *d, unsigned reason)
{
    memcpy(d->r.running, d->r.other, OBJECT_ID_LEN);
    d->r.state = DEVICE_IDLE;
    d->r.reason = (uint16_t)reason;
    d->r.boot_id++;
}

/* ---- looking ------------------------------------------------------------------------------------------ */

static struct campaign_created created;
static enum err run_create(struct store_tx *tx, void *ctx)
{
    return campaign_create(&fx.hub, tx, &arena, ctx, &created);
}
static enum campaign_refusal campaign(const uint8_t *release, const char *const *devices)
{
    struct span rel = span_of(release, OBJECT_ID_LEN), ids[8];
    struct campaign_new in = { .releases = &rel, .releases_nr = 1, .all = !devices, .who = SPAN("tester") };
    for (; devices && devices[in.devices_nr]; in.devices_nr++)
        ids[in.devices_nr] = span_str(devices[in.devices_nr]);
    in.devices = ids;
    fixture_clock_offset_ms += 10; /* campaigns of one test have different times */
    assert_int_equal(fixture_tx(&fx, run_create, &in), ERR_OK);
    return created.refusal;
}

struct look {
    const char *device;
    uint8_t campaign[CAMPAIGN_ID_LEN];
    struct deployment_row row;
    bool found;
};
static enum err run_look(struct store_tx *tx, void *ctx)
{
    struct look *l = ctx;
    enum err e = tx_deployment_get(tx, span_str(l->device), span_of(l->campaign, CAMPAIGN_ID_LEN), &l->row);
    l->found = !e;
    return e == ERR_NOTFOUND ? ERR_OK : e;
}
static struct deployment_row row_of(const struct dev *d, const uint8_t id[CAMPAIGN_ID_LEN])
{
    struct look l = { .device = d->id };
    memcpy(l.campaign, id, CAMPAIGN_ID_LEN);
    assert_int_equal(fixture_tx(&fx, run_look, &l), ERR_OK);
    if (!l.found)
        l.row.state = 255;
    return l.row;
}
static void assert_state_of(const struct dev *d, const uint8_t id[CAMPAIGN_ID_LEN], unsigned state)
{
    unsigned is = row_of(d, id).state;
    if (is != state)
        fail_msg("%s is %s, not %s", d->id, deployment_state_name(is), deployment_state_name(state));
}
struct state_asked {
    uint8_t *id;
    unsigned state; /* out */
};
static enum err run_campaign_state(struct store_tx *tx, void *ctx)
{
    struct state_asked *a = ctx;
    struct campaign_row c;
    enum err e = tx_campaign_get(tx, span_of(a->id, CAMPAIGN_ID_LEN), &c);
    assert_int_equal(e, ERR_OK);
    a->state = c.state;
    return e;
}
static unsigned campaign_state(uint8_t *id)
{
    struct state_asked a = { id, 0 };
    assert_int_equal(fixture_tx(&fx, run_campaign_state, &a), ERR_OK);
    return a.state;
}
static enum err run_sweep(struct store_tx *tx, void *ctx)
{
    return campaign_sweep(&fx.hub, tx, &arena, ctx);
}
static void sweep(void)
{
    bool more = true;
    while (more)
        assert_int_equal(fixture_tx(&fx, run_sweep, &more), ERR_OK);
}

static const uint8_t first_install[CAMPAIGN_ID_LEN];

/* ---- tests ----------------------------------------------------------------------------------------------
 */

static void test_blank_device_gets_the_newest_release_of_its_class(void **state)
{
    struct dev d = device("d1", 7), e = device("d2", 8), f = device("d3", 9);
    (void)state;
    checkin(&d);
    assert_true(d.got_ticket);
    assert_memory_equal(d.ticket.release_id, r2, OBJECT_ID_LEN);
    assert_int_equal(d.ticket.url_nr, 2);
    assert_true(span_eq(d.ticket.url[0], SPAN("https://hub.example.net:8443/artifacts")));
    assert_true(span_eq(d.ticket.url[1], SPAN("http://hub.example.net/artifacts")));
    checkin(&e);
    assert_memory_equal(e.ticket.release_id, r8, OBJECT_ID_LEN);
    checkin(&f);
    assert_false(f.got_ticket); /* nothing for such hardware */
    take_ticket(&d);
    trial(&d);
    checkin(&d);
    assert_false(d.got_ticket); /* not while it is on trial */
    assert_state_of(&d, first_install, DEPLOYMENT_PROBATION);
    confirm(&d);
    checkin(&d);
    assert_false(d.got_ticket);
    assert_state_of(&d, first_install, DEPLOYMENT_CONFIRMED);
}

static void test_blank_device_prefers_the_standing_campaign(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    assert_int_equal(campaign(r1, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    assert_true(d.got_ticket);
    assert_memory_equal(d.ticket.release_id, r1, OBJECT_ID_LEN);
    assert_memory_equal(d.ticket.campaign, created.id, CAMPAIGN_ID_LEN);
}

static void test_a_device_in_service_waits_for_a_campaign(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    d.r.release_seq = 1;
    checkin(&d);
    assert_false(d.got_ticket); /* pushing a release updates nobody */
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    assert_true(d.got_ticket);
}

static void test_whole_update(void **state)
{
    static const uint8_t walk[][2] = { { DEVICE_DOWNLOADING, DEPLOYMENT_DOWNLOADING },
                                       { DEVICE_VERIFYING, DEPLOYMENT_DOWNLOADING },
                                       { DEVICE_STAGED, DEPLOYMENT_STAGED },
                                       { DEVICE_ARMED, DEPLOYMENT_ACTIVATING } };
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    assert_state_of(&d, created.id, 255); /* lazy */
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_OFFERED);
    assert_int_equal(row_of(&d, created.id).bytes_total, payload.len);
    take_ticket(&d);
    for (size_t i = 0; i < sizeof walk / sizeof walk[0]; i++) {
        d.r.state = walk[i][0];
        checkin(&d);
        assert_state_of(&d, created.id, walk[i][1]);
        assert_int_equal(d.got_ticket, d.r.state != DEVICE_ARMED);
        if (d.got_ticket) /* the same attempt, made fresh */
            assert_int_equal(d.ticket.attempt, 1);
    }
    trial(&d);
    checkin(&d);
    confirm(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_CONFIRMED);
    assert_int_equal(row_of(&d, created.id).deadline_ms, 0);
    checkin(&d);
    assert_false(d.got_ticket);
}

static void test_two_failures_are_enough(void **state)
{
    struct dev d = device("d1", 7);
    uint8_t id[CAMPAIGN_ID_LEN];
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    memcpy(id, created.id, sizeof id);
    checkin(&d);
    take_ticket(&d);
    trial(&d);
    checkin(&d);
    revert(&d, REASON_PROBATION_APP);
    checkin(&d);
    assert_state_of(&d, id, DEPLOYMENT_ROLLED_BACK);
    assert_int_equal(row_of(&d, id).reason, REASON_PROBATION_APP);
    assert_false(d.got_ticket); /* not at once */
    fixture_clock_offset_ms += (int64_t)DEPLOYMENT_RETRY_REVERTED_MS + 1000;
    checkin(&d);
    assert_true(d.got_ticket);
    assert_int_equal(d.ticket.attempt, 2);
    take_ticket(&d);
    trial(&d);
    revert(&d, REASON_WATCHDOG); /* the hub sees nothing of it but the end */
    checkin(&d);
    assert_state_of(&d, id, DEPLOYMENT_ROLLED_BACK);
    assert_int_equal(row_of(&d, id).reason, REASON_QUARANTINE);
    fixture_clock_offset_ms += (int64_t)10 * DEPLOYMENT_RETRY_REVERTED_MS;
    checkin(&d);
    assert_false(d.got_ticket);
    assert_int_equal(campaign(r2, NULL),
                     CAMPAIGN_CREATED); /* a new campaign does not make the release better */
    checkin(&d);
    assert_false(d.got_ticket);
    assert_state_of(&d, created.id, DEPLOYMENT_REJECTED);
    assert_int_equal(row_of(&d, created.id).reason, REASON_QUARANTINE);
    uint8_t r3[OBJECT_ID_LEN];
    push(3, 7, r3); /* another release does */
    assert_int_equal(campaign(r3, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    assert_true(d.got_ticket);
    assert_int_equal(d.ticket.attempt, 1);
}

static void test_late_fall_back_counts(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    take_ticket(&d);
    trial(&d);
    confirm(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_CONFIRMED);
    revert(&d, REASON_WATCHDOG);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_ROLLED_BACK);
}

static void test_silence_is_lost_and_a_report_heals(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    take_ticket(&d);
    d.r.state = DEVICE_ARMED;
    checkin(&d);
    sweep();
    assert_state_of(&d, created.id, DEPLOYMENT_ACTIVATING);
    fixture_clock_offset_ms += DEPLOYMENT_REBOOT_MS + 1000;
    sweep();
    assert_state_of(&d, created.id, DEPLOYMENT_LOST);
    trial(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_PROBATION);
    fixture_clock_offset_ms += 60000 + 200000 + 1000;
    sweep();
    assert_state_of(&d, created.id, DEPLOYMENT_LOST);
    confirm(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_CONFIRMED);
}

static void test_an_offer_that_is_not_taken_up_comes_again(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    fixture_clock_offset_ms += 301000;
    sweep();
    assert_state_of(&d, created.id, DEPLOYMENT_ELIGIBLE);
    checkin(&d);
    assert_true(d.got_ticket);
    assert_int_equal(d.ticket.attempt, 1);
}

static void test_stale_and_repeated_reports(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    take_ticket(&d);
    d.r.state = DEVICE_STAGED;
    checkin(&d);
    struct report newest = d.r;
    d.r.report_seq--; /* an older one arrives late */
    d.r.state = DEVICE_IDLE;
    d.r.reason = REASON_HASH;
    checkin_as_is(&d);
    assert_true(answer.stale);
    assert_false(d.got_ticket);
    assert_state_of(&d, created.id, DEPLOYMENT_STAGED);
    d.r.report_seq++; /* the same number again: acknowledged, not concluded from */
    checkin_as_is(&d);
    assert_false(answer.stale);
    assert_state_of(&d, created.id, DEPLOYMENT_STAGED);
    d.r = newest;
    d.r.boot_id++; /* flash was wiped: the count starts again, in another boot */
    d.r.report_seq = 0;
    d.r.state = DEVICE_IDLE;
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_OFFERED); /* it had lost its work, and was given a ticket */
    assert_true(d.got_ticket);
}

static void test_ticket_numbers_rise_across_hubs(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    d.r.ticket_seq = 4000; /* from a hub that is gone */
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    assert_int_equal(d.ticket.ticket_seq, 4001);
    checkin(&d);
    assert_int_equal(d.ticket.ticket_seq, 4002);
}

/* A number at its end stands in nobody's way: the record of a higher epoch that heals it must still arrive.
 */
static void test_a_spent_ticket_number_still_gets_trust(void **state)
{
    (void)state;
    static struct trust_object next;
    struct dev d = device("a", 7);
    d.r.ticket_seq = UINT32_MAX;
    checkin(&d);
    assert_false(d.got_ticket);
    trust_fixture_record(&next, 2, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT);
    assert_int_equal(fixture_tx(&fx, run_publish, &next), ERR_OK);
    checkin(&d);
    assert_true(d.got_trust && !d.got_ticket);
    d.r.ticket_seq = 0; /* forgotten with the old epoch */
    d.r.trust_version = 2;
    checkin(&d);
    assert_true(d.got_ticket);
}

static void test_campaign_for_listed_devices(void **state)
{
    struct dev d = device("d1", 7), e = device("d2", 7), f = device("d3", 8);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    memcpy(e.r.running, r1, OBJECT_ID_LEN);
    memcpy(f.r.running, r8, OBJECT_ID_LEN);
    checkin(&f); /* its hardware is known now */
    assert_int_equal(campaign(r2, (const char *const[]){ "d1", "nobody", NULL }), CAMPAIGN_NO_DEVICE);
    assert_int_equal(created.subject, 1);
    assert_int_equal(campaign(r2, (const char *const[]){ "d1", "d3", NULL }), CAMPAIGN_CREATED);
    assert_state_of(&d, created.id, DEPLOYMENT_ELIGIBLE);
    assert_state_of(&f, created.id, DEPLOYMENT_REJECTED);
    assert_int_equal(row_of(&f, created.id).reason, REASON_HW_MISMATCH);
    checkin(&e);
    assert_false(e.got_ticket); /* not listed */
    checkin(&d);
    assert_true(d.got_ticket);
    sweep();
    assert_int_equal(campaign_state(created.id), CAMPAIGN_RUNNING);
    take_ticket(&d);
    trial(&d);
    confirm(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_CONFIRMED);
    sweep();
    assert_int_equal(campaign_state(created.id), CAMPAIGN_COMPLETED);
    revert(&d, REASON_BOOT); /* even after the campaign has ended */
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_ROLLED_BACK);
}

static void test_newer_campaigns_take_over(void **state)
{
    struct dev d = device("d1", 7);
    uint8_t first[CAMPAIGN_ID_LEN], r3[OBJECT_ID_LEN];
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    memcpy(first, created.id, sizeof first);
    checkin(&d);
    push(3, 7, r3);
    assert_int_equal(campaign(r3, NULL), CAMPAIGN_CREATED);
    assert_int_equal(created.superseded, 1);
    assert_int_equal(campaign_state(first), CAMPAIGN_SUPERSEDED);
    checkin(&d);
    assert_memory_equal(d.ticket.release_id, r3, OBJECT_ID_LEN);
    assert_state_of(&d, first, DEPLOYMENT_SUPERSEDED);
    assert_state_of(&d, created.id, DEPLOYMENT_OFFERED);
}

static void test_an_older_standing_campaign_does_not_undo(void **state)
{
    struct dev d = device("d1", 7);
    uint8_t r3[OBJECT_ID_LEN], standing[CAMPAIGN_ID_LEN];
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    memcpy(standing, created.id, sizeof standing);
    push(3, 7, r3);
    assert_int_equal(campaign(r3, (const char *const[]){ "d1", NULL }), CAMPAIGN_CREATED);
    checkin(&d);
    assert_memory_equal(d.ticket.release_id, r3, OBJECT_ID_LEN);
    take_ticket(&d);
    trial(&d);
    confirm(&d);
    d.r.release_seq = 3;
    checkin(&d);
    sweep();
    assert_int_equal(campaign_state(created.id), CAMPAIGN_COMPLETED);
    assert_int_equal(campaign_state(standing), CAMPAIGN_RUNNING);
    checkin(&d);
    assert_false(d.got_ticket);
    assert_state_of(&d, standing, 255);
}

static enum err run_many_due(struct store_tx *tx, void *ctx)
{
    for (unsigned i = 0; i < 3 * CAMPAIGN_SWEEP_MAX; i++) {
        char id[16];
        snprintf(id, sizeof id, "m%u", i);
        struct deployment_row row = { .device = span_str(id),
                                      .campaign = span_of(ctx, CAMPAIGN_ID_LEN),
                                      .release = span_of(r2, OBJECT_ID_LEN),
                                      .state = DEPLOYMENT_ACTIVATING,
                                      .deadline_ms = 1 };
        enum err e = tx_deployment_put(tx, &row);
        if (e)
            return e;
    }
    return ERR_OK;
}
static enum err run_count(struct store_tx *tx, void *ctx)
{
    struct campaign_counts *c = ctx;
    return campaign_count(tx, span_of(created.id, CAMPAIGN_ID_LEN), c);
}

static void test_a_sweep_has_a_cap_and_goes_on(void **state)
{
    struct campaign_counts c;
    bool more = false;
    (void)state;
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    assert_int_equal(fixture_tx(&fx, run_many_due, created.id), ERR_OK);
    assert_int_equal(fixture_tx(&fx, run_sweep, &more), ERR_OK);
    assert_true(more);
    assert_int_equal(fixture_tx(&fx, run_count, &c), ERR_OK);
    assert_int_equal(c.by_state[DEPLOYMENT_LOST], CAMPAIGN_SWEEP_MAX);
    sweep();
    assert_int_equal(fixture_tx(&fx, run_count, &c), ERR_OK);
    assert_int_equal(c.by_state[DEPLOYMENT_LOST], 3 * CAMPAIGN_SWEEP_MAX);
    assert_int_equal(c.by_state[DEPLOYMENT_ACTIVATING], 0);
}

static void test_many_campaigns_for_one_device(void **state)
{
    struct dev d = device("d1", 7), other = device("d2", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    memcpy(other.r.running, r1, OBJECT_ID_LEN);
    for (unsigned i = 0; i < 80; i++)
        assert_int_equal(campaign(r2, (const char *const[]){ "d1", "d2", NULL }), CAMPAIGN_CREATED);
    checkin(&d);
    assert_true(d.got_ticket);
    assert_memory_equal(d.ticket.campaign, created.id, CAMPAIGN_ID_LEN); /* the newest */
    take_ticket(&d);
    trial(&d);
    confirm(&d);
    checkin(&d);
    assert_state_of(&d, created.id, DEPLOYMENT_CONFIRMED);
    checkin(&d);
    assert_false(d.got_ticket);
    checkin(&other);
    assert_true(other.got_ticket);
}

/* Campaigns for other hardware that name the device lie in front of the one that it failed. */
static void test_failures_behind_many_campaigns_are_not_forgotten(void **state)
{
    struct dev d = device("d1", 7);
    uint8_t id[CAMPAIGN_ID_LEN];
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    memcpy(id, created.id, sizeof id);
    for (int i = 0; i < 2; i++) {
        checkin(&d);
        assert_true(d.got_ticket);
        take_ticket(&d);
        trial(&d);
        revert(&d, REASON_WATCHDOG);
        checkin(&d);
        fixture_clock_offset_ms += (int64_t)DEPLOYMENT_RETRY_REVERTED_MS + 1000;
    }
    checkin(&d);
    assert_false(d.got_ticket);
    for (int i = 0; i < 20; i++)
        assert_int_equal(campaign(r8, (const char *const[]){ "d1", NULL }), CAMPAIGN_CREATED);
    checkin(&d);
    assert_false(d.got_ticket);
    assert_int_equal(row_of(&d, id).attempts, 2);
}

static void test_late_joiner_and_skipped(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    memcpy(d.r.running, r2, OBJECT_ID_LEN);
    checkin(&d);
    assert_false(d.got_ticket);
    assert_state_of(&d, created.id, DEPLOYMENT_SKIPPED);
    struct dev late = device("late", 7);
    checkin(&late);
    assert_true(late.got_ticket);
}

static void test_never_offer_what_cannot_fit(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    d.r.slot_len = payload.len - 1;
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_CREATED);
    checkin(&d);
    assert_false(d.got_ticket);
    assert_state_of(&d, created.id, DEPLOYMENT_REJECTED);
    assert_int_equal(row_of(&d, created.id).reason, REASON_SPACE);
}

static void test_missing_trust_records_come_along(void **state)
{
    struct dev d = device("d1", 7);
    (void)state;
    d.r.trust_version = 0;
    checkin(&d);
    assert_true(d.got_trust && d.got_ticket);
    d.r.trust_version = 1;
    checkin(&d);
    assert_false(d.got_trust);
}

static void test_refused_campaigns(void **state)
{
    uint8_t nobody[OBJECT_ID_LEN] = { 1 };
    struct span both[2] = { span_of(r1, OBJECT_ID_LEN), span_of(r2, OBJECT_ID_LEN) };
    struct campaign_new in = { .releases = both, .releases_nr = 2, .all = true, .who = SPAN("tester") };
    struct trust_object o;
    (void)state;
    assert_int_equal(campaign(nobody, NULL), CAMPAIGN_NO_RELEASE);
    assert_int_equal(fixture_tx(&fx, run_create, &in), ERR_OK);
    assert_int_equal(created.refusal, CAMPAIGN_OVERLAP);
    both[1] = span_of(r8, OBJECT_ID_LEN);
    assert_int_equal(fixture_tx(&fx, run_create, &in), ERR_OK);
    assert_int_equal(created.refusal, CAMPAIGN_CREATED); /* one a class */
    trust_fixture_record(&o, 2, TRUST_KEY_RELEASE2, TRUST_KEY_DIRECTOR, TRUST_KEY_RELEASE, TRUST_KEY_ROOT);
    assert_int_equal(fixture_tx(&fx, run_publish, &o), ERR_OK);
    assert_int_equal(campaign(r2, NULL), CAMPAIGN_BARRED);
    struct dev d = device("d1", 7);
    checkin(&d);
    assert_false(d.got_ticket); /* a running campaign does not offer it either */
}

static void test_every_cut_report_is_refused(void **state)
{
    struct dev d = device("d1", 7);
    uint8_t mem[REPORT_MAX];
    struct wr w = { mem, sizeof mem, 0 };
    (void)state;
    d.r.report_seq = 1;
    memcpy(d.r.running, r1, OBJECT_ID_LEN);
    report_encode(&w, &d.r);
    for (size_t n = 0; n < w.len; n++) {
        struct report r;
        uint8_t cut[REPORT_MAX];
        memcpy(cut, mem, n);
        struct asked a = { &d, span_of(cut, n) };
        enum err e = fixture_tx(&fx, run_checkin, &a);
        /* a cut between two members may still be a report; then it counts as one */
        assert_int_equal(e, report_decode(span_of(cut, n), &r) ? ERR_PROTO : ERR_OK);
    }
    struct dev ghost = { .id = "ghost", .r = d.r };
    struct asked a = { &ghost, wr_span(&w) };
    assert_int_equal(fixture_tx(&fx, run_checkin, &a), ERR_NOTFOUND);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_blank_device_gets_the_newest_release_of_its_class),
        T(test_blank_device_prefers_the_standing_campaign),
        T(test_a_device_in_service_waits_for_a_campaign),
        T(test_whole_update),
        T(test_two_failures_are_enough),
        T(test_late_fall_back_counts),
        T(test_silence_is_lost_and_a_report_heals),
        T(test_an_offer_that_is_not_taken_up_comes_again),
        T(test_stale_and_repeated_reports),
        T(test_ticket_numbers_rise_across_hubs),
        T(test_a_spent_ticket_number_still_gets_trust),
        T(test_campaign_for_listed_devices),
        T(test_newer_campaigns_take_over),
        T(test_an_older_standing_campaign_does_not_undo),
        T(test_a_sweep_has_a_cap_and_goes_on),
        T(test_many_campaigns_for_one_device),
        T(test_failures_behind_many_campaigns_are_not_forgotten),
        T(test_late_joiner_and_skipped),
        T(test_never_offer_what_cannot_fit),
        T(test_missing_trust_records_come_along),
        T(test_refused_campaigns),
        T(test_every_cut_report_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
