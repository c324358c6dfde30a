/* hub/front/azure_http/device_batch.c - see device_batch.h. */
#include "hub/front/azure_http/device_batch.h"

#include "base/text.h"
#include "core/bag/bag.h"

static const struct {
    const char *header;
    enum bag_system system;
} known[] = {
    { "iothub-messageid", BAG_MESSAGE_ID },
    { "iothub-correlationid", BAG_CORRELATION_ID },
    { "iothub-userid", BAG_USER_ID },
    { "iothub-contenttype", BAG_CONTENT_TYPE },
    { "iothub-contentencoding", BAG_CONTENT_ENCODING },
    { "iothub-expiry", BAG_EXPIRY },
    { "iothub-ack", BAG_ACK },
    { "iothub-creationtimeutc", BAG_CREATION_TIME },
    { "iothub-messageschema", BAG_SCHEMA },
    { "iothub-interface-id", BAG_INTERFACE_ID },
    { "dt-subject", BAG_SUBJECT },
};

bool device_bag_put(struct wr *w, struct span name, struct span value)
{
    struct span app = SPAN("iothub-app-");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (span_ieq(name, span_str(known[i].header))) {
            if (value.n)
                bag_put(w, 0, span_str(bag_system_names[known[i].system].wire), value);
            return true;
        }
    if (name.n < app.n || !span_ieq(span_of(name.p, app.n), app))
        return true;
    name = span_skip(name, app.n);
    /* The spellings of the bag itself are not for applications. */
    if (name.n && bag_system_of_wire(name) < 0)
        bag_put(w, 0, name, value);
    return name.n > 0;
}

/* The longest bag that comes of `bytes` bytes of names and values: each may need three, and two signs. */
static bool bag_of(const json_t *props, struct arena *a, struct span *out, const char **why)
{
    const char *key;
    json_t *v;
    struct wr w = { 0 };
    *out = SPAN_NONE;
    for (int pass = 0; pass < 2; pass++) {
        json_object_foreach((json_t *)(uintptr_t)props, key, v)
        {
            if (!json_is_string(v)) {
                *why = "each of \"properties\" has to be a string";
                return false;
            }
            if (!device_bag_put(&w, span_str(key), span_of(json_string_value(v), json_string_length(v)))) {
                *why = "an application property has no name";
                return false;
            }
        }
        if (pass == 0)
            w = (struct wr){ arena_alloc(a, w.len + 1), w.len, 0 };
        if (!w.p) {
            *why = NULL;
            return false;
        }
    }
    *out = wr_span(&w);
    return true;
}

static bool event_of(const json_t *o, struct arena *a, struct device_event *out, const char **why)
{
    const json_t *body = json_object_get(o, "body"), *coded = json_object_get(o, "base64Encoded"),
                 *props = json_object_get(o, "properties");
    if (!json_is_object(o) || !json_is_string(body)) {
        *why = "each message has to be an object with a string \"body\"";
        return false;
    }
    if ((coded && !json_is_null(coded) && !json_is_boolean(coded)) ||
        (props && !json_is_null(props) && !json_is_object(props))) {
        *why = "\"base64Encoded\" has to be true or false, \"properties\" an object";
        return false;
    }
    out->body = span_of(json_string_value(body), json_string_length(body));
    if (!json_is_false(coded)) {
        size_t room = out->body.n / 4 * 3 + 3, n;
        uint8_t *mem = arena_alloc(a, room);
        if (!mem) {
            *why = NULL;
            return false;
        }
        if (base64_decode(out->body, mem, room, &n)) {
            *why = "a \"body\" is not base64";
            return false;
        }
        out->body = span_of(mem, n);
    }
    out->bag = SPAN_NONE;
    return !json_is_object(props) || bag_of(props, a, &out->bag, why);
}

struct device_event *device_batch_read(const json_t *in, struct arena *a, size_t *nr, size_t *bytes,
                                       const char **why, bool *too_many)
{
    *nr = json_array_size(in);
    *bytes = 0;
    *too_many = *nr > DEVICE_BATCH_MAX;
    if (!json_is_array(in) || !*nr || *too_many) {
        *why = "the body has to be a JSON array of 1 to 500 messages";
        return NULL;
    }
    struct device_event *events = arena_alloc(a, *nr * sizeof *events);
    *why = NULL; /* memory */
    for (size_t i = 0; events && i < *nr; i++) {
        if (!event_of(json_array_get(in, i), a, &events[i], why))
            return NULL;
        *bytes += events[i].body.n;
    }
    return events;
}
