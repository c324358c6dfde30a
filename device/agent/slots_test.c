/* device/agent/slots_test.c - an image in flash becomes a folder: raw and packed, once, whole or not at all.
 */
#include "device/agent/slots.h"

#include "device/flash_io.h"
#include "device/slot.h"
#include "port/crypto.h"
#include "port/flash_sim.h"

#include <archive.h>
#include <archive_entry.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SLOT_LEN (256u * 1024u)

struct world {
    struct flash_sim sim;
    uint8_t *cells;
    struct slot_header h;
    char dir[64];
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct flash_geometry geo;
    size_t len = flash_geometry_layout(&geo, 4096, 256, SLOT_LEN);
    w->cells = calloc(1, len);
    flash_sim_init(&w->sim, &geo, w->cells, len, 1);
    snprintf(w->dir, sizeof w->dir, "/tmp/roost-slots-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = (struct world *)*state;
    nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w->cells);
    free(w);
    return 0;
}

static void put_image(struct world *w, uint8_t slot, const void *p, size_t n)
{
    struct flash *f = &w->sim.base;
    struct sha256 hash;
    size_t padded = (n + 3) & ~(size_t)3;
    uint8_t *copy = malloc(padded);
    memset(copy, 0xff, padded);
    memcpy(copy, p, n);
    assert_int_equal(flash_erase(f, slot_image_addr(&f->geo, slot), padded), ERR_OK);
    assert_int_equal(flash_program(f, slot_image_addr(&f->geo, slot), copy, padded), ERR_OK);
    free(copy);
    w->h.image_len = (uint32_t)n;
    port_crypto.sha256_init(&hash);
    port_crypto.sha256_update(&hash, span_of(p, n));
    port_crypto.sha256_final(&hash, w->h.image_sha256);
}

static enum err make(struct world *w, uint8_t slot, bool package, char path[256], const char *name)
{
    char *dir = NULL;
    enum err e = slots_make(w->dir, &w->sim.base, &port_crypto, slot, &w->h, package, &dir);
    if (!e)
        snprintf(path, 256, "%s/%s", dir, name);
    free(dir);
    return e;
}

static void assert_content(const char *path, const char *want)
{
    char have[256] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(have, 1, sizeof have - 1, f);
    fclose(f);
    have[n] = 0;
    assert_string_equal(have, want);
}

static void test_raw_image_becomes_an_executable(void **state)
{
    struct world *w = (struct world *)*state;
    char path[256];
    struct stat st;
    umask(077);
    put_image(w, 0, "#!/bin/sh\nexit 0\n", 17);
    assert_int_equal(make(w, 0, false, path, "app"), ERR_OK);
    assert_content(path, "#!/bin/sh\nexit 0\n");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    ino_t first = st.st_ino;
    assert_int_equal(make(w, 0, false, path, "app"), ERR_OK); /* whole already: kept */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_ino, first);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(make(w, 0, false, path, "app"), ERR_OK);
    assert_content(path, "#!/bin/sh\nexit 0\n");
    put_image(w, 1, "other", 5);
    assert_int_equal(make(w, 1, false, path, "app"), ERR_OK);
    assert_content(path, "other");
    assert_non_null(strstr(path, "/slots/b/app"));
    put_image(w, 0, "newer", 5);
    assert_int_equal(make(w, 0, false, path, "app"), ERR_OK);
    assert_content(path, "newer");
}

static void test_damaged_image_changes_nothing(void **state)
{
    struct world *w = (struct world *)*state;
    char path[256];
    put_image(w, 0, "good", 4);
    assert_int_equal(make(w, 0, false, path, "app"), ERR_OK);
    w->h.image_sha256[0] ^= 1;
    assert_int_equal(make(w, 0, false, path, "app"), ERR_VERIFY);
    assert_content(path, "good");
}

/* ---- packages ---- */

struct member {
    const char *name, *text, *link, *hard;
    unsigned mode;
};

static size_t pack(uint8_t *buf, size_t cap, const struct member *m, bool gzip)
{
    struct archive *a = archive_write_new();
    size_t used = 0;
    archive_write_set_format_pax_restricted(a);
    if (gzip)
        archive_write_add_filter_gzip(a);
    assert_int_equal(archive_write_open_memory(a, buf, cap, &used), ARCHIVE_OK);
    for (; m->name; m++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, m->name);
        archive_entry_set_filetype(e, m->link ? AE_IFLNK : m->text ? AE_IFREG : AE_IFDIR);
        archive_entry_set_perm(e, m->mode);
        if (m->link)
            archive_entry_set_symlink(e, m->link);
        if (m->hard)
            archive_entry_set_hardlink(e, m->hard);
        archive_entry_set_size(e, m->text && !m->link && !m->hard ? (la_int64_t)strlen(m->text) : 0);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        if (m->text && !m->link && !m->hard)
            archive_write_data(a, m->text, strlen(m->text));
        archive_entry_free(e);
    }
    archive_write_close(a);
    archive_write_free(a);
    return used;
}

static enum err make_package(struct world *w, const struct member *m, bool gzip, char path[256],
                             const char *name)
{
    uint8_t *buf = malloc(65536);
    size_t n = pack(buf, 65536, m, gzip);
    put_image(w, 0, buf, n);
    free(buf);
    return make(w, 0, true, path, name);
}

static void test_package_is_unpacked(void **state)
{
    static const struct member good[] = { { .name = "lib", .mode = 0777 },
                                          { .name = "app", .text = "#!/bin/sh\n", .mode = 04777 },
                                          { .name = "lib/data", .text = "d", .mode = 0600 },
                                          { .name = "current", .link = "lib/data" },
                                          { .name = NULL } };
    struct world *w = (struct world *)*state;
    char path[256];
    struct stat st;
    for (int gzip = 0; gzip < 2; gzip++) {
        assert_int_equal(make_package(w, good, gzip, path, "app"), ERR_OK);
        assert_content(path, "#!/bin/sh\n");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0755); /* no set-uid, not writable for others */
        assert_int_equal(make(w, 0, true, path, "current"), ERR_OK);
        assert_content(path, "d");
    }
}

static void test_packages_that_reach_outside(void **state)
{
    static const struct member wrong[][4] = {
        { { .name = "/tmp/x", .text = "x", .mode = 0644 }, { .name = NULL } },
        { { .name = "../x", .text = "x", .mode = 0644 }, { .name = NULL } },
        { { .name = "a/../../x", .text = "x", .mode = 0644 }, { .name = NULL } },
        { { .name = "l", .link = "/etc" }, { .name = NULL } },
        { { .name = "l", .link = "../.." }, { .name = NULL } },
        { { .name = "app", .text = "x", .mode = 0644 },
          { .name = "h", .text = "", .hard = "/etc/passwd" },
          { .name = NULL } },
    };
    struct world *w = (struct world *)*state;
    char path[256], place[256];
    put_image(w, 0, "before", 6);
    assert_int_equal(make(w, 0, false, place, "app"), ERR_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum err e = make_package(w, wrong[i], false, path, "app");
        if (e != ERR_PROTO)
            fail_msg("package %zu: %s", i, err_name(e));
        assert_content(place, "before");
    }
}

static void test_what_is_no_package(void **state)
{
    struct world *w = (struct world *)*state;
    char path[256];
    put_image(w, 0, "this is no archive at all, only text", 36);
    assert_int_equal(make(w, 0, true, path, "app"), ERR_PROTO);
    static const struct member good[] = { { .name = "app", .text = "0123456789", .mode = 0755 },
                                          { .name = NULL } };
    uint8_t *buf = malloc(65536);
    size_t n = pack(buf, 65536, good, true);
    for (size_t cut = 1; cut < n; cut += 7) { /* every so often: each makes and removes a folder */
        put_image(w, 0, buf, n - cut);
        enum err e = make(w, 0, true, path, "app");
        assert_true(e == ERR_PROTO || e == ERR_OK);
        if (e == ERR_OK) /* only the end mark was missing */
            assert_content(path, "0123456789");
    }
    free(buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_raw_image_becomes_an_executable),
        TEST(test_damaged_image_changes_nothing),
        TEST(test_package_is_unpacked),
        TEST(test_packages_that_reach_outside),
        TEST(test_what_is_no_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
