/* hub/front/http/fleet_json.c - see fleet_json.h. */
#include "hub/front/http/fleet_json.h"

#include "base/text.h"

static bool body(struct job *j, bool once, struct jnode **out)
{
    struct jtree_fault why = { "", 0 };
    enum err e =
        once ? jtree_parse_once(&j->a, j->r->body, out, &why) : jtree_parse(&j->a, j->r->body, out, &why);
    if (e == ERR_NOMEM)
        return job_fail_err(j, ERR_NOMEM);
    if (e)
        return job_fail(j, 400, "bad-json", "the body is not JSON that can be read: %s (byte %zu)", why.what,
                        why.at);
    if ((*out)->kind != JOBJECT)
        return job_fail(j, 400, "bad-json", "the body has to be a JSON object");
    return true;
}

bool fleet_body(struct job *j, struct jnode **out)
{
    return body(j, false, out);
}

bool fleet_body_once(struct job *j, struct jnode **out)
{
    return body(j, true, out);
}

bool fleet_only(struct job *j, const struct jnode *o, const char *const *names)
{
    for (const struct jnode *m = o->first; m; m = m->next) {
        size_t i = 0;
        while (names[i] && !span_eq(m->key, span_str(names[i])))
            i++;
        if (!names[i])
            return job_fail(j, 400, "unknown-member", "member \"%.*s\" is not known here",
                            (int)(m->key.n < 64 ? m->key.n : 64), (const char *)m->key.p);
    }
    return true;
}

bool fleet_text(struct job *j, const struct jnode *o, const char *name, struct span *out)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (!n || n->kind == JNULL)
        return true;
    if (n->kind != JSTRING)
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be a text", name);
    *out = n->text;
    return true;
}

bool fleet_number(struct job *j, const struct jnode *o, const char *name, uint64_t max, uint64_t *out)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    if (!n || n->kind == JNULL)
        return true;
    if (n->kind != JNUMBER || u64_parse(n->text, max, out))
        return job_fail(j, 400, "bad-member", "member \"%s\" has to be a whole number up to %llu", name,
                        (unsigned long long)max);
    return true;
}

bool fleet_time(struct job *j, const struct jnode *o, const char *name, uint64_t *wall_ms)
{
    struct span s = SPAN_NONE;
    uint8_t buf[48];
    struct wr w = { buf, sizeof buf, 0 };
    if (!fleet_text(j, o, name, &s))
        return false;
    if (!s.n || !iso8601_decode(s, wall_ms))
        return true;
    wr_put(&w, s);
    wr_u8(&w, 'Z');
    if (wr_ok(&w) && !iso8601_decode(wr_span(&w), wall_ms))
        return true;
    return job_fail(j, 400, "bad-member", "member \"%s\" has to be a time such as 2026-08-10T09:15:00Z",
                    name);
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

struct span fleet_document(struct arena *a, void (*write)(struct wr *w, const void *item), const void *item)
{
    struct wr w = { 0 };
    write(&w, item);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return SPAN_NONE;
    write(&w, item);
    return wr_span(&w);
}

static void put_item(struct wr *w, size_t nr, void (*write)(struct wr *w, const void *item), const void *item)
{
    wr_u8(w, nr ? ',' : '[');
    write(w, item);
}

enum err fleet_array_add(struct fleet_array *l, void (*write)(struct wr *w, const void *item),
                         const void *item)
{
    struct wr w = l->out;
    put_item(&w, l->nr, write, item);
    if (w.len >= w.cap) { /* the end needs a byte too */
        size_t cap = l->out.cap ? 2 * l->out.cap : 4096;
        while (cap <= w.len)
            cap *= 2;
        uint8_t *p = arena_alloc(l->a, cap);
        if (!p)
            return ERR_NOMEM;
        if (l->out.len)
            memcpy(p, l->out.p, l->out.len);
        w = (struct wr){ p, cap, l->out.len };
        put_item(&w, l->nr, write, item);
    }
    l->out = w;
    l->nr++;
    return ERR_OK;
}

struct span fleet_array_end(struct fleet_array *l)
{
    if (!l->nr)
        return SPAN("[]");
    wr_u8(&l->out, ']');
    return wr_span(&l->out);
}

enum err fleet_answer(struct job *j, void (*write)(struct wr *w, const void *item), const void *item)
{
    j->bytes = fleet_document(&j->a, write, item);
    j->bytes_type = j->front->ops->json_type;
    return arena_err(&j->a);
}

void fleet_answer_array(struct job *j, struct fleet_array *l)
{
    j->bytes = fleet_array_end(l);
    j->bytes_type = j->front->ops->json_type;
}

/* ---- jobs -----------------------------------------------------------------------------------------------
 */

struct fleet_job_page *fleet_job_page_new(struct job *j, void (*write)(struct wr *w, const void *job_row))
{
    struct fleet_job_page *p = job_state(j, sizeof *p);
    if (!p)
        return NULL;
    p->filter = (struct fleet_job_filter){ .before = INT64_MAX, .kind = -1, .state = -1 };
    p->write = write;
    return p;
}

static enum err page_one(void *ctx, const struct fleet_job_row *r)
{
    struct fleet_job_page *p = ctx;
    p->more = p->list.nr == p->max || p->list.out.len > FLEET_PAGE_BYTES;
    if (p->more)
        return ERR_STOPPED;
    p->last = r->seq;
    return fleet_array_add(&p->list, p->write, r);
}

enum err fleet_job_page_read(struct job *j, struct store_tx *tx)
{
    struct fleet_job_page *p = j->state;
    p->list = (struct fleet_array){ .a = &j->a };
    p->more = false;
    p->filter.limit = p->max + 1;
    enum err e = tx_fleet_job_list(tx, &p->filter, page_one, p);
    return e == ERR_STOPPED ? ERR_OK : e;
}
