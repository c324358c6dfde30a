/* hub/domain/configuration/configuration.h - automatic configurations: desired properties that every twin
 * gets which a target condition selects, as long as no configuration of higher priority is meant for it.
 *
 *     config_create/update/delete (in run), a twin's tags or reported properties change, a twin is made
 *       -> twins are marked -> configuration_run.c looks at marked twins, some in each transaction
 *
 * All twins are walked once when a configuration is made or changed; afterwards only those that change are
 * looked at. Everything is in the store. Source of the rules: Azure IoT Hub, "Automatic device and module
 * management", "IoT Edge automatic deployments". */
#ifndef ROOST_HUB_DOMAIN_CONFIGURATION_CONFIGURATION_H
#define ROOST_HUB_DOMAIN_CONFIGURATION_CONFIGURATION_H

#include "hub/domain/hub.h"
#include "hub/domain/twin/twin.h"

#define CONFIGURATIONS_OF_KIND_MAX 100u /* of devices and modules; and as many edge deployments */
#define CONFIGURATIONS_MAX         (2 * CONFIGURATIONS_OF_KIND_MAX)
#define CONFIG_METRICS_MAX         5u      /* queries of one's own */
#define CONFIG_CONTENT_MAX         131072u /* bytes of JSON */
#define CONFIG_PRIORITY_MAX        2147483647u
#define CONFIG_MODULES_MAX         50u /* of a deployment */

enum config_wrong {
    CONFIG_FINE = 0,
    CONFIG_BAD_MEMBER,
    CONFIG_BAD_CONDITION,
    CONFIG_BAD_CONTENT,
    CONFIG_BAD_METRICS
};
struct config_fault {
    enum config_wrong wrong;
    char text[400];
};
struct config_new { /* borrowed; JSON as text */
    struct span id, schema_version;
    struct span labels;    /* object of texts, or empty */
    struct span content;   /* {"deviceContent":{}}, {"moduleContent":{}} or {"modulesContent":{}} */
    struct span condition; /* empty: no twin */
    struct span metrics;   /* object of queries, or empty */
    uint64_t priority;
    struct span who;
};
/* Any thread. ERR_PROTO: the fault says why; ERR_NOMEM. *kind: of the content. */
MUST_USE enum err config_check(struct arena *a, const struct config_new *in, uint8_t *kind,
                               struct config_fault *f);
/* Parts of it, for those who only want to know. The text of the fault says what is wrong. */
MUST_USE enum err config_check_condition(struct arena *a, struct span text, struct config_fault *f);
MUST_USE enum err config_check_target(struct arena *a, uint8_t kind, struct span text,
                                      struct config_fault *f); /* of a content of this kind */
MUST_USE enum err config_check_metric(struct arena *a, struct span text, struct config_fault *f);

/* In run() of a write, of one that was checked; afterwards config_poke. Rows live in the arena.
 *   ERR_EXISTS      ERR_LIMIT  CONFIGURATIONS_OF_KIND_MAX */
MUST_USE enum err config_create(struct hub *h, struct store_tx *tx, struct arena *a,
                                const struct config_new *in, uint8_t kind, struct config_row *out);
/* Everything but the content, which stays what it is. if_etag 0: any. ERR_NOTFOUND, ERR_STALE; ERR_DENIED:
 * the condition selects devices and the content is of modules, or the other way round. */
MUST_USE enum err config_update(struct hub *h, struct store_tx *tx, struct arena *a,
                                const struct config_new *in, uint64_t if_etag, struct config_row *out);
/* What it has written stays, unless another configuration is meant for the twin. ERR_NOTFOUND, ERR_STALE. */
MUST_USE enum err config_delete(struct hub *h, struct store_tx *tx, struct arena *a, struct span id,
                                uint64_t if_etag, struct span who);
MUST_USE enum err config_get(struct store_tx *tx, struct arena *a, struct span id, struct config_row *out);
MUST_USE enum err config_copy(struct arena *a, const struct config_row *in, struct config_row *out);
struct config_numbers { /* how many twins it is meant for, and has written to */
    uint64_t targeted, applied;
};

/* Queries that list the twins a configuration is meant for and those that have it; of an edge deployment also
 * the devices whose agent reported success, or failure (else empty). In the arena. */
struct config_queries {
    struct span targeted, applied, successful, failed;
};
MUST_USE enum err config_queries(struct arena *a, const struct config_row *r, struct config_queries *out);

/* Writes the content of {"modulesContent":{}} to the modules of an edge device, which are made where they are
 * missing; `whole` sections replace what was there. In run() of a write.
 *   ERR_NOTFOUND  no such device      ERR_DENIED  not an edge device      ERR_PROTO  the fault says why */
MUST_USE enum err config_apply_modules(struct hub *h, struct store_tx *tx, struct arena *a,
                                       struct span device, const struct jnode *modules,
                                       struct config_fault *f);
/* The same with {"deviceContent":{}}, for the twin of an edge device itself. */
MUST_USE enum err config_apply_device(struct hub *h, struct store_tx *tx, struct arena *a, struct span device,
                                      const struct jnode *content, struct config_fault *f);
/* The patch of desired properties that {"properties.desired":{},"properties.desired.a.b":1} makes; whole: it
 * has the former. ERR_PROTO, ERR_NOMEM. */
MUST_USE enum err config_desired(struct arena *a, const struct jnode *content, struct jnode **desired,
                                 bool *whole, struct config_fault *f);
/* {"modulesContent":{...}} and the like: its one member. */
MUST_USE enum err config_content(struct arena *a, struct span text, uint8_t *kind, struct jnode **content,
                                 struct config_fault *f);

/* ---- keeping twins as they are meant to be
 * ------------------------------------------------------------------ */

struct configurations_env { /* as struct fleet_jobs_env */
    struct mailbox *home;
    void (*wake_in)(void *ctx, uint32_t ms);
    void *ctx;
};
/* Sets hub->on_twin_changed; the caller sets hub->configurations. */
MUST_USE enum err configurations_new(struct configurations **out, struct hub *h,
                                     const struct configurations_env *env);
void configurations_tick(struct configurations *c); /* on home's thread */
void configurations_free(struct configurations *c);
void config_poke(struct hub *h); /* any thread */
bool configurations_idle(const struct configurations *c);

#endif
