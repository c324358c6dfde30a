/* core/ws/ws_test.c - the handshake of RFC 6455 and the habits of the hub's clients. */
#include "core/ws/ws.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above */
#include <cmocka.h>
#include <openssl/sha.h>

static void sha1(struct span s, uint8_t out[20])
{
    SHA1(s.p, s.n, out);
}

static void the_accept_key_is_the_standards(void **state)
{
    (void)state;
    uint8_t out[WS_ACCEPT_LEN];
    assert_int_equal(ws_accept(SPAN("dGhlIHNhbXBsZSBub25jZQ=="), sha1, out), ERR_OK);
    assert_memory_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28);
    static const char *bad[] = { "",
                                 "dGhlIHNhbXBsZSBub25jZQ=",
                                 "dGhlIHNhbXBsZSBub25jZQ",
                                 "dGhlIHNhbXBsZSBub25j",
                                 "dGhlIHNhbXBsZSBub25jZQ!!",
                                 "dGhlIHNhbXBsZSBub25jZWVl" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ws_accept(span_str(bad[i]), sha1, out), ERR_PROTO);
}

static void the_clients_spelling_is_echoed(void **state)
{
    (void)state;
    struct span s;
    assert_int_equal(ws_protocol_select(SPAN("MQTT"), SPAN("mqtt"), &s), ERR_OK);
    assert_true(span_eq(s, SPAN("MQTT")));
    assert_int_equal(ws_protocol_select(SPAN(" x,\t Mqtt , mqtt"), SPAN("mqtt"), &s), ERR_OK);
    assert_true(span_eq(s, SPAN("Mqtt")));
    assert_int_equal(ws_protocol_select(SPAN("AMQPWSB10,,"), SPAN("amqpwsb10"), &s), ERR_OK);
    assert_int_equal(ws_protocol_select(SPAN("mqttv3.1, xmqtt"), SPAN("mqtt"), &s), ERR_NOTFOUND);
    assert_int_equal(ws_protocol_select(SPAN(""), SPAN("mqtt"), &s), ERR_NOTFOUND);
    assert_true(ws_field_has(SPAN("keep-alive, Upgrade"), SPAN("upgrade")));
    assert_false(ws_field_has(SPAN("keep-alive; upgrade"), SPAN("upgrade")));
}

static void the_path_is_known_in_its_spellings(void **state)
{
    (void)state;
    static const char *good[] = { "/$iothub/websocket", "/%24iothub/websocket", "/$iothub/websocket/",
                                  "/$iothub/websocket?iothub-no-client-cert=true" };
    static const char *bad[] = {
        "", "/", "?", "/$iothub/websocketx", "/$iothub", "/x?/$iothub/websocket", "/$servicebus/websocket"
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(ws_path_is_iothub(span_str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ws_path_is_iothub(span_str(bad[i])));
    uint8_t longest[300];
    memset(longest, 'x', sizeof longest);
    assert_false(ws_path_is_iothub(span_of(longest, sizeof longest)));
}

static void the_answer_has_no_empty_value(void **state)
{
    (void)state;
    uint8_t room[256];
    struct wr w = { room, sizeof room, 0 };
    assert_int_equal(ws_response_encode(&w, SPAN("dGhlIHNhbXBsZSBub25jZQ=="), SPAN("MQTT"), sha1), ERR_OK);
    assert_true(span_eq(wr_span(&w), SPAN("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                                          "Upgrade: websocket\r\n"
                                          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                                          "Sec-WebSocket-Protocol: MQTT\r\n\r\n")));
    w.len = 0;
    assert_int_equal(ws_response_encode(&w, SPAN("dGhlIHNhbXBsZSBub25jZQ=="), SPAN_NONE, sha1), ERR_OK);
    room[w.len] = 0;
    assert_null(strstr((char *)room, "Protocol:"));
    w.len = 0;
    assert_int_equal(ws_response_encode(&w, SPAN("x"), SPAN_NONE, sha1), ERR_PROTO);
    assert_int_equal(w.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_accept_key_is_the_standards),
        cmocka_unit_test(the_clients_spelling_is_echoed),
        cmocka_unit_test(the_path_is_known_in_its_spellings),
        cmocka_unit_test(the_answer_has_no_empty_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
