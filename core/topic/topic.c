/* core/topic/topic.c - reads the topics of an Azure IoT Hub and maps filters to channels. */
#include "core/topic/topic.h"

#include "base/text.h"

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Takes `prefix` off the front of *s. */
static bool take(struct span *s, struct span prefix)
{
    if (!span_starts(*s, prefix))
        return false;
    *s = span_skip(*s, prefix.n);
    return true;
}

/* Takes "devices/{d}/" or "devices/{d}/modules/{m}/". */
static bool take_identity(struct span *s, const struct topic_identity *who)
{
    struct span t = *s;
    if (!take(&t, SPAN("devices/")) || !take(&t, who->device) || !take(&t, SPAN("/")))
        return false;
    if (who->module.n && (!take(&t, SPAN("modules/")) || !take(&t, who->module) || !take(&t, SPAN("/"))))
        return false;
    *s = t;
    return true;
}

static bool has_byte(struct span s, uint8_t c)
{
    return s.n && memchr(s.p, c, s.n);
}

/* A wildcard where none may be. A raw '+' inside a property bag is a plus (8.2) and judged there. */
static bool has_wildcard(struct span s)
{
    return has_byte(s, '+') || has_byte(s, '#');
}

/* What stands before the first '/', which must be there; *s is then what follows it. */
static bool take_level(struct span *s, struct span *level)
{
    const uint8_t *slash = s->n ? memchr(s->p, '/', s->n) : NULL;
    if (!slash || slash == s->p)
        return false;
    *level = span_of(s->p, (size_t)(slash - s->p));
    *s = span_skip(*s, level->n + 1);
    return true;
}

/* "?$rid={rid}[&$version={n}]", in any order, further items ignored; the last level of twin, method and
 * credential topics. */
static enum err query_parse(struct span s, struct topic *out)
{
    if (!take(&s, SPAN("?")) || has_wildcard(s))
        return ERR_PROTO;
    while (s.n) {
        const uint8_t *amp = memchr(s.p, '&', s.n);
        struct span item = span_of(s.p, amp ? (size_t)(amp - s.p) : s.n);
        s = span_skip(s, amp ? item.n + 1 : item.n);
        if (take(&item, SPAN("$rid="))) {
            if (out->has_rid)
                return ERR_PROTO;
            out->rid = item;
            out->has_rid = true;
        } else if (take(&item, SPAN("$version="))) {
            if (out->has_version || u64_parse(item, UINT64_MAX, &out->version))
                return ERR_PROTO;
            out->has_version = true;
        }
    }
    return ERR_OK;
}

static enum err status_parse(struct span s, int32_t *status)
{
    bool minus = take(&s, SPAN("-"));
    uint64_t v;
    if (u64_parse(s, INT32_MAX, &v))
        return ERR_PROTO;
    *status = minus ? -(int32_t)v : (int32_t)v;
    return ERR_OK;
}

/* What follows "messages/events": one leading '?' and one trailing '/' are no part of the bag (8.1). */
static enum err events_parse(struct span s, struct topic *out)
{
    out->kind = TOPIC_TELEMETRY;
    if (!s.n)
        return ERR_OK;
    if (!take(&s, SPAN("/")))
        return ERR_NOTFOUND; /* "messages/eventsX" */
    (void)take(&s, SPAN("?"));
    if (s.n && s.p[s.n - 1] == '/')
        s.n--;
    if (has_byte(s, '#'))
        return ERR_PROTO;
    out->bag = s;
    return ERR_OK;
}

/* Fixed topics that end in a query. */
enum fixed_level { LEVEL_NONE, LEVEL_STATUS, LEVEL_NAME }; /* what stands between prefix and query */
struct fixed_topic {
    const char *prefix;
    uint8_t kind;  /* enum topic_kind */
    uint8_t level; /* enum fixed_level */
    bool needs_rid;
};

static enum err fixed_parse(struct span s, const struct fixed_topic *rows, size_t nr, struct topic *out)
{
    struct span level;
    enum err e = ERR_OK;
    for (size_t i = 0; i < nr; i++) {
        struct span t = s;
        if (!take(&t, span_str(rows[i].prefix)))
            continue;
        out->kind = rows[i].kind;
        if (rows[i].level != LEVEL_NONE && !take_level(&t, &level))
            return ERR_PROTO;
        if (rows[i].level == LEVEL_STATUS)
            e = status_parse(level, &out->status);
        if (rows[i].level == LEVEL_NAME) {
            e = has_wildcard(level) ? ERR_PROTO : ERR_OK;
            out->name = level;
        }
        if (!e)
            e = query_parse(t, out);
        return !e && rows[i].needs_rid && !out->has_rid ? ERR_PROTO : e;
    }
    return ERR_PROTO; /* "$iothub/..." that is none of ours */
}

enum err topic_parse(struct span topic, const struct topic_identity *who, struct topic *out)
{
    static const struct fixed_topic rows[] = {
        { "twin/GET/", TOPIC_TWIN_GET, LEVEL_NONE, true },
        { "twin/PATCH/properties/reported/", TOPIC_TWIN_PATCH, LEVEL_NONE, false },
        { "methods/res/", TOPIC_METHOD_RES, LEVEL_STATUS, true },
        { "credentials/POST/issueCertificate/", TOPIC_CRED_POST, LEVEL_NONE, true },
    };
    struct topic t = { 0 };
    struct span s = topic;
    enum err e;
    if (take(&s, SPAN("$iothub/")))
        e = fixed_parse(s, rows, sizeof rows / sizeof rows[0], &t);
    else if (take_identity(&s, who))
        e = take(&s, SPAN("messages/events"))  ? events_parse(s, &t)
            : span_starts(s, SPAN("modules/")) ? ERR_DENIED
                                               : ERR_NOTFOUND;
    else
        e = span_starts(s, SPAN("devices/")) ? ERR_DENIED : ERR_NOTFOUND;
    if (!e)
        *out = t;
    return e;
}

enum err topic_server_parse(struct span topic, const struct topic_identity *who, struct topic *out)
{
    static const struct fixed_topic rows[] = {
        { "twin/res/", TOPIC_TWIN_RES, LEVEL_STATUS, true },
        { "twin/PATCH/properties/desired/", TOPIC_DESIRED, LEVEL_NONE, false },
        { "methods/POST/", TOPIC_METHOD, LEVEL_NAME, true },
        { "credentials/res/", TOPIC_CRED_RES, LEVEL_STATUS, true },
    };
    struct topic t = { 0 };
    struct span s = topic;
    enum err e = ERR_OK;
    if (take(&s, SPAN("$iothub/"))) {
        e = fixed_parse(s, rows, sizeof rows / sizeof rows[0], &t);
    } else if (!take_identity(&s, who)) {
        e = span_starts(s, SPAN("devices/")) ? ERR_DENIED : ERR_NOTFOUND;
    } else if (take(&s, SPAN("messages/devicebound/"))) {
        t.kind = TOPIC_C2D;
        t.bag = s;
    } else if (who->module.n && take(&s, SPAN("inputs/"))) {
        t.kind = TOPIC_INPUT;
        e = take_level(&s, &t.name) ? ERR_OK : ERR_PROTO;
        t.bag = s;
    } else {
        e = ERR_NOTFOUND;
    }
    if (!e)
        *out = t;
    return e;
}

/* ---- subscriptions
 * ----------------------------------------------------------------------------------------- */

/* Does a filter reach a topic of the form `pattern`? Both are cut at '/'. In the pattern the level "*" stands
 * for any text: only '+' or '#' reach it. The filter's remaining levels must be plain or wildcards. */
static bool filter_reaches(struct span filter, const char *pattern)
{
    struct span p = span_str(pattern);
    bool f_more = true, p_more = true;
    while (f_more) {
        const uint8_t *slash = filter.n ? memchr(filter.p, '/', filter.n) : NULL;
        struct span f = span_of(filter.p, slash ? (size_t)(slash - filter.p) : filter.n);
        filter = span_skip(filter, slash ? f.n + 1 : f.n);
        f_more = slash != NULL;
        if (span_eq(f, SPAN("#")))
            return !f_more;
        if (!p_more)
            return false;
        slash = p.n ? memchr(p.p, '/', p.n) : NULL;
        struct span want = span_of(p.p, slash ? (size_t)(slash - p.p) : p.n);
        p = span_skip(p, slash ? want.n + 1 : want.n);
        p_more = slash != NULL;
        if (!span_eq(f, SPAN("+")) && (span_eq(want, SPAN("*")) || !span_eq(f, want)))
            return false;
    }
    return !p_more;
}

static const struct channel_form {
    const char *pattern; /* behind the identity, or behind "$iothub/" */
    uint8_t channel;
} own_forms[] = {
    { "messages/devicebound/*", CHANNEL_C2D },
    { "inputs/*/*", CHANNEL_INPUT },
}, hub_forms[] = {
    { "methods/POST/*/*", CHANNEL_METHODS },
    { "twin/res/*/*", CHANNEL_TWIN_RES },
    { "twin/PATCH/properties/desired/*", CHANNEL_DESIRED },
    { "credentials/res/*/*", CHANNEL_CRED_RES },
};

static uint32_t own_channels(struct span filter, bool is_module)
{
    uint32_t set = 0;
    for (size_t i = 0; i < sizeof own_forms / sizeof own_forms[0]; i++)
        if ((is_module || own_forms[i].channel != CHANNEL_INPUT) &&
            filter_reaches(filter, own_forms[i].pattern))
            set |= 1u << own_forms[i].channel;
    return set;
}

/* Takes the id itself, literally, or '+'; with the '/' behind it. */
static bool take_id(struct span *s, struct span id)
{
    struct span t = *s;
    if (take(&t, id) && take(&t, SPAN("/"))) {
        *s = t;
        return true;
    }
    return take(s, SPAN("+/"));
}

uint32_t topic_filter_channels(struct span filter, const struct topic_identity *who)
{
    const struct span all = SPAN("#");
    struct span s = filter;
    uint32_t set = 0;
    if (take(&s, SPAN("$iothub/"))) {
        for (size_t i = 0; i < sizeof hub_forms / sizeof hub_forms[0]; i++)
            if (filter_reaches(s, hub_forms[i].pattern))
                set |= 1u << hub_forms[i].channel;
        return set;
    }
    /* '#' reaches everything of this identity, but as in MQTT nothing that starts with '$'. */
    bool is_module = who->module.n != 0;
    if (span_eq(s, all))
        return own_channels(all, is_module);
    if (!take(&s, SPAN("devices/")) && !take(&s, SPAN("+/")))
        return 0;
    if (span_eq(s, all))
        return own_channels(all, is_module);
    if (!take_id(&s, who->device))
        return 0;
    if (is_module && !span_eq(s, all)) {
        if (!take(&s, SPAN("modules/")) && !take(&s, SPAN("+/")))
            return 0;
        if (!span_eq(s, all) && !take_id(&s, who->module))
            return 0;
    }
    return own_channels(s, is_module);
}

uint32_t channels_drop(uint32_t channels, uint32_t which)
{
    for (unsigned c = 0; c < CHANNELS; c++)
        if (which & 1u << c)
            channels &= ~(3u << 2 * c);
    return channels;
}

uint32_t channels_grant(uint32_t channels, uint32_t which, unsigned qos)
{
    channels = channels_drop(channels, which);
    for (unsigned c = 0; c < CHANNELS; c++)
        if (which & 1u << c)
            channels |= (1u + (qos ? 1u : 0u)) << 2 * c;
    return channels;
}
