/* tests/fuzz/fuzz_method.c - direct methods: any bytes as a bus message are refused or read as spans inside
 * them; any bytes as a device's answer become one JSON value; a member's text is found in JSON and lies
 * inside of it; the body of a call without its payload is otherwise the same. */
#include "hub/domain/method/method.h"

#include <assert.h>
#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t flags = JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL;
    struct method_request q;
    struct span in = span_of(data, size), member;
    struct arena a;
    if (!method_request_parse(in, &q)) {
        assert(method_name_ok(q.name));
        assert(q.name.p >= data && q.payload.p + q.payload.n == data + size);
    }
    arena_init(&a, 1 << 20);
    struct span text = method_body_json(&a, in);
    json_t *v = json_loadb((const char *)text.p, text.n, flags, NULL);
    assert(v || arena_err(&a));
    json_decref(v);
    text = method_call_json(&a, in); /* of what is read, it changes the payload alone */
    assert(text.n == in.n);
    json_t *was = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    v = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
    if (was) {
        assert(v);
        if (json_is_object(was) && json_object_get(was, "payload")) {
            assert(json_object_get(v, "payload"));
            (void)json_object_set_new(was, "payload", json_null());
            (void)json_object_set_new(v, "payload", json_null());
        }
        assert(json_equal(was, v));
    }
    json_decref(was);
    json_decref(v);
    arena_fini(&a);
    if (!method_member_text(in, "payload", &member))
        return 0;
    assert(member.n && member.p >= data && member.p + member.n <= data + size);
    v = json_loadb((const char *)data, size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    if (v) {
        json_t *want = json_object_get(v, "payload");
        json_t *got = json_loadb((const char *)member.p, member.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert(want && got && json_equal(want, got));
        json_decref(got);
    }
    json_decref(v);
    return 0;
}
