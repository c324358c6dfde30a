/* tests/fake/backends_fake.h - store, stream and bus that answer at once, without threads or disk, for fuzz
 * targets: one device ("d1" with a key of 32 zero bytes), one policy ("owner", of the same key), one stored
 * session, a few messages that always wait. Include it once in a program, in place of the real ones. */
#ifndef ROOST_TESTS_FAKE_BACKENDS_FAKE_H
#define ROOST_TESTS_FAKE_BACKENDS_FAKE_H

#include "hub/domain/hub.h"
#include "hub/domain/message/message.h"

#include <assert.h>
#include <string.h>

struct store_tx {
    int unused;
};
static struct {
    bool has_session;
    uint32_t channels;
    uint64_t settled;         /* messages 1..settled are gone */
    uint64_t stored, appends; /* records of telemetry; calls that brought them */
    unsigned fail;            /* over 0: every so many operations the disk is full */
    unsigned ops;
    struct bus_addr attached;
    bool is_attached;
} fake;

static const uint8_t fake_key[32];

static void fake_run(struct store_op *op)
{
    struct store_tx tx;
    bool full = fake.fail && ++fake.ops % fake.fail == 0;
    op_complete(&op->op, full ? ERR_FULL : op->run(&tx, op));
}
void store_write(struct store *s, struct store_op *op)
{
    (void)s;
    fake_run(op);
}
void store_read(struct store *s, struct store_op *op)
{
    (void)s;
    fake_run(op);
}

enum err tx_device_get(struct store_tx *t, struct span id, struct device_row *out)
{
    (void)t;
    if (!span_eq(id, SPAN("d1")))
        return ERR_NOTFOUND;
    *out = (struct device_row){ .id = SPAN("d1"), .key1 = span_of(fake_key, 32), .generation = SPAN("1") };
    return ERR_OK;
}
enum err tx_device_put(struct store_tx *t, const struct device_row *r, uint64_t if_etag, uint64_t *etag)
{
    (void)t, (void)r, (void)if_etag, (void)etag;
    return ERR_OK;
}
enum err tx_module_get(struct store_tx *t, struct span device, struct span id, struct module_row *out)
{
    (void)t, (void)device, (void)id, (void)out;
    return ERR_NOTFOUND;
}
enum err tx_ca_list(struct store_tx *t, ca_each *each, void *ctx)
{
    (void)t, (void)each, (void)ctx;
    return ERR_OK;
}
enum err tx_policy_get(struct store_tx *t, struct span name, struct policy_row *out)
{
    (void)t;
    if (!span_eq(name, SPAN("owner")))
        return ERR_NOTFOUND;
    *out = (struct policy_row){ SPAN("owner"), span_of(fake_key, 32), span_of(fake_key, 32), UINT32_MAX };
    return ERR_OK;
}
enum err tx_session_get(struct store_tx *t, struct span id, struct session_row *out)
{
    (void)t;
    if (!fake.has_session)
        return ERR_NOTFOUND;
    *out = (struct session_row){ id, fake.channels };
    return ERR_OK;
}
enum err tx_session_put(struct store_tx *t, const struct session_row *r)
{
    (void)t;
    fake.has_session = true;
    fake.channels = r->channels;
    return ERR_OK;
}
enum err tx_session_delete(struct store_tx *t, struct span id)
{
    (void)t, (void)id;
    fake.has_session = false;
    return ERR_OK;
}
/* Every identity has an empty twin, whatever was put. */
enum err tx_twin_get(struct store_tx *t, struct span id, struct twin_row *out)
{
    (void)t;
    *out = (struct twin_row){ .id = id,
                              .device = id,
                              .version = 2,
                              .etag = 1,
                              .tags = SPAN("{}"),
                              .desired = SPAN("{}"),
                              .reported = SPAN("{}"),
                              .desired_version = 1,
                              .reported_version = 1 };
    return ERR_OK;
}
enum err tx_twin_put(struct store_tx *t, const struct twin_row *r)
{
    (void)t;
    (void)r;
    return ERR_OK;
}
enum err tx_twin_set_model(struct store_tx *t, struct span id, struct span model)
{
    (void)t;
    (void)id;
    (void)model;
    return ERR_OK;
}
enum err tx_audit_push(struct store_tx *t, const struct audit_row *r)
{
    (void)t;
    (void)r;
    return ERR_OK;
}
void tx_after(struct store_tx *t, struct tx_after *after)
{
    (void)t;
    after->fn(after, true);
}
enum err tx_c2d_list(struct store_tx *t, struct span device, uint64_t after_seq, uint64_t after_bcast,
                     size_t limit, c2d_each *each, void *ctx)
{
    enum err e = ERR_OK;
    (void)t, (void)after_bcast;
    for (uint64_t seq = (after_seq > fake.settled ? after_seq : fake.settled) + 1; !e && limit-- && seq <= 12;
         seq++)
        e = each(ctx, &(struct c2d_row){ .device = device,
                                         .seq = seq,
                                         .expires_ms = UINT64_MAX,
                                         .ack = (uint8_t)(seq % 4),
                                         .deliveries = seq % 3 == 0,
                                         .message_id = SPAN("m"),
                                         .props = SPAN("%24.mid=m&a%20b=c"),
                                         .body = SPAN("body") });
    return e;
}
enum err tx_c2d_settle(struct store_tx *t, struct span device, bool broadcast, uint64_t seq)
{
    (void)t, (void)device, (void)broadcast;
    if (seq > fake.settled)
        fake.settled = seq;
    return ERR_OK;
}
enum err tx_c2d_delivered(struct store_tx *t, struct span device, bool broadcast, uint64_t seq, uint32_t *nr)
{
    (void)t, (void)device, (void)broadcast, (void)seq;
    *nr = 1;
    return ERR_OK;
}
enum err tx_c2d_push(struct store_tx *t, const struct c2d_row *r, size_t depth_max, uint64_t *seq)
{
    (void)t, (void)r, (void)depth_max, (void)seq;
    return ERR_LIMIT;
}
enum err tx_broadcast_push(struct store_tx *t, const struct c2d_row *r, uint64_t *seq)
{
    (void)t, (void)r, (void)seq;
    return ERR_LIMIT;
}
enum err tx_c2d_expire(struct store_tx *t, uint64_t now_ms, size_t limit, c2d_each *each, void *ctx)
{
    (void)t, (void)now_ms, (void)limit, (void)each, (void)ctx;
    return ERR_OK;
}
enum err tx_broadcast_count(struct store_tx *t, uint64_t seq, enum broadcast_end end)
{
    (void)t, (void)seq, (void)end;
    return ERR_OK;
}
enum err tx_feedback_push(struct store_tx *t, const struct feedback_row *r)
{
    (void)t, (void)r;
    return ERR_OK;
}
/* There is always one record, and one file. */
enum err tx_feedback_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                          uint64_t expired_ms, uint32_t deliveries_max, size_t limit, feedback_each *each,
                          void *ctx)
{
    (void)t, (void)lock, (void)until_ms, (void)expired_ms, (void)deliveries_max, (void)limit;
    return each(ctx, &(struct feedback_row){ .seq = 1,
                                             .at_ms = now_ms,
                                             .device = SPAN("d1"),
                                             .message_id = SPAN("m"),
                                             .outcome = SPAN("Success"),
                                             .generation = SPAN("1") });
}
enum err tx_feedback_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done)
{
    (void)t, (void)lock, (void)now_ms;
    return done ? ERR_OK : ERR_NOTFOUND;
}
enum err tx_file_note_take(struct store_tx *t, struct span lock, uint64_t now_ms, uint64_t until_ms,
                           uint64_t expired_ms, uint32_t deliveries_max, size_t limit, file_note_each *each,
                           void *ctx)
{
    (void)t, (void)lock, (void)until_ms, (void)expired_ms, (void)deliveries_max, (void)limit;
    return each(ctx, &(struct file_note_row){ .seq = 1,
                                              .device = SPAN("d1"),
                                              .blob = SPAN("d1/f"),
                                              .uri = SPAN("https://h/uploads/d1/f"),
                                              .length = 3,
                                              .modified_ms = now_ms,
                                              .enqueued_ms = now_ms });
}
enum err tx_file_note_settle(struct store_tx *t, struct span lock, uint64_t now_ms, bool done)
{
    (void)t, (void)lock, (void)now_ms;
    return done ? ERR_OK : ERR_NOTFOUND;
}
enum err tx_outbox_push(struct store_tx *t, struct span record) /* no events here: nobody wants them */
{
    (void)t;
    (void)record;
    return ERR_IO;
}
void store_get_stats(struct store *s, struct store_stats *out)
{
    (void)s;
    *out = (struct store_stats){ 0 };
}
enum err tx_event_seq(struct store_tx *t, uint64_t *seq)
{
    (void)t;
    (void)seq;
    return ERR_IO;
}
enum err tx_report_get(struct store_tx *t, struct span device, struct report_row *out)
{
    (void)t;
    (void)device;
    (void)out;
    return ERR_NOTFOUND;
}
enum err tx_report_left(struct store_tx *t, size_t max, report_each *each, void *ctx)
{
    (void)t, (void)max, (void)each, (void)ctx;
    return ERR_OK;
}
enum err tx_report_end_left(struct store_tx *t, struct span device)
{
    (void)t, (void)device;
    return ERR_OK;
}
enum err tx_report_set_connected(struct store_tx *t, struct span device, bool connected, uint64_t at_ms)
{
    (void)t, (void)device, (void)connected, (void)at_ms;
    return ERR_OK;
}

void stream_append(struct stream *s, struct stream_append *a)
{
    (void)s;
    bool full = fake.fail && ++fake.ops % fake.fail == 0;
    for (const struct stream_append *k = a; !full && k; k = k->rest)
        fake.stored++;
    fake.appends++;
    op_complete(&a->op, full ? ERR_FULL : ERR_OK);
}
/* Three records that no front can read a message from, and three that it can, in every partition. */
void stream_read(struct stream *s, struct stream_read *r)
{
    static const uint8_t junk[] = "\xff\xff\xff";
    uint64_t at = r->pos.from == STREAM_SEQ ? r->pos.value : r->pos.from == STREAM_LATEST ? 6 : 0;
    struct wr w = { r->buf, r->buf_cap, 0 };
    (void)s;
    r->records_nr = 0;
    r->skipped = 0;
    r->next_seq = at;
    if (at < 6 && r->records_cap) {
        if (at % 2) {
            wr_put(&w, span_of(junk, 3));
        } else {
            message_put_head(&w, &(struct message_head){ .device = SPAN("d1"), .generation = SPAN("1") });
            message_put_body(&w, SPAN("body"));
        }
        assert(wr_ok(&w));
        r->records[r->records_nr++] = (struct stream_record){ r->pos.partition, at, 1, wr_span(&w) };
        r->next_seq = at + 1;
    }
    op_complete(&r->op, r->records_nr ? ERR_OK : ERR_AGAIN);
}
void stream_watch(struct stream *s, struct stream_watch *w) /* nothing ever comes */
{
    (void)s, (void)w;
}
void stream_unwatch(struct stream *s, struct stream_watch *w)
{
    (void)s;
    op_complete(&w->op, ERR_STOPPED);
}
void stream_get_info(struct stream *s, uint32_t partition, struct stream_info *out)
{
    (void)s, (void)partition;
    *out = (struct stream_info){ .next_seq = 6, .last_ms = 1 };
}
uint32_t stream_partitions(const struct stream *s)
{
    (void)s;
    return 4;
}

enum err bus_attach(struct bus *b, struct span identity, struct bus_addr addr)
{
    (void)b, (void)identity;
    fake.attached = addr;
    fake.is_attached = true;
    return ERR_OK;
}
void bus_detach(struct bus *b, struct span identity, struct bus_addr addr)
{
    (void)b, (void)identity;
    if (fake.attached.slot == addr.slot && fake.attached.generation == addr.generation)
        fake.is_attached = false;
}
void bus_wait_start(struct bus *b, struct bus_wait *w, struct span identity)
{
    (void)b, (void)identity;
    w->waiting = true;
}
void bus_wait_end(struct bus *b, struct bus_wait *w, enum err err)
{
    (void)b;
    if (w->waiting)
        op_complete(&w->op, err);
    w->waiting = false;
}
void bus_announce(struct bus *b, struct span identity)
{
    (void)b;
    (void)identity;
}
void bus_answer(struct bus *b, struct bus_reply to, enum err err, struct span bytes)
{
    (void)b;
    (void)to;
    (void)err;
    (void)bytes;
}
enum err bus_post(struct bus *b, struct span identity, uint32_t kind, struct span bytes)
{
    (void)b;
    (void)identity;
    (void)kind;
    (void)bytes;
    return ERR_NOTFOUND;
}
bool bus_is_attached(struct bus *b, struct span identity)
{
    (void)b, (void)identity;
    return fake.is_attached;
}
bool bus_is_at(struct bus *b, struct span identity, struct bus_addr addr)
{
    (void)b, (void)identity;
    return fake.is_attached && fake.attached.slot == addr.slot && fake.attached.generation == addr.generation;
}
bool bus_wake(struct bus *b, struct span identity, uint32_t what)
{
    (void)b, (void)identity, (void)what;
    return false;
}
void bus_wake_all(struct bus *b, uint32_t what)
{
    (void)b, (void)what;
}

#endif
