/* hub/domain/update/campaign.h - which device should run what, and the answer to its check-in. Rows are lazy:
 * a standing campaign (all devices) makes a device's row when it is offered something; a campaign for listed
 * devices makes them at once, since the list is nowhere else. Everything is in the store, so a hub that is
 * killed goes on where it was. Functions with a transaction run in run() of a store op. */
#ifndef ROOST_HUB_DOMAIN_UPDATE_CAMPAIGN_H
#define ROOST_HUB_DOMAIN_UPDATE_CAMPAIGN_H

#include "hub/domain/update/deployment.h"
#include "hub/domain/update/release.h"

#define CAMPAIGN_RELEASES_MAX 64u
#define CAMPAIGN_DEVICES_MAX  10000u /* listed in one request */
#define CAMPAIGN_SWEEP_MAX    256u   /* rows one sweep moves */

const char *campaign_state_name(unsigned state); /* "running" */

struct campaign_new { /* borrowed */
    const struct span *releases;
    size_t releases_nr;
    const struct span *devices; /* unless all */
    size_t devices_nr;
    bool all;
    struct span who;
};
enum campaign_refusal {
    CAMPAIGN_CREATED = 0,
    CAMPAIGN_NO_RELEASE, /* `subject`: no such release */
    CAMPAIGN_BARRED,     /* `subject`: its signing key is revoked */
    CAMPAIGN_OVERLAP,    /* `subject`: two releases for the same hardware */
    CAMPAIGN_NO_DEVICE   /* `subject`: no such device */
};
struct campaign_created {
    enum campaign_refusal refusal;
    size_t subject; /* index in releases or devices */
    uint8_t id[CAMPAIGN_ID_LEN];
    size_t superseded; /* older standing campaigns that ended */
};
MUST_USE enum err campaign_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                  const struct campaign_new *in, struct campaign_created *out);
MUST_USE enum err campaign_copy(struct arena *a, const struct campaign_row *in, struct campaign_row *out);
MUST_USE enum err deployment_copy(struct arena *a, const struct deployment_row *in,
                                  struct deployment_row *out);
/* Copies that outlive their listing, in the arena. */
struct campaign_list {
    struct arena *a;
    struct campaign_row *row;
    size_t nr, cap;
};
MUST_USE enum err campaign_list_add(struct campaign_list *l, const struct campaign_row *r);
/* Rows of one campaign by state. */
struct campaign_counts {
    uint64_t by_state[DEPLOYMENT_STATES];
};
MUST_USE enum err campaign_count(struct store_tx *tx, struct span id, struct campaign_counts *out);

struct checkin_answer {
    bool stale;           /* an old report of the same boot: acknowledged, nothing concluded */
    bool announce;        /* the device's row changed: identity_announce after the commit */
    struct span trust;    /* records it misses */
    struct span release;  /* envelope, or empty: nothing to do */
    struct ticket ticket; /* with release; its spans live in the arena */
};
/* In run() of a write: takes the report of a device that has proven itself, draws the conclusions, decides
 * what it gets. ERR_PROTO: not a report; ERR_NOTFOUND: no such device. */
MUST_USE enum err checkin_decide(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                                 struct span report, struct checkin_answer *out);
/* After the commit, any thread: signs the ticket and writes the bundle. Empty: nothing to do. */
MUST_USE enum err checkin_bundle(struct hub *h, struct arena *a, const struct checkin_answer *in,
                                 struct span *out);

/* In run() of a write, every few seconds: deadlines that have passed, campaigns that have ended.
 * *more: there is more to do at once. */
MUST_USE enum err campaign_sweep(struct hub *h, struct store_tx *tx, struct arena *a, bool *more);

#endif
