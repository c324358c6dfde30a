/* port/posix/flash_sim_test.c - the flash model keeps the rules of NOR, and the file keeps the content. */
#include "port/flash_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct flash_geometry geo;
static uint8_t cells[64 * 1024];
static uint32_t len;

static void begin(struct flash_sim *s)
{
    len = flash_geometry_layout(&geo, 1024, 64, 8192);
    memset(cells, 0, sizeof cells);
    flash_sim_init(s, &geo, cells, len, 3);
}

static void the_rules_of_nor(void **state)
{
    struct flash_sim s;
    uint8_t a[64], got[64];
    uint32_t wear[64] = { 0 };
    (void)state;
    begin(&s);
    s.wear = wear;
    memset(a, 0x5a, sizeof a);
    assert_int_equal(s.base.ops->read(&s.base, 0, got, sizeof got), ERR_OK);
    assert_int_equal(got[63], 0xff);
    assert_int_equal(s.base.ops->program(&s.base, 64, a, 64), ERR_OK);
    assert_int_equal(s.base.ops->program(&s.base, 64, a, 64), ERR_OK); /* the same again */
    a[0] = 0x50;
    assert_int_equal(s.base.ops->program(&s.base, 64, a, 4), ERR_OK); /* 1 -> 0 */
    a[0] = 0xff;
    assert_int_equal(s.refused_nr, 0);
    assert_int_equal(s.base.ops->program(&s.base, 64, a, 4), ERR_IO);  /* 0 -> 1 */
    assert_int_equal(s.base.ops->program(&s.base, 96, a, 64), ERR_IO); /* over a page's end */
    assert_int_equal(s.base.ops->program(&s.base, 130, a, 4), ERR_IO); /* no multiple of 4 */
    assert_int_equal(s.base.ops->program(&s.base, 128, a, 3), ERR_IO);
    assert_int_equal(s.base.ops->program(&s.base, len - 4, a, 8), ERR_IO); /* over the end */
    assert_int_equal(s.base.ops->read(&s.base, len - 4, got, 8), ERR_IO);
    assert_int_equal(s.base.ops->erase(&s.base, 512), ERR_IO);
    assert_int_equal(s.base.ops->erase(&s.base, len), ERR_IO);
    assert_int_equal(s.refused_nr, 8);
    assert_int_equal(s.base.ops->read(&s.base, 64, got, 4), ERR_OK);
    assert_int_equal(got[0], 0x50);
    assert_int_equal(s.base.ops->erase(&s.base, 0), ERR_OK);
    assert_int_equal(s.base.ops->read(&s.base, 64, got, 4), ERR_OK);
    assert_int_equal(got[0], 0xff);
    assert_int_equal(wear[0], 1);
    assert_int_equal(wear[1], 0);
}

static void power_can_be_lost_in_the_middle(void **state)
{
    struct flash_sim s;
    uint8_t zero[64] = { 0 }, got[64];
    (void)state;
    for (uint32_t k = 0; k <= 64; k++) {
        begin(&s);
        flash_sim_cut_arm(&s, 1, FLASH_CUT_PREFIX, k);
        assert_int_equal(s.base.ops->program(&s.base, 0, zero, 64), ERR_IO);
        assert_int_equal(s.base.ops->read(&s.base, 0, got, 64), ERR_IO); /* no power */
        flash_sim_power_on(&s);
        assert_int_equal(s.base.ops->read(&s.base, 0, got, 64), ERR_OK);
        for (uint32_t i = 0; i < 64; i++)
            assert_int_equal(got[i], i < k ? 0 : 0xff);
    }
}

static void weak_bits_flicker_until_rewritten(void **state)
{
    struct flash_sim s;
    uint8_t zero[64] = { 0 }, a[64], b[64];
    bool flickers = false;
    (void)state;
    begin(&s);
    flash_sim_cut_arm(&s, 1, FLASH_CUT_WEAK, 0);
    assert_int_equal(s.base.ops->program(&s.base, 0, zero, 64), ERR_IO);
    flash_sim_power_on(&s);
    assert_true(s.weak_nr > 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(s.base.ops->read(&s.base, 0, a, 64), ERR_OK);
        assert_int_equal(s.base.ops->read(&s.base, 0, b, 64), ERR_OK);
        flickers |= memcmp(a, b, 64) != 0;
    }
    assert_true(flickers);
    assert_int_equal(s.base.ops->program(&s.base, 0, zero, 64), ERR_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(s.base.ops->read(&s.base, 0, a, 64), ERR_OK);
        assert_memory_equal(a, zero, 64);
    }
}

static void a_file_keeps_it(void **state)
{
    char dir[] = "/tmp/roost-flash-XXXXXX", path[64];
    struct flash_file f, again;
    struct stat st;
    uint8_t a[64], got[64];
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/flash", dir);
    len = flash_geometry_layout(&geo, 1024, 64, 8192);
    assert_int_equal(flash_file_open(&f, path, &geo, len, true), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(flash_file_open(&again, path, &geo, len, true), ERR_EXISTS);
    memset(a, 0xa5, sizeof a);
    assert_int_equal(f.sim.base.ops->program(&f.sim.base, geo.slot[0] + 1024, a, 64), ERR_OK);
    assert_true(f.dirty); /* an image's bytes may wait ... */
    assert_int_equal(f.sim.base.ops->program(&f.sim.base, geo.journal[0], a, 64), ERR_OK);
    assert_false(f.dirty); /* ... for what decides */
    flash_file_close(&f);
    assert_int_equal(flash_file_open(&f, path, &geo, len + 1024, true), ERR_LIMIT);
    assert_int_equal(flash_file_open(&f, path, &geo, len, false), ERR_OK);
    assert_int_equal(f.sim.base.ops->read(&f.sim.base, geo.slot[0] + 1024, got, 64), ERR_OK);
    assert_memory_equal(a, got, 64);
    assert_int_equal(f.sim.base.ops->read(&f.sim.base, geo.slot[1], got, 64), ERR_OK);
    assert_int_equal(got[5], 0xff); /* a fresh file is erased flash */
    assert_int_equal(f.sim.base.ops->erase(&f.sim.base, geo.slot[0] + 1024), ERR_OK);
    flash_file_close(&f);
    assert_int_equal(flash_file_open(&f, "/nonexistent/flash", &geo, len, false), ERR_IO);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rules_of_nor),
        cmocka_unit_test(power_can_be_lost_in_the_middle),
        cmocka_unit_test(weak_bits_flicker_until_rewritten),
        cmocka_unit_test(a_file_keeps_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
