/* hub/front/http/throttled.h - which route counts as which operation (hub/domain/throttle.h), and the step
 * that counts a request before its handler starts. */
#ifndef ROOST_HUB_FRONT_HTTP_THROTTLED_H
#define ROOST_HUB_FRONT_HTTP_THROTTLED_H

#include "hub/conn/http_conn.h"
#include "hub/domain/throttle.h"

struct job;

/* One table a front beside its routes; ends with a pattern of NULL; the first line that fits counts. Every
 * route with a handler has one (a test holds it), if only to say THROTTLE_NONE. */
struct http_throttle {
    unsigned methods;    /* enum http_methods bits */
    const char *pattern; /* as in the route table; two stars at the end: whatever follows, if anything does */
    enum throttle_class what;
};
/* False: no line fits. */
bool http_throttle_find(const struct http_throttle *table, unsigned method, const char *pattern,
                        enum throttle_class *out);
/* May j, whose body is read, go on? It asks for so many operations; 0: for one, or what its bytes come to.
 * False: it is over a rate and the error is set. */
bool job_throttle(struct job *j, uint32_t operations);

#endif
