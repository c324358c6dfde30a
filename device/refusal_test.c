/* device/refusal_test.c - tickets, bundles and releases that must not be obeyed: each is refused for its own
 * reason, the hub hears which, and nothing of it reaches flash. */
#include "device/world_test.h"

static struct world w;

static void begin(void)
{
    world_init(&w, 4096, 256, WORLD_SLOT_LEN);
}

/* A device that already runs 1.0.0, confirmed. */
static int begin_with(uint32_t len)
{
    begin();
    int r = world_release(&w, 10, 1, len, false);
    w.target = r;
    world_boot(&w, RESET_POWER);
    assert_true(world_settle(&w, r, 120000));
    return r;
}

static void bend_device(struct world *v, struct ticket *t)
{
    (void)v;
    t->device_hash[3] ^= 1;
}
static void bend_cohort(struct world *v, struct ticket *t)
{
    (void)v;
    t->is_cohort = true;
    t->has_nonce = false;
}
static void bend_nonce(struct world *v, struct ticket *t)
{
    (void)v;
    t->nonce[7] ^= 1;
}
static void bend_no_nonce(struct world *v, struct ticket *t)
{
    (void)v;
    t->has_nonce = false;
}
static void bend_seq(struct world *v, struct ticket *t)
{
    t->ticket_seq = v->d.conf.ticket_seq;
}
static void bend_ttl(struct world *v, struct ticket *t)
{
    (void)v;
    t->issued_s -= 7200;
}
static void bend_release_id(struct world *v, struct ticket *t)
{
    (void)v;
    t->release_id[0] ^= 1;
}

static void expect_refusal(uint16_t reason)
{
    uint32_t ops = w.artifact_bytes, asked = w.tickets;
    uint32_t slot = w.sim.ops_nr;
    w.last_refused = 0;
    world_c2d(&w, "update");
    world_run(&w, 20000);
    assert_true(w.tickets > asked || reason == REASON_FORMAT || reason == REASON_TRUST);
    assert_int_equal(w.last_refused, reason);
    assert_int_equal(w.report.reason, reason); /* and the hub knows why, without waiting for the period */
    assert_int_equal(w.artifact_bytes, ops);
    assert_true(w.sim.ops_nr - slot <= 2); /* at most a block of report numbers */
    assert_true(world_settled(&w, 0));
}

static void tickets_that_are_refused(void **state)
{
    static const struct {
        void (*bend)(struct world *, struct ticket *);
        uint16_t reason;
    } cases[] = { { bend_device, REASON_TICKET_DEVICE }, { bend_cohort, REASON_TICKET_DEVICE },
                  { bend_nonce, REASON_TICKET_STALE },   { bend_no_nonce, REASON_TICKET_STALE },
                  { bend_seq, REASON_TICKET_STALE },     { bend_ttl, REASON_TICKET_STALE },
                  { bend_release_id, REASON_FORMAT } };
    (void)state;
    (void)begin_with(5000);
    w.target = world_release(&w, 11, 1, 5000, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w.bend_ticket = cases[i].bend;
        expect_refusal(cases[i].reason);
    }
    w.bend_ticket = NULL;
    w.director = KEY_DIRECTOR + 1; /* a key the trust record does not list */
    expect_refusal(REASON_SIGNATURE_DIRECTOR);
    w.director = KEY_DIRECTOR;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, w.target, 60000));
    world_fini(&w);
}

static uint8_t recorded[4096];
static size_t recorded_len;
static void bend_record(struct world *v, struct wr *b)
{
    (void)v;
    if (!b->len)
        return;
    memcpy(recorded, b->p, b->len);
    recorded_len = b->len;
}
static void bend_replay(struct world *v, struct wr *b)
{
    (void)v;
    memcpy(b->p, recorded, recorded_len);
    b->len = recorded_len;
}
static void bend_cut(struct world *v, struct wr *b)
{
    (void)v;
    b->len -= 5;
}
static void bend_garbage(struct world *v, struct wr *b)
{
    (void)v;
    memset(b->p, 'x', 600);
    b->len = 600;
}
static void bend_no_release(struct world *v, struct wr *b)
{
    const struct world_release *r = &v->rel[v->target];
    memmove(b->p, b->p + r->raw_len, b->len - r->raw_len);
    b->len -= r->raw_len;
}
static void bend_flip_release(struct world *v, struct wr *b)
{
    (void)v;
    b->p[40] ^= 1;
}

static void bundles_that_are_refused(void **state)
{
    (void)state;
    (void)begin_with(5000);
    w.target = world_release(&w, 11, 1, 5000, false);
    w.bend_bundle = bend_cut;
    expect_refusal(REASON_FORMAT);
    w.bend_bundle = bend_garbage;
    expect_refusal(REASON_FORMAT);
    w.bend_bundle = bend_no_release;
    expect_refusal(REASON_FORMAT);
    w.bend_bundle = bend_flip_release; /* another object than the ticket names */
    expect_refusal(REASON_FORMAT);
    /* The whole answer of an earlier check-in again: everything in it is signed, and old. */
    w.no_artifacts = true;
    w.bend_bundle = bend_record;
    world_c2d(&w, "update");
    world_run(&w, 2000);
    w.target = -1;
    assert_true(world_settle(&w, 0, 900000));
    w.no_artifacts = false;
    w.target = 1;
    w.bend_bundle = bend_replay;
    w.last_refused = 0;
    world_c2d(&w, "update");
    world_run(&w, 10000);
    assert_int_equal(w.last_refused, REASON_TICKET_STALE);
    assert_int_equal(w.artifact_bytes, 5000);
    world_fini(&w);
}

static void bend_product(struct release *r)
{
    r->product = SPAN("other");
}
static void bend_class(struct release *r)
{
    r->hw_class = 8;
}
static void bend_rev(struct release *r)
{
    r->hw_rev_min = 3;
}
static void bend_counter_low(struct release *r)
{
    r->security_counter = 0;
}
static void bend_counter_far(struct release *r)
{
    r->security_counter = 1500;
}
static void bend_sequence(struct release *r)
{
    r->release_seq = 9;
}
static void bend_agent(struct release *r)
{
    r->min_agent = 0x7f00;
}
static void bend_encrypted(struct release *r)
{
    r->flags |= RELEASE_ENCRYPTED;
}
static void bend_type(struct release *r)
{
    r->component[0].type = COMPONENT_FS;
}
static void bend_method(struct release *r)
{
    r->encoding[0].method = ENCODING_GZIP;
}
static void bend_chunks(struct release *r)
{
    r->chunk_code = 16;
}
static void bend_flash(struct release *r)
{
    r->min_free_flash_kib = 60000;
}
static void bend_size(struct release *r)
{
    r->component[0].image_len = r->encoding[0].payload_len = WORLD_SLOT_LEN;
}

static void releases_that_are_refused(void **state)
{
    static const struct {
        void (*bend)(struct release *);
        uint16_t reason;
    } cases[] = { { bend_product, REASON_HW_MISMATCH }, { bend_class, REASON_HW_MISMATCH },
                  { bend_rev, REASON_HW_MISMATCH },     { bend_counter_low, REASON_COUNTER },
                  { bend_counter_far, REASON_COUNTER }, { bend_sequence, REASON_SEQUENCE },
                  { bend_agent, REASON_REQUIRES },      { bend_encrypted, REASON_REQUIRES },
                  { bend_type, REASON_REQUIRES },       { bend_method, REASON_REQUIRES },
                  { bend_chunks, REASON_HEAP },         { bend_flash, REASON_SPACE },
                  { bend_size, REASON_SPACE } };
    (void)state;
    (void)begin_with(5000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w.target = world_release_bent(&w, 11, 1, 5000, false, cases[i].bend);
        expect_refusal(cases[i].reason);
        free(w.rel[w.target].payload);
        free(w.rel[w.target].tree);
        w.rel_nr--;
    }
    w.release_signer = KEY_RELEASE + 1; /* signed, but by nobody the trust record lists */
    w.target = world_release(&w, 11, 1, 5000, false);
    expect_refusal(REASON_SIGNATURE_RELEASE);
    world_fini(&w);
}

static void bend_downgrade(struct release *r)
{
    r->release_seq = 9;
    r->flags |= RELEASE_ALLOW_DOWNGRADE;
}

static void bend_package(struct release *r)
{
    r->component[0].type = COMPONENT_PACKAGE;
}

static void a_package_where_the_driver_unpacks_it(void **state)
{
    (void)state;
    (void)begin_with(5000);
    w.target = world_release_bent(&w, 11, 1, 7000, false, bend_package);
    expect_refusal(REASON_REQUIRES);
    w.cfg.accept_package = true;
    world_c2d(&w, "update");
    assert_true(world_settle(&w, 1, 60000));
    world_fini(&w);
}

static void a_downgrade_needs_leave(void **state)
{
    (void)state;
    (void)begin_with(5000);
    w.target = world_release_bent(&w, 9, 1, 5000, false, bend_downgrade);
    world_c2d(&w, "update");
    assert_true(world_settle(&w, w.target, 60000));
    world_fini(&w);
}

static void a_new_epoch_forgets_the_sequence(void **state)
{
    (void)state;
    (void)begin_with(5000);
    w.target = world_release(&w, 9, 1, 6000, false);
    expect_refusal(REASON_SEQUENCE);
    struct trust_record t = world_trust_body(&w, 2);
    t.epoch = 2;
    world_trust_publish(&w, &t, KEY_ROOT);
    world_c2d(&w, "update");
    assert_true(world_settle(&w, w.target, 60000));
    assert_false(w.d.conf.sequence_free); /* once */
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tickets_that_are_refused),  cmocka_unit_test(bundles_that_are_refused),
        cmocka_unit_test(releases_that_are_refused), cmocka_unit_test(a_package_where_the_driver_unpacks_it),
        cmocka_unit_test(a_downgrade_needs_leave),   cmocka_unit_test(a_new_epoch_forgets_the_sequence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
