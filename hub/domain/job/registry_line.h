/* hub/domain/job/registry_line.h - an identity with its twin as one JSON object: a line of the files that are
 * imported and exported. Each says by "importMode" what is to be done:
 *
 *     {"id","moduleId"?,"importMode","eTag","status","statusReason","authentication","capabilities",
 *      "deviceScope","parentScopes","managedBy","tags","properties":{"desired"},"twinETag"}
 *
 * Source of the form: Azure IoT Hub, "Import and export IoT Hub device identities in bulk"; docs/registry.md.
 */
#ifndef ROOST_HUB_DOMAIN_JOB_REGISTRY_LINE_H
#define ROOST_HUB_DOMAIN_JOB_REGISTRY_LINE_H

#include "base/log.h"
#include "hub/domain/identity/identity_write.h"
#include "hub/domain/twin/twin.h"

#define REGISTRY_LINE_MAX (1024u * 1024u) /* bytes of a line */

enum registry_doing { REGISTRY_WRITE, REGISTRY_DELETE, REGISTRY_TWIN };
struct registry_mode {
    const char *name; /* "createOrUpdate" */
    enum registry_doing doing;
    enum identity_mode write;
    bool if_match; /* only when the etag of the line is the one that is there */
};
/* Without case; NULL: not known. Empty: "createOrUpdate". */
const struct registry_mode *registry_mode_find(struct span name);

/* An etag that counts, as identities and configurations have: "MQ==" in base64, with quotes or without. 0:
 * "*", whatever is there; UINT64_MAX: no etag of ours, which matches nothing. */
uint64_t registry_etag_parse(struct span text);
void registry_etag_write(struct wr *w, const char *name, uint64_t etag); /* ,"name":"MQ==" */

struct registry_line { /* spans in the arena, or in the text that was read */
    const struct registry_mode *mode;
    struct span device, module; /* module empty: the device itself */
    struct span name;           /* "device/module" */
    struct identity_spec spec;
    struct module_spec module_spec;
    uint64_t if_etag;
    struct twin_patch twin;
    struct twin_if twin_if;
};
struct registry_fault {
    uint32_t code;  /* 404001 */
    char text[320]; /* UTF-8, no control characters */
};
/* Sets it. Always ERR_PROTO. */
enum err registry_wrong(struct registry_fault *f, uint32_t code, const char *text, ...) LOG_PRINTF(3, 4);
/* The tree of a line, an object. ERR_PROTO with the fault. */
MUST_USE enum err registry_parse(struct arena *a, struct span line, struct jnode **out,
                                 struct registry_fault *f);

/* Any thread. `mode` is that of lines which name none.
 *   ERR_PROTO  the fault says what is wrong, and out->device is the id if it could be read      ERR_NOMEM */
MUST_USE enum err registry_line_read(struct arena *a, struct span text, const struct registry_mode *mode,
                                     struct registry_line *out, struct registry_fault *f);
/* In run() of a write. What a rule refuses sets the fault: ERR_PROTO, ERR_NOTFOUND, ERR_EXISTS, ERR_STALE,
 * ERR_LIMIT; what was written until then has to be undone (tx_try). *names: what to announce after the
 * commit. */
MUST_USE enum err registry_line_apply(struct hub *h, struct store_tx *tx, struct arena *a,
                                      const struct registry_line *l, struct identity_names *names,
                                      struct registry_fault *f);
/* In run(). A line with its line end. keys: with symmetric keys; without them they are null. */
MUST_USE enum err registry_device_write(struct store_tx *tx, struct wr *w, const struct device_row *d,
                                        bool keys);
MUST_USE enum err registry_module_write(struct store_tx *tx, struct wr *w, const struct module_row *m,
                                        bool keys);
/* {"deviceId","moduleId"?,"errorCode","errorStatus"} */
void registry_fault_write(struct wr *w, struct span device, struct span module,
                          const struct registry_fault *f);

#endif
