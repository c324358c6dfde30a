/* hub/domain/twin/twin_merge_test.c - the rules of a twin's sections: each limit from both sides, merging,
 * stamps; and long random histories against a model that is a plain list of paths. */
#include "hub/domain/twin/twin_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static int setup(void **state)
{
    static struct arena a;
    arena_init(&a, 256u << 20);
    *state = &a;
    return 0;
}
static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

static struct jnode *tree(struct arena *a, const char *text)
{
    struct jnode *n = NULL;
    assert_int_equal(jtree_parse(a, span_str(text), &n, NULL), ERR_OK);
    return n;
}
static void is(struct span got, const char *want)
{
    if (got.n != strlen(want) || memcmp(got.p, want, got.n) != 0)
        fail_msg("got  %.*s\nwant %s", (int)got.n, (const char *)got.p, want);
}

/* ---- what may be in a section ----------------------------------------------------------------------- */

static enum twin_wrong check(struct arena *a, const char *text, const char *message)
{
    struct jnode *out = NULL;
    struct twin_fault f = { TWIN_FINE, "" };
    enum err e = twin_check(a, TWIN_DESIRED, tree(a, text), true, &out, &f);
    assert_int_equal(e, f.wrong ? ERR_PROTO : ERR_OK);
    assert_int_equal(out != NULL, e == ERR_OK);
    if (message && !strstr(f.text, message))
        fail_msg("\"%s\" is not in \"%s\"", message, f.text);
    return f.wrong;
}

static void test_keys(void **state)
{
    static const char *const good[] = { "", "a", "a-b_c:/\\\\", "\\u00e4\\ud83d\\ude00", "\\u00a0", "'\\\"" };
    static const char *const bad[] = { "a.b",     "a b",     "a#",      "\\u0000", "\\u001f",
                                       "\\u007f", "\\u0080", "\\u009f", "a\\tb",   "x$" };
    char text[3000];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(text, sizeof text, "{\"o\":{\"%s\":1}}", good[i]);
        assert_int_equal(check(*state, text, NULL), TWIN_FINE);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "{\"o\":{\"%s\":null}}", bad[i]);
        assert_int_equal(check(*state, text, "properties.desired.o."), TWIN_BAD_KEY);
        snprintf(text, sizeof text, "{\"o\":[[{\"%s\":1}]]}", bad[i]);
        assert_int_equal(check(*state, text, "properties.desired.o[0][0]."), TWIN_BAD_KEY);
    }
    for (int n = 1024; n <= 1025; n++) {
        snprintf(text, sizeof text, "{\"%.*s\":1}", n, "");
        memset(text + 2, 'k', (size_t)n);
        strcpy(text + 2 + n, "\":1}");
        assert_int_equal(check(*state, text, NULL), n == 1024 ? TWIN_FINE : TWIN_BAD_KEY);
    }
    /* at the top, tools send back what they read; further down nothing begins with a dollar */
    assert_int_equal(check(*state, "{\"$version\":\"x\",\"$metadata\":{\"a b\":null},\"a\":1}", NULL),
                     TWIN_FINE);
    assert_int_equal(check(*state, "{\"$other\":1}", "properties.desired.$other"), TWIN_BAD_KEY);
    assert_int_equal(check(*state, "{\"a\":{\"$version\":1}}", "properties.desired.a.$version"),
                     TWIN_BAD_KEY);
    struct jnode *out;
    struct twin_fault f;
    assert_int_equal(twin_check(*state, TWIN_REPORTED, tree(*state, "{\"$x\":1}"), false, &out, &f),
                     ERR_PROTO);
    is(span_str(f.text),
       "properties.reported.$x: a key has at most 1024 bytes and no control character, space, "
       "'.', '$' or '#'");
}

static void test_values(void **state)
{
    static const struct {
        const char *value;
        enum twin_wrong wrong;
    } rows[] = {
        { "4503599627370495", TWIN_FINE },
        { "4503599627370496", TWIN_BAD_NUMBER },
        { "-4503599627370496", TWIN_FINE },
        { "-4503599627370497", TWIN_BAD_NUMBER },
        { "99999999999999999999999", TWIN_BAD_NUMBER },
        { "1.0", TWIN_FINE },
        { "4503599627370497.5", TWIN_FINE },
        { "1e308", TWIN_FINE },
        { "1e309", TWIN_BAD_NUMBER },
        { "-1E+999", TWIN_BAD_NUMBER },
        { "1e-999", TWIN_FINE },
        { "0.12345678901234567890123456789012345678901234567890123456789012", TWIN_FINE },
        { "0.123456789012345678901234567890123456789012345678901234567890123", TWIN_BAD_NUMBER },
        { "[]", TWIN_FINE },
        { "[1,\"a\",[true],{\"a\":[]}]", TWIN_FINE },
        { "[null]", TWIN_NULL_IN_ARRAY },
        { "[[1,null]]", TWIN_NULL_IN_ARRAY },
        { "[{\"a\":null}]", TWIN_NULL_IN_ARRAY },
        { "null", TWIN_FINE },
        { "{}", TWIN_FINE },
    };
    char text[16000];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "{\"v\":%s}", rows[i].value);
        assert_int_equal(check(*state, text, rows[i].wrong ? "properties.desired.v" : NULL), rows[i].wrong);
    }
    for (int n = 4096; n <= 4097; n++) {
        snprintf(text, sizeof text, "{\"v\":\"");
        memset(text + 6, 'x', (size_t)n);
        strcpy(text + 6 + n, "\"}");
        assert_int_equal(check(*state, text, n == 4096 ? NULL : "properties.desired.v: a string"),
                         n == 4096 ? TWIN_FINE : TWIN_LONG_STRING);
    }
    assert_int_equal(check(*state, "[]", "properties.desired: has to be an object"), TWIN_NOT_OBJECT);
    assert_int_equal(check(*state, "1", NULL), TWIN_NOT_OBJECT);
}

static void test_depth(void **state)
{
    for (int arrays = 0; arrays < 2; arrays++)
        for (int deep = 10; deep <= 11; deep++) { /* a scalar may sit inside the tenth */
            char text[256] = "";
            for (int i = 0; i <= deep; i++)
                strcat(text, arrays && i == 1 ? "{\"k\":[" : "{\"k\":");
            strcat(text, "1");
            for (int i = deep; i >= 0; i--)
                strcat(text, arrays && i == 1 ? "]}" : "}");
            assert_int_equal(check(*state, text, deep == 11 ? "properties.desired.k" : NULL),
                             deep == 10 ? TWIN_FINE : TWIN_TOO_DEEP);
        }
}

static void test_size(void **state)
{
    assert_int_equal(twin_size(tree(*state, "{}")), 0);
    assert_int_equal(
        twin_size(tree(*state, "{\"a\":1.25,\"bc\":true,\"d\":\"x\\ny\\u0085\\u00e4\",\"e\":{},\"f\":[]}")),
        1 + 8 + 2 + 4 + 1 + 4 + 1 + 1);
    assert_int_equal(twin_size(tree(*state, "{\"a\":{\"b\":[1,{\"c\":\"d\"}]}}")), 1 + 1 + 8 + 1 + 1);
    static const struct {
        enum twin_section s;
        size_t max;
        const char *name;
    } sections[] = { { TWIN_TAGS, 8192, "tags: would" },
                     { TWIN_DESIRED, 32768, "properties.desired: would" },
                     { TWIN_REPORTED, 32768, "properties.reported: would" } };
    for (size_t i = 0; i < 3; i++)
        for (int more = 0; more < 2; more++) {
            struct twin_fault f = { TWIN_FINE, "" };
            struct jnode *o = jtree_new(*state, JOBJECT);
            struct jtree_list l = jtree_list(o);
            uint8_t *fill = arena_alloc(*state, 4096);
            memset(fill, 'v', 4096);
            size_t left = sections[i].max + (size_t)more;
            for (int k = 0; left; k++) {
                char key[16];
                struct jnode *v = jtree_new(*state, JSTRING);
                snprintf(key, sizeof key, "%03d", k);
                v->key = arena_copy(*state, span_str(key));
                v->text = span_of(fill, left - 3 > 4000 ? 4000 : left - 3);
                left -= v->text.n + 3;
                jtree_add(&l, v);
            }
            assert_int_equal(twin_check_size(sections[i].s, o, &f), more ? ERR_PROTO : ERR_OK);
            assert_int_equal(f.wrong, more ? TWIN_TOO_LARGE : TWIN_FINE);
            if (more)
                assert_true(!strncmp(f.text, sections[i].name, strlen(sections[i].name)));
        }
    /* what counts nothing has an end too */
    struct twin_fault f = { TWIN_FINE, "" };
    size_t len = 0;
    char *text = malloc(200000);
    len += (size_t)sprintf(text, "{\"a\":[[]");
    while (len < 132000)
        len += (size_t)sprintf(text + len, ",[]");
    strcpy(text + len, "]}");
    assert_int_equal(twin_check_size(TWIN_DESIRED, tree(*state, text), &f), ERR_PROTO);
    assert_int_equal(f.wrong, TWIN_TOO_LARGE);
    free(text);
}

/* ---- merging ---------------------------------------------------------------------------------------- */

static void test_merging(void **state)
{
    static const char *const rows[][3] = {
        /* base, patch, result */
        { "{}", "{}", "{}" },
        { "{\"a\":1}", "{}", "{\"a\":1}" },
        { "{\"a\":1}", "{\"a\":2}", "{\"a\":2}" },
        { "{\"a\":1,\"b\":2}", "{\"a\":null}", "{\"b\":2}" },
        { "{\"a\":{\"b\":1}}", "{\"a\":{\"b\":null}}", "{\"a\":{}}" },
        { "{\"a\":{\"b\":1}}", "{\"a\":{\"c\":1.0}}", "{\"a\":{\"b\":1,\"c\":1.0}}" },
        { "{\"a\":{\"b\":1}}", "{\"a\":[1,2]}", "{\"a\":[1,2]}" },
        { "{\"a\":[1,{\"x\":1}]}", "{\"a\":[{\"y\":2}]}", "{\"a\":[{\"y\":2}]}" },
        { "{\"a\":5}", "{\"a\":{\"b\":null,\"c\":{\"d\":null,\"e\":1}}}", "{\"a\":{\"c\":{\"e\":1}}}" },
        { "{}", "{\"a\":{\"b\":null}}", "{\"a\":{}}" },
        { "{}", "{\"a\":{}}", "{\"a\":{}}" },
        { "{\"a\":{\"b\":1}}", "{\"a\":{}}", "{\"a\":{\"b\":1}}" },
        { "{\"a\":1}", "{\"a\":{}}", "{\"a\":{}}" },
        { "{\"a\":1}", "{\"b\":null}", "{\"a\":1}" },
    };
    static const struct twin_stamp now = { 5, 6 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        is(jtree_text(*state, twin_merge(*state, tree(*state, rows[i][0]), tree(*state, rows[i][1]), &now)),
           rows[i][2]);
    is(jtree_text(*state, twin_merge(*state, NULL, tree(*state, "{\"a\":{\"b\":null},\"c\":null}"), &now)),
       "{\"a\":{}}");
}

static void test_a_replacement_says_what_is_gone(void **state)
{
    const struct jnode *from = tree(*state, "{\"a\":1,\"b\":{\"c\":1,\"d\":2},\"e\":{\"f\":1}}");
    const struct jnode *to = tree(*state, "{\"b\":{\"d\":2.0},\"e\":7,\"g\":[1]}");
    is(jtree_text(*state, twin_replacement(*state, from, to)),
       "{\"b\":{\"d\":2.0,\"c\":null},\"e\":7,\"g\":[1],\"a\":null}");
}

static void section_is(struct arena *a, enum twin_section s, const struct jnode *n, bool meta,
                       const char *want)
{
    struct wr w = { arena_alloc(a, 65536), 65536, 0 };
    twin_section_write(&w, s, n, 3, meta);
    is(wr_span(&w), want);
}

static void test_every_leaf_has_its_stamp(void **state)
{
    static const struct twin_stamp one = { 1000, 2 }, two = { 86400000, 3 };
    struct jnode *n =
        twin_merge(*state, tree(*state, "{}"), tree(*state, "{\"a\":{\"b\":1,\"c\":[{}]},\"d\":2}"), &one);
    n = twin_merge(*state, n, tree(*state, "{\"a\":{\"b\":1}}"), &two);
    section_is(*state, TWIN_DESIRED, n, true,
               "{\"a\":{\"b\":1,\"c\":[{}]},\"d\":2,\"$metadata\":{"
               "\"$lastUpdated\":\"1970-01-02T00:00:00.0000000Z\",\"$lastUpdatedVersion\":3,"
               "\"a\":{\"$lastUpdated\":\"1970-01-02T00:00:00.0000000Z\",\"$lastUpdatedVersion\":3,"
               "\"b\":{\"$lastUpdated\":\"1970-01-02T00:00:00.0000000Z\",\"$lastUpdatedVersion\":3},"
               "\"c\":{\"$lastUpdated\":\"1970-01-01T00:00:01.0000000Z\",\"$lastUpdatedVersion\":2}},"
               "\"d\":{\"$lastUpdated\":\"1970-01-01T00:00:01.0000000Z\",\"$lastUpdatedVersion\":2}},"
               "\"$version\":3}");
    section_is(*state, TWIN_REPORTED, tree(*state, "{\"x\":1.0}"), true,
               "{\"x\":1.0,\"$metadata\":{\"$lastUpdated\":\"0001-01-01T00:00:00Z\",\"x\":{\"$lastUpdated\":"
               "\"0001-01-01T00:00:00Z\"}},\"$version\":3}");
    section_is(*state, TWIN_REPORTED, tree(*state, "{\"x\":1.0}"), false, "{\"x\":1.0,\"$version\":3}");
    section_is(*state, TWIN_REPORTED, tree(*state, "{}"), false, "{\"$version\":3}");
}

static void same_stamps(const struct jnode *x, const struct jnode *y)
{
    const struct twin_stamp *s = x->mark ? x->mark : &twin_stamp_none,
                            *t = y->mark ? y->mark : &twin_stamp_none;
    assert_int_equal(s->ms, t->ms);
    assert_int_equal(s->version, t->version);
    if (x->kind != JOBJECT)
        return;
    const struct jnode *c = x->first, *d = y->first;
    for (; c; c = c->next, d = d->next)
        same_stamps(c, d);
}

static void test_stamps_as_bytes(void **state)
{
    static const struct twin_stamp stamps[] = {
        { 1000, 2 }, { 999, 3 }, { UINT64_MAX, UINT64_MAX }, { 0, 1 }
    };
    struct jnode *n = tree(*state, "{}"), *again;
    for (size_t i = 0; i < 4; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"k%zu\":{\"a\":1,\"b\":{}},\"l\":%zu}", i, i);
        n = twin_merge(*state, n, tree(*state, text), &stamps[i]);
        uint8_t buf[256];
        struct wr w = { buf, sizeof buf, 0 };
        twin_meta_encode(&w, n);
        assert_true(wr_ok(&w));
        struct span out = jtree_text(*state, n);
        assert_int_equal(jtree_parse(*state, out, &again, NULL), ERR_OK);
        assert_int_equal(twin_meta_decode(*state, wr_span(&w), again), ERR_OK);
        same_stamps(n, again);
        /* every cut is refused, except between two runs, where the rest has no stamp */
        unsigned accepted = 0;
        for (size_t cut = 0; cut < w.len; cut++)
            accepted += twin_meta_decode(*state, span_of(buf, cut), again) == ERR_OK;
        assert_in_range(accepted, 1, 12);
        buf[w.len] = 1;
        assert_int_equal(twin_meta_decode(*state, span_of(buf, w.len + 1), again), ERR_PROTO);
    }
    /* a first write of five hundred leaves costs a handful of bytes */
    char *text = arena_alloc(*state, 20000);
    size_t len = 0;
    for (int i = 0; i < 500; i++)
        len += (size_t)sprintf(text + len, "%s\"key%d\":%d", i ? "," : "{", i, i);
    strcpy(text + len, "}");
    static const struct twin_stamp now = { 1700000000000, 2 };
    struct wr w = { 0 };
    twin_meta_encode(&w, twin_merge(*state, NULL, tree(*state, text), &now));
    assert_in_range(w.len, 1, 12);
}

/* ---- random histories ------------------------------------------------------------------------------- */

/* The model: every path of a leaf or an object, with its text, time and version. Paths are "/a/b". */
struct entry {
    char path[40];
    char value[12]; /* "{" for an object */
    uint64_t ms, version;
};
struct model {
    struct entry e[512];
    size_t nr;
};

static struct entry *entry(struct model *m, const char *path)
{
    for (size_t i = 0; i < m->nr; i++)
        if (!strcmp(m->e[i].path, path))
            return &m->e[i];
    return NULL;
}

static void forget(struct model *m, const char *path, bool itself)
{
    size_t n = strlen(path), kept = 0;
    for (size_t i = 0; i < m->nr; i++) {
        const char *p = m->e[i].path;
        bool below = !strncmp(p, path, n) && p[n] == '/';
        if (!below && !(itself && !strcmp(p, path)))
            m->e[kept++] = m->e[i];
    }
    m->nr = kept;
}

static void set(struct model *m, const char *path, const char *value, const struct twin_stamp *now)
{
    struct entry *e = entry(m, path);
    if (!e) {
        assert_true(m->nr < 512);
        e = &m->e[m->nr++];
        snprintf(e->path, sizeof e->path, "%s", path);
    }
    snprintf(e->value, sizeof e->value, "%s", value);
    e->ms = now->ms;
    e->version = now->version;
}

static unsigned dice(unsigned *seed, unsigned sides)
{
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) % sides;
}

/* Writes a random patch as text and applies it to the model while it goes; returns the length. */
static size_t random_patch(unsigned *seed, char *text, struct model *m, const char *path, int depth,
                           const struct twin_stamp *now)
{
    size_t len = (size_t)sprintf(text, "{");
    unsigned first = dice(seed, 4), nr = dice(seed, depth ? 4 : 5);
    for (unsigned i = 0; i < nr; i++) {
        char at[40], value[12];
        int k = 'a' + (int)((first + i) % 12); /* no name twice */
        snprintf(at, sizeof at, "%.30s/%c", path, k);
        len += (size_t)sprintf(text + len, "%s\"%c\":", i ? "," : "", k);
        unsigned what = dice(seed, 8);
        struct entry *e = entry(m, at);
        if (what < 2) {
            len += (size_t)sprintf(text + len, "null");
            forget(m, at, true);
        } else if (what < 5 && depth < 5) {
            bool object = e && e->value[0] == '{';
            size_t from = len;
            if (!object) {
                forget(m, at, true);
                set(m, at, "{", now);
            }
            len += random_patch(seed, text + len, m, at, depth + 1, now);
            if (object && strcmp(text + from, "{}") != 0)
                set(m, at, "{", now);
        } else {
            snprintf(value, sizeof value, what == 5 ? "%u.0" : what == 6 ? "[%u,1]" : "%u", dice(seed, 50));
            len += (size_t)sprintf(text + len, "%s", value);
            forget(m, at, true);
            set(m, at, value, now);
        }
    }
    return len + (size_t)sprintf(text + len, "}");
}

static size_t compare(struct arena *a, struct model *m, const struct jnode *o, const char *path)
{
    size_t nr = 0;
    for (const struct jnode *c = o->first; c; c = c->next) {
        char at[40];
        snprintf(at, sizeof at, "%.30s/%.*s", path, (int)c->key.n, (const char *)c->key.p);
        const struct entry *e = entry(m, at);
        assert_non_null(e);
        const struct twin_stamp *s = c->mark;
        assert_int_equal(s->ms, e->ms);
        assert_int_equal(s->version, e->version);
        nr++;
        if (c->kind == JOBJECT) {
            assert_string_equal(e->value, "{");
            nr += compare(a, m, c, at);
        } else {
            is(jtree_text(a, c), e->value);
        }
    }
    return nr;
}

static void test_random_histories(void **state)
{
    (void)state;
    for (unsigned history = 0; history < 60; history++) {
        static struct model m;
        static char text[65536];
        unsigned seed = history;
        struct span stored = SPAN("{}"), meta = SPAN_NONE;
        uint8_t *mem = malloc(2 << 20);
        struct arena keep;
        arena_init(&keep, 64 << 20);
        m.nr = 0;
        for (uint64_t step = 1; step <= 40; step++) {
            const struct twin_stamp now = { 1000 * step + dice(&seed, 900), step + 1 };
            struct arena a;
            struct jnode *base, *patch, *out;
            struct twin_fault f;
            arena_init(&a, 64 << 20);
            assert_int_equal(jtree_parse(&a, stored, &base, NULL), ERR_OK);
            assert_int_equal(twin_meta_decode(&a, meta, base), ERR_OK);
            random_patch(&seed, text, &m, "", 0, &now);
            assert_int_equal(twin_check(&a, TWIN_DESIRED, tree(&a, text), true, &patch, &f), ERR_OK);
            out = twin_merge(&a, base, patch, &now);
            assert_int_equal(compare(&a, &m, out, ""), m.nr);
            assert_ptr_equal(out->mark, &now); /* the section itself */
            /* what a replacement says brings any older state to this one */
            struct jnode *told = twin_replacement(&a, base, out);
            assert_true(jtree_eq(twin_merge(&a, base, told, &now), out));
            struct wr w = { mem, 1 << 20, 0 }, mw = { mem + (1 << 20), 1 << 20, 0 };
            jtree_write(&w, out);
            twin_meta_encode(&mw, out);
            stored = arena_copy(&keep, wr_span(&w));
            meta = arena_copy(&keep, wr_span(&mw));
            arena_fini(&a);
        }
        arena_fini(&keep);
        free(mem);
    }
}

static void test_memory_runs_out(void **state)
{
    bool ok = false;
    const struct jnode *base = tree(*state, "{\"a\":{\"b\":1},\"c\":2}"),
                       *patch = tree(*state, "{\"a\":{\"d\":{}},\"e\":1}");
    for (size_t cap = 0; !ok; cap += 8) {
        struct arena a;
        struct twin_fault f = { TWIN_FINE, "" };
        struct jnode *kept = NULL;
        static const struct twin_stamp now = { 1, 1 };
        arena_init(&a, cap);
        enum err e = twin_check(&a, TWIN_TAGS, patch, true, &kept, &f);
        assert_true(e == ERR_OK || e == ERR_NOMEM);
        ok = !e && twin_merge(&a, base, kept, &now) && twin_replacement(&a, base, kept);
        arena_fini(&a);
        assert_in_range(cap, 0, 65536);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_keys),
        T(test_values),
        T(test_depth),
        T(test_size),
        T(test_merging),
        T(test_a_replacement_says_what_is_gone),
        T(test_every_leaf_has_its_stamp),
        T(test_stamps_as_bytes),
        T(test_random_histories),
        T(test_memory_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
