/* core/mqtt/mqtt_packet.c - cuts and reads MQTT 3.1.1 control packets and writes them. */
#include "core/mqtt/mqtt_packet.h"

#include <assert.h>

/* What the fixed header of each type allows [2.2.2, 3.x.1]. A new packet type is a new row. */
#define LEN_ANY UINT32_MAX
static const struct type_rule {
    const char *name;
    uint8_t flags;    /* the only value allowed; PUBLISH has its own check */
    uint32_t min_len; /* of the body */
    uint32_t max_len;
} rules[16] = {
    [0] = { "unknown", 0, 1, 0 }, /* no length fits: never valid */
    [MQTT_CONNECT] = { "connect", 0, 6, LEN_ANY },
    [MQTT_CONNACK] = { "connack", 0, 2, 2 },
    [MQTT_PUBLISH] = { "publish", 0, 3, LEN_ANY },
    [MQTT_PUBACK] = { "puback", 0, 2, 2 },
    [MQTT_PUBREC] = { "pubrec", 0, 2, 2 },
    [MQTT_PUBREL] = { "pubrel", 2, 2, 2 },
    [MQTT_PUBCOMP] = { "pubcomp", 0, 2, 2 },
    [MQTT_SUBSCRIBE] = { "subscribe", 2, 6, LEN_ANY },
    [MQTT_SUBACK] = { "suback", 0, 3, LEN_ANY },
    [MQTT_UNSUBSCRIBE] = { "unsubscribe", 2, 5, LEN_ANY },
    [MQTT_UNSUBACK] = { "unsuback", 0, 2, 2 },
    [MQTT_PINGREQ] = { "pingreq", 0, 0, 0 },
    [MQTT_PINGRESP] = { "pingresp", 0, 0, 0 },
    [MQTT_DISCONNECT] = { "disconnect", 0, 0, 0 },
    [15] = { "unknown", 0, 1, 0 },
};

const char *mqtt_type_name(unsigned type)
{
    return rules[type < 16 ? type : 0].name;
}

static bool head_is_valid(uint8_t first)
{
    const struct type_rule *r = &rules[first >> 4];
    unsigned flags = first & 15u;
    if (r->min_len > r->max_len)
        return false;
    if (first >> 4 != MQTT_PUBLISH)
        return flags == r->flags;
    unsigned qos = flags >> 1 & 3u;
    return qos < 3 && !(qos == 0 && flags & 8u); /* DUP says nothing at QoS 0 [MQTT-3.3.1-2] */
}

enum err mqtt_packet_decode(struct span in, size_t body_max, struct mqtt_packet *out, size_t *used)
{
    uint32_t len = 0;
    size_t i = 0;
    if (!in.n)
        return ERR_AGAIN;
    if (!head_is_valid(in.p[0]))
        return ERR_PROTO;
    do { /* seven bits a byte, low bits first [2.2.3] */
        if (++i > 4)
            return ERR_PROTO;
        if (i >= in.n)
            return ERR_AGAIN;
        len |= (uint32_t)(in.p[i] & 0x7f) << (7 * (i - 1));
    } while (in.p[i] & 0x80);
    const struct type_rule *r = &rules[in.p[0] >> 4];
    if (len < r->min_len || len > r->max_len)
        return ERR_PROTO;
    if (len > body_max)
        return ERR_LIMIT;
    if (len > in.n - i - 1)
        return ERR_AGAIN;
    *out = (struct mqtt_packet){ in.p[0] >> 4, in.p[0] & 15, { in.p + i + 1, len } };
    *used = i + 1 + len;
    return ERR_OK;
}

bool mqtt_utf8_is_valid(struct span s)
{
    size_t i = 0;
    while (i < s.n) {
        uint8_t c = s.p[i++];
        if (c == 0)
            return false;
        if (c < 0x80)
            continue;
        unsigned more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        if (c < 0xc2 || c > 0xf4 || more > s.n - i)
            return false;
        uint8_t c2 = s.p[i];
        if ((c == 0xe0 && c2 < 0xa0) || (c == 0xed && c2 > 0x9f) || (c == 0xf0 && c2 < 0x90) ||
            (c == 0xf4 && c2 > 0x8f))
            return false; /* overlong, surrogate, beyond U+10FFFF */
        for (; more; more--)
            if ((s.p[i++] & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* Binary data with a length before it [1.5.3]. */
static struct span rd_bin(struct rd *r)
{
    return rd_take(r, rd_be16(r));
}

static struct span rd_utf8(struct rd *r)
{
    struct span s = rd_bin(r);
    if (!mqtt_utf8_is_valid(s))
        r->bad = true;
    return s;
}

static uint16_t rd_packet_id(struct rd *r)
{
    uint16_t id = rd_be16(r);
    if (!id)
        r->bad = true; /* [MQTT-2.3.1-1] */
    return id;
}

static void wr_bin(struct wr *w, struct span s)
{
    assert(s.n <= MQTT_STRING_MAX);
    wr_be16(w, (uint16_t)s.n);
    wr_put(w, s);
}

static void wr_head(struct wr *w, enum mqtt_type type, unsigned flags, size_t body_len)
{
    assert(body_len <= MQTT_BODY_LIMIT);
    wr_u8(w, (uint8_t)((unsigned)type << 4 | flags));
    do {
        wr_u8(w, (uint8_t)(body_len & 0x7f) | (body_len > 0x7f ? 0x80 : 0));
        body_len >>= 7;
    } while (body_len);
}

/* ---- CONNECT, CONNACK --------------------------------------------------------------------------------- */

enum {
    CONNECT_CLEAN = 0x02,
    CONNECT_WILL = 0x04,
    CONNECT_WILL_RETAIN = 0x20,
    CONNECT_PASSWORD = 0x40,
    CONNECT_USERNAME = 0x80
};

enum err mqtt_connect_decode(const struct mqtt_packet *p, struct mqtt_connect *out)
{
    assert(p->type == MQTT_CONNECT);
    struct rd r = rd_of(p->body);
    struct span protocol = rd_utf8(&r);
    uint8_t level = rd_u8(&r);
    if (r.bad)
        return ERR_PROTO;
    if (!span_eq(protocol, SPAN("MQTT")) || level != 4)
        return ERR_LIMIT; /* what follows may look different there */
    uint8_t flags = rd_u8(&r);
    struct mqtt_connect c = { 0 };
    c.keep_alive_s = rd_be16(&r);
    c.client_id = rd_utf8(&r);
    c.clean = flags & CONNECT_CLEAN;
    c.has_will = flags & CONNECT_WILL;
    c.will_qos = flags >> 3 & 3u;
    c.will_retain = flags & CONNECT_WILL_RETAIN;
    c.has_username = flags & CONNECT_USERNAME;
    c.has_password = flags & CONNECT_PASSWORD;
    if (flags & 1u || c.will_qos == 3 || (!c.has_will && (c.will_qos || c.will_retain)) ||
        (c.has_password && !c.has_username))
        return ERR_PROTO; /* [MQTT-3.1.2-3, -11, -13, -14, -15, -22] */
    if (c.has_will) {
        c.will_topic = rd_utf8(&r);
        c.will_payload = rd_bin(&r);
        if (!c.will_topic.n)
            return ERR_PROTO; /* [MQTT-4.7.3-1] */
    }
    if (c.has_username)
        c.username = rd_utf8(&r);
    if (c.has_password)
        c.password = rd_bin(&r);
    if (r.bad || r.n)
        return ERR_PROTO;
    *out = c;
    return ERR_OK;
}

void mqtt_connect_encode(struct wr *w, const struct mqtt_connect *c)
{
    assert(c->will_qos < 3 && (c->has_username || !c->has_password));
    size_t len = 10 + 2 + c->client_id.n;
    unsigned flags = c->clean ? CONNECT_CLEAN : 0;
    if (c->has_will) {
        len += 4 + c->will_topic.n + c->will_payload.n;
        flags |= CONNECT_WILL | (unsigned)c->will_qos << 3 | (c->will_retain ? CONNECT_WILL_RETAIN : 0);
    }
    if (c->has_username) {
        len += 2 + c->username.n;
        flags |= CONNECT_USERNAME;
    }
    if (c->has_password) {
        len += 2 + c->password.n;
        flags |= CONNECT_PASSWORD;
    }
    wr_head(w, MQTT_CONNECT, 0, len);
    wr_bin(w, SPAN("MQTT"));
    wr_u8(w, 4);
    wr_u8(w, (uint8_t)flags);
    wr_be16(w, c->keep_alive_s);
    wr_bin(w, c->client_id);
    if (c->has_will) {
        wr_bin(w, c->will_topic);
        wr_bin(w, c->will_payload);
    }
    if (c->has_username)
        wr_bin(w, c->username);
    if (c->has_password)
        wr_bin(w, c->password);
}

enum err mqtt_connack_decode(const struct mqtt_packet *p, struct mqtt_connack *out)
{
    assert(p->type == MQTT_CONNACK);
    struct rd r = rd_of(p->body);
    uint8_t flags = rd_u8(&r), code = rd_u8(&r);
    if (r.bad || r.n || flags > 1 || code > MQTT_CONNACK_REFUSED || (flags && code))
        return ERR_PROTO; /* [MQTT-3.2.2-4] */
    *out = (struct mqtt_connack){ flags, code };
    return ERR_OK;
}

void mqtt_connack_encode(struct wr *w, bool session_present, enum mqtt_connack_code code)
{
    wr_head(w, MQTT_CONNACK, 0, 2);
    wr_u8(w, session_present && !code);
    wr_u8(w, (uint8_t)code);
}

/* ---- PUBLISH and the packets of an identifier alone ------------------------------------------------------
 */

enum err mqtt_publish_decode(const struct mqtt_packet *p, struct mqtt_publish *out)
{
    assert(p->type == MQTT_PUBLISH);
    struct rd r = rd_of(p->body);
    struct mqtt_publish m = { 0 };
    m.qos = p->flags >> 1 & 3u;
    m.dup = p->flags & 8u;
    m.retain = p->flags & 1u;
    m.topic = rd_utf8(&r);
    if (m.qos)
        m.packet_id = rd_packet_id(&r);
    if (r.bad || !m.topic.n)
        return ERR_PROTO;
    m.payload = span_of(r.p, r.n);
    *out = m;
    return ERR_OK;
}

void mqtt_publish_head_encode(struct wr *w, const struct mqtt_publish *m)
{
    assert(m->qos < 3 && m->topic.n && !m->qos == !m->packet_id);
    unsigned flags = (unsigned)m->qos << 1 | (m->retain ? 1u : 0) | (m->dup && m->qos ? 8u : 0);
    wr_head(w, MQTT_PUBLISH, flags, 2 + m->topic.n + (m->qos ? 2 : 0) + m->payload.n);
    wr_bin(w, m->topic);
    if (m->qos)
        wr_be16(w, m->packet_id);
}

void mqtt_publish_encode(struct wr *w, const struct mqtt_publish *m)
{
    mqtt_publish_head_encode(w, m);
    wr_put(w, m->payload);
}

enum err mqtt_id_decode(const struct mqtt_packet *p, uint16_t *packet_id)
{
    struct rd r = rd_of(p->body);
    uint16_t id = rd_packet_id(&r);
    if (r.bad || r.n)
        return ERR_PROTO;
    *packet_id = id;
    return ERR_OK;
}

void mqtt_id_encode(struct wr *w, enum mqtt_type type, uint16_t packet_id)
{
    assert(rules[type].min_len == 2 && rules[type].max_len == 2 && packet_id);
    wr_head(w, type, rules[type].flags, 2);
    wr_be16(w, packet_id);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE, SUBACK ----------------------------------------------------------------------
 */

static enum err filters_decode(const struct mqtt_packet *p, bool with_qos, struct mqtt_filters *out)
{
    struct rd r = rd_of(p->body);
    struct mqtt_filters f = { rd_packet_id(&r), 0, SPAN_NONE, with_qos };
    f.rest = span_of(r.p, r.n);
    do { /* at least one [MQTT-3.8.3-3] */
        if (!rd_utf8(&r).n || (with_qos && rd_u8(&r) > 2))
            return ERR_PROTO;
        f.nr++;
    } while (r.n && !r.bad);
    if (r.bad)
        return ERR_PROTO;
    *out = f;
    return ERR_OK;
}

enum err mqtt_subscribe_decode(const struct mqtt_packet *p, struct mqtt_filters *out)
{
    assert(p->type == MQTT_SUBSCRIBE);
    return filters_decode(p, true, out);
}

enum err mqtt_unsubscribe_decode(const struct mqtt_packet *p, struct mqtt_filters *out)
{
    assert(p->type == MQTT_UNSUBSCRIBE);
    return filters_decode(p, false, out);
}

bool mqtt_filter_next(struct mqtt_filters *f, struct mqtt_filter *out)
{
    struct rd r = rd_of(f->rest);
    struct mqtt_filter next = { rd_bin(&r), f->with_qos ? rd_u8(&r) : 0 };
    if (r.bad)
        return false; /* only at the end: decode has walked it */
    f->rest = span_of(r.p, r.n);
    *out = next;
    return true;
}

static void filters_encode(struct wr *w, enum mqtt_type type, uint16_t packet_id, const struct mqtt_filter *f,
                           size_t nr)
{
    bool with_qos = type == MQTT_SUBSCRIBE;
    size_t len = 2;
    assert(nr && packet_id);
    for (size_t i = 0; i < nr; i++)
        len += 2 + f[i].filter.n + with_qos;
    wr_head(w, type, rules[type].flags, len);
    wr_be16(w, packet_id);
    for (size_t i = 0; i < nr; i++) {
        wr_bin(w, f[i].filter);
        if (with_qos)
            wr_u8(w, f[i].qos);
    }
}

void mqtt_subscribe_encode(struct wr *w, uint16_t packet_id, const struct mqtt_filter *f, size_t nr)
{
    filters_encode(w, MQTT_SUBSCRIBE, packet_id, f, nr);
}

void mqtt_unsubscribe_encode(struct wr *w, uint16_t packet_id, const struct mqtt_filter *f, size_t nr)
{
    filters_encode(w, MQTT_UNSUBSCRIBE, packet_id, f, nr);
}

enum err mqtt_suback_decode(const struct mqtt_packet *p, struct mqtt_suback *out)
{
    assert(p->type == MQTT_SUBACK);
    struct rd r = rd_of(p->body);
    struct mqtt_suback s = { rd_packet_id(&r), SPAN_NONE };
    if (r.bad || !r.n)
        return ERR_PROTO;
    s.codes = span_of(r.p, r.n);
    for (size_t i = 0; i < s.codes.n; i++)
        if (s.codes.p[i] > 2 && s.codes.p[i] != MQTT_SUBACK_FAILURE)
            return ERR_PROTO; /* [MQTT-3.9.3-2] */
    *out = s;
    return ERR_OK;
}

void mqtt_suback_encode(struct wr *w, uint16_t packet_id, struct span codes)
{
    assert(codes.n && packet_id);
    wr_head(w, MQTT_SUBACK, 0, 2 + codes.n);
    wr_be16(w, packet_id);
    wr_put(w, codes);
}

void mqtt_empty_encode(struct wr *w, enum mqtt_type type)
{
    assert(type >= MQTT_PINGREQ && type <= MQTT_DISCONNECT);
    wr_head(w, type, 0, 0);
}

/* ---- filters [4.7]
 * ------------------------------------------------------------------------------------------ */

/* The first level of s, and the rest behind its '/'; false when there is no '/' behind it. */
static bool level_next(struct span *s, struct span *level)
{
    const uint8_t *slash = s->n ? memchr(s->p, '/', s->n) : NULL;
    size_t n = slash ? (size_t)(slash - s->p) : s->n;
    *level = span_of(s->p, n);
    *s = span_skip(*s, slash ? n + 1 : n);
    return slash != NULL;
}

bool mqtt_filter_is_valid(struct span filter)
{
    struct span level;
    bool more = filter.n > 0;
    if (!more)
        return false;
    while (more) {
        more = level_next(&filter, &level);
        for (size_t i = 0; i < level.n; i++)
            if ((level.p[i] == '#' && (level.n > 1 || more)) || (level.p[i] == '+' && level.n > 1))
                return false;
    }
    return true;
}

bool mqtt_filter_matches(struct span filter, struct span topic)
{
    struct span f, t;
    if (!filter.n || !topic.n)
        return false;
    if (topic.p[0] == '$' && (filter.p[0] == '#' || filter.p[0] == '+'))
        return false; /* [MQTT-4.7.2-1] */
    bool f_more = true, t_more = true;
    while (f_more && t_more) {
        f_more = level_next(&filter, &f);
        if (span_eq(f, SPAN("#")))
            return true;
        t_more = level_next(&topic, &t);
        if (!span_eq(f, SPAN("+")) && !span_eq(f, t))
            return false;
    }
    if (f_more) { /* "a/#" matches "a" too */
        (void)level_next(&filter, &f);
        return span_eq(f, SPAN("#"));
    }
    return !t_more;
}
