/* hub/front/roost_http/query.c - queries by the hub's own interface: the page and its continuation in one
 * body. */
#include "hub/front/http/query_step.h"
#include "hub/front/roost_http/routes.h"

static void answer(struct job *j)
{
    struct query_job *q = j->state;
    const struct query_run *run = &q->run;
    size_t cap = run->out.len + run->next.n + 64;
    struct wr w = { arena_alloc(&j->a, cap), cap, 0 };
    if (!w.p) {
        job_end_err(j, ERR_NOMEM);
        return;
    }
    wr_str(&w, "{\"type\":\"");
    wr_str(&w, run->item_type);
    wr_str(&w, "\",\"rows\":");
    wr_put(&w, wr_span(&run->out));
    if (run->next.n) {
        wr_str(&w, ",\"next\":\"");
        wr_put(&w, run->next);
        wr_u8(&w, '"');
    }
    wr_u8(&w, '}');
    j->bytes = wr_span(&w);
    j->bytes_type = "application/json";
    job_end(j);
}

static void refuse(struct job *j, const char *why)
{
    (void)job_fail(j, 400, "query-too-large", "%s", why);
}

static void start(struct job *j)
{
    static const char *const names[] = { "query", "limit", "next", NULL };
    struct span text = SPAN_NONE, next = SPAN_NONE;
    uint64_t limit = QUERY_PAGE_MAX;
    struct query_job *q = NULL;
    if (!in_only(j, j->in, names) || !in_text(j, j->in, "query", IN_REQUIRED, QUERY_BODY_MAX, &text) ||
        !in_u64(j, j->in, "limit", IN_OPTIONAL, QUERY_PAGE_MAX, &limit) ||
        !in_text(j, j->in, "next", IN_OPTIONAL, QUERY_BODY_MAX, &next)) {
        job_end(j);
        return;
    }
    enum err e = query_job_open(j, text, next, (uint32_t)limit, &q);
    if (e == ERR_NOMEM)
        return;
    if (e == ERR_VERIFY)
        (void)job_fail(j, 400, "bad-continuation", "member \"next\" does not belong to this query");
    else if (e == ERR_FULL)
        (void)job_fail(j, 429, "too-many-queries", "%u queries run already: try again", QUERY_RUNNING_MAX);
    else if (e)
        (void)job_fail(j, 400, "bad-query-text", "line %u, column %u: %s", q->err.line, q->err.column,
                       q->err.message);
    query_job_run(j, answer, refuse);
}

JOB_HANDLER(query_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start);
