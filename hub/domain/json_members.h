/* hub/domain/json_members.h - members of JSON objects, written as text: for documents that carry JSON which
 * was given as text. Each but the first of an object; the first is written by hand. Pure. */
#ifndef ROOST_HUB_DOMAIN_JSON_MEMBERS_H
#define ROOST_HUB_DOMAIN_JSON_MEMBERS_H

#include "base/span.h"

void member_string(struct wr *w, struct span s); /* the value alone, with its quotes */
void member_uint(struct wr *w, uint64_t v);      /* the value alone */
void member_text(struct wr *w, const char *name, struct span s);
void member_raw(struct wr *w, const char *name, struct span json);
void member_number(struct wr *w, const char *name, uint64_t v);
void member_bool(struct wr *w, const char *name, bool v);
void member_time(struct wr *w, const char *name, uint64_t wall_ms); /* nothing when it is 0 */

#endif
