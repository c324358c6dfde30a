/* device/judge.c - may this ticket and this release be obeyed? Every check has its own reason. C99. */
#include "device/dev_internal.h"

#define COUNTER_JUMP_MAX 1000u

uint16_t judge_ticket(struct roost_dev *d, const struct trust_record *t, const struct envelope *env,
                      const struct ticket *k)
{
    uint8_t hash[DEVICE_HASH_LEN];
    uint32_t now = dev_wall(d);
    if (env->kind != ENVELOPE_TICKET)
        return REASON_FORMAT;
    if (ticket_verify(d->port->crypto, t, env) != ERR_OK)
        return REASON_SIGNATURE_DIRECTOR;
    /* A ticket for a cohort names nobody and echoes nothing: this device takes none. */
    device_hash_of(d->port->crypto, roost_dev_id(d), hash);
    if (k->is_cohort || memcmp(hash, k->device_hash, sizeof hash) != 0)
        return REASON_TICKET_DEVICE;
    if (k->ticket_seq <= d->conf.ticket_seq)
        return REASON_TICKET_STALE;
    if (!k->has_nonce || memcmp(k->nonce, d->nonce, sizeof d->nonce) != 0)
        return REASON_TICKET_STALE;
    if (k->ttl_s == 0 || (now > k->issued_s && now - k->issued_s > k->ttl_s))
        return REASON_TICKET_STALE;
    if (k->action < TICKET_INSTALL || k->action > TICKET_NO_OP)
        return REASON_FORMAT;
    return REASON_NONE;
}

/* The one component this engine installs: the application in the other slot. */
const struct release_component *release_app(const struct roost_dev *d, const struct release *r)
{
    uint8_t type = r->component_nr == 1 ? r->component[0].type : 0;
    bool fits = type == COMPONENT_APP || (type == COMPONENT_PACKAGE && d->cfg->accept_package);
    return fits ? &r->component[0] : NULL;
}

const struct release_encoding *release_raw(const struct release *r, const struct release_component *a)
{
    for (uint8_t i = 0; i < r->encoding_nr; i++)
        if (r->encoding[i].component == a->id && r->encoding[i].method == ENCODING_RAW &&
            r->encoding[i].payload_len == a->image_len)
            return &r->encoding[i];
    return NULL;
}

static uint16_t judge_counters(const struct roost_dev *d, const struct release *r, bool is_running)
{
    uint16_t stored = d->boot.security_counter;
    uint32_t running = d->boot.slot == BOOT_NO_SLOT ? 0 : d->boot.header.release_seq;
    if (r->security_counter < stored || r->security_counter > (uint32_t)stored + COUNTER_JUMP_MAX)
        return REASON_COUNTER;
    if (is_running || d->boot.slot == BOOT_NO_SLOT || r->release_seq > running || d->conf.sequence_free)
        return REASON_NONE;
    if ((r->flags & RELEASE_ALLOW_DOWNGRADE) && r->security_counter == stored)
        return REASON_NONE;
    return REASON_SEQUENCE;
}

static uint16_t judge_room(struct roost_dev *d, const struct release *r)
{
    const struct release_component *a = release_app(d, r);
    const struct release_encoding *e = a ? release_raw(r, a) : NULL;
    struct chunk_shape shape;
    struct report facts;
    if (!e)
        return REASON_REQUIRES;
    if (a->image_len > slot_image_cap(&d->flash->geo) ||
        (uint32_t)r->min_free_flash_kib * 1024u > slot_image_cap(&d->flash->geo))
        return REASON_SPACE;
    if (chunk_shape_of(e->payload_len, r->chunk_code, r->fan_out, &shape) != ERR_OK)
        return REASON_FORMAT;
    if (shape.chunk_len > d->mem->chunk_cap ||
        chunk_root_list_len(&shape) + chunk_page_len(&shape, 0) > d->mem->page_cap)
        return REASON_HEAP;
    roost_dev_report(d, &facts);
    if (r->min_heap_block_b && facts.largest_block && facts.largest_block < r->min_heap_block_b)
        return REASON_HEAP;
    if (r->min_battery_pct && facts.battery_pct <= 100 && facts.battery_pct < r->min_battery_pct)
        return REASON_BATTERY;
    return REASON_NONE;
}

uint16_t judge_release(struct roost_dev *d, const struct trust_record *t, const struct envelope *env,
                       const struct release *r)
{
    uint8_t id[OBJECT_ID_LEN];
    bool is_running;
    uint16_t reason;
    if (env->kind != ENVELOPE_RELEASE)
        return REASON_FORMAT;
    if (release_verify(d->port->crypto, t, r, env) != ERR_OK)
        return REASON_SIGNATURE_RELEASE;
    if (!span_eq(r->product, d->cfg->product) || r->hw_class != d->cfg->hw_class ||
        d->cfg->hw_rev < r->hw_rev_min || d->cfg->hw_rev > r->hw_rev_max)
        return REASON_HW_MISMATCH;
    envelope_id(d->port->crypto, env, id);
    is_running = d->boot.slot != BOOT_NO_SLOT && memcmp(id, d->boot.header.release_id, sizeof id) == 0;
    reason = judge_counters(d, r, is_running);
    if (reason)
        return reason;
    if (r->min_agent > DEV_AGENT_VERSION || r->min_bootloader > DEV_AGENT_VERSION ||
        (r->flags & RELEASE_ENCRYPTED) || r->has_dependency)
        return REASON_REQUIRES;
    if (is_running)
        return REASON_NONE;
    if (dev_quarantine_failures(d, id) >= DEV_QUARANTINE_AFTER)
        return REASON_QUARANTINE;
    return judge_room(d, r);
}
