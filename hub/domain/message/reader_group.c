/* hub/domain/message/reader_group.c - see reader_group.h. Places are cursors of the store, named
 * "group/NAME/NN". */
#include "hub/domain/message/reader_group.h"

#include "hub/domain/hub.h"

#include <stdio.h>
#include <string.h>

#define CURSOR_MAX (READER_GROUP_NAME_MAX + 16u)

bool reader_group_name_ok(struct span name)
{
    if (!name.n || name.n > READER_GROUP_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '.' || c == '_' || c == '$'))
            return false;
    }
    return true;
}

static struct span cursor_name(char out[CURSOR_MAX], struct span group, unsigned partition)
{
    int n = snprintf(out, CURSOR_MAX, "group/%.*s/%02u", (int)group.n, (const char *)group.p, partition);
    return span_of(out, (size_t)n);
}

static unsigned partitions(struct hub *h)
{
    unsigned nr = stream_partitions(h->stream);
    return nr < READER_PARTITIONS_MAX ? nr : READER_PARTITIONS_MAX;
}

enum err reader_group_get(struct hub *h, struct store_tx *tx, struct span name,
                          struct reader_place places[READER_PARTITIONS_MAX])
{
    bool any = false;
    memset(places, 0, READER_PARTITIONS_MAX * sizeof *places);
    for (unsigned p = 0; p < partitions(h); p++) {
        char cursor[CURSOR_MAX];
        struct stream_info info;
        enum err e = tx_cursor_get(tx, cursor_name(cursor, name, p), &places[p].next);
        if (e && e != ERR_NOTFOUND)
            return e;
        places[p].known = !e;
        any |= places[p].known;
        stream_get_info(h->stream, p, &info);
        if (places[p].next > info.next_seq)
            places[p].next = info.first_seq;
    }
    return any ? ERR_OK : ERR_NOTFOUND;
}

struct counted {
    uint8_t last[READER_GROUP_NAME_MAX];
    size_t last_len, nr;
    reader_group_each *each;
    void *ctx;
};

static enum err one_cursor(void *ctx, struct span name, uint64_t seq)
{
    struct counted *x = ctx;
    struct span group = span_skip(name, strlen("group/"));
    const uint8_t *end = memchr(group.p, '/', group.n);
    (void)seq;
    if (!end)
        return ERR_OK;
    group.n = (size_t)(end - group.p);
    if (group.n > sizeof x->last || span_eq(group, span_of(x->last, x->last_len)))
        return ERR_OK;
    memcpy(x->last, group.p, group.n);
    x->last_len = group.n;
    x->nr++;
    return x->each ? x->each(x->ctx, group) : ERR_OK;
}

static enum err walk(struct store_tx *tx, struct counted *x)
{
    return tx_cursor_list(tx, SPAN("group/"), SPAN("group0"), one_cursor, x); /* '0' follows '/' */
}

enum err reader_group_list(struct store_tx *tx, reader_group_each *each, void *ctx)
{
    struct counted x = { .each = each, .ctx = ctx };
    return walk(tx, &x);
}

enum err reader_group_commit(struct hub *h, struct store_tx *tx, struct span name,
                             const struct reader_place places[READER_PARTITIONS_MAX])
{
    struct reader_place now[READER_PARTITIONS_MAX];
    struct counted x = { .each = NULL };
    enum err e = reader_group_get(h, tx, name, now);
    if (e == ERR_NOTFOUND && !(e = walk(tx, &x)) && x.nr >= READER_GROUPS_MAX)
        e = ERR_LIMIT;
    for (unsigned p = 0; !e && p < READER_PARTITIONS_MAX; p++) {
        char cursor[CURSOR_MAX];
        struct stream_info info;
        if (!places[p].known)
            continue;
        if (p >= partitions(h))
            return ERR_PROTO;
        stream_get_info(h->stream, p, &info);
        if (places[p].next > info.next_seq)
            return ERR_PROTO;
        if (!now[p].known || places[p].next > now[p].next)
            e = tx_cursor_put(tx, cursor_name(cursor, name, p), places[p].next);
    }
    return e;
}

enum err reader_group_delete(struct hub *h, struct store_tx *tx, struct span name)
{
    struct reader_place now[READER_PARTITIONS_MAX];
    enum err e = reader_group_get(h, tx, name, now);
    for (unsigned p = 0; !e && p < partitions(h); p++) {
        char cursor[CURSOR_MAX];
        e = tx_cursor_delete(tx, cursor_name(cursor, name, p));
    }
    return e;
}
