/* core/topic/topic.h - the topics an Azure IoT Hub speaks over MQTT, both ways.
 * Ids are compared byte for byte with the authenticated identity and never split out of a topic: they may
 * contain + # ? % $. Pure; spans in a result point into the input. */
#ifndef ROOST_CORE_TOPIC_TOPIC_H
#define ROOST_CORE_TOPIC_TOPIC_H

#include "base/err.h"
#include "base/span.h"

struct topic_identity {
    struct span device;
    struct span module; /* empty: the device itself */
};

enum topic_kind {
    /* device to hub */
    TOPIC_TELEMETRY = 1, /* bag */
    TOPIC_TWIN_GET,      /* rid */
    TOPIC_TWIN_PATCH,    /* rid when has_rid; version when has_version */
    TOPIC_METHOD_RES,    /* status, rid */
    TOPIC_CRED_POST,     /* rid */
    /* hub to device */
    TOPIC_C2D,      /* bag */
    TOPIC_INPUT,    /* name (percent-encoded as it came), bag */
    TOPIC_TWIN_RES, /* status, rid, version when has_version */
    TOPIC_DESIRED,  /* version when has_version */
    TOPIC_METHOD,   /* name, rid */
    TOPIC_CRED_RES  /* status, rid */
};
struct topic {
    uint8_t kind; /* enum topic_kind */
    bool has_rid, has_version;
    int32_t status;
    uint64_t version;
    struct span bag;  /* still encoded: core/bag */
    struct span rid;  /* exactly as received */
    struct span name; /* method or input */
};

/* A topic that `who` publishes to.
 *   ERR_DENIED    the telemetry topic of another identity
 *   ERR_PROTO     a twin, method or credential topic that cannot be read, a wildcard outside the own id
 *   ERR_NOTFOUND  none of the hub's topics */
MUST_USE enum err topic_parse(struct span topic, const struct topic_identity *who, struct topic *out);
/* The device's side: a topic the hub publishes to `who`. Same errors. */
MUST_USE enum err topic_server_parse(struct span topic, const struct topic_identity *who, struct topic *out);

/* ---- subscriptions: the fixed set of channels of an identity, two bits a channel ---------------------- */

enum channel {
    CHANNEL_C2D,
    CHANNEL_INPUT, /* modules only */
    CHANNEL_METHODS,
    CHANNEL_TWIN_RES,
    CHANNEL_DESIRED,
    CHANNEL_CRED_RES,
    CHANNELS
};
/* Bit 1 << channel for each channel the filter reaches; 0: none (answer 0x80). */
uint32_t topic_filter_channels(struct span filter, const struct topic_identity *who);

/* The stored form (session_row.channels): 0 none, 1 + granted QoS. */
static inline int channels_qos(uint32_t channels, enum channel c) /* -1: not subscribed */
{
    return (int)(channels >> (2 * (unsigned)c) & 3u) - 1;
}
/* Every channel of the bit set `which` gets the QoS (0 or 1), replacing what it had. */
uint32_t channels_grant(uint32_t channels, uint32_t which, unsigned qos);
uint32_t channels_drop(uint32_t channels, uint32_t which);

/* ---- writing topics ------------------------------------------------------------------------------------ */

/* C2D: prefix and bag. `props` is an encoded bag (names of either spelling); empty and null values are left
 * out, system names come first, "to" is made when it is missing, so the bag is never empty. */
void topic_c2d_encode(struct wr *w, const struct topic_identity *who, struct span props);
void topic_twin_res_encode(struct wr *w, unsigned status, struct span rid); /* status: three digits */
void topic_twin_res_version_encode(struct wr *w, unsigned status, struct span rid, uint64_t version);
void topic_desired_encode(struct wr *w, uint64_t version);
void topic_method_encode(struct wr *w, struct span name, struct span rid);
void topic_cred_res_encode(struct wr *w, unsigned status, struct span rid);

/* The device's side. The bag follows telemetry: bag_put (core/bag) behind it. */
void topic_telemetry_encode(struct wr *w, const struct topic_identity *who); /* ends with '/' */
void topic_c2d_filter_encode(struct wr *w, const struct topic_identity *who);
void topic_twin_get_encode(struct wr *w, struct span rid);
void topic_twin_patch_encode(struct wr *w, struct span rid);
void topic_method_res_encode(struct wr *w, int32_t status, struct span rid);

#define TOPIC_FILTER_METHODS  "$iothub/methods/POST/#"
#define TOPIC_FILTER_TWIN_RES "$iothub/twin/res/#"
#define TOPIC_FILTER_DESIRED  "$iothub/twin/PATCH/properties/desired/#"

#endif
