/* hub/front/amqp/address.c - see address.h. */
#include "hub/front/amqp/address.h"

#include "base/text.h"

#define SEGMENTS_MAX 8u

static struct span after_host(struct span s)
{
    static const char *const schemes[] = { "amqps://", "amqp://", "sb://", "https://" };
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct span scheme = span_str(schemes[i]);
        if (s.n < scheme.n || !span_ieq(span_of(s.p, scheme.n), scheme))
            continue;
        s = span_skip(s, scheme.n);
        while (s.n && s.p[0] != '/')
            s = span_skip(s, 1);
        break;
    }
    return s;
}

static bool is(struct span s, const char *word)
{
    return span_ieq(s, span_str(word));
}

static struct span decode(struct wr *mem, struct span s)
{
    size_t at = mem->len;
    percent_decode(mem, s);
    return wr_ok(mem) ? span_of(mem->p + at, mem->len - at) : SPAN_NONE;
}

/* What follows the identity. */
static enum err of_identity(const struct span *seg, size_t nr, struct address *a)
{
    if (nr == 1 && is(seg[0], "twin"))
        a->kind = ADDRESS_TWIN;
    else if (nr == 2 && is(seg[0], "messages") && is(seg[1], "events"))
        a->kind = ADDRESS_TELEMETRY;
    else if (nr == 2 && is(seg[0], "messages") && is(seg[1], "devicebound"))
        a->kind = ADDRESS_C2D;
    else if (nr == 2 && is(seg[0], "methods") && is(seg[1], "devicebound"))
        a->kind = ADDRESS_METHODS;
    else
        return ERR_NOTFOUND;
    return ERR_OK;
}

static enum err of_service(const struct span *seg, size_t nr, struct span path, struct address *a)
{
    if (nr == 2 && is(seg[1], "devicebound"))
        a->kind = ADDRESS_SEND;
    else if (nr == 3 && is(seg[1], "servicebound") && is(seg[2], "feedback"))
        a->kind = ADDRESS_FEEDBACK;
    else if (nr == 3 && is(seg[1], "servicebound") && is(seg[2], "filenotifications"))
        a->kind = ADDRESS_FILE_NOTIFICATIONS;
    else if (nr >= 2 && is(seg[1], "events")) {
        a->kind = ADDRESS_EVENTS;
        const uint8_t *end = seg[1].p + seg[1].n;
        a->rest = span_of(end, (size_t)(path.p + path.n - end));
        while (a->rest.n && a->rest.p[0] == '/')
            a->rest = span_skip(a->rest, 1);
    } else {
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

enum err address_parse(struct span text, uint8_t mem[ADDRESS_MAX], struct address *out)
{
    struct address a = { 0 };
    struct span seg[SEGMENTS_MAX], path;
    struct wr w = { mem, ADDRESS_MAX, 0 };
    size_t nr = 0;
    enum err e = ERR_NOTFOUND;
    if (text.n > ADDRESS_MAX)
        return ERR_LIMIT;
    path = after_host(text);
    for (size_t at = 0; at < path.n && nr < SEGMENTS_MAX;) {
        size_t from = at;
        while (at < path.n && path.p[at] != '/')
            at++;
        if (at > from)
            seg[nr++] = span_of(path.p + from, at - from);
        else if (nr) /* an empty segment inside */
            return ERR_NOTFOUND;
        at++;
    }
    if (nr == 1 && is(seg[0], "$cbs")) {
        a.kind = ADDRESS_CBS;
        e = ERR_OK;
    } else if (nr >= 2 && is(seg[0], "messages")) {
        e = of_service(seg, nr, path, &a);
    } else if (nr >= 1 && nr <= 2 && is(seg[nr - 1], "$management")) {
        a.kind = ADDRESS_MANAGEMENT;
        a.entity = nr == 2 ? decode(&w, seg[0]) : SPAN_NONE;
        e = ERR_OK;
    } else if (nr >= 3 && is(seg[0], "devices")) {
        bool module = nr >= 5 && is(seg[2], "modules");
        a.device = decode(&w, seg[1]);
        a.module = module ? decode(&w, seg[3]) : SPAN_NONE;
        e = of_identity(seg + (module ? 4 : 2), nr - (module ? 4 : 2), &a);
    } else if (nr == 5 && is(seg[1], "ConsumerGroups") && is(seg[3], "Partitions")) {
        a.kind = ADDRESS_CONSUMER;
        a.entity = decode(&w, seg[0]);
        a.group = decode(&w, seg[2]);
        a.partition = seg[4];
        e = ERR_OK;
    }
    if (!e)
        *out = a;
    return e;
}

/* ---- what a token reaches --------------------------------------------------------------------------- */

/* Takes the next segment; empty ones mean nothing. */
static bool take_segment(struct span *path, struct span *seg)
{
    while (path->n && path->p[0] == '/')
        *path = span_skip(*path, 1);
    size_t n = 0;
    while (n < path->n && path->p[n] != '/')
        n++;
    *seg = span_of(path->p, n);
    *path = span_skip(*path, n);
    return n > 0;
}

struct span address_first(struct span path)
{
    struct span seg;
    return take_segment(&path, &seg) ? seg : SPAN_NONE;
}

static bool begins(const struct span *want, size_t nr, struct span path)
{
    struct span seg;
    for (size_t i = 0; take_segment(&path, &seg); i++)
        if (i == nr || !span_ieq(seg, want[i]))
            return false;
    return true;
}

bool address_is_reached(const struct address *a, struct span path, bool ours)
{
    const struct span send[] = { SPAN("messages"), SPAN("devicebound") },
                      feedback[] = { SPAN("messages"), SPAN("servicebound"), SPAN("feedback") },
                      files[] = { SPAN("messages"), SPAN("servicebound"), SPAN("filenotifications") },
                      events[] = { SPAN("messages"), SPAN("events") },
                      reader[] = { address_first(path), SPAN("ConsumerGroups"), a->group, SPAN("Partitions"),
                                   a->partition };
    switch ((enum address_kind)a->kind) {
    case ADDRESS_SEND:
        return begins(send, 2, path);
    case ADDRESS_FEEDBACK:
        return begins(feedback, 3, path);
    case ADDRESS_FILE_NOTIFICATIONS:
        return begins(files, 3, path);
    case ADDRESS_EVENTS: /* they only say where to ask, and what there is */
    case ADDRESS_MANAGEMENT:
        return ours || begins(events, 2, path);
    case ADDRESS_CONSUMER:
        return begins(events, 2, path) || (ours && begins(reader, 5, path));
    default:
        return false;
    }
}
