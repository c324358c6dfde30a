/* hub/domain/access/access_status.c - whether what let a session in would let it in again. */
#include "hub/domain/access/access_impl.h"

#include "hub/domain/hub.h"

#include <string.h>

struct authority_match {
    const struct access *access;
    uint64_t proof;
};

static enum err authority_match(void *ctx, const struct ca_row *r)
{
    const struct authority_match *m = ctx;
    uint8_t hash[32];
    if (!certificate_hash(r->der, hash))
        return ERR_NOMEM;
    return access_proof(m->access, span_of(hash, sizeof hash)) == m->proof ? ERR_EXISTS : ERR_OK;
}

static enum err proof_stands(struct store_tx *tx, const struct access *a, const struct cred *who,
                             uint64_t proof)
{
    struct authority_match m = { a, proof };
    enum cred_field first = who->head.auth == AUTH_SAS ? CRED_KEY1 : CRED_THUMB1;
    enum err e;
    if (!proof) /* a policy's, which stands in for keys alone */
        return who->head.auth == AUTH_SAS ? ERR_OK : ERR_DENIED;
    if (who->head.auth == AUTH_SAS || who->head.auth == AUTH_SELF_SIGNED)
        return access_proof(a, cred_field(who, first)) == proof ||
                       access_proof(a, cred_field(who, first + 1)) == proof
                   ? ERR_OK
                   : ERR_DENIED;
    if (who->head.auth != AUTH_CA)
        return ERR_DENIED;
    e = tx_ca_list(tx, authority_match, &m);
    return e == ERR_EXISTS ? ERR_OK : e ? e : ERR_DENIED;
}

static enum err status_run(struct store_tx *tx, struct store_op *self)
{
    struct access_status *s = (struct access_status *)(void *)self;
    const uint8_t *mark = s->identity.n ? memchr(s->identity.p, '/', s->identity.n) : NULL;
    struct span device = mark ? span_of(s->identity.p, (size_t)(mark - s->identity.p)) : s->identity;
    struct cred who;
    enum err e = access_read_device(tx, device, &who);
    bool enabled = !e && who.head.status == DEVICE_ENABLED;
    if (!e && mark)
        e = access_read_module(tx, device, span_skip(s->identity, device.n + 1), &who);
    if (e)
        return e == ERR_NOTFOUND ? ERR_DENIED : e;
    if (!enabled || !span_eq(cred_field(&who, CRED_GENERATION), s->generation))
        e = ERR_DENIED;
    else
        e = proof_stands(tx, s->hub->access, &who, s->proof);
    explicit_bzero(&who, sizeof who);
    return e;
}

void access_status_start(struct access_status *s)
{
    s->store.run = status_run;
    store_read(s->hub->store, &s->store);
}
