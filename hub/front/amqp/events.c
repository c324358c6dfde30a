/* hub/front/amqp/events.c - the telemetry endpoint's first questions: where it is (a redirect from the hub's
 * own address), and what it holds ($management). Source: docs/amqp.md, "Telemetry". */
#include "base/text.h"
#include "hub/front/amqp/peer.h"

#include <stdio.h>
#include <stdlib.h>

bool events_entity_is_ours(const struct amqp_front *f, struct span entity)
{
    if (!entity.n || span_ieq(entity, span_str(f->entity)))
        return true;
    for (const char *const *n = f->hub->names; *n; n++)
        if (span_ieq(entity, span_str(*n)))
            return true;
    return false;
}

void events_redirect(struct peer_link *l, struct span rest)
{
    const struct hub *h = peer_hub(l->conn);
    size_t cap = 1024 + 2 * strlen(h->names[0]) + rest.n;
    char address[ADDRESS_MAX + 512];
    struct span host = span_str(h->names[0]);
    uint16_t port = h->amqp_port ? h->amqp_port : 5671;
    snprintf(address, sizeof address, "amqps://%s:%u/%s/%.*s", h->names[0], port, peer_front(l->conn)->entity,
             (int)rest.n, rest.n ? (const char *)rest.p : "");
    if (!(l->info_mem = malloc(cap)))
        return;
    struct wr w = { l->info_mem, cap, 0 };
    size_t at = amqp_map_begin(&w);
    amqp_put_symbol(&w, SPAN("hostname"));
    amqp_put_string(&w, host);
    amqp_put_symbol(&w, SPAN("network-host"));
    amqp_put_string(&w, host);
    amqp_put_symbol(&w, SPAN("port"));
    amqp_put_int(&w, port);
    amqp_put_symbol(&w, SPAN("address"));
    amqp_put_string(&w, span_str(address));
    amqp_map_end(&w, at, 8);
    if (wr_ok(&w))
        l->info = wr_span(&w);
    link_detach_later(l, "amqp:link:redirect", "telemetry is read at the address in the info map");
}

/* ---- $management ------------------------------------------------------------------------------------ */

struct question {
    struct span operation, name, type, partition;
};

static struct span text_of(const struct amqp_message *m, const char *key)
{
    struct amqp_value v;
    bool has = amqp_map_get(&m->application_properties, span_str(key), &v) && amqp_is_text(&v);
    return has ? v.bytes : SPAN_NONE;
}

static void put_text(struct wr *w, const char *key, struct span value)
{
    amqp_put_string(w, span_str(key));
    amqp_put_string(w, value);
}

static uint32_t entity_body(struct wr *w, const struct amqp_front *f, struct span name)
{
    uint32_t partitions = stream_partitions(f->hub->stream);
    put_text(w, "name", name);
    put_text(w, "type", SPAN("com.microsoft:eventhub"));
    amqp_put_string(w, SPAN("created_at"));
    amqp_put_timestamp(w, f->hub->started_ms);
    amqp_put_string(w, SPAN("partition_count"));
    amqp_put_int(w, (int32_t)partitions);
    amqp_put_string(w, SPAN("partition_ids"));
    size_t at = amqp_array_begin(w, AMQP_STR32);
    for (uint32_t i = 0; i < partitions; i++) {
        uint8_t id[10];
        struct wr t = { id, sizeof id, 0 };
        wr_u32(&t, i);
        amqp_array_text_put(w, wr_span(&t));
    }
    amqp_array_end(w, at, partitions);
    amqp_put_string(w, SPAN("georeplication_factor"));
    amqp_put_int(w, 1);
    return 12;
}

static uint32_t partition_body(struct wr *w, const struct amqp_front *f, const struct question *q,
                               uint32_t partition)
{
    struct stream_info info;
    char offset[24];
    stream_get_info(f->hub->stream, partition, &info);
    bool empty = info.first_seq == info.next_seq;
    int64_t last = empty ? -1 : (int64_t)info.next_seq - 1;
    snprintf(offset, sizeof offset, "%lld", (long long)last);
    put_text(w, "name", q->name);
    put_text(w, "type", SPAN("com.microsoft:partition"));
    put_text(w, "partition", q->partition);
    amqp_put_string(w, SPAN("begin_sequence_number"));
    amqp_put_long(w, empty ? 0 : (int64_t)info.first_seq);
    amqp_put_string(w, SPAN("last_enqueued_sequence_number"));
    amqp_put_long(w, last);
    put_text(w, "last_enqueued_offset", span_str(offset));
    amqp_put_string(w, SPAN("last_enqueued_time_utc"));
    amqp_put_timestamp(w, empty ? 0 : info.last_ms);
    amqp_put_string(w, SPAN("is_partition_empty"));
    amqp_put_bool(w, empty);
    return 16;
}

static void put_head(struct wr *w, const struct amqp_message *m, int32_t code, const char *text,
                     const char *condition)
{
    struct amqp_properties p = { .correlation_id = m->properties.message_id, .to = m->properties.reply_to };
    amqp_properties_encode(w, &p);
    amqp_section_begin(w, AMQP_APPLICATION_PROPERTIES);
    size_t at = amqp_map_begin(w);
    amqp_put_string(w, SPAN("status-code"));
    amqp_put_int(w, code);
    amqp_put_string(w, SPAN("status-description"));
    amqp_put_string(w, span_str(text));
    if (condition) {
        amqp_put_string(w, SPAN("error-condition"));
        amqp_put_symbol(w, span_str(condition));
    }
    amqp_map_end(w, at, condition ? 6 : 4);
    amqp_section_begin(w, AMQP_VALUE);
}

static void answer_write(struct wr *w, struct conn *c, const struct amqp_message *m)
{
    const struct amqp_front *f = peer_front(c);
    struct question q = { text_of(m, "operation"), text_of(m, "name"), text_of(m, "type"),
                          text_of(m, "partition") };
    bool of_entity = span_eq(q.type, SPAN("com.microsoft:eventhub"));
    uint64_t partition = 0;
    uint32_t nr;
    if (!span_ieq(q.operation, SPAN("READ")) ||
        (!of_entity && !span_eq(q.type, SPAN("com.microsoft:partition")))) {
        put_head(w, m, 400, "the operation is READ, of an event hub or a partition",
                 "com.microsoft:argument-error");
    } else if (!grant_of_policy(c, ACCESS_SERVICE_CONNECT, &(struct address){ .kind = ADDRESS_MANAGEMENT })) {
        put_head(w, m, 401, "Unauthorized access. 'Listen' claim(s) are required to perform this operation.",
                 "amqp:unauthorized-access");
    } else if (!events_entity_is_ours(f, q.name)) {
        put_head(w, m, 404, "The messaging entity could not be found.", "amqp:not-found");
    } else if (!of_entity && (u64_parse(q.partition, stream_partitions(f->hub->stream) - 1, &partition))) {
        put_head(w, m, 400,
                 "The specified partition is invalid for an EventHub partition sender or receiver.",
                 "com.microsoft:argument-out-of-range");
    } else {
        put_head(w, m, 200, "OK", NULL);
        size_t at = amqp_map_begin(w);
        nr = of_entity ? entity_body(w, f, q.name) : partition_body(w, f, &q, (uint32_t)partition);
        amqp_map_end(w, at, nr);
        return;
    }
    amqp_put_null(w);
}

static void on_question(struct peer_link *l, const struct amqp_event *ev)
{
    struct conn *c = l->conn;
    struct peer_link *to = link_for_answers(l, &management_out_kind);
    struct amqp_message m;
    uint8_t mem[8192], tag[16];
    struct wr w = { mem, sizeof mem, 0 };
    bool bad = amqp_message_decode(ev->delivery.payload, &m) != ERR_OK;
    if (!ev->delivery.settled) /* before the answer */
        link_settle(l, ev->delivery.id, bad ? "amqp:decode-error" : NULL, "the request cannot be read");
    link_credit(l);
    if (bad || !to)
        return;
    answer_write(&w, c, &m);
    peer_hub(c)->crypto->random(tag, sizeof tag);
    if (!wr_ok(&w) || !link_post(to, wr_span(&w), true, 0, tag))
        peer_refuse(c, CONN_CLOSE_LIMIT, "answers-wait");
}

const struct peer_kind management_in_kind = { .name = "management",
                                              .credit = PEER_CREDIT_REQUEST,
                                              .on_message = on_question };
const struct peer_kind management_out_kind = { .name = "management-answers" };
