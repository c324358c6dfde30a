/* hub/domain/access/access.c - the check of access.h. */
#include "hub/domain/access/access_impl.h"

#include "base/log.h"
#include "base/text.h"
#include "core/topic/username.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"
#include "hub/store/identity_name.h"

#include <stdlib.h>

const char *access_why_name(enum access_why why)
{
    static const char *const names[] = {
        "ok",          "no-token", "bad-token",   "expired",           "audience",
        "unknown",     "disabled", "no-key",      "signature",         "rights",
        "unavailable", "proof",    "certificate", "certificate-dates", "certificate-weak"
    };
    return names[why];
}

/* ---- first use of a handed-out key ------------------------------------------------------------------ */

struct used_op { /* owned by itself */
    struct store_op store;
    struct hub *hub;
    uint16_t id_len;
    uint8_t id[ACCESS_NAME_MAX];
};

static enum err used_run(struct store_tx *tx, struct store_op *self)
{
    struct used_op *u = (struct used_op *)(void *)self;
    struct device_row r;
    enum err e = tx_device_get(tx, span_of(u->id, u->id_len), &r);
    if (e || !r.issued_unused)
        return e;
    r.issued_unused = false;
    return tx_device_put(tx, &r, r.etag, NULL);
}

static void used_done(struct op *op)
{
    struct used_op *u = (struct used_op *)(void *)op;
    if (op->err) /* the next use tries again */
        log_warn("access.used", "device=%.*s err=%s", u->id_len, (const char *)u->id, err_name(op->err));
    else
        access_forget(u->hub->access, span_of(u->id, u->id_len));
    free(u);
}

static void mark_used(struct hub *h, struct span id)
{
    struct used_op *u = calloc(1, sizeof *u);
    if (!u || id.n > sizeof u->id) {
        free(u);
        return;
    }
    u->hub = h;
    u->id_len = (uint16_t)id.n;
    memcpy(u->id, id.p, id.n);
    u->store.run = used_run;
    u->store.op.done = used_done;
    store_write(h->store, &u->store);
}

/* ---- the check -------------------------------------------------------------------------------------- */

static struct span identity_of(const struct access_check *c)
{
    return span_of(c->identity, c->identity_len);
}

/* *proof: of the key that did. */
static bool signed_by(const struct access_check *c, const struct cred *k, uint64_t *proof)
{
    /* Both are always computed, so that the time tells nothing about which one it was. */
    bool first = sas_verify(&c->parsed, c->hub->crypto, cred_field(k, CRED_KEY1));
    bool second = sas_verify(&c->parsed, c->hub->crypto, cred_field(k, CRED_KEY2));
    if (c->key_text && c->parsed.policy_len)
        for (int i = 0; i < 2; i++) {
            uint8_t text[2 * DEVICE_KEY_MAX];
            struct wr w = { text, sizeof text, 0 };
            base64_encode(&w, cred_field(k, i ? CRED_KEY2 : CRED_KEY1));
            bool good = sas_verify(&c->parsed, c->hub->crypto, wr_span(&w));
            first = first || good;
            explicit_bzero(text, sizeof text);
        }
    *proof = access_proof(c->hub->access, cred_field(k, first ? CRED_KEY1 : CRED_KEY2));
    return first || second;
}

/* What a check knows of, and where it looks: which are needed depends on what is claimed. */
enum subject { POLICY, IDENTITY, PARENT /* the device of a module */, SUBJECTS };
struct known {
    struct cred creds[SUBJECTS];
};

static bool needs(const struct access_check *c, enum subject s)
{
    if (s == POLICY)
        return c->token.n && c->parsed.policy_len;
    return !c->policy_only && (s == IDENTITY || c->module.n);
}

static struct span subject_name(const struct access_check *c, enum subject s, uint8_t buf[ACCESS_NAME_MAX])
{
    return s == POLICY     ? access_cache_name(buf, 'p', sas_policy(&c->parsed))
           : s == IDENTITY ? access_cache_name(buf, 'd', identity_of(c))
                           : access_cache_name(buf, 'd', c->device);
}

static enum access_why judge_token(struct access_check *c, const struct known *k)
{
    const struct cred *signer = needs(c, POLICY) ? &k->creds[POLICY] : &k->creds[IDENTITY];
    const struct cred *who = needs(c, IDENTITY) ? &k->creds[IDENTITY] : NULL;
    if (who && who->head.auth != AUTH_SAS) /* a policy does not stand in for its certificate either */
        return ACCESS_PROOF;
    if (!signer->head.len[CRED_KEY1] && !signer->head.len[CRED_KEY2])
        return ACCESS_NO_KEY;
    if (!signed_by(c, signer, &c->proof))
        return ACCESS_SIGNATURE;
    if (signer != who) {
        uint32_t need = c->policy_only ? c->rights : (uint32_t)ACCESS_DEVICE_CONNECT;
        if ((signer->head.rights & need) != need)
            return ACCESS_RIGHTS;
        c->granted = signer->head.rights;
        c->proof = 0;
    }
    return ACCESS_OK;
}

/* roots: NULL when the authorities have not been read; then *again is set when they are needed. */
static enum access_why judge_certificate(struct access_check *c, const struct known *k,
                                         struct certificate_roots *roots, bool *again)
{
    const struct cred *who = &k->creds[IDENTITY];
    c->certificate = true;
    if (who->head.auth == AUTH_SELF_SIGNED) {
        bool first = certificate_has_thumbprint(c->leaf, cred_field(who, CRED_THUMB1));
        bool second = certificate_has_thumbprint(c->leaf, cred_field(who, CRED_THUMB2));
        c->expires_ms = UINT64_MAX;
        c->proof = access_proof(c->hub->access, cred_field(who, first ? CRED_THUMB1 : CRED_THUMB2));
        return first || second ? ACCESS_OK : ACCESS_CERTIFICATE;
    }
    if (who->head.auth != AUTH_CA)
        return ACCESS_PROOF;
    *again = !roots;
    if (*again)
        return ACCESS_UNAVAILABLE;
    struct certificate_proof p;
    switch (certificate_check(roots, c->leaf, c->chain, identity_of(c), c->hub->wall_ms() / 1000, &p)) {
    case CERTIFICATE_OK:
        c->expires_ms = p.not_after_ms;
        c->proof = access_proof(c->hub->access, span_of(p.authority, sizeof p.authority));
        return ACCESS_OK;
    case CERTIFICATE_WEAK:
        return ACCESS_CERTIFICATE_WEAK;
    case CERTIFICATE_DATES:
        return ACCESS_CERTIFICATE_DATES;
    default:
        return ACCESS_CERTIFICATE;
    }
}

/* All that is needed is known; writes the outcome. */
static enum err check_judge(struct access_check *c, const struct known *k, struct certificate_roots *roots,
                            bool *again)
{
    const struct cred *who = &k->creds[IDENTITY];
    *again = false;
    c->why = c->token.n ? judge_token(c, k) : judge_certificate(c, k, roots, again);
    if (c->why == ACCESS_OK && needs(c, IDENTITY)) {
        if (who->head.status != DEVICE_ENABLED ||
            (needs(c, PARENT) && k->creds[PARENT].head.status != DEVICE_ENABLED))
            c->why = ACCESS_DISABLED;
    }
    if (c->why != ACCESS_OK)
        return ERR_DENIED;
    if (needs(c, IDENTITY)) {
        struct span generation = cred_field(who, CRED_GENERATION);
        c->generation_len = (uint8_t)generation.n;
        memcpy(c->generation, generation.p, generation.n);
        if (who->unused && c->token.n && !needs(c, POLICY))
            mark_used(c->hub, identity_of(c));
    }
    return ERR_OK;
}

static enum err subject_read(struct store_tx *tx, const struct access_check *c, enum subject s,
                             struct cred *out)
{
    if (s == POLICY)
        return access_read_policy(tx, sas_policy(&c->parsed), out);
    return s == IDENTITY && c->module.n ? access_read_module(tx, c->device, c->module, out)
                                        : access_read_device(tx, c->device, out);
}

/* On a reader thread: what the cache did not have. */
static enum err check_run(struct store_tx *tx, struct store_op *self)
{
    struct access_check *c = (struct access_check *)(void *)self;
    struct access *a = c->hub->access;
    struct certificate_roots *roots = NULL;
    struct known k;
    uint8_t buf[ACCESS_NAME_MAX];
    bool again;
    enum err e = ERR_OK;
    METRIC_ADD(c->hub, access_reads_total, 1);
    c->why = ACCESS_UNAVAILABLE;
    for (enum subject s = 0; !e && s < SUBJECTS; s++) {
        if (!needs(c, s))
            continue;
        e = subject_read(tx, c, s, &k.creds[s]);
        if (!e && !k.creds[s].unused) /* unused: read again until it has been written as used */
            access_cache_put(a, subject_name(c, s, buf), &k.creds[s], c->epochs[s]);
    }
    if (e == ERR_NOTFOUND)
        c->why = ACCESS_UNKNOWN;
    else if (!e && !c->token.n && k.creds[IDENTITY].head.auth == AUTH_CA)
        e = access_roots_get(a, tx, c->roots_epoch, &roots);
    if (e)
        e = e == ERR_NOTFOUND ? ERR_DENIED : e;
    else
        e = check_judge(c, &k, roots, &again);
    certificate_roots_unref(roots);
    explicit_bzero(&k, sizeof k);
    return e;
}

/* The device that the audience names: "host/devices/ID[/...]". */
static bool device_of_audience(struct access_check *c)
{
    uint8_t mem[SAS_SR_MAX];
    struct wr w = { mem, sizeof mem, 0 };
    percent_decode(&w, c->parsed.sr);
    struct span s = wr_span(&w);
    size_t i = 0;
    while (i < s.n && s.p[i] != '/')
        i++;
    struct span rest = span_skip(s, i), mark = SPAN("/devices/");
    if (!span_starts(rest, mark))
        return false;
    rest = span_skip(rest, mark.n);
    for (i = 0; i < rest.n && rest.p[i] != '/'; i++)
        ;
    rest.n = i;
    if (!identity_id_is_valid(rest))
        return false;
    memcpy(c->identity, rest.p, rest.n);
    c->identity_len = (uint16_t)rest.n;
    c->device = identity_of(c);
    return true;
}

static bool identity_make(struct access_check *c)
{
    if (!c->device.n)
        return c->token.n && device_of_audience(c);
    struct wr w = { (uint8_t *)c->identity, sizeof c->identity, 0 };
    identity_name_put(&w, c->device, c->module);
    c->identity_len = (uint16_t)wr_span(&w).n;
    return true;
}

/* "d/m" as the id of a device is no other way to say the module m of d: what is known of that, in the cache
 * as well, says nothing of whether d is enabled. */
static bool names_are_ids(const struct access_check *c)
{
    return (!c->device.n || identity_id_is_valid(c->device)) &&
           (!c->module.n || identity_id_is_valid(c->module));
}

/* What can be said of the token without any key. */
static enum access_why token_check(struct access_check *c)
{
    const struct hub *h = c->hub;
    struct sas_scope scope = { h->names, c->host };
    if (!c->token.n && (!c->leaf.n || c->policy_only))
        return ACCESS_NO_TOKEN;
    if (!c->policy_only && !names_are_ids(c))
        return ACCESS_UNKNOWN;
    if (!c->token.n)
        return identity_make(c) ? ACCESS_OK : ACCESS_NO_TOKEN;
    if (sas_parse(c->token, &c->parsed))
        return ACCESS_BAD_TOKEN;
    c->expires_ms = c->parsed.expiry_s > UINT64_MAX / 1000 ? UINT64_MAX : c->parsed.expiry_s * 1000;
    if (!sas_is_live(&c->parsed, h->wall_ms() / 1000, h->settings.sas_skew_s))
        return ACCESS_EXPIRED;
    if (c->policy_only) {
        if (!c->parsed.policy_len)
            return ACCESS_RIGHTS;
        return sas_audience_covers(c->parsed.sr, &scope, c->path) ? ACCESS_OK : ACCESS_AUDIENCE;
    }
    if (!identity_make(c))
        return ACCESS_AUDIENCE;
    enum sas_reach reach = sas_audience(c->parsed.sr, &scope, c->device, c->module);
    enum sas_reach own = c->module.n ? SAS_REACH_MODULE : SAS_REACH_DEVICE;
    bool fits = c->parsed.policy_len ? reach != SAS_REACH_NONE : reach == own;
    return fits ? ACCESS_OK : ACCESS_AUDIENCE;
}

void access_start(struct access_check *c)
{
    struct access *a = c->hub->access;
    struct known k;
    uint8_t buf[ACCESS_NAME_MAX];
    c->granted = 0;
    c->proof = 0;
    c->certificate = false;
    c->roots_epoch = access_roots_epoch(a);
    c->identity_len = c->generation_len = 0;
    c->why = token_check(c);
    enum err e = ERR_DENIED;
    if (c->why == ACCESS_OK) {
        bool known = true, again = false;
        for (enum subject s = 0; s < SUBJECTS; s++)
            if (needs(c, s))
                known &= access_cache_get(a, subject_name(c, s, buf), &k.creds[s], &c->epochs[s]);
        if (known)
            e = check_judge(c, &k, NULL, &again);
        explicit_bzero(&k, sizeof k);
        if (!known || again) { /* a chain of certificates is checked where there is time for it */
            c->why = ACCESS_UNAVAILABLE;
            c->store.run = check_run;
            store_read(c->hub->store, &c->store);
            return;
        }
    }
    c->store.op.err = e;
    c->store.op.done(&c->store.op);
}

bool access_is_stale(const struct access_check *c)
{
    struct access *a = c->hub->access;
    uint8_t buf[ACCESS_NAME_MAX];
    bool stale = c->certificate && access_roots_epoch(a) != c->roots_epoch;
    for (enum subject which = IDENTITY; which < SUBJECTS; which++) {
        if (!needs(c, which))
            continue;
        stale |= access_cache_epoch(a, subject_name(c, which, buf)) != c->epochs[which];
    }
    return stale;
}
