/* tests/fuzz/fuzz_registry_line.c - any bytes as a line of an import, of identities and of configurations:
 * taken or refused with a reason that can be told as JSON; what is taken has an identity, and a twin that can
 * be written again, or a content that is one. */
#include "hub/domain/job/registry_config.h"
#include "hub/domain/job/registry_line.h"
#include "hub/domain/json_tree.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(struct arena *a, const struct twin_part *p)
{
    struct jnode *again;
    if (p->patch)
        assert(jtree_parse(a, jtree_text(a, p->patch), &again, NULL) == ERR_OK && jtree_eq(again, p->patch));
}

static void check_config(struct span line)
{
    struct registry_config c;
    struct registry_fault f = { 0, "" };
    struct arena a;
    struct jnode *content;
    struct config_fault why = { .wrong = CONFIG_FINE };
    uint8_t kind;
    arena_init(&a, 64u << 20);
    enum err e = registry_config_read(&a, line, &c, &f);
    if (e == ERR_PROTO) {
        struct wr w = { 0 };
        registry_config_fault_write(&w, c.n.id, &f);
        w = (struct wr){ arena_alloc(&a, w.len), w.len, 0 };
        registry_config_fault_write(&w, c.n.id, &f);
        json_t *told = json_loadb((const char *)w.p, w.len, JSON_ALLOW_NUL, NULL);
        assert(f.code && f.text[0] && told);
        json_decref(told);
    } else if (!e) {
        assert(c.mode && c.n.id.n);
        if (c.mode->doing != REGISTRY_DELETE)
            assert(config_content(&a, c.n.content, &kind, &content, &why) == ERR_OK && kind == c.kind);
    }
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct registry_line l;
    struct registry_fault f = { 0, "" };
    struct arena a;
    arena_init(&a, 64u << 20);
    enum err e = registry_line_read(&a, span_of(data, size), registry_mode_find(SPAN_NONE), &l, &f);
    if (e == ERR_PROTO) {
        struct wr w = { 0 };
        registry_fault_write(&w, l.device, l.module, &f);
        w = (struct wr){ arena_alloc(&a, w.len), w.len, 0 };
        registry_fault_write(&w, l.device, l.module, &f);
        json_t *told = json_loadb((const char *)w.p, w.len, JSON_ALLOW_NUL, NULL);
        assert(f.code && f.text[0] && told);
        json_decref(told);
    } else if (!e) {
        assert(l.mode && l.device.n && l.name.n == l.device.n + (l.module.n ? 1 + l.module.n : 0));
        check_part(&a, &l.twin.tags);
        check_part(&a, &l.twin.desired);
        assert(!l.twin.reported.patch);
    }
    arena_fini(&a);
    check_config(span_of(data, size));
    return 0;
}
