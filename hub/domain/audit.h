/* hub/domain/audit.h - who decided what about whom. Written in the transaction of the decision itself, so
 * there is no decision without its line. Never a key, token or signature. */
#ifndef ROOST_HUB_DOMAIN_AUDIT_H
#define ROOST_HUB_DOMAIN_AUDIT_H

#include "base/log.h"
#include "hub/domain/hub.h"

/* In run() of a write. who: policy name, "device" or a source address; what: a fixed dotted name such as
 * "device.create"; detail: a printf format. */
MUST_USE enum err audit_push(struct hub *h, struct store_tx *tx, struct span who, const char *what,
                             struct span subject, const char *detail, ...) LOG_PRINTF(6, 7);

#endif
