/* hub/domain/configuration/configuration_run.c - twins are marked, and marked twins are looked at, some in
 * each transaction. One op at a time: a turn (a write), or a page of twins that a configuration is meant for
 * (a read). */
#include "hub/domain/configuration/configuration_impl.h"

#include "base/log.h"
#include "base/text.h"
#include "hub/domain/event/event.h"

#include <stdlib.h>

#define LIST_MAX   1024u /* configurations, with those that are gone and not yet cleared away */
#define PAGE_MAX   1000u /* twins of a page of a walk */
#define MARKS_MAX  5000u /* twins that are marked in one transaction */
#define TWINS_MAX  128u  /* twins that are looked at in one transaction, */
#define TWINS_MS   10u   /* or fewer when that takes longer */
#define ARENA_MAX  (256u << 20)
#define PAGE_BYTES (4u << 20)
#define TICK_MS    1000u  /* for twins that were made meanwhile */
#define REST_MS    30000u /* while there is no configuration */

struct configurations {
    struct hub *h;
    struct configurations_env env;
    struct op poke;
    _Atomic bool poked, any;
    struct store_op op;
    bool busy, again, stopped, more;
    /* of a turn: all configurations */
    struct arena a;
    struct config_ready *list;
    size_t nr;
    /* a page of the walk of one of them */
    struct arena page_a, walk_a;
    struct query_walk walk;
    uint64_t walk_config; /* its seq; 0: none */
    uint64_t walk_etag;
    struct {
        uint64_t seq;
        struct span id;
    } page[PAGE_MAX];
    size_t page_nr;
    uint64_t page_seq;
    bool page_ready, page_last;
    uint64_t wake_at_ms;
    struct config_metrics *metrics;
};

/* ---- a turn ---------------------------------------------------------------------------------------------
 */

static enum err load_one(void *ctx, const struct config_row *r)
{
    struct configurations *c = ctx;
    struct config_fault f;
    struct query_error qe;
    bool whole;
    struct jnode *desired;
    if (c->nr == LIST_MAX)
        return ERR_STOPPED;
    struct config_ready *k = &c->list[c->nr++];
    enum err e = config_copy(&c->a, r, &k->row);
    if (e || r->gone)
        return e;
    if (r->condition.n && (e = query_condition_compile(&c->a, QUERY_USE_CONFIGURATION, k->row.condition,
                                                       &k->condition, &qe)) == ERR_NOMEM)
        return e;
    e = config_content(&c->a, k->row.content, &k->row.kind, &k->content, &f);
    const struct jnode *agent =
        !e && r->kind == CONFIG_EDGE ? jtree_get(k->content, SPAN("$edgeAgent")) : NULL;
    if (agent && !config_desired(&c->a, agent, &desired, &whole, &f))
        k->layered = !whole;
    return arena_err(&c->a);
}

static enum err load(struct store_tx *tx, struct configurations *c)
{
    arena_fini(&c->a);
    arena_init(&c->a, ARENA_MAX);
    c->nr = 0;
    c->list = arena_alloc(&c->a, LIST_MAX * sizeof *c->list);
    enum err e = c->list ? tx_config_list(tx, true, load_one, c) : ERR_NOMEM;
    return e == ERR_STOPPED ? ERR_OK : e;
}

static enum err mark_new(struct store_tx *tx, struct configurations *c)
{
    struct span text;
    uint64_t cursor = 0, nr = 0;
    enum err e = tx_meta_get(tx, CONFIG_CURSOR, &text);
    if (!e && u64_parse(text, INT64_MAX, &cursor))
        cursor = 0;
    if (!e || e == ERR_NOTFOUND)
        e = tx_config_dirty_new(tx, MARKS_MAX, &cursor, &nr);
    if (e || !nr)
        return e;
    c->more = true;
    config_metrics_changed(c->metrics);
    return config_cursor_put(tx, cursor);
}

static enum err mark_page(struct store_tx *tx, struct configurations *c, struct config_row *r)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < c->page_nr; i++)
        e = tx_config_dirty_add(tx, c->page[i].seq, c->page[i].id);
    r->new_cursor = c->page_last ? UINT64_MAX : c->page_seq;
    return e;
}

/* One step of finding the targets, those of before first. */
static enum err walk_step(struct store_tx *tx, struct configurations *c, struct config_ready *k)
{
    struct config_row *r = &k->row;
    enum err e = ERR_OK;
    if (r->old_cursor != UINT64_MAX)
        e = tx_config_dirty_targets(tx, r->seq, MARKS_MAX, &r->old_cursor);
    else if (!k->condition)
        r->new_cursor = UINT64_MAX;
    else if (c->page_ready && c->walk_config == r->seq && c->walk_etag == r->etag)
        e = mark_page(tx, c, r);
    else
        return ERR_OK; /* a page is read first */
    r->walking = r->old_cursor != UINT64_MAX || r->new_cursor != UINT64_MAX;
    c->more = true;
    return e ? e : tx_config_put(tx, r);
}

struct marked {
    struct arena a;
    struct {
        uint64_t seq;
        struct span id;
    } item[TWINS_MAX];
    size_t nr;
};
static enum err note_marked(void *ctx, uint64_t twin, struct span identity)
{
    struct marked *m = ctx;
    m->item[m->nr].seq = twin;
    m->item[m->nr++].id = arena_copy(&m->a, identity);
    return arena_err(&m->a);
}

static enum err look_at_marked(struct store_tx *tx, struct configurations *c, bool *none)
{
    const uint64_t from = c->h->wall_ms();
    struct marked m = { .nr = 0 };
    size_t i = 0;
    arena_init(&m.a, PAGE_BYTES);
    enum err e = tx_config_dirty_list(tx, TWINS_MAX, note_marked, &m);
    for (; !e && i < m.nr; i++) {
        if (i && c->h->wall_ms() - from >= TWINS_MS)
            break;
        e = config_bring(c->h, tx, c->list, c->nr, m.item[i].seq, m.item[i].id);
        if (!e)
            e = tx_config_dirty_delete(tx, m.item[i].seq);
    }
    arena_fini(&m.a);
    *none = m.nr == 0;
    c->more = c->more || i < m.nr || m.nr == TWINS_MAX;
    return e;
}

/* One that was deleted goes when nothing is marked any more. */
static enum err clear_away(struct store_tx *tx, const struct config_row *r)
{
    uint64_t targeted, applied;
    enum err e = tx_config_target_count(tx, r->seq, &targeted, &applied);
    if (e)
        return e;
    if (!targeted)
        return tx_config_delete(tx, r->seq);
    struct config_row again = *r;
    again.walking = true;
    again.old_cursor = 0;
    return tx_config_put(tx, &again);
}

static enum err turn(struct store_tx *tx, struct store_op *self)
{
    struct configurations *c = CONTAINER_OF(self, struct configurations, op);
    bool none = false;
    c->more = false;
    enum err e = load(tx, c);
    if (e)
        return e;
    atomic_store(&c->any, c->nr > 0);
    if (!c->nr)
        return ERR_OK;
    e = mark_new(tx, c);
    for (size_t i = 0; !e && i < c->nr; i++)
        if (c->list[i].row.walking)
            e = walk_step(tx, c, &c->list[i]);
    if (!e)
        e = look_at_marked(tx, c, &none);
    for (size_t i = 0; !e && none && i < c->nr; i++)
        if (c->list[i].row.gone && !c->list[i].row.walking)
            e = clear_away(tx, &c->list[i].row), c->more = true;
    return e;
}

/* ---- a page ---------------------------------------------------------------------------------------------
 */

static enum err take(void *ctx, struct span identity, uint64_t seq)
{
    struct configurations *c = ctx;
    if (c->page_nr == PAGE_MAX)
        return ERR_LIMIT;
    c->page[c->page_nr].seq = seq;
    c->page[c->page_nr++].id = arena_copy(&c->page_a, identity);
    return arena_err(&c->page_a);
}

static enum err read_page(struct store_tx *tx, struct store_op *self)
{
    struct configurations *c = CONTAINER_OF(self, struct configurations, op);
    arena_fini(&c->page_a);
    arena_init(&c->page_a, PAGE_BYTES);
    c->page_nr = 0;
    enum err e = query_condition_walk(&c->walk, tx, take, c);
    c->page_seq = c->walk.seq;
    c->page_last = !e;
    return e == ERR_LIMIT || e == ERR_AGAIN ? ERR_OK : e;
}

/* ---- what is next ---------------------------------------------------------------------------------------
 */

static void go(struct configurations *c);

static void wake(struct configurations *c, uint32_t ms)
{
    uint64_t at = c->h->wall_ms() + ms;
    if (c->wake_at_ms && c->wake_at_ms <= at)
        return;
    c->wake_at_ms = at;
    c->env.wake_in(c->env.ctx, ms);
}

static bool came_home(struct configurations *c)
{
    enum err e = c->op.op.err;
    c->busy = false;
    c->stopped = e == ERR_STOPPED;
    if (e && !c->stopped) {
        log_error("configuration.run", "err=%s hint=\"it is tried again\"", err_name(e));
        c->page_ready = false;
        c->walk_config = 0;
        wake(c, TICK_MS);
    }
    return !e;
}

static void on_page(struct op *op)
{
    struct configurations *c = CONTAINER_OF(op, struct configurations, op.op);
    if (!came_home(c))
        return;
    c->page_ready = true;
    go(c);
}

/* The configuration whose targets are to be read next; the list is that of the last turn. */
static const struct config_ready *to_walk(const struct configurations *c)
{
    for (size_t i = 0; i < c->nr; i++)
        if (c->list[i].row.walking && c->list[i].row.old_cursor == UINT64_MAX && c->list[i].condition)
            return &c->list[i];
    return NULL;
}

static void start_page(struct configurations *c, const struct config_ready *k)
{
    struct query_error qe;
    struct query_condition *condition;
    if (c->walk_config != k->row.seq || c->walk_etag != k->row.etag) {
        arena_fini(&c->walk_a);
        arena_init(&c->walk_a, PAGE_BYTES);
        if (query_condition_compile(&c->walk_a, QUERY_USE_CONFIGURATION, k->row.condition, &condition, &qe)) {
            wake(c, TICK_MS);
            return;
        }
        c->walk = (struct query_walk){ .h = c->h, .a = &c->walk_a, .c = condition };
        c->walk_config = k->row.seq;
        c->walk_etag = k->row.etag;
    }
    c->walk.seq = k->row.new_cursor;
    c->busy = true;
    c->op.run = read_page;
    c->op.op.done = on_page;
    store_scan(c->h->store, &c->op);
}

static void on_turn(struct op *op)
{
    struct configurations *c = CONTAINER_OF(op, struct configurations, op.op);
    c->page_ready = false;
    if (!came_home(c))
        return;
    config_metrics_look(c->metrics);
    const struct config_ready *k = to_walk(c);
    if (c->again || (c->more && !k))
        go(c);
    else if (k)
        start_page(c, k);
    else
        wake(c, c->nr ? TICK_MS : REST_MS);
}

static void go(struct configurations *c)
{
    c->again = c->busy;
    if (c->busy || c->stopped)
        return;
    if (event_should_wait(c->h,
                          EVENT_OF_TWINS | 1u << MESSAGE_SOURCE_LIFECYCLE)) { /* it makes modules, too */
        wake(c, TICK_MS);
        return;
    }
    c->busy = true;
    c->op.run = turn;
    c->op.op.done = on_turn;
    store_write(c->h->store, &c->op);
}

/* ---- the whole ------------------------------------------------------------------------------------------
 */

void config_exists(struct hub *h)
{
    if (h->configurations)
        atomic_store(&h->configurations->any, true);
}

static enum err on_twin_changed(struct hub *h, struct store_tx *tx, const struct twin_change *ch)
{
    if (!h->configurations || !atomic_load(&h->configurations->any))
        return ERR_OK;
    config_metrics_changed(h->configurations->metrics);
    if (!ch->patch->tags.patch && !ch->patch->reported.patch)
        return ERR_OK;
    config_poke(h); /* runs behind this transaction's op, for there is one writer */
    return tx_config_dirty_add(tx, ch->after->row.seq, ch->after->row.id);
}

static void on_poke(struct op *op)
{
    struct configurations *c = CONTAINER_OF(op, struct configurations, poke);
    atomic_store(&c->poked, false);
    config_metrics_changed(c->metrics);
    go(c);
}

void config_poke(struct hub *h)
{
    struct configurations *c = h->configurations;
    if (c && !atomic_exchange(&c->poked, true))
        mailbox_post(c->env.home, &c->poke);
}

enum err configurations_new(struct configurations **out, struct hub *h, const struct configurations_env *env)
{
    struct configurations *c = calloc(1, sizeof *c);
    if (!c || config_metrics_new(&c->metrics, h, env->home)) {
        free(c);
        return ERR_NOMEM;
    }
    c->h = h;
    c->env = *env;
    c->any = true; /* until it is known that there is none */
    c->poke = (struct op){ .home = env->home, .done = on_poke };
    c->op.op.home = env->home;
    h->on_twin_changed = on_twin_changed;
    *out = c;
    return ERR_OK;
}

void configurations_tick(struct configurations *c)
{
    c->wake_at_ms = 0;
    go(c);
}

bool configurations_idle(const struct configurations *c)
{
    return !c->busy && !atomic_load(&c->poked) && !c->again && config_metrics_idle(c->metrics);
}

void configurations_free(struct configurations *c)
{
    if (!c)
        return;
    c->h->on_twin_changed = NULL;
    config_metrics_free(c->metrics);
    arena_fini(&c->a);
    arena_fini(&c->page_a);
    arena_fini(&c->walk_a);
    free(c);
}
