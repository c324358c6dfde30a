/* hub/domain/event.h - what happens to identities, twins, connections and jobs, as messages that routes may
 * take. Each function is called inside the transaction that makes the change; the event is a row of the
 * outbox, durable with it, and is moved on to the routes after the commit (at least once). When no route
 * wants events of a source nothing is written at all.
 * Source of the forms: Azure IoT Hub, "non-telemetry event schemas". */
#ifndef ROOST_HUB_DOMAIN_EVENT_H
#define ROOST_HUB_DOMAIN_EVENT_H

#include "hub/domain/message.h"
#include "hub/domain/twin.h"

/* Part of struct hub; NULL there: nobody wants events. */
struct event_out {
    _Atomic uint32_t wanted; /* bit 1 << enum message_source */
    void (*wake)(void *ctx); /* after a commit that has events; any thread */
    void *ctx;
};
bool event_wanted(const struct hub *h, enum message_source s);
/* The first label of the hub's name; an address stays whole. */
struct span event_hub_name(const struct hub *h);

/* twinChangeEvents, and digitalTwinChangeEvents of a device that has a model. From twin_changed(). */
MUST_USE enum err event_twin_changed(struct hub *h, struct store_tx *tx, struct arena *a,
                                     const struct twin_change *c);
/* deviceLifecycleEvents: after it was made, before it is deleted. module may be empty. */
MUST_USE enum err event_lifecycle(struct hub *h, struct store_tx *tx, struct span device, struct span module,
                                  bool created);
/* deviceConnectionStateEvents: identity as "device" or "device/module". */
MUST_USE enum err event_connection(struct hub *h, struct store_tx *tx, struct span identity, bool connected,
                                   uint64_t at_ms);
/* deviceJobLifecycleEvents: one device of a job; `status` is the opType as well. */
struct event_job {
    struct span device, job_id;
    const char *type, *status;     /* "scheduleUpdateTwin", "completed" */
    uint64_t started_ms, ended_ms; /* wall; 0: not yet */
    struct span error;             /* text; empty: none */
};
MUST_USE enum err event_job(struct hub *h, struct store_tx *tx, const struct event_job *j);

#endif
