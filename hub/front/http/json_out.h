/* hub/front/http/json_out.h - bytes, times and numbers as JSON values. NULL only when memory is short (or
 * text is not UTF-8); json_put makes that a missing member. */
#ifndef ROOST_HUB_FRONT_HTTP_JSON_OUT_H
#define ROOST_HUB_FRONT_HTTP_JSON_OUT_H

#include "base/span.h"

#include <jansson.h>

json_t *json_span(struct span s); /* text; an empty span is "" */
json_t *json_hex(struct span s);
json_t *json_base64(struct span s);
json_t *json_time(uint64_t wall_ms); /* base/text.h, iso8601_encode */
/* Sets it unless v is NULL; takes the reference. */
void json_put(json_t *o, const char *name, json_t *v);
void json_put_u64(json_t *o, const char *name, uint64_t v);
void json_put_str(json_t *o, const char *name, const char *v);

#endif
