/* hub/domain/job/registry_config.c - see registry_config.h. */
#include "hub/domain/job/registry_config.h"

#include "base/text.h"
#include "hub/domain/json_members.h"

#include <stdio.h>

#define TEXT_MAX 4096u

enum {
    CODE_ARGUMENT = 400004,
    CODE_FORMAT = 400006,
    CODE_CONDITION = 400401,
    CODE_CONTENT = 400402,
    CODE_METRICS = 400404,
    CODE_NOT_THERE = 404301,
    CODE_EXISTS = 409401,
    CODE_ETAG = 412001,
    CODE_TOO_MANY = 413101
};

/* ---- reading --------------------------------------------------------------------------------------------
 */

/* A member whose name is this one in any case; NULL: absent, or null. */
static const struct jnode *member(const struct jnode *o, const char *name)
{
    if (!o || o->kind != JOBJECT)
        return NULL;
    for (const struct jnode *m = o->first; m; m = m->next)
        if (m->kind != JNULL && span_ieq(m->key, span_str(name)))
            return m;
    return NULL;
}

static enum err text(const struct jnode *o, const char *name, size_t max, struct span *out,
                     struct registry_fault *f)
{
    const struct jnode *n = member(o, name);
    if (!n)
        return ERR_OK;
    if (n->kind != JSTRING)
        return registry_wrong(f, CODE_ARGUMENT, "member \"%s\" has to be a string", name);
    if (n->text.n > max)
        return registry_wrong(f, CODE_ARGUMENT, "member \"%s\" is longer than %zu bytes", name, max);
    *out = n->text;
    return ERR_OK;
}

/* A member as JSON; empty: there is none. */
static enum err json(struct arena *a, const struct jnode *o, const char *name, struct span *out,
                     struct registry_fault *f)
{
    const struct jnode *n = member(o, name);
    if (n && n->kind != JOBJECT)
        return registry_wrong(f, CODE_ARGUMENT, "member \"%s\" has to be an object", name);
    *out = n ? jtree_text(a, n) : SPAN_NONE;
    return arena_err(a);
}

/* With the names of its members as they are spelled here. */
static enum err content(struct arena *a, const struct jnode *o, struct span *out, struct registry_fault *f)
{
    static const char *const names[] = { "deviceContent", "moduleContent", "modulesContent" };
    const struct jnode *given = member(o, "content");
    if (given && given->kind != JOBJECT)
        return registry_wrong(f, CODE_CONTENT, "member \"content\" has to be an object");
    struct jnode *kept = jtree_new(a, JOBJECT);
    if (!kept)
        return ERR_NOMEM;
    struct jtree_list l = jtree_list(kept);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct jnode *m = member(given, names[i]);
        struct jnode *c = m ? jtree_copy(a, m) : NULL;
        if (m && !c)
            return ERR_NOMEM;
        if (c) {
            c->key = span_str(names[i]);
            c->next = NULL;
            jtree_add(&l, c);
        }
    }
    *out = jtree_text(a, kept);
    return arena_err(a);
}

static enum err priority(const struct jnode *o, uint64_t *out, struct registry_fault *f)
{
    const struct jnode *n = member(o, "priority");
    if (n && (n->kind != JNUMBER || u64_parse(n->text, CONFIG_PRIORITY_MAX, out)))
        return registry_wrong(f, CODE_ARGUMENT, "member \"priority\" has to be a whole number up to %u",
                              CONFIG_PRIORITY_MAX);
    return ERR_OK;
}

static enum err mode(const struct jnode *o, struct registry_config *c, struct registry_fault *f)
{
    struct span s = SPAN("createOrUpdateIfMatchETag"), etag = SPAN_NONE;
    enum err e = text(o, "importMode", 64, &s, f);
    c->mode = e ? NULL : registry_mode_find(s);
    if (!e && (!c->mode || c->mode->doing == REGISTRY_TWIN))
        return registry_wrong(f, CODE_ARGUMENT,
                              "member \"importMode\" is not one of configurations: \"%.*s\"", (int)s.n,
                              (const char *)s.p);
    if (!e)
        e = text(o, "etag", TEXT_MAX, &etag, f);
    if (!e && c->mode->if_match)
        c->if_etag = registry_etag_parse(etag);
    return e;
}

static enum err checked(struct arena *a, struct registry_config *c, struct registry_fault *f)
{
    static const uint32_t codes[] = { [CONFIG_BAD_MEMBER] = CODE_ARGUMENT,
                                      [CONFIG_BAD_CONDITION] = CODE_CONDITION,
                                      [CONFIG_BAD_CONTENT] = CODE_CONTENT,
                                      [CONFIG_BAD_METRICS] = CODE_METRICS };
    struct config_fault why = { .wrong = CONFIG_FINE };
    enum err e = config_check(a, &c->n, &c->kind, &why);
    return e == ERR_PROTO ? registry_wrong(f, codes[why.wrong], "%s", why.text) : e;
}

enum err registry_config_read(struct arena *a, struct span line, struct registry_config *out,
                              struct registry_fault *f)
{
    struct jnode *o = NULL;
    *out = (struct registry_config){ .n = { .id = SPAN_NONE } };
    enum err e = registry_parse(a, line, &o, f);
    if (!e)
        e = text(o, "id", TEXT_MAX, &out->n.id, f);
    if (!e && !out->n.id.n)
        e = registry_wrong(f, CODE_ARGUMENT, "member \"id\" is missing");
    if (!e)
        e = mode(o, out, f);
    if (e || out->mode->doing == REGISTRY_DELETE)
        return e;
    e = text(o, "schemaVersion", TEXT_MAX, &out->n.schema_version, f);
    if (!e)
        e = text(o, "targetCondition", REGISTRY_LINE_MAX, &out->n.condition, f);
    if (!e)
        e = priority(o, &out->n.priority, f);
    if (!e)
        e = json(a, o, "labels", &out->n.labels, f);
    if (!e)
        e = json(a, member(o, "metrics"), "queries", &out->n.metrics, f);
    if (!e)
        e = content(a, o, &out->n.content, f);
    return e ? e : checked(a, out, f);
}

/* ---- applying -------------------------------------------------------------------------------------------
 */

static enum err refused(enum err e, struct registry_fault *f)
{
    switch (e) {
    case ERR_NOTFOUND:
        (void)registry_wrong(f, CODE_NOT_THERE, "there is no such configuration");
        break;
    case ERR_EXISTS:
        (void)registry_wrong(f, CODE_EXISTS, "there is a configuration of this id already");
        break;
    case ERR_STALE:
        (void)registry_wrong(f, CODE_ETAG, "the configuration that is there has another etag");
        break;
    case ERR_LIMIT:
        (void)registry_wrong(f, CODE_TOO_MANY, "there are %u configurations of this kind already",
                             CONFIGURATIONS_OF_KIND_MAX);
        break;
    case ERR_DENIED:
        return registry_wrong(f, CODE_CONDITION,
                              "the condition does not fit the content that the configuration has");
    default:
        break;
    }
    return e;
}

enum err registry_config_apply(struct hub *h, struct store_tx *tx, struct arena *a,
                               const struct registry_config *c, struct span who, struct registry_fault *f)
{
    struct config_row r;
    struct config_new n = c->n;
    n.who = who;
    if (c->mode->doing == REGISTRY_DELETE)
        return refused(config_delete(h, tx, a, n.id, c->if_etag, who), f);
    enum err e =
        c->mode->write == IDENTITY_CREATE ? ERR_NOTFOUND : config_update(h, tx, a, &n, c->if_etag, &r);
    if (e == ERR_NOTFOUND && c->mode->write != IDENTITY_REPLACE)
        e = config_create(h, tx, a, &n, c->kind, &r);
    return refused(e, f);
}

/* ---- writing --------------------------------------------------------------------------------------------
 */

static void put_json(struct wr *w, const char *name, struct span json, const char *absent)
{
    member_raw(w, name, json.n ? json : span_str(absent));
}

void registry_config_write(struct wr *w, const struct config_row *r)
{
    wr_str(w, "{\"id\":");
    member_string(w, r->id);
    if (r->schema_version.n)
        member_text(w, "schemaVersion", r->schema_version);
    else
        put_json(w, "schemaVersion", SPAN_NONE, "null");
    put_json(w, "labels", r->labels, "null");
    member_raw(w, "content", r->content);
    member_text(w, "contentType", SPAN("assignment"));
    member_text(w, "targetCondition", r->condition);
    member_time(w, "createdTimeUtc", r->created_ms);
    member_time(w, "lastUpdatedTimeUtc", r->updated_ms);
    member_number(w, "priority", r->priority);
    member_raw(w, "metrics", SPAN("{\"results\":"));
    wr_put(w, r->results.n ? r->results : SPAN("{}"));
    put_json(w, "queries", r->metrics, "{}");
    wr_u8(w, '}');
    registry_etag_write(w, "etag", r->etag);
    wr_str(w, "}\n");
}

void registry_config_fault_write(struct wr *w, struct span id, const struct registry_fault *f)
{
    wr_str(w, "{\"configurationId\":");
    member_string(w, id);
    member_number(w, "errorCode", f->code);
    member_text(w, "errorStatus", span_str(f->text));
    wr_u8(w, '}');
}
