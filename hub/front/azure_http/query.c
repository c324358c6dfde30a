/* hub/front/azure_http/query.c - queries over twins and job records. Source: docs/azure-http.md, "Queries".
 */
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/query_step.h"

static void answer(struct job *j)
{
    struct query_job *q = j->state;
    j->bytes = wr_span(&q->run.out);
    j->bytes_type = "application/json; charset=utf-8";
    azure_answer_page(j, q->run.item_type, q->run.next);
    job_end(j);
}

static void refuse(struct job *j, const char *why)
{
    (void)azure_fail(j, AZ_ArgumentInvalid, "BadRequest; %s", why);
}

static void start(struct job *j)
{
    struct azure_page page;
    struct query_job *q = NULL;
    const json_t *text = json_object_get(j->in, "query");
    if (!json_is_string(text))
        (void)azure_fail(j, AZ_ArgumentInvalid, "BadRequest; the body has to be {\"query\": \"SELECT ...\"}");
    if (j->code || !azure_page(j, &page)) {
        job_end(j);
        return;
    }
    enum err e = query_job_open(j, span_of(json_string_value(text), json_string_length(text)),
                                page.continuation, page.max, &q);
    if (e == ERR_NOMEM)
        return;
    if (e == ERR_VERIFY)
        (void)azure_fail(j, AZ_ArgumentInvalid,
                         "BadRequest; x-ms-continuation does not belong to this query");
    else if (e == ERR_FULL)
        (void)azure_fail(j, AZ_ThrottlingException, "%u queries run already: try again", QUERY_RUNNING_MAX);
    else if (e)
        (void)azure_fail(j, AZ_ArgumentInvalid, "BadRequest; line %u, column %u: %s", q->err.line,
                         q->err.column, q->err.message);
    query_job_run(j, answer, refuse);
}

JOB_HANDLER(azure_query, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start);
