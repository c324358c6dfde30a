/* hub/front/http/range.c - ranges and entity tags. */
#include "hub/front/http/range.h"

#include "base/text.h"

struct range_answer range_of(struct span range, struct span if_range, struct span etag, uint64_t file_len)
{
    const struct range_answer all = { 200, 0, file_len }, none = { 416, 0, 0 };
    uint64_t first = 0, last = 0;
    if (range.n < 6 || !span_ieq(span_of(range.p, 6), SPAN("bytes=")))
        return all;
    if (if_range.n && !span_eq(span_trim(if_range), etag)) /* strong; a date never matches: there is none */
        return all;
    range = span_trim(span_skip(range, 6));
    const uint8_t *dash = range.n ? memchr(range.p, '-', range.n) : NULL;
    if (!dash || memchr(range.p, ',', range.n))
        return all;
    struct span a = span_trim(span_of(range.p, (size_t)(dash - range.p))),
                b = span_trim(span_of(dash + 1, range.n - (size_t)(dash + 1 - range.p)));
    if (!a.n) { /* the last so many bytes */
        if (u64_parse(b, UINT64_MAX, &last))
            return all;
        if (!last || !file_len)
            return none;
        if (last > file_len)
            last = file_len;
        return (struct range_answer){ 206, file_len - last, last };
    }
    if (u64_parse(a, UINT64_MAX, &first))
        return all;
    last = file_len ? file_len - 1 : 0;
    if (b.n) {
        uint64_t asked;
        if (u64_parse(b, UINT64_MAX, &asked) || asked < first)
            return all;
        if (asked < last)
            last = asked;
    }
    if (first >= file_len)
        return none;
    return (struct range_answer){ 206, first, last - first + 1 };
}

bool etag_listed(struct span list, struct span etag)
{
    list = span_trim(list);
    if (span_eq(list, SPAN("*")))
        return true;
    while (list.n) {
        const uint8_t *comma = memchr(list.p, ',', list.n);
        struct span one = span_trim(comma ? span_of(list.p, (size_t)(comma - list.p)) : list);
        if (span_starts(one, SPAN("W/")))
            one = span_skip(one, 2);
        if (span_eq(one, etag))
            return true;
        list = comma ? span_skip(list, (size_t)(comma + 1 - list.p)) : SPAN_NONE;
    }
    return false;
}
