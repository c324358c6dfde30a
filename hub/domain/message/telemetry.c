/* hub/domain/message/telemetry.c - see telemetry.h. */
#include "hub/domain/message/telemetry.h"

#include "base/crc32.h"
#include "hub/domain/hub.h"
#include "hub/domain/metrics.h"

#include <assert.h>

/* Bytes a record has besides what the asker gave: version and the like, tags and lengths of the fixed fields,
 * the properties added here. */
#define RECORD_OVERHEAD 160u

size_t telemetry_room(const struct telemetry_in *in)
{
    /* An item of the bag grows to at most twice its length in a record ("a&" to tag, two lengths, name); the
     * tail holds the decoded text meanwhile, which is never longer than the bag. */
    return RECORD_OVERHEAD + in->device.n + in->module.n + in->generation.n + in->model_id.n + 3 * in->bag.n +
           in->body.n;
}

uint32_t telemetry_partition(const struct hub *h, struct span device)
{
    return crc32_update(0, device) % stream_partitions(h->stream);
}

/* Who a message comes from is said by the connection alone. */
static bool is_ours_to_say(int system)
{
    return system == BAG_CONNECTION_DEVICE_ID || system == BAG_CONNECTION_MODULE_ID;
}

/* Sum of what counts against the limit: body, values of system properties, names and values of the others. */
static enum err record_encode(const struct hub *h, const struct telemetry_in *in, struct wr *w,
                              struct wr *mem)
{
    struct span bag = in->bag;
    struct bag_item item;
    size_t counted = in->body.n;
    enum err e;
    message_put_head(w, &(struct message_head){ in->auth, MESSAGE_SOURCE_TELEMETRY, in->device, in->module,
                                                in->generation, in->model_id });
    while ((e = bag_next(&bag, mem, &item)) == ERR_OK) {
        int system = bag_system_of_wire(item.name);
        counted += (system < 0 ? item.name.n : 0) + item.value.n;
        if (is_ours_to_say(system))
            continue;
        if (system >= 0)
            message_put_system(w, (enum bag_system)system, item.value);
        else
            message_put_prop(w, &(struct message_prop){ item.name, item.value, !item.has_value });
    }
    assert(e == ERR_AGAIN); /* telemetry_room is never short */
    if (in->retain)
        message_put_prop(w, &(struct message_prop){ SPAN("mqtt-retain"), SPAN("true"), false });
    if (in->dup)
        message_put_prop(w, &(struct message_prop){ SPAN("mqtt-dup"), SPAN("true"), false });
    if (in->will)
        message_put_prop(w, &(struct message_prop){ SPAN("iothub-MessageType"), SPAN("Will"), false });
    message_put_body(w, in->body);
    return counted > h->settings.message_max ? ERR_LIMIT : ERR_OK;
}

/* ---- the way ---------------------------------------------------------------------------------------- */

#define WAY_DIRECT (1ull << 63)
#define WAY_TAKEN  (1ull << 32)

void telemetry_way_route(struct telemetry_way *w)
{
    atomic_fetch_and(&w->state, ~WAY_DIRECT);
}

bool telemetry_way_quiet(const struct telemetry_way *w, uint64_t *seen)
{
    *seen = atomic_load(&w->state);
    return !(*seen & WAY_DIRECT) && !(uint32_t)*seen;
}

void telemetry_way_direct(struct telemetry_way *w, uint64_t seen)
{
    (void)!atomic_compare_exchange_strong(&w->state, &seen, seen | WAY_DIRECT);
}

/* True: through the log, which way_leave() ends. */
static bool way_enter(struct telemetry_way *w)
{
    uint64_t s = w ? atomic_load_explicit(&w->state, memory_order_acquire) : WAY_DIRECT;
    do
        if (s & WAY_DIRECT)
            return false;
    while (!atomic_compare_exchange_weak(&w->state, &s, ((s + WAY_TAKEN) & ~WAY_DIRECT) + 1));
    return true;
}
static void way_leave(struct telemetry_way *w)
{
    atomic_fetch_sub(&w->state, 1);
}

/* ---- one message ------------------------------------------------------------------------------------ */

static void put_done(struct op *op)
{
    struct telemetry_put *p = (struct telemetry_put *)(void *)op;
    if (p->routed)
        way_leave(p->hub->way);
    if (op->err) {
        METRIC_ADD(p->hub, telemetry_refused_total, p->messages);
    } else {
        METRIC_ADD(p->hub, telemetry_messages_total, p->messages);
        METRIC_ADD(p->hub, telemetry_bytes_total, p->body_len);
    }
    p->done(op);
}

enum err telemetry_prepare(struct hub *h, struct telemetry_put *p, const struct telemetry_in *in,
                           uint8_t *mem, size_t room)
{
    /* The tail of mem holds the decoded names and values until they are copied into the record. */
    assert(room >= telemetry_room(in));
    struct wr w = { mem, room - in->bag.n, 0 };
    struct wr scratch = { mem + w.cap, in->bag.n, 0 };
    enum err e = in->body.n > h->settings.message_max ? ERR_LIMIT : record_encode(h, in, &w, &scratch);
    if (e) {
        METRIC_ADD(h, telemetry_refused_total, 1);
        return e;
    }
    assert(wr_ok(&w));
    p->hub = h;
    p->body_len = (uint32_t)in->body.n;
    p->messages = 1;
    p->append.partition = telemetry_partition(h, in->device);
    p->append.record = wr_span(&w);
    p->append.rest = NULL;
    return ERR_OK;
}

void telemetry_start_all(struct telemetry_put *first)
{
    for (const struct stream_append *a = first->append.rest; a; a = a->rest) {
        first->body_len += ((const struct telemetry_put *)(const void *)a)->body_len;
        first->messages++;
    }
    first->done = first->append.op.done;
    first->append.op.done = put_done;
    struct hub *h = first->hub;
    first->routed = way_enter(h->way);
    if (first->routed)
        for (struct stream_append *a = &first->append; a; a = a->rest)
            a->partition = 0;
    stream_append(first->routed ? h->way->log : h->stream, &first->append);
}

enum err telemetry_start(struct hub *h, struct telemetry_put *p, const struct telemetry_in *in, uint8_t *mem,
                         size_t room)
{
    enum err e = telemetry_prepare(h, p, in, mem, room);
    if (!e)
        telemetry_start_all(p);
    return e;
}
