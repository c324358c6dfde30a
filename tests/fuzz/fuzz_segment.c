/* tests/fuzz/fuzz_segment.c - any bytes as the head of a batch or of a segment file, with their checksum put
 * right first, since no fuzzer guesses it: what is taken is in bounds and, written again, is the same. */
#include "hub/stream/segment.h"

#include <stdlib.h>

static void set_crc(uint8_t *at, uint32_t crc)
{
    struct wr w = { at, 4, 0 };
    wr_le32(&w, crc);
}

static void batch(const struct segs *s, uint8_t *b, size_t size)
{
    struct batch_head h;
    uint8_t again[BATCH_HEAD_MAX];
    struct wr w = { again, sizeof again, 0 };
    if (size >= BATCH_HEAD_LEN) {
        size_t len = batch_head_len(b[12] % (s->base.partitions + 1));
        if (len <= size)
            set_crc(b + 4, seg_crc(s, span_of(b + 8, len - 8)));
    }
    enum err e = batch_head_decode(s, span_of(b, size), 7, 1024, &h);
    for (size_t n = 0; n < size && n < BATCH_HEAD_MAX; n++) { /* cut anywhere: never taken for whole */
        struct batch_head part;
        enum err cut = batch_head_decode(s, span_of(b, n), 7, 1024, &part);
        if (!cut && (e || n < batch_head_len(h.groups_nr)))
            abort();
    }
    if (e)
        return;
    if (!h.groups_nr || h.groups_nr > s->base.partitions || h.total_len % 8 ||
        h.total_len < batch_head_len(h.groups_nr))
        abort();
    batch_head_encode(s, &h, &w);
    if (!span_eq(wr_span(&w), span_of(b, batch_head_len(h.groups_nr))))
        abort();
}

static void segment(const struct segs *s, const uint8_t *data, size_t size)
{
    uint8_t head[SEG_HEAD_LEN] = "RSTRSEG1", again[SEG_HEAD_LEN];
    struct seg g = { 0 }, back = { 0 };
    memcpy(head + 12, data, size < SEG_HEAD_LEN - 12 ? size : SEG_HEAD_LEN - 12);
    set_crc(head + 8, seg_crc(s, span_of(head + 12, SEG_HEAD_LEN - 12)));
    if (seg_head_decode(s, head, &g))
        return;
    seg_head_encode(s, &g, again);
    if (seg_head_decode(s, again, &back) || memcmp(&g, &back, sizeof g))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segs s = { .base.partitions = 4, .salt = 0x12345678 };
    char name[64] = "";
    uint64_t id;
    if (!size)
        return 0;
    if (data[0] & 1) {
        uint8_t *copy = malloc(size);
        if (!copy)
            return 0;
        memcpy(copy, data + 1, size - 1);
        batch(&s, copy, size - 1);
        free(copy);
    } else
        segment(&s, data + 1, size - 1);
    memcpy(name, data, size < 63 ? size : 63);
    if (seg_name_parse(name, &id)) {
        char back[32];
        seg_name(back, id);
        if (strcmp(back, name))
            abort();
    }
    return 0;
}
