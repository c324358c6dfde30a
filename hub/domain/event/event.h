/* hub/domain/event/event.h - what happens to identities, twins, connections and jobs, as messages that routes
 * may take. Each function is called inside the transaction that makes the change; the event is a row of the
 * outbox, durable with it, and is moved on to the routes after the commit (at least once). When no route
 * wants events of a source nothing is written at all.
 * Source of the forms: Azure IoT Hub, "non-telemetry event schemas". */
#ifndef ROOST_HUB_DOMAIN_EVENT_EVENT_H
#define ROOST_HUB_DOMAIN_EVENT_EVENT_H

#include "hub/domain/message/message.h"
#include "hub/domain/twin/twin.h"

/* Part of struct hub; NULL there: nobody wants events. */
struct event_out {
    _Atomic uint32_t wanted; /* bit 1 << enum message_source */
    void (*wake)(void *ctx); /* after a commit that has events; any thread */
    void *ctx;
};
bool event_wanted(const struct hub *h, enum message_source s);

/* The room for events that the router has not taken yet is limited (store_outbox_limit). Where there is none,
 * what would make an event fails with ERR_FULL, as with a full disk: no change without its event, no event
 * without its change. Requests have the second half for themselves: what runs by itself and can wait (jobs,
 * imports, configurations, states of connections) asks this before, and waits. `sources`: bits
 * 1 << enum message_source of what it may make; what nobody wants needs no room. Any thread. */
bool event_should_wait(const struct hub *h, uint32_t sources);
bool event_has_no_room(const struct hub *h);
uint64_t
event_refused_nr(const struct hub *h); /* changes for which there was no room; one more: that was why */
#define EVENT_OF_TWINS (1u << MESSAGE_SOURCE_TWIN_CHANGE | 1u << MESSAGE_SOURCE_DIGITAL_TWIN)
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
    struct span device, module, job_id; /* module: empty for the device itself */
    const char *type, *status;          /* "scheduleUpdateTwin", "completed" */
    uint64_t started_ms, ended_ms;      /* wall; 0: not yet */
    struct span error;                  /* text; empty: none */
};
MUST_USE enum err event_job(struct hub *h, struct store_tx *tx, const struct event_job *j);

#endif
