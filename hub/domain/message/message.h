/* hub/domain/message/message.h - one telemetry message as the stream keeps it: a compact binary record, and
 * its codec. Pure: any thread. Spans in a decoded message point into the record.
 *
 *   record = version(1) auth(1) source(1) field* 0x00 body
 *   field  = tag(1) length(varint) bytes
 *   tags     1 device id, 2 module id, 3 generation id, 4 model id of the connection,
 *            16 + enum bag_system (core/bag) a system property,
 *            64 application property: name length(varint) name value; 65 one with a null value: name
 * Varints are little-endian base 128, at most 3 bytes. The body is all that follows. Enqueued time, partition
 * and sequence number are the stream's. A reader skips tags it does not know, so that new ones can be added;
 * a change of meaning needs a new version. */
#ifndef ROOST_HUB_DOMAIN_MESSAGE_MESSAGE_H
#define ROOST_HUB_DOMAIN_MESSAGE_MESSAGE_H

#include "core/bag/bag.h"

#define MESSAGE_VERSION 1u

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
enum message_source { /* on disk */
                      MESSAGE_SOURCE_TELEMETRY = 0,
                      MESSAGE_SOURCE_TWIN_CHANGE,
                      MESSAGE_SOURCE_LIFECYCLE,
                      MESSAGE_SOURCE_CONNECTION,
                      MESSAGE_SOURCE_JOB,
                      MESSAGE_SOURCE_DIGITAL_TWIN,
                      MESSAGE_SOURCES
};
/* As iothub-message-source says it. */
const char *message_source_name(uint8_t source);

struct message {
    uint8_t auth, source;
    struct span device, module, generation; /* module empty: a device */
    struct span model;                      /* read as dt-dataschema; empty: none */
    struct span system[BAG_SYSTEM_NAMES];   /* p is NULL when absent */
    struct span props;                      /* encoded: message_prop_next */
    struct span body;
};
struct message_prop {
    struct span name, value;
    bool null; /* a name alone */
};

/* Fields of an identity and of the hub first, then any number of properties, then the body, once. */
struct message_head {
    uint8_t auth, source;
    struct span device, module, generation, model; /* empty ones are left out */
};
void message_put_head(struct wr *w, const struct message_head *h);
void message_put_system(struct wr *w, enum bag_system s, struct span value);
void message_put_prop(struct wr *w, const struct message_prop *p);
void message_put_body(struct wr *w, struct span body);

/* ERR_PROTO: not a record of a version known here. A repeated field: the last one counts. */
MUST_USE enum err message_decode(struct span record, struct message *out);
/* The next application property; false at the end. `at` starts as m->props and is moved on. */
bool message_prop_next(struct span *at, struct message_prop *out);

#endif
