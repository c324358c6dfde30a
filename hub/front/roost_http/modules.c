/* hub/front/roost_http/modules.c - modules of a device: list, create, show, delete; and how an identity says
 * what it proves itself with. */
#include "hub/domain/audit.h"
#include "hub/domain/identity/identity_write.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"
#include "hub/store/identity_name.h"

bool proof_in(struct job *j, struct identity_proof *out)
{
    struct span kind = SPAN_NONE;
    if (!in_text(j, j->in, "authentication", IN_OPTIONAL, 32, &kind) ||
        !in_text(j, j->in, "thumbprint", IN_OPTIONAL, 64, &out->thumb1) ||
        !in_text(j, j->in, "thumbprint2", IN_OPTIONAL, 64, &out->thumb2))
        return false;
    out->given = true;
    out->has_kind = kind.n > 0;
    if (out->has_kind && (identity_auth_parse(kind, &out->kind) || out->kind == AUTH_NONE))
        return job_fail(j, 400, "bad-member",
                        "member \"authentication\" has to be sas, selfSigned or certificateAuthority");
    if (out->has_kind && out->kind != AUTH_SELF_SIGNED && (out->thumb1.n || out->thumb2.n))
        return job_fail(j, 400, "bad-member", "thumbprints go with \"authentication\": \"selfSigned\"");
    if (out->has_kind && out->kind == AUTH_SELF_SIGNED && !out->thumb1.n && !out->thumb2.n)
        return job_fail(j, 400, "missing-member", "member \"thumbprint\" is missing");
    return true;
}

enum err proof_same(struct job *j, const struct identity_proof *p, uint8_t auth, struct span thumb1,
                    struct span thumb2)
{
    bool asked = p->has_kind || p->thumb1.n || p->thumb2.n;
    uint8_t kind = p->has_kind ? p->kind : AUTH_SELF_SIGNED;
    if (!asked || (kind == auth && span_eq(p->thumb1, thumb1) && span_eq(p->thumb2, thumb2)))
        return ERR_OK;
    return JOB_REFUSE(j, 409, "authentication-differs",
                      "it is there already and proves itself another way: delete it first, or write it whole "
                      "through the Azure-compatible interface");
}

void proof_json(json_t *o, uint8_t auth, struct span thumb1, struct span thumb2)
{
    json_put_str(o, "authentication", identity_auth_name(auth));
    if (thumb1.n)
        json_put(o, "thumbprint", json_span(thumb1));
    if (thumb2.n)
        json_put(o, "thumbprint2", json_span(thumb2));
}

enum err identity_faulty(struct job *j, enum err e, unsigned fault)
{
    switch ((enum identity_fault)fault) {
    case IDENTITY_FINE:
        return e;
    case IDENTITY_NO_DEVICE:
        return JOB_REFUSE(j, 404, "device-not-found", "%s", identity_fault_text((enum identity_fault)fault));
    case IDENTITY_NO_MODULE:
        return JOB_REFUSE(j, 404, "module-not-found",
                          "the device has no such module: `roost module list DEVICE` shows the ones it has");
    case IDENTITY_TOO_MANY:
        return JOB_REFUSE(j, 409, "too-many-modules", "%s", identity_fault_text((enum identity_fault)fault));
    default:
        return JOB_REFUSE(j, 400, "bad-member", "%s", identity_fault_text((enum identity_fault)fault));
    }
}

static enum err module_json(struct job *j, struct store_tx *tx, const struct module_row *m, json_t **out)
{
    uint8_t text[1024], id[2 * DEVICE_ID_MAX + 2];
    struct wr w = { text, sizeof text, 0 }, name = { id, sizeof id, 0 };
    struct report_row rep;
    json_t *o = json_object();
    if (!o)
        return ERR_NOMEM;
    identity_name_put(&name, m->device, m->id);
    enum err e = tx_report_get(tx, wr_span(&name), &rep);
    bool seen = e == ERR_OK;
    json_put(o, "device", json_span(m->device));
    json_put(o, "id", json_span(m->id));
    json_put(o, "connected", json_boolean(seen && rep.connected));
    if (seen)
        json_put(o, "lastActivity", json_time(rep.activity_ms));
    if (m->managed_by.n)
        json_put(o, "managedBy", json_span(m->managed_by));
    proof_json(o, m->auth, m->thumb1, m->thumb2);
    json_put(o, "created", json_time(m->created_ms));
    json_put_u64(o, "etag", m->etag);
    if ((j->granted & ACCESS_REGISTRY_WRITE) != 0 && m->auth != AUTH_NONE) {
        if (m->key1.n)
            json_put(o, "primaryKey", json_base64(m->key1));
        if (m->key2.n)
            json_put(o, "secondaryKey", json_base64(m->key2));
        module_connection_string(j->h, m, &w);
        if (wr_ok(&w))
            json_put(o, "connectionString", json_span(wr_span(&w)));
    }
    explicit_bzero(text, sizeof text);
    *out = o;
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

struct one_state {
    struct module_spec spec;
    bool must_be_new, changed;
};

static enum err list(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct module_row *rows;
    enum identity_fault fault;
    size_t nr;
    enum err e = module_list(tx, &j->a, s->spec.device, &rows, &nr, &fault);
    if (e)
        return identity_faulty(j, e, fault);
    json_t *arr = job_out_list(j, "modules");
    if (!arr)
        return ERR_NOMEM;
    for (size_t i = 0; !e && i < nr; i++) {
        json_t *o = NULL;
        e = module_json(j, tx, &rows[i], &o);
        if (json_array_append_new(arr, o) && !e)
            e = ERR_NOMEM;
    }
    return e;
}

static enum err get(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct module_row m;
    enum identity_fault fault;
    enum err e = module_get(tx, &j->a, s->spec.device, s->spec.id, &m, &fault);
    return e ? identity_faulty(j, e, fault) : module_json(j, tx, &m, &j->out);
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    struct module_row m;
    enum identity_fault fault;
    enum err e = module_write(j->h, tx, &j->a, &s->spec, IDENTITY_CREATE, 0, &m, &fault);
    j->status = 201;
    if (e == ERR_EXISTS && fault == IDENTITY_MODULE_EXISTS) {
        j->status = 200;
        if (s->must_be_new)
            return JOB_REFUSE(j, 409, "module-exists", "%s", identity_fault_text(fault));
        e = module_get(tx, &j->a, s->spec.device, s->spec.id, &m, &fault);
        if (!e)
            e = proof_same(j, &s->spec.proof, m.auth, m.thumb1, m.thumb2);
        return e ? e : module_json(j, tx, &m, &j->out);
    }
    if (e)
        return identity_faulty(j, e, fault);
    s->changed = true;
    e = audit_push(j->h, tx, j->who, "module.create", m.device, "%.*s", (int)m.id.n, (const char *)m.id.p);
    return e ? e : module_json(j, tx, &m, &j->out);
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct one_state *s = j->state;
    enum identity_fault fault;
    enum err e = module_delete(j->h, tx, s->spec.device, s->spec.id, 0, &fault);
    if (e)
        return identity_faulty(j, e, fault);
    s->changed = true;
    return audit_push(j->h, tx, j->who, "module.delete", s->spec.device, "%.*s", (int)s->spec.id.n,
                      (const char *)s->spec.id.p);
}

static void announce(struct job *j)
{
    struct one_state *s = j->state;
    uint8_t id[IDENTITY_NAME_MAX];
    struct wr w = { id, sizeof id, 0 };
    identity_name_put(&w, s->spec.device, s->spec.id);
    if (s->changed)
        identity_announce(j->h, wr_span(&w));
    job_end(j);
}

static struct one_state *one_new(struct job *j, bool has_module)
{
    struct one_state *s = job_state(j, sizeof *s);
    if (!s)
        return NULL;
    s->spec.id = has_module ? j->r->params[1] : SPAN_NONE;
    (void)(in_path_device(j, &s->spec.device) && (!has_module || in_device_id(j, s->spec.id)));
    return s;
}

static void start_put(struct job *j)
{
    static const char *const names[] = { "authentication", "thumbprint", "thumbprint2", "managedBy", NULL };
    struct one_state *s = one_new(j, true);
    if (!s)
        return;
    s->must_be_new = span_eq(http_field(j->r, "If-None-Match"), SPAN("*"));
    (void)(in_only(j, j->in, names) && proof_in(j, &s->spec.proof) &&
           in_text(j, j->in, "managedBy", IN_OPTIONAL, IDENTITY_TEXT_MAX, &s->spec.managed_by));
    job_write(j, put, announce);
}
static void start_list(struct job *j)
{
    if (one_new(j, false))
        job_read(j, list, NULL);
}
static void start_get(struct job *j)
{
    if (one_new(j, true))
        job_read(j, get, NULL);
}
static void start_delete(struct job *j)
{
    if (one_new(j, true))
        job_write(j, drop, announce);
}

JOB_HANDLER(modules_list, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_list);
JOB_HANDLER(module_put_one, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_OBJECT, start_put);
JOB_HANDLER(module_get_one, JOB_POLICY, ACCESS_REGISTRY_READ, JOB_RAW, start_get);
JOB_HANDLER(module_delete_one, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_delete);
