/* device/config.c - reads and writes the configuration pair. C99.
 * To add a value: a tag below, a line in values_put and one in value_take. Tags are never used again. */
#include "device/config.h"

#include "device/flash_io.h"

#define CONFIG_MAGIC 0x31464352u /* "RCF1" */
#define HEAD_LEN     12u
#define SAVE_TRIES   2

enum config_tag {
    TAG_SEED = 1,
    TAG_ID,
    TAG_KEY,
    TAG_HOST,
    TAG_CHECKIN,
    TAG_PORTS,
    TAG_CHECKIN_S,
    TAG_TRUST,
    TAG_KEPT_RELEASE,
    TAG_TRUST_VERSION,
    TAG_TICKET_SEQ,
    TAG_REPORT_BASE,
    TAG_CAMPAIGN,
    TAG_LAST,
    TAG_QUARANTINE,
    TAG_SEQUENCE_FREE
};

/* ---- writing ------------------------------------------------------------------------------------------ */

/* Over no flash it only counts: the length is needed before the values. */
struct sink {
    struct flash_out *out;
    uint32_t len;
};

static void sink_bytes(struct sink *s, const void *p, size_t n)
{
    if (s->out)
        flash_out_put(s->out, span_of(p, n));
    s->len += (uint32_t)n;
}

static void sink_value(struct sink *s, enum config_tag tag, const void *p, size_t n)
{
    uint8_t head[3] = { (uint8_t)tag, (uint8_t)n, (uint8_t)(n >> 8) };
    if (n == 0)
        return;
    sink_bytes(s, head, sizeof head);
    sink_bytes(s, p, n);
}

static void sink_u32(struct sink *s, enum config_tag tag, uint32_t v)
{
    uint8_t b[4];
    struct wr w = { b, sizeof b, 0 };
    wr_le32(&w, v);
    sink_value(s, tag, b, sizeof b);
}

static void values_put(struct sink *s, const struct config *c)
{
    uint8_t b[CONFIG_QUARANTINE_MAX * 9u];
    struct wr w = { b, sizeof b, 0 };
    sink_value(s, TAG_SEED, c->seed, c->has_seed ? sizeof c->seed : 0);
    sink_value(s, TAG_ID, c->id, c->id_len);
    sink_value(s, TAG_KEY, c->key, c->key_len);
    sink_value(s, TAG_HOST, c->host, c->host_len);
    sink_value(s, TAG_CHECKIN, c->checkin, c->checkin_len);
    wr_le16(&w, c->mqtt_port);
    wr_le16(&w, c->https_port);
    sink_value(s, TAG_PORTS, b, w.len);
    sink_u32(s, TAG_CHECKIN_S, c->checkin_s);
    sink_value(s, TAG_TRUST, c->trust, c->trust_len);
    sink_value(s, TAG_KEPT_RELEASE, c->kept_release, sizeof c->kept_release);
    sink_u32(s, TAG_TRUST_VERSION, c->trust_version);
    sink_u32(s, TAG_TICKET_SEQ, c->ticket_seq);
    sink_u32(s, TAG_REPORT_BASE, c->report_base);
    w.len = 0;
    wr_put(&w, span_of(c->campaign, sizeof c->campaign));
    wr_u8(&w, c->attempt);
    sink_value(s, TAG_CAMPAIGN, b, w.len);
    w.len = 0;
    wr_put(&w, span_of(c->last_release, sizeof c->last_release));
    wr_le16(&w, c->last_reason);
    wr_le16(&w, c->reject_nr);
    sink_value(s, TAG_LAST, b, w.len);
    w.len = 0;
    for (size_t i = 0; i < CONFIG_QUARANTINE_MAX; i++)
        if (c->quarantine[i].failures) {
            wr_put(&w, span_of(c->quarantine[i].digest, sizeof c->quarantine[i].digest));
            wr_u8(&w, c->quarantine[i].failures);
        }
    sink_value(s, TAG_QUARANTINE, b, w.len);
    b[0] = 1;
    sink_value(s, TAG_SEQUENCE_FREE, b, c->sequence_free);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

/* *len: bytes of values of a whole copy in this sector, 0 if there is none. */
static enum err copy_check(struct flash *f, uint8_t sector, uint32_t *seq, uint32_t *len, bool *is_torn)
{
    uint32_t addr = f->geo.config[sector], crc[2] = { 0, 0 }, sum[2] = { 0, 0 }, n = 0, padded;
    uint8_t head[HEAD_LEN], tail[4];
    enum err e = flash_read(f, addr, head, sizeof head);
    struct rd r = rd_of(span_of(head, sizeof head));
    uint32_t magic = rd_le32(&r);
    *len = 0;
    *is_torn = false;
    if (e)
        return e;
    *seq = rd_le32(&r);
    n = rd_le32(&r);
    if (magic != CONFIG_MAGIC || *seq == 0 || *seq == 0xffffffffu ||
        n > f->geo.sector_len - CONFIG_TALLY_LEN - HEAD_LEN - 8) {
        for (size_t i = 0; i < sizeof head; i++)
            *is_torn |= head[i] != 0xff;
        return ERR_OK;
    }
    padded = (HEAD_LEN + n + 3) & ~3u;
    for (int pass = 0; pass < 2; pass++) { /* twice: a CRC that was cut short may read either way */
        e = flash_crc(f, addr, padded, &crc[pass]);
        if (!e)
            e = flash_read(f, addr + padded, tail, sizeof tail);
        if (e)
            return e;
        r = rd_of(span_of(tail, sizeof tail));
        sum[pass] = rd_le32(&r);
    }
    *is_torn = crc[0] != sum[0] || crc[1] != sum[1];
    if (crc[0] == sum[0])
        *len = n;
    return ERR_OK;
}

static enum err find_winner(struct flash *f, struct config_pos *pos, uint32_t *len)
{
    memset(pos, 0, sizeof *pos);
    *len = 0;
    for (uint8_t s = 0; s < 2; s++) {
        uint32_t seq = 0, n = 0;
        bool is_torn = false;
        enum err e = copy_check(f, s, &seq, &n, &is_torn);
        if (e)
            return e;
        pos->unsettled |= is_torn;
        if (n && seq > pos->seq) {
            pos->seq = seq;
            pos->sector = s;
            *len = n;
        }
    }
    return ERR_OK;
}

/* A value that is longer than its room was written by an image that knew better: it is left out. */
static enum err take_bytes(struct flash *f, uint32_t addr, size_t n, uint8_t *to, size_t cap, size_t *len)
{
    if (n > cap) {
        *len = 0;
        return ERR_OK;
    }
    *len = n;
    return flash_read(f, addr, to, n);
}

static enum err take_text(struct flash *f, uint32_t addr, size_t n, uint8_t *to, size_t cap, uint8_t *len)
{
    size_t got;
    enum err e = take_bytes(f, addr, n, to, cap, &got);
    *len = (uint8_t)got;
    return e;
}

static enum err value_take(struct flash *f, uint8_t tag, uint32_t addr, size_t n, struct config *c)
{
    uint8_t b[CONFIG_QUARANTINE_MAX * 9u];
    size_t got = 0;
    enum err e;
    struct rd r;
    switch (tag) {
    case TAG_SEED:
        e = take_bytes(f, addr, n, c->seed, sizeof c->seed, &got);
        c->has_seed = got == sizeof c->seed;
        return e;
    case TAG_ID:
        return take_text(f, addr, n, c->id, sizeof c->id, &c->id_len);
    case TAG_KEY:
        return take_text(f, addr, n, c->key, sizeof c->key, &c->key_len);
    case TAG_HOST:
        return take_text(f, addr, n, c->host, sizeof c->host, &c->host_len);
    case TAG_CHECKIN:
        return take_text(f, addr, n, c->checkin, sizeof c->checkin, &c->checkin_len);
    case TAG_TRUST:
        e = take_bytes(f, addr, n, c->trust, sizeof c->trust, &got);
        c->trust_len = (uint16_t)got;
        return e;
    default:
        break;
    }
    e = take_bytes(f, addr, n, b, sizeof b, &got);
    if (e)
        return e;
    r = rd_of(span_of(b, got));
    switch (tag) {
    case TAG_PORTS:
        c->mqtt_port = rd_le16(&r);
        c->https_port = rd_le16(&r);
        break;
    case TAG_CHECKIN_S:
        c->checkin_s = rd_le32(&r);
        break;
    case TAG_KEPT_RELEASE:
        if (got == sizeof c->kept_release)
            memcpy(c->kept_release, b, got);
        break;
    case TAG_TRUST_VERSION:
        c->trust_version = rd_le32(&r);
        break;
    case TAG_TICKET_SEQ:
        c->ticket_seq = rd_le32(&r);
        break;
    case TAG_REPORT_BASE:
        c->report_base = rd_le32(&r);
        break;
    case TAG_CAMPAIGN:
        if (got == CAMPAIGN_ID_LEN + 1u) {
            memcpy(c->campaign, b, CAMPAIGN_ID_LEN);
            c->attempt = b[CAMPAIGN_ID_LEN];
        }
        break;
    case TAG_LAST:
        if (got == 12) {
            memcpy(c->last_release, rd_take(&r, 8).p, 8);
            c->last_reason = rd_le16(&r);
            c->reject_nr = rd_le16(&r);
        }
        break;
    case TAG_QUARANTINE:
        for (size_t i = 0; r.n >= 9; i++) {
            memcpy(c->quarantine[i].digest, rd_take(&r, 8).p, 8);
            c->quarantine[i].failures = rd_u8(&r);
        }
        break;
    case TAG_SEQUENCE_FREE:
        c->sequence_free = rd_u8(&r) == 1;
        break;
    default:
        break; /* from a newer image */
    }
    return ERR_OK;
}

/* Walks the values; `want` 0: all of them into c, else only that one's place. */
static enum err values_walk(struct flash *f, uint32_t addr, uint32_t len, struct config *c, uint8_t want,
                            uint32_t *want_addr, size_t *want_len)
{
    while (len >= 3) {
        uint8_t head[3];
        enum err e = flash_read(f, addr, head, sizeof head);
        uint32_t n = (uint32_t)head[1] | (uint32_t)head[2] << 8;
        if (e)
            return e;
        addr += 3;
        len -= 3;
        if (n > len)
            return ERR_OK; /* the CRC was right: an image with another idea of the format wrote this */
        if (want && head[0] == want) {
            *want_addr = addr;
            *want_len = n;
        } else if (!want) {
            e = value_take(f, head[0], addr, n, c);
            if (e)
                return e;
        }
        addr += n;
        len -= n;
    }
    return ERR_OK;
}

static uint32_t tally_addr(const struct flash *f, uint8_t sector)
{
    return f->geo.config[sector] + f->geo.sector_len - CONFIG_TALLY_LEN;
}

enum err config_load(struct flash *f, struct config *out, struct config_pos *pos)
{
    uint32_t len;
    enum err e = find_winner(f, pos, &len);
    memset(out, 0, sizeof *out);
    if (e || pos->seq == 0)
        return e;
    e = values_walk(f, f->geo.config[pos->sector] + HEAD_LEN, len, out, 0, NULL, NULL);
    for (uint32_t i = 0; !e && i < CONFIG_TALLY_LEN; i += 4) {
        uint8_t w[4];
        e = flash_read(f, tally_addr(f, pos->sector) + i, w, sizeof w);
        if (!e && (w[0] & w[1] & w[2] & w[3]) != 0xff)
            pos->tally_nr = i / 4 + 1;
    }
    return e;
}

static enum err copy_write(struct flash *f, const struct config *c, struct config_pos *pos)
{
    struct sink count = { NULL, 0 };
    values_put(&count, c);
    if (count.len > f->geo.sector_len - CONFIG_TALLY_LEN - HEAD_LEN - 8)
        return ERR_LIMIT;
    for (int tries = 0; tries < SAVE_TRIES; tries++) {
        uint8_t sector = (uint8_t)!pos->sector, head[HEAD_LEN];
        uint32_t seq = pos->seq + 1, seen = 0, len = 0;
        struct wr w = { head, sizeof head, 0 };
        struct flash_out out;
        struct sink s = { &out, 0 };
        bool is_torn = false;
        enum err e = f->ops->erase(f, f->geo.config[sector]);
        if (e)
            return e;
        wr_le32(&w, CONFIG_MAGIC);
        wr_le32(&w, seq);
        wr_le32(&w, count.len);
        flash_out_init(&out, f, f->geo.config[sector]);
        flash_out_put(&out, wr_span(&w));
        values_put(&s, c);
        e = flash_out_finish(&out);
        if (!e)
            e = copy_check(f, sector, &seen, &len, &is_torn);
        if (e)
            return e;
        if (seen == seq && len == count.len && !is_torn) {
            pos->seq = seq;
            pos->sector = sector;
            pos->tally_nr = 0;
            pos->unsettled = false;
            return ERR_OK;
        }
    }
    return ERR_IO;
}

enum err config_save(struct flash *f, struct config *c, struct config_pos *pos)
{
    uint32_t base = c->report_base;
    enum err e;
    c->report_base = base + pos->tally_nr * CONFIG_REPORT_BLOCK; /* the new sector's tally is empty */
    e = copy_write(f, c, pos);
    if (e)
        c->report_base = base;
    return e;
}

enum err config_report_block(struct flash *f, struct config *c, struct config_pos *pos, uint32_t *first)
{
    static const uint8_t used[4] = { 0, 0, 0, 0 };
    enum err e = ERR_OK;
    if (pos->seq == 0 || pos->tally_nr == CONFIG_TALLY_LEN / 4)
        e = config_save(f, c, pos);
    if (!e)
        e = flash_program(f, tally_addr(f, pos->sector) + pos->tally_nr * 4, used, sizeof used);
    if (e)
        return e;
    *first = c->report_base + pos->tally_nr * CONFIG_REPORT_BLOCK;
    pos->tally_nr++;
    return ERR_OK;
}

enum err config_trust_read(struct flash *f, uint8_t *raw, size_t *len, uint8_t kept[OBJECT_ID_LEN])
{
    struct config_pos pos;
    uint32_t n, addr = 0;
    size_t got = 0;
    enum err e = find_winner(f, &pos, &n);
    memset(kept, 0, OBJECT_ID_LEN);
    if (e)
        return e;
    if (pos.seq == 0)
        return ERR_NOTFOUND;
    e = values_walk(f, f->geo.config[pos.sector] + HEAD_LEN, n, NULL, TAG_TRUST, &addr, &got);
    if (e)
        return e;
    if (got == 0 || got > DEVICE_OBJECT_MAX)
        return ERR_NOTFOUND;
    e = flash_read(f, addr, raw, got);
    if (e)
        return e;
    *len = got;
    got = 0;
    e = values_walk(f, f->geo.config[pos.sector] + HEAD_LEN, n, NULL, TAG_KEPT_RELEASE, &addr, &got);
    if (!e && got == OBJECT_ID_LEN)
        e = flash_read(f, addr, kept, OBJECT_ID_LEN);
    return e;
}
