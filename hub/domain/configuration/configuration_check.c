/* hub/domain/configuration/configuration_check.c - may this be a configuration, and what does its content
 * write? Pure. */
#include "hub/domain/configuration/configuration.h"

#include "base/log.h"
#include "hub/domain/identity/identity.h"
#include "hub/domain/query/query.h"

#include <stdarg.h>
#include <stdio.h>

static enum err wrong(struct config_fault *f, enum config_wrong what, const char *text, ...) LOG_PRINTF(3, 4);
static enum err wrong(struct config_fault *f, enum config_wrong what, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    f->wrong = what;
    return ERR_PROTO;
}

/* ---- content --------------------------------------------------------------------------------------------
 */

#define PREFIX "properties.desired"

/* {"a":{"b":value}} of "a.b"; NULL: not such a path, or out of memory. */
static struct jnode *nested(struct arena *a, struct span path, const struct jnode *value)
{
    struct jnode *top = jtree_new(a, JOBJECT), *at = top;
    for (;;) {
        size_t n = 0;
        while (n < path.n && path.p[n] != '.')
            n++;
        bool last = n == path.n;
        struct jnode *next = last ? jtree_copy(a, value) : jtree_new(a, JOBJECT);
        struct jtree_list l = jtree_list(at);
        if (!n || !at || !next)
            return NULL;
        next->key = span_of(path.p, n);
        jtree_add(&l, next);
        if (last)
            return top;
        path = span_skip(path, n + 1);
        at = next;
    }
}

enum err config_desired(struct arena *a, const struct jnode *content, struct jnode **desired, bool *whole,
                        struct config_fault *f)
{
    const struct jnode *all = jtree_get(content, SPAN(PREFIX));
    struct twin_fault tf = { .wrong = TWIN_FINE };
    struct jnode *out = jtree_new(a, JOBJECT), *checked;
    if (content->kind != JOBJECT || (all && all->kind != JOBJECT))
        return wrong(f, CONFIG_BAD_CONTENT,
                     "content has to be an object with members " PREFIX " (an object) or " PREFIX ".<path>");
    if (all)
        out = twin_patch_over(a, NULL, all);
    for (const struct jnode *m = content->first; m && out; m = m->next) {
        if (span_eq(m->key, SPAN(PREFIX)))
            continue;
        struct jnode *part =
            span_starts(m->key, SPAN(PREFIX ".")) ? nested(a, span_skip(m->key, sizeof PREFIX), m) : NULL;
        if (arena_err(a))
            return ERR_NOMEM;
        if (!part)
            return wrong(f, CONFIG_BAD_CONTENT,
                         "member \"%.*s\" of the content is neither " PREFIX " nor below it",
                         (int)(m->key.n < 100 ? m->key.n : 100), (const char *)m->key.p);
        out = out ? twin_patch_over(a, out, part) : NULL;
    }
    enum err e = out ? arena_err(a) : ERR_NOMEM;
    if (!e)
        e = twin_check(a, TWIN_DESIRED, out, false, &checked, &tf);
    if (!e)
        e = twin_check_size(TWIN_DESIRED, checked, &tf);
    if (e == ERR_PROTO)
        return wrong(f, CONFIG_BAD_CONTENT, "%s", tf.text);
    if (!e) {
        *desired = checked;
        *whole = all != NULL;
    }
    return e;
}

static enum err check_modules(struct arena *a, const struct jnode *modules, struct config_fault *f)
{
    struct jnode *desired;
    bool whole;
    enum err e = ERR_OK;
    if (modules->kind != JOBJECT || !jtree_get(modules, SPAN("$edgeAgent")))
        return wrong(f, CONFIG_BAD_CONTENT, "modulesContent has to be an object with a member $edgeAgent");
    if (modules->nr > CONFIG_MODULES_MAX)
        return wrong(f, CONFIG_BAD_CONTENT, "a deployment has at most %u modules", CONFIG_MODULES_MAX);
    for (const struct jnode *m = modules->first; !e && m; m = m->next)
        e = identity_id_ok(m->key) ? config_desired(a, m, &desired, &whole, f)
                                   : wrong(f, CONFIG_BAD_CONTENT, "modulesContent: not a module id");
    return e;
}

enum err config_content(struct arena *a, struct span text, uint8_t *kind, struct jnode **content,
                        struct config_fault *f)
{
    static const struct {
        const char *name;
        uint8_t kind;
    } kinds[] = { { "deviceContent", CONFIG_DEVICE },
                  { "moduleContent", CONFIG_MODULE },
                  { "modulesContent", CONFIG_EDGE } };
    struct jnode *o, *found = NULL, *desired;
    bool whole;
    unsigned nr = 0;
    if (text.n > CONFIG_CONTENT_MAX)
        return wrong(f, CONFIG_BAD_CONTENT, "the content has at most %u bytes", CONFIG_CONTENT_MAX);
    enum err e = jtree_parse(a, text, &o, NULL);
    if (e == ERR_NOMEM)
        return e;
    if (e || o->kind != JOBJECT)
        return wrong(f, CONFIG_BAD_CONTENT, "content has to be an object");
    /* There are clients that write all three, empty but for one. */
    for (int empty = 0; empty < 2 && !nr; empty++)
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            struct jnode *m = jtree_get(o, span_str(kinds[i].name));
            if (m && m->kind != JNULL && (empty || m->kind != JOBJECT || m->first)) {
                found = m;
                *kind = kinds[i].kind;
                nr++;
            }
        }
    if (nr != 1)
        return wrong(f, CONFIG_BAD_CONTENT,
                     "content has exactly one of deviceContent, moduleContent and modulesContent");
    e = *kind == CONFIG_EDGE ? check_modules(a, found, f) : config_desired(a, found, &desired, &whole, f);
    if (!e)
        *content = found;
    return e;
}

/* ---- the rest -------------------------------------------------------------------------------------------
 */

static enum err compile(struct arena *a, struct span text, struct query_condition **out,
                        struct config_fault *f)
{
    struct query_error qe;
    enum err e = query_condition_compile(a, QUERY_USE_CONFIGURATION, text, out, &qe);
    return e == ERR_PROTO || e == ERR_LIMIT
               ? wrong(f, CONFIG_BAD_CONDITION, "line %u, column %u: %s", qe.line, qe.column, qe.message)
               : e;
}

enum err config_check_condition(struct arena *a, struct span text, struct config_fault *f)
{
    struct query_condition *c;
    return compile(a, text, &c, f);
}

enum err config_check_metric(struct arena *a, struct span text, struct config_fault *f)
{
    struct query q;
    struct query_error qe;
    size_t cap = QUERY_MEM(text.n < QUERY_TEXT_MAX ? text.n : QUERY_TEXT_MAX);
    void *mem = arena_alloc(a, cap);
    enum err e = mem ? query_parse(&q, text, mem, cap, &qe) : ERR_NOMEM;
    return e == ERR_PROTO || e == ERR_LIMIT
               ? wrong(f, CONFIG_BAD_METRICS, "line %u, column %u: %s", qe.line, qe.column, qe.message)
               : e;
}

enum err config_check_target(struct arena *a, uint8_t kind, struct span text, struct config_fault *f)
{
    struct query_condition *c = NULL;
    enum err e = text.n ? compile(a, text, &c, f) : ERR_OK;
    if (!e && c && (c->q.from == QUERY_MODULES) != (kind == CONFIG_MODULE))
        return wrong(f, CONFIG_BAD_CONDITION,
                     kind == CONFIG_MODULE ? "the target of moduleContent is FROM devices.modules WHERE ..."
                                           : "the target of this content are devices, not modules");
    return e;
}

static bool id_ok(struct span id)
{
    for (size_t i = 0; i < id.n; i++) {
        uint8_t c = id.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (!c || !strchr("-+%_*!'", c)))
            return false;
    }
    return id.n >= 1 && id.n <= CONFIG_ID_MAX;
}

static enum err texts(struct arena *a, struct span json, const char *name, struct jnode **out,
                      struct config_fault *f)
{
    *out = NULL;
    if (!json.n)
        return ERR_OK;
    enum err e = jtree_parse(a, json, out, NULL);
    if (e == ERR_NOMEM)
        return e;
    bool ok = !e && (*out)->kind == JOBJECT;
    for (const struct jnode *m = ok ? (*out)->first : NULL; m; m = m->next)
        ok = ok && m->kind == JSTRING;
    return ok ? ERR_OK : wrong(f, CONFIG_BAD_MEMBER, "%s has to be an object whose members are texts", name);
}

enum err config_check(struct arena *a, const struct config_new *in, uint8_t *kind, struct config_fault *f)
{
    struct jnode *content, *labels, *metrics;
    if (!id_ok(in->id))
        return wrong(f, CONFIG_BAD_MEMBER,
                     "a configuration id has 1 to %u characters: a to z, 0 to 9 and - + %% _ * ! '",
                     CONFIG_ID_MAX);
    if (in->priority > CONFIG_PRIORITY_MAX)
        return wrong(f, CONFIG_BAD_MEMBER, "the priority is a whole number up to %u", CONFIG_PRIORITY_MAX);
    if (in->schema_version.n > 128 || in->labels.n > 16384 || in->metrics.n > 65536)
        return wrong(f, CONFIG_BAD_MEMBER, "schemaVersion, labels or metrics are too long");
    enum err e = config_content(a, in->content, kind, &content, f);
    if (!e)
        e = config_check_target(a, *kind, in->condition, f);
    if (!e)
        e = texts(a, in->labels, "labels", &labels, f);
    if (!e)
        e = texts(a, in->metrics, "metrics.queries", &metrics, f);
    if (!e && metrics && metrics->nr > CONFIG_METRICS_MAX)
        return wrong(f, CONFIG_BAD_METRICS, "there may be %u metrics", CONFIG_METRICS_MAX);
    for (const struct jnode *m = e || !metrics ? NULL : metrics->first; !e && m; m = m->next)
        e = config_check_metric(a, m->text, f);
    return e;
}
