/* hub/front/http/range.h - which part of a file a GET wants. Pure. Source: RFC 9110, sections 13.1.5
 * and 14. */
#ifndef ROOST_HUB_FRONT_HTTP_RANGE_H
#define ROOST_HUB_FRONT_HTTP_RANGE_H

#include "base/span.h"

struct range_answer {
    unsigned status; /* 200 all of it, 206 a part, 416 nothing of it */
    uint64_t offset, len;
};
/* range, if_range: the fields, empty when absent. etag: of the file, with its quotes. One range is obeyed,
 * clamped to the file; several, another unit or a malformed one are as none. */
struct range_answer range_of(struct span range, struct span if_range, struct span etag, uint64_t file_len);
/* Does If-None-Match (or If-Match) list this entity tag? Weak comparison. */
bool etag_listed(struct span list, struct span etag);

#endif
