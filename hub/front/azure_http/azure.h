/* hub/front/azure_http/azure.h - what every handler of this front uses besides job.h: errors with their
 * envelopes, etags and If-Match, times, pages, the api-version.
 *
 * A handler is one JOB_HANDLER, declared in routes.h. Before it starts, the
 * api-version is checked and x-ms-request-id is set; a refusal is 401 IotHubUnauthorizedAccess. JSON answers
 * go to j->out, 204 is an answer without j->out.
 * Source: docs/azure-http.md. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_AZURE_H
#define ROOST_HUB_FRONT_AZURE_HTTP_AZURE_H

#include "hub/front/azure_http/errors.h"
#include "hub/front/http/job.h"
#include "hub/front/http/throttled.h"

/* ---- errors ------------------------------------------------------------------------------------------ */

/* As job_fail, with a name of errors.h. Always false. */
bool azure_fail(struct job *j, enum azure_error e, const char *message, ...) LOG_PRINTF(3, 4);
/* In a run(): sets the error and undoes what the transaction has written. */
#define AZURE_REFUSE(j, ...) ((void)azure_fail((j), __VA_ARGS__), ERR_DENIED)

enum azure_envelope { /* j->envelope; set it beside the error */
                      AZURE_PLAIN =
                          0, /* {"Message":"ErrorCode:Name;text","ExceptionMessage":"Tracking ID:..."} */
                      AZURE_TYPED =
                          1, /* {"errorCode":409301,"trackingId":...,"message":text,"timestampUtc":...} */
                      AZURE_NESTED =
                          2 /* the typed one as a string in Message; ExceptionMessage is empty (methods) */
};
/* j->info: JSON text that the typed forms carry as "info", or empty. */

/* ---- the request ------------------------------------------------------------------------------------- */

/* YYYY-MM-DD[-preview] from 2016-02-03 on as the number 20160203; 0: missing or malformed. */
uint32_t azure_version_parse(struct span text);
uint32_t azure_api_version(struct job *j); /* of this request; checked before the handler starts */

enum azure_match_kind { AZURE_MATCH_NONE, AZURE_MATCH_ANY, AZURE_MATCH_ETAG };
struct azure_match {
    enum azure_match_kind kind;
    struct span etag; /* without quotes and W/ */
};
/* An etag as written in a header or a body: less W/ and one pair of quotes. */
struct span azure_etag_bare(struct span text);
struct azure_match azure_match_parse(struct span if_match);
struct azure_match azure_if_match(struct job *j); /* of the header If-Match */
bool azure_match_holds(const struct azure_match *m, struct span etag);

#define AZURE_PAGE_MAX         1000u
#define AZURE_CONTINUATION_MAX 4096u
struct azure_page {
    uint32_t max;             /* 1..AZURE_PAGE_MAX: rows of the page */
    struct span continuation; /* as handed out with the page before; empty: the first page */
};
/* Of the headers x-ms-max-item-count and x-ms-continuation. False: the error is set. */
bool azure_page(struct job *j, struct azure_page *out);

/* ---- the answer -------------------------------------------------------------------------------------- */

#define AZURE_ETAG_MAX 40u
/* Identities and configurations: base64 of the counter in decimal. The text ends with a zero. */
struct span azure_etag_decimal(uint64_t counter, char out[AZURE_ETAG_MAX]);
/* Twins: base64 of the counter as eight bytes, the highest first. */
struct span azure_etag_binary(uint64_t counter, char out[AZURE_ETAG_MAX]);
void azure_answer_etag(struct job *j, struct span etag); /* the header ETag, quoted */

/* x-ms-item-type ("Twin", "DeviceJob", "JobResponse", "Raw"), and x-ms-continuation unless next is empty. */
void azure_answer_page(struct job *j, const char *item_type, struct span next);

#define AZURE_NEVER "0001-01-01T00:00:00Z"
json_t *azure_time(uint64_t wall_ms); /* 0: never */

/* For conn-level errors of the route tables of this front. */
void azure_on_error(struct http_req *r, unsigned status, const char *code, const char *message);
extern const struct http_throttle azure_throttles[]; /* throttles.c */
extern const struct http_front_ops azure_front_ops;

#endif
