/* hub/front/roost_http/throttles_test.c - every route counts as something, or says that it does not. */
#include "hub/domain/hub.h"
#include "hub/front/roost_http/roost_http.h"
#include "hub/front/roost_http/roost_impl.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_every_route_has_a_line(void **state)
{
    static struct hub hub = { .crypto = &port_crypto };
    struct roost_http *f;
    (void)state;
    assert_int_equal(roost_http_new(&f, &hub, NULL, NULL), ERR_OK);
    for (const struct http_route *r = roost_http_routes(f)->table; r->pattern; r++)
        for (unsigned m = HTTP_GET_; m <= HTTP_DELETE_; m <<= 1) {
            enum throttle_class what;
            if (r->handler && (r->methods & m) && !http_throttle_find(roost_throttles, m, r->pattern, &what))
                fail_msg("%s counts as nothing: add a line to throttles.c", r->pattern);
        }
    roost_http_free(f);
}
static enum throttle_class class_of(unsigned method, const char *pattern)
{
    enum throttle_class what = THROTTLE_NONE;
    assert_true(http_throttle_find(roost_throttles, method, pattern, &what));
    return what;
}
static void test_routes_of_one_path_differ(void **state)
{
    (void)state;
    assert_int_equal(class_of(HTTP_GET_, "/roost/v1/devices"), THROTTLE_REGISTRY);
    assert_int_equal(class_of(HTTP_GET_, "/roost/v1/devices/{}"), THROTTLE_REGISTRY);
    assert_int_equal(class_of(HTTP_GET_, "/roost/v1/devices/{}/twin"), THROTTLE_TWIN_READS);
    assert_int_equal(class_of(HTTP_PATCH_, "/roost/v1/devices/{}/twin"), THROTTLE_TWIN_UPDATES);
    assert_int_equal(class_of(HTTP_POST_, "/roost/v1/devices/{}/messages"), THROTTLE_C2D_SENDS);
    assert_int_equal(class_of(HTTP_POST_, "/roost/v1/devices/{}/methods/{}"), THROTTLE_METHODS);
    assert_int_equal(class_of(HTTP_POST_, "/roost/v1/query"), THROTTLE_QUERIES);
    assert_int_equal(class_of(HTTP_POST_, "/bootstrap"), THROTTLE_NONE);
    assert_int_equal(class_of(HTTP_POST_, "/roost/v1/checkin"), THROTTLE_NONE);
}
int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_route_has_a_line),
                                        cmocka_unit_test(test_routes_of_one_path_differ) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
