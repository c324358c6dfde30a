/* hub/domain/provisioning/provisioning.c - the decision about one bootstrap request. */
#include "hub/domain/provisioning/provisioning.h"

#include "base/text.h"
#include "core/sas/sas.h"
#include "hub/domain/audit.h"
#include "hub/domain/metrics.h"
#include "hub/domain/update/trust.h"

#define TRUST_ANSWER_MAX 4096u

bool provisioning_signature_ok(const struct hub *h, struct span pub, struct span body, struct span sig)
{
    static const char label[] = "roost-bootstrap-v1"; /* its terminating zero is part of it */
    struct span parts[2] = { span_of(label, sizeof label), body };
    return pub.n == ED25519_KEY_LEN && sig.n == ED25519_SIG_LEN &&
           h->crypto->ed25519_verify(pub.p, parts, 2, sig.p);
}

static void sha256_of(const struct hub *h, struct span s, uint8_t out[SHA256_LEN])
{
    struct sha256 ctx;
    h->crypto->sha256_init(&ctx);
    h->crypto->sha256_update(&ctx, s);
    h->crypto->sha256_final(&ctx, out);
}

void provisioning_id_of_key(const struct hub *h, struct span pub, struct wr *w)
{
    uint8_t hash[SHA256_LEN];
    sha256_of(h, pub, hash);
    wr_str(w, "d-");
    hex_encode(w, span_of(hash, 10));
}

/* ---- fleet tokens -------------------------------------------------------------------------------- */

enum token_is { TOKEN_NONE, TOKEN_GOOD, TOKEN_UNKNOWN, TOKEN_EXPIRED, TOKEN_USED_UP, TOKEN_HARDWARE };
struct token_check {
    enum token_is is;
    struct token_row row; /* in the arena; set when the token is known */
};

static enum err token_copy(struct arena *a, const struct token_row *in, struct token_row *out)
{
    *out = *in;
    out->name = arena_copy(a, in->name);
    out->hash = arena_copy(a, in->hash);
    out->hardware = arena_copy(a, in->hardware);
    return arena_err(a);
}

static enum err token_check(struct hub *h, struct store_tx *tx, struct arena *a,
                            const struct bootstrap_ask *ask, struct token_check *out)
{
    uint8_t hash[SHA256_LEN];
    struct token_row row;
    struct hardware hw;
    out->is = TOKEN_NONE;
    if (!ask->token.n)
        return ERR_OK;
    sha256_of(h, ask->token, hash);
    enum err e = tx_token_get(tx, span_of(hash, sizeof hash), &row);
    if (e == ERR_NOTFOUND) {
        out->is = TOKEN_UNKNOWN;
        return ERR_OK;
    }
    if (!e)
        e = token_copy(a, &row, &out->row);
    if (e)
        return e;
    out->is = TOKEN_GOOD;
    if (out->row.expires_ms && out->row.expires_ms <= h->wall_ms())
        out->is = TOKEN_EXPIRED;
    else if (!out->row.uses_left)
        out->is = TOKEN_USED_UP;
    else if (out->row.hardware.n &&
             (hardware_parse(out->row.hardware, &hw) || !span_eq(hw.product, ask->hw.product) ||
              hw.hw_class != ask->hw.hw_class))
        out->is = TOKEN_HARDWARE;
    return ERR_OK;
}

static enum err token_spend(struct store_tx *tx, struct token_check *t)
{
    if (t->row.uses_left == UINT64_MAX)
        return ERR_OK;
    t->row.uses_left--;
    return tx_token_put(tx, &t->row);
}

struct naming {
    struct span name;
    size_t nr; /* tokens that were looked at */
};
static enum err same_name(void *ctx, const struct token_row *r)
{
    struct naming *n = ctx;
    n->nr++;
    return span_eq(n->name, r->name) ? ERR_EXISTS : ERR_OK;
}

enum err fleet_token_create(struct hub *h, struct store_tx *tx, struct arena *a, struct fleet_token *t)
{
    uint8_t secret[20], hash[SHA256_LEN];
    struct naming n = { t->name, 0 };
    if (t->name.n < 1 || t->name.n > 64 || !identity_id_ok(t->name))
        return ERR_LIMIT;
    if (t->text.n && (t->text.n < FLEET_TOKEN_MIN || t->text.n > FLEET_TOKEN_MAX))
        return ERR_LIMIT;
    enum err e = tx_token_list(tx, same_name, &n);
    if (!e && n.nr >= FLEET_TOKENS_MAX)
        e = ERR_FULL;
    if (e)
        return e;
    if (!t->text.n) {
        struct wr w = { arena_alloc(a, 64), 64, 0 };
        if ((e = arena_err(a)))
            return e;
        h->crypto->random(secret, sizeof secret);
        wr_str(&w, "rft-");
        hex_encode(&w, span_of(secret, sizeof secret));
        t->text = wr_span(&w);
    }
    sha256_of(h, t->text, hash);
    struct token_row old;
    e = tx_token_get(tx, span_of(hash, sizeof hash), &old);
    if (e != ERR_NOTFOUND)
        return e ? e : ERR_EXISTS;
    struct token_row row = { .name = t->name,
                             .hash = span_of(hash, sizeof hash),
                             .hardware = t->hardware,
                             .created_ms = h->wall_ms(),
                             .expires_ms = t->expires_ms,
                             .uses_left = t->uses };
    return tx_token_put(tx, &row);
}

enum err fleet_token_delete(struct store_tx *tx, struct span name)
{
    struct naming n = { name, 0 };
    enum err e = tx_token_list(tx, same_name, &n);
    if (e != ERR_EXISTS)
        return e ? e : ERR_NOTFOUND;
    return tx_token_delete(tx, name);
}

/* ---- the decision -------------------------------------------------------------------------------- */

struct decision { /* what the steps share */
    struct hub *h;
    struct store_tx *tx;
    struct arena *a;
    const struct bootstrap_ask *ask;
    struct bootstrap_answer *out;
    struct token_check token;
    struct span id;
};

static enum err note(struct decision *d, const char *what, const char *why)
{
    return audit_push(d->h, d->tx, d->ask->source, what, d->id, "%.*s:%u %s%s%.*s", (int)d->ask->hw.product.n,
                      (const char *)d->ask->hw.product.p, (unsigned)d->ask->hw.hw_class, why,
                      d->token.row.name.n ? " token:" : "", (int)d->token.row.name.n,
                      d->token.row.name.n ? (const char *)d->token.row.name.p : "");
}

static enum err refuse(struct decision *d, enum bootstrap_verdict v, const char *code, const char *message)
{
    d->out->verdict = v;
    d->out->code = code;
    d->out->message = message;
    return note(d, "bootstrap.refused", code);
}

static enum err refuse_token(struct decision *d)
{
    switch (d->token.is) {
    case TOKEN_EXPIRED:
        return refuse(d, BOOTSTRAP_DENIED, "token-expired",
                      "the fleet token has expired: make a new one with `roost token create`");
    case TOKEN_USED_UP:
        return refuse(d, BOOTSTRAP_DENIED, "token-used-up",
                      "the fleet token has let in as many devices as it may");
    case TOKEN_HARDWARE:
        return refuse(d, BOOTSTRAP_DENIED, "token-hardware",
                      "the fleet token is for other hardware than the request names");
    default:
        return refuse(d, BOOTSTRAP_DENIED, "token-unknown", "this hub knows no such fleet token");
    }
}

static enum err assign(struct decision *d, const struct device_row *r, const char *why)
{
    d->out->verdict = BOOTSTRAP_ASSIGNED;
    enum err e = identity_copy(d->a, r, &d->out->device);
    if (!e)
        e = trust_records_after(d->h, d->tx, d->a, d->ask->trust_version, TRUST_ANSWER_MAX, &d->out->trust);
    return e ? e : note(d, "bootstrap.assigned", why);
}

static enum err wait_for_approval(struct decision *d, const struct device_row *r)
{
    d->out->verdict = BOOTSTRAP_PENDING;
    return identity_copy(d->a, r, &d->out->device);
}

/* Somebody asks under the id of a device that already uses its key, without proof. Nothing about the device
 * changes: whoever merely knows an id must not be able to shut its owner out. The first such request since
 * the last approval is noted. */
static enum err claim(struct decision *d, const struct device_row *r)
{
    uint8_t mem[DEVICE_ID_MAX + 8];
    struct wr key = { mem, sizeof mem, 0 };
    struct span at;
    struct wr now = { arena_alloc(d->a, 24), 24, 0 };
    enum err e = arena_err(d->a);
    if (e)
        return e;
    wr_le64(&now, r->etag); /* an approval changes the row, and the next claim is noted again */
    wr_str(&key, "claim/");
    wr_put(&key, r->id);
    e = tx_meta_get(d->tx, wr_span(&key), &at);
    if (e && e != ERR_NOTFOUND)
        return e;
    if (e || !span_eq(at, wr_span(&now))) {
        e = tx_meta_put(d->tx, wr_span(&key), wr_span(&now));
        if (!e)
            e = note(d, "bootstrap.claim", "asks for the key of a device in use");
        if (e)
            return e;
    }
    return wait_for_approval(d, r);
}

static bool sas_proof(const struct decision *d, const struct device_row *r)
{
    struct sas_token t;
    struct sas_scope scope = { d->h->names, SPAN_NONE };
    if (!d->ask->authorization.n || sas_parse(d->ask->authorization, &t) || t.policy_len)
        return false;
    return sas_audience(t.sr, &scope, r->id, SPAN_NONE) == SAS_REACH_DEVICE &&
           sas_is_live(&t, d->h->wall_ms() / 1000, d->h->settings.sas_skew_s) &&
           (sas_verify(&t, d->h->crypto, r->key1) || sas_verify(&t, d->h->crypto, r->key2));
}

/* Has the key been used since it was handed out? Either a check-in said so in the row, or the device was
 * connected. */
static enum err key_is_used(struct decision *d, const struct device_row *r, bool *used)
{
    struct report_row rep;
    *used = !r->issued_unused;
    if (*used)
        return ERR_OK;
    enum err e = tx_report_get(d->tx, r->id, &rep);
    if (e == ERR_NOTFOUND)
        return ERR_OK;
    if (!e)
        *used = rep.connected || rep.activity_ms > r->updated_ms;
    return e;
}

static bool issued_for_this_token(const struct decision *d, const struct device_row *r)
{
    struct span origin = r->origin;
    if (!span_starts(origin, SPAN("token:")))
        return true; /* let in by an operator */
    return d->token.row.name.n && span_eq(span_skip(origin, 6), d->token.row.name);
}

/* The row follows what a proven device says about itself; a new public key only with the old one or the
 * shared key, which `proven` stands for. */
static enum err follow(struct decision *d, struct device_row *r)
{
    const struct bootstrap_ask *ask = d->ask;
    bool key_differs = ask->public_key.n && !span_eq(ask->public_key, r->public_key);
    if (span_eq(r->product, ask->hw.product) && r->hw_class == ask->hw.hw_class &&
        r->hw_rev == ask->hw.hw_rev && !key_differs)
        return ERR_OK;
    r->product = ask->hw.product;
    r->hw_class = ask->hw.hw_class;
    r->hw_rev = ask->hw.hw_rev;
    if (key_differs)
        r->public_key = ask->public_key;
    r->updated_ms = d->h->wall_ms();
    d->out->changed = true;
    return tx_device_put(d->tx, r, 0, &r->etag);
}

static enum err came_by_token(struct decision *d, struct device_row *r)
{
    struct wr origin = { arena_alloc(d->a, 80), 80, 0 };
    if (!origin.p)
        return ERR_NOMEM;
    wr_str(&origin, "token:");
    wr_put(&origin, d->token.row.name);
    r->origin = wr_span(&origin);
    return ERR_OK;
}

static enum err admit_pending(struct decision *d)
{
    struct device_row r;
    enum err e = identity_approve(d->h, d->tx, d->a, d->id, &r);
    if (e)
        return e;
    e = came_by_token(d, &r);
    if (e)
        return e;
    e = tx_device_put(d->tx, &r, 0, &r.etag);
    if (!e)
        e = token_spend(d->tx, &d->token);
    d->out->changed = true;
    return e ? e : assign(d, &r, "was waiting,");
}

static enum err known(struct decision *d, struct device_row *r, bool by_key)
{
    bool proven = by_key || sas_proof(d, r);
    bool token_bad = d->token.is != TOKEN_NONE && d->token.is != TOKEN_GOOD;
    bool used;
    enum err e;
    d->id = r->id;
    if (!proven && (r->public_key.n || d->ask->public_key.n))
        return refuse(d, BOOTSTRAP_FORBIDDEN, "id-taken",
                      "another device has this id: propose another one, or none");
    switch (r->status) {
    case DEVICE_DISABLED:
        return refuse(d, BOOTSTRAP_FORBIDDEN, "device-disabled",
                      "this device is disabled: an operator can enable it");
    case DEVICE_PENDING:
        if (token_bad)
            return refuse_token(d);
        return d->token.is == TOKEN_GOOD ? admit_pending(d) : wait_for_approval(d, r);
    default:
        break;
    }
    if (proven) {
        e = follow(d, r);
        return e ? e : assign(d, r, by_key ? "proved its public key" : "proved its shared key");
    }
    e = key_is_used(d, r, &used);
    if (e)
        return e;
    if (!used && issued_for_this_token(d, r))
        return assign(d, r, "not used yet, told again");
    return token_bad && d->token.is == TOKEN_UNKNOWN ? refuse_token(d) : claim(d, r);
}

static enum err unknown(struct decision *d)
{
    struct device_row r = { .id = d->id,
                            .public_key = d->ask->public_key,
                            .product = d->ask->hw.product,
                            .hw_class = d->ask->hw.hw_class,
                            .hw_rev = d->ask->hw.hw_rev,
                            .issued_unused = true };
    enum err e;
    if (d->token.is == TOKEN_GOOD) {
        if ((e = came_by_token(d, &r)))
            return e;
        r.status = DEVICE_ENABLED;
        e = identity_create(d->h, d->tx, d->a, &r, &r);
        if (!e)
            e = token_spend(d->tx, &d->token);
        d->out->changed = true;
        return e ? e : assign(d, &r, "new,");
    }
    if (d->token.is != TOKEN_NONE)
        return refuse_token(d);
    if (!d->h->settings.bootstrap_open)
        return refuse(d, BOOTSTRAP_FORBIDDEN, "policy-closed",
                      "this hub takes new devices with a fleet token only");
    uint64_t by_status[3];
    e = tx_device_count(d->tx, by_status);
    if (e)
        return e;
    if (by_status[DEVICE_PENDING] >= PROVISIONING_PENDING_MAX)
        return refuse(d, BOOTSTRAP_BUSY, "pending-full",
                      "too many devices wait for approval: an operator has to approve or delete some");
    r.status = DEVICE_PENDING;
    r.origin = SPAN("open");
    e = identity_create(d->h, d->tx, d->a, &r, &r);
    if (!e)
        e = note(d, "bootstrap.pending", "waits for approval");
    return e ? e : wait_for_approval(d, &r);
}

enum err provisioning_decide(struct hub *h, struct store_tx *tx, struct arena *a,
                             const struct bootstrap_ask *ask, struct bootstrap_answer *out)
{
    struct decision d = { .h = h, .tx = tx, .a = a, .ask = ask, .out = out };
    struct device_row r;
    uint8_t made[32];
    struct wr w = { made, sizeof made, 0 };
    *out = (struct bootstrap_answer){ .verdict = BOOTSTRAP_PENDING };
    if (!ask->id.n && !ask->public_key.n)
        return ERR_PROTO;
    if (ask->id.n) {
        d.id = ask->id;
    } else {
        provisioning_id_of_key(h, ask->public_key, &w);
        d.id = wr_span(&w);
    }
    enum err e = token_check(h, tx, a, ask, &d.token);
    if (e)
        return e;
    bool by_key = false;
    e = ERR_NOTFOUND;
    if (ask->public_key.n) {
        e = tx_device_by_public_key(tx, ask->public_key, &r);
        by_key = !e;
    }
    if (e == ERR_NOTFOUND)
        e = tx_device_get(tx, d.id, &r);
    if (e == ERR_NOTFOUND)
        return unknown(&d);
    if (!e)
        e = identity_copy(a, &r, &r);
    return e ? e : known(&d, &r, by_key);
}

void provisioning_count(struct hub *h, enum bootstrap_verdict v)
{
    if (v == BOOTSTRAP_ASSIGNED)
        METRIC_ADD(h, bootstrap_issued_total, 1);
    else if (v == BOOTSTRAP_PENDING)
        METRIC_ADD(h, bootstrap_pending_total, 1);
    else
        METRIC_ADD(h, bootstrap_refused_total, 1);
}
