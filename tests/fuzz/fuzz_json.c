/* tests/fuzz/fuzz_json.c - any bytes as JSON for the device: every value that is found can be asked for as
 * anything; strings written again read the same. */
#include "core/json/json.h"

#include <stdlib.h>

static void walk(const struct json *j, int value, int depth)
{
    static uint8_t room[1 << 16], wire[1 << 18], back[1 << 16];
    struct wr mem = { room, sizeof room, 0 }, w = { wire, sizeof wire, 0 }, mem2 = { back, sizeof back, 0 };
    struct span s, s2;
    uint64_t n;
    bool b;
    int it = 0, key, child, found;
    (void)!json_u64(j, value, UINT64_MAX, &n);
    (void)!json_bool(j, value, &b);
    (void)json_is_null(j, value);
    (void)!json_member(j, value, "id", &found);
    if (!json_str(j, value, &mem, &s)) {
        jsmntok_t tok[1];
        struct json again;
        json_put_string(&w, s);
        if (json_parse(&again, wr_span(&w), tok, 1) || json_str(&again, 0, &mem2, &s2))
            abort();
        if (!memchr(wr_span(&w).p, 0xef, w.len) && !span_eq(s, s2)) /* 0xef: maybe replaced by U+FFFD */
            abort();
    }
    while (depth < 64 && json_each(j, value, &it, &key, &child))
        walk(j, child, depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static jsmntok_t tok[256];
    struct json j;
    if (size <= 65536 && !json_parse(&j, span_of(data, size), tok, 256))
        walk(&j, JSON_ROOT, 0);
    return 0;
}
