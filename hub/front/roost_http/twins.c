/* hub/front/roost_http/twins.c - twins of devices and modules: show, merge, replace. */
#include "hub/domain/audit.h"
#include "hub/domain/twin/twin_doc.h"
#include "hub/front/http/fleet_json.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"
#include "hub/store/identity_name.h"

struct twin_state {
    struct span id; /* identity */
    bool meta;
    struct twin_patch patch;
    struct twin_if cond;
    struct twin_fault fault;
};

static struct twin_state *state_new(struct job *j)
{
    struct twin_state *s = job_state(j, sizeof *s);
    if (!s)
        return NULL;
    struct span device = j->r->params[0], module = j->r->params[1];
    s->id = identity_name_in(&j->a, device, module);
    (void)(job_fail_err(j, arena_err(&j->a)) && in_device_id(j, device) &&
           (!module.n || in_device_id(j, module)) && in_query_bool(j, "metadata", &s->meta));
    return s;
}

struct shown {
    const struct twin *t;
    bool meta;
};
static void write_shown(struct wr *w, const void *item)
{
    const struct shown *s = item;
    twin_view_write(w, s->t, s->meta);
}

static enum err answer_twin(struct job *j, const struct twin *t)
{
    const struct shown shown = { t, ((struct twin_state *)j->state)->meta };
    uint8_t etag[TWIN_ETAG_LEN];
    struct wr w = { etag, sizeof etag, 0 };
    twin_etag_write(&w, t->row.etag);
    job_field(j, "ETag", "\"%.*s\"", (int)w.len, (const char *)etag);
    return fleet_answer(j, write_shown, &shown);
}

static enum err not_found(struct job *j)
{
    struct span id = ((struct twin_state *)j->state)->id;
    return JOB_REFUSE(j, 404, "device-not-found", "there is no device or module \"%.*s\"", (int)id.n,
                      (const char *)id.p);
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct twin t;
    enum err e = twin_get(tx, &j->a, ((struct twin_state *)j->state)->id, &t);
    return e == ERR_NOTFOUND ? not_found(j) : e ? e : answer_twin(j, &t);
}

static enum err refuse_fault(struct job *j, const struct twin_fault *f)
{
    return JOB_REFUSE(j, 400, f->wrong == TWIN_NOT_JSON ? "bad-json" : "bad-twin", "%s", f->text);
}

static enum err write(struct job *j, struct store_tx *tx)
{
    struct twin_state *s = j->state;
    struct twin t;
    enum err e = twin_update(j->h, tx, &j->a, s->id, &s->patch, &s->cond, &t, &s->fault);
    if (e == ERR_NOTFOUND)
        return not_found(j);
    if (e == ERR_STALE)
        return JOB_REFUSE(j, 412, "etag-differs", "%s: read it again and repeat the change", s->fault.text);
    if (e == ERR_PROTO)
        return refuse_fault(j, &s->fault);
    if (!e)
        e = audit_push(j->h, tx, j->who, s->patch.tags.replace ? "twin.replace" : "twin.patch", s->id, "%s",
                       "");
    return e ? e : answer_twin(j, &t);
}

static void start_get(struct job *j)
{
    if (state_new(j))
        job_read(j, get, NULL);
}

/* {"tags":{},"desired":{}} as the service's patch; other members, those of an answer, are left alone. */
static enum err patch_of(struct job *j, struct twin_state *s, bool replace)
{
    struct jtree_fault why = { "", 0 };
    struct jnode *in, *body = jtree_new(&j->a, JOBJECT), *props = jtree_new(&j->a, JOBJECT);
    enum err e = jtree_parse_once(&j->a, j->r->body, &in, &why);
    if (e == ERR_PROTO || e == ERR_LIMIT)
        return twin_fail(&s->fault, TWIN_NOT_JSON, "the body is not JSON that can be read: %s (byte %zu)",
                         why.what, why.at);
    if (e || !body || !props)
        return e ? e : ERR_NOMEM;
    if (in->kind != JOBJECT)
        return twin_fail(&s->fault, TWIN_NOT_OBJECT, "the body has to be a JSON object");
    struct jtree_list l = jtree_list(body), lp = jtree_list(props);
    struct jnode *tags = jtree_copy(&j->a, jtree_get(in, SPAN("tags"))),
                 *desired = jtree_copy(&j->a, jtree_get(in, SPAN("desired")));
    if (!tags && !desired && !replace)
        return twin_fail(&s->fault, TWIN_NOT_OBJECT, "the body has neither \"tags\" nor \"desired\"");
    jtree_add(&lp, desired);
    jtree_add(&l, tags);
    props->key = SPAN("properties");
    jtree_add(&l, props);
    return twin_service_patch_of(&j->a, body, replace, &s->patch, &s->fault);
}

static void start_write(struct job *j, bool replace)
{
    struct twin_state *s = state_new(j);
    if (!s)
        return;
    struct span match = http_field(j->r, "If-Match");
    if (match.n && twin_etag_parse(match, &s->cond.etag))
        s->cond.etag = UINT64_MAX; /* no twin's */
    enum err e = patch_of(j, s, replace);
    if (e == ERR_PROTO)
        (void)refuse_fault(j, &s->fault);
    (void)job_fail_err(j, e);
    job_write(j, write, NULL);
}
static void start_patch(struct job *j)
{
    start_write(j, false);
}
static void start_put(struct job *j)
{
    start_write(j, true);
}

JOB_HANDLER(twin_show, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_get);
JOB_HANDLER(twin_patch, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_patch);
JOB_HANDLER(twin_replace, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_put);
