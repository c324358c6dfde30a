/* device/slot.c - slot header, manifest tail, and the check of a whole slot. C99. */
#include "device/slot.h"

#include "base/crc32.h"
#include "device/config.h"
#include "device/flash_io.h"

#define HEADER_MAGIC  0x314c5352u /* "RSL1" */
#define HEADER_FORMAT 1u
#define TAIL_MAGIC    0x314c5452u /* "RTL1" */
#define CRC_AT        (SLOT_HEADER_LEN - 4u)

uint32_t slot_tail_len(const struct flash_geometry *g)
{
    return (SLOT_TAIL_MAX + g->sector_len - 1) & ~(g->sector_len - 1);
}

uint32_t slot_image_cap(const struct flash_geometry *g)
{
    uint32_t used = g->sector_len + slot_tail_len(g);
    return g->slot_len > used ? g->slot_len - used : 0;
}

uint32_t slot_image_addr(const struct flash_geometry *g, uint8_t slot)
{
    return g->slot[slot] + g->sector_len;
}

static uint32_t tail_addr(const struct flash_geometry *g, uint8_t slot)
{
    return g->slot[slot] + g->slot_len - slot_tail_len(g);
}

void slot_header_encode(const struct slot_header *h, uint8_t out[SLOT_HEADER_LEN])
{
    struct wr w = { out, SLOT_HEADER_LEN, 0 };
    memset(out, 0xff, SLOT_HEADER_LEN);
    wr_le32(&w, HEADER_MAGIC);
    wr_le16(&w, SLOT_HEADER_LEN);
    wr_le16(&w, HEADER_FORMAT);
    wr_le32(&w, h->image_len);
    wr_le32(&w, h->entry);
    wr_le32(&w, h->load_flags);
    wr_le16(&w, h->hw_class);
    wr_le16(&w, h->security_counter);
    wr_le32(&w, h->release_seq);
    wr_put(&w, span_of(h->image_sha256, sizeof h->image_sha256));
    wr_put(&w, span_of(h->release_id, sizeof h->release_id));
    wr_put(&w, span_of(h->key_id, sizeof h->key_id));
    wr_put(&w, span_of(h->sig, sizeof h->sig));
    w.len = CRC_AT;
    wr_le32(&w, crc32_update(0, span_of(out, CRC_AT)));
}

enum err slot_header_decode(const uint8_t in[SLOT_HEADER_LEN], struct slot_header *out)
{
    struct rd r = rd_of(span_of(in, SLOT_HEADER_LEN)), tail = rd_of(span_of(in + CRC_AT, 4));
    struct slot_header h;
    if (rd_le32(&tail) != crc32_update(0, span_of(in, CRC_AT)))
        return ERR_VERIFY;
    if (rd_le32(&r) != HEADER_MAGIC || rd_le16(&r) != SLOT_HEADER_LEN || rd_le16(&r) != HEADER_FORMAT)
        return ERR_VERIFY;
    memset(&h, 0, sizeof h);
    h.image_len = rd_le32(&r);
    h.entry = rd_le32(&r);
    h.load_flags = rd_le32(&r);
    h.hw_class = rd_le16(&r);
    h.security_counter = rd_le16(&r);
    h.release_seq = rd_le32(&r);
    memcpy(h.image_sha256, rd_take(&r, sizeof h.image_sha256).p, sizeof h.image_sha256);
    memcpy(h.release_id, rd_take(&r, sizeof h.release_id).p, sizeof h.release_id);
    memcpy(h.key_id, rd_take(&r, sizeof h.key_id).p, sizeof h.key_id);
    memcpy(h.sig, rd_take(&r, sizeof h.sig).p, sizeof h.sig);
    *out = h;
    return ERR_OK;
}

enum err slot_header_read(struct flash *f, uint8_t slot, struct slot_header *out)
{
    uint8_t raw[SLOT_HEADER_LEN];
    enum err e = flash_read(f, f->geo.slot[slot], raw, sizeof raw);
    if (e)
        return e;
    if (slot_header_decode(raw, out) != ERR_OK || out->image_len == 0 ||
        out->image_len > slot_image_cap(&f->geo))
        return ERR_NOTFOUND;
    return ERR_OK;
}

enum err slot_invalidate(struct flash *f, uint8_t slot)
{
    return f->ops->erase(f, f->geo.slot[slot]);
}

enum err slot_header_write(struct flash *f, uint8_t slot, const struct slot_header *h)
{
    uint8_t raw[SLOT_HEADER_LEN];
    enum err e;
    slot_header_encode(h, raw);
    e = flash_program(f, f->geo.slot[slot], raw, sizeof raw);
    if (!e)
        e = flash_compare(f, f->geo.slot[slot], raw, sizeof raw);
    return e;
}

/* 0: no whole tail there. */
static enum err tail_read_len(struct flash *f, uint8_t slot, uint32_t *len)
{
    uint8_t head[8], sum[4];
    uint32_t addr = tail_addr(&f->geo, slot), padded, crc = 0;
    enum err e = flash_read(f, addr, head, sizeof head);
    if (e)
        return e;
    struct rd r = rd_of(span_of(head, sizeof head));
    uint32_t magic = rd_le32(&r), n = rd_le16(&r), not_n = rd_le16(&r);
    *len = 0;
    if (magic != TAIL_MAGIC || (n ^ not_n) != 0xffffu || n == 0 || n > DEVICE_OBJECT_MAX)
        return ERR_OK;
    padded = (8 + n + 3) & ~3u;
    e = flash_crc(f, addr, padded, &crc);
    if (!e)
        e = flash_read(f, addr + padded, sum, sizeof sum);
    if (e)
        return e;
    r = rd_of(span_of(sum, sizeof sum));
    if (rd_le32(&r) == crc)
        *len = n;
    return ERR_OK;
}

enum err slot_manifest_write(struct flash *f, uint8_t slot, struct span raw)
{
    uint32_t addr = tail_addr(&f->geo, slot), len = 0;
    uint8_t head[8];
    struct wr w = { head, sizeof head, 0 };
    struct flash_out o;
    enum err e;
    if (raw.n == 0 || raw.n > DEVICE_OBJECT_MAX)
        return ERR_LIMIT;
    e = flash_erase(f, addr, slot_tail_len(&f->geo));
    if (e)
        return e;
    wr_le32(&w, TAIL_MAGIC);
    wr_le16(&w, (uint16_t)raw.n);
    wr_le16(&w, (uint16_t)~raw.n);
    flash_out_init(&o, f, addr);
    flash_out_put(&o, wr_span(&w));
    flash_out_put(&o, raw);
    e = flash_out_finish(&o);
    if (!e)
        e = tail_read_len(f, slot, &len);
    if (!e && len != raw.n)
        e = ERR_VERIFY;
    return e;
}

enum err slot_manifest_read(struct flash *f, uint8_t slot, uint8_t *buf, size_t *len)
{
    uint32_t n;
    enum err e = tail_read_len(f, slot, &n);
    if (!e && n == 0)
        e = ERR_NOTFOUND;
    if (!e)
        e = flash_read(f, tail_addr(&f->geo, slot) + 8, buf, n);
    if (!e)
        *len = n;
    return e;
}

enum err slot_image_hash(struct flash *f, const struct crypto_ops *c, uint8_t slot, uint32_t len,
                         uint8_t out[SHA256_LEN])
{
    struct sha256 h;
    uint8_t buf[256];
    uint32_t addr = slot_image_addr(&f->geo, slot);
    c->sha256_init(&h);
    while (len) {
        uint32_t part = len < sizeof buf ? len : (uint32_t)sizeof buf;
        enum err e = flash_read(f, addr, buf, part);
        if (e)
            return e;
        c->sha256_update(&h, span_of(buf, part));
        addr += part;
        len -= part;
    }
    c->sha256_final(&h, out);
    return ERR_OK;
}

/* The manifest is the authority: the header must say what it says. */
static bool header_agrees(const struct slot_header *h, const struct release *r)
{
    if (h->hw_class != r->hw_class || h->release_seq != r->release_seq ||
        h->security_counter != r->security_counter)
        return false;
    for (uint8_t i = 0; i < r->component_nr; i++) {
        const struct release_component *a = &r->component[i];
        if ((a->type == COMPONENT_APP || a->type == COMPONENT_PACKAGE) && a->image_len == h->image_len &&
            memcmp(a->image_sha256, h->image_sha256, SHA256_LEN) == 0)
            return true;
    }
    return false;
}

static enum err manifest_verify(struct flash *f, const struct crypto_ops *c, uint8_t slot, bool trust_needed,
                                struct boot_scratch *x, const struct slot_header *h)
{
    size_t n = 0, used = 0, trust_len = 0;
    uint8_t id[OBJECT_ID_LEN], kept[OBJECT_ID_LEN];
    struct envelope trust_env;
    enum err e = slot_manifest_read(f, slot, x->manifest_raw, &n);
    if (e)
        return e == ERR_NOTFOUND ? ERR_VERIFY : e;
    if (envelope_decode(span_of(x->manifest_raw, n), ENVELOPE_BODY_MAX_MCU, &x->env, &used) != ERR_OK ||
        used != n || x->env.kind != ENVELOPE_RELEASE || release_decode(x->env.body, &x->release) != ERR_OK)
        return ERR_VERIFY;
    envelope_id(c, &x->env, id);
    if (memcmp(id, h->release_id, sizeof id) != 0 || !header_agrees(h, &x->release))
        return ERR_VERIFY;
    e = config_trust_read(f, x->trust_raw, &trust_len, kept);
    if (e == ERR_NOTFOUND)
        return trust_needed ? ERR_DENIED : ERR_OK;
    if (e)
        return e;
    if (memcmp(kept, id, sizeof id) == 0)
        return ERR_OK;
    if (envelope_decode(span_of(x->trust_raw, trust_len), ENVELOPE_BODY_MAX_MCU, &trust_env, &used) !=
            ERR_OK ||
        trust_record_decode(trust_env.body, c, &x->trust) != ERR_OK)
        return trust_needed ? ERR_DENIED : ERR_OK;
    return release_verify(c, &x->trust, &x->release, &x->env) == ERR_OK ? ERR_OK : ERR_DENIED;
}

enum err slot_verify(struct flash *f, const struct crypto_ops *c, uint8_t slot, bool trust_needed,
                     struct boot_scratch *x, struct slot_header *out)
{
    uint8_t sum[SHA256_LEN];
    struct slot_header h;
    enum err e = slot_header_read(f, slot, &h);
    if (!e)
        e = slot_image_hash(f, c, slot, h.image_len, sum);
    if (!e && memcmp(sum, h.image_sha256, sizeof sum) != 0)
        e = ERR_VERIFY;
    if (!e)
        e = manifest_verify(f, c, slot, trust_needed, x, &h);
    if (!e)
        *out = h;
    return e;
}
