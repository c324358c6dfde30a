/* core/trust/release.c - HRM1: the body of a release manifest, and who must have signed it. */
#include "core/trust/release.h"

#include "core/trust/chunk_tree.h"

enum {
    TAG_PRODUCT = 0x01,
    TAG_HARDWARE = 0x02,
    TAG_VERSION = 0x03,
    TAG_SEQ = 0x04,
    TAG_COUNTER = 0x05,
    TAG_FLAGS = 0x06,
    TAG_REQUIRES = 0x07,
    TAG_COMPONENT = 0x10,
    TAG_ENCODING = 0x11,
    TAG_CHUNKS = 0x20,
    TAG_CONFIRM = 0x30,
    TAG_DEPENDENCY = 0x31,
    TAG_PROVENANCE = 0x40,
};
#define MANDATORY   0x3007eu /* tags 01 to 06, 10 and 11, as bits */
#define LISTS       (TLV_BIT(TAG_COMPONENT) | TLV_BIT(TAG_ENCODING))
#define FLAGS_KNOWN 0x1fu

static enum err component_take(struct rd *r, struct release *o)
{
    struct release_component k = { 0 };
    k.id = rd_u8(r);
    k.type = rd_u8(r);
    k.version = rd_take(r, rd_u8(r));
    k.image_len = rd_le32(r);
    rd_copy(r, k.image_sha256, SHA256_LEN);
    k.target = rd_u8(r);
    k.order = rd_u8(r);
    if (r->bad || k.type == 0 || k.image_len == 0 || !trust_text_is_ok(k.version, RELEASE_TEXT_MAX))
        return ERR_PROTO;
    for (unsigned i = 0; i < o->component_nr; i++)
        if (o->component[i].id == k.id)
            return ERR_PROTO;
    if (o->component_nr == RELEASE_COMPONENT_MAX)
        return ERR_LIMIT;
    o->component[o->component_nr++] = k;
    return ERR_OK;
}

static enum err encoding_take(struct rd *r, struct release *o)
{
    struct release_encoding k = { 0 };
    k.component = rd_u8(r);
    k.method = rd_u8(r);
    k.payload_len = rd_le32(r);
    rd_copy(r, k.tree_root, SHA256_LEN);
    if (!r->bad && r->n) {
        k.has_base = true;
        rd_copy(r, k.base_sha256, SHA256_LEN);
    }
    if (r->bad || k.payload_len == 0 || k.has_base != (k.method == ENCODING_PATCH))
        return ERR_PROTO;
    if (o->encoding_nr == RELEASE_ENCODING_MAX)
        return ERR_LIMIT;
    o->encoding[o->encoding_nr++] = k;
    return ERR_OK;
}

static enum err text_take(struct rd *r, struct span *out)
{
    *out = rd_take(r, r->n);
    return out->n && trust_text_is_ok(*out, RELEASE_TEXT_MAX) ? ERR_OK : ERR_PROTO;
}

static enum err field_take(void *ctx, uint8_t tag, struct rd *r)
{
    struct release *o = ctx;
    enum err e = ERR_OK;

    switch (tag) {
    case TAG_PRODUCT:
        e = text_take(r, &o->product);
        break;
    case TAG_HARDWARE:
        o->hw_class = rd_le16(r);
        o->hw_rev_min = rd_u8(r);
        o->hw_rev_max = rd_u8(r);
        e = o->hw_rev_min > o->hw_rev_max ? ERR_PROTO : ERR_OK;
        break;
    case TAG_VERSION:
        e = text_take(r, &o->version);
        break;
    case TAG_SEQ:
        o->release_seq = rd_le32(r);
        break;
    case TAG_COUNTER:
        o->security_counter = rd_le16(r);
        break;
    case TAG_FLAGS: /* a flag may change what the bytes mean (encrypted): one we do not know refuses */
        o->flags = rd_u8(r);
        e = o->flags & ~FLAGS_KNOWN ? ERR_PROTO : ERR_OK;
        break;
    case TAG_REQUIRES:
        o->min_agent = rd_le16(r);
        o->min_bootloader = rd_le16(r);
        o->min_free_flash_kib = rd_le16(r);
        o->min_heap_block_b = rd_le16(r);
        o->min_battery_pct = rd_le16(r);
        break;
    case TAG_COMPONENT:
        e = component_take(r, o);
        break;
    case TAG_ENCODING:
        e = encoding_take(r, o);
        break;
    case TAG_CHUNKS:
        o->chunk_code = rd_u8(r);
        o->fan_out = rd_u8(r);
        break;
    case TAG_CONFIRM:
        o->probation_s = rd_le16(r);
        o->confirm_checks = rd_le16(r);
        break;
    case TAG_DEPENDENCY:
        o->has_dependency = true;
        o->dependency_component = rd_u8(r);
        rd_copy(r, o->dependency_product, sizeof o->dependency_product);
        o->dependency_seq = rd_le32(r);
        break;
    case TAG_PROVENANCE:
        o->has_provenance = true;
        rd_copy(r, o->provenance, SHA256_LEN);
        break;
    default:
        return ERR_NOTFOUND;
    }
    return e;
}

/* Every component can be had, every encoding leads to a component and can be cut into chunks. */
static bool set_is_whole(const struct release *o)
{
    struct chunk_shape shape;
    uint32_t covered = 0;
    for (unsigned i = 0; i < o->encoding_nr; i++) {
        const struct release_encoding *k = &o->encoding[i];
        unsigned at = 0;
        while (at < o->component_nr && o->component[at].id != k->component)
            at++;
        if (at == o->component_nr || chunk_shape_of(k->payload_len, o->chunk_code, o->fan_out, &shape))
            return false;
        if (k->method == ENCODING_RAW && k->payload_len != o->component[at].image_len)
            return false;
        covered |= 1u << at;
    }
    return covered == (1u << o->component_nr) - 1;
}

enum err release_decode(struct span body, struct release *out)
{
    struct release o = { .chunk_code = CHUNK_CODE_DEFAULT, .fan_out = CHUNK_FAN_OUT_DEFAULT };
    uint64_t have;
    enum err e;

    if ((e = tlv_take_all(body, LISTS, field_take, &o, &have)) != ERR_OK)
        return e;
    if ((have & MANDATORY) != MANDATORY || o.release_seq == 0 || !set_is_whole(&o))
        return ERR_PROTO;
    *out = o;
    return ERR_OK;
}

static void component_put(struct wr *w, const struct release_component *k)
{
    wr_u8(w, TAG_COMPONENT);
    wr_u8(w, (uint8_t)(9 + k->version.n + SHA256_LEN));
    wr_u8(w, k->id);
    wr_u8(w, k->type);
    wr_u8(w, (uint8_t)k->version.n);
    wr_put(w, k->version);
    wr_le32(w, k->image_len);
    wr_put(w, span_of(k->image_sha256, SHA256_LEN));
    wr_u8(w, k->target);
    wr_u8(w, k->order);
}

static void encoding_put(struct wr *w, const struct release_encoding *k)
{
    wr_u8(w, TAG_ENCODING);
    wr_u8(w, (uint8_t)(6 + SHA256_LEN + (k->has_base ? SHA256_LEN : 0)));
    wr_u8(w, k->component);
    wr_u8(w, k->method);
    wr_le32(w, k->payload_len);
    wr_put(w, span_of(k->tree_root, SHA256_LEN));
    if (k->has_base)
        wr_put(w, span_of(k->base_sha256, SHA256_LEN));
}

void release_encode(struct wr *w, const struct release *r)
{
    tlv_put(w, TAG_PRODUCT, r->product);
    wr_u8(w, TAG_HARDWARE);
    wr_u8(w, 4);
    wr_le16(w, r->hw_class);
    wr_u8(w, r->hw_rev_min);
    wr_u8(w, r->hw_rev_max);
    tlv_put(w, TAG_VERSION, r->version);
    tlv_put_u32(w, TAG_SEQ, r->release_seq);
    tlv_put_u16(w, TAG_COUNTER, r->security_counter);
    tlv_put_u8(w, TAG_FLAGS, r->flags);
    if (r->min_agent || r->min_bootloader || r->min_free_flash_kib || r->min_heap_block_b ||
        r->min_battery_pct) {
        wr_u8(w, TAG_REQUIRES);
        wr_u8(w, 10);
        wr_le16(w, r->min_agent);
        wr_le16(w, r->min_bootloader);
        wr_le16(w, r->min_free_flash_kib);
        wr_le16(w, r->min_heap_block_b);
        wr_le16(w, r->min_battery_pct);
    }
    for (unsigned i = 0; i < r->component_nr; i++)
        component_put(w, &r->component[i]);
    for (unsigned i = 0; i < r->encoding_nr; i++)
        encoding_put(w, &r->encoding[i]);
    uint8_t chunks[2] = { r->chunk_code, r->fan_out };
    tlv_put(w, TAG_CHUNKS, span_of(chunks, 2));
    if (r->probation_s || r->confirm_checks) {
        wr_u8(w, TAG_CONFIRM);
        wr_u8(w, 4);
        wr_le16(w, r->probation_s);
        wr_le16(w, r->confirm_checks);
    }
    if (r->has_dependency) {
        wr_u8(w, TAG_DEPENDENCY);
        wr_u8(w, 8);
        wr_u8(w, r->dependency_component);
        wr_put(w, span_of(r->dependency_product, sizeof r->dependency_product));
        wr_le32(w, r->dependency_seq);
    }
    if (r->has_provenance)
        tlv_put(w, TAG_PROVENANCE, span_of(r->provenance, SHA256_LEN));
}

enum err release_verify(const struct crypto_ops *c, const struct trust_record *t, const struct release *r,
                        const struct envelope *env)
{
    size_t valid = 0;
    if (env->kind != ENVELOPE_RELEASE)
        return ERR_VERIFY;
    for (unsigned i = 0; i < t->release_nr; i++) {
        const struct trust_key *k = &t->release[i];
        if (span_starts(r->product, k->product_prefix) && !trust_key_revoked(t, k->id))
            valid += envelope_count_valid(env, c, k, 1);
    }
    return t->release_threshold && valid >= t->release_threshold ? ERR_OK : ERR_VERIFY;
}
