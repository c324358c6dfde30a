/* device/dev_internal.h - what the parts of the engine ask of one another. Each part is one file: dev.c
 * (time and phases, on top of all), home.c, trial.c, exchange.c, bootstrap.c, checkin.c, judge.c, update.c,
 * link.c. C99. */
#ifndef ROOST_DEVICE_DEV_INTERNAL_H
#define ROOST_DEVICE_DEV_INTERNAL_H

#include "device/dev.h"

#define DEV_NEVER          UINT64_MAX
#define DEV_AGENT_VERSION  0x0001u /* major << 8 | minor: what min_agent of a release is held against */
#define DEV_HOMELESS_AFTER 4u      /* failures in a row until the device asks the bootstrap address */
#define DEV_EXCHANGE_MS    60000u  /* an exchange may take this, and a second more a KiB asked for */
#define DEV_SAS_TTL_S      3600u
#define DEV_SAS_RENEW_MS   2880000u /* four fifths of it */
#define DEV_TRIAL_GRACE_MS                                                                                   \
    600000u /* past the probation: time to find the hub before an image is given up                          \
             */
#define DEV_LINK_CLOSING_MS  5000u
#define DEV_QUARANTINE_AFTER 2u

/* home.c */
void dev_event(struct roost_dev *d, enum roost_dev_event ev, uint32_t arg);
void dev_phase(struct roost_dev *d, enum roost_dev_phase p, uint64_t at_ms);
uint32_t dev_random_below(struct roost_dev *d, uint32_t range); /* 0 .. range - 1 */
uint32_t dev_wall(const struct roost_dev *d);
bool dev_has_identity(const struct roost_dev *d);
void dev_save(struct roost_dev *d); /* a failure is reported as REASON_FLASH_WRITE, the old copy holds */
/* The way home failed: wait (at least retry_after_s), then try again, or bootstrap. */
void dev_failed(struct roost_dev *d, uint32_t retry_after_s);
void dev_refused_by_hub(struct roost_dev *d); /* 401, CONNACK 5: bootstrap again */
void dev_backoff(struct roost_dev *d, enum roost_dev_phase after, unsigned failures, uint32_t retry_after_s);
void dev_checkin_schedule(struct roost_dev *d);
void dev_online(struct roost_dev *d); /* nothing to do: keep the link, wait for the next check-in */
void dev_refuse(struct roost_dev *d, uint16_t reason, const uint8_t *digest); /* digest may be NULL */
/* The pin a server of this name must show, or NULL. Copies it to `room`. */
const uint8_t *dev_pin_of(struct roost_dev *d, struct span host, uint8_t room[SHA256_LEN]);

/* trial.c */
void trial_init(struct roost_dev *d);
void trial_tick(struct roost_dev *d);
uint64_t trial_deadline(const struct roost_dev *d);
/* A rejection by the loader which the configuration does not know yet: counted against the release. True:
 * there is something to save. */
bool trial_learn(struct roost_dev *d);
uint8_t dev_quarantine_failures(const struct roost_dev *d, const uint8_t digest[8]);

/* exchange.c */
void ex_begin(struct roost_dev *d, enum dev_exchange_kind kind, enum roost_dev_method method);
/* What w gained since `from`, a span into the request memory. */
struct span ex_since(const struct roost_dev *d, size_t from);
bool ex_ready(struct roost_dev *d); /* false: the request did not fit; nothing was begun */
void ex_abandon(struct roost_dev *d);
void dev_token(struct roost_dev *d, struct wr *w, uint32_t ttl_s); /* the Authorization value */

/* bootstrap.c */
void bootstrap_request(struct roost_dev *d);
void bootstrap_done(struct roost_dev *d, enum roost_dev_result result);

/* checkin.c */
void checkin_request(struct roost_dev *d, bool only_report);
void checkin_body(struct roost_dev *d, struct span piece);
void checkin_done(struct roost_dev *d, enum roost_dev_result result);
/* Takes what envelopes lie at the front of in.bundle; also used for the trust records of a bootstrap. */
void bundle_take(struct roost_dev *d);
/* A trust record that follows ours (or the first, which the pin must allow). Kept in RAM only. */
MUST_USE enum err trust_take(struct roost_dev *d, const struct envelope *env);
/* The trust record changed: the confirmed image stays bootable, a trial image must be allowed anew. */
void trust_changed(struct roost_dev *d);
MUST_USE enum err dev_trust(const struct roost_dev *d, struct trust_record *out, struct envelope *env);

/* judge.c */
uint16_t judge_ticket(struct roost_dev *d, const struct trust_record *t, const struct envelope *env,
                      const struct ticket *k);
uint16_t judge_release(struct roost_dev *d, const struct trust_record *t, const struct envelope *env,
                       const struct release *r);
const struct release_component *release_app(const struct roost_dev *d, const struct release *r);
const struct release_encoding *release_raw(const struct release *r, const struct release_component *a);

/* update.c */
void update_obey(struct roost_dev *d, struct span release_raw, const struct ticket *k);
void update_step(struct roost_dev *d);
void update_status(struct roost_dev *d);
void update_body(struct roost_dev *d, struct span piece);
void update_done(struct roost_dev *d, uint8_t kind, enum roost_dev_result result);
void update_stop(struct roost_dev *d, uint16_t reason);
uint32_t update_bytes_done(const struct roost_dev *d);

/* link.c */
void link_start(struct roost_dev *d);
void link_stop(struct roost_dev *d, bool again); /* politely; again: come back at once */
void link_tick(struct roost_dev *d);
uint64_t link_deadline(const struct roost_dev *d);

#endif
