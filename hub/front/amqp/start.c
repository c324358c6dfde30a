/* hub/front/amqp/start.c - see start.h. */
#include "hub/front/amqp/start.h"

#include "base/text.h"
#include "core/amqp/amqp_value.h"

bool group_is_known(const char *groups, struct span name)
{
    struct span rest = span_str(groups);
    if (span_ieq(name, SPAN("$Default")))
        return true;
    while (name.n && rest.n) {
        size_t n = 0;
        while (rest.n && (rest.p[0] == ',' || rest.p[0] == ' '))
            rest = span_skip(rest, 1);
        while (n < rest.n && rest.p[n] != ',')
            n++;
        if (span_ieq(name, span_of(rest.p, n)))
            return true;
        rest = span_skip(rest, n);
    }
    return false;
}

static void skip_spaces(struct span *s)
{
    while (s->n && s->p[0] == ' ')
        *s = span_skip(*s, 1);
}

static bool take(struct span *s, const char *word)
{
    struct span w = span_str(word);
    if (s->n < w.n || !span_ieq(span_of(s->p, w.n), w))
        return false;
    *s = span_skip(*s, w.n);
    return true;
}

/* The number after the comparison: with quotes of one kind, or none. */
static struct span operand(struct span s)
{
    skip_spaces(&s);
    while (s.n && s.p[s.n - 1] == ' ')
        s.n--;
    if (s.n >= 2 && (s.p[0] == '\'' || s.p[0] == '"') && s.p[s.n - 1] == s.p[0])
        s = span_of(s.p + 1, s.n - 2);
    return s;
}

enum err start_parse(struct span s, struct start *out)
{
    uint64_t n;
    skip_spaces(&s);
    if (!take(&s, "amqp.annotation.x-opt-"))
        return ERR_PROTO;
    bool time = take(&s, "enqueued-time") || take(&s, "enqueuedtimeutc");
    bool offset = !time && take(&s, "offset");
    if (!time && !offset && !take(&s, "sequence-number"))
        return ERR_PROTO;
    skip_spaces(&s);
    bool with = take(&s, ">=");
    if (!with && !take(&s, ">"))
        return ERR_PROTO;
    struct span value = operand(s);
    if (!time && span_eq(value, SPAN("-1"))) {
        *out = (struct start){ START_FIRST, 0 };
    } else if (offset && span_ieq(value, SPAN("@latest"))) {
        *out = (struct start){ START_LATEST, 0 };
    } else if (u64_parse(value, INT64_MAX - 1, &n)) {
        return ERR_PROTO;
    } else {
        *out = (struct start){ time ? START_TIME : START_SEQ, with ? n : n + 1 };
    }
    return ERR_OK;
}

enum err start_of_filter(struct span filter, struct start *out)
{
    struct amqp_value map, key, v, descriptor, inner;
    *out = (struct start){ START_FIRST, 0 };
    if (!filter.n)
        return ERR_OK;
    if (amqp_read_one(filter, &map))
        return ERR_PROTO;
    struct amqp_walk walk = amqp_walk_of(&map);
    while (amqp_walk_next(&walk, &key) && amqp_walk_next(&walk, &v)) {
        if (v.type == AMQP_DESCRIBED && amqp_described(&v, &descriptor, &inner))
            v = inner;
        if (amqp_is_text(&v) || v.type == AMQP_BINARY)
            return start_parse(v.bytes, out);
    }
    return walk.r.bad || map.count ? ERR_PROTO : ERR_OK;
}
