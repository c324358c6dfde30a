/* hub/stream/stream.c - checks partitions and hands each call to the backend. */
#include "hub/stream/stream_backend.h"

#include <assert.h>

void stream_append(struct stream *s, struct stream_append *a)
{
    size_t len = a->record.n;
    assert(a->partition < s->partitions);
    for (const struct stream_append *more = a->rest; more && len <= STREAM_RECORD_MAX; more = more->rest) {
        assert(more->partition == a->partition);
        len += 4 + more->record.n; /* what a record takes besides its bytes */
    }
    if (len > STREAM_RECORD_MAX)
        op_complete(&a->op, ERR_LIMIT);
    else
        s->ops->append(s, a);
}

void stream_read(struct stream *s, struct stream_read *r)
{
    assert(r->pos.partition < s->partitions && r->records_cap);
    s->ops->read(s, r);
}

void stream_watch(struct stream *s, struct stream_watch *w)
{
    assert(w->partition < s->partitions);
    s->ops->watch(s, w);
}

void stream_unwatch(struct stream *s, struct stream_watch *w)
{
    s->ops->unwatch(s, w);
}

void stream_forget(struct stream *s, uint32_t partition, uint64_t seq)
{
    assert(partition < s->partitions);
    s->ops->forget(s, partition, seq);
}

void stream_get_info(struct stream *s, uint32_t partition, struct stream_info *out)
{
    assert(partition < s->partitions);
    s->ops->get_info(s, partition, out);
}

uint32_t stream_partitions(const struct stream *s)
{
    return s->partitions;
}

void stream_get_stats(struct stream *s, struct stream_stats *out)
{
    s->ops->get_stats(s, out);
}

void stream_close(struct stream *s)
{
    if (s)
        s->ops->close(s);
}
