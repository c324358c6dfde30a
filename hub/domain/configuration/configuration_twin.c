/* hub/domain/configuration/configuration_twin.c - one twin: which configurations are meant for it, which of
 * them wins, what has to be written, and what is remembered of it. */
#include "hub/domain/configuration/configuration_impl.h"

#include "base/log.h"
#include "hub/domain/json_members.h"

#define ARENA_MAX (32u << 20)

struct target {
    bool before, was_applied, now, apply;
};
struct bring {
    struct hub *h;
    struct store_tx *tx;
    struct arena a;
    const struct config_ready *list;
    size_t nr;
    struct target *target; /* beside the list */
    struct twin twin;
    bool edge;
    uint64_t strays[8]; /* targets whose configuration is not in the list any more */
    size_t strays_nr;
};

static enum err note_before(void *ctx, uint64_t config, bool applied)
{
    struct bring *b = ctx;
    for (size_t i = 0; i < b->nr; i++)
        if (b->list[i].row.seq == config) {
            b->target[i].before = true;
            b->target[i].was_applied = applied;
            return ERR_OK;
        }
    if (b->strays_nr < sizeof b->strays / sizeof b->strays[0])
        b->strays[b->strays_nr++] = config;
    return ERR_OK;
}

static enum err match(struct bring *b)
{
    const bool module = b->twin.row.module.n > 0;
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < b->nr; i++) {
        const struct config_ready *c = &b->list[i];
        struct arena a;
        if (c->row.gone || !c->condition || !c->content || (c->row.kind == CONFIG_MODULE) != module ||
            (c->row.kind == CONFIG_EDGE && !b->edge))
            continue;
        arena_init(&a, ARENA_MAX);
        e = query_condition_match(b->h, b->tx, &a, c->condition, b->twin.row.id, &b->target[i].now);
        arena_fini(&a);
    }
    return e;
}

static bool wins(const struct config_row *x, const struct config_row *over)
{
    return x->priority > over->priority || (x->priority == over->priority && x->seq > over->seq);
}

/* Of those that are meant for it: the one of the highest priority, the newest of several. */
static const struct config_ready *winner(struct bring *b, bool edge)
{
    const struct config_ready *best = NULL;
    for (size_t i = 0; i < b->nr; i++) {
        const struct config_ready *c = &b->list[i];
        if (b->target[i].now && (c->row.kind == CONFIG_EDGE) == edge && !c->layered &&
            (!best || wins(&c->row, &best->row)))
            best = c;
    }
    return best;
}

/* The winner, and on an edge device the layers above it. */
static void choose(struct bring *b)
{
    const struct config_ready *plain = winner(b, false), *base = winner(b, true);
    for (size_t i = 0; i < b->nr; i++) {
        const struct config_ready *c = &b->list[i];
        b->target[i].apply =
            c == plain || c == base || (b->target[i].now && base && c->layered && wins(&c->row, &base->row));
    }
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

static enum err write_plain(struct bring *b, size_t i)
{
    static const struct twin_if any = { 0 };
    struct twin_fault tf = { .wrong = TWIN_FINE };
    struct config_fault f = { .wrong = CONFIG_FINE };
    struct twin_patch p = { .service = true };
    bool whole;
    enum err e = config_desired(&b->a, b->list[i].content, &p.desired.patch, &whole, &f);
    if (!e)
        e = twin_update(b->h, b->tx, &b->a, b->twin.row.id, &p, &any, &b->twin, &tf);
    if (e != ERR_PROTO)
        return e;
    log_warn("configuration.refused", "id=%.*s twin=%.*s reason=\"%s\"", (int)b->list[i].row.id.n,
             (const char *)b->list[i].row.id.p, (int)b->twin.row.id.n, (const char *)b->twin.row.id.p,
             f.wrong ? f.text : tf.text);
    b->target[i].apply = false; /* it stays targeted, not applied */
    return ERR_OK;
}

/* The base, then its layers from the lowest to the highest; once any of them is another than before. */
static enum err write_edge(struct bring *b)
{
    bool differs = false;
    enum err e = ERR_OK;
    for (size_t i = 0; i < b->nr; i++)
        differs =
            differs || (b->list[i].row.kind == CONFIG_EDGE && b->target[i].apply != b->target[i].was_applied);
    const struct config_ready *last = NULL;
    while (differs && !e) {
        const struct config_ready *next = NULL;
        struct config_fault f = { .wrong = CONFIG_FINE };
        for (size_t i = 0; i < b->nr; i++) {
            const struct config_ready *c = &b->list[i];
            if (c->row.kind == CONFIG_EDGE && b->target[i].apply && (!last || wins(&c->row, &last->row)) &&
                (!next || wins(&next->row, &c->row)))
                next = c;
        }
        if (!next)
            break;
        last = next;
        e = config_apply_modules(b->h, b->tx, &b->a, b->twin.row.device, next->content, &f);
        if (e == ERR_PROTO) {
            log_warn("configuration.refused", "id=%.*s twin=%.*s reason=\"%s\"", (int)next->row.id.n,
                     (const char *)next->row.id.p, (int)b->twin.row.id.n, (const char *)b->twin.row.id.p,
                     f.text);
            b->target[next - b->list].apply = false;
            e = ERR_OK;
        }
    }
    return e;
}

/* ---- what is remembered ---------------------------------------------------------------------------------
 */

/* Whose entries a twin's member has: a device's own; those of its deployments on its agent, beside the
 * agent's own as a module. The others are kept as they are. */
enum shows { SHOWS_OWN, SHOWS_DEPLOYMENTS };

static bool shows(const struct bring *b, size_t i, enum shows what)
{
    return b->target[i].now && (what == SHOWS_OWN || b->list[i].row.kind == CONFIG_EDGE);
}

/* An entry that the agent's other side has written. */
static bool is_kept(const struct bring *b, const struct jnode *entry, enum shows what)
{
    for (size_t i = 0; i < b->nr; i++) {
        const struct config_row *r = &b->list[i].row;
        if (!r->gone && span_eq(r->id, entry->key))
            return what == SHOWS_DEPLOYMENTS ? r->kind == CONFIG_MODULE
                                             : b->twin.row.module.n && r->kind == CONFIG_EDGE;
    }
    return false;
}

static void write_member(struct wr *w, const struct bring *b, const struct jnode *before, enum shows what)
{
    bool any = false;
    for (size_t i = 0; i < b->nr; i++) {
        if (!shows(b, i, what))
            continue;
        wr_u8(w, any ? ',' : '{');
        member_string(w, b->list[i].row.id);
        wr_str(w, b->target[i].apply ? ":{\"status\":\"Applied\"}" : ":{\"status\":\"Targeted\"}");
        any = true;
    }
    for (const struct jnode *m = before ? before->first : NULL; m; m = m->next) {
        if (!is_kept(b, m, what))
            continue;
        wr_u8(w, any ? ',' : '{');
        member_string(w, m->key);
        wr_u8(w, ':');
        jtree_write(w, m);
        any = true;
    }
    if (any)
        wr_u8(w, '}');
}

/* The member "configurations" of this twin; of an edge device on its agent as well, where its tools look. */
static enum err put_member(struct bring *b, struct span id, enum shows what)
{
    struct wr w = { 0 };
    struct twin t;
    struct jnode *before = NULL;
    enum err e = twin_get(b->tx, &b->a, id, &t);
    if (!e && t.row.configurations.n)
        e = jtree_parse(&b->a, t.row.configurations, &before, NULL);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    write_member(&w, b, before, what);
    w = (struct wr){ arena_alloc(&b->a, w.len + 1), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    write_member(&w, b, before, what);
    if (span_eq(wr_span(&w), t.row.configurations))
        return ERR_OK;
    t.row.configurations = wr_span(&w);
    return tx_twin_put(b->tx, &t.row);
}

static enum err put_agent(struct bring *b)
{
    size_t cap = b->twin.row.device.n + 11;
    struct wr w = { arena_alloc(&b->a, cap), cap, 0 };
    if (!w.p)
        return ERR_NOMEM;
    wr_put(&w, b->twin.row.device);
    wr_str(&w, "/$edgeAgent");
    return put_member(b, wr_span(&w), SHOWS_DEPLOYMENTS);
}

static enum err remember(struct bring *b, uint64_t seq)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < b->nr; i++) {
        const struct target *t = &b->target[i];
        if (t->now && (!t->before || t->apply != t->was_applied))
            e = tx_config_target_put(b->tx, b->list[i].row.seq, seq, t->apply);
        else if (!t->now && t->before)
            e = tx_config_target_delete(b->tx, b->list[i].row.seq, seq);
    }
    for (size_t i = 0; !e && i < b->strays_nr; i++)
        e = tx_config_target_delete(b->tx, b->strays[i], seq);
    if (!e)
        e = put_member(b, b->twin.row.id, SHOWS_OWN);
    return !e && b->edge ? put_agent(b) : e;
}

static enum err bring(struct bring *b, uint64_t seq, struct span identity)
{
    struct device_row d;
    enum err e = twin_get(b->tx, &b->a, identity, &b->twin);
    if (!e)
        e = tx_config_targets(b->tx, seq, note_before, b);
    if (!e && !b->twin.row.module.n) {
        e = tx_device_get(b->tx, b->twin.row.device, &d);
        b->edge = !e && d.edge;
    }
    if (!e)
        e = match(b);
    if (e)
        return e;
    choose(b);
    for (size_t i = 0; !e && i < b->nr; i++)
        if (b->list[i].row.kind != CONFIG_EDGE && b->target[i].apply && !b->target[i].was_applied)
            e = write_plain(b, i);
    if (!e && b->edge)
        e = write_edge(b);
    return e ? e : remember(b, seq);
}

enum err config_bring(struct hub *h, struct store_tx *tx, const struct config_ready *list, size_t nr,
                      uint64_t seq, struct span identity)
{
    struct bring b = { .h = h, .tx = tx, .list = list, .nr = nr };
    arena_init(&b.a, ARENA_MAX);
    b.target = arena_alloc(&b.a, (nr + 1) * sizeof *b.target);
    enum err e = b.target ? bring(&b, seq, identity) : ERR_NOMEM;
    if (!e)
        e = arena_err(&b.a);
    arena_fini(&b.a);
    return e == ERR_NOTFOUND ? ERR_OK : e; /* the identity is gone, and its twin with it */
}
