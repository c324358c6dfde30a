/* hub/front/roost_http/campaigns.c - campaigns: made (the devices are told at once), listed, followed. */
#include "base/text.h"
#include "hub/domain/message/c2d.h"
#include "hub/domain/update/campaign.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#define ROWS_PAGE    500u
#define TELL_AT_ONCE 64u    /* messages on their way to the store at one time */
#define TELL_TTL_S   86400u /* a device that is away longer checks in by itself */

/* ---- show ------------------------------------------------------------------------------------------ */

static json_t *head(const struct campaign_row *c)
{
    json_t *o = json_object(), *releases = json_array();
    if (!o || !releases) {
        json_decref(o);
        json_decref(releases);
        return NULL;
    }
    json_put(o, "id", json_hex(c->id));
    json_put(o, "version", json_span(c->version));
    json_put(o, "state", json_string(campaign_state_name(c->state)));
    json_put(o, "all", json_boolean(c->all));
    for (size_t i = 0; i + OBJECT_ID_LEN <= c->releases.n; i += OBJECT_ID_LEN)
        (void)json_array_append_new(releases, json_hex(span_of(c->releases.p + i, OBJECT_ID_LEN)));
    json_put(o, "releases", releases);
    json_put(o, "created", json_time(c->created_ms));
    json_put(o, "createdBy", json_span(c->created_by));
    return o;
}

static enum err put_counts(struct store_tx *tx, json_t *o, struct span id)
{
    struct campaign_counts c;
    enum err e = campaign_count(tx, id, &c);
    json_t *counts = json_object();
    for (unsigned s = 0; !e && counts && s < DEPLOYMENT_STATES; s++)
        if (c.by_state[s])
            json_put(counts, deployment_state_name(s), json_integer((json_int_t)c.by_state[s]));
    json_put(o, "counts", counts);
    return e;
}

static enum err keep_campaign(void *ctx, const struct campaign_row *r)
{
    return campaign_list_add(ctx, r);
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct campaign_list l = { .a = &j->a };
    enum err e = tx_campaign_list(tx, keep_campaign, &l);
    json_t *arr = job_out_list(j, "campaigns");
    if (!arr)
        return ERR_NOMEM;
    for (size_t i = 0; !e && i < l.nr; i++) {
        json_t *o = head(&l.row[i]);
        if (!o)
            return ERR_NOMEM;
        e = put_counts(tx, o, l.row[i].id);
        (void)json_array_append_new(arr, o);
    }
    return e;
}

struct follow {
    uint8_t id[CAMPAIGN_ID_LEN];
    bool rows;
    struct span after;
    struct job *j;
    struct deployment_row row[ROWS_PAGE];
    size_t nr;
};
static enum err keep_row(void *ctx, const struct deployment_row *r)
{
    struct follow *f = ctx;
    return deployment_copy(&f->j->a, r, &f->row[f->nr++]);
}

static enum err put_rows(struct job *j, struct store_tx *tx, struct follow *f)
{
    json_t *arr = json_array();
    f->nr = 0;
    json_put(j->out, "rows", arr);
    enum err e =
        tx_deployment_list(tx, SPAN_NONE, span_of(f->id, sizeof f->id), f->after, ROWS_PAGE, keep_row, f);
    for (size_t i = 0; !e && i < f->nr; i++) {
        json_t *o = NULL;
        e = deployment_json(j, tx, &f->row[i], &o);
        if (!e && json_array_append_new(arr, o))
            e = ERR_NOMEM;
    }
    if (!e && f->nr == ROWS_PAGE)
        json_put(j->out, "next", json_span(f->row[f->nr - 1].device));
    return e;
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct follow *f = j->state;
    struct campaign_row c;
    enum err e = tx_campaign_get(tx, span_of(f->id, sizeof f->id), &c);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "campaign-not-found", "there is no such campaign");
    if (e)
        return e;
    j->out = head(&c);
    if (!j->out)
        return ERR_NOMEM;
    e = put_counts(tx, j->out, span_of(f->id, sizeof f->id));
    return e || !f->rows ? e : put_rows(j, tx, f);
}

static void start_get(struct job *j)
{
    struct follow *f = job_state(j, sizeof *f);
    if (!f)
        return;
    f->j = j;
    if (hex_decode(j->r->params[0], f->id, sizeof f->id))
        (void)job_fail(j, 400, "bad-campaign-id", "a campaign id has %zu hexadecimal digits",
                       2 * sizeof f->id);
    (void)in_query_bool(j, "rows", &f->rows);
    (void)http_query(j->r, "after", &f->after);
    job_read(j, get, NULL);
}

/* ---- create ---------------------------------------------------------------------------------------- */

struct telling {          /* one message on its way */
    struct c2d_send send; /* first */
    struct c2d_message message;
    struct create *of;
};
struct create {
    struct job *j;
    struct campaign_new in;
    struct campaign_created out;
    struct telling *telling;
    size_t next, busy, told;
};

static void told(struct op *op);

static void tell(struct create *c, struct telling *t)
{
    uint64_t ttl_s = c->j->h->settings.c2d_ttl_max_s;
    if (!ttl_s || ttl_s > TELL_TTL_S)
        ttl_s = TELL_TTL_S;
    t->of = c;
    t->message =
        (struct c2d_message){ .body = SPAN("update"), .expires_ms = c->j->h->wall_ms() + ttl_s * 1000 };
    if (!c->in.all)
        t->message.device = c->in.devices[c->next];
    c->next++;
    c->busy++;
    t->send = (struct c2d_send){ .hub = c->j->h, .message = &t->message };
    t->send.store.op.home = worker_mailbox(c->j->r->worker);
    t->send.store.op.done = told;
    c2d_send_start(&t->send);
}

static size_t to_tell(const struct create *c)
{
    return c->in.all ? 1 : c->in.devices_nr;
}

/* A device that cannot be told now (its queue is full) finds out at its next check-in. */
static void told(struct op *op)
{
    struct telling *t = (struct telling *)op;
    struct create *c = t->of;
    c->busy--;
    c->told += !op->err;
    if (c->next < to_tell(c)) {
        tell(c, t);
        return;
    }
    if (!c->busy) {
        json_put(c->j->out, "told", json_integer((json_int_t)c->told));
        job_end(c->j);
    }
}

static enum err make(struct job *j, struct store_tx *tx)
{
    struct create *c = j->state;
    enum err e = campaign_create(j->h, tx, &j->a, &c->in, &c->out);
    if (e)
        return e;
    unsigned nr = (unsigned)c->out.subject;
    switch (c->out.refusal) {
    case CAMPAIGN_NO_RELEASE:
        return JOB_REFUSE(j, 422, "release-not-found", "releases[%u] is not here: push it first", nr);
    case CAMPAIGN_BARRED:
        return JOB_REFUSE(j, 422, "release-barred", "releases[%u] is no longer signed by a trusted key", nr);
    case CAMPAIGN_OVERLAP:
        return JOB_REFUSE(j, 422, "releases-overlap",
                          "releases[%u] is for the same hardware as one before it", nr);
    case CAMPAIGN_NO_DEVICE:
        return JOB_REFUSE(j, 422, "device-not-found", "devices[%u]: there is no device \"%.*s\"", nr,
                          (int)c->in.devices[nr].n, (const char *)c->in.devices[nr].p);
    case CAMPAIGN_CREATED:
        break;
    }
    j->status = 201;
    j->out = json_object();
    if (!j->out)
        return ERR_NOMEM;
    json_put(j->out, "id", json_hex(span_of(c->out.id, sizeof c->out.id)));
    if (c->in.all)
        json_put(j->out, "superseded", json_integer((json_int_t)c->out.superseded));
    return ERR_OK;
}

static void made(struct job *j)
{
    struct create *c = j->state;
    size_t nr = to_tell(c) < TELL_AT_ONCE ? to_tell(c) : TELL_AT_ONCE;
    c->telling = arena_alloc(&j->a, nr * sizeof *c->telling);
    if (!c->telling || !nr) { /* it exists: devices find out at their next check-in */
        job_end(j);
        return;
    }
    /* Completions come by the mailbox, never inside the call: the loop may count on `nr`. */
    for (size_t i = 0; i < nr; i++)
        tell(c, &c->telling[i]);
}

static bool read_list(struct job *j, const char *name, size_t max, struct span **out, size_t *nr)
{
    json_t *arr = json_object_get(j->in, name), *v;
    size_t i;
    *out = NULL;
    *nr = 0;
    if (!json_is_array(arr) || !json_array_size(arr) || json_array_size(arr) > max)
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be a list of 1 to %zu strings", name,
                        max);
    *out = arena_alloc(&j->a, json_array_size(arr) * sizeof **out);
    if (!*out)
        return job_fail_err(j, ERR_NOMEM);
    json_array_foreach(arr, i, v)
    {
        if (!json_is_string(v))
            return job_fail(j, 400, "bad-member", "%s[%zu] has to be a string", name, i);
        (*out)[i] = span_of(json_string_value(v), json_string_length(v));
    }
    *nr = json_array_size(arr);
    return true;
}

static bool read_releases(struct job *j, struct create *c)
{
    struct span *ids;
    if (!read_list(j, "releases", CAMPAIGN_RELEASES_MAX, &ids, &c->in.releases_nr))
        return false;
    for (size_t i = 0; i < c->in.releases_nr; i++) {
        uint8_t *id = arena_alloc(&j->a, OBJECT_ID_LEN);
        if (!id)
            return job_fail_err(j, ERR_NOMEM);
        if (hex_decode(ids[i], id, OBJECT_ID_LEN))
            return job_fail(j, 400, "bad-member", "releases[%zu] has to be 64 hexadecimal digits", i);
        ids[i] = span_of(id, OBJECT_ID_LEN);
    }
    c->in.releases = ids;
    return true;
}

static bool read_devices(struct job *j, struct create *c)
{
    struct span *ids;
    if (!json_object_get(j->in, "devices") == !c->in.all)
        return job_fail(j, 400, "bad-member", "a campaign has one of \"devices\" and \"all\": true");
    if (c->in.all)
        return true;
    if (!read_list(j, "devices", CAMPAIGN_DEVICES_MAX, &ids, &c->in.devices_nr))
        return false;
    for (size_t i = 0; i < c->in.devices_nr; i++)
        if (!in_device_id(j, ids[i]))
            return false;
    c->in.devices = ids;
    return true;
}

static void start_post(struct job *j)
{
    static const char *const names[] = { "releases", "devices", "all", NULL };
    struct create *c = job_state(j, sizeof *c);
    if (!c)
        return;
    c->j = j;
    c->in.who = j->who;
    (void)(in_only(j, j->in, names) && in_bool(j, j->in, "all", IN_OPTIONAL, &c->in.all) &&
           read_releases(j, c) && read_devices(j, c));
    job_write(j, make, made);
}

JOB_STEP_HANDLER(campaigns_list, JOB_POLICY, ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT, job_read, list,
                 NULL);
JOB_HANDLER(campaign_get, JOB_POLICY, ACCESS_REGISTRY_READ | ACCESS_SERVICE_CONNECT, JOB_RAW, start_get);
JOB_HANDLER(campaign_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start_post);
