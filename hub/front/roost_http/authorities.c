/* hub/front/roost_http/authorities.c - certificate authorities that vouch for devices: registered, listed,
 * removed. */
#include "hub/domain/audit.h"
#include "hub/domain/identity/authority.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

static json_t *authority_json(const struct authority *r)
{
    json_t *o = json_object();
    if (!o)
        return NULL;
    json_put(o, "name", json_span(r->name));
    json_put_str(o, "subject", r->facts.subject);
    json_put(o, "notBefore", json_time(r->facts.not_before_ms));
    json_put(o, "notAfter", json_time(r->facts.not_after_ms));
    json_put(o, "sha256", json_hex(span_of(r->facts.sha256, sizeof r->facts.sha256)));
    json_put(o, "created", json_time(r->created_ms));
    json_put_u64(o, "etag", r->etag);
    return o;
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct authority *rows;
    size_t nr;
    enum err e = authority_list(tx, &j->a, &rows, &nr);
    if (e)
        return e;
    json_t *arr = job_out_list(j, "authorities");
    if (!arr)
        return ERR_NOMEM;
    for (size_t i = 0; !e && i < nr; i++)
        if (json_array_append_new(arr, authority_json(&rows[i])))
            e = ERR_NOMEM;
    return e;
}

static enum err put(struct job *j, struct store_tx *tx)
{
    struct span name = j->r->params[0];
    struct authority made;
    bool fresh;
    enum err e = authority_put(j->h, tx, &j->a, name, j->r->body, &made, &fresh);
    if (e == ERR_PROTO)
        return JOB_REFUSE(j, 400, "bad-certificate",
                          "the body has to be one certificate in PEM (-----BEGIN CERTIFICATE-----)");
    if (e == ERR_DENIED)
        return JOB_REFUSE(j, 400, "not-an-authority",
                          "the certificate may not sign others: its basic constraints lack CA:TRUE");
    if (e == ERR_VERIFY)
        return JOB_REFUSE(
            j, 400, "weak-certificate",
            "its key or signature has less than 112 bits of strength: RSA from 2048 bits, curves "
            "from 224, no signature over SHA-1 or MD5");
    if (e == ERR_LIMIT)
        return JOB_REFUSE(j, 409, "too-many-authorities",
                          "%u authorities are registered, or the certificate is larger than %u bytes",
                          AUTHORITIES_MAX, CERTIFICATE_DER_MAX);
    if (!e)
        e = audit_push(j->h, tx, j->who, "ca.put", name, "%s", made.facts.subject);
    if (e)
        return e;
    j->status = fresh ? 201 : 200;
    j->out = authority_json(&made);
    return j->out ? ERR_OK : ERR_NOMEM;
}

static enum err drop(struct job *j, struct store_tx *tx)
{
    struct span name = j->r->params[0];
    enum err e = authority_delete(tx, name);
    if (e == ERR_NOTFOUND)
        return JOB_REFUSE(j, 404, "authority-not-found",
                          "there is no authority of that name: `roost ca list` shows the ones there are");
    return e ? e : audit_push(j->h, tx, j->who, "ca.delete", name, "%s", "");
}

static void announce(struct job *j)
{
    authority_announce(j->h);
    job_end(j);
}

static void start_put(struct job *j)
{
    if (!authority_name_ok(j->r->params[0]))
        (void)job_fail(j, 400, "bad-name", "a name has 1 to %u characters of a device id",
                       AUTHORITY_NAME_MAX);
    job_write(j, put, announce);
}

JOB_STEP_HANDLER(authorities_list, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, list, NULL);
JOB_HANDLER(authority_put_one, JOB_POLICY, ACCESS_REGISTRY_WRITE, JOB_RAW, start_put);
JOB_STEP_HANDLER(authority_delete_one, JOB_POLICY, ACCESS_REGISTRY_WRITE, job_write, drop, announce);
