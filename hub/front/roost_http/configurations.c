/* hub/front/roost_http/configurations.c - automatic configurations by the hub's own interface, and contents
 * of one edge device. The rules are those of docs/jobs.md, "Configurations"; what differs from the interface
 * for the SDKs: a body has no unknown members, and a content that is to be another one is refused. */
#include "base/text.h"
#include "hub/domain/audit.h"
#include "hub/domain/configuration/configuration.h"
#include "hub/front/http/fleet_json.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

/* ---- documents ------------------------------------------------------------------------------------------
 */

struct shown {
    struct config_row row;
    struct config_numbers nr;
};

static void write_config(struct wr *w, const void *item)
{
    const struct shown *s = item;
    const struct config_row *r = &s->row;
    wr_str(w, "{\"id\":");
    member_string(w, r->id);
    member_number(w, "etag", r->etag);
    member_text(w, "where", r->condition);
    member_number(w, "priority", r->priority);
    member_raw(w, "content", r->content);
    member_raw(w, "labels", r->labels.n ? r->labels : SPAN("{}"));
    member_raw(w, "metrics", r->metrics.n ? r->metrics : SPAN("{}"));
    if (r->schema_version.n)
        member_text(w, "schemaVersion", r->schema_version);
    member_time(w, "created", r->created_ms);
    member_time(w, "updated", r->updated_ms);
    member_number(w, "targeted", s->nr.targeted);
    member_number(w, "applied", s->nr.applied);
    if (r->kind == CONFIG_EDGE)
        member_raw(w, "reported", r->system_results.n ? r->system_results : SPAN("{}"));
    member_raw(w, "results", r->results.n ? r->results : SPAN("{}"));
    wr_u8(w, '}');
}

static enum err shown_of(struct store_tx *tx, const struct config_row *r, struct shown *s)
{
    s->row = *r;
    return tx_config_target_count(tx, r->seq, &s->nr.targeted, &s->nr.applied);
}

static enum err answer(struct job *j, struct store_tx *tx, const struct config_row *r)
{
    struct shown s;
    enum err e = shown_of(tx, r, &s);
    job_field(j, "ETag", "\"%llu\"", (unsigned long long)r->etag);
    return e ? e : fleet_answer(j, write_config, &s);
}

static enum err refuse(struct job *j, enum err e)
{
    switch (e) {
    case ERR_NOTFOUND:
        return JOB_REFUSE(j, 404, "configuration-not-found", "there is no such configuration");
    case ERR_STALE:
        return JOB_REFUSE(j, 412, "etag-differs",
                          "the configuration was changed meanwhile: read it again and repeat the change");
    case ERR_LIMIT:
        return JOB_REFUSE(j, 409, "too-many-configurations",
                          "there are %u configurations of this kind already: delete one",
                          CONFIGURATIONS_OF_KIND_MAX);
    default:
        return e;
    }
}

/* ---- create, change -------------------------------------------------------------------------------------
 */

struct writing {
    struct config_new n;
    const struct jnode *content; /* as given; NULL: none was */
    bool patch;                  /* what was not named stays */
    bool must_be_new, must_be_there;
    uint64_t if_etag; /* 0: any */
    bool has_where, has_priority, has_labels, has_metrics, has_schema;
};

/* The header If-Match: *, or the etag in quotes. One that none can have holds for none. */
static void read_match(struct job *j, struct writing *w)
{
    struct span m = http_field(j->r, "If-Match");
    w->must_be_there = m.n > 0;
    if (!m.n || span_eq(m, SPAN("*")) || span_eq(m, SPAN("\"*\"")))
        return;
    if (m.n >= 2 && m.p[0] == '"' && m.p[m.n - 1] == '"')
        m = span_of(m.p + 1, m.n - 2);
    if (u64_parse(m, INT64_MAX, &w->if_etag) || !w->if_etag)
        w->if_etag = UINT64_MAX;
}

static struct span object_member(struct job *j, const struct jnode *o, const char *name, bool *there)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    *there = n != NULL;
    return n && n->kind != JNULL ? jtree_text(&j->a, n) : SPAN_NONE;
}

static bool read_body(struct job *j, struct writing *w)
{
    /* The first one not in a patch: content never changes. */
    static const char *const names[] = { "content", "where",         "priority", "labels",
                                         "metrics", "schemaVersion", NULL };
    struct jnode *o;
    struct config_new *n = &w->n;
    if (!fleet_body_once(j, &o) || !fleet_only(j, o, w->patch ? names + 1 : names))
        return false;
    w->has_where = jtree_get(o, SPAN("where")) != NULL;
    w->has_priority = jtree_get(o, SPAN("priority")) != NULL;
    w->has_schema = jtree_get(o, SPAN("schemaVersion")) != NULL;
    if (!fleet_text(j, o, "where", &n->condition) || !fleet_text(j, o, "schemaVersion", &n->schema_version) ||
        !fleet_number(j, o, "priority", CONFIG_PRIORITY_MAX, &n->priority))
        return false;
    n->labels = object_member(j, o, "labels", &w->has_labels);
    n->metrics = object_member(j, o, "metrics", &w->has_metrics);
    w->content = jtree_get(o, SPAN("content"));
    if (w->content)
        n->content = jtree_text(&j->a, w->content);
    return true;
}

/* What was left out is as in the row. */
static void fill(struct writing *w, const struct config_row *r)
{
    struct config_new *n = &w->n;
    if (!n->content.n)
        n->content = r->content;
    if (!w->patch)
        return;
    if (!w->has_where)
        n->condition = r->condition;
    if (!w->has_priority)
        n->priority = r->priority;
    if (!w->has_labels)
        n->labels = r->labels;
    if (!w->has_metrics)
        n->metrics = r->metrics;
    if (!w->has_schema)
        n->schema_version = r->schema_version;
}

static enum err check(struct job *j, const struct config_new *n, uint8_t *kind)
{
    static const char *const codes[] = { [CONFIG_BAD_MEMBER] = "bad-member",
                                         [CONFIG_BAD_CONDITION] = "bad-condition",
                                         [CONFIG_BAD_CONTENT] = "bad-content",
                                         [CONFIG_BAD_METRICS] = "bad-metrics" };
    struct config_fault f = { .wrong = CONFIG_FINE };
    enum err e = config_check(&j->a, n, kind, &f);
    return e == ERR_PROTO ? JOB_REFUSE(j, 400, codes[f.wrong], "%s", f.text) : e;
}

static enum err change(struct job *j, struct store_tx *tx, struct writing *w, const struct config_row *was)
{
    struct config_row r;
    struct jnode *before;
    const struct config_new *n = &w->n;
    uint8_t kind;
    fill(w, was);
    enum err e = w->content ? jtree_parse(&j->a, was->content, &before, NULL) : ERR_OK;
    if (!e && w->content && !jtree_eq(w->content, before))
        return JOB_REFUSE(j, 409, "content-fixed",
                          "the content of a configuration never changes: make another configuration");
    if (!e)
        e = check(j, n, &kind);
    if (!e && (e = config_update(j->h, tx, &j->a, n, w->if_etag, &r)))
        e = refuse(j, e);
    return e ? e : answer(j, tx, &r);
}

static enum err create(struct job *j, struct store_tx *tx, struct writing *w)
{
    struct config_row r;
    uint8_t kind;
    if (!w->content)
        return JOB_REFUSE(j, 400, "missing-member", "member \"content\" is missing");
    enum err e = check(j, &w->n, &kind);
    if (!e && (e = config_create(j->h, tx, &j->a, &w->n, kind, &r)))
        e = refuse(j, e);
    j->status = 201;
    return e ? e : answer(j, tx, &r);
}

static enum err write(struct job *j, struct store_tx *tx)
{
    struct writing w = *(struct writing *)j->state; /* a step may run again */
    struct config_row was;
    j->status = 200;
    enum err e = config_get(tx, &j->a, w.n.id, &was);
    if (e && e != ERR_NOTFOUND)
        return e;
    if (e && (w.patch || w.must_be_there))
        return refuse(j, e);
    if (!e && w.must_be_new)
        return JOB_REFUSE(j, 409, "configuration-exists", "there is a configuration of this id already");
    return e ? create(j, tx, &w) : change(j, tx, &w, &was);
}

static void written(struct job *j)
{
    config_poke(j->h);
    job_end(j);
}

static void start_write(struct job *j, bool patch)
{
    struct writing *w = job_state(j, sizeof *w);
    if (!w)
        return;
    *w = (struct writing){ .n = { .id = j->r->params[0], .who = j->who }, .patch = patch };
    w->must_be_new = span_eq(http_field(j->r, "If-None-Match"), SPAN("*"));
    read_match(j, w);
    (void)read_body(j, w);
    job_write(j, write, written);
}
static void start_put(struct job *j)
{
    start_write(j, false);
}
static void start_patch(struct job *j)
{
    start_write(j, true);
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
    enum err e = shown_of(l->tx, r, &s);
    return e ? e : fleet_array_add(&l->list, write_config, &s);
}
static void write_listing(struct wr *w, const void *item)
{
    wr_str(w, "{\"configurations\":");
    wr_put(w, *(const struct span *)item);
    wr_u8(w, '}');
}
static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { j, tx, { .a = &j->a } };
    enum err e = tx_config_list(tx, false, list_one, &l);
    if (e)
        return e;
    const struct span all = fleet_array_end(&l.list);
    return fleet_answer(j, write_listing, &all);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct writing w = { .if_etag = 0 };
    read_match(j, &w);
    enum err e = config_delete(j->h, tx, &j->a, j->r->params[0], w.if_etag, j->who);
    return e ? refuse(j, e) : ERR_OK;
}

/* ---- content of one edge device -------------------------------------------------------------------------
 */

static enum err apply(struct job *j, struct store_tx *tx)
{
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct span id = j->r->params[0];
    enum err e = config_apply_modules(j->h, tx, &j->a, id, j->state, &f);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "device-not-found", "there is no such device");
    if (e == ERR_DENIED)
        return JOB_REFUSE(j, 409, "not-an-edge-device", "the device is not an edge device");
    if (e == ERR_PROTO)
        return JOB_REFUSE(j, 400, "bad-content", "%s", f.text);
    if (e == ERR_LIMIT)
        return JOB_REFUSE(j, 409, "too-many-modules", "the device would have too many modules");
    return e ? e : audit_push(j->h, tx, j->who, "device.content", id, "%s", "");
}

static void start_apply(struct job *j)
{
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct jnode *o, *content = NULL;
    uint8_t kind = CONFIG_EDGE;
    enum err e = fleet_body_once(j, &o) ? config_content(&j->a, j->r->body, &kind, &content, &f) : ERR_OK;
    if (e == ERR_PROTO)
        (void)job_fail(j, 400, "bad-content", "%s", f.text);
    else if (!e && kind != CONFIG_EDGE)
        (void)job_fail(j, 400, "bad-content", "modulesContent is wanted");
    j->state = content;
    (void)job_fail_err(j, e);
    job_write(j, apply, NULL);
}

#define READERS (ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT)
#define WRITERS (ACCESS_REGISTRY_WRITE | ACCESS_SERVICE_CONNECT)

JOB_STEP_HANDLER(configurations_list, JOB_POLICY, READERS, job_scan, list, NULL);
JOB_STEP_HANDLER(configuration_get_one, JOB_POLICY, READERS, job_scan, get, NULL);
JOB_HANDLER(configuration_put_one, JOB_POLICY, WRITERS, JOB_RAW, start_put);
JOB_HANDLER(configuration_patch_one, JOB_POLICY, WRITERS, JOB_RAW, start_patch);
JOB_STEP_HANDLER(configuration_delete_one, JOB_POLICY, WRITERS, job_write, drop, written);
JOB_HANDLER(device_content_post, JOB_POLICY, WRITERS, JOB_RAW, start_apply);
