/* core/topic/username.c - reads and writes the MQTT client identifier and user name of a device. */
#include "core/topic/username.h"

#include "base/text.h"

bool identity_id_is_valid(struct span id)
{
    if (!id.n || id.n > IDENTITY_ID_MAX)
        return false;
    for (size_t i = 0; i < id.n; i++) {
        uint8_t c = id.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              (c && strchr("-.+%_#*?!(),:=@$'", c))))
            return false;
    }
    return true;
}

/* The client identifier: {d} or {d}/{m}. */
static bool client_id_parse(struct span client_id, struct topic_identity *who)
{
    const uint8_t *slash = client_id.n ? memchr(client_id.p, '/', client_id.n) : NULL;
    size_t n = slash ? (size_t)(slash - client_id.p) : client_id.n;
    who->device = span_of(client_id.p, n);
    who->module = slash ? span_skip(client_id, n + 1) : SPAN_NONE;
    return identity_id_is_valid(who->device) && (!slash || identity_id_is_valid(who->module));
}

/* A query value; the first of a name counts. */
static struct span query_get(struct span query, struct span key)
{
    while (query.n) {
        const uint8_t *amp = memchr(query.p, '&', query.n);
        struct span item = span_of(query.p, amp ? (size_t)(amp - query.p) : query.n);
        query = span_skip(query, amp ? item.n + 1 : item.n);
        if (span_starts(item, key) && item.n > key.n && item.p[key.n] == '=')
            return span_skip(item, key.n + 1);
    }
    return SPAN_NONE;
}

static struct span query_get2(struct span query, struct span key, struct span alias)
{
    struct span v = query_get(query, key);
    return v.n ? v : query_get(query, alias);
}

enum err username_parse(struct span client_id, struct span name, struct username *out)
{
    struct username u = { 0 };
    if (!client_id_parse(client_id, &u.who))
        return ERR_DENIED;
    const uint8_t *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
    if (!slash || slash == name.p)
        return ERR_DENIED;
    u.host = span_of(name.p, (size_t)(slash - name.p));
    struct span s = span_skip(name, u.host.n + 1);
    /* What the client is called is in its identifier: this settles ids with '?' in them. */
    if (!span_starts(s, client_id))
        return ERR_DENIED;
    s = span_skip(s, client_id.n);
    if (s.n && s.p[0] == '/') {
        s = span_skip(s, 1);
        if (s.n && s.p[0] == '?')
            s = span_skip(s, 1);
        else if (s.n && !memchr(s.p, '=', s.n))
            return ERR_DENIED; /* "host/dev/mod" by the client "dev" */
    } else if (s.n && s.p[0] == '?') {
        s = span_skip(s, 1);
    } else if (s.n) {
        return ERR_DENIED; /* "dev12" by the client "dev1" */
    }
    /* "host/dev/mod/?..." by the client "dev": a slash before any query name. */
    for (size_t i = 0; i < s.n && s.p[i] != '='; i++)
        if (s.p[i] == '/')
            return ERR_DENIED;
    u.api_version = query_get(s, SPAN("api-version"));
    u.client_type = query_get(s, SPAN("DeviceClientType"));
    u.model_id = query_get2(s, SPAN("model-id"), SPAN("digital-twin-model-id"));
    u.auth_chain = query_get(s, SPAN("auth-chain"));
    *out = u;
    return ERR_OK;
}

void client_id_encode(struct wr *w, const struct topic_identity *who)
{
    wr_put(w, who->device);
    if (who->module.n) {
        wr_u8(w, '/');
        wr_put(w, who->module);
    }
}

void username_encode(struct wr *w, struct span host, const struct topic_identity *who,
                     struct span client_type)
{
    wr_put(w, host);
    wr_u8(w, '/');
    client_id_encode(w, who);
    wr_str(w, "/?api-version=2021-04-12");
    if (client_type.n) {
        wr_str(w, "&DeviceClientType=");
        percent_encode(w, client_type);
    }
}
