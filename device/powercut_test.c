/* device/powercut_test.c - power is lost at every single flash write and erase of a whole life, in every
 * way flash can be left behind, and again during the recovery. Each time: whatever the loader starts is byte
 * for byte a verified image, the security counter never falls, and the life goes on to its end. */
#include "device/world_test.h"
#include "tests/fake/sanitized.h"

/* A life: blank, 1.0.0, 1.1.0 confirmed, a release that crashes and is reverted, 1.3.0. */
enum { V100, V110, VBAD, V130, LIFE };
#define IMAGE_LEN 9000u
#define TOGETHER  4000000u /* ms a step of the life may take, quarantine and all */

static struct world w;

static void begin(void)
{
    world_init(&w, 4096, 256, 32768);
    w.cfg.checkin_every_ms = 30000;
    w.cfg.telemetry_every_ms = 0;
    (void)world_release(&w, 10, 1, IMAGE_LEN, false);
    (void)world_release(&w, 11, 2, IMAGE_LEN + 100, false);
    (void)world_release(&w, 12, 3, IMAGE_LEN - 100, true);
    (void)world_release(&w, 13, 3, IMAGE_LEN + 50, false);
}

/* One step of the life. The bad release is offered until the device has given it up for good. */
static void step(int rel)
{
    uint16_t counter = w.d.boot.security_counter;
    w.target = rel;
    world_c2d(&w, "update");
    if (rel == VBAD) {
        uint64_t until = w.now_ms + TOGETHER;
        w.last_refused = 0;
        while (w.last_refused != REASON_QUARANTINE || !world_settled(&w, V110)) {
            world_run(&w, 1000);
            assert_true(w.now_ms < until);
        }
        assert_int_equal(w.d.boot.security_counter, counter);
    } else {
        assert_true(world_settle(&w, rel, TOGETHER));
        assert_true(w.d.boot.security_counter >= counter);
    }
}

static void live(int from)
{
    for (int rel = from; rel < LIFE; rel++)
        step(rel);
    assert_int_equal(w.d.boot.security_counter, 3);
}

/* How many programs and erases a step takes when nothing happens. */
static uint32_t ops_of[LIFE];

struct image { /* the flash before each step, so that a cut need not live through what came before */
    uint8_t *cells;
    uint32_t report_max, ticket_seq;
    uint64_t now_ms;
    bool has_identity;
} before[LIFE];

static void remember(int rel)
{
    before[rel].cells = malloc(w.sim.len);
    memcpy(before[rel].cells, w.cells, w.sim.len);
    before[rel].report_max = w.report_max;
    before[rel].ticket_seq = w.ticket_seq;
    before[rel].now_ms = w.now_ms;
    before[rel].has_identity = w.has_identity;
}

/* Back to the moment before a step; power comes on. */
static void return_to(int rel, uint32_t seed)
{
    memcpy(w.cells, before[rel].cells, w.sim.len);
    flash_sim_init(&w.sim, &w.sim.base.geo, w.cells, w.sim.len, seed);
    w.report_max = before[rel].report_max;
    w.ticket_seq = before[rel].ticket_seq;
    w.now_ms = before[rel].now_ms;
    w.has_identity = before[rel].has_identity;
    w.target = -1;
    w.boots = w.crashes = w.flash_resets = 0;
    world_seed = seed;
}

static int setup(void **state)
{
    (void)state;
    begin();
    for (int rel = 0; rel < LIFE; rel++) {
        remember(rel);
        world_boot(&w, RESET_POWER);
        w.sim.ops_nr = 0;
        step(rel);
        world_run(&w, 5000);
        ops_of[rel] = w.sim.ops_nr;
        assert_true(ops_of[rel] > 20);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int rel = 0; rel < LIFE; rel++)
        free(before[rel].cells);
    world_fini(&w);
    return 0;
}

static void cut_once(int rel, uint32_t at, enum flash_cut how, uint32_t seed)
{
    return_to(rel, seed);
    flash_sim_cut_arm(&w.sim, at, how, UINT32_MAX);
    world_boot(&w, RESET_POWER);
    step(rel);
    if (rel + 1 < LIFE && rel != VBAD) /* and what comes after works as well */
        step(rel + 1);
    assert_int_equal(w.sim.refused_nr, 0);
}

/* Every operation of every step, in one mode. The loader and the first start of a step are part of it. */
static void cut_everywhere(enum flash_cut how)
{
    const uint32_t skip = SANITIZED; /* then every third one */
    for (int rel = 0; rel < LIFE; rel++) {
        uint32_t reached = 0;
        for (uint32_t at = 1 + skip * ((uint32_t)how % 3); at <= ops_of[rel] + 8; at += 1 + 2 * skip) {
            cut_once(rel, at, how, at * 7919u + (uint32_t)how);
            reached += w.flash_resets;
        }
        assert_true(reached >= ops_of[rel] / (1 + 2 * skip)); /* the cuts did happen */
    }
}

static void power_lost_before_every_operation(void **state)
{
    (void)state;
    cut_everywhere(FLASH_CUT_BEFORE);
}
static void power_lost_after_every_operation(void **state)
{
    (void)state;
    cut_everywhere(FLASH_CUT_AFTER);
}
static void power_lost_inside_every_operation_bytes(void **state)
{
    (void)state;
    cut_everywhere(FLASH_CUT_PREFIX);
}
static void power_lost_inside_every_operation_bits(void **state)
{
    (void)state;
    cut_everywhere(FLASH_CUT_SUBSET);
}
static void power_lost_inside_every_operation_weak_bits(void **state)
{
    (void)state;
    cut_everywhere(FLASH_CUT_WEAK);
}

/* The second cut falls into the recovery from the first: at each of its first operations in turn. */
static void power_lost_again_during_recovery(void **state)
{
    (void)state;
    for (int rel = 0; rel < LIFE; rel++)
        for (uint32_t at = 1; at <= ops_of[rel] + 2; at += SANITIZED ? 10 : 3)
            for (uint32_t again = 1; again <= 24; again += at % 3 + 1) {
                enum flash_cut how = (enum flash_cut)(1 + (at + again) % (FLASH_CUTS - 1));
                return_to(rel, at * 131u + again);
                flash_sim_cut_arm(&w.sim, at, how, UINT32_MAX);
                world_boot(&w, RESET_POWER);
                w.target = rel;
                world_c2d(&w, "update");
                for (int i = 0; i < 4000 && !w.flash_resets; i++)
                    world_run(&w, 100);
                if (!w.flash_resets)
                    continue; /* that many operations were not needed */
                how = (enum flash_cut)(1 + (at + again / 2) % (FLASH_CUTS - 1));
                flash_sim_cut_arm(&w.sim, again, how, UINT32_MAX);
                step(rel);
                assert_int_equal(w.sim.refused_nr, 0);
            }
}

/* A device that loses power every few operations still arrives. */
static void power_lost_again_and_again(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        uint32_t cuts = 0;
        return_to(V100, seed);
        world_boot(&w, RESET_POWER);
        for (int rel = V100; rel <= V110; rel++) {
            uint64_t until = w.now_ms + TOGETHER;
            w.target = rel;
            while (!world_settled(&w, rel)) {
                assert_true(w.now_ms < until);
                if (!w.sim.cut_at && !w.d.trial && cuts < 60) { /* a trial has three starts, no more */
                    flash_sim_cut_arm(&w.sim, 1 + (seed * 5 + cuts * 11) % 13,
                                      (enum flash_cut)(1 + cuts % (FLASH_CUTS - 1)), UINT32_MAX);
                    cuts++;
                } else if (w.d.trial) {
                    w.sim.cut_at = 0;
                }
                world_run(&w, 10);
            }
        }
        assert_true(cuts > 10);
        assert_int_equal(w.sim.refused_nr, 0);
    }
}

static void a_whole_life_without_interruption(void **state)
{
    (void)state;
    return_to(V100, 1);
    world_boot(&w, RESET_POWER);
    live(V100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_life_without_interruption),
        cmocka_unit_test(power_lost_before_every_operation),
        cmocka_unit_test(power_lost_after_every_operation),
        cmocka_unit_test(power_lost_inside_every_operation_bytes),
        cmocka_unit_test(power_lost_inside_every_operation_bits),
        cmocka_unit_test(power_lost_inside_every_operation_weak_bits),
        cmocka_unit_test(power_lost_again_during_recovery),
        cmocka_unit_test(power_lost_again_and_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
