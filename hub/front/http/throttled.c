/* hub/front/http/throttled.c - see throttled.h. */
#include "hub/front/http/throttled.h"

#include "hub/front/http/job.h"

#define METHOD_BLOCK 4096u /* what a direct method is counted by */

static bool fits(const char *pattern, const char *route)
{
    size_t n = strlen(pattern);
    if (n < 2 || strcmp(pattern + n - 2, "**") != 0)
        return strcmp(pattern, route) == 0;
    return strncmp(pattern, route, n - 2) == 0;
}

bool http_throttle_find(const struct http_throttle *table, unsigned method, const char *pattern,
                        enum throttle_class *out)
{
    for (; table && table->pattern; table++) {
        if (!(table->methods & method) || !fits(table->pattern, pattern))
            continue;
        *out = table->what;
        return true;
    }
    return false;
}

static uint32_t cost_of(const struct job *j, enum throttle_class what)
{
    if (what == THROTTLE_METHODS)
        return (uint32_t)((j->r->body.n + METHOD_BLOCK - 1) / METHOD_BLOCK);
    return 1;
}

bool job_throttle(struct job *j, uint32_t operations)
{
    enum throttle_class what = THROTTLE_NONE;
    if (!j->h->throttle || !j->r->route ||
        !http_throttle_find(j->front->ops->throttles, j->r->method, j->r->route->pattern, &what))
        return true;
    struct sas_token t;
    struct span policy = j->check.granted && !sas_parse(j->check.token, &t) ? sas_policy(&t) : SPAN_NONE;
    struct throttle_verdict v =
        throttle_take(j->h->throttle, what, policy, operations ? operations : cost_of(j, what),
                      worker_now_ms(j->r->worker), 0);
    if (v.allowed)
        return true;
    j->wait_s = (uint32_t)((v.wait_ms + 999) / 1000);
    j->front->ops->throttled(j, throttle_name(what));
    return false;
}
