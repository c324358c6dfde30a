/* hub/domain/message.h - one telemetry message as the stream keeps it: a compact binary record, and its
 * codec. Pure: any thread. Spans in a decoded message point into the record.
 *
 *   record = version(1) auth(1) source(1) field* 0x00 body
 *   field  = tag(1) length(varint) bytes
 *   tags     1 device id, 2 module id, 3 generation id, 16 + enum message_system a system property,
 *            64 application property: name length(varint) name value; 65 the same with a null value: name
 * Varints are little-endian base 128, at most 3 bytes. The body is all that follows. Enqueued time, partition
 * and sequence number are the stream's. A reader skips tags it does not know, so that new ones can be added;
 * a change of meaning needs a new version. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_H
#define ROOST_HUB_DOMAIN_MESSAGE_H

#include "base/err.h"
#include "base/span.h"

#define MESSAGE_VERSION 1u

enum message_system { /* values are on disk: add at the end */
                      MESSAGE_ID = 0,
                      MESSAGE_CORRELATION_ID,
                      MESSAGE_USER_ID,
                      MESSAGE_TO,
                      MESSAGE_EXPIRY,
                      MESSAGE_CONTENT_TYPE,
                      MESSAGE_CONTENT_ENCODING,
                      MESSAGE_CREATION_TIME,
                      MESSAGE_OUTPUT_NAME,
                      MESSAGE_INTERFACE_ID,
                      MESSAGE_SCHEMA,
                      MESSAGE_SUBJECT,
                      MESSAGE_DATASCHEMA, /* stamped: the model id of the connection */
                      MESSAGE_DIAG_ID,
                      MESSAGE_DIAG_CONTEXT,
                      MESSAGE_OPERATION,
                      MESSAGE_ACK,
                      MESSAGE_SYSTEMS
};
/* As readers know it: "message-id", "dt-subject", ... */
const char *message_system_name(enum message_system s);
/* By the name in a property bag, decoded: "$.mid", "iothub-ack", ...; MESSAGE_SYSTEMS: not one of them. */
enum message_system message_system_of(struct span bag_name);

enum message_auth { /* how the connection proved itself; on disk */
                    MESSAGE_AUTH_DEVICE_SAS = 0,
                    MESSAGE_AUTH_MODULE_SAS,
                    MESSAGE_AUTH_HUB_SAS, /* a policy */
                    MESSAGE_AUTH_DEVICE_X509,
                    MESSAGE_AUTH_MODULE_X509,
                    MESSAGE_AUTHS
};
/* JSON text of iothub-connection-auth-method. */
const char *message_auth_method(uint8_t auth);
enum message_source { MESSAGE_SOURCE_TELEMETRY = 0, MESSAGE_SOURCES };
const char *message_source_name(uint8_t source);

struct message {
    uint8_t auth, source;
    struct span device, module, generation; /* module empty: a device */
    struct span system[MESSAGE_SYSTEMS];    /* p is NULL when absent */
    struct span props;                      /* encoded: message_prop_next */
    struct span body;
};
struct message_prop {
    struct span name, value;
    bool null; /* a name alone */
};

/* Fields of an identity and of the hub first, then any number of properties, then the body, once. */
void message_put_head(struct wr *w, uint8_t auth, uint8_t source, struct span device, struct span module,
                      struct span generation);
void message_put_system(struct wr *w, enum message_system s, struct span value);
void message_put_prop(struct wr *w, const struct message_prop *p);
void message_put_body(struct wr *w, struct span body);

/* ERR_PROTO: not a record of a version known here. A repeated field: the last one counts. */
MUST_USE enum err message_decode(struct span record, struct message *out);
/* The next application property; false at the end. `at` starts as m->props and is moved on. */
bool message_prop_next(struct span *at, struct message_prop *out);

#endif
