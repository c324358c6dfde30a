/* hub/conn/http_route.c - request targets, paths against patterns, query values. */
#include "hub/conn/http_route.h"

#include "base/text.h"

enum { SEGMENTS_MAX = 16 };

enum err http_target_split(struct span target, struct span *path, struct span *query)
{
    size_t i = 0;
    if (!target.n)
        return ERR_PROTO;
    if (target.p[0] != '/') { /* http://host/path, as for a proxy */
        struct span rest = target;
        if (rest.n > 7 && span_ieq(span_of(rest.p, 7), SPAN("http://")))
            rest = span_skip(rest, 7);
        else if (rest.n > 8 && span_ieq(span_of(rest.p, 8), SPAN("https://")))
            rest = span_skip(rest, 8);
        else
            return ERR_PROTO;
        while (i < rest.n && rest.p[i] != '/' && rest.p[i] != '?')
            i++;
        if (!i)
            return ERR_PROTO;
        target = span_skip(rest, i);
    }
    for (i = 0; i < target.n && target.p[i] != '?'; i++)
        ;
    *path = i ? span_of(target.p, i) : SPAN("/");
    *query = i < target.n ? span_skip(target, i + 1) : SPAN_NONE;
    return ERR_OK;
}

/* The segments of the path, decoded into scratch. False: more than any route has. */
static bool split(struct span path, uint8_t *scratch, struct span segments[SEGMENTS_MAX], size_t *nr)
{
    struct wr w = { scratch, path.n, 0 };
    *nr = 0;
    for (size_t i = 0; i < path.n;) {
        size_t start = i;
        while (i < path.n && path.p[i] != '/')
            i++;
        if (i > start) {
            size_t at = w.len;
            if (*nr == SEGMENTS_MAX)
                return false;
            percent_decode(&w, span_of(path.p + start, i - start)); /* never longer than what it decodes */
            segments[(*nr)++] = span_of(scratch + at, w.len - at);
        }
        i++;
    }
    return true;
}

static bool fits(const char *pattern, const struct span *segments, size_t nr,
                 struct span params[HTTP_PARAMS_MAX])
{
    size_t at = 0, param_nr = 0;
    while (*pattern) {
        while (*pattern == '/')
            pattern++;
        size_t n = 0;
        while (pattern[n] && pattern[n] != '/')
            n++;
        if (!n)
            break;
        if (n == 2 && pattern[0] == '*' && pattern[1] == '*')
            return true;
        if (at == nr)
            return false;
        if (n == 2 && pattern[0] == '{' && pattern[1] == '}') {
            if (param_nr == HTTP_PARAMS_MAX)
                return false;
            params[param_nr++] = segments[at];
        } else if (!span_ieq(segments[at], span_of(pattern, n))) {
            return false;
        }
        at++;
        pattern += n;
    }
    return at == nr;
}

void http_route_find(const struct http_routes *first, unsigned method, struct span path, uint8_t *scratch,
                     struct http_match *out)
{
    struct span segments[SEGMENTS_MAX];
    size_t nr;
    memset(out, 0, sizeof *out);
    if (!split(path, scratch, segments, &nr))
        return;
    for (const struct http_routes *t = first; t; t = t->next) {
        if (t->last_resort && out->routes)
            continue;
        for (const struct http_route *r = t->table; r && r->pattern; r++) {
            struct span params[HTTP_PARAMS_MAX] = { { NULL, 0 } };
            if (!fits(r->pattern, segments, nr, params))
                continue;
            if (!out->routes)
                out->routes = t; /* whose error it is, should no method fit */
            out->allowed |= r->methods;
            if (r->methods & method) {
                out->routes = t;
                out->route = r;
                memcpy(out->params, params, sizeof params);
                return;
            }
        }
    }
}

bool http_query_find(struct span query, struct span name, struct span *raw)
{
    for (size_t i = 0; i <= query.n;) {
        size_t start = i, eq;
        while (i < query.n && query.p[i] != '&')
            i++;
        for (eq = start; eq < i && query.p[eq] != '='; eq++)
            ;
        if (eq > start && span_ieq(span_of(query.p + start, eq - start), name)) {
            *raw = eq < i ? span_of(query.p + eq + 1, i - eq - 1) : SPAN_NONE;
            return true;
        }
        i++;
    }
    return false;
}
