/* hub/front/azure_http/configurations.c - automatic configurations and contents of edge devices.
 * Source: docs/jobs.md, "Configurations". */
#include "hub/domain/audit.h"
#include "hub/domain/configuration/configuration.h"
#include "hub/domain/query/query.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/identity_json.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/fleet_json.h"

/* ---- documents ------------------------------------------------------------------------------------------
 */

struct shown {
    struct config_row row;
    struct config_numbers nr;
    struct config_queries q;
};

static void put_json(struct wr *w, const char *name, struct span json)
{
    member_raw(w, name, json.n ? json : SPAN("null"));
}

static void write_etag(struct wr *w, uint64_t etag)
{
    char text[AZURE_ETAG_MAX];
    member_text(w, "etag", azure_etag_decimal(etag, text));
}

static void write_config(struct wr *w, const void *item)
{
    const struct shown *s = item;
    const struct config_row *r = &s->row;
    wr_str(w, "{\"id\":");
    member_string(w, r->id);
    if (r->schema_version.n)
        member_text(w, "schemaVersion", r->schema_version);
    else
        put_json(w, "schemaVersion", SPAN_NONE);
    put_json(w, "labels", r->labels);
    put_json(w, "content", r->content);
    member_text(w, "contentType", SPAN("assignment"));
    member_text(w, "targetCondition", r->condition);
    member_time(w, "createdTimeUtc", r->created_ms);
    member_time(w, "lastUpdatedTimeUtc", r->updated_ms);
    member_number(w, "priority", r->priority);
    member_raw(w, "systemMetrics", SPAN("{\"results\":{\"targetedCount\":"));
    member_uint(w, s->nr.targeted);
    member_number(w, "appliedCount", s->nr.applied);
    if (r->system_results.n > 2) { /* {"a":1,"b":2}: its members */
        wr_u8(w, ',');
        wr_put(w, span_of(r->system_results.p + 1, r->system_results.n - 2));
    }
    wr_str(w, "},\"queries\":{\"targetedCount\":");
    member_string(w, s->q.targeted);
    member_text(w, "appliedCount", s->q.applied);
    if (s->q.successful.n) {
        member_text(w, "reportedSuccessfulCount", s->q.successful);
        member_text(w, "reportedFailedCount", s->q.failed);
    }
    wr_str(w, "}}");
    member_raw(w, "metrics", SPAN("{\"results\":"));
    wr_put(w, r->results.n ? r->results : SPAN("{}"));
    member_raw(w, "queries", r->metrics.n ? r->metrics : SPAN("{}"));
    wr_u8(w, '}');
    write_etag(w, r->etag);
    wr_u8(w, '}');
}

static enum err shown_of(struct store_tx *tx, struct arena *a, const struct config_row *r, struct shown *s)
{
    s->row = *r;
    enum err e = tx_config_target_count(tx, r->seq, &s->nr.targeted, &s->nr.applied);
    return e ? e : config_queries(a, r, &s->q);
}

static enum err answer(struct job *j, struct store_tx *tx, const struct config_row *r)
{
    struct shown s;
    char etag[AZURE_ETAG_MAX];
    enum err e = shown_of(tx, &j->a, r, &s);
    if (e)
        return e;
    azure_answer_etag(j, azure_etag_decimal(r->etag, etag));
    return fleet_answer(j, write_config, &s);
}

/* ---- refusals -------------------------------------------------------------------------------------------
 */

static enum azure_error error_of(enum config_wrong w)
{
    switch (w) {
    case CONFIG_BAD_CONDITION:
        return AZ_InvalidConfigurationTargetCondition;
    case CONFIG_BAD_CONTENT:
        return AZ_InvalidConfigurationContent;
    case CONFIG_BAD_METRICS:
        return AZ_InvalidConfigurationCustomMetricsQuery;
    default:
        return AZ_ArgumentInvalid;
    }
}

static enum err refuse(struct job *j, enum err e)
{
    switch (e) {
    case ERR_NOTFOUND:
        return AZURE_REFUSE(j, AZ_ConfigurationNotFound, "there is no such configuration");
    case ERR_EXISTS:
        return AZURE_REFUSE(j, AZ_ConfigurationAlreadyExists, "there is a configuration of this id already");
    case ERR_STALE:
        return AZURE_REFUSE(j, AZ_PreconditionFailed,
                            "the configuration was changed meanwhile: its etag is another one");
    case ERR_DENIED:
        return AZURE_REFUSE(j, AZ_InvalidConfigurationTargetCondition,
                            "the condition does not fit the content that the configuration has");
    case ERR_LIMIT:
        return AZURE_REFUSE(j, AZ_ConfigurationCountLimitExceeded,
                            "there are %u configurations of this kind already", CONFIGURATIONS_OF_KIND_MAX);
    default:
        return e;
    }
}

/* ---- create, update -------------------------------------------------------------------------------------
 */

struct writing {
    struct config_new n;
    uint8_t kind;
    bool create;
    uint64_t if_etag;
};

static enum err write(struct job *j, struct store_tx *tx)
{
    struct writing *w = j->state;
    struct config_row r;
    enum err e = w->create ? config_create(j->h, tx, &j->a, &w->n, w->kind, &r)
                           : config_update(j->h, tx, &j->a, &w->n, w->if_etag, &r);
    return e ? refuse(j, e) : answer(j, tx, &r);
}

static void written(struct job *j)
{
    config_poke(j->h);
    job_end(j);
}

static struct span json_member(struct job *j, const struct jnode *o, const char *name)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    return n && n->kind != JNULL ? jtree_text(&j->a, n) : SPAN_NONE;
}

static bool read_config(struct job *j, struct config_new *n)
{
    struct jnode *o;
    struct span id = n->id;
    if (!fleet_body(j, &o) || !fleet_text(j, o, "id", &id) ||
        !fleet_text(j, o, "schemaVersion", &n->schema_version) ||
        !fleet_text(j, o, "targetCondition", &n->condition) ||
        !fleet_number(j, o, "priority", CONFIG_PRIORITY_MAX, &n->priority))
        return false;
    if (!span_eq(id, n->id))
        return azure_fail(j, AZ_ArgumentInvalid, "id of the body is not the one of the path");
    n->labels = json_member(j, o, "labels");
    n->content = json_member(j, o, "content");
    const struct jnode *metrics = jtree_get(o, SPAN("metrics"));
    if (metrics && metrics->kind != JOBJECT && metrics->kind != JNULL)
        return azure_fail(j, AZ_InvalidConfigurationCustomMetricsQuery, "metrics has to be an object");
    n->metrics = json_member(j, metrics, "queries");
    return true;
}

static void start_put(struct job *j)
{
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct writing *w = job_state(j, sizeof *w);
    if (!w)
        return;
    struct azure_match match = azure_if_match(j);
    w->n = (struct config_new){ .id = j->r->params[0], .who = j->who };
    w->create = match.kind == AZURE_MATCH_NONE;
    w->if_etag = azure_match_counter(&match);
    enum err e = read_config(j, &w->n) ? config_check(&j->a, &w->n, &w->kind, &f) : ERR_OK;
    if (e == ERR_PROTO)
        (void)azure_fail(j, error_of(f.wrong), "%s", f.text);
    (void)job_fail_err(j, e);
    job_write(j, write, written);
}

/* ---- read, list, delete ---------------------------------------------------------------------------------
 */

static enum err get(struct job *j, struct store_tx *tx)
{
    struct config_row r;
    enum err e = config_get(tx, &j->a, j->r->params[0], &r);
    return e ? refuse(j, e) : answer(j, tx, &r);
}

struct listing {
    struct job *j;
    struct store_tx *tx;
    struct fleet_array list;
};
static enum err list_one(void *ctx, const struct config_row *r)
{
    struct listing *l = ctx;
    struct shown s;
    enum err e = shown_of(l->tx, &l->j->a, r, &s);
    return e ? e : fleet_array_add(&l->list, write_config, &s);
}
static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { j, tx, { .a = &j->a } };
    enum err e = tx_config_list(tx, false, list_one, &l);
    fleet_answer_array(j, &l.list);
    return e;
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct azure_match match = azure_if_match(j);
    enum err e = config_delete(j->h, tx, &j->a, j->r->params[0], azure_match_counter(&match), j->who);
    return e ? refuse(j, e) : ERR_OK;
}

/* ---- testQueries ----------------------------------------------------------------------------------------
 */

struct tested {
    struct job *j;
    const struct jnode *condition, *queries;
};

/* The error of a text, as JSON. */
static bool put_error(struct wr *w, const struct jnode *n,
                      enum err (*check)(struct arena *a, struct span text, struct config_fault *f),
                      bool first, const char *name)
{
    struct arena a;
    struct config_fault f = { .wrong = CONFIG_FINE, .text = "a text is wanted" };
    bool bad = n->kind != JSTRING;
    arena_init(&a, 2u << 20);
    if (!bad)
        bad = check(&a, n->text, &f) != ERR_OK;
    arena_fini(&a);
    if (name) {
        if (bad)
            member_text(w, name, span_str(f.text));
        else
            member_raw(w, name, SPAN("null"));
    } else if (bad) {
        if (!first)
            wr_u8(w, ',');
        member_string(w, n->key);
        wr_u8(w, ':');
        member_string(w, span_str(f.text));
    }
    return bad;
}

static enum err check_target(struct arena *a, struct span text, struct config_fault *f)
{
    return config_check_condition(a, text, f);
}

static void write_tested(struct wr *w, const void *item)
{
    const struct tested *t = item;
    bool first = true;
    wr_str(w, "{\"customMetricQueryErrors\":{");
    for (const struct jnode *m = t->queries ? t->queries->first : NULL; m; m = m->next)
        if (put_error(w, m, config_check_metric, first, NULL))
            first = false;
    wr_u8(w, '}');
    if (!t->condition || t->condition->kind == JNULL)
        member_raw(w, "targetConditionError", SPAN("null"));
    else if (t->condition->kind == JSTRING && span_eq(t->condition->text, SPAN("*")))
        member_text(w, "targetConditionError", SPAN("a condition is wanted, not *"));
    else
        (void)put_error(w, t->condition, check_target, true, "targetConditionError");
    wr_u8(w, '}');
}

static void start_test(struct job *j)
{
    struct jnode *o;
    struct tested t = { .j = j };
    if (fleet_body(j, &o)) {
        t.condition = jtree_get(o, SPAN("targetCondition"));
        t.queries = jtree_get(o, SPAN("customMetricQueries"));
        if (t.queries && (t.queries->kind != JOBJECT || t.queries->nr > 4 * CONFIG_METRICS_MAX))
            t.queries =
                t.queries->kind == JNULL
                    ? NULL
                    : (azure_fail(j, AZ_ArgumentInvalid, "customMetricQueries has to be a small object"),
                       NULL);
    }
    if (!j->code)
        (void)job_fail_err(j, fleet_answer(j, write_tested, &t));
    job_end(j);
}

/* ---- content of one edge device -------------------------------------------------------------------------
 */

struct applying {
    uint8_t kind;
    struct jnode *content;
};

static enum err apply(struct job *j, struct store_tx *tx)
{
    const struct applying *p = j->state;
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct span id = j->r->params[0];
    enum err e = p->kind == CONFIG_EDGE ? config_apply_modules(j->h, tx, &j->a, id, p->content, &f)
                                        : config_apply_device(j->h, tx, &j->a, id, p->content, &f);
    if (e == ERR_NOTFOUND)
        return AZURE_REFUSE(j, AZ_DeviceNotFound, "there is no such device");
    if (e == ERR_DENIED)
        return AZURE_REFUSE(j, AZ_ArgumentInvalid, "the device is not an edge device");
    if (e == ERR_PROTO)
        return AZURE_REFUSE(j, error_of(f.wrong), "%s", f.text);
    if (e == ERR_LIMIT)
        return AZURE_REFUSE(j, AZ_TooManyModulesOnDevice, "the device would have too many modules");
    return e ? e : audit_push(j->h, tx, j->who, "device.content", id, "%s", "");
}

static void start_apply(struct job *j)
{
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct applying *p = job_state(j, sizeof *p);
    if (!p)
        return;
    enum err e = config_content(&j->a, j->r->body, &p->kind, &p->content, &f);
    if (e == ERR_PROTO)
        (void)azure_fail(j, error_of(f.wrong), "%s", f.text);
    else if (!e && p->kind == CONFIG_MODULE)
        (void)azure_fail(j, AZ_InvalidConfigurationContent,
                         "moduleContent names no module: modulesContent or deviceContent is wanted");
    (void)job_fail_err(j, e);
    job_write(j, apply, NULL);
}

#define READERS (ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT)
#define WRITERS (ACCESS_REGISTRY_WRITE | ACCESS_SERVICE_CONNECT)

JOB_HANDLER(azure_config_put, JOB_POLICY, WRITERS, JOB_RAW, start_put);
JOB_STEP_HANDLER(azure_config_get, JOB_POLICY, READERS, job_scan, get, NULL);
JOB_STEP_HANDLER(azure_configs_list, JOB_POLICY, READERS, job_scan, list, NULL);
JOB_STEP_HANDLER(azure_config_delete, JOB_POLICY, WRITERS, job_write, drop, written);
JOB_HANDLER(azure_configs_test, JOB_POLICY, READERS, JOB_RAW, start_test);
JOB_HANDLER(azure_content_apply, JOB_POLICY, WRITERS, JOB_RAW, start_apply);
