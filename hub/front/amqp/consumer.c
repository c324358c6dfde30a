/* hub/front/amqp/consumer.c - readers of telemetry: each reads its partition of the stream at its own speed,
 * a buffer at a time and only while it gives credit, so that one that is far behind costs the same as one
 * that is not. Events are sent settled: readers keep their place themselves. */
#include "base/text.h"
#include "hub/front/amqp/map.h"
#include "hub/front/amqp/peer.h"
#include "hub/front/amqp/start.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    READ_BYTES = 65536,
    READ_RECORDS = 256,
    READERS_MAX = 5, /* without an epoch, of a partition and a group */
    NAME_MAX_ = 128
};

struct consumer {     /* state of the link */
    struct list node; /* on front->consumers, under its lock */
    struct amqp_front *front;
    struct amqp_worker *aw;
    struct bus_addr addr;
    uint64_t id;
    int64_t epoch;
    bool has_epoch, listed;
    uint32_t partition;
    uint8_t group_len, name_len;
    uint8_t group[NAME_MAX_], name[NAME_MAX_];

    struct peer_link *l; /* while the link is there; the ops below hold references of it */
    struct stream_pos pos;
    struct stream_read read;
    struct stream_watch watch;
    bool reading, watching;
    uint8_t *buf, *head; /* owned; NULL while idle */
    size_t buf_cap, head_cap, at;
    struct stream_record *records;
    struct amqp_send send;
    bool sending;
    uint8_t tag[16];
};

/* ---- who reads what: epochs ---------------------------------------------------------------------------- */

struct steal {    /* a message to the worker of a consumer that lost its partition; owned by itself */
    struct op op; /* first */
    struct amqp_worker *aw;
    struct bus_addr addr;
    uint64_t id;
    char text[400];
};

static void stolen(struct op *op)
{
    struct steal *s = (struct steal *)(void *)op;
    struct conn *c = conn_find(s->aw->w, s->addr);
    if (c && !conn_is_closing(c)) {
        struct peer *p = peer_of(c);
        for (struct list *n = p->links.next; n != &p->links; n = n->next) {
            struct peer_link *l = (struct peer_link *)n;
            if (l->kind != &consumer_kind || ((struct consumer *)l->state)->id != s->id)
                continue;
            link_detach(l, "amqp:link:stolen", s->text);
            break;
        }
        peer_flush(c);
    }
    free(s);
}

static void tell_stolen(const struct consumer *old, const struct consumer *by)
{
    struct steal *s = calloc(1, sizeof *s);
    if (!s) /* it goes on reading: nothing is lost by that */
        return;
    s->aw = old->aw;
    s->addr = old->addr;
    s->id = old->id;
    s->op.done = stolen;
    snprintf(
        s->text, sizeof s->text,
        "New receiver '%.*s' with higher epoch of '%lld' is created hence current receiver '%.*s' with epoch "
        "'%lld' is getting disconnected. If you are recreating the receiver, make sure a higher epoch is "
        "used.",
        by->name_len, by->name, (long long)by->epoch, old->name_len, old->name, (long long)old->epoch);
    worker_post(old->aw->w, &s->op);
}

static bool same_place(const struct consumer *a, const struct consumer *b)
{
    return a->partition == b->partition &&
           span_ieq(span_of(a->group, a->group_len), span_of(b->group, b->group_len));
}

/* Takes its place among the readers of its partition. NULL: it may. */
static const char *consumer_register(struct consumer *k, char text[256])
{
    struct amqp_front *f = k->front;
    const char *condition = NULL;
    unsigned plain = 0;
    pthread_mutex_lock(&f->lock);
    for (struct list *n = f->consumers.next; n != &f->consumers && !condition; n = n->next) {
        const struct consumer *o = (struct consumer *)n;
        if (!same_place(o, k))
            continue;
        plain += !o->has_epoch;
        if (o->has_epoch && (!k->has_epoch || o->epoch > k->epoch)) {
            condition = "amqp:link:stolen";
            if (k->has_epoch)
                snprintf(text, 256,
                         "Receiver '%.*s' with a higher epoch '%lld' already exists. Receiver with epoch "
                         "%lld cannot "
                         "be created.",
                         o->name_len > 60 ? 60 : o->name_len, o->name, (long long)o->epoch,
                         (long long)k->epoch);
            else
                snprintf(text, 256,
                         "At least one receiver for the endpoint is created with epoch of '%lld', and so "
                         "non-epoch "
                         "receiver is not allowed.",
                         (long long)o->epoch);
        }
    }
    if (!condition && !k->has_epoch && plain >= READERS_MAX) {
        condition = "amqp:resource-limit-exceeded";
        snprintf(
            text, 256,
            "Exceeded the maximum number of allowed receivers per partition in a consumer group which is %d.",
            READERS_MAX);
    }
    if (!condition) {
        for (struct list *n = f->consumers.next, *next; k->has_epoch && n != &f->consumers; n = next) {
            struct consumer *o = (struct consumer *)n;
            next = n->next;
            if (!same_place(o, k))
                continue;
            list_del(&o->node);
            o->listed = false;
            tell_stolen(o, k);
        }
        list_push(&f->consumers, &k->node);
        k->listed = true;
    }
    pthread_mutex_unlock(&f->lock);
    return condition;
}

static void consumer_leave(struct consumer *k)
{
    pthread_mutex_lock(&k->front->lock);
    if (k->listed)
        list_del(&k->node);
    k->listed = false;
    pthread_mutex_unlock(&k->front->lock);
}

/* ---- making ----------------------------------------------------------------------------------------- */

static const char *say(char text[256], const char *condition, const char *what)
{
    snprintf(text, 256, "%s", what);
    return condition;
}

static const char *place_of(struct conn *c, const struct address *a, struct consumer *k, char text[256])
{
    const struct amqp_front *f = peer_front(c);
    uint32_t partitions = stream_partitions(f->hub->stream);
    uint64_t partition;
    if (!events_entity_is_ours(f, a->entity) || !group_is_known(f->hub->settings.consumer_groups, a->group)) {
        snprintf(text, 256, "The messaging entity 'sb://%s/%.*s' could not be found.", f->hub->names[0],
                 (int)(a->entity.n < 64 ? a->entity.n : 64), (const char *)a->entity.p);
        return "amqp:not-found";
    }
    if (u64_parse(a->partition, partitions - 1, &partition)) {
        snprintf(
            text, 256,
            "The specified partition is invalid for an EventHub partition sender or receiver. It should be "
            "between 0 and %u.",
            partitions - 1);
        return "com.microsoft:argument-out-of-range";
    }
    k->partition = (uint32_t)partition;
    k->group_len = (uint8_t)(a->group.n < NAME_MAX_ ? a->group.n : NAME_MAX_);
    memcpy(k->group, a->group.p, k->group_len);
    return NULL;
}

static const char *start_in(struct consumer *k, const struct amqp_attach *attach, char text[256])
{
    struct stream_info info;
    struct start start;
    if (start_of_filter(attach->source.filter, &start))
        return say(text, "com.microsoft:argument-error", "the filter of the receiver is not understood");
    stream_get_info(k->front->hub->stream, k->partition, &info);
    k->pos = (struct stream_pos){ .partition = k->partition, .from = STREAM_EARLIEST };
    if (start.at == START_LATEST) {
        k->pos = (struct stream_pos){ k->partition, STREAM_SEQ, info.next_seq };
    } else if (start.at == START_TIME) {
        k->pos = (struct stream_pos){ k->partition, STREAM_TIME, start.value };
    } else if (start.at == START_SEQ && start.value > info.next_seq) {
        snprintf(text, 256,
                 "The supplied sequence number '%llu' is invalid. The last sequence number in the system is "
                 "'%lld'",
                 (unsigned long long)start.value, (long long)info.next_seq - 1);
        return "com.microsoft:argument-error";
    } else if (start.at == START_SEQ) {
        k->pos = (struct stream_pos){ k->partition, STREAM_SEQ, start.value };
    }
    return NULL;
}

static void read_properties(struct consumer *k, const struct amqp_attach *attach)
{
    struct amqp_value map, v;
    struct span name = attach->name;
    if (attach->properties.n && !amqp_read_one(attach->properties, &map)) {
        k->has_epoch = amqp_map_get(&map, SPAN("com.microsoft:epoch"), &v) && amqp_get_i64(&v, &k->epoch);
        if (amqp_map_get(&map, SPAN("com.microsoft:receiver-name"), &v) && amqp_is_text(&v) && v.bytes.n)
            name = v.bytes;
    }
    k->name_len = (uint8_t)(name.n < NAME_MAX_ ? name.n : NAME_MAX_);
    if (k->name_len)
        memcpy(k->name, name.p, k->name_len);
}

const char *consumer_make(struct conn *c, const struct address *a, const struct amqp_attach *attach,
                          void **state, char text[256])
{
    struct consumer *k = calloc(1, sizeof *k);
    if (!k)
        return say(text, "amqp:internal-error", "the hub is short of memory: try again");
    k->front = peer_front(c);
    k->aw = peer_worker(c);
    k->addr = conn_addr(c);
    k->id = atomic_fetch_add(&k->front->next_consumer, 1) + 1;
    read_properties(k, attach);
    const char *condition = place_of(c, a, k, text);
    if (!condition)
        condition = start_in(k, attach, text);
    if (!condition)
        condition = consumer_register(k, text);
    if (condition)
        free(k);
    else
        *state = k;
    return condition;
}

static void buffers_free(struct consumer *k)
{
    free(k->buf);
    free(k->records);
    free(k->head);
    k->buf = k->head = NULL;
    k->records = NULL;
    k->buf_cap = k->head_cap = 0;
    k->at = k->read.records_nr = 0;
}

static void free_state(void *state)
{
    struct consumer *k = state;
    buffers_free(k);
    free(k);
}

/* ---- one event -------------------------------------------------------------------------------------- */

static void put_stamp(struct wr *w, const char *key, struct span value, uint32_t *nr)
{
    if (!value.n)
        return;
    amqp_put_symbol(w, span_str(key));
    amqp_put_string(w, value);
    *nr += 2;
}

static void annotations_write(struct wr *w, const struct message *m, const struct stream_record *r,
                              const struct map_out *o)
{
    uint8_t offset[20];
    uint32_t nr = 8;
    int n = snprintf((char *)offset, sizeof offset, "%llu", (unsigned long long)r->seq);
    amqp_section_begin(w, AMQP_MESSAGE_ANNOTATIONS);
    size_t at = amqp_map_begin(w);
    amqp_put_symbol(w, SPAN("x-opt-sequence-number"));
    amqp_put_long(w, (int64_t)r->seq);
    amqp_put_symbol(w, SPAN("x-opt-offset"));
    amqp_put_string(w, span_of(offset, (size_t)n));
    amqp_put_symbol(w, SPAN("x-opt-enqueued-time"));
    amqp_put_timestamp(w, r->enqueued_ms);
    amqp_put_symbol(w, SPAN("iothub-enqueuedtime"));
    amqp_put_timestamp(w, r->enqueued_ms);
    put_stamp(w, "x-opt-partition-key", m->device, &nr);
    put_stamp(w, "iothub-connection-device-id", m->device, &nr);
    put_stamp(w, "iothub-connection-module-id", m->module, &nr);
    put_stamp(w, "iothub-connection-auth-generation-id", m->generation, &nr);
    put_stamp(w, "iothub-connection-auth-method", span_str(message_auth_method(m->auth)), &nr);
    put_stamp(w, "iothub-message-source", span_str(message_source_name(m->source)), &nr);
    put_stamp(w, "dt-dataschema", m->model, &nr);
    nr += map_annotations(w, o);
    amqp_map_end(w, at, nr);
}

static void metrics_write(struct wr *w, const struct consumer *k)
{
    struct stream_info info;
    char offset[24];
    const struct hub *h = k->front->hub;
    stream_get_info(h->stream, k->partition, &info);
    int64_t last = info.first_seq == info.next_seq ? -1 : (int64_t)info.next_seq - 1;
    snprintf(offset, sizeof offset, "%lld", (long long)last);
    amqp_section_begin(w, AMQP_DELIVERY_ANNOTATIONS);
    size_t at = amqp_map_begin(w);
    amqp_put_symbol(w, SPAN("last_enqueued_sequence_number"));
    amqp_put_long(w, last);
    amqp_put_symbol(w, SPAN("last_enqueued_offset"));
    amqp_put_string(w, span_str(offset));
    amqp_put_symbol(w, SPAN("last_enqueued_time_utc"));
    amqp_put_timestamp(w, info.last_ms);
    amqp_put_symbol(w, SPAN("runtime_info_retrieval_time_utc"));
    amqp_put_timestamp(w, h->wall_ms());
    amqp_map_end(w, at, 8);
}

static void event_write(struct wr *w, const struct consumer *k, const struct message *m,
                        const struct stream_record *r)
{
    uint8_t to[2 * DEVICE_ID_MAX + 64];
    struct wr t = { to, sizeof to, 0 };
    struct map_out o;
    struct message_prop prop;
    struct span at_prop = m->props;
    memcpy(o.system, m->system, sizeof o.system);
    o.system[BAG_CONNECTION_DEVICE_ID] = o.system[BAG_CONNECTION_MODULE_ID] = SPAN_NONE;
    wr_str(&t, "/devices/");
    wr_put(&t, m->device);
    if (m->module.n) {
        wr_str(&t, "/modules/");
        wr_put(&t, m->module);
    }
    wr_str(&t, "/messages/events");
    metrics_write(w, k);
    annotations_write(w, m, r, &o);
    map_properties(w, &o, wr_span(&t));
    amqp_section_begin(w, AMQP_APPLICATION_PROPERTIES);
    size_t at = amqp_map_begin(w);
    uint32_t nr = map_application(w, &o);
    while (message_prop_next(&at_prop, &prop)) {
        amqp_put_string(w, prop.name);
        if (prop.null)
            amqp_put_null(w);
        else
            amqp_put_string(w, prop.value);
        nr += 2;
    }
    amqp_map_end(w, at, nr);
    amqp_data_head(w, m->body.n);
}

/* Makes the next event ready to send. False: this record is no event, or no memory. */
static bool event_begin(struct consumer *k, const struct stream_record *r)
{
    struct message m;
    struct wr w = { 0 };
    if (message_decode(r->record, &m))
        return false;
    size_t room = 2048 + 2 * (r->record.n - m.body.n);
    if (room > k->head_cap) {
        free(k->head);
        k->head = malloc(room);
        k->head_cap = k->head ? room : 0;
    }
    if (!k->head)
        return false;
    w = (struct wr){ k->head, k->head_cap, 0 };
    event_write(&w, k, &m, r);
    assert(wr_ok(&w));
    struct wr tag = { k->tag, sizeof k->tag, 0 };
    wr_le64(&tag, k->id);
    wr_le64(&tag, r->seq);
    k->send =
        (struct amqp_send){ .tag = wr_span(&tag), .settled = true, .head = wr_span(&w), .body = m.body };
    k->sending = true;
    return true;
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static void pump(struct peer_link *l);

/* Both ops hold a reference of the link. */
static void op_over(struct peer_link *l)
{
    struct conn *c = l->link ? l->conn : NULL;
    if (c && !conn_is_closing(c)) {
        pump(l);
        peer_flush(c);
    }
    link_unref(l);
}

static void watched(struct op *op)
{
    struct stream_watch *w = (struct stream_watch *)(void *)op;
    struct consumer *k = CONTAINER_OF(w, struct consumer, watch);
    k->watching = false;
    op_over(k->l);
}

static void watch_start(struct consumer *k)
{
    k->watch = (struct stream_watch){ .partition = k->partition, .seq = k->pos.value };
    k->watch.op.home = worker_mailbox(k->aw->w);
    k->watch.op.done = watched;
    k->watching = true;
    link_ref(k->l);
    stream_watch(k->front->hub->stream, &k->watch);
}

static void read_done(struct op *op)
{
    struct consumer *k = CONTAINER_OF((struct stream_read *)(void *)op, struct consumer, read);
    struct peer_link *l = k->l;
    k->reading = false;
    k->at = 0;
    if (!op->err || op->err == ERR_AGAIN)
        k->pos = (struct stream_pos){ k->partition, STREAM_SEQ, k->read.next_seq };
    if (op->err)
        k->read.records_nr = 0;
    if (l->link && !conn_is_closing(l->conn)) {
        if (op->err == ERR_AGAIN) { /* nothing there: give the memory back and wait */
            buffers_free(k);
            if (l->link->drain)
                amqp_drained(l->link, peer_out(l->conn));
            watch_start(k);
        } else if (op->err == ERR_LIMIT && k->buf_cap < STREAM_RECORD_MAX) {
            buffers_free(k);
            k->buf_cap = STREAM_RECORD_MAX; /* asked for by the next read */
        } else if (op->err) {
            link_detach(l, "amqp:link:detach-forced", "the telemetry could not be read: try again");
        }
    }
    op_over(l);
}

static void read_start(struct consumer *k)
{
    size_t cap = k->buf_cap ? k->buf_cap : READ_BYTES;
    if (!k->buf)
        k->buf = malloc(cap);
    if (!k->records)
        k->records = malloc(READ_RECORDS * sizeof *k->records);
    k->buf_cap = cap;
    if (!k->buf || !k->records) {
        link_detach(k->l, "amqp:link:detach-forced", "the hub is short of memory: try again");
        return;
    }
    k->read = (struct stream_read){
        .pos = k->pos, .buf = k->buf, .buf_cap = cap, .records = k->records, .records_cap = READ_RECORDS
    };
    k->read.op.home = worker_mailbox(k->aw->w);
    k->read.op.done = read_done;
    k->reading = true;
    link_ref(k->l);
    stream_read(k->front->hub->stream, &k->read);
}

static void pump(struct peer_link *l)
{
    struct consumer *k = l->state;
    if (!l->link || !l->grant || l->link->detach_sent || k->reading)
        return;
    while (conn_unsent(l->conn) < PEER_UNSENT_MAX) {
        if (k->sending) {
            size_t before = k->send.done;
            enum err e = amqp_send(l->link, &k->send, peer_out(l->conn));
            if (e == ERR_AGAIN && k->send.done > before)
                continue;
            if (e == ERR_AGAIN)
                return;
            k->sending = false; /* sent; or larger than the reader takes: it never can be */
            continue;
        }
        if (!l->link->credit)
            return;
        if (k->at < k->read.records_nr) {
            (void)event_begin(k, &k->records[k->at++]);
            continue;
        }
        if (k->watching) {
            if (l->link->drain)
                amqp_drained(l->link, peer_out(l->conn));
            return;
        }
        read_start(k);
        return;
    }
}

static void on_attached(struct peer_link *l)
{
    ((struct consumer *)l->state)->l = l;
}

static void on_gone(struct peer_link *l)
{
    struct consumer *k = l->state;
    consumer_leave(k);
    if (k->watching)
        stream_unwatch(k->front->hub->stream, &k->watch);
}

const struct peer_kind consumer_kind = {
    .name = "consumer", .on_attached = on_attached, .pump = pump, .on_gone = on_gone, .free_state = free_state
};
