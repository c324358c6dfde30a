/* hub/front/http/message_json.h - a message of a stream as a JSON object, the same wherever it is shown:
 * /roost/v1/telemetry, webhooks, files. docs/api.md has its members. */
#ifndef ROOST_HUB_FRONT_HTTP_MESSAGE_JSON_H
#define ROOST_HUB_FRONT_HTTP_MESSAGE_JSON_H

#include "hub/domain/message/message.h"
#include "hub/stream/stream.h"

#include <jansson.h>

json_t *message_json(const struct stream_record *r, const struct message *m); /* NULL: out of memory */
/* As one line with its line feed, the caller frees it. NULL: out of memory, or no message. */
char *message_line(const struct stream_record *r);

#endif
