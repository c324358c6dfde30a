/* core/trust/report.c - the device report, and the names of states and reasons. Tags: report.h. */
#include "core/trust/report.h"

enum {
    TAG_STATE = 0x01,
    TAG_REASON,
    TAG_REPORT_SEQ,
    TAG_BOOT_ID,
    TAG_UPTIME,
    TAG_CAMPAIGN,
    TAG_ATTEMPT,
    TAG_RUNNING,
    TAG_OTHER,
    TAG_OTHER_VALID,
    TAG_TRUST_VERSION,
    TAG_COUNTER,
    TAG_TICKET_SEQ,
    TAG_BYTES_DONE,
    TAG_BYTES_TOTAL,
    TAG_SOURCE,
    TAG_RESET_CAUSE,
    TAG_FREE_HEAP,
    TAG_LARGEST_BLOCK,
    TAG_SLOT_LEN,
    TAG_BATTERY,
    TAG_RSSI,
    TAG_AGENT_VERSION,
    TAG_NONCE,
    TAG_PRODUCT,
    TAG_HARDWARE,
    TAG_RELEASE_SEQ,
    TAG_TRIAL_RELEASE,
};
/* Without these a report says nothing; everything else has a default that is left out. */
#define MANDATORY                                                                                            \
    (TLV_BIT(TAG_STATE) | TLV_BIT(TAG_REPORT_SEQ) | TLV_BIT(TAG_NONCE) | TLV_BIT(TAG_PRODUCT) |              \
     TLV_BIT(TAG_HARDWARE))
#define NO_LISTS        0u
#define BATTERY_UNKNOWN 255u

static enum err field_take(void *ctx, uint8_t tag, struct rd *r)
{
    struct report *o = ctx;

    switch (tag) {
    case TAG_STATE:
        o->state = rd_u8(r);
        if (o->state >= DEVICE_STATES)
            return ERR_PROTO;
        break;
    case TAG_REASON:
        o->reason = rd_le16(r);
        break;
    case TAG_REPORT_SEQ:
        o->report_seq = rd_le32(r);
        break;
    case TAG_BOOT_ID:
        o->boot_id = rd_le32(r);
        break;
    case TAG_UPTIME:
        o->uptime_s = rd_le32(r);
        break;
    case TAG_CAMPAIGN:
        rd_copy(r, o->campaign, CAMPAIGN_ID_LEN);
        break;
    case TAG_ATTEMPT:
        o->attempt = rd_u8(r);
        break;
    case TAG_RUNNING:
        rd_copy(r, o->running, OBJECT_ID_LEN);
        break;
    case TAG_OTHER:
        rd_copy(r, o->other, OBJECT_ID_LEN);
        break;
    case TAG_OTHER_VALID:
        o->other_valid = rd_u8(r);
        break;
    case TAG_TRUST_VERSION:
        o->trust_version = rd_le32(r);
        break;
    case TAG_COUNTER:
        o->security_counter = rd_le16(r);
        break;
    case TAG_TICKET_SEQ:
        o->ticket_seq = rd_le32(r);
        break;
    case TAG_BYTES_DONE:
        o->bytes_done = rd_le32(r);
        break;
    case TAG_BYTES_TOTAL:
        o->bytes_total = rd_le32(r);
        break;
    case TAG_SOURCE:
        o->source = rd_u8(r);
        break;
    case TAG_RESET_CAUSE:
        o->reset_cause = rd_u8(r);
        break;
    case TAG_FREE_HEAP:
        o->free_heap = rd_le32(r);
        break;
    case TAG_LARGEST_BLOCK:
        o->largest_block = rd_le32(r);
        break;
    case TAG_SLOT_LEN:
        o->slot_len = rd_le32(r);
        break;
    case TAG_BATTERY:
        o->battery_pct = rd_u8(r);
        break;
    case TAG_RSSI:
        o->rssi_dbm = (int8_t)rd_u8(r);
        break;
    case TAG_AGENT_VERSION:
        o->agent_version = rd_le16(r);
        break;
    case TAG_NONCE:
        rd_copy(r, o->nonce, sizeof o->nonce);
        break;
    case TAG_PRODUCT:
        o->product = rd_take(r, r->n);
        if (o->product.n == 0 || !trust_text_is_ok(o->product, 24))
            return ERR_PROTO;
        break;
    case TAG_HARDWARE:
        o->hw_class = rd_le16(r);
        o->hw_rev = rd_u8(r);
        break;
    case TAG_RELEASE_SEQ:
        o->release_seq = rd_le32(r);
        break;
    case TAG_TRIAL_RELEASE:
        o->trial_release = rd_le32(r);
        break;
    default:
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

enum err report_decode(struct span in, struct report *out)
{
    struct report o = { .battery_pct = BATTERY_UNKNOWN };
    uint64_t have;
    enum err e;

    if (in.n > REPORT_MAX)
        return ERR_LIMIT;
    if ((e = tlv_take_all(in, NO_LISTS, field_take, &o, &have)) != ERR_OK)
        return e;
    if ((have & MANDATORY) != MANDATORY)
        return ERR_PROTO;
    *out = o;
    return ERR_OK;
}

static void put_u8(struct wr *w, uint8_t tag, uint8_t v, uint8_t absent)
{
    if (v != absent)
        tlv_put_u8(w, tag, v);
}
static void put_u16(struct wr *w, uint8_t tag, uint16_t v)
{
    if (v)
        tlv_put_u16(w, tag, v);
}
static void put_u32(struct wr *w, uint8_t tag, uint32_t v)
{
    if (v)
        tlv_put_u32(w, tag, v);
}
static void put_bytes(struct wr *w, uint8_t tag, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i]) {
            tlv_put(w, tag, span_of(p, n));
            return;
        }
}

void report_encode(struct wr *w, const struct report *r)
{
    tlv_put_u8(w, TAG_STATE, r->state);
    put_u16(w, TAG_REASON, r->reason);
    tlv_put_u32(w, TAG_REPORT_SEQ, r->report_seq);
    put_u32(w, TAG_BOOT_ID, r->boot_id);
    put_u32(w, TAG_UPTIME, r->uptime_s);
    put_bytes(w, TAG_CAMPAIGN, r->campaign, CAMPAIGN_ID_LEN);
    put_u8(w, TAG_ATTEMPT, r->attempt, 0);
    put_bytes(w, TAG_RUNNING, r->running, OBJECT_ID_LEN);
    put_bytes(w, TAG_OTHER, r->other, OBJECT_ID_LEN);
    put_u8(w, TAG_OTHER_VALID, r->other_valid, 0);
    put_u32(w, TAG_TRUST_VERSION, r->trust_version);
    put_u16(w, TAG_COUNTER, r->security_counter);
    put_u32(w, TAG_TICKET_SEQ, r->ticket_seq);
    put_u32(w, TAG_BYTES_DONE, r->bytes_done);
    put_u32(w, TAG_BYTES_TOTAL, r->bytes_total);
    put_u8(w, TAG_SOURCE, r->source, 0);
    put_u8(w, TAG_RESET_CAUSE, r->reset_cause, 0);
    put_u32(w, TAG_FREE_HEAP, r->free_heap);
    put_u32(w, TAG_LARGEST_BLOCK, r->largest_block);
    put_u32(w, TAG_SLOT_LEN, r->slot_len);
    put_u8(w, TAG_BATTERY, r->battery_pct, BATTERY_UNKNOWN);
    put_u8(w, TAG_RSSI, (uint8_t)r->rssi_dbm, 0);
    put_u16(w, TAG_AGENT_VERSION, r->agent_version);
    tlv_put(w, TAG_NONCE, span_of(r->nonce, sizeof r->nonce));
    tlv_put(w, TAG_PRODUCT, r->product);
    wr_u8(w, TAG_HARDWARE);
    wr_u8(w, 3);
    wr_le16(w, r->hw_class);
    wr_u8(w, r->hw_rev);
    put_u32(w, TAG_RELEASE_SEQ, r->release_seq);
    put_u32(w, TAG_TRIAL_RELEASE, r->trial_release);
}

const char *reason_name(unsigned reason)
{
    static const char *const names[REASONS] = {
        "none",        "network",      "space",    "heap",          "signature-release", "signature-director",
        "trust",       "counter",      "sequence", "hw-mismatch",   "requires",          "hash",
        "flash-write", "flash-verify", "boot",     "probation-net", "probation-hub",     "probation-app",
        "watchdog",    "user",         "battery",  "window",        "ticket-device",     "ticket-stale",
        "quarantine",  "format",
    };
    return reason < REASONS ? names[reason] : "unknown";
}

const char *device_state_name(unsigned state)
{
    static const char *const names[DEVICE_STATES] = {
        "IDLE", "CHECKING", "DOWNLOADING", "VERIFYING", "STAGED", "DEFERRED", "ARMED", "TRIAL", "REVERTING",
    };
    return state < DEVICE_STATES ? names[state] : "UNKNOWN";
}
