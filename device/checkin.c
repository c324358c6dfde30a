/* device/checkin.c - says what this device runs, and takes what the hub has for it: trust records, a release
 * manifest, a ticket. C99. */
#include "device/dev_internal.h"

static uint32_t digest_u32(const uint8_t *p)
{
    struct rd r = rd_of(span_of(p, 4));
    return rd_le32(&r);
}

static uint8_t report_state(const struct roost_dev *d)
{
    if (d->trial)
        return DEVICE_TRIAL;
    switch ((enum dev_update_step)d->up.step) {
    case UPDATE_ROOTS:
    case UPDATE_PAGE:
    case UPDATE_CHUNKS:
        return DEVICE_DOWNLOADING;
    case UPDATE_REPORT:
    case UPDATE_WAIT:
        return d->now_ms < d->up.window_ms ? DEVICE_DEFERRED : DEVICE_ARMED;
    default:
        return DEVICE_IDLE;
    }
}

void roost_dev_report(const struct roost_dev *d, struct report *out)
{
    memset(out, 0, sizeof *out);
    out->state = report_state(d);
    out->reason = d->refused ? d->refused : d->conf.last_reason;
    out->report_seq = d->report_seq;
    out->boot_id = d->boot_id;
    out->uptime_s = d->up_s;
    memcpy(out->campaign, d->conf.campaign, sizeof out->campaign);
    out->attempt = d->conf.attempt;
    if (d->boot.slot != BOOT_NO_SLOT) {
        memcpy(out->running, d->boot.header.release_id, OBJECT_ID_LEN);
        out->release_seq = d->boot.header.release_seq;
    }
    if (d->boot.other_valid) {
        memcpy(out->other, d->boot.other.release_id, OBJECT_ID_LEN);
        out->other_valid = 1;
    }
    out->trust_version = d->conf.trust_version;
    out->security_counter = d->boot.security_counter;
    out->ticket_seq = d->conf.ticket_seq;
    if (d->up.step != UPDATE_OFF) {
        out->bytes_done = update_bytes_done(d);
        out->bytes_total = d->up.shape.payload_len;
    }
    out->slot_len = slot_image_cap(&d->flash->geo);
    out->battery_pct = 255;
    out->agent_version = DEV_AGENT_VERSION;
    memcpy(out->nonce, d->nonce, sizeof out->nonce);
    out->product = d->cfg->product;
    out->hw_class = d->cfg->hw_class;
    out->hw_rev = d->cfg->hw_rev;
    if (d->trial)
        out->trial_release = digest_u32(d->boot.header.release_id);
    else if (!d->refused && d->conf.last_reason)
        out->trial_release = digest_u32(d->conf.last_release);
    if (d->port->facts)
        d->port->facts(d->port->ctx, out);
}

/* Numbers come from a block that is already taken in flash, so none is ever used twice. */
static bool report_number(struct roost_dev *d)
{
    if (d->report_left == 0) {
        if (config_report_block(d->flash, &d->conf, &d->conf_pos, &d->report_seq) != ERR_OK)
            return false;
        d->report_left = CONFIG_REPORT_BLOCK;
        if (d->report_seq != 0)
            return d->report_left--, true;
        d->report_left--; /* 0 is "none": the first number is 1 */
    }
    d->report_seq++;
    d->report_left--;
    return true;
}

void checkin_request(struct roost_dev *d, bool only_report)
{
    struct dev_exchange *x = &d->ex;
    struct report r;
    size_t from;
    if (!report_number(d)) {
        dev_refuse(d, REASON_FLASH_WRITE, NULL);
        dev_failed(d, 0);
        return;
    }
    d->port->crypto->random(d->nonce, sizeof d->nonce);
    d->nonce_live = !only_report;
    ex_begin(d, only_report ? EX_REPORT : EX_CHECKIN, ROOST_DEV_POST);
    wr_put(&x->w, span_of(d->conf.checkin, d->conf.checkin_len));
    x->x.url = ex_since(d, 0);
    x->x.content_type = SPAN("application/vnd.roost.report");
    from = x->w.len;
    dev_token(d, &x->w, DEV_SAS_TTL_S);
    x->x.authorization = ex_since(d, from);
    roost_dev_report(d, &r);
    from = x->w.len;
    report_encode(&x->w, &r);
    x->x.body = ex_since(d, from);
    x->x.ca_pin = dev_pin_of(d, span_of(d->conf.host, d->conf.host_len), x->pin);
    if (!only_report)
        memset(&d->in.bundle, 0, sizeof d->in.bundle);
    if (!ex_ready(d))
        dev_failed(d, 0);
}

/* ---- trust records ---------------------------------------------------------------------------------------
 */

enum err dev_trust(const struct roost_dev *d, struct trust_record *out, struct envelope *env)
{
    size_t used;
    enum err e;
    if (!d->conf.trust_len)
        return ERR_NOTFOUND;
    e = envelope_decode(span_of(d->conf.trust, d->conf.trust_len), ENVELOPE_BODY_MAX_MCU, env, &used);
    return e ? e : trust_record_decode(env->body, d->port->crypto, out);
}

enum err trust_take(struct roost_dev *d, const struct envelope *env)
{
    const struct crypto_ops *c = d->port->crypto;
    struct trust_record next, old;
    struct envelope old_env;
    bool has_old = dev_trust(d, &old, &old_env) == ERR_OK;
    enum err e = env->kind == ENVELOPE_TRUST_RECORD ? trust_record_decode(env->body, c, &next) : ERR_PROTO;
    if (e)
        return e;
    if (has_old && next.version <= old.version && memcmp(next.fleet_id, old.fleet_id, FLEET_ID_LEN) == 0)
        return ERR_OK; /* we were that far already */
    if (!has_old && d->cfg->has_root_pin) {
        uint8_t pin[SHA256_LEN];
        trust_record_root_pin(c, &next, pin);
        if (memcmp(pin, d->cfg->root_pin, sizeof pin) != 0)
            return ERR_VERIFY;
    }
    e = trust_record_accept(c, has_old ? &old : NULL, &next, env);
    if (e)
        return e;
    if (env->raw.n > sizeof d->conf.trust)
        return ERR_LIMIT;
    if (has_old && next.epoch > old.epoch) { /* what a new epoch is for: numbers that went astray */
        d->conf.ticket_seq = 0;
        d->conf.sequence_free = true;
    }
    memcpy(d->conf.trust, env->raw.p, env->raw.n);
    d->conf.trust_len = (uint16_t)env->raw.n;
    d->conf.trust_version = next.version;
    return ERR_OK;
}

/* Does the release in this slot verify under the trust record we hold now? Uses the request memory. */
static bool slot_is_trusted(struct roost_dev *d, uint8_t slot, const uint8_t release_id[OBJECT_ID_LEN])
{
    struct trust_record t;
    struct envelope trust_env, env;
    struct release r;
    size_t n = 0, used = 0;
    if (memcmp(d->conf.kept_release, release_id, OBJECT_ID_LEN) == 0)
        return true;
    return slot_manifest_read(d->flash, slot, d->ex.request, &n) == ERR_OK &&
           envelope_decode(span_of(d->ex.request, n), ENVELOPE_BODY_MAX_MCU, &env, &used) == ERR_OK &&
           release_decode(env.body, &r) == ERR_OK && dev_trust(d, &t, &trust_env) == ERR_OK &&
           release_verify(d->port->crypto, &t, &r, &env) == ERR_OK;
}

void trust_changed(struct roost_dev *d)
{
    const struct slot_header *kept = &d->boot.header;
    uint8_t slot = d->boot.slot;
    if (slot == BOOT_NO_SLOT)
        return;
    if (d->trial) {
        if (!slot_is_trusted(d, slot, d->boot.header.release_id)) {
            d->trial_hub = false; /* its key was withdrawn while it was tried: it will not be confirmed */
            d->trial_refused = true;
            d->trial_until_ms = d->now_ms;
        }
        if (!d->boot.other_valid)
            return;
        slot = (uint8_t)!slot;
        kept = &d->boot.other;
    }
    /* Withdrawing a key must not stop the devices that run what it once signed. */
    if (!slot_is_trusted(d, slot, kept->release_id))
        memcpy(d->conf.kept_release, kept->release_id, OBJECT_ID_LEN);
}

/* ---- the bundle ------------------------------------------------------------------------------------------
 */

void bundle_take(struct roost_dev *d)
{
    struct dev_bundle *b = &d->in.bundle;
    struct envelope env;
    size_t used;
    while (!b->reason && b->at < b->len) {
        struct span in = span_of(d->mem->chunk + b->at, b->len - b->at);
        enum err e = envelope_decode(in, ENVELOPE_BODY_MAX_MCU, &env, &used);
        if (e == ERR_AGAIN)
            return;
        if (e) {
            b->reason = REASON_FORMAT;
        } else if (env.kind == ENVELOPE_TRUST_RECORD && !b->release && !b->has_ticket) {
            uint32_t before = d->conf.trust_version;
            if (trust_take(d, &env) != ERR_OK)
                b->reason = REASON_TRUST;
            b->trust_changed |= d->conf.trust_version != before;
            b->len -= (uint32_t)used; /* used up: make room for the next */
            memmove(d->mem->chunk, d->mem->chunk + used, b->len);
        } else if (env.kind == ENVELOPE_RELEASE && !b->release && !b->has_ticket) {
            b->release = (uint32_t)used;
            b->at += (uint32_t)used;
        } else if (env.kind == ENVELOPE_TICKET && !b->has_ticket) {
            b->has_ticket = true;
            b->ticket = b->at;
            b->at += (uint32_t)used;
        } else {
            b->reason = REASON_FORMAT;
        }
    }
}

void checkin_body(struct roost_dev *d, struct span piece)
{
    struct dev_bundle *b = &d->in.bundle;
    while (piece.n && !b->reason) {
        size_t room = d->mem->chunk_cap - b->len, part = piece.n < room ? piece.n : room;
        if (part == 0) {
            b->reason = REASON_FORMAT; /* an object larger than any a device takes */
            return;
        }
        memcpy(d->mem->chunk + b->len, piece.p, part);
        b->len += (uint32_t)part;
        piece = span_skip(piece, part);
        bundle_take(d);
    }
}

/* The order of updates: ticket, release, then the work. Each refusal has its own reason. */
static bool bundle_obey(struct roost_dev *d)
{
    struct dev_bundle *b = &d->in.bundle;
    struct trust_record t;
    struct envelope trust_env, env;
    struct ticket k;
    struct span release_raw = span_of(d->mem->chunk, b->release);
    size_t used;
    uint16_t reason = b->reason;
    bool nonce_live = d->nonce_live;
    d->nonce_live = false; /* a nonce is good for one answer */
    if (!reason && b->at != b->len)
        reason = REASON_FORMAT; /* cut short */
    if (reason || !b->has_ticket) {
        if (reason)
            dev_refuse(d, reason, NULL);
        return false;
    }
    if (dev_trust(d, &t, &trust_env) != ERR_OK) {
        dev_refuse(d, REASON_TRUST, NULL);
        return false;
    }
    if (envelope_decode(span_of(d->mem->chunk + b->ticket, b->len - b->ticket), ENVELOPE_BODY_MAX_MCU, &env,
                        &used) != ERR_OK ||
        ticket_decode(env.body, &k) != ERR_OK) {
        dev_refuse(d, REASON_FORMAT, NULL);
        return false;
    }
    reason = judge_ticket(d, &t, &env, &k);
    if (!reason && !nonce_live)
        reason = REASON_TICKET_STALE;
    if (!reason && (k.action == TICKET_INSTALL || k.action == TICKET_STAGE_ONLY)) {
        struct release r;
        if (!b->release || envelope_decode(release_raw, ENVELOPE_BODY_MAX_MCU, &env, &used) != ERR_OK ||
            release_decode(env.body, &r) != ERR_OK) {
            reason = REASON_FORMAT;
        } else {
            uint8_t id[OBJECT_ID_LEN];
            envelope_id(d->port->crypto, &env, id);
            reason =
                memcmp(id, k.release_id, sizeof id) != 0 ? REASON_FORMAT : judge_release(d, &t, &env, &r);
        }
    }
    if (reason) {
        dev_refuse(d, reason, k.release_id);
        return false;
    }
    update_obey(d, release_raw, &k);
    return true;
}

void checkin_done(struct roost_dev *d, enum roost_dev_result result)
{
    struct dev_bundle *b = &d->in.bundle;
    uint16_t told = d->ex.answered && result == ROOST_DEV_DONE ? d->refused : d->told_refused;
    if (result != ROOST_DEV_DONE) {
        dev_failed(d, d->ex.retry_after_s);
        return;
    }
    switch (d->ex.status) {
    case 200:
    case 204:
        break;
    case 401:
    case 403:
    case 404:
        d->trial_refused = true;
        dev_refused_by_hub(d);
        return;
    default:
        d->trial_refused = false;
        dev_failed(d, d->ex.retry_after_s);
        return;
    }
    d->boot_failures = 0; /* `failures` waits for the standing connection: that is home */
    d->trial_hub = true;
    d->trial_refused = false;
    d->told_refused = told;
    d->refused = REASON_NONE;
    dev_checkin_schedule(d);
    if (b->trust_changed) {
        /* The signatures over release and ticket are still in mem->chunk; this uses the request memory. */
        trust_changed(d);
        dev_save(d);
    }
    if (d->ex.status == 200)
        (void)bundle_obey(d);
    if (d->refused && d->refused != d->told_refused)
        d->checkin_due = true; /* the hub learns why, once */
    if (d->reboot || d->phase == ROOST_DEV_UPDATE)
        return;
    dev_online(d);
}
