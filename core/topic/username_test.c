/* core/topic/username_test.c - the user names that the Azure SDKs send, and those that must not get in. */
#include "core/topic/username.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>

static void every_form_of_a_user_name_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *client_id, *name, *host, *api, *type, *model;
    } rows[] = {
        { "d", "h.x/d/?api-version=2021-04-12&DeviceClientType=a%2F1%20(node%20x)", "h.x", "2021-04-12",
          "a%2F1%20(node%20x)", "" },
        { "d", "h.x/d/api-version=2016-11-14&DeviceClientType=c", "h.x", "2016-11-14", "c", "" },
        { "d", "h.x/d?api-version=1", "h.x", "1", "", "" },
        { "d", "h.x/d", "h.x", "", "", "" },
        { "d", "h.x/d/", "h.x", "", "", "" },
        { "d", "h.x/d/?", "h.x", "", "", "" },
        { "d", "h.x/d/?model-id=dtmi:a:b;1&x=y&flag&api-version=2=3", "h.x", "2=3", "", "dtmi:a:b;1" },
        { "d", "h.x/d/?digital-twin-model-id=dtmi%3Aa%3Ab%3B1", "h.x", "", "", "dtmi%3Aa%3Ab%3B1" },
        { "d", "h.x/d/?api-version=1&api-version=2", "h.x", "1", "", "" }, /* the first counts */
        { "d?x", "h.x/d?x/?api-version=1", "h.x", "1", "", "" },           /* an id with '?' */
        { "d/m", "h.x/d/m/?api-version=1", "h.x", "1", "", "" },
        { "d/m", "h.x/d/m", "h.x", "", "", "" },
        { "a=b", "h.x/a=b/?api-version=1", "h.x", "1", "", "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct username u;
        assert_int_equal(username_parse(span_str(rows[i].client_id), span_str(rows[i].name), &u), ERR_OK);
        assert_true(span_eq(u.host, span_str(rows[i].host)));
        assert_true(span_eq(u.api_version, span_str(rows[i].api)));
        assert_true(span_eq(u.client_type, span_str(rows[i].type)));
        assert_true(span_eq(u.model_id, span_str(rows[i].model)));
        assert_int_equal(u.who.module.n, strchr(rows[i].client_id, '/') ? 1 : 0);
    }
}

static void other_identities_do_not_get_in(void **state)
{
    (void)state;
    static const struct {
        const char *client_id, *name;
    } rows[] = {
        { "", "h.x//?api-version=1" },
        { "d", "h.x/D/?api-version=1" },
        { "d", "h.x/dd/?api-version=1" },
        { "dd", "h.x/d/?api-version=1" },
        { "d", "h.x/d/m/?api-version=1" },
        { "d", "h.x/d/m" },
        { "d/m", "h.x/d/?api-version=1" },
        { "d/m", "h.x/d/x/?a=1" },
        { "d", "/d/?api-version=1" },
        { "d", "h.x" },
        { "d", "" },
        { "d/", "h.x/d//?a=1" },
        { "/m", "h.x//m/?a=1" },
        { "d/m/x", "h.x/d/m/x/?a=1" },
        { "d x", "h.x/d x/?a=1" },
        { "d\xc3\xbc", "h.x/d\xc3\xbc" },
        { "d", "h.x/d/?a/b=1" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct username u;
        assert_int_equal(username_parse(span_str(rows[i].client_id), span_str(rows[i].name), &u), ERR_DENIED);
    }
}

static void ids_keep_to_their_alphabet(void **state)
{
    (void)state;
    uint8_t id[129];
    memset(id, 'x', sizeof id);
    assert_true(identity_id_is_valid(span_of(id, 128)));
    assert_false(identity_id_is_valid(span_of(id, 129)));
    assert_false(identity_id_is_valid(SPAN("")));
    assert_true(identity_id_is_valid(SPAN("azAZ09-.+%_#*?!(),:=@$'")));
    for (unsigned c = 0; c < 256; c++) {
        uint8_t b = (uint8_t)c;
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    (c && strchr("-.+%_#*?!(),:=@$'", (int)c));
        assert_int_equal(identity_id_is_valid(span_of(&b, 1)), good);
    }
}

static void what_the_device_writes_is_read(void **state)
{
    (void)state;
    uint8_t room[256], id_room[64];
    struct topic_identity who = { SPAN("d"), SPAN("m") };
    struct wr w = { room, sizeof room, 0 }, id = { id_room, sizeof id_room, 0 };
    username_encode(&w, SPAN("hub.localhost"), &who, SPAN("roost/1 (linux)"));
    client_id_encode(&id, &who);
    assert_true(span_eq(wr_span(&w), SPAN("hub.localhost/d/m/?api-version=2021-04-12&DeviceClientType="
                                          "roost%2F1%20%28linux%29")));
    struct username u;
    assert_int_equal(username_parse(wr_span(&id), wr_span(&w), &u), ERR_OK);
    assert_true(span_eq(u.who.device, SPAN("d")) && span_eq(u.who.module, SPAN("m")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_a_user_name_is_read),
        cmocka_unit_test(other_identities_do_not_get_in),
        cmocka_unit_test(ids_keep_to_their_alphabet),
        cmocka_unit_test(what_the_device_writes_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
