/* hub/domain/method/method_message.c - what both sides of a direct method know: names, the call and the
 * answer as bus messages. A call: response_ms (4 bytes, low first), length of the name, name, payload. An
 * answer: status (4 bytes), body. */
#include "hub/domain/method/method.h"

bool method_name_ok(struct span name)
{
    if (!name.n || name.n > METHOD_NAME_MAX)
        return false;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] <= ' ' || name.p[i] > '~' || strchr("$()<>@,;:\\\"/[]?={}+#", name.p[i]))
            return false;
    return true;
}

enum err method_request_parse(struct span message, struct method_request *out)
{
    struct method_request q;
    struct rd r = rd_of(message);
    q.response_ms = rd_le32(&r);
    q.name = rd_take(&r, rd_u8(&r));
    if (r.bad || !method_name_ok(q.name) || r.n > METHOD_PAYLOAD_MAX)
        return ERR_PROTO;
    q.payload = span_of(r.p, r.n);
    *out = q;
    return ERR_OK;
}

void method_answer_encode(struct wr *w, int32_t status, struct span body)
{
    wr_le32(w, (uint32_t)status);
    wr_put(w, body);
}
