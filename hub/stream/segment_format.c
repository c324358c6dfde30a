/* hub/stream/segment_format.c - the bytes of a segment file: little-endian, every part checksummed.
 * All checksums start from a secret of the directory, so that a device that writes what looks like a batch
 * into its telemetry cannot be taken for one when a damaged file is searched. */
#include "hub/stream/segment.h"

#include "base/crc32c.h"

#include <stdio.h>

#define BATCH_MAGIC 0x48425352u /* "RSBH" */
static const uint8_t seg_magic[8] = { 'R', 'S', 'T', 'R', 'S', 'E', 'G', '1' };

uint32_t seg_crc(const struct segs *s, struct span a)
{
    return crc32c_update(s->salt, a);
}

void seg_name(char out[32], uint64_t id)
{
    snprintf(out, 32, "%016llx.seg", (unsigned long long)id);
}

bool seg_name_parse(const char *name, uint64_t *id)
{
    uint64_t n = 0;
    if (strlen(name) != 20 || strcmp(name + 16, ".seg"))
        return false;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        n = n << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *id = n;
    return true;
}

/* magic, crc of the rest, partitions, id, created, last time before it; then a part each; zeros. */
void seg_head_encode(const struct segs *s, const struct seg *g, uint8_t out[SEG_HEAD_LEN])
{
    struct wr w = { out, SEG_HEAD_LEN, 0 };
    memset(out, 0, SEG_HEAD_LEN);
    wr_put(&w, span_of(seg_magic, 8));
    wr_le32(&w, 0);
    wr_le32(&w, s->base.partitions);
    wr_le64(&w, g->id);
    wr_le64(&w, g->created_ms);
    wr_le64(&w, g->last_ms);
    for (uint32_t p = 0; p < s->base.partitions; p++) {
        wr_le64(&w, g->base[p].seq);
        wr_le64(&w, g->base[p].bytes);
        wr_le64(&w, g->base[p].ms);
    }
    struct wr crc = { out, SEG_HEAD_LEN, 8 };
    wr_le32(&crc, seg_crc(s, span_of(out + 12, SEG_HEAD_LEN - 12)));
}

enum err seg_head_decode(const struct segs *s, const uint8_t in[SEG_HEAD_LEN], struct seg *g)
{
    struct rd r = rd_of(span_of(in, SEG_HEAD_LEN));
    if (memcmp(rd_take(&r, 8).p, seg_magic, 8))
        return ERR_VERIFY;
    if (rd_le32(&r) != seg_crc(s, span_of(in + 12, SEG_HEAD_LEN - 12)))
        return ERR_VERIFY;
    if (rd_le32(&r) != s->base.partitions)
        return ERR_PROTO;
    g->id = rd_le64(&r);
    g->created_ms = rd_le64(&r);
    g->last_ms = rd_le64(&r);
    for (uint32_t p = 0; p < s->base.partitions; p++) {
        g->base[p].seq = rd_le64(&r);
        g->base[p].bytes = rd_le64(&r);
        g->base[p].ms = rd_le64(&r);
    }
    return r.bad ? ERR_VERIFY : ERR_OK;
}

size_t batch_head_len(uint32_t groups_nr)
{
    return BATCH_HEAD_LEN + (size_t)groups_nr * GROUP_LEN;
}

void batch_head_encode(const struct segs *s, const struct batch_head *h, struct wr *w)
{
    uint8_t *start = w->p + w->len;
    wr_le32(w, BATCH_MAGIC);
    wr_le32(w, 0);
    wr_le32(w, h->total_len);
    wr_le32(w, h->groups_nr);
    wr_le64(w, h->ms);
    wr_le64(w, h->segment);
    wr_le64(w, h->off);
    for (uint32_t i = 0; i < h->groups_nr; i++) {
        wr_le32(w, h->groups[i].partition);
        wr_le32(w, h->groups[i].nr);
        wr_le64(w, h->groups[i].first_seq);
        wr_le32(w, h->groups[i].len);
        wr_le32(w, h->groups[i].crc);
    }
    struct wr crc = { start, 8, 4 };
    wr_le32(&crc, seg_crc(s, span_of(start + 8, batch_head_len(h->groups_nr) - 8)));
}

enum err batch_head_decode(const struct segs *s, struct span in, uint64_t segment, uint64_t off,
                           struct batch_head *h)
{
    struct rd r = rd_of(in);
    if (in.n < BATCH_HEAD_LEN)
        return ERR_AGAIN;
    if (rd_le32(&r) != BATCH_MAGIC)
        return ERR_VERIFY;
    uint32_t crc = rd_le32(&r);
    h->total_len = rd_le32(&r);
    h->groups_nr = rd_le32(&r);
    h->ms = rd_le64(&r);
    h->segment = rd_le64(&r);
    h->off = rd_le64(&r);
    if (!h->groups_nr || h->groups_nr > s->base.partitions || h->segment != segment || h->off != off)
        return ERR_VERIFY;
    size_t head = batch_head_len(h->groups_nr);
    if (in.n < head)
        return ERR_AGAIN;
    if (crc != seg_crc(s, span_of(in.p + 8, head - 8)))
        return ERR_VERIFY;
    uint64_t len = head;
    for (uint32_t i = 0; i < h->groups_nr; i++) {
        struct batch_group *g = &h->groups[i];
        g->partition = rd_le32(&r);
        g->nr = rd_le32(&r);
        g->first_seq = rd_le64(&r);
        g->len = rd_le32(&r);
        g->crc = rd_le32(&r);
        len += g->len;
        if (g->partition >= s->base.partitions || !g->nr)
            return ERR_VERIFY;
    }
    return (len + 7) / 8 * 8 == h->total_len ? ERR_OK : ERR_VERIFY;
}
