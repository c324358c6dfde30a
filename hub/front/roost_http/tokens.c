/* hub/front/roost_http/tokens.c - fleet tokens: made, listed, deleted. Their text is answered once. */
#include "hub/domain/audit.h"
#include "hub/domain/provisioning/provisioning.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static json_t *token_json(const struct token_row *t)
{
    json_t *o = json_object();
    if (!o)
        return NULL;
    json_put(o, "name", json_span(t->name));
    if (t->hardware.n)
        json_put(o, "hardware", json_span(t->hardware));
    json_put(o, "created", json_time(t->created_ms));
    if (t->expires_ms)
        json_put(o, "expires", json_time(t->expires_ms));
    if (t->uses_left != UINT64_MAX)
        json_put(o, "usesLeft", json_integer((json_int_t)t->uses_left));
    return o;
}

static enum err add(void *ctx, const struct token_row *t)
{
    return json_array_append_new(ctx, token_json(t)) ? ERR_NOMEM : ERR_OK;
}

static enum err list(struct job *j, struct store_tx *tx)
{
    json_t *arr = job_out_list(j, "tokens");
    if (!arr)
        return ERR_NOMEM;
    return tx_token_list(tx, add, arr);
}

static enum err create(struct job *j, struct store_tx *tx)
{
    struct fleet_token t = *(struct fleet_token *)j->state; /* as asked: a run may come twice */
    enum err e = fleet_token_create(j->h, tx, &j->a, &t);
    if (e == ERR_EXISTS)
        return JOB_REFUSE(j, 409, "token-exists", "there is a fleet token of that name or text already");
    if (e == ERR_FULL)
        return JOB_REFUSE(j, 409, "too-many-tokens", "there are %u fleet tokens already: delete one first",
                          FLEET_TOKENS_MAX);
    if (e == ERR_LIMIT)
        return JOB_REFUSE(
            j, 400, "bad-member",
            "a token's name has 1 to 64 characters of a device id; its text %u to %u characters",
            FLEET_TOKEN_MIN, FLEET_TOKEN_MAX);
    if (!e)
        e = audit_push(j->h, tx, j->who, "token.create", t.name, "hardware %.*s",
                       t.hardware.n ? (int)t.hardware.n : 3,
                       t.hardware.n ? (const char *)t.hardware.p : "any");
    if (e)
        return e;
    struct token_row row = { .name = t.name,
                             .hardware = t.hardware,
                             .created_ms = j->h->wall_ms(),
                             .expires_ms = t.expires_ms,
                             .uses_left = t.uses };
    j->out = token_json(&row);
    if (!j->out)
        return ERR_NOMEM;
    json_put(j->out, "token", json_span(t.text));
    j->status = 201;
    return ERR_OK;
}

static void start_post(struct job *j)
{
    static const char *const names[] = { "name", "hardware", "uses", "ttlSeconds", "token", NULL };
    struct fleet_token *t = job_state(j, sizeof *t);
    struct hardware hw;
    uint64_t ttl_s = 0;
    if (!t)
        return;
    t->uses = UINT64_MAX;
    (void)(in_only(j, j->in, names) && in_text(j, j->in, "name", IN_REQUIRED, 64, &t->name) &&
           in_text(j, j->in, "hardware", IN_OPTIONAL, 64, &t->hardware) &&
           in_u64(j, j->in, "uses", IN_OPTIONAL, INT64_MAX, &t->uses) &&
           in_u64(j, j->in, "ttlSeconds", IN_OPTIONAL, 10ull * 366 * 86400, &ttl_s) &&
           in_text(j, j->in, "token", IN_OPTIONAL, FLEET_TOKEN_MAX, &t->text));
    if (t->hardware.n && (hardware_parse(t->hardware, &hw) || hw.hw_rev))
        (void)job_fail(j, 400, "bad-member", "member \"hardware\" has to be PRODUCT:CLASS");
    if (ttl_s)
        t->expires_ms = j->h->wall_ms() + ttl_s * 1000;
    job_write(j, create, NULL);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct span name = j->r->params[0];
    enum err e = fleet_token_delete(tx, name);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "token-not-found", "there is no fleet token of that name");
    return e ? e : audit_push(j->h, tx, j->who, "token.delete", name, "%s", "");
}

JOB_STEP_HANDLER(tokens_list, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, list, NULL);
JOB_HANDLER(token_post, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_post);
JOB_STEP_HANDLER(token_delete, JOB_POLICY, ACCESS_REGISTRY_WRITE, job_write, drop, NULL);
