/* tests/fuzz/fuzz_http_response.c - any bytes as a response: read at once and byte by byte it says the same.
 */
#include "core/http/http_client.h"
#include "core/ws/ws.h"

#include <stdlib.h>

struct told {
    enum err e;
    unsigned status;
    int heads, ends;
    size_t body;
    uint32_t sum; /* of the body bytes */
};

static void read_all(struct told *t, const uint8_t *data, size_t size, size_t step)
{
    struct http_response r;
    memset(t, 0, sizeof *t);
    http_response_init(&r, false);
    t->e = ERR_AGAIN;
    for (size_t at = 0; at < size && t->e == ERR_AGAIN; at += step) {
        struct span in = span_of(data + at, size - at < step ? size - at : step), piece;
        enum http_response_event ev;
        while (!(t->e = http_response_next(&r, &in, &ev, &piece))) {
            if (ev == HTTP_EV_HEAD) {
                t->heads++;
                t->status = r.status;
            } else if (ev == HTTP_EV_END) {
                t->ends++;
            } else {
                t->body += piece.n;
                for (size_t i = 0; i < piece.n; i++)
                    t->sum = t->sum * 31 + piece.p[i];
            }
        }
        if (t->ends)
            break; /* what follows is another response's */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct told whole, bytes;
    struct http_url u;
    read_all(&whole, data, size, size ? size : 1);
    read_all(&bytes, data, size, 1);
    bool fault = whole.e != ERR_AGAIN || bytes.e != ERR_AGAIN;
    if (whole.status != bytes.status || whole.heads != bytes.heads || whole.ends != bytes.ends ||
        (!fault && (whole.body != bytes.body || whole.sum != bytes.sum)) ||
        (whole.e == ERR_AGAIN) != (bytes.e == ERR_AGAIN))
        abort();
    if (!http_url_parse(span_of(data, size), &u) && (!u.host.n || u.target.p[0] != '/'))
        abort();
    struct span spelled;
    (void)!ws_protocol_select(span_of(data, size), SPAN("mqtt"), &spelled);
    (void)ws_path_is_iothub(span_of(data, size));
    return 0;
}
