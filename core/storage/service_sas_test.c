/* core/storage/service_sas_test.c - reference vectors of the three forms of the signed text (made by an
 * independent program), what is made here is taken here, every cut and every changed byte is refused. */
#include "core/storage/service_sas.h"

#include "base/text.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define AUG_1  1785542400000u /* 2026-08-01T00:00:00Z */
#define AUG_10 1786356000000u /* 2026-08-10T10:00:00Z */

static uint8_t key[32], text[2048];
static struct service_sas sas;

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    return 0;
}

static enum err parse(struct span query)
{
    struct wr mem = { text, sizeof text, 0 };
    return service_sas_parse(query, &mem, &sas);
}
static bool good(const char *container, const char *blob)
{
    return service_sas_verify(&sas, &port_crypto, span_of(key, sizeof key), SPAN("roost"),
                              span_str(container), span_str(blob));
}

static void test_vectors(void **state)
{
    (void)state;
    assert_int_equal(parse(SPAN("sv=2018-03-28&sr=b&sig=eYrkvQn6IeJleMzqr8xUSFFu5roOo5xSd65rWT0%2B0E0%3D"
                                "&se=2026-08-10T10%3A00%3A00Z&sp=rw")),
                     ERR_OK);
    assert_true(good("uploads", "dev1/dir/\xc3\xbc.txt"));
    assert_false(good("uploads", "dev1/dir/u.txt"));
    assert_true(service_sas_is_live(&sas, AUG_10 - 1));
    assert_false(service_sas_is_live(&sas, AUG_10));
    assert_true(service_sas_permits(&sas, 'w'));
    assert_false(service_sas_permits(&sas, 'd'));
    assert_int_equal(parse(SPAN("comp=block&rscc=no-cache&spr=https&st=2026-08-01&sp=r&sr=b&sv=2019-12-12"
                                "&se=2026-08-10T10:00:00Z&sig=IDoI7yMSqtPPTYzECZG8bVdhrEHyGkJPcYVgVROUobY=")),
                     ERR_OK);
    assert_true(good("uploads", "dev1/dir/\xc3\xbc.txt"));
    assert_false(service_sas_is_live(&sas, AUG_1 - 1));
    assert_true(service_sas_is_live(&sas, AUG_1));
    assert_int_equal(parse(SPAN("sv=2021-08-06&se=2026-08-10T10%3a00%3a00Z&sr=c&sp=rl"
                                "&sig=mP5Y2osFOU41RQovNKEP4ngzTCMqh95KKLLjRXcqTgQ%3d")),
                     ERR_OK);
    assert_true(good("uploads", "any/blob"));
    assert_true(good("uploads", ""));
    assert_false(good("other", "any/blob"));
}

static void test_made_here(void **state)
{
    uint8_t buf[512];
    struct wr w = { buf, sizeof buf, 0 };
    (void)state;
    service_sas_encode(&w, &port_crypto, span_of(key, sizeof key), SPAN("roost"), SPAN("uploads"),
                       SPAN("d/f"), AUG_10, SPAN("rw"));
    assert_true(wr_ok(&w));
    assert_int_equal(buf[0], '?');
    assert_int_equal(parse(span_of(buf + 1, w.len - 1)), ERR_OK);
    assert_true(good("uploads", "d/f"));
    assert_true(service_sas_is_live(&sas, AUG_10 - 1));
    for (size_t n = 1; n < w.len; n++) { /* cut: it is none, or not for this, or permits less */
        enum err e = parse(span_of(buf + 1, n - 1));
        assert_true(e != ERR_OK || !good("uploads", "d/f"));
    }
    for (size_t i = 1; i < w.len; i++) {
        buf[i] ^= 1;
        enum err e = parse(span_of(buf + 1, w.len - 1));
        assert_true(e != ERR_OK || !good("uploads", "d/f"));
        buf[i] ^= 1;
    }
    assert_false(
        service_sas_verify(&sas, &port_crypto, SPAN_NONE, SPAN("roost"), SPAN("uploads"), SPAN("d/f")));
}

static void test_bad_ones(void **state)
{
    struct wr none = { text, 4, 0 };
    (void)state;
    assert_int_equal(parse(SPAN("")), ERR_NOTFOUND);
    assert_int_equal(parse(SPAN("comp=list&sv=2018-03-28")), ERR_NOTFOUND);
    assert_int_equal(parse(SPAN("sig=AAAA&sv=2018-03-28&sr=b&se=x")), ERR_PROTO);
    assert_int_equal(parse(SPAN("sv=2018-03-28&sv=2018-03-28&sr=b&se=x")), ERR_PROTO);
    assert_int_equal(service_sas_parse(SPAN("sv=2018-03-28"), &none, &sas), ERR_LIMIT);
    assert_int_equal(
        parse(SPAN("sv=2018-03-28&sr=s&se=2026-08-10&sig=eYrkvQn6IeJleMzqr8xUSFFu5roOo5xSd65rWT0%2B0E0%3D")),
        ERR_OK);
    assert_false(good("uploads", "x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_vectors), cmocka_unit_test(test_made_here),
                                        cmocka_unit_test(test_bad_ones) };
    return cmocka_run_group_tests(tests, setup, NULL);
}
