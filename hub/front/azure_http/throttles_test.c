/* hub/front/azure_http/throttles_test.c - every route counts as something, or says that it does not. */
#include "hub/domain/hub.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/azure_http.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_every_route_has_a_line(void **state)
{
    static struct hub hub = { .crypto = &port_crypto };
    struct azure_http *f;
    (void)state;
    assert_int_equal(azure_http_new(&f, &hub, NULL), ERR_OK);
    for (const struct http_route *r = azure_http_routes(f)->table; r->pattern; r++)
        for (unsigned m = HTTP_GET_; m <= HTTP_DELETE_; m <<= 1) {
            enum throttle_class what;
            if (r->handler && (r->methods & m) && !http_throttle_find(azure_throttles, m, r->pattern, &what))
                fail_msg("%s counts as nothing: add a line to throttles.c", r->pattern);
        }
    azure_http_free(f);
}
static enum throttle_class class_of(unsigned method, const char *pattern)
{
    enum throttle_class what = THROTTLE_NONE;
    assert_true(http_throttle_find(azure_throttles, method, pattern, &what));
    return what;
}
static void test_routes_of_one_path_differ(void **state)
{
    (void)state;
    assert_int_equal(class_of(HTTP_POST_, "/devices"), THROTTLE_REGISTRY);
    assert_int_equal(class_of(HTTP_POST_, "/devices/query"), THROTTLE_QUERIES);
    assert_int_equal(class_of(HTTP_PUT_, "/devices/{}"), THROTTLE_REGISTRY);
    assert_int_equal(class_of(HTTP_GET_, "/devices/{}/modules/{}"), THROTTLE_REGISTRY);
    assert_int_equal(class_of(HTTP_DELETE_, "/devices/{}/commands"), THROTTLE_C2D_SENDS);
    assert_int_equal(class_of(HTTP_POST_, "/devices/{}/messages/events"), THROTTLE_D2C_SENDS);
    assert_int_equal(class_of(HTTP_GET_, "/devices/{}/messages/devicebound"), THROTTLE_C2D_RECEIVES);
    assert_int_equal(class_of(HTTP_DELETE_, "/devices/{}/messages/devicebound/{}"), THROTTLE_C2D_RECEIVES);
    assert_int_equal(class_of(HTTP_POST_, "/devices/{}/files"), THROTTLE_UPLOADS);
    assert_int_equal(class_of(HTTP_POST_, "/devices/{}/files/notifications"), THROTTLE_NONE);
    assert_int_equal(class_of(HTTP_GET_, "/twins/{}"), THROTTLE_TWIN_READS);
    assert_int_equal(class_of(HTTP_PATCH_, "/twins/{}/modules/{}"), THROTTLE_TWIN_UPDATES);
    assert_int_equal(class_of(HTTP_POST_, "/twins/{}/methods"), THROTTLE_METHODS);
    assert_int_equal(class_of(HTTP_POST_, "/digitaltwins/{}/components/{}/commands/{}"), THROTTLE_METHODS);
    assert_int_equal(class_of(HTTP_PUT_, "/jobs/v2/{}"), THROTTLE_JOBS);
    assert_int_equal(class_of(HTTP_POST_, "/jobs/create"), THROTTLE_JOBS);
    assert_int_equal(class_of(HTTP_DELETE_, "/jobs/{}"), THROTTLE_JOBS);
    assert_int_equal(class_of(HTTP_GET_, "/configurations"), THROTTLE_CONFIGURATIONS);
}
int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_route_has_a_line),
                                        cmocka_unit_test(test_routes_of_one_path_differ) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
