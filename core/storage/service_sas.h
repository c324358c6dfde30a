/* core/storage/service_sas.h - shared access signatures of the blob service, as they stand in a query:
 *     sv=2018-03-28&sr=b&sig=<signature>&se=<end>&sp=rw        sr: b one blob, c a container
 * The signed text has three forms, by the version sv. Pure; C99. Source: Azure Storage, "Create a service
 * SAS". */
#ifndef ROOST_CORE_STORAGE_SERVICE_SAS_H
#define ROOST_CORE_STORAGE_SERVICE_SAS_H

#include "core/crypto/crypto.h"

enum service_sas_field { /* as they are signed */
                         SERVICE_SAS_SP,
                         SERVICE_SAS_ST,
                         SERVICE_SAS_SE,
                         SERVICE_SAS_SI,
                         SERVICE_SAS_SIP,
                         SERVICE_SAS_SPR,
                         SERVICE_SAS_SV,
                         SERVICE_SAS_SR,
                         SERVICE_SAS_SNAPSHOT,
                         SERVICE_SAS_SES,
                         SERVICE_SAS_RSCC,
                         SERVICE_SAS_RSCD,
                         SERVICE_SAS_RSCE,
                         SERVICE_SAS_RSCL,
                         SERVICE_SAS_RSCT,
                         SERVICE_SAS_FIELDS
};
struct service_sas {
    struct span field[SERVICE_SAS_FIELDS]; /* decoded; empty when absent */
    uint8_t sig[SHA256_LEN];
};

/* Of a query string; decoded text goes to mem (never more than the query has). ERR_NOTFOUND: no sig;
 * ERR_PROTO: one of the fields twice, no sv, sr or se, sig not base64 of 32 bytes; ERR_LIMIT: no room. Others
 * are passed over. */
MUST_USE enum err service_sas_parse(struct span query, struct wr *mem, struct service_sas *out);
/* Signed with the key (raw bytes) for this blob, or with sr=c for its container? Constant time. */
bool service_sas_verify(const struct service_sas *s, const struct crypto_ops *c, struct span key,
                        struct span account, struct span container, struct span blob);
/* Has begun and is not over. */
bool service_sas_is_live(const struct service_sas *s, uint64_t wall_ms);
bool service_sas_permits(const struct service_sas *s, char letter);

/* Makes one, with its question mark; blob empty: of the container. permissions: "rw". */
void service_sas_encode(struct wr *w, const struct crypto_ops *c, struct span key, struct span account,
                        struct span container, struct span blob, uint64_t end_wall_ms,
                        struct span permissions);

#endif
