/* hub/front/azure_http/azure.c - see azure.h. */
#include "hub/front/azure_http/azure.h"

#include "base/text.h"
#include "hub/domain/metrics.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

/* ---- errors ------------------------------------------------------------------------------------------ */

bool azure_fail(struct job *j, enum azure_error e, const char *message, ...)
{
    char text[sizeof j->message];
    va_list ap;
    va_start(ap, message);
    vsnprintf(text, sizeof text, message, ap);
    va_end(ap);
    return job_fail(j, azure_error_status(e), azure_error_name(e), "%s", text);
}

static void request_id_make(const struct hub *h, char out[40])
{
    uint8_t b[16];
    h->crypto->random(b, sizeof b);
    uuid_encode(b, out);
}

struct told { /* one error on its way out */
    enum azure_error error;
    unsigned status;
    uint8_t envelope;
    const char *message, *request_id;
    struct span info;
    uint64_t wall_ms;
};

/* Text of a peer may not be UTF-8, or be cut inside of a character. */
static json_t *text_json(const char *text)
{
    json_t *v = json_string(text);
    if (v)
        return v;
    char clean[1024];
    size_t n = strlen(text);
    n = n < sizeof clean ? n : sizeof clean - 1;
    for (size_t i = 0; i < n; i++)
        clean[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    return json_stringn(clean, n);
}

static void stamp(uint64_t wall_ms, char out[32])
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(out, 32, "%m/%d/%Y %H:%M:%S", &tm);
}

static json_t *typed_json(const struct told *t)
{
    char at[32], tracking[128];
    json_t *o = json_object();
    stamp(t->wall_ms, at);
    snprintf(tracking, sizeof tracking, "%s-TimeStamp:%s", t->request_id, at);
    if (o) {
        json_put(o, "errorCode", json_integer(t->error));
        json_put_str(o, "trackingId", tracking);
        json_put(o, "message", text_json(t->message));
        if (t->info.n)
            json_put(o, "info", json_loadb((const char *)t->info.p, t->info.n, JSON_DECODE_ANY, NULL));
        json_put(o, "timestampUtc", json_time(t->wall_ms));
    }
    return o;
}

static json_t *plain_json(const struct told *t)
{
    char at[32], text[1024], tracking[128];
    json_t *o = json_object();
    stamp(t->wall_ms, at);
    snprintf(text, sizeof text, "ErrorCode:%s;%s", azure_error_name(t->error), t->message);
    snprintf(tracking, sizeof tracking, "Tracking ID:%s-G:0-TimeStamp:%s", t->request_id, at);
    if (o) {
        json_put(o, "Message", text_json(text));
        json_put_str(o, "ExceptionMessage", tracking);
    }
    return o;
}

static json_t *nested_json(const struct told *t)
{
    json_t *o = json_object(), *in = typed_json(t);
    char *text = in ? json_dumps(in, JSON_COMPACT) : NULL;
    if (o && text) {
        json_put_str(o, "Message", text);
        json_put_str(o, "ExceptionMessage", "");
    }
    free(text);
    json_decref(in);
    return o;
}

static void write_error(struct http_req *r, const struct told *t, const char *fields)
{
    json_t *o = t->envelope == AZURE_TYPED    ? typed_json(t)
                : t->envelope == AZURE_NESTED ? nested_json(t)
                                              : plain_json(t);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    struct span body = text ? span_str(text) : SPAN("{\"Message\":\"ErrorCode:ServerBusy;out of memory\"}");
    http_answer(r, t->status, "application/json; charset=utf-8", body, fields);
    free(text);
    json_decref(o);
}

/* What the general part of the hub calls its refusals of a request's content. */
static enum azure_error error_of_code(const char *code, unsigned status)
{
    enum azure_error e;
    if (azure_error_find(span_str(code), &e))
        return e;
    if (strcmp(code, "bad-json") == 0)
        return AZ_IotHubFormatError;
    if (strncmp(code, "bad-", 4) == 0 || strcmp(code, "missing-member") == 0)
        return status == 400 ? AZ_ArgumentInvalid : azure_error_of_status(status);
    return azure_error_of_status(status);
}

static void answer_error(struct job *j)
{
    enum azure_error e = error_of_code(j->code, j->status);
    struct told t = { .error = e,
                      .status = j->status == 507 ? azure_error_status(e) : j->status,
                      .envelope = j->envelope,
                      .message = j->message,
                      .request_id = j->request_id,
                      .info = j->info,
                      .wall_ms = j->h->wall_ms() };
    job_field(j, "iothub-errorcode", "%s", azure_error_name(e));
    write_error(j->r, &t, job_fields(j));
}

void azure_on_error(struct http_req *r, unsigned status, const char *code, const char *message)
{
    const struct http_front *front = r->ctx;
    char id[40], fields[160];
    enum azure_error e;
    if (!azure_error_find(span_str(code), &e))
        e = azure_error_of_status(status);
    request_id_make(front->hub, id);
    snprintf(fields, sizeof fields, "x-ms-request-id: %s\r\niothub-errorcode: %s\r\n", id,
             azure_error_name(e));
    struct told t = {
        .error = e, .status = status, .message = message, .request_id = id, .wall_ms = front->hub->wall_ms()
    };
    METRIC_ADD(front->hub, http_errors_total, 1);
    write_error(r, &t, fields);
}

/* ---- the request ------------------------------------------------------------------------------------- */

uint32_t azure_version_parse(struct span text)
{
    struct span tail = SPAN("-preview");
    uint64_t y, m, d;
    if (text.n == 10 + tail.n && span_ieq(span_skip(text, 10), tail))
        text.n = 10;
    if (text.n != 10 || text.p[4] != '-' || text.p[7] != '-' || u64_parse(span_of(text.p, 4), 9999, &y) ||
        u64_parse(span_of(text.p + 5, 2), 12, &m) || u64_parse(span_of(text.p + 8, 2), 31, &d) || !m || !d)
        return 0;
    uint32_t v = (uint32_t)(y * 10000 + m * 100 + d);
    return v >= 20160203 ? v : 0;
}

uint32_t azure_api_version(struct job *j)
{
    struct span s;
    return http_query(j->r, "api-version", &s) ? azure_version_parse(s) : 0;
}

static void begin(struct job *j)
{
    request_id_make(j->h, j->request_id);
    job_field(j, "x-ms-request-id", "%s", j->request_id);
    if (!azure_api_version(j))
        (void)azure_fail(j, AZ_InvalidProtocolVersion,
                         "the query parameter api-version has to be a date, 2016-02-03 or later: 2021-04-12");
}

static void refuse(struct job *j)
{
    static const char *const texts[] = {
        [ACCESS_NO_TOKEN] = "the header Authorization with a shared access signature is missing",
        [ACCESS_BAD_TOKEN] = "the header Authorization is not a shared access signature",
        [ACCESS_EXPIRED] = "the shared access signature has expired: renew it",
        [ACCESS_AUDIENCE] = "the shared access signature was made for another resource",
        [ACCESS_DISABLED] = "the device is disabled or waits for approval",
        [ACCESS_RIGHTS] = "the policy does not allow access for this operation",
    };
    enum access_why why = j->check.why;
    if (j->wait_s) {
        (void)azure_fail(j, AZ_ThrottlingException,
                         "too many requests of this source were refused: wait %u s", j->wait_s);
        return;
    }
    const char *text = why < sizeof texts / sizeof texts[0] ? texts[why] : NULL;
    (void)azure_fail(j, AZ_IotHubUnauthorizedAccess, "%s",
                     text ? text : "authentication failed: check key, clock and host name");
}

/* The service it stands in for names the operation and no time but this one. */
static void throttled(struct job *j, const char *operation)
{
    (void)azure_fail(j, AZ_ThrottlingException,
                     "the allowed rate of operations was exceeded: wait ten seconds and try again; operation "
                     "type: %s",
                     operation);
}

const struct http_front_ops azure_front_ops = { .begin = begin,
                                                .refuse = refuse,
                                                .throttled = throttled,
                                                .throttles = azure_throttles,
                                                .json_type = "application/json; charset=utf-8",
                                                .answer_error = answer_error };

struct span azure_etag_bare(struct span t)
{
    t = span_trim(t);
    if (span_starts(t, SPAN("W/")))
        t = span_skip(t, 2);
    if (t.n >= 2 && t.p[0] == '"' && t.p[t.n - 1] == '"')
        t = span_of(t.p + 1, t.n - 2);
    return t;
}

struct azure_match azure_match_parse(struct span if_match)
{
    struct span bare = azure_etag_bare(if_match);
    if (!bare.n)
        return (struct azure_match){ AZURE_MATCH_NONE, SPAN_NONE };
    if (span_eq(bare, SPAN("*")))
        return (struct azure_match){ AZURE_MATCH_ANY, SPAN_NONE };
    return (struct azure_match){ AZURE_MATCH_ETAG, bare };
}

struct azure_match azure_if_match(struct job *j)
{
    return azure_match_parse(http_field(j->r, "If-Match"));
}

bool azure_match_holds(const struct azure_match *m, struct span etag)
{
    return m->kind != AZURE_MATCH_ETAG || span_eq(m->etag, etag);
}

bool azure_page(struct job *j, struct azure_page *out)
{
    struct span max = http_field(j->r, "x-ms-max-item-count");
    uint64_t n = AZURE_PAGE_MAX;
    enum err e = max.n ? u64_parse(max, UINT32_MAX, &n) : ERR_OK;
    if (e == ERR_PROTO || !n)
        return azure_fail(j, AZ_ArgumentInvalid, "x-ms-max-item-count has to be a number from 1 to %u",
                          AZURE_PAGE_MAX);
    out->max = e || n > AZURE_PAGE_MAX ? AZURE_PAGE_MAX : (uint32_t)n;
    out->continuation = http_field(j->r, "x-ms-continuation");
    if (out->continuation.n > AZURE_CONTINUATION_MAX)
        return azure_fail(j, AZ_ArgumentInvalid, "x-ms-continuation is none that this hub has handed out");
    return true;
}

/* ---- the answer -------------------------------------------------------------------------------------- */

static struct span etag_of(struct span bytes, char out[AZURE_ETAG_MAX])
{
    struct wr w = { (uint8_t *)out, AZURE_ETAG_MAX - 1, 0 };
    base64_encode(&w, bytes);
    out[wr_span(&w).n] = 0;
    return wr_span(&w);
}

struct span azure_etag_decimal(uint64_t counter, char out[AZURE_ETAG_MAX])
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)counter);
    return etag_of(span_of(digits, n > 0 ? (size_t)n : 0), out);
}

struct span azure_etag_binary(uint64_t counter, char out[AZURE_ETAG_MAX])
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)(counter >> (56 - 8 * i));
    return etag_of(span_of(b, sizeof b), out);
}

void azure_answer_etag(struct job *j, struct span etag)
{
    job_field(j, "ETag", "\"%.*s\"", (int)etag.n, (const char *)etag.p);
}

void azure_answer_page(struct job *j, const char *item_type, struct span next)
{
    job_field(j, "x-ms-item-type", "%s", item_type);
    if (next.n)
        job_field(j, "x-ms-continuation", "%.*s", (int)next.n, (const char *)next.p);
}

json_t *azure_time(uint64_t wall_ms)
{
    return wall_ms ? json_time(wall_ms) : json_string(AZURE_NEVER);
}
