/* core/sas/sas.c - reads, checks and makes shared access signatures. */
#include "core/sas/sas.h"

#include "base/text.h"

#include <assert.h>

/* Cuts s at the first `c`; *rest is what follows it. Without one, all of s. */
static struct span cut_at(struct span s, uint8_t c, struct span *rest)
{
    const uint8_t *at = s.n ? memchr(s.p, c, s.n) : NULL;
    size_t n = at ? (size_t)(at - s.p) : s.n;
    *rest = span_skip(s, at ? n + 1 : n);
    return span_of(s.p, n);
}

/* Percent-encoded base64 of 32 bytes; a raw '+' is a plus. */
static enum err sig_decode(struct span text, uint8_t sig[SHA256_LEN])
{
    uint8_t room[48], bytes[36];
    struct wr w = { room, sizeof room, 0 };
    size_t n;
    percent_decode(&w, text);
    if (!wr_ok(&w) || base64_decode(wr_span(&w), bytes, sizeof bytes, &n) || n != SHA256_LEN)
        return ERR_PROTO;
    memcpy(sig, bytes, SHA256_LEN);
    return ERR_OK;
}

/* Decimal seconds; a fraction is tolerated and cut off. */
static enum err expiry_decode(struct span text, uint64_t *expiry_s)
{
    struct span fraction, whole = cut_at(text, '.', &fraction);
    uint64_t ignored, v;
    if (u64_parse(whole, UINT64_MAX / 1000, &v)) /* so that it may be told in milliseconds */
        return ERR_PROTO;
    if (whole.n < text.n && u64_parse(fraction, UINT64_MAX, &ignored) == ERR_PROTO)
        return ERR_PROTO;
    *expiry_s = v;
    return ERR_OK;
}

enum err sas_parse(struct span text, struct sas_token *out)
{
    static const struct span prefix = { (const uint8_t *)"SharedAccessSignature ", 22 };
    struct sas_token t = { 0 };
    struct span rest, sig = SPAN_NONE, skn = SPAN_NONE;
    bool has_skn = false;
    if (!span_starts(text, prefix))
        return ERR_PROTO;
    rest = span_skip(text, prefix.n);
    while (rest.n) {
        struct span value, field = cut_at(rest, '&', &rest), name = cut_at(field, '=', &value);
        struct span *slot = span_ieq(name, SPAN("sr"))    ? &t.sr
                            : span_ieq(name, SPAN("se"))  ? &t.se
                            : span_ieq(name, SPAN("sig")) ? &sig
                            : span_ieq(name, SPAN("skn")) ? &skn
                                                          : NULL;
        if (!slot)
            continue;
        if (slot->n || (slot == &skn && has_skn))
            return ERR_PROTO; /* twice: which one would be signed? */
        has_skn = has_skn || slot == &skn;
        *slot = value;
    }
    if (!t.sr.n || expiry_decode(t.se, &t.expiry_s) || sig_decode(sig, t.sig))
        return ERR_PROTO;
    struct wr policy = { t.policy, sizeof t.policy, 0 };
    percent_decode(&policy, skn);
    if (!wr_ok(&policy) || t.sr.n > SAS_SR_MAX)
        return ERR_LIMIT;
    t.policy_len = (uint8_t)policy.len;
    *out = t;
    return ERR_OK;
}

static void sign(const struct crypto_ops *c, struct span key, struct span sr, struct span se,
                 uint8_t out[SHA256_LEN])
{
    const struct span parts[] = { sr, SPAN("\n"), se };
    c->hmac_sha256(key, parts, 3, out);
}

bool sas_verify(const struct sas_token *t, const struct crypto_ops *c, struct span key)
{
    uint8_t want[SHA256_LEN];
    if (!key.n)
        return false;
    sign(c, key, t->sr, t->se, want);
    return span_eq_ct(span_of(want, sizeof want), span_of(t->sig, sizeof t->sig));
}

bool sas_is_live(const struct sas_token *t, uint64_t now_s, uint32_t skew_s)
{
    return now_s <= t->expiry_s + skew_s; /* expiry is far from wrapping: see expiry_decode */
}

/* ---- audience (5.3)
 * ------------------------------------------------------------------------------------------ */

static bool host_is_ours(struct span host, const struct sas_scope *scope)
{
    if (!host.n)
        return false;
    for (const char *const *name = scope->names; name && *name; name++)
        if (span_ieq(host, span_str(*name)))
            return true;
    return scope->host.n && span_ieq(host, scope->host);
}

static struct span trim_slashes(struct span s)
{
    while (s.n && s.p[s.n - 1] == '/')
        s.n--;
    return s;
}

/* The resource as plain text: host, and the path without slashes around it. */
struct audience {
    struct span host, path;
};

/* A scheme before the host, and a port behind it, may be there; they mean nothing. */
static struct span without_scheme(struct span s)
{
    static const char *const schemes[] = { "amqps://", "https://", "http://", "sb://" };
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct span scheme = span_str(schemes[i]);
        if (s.n > scheme.n && span_ieq(span_of(s.p, scheme.n), scheme))
            return span_skip(s, scheme.n);
    }
    return s;
}

static struct span without_port(struct span host)
{
    size_t n = host.n;
    while (n && host.p[n - 1] >= '0' && host.p[n - 1] <= '9')
        n--;
    return n && n < host.n && host.p[n - 1] == ':' ? span_of(host.p, n - 1) : host;
}

static bool audience_read(struct span text, const struct sas_scope *scope, struct audience *a)
{
    struct span path;
    a->host = without_port(cut_at(without_scheme(text), '/', &path));
    a->path = trim_slashes(path);
    return host_is_ours(a->host, scope);
}

static enum sas_reach reach_of(struct span path, struct span device, struct span module)
{
    struct span word, id;
    if (!path.n)
        return SAS_REACH_HUB;
    word = cut_at(path, '/', &path);
    if (!span_ieq(word, SPAN("devices")))
        return SAS_REACH_NONE;
    if (!path.n)
        return SAS_REACH_HUB;
    id = cut_at(path, '/', &path);
    if (!span_eq(id, device))
        return SAS_REACH_NONE;
    word = cut_at(path, '/', &path);
    if (!span_ieq(word, SPAN("modules")))
        return SAS_REACH_DEVICE; /* further segments are of no meaning to us */
    id = cut_at(path, '/', &path);
    return module.n && span_eq(id, module) ? SAS_REACH_MODULE : SAS_REACH_NONE;
}

/* Runs over both readings of the resource: as it came when it shows a slash (some sign plain text, where an
 * id with '%' must not be decoded), and percent-decoded. */
static bool audience_readings(struct span sr, const struct sas_scope *scope, uint8_t room[SAS_SR_MAX],
                              struct audience out[2], size_t *nr)
{
    struct wr w = { room, SAS_SR_MAX, 0 };
    *nr = 0;
    if (sr.n && memchr(sr.p, '/', sr.n) && audience_read(sr, scope, &out[*nr]))
        ++*nr;
    percent_decode(&w, sr);
    if (wr_ok(&w) && audience_read(wr_span(&w), scope, &out[*nr]))
        ++*nr;
    return *nr > 0;
}

enum sas_reach sas_audience(struct span sr, const struct sas_scope *scope, struct span device,
                            struct span module)
{
    uint8_t room[SAS_SR_MAX];
    struct audience a[2];
    size_t nr;
    if (!audience_readings(sr, scope, room, a, &nr))
        return SAS_REACH_NONE;
    enum sas_reach reach = reach_of(a[0].path, device, module);
    return reach || nr == 1 ? reach : reach_of(a[1].path, device, module);
}

static bool path_covers(struct span prefix, struct span path)
{
    while (path.n && path.p[0] == '/')
        path = span_skip(path, 1);
    path = trim_slashes(path);
    if (!prefix.n)
        return true;
    return span_starts(path, prefix) && (path.n == prefix.n || path.p[prefix.n] == '/');
}

bool sas_audience_covers(struct span sr, const struct sas_scope *scope, struct span path)
{
    uint8_t room[SAS_SR_MAX];
    struct audience a[2];
    size_t nr;
    if (!audience_readings(sr, scope, room, a, &nr))
        return false;
    return path_covers(a[0].path, path) || (nr == 2 && path_covers(a[1].path, path));
}

/* ---- making
 * -------------------------------------------------------------------------------------------------- */

void sas_resource_encode(struct wr *w, struct span host, struct span device, struct span module)
{
    wr_put(w, host);
    if (device.n) {
        wr_str(w, "/devices/");
        wr_put(w, device);
    }
    if (module.n) {
        wr_str(w, "/modules/");
        wr_put(w, module);
    }
}

void sas_token_encode(struct wr *w, const struct crypto_ops *c, struct span resource, struct span key,
                      uint64_t expiry_s, struct span policy)
{
    uint8_t sr_room[SAS_SR_MAX], se_room[20], sig[SHA256_LEN], sig_room[48];
    struct wr sr = { sr_room, sizeof sr_room, 0 }, text = { sig_room, sizeof sig_room, 0 };
    size_t at = sizeof se_room;
    do
        se_room[--at] = (uint8_t)('0' + expiry_s % 10);
    while (expiry_s /= 10);
    struct span se = span_of(se_room + at, sizeof se_room - at);
    percent_encode(&sr, resource);
    assert(wr_ok(&sr));
    sign(c, key, wr_span(&sr), se, sig);
    base64_encode(&text, span_of(sig, sizeof sig));
    wr_str(w, "SharedAccessSignature sr=");
    wr_put(w, wr_span(&sr));
    wr_str(w, "&sig=");
    percent_encode(w, wr_span(&text));
    wr_str(w, "&se=");
    wr_put(w, se);
    if (policy.n) {
        wr_str(w, "&skn=");
        percent_encode(w, policy);
    }
}
