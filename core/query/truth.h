/* core/query/truth.h - the three values of a condition, in one place. "Unknown" is what comes of an undefined
 * path and of operands that do not fit; it stays unknown under NOT, and gives way where the other side
 * decides: so `NOT (tags.x = 1)` does not select a device without tags.x.
 * A hub that wanted two values only would change truth_unknown() to TRUTH_NO. */
#ifndef ROOST_CORE_QUERY_TRUTH_H
#define ROOST_CORE_QUERY_TRUTH_H

#include "core/query/query.h"

enum truth { TRUTH_NO, TRUTH_YES, TRUTH_UNKNOWN };

static inline enum truth truth_unknown(void)
{
    return TRUTH_UNKNOWN;
}
static inline enum truth truth_of(const struct query_value *v)
{
    return v->kind != QUERY_BOOL ? truth_unknown() : v->b ? TRUTH_YES : TRUTH_NO;
}
static inline enum truth truth_is(bool b)
{
    return b ? TRUTH_YES : TRUTH_NO;
}
static inline enum truth truth_not(enum truth a)
{
    return a == TRUTH_UNKNOWN ? a : truth_is(a == TRUTH_NO);
}
static inline enum truth truth_and(enum truth a, enum truth b)
{
    if (a == TRUTH_NO || b == TRUTH_NO)
        return TRUTH_NO;
    return a == TRUTH_YES && b == TRUTH_YES ? TRUTH_YES : TRUTH_UNKNOWN;
}
static inline enum truth truth_or(enum truth a, enum truth b)
{
    return truth_not(truth_and(truth_not(a), truth_not(b)));
}
static inline void truth_put(enum truth t, struct query_value *out)
{
    *out = (struct query_value){ .kind = t == TRUTH_UNKNOWN ? QUERY_UNDEFINED : QUERY_BOOL,
                                 .b = t == TRUTH_YES };
}

#endif
