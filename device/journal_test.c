/* device/journal_test.c - the journal by itself: every rule, every byte of every record, full sectors. */
#include "core/trust/report.h"
#include "device/journal.h"
#include "port/crypto.h"
#include "port/flash_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct flash_sim sim;
static uint8_t *cells;
static const uint8_t digest_a[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

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

static struct journal opened(void)
{
    struct journal j;
    assert_int_equal(journal_open(&sim.base, &j), ERR_OK);
    return j;
}

static void an_empty_journal_says_nothing(void **state)
{
    (void)state;
    struct journal j = opened();
    assert_false(j.found);
    assert_int_equal(j.state.confirmed, BOOT_NO_SLOT);
    assert_int_equal(j.state.pending, BOOT_NO_SLOT);
    assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_STALE);
    assert_int_equal(boot_reject(&sim.base, 0, REASON_BOOT), ERR_OK); /* nothing pending: nothing to do */
    assert_int_equal(sim.ops_nr, 0);
}

static void the_records_of_an_update(void **state)
{
    (void)state;
    assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_OK);
    struct journal j = opened();
    assert_int_equal(j.state.seq, 1);
    assert_int_equal(j.state.kind, JOURNAL_PENDING);
    assert_int_equal(j.state.pending, 1);
    uint32_t ops = sim.ops_nr;
    assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_OK); /* again: no write */
    assert_int_equal(sim.ops_nr, ops);
    assert_int_equal(boot_confirm(&sim.base, 0, 9), ERR_STALE);
    assert_int_equal(boot_reject(&sim.base, 0, 1), ERR_STALE);
    assert_int_equal(boot_confirm(&sim.base, 1, 9), ERR_OK);
    assert_int_equal(boot_confirm(&sim.base, 1, 9), ERR_OK);
    j = opened();
    assert_int_equal(j.state.seq, 2);
    assert_int_equal(j.state.confirmed, 1);
    assert_int_equal(j.state.security_counter, 9);
    assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_STALE); /* it runs */
    assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
    assert_int_equal(boot_reject(&sim.base, 0, REASON_PROBATION_APP), ERR_OK);
    j = opened();
    assert_int_equal(j.state.confirmed, 1);
    assert_int_equal(j.state.pending, BOOT_NO_SLOT);
    assert_int_equal(j.state.reason, REASON_PROBATION_APP);
    assert_int_equal(j.state.reject_nr, 1);
    assert_int_equal(j.state.security_counter, 9);
    assert_memory_equal(j.state.digest, digest_a, 8);
    /* A lower counter in a confirmation never lowers the stored one. */
    assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
    assert_int_equal(boot_confirm(&sim.base, 0, 3), ERR_OK);
    assert_int_equal(opened().state.security_counter, 9);
}

static void a_body_and_its_crc_are_two_commands(void **state)
{
    (void)state;
    assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
    assert_int_equal(sim.ops_nr, 3); /* the first erase, 28 bytes, 4 bytes */
    assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_OK);
    assert_int_equal(sim.ops_nr, 5);
}

/* 1000 records go around both sectors many times; every one of them is the winner when it is written. */
static void sectors_take_turns(void **state)
{
    uint32_t wear[64] = { 0 };
    (void)state;
    sim.wear = wear;
    assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
    assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_OK);
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_OK);
        assert_int_equal(opened().state.pending, 1);
        assert_int_equal(boot_reject(&sim.base, 1, REASON_BOOT), ERR_OK);
        struct journal j = opened();
        assert_int_equal(j.state.seq, 4 + 2 * i);
        assert_int_equal(j.state.confirmed, 0);
        assert_int_equal(j.state.reject_nr, i + 1);
    }
    /* 1002 records of which 128 fit a sector. */
    assert_int_equal(wear[4], 4);
    assert_int_equal(wear[5], 4);
}

/* Cut a CONFIRM at each of its 32 bytes, in each way; the outcome is the old state or the new, for good. */
static void every_byte_of_a_record(void **state)
{
    (void)state;
    uint8_t *kept = malloc(sim.len);
    for (uint32_t fill = 0; fill < 2; fill++) { /* in the middle of a sector, and at its last cell */
        memset(cells, 0, sim.len);
        assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
        assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_OK);
        if (fill)
            for (uint32_t i = 0; i < 62; i++) {
                assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_OK);
                assert_int_equal(boot_reject(&sim.base, 1, REASON_BOOT), ERR_OK);
            }
        assert_int_equal(boot_set_pending(&sim.base, 1, digest_a), ERR_OK);
        memcpy(kept, cells, sim.len);
        for (uint32_t how = FLASH_CUT_BEFORE; how < FLASH_CUTS; how++)
            for (uint32_t op = 1; op <= 3; op++)
                for (uint32_t bytes = 0; bytes <= 28; bytes++) {
                    enum err e;
                    struct journal j;
                    uint8_t was;
                    memcpy(cells, kept, sim.len);
                    flash_sim_init(&sim, &sim.base.geo, cells, sim.len, op * 100 + bytes);
                    flash_sim_cut_arm(&sim, op, (enum flash_cut)how, bytes);
                    e = boot_confirm(&sim.base, 1, 2);
                    flash_sim_power_on(&sim);
                    j = opened();
                    assert_true(j.found);
                    was = j.state.confirmed;
                    if (e == ERR_OK)
                        assert_int_equal(was, 1);
                    else
                        assert_true(was <= 1);
                    /* The loader settles what it saw; from then on nothing flickers. */
                    if (j.unsettled) {
                        struct journal_state s = j.state;
                        s.kind = JOURNAL_SNAPSHOT;
                        assert_int_equal(journal_append(&sim.base, &j, &s), ERR_OK);
                    }
                    if (how != FLASH_CUT_WEAK || j.state.kind == JOURNAL_SNAPSHOT)
                        for (int i = 0; i < 4; i++)
                            assert_int_equal(opened().state.confirmed, was);
                    /* And the next record finds its place. */
                    assert_int_equal(was ? boot_set_pending(&sim.base, 0, digest_a)
                                         : boot_confirm(&sim.base, 1, 2),
                                     ERR_OK);
                    assert_int_equal(opened().state.confirmed, 1);
                    assert_int_equal(sim.refused_nr, 0);
                }
    }
    free(kept);
}

static void a_torn_cell_is_never_programmed_again(void **state)
{
    (void)state;
    assert_int_equal(boot_set_pending(&sim.base, 0, digest_a), ERR_OK);
    flash_sim_cut_arm(&sim, 1, FLASH_CUT_PREFIX, 5);
    assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_IO);
    flash_sim_power_on(&sim);
    struct journal j = opened();
    assert_true(j.unsettled);
    assert_int_equal(j.next_cell, 2);
    assert_int_equal(j.torn_nr, 1);
    assert_int_equal(boot_confirm(&sim.base, 0, 1), ERR_OK);
    j = opened();
    assert_int_equal(j.state.seq, 3); /* above what the torn one would have been */
    assert_int_equal(j.next_cell, 3);
}

static void records_that_make_no_sense_are_not_believed(void **state)
{
    static const struct {
        uint8_t at, value;
    } bad[] = { { 4, 0 }, { 4, 6 }, { 5, 2 }, { 6, 7 }, { 7, 4 }, { 6, 0 } };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct journal_state s = { 5, JOURNAL_CONFIRM, 0, BOOT_NO_SLOT, 0, 1, { 0 }, 0, 0, 0 }, out;
        uint8_t cell[JOURNAL_CELL_LEN];
        journal_cell_encode(&s, cell);
        assert_int_equal(journal_cell_decode(cell, &out), ERR_OK);
        for (int bit = 0; bit < 256; bit++) { /* any flipped bit */
            cell[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            if (bit / 8 < 24 || bit / 8 > 27)
                assert_int_equal(journal_cell_decode(cell, &out), ERR_VERIFY);
            cell[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
        if (bad[i].at == 4)
            s.kind = bad[i].value;
        else if (bad[i].at == 5)
            s.confirmed = bad[i].value;
        else if (bad[i].at == 6)
            s.pending = bad[i].value;
        else
            s.attempts = bad[i].value;
        journal_cell_encode(&s, cell);
        assert_int_equal(journal_cell_decode(cell, &out), ERR_VERIFY);
    }
}

static void a_failing_write_never_blocks_a_boot(void **state)
{
    struct boot_result r;
    (void)state;
    assert_int_equal(boot_run(&sim.base, &port_crypto, RESET_POWER, &r), ERR_OK);
    assert_int_equal(r.slot, BOOT_NO_SLOT);
    assert_true(opened().found); /* a blank device says so: nothing is probed again */
    memset(cells, 0, sim.len);
    flash_sim_cut_arm(&sim, 1, FLASH_CUT_BEFORE, 0);
    assert_int_equal(boot_run(&sim.base, &port_crypto, RESET_POWER, &r), ERR_OK);
    assert_int_equal(boot_run(&sim.base, &port_crypto, RESET_POWER, &r), ERR_IO); /* cannot even be read */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(an_empty_journal_says_nothing),
        T(the_records_of_an_update),
        T(a_body_and_its_crc_are_two_commands),
        T(sectors_take_turns),
        T(every_byte_of_a_record),
        T(a_torn_cell_is_never_programmed_again),
        T(records_that_make_no_sense_are_not_believed),
        T(a_failing_write_never_blocks_a_boot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
