/* hub/domain/json_members.c - see json_members.h. */
#include "hub/domain/json_members.h"

#include "base/text.h"
#include "core/json/json.h"

void member_string(struct wr *w, struct span s)
{
    json_put_string(w, s);
}

void member_uint(struct wr *w, uint64_t v)
{
    u64_encode(w, v);
}

void member_raw(struct wr *w, const char *name, struct span json)
{
    wr_str(w, ",\"");
    wr_str(w, name);
    wr_str(w, "\":");
    wr_put(w, json);
}

void member_text(struct wr *w, const char *name, struct span s)
{
    member_raw(w, name, SPAN_NONE);
    json_put_string(w, s);
}

void member_number(struct wr *w, const char *name, uint64_t v)
{
    member_raw(w, name, SPAN_NONE);
    u64_encode(w, v);
}

void member_bool(struct wr *w, const char *name, bool v)
{
    member_raw(w, name, v ? SPAN("true") : SPAN("false"));
}

void member_time(struct wr *w, const char *name, uint64_t wall_ms)
{
    if (!wall_ms)
        return;
    member_raw(w, name, SPAN("\""));
    iso8601_encode(w, wall_ms);
    wr_u8(w, '"');
}
