/* hub/store/seen.h - the SQL of connections, and of what is seen of an identity beside its row: for the
 * statements of several tx_*.c files. Included by hub/store alone. */
#ifndef ROOST_HUB_STORE_SEEN_H
#define ROOST_HUB_STORE_SEEN_H

#include "hub/store/store_backend.h"

/* Connections carry the number of the start they belong to, so two rows disconnect a million: `start` is the
 * number of this one, `start N` when the Nth was. */
#define START       "(SELECT value FROM counter WHERE name = 'start')"
#define LEFT_BEHIND "(report.connected > 0 AND report.connected <> " START ")"
#define LEFT_SINCE                                                                                           \
    "coalesce((SELECT value FROM counter WHERE name = 'start ' || (report.connected + 1)),"                  \
    " report.connected_changed_ms)"

/* Of an identity named `id`, with its rows of `device d` (a module has none: no broadcast is for it) and
 * `report` joined. The last two say whether there can be broadcasts for it; tx_seen_row counts them. */
#define SEEN_COLS(id)                                                                                        \
    "coalesce(report.connected = " START ", 0), coalesce(report.activity_ms, 0),"                            \
    " coalesce(CASE WHEN " LEFT_BEHIND " THEN " LEFT_SINCE " ELSE report.connected_changed_ms END, 0),"      \
    " (SELECT count(*) FROM c2d WHERE c2d.device = " id "), coalesce(d.since_seq, -1),"                      \
    " (SELECT coalesce(max(seq), -1) FROM broadcast)"
/* first: the column where SEEN_COLS begin. In tx_fleet.c. */
MUST_USE enum err tx_seen_row(struct store_tx *t, struct store_rows *r, int first, struct span identity,
                              struct identity_seen *out);

#endif
