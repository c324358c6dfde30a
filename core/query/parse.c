/* core/query/parse.c - conditions, by recursive descent: what binds loosest is parsed first. Chains (AND, OR,
 * + - * / %) are one node with many children, so that only what is written inside something else is deep. */
#include "core/query/query_impl.h"

/* One byte of text makes at most one node and one step: QUERY_MEM. */
typedef char node_and_step_fit[sizeof(struct query_node) + sizeof(struct query_step) <= 96 ? 1 : -1];

/* ---- errors -------------------------------------------------------------------------------------------- */

static void put_plain(struct wr *w, struct span s)
{
    for (size_t i = 0; i < s.n && i < 32; i++)
        wr_u8(w, s.p[i] >= 0x20 && s.p[i] < 0x7f ? s.p[i] : '?');
    if (s.n > 32)
        wr_str(w, "...");
}

void query_error_place(struct query_error *err, struct span text, uint32_t at)
{
    err->at = at;
    err->line = err->column = 1;
    for (uint32_t i = 0; i < at && i < text.n; i++) {
        if (text.p[i] == '\n') {
            err->line++;
            err->column = 1;
        } else if ((text.p[i] & 0xc0) != 0x80) {
            err->column++;
        }
    }
}

void *query_fail(struct parser *p, enum err e, uint32_t at, const char *a, struct span b, const char *c)
{
    if (p->e)
        return NULL;
    struct query_error *x = p->err;
    struct wr w = { (uint8_t *)x->message, sizeof x->message - 1, 0 };
    p->e = e;
    query_error_place(x, p->text, at);
    wr_str(&w, a);
    put_plain(&w, b);
    wr_str(&w, c);
    x->message[w.len < sizeof x->message - 1 ? w.len : sizeof x->message - 1] = 0;
    return NULL;
}

static struct span token_text(const struct parser *p)
{
    return span_of(p->text.n ? p->text.p + p->t.at : p->text.p, p->t.end - p->t.at);
}

void *query_expected(struct parser *p, const char *what)
{
    char room[96];
    struct wr w = { (uint8_t *)room, sizeof room - 1, 0 };
    if (p->t.kind == TOKEN_BAD)
        return query_fail(p, ERR_PROTO, p->t.at, p->t.why, SPAN_NONE, "");
    wr_str(&w, "expected ");
    wr_str(&w, what);
    wr_str(&w, p->t.kind == TOKEN_END ? ", found the end" : ", found ");
    room[wr_ok(&w) ? w.len : 0] = 0;
    return query_fail(p, ERR_PROTO, p->t.at, room, token_text(p), "");
}

/* ---- tokens and memory --------------------------------------------------------------------------------- */

void query_next(struct parser *p)
{
    query_token(p->text, p->t.end, p->dialect, &p->t);
}

void query_begin(struct parser *p, struct span text, enum query_dialect dialect, void *mem, size_t cap,
                 struct query_error *err)
{
    *p = (struct parser){ .text = text, .dialect = dialect, .err = err, .mem = mem, .cap = cap };
    *err = (struct query_error){ .line = 1, .column = 1 };
    if (dialect == QUERY_OF_ROUTES
            ? text.n > QUERY_ROUTE_MAX
            : text.n > 4 * QUERY_TEXT_MAX ||
                  (text.n > QUERY_TEXT_MAX && query_characters(text) > QUERY_TEXT_MAX)) {
        query_fail(p, ERR_LIMIT, 0, "the text is longer than ", SPAN_NONE,
                   dialect == QUERY_OF_ROUTES ? "2048 bytes" : "8192 characters");
        return;
    }
    query_next(p);
}

bool query_sign_is(const struct parser *p, int sign)
{
    return p->t.kind == TOKEN_SIGN && p->t.sign == sign;
}

bool query_word_is(const struct parser *p, const char *word)
{
    return p->t.kind == TOKEN_NAME && span_ieq(p->t.text, span_str(word));
}

static bool take_sign(struct parser *p, int sign)
{
    bool yes = query_sign_is(p, sign);
    if (yes)
        query_next(p);
    return yes;
}

static bool take_word(struct parser *p, const char *word)
{
    bool yes = query_word_is(p, word);
    if (yes)
        query_next(p);
    return yes;
}

void *query_alloc(struct parser *p, size_t n)
{
    n = (n + 7u) & ~(size_t)7u;
    if (p->e)
        return NULL;
    if (n > p->cap - p->used)
        return query_fail(p, ERR_NOMEM, p->t.at, "the memory for the query is too small", SPAN_NONE, "");
    void *at = p->mem + p->used;
    p->used += n;
    return memset(at, 0, n);
}

static struct query_node *node_new(struct parser *p, enum query_op op)
{
    struct query_node *n = query_alloc(p, sizeof *n);
    if (n)
        n->op = (uint8_t)op;
    return n;
}

/* NULL when either is. */
static struct query_node *parent_of(struct parser *p, enum query_op op, struct query_node *first,
                                    struct query_node *second)
{
    struct query_node *n = first && second ? node_new(p, op) : NULL;
    if (!n)
        return NULL;
    n->first = first;
    first->next = second == first ? NULL : second;
    n->nr = second == first ? 1 : 2;
    return n;
}

static bool go_deeper(struct parser *p)
{
    if (p->depth < QUERY_DEPTH_MAX) {
        p->depth++;
        return true;
    }
    return query_fail(p, ERR_LIMIT, p->t.at, "nested deeper than 64 levels", SPAN_NONE, "") != NULL;
}

/* ---- paths --------------------------------------------------------------------------------------------- */

static bool read_index(struct parser *p, struct query_step *step)
{
    query_next(p);
    if (p->t.kind != TOKEN_NUMBER || p->t.num < 0 || p->t.num > 1e6 || p->t.num != (uint32_t)p->t.num)
        return query_expected(p, "an index such as 0") != NULL;
    step->index = (uint32_t)p->t.num;
    query_next(p);
    if (!query_sign_is(p, ']'))
        return query_expected(p, "]") != NULL;
    query_next(p);
    return true;
}

static bool read_step(struct parser *p, struct query_step *step)
{
    if (p->t.kind != TOKEN_NAME && p->t.kind != TOKEN_QUOTED)
        return query_expected(p, "a name") != NULL;
    step->name = p->t.text;
    query_next(p);
    return true;
}

/* What a route's first name refers to; $body and $twin are not among the steps. */
static void set_root(struct query_path *path, bool quoted)
{
    struct span name = path->step[0].name;
    path->root = QUERY_APP;
    if (quoted || !name.n || name.p[0] != '$')
        return;
    path->root = span_ieq(name, SPAN("$body"))   ? QUERY_BODY
                 : span_ieq(name, SPAN("$twin")) ? QUERY_TWIN
                                                 : QUERY_SYSTEM;
    if (path->root != QUERY_SYSTEM) {
        path->step++;
        path->nr--;
    }
    if (path->root == QUERY_TWIN && path->nr)
        query_bind_path(path, QUERY_DEVICES);
}

struct query_node *query_path(struct parser *p)
{
    struct query_step step[QUERY_STEPS_MAX];
    size_t nr = 1;
    const uint32_t at = p->t.at;
    bool quoted = p->t.kind == TOKEN_QUOTED;
    memset(&step[0], 0, sizeof step[0]);
    if (!read_step(p, &step[0]))
        return NULL;
    while (query_sign_is(p, '.') || query_sign_is(p, '[')) {
        if (nr == QUERY_STEPS_MAX)
            return query_fail(p, ERR_LIMIT, p->t.at, "a path of more than 64 names", SPAN_NONE, "");
        memset(&step[nr], 0, sizeof step[nr]);
        bool ok = query_sign_is(p, '[') ? read_index(p, &step[nr]) : (query_next(p), read_step(p, &step[nr]));
        if (!ok)
            return NULL;
        nr++;
    }
    struct query_node *n = node_new(p, QUERY_PATH);
    struct query_step *kept = query_alloc(p, nr * sizeof *kept);
    if (!n || !kept)
        return NULL;
    memcpy(kept, step, nr * sizeof *kept);
    n->u.path.nr = (uint16_t)nr;
    n->u.path.at = at;
    n->u.path.step = kept;
    if (p->dialect == QUERY_OF_ROUTES)
        set_root(&n->u.path, quoted);
    return n;
}

/* ---- primaries ----------------------------------------------------------------------------------------- */

static struct query_node *literal(struct parser *p, enum query_kind kind)
{
    struct query_node *n = node_new(p, QUERY_LITERAL);
    if (!n)
        return NULL;
    n->u.value.kind = (uint8_t)kind;
    n->u.value.num = p->t.num;
    n->u.value.s = p->t.text;
    if (kind == QUERY_STRING && p->t.text.n && memchr(p->t.text.p, '\\', p->t.text.n)) {
        struct wr w = { query_alloc(p, p->t.text.n), p->t.text.n, 0 };
        if (!w.p)
            return NULL;
        if (!query_unescape(&w, p->t.text))
            return query_fail(p, ERR_PROTO, p->t.at,
                              "after a backslash only one of ' \" \\ / b f n r t and uXXXX has a meaning",
                              SPAN_NONE, "");
        n->u.value.s = wr_span(&w);
    }
    query_next(p);
    return n;
}

static struct query_node *word_literal(struct parser *p)
{
    struct query_node *n = NULL;
    if (query_word_is(p, "true") || query_word_is(p, "false")) {
        bool b = query_word_is(p, "true");
        n = literal(p, QUERY_BOOL);
        if (n)
            n->u.value.b = b;
    } else {
        n = literal(p, query_word_is(p, "null") ? QUERY_NULL : QUERY_UNDEFINED);
    }
    if (n)
        n->u.value.s = SPAN_NONE;
    return n;
}

static struct query_node *sum(struct parser *p);

/* Elements up to `close`, the mark that opens them being at hand. */
static struct query_node *list(struct parser *p, int close)
{
    struct query_node *n = node_new(p, QUERY_LIST), *last = NULL, *e;
    if (!n || !go_deeper(p))
        return NULL;
    do {
        query_next(p);
        if (n->nr == QUERY_LIST_MAX)
            return query_fail(p, ERR_LIMIT, p->t.at, "a list of more than 1000 elements", SPAN_NONE, "");
        if (!(e = sum(p)))
            return NULL;
        if (last)
            last->next = e;
        else
            n->first = e;
        last = e;
        n->nr++;
    } while (query_sign_is(p, ','));
    if (!query_sign_is(p, close))
        return query_expected(p, close == ']' ? "',' or ']'" : "',' or ')'");
    query_next(p);
    p->depth--;
    return n;
}

static void *no_such_function(struct parser *p, const struct token *name, const char *other)
{
    char room[80];
    struct wr w = { (uint8_t *)room, sizeof room - 1, 0 };
    if (other) {
        wr_str(&w, " is not known here: it is ");
        wr_str(&w, other);
    } else {
        wr_str(&w, " is not a function of ");
        wr_str(&w, p->dialect == QUERY_OF_ROUTES ? "route conditions" : "queries");
    }
    room[wr_ok(&w) ? w.len : 0] = 0;
    return query_fail(p, ERR_PROTO, name->at, "", name->text, room);
}

static struct query_node *call(struct parser *p, const struct token *name)
{
    const char *other = NULL;
    int f = query_func_find(name->text, p->dialect, &other);
    if (f < 0)
        return no_such_function(p, name, other);
    struct query_node *n = node_new(p, QUERY_CALL), *last = NULL, *arg;
    if (!n || !go_deeper(p))
        return NULL;
    n->sub = (uint8_t)f;
    query_next(p); /* the parenthesis */
    while (n->nr ? query_sign_is(p, ',') : !query_sign_is(p, ')')) {
        if (n->nr)
            query_next(p);
        if (n->nr == QUERY_ARGS_MAX)
            return query_fail(p, ERR_LIMIT, p->t.at, "more than 32 arguments", SPAN_NONE, "");
        if (!(arg = query_condition(p)))
            return NULL;
        if (last)
            last->next = arg;
        else
            n->first = arg;
        last = arg;
        n->nr++;
    }
    if (!query_sign_is(p, ')'))
        return query_expected(p, "',' or ')'");
    const struct query_func *fn = query_func_at(n->sub);
    if (n->nr < fn->args_min || n->nr > fn->args_max)
        return query_fail(p, ERR_PROTO, name->at, "", name->text,
                          n->nr < fn->args_min ? " needs more arguments" : " takes fewer arguments");
    query_next(p);
    p->depth--;
    return n;
}

static struct query_node *name(struct parser *p)
{
    struct token t = p->t, after;
    if (query_word_is(p, "true") || query_word_is(p, "false") || query_word_is(p, "null") ||
        query_word_is(p, "undefined"))
        return word_literal(p);
    query_token(p->text, t.end, p->dialect, &after);
    if (after.kind == TOKEN_SIGN && after.sign == '(' && !query_is_reserved(t.text, p->dialect)) {
        query_next(p);
        return call(p, &t);
    }
    if (query_is_reserved(t.text, p->dialect))
        return query_expected(p, "a value (a name that is a key word is written [[name]])");
    return query_path(p);
}

static struct query_node *primary(struct parser *p)
{
    struct query_node *n;
    switch (p->t.kind) {
    case TOKEN_NUMBER:
        return literal(p, QUERY_NUMBER);
    case TOKEN_STRING:
        return literal(p, QUERY_STRING);
    case TOKEN_NAME:
        return name(p);
    case TOKEN_QUOTED:
        return query_path(p);
    case TOKEN_SIGN:
        if (query_sign_is(p, '[') && p->dialect == QUERY_OF_TWINS)
            return list(p, ']');
        if (!query_sign_is(p, '('))
            break;
        query_next(p);
        if (!go_deeper(p) || !(n = query_condition(p)))
            return NULL;
        if (!query_sign_is(p, ')'))
            return query_expected(p, "an operator or ')'");
        query_next(p);
        p->depth--;
        return n;
    case TOKEN_END:
    case TOKEN_BAD:
        break;
    }
    return query_expected(p, "a value");
}

/* ---- operators ----------------------------------------------------------------------------------------- */

static struct query_node *unary(struct parser *p)
{
    if (!query_sign_is(p, '-'))
        return primary(p);
    query_next(p);
    if (!go_deeper(p))
        return NULL;
    struct query_node *n = unary(p);
    p->depth--;
    if (n && n->op == QUERY_LITERAL && n->u.value.kind == QUERY_NUMBER) {
        n->u.value.num = -n->u.value.num;
        return n;
    }
    return parent_of(p, QUERY_NEGATE, n, n);
}

/* part { sign part }, as one node. */
static struct query_node *chain(struct parser *p, const char *signs,
                                struct query_node *(*part)(struct parser *))
{
    struct query_node *n = NULL, *last = part(p), *next;
    if (!last)
        return NULL;
    while (p->t.kind == TOKEN_SIGN && p->t.sign < 128 && strchr(signs, p->t.sign)) {
        uint8_t joint = (uint8_t)p->t.sign;
        query_next(p);
        if (!(next = part(p)))
            return NULL;
        if (!n && !(n = parent_of(p, QUERY_ARITH, last, next)))
            return NULL;
        if (last->next != next) {
            last->next = next;
            n->nr++;
        }
        next->joint = joint;
        last = next;
    }
    return n ? n : last;
}

static struct query_node *product(struct parser *p)
{
    return chain(p, "*/%", unary);
}

static struct query_node *sum(struct parser *p)
{
    return chain(p, "+-", product);
}

static bool compare_sign(const struct parser *p, uint8_t *sub)
{
    static const struct {
        int sign;
        enum query_compare sub;
    } known[] = { { '=', QUERY_EQ },     { SIGN_NE, QUERY_NE }, { '<', QUERY_LT },
                  { SIGN_LE, QUERY_LE }, { '>', QUERY_GT },     { SIGN_GE, QUERY_GE } };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (query_sign_is(p, known[i].sign)) {
            *sub = (uint8_t)known[i].sub;
            return true;
        }
    return false;
}

static struct query_node *in_list(struct parser *p, struct query_node *left, bool negated)
{
    if (p->dialect == QUERY_OF_ROUTES)
        return query_fail(p, ERR_PROTO, p->t.at, "IN is not part of route conditions: use = and OR",
                          SPAN_NONE, "");
    query_next(p);
    if (!query_sign_is(p, '[') && !query_sign_is(p, '('))
        return query_expected(p, "a list such as ['a', 'b']");
    struct query_node *l = list(p, query_sign_is(p, '[') ? ']' : ')');
    struct query_node *n = parent_of(p, QUERY_IN, left, l);
    if (n)
        n->sub = negated;
    return n;
}

static struct query_node *compare(struct parser *p)
{
    uint8_t sub;
    struct token after;
    struct query_node *left = sum(p), *n;
    if (!left)
        return NULL;
    if (compare_sign(p, &sub)) {
        query_next(p);
        struct query_node *right = sum(p);
        n = parent_of(p, QUERY_COMPARE, left, right);
        if (!n)
            return NULL;
        n->sub = sub;
        if (compare_sign(p, &sub))
            return query_fail(p, ERR_PROTO, p->t.at,
                              "comparisons do not follow each other: join them with AND", SPAN_NONE, "");
        return n;
    }
    if (query_word_is(p, "IN"))
        return in_list(p, left, false);
    if (query_word_is(p, "NIN"))
        return in_list(p, left, true);
    if (query_word_is(p, "NOT")) {
        query_token(p->text, p->t.end, p->dialect, &after);
        if (after.kind == TOKEN_NAME && span_ieq(after.text, SPAN("IN"))) {
            query_next(p);
            return in_list(p, left, true);
        }
    }
    return left;
}

static struct query_node *negation(struct parser *p)
{
    if (!take_word(p, "NOT"))
        return compare(p);
    if (!go_deeper(p))
        return NULL;
    struct query_node *n = negation(p);
    p->depth--;
    return parent_of(p, QUERY_NOT, n, n);
}

/* part { word part }, as one node. */
static struct query_node *joined(struct parser *p, enum query_op op, const char *word,
                                 struct query_node *(*part)(struct parser *))
{
    struct query_node *n = NULL, *last = part(p), *next;
    while (last && take_word(p, word)) {
        if (!(next = part(p)))
            return NULL;
        if (!n && !(n = parent_of(p, op, last, next)))
            return NULL;
        if (last->next != next) {
            last->next = next;
            n->nr++;
        }
        last = next;
    }
    return n ? n : last;
}

static struct query_node *all_of(struct parser *p)
{
    return joined(p, QUERY_AND, "AND", negation);
}

struct query_node *query_condition(struct parser *p)
{
    return joined(p, QUERY_OR, "OR", all_of);
}

/* ---- whole texts --------------------------------------------------------------------------------------- */

static void parse_all(struct parser *p, struct query *q)
{
    struct query_node *n = NULL;
    if (p->e || p->t.kind == TOKEN_END)
        return;
    if (p->dialect == QUERY_OF_TWINS && take_sign(p, '*')) {
        if (p->t.kind != TOKEN_END)
            query_expected(p, "nothing after *");
        return;
    }
    n = query_condition(p);
    if (n && p->t.kind != TOKEN_END)
        query_expected(p, "an operator or the end");
    if (n && p->dialect == QUERY_OF_TWINS)
        (void)query_bind(p, n, (enum query_from)q->from);
    q->where = n;
}

static enum err finish(struct parser *p, struct query *got, struct query *q)
{
    got->mem_used = p->used;
    if (!p->e)
        *q = *got;
    return p->e;
}

enum err query_parse_condition(struct query *q, enum query_from from, struct span text, void *mem, size_t cap,
                               struct query_error *err)
{
    struct parser p;
    struct query got = { .from = (uint8_t)from, .star = true };
    query_begin(&p, text, QUERY_OF_TWINS, mem, cap, err);
    if (!p.e && from != QUERY_JOBS && take_word(&p, "FROM")) {
        bool modules = false;
        if (!take_word(&p, "devices"))
            query_expected(&p, "devices.modules");
        else if (take_sign(&p, '.') && !(modules = take_word(&p, "modules")))
            query_expected(&p, "modules");
        got.from = modules ? QUERY_MODULES : QUERY_DEVICES;
        if (!p.e && p.t.kind != TOKEN_END && !take_word(&p, "WHERE"))
            query_expected(&p, "WHERE");
        else if (!p.e && p.t.kind != TOKEN_END)
            parse_all(&p, &got);
    } else {
        parse_all(&p, &got);
    }
    return finish(&p, &got, q);
}

enum err query_parse_route(struct query *q, struct span text, void *mem, size_t cap, struct query_error *err)
{
    struct parser p;
    struct query got = { .star = true };
    query_begin(&p, text, QUERY_OF_ROUTES, mem, cap, err);
    parse_all(&p, &got);
    return finish(&p, &got, q);
}
