/* core/topic/username.h - the MQTT client identifier and user name of an Azure IoT Hub device.
 *     {host}/{device}[/{module}][/?{query}]     with the older tails "/api-version=..." and "?..." as well
 * Pure; spans in a result point into the input. */
#ifndef ROOST_CORE_TOPIC_USERNAME_H
#define ROOST_CORE_TOPIC_USERNAME_H

#include "core/topic/topic.h"

#define IDENTITY_ID_MAX 128u

struct username {
    struct span host;
    struct topic_identity who; /* into the client identifier */
    /* Query values as received, still percent-encoded (core/bag or percent_decode); empty: absent. */
    struct span api_version, client_type, model_id, auth_chain;
};
/* ERR_DENIED: the client identifier is empty or no id, or the user name does not name the same identity,
 * byte for byte; or it has no host. */
MUST_USE enum err username_parse(struct span client_id, struct span name, struct username *out);
/* client_type: plain text, percent-encoded here; may be empty. */
void username_encode(struct wr *w, struct span host, const struct topic_identity *who,
                     struct span client_type);
void client_id_encode(struct wr *w, const struct topic_identity *who);

/* 1..128 of A-Z a-z 0-9 - . + % _ # * ? ! ( ) , : = @ $ ' */
bool identity_id_is_valid(struct span id);

#endif
