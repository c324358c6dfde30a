/* hub/store/rows_query.h - walks over twins for queries, and the indexes that shorten them. Part of store.h.
 */
#ifndef ROOST_HUB_STORE_ROWS_QUERY_H
#define ROOST_HUB_STORE_ROWS_QUERY_H

#include "hub/store/rows_twin.h"

#define TWIN_INDEX_MAX      16u  /* indexes there may be */
#define TWIN_INDEX_PATH_MAX 128u /* bytes of a path */

/* "tags.a.b", "properties.desired.a", "properties.reported.a": names of ASCII letters, digits, _ and -, so
 * that they can stand in the text of a statement. */
bool twin_index_path_ok(struct span path);
/* Which there are to be from now on (nr at most TWIN_INDEX_MAX): those that are new are begun, those on other
 * paths are given up. ready[i]: the one on paths[i] is whole. ERR_PROTO: a path that cannot have one. */
MUST_USE enum err tx_twin_index_keep(struct store_tx *t, const struct span *paths, size_t nr, bool *ready);
/* The next piece of the work on an index, in any number of ops with other writes between them; what has been
 * done stays done over a restart. A database that makes indexes by itself begins it and says how far it is.
 */
#define TWIN_INDEX_ROWS  1000u           /* twins, or rows of the index, that a piece looks at */
#define TWIN_INDEX_BYTES (1024u * 1024u) /* of twins' sections, after which it ends early */
struct twin_index_step {
    bool done;        /* every twin is in it: ready from this commit on */
    uint64_t at, end; /* else: the twins up to this seq are in it, of those up to `end` */
};
/* ERR_NOTFOUND: it is not to be there. */
MUST_USE enum err tx_twin_index_fill(struct store_tx *t, struct span path, struct twin_index_step *out);
/* The same for what is left of indexes that were given up. */
MUST_USE enum err tx_twin_index_clear(struct store_tx *t, bool *done);
/* Is it whole, in what this transaction sees? */
MUST_USE enum err tx_twin_index_is_ready(struct store_tx *t, struct span path, bool *ready);

/* Part of a condition that the database looks up: it finds every row for which the condition can be true, and
 * maybe others. Numbers are what JSON numbers are; true and false are 1 and 0. */
struct twin_value {
    enum { TWIN_VALUE_NONE = 0, TWIN_VALUE_NUMBER, TWIN_VALUE_TEXT } kind;
    double number;
    struct span text;
};
struct twin_pick {
    struct span path;                /* one whose index is ready; empty: the identity, as twin_row.id */
    struct twin_value low, high;     /* both included; none: open; the same twice: that one */
    const struct twin_value *one_of; /* instead of them */
    size_t one_of_nr;
};
#define TWIN_PICK_VALUES_MAX 1000u

/* A twin that a walk is at; columns are read when they are asked for. Spans live until the callback returns.
 */
struct twin_view;
void twin_view_row(struct twin_view *v, struct twin_row *out); /* all of them */
uint64_t twin_view_seq(struct twin_view *v);
enum twin_col {
    TWIN_COL_ID,
    TWIN_COL_DEVICE,
    TWIN_COL_MODULE,
    TWIN_COL_TAGS,
    TWIN_COL_DESIRED,
    TWIN_COL_REPORTED,
    TWIN_COL_CONFIGURATIONS,
    TWIN_COL_MODEL_ID
};
struct span twin_view_text(struct twin_view *v, enum twin_col what);
/* What a walk brings of other tables beside each twin; asked for only by a condition that looks at it. */
enum twin_with { TWIN_WITH_STATUS = 1, TWIN_WITH_CONNECTION = 2 };
bool twin_view_has(struct twin_view *v, enum twin_with what);
uint8_t twin_view_status(struct twin_view *v); /* TWIN_WITH_STATUS: of the device, enum device_status */
bool twin_view_connected(struct twin_view *v,
                         uint64_t *activity_ms); /* TWIN_WITH_CONNECTION; as report_row */
typedef enum err twin_view_each(void *ctx, struct twin_view *v);

#define TWIN_PASSED_MAX 5000u
/* with: enum twin_with bits. In order of seq, after *after_seq: twins of devices, or of modules; those that
 * `pick` finds, unless it is NULL. The walk ends when the callback says something other than ERR_OK, which is
 * returned. It passes twins of the other kind as well, and moves *after_seq behind them: after so many in a
 * row it ends by itself, ERR_AGAIN, so that no operation is long because there is nothing to call back for.
 * ERR_NOTFOUND: the index of `pick` is not ready in what this transaction sees. */
MUST_USE enum err tx_twin_walk(struct store_tx *t, bool modules, unsigned with, const struct twin_pick *pick,
                               uint64_t *after_seq, twin_view_each *each, void *ctx);
/* One twin, by its identity. ERR_NOTFOUND. */
MUST_USE enum err tx_twin_visit(struct store_tx *t, struct span id, twin_view_each *each, void *ctx);
/* How many rows `pick` finds, of either kind, counted up to limit. ERR_NOTFOUND: as tx_twin_walk. */
MUST_USE enum err tx_twin_pick_count(struct store_tx *t, const struct twin_pick *pick, size_t limit,
                                     size_t *nr);

#endif
