/* core/storage/block_list.c - see block_list.h. */
#include "core/storage/block_list.h"

enum { BEFORE, INSIDE, AFTER };

void block_list_init(struct block_list *l, struct span text)
{
    if (span_starts(text, SPAN("\xef\xbb\xbf")))
        text = span_skip(text, 3);
    *l = (struct block_list){ text, BEFORE };
}

static struct span trim(struct span s)
{
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r' || s.p[0] == '\n'))
        s = span_skip(s, 1);
    while (s.n &&
           (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t' || s.p[s.n - 1] == '\r' || s.p[s.n - 1] == '\n'))
        s.n--;
    return s;
}

/* Where `mark` begins in s; s.n: nowhere. */
static size_t find(struct span s, struct span mark)
{
    size_t i = 0;
    for (; i + mark.n <= s.n; i++)
        if (memcmp(s.p + i, mark.p, mark.n) == 0)
            return i;
    return s.n;
}

/* Takes the next tag off *s, which holds nothing else before it: its text between the angles. */
static enum err tag(struct span *s, struct span *out)
{
    for (;;) {
        *s = trim(*s);
        if (!s->n || s->p[0] != '<')
            return ERR_PROTO;
        bool comment = span_starts(*s, SPAN("<!--"));
        struct span end = comment ? SPAN("-->") : SPAN(">");
        size_t at = find(*s, end);
        if (at == s->n || (comment && at < 4))
            return ERR_PROTO;
        struct span inside = span_of(s->p + 1, at - 1);
        *s = span_skip(*s, at + end.n);
        if (comment || (inside.n && inside.p[0] == '?'))
            continue;
        if (inside.n && inside.p[0] == '!') /* a document type: entities are not read here */
            return ERR_PROTO;
        *out = inside;
        return ERR_OK;
    }
}

/* Is the tag called so, with or without attributes? */
static bool is_called(struct span t, struct span name)
{
    return span_starts(t, name) && (t.n == name.n || t.p[name.n] == ' ' || t.p[name.n] == '\t' ||
                                    t.p[name.n] == '\r' || t.p[name.n] == '\n');
}

static bool is_empty(struct span *t)
{
    if (!t->n || t->p[t->n - 1] != '/')
        return false;
    t->n--;
    *t = trim(*t);
    return true;
}

enum err block_list_next(struct block_list *l, struct block_entry *out)
{
    static const struct {
        const char *end; /* with its slash */
        enum block_source source;
    } kinds[] = {
        { "/Latest", BLOCK_LATEST },
        { "/Committed", BLOCK_COMMITTED },
        { "/Uncommitted", BLOCK_UNCOMMITTED },
    };
    struct span t;
    if (l->state == BEFORE) {
        if (tag(&l->rest, &t))
            return ERR_PROTO;
        bool empty = is_empty(&t);
        if (!is_called(t, SPAN("BlockList")))
            return ERR_PROTO;
        l->state = empty ? AFTER : INSIDE;
    }
    if (l->state == INSIDE) {
        if (tag(&l->rest, &t))
            return ERR_PROTO;
        if (span_eq(trim(t), SPAN("/BlockList"))) {
            l->state = AFTER;
        } else {
            for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
                if (!is_called(t, span_str(kinds[i].end + 1)))
                    continue;
                size_t end = find(l->rest, SPAN("<"));
                out->source = kinds[i].source;
                out->id = trim(span_of(l->rest.p, end));
                l->rest = span_skip(l->rest, end);
                return !tag(&l->rest, &t) && span_eq(trim(t), span_str(kinds[i].end)) && out->id.n
                           ? ERR_OK
                           : ERR_PROTO;
            }
            return ERR_PROTO;
        }
    }
    return trim(l->rest).n ? ERR_PROTO : ERR_STOPPED;
}
