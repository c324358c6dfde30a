/* core/storage/service_sas.c - see service_sas.h. */
#include "core/storage/service_sas.h"

#include "base/text.h"

static const char *const names[SERVICE_SAS_FIELDS] = { "sp",   "st",   "se",   "si",       "sip",
                                                       "spr",  "sv",   "sr",   "snapshot", "ses",
                                                       "rscc", "rscd", "rsce", "rscl",     "rsct" };

static enum err take(struct service_sas *s, bool *signed_, struct span name, struct span raw, struct wr *mem)
{
    size_t at = mem->len, n;
    bool is_sig = span_eq(name, SPAN("sig"));
    int i = 0;
    while (i < SERVICE_SAS_FIELDS && !span_eq(name, span_str(names[i])))
        i++;
    if (i == SERVICE_SAS_FIELDS && !is_sig)
        return ERR_OK;
    percent_decode(mem, raw);
    if (!wr_ok(mem))
        return ERR_LIMIT;
    struct span v = span_of(mem->p + at, mem->len - at);
    if (is_sig) {
        uint8_t sig[SHA256_LEN + 1];
        if (*signed_ || base64_decode(v, sig, sizeof sig, &n) || n != SHA256_LEN)
            return ERR_PROTO;
        memcpy(s->sig, sig, SHA256_LEN);
        *signed_ = true;
        return ERR_OK;
    }
    if (s->field[i].p)
        return ERR_PROTO;
    s->field[i] = v;
    return ERR_OK;
}

enum err service_sas_parse(struct span query, struct wr *mem, struct service_sas *out)
{
    struct service_sas s = { { { NULL, 0 } }, { 0 } };
    bool has_sig = false;
    while (query.n) {
        size_t end = 0, eq = 0;
        while (end < query.n && query.p[end] != '&')
            end++;
        while (eq < end && query.p[eq] != '=')
            eq++;
        enum err e = take(&s, &has_sig, span_of(query.p, eq),
                          eq < end ? span_of(query.p + eq + 1, end - eq - 1) : SPAN_NONE, mem);
        if (e)
            return e;
        query = span_skip(query, end < query.n ? end + 1 : end);
    }
    if (!has_sig)
        return ERR_NOTFOUND;
    if (!s.field[SERVICE_SAS_SV].n || !s.field[SERVICE_SAS_SR].n || !s.field[SERVICE_SAS_SE].n)
        return ERR_PROTO;
    *out = s;
    return ERR_OK;
}

/* Dates of one form compare as text. */
static bool before(struct span a, const char *b)
{
    size_t n = strlen(b);
    int c = memcmp(a.p, b, a.n < n ? a.n : n);
    return c < 0 || (c == 0 && a.n < n);
}

static void sign(const struct service_sas *s, const struct crypto_ops *c, struct span key,
                 struct span account, struct span container, struct span blob, uint8_t out[SHA256_LEN])
{
    struct span line = SPAN("\n"), slash = SPAN("/"), sv = s->field[SERVICE_SAS_SV], parts[48];
    bool of_blob = !span_eq(s->field[SERVICE_SAS_SR], SPAN("c"));
    size_t nr = 0;
    for (int i = 0; i < SERVICE_SAS_FIELDS; i++) {
        if ((i == SERVICE_SAS_SR || i == SERVICE_SAS_SNAPSHOT) && before(sv, "2018-11-09"))
            continue;
        if (i == SERVICE_SAS_SES && before(sv, "2020-12-06"))
            continue;
        if (i == SERVICE_SAS_SI) { /* the canonical name stands before it */
            parts[nr++] = SPAN("/blob/");
            parts[nr++] = account;
            parts[nr++] = slash;
            parts[nr++] = container;
            if (of_blob) {
                parts[nr++] = slash;
                parts[nr++] = blob;
            }
            parts[nr++] = line;
        }
        parts[nr++] = s->field[i];
        if (i < SERVICE_SAS_RSCT)
            parts[nr++] = line;
    }
    c->hmac_sha256(key, parts, nr, out);
}

bool service_sas_verify(const struct service_sas *s, const struct crypto_ops *c, struct span key,
                        struct span account, struct span container, struct span blob)
{
    uint8_t sig[SHA256_LEN];
    struct span sr = s->field[SERVICE_SAS_SR];
    if (!key.n || before(s->field[SERVICE_SAS_SV], "2015-04-05") ||
        (!span_eq(sr, SPAN("b")) && !span_eq(sr, SPAN("c"))))
        return false;
    sign(s, c, key, account, container, blob, sig);
    return span_eq_ct(span_of(sig, sizeof sig), span_of(s->sig, sizeof s->sig));
}

/* A time, or a day alone. */
static enum err when(struct span s, uint64_t *wall_ms)
{
    char day[24];
    if (s.n != 10)
        return iso8601_decode(s, wall_ms);
    memcpy(day, s.p, 10);
    memcpy(day + 10, "T00:00:00Z", 11);
    return iso8601_decode(span_str(day), wall_ms);
}

bool service_sas_is_live(const struct service_sas *s, uint64_t wall_ms)
{
    uint64_t from = 0, to = 0;
    if (s->field[SERVICE_SAS_ST].n && when(s->field[SERVICE_SAS_ST], &from))
        return false;
    return !when(s->field[SERVICE_SAS_SE], &to) && from <= wall_ms && wall_ms < to;
}

bool service_sas_permits(const struct service_sas *s, char letter)
{
    struct span sp = s->field[SERVICE_SAS_SP];
    return sp.n && memchr(sp.p, letter, sp.n);
}

void service_sas_encode(struct wr *w, const struct crypto_ops *c, struct span key, struct span account,
                        struct span container, struct span blob, uint64_t end_wall_ms,
                        struct span permissions)
{
    struct service_sas s = { { { NULL, 0 } }, { 0 } };
    uint8_t end[32], sig[48];
    struct wr t = { end, sizeof end, 0 }, b = { sig, sizeof sig, 0 };
    iso8601_encode(&t, end_wall_ms);
    end[19] = 'Z'; /* seconds are enough */
    s.field[SERVICE_SAS_SV] = SPAN("2018-03-28");
    s.field[SERVICE_SAS_SR] = blob.n ? SPAN("b") : SPAN("c");
    s.field[SERVICE_SAS_SE] = span_of(end, 20);
    s.field[SERVICE_SAS_SP] = permissions;
    sign(&s, c, key, account, container, blob, s.sig);
    base64_encode(&b, span_of(s.sig, sizeof s.sig));
    wr_str(w, "?sv=2018-03-28&sr=");
    wr_put(w, s.field[SERVICE_SAS_SR]);
    wr_str(w, "&sig=");
    percent_encode(w, wr_span(&b));
    wr_str(w, "&se=");
    percent_encode(w, s.field[SERVICE_SAS_SE]);
    wr_str(w, "&sp=");
    wr_put(w, permissions);
}
