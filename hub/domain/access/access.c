/* hub/domain/access/access.c - see access.h: the credential cache, and the check itself. */
#include "hub/domain/access/access.h"

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/slab.h"
#include "base/text.h"
#include "core/topic/username.h"
#include "hub/domain/access/certificate.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"
#include "hub/store/identity_name.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define SHARDS    16u
#define KEY_CAP   (2 * DEVICE_ID_MAX + 2) /* 'd' or 'p', then an identity or a policy name */
#define THUMB_MAX 32u                     /* bytes of a thumbprint: SHA-1 or SHA-256 */

/* What a check needs of an identity or a policy, as lengths and as bytes. */
enum cred_field { KEY1, KEY2, THUMB1, THUMB2, GENERATION, CRED_FIELDS };
static const uint8_t field_at[CRED_FIELDS] = { 0, DEVICE_KEY_MAX, 2 * DEVICE_KEY_MAX,
                                               2 * DEVICE_KEY_MAX + THUMB_MAX,
                                               2 * DEVICE_KEY_MAX + 2 * THUMB_MAX };
static const uint8_t field_cap[CRED_FIELDS] = { DEVICE_KEY_MAX, DEVICE_KEY_MAX, THUMB_MAX, THUMB_MAX,
                                                ACCESS_GENERATION_MAX };
#define CRED_BYTES (2 * DEVICE_KEY_MAX + 2 * THUMB_MAX + ACCESS_GENERATION_MAX)
struct cred_head {
    uint32_t rights;
    uint8_t status; /* enum device_status; of a module always enabled */
    uint8_t auth;   /* enum identity_auth */
    uint8_t len[CRED_FIELDS];
};
struct cred {
    struct cred_head head;
    bool unused; /* its key was handed out and has not been seen since */
    uint8_t bytes[CRED_BYTES];
};
static_assert(CRED_BYTES <= UINT8_MAX + 1, "field_at");

static struct span cred_field(const struct cred *c, enum cred_field f)
{
    return span_of(c->bytes + field_at[f], c->head.len[f]);
}

static bool cred_set(struct cred *c, enum cred_field f, struct span s)
{
    if (s.n > field_cap[f])
        return false;
    if (s.n)
        memcpy(c->bytes + field_at[f], s.p, s.n);
    c->head.len[f] = (uint8_t)s.n;
    return true;
}

struct entry { /* on shard.lru; text: name, then the fields of its credentials */
    struct list node;
    struct cred_head head;
    uint16_t name_len;
    uint8_t text[];
};
struct shard {
    pthread_mutex_t lock;
    struct map map;
    struct list lru;  /* oldest use first */
    struct slab slab; /* where entries lie */
    uint64_t epoch;   /* raised by every forget: a row read before it must not enter the cache after it */
};
struct access {
    size_t shard_max;
    uint64_t key[2];
    struct shard shards[SHARDS];
    pthread_mutex_t roots_lock;
    struct certificate_roots *roots; /* NULL: not read yet, or forgotten */
    uint64_t roots_epoch;            /* as shard.epoch */
};

const char *access_why_name(enum access_why why)
{
    static const char *const names[] = {
        "ok",          "no-token", "bad-token",   "expired",           "audience",
        "unknown",     "disabled", "no-key",      "signature",         "rights",
        "unavailable", "proof",    "certificate", "certificate-dates", "certificate-weak"
    };
    return names[why];
}

/* ---- the cache -------------------------------------------------------------------------------------- */

static struct span entry_name(const void *val)
{
    const struct entry *e = val;
    return span_of(e->text, e->name_len);
}

static size_t entry_text_len(const struct entry *e)
{
    size_t n = e->name_len;
    for (unsigned f = 0; f < CRED_FIELDS; f++)
        n += e->head.len[f];
    return n;
}

static void entry_free(struct shard *s, struct entry *e)
{
    size_t n = entry_text_len(e);
    explicit_bzero(e->text, n); /* keys do not linger in free memory */
    slab_put(&s->slab, e, offsetof(struct entry, text) + n);
}

enum err access_new(struct access **out, const struct crypto_ops *crypto, size_t entries_max)
{
    struct access *a = calloc(1, sizeof *a);
    if (!a)
        return ERR_NOMEM;
    crypto->random((uint8_t *)a->key, sizeof a->key);
    a->shard_max = entries_max / SHARDS ? entries_max / SHARDS : 1;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&a->shards[i].lock, NULL);
        map_init(&a->shards[i].map, a->key, entry_name);
        list_init(&a->shards[i].lru);
        slab_init(&a->shards[i].slab);
    }
    pthread_mutex_init(&a->roots_lock, NULL);
    *out = a;
    return ERR_OK;
}

void access_free(struct access *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct entry *e;
        for (size_t at = 0; (e = map_next(&a->shards[i].map, &at));)
            entry_free(&a->shards[i], e);
        map_fini(&a->shards[i].map);
        slab_fini(&a->shards[i].slab);
        pthread_mutex_destroy(&a->shards[i].lock);
    }
    certificate_roots_unref(a->roots);
    pthread_mutex_destroy(&a->roots_lock);
    free(a);
}

static struct shard *shard_of(struct access *a, struct span name)
{
    return &a->shards[map_siphash(a->key, name) % SHARDS];
}

/* *epoch is what cache_put wants to see again. */
static bool cache_get(struct access *a, struct span name, struct cred *out, uint64_t *epoch)
{
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    struct entry *e = map_get(&s->map, name);
    *epoch = s->epoch;
    if (e) {
        struct rd r = rd_of(span_of(e->text + e->name_len, entry_text_len(e) - e->name_len));
        *out = (struct cred){ .head = e->head };
        for (unsigned f = 0; f < CRED_FIELDS; f++)
            (void)cred_set(out, f, rd_take(&r, e->head.len[f]));
        list_move(&e->node, &s->lru);
    }
    pthread_mutex_unlock(&s->lock);
    return e != NULL;
}

static void shard_drop(struct shard *s, struct span name)
{
    struct entry *e = map_del(&s->map, name);
    if (e) {
        list_del(&e->node);
        entry_free(s, e);
    }
}

static void shard_put(struct shard *s, struct span name, const struct cred *c)
{
    struct entry head = { .head = c->head, .name_len = (uint16_t)name.n };
    size_t n = entry_text_len(&head);
    struct entry *e = slab_get(&s->slab, offsetof(struct entry, text) + n);
    if (!e) /* then it is read again next time */
        return;
    e->head = head.head;
    e->name_len = head.name_len;
    struct wr w = { e->text, n, 0 };
    wr_put(&w, name);
    for (unsigned f = 0; f < CRED_FIELDS; f++)
        wr_put(&w, cred_field(c, f));
    if (map_put(&s->map, e))
        entry_free(s, e);
    else
        list_push(&s->lru, &e->node);
}

static void cache_put(struct access *a, struct span name, const struct cred *c, uint64_t epoch)
{
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    if (s->epoch == epoch) {
        shard_drop(s, name);
        if (s->map.nr >= a->shard_max)
            shard_drop(s, entry_name(CONTAINER_OF(s->lru.next, struct entry, node)));
        shard_put(s, name, c);
    }
    pthread_mutex_unlock(&s->lock);
}

static struct span name_make(uint8_t *buf, char kind, struct span name)
{
    struct wr w = { buf, KEY_CAP, 0 };
    wr_u8(&w, (uint8_t)kind);
    wr_put(&w, name);
    return wr_span(&w); /* empty, never cached, when the name is too long to exist */
}

static void forget(struct access *a, char kind, struct span what)
{
    uint8_t buf[KEY_CAP];
    struct span name = name_make(buf, kind, what);
    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    s->epoch++;
    shard_drop(s, name);
    pthread_mutex_unlock(&s->lock);
}

void access_forget(struct access *a, struct span identity)
{
    forget(a, 'd', identity);
}
void access_forget_policy(struct access *a, struct span name)
{
    forget(a, 'p', name);
}

/* ---- authorities ------------------------------------------------------------------------------------- */

void access_forget_authorities(struct access *a)
{
    pthread_mutex_lock(&a->roots_lock);
    struct certificate_roots *old = a->roots;
    a->roots = NULL;
    a->roots_epoch++;
    pthread_mutex_unlock(&a->roots_lock);
    certificate_roots_unref(old);
}

static enum err root_add(void *ctx, const struct ca_row *r)
{
    enum err e = certificate_roots_add(ctx, r->der);
    if (e == ERR_PROTO) { /* was checked when it was registered */
        log_error("access.ca", "name=%.*s: cannot be parsed", (int)r->name.n, (const char *)r->name.p);
        e = ERR_OK;
    }
    return e;
}

static uint64_t roots_epoch(struct access *a)
{
    pthread_mutex_lock(&a->roots_lock);
    uint64_t epoch = a->roots_epoch;
    pthread_mutex_unlock(&a->roots_lock);
    return epoch;
}

/* On a reader thread. The caller's reference. epoch: from before this read began. */
static enum err roots_get(struct access *a, struct store_tx *tx, uint64_t epoch,
                          struct certificate_roots **out)
{
    pthread_mutex_lock(&a->roots_lock);
    struct certificate_roots *r = a->roots ? certificate_roots_ref(a->roots) : NULL;
    pthread_mutex_unlock(&a->roots_lock);
    *out = r;
    if (r)
        return ERR_OK;
    enum err e = certificate_roots_new(&r);
    if (!e)
        e = tx_ca_list(tx, root_add, r);
    if (e) {
        certificate_roots_unref(r);
        return e;
    }
    /* This snapshot may be older than the last forget, of which it then knows nothing: it is not kept. */
    pthread_mutex_lock(&a->roots_lock);
    if (a->roots_epoch == epoch && !a->roots)
        a->roots = certificate_roots_ref(r);
    pthread_mutex_unlock(&a->roots_lock);
    *out = r;
    return ERR_OK;
}

/* ---- first use of a handed-out key ------------------------------------------------------------------ */

struct used_op { /* owned by itself */
    struct store_op store;
    struct hub *hub;
    uint16_t id_len;
    uint8_t id[KEY_CAP];
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

/* What a session remembers of the credential that proved it. */
static uint64_t proof_of(const struct access *a, struct span credential)
{
    uint64_t h = map_siphash(a->key, credential);
    return h ? h : 1;
}

/* *proof: of the key that did. */
static bool signed_by(const struct access_check *c, const struct cred *k, uint64_t *proof)
{
    /* Both are always computed, so that the time tells nothing about which one it was. */
    bool first = sas_verify(&c->parsed, c->hub->crypto, cred_field(k, KEY1));
    bool second = sas_verify(&c->parsed, c->hub->crypto, cred_field(k, KEY2));
    if (c->key_text && c->parsed.policy_len)
        for (int i = 0; i < 2; i++) {
            uint8_t text[2 * DEVICE_KEY_MAX];
            struct wr w = { text, sizeof text, 0 };
            base64_encode(&w, cred_field(k, i ? KEY2 : KEY1));
            bool good = sas_verify(&c->parsed, c->hub->crypto, wr_span(&w));
            first = first || good;
            explicit_bzero(text, sizeof text);
        }
    *proof = proof_of(c->hub->access, cred_field(k, first ? KEY1 : KEY2));
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

static struct span subject_name(const struct access_check *c, enum subject s, uint8_t buf[KEY_CAP])
{
    return s == POLICY     ? name_make(buf, 'p', sas_policy(&c->parsed))
           : s == IDENTITY ? name_make(buf, 'd', identity_of(c))
                           : name_make(buf, 'd', c->device);
}

static enum access_why judge_token(struct access_check *c, const struct known *k)
{
    const struct cred *signer = needs(c, POLICY) ? &k->creds[POLICY] : &k->creds[IDENTITY];
    const struct cred *who = needs(c, IDENTITY) ? &k->creds[IDENTITY] : NULL;
    if (who && who->head.auth != AUTH_SAS) /* a policy does not stand in for its certificate either */
        return ACCESS_PROOF;
    if (!signer->head.len[KEY1] && !signer->head.len[KEY2])
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
        bool first = certificate_has_thumbprint(c->leaf, cred_field(who, THUMB1));
        bool second = certificate_has_thumbprint(c->leaf, cred_field(who, THUMB2));
        c->expires_ms = UINT64_MAX;
        c->proof = proof_of(c->hub->access, cred_field(who, first ? THUMB1 : THUMB2));
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
        c->proof = proof_of(c->hub->access, span_of(p.authority, sizeof p.authority));
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
        struct span generation = cred_field(who, GENERATION);
        c->generation_len = (uint8_t)generation.n;
        memcpy(c->generation, generation.p, generation.n);
        if (who->unused && c->token.n && !needs(c, POLICY))
            mark_used(c->hub, identity_of(c));
    }
    return ERR_OK;
}

static bool thumb_set(struct cred *out, enum cred_field f, struct span hex)
{
    uint8_t bytes[THUMB_MAX];
    return hex.n <= 2 * THUMB_MAX && !hex_decode(hex, bytes, hex.n / 2) &&
           cred_set(out, f, span_of(bytes, hex.n / 2));
}

static enum err device_read(struct store_tx *tx, struct span id, struct cred *out)
{
    struct device_row r;
    enum err e = tx_device_get(tx, id, &r);
    if (e)
        return e;
    *out = (struct cred){ .head = { .status = r.status, .auth = r.auth }, .unused = r.issued_unused };
    return cred_set(out, KEY1, r.key1) && cred_set(out, KEY2, r.key2) && thumb_set(out, THUMB1, r.thumb1) &&
                   thumb_set(out, THUMB2, r.thumb2) && cred_set(out, GENERATION, r.generation)
               ? ERR_OK
               : ERR_LIMIT;
}

static enum err module_read(struct store_tx *tx, struct span device, struct span id, struct cred *out)
{
    struct module_row r;
    enum err e = tx_module_get(tx, device, id, &r);
    if (e)
        return e;
    *out = (struct cred){ .head = { .status = DEVICE_ENABLED, .auth = r.auth } };
    return cred_set(out, KEY1, r.key1) && cred_set(out, KEY2, r.key2) && thumb_set(out, THUMB1, r.thumb1) &&
                   thumb_set(out, THUMB2, r.thumb2) && cred_set(out, GENERATION, r.generation)
               ? ERR_OK
               : ERR_LIMIT;
}

static enum err policy_read(struct store_tx *tx, struct span name, struct cred *out)
{
    struct policy_row r;
    enum err e = tx_policy_get(tx, name, &r);
    if (e)
        return e;
    *out = (struct cred){ .head.rights = r.rights };
    return cred_set(out, KEY1, r.key1) && cred_set(out, KEY2, r.key2) ? ERR_OK : ERR_LIMIT;
}

static enum err subject_read(struct store_tx *tx, const struct access_check *c, enum subject s,
                             struct cred *out)
{
    if (s == POLICY)
        return policy_read(tx, sas_policy(&c->parsed), out);
    return s == IDENTITY && c->module.n ? module_read(tx, c->device, c->module, out)
                                        : device_read(tx, c->device, out);
}

/* On a reader thread: what the cache did not have. */
static enum err check_run(struct store_tx *tx, struct store_op *self)
{
    struct access_check *c = (struct access_check *)(void *)self;
    struct access *a = c->hub->access;
    struct certificate_roots *roots = NULL;
    struct known k;
    uint8_t buf[KEY_CAP];
    bool again;
    enum err e = ERR_OK;
    METRIC_ADD(c->hub, access_reads_total, 1);
    c->why = ACCESS_UNAVAILABLE;
    for (enum subject s = 0; !e && s < SUBJECTS; s++) {
        if (!needs(c, s))
            continue;
        e = subject_read(tx, c, s, &k.creds[s]);
        if (!e && !k.creds[s].unused) /* unused: read again until it has been written as used */
            cache_put(a, subject_name(c, s, buf), &k.creds[s], c->epochs[s]);
    }
    if (e == ERR_NOTFOUND)
        c->why = ACCESS_UNKNOWN;
    else if (!e && !c->token.n && k.creds[IDENTITY].head.auth == AUTH_CA)
        e = roots_get(a, tx, c->roots_epoch, &roots);
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
    uint8_t buf[KEY_CAP];
    c->granted = 0;
    c->proof = 0;
    c->certificate = false;
    c->roots_epoch = roots_epoch(a);
    c->identity_len = c->generation_len = 0;
    c->why = token_check(c);
    enum err e = ERR_DENIED;
    if (c->why == ACCESS_OK) {
        bool known = true, again = false;
        for (enum subject s = 0; s < SUBJECTS; s++)
            if (needs(c, s))
                known &= cache_get(a, subject_name(c, s, buf), &k.creds[s], &c->epochs[s]);
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
    uint8_t buf[KEY_CAP];
    bool stale = c->certificate && roots_epoch(a) != c->roots_epoch;
    for (enum subject which = IDENTITY; which < SUBJECTS; which++) {
        if (!needs(c, which))
            continue;
        struct shard *s = shard_of(a, subject_name(c, which, buf));
        pthread_mutex_lock(&s->lock);
        stale |= s->epoch != c->epochs[which];
        pthread_mutex_unlock(&s->lock);
    }
    return stale;
}

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
    return proof_of(m->access, span_of(hash, sizeof hash)) == m->proof ? ERR_EXISTS : ERR_OK;
}

static enum err proof_stands(struct store_tx *tx, const struct access *a, const struct cred *who,
                             uint64_t proof)
{
    struct authority_match m = { a, proof };
    enum cred_field first = who->head.auth == AUTH_SAS ? KEY1 : THUMB1;
    enum err e;
    if (!proof) /* a policy's, which stands in for keys alone */
        return who->head.auth == AUTH_SAS ? ERR_OK : ERR_DENIED;
    if (who->head.auth == AUTH_SAS || who->head.auth == AUTH_SELF_SIGNED)
        return proof_of(a, cred_field(who, first)) == proof ||
                       proof_of(a, cred_field(who, first + 1)) == proof
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
    enum err e = device_read(tx, device, &who);
    bool enabled = !e && who.head.status == DEVICE_ENABLED;
    if (!e && mark)
        e = module_read(tx, device, span_skip(s->identity, device.n + 1), &who);
    if (e)
        return e == ERR_NOTFOUND ? ERR_DENIED : e;
    if (!enabled || !span_eq(cred_field(&who, GENERATION), s->generation))
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
