/* device/boot.c - the loader's decision, and the three records the running image writes. C99. */
#include "device/boot.h"

#include "core/trust/report.h"
#include "device/config.h"
#include "device/journal.h"
#include "device/slot.h"

/* One boot in sixteen checks everything although nothing looks wrong: slow rot is found while the other
 * slot is still good. Drawn by lot, so that it needs no counter in flash. */
#define FULL_CHECK_MASK 15u

struct loader {
    struct flash *f;
    const struct crypto_ops *c;
    enum reset_cause cause;
    struct boot_scratch *x;
    struct journal j;
    struct boot_result *out;
};

/* A slot that fails is asked once more: a bad read is no reason to give an image up. */
static enum err verify_twice(struct loader *l, uint8_t slot, bool trust_needed, struct slot_header *h)
{
    enum err e = slot_verify(l->f, l->c, slot, trust_needed, l->x, h);
    return e ? slot_verify(l->f, l->c, slot, trust_needed, l->x, h) : ERR_OK;
}

static void snapshot(struct loader *l, const struct journal_state *s)
{
    struct journal_state next = *s;
    next.kind = JOURNAL_SNAPSHOT;
    next.cause = (uint8_t)l->cause;
    if (journal_append(l->f, &l->j, &next) != ERR_OK)
        l->j.state = next; /* the decision stands without its record; the next boot makes it again */
}

/* No journal: whoever verifies is the confirmed one; the higher security counter wins, then slot A. */
static void probe(struct loader *l)
{
    struct journal_state s = l->j.state;
    struct slot_header h;
    for (uint8_t slot = 0; slot < 2; slot++) {
        if (verify_twice(l, slot, true, &h) != ERR_OK)
            continue;
        if (s.confirmed == BOOT_NO_SLOT || h.security_counter > s.security_counter) {
            s.confirmed = slot;
            s.security_counter = h.security_counter;
            memcpy(s.digest, h.release_id, sizeof s.digest);
        }
    }
    snapshot(l, &s);
}

static void reject(struct loader *l, uint8_t reason)
{
    struct journal_state s = l->j.state;
    s.kind = JOURNAL_REJECT;
    s.pending = BOOT_NO_SLOT;
    s.attempts = 0;
    s.cause = (uint8_t)l->cause;
    s.reason = reason;
    s.reject_nr++;
    if (journal_append(l->f, &l->j, &s) != ERR_OK)
        l->j.state = s;
}

/* The pending image: tried at most three times, and each try is on record before it begins. */
static bool try_pending(struct loader *l)
{
    struct journal_state s = l->j.state;
    enum err e = verify_twice(l, s.pending, true, &l->out->header);
    bool is_watchdog = l->cause == RESET_WATCHDOG;
    if (e == ERR_IO)
        return false; /* unreadable is not bad: the confirmed image runs, the trial waits */
    if (e || memcmp(l->out->header.release_id, s.digest, sizeof s.digest) != 0) {
        reject(l, e == ERR_DENIED ? REASON_SIGNATURE_RELEASE : REASON_FLASH_VERIFY);
        return false;
    }
    if (is_watchdog && s.attempts > 0 && (l->x->release.confirm_checks & CONFIRM_WATCHDOG)) {
        reject(l, REASON_WATCHDOG);
        return false;
    }
    if (s.attempts >= BOOT_ATTEMPTS_MAX) {
        reject(l, is_watchdog ? REASON_WATCHDOG : REASON_BOOT);
        return false;
    }
    s.kind = JOURNAL_ATTEMPT;
    s.attempts++;
    s.cause = (uint8_t)l->cause;
    if (journal_append(l->f, &l->j, &s) != ERR_OK)
        return false; /* an attempt that cannot be counted is not made */
    l->out->slot = s.pending;
    l->out->trial = true;
    l->out->attempt = s.attempts;
    return true;
}

static bool is_rejected(const struct loader *l, const struct slot_header *h)
{
    const struct journal_state *s = &l->j.state;
    return s->reason && memcmp(s->digest, h->release_id, sizeof s->digest) == 0;
}

/* The confirmed image, else the other one if it was good once and is not older than the counter allows. */
static void run_confirmed(struct loader *l, bool is_fallback)
{
    struct journal_state s = l->j.state;
    struct boot_result *out = l->out;
    uint8_t other;
    uint8_t dice = 0;
    bool full;
    enum err e;
    if (s.confirmed == BOOT_NO_SLOT)
        return;
    l->c->random(&dice, 1);
    full = is_fallback || l->cause == RESET_WATCHDOG || l->cause == RESET_BROWNOUT ||
           (dice & FULL_CHECK_MASK) == 0;
    e = full ? verify_twice(l, s.confirmed, false, &out->header)
             : slot_header_read(l->f, s.confirmed, &out->header);
    if (e && !full)
        e = slot_header_read(l->f, s.confirmed, &out->header);
    if (!e) {
        out->slot = s.confirmed;
        return;
    }
    other = (uint8_t)!s.confirmed;
    if (verify_twice(l, other, true, &out->header) != ERR_OK || is_rejected(l, &out->header) ||
        out->header.security_counter < s.security_counter)
        other = BOOT_NO_SLOT;
    out->slot = other;
    s.confirmed = other;
    s.pending = BOOT_NO_SLOT;
    s.attempts = 0;
    snapshot(l, &s);
}

enum err boot_run_with(struct flash *f, const struct crypto_ops *c, enum reset_cause cause,
                       struct boot_scratch *x, struct boot_result *out)
{
    struct loader l = { f, c, cause, x, { .found = false }, out };
    enum err e = journal_open(f, &l.j);
    if (e)
        return e;
    memset(out, 0, sizeof *out);
    out->slot = BOOT_NO_SLOT;
    if (!l.j.found)
        probe(&l);
    else if (l.j.unsettled)
        snapshot(&l, &l.j.state);
    if (l.j.state.pending == BOOT_NO_SLOT || !try_pending(&l))
        run_confirmed(&l, l.j.state.kind == JOURNAL_REJECT);
    if (out->slot == BOOT_NO_SLOT)
        memset(&out->header, 0, sizeof out->header);
    else
        out->other_valid = slot_header_read(f, (uint8_t)!out->slot, &out->other) == ERR_OK;
    out->security_counter = (uint16_t)l.j.state.security_counter;
    out->reject_nr = l.j.state.reject_nr;
    out->reverted = !out->trial && l.j.state.reason != REASON_NONE;
    if (out->reverted) {
        out->reject_reason = l.j.state.reason;
        memcpy(out->rejected, l.j.state.digest, sizeof out->rejected);
    }
    return ERR_OK;
}

enum err boot_run(struct flash *f, const struct crypto_ops *c, enum reset_cause cause,
                  struct boot_result *out)
{
    struct boot_scratch x;
    memset(&x, 0, sizeof x);
    return boot_run_with(f, c, cause, &x, out);
}

enum err boot_set_pending(struct flash *f, uint8_t slot, const uint8_t digest8[8])
{
    struct journal j;
    enum err e = journal_open(f, &j);
    struct journal_state s = j.state;
    if (e)
        return e;
    if (slot > 1 || slot == s.confirmed)
        return ERR_STALE;
    if (s.pending == slot && s.attempts == 0 && memcmp(s.digest, digest8, sizeof s.digest) == 0)
        return ERR_OK;
    s.kind = JOURNAL_PENDING;
    s.pending = slot;
    s.attempts = 0;
    s.reason = REASON_NONE;
    memcpy(s.digest, digest8, sizeof s.digest);
    return journal_append(f, &j, &s);
}

enum err boot_confirm(struct flash *f, uint8_t slot, uint16_t security_counter)
{
    struct journal j;
    enum err e = journal_open(f, &j);
    struct journal_state s = j.state;
    if (e)
        return e;
    if (s.confirmed == slot && s.pending == BOOT_NO_SLOT)
        return ERR_OK;
    if (slot > 1 || s.pending != slot)
        return ERR_STALE;
    s.kind = JOURNAL_CONFIRM;
    s.confirmed = slot;
    s.pending = BOOT_NO_SLOT;
    s.attempts = 0;
    s.reason = REASON_NONE;
    if (security_counter > s.security_counter)
        s.security_counter = security_counter;
    return journal_append(f, &j, &s);
}

enum err boot_reject(struct flash *f, uint8_t slot, uint8_t reason)
{
    struct journal j;
    enum err e = journal_open(f, &j);
    struct journal_state s = j.state;
    if (e)
        return e;
    if (s.pending == BOOT_NO_SLOT)
        return ERR_OK;
    if (s.pending != slot)
        return ERR_STALE;
    s.kind = JOURNAL_REJECT;
    s.pending = BOOT_NO_SLOT;
    s.attempts = 0;
    s.reason = reason ? reason : (uint8_t)REASON_BOOT;
    s.reject_nr++;
    return journal_append(f, &j, &s);
}
