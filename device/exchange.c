/* device/exchange.c - one request at a time: composed here, carried by the driver, its answer handed to the
 * part that asked. C99. */
#include "device/dev_internal.h"

#include "core/sas/sas.h"

void ex_begin(struct roost_dev *d, enum dev_exchange_kind kind, enum roost_dev_method method)
{
    struct dev_exchange *x = &d->ex;
    uint32_t id = x->x.id + 1;
    memset(&x->x, 0, sizeof x->x);
    x->x.id = id ? id : 1;
    x->x.method = (uint8_t)method;
    x->kind = (uint8_t)kind;
    x->answered = x->spoilt = false;
    x->status = 0;
    x->retry_after_s = 0;
    x->got = 0;
    x->w.p = x->request;
    x->w.cap = sizeof x->request;
    x->w.len = 0;
}

struct span ex_since(const struct roost_dev *d, size_t from)
{
    const struct wr *w = &d->ex.w;
    return w->len <= w->cap && from <= w->len ? span_of(w->p + from, w->len - from) : SPAN_NONE;
}

bool ex_ready(struct roost_dev *d)
{
    if (!wr_ok(&d->ex.w)) {
        d->ex.kind = EX_NONE;
        d->ex.state = EX_IDLE;
        return false;
    }
    d->ex.state = EX_READY;
    /* With memory for one connection only, the standing one makes room. */
    if (!d->cfg->keep_link)
        link_stop(d, false);
    return true;
}

/* Its later calls do nothing: they carry an old id. */
void ex_abandon(struct roost_dev *d)
{
    d->ex.kind = EX_NONE;
    d->ex.state = EX_IDLE;
}

void dev_token(struct roost_dev *d, struct wr *w, uint32_t ttl_s)
{
    uint8_t resource[CONFIG_HOST_MAX + CONFIG_ID_MAX + 16];
    struct wr r = { resource, sizeof resource, 0 };
    sas_resource_encode(&r, span_of(d->conf.host, d->conf.host_len), roost_dev_id(d), SPAN_NONE);
    sas_token_encode(w, d->port->crypto, wr_span(&r), span_of(d->conf.key, d->conf.key_len),
                     (uint64_t)dev_wall(d) + ttl_s, SPAN_NONE);
}

bool roost_dev_exchange(struct roost_dev *d, struct roost_dev_exchange *out)
{
    struct dev_exchange *x = &d->ex;
    if (x->state != EX_READY || d->reboot)
        return false;
    if (!d->cfg->keep_link && d->link.state != LINK_OFF)
        return false;
    x->state = EX_OPEN;
    x->deadline_ms = d->now_ms + DEV_EXCHANGE_MS + (x->x.len >> 10) * 1000u;
    *out = x->x;
    return true;
}

static bool is_current(const struct roost_dev *d, uint32_t id)
{
    return d->ex.state == EX_OPEN && d->ex.x.id == id;
}

void roost_dev_exchange_status(struct roost_dev *d, uint32_t id, unsigned status, uint32_t retry_after_s)
{
    if (!is_current(d, id))
        return;
    d->ex.answered = true;
    d->ex.status = status;
    d->ex.retry_after_s = retry_after_s;
    if (d->ex.kind >= EX_ROOTS)
        update_status(d);
}

void roost_dev_exchange_body(struct roost_dev *d, uint32_t id, struct span piece)
{
    if (!is_current(d, id) || !d->ex.answered || d->ex.spoilt)
        return;
    switch (d->ex.kind) {
    case EX_BOOTSTRAP:
        if (d->ex.status == 200 || d->ex.status == 202)
            answer_feed(&d->in.answer, piece);
        break;
    case EX_CHECKIN:
        if (d->ex.status == 200)
            checkin_body(d, piece);
        break;
    case EX_ROOTS:
    case EX_PAGE:
    case EX_CHUNKS:
        update_body(d, piece);
        break;
    default:
        break;
    }
}

void roost_dev_exchange_end(struct roost_dev *d, uint32_t id, enum roost_dev_result result, uint64_t now_ms)
{
    uint8_t kind = d->ex.kind;
    if (!is_current(d, id))
        return;
    if (now_ms > d->now_ms)
        d->now_ms = now_ms; /* the seconds follow with the next tick */
    d->ex.state = EX_IDLE;
    d->ex.kind = EX_NONE;
    if (result == ROOST_DEV_DONE && !d->ex.answered)
        result = ROOST_DEV_UNREACHABLE;
    if (result == ROOST_DEV_DONE || result == ROOST_DEV_REFUSED || d->ex.answered)
        d->trial_net = true;
    switch (kind) {
    case EX_BOOTSTRAP:
        bootstrap_done(d, result);
        break;
    case EX_CHECKIN:
        checkin_done(d, result);
        break;
    default:
        update_done(d, kind, result);
        break;
    }
}
