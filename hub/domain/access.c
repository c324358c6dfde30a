/* hub/domain/access.c - see access.h: the credential cache, and the check itself. */
#include "hub/domain/access.h"

#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/text.h"
#include "core/topic/username.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define SHARDS  16u
#define KEY_CAP (2 * DEVICE_ID_MAX + 2) /* 'd' or 'p', then an identity or a policy name */

/* What a check needs of an identity or a policy. */
struct cred {
    uint8_t status; /* enum device_status */
    bool unused;    /* its key was handed out and has not been seen since */
    uint32_t rights;
    uint8_t key1_len, key2_len, generation_len;
    uint8_t key1[DEVICE_KEY_MAX], key2[DEVICE_KEY_MAX];
    uint8_t generation[ACCESS_GENERATION_MAX];
};

struct entry { /* on shard.lru; text: name, key1, key2, generation */
    struct list node;
    uint32_t rights;
    uint16_t name_len;
    uint8_t key1_len, key2_len, generation_len, status;
    uint8_t text[];
};
struct shard {
    pthread_mutex_t lock;
    struct map map;
    struct list lru; /* oldest use first */
    uint64_t epoch;  /* raised by every forget: a row read before it must not enter the cache after it */
};
struct access {
    size_t shard_max;
    uint64_t key[2];
    struct shard shards[SHARDS];
};

const char *access_why_name(enum access_why why)
{
    static const char *const names[] = { "ok",        "no-token", "bad-token",  "expired",
                                         "audience",  "unknown",  "disabled",   "no-key",
                                         "signature", "rights",   "unavailable" };
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
    return (size_t)e->name_len + e->key1_len + e->key2_len + e->generation_len;
}

static void entry_free(struct entry *e)
{
    explicit_bzero(e->text, entry_text_len(e)); /* keys do not linger in free memory */
    free(e);
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
    }
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
            entry_free(e);
        map_fini(&a->shards[i].map);
        pthread_mutex_destroy(&a->shards[i].lock);
    }
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
        const uint8_t *p = e->text + e->name_len;
        *out = (struct cred){ .status = e->status,
                              .rights = e->rights,
                              .key1_len = e->key1_len,
                              .key2_len = e->key2_len,
                              .generation_len = e->generation_len };
        memcpy(out->key1, p, e->key1_len);
        memcpy(out->key2, p + e->key1_len, e->key2_len);
        memcpy(out->generation, p + e->key1_len + e->key2_len, e->generation_len);
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
        entry_free(e);
    }
}

static void cache_put(struct access *a, struct span name, const struct cred *c, uint64_t epoch)
{
    struct entry *e = malloc(sizeof *e + name.n + c->key1_len + c->key2_len + c->generation_len);
    if (!e) /* then it is read again next time */
        return;
    *e = (struct entry){ .rights = c->rights,
                         .name_len = (uint16_t)name.n,
                         .key1_len = c->key1_len,
                         .key2_len = c->key2_len,
                         .generation_len = c->generation_len,
                         .status = c->status };
    struct wr w = { e->text, entry_text_len(e), 0 };
    wr_put(&w, name);
    wr_put(&w, span_of(c->key1, c->key1_len));
    wr_put(&w, span_of(c->key2, c->key2_len));
    wr_put(&w, span_of(c->generation, c->generation_len));
    list_init(&e->node);

    struct shard *s = shard_of(a, name);
    pthread_mutex_lock(&s->lock);
    bool in = false;
    if (s->epoch == epoch) {
        shard_drop(s, name);
        if (s->map.nr >= a->shard_max)
            shard_drop(s, entry_name(CONTAINER_OF(s->lru.next, struct entry, node)));
        in = map_put(&s->map, e) == ERR_OK;
        if (in)
            list_push(&s->lru, &e->node);
    }
    pthread_mutex_unlock(&s->lock);
    if (!in)
        entry_free(e);
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

static bool signed_by(const struct access_check *c, const struct cred *k)
{
    /* Both are always computed, so that the time tells nothing about which one it was. */
    bool first = sas_verify(&c->parsed, c->hub->crypto, span_of(k->key1, k->key1_len));
    bool second = sas_verify(&c->parsed, c->hub->crypto, span_of(k->key2, k->key2_len));
    return first || second;
}

/* All is known: the token, whose key should have signed it, and the identity (NULL: none is claimed). */
static enum access_why judge(struct access_check *c, const struct cred *signer, const struct cred *who)
{
    assert(signer); /* a token without a policy names an identity */
    if (!signer->key1_len && !signer->key2_len)
        return ACCESS_NO_KEY;
    if (!signed_by(c, signer))
        return ACCESS_SIGNATURE;
    if (c->parsed.policy_len) {
        uint32_t need = c->policy_only ? c->rights : (uint32_t)ACCESS_DEVICE_CONNECT;
        if ((signer->rights & need) != need)
            return ACCESS_RIGHTS;
        c->granted = signer->rights;
    }
    if (who) {
        if (who->status != DEVICE_ENABLED)
            return ACCESS_DISABLED;
        c->generation_len = who->generation_len;
        memcpy(c->generation, who->generation, who->generation_len);
        if (who->unused && signer == who)
            mark_used(c->hub, identity_of(c));
    }
    return ACCESS_OK;
}

static bool copy_key(uint8_t *to, uint8_t *len, struct span from, size_t cap)
{
    if (from.n > cap)
        return false;
    if (from.n)
        memcpy(to, from.p, from.n);
    *len = (uint8_t)from.n;
    return true;
}

static enum err identity_read(struct store_tx *tx, struct span id, struct cred *out)
{
    struct device_row r;
    enum err e = tx_device_get(tx, id, &r);
    if (e)
        return e;
    *out = (struct cred){ .status = r.status, .unused = r.issued_unused };
    return copy_key(out->key1, &out->key1_len, r.key1, DEVICE_KEY_MAX) &&
                   copy_key(out->key2, &out->key2_len, r.key2, DEVICE_KEY_MAX) &&
                   copy_key(out->generation, &out->generation_len, r.generation, ACCESS_GENERATION_MAX)
               ? ERR_OK
               : ERR_LIMIT;
}

static enum err policy_read(struct store_tx *tx, struct span name, struct cred *out)
{
    struct policy_row r;
    enum err e = tx_policy_get(tx, name, &r);
    if (e)
        return e;
    *out = (struct cred){ .rights = r.rights };
    return copy_key(out->key1, &out->key1_len, r.key1, DEVICE_KEY_MAX) &&
                   copy_key(out->key2, &out->key2_len, r.key2, DEVICE_KEY_MAX)
               ? ERR_OK
               : ERR_LIMIT;
}

static enum err check_judge(struct access_check *c, const struct cred *policy, const struct cred *who)
{
    c->why = judge(c, policy ? policy : who, who);
    return c->why == ACCESS_OK ? ERR_OK : ERR_DENIED;
}

/* On a reader thread: what the cache did not have. */
static enum err check_run(struct store_tx *tx, struct store_op *self)
{
    struct access_check *c = (struct access_check *)(void *)self;
    struct access *a = c->hub->access;
    struct cred policy, who;
    uint8_t buf[KEY_CAP];
    enum err e = ERR_OK;
    METRIC_ADD(c->hub, access_reads_total, 1);
    c->why = ACCESS_UNAVAILABLE;
    if (c->parsed.policy_len) {
        e = policy_read(tx, sas_policy(&c->parsed), &policy);
        if (!e)
            cache_put(a, name_make(buf, 'p', sas_policy(&c->parsed)), &policy, c->epochs[0]);
    }
    if (!e && !c->policy_only) {
        e = identity_read(tx, identity_of(c), &who);
        if (!e && !who.unused) /* unused: read again until it has been written as used */
            cache_put(a, name_make(buf, 'd', identity_of(c)), &who, c->epochs[1]);
    }
    if (e == ERR_NOTFOUND)
        c->why = ACCESS_UNKNOWN;
    if (e)
        e = e == ERR_NOTFOUND ? ERR_DENIED : e;
    else
        e = check_judge(c, c->parsed.policy_len ? &policy : NULL, c->policy_only ? NULL : &who);
    explicit_bzero(&policy, sizeof policy);
    explicit_bzero(&who, sizeof who);
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
        return device_of_audience(c);
    struct wr w = { (uint8_t *)c->identity, sizeof c->identity, 0 };
    wr_put(&w, c->device);
    if (c->module.n) {
        wr_u8(&w, '/');
        wr_put(&w, c->module);
    }
    c->identity_len = (uint16_t)wr_span(&w).n;
    return c->device.n <= DEVICE_ID_MAX && c->module.n <= DEVICE_ID_MAX;
}

/* What can be said of the token without any key. */
static enum access_why token_check(struct access_check *c)
{
    const struct hub *h = c->hub;
    struct sas_scope scope = { h->names, c->host };
    if (!c->token.n)
        return ACCESS_NO_TOKEN;
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
    struct cred policy, who;
    uint8_t buf[KEY_CAP];
    c->granted = 0;
    c->identity_len = c->generation_len = 0;
    c->why = token_check(c);
    enum err e = ERR_DENIED;
    if (c->why == ACCESS_OK) {
        bool known = true;
        if (c->parsed.policy_len)
            known = cache_get(a, name_make(buf, 'p', sas_policy(&c->parsed)), &policy, &c->epochs[0]);
        if (!c->policy_only)
            known &= cache_get(a, name_make(buf, 'd', identity_of(c)), &who, &c->epochs[1]);
        if (!known) {
            c->why = ACCESS_UNAVAILABLE;
            c->store.run = check_run;
            store_read(c->hub->store, &c->store);
            return;
        }
        e = check_judge(c, c->parsed.policy_len ? &policy : NULL, c->policy_only ? NULL : &who);
        explicit_bzero(&policy, sizeof policy);
        explicit_bzero(&who, sizeof who);
    }
    c->store.op.err = e;
    c->store.op.done(&c->store.op);
}

bool access_is_stale(const struct access_check *c)
{
    uint8_t buf[KEY_CAP];
    struct shard *s = shard_of(c->hub->access, name_make(buf, 'd', identity_of(c)));
    pthread_mutex_lock(&s->lock);
    bool stale = s->epoch != c->epochs[1];
    pthread_mutex_unlock(&s->lock);
    return stale;
}

static enum err status_run(struct store_tx *tx, struct store_op *self)
{
    struct access_status *s = (struct access_status *)(void *)self;
    struct device_row r;
    enum err e = tx_device_get(tx, s->identity, &r);
    if (e)
        return e == ERR_NOTFOUND ? ERR_DENIED : e;
    return r.status == DEVICE_ENABLED && span_eq(r.generation, s->generation) ? ERR_OK : ERR_DENIED;
}

void access_status_start(struct access_status *s)
{
    s->store.run = status_run;
    store_read(s->hub->store, &s->store);
}
