/* hub/bus/calls.h - the calls that wait for an answer and the waits for a session, of one node: what every
 * backend needs beside its way of carrying bytes. Any thread. */
#ifndef ROOST_HUB_BUS_CALLS_H
#define ROOST_HUB_BUS_CALLS_H

#include "hub/bus/bus.h"

struct calls;
MUST_USE enum err calls_new(struct calls **out); /* ERR_NOMEM, ERR_IO: no random bytes */
void calls_free(struct calls *c);                /* nothing waits any more */

/* From now on its answer is expected; call->id is set, before anybody can answer. ERR_FULL, ERR_STOPPED:
 * done() is not run. */
MUST_USE enum err calls_begin(struct calls *c, struct bus_call *call);
/* Ends the call of that number, if it still waits: a copy of the bytes, and done(). */
void calls_answer(struct calls *c, uint64_t id, enum err err, struct span bytes);
void calls_end(struct calls *c, struct bus_call *call, enum err err);

/* hash: of the identity. */
void calls_wait(struct calls *c, struct bus_wait *w, uint64_t hash);
void calls_wait_end(struct calls *c, struct bus_wait *w, enum err err);
void calls_announce(struct calls *c, uint64_t hash);
bool calls_has_waits(struct calls *c);

void calls_stop(struct calls *c);
bool calls_is_stopped(struct calls *c);

#endif
