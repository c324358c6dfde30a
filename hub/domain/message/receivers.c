/* hub/domain/message/receivers.c - see receivers.h. */
#include "hub/domain/message/receivers.h"

#include <stdlib.h>

struct told {              /* owned by itself, until the commit */
    struct tx_after after; /* first */
    struct bus *bus;
    enum receivers_queue q;
};

/* Waits of the bus go by name; these are no identities, which begin with no slash. */
static struct span name_of(enum receivers_queue q)
{
    return q == RECEIVERS_FEEDBACK ? SPAN("/feedback") : SPAN("/filenotifications");
}

static void told(struct tx_after *self, bool committed)
{
    struct told *t = (struct told *)(void *)self;
    if (committed)
        bus_announce(t->bus, name_of(t->q));
    free(t);
}

enum err receivers_tell(struct hub *h, struct store_tx *tx, enum receivers_queue q)
{
    struct told *t = malloc(sizeof *t);
    if (!t)
        return ERR_NOMEM;
    *t = (struct told){ .after.fn = told, .bus = h->bus, .q = q };
    tx_after(tx, &t->after);
    return ERR_OK;
}

void receivers_wait(struct hub *h, enum receivers_queue q, struct bus_wait *w)
{
    bus_wait_start(h->bus, w, name_of(q));
}
