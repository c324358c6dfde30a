/* device/config_test.c - the configuration pair: what is saved comes back, old or new but never mixed. */
#include "device/config.h"
#include "port/flash_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct flash_sim sim;
static uint8_t *cells;

static int setup(void **state)
{
    struct flash_geometry g;
    uint32_t len = flash_geometry_layout(&g, 4096, 256, 32768);
    (void)state;
    cells = calloc(1, len);
    flash_sim_init(&sim, &g, cells, len, 7);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(sim.refused_nr, 0);
    free(cells);
    return 0;
}

/* Every value set, every text as long as it may be. */
static struct config full(uint8_t n)
{
    struct config c;
    memset(&c, n, sizeof c);
    c.has_seed = true;
    c.id_len = CONFIG_ID_MAX;
    c.key_len = CONFIG_KEY_MAX;
    c.host_len = CONFIG_HOST_MAX;
    c.checkin_len = CONFIG_URL_MAX;
    c.trust_len = DEVICE_OBJECT_MAX;
    c.report_base = 0;
    c.sequence_free = true;
    for (size_t i = 0; i < CONFIG_QUARANTINE_MAX; i++)
        c.quarantine[i].failures = (uint8_t)(i + 1);
    return c;
}

static void same(const struct config *a, const struct config *b)
{
    assert_memory_equal(a->seed, b->seed, sizeof a->seed);
    assert_int_equal(a->id_len, b->id_len);
    assert_memory_equal(a->id, b->id, a->id_len);
    assert_int_equal(a->key_len, b->key_len);
    assert_memory_equal(a->key, b->key, a->key_len);
    assert_int_equal(a->host_len, b->host_len);
    assert_memory_equal(a->host, b->host, a->host_len);
    assert_int_equal(a->checkin_len, b->checkin_len);
    assert_memory_equal(a->checkin, b->checkin, a->checkin_len);
    assert_int_equal(a->mqtt_port, b->mqtt_port);
    assert_int_equal(a->https_port, b->https_port);
    assert_int_equal(a->checkin_s, b->checkin_s);
    assert_int_equal(a->trust_len, b->trust_len);
    assert_memory_equal(a->trust, b->trust, a->trust_len);
    assert_memory_equal(a->kept_release, b->kept_release, sizeof a->kept_release);
    assert_int_equal(a->trust_version, b->trust_version);
    assert_int_equal(a->ticket_seq, b->ticket_seq);
    assert_memory_equal(a->campaign, b->campaign, sizeof a->campaign);
    assert_int_equal(a->attempt, b->attempt);
    assert_memory_equal(a->last_release, b->last_release, sizeof a->last_release);
    assert_int_equal(a->last_reason, b->last_reason);
    assert_int_equal(a->reject_nr, b->reject_nr);
    assert_int_equal(a->sequence_free, b->sequence_free);
    assert_memory_equal(a->quarantine, b->quarantine, sizeof a->quarantine);
}

static void everything_comes_back(void **state)
{
    struct config c = full(0x33), got;
    struct config_pos pos;
    uint8_t raw[DEVICE_OBJECT_MAX], kept[OBJECT_ID_LEN];
    size_t n;
    (void)state;
    assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
    assert_int_equal(pos.seq, 0);
    assert_false(got.has_seed);
    assert_int_equal(config_trust_read(&sim.base, raw, &n, kept), ERR_NOTFOUND);
    assert_int_equal(config_save(&sim.base, &c, &pos), ERR_OK);
    assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
    same(&c, &got);
    assert_int_equal(pos.seq, 1);
    assert_int_equal(config_trust_read(&sim.base, raw, &n, kept), ERR_OK);
    assert_int_equal(n, DEVICE_OBJECT_MAX);
    assert_memory_equal(raw, c.trust, n);
    assert_memory_equal(kept, c.kept_release, sizeof kept);
    /* Nothing set is as good as everything. */
    struct config none = { 0 };
    assert_int_equal(config_save(&sim.base, &none, &pos), ERR_OK);
    assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
    same(&none, &got);
    assert_int_equal(config_trust_read(&sim.base, raw, &n, kept), ERR_NOTFOUND);
}

static void a_cut_leaves_the_old_or_the_new(void **state)
{
    struct config a = full(0x11), b = full(0x22), got;
    struct config_pos pos = { 0 };
    uint32_t ops;
    uint8_t *kept = malloc(sim.len);
    (void)state;
    assert_int_equal(config_save(&sim.base, &a, &pos), ERR_OK);
    assert_int_equal(config_save(&sim.base, &a, &pos), ERR_OK);
    memcpy(kept, cells, sim.len);
    sim.ops_nr = 0;
    assert_int_equal(config_save(&sim.base, &b, &pos), ERR_OK);
    ops = sim.ops_nr;
    for (uint32_t how = FLASH_CUT_BEFORE; how < FLASH_CUTS; how++)
        for (uint32_t op = 1; op <= ops; op++)
            for (uint32_t bytes = 0; bytes <= 4; bytes++) {
                bool is_new;
                enum err e;
                memcpy(cells, kept, sim.len);
                flash_sim_init(&sim, &sim.base.geo, cells, sim.len, op * 50 + bytes);
                assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
                flash_sim_cut_arm(&sim, op, (enum flash_cut)how, bytes);
                e = config_save(&sim.base, &b, &pos);
                flash_sim_power_on(&sim);
                assert_true(e != ERR_OK || op == ops);
                assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
                is_new = got.seed[0] == 0x22;
                same(is_new ? &b : &a, &got);
                assert_true(!is_new || op == ops); /* the CRC is the last thing of all */
                /* And it can be written again. */
                assert_int_equal(config_save(&sim.base, &b, &pos), ERR_OK);
                assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
                same(&b, &got);
                assert_false(pos.unsettled);
                assert_int_equal(sim.refused_nr, 0);
            }
    free(kept);
}

static void report_numbers_cost_no_erase(void **state)
{
    struct config c = full(1), got;
    struct config_pos pos = { 0 };
    uint32_t wear[64] = { 0 }, first, last = 0;
    (void)state;
    sim.wear = wear;
    c.report_base = 100;
    assert_int_equal(config_save(&sim.base, &c, &pos), ERR_OK);
    for (uint32_t i = 0; i < 64 * 5; i++) {
        if (i % 3 == 0) { /* a boot in between */
            assert_int_equal(config_load(&sim.base, &got, &pos), ERR_OK);
            c = got;
        }
        if (i % 40 == 7) /* and other things are saved */
            assert_int_equal(config_save(&sim.base, &c, &pos), ERR_OK);
        assert_int_equal(config_report_block(&sim.base, &c, &pos, &first), ERR_OK);
        assert_true(first >= last + (i ? CONFIG_REPORT_BLOCK : 0));
        last = first;
    }
    assert_int_equal(last, 100 + (64 * 5 - 1) * CONFIG_REPORT_BLOCK); /* none is left out, none comes twice */
    assert_true(wear[6] + wear[7] < 20);
}

static void a_cut_tally_word_counts_as_used(void **state)
{
    struct config c = full(1);
    struct config_pos pos = { 0 };
    uint32_t first, again;
    (void)state;
    assert_int_equal(config_save(&sim.base, &c, &pos), ERR_OK);
    assert_int_equal(config_report_block(&sim.base, &c, &pos, &first), ERR_OK);
    flash_sim_cut_arm(&sim, 1, FLASH_CUT_PREFIX, 1);
    assert_int_equal(config_report_block(&sim.base, &c, &pos, &first), ERR_IO);
    flash_sim_power_on(&sim);
    assert_int_equal(config_load(&sim.base, &c, &pos), ERR_OK);
    assert_int_equal(config_report_block(&sim.base, &c, &pos, &again), ERR_OK);
    assert_true(again >= first + CONFIG_REPORT_BLOCK);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(everything_comes_back),
        T(a_cut_leaves_the_old_or_the_new),
        T(report_numbers_cost_no_erase),
        T(a_cut_tally_word_counts_as_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
