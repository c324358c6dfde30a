/* hub/stream/stream_backend.h - the table behind stream.h. To add a backend: begin its structure with struct
 * stream, fill struct stream_ops, write a stream_NAME_open(), and pass stream_suite(). What the calls promise
 * is said in stream.h. */
#ifndef ROOST_HUB_STREAM_STREAM_BACKEND_H
#define ROOST_HUB_STREAM_STREAM_BACKEND_H

#include "hub/stream/stream.h"

struct stream_ops {
    void (*close)(struct stream *s);
    void (*append)(struct stream *s, struct stream_append *a);
    void (*read)(struct stream *s, struct stream_read *r);
    void (*watch)(struct stream *s, struct stream_watch *w);
    void (*unwatch)(struct stream *s, struct stream_watch *w);
    void (*forget)(struct stream *s, uint32_t partition, uint64_t seq);
    void (*get_info)(struct stream *s, uint32_t partition, struct stream_info *out);
    void (*get_stats)(struct stream *s, struct stream_stats *out);
};
struct stream {
    const struct stream_ops *ops;
    uint32_t partitions;
};

#endif
