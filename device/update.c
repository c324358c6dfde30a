/* device/update.c - from an accepted ticket to a slot that the loader will try. Root list, hash pages and
 * chunks are checked one by one before they reach flash; after a power cut the same ticket, asked for again,
 * goes on behind what is already there. C99.
 *
 * Write order: header sector erased, manifest, chunks, whole image read back and hashed, header, PENDING. */
#include "device/dev_internal.h"

#include "base/text.h"
#include "device/flash_io.h"

#define TRIES_MAX      8u       /* downloads in a row that brought nothing */
#define HASH_TRIES_MAX 6u       /* chunks that were not what the manifest says */
#define SECONDS_MAX    4000000u /* longest time to live that is believed */

static uint32_t chunk_addr(const struct roost_dev *d, uint32_t chunk)
{
    return slot_image_addr(&d->flash->geo, d->up.slot) + (chunk << d->up.chunk_code);
}

static uint32_t page_first(const struct roost_dev *d)
{
    return d->up.page * d->up.shape.fan_out;
}

static uint32_t page_end(const struct roost_dev *d)
{
    uint32_t end = page_first(d) + d->up.shape.fan_out;
    return end < d->up.shape.chunk_nr ? end : d->up.shape.chunk_nr;
}

static uint8_t *page_buf(const struct roost_dev *d)
{
    return d->mem->page + chunk_root_list_len(&d->up.shape);
}

uint32_t update_bytes_done(const struct roost_dev *d)
{
    uint32_t n = d->up.chunk << d->up.chunk_code;
    return n < d->up.shape.payload_len ? n : d->up.shape.payload_len;
}

static bool hash_is(struct roost_dev *d, struct span s, const uint8_t want[SHA256_LEN])
{
    struct sha256 h;
    uint8_t got[SHA256_LEN];
    d->port->crypto->sha256_init(&h);
    d->port->crypto->sha256_update(&h, s);
    d->port->crypto->sha256_final(&h, got);
    return memcmp(got, want, sizeof got) == 0;
}

void update_stop(struct roost_dev *d, uint16_t reason)
{
    uint8_t digest[8];
    memcpy(digest, d->up.header.release_id, sizeof digest);
    if (d->ex.kind >= EX_REPORT)
        ex_abandon(d);
    d->up.step = UPDATE_OFF;
    if (!reason) {
        dev_online(d);
        return;
    }
    dev_refuse(d, reason, digest);
    if (reason == REASON_NETWORK) {
        dev_failed(d, 0);
    } else {
        d->checkin_due = d->refused != d->told_refused;
        dev_online(d);
    }
}

/* ---- beginning --------------------------------------------------------------------------------------------
 */

static void url_add(struct roost_dev *d, struct span url)
{
    bool is_plain = span_starts(url, SPAN("http://")) || span_starts(url, SPAN("ftp://"));
    bool is_tls = span_starts(url, SPAN("https://")) || span_starts(url, SPAN("ftps://"));
    while (url.n && url.p[url.n - 1] == '/')
        url.n--;
    if (url.n == 0 || url.n > DEV_BASE_MAX || d->up.url_nr == TICKET_URL_MAX ||
        !(is_tls || (is_plain && d->cfg->allow_plain_http)))
        return;
    memcpy(d->up.url[d->up.url_nr], url.p, url.n);
    d->up.url_len[d->up.url_nr++] = (uint8_t)url.n;
}

static void urls_take(struct roost_dev *d, const struct ticket *k)
{
    d->up.url_nr = d->up.url_at = 0;
    for (uint8_t i = 0; i < k->url_nr; i++)
        url_add(d, k->url[i]);
    if (d->up.url_nr == 0) { /* nothing usable said: the hub itself */
        uint8_t buf[DEV_BASE_MAX];
        struct wr w = { buf, sizeof buf, 0 };
        wr_put(&w, SPAN("https://"));
        wr_put(&w, span_of(d->conf.host, d->conf.host_len));
        wr_u8(&w, ':');
        wr_u32(&w, d->conf.https_port);
        wr_put(&w, SPAN("/artifacts"));
        url_add(d, wr_span(&w));
    }
}

static void header_fill(struct roost_dev *d, const struct envelope *env, const struct release *r)
{
    struct slot_header *h = &d->up.header;
    const struct release_component *a = release_app(d, r);
    memset(h, 0, sizeof *h);
    h->image_len = a->image_len;
    h->hw_class = r->hw_class;
    h->release_seq = r->release_seq;
    h->security_counter = r->security_counter;
    memcpy(h->image_sha256, a->image_sha256, SHA256_LEN);
    envelope_id(d->port->crypto, env, h->release_id);
    for (uint8_t i = 0; i < env->sig_nr; i++)
        if (env->sig[i].alg == SIG_ED25519 && env->sig[i].sig.n == ED25519_SIG_LEN) {
            memcpy(h->key_id, env->sig[i].key_id, KEY_ID_LEN);
            memcpy(h->sig, env->sig[i].sig.p, ED25519_SIG_LEN);
            break;
        }
}

/* The slot that does not run; of a blank device the one that may already hold this release. */
static uint8_t slot_choose(struct roost_dev *d)
{
    struct slot_header h;
    if (d->boot.slot != BOOT_NO_SLOT)
        return (uint8_t)!d->boot.slot;
    return slot_header_read(d->flash, 1, &h) == ERR_OK &&
           memcmp(h.release_id, d->up.header.release_id, OBJECT_ID_LEN) == 0;
}

static void update_staged(struct roost_dev *d)
{
    if (d->boot.slot != BOOT_NO_SLOT) {
        d->boot.other = d->up.header;
        d->boot.other_valid = true;
    }
    d->up.chunk = d->up.shape.chunk_nr;
    dev_event(d, ROOST_DEV_EV_STAGED, d->up.header.release_seq);
    if (d->up.stage_only) {
        update_stop(d, REASON_NONE);
        return;
    }
    d->up.step = UPDATE_REPORT;
    dev_phase(d, ROOST_DEV_UPDATE, d->now_ms);
}

static void update_begin(struct roost_dev *d, struct span release, const struct ticket *k)
{
    struct envelope env;
    struct release r;
    struct slot_header h;
    uint8_t sum[SHA256_LEN];
    size_t used;
    bool is_there;
    enum err e;
    if (envelope_decode(release, ENVELOPE_BODY_MAX_MCU, &env, &used) != ERR_OK ||
        release_decode(env.body, &r) != ERR_OK)
        return; /* it was both a moment ago */
    const struct release_encoding *enc = release_raw(&r, release_app(d, &r));
    header_fill(d, &env, &r);
    memcpy(d->up.tree_root, enc->tree_root, SHA256_LEN);
    d->up.chunk_code = r.chunk_code;
    if (chunk_shape_of(enc->payload_len, r.chunk_code, r.fan_out, &d->up.shape) != ERR_OK)
        return;
    urls_take(d, k);
    d->up.slot = slot_choose(d);
    d->up.page = d->up.chunk = d->up.fill = 0;
    d->up.erased = d->up.erased_end = 0;
    d->up.tries = d->up.hash_tries = d->up.write_tries = 0;
    is_there = slot_header_read(d->flash, d->up.slot, &h) == ERR_OK &&
               memcmp(h.release_id, d->up.header.release_id, OBJECT_ID_LEN) == 0 &&
               slot_image_hash(d->flash, d->port->crypto, d->up.slot, h.image_len, sum) == ERR_OK &&
               memcmp(sum, d->up.header.image_sha256, sizeof sum) == 0;
    d->boot.other_valid = d->boot.slot != BOOT_NO_SLOT && is_there;
    /* The header may have been cut short and only seem whole: it is written once more below. */
    e = is_there ? ERR_OK : slot_invalidate(d->flash, d->up.slot);
    if (!e)
        e = slot_manifest_write(d->flash, d->up.slot, release);
    if (!e && is_there)
        e = slot_header_write(d->flash, d->up.slot, &d->up.header);
    d->up.step = UPDATE_ROOTS;
    dev_phase(d, ROOST_DEV_UPDATE, d->now_ms);
    if (e)
        update_stop(d, REASON_FLASH_WRITE);
    else if (is_there)
        update_staged(d);
}

/* The release that already lies in the other slot: staged before, or the one that ran before. */
static bool other_take(struct roost_dev *d, const struct ticket *k)
{
    const struct slot_header *h = &d->boot.other;
    if (!d->boot.other_valid || memcmp(h->release_id, k->release_id, OBJECT_ID_LEN) != 0) {
        dev_refuse(d, REASON_FLASH_VERIFY, k->release_id);
        return false;
    }
    if (h->security_counter < d->boot.security_counter) {
        dev_refuse(d, REASON_COUNTER, k->release_id);
        return false;
    }
    if (dev_quarantine_failures(d, h->release_id) >= DEV_QUARANTINE_AFTER) {
        dev_refuse(d, REASON_QUARANTINE, k->release_id);
        return false;
    }
    d->up.header = *h;
    d->up.slot = (uint8_t)!d->boot.slot;
    d->up.shape.payload_len = h->image_len;
    d->up.shape.chunk_nr = 0;
    d->up.chunk_code = CHUNK_CODE_DEFAULT;
    return true;
}

void update_obey(struct roost_dev *d, struct span release, const struct ticket *k)
{
    uint32_t ttl = k->ttl_s < SECONDS_MAX ? k->ttl_s : SECONDS_MAX;
    uint32_t start = k->window_start_s < SECONDS_MAX ? k->window_start_s : SECONDS_MAX;
    uint32_t len = k->window_len_s < SECONDS_MAX ? k->window_len_s : SECONDS_MAX;
    bool runs =
        d->boot.slot != BOOT_NO_SLOT && memcmp(k->release_id, d->boot.header.release_id, OBJECT_ID_LEN) == 0;
    bool installs = k->action == TICKET_INSTALL || k->action == TICKET_STAGE_ONLY;
    if (d->trial && k->action != TICKET_CONFIRM_NOW)
        return; /* one thing at a time: the only good image lies where the next one would go */
    d->conf.ticket_seq = k->ticket_seq;
    memcpy(d->conf.campaign, k->campaign, sizeof d->conf.campaign);
    d->conf.attempt = k->attempt;
    if (!runs && installs)
        d->conf.last_reason = REASON_NONE; /* a new attempt is its own story */
    dev_save(d);
    d->up.window_ms = d->now_ms + start * 1000u;
    d->up.until_ms = d->now_ms + ttl * 1000u;
    if (len && d->up.window_ms + len * 1000u < d->up.until_ms)
        d->up.until_ms = d->up.window_ms + len * 1000u;
    d->up.stage_only = k->action == TICKET_STAGE_ONLY;
    switch ((enum ticket_action)k->action) {
    case TICKET_INSTALL:
    case TICKET_STAGE_ONLY:
        if (!runs)
            update_begin(d, release, k);
        break;
    case TICKET_ACTIVATE_STAGED:
    case TICKET_BOOT_PREVIOUS:
        if (!runs && other_take(d, k)) {
            d->up.step = UPDATE_REPORT;
            dev_phase(d, ROOST_DEV_UPDATE, d->now_ms);
        }
        break;
    case TICKET_CONFIRM_NOW:
        if (d->trial && runs)
            d->probation_s = d->confirm_checks = 0;
        break;
    default: /* CANCEL, NO_OP: its number is what matters, older tickets are void now */
        break;
    }
}

/* ---- flash ------------------------------------------------------------------------------------------------
 */

/* Pages of nothing but ones need no programming. */
static enum err program_image(struct flash *f, uint32_t addr, const uint8_t *p, uint32_t n)
{
    uint32_t page = f->geo.program_len;
    while (n) {
        uint32_t part = n < page ? n : page;
        bool is_blank = true;
        for (uint32_t i = 0; i < part && is_blank; i++)
            is_blank = p[i] == 0xff;
        enum err e = is_blank ? ERR_OK : flash_program(f, addr, p, part);
        if (e)
            return e;
        addr += part;
        p += part;
        n -= part;
    }
    return ERR_OK;
}

/* mem->chunk holds chunk `up.chunk`, verified.
 *   ERR_AGAIN  its sector began with earlier chunks: they are to be fetched again, up.chunk says where */
static enum err chunk_store(struct roost_dev *d)
{
    struct dev_update *u = &d->up;
    uint32_t sector = d->flash->geo.sector_len, addr = chunk_addr(d, u->chunk);
    uint32_t n = (chunk_len_of(&u->shape, u->chunk) + 3) & ~3u, begin = addr & ~(sector - 1);
    enum err e;
    memset(d->mem->chunk + chunk_len_of(&u->shape, u->chunk), 0xff, n - chunk_len_of(&u->shape, u->chunk));
    if (addr < u->erased || addr + n > u->erased_end) {
        e = flash_erase(d->flash, begin, addr + n - begin);
        if (e)
            return e;
        u->erased = addr;
        u->erased_end = (addr + n + sector - 1) & ~(sector - 1);
        if (begin < addr) {
            u->erased = begin;
            u->chunk -= (addr - begin) >> u->chunk_code;
            return ERR_AGAIN;
        }
    }
    u->erased = addr + n;
    e = program_image(d->flash, addr, d->mem->chunk, n);
    return e ? e : flash_compare(d->flash, addr, d->mem->chunk, n);
}

/* Is the next chunk in flash already? Then it is programmed once more over itself: if the power went while
 * it was written, some of its bits may only just hold. */
static bool chunk_is_there(struct roost_dev *d)
{
    struct dev_update *u = &d->up;
    uint32_t len = chunk_len_of(&u->shape, u->chunk), n = (len + 3) & ~3u, addr = chunk_addr(d, u->chunk);
    return flash_read(d->flash, addr, d->mem->chunk, n) == ERR_OK &&
           hash_is(d, span_of(d->mem->chunk, len), page_buf(d) + (u->chunk - page_first(d)) * SHA256_LEN) &&
           program_image(d->flash, addr, d->mem->chunk, n) == ERR_OK &&
           flash_compare(d->flash, addr, d->mem->chunk, n) == ERR_OK;
}

/* Everything is in flash: what counts is what flash gives back. */
static void update_finish(struct roost_dev *d)
{
    uint8_t sum[SHA256_LEN];
    enum err e = slot_image_hash(d->flash, d->port->crypto, d->up.slot, d->up.header.image_len, sum);
    if (!e && memcmp(sum, d->up.header.image_sha256, sizeof sum) != 0)
        e = ERR_VERIFY;
    if (e) {
        d->up.page = d->up.chunk = d->up.fill = 0;
        d->up.step = UPDATE_PAGE; /* looks at every chunk again, and mends */
        dev_phase(d, ROOST_DEV_UPDATE, d->now_ms);
        if (++d->up.write_tries >= 3)
            update_stop(d, REASON_FLASH_VERIFY);
        return;
    }
    e = slot_header_write(d->flash, d->up.slot, &d->up.header);
    if (e == ERR_VERIFY) { /* once more on a freshly erased sector */
        e = slot_invalidate(d->flash, d->up.slot);
        if (!e)
            e = slot_header_write(d->flash, d->up.slot, &d->up.header);
    }
    if (e)
        update_stop(d, REASON_FLASH_WRITE);
    else
        update_staged(d);
}

static void activate(struct roost_dev *d)
{
    if (d->now_ms > d->up.until_ms) {
        update_stop(d, REASON_WINDOW); /* the ticket lapsed; everything stays staged for the next one */
        return;
    }
    if (d->now_ms < d->up.window_ms) {
        d->next_ms = d->up.window_ms;
        return;
    }
    if (boot_set_pending(d->flash, d->up.slot, d->up.header.release_id) != ERR_OK) {
        update_stop(d, REASON_FLASH_WRITE);
        return;
    }
    d->up.step = UPDATE_OFF;
    link_stop(d, false);
    d->reboot = true;
    dev_phase(d, ROOST_DEV_REBOOTING, UINT64_MAX);
}

/* ---- fetching ---------------------------------------------------------------------------------------------
 */

static void fetch(struct roost_dev *d, enum dev_exchange_kind kind, uint32_t offset, uint32_t len)
{
    struct dev_exchange *x = &d->ex;
    struct span base = span_of(d->up.url[d->up.url_at], d->up.url_len[d->up.url_at]);
    struct span host = span_of(d->conf.host, d->conf.host_len),
                rest = span_skip(base, base.n < 8 ? base.n : 8);
    ex_begin(d, kind, ROOST_DEV_GET);
    wr_put(&x->w, base);
    wr_u8(&x->w, '/');
    hex_encode(&x->w, span_of(d->up.tree_root, SHA256_LEN));
    if (kind != EX_CHUNKS)
        wr_put(&x->w, SPAN(".tree"));
    x->x.url = ex_since(d, 0);
    x->x.ranged = true;
    x->x.offset = offset;
    x->x.len = len;
    /* The pin is the hub's; a mirror is trusted for nothing but carrying bytes. */
    if (span_starts(base, SPAN("https://")) && span_starts(rest, host) &&
        (rest.n == host.n || rest.p[host.n] == ':' || rest.p[host.n] == '/'))
        x->x.ca_pin = dev_pin_of(d, host, x->pin);
    d->up.fill = 0;
    (void)ex_ready(d); /* a base URL always fits */
}

static void fetch_failed(struct roost_dev *d, bool is_hash)
{
    struct dev_update *u = &d->up;
    uint32_t range = 500;
    u->tries++;
    u->hash_tries = (uint8_t)(u->hash_tries + is_hash);
    if (++u->url_at >= u->url_nr)
        u->url_at = 0;
    if (u->hash_tries >= HASH_TRIES_MAX) {
        update_stop(d, REASON_HASH);
        return;
    }
    if (u->tries >= TRIES_MAX) {
        update_stop(d, REASON_NETWORK);
        return;
    }
    for (uint8_t i = 0; i < u->tries; i++)
        range *= 2;
    d->next_ms = d->now_ms + (d->ex.retry_after_s < 600 ? d->ex.retry_after_s : 600) * 1000u +
                 dev_random_below(d, range) + 1;
}

/* Skips what is there, then asks for the rest of the page in one piece. */
static void chunks_step(struct roost_dev *d)
{
    struct dev_update *u = &d->up;
    while (u->chunk < page_end(d) && chunk_is_there(d)) {
        u->chunk++;
        dev_event(d, ROOST_DEV_EV_PROGRESS, update_bytes_done(d));
    }
    if (u->chunk < page_end(d)) {
        uint32_t from = u->chunk << u->chunk_code, to = page_end(d) << u->chunk_code;
        if (to > u->shape.payload_len)
            to = u->shape.payload_len;
        fetch(d, EX_CHUNKS, from, to - from);
        return;
    }
    u->step = UPDATE_PAGE;
    u->page++;
    d->next_ms = d->now_ms;
    if (u->page == u->shape.page_nr)
        update_finish(d);
}

void update_step(struct roost_dev *d)
{
    struct dev_update *u = &d->up;
    switch ((enum dev_update_step)u->step) {
    case UPDATE_ROOTS:
        fetch(d, EX_ROOTS, 0, chunk_root_list_len(&u->shape));
        break;
    case UPDATE_PAGE:
        fetch(d, EX_PAGE, chunk_page_offset(&u->shape, u->page), chunk_page_len(&u->shape, u->page));
        break;
    case UPDATE_CHUNKS:
        chunks_step(d);
        break;
    case UPDATE_REPORT: /* the hub sees that we are about to start it; it need not answer */
        u->step = UPDATE_WAIT;
        checkin_request(d, true);
        break;
    case UPDATE_WAIT:
        activate(d);
        break;
    case UPDATE_OFF:
        dev_online(d);
        break;
    }
}

void update_status(struct roost_dev *d)
{
    /* A server that knows no ranges sends all of it: we wait for our part. */
    if (d->ex.status == 206)
        d->ex.got = d->ex.x.offset;
    else if (d->ex.status == 200)
        d->ex.got = 0;
    else
        d->ex.spoilt = true;
}

/* A whole chunk is in mem->chunk. */
static void chunk_arrived(struct roost_dev *d)
{
    struct dev_update *u = &d->up;
    uint32_t len = chunk_len_of(&u->shape, u->chunk);
    enum err e =
        hash_is(d, span_of(d->mem->chunk, len), page_buf(d) + (u->chunk - page_first(d)) * SHA256_LEN)
            ? chunk_store(d)
            : ERR_DENIED;
    u->fill = 0;
    switch (e) {
    case ERR_OK:
        u->chunk++;
        u->tries = 0;
        dev_event(d, ROOST_DEV_EV_PROGRESS, update_bytes_done(d));
        return;
    case ERR_DENIED: /* not what the manifest says: it never reached flash */
        d->ex.spoilt = true;
        u->is_wrong = true;
        return;
    case ERR_AGAIN:
        d->ex.spoilt = true;
        while (u->chunk < page_first(d)) { /* a sector larger than a page */
            u->page--;
            u->step = UPDATE_PAGE;
        }
        return;
    default: /* flash did not keep it: the sector is erased anew the next time */
        d->ex.spoilt = true;
        u->erased = u->erased_end = 0;
        if (++u->write_tries >= 3)
            update_stop(d, REASON_FLASH_WRITE);
        return;
    }
}

void update_body(struct roost_dev *d, struct span piece)
{
    struct dev_exchange *x = &d->ex;
    uint32_t end = x->x.offset + x->x.len;
    if (x->got < x->x.offset) {
        size_t skip = x->x.offset - x->got < piece.n ? x->x.offset - x->got : piece.n;
        piece = span_skip(piece, skip);
        x->got += (uint32_t)skip;
    }
    if (piece.n > end - x->got)
        piece.n = end - x->got; /* more than was asked for is not looked at */
    if (x->kind != EX_CHUNKS) {
        uint8_t *to = x->kind == EX_ROOTS ? d->mem->page : page_buf(d);
        if (piece.n)
            memcpy(to + (x->got - x->x.offset), piece.p, piece.n);
        x->got += (uint32_t)piece.n;
        return;
    }
    while (piece.n && x->kind == EX_CHUNKS && !x->spoilt) {
        uint32_t want = chunk_len_of(&d->up.shape, d->up.chunk) - d->up.fill;
        size_t part = piece.n < want ? piece.n : want;
        memcpy(d->mem->chunk + d->up.fill, piece.p, part);
        d->up.fill += (uint32_t)part;
        x->got += (uint32_t)part;
        piece = span_skip(piece, part);
        if (part == want)
            chunk_arrived(d);
    }
}

void update_done(struct roost_dev *d, uint8_t kind, enum roost_dev_result result)
{
    struct dev_update *u = &d->up;
    const struct dev_exchange *x = &d->ex;
    bool is_whole = result == ROOST_DEV_DONE && !x->spoilt && x->got == x->x.offset + x->x.len;
    bool is_wrong = u->is_wrong;
    uint32_t len = x->x.len;
    u->is_wrong = false;
    u->fill = 0;
    if (d->phase != ROOST_DEV_UPDATE)
        return;
    d->next_ms = d->now_ms;
    switch ((enum dev_update_step)u->step) {
    case UPDATE_ROOTS:
        if (is_whole && hash_is(d, span_of(d->mem->page, len), u->tree_root))
            u->step = UPDATE_PAGE;
        else
            fetch_failed(d, is_whole);
        return;
    case UPDATE_PAGE:
        if (kind == EX_CHUNKS)
            return; /* it sent us back to an earlier page */
        if (is_whole && hash_is(d, span_of(page_buf(d), len), d->mem->page + u->page * SHA256_LEN)) {
            u->step = UPDATE_CHUNKS;
            u->chunk = page_first(d);
        } else {
            fetch_failed(d, is_whole);
        }
        return;
    case UPDATE_CHUNKS:
        if (is_wrong || (!is_whole && !x->spoilt) || (x->spoilt && x->status != 206 && x->status != 200))
            fetch_failed(d, is_wrong);
        return;
    default: /* the report: whatever became of it, we go on */
        return;
    }
}
