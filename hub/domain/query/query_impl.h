/* hub/domain/query/query_impl.h - what the files of query.h share: the plan, the row, slices, continuations.
 */
#ifndef ROOST_HUB_DOMAIN_QUERY_QUERY_IMPL_H
#define ROOST_HUB_DOMAIN_QUERY_QUERY_IMPL_H

#include "hub/domain/query/query.h"
#include "hub/domain/twin/twin_doc.h"

/* query_plan.c: the part of the condition that finds the fewest rows by an index, or NULL. */
MUST_USE enum err query_plan(struct hub *h, struct arena *a, struct store_tx *tx, const struct query *q,
                             const struct twin_pick **out);

/* The job that all of a query's records are of, as its condition says; empty: it does not. */
struct span query_plan_job(const struct query *q);

/* What of other tables its paths ask for: enum twin_with bits. */
unsigned query_with(const struct query *q);

/* query_row.c: a twin as a row. Columns are read when a path asks for them; what is not a column comes out of
 * the document, which is made once a row. */
struct query_twin {
    struct query_row row; /* first */
    struct hub *h;
    struct store_tx *tx;
    struct twin_view *view;
    struct twin_row r;        /* when there are facts */
    struct twin_facts *facts; /* NULL: not asked for yet */
    struct span doc;          /* empty: likewise */
    struct arena a;           /* of one row */
    enum err e;               /* of the store, while a path was looked at */
};
void query_twin_init(struct query_twin *t, struct hub *h, struct store_tx *tx);
void query_twin_fini(struct query_twin *t);
void query_twin_set(struct query_twin *t, struct twin_view *view); /* at the next row */
void query_twin_get(struct query_row *row, const struct query_path *p, struct wr *mem,
                    struct query_value *out);
MUST_USE enum err query_twin_document(struct query_twin *t, struct span *json);

/* A slice of a walk: how much one call may look at. */
struct query_slice {
    struct hub *h;
    uint64_t end_ms;
    unsigned rows;
};
void query_slice_begin(struct query_slice *s, struct hub *h);
bool query_slice_over(struct query_slice *s); /* counts a row */

/* query_next.c: a continuation says where a page begins; nobody else can make one, and it fits one text only.
 */
struct query_place {
    uint64_t seq, left;
};
struct span query_next_make(struct hub *h, struct arena *a, struct span text, const struct query_place *p);
MUST_USE enum err query_next_read(struct hub *h, struct span text, struct span token, struct query_place *p);

/* query_fold.c: groups and their aggregates. */
MUST_USE enum err query_groups_add(struct query_run *r, struct query_row *row, struct wr *mem);
/* Row `at` as JSON; false: there are no more. */
bool query_groups_put(struct query_run *r, uint64_t at, struct wr *out);

/* Room for n more bytes in a writer whose memory is the arena's. */
bool query_room(struct arena *a, struct wr *w, size_t n);

#endif
