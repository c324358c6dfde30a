/* core/trust/bootstrap_string.c - reads and writes the bootstrap string. */
#include "core/trust/bootstrap_string.h"

#include "base/text.h"

#define HTTPS_PORT 443u

static size_t find(struct span s, uint8_t ch) /* s.n: not there */
{
    size_t i = 0;
    while (i < s.n && s.p[i] != ch)
        i++;
    return i;
}

static bool host_is_ok(struct span host, bool is_v6)
{
    for (size_t i = 0; i < host.n; i++) {
        uint8_t ch = host.p[i];
        bool hex = (ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F');
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        if (is_v6 ? !(hex || ch == ':' || ch == '.')
                  : !(hex || letter || ch == '.' || ch == '-' || ch == '_'))
            return false;
    }
    return host.n > 0;
}

/* "host", "host:port", "[v6]", "[v6]:port" */
static enum err authority_take(struct span s, struct bootstrap_string *b)
{
    bool is_v6 = s.n && s.p[0] == '[';
    size_t n;
    if (is_v6) {
        s = span_skip(s, 1);
        n = find(s, ']');
        if (n == s.n)
            return ERR_PROTO;
        b->host = span_of(s.p, n);
        s = span_skip(s, n + 1);
    } else {
        n = find(s, ':');
        b->host = span_of(s.p, n);
        s = span_skip(s, n);
    }
    if (b->host.n > BOOTSTRAP_HOST_MAX)
        return ERR_LIMIT;
    if (!host_is_ok(b->host, is_v6))
        return ERR_PROTO;
    b->port = HTTPS_PORT;
    if (s.n) {
        uint64_t port;
        if (s.p[0] != ':' || s.n > 6 || u64_parse(span_skip(s, 1), 65535, &port) || port == 0)
            return ERR_PROTO;
        b->port = (uint16_t)port;
    }
    return ERR_OK;
}

static enum err pin_take(struct span *s, struct span name, uint8_t out[SHA256_LEN])
{
    size_t n = name.n + 2 * SHA256_LEN;
    if (!span_starts(*s, name) || s->n < n)
        return ERR_PROTO;
    enum err e = hex_decode(span_of(s->p + name.n, 2 * SHA256_LEN), out, SHA256_LEN);
    *s = span_skip(*s, n);
    return e ? ERR_PROTO : ERR_OK;
}

enum err bootstrap_string_decode(struct span text, struct bootstrap_string *out)
{
    struct bootstrap_string b = { 0 };
    struct span scheme = SPAN("https://"), rest;
    enum err e;

    if (!span_starts(text, scheme))
        return ERR_PROTO;
    b.url = span_of(text.p, find(text, '#'));
    e = authority_take(span_skip(b.url, scheme.n), &b);
    if (e)
        return e;
    rest = span_skip(text, b.url.n);
    if (pin_take(&rest, SPAN("#ca="), b.ca_pin))
        return ERR_PROTO;
    if (rest.n) {
        if (pin_take(&rest, SPAN("&root="), b.root_pin) || rest.n)
            return ERR_PROTO;
        b.has_root = true;
    }
    *out = b;
    return ERR_OK;
}

void bootstrap_string_encode(struct wr *w, const struct bootstrap_string *b)
{
    bool is_v6 = find(b->host, ':') < b->host.n;
    wr_str(w, is_v6 ? "https://[" : "https://");
    wr_put(w, b->host);
    wr_str(w, is_v6 ? "]" : "");
    if (b->port != HTTPS_PORT) {
        wr_u8(w, ':');
        wr_u32(w, b->port);
    }
    wr_str(w, "#ca=");
    hex_encode(w, span_of(b->ca_pin, SHA256_LEN));
    if (b->has_root) {
        wr_str(w, "&root=");
        hex_encode(w, span_of(b->root_pin, SHA256_LEN));
    }
}
