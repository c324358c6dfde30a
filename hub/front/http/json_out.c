/* hub/front/http/json_out.c - see json_out.h. */
#include "hub/front/http/json_out.h"

#include "base/text.h"

#include <stdlib.h>

json_t *json_span(struct span s)
{
    return json_stringn(s.n ? (const char *)s.p : "", s.n);
}

static json_t *encoded(struct span s, void (*encode)(struct wr *, struct span), size_t room)
{
    uint8_t small[256];
    uint8_t *mem = room <= sizeof small ? small : malloc(room);
    if (!mem)
        return NULL;
    struct wr w = { mem, room, 0 };
    encode(&w, s);
    json_t *v = json_span(wr_span(&w));
    if (mem != small)
        free(mem);
    return v;
}

json_t *json_hex(struct span s)
{
    return encoded(s, hex_encode, 2 * s.n + 1);
}

json_t *json_base64(struct span s)
{
    return encoded(s, base64_encode, s.n / 3 * 4 + 8);
}

json_t *json_time(uint64_t wall_ms)
{
    uint8_t mem[32];
    struct wr w = { mem, sizeof mem, 0 };
    iso8601_encode(&w, wall_ms);
    return json_span(wr_span(&w));
}

void json_put(json_t *o, const char *name, json_t *v)
{
    if (v)
        (void)json_object_set_new(o, name, v); /* out of memory shows as a missing member */
}

void json_put_u64(json_t *o, const char *name, uint64_t v)
{
    json_put(o, name, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

void json_put_str(json_t *o, const char *name, const char *v)
{
    json_put(o, name, json_string(v));
}
