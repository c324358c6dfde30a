/* tests/fuzz/fuzz_ws.c - any bytes as WebSocket frames of a client; the first byte of the input says how they
 * are cut. However they are cut, the same stream and the same answers must come out. */
#include "hub/conn/ws.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    enum err e;
    struct wr stream, answers;
    uint8_t in[8192], out[65536];
};

static void put(void *ctx, struct span frame)
{
    struct outcome *o = ctx;
    if (frame.n < 2 || frame.n > WS_CONTROL_MAX || (frame.p[0] != 0x88 && frame.p[0] != 0x8a) ||
        frame.p[1] != frame.n - 2)
        abort(); /* only whole, unmasked control frames */
    wr_put(&o->answers, frame);
}

static void run(struct span in, size_t piece, struct outcome *o)
{
    struct ws *ws;
    o->e = ERR_OK;
    o->stream = (struct wr){ o->in, sizeof o->in, 0 };
    o->answers = (struct wr){ o->out, sizeof o->out, 0 };
    if (ws_new(&ws))
        return;
    while (in.n && !o->e) {
        size_t n = in.n < piece ? in.n : piece, before = o->stream.len;
        o->e = ws_decode(ws, span_of(in.p, n), &o->stream, put, o);
        if (o->stream.len - before > n)
            abort(); /* more came out than went in */
        in = span_skip(in, n);
    }
    if ((o->e == ERR_PROTO || o->e == ERR_STOPPED) && !ws_is_closed(ws))
        abort();
    ws_free(ws);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, cut;
    if (size < 1 || size > 8000)
        return 0;
    struct span in = span_of(data + 1, size - 1);
    run(in, SIZE_MAX, &whole);
    run(in, data[0] % 32 + 1, &cut);
    if (whole.e != cut.e || !span_eq(wr_span(&whole.stream), wr_span(&cut.stream)) ||
        !span_eq(wr_span(&whole.answers), wr_span(&cut.answers)))
        abort();
    return 0;
}
