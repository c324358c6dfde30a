/* hub/domain/method/method.c - the caller's side of a direct method, and the bus messages between both sides.
 *
 * First it just asks. Only when nobody takes the call is the store asked whether there is such an identity,
 * and then, within connect_ms, the bus tells when it has come. What was lent to the bus or the store has to
 * come home before done(): end() sees to that. */
#include "hub/domain/method/method.h"

#include "hub/domain/metrics.h"
#include "hub/store/identity_name.h"

#include <assert.h>
#include <stdlib.h>

#define REQUEST_HEAD 5u /* response_ms, length of the name */

/* ---- messages ---------------------------------------------------------------------------------------- */

static enum err request_make(struct method_call *m)
{
    struct span payload = m->payload;
    if (!payload.n || span_eq(payload, SPAN("null")))
        payload = m->hub->settings.method_null_empty ? SPAN_NONE : SPAN("null");
    size_t n = REQUEST_HEAD + m->name.n + payload.n;
    m->request = malloc(n);
    if (!m->request)
        return ERR_NOMEM;
    struct wr w = { m->request, n, 0 };
    wr_le32(&w, m->response_ms);
    wr_u8(&w, (uint8_t)m->name.n);
    wr_put(&w, m->name);
    wr_put(&w, payload);
    m->request_len = w.len;
    return ERR_OK;
}

static enum err answer_parse(struct span message, struct method_call *m)
{
    struct rd r = rd_of(message);
    uint32_t status = rd_le32(&r);
    if (r.bad || r.n > METHOD_PAYLOAD_MAX)
        return ERR_PROTO;
    m->status = (int32_t)status;
    m->body = span_of(r.p, r.n);
    return ERR_OK;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static void end_when_home(struct method_call *m)
{
    if (m->over && !m->calling && !m->waiting && !m->reading)
        m->done(m);
}

static void end(struct method_call *m, enum method_why why, enum err err)
{
    struct hub *h = m->hub;
    assert(!m->over);
    m->over = true;
    m->why = why;
    m->err = err;
    m->arm(m, METHOD_TIMER_CONNECT, 0);
    m->arm(m, METHOD_TIMER_RESPONSE, 0);
    if (why == METHOD_ANSWERED)
        METRIC_ADD(h, methods_answered_total, 1);
    else if (why == METHOD_OFFLINE)
        METRIC_ADD(h, methods_offline_total, 1);
    else if (why == METHOD_TIMEOUT)
        METRIC_ADD(h, methods_timeout_total, 1);
    else
        METRIC_ADD(h, methods_failed_total, 1);
    if (m->calling)
        bus_call_end(h->bus, &m->call, ERR_STOPPED);
    if (m->waiting)
        bus_wait_end(h->bus, &m->wait, ERR_STOPPED);
    end_when_home(m);
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static struct span identity_of(const struct method_call *m)
{
    return span_of(m->identity, m->identity_len);
}

static void ask(struct method_call *m)
{
    m->again = false;
    m->calling = true;
    m->arm(m, METHOD_TIMER_RESPONSE, m->response_ms);
    bus_call_start(m->hub->bus, &m->call, identity_of(m), BUS_METHOD, span_of(m->request, m->request_len));
}

static void wait_for_it(struct method_call *m)
{
    m->waiting = true;
    bus_wait_start(m->hub->bus, &m->wait, identity_of(m));
}

static void on_announced(struct op *op)
{
    struct method_call *m = CONTAINER_OF(op, struct method_call, wait.op);
    m->waiting = false;
    if (m->over) {
        end_when_home(m);
    } else if (op->err) {
        end(m, METHOD_FAILED, op->err);
    } else {
        wait_for_it(m); /* first, so that a session that comes while this asks is not missed */
        if (m->calling)
            m->again = true;
        else
            ask(m);
    }
}

static enum err look(struct store_tx *tx, struct store_op *self)
{
    struct method_call *m = CONTAINER_OF(self, struct method_call, store);
    struct device_row d;
    struct module_row mod;
    return m->module.n ? tx_module_get(tx, m->device, m->module, &mod) : tx_device_get(tx, m->device, &d);
}

static void looked(struct op *op)
{
    struct method_call *m = CONTAINER_OF(op, struct method_call, store.op);
    m->reading = false;
    if (m->over) {
        end_when_home(m);
    } else if (op->err == ERR_NOTFOUND) {
        end(m, METHOD_UNKNOWN, ERR_OK);
    } else if (op->err) {
        end(m, METHOD_FAILED, op->err);
    } else if (!m->connect_ms) {
        end(m, METHOD_OFFLINE, ERR_OK);
    } else {
        m->known = true;
        m->arm(m, METHOD_TIMER_CONNECT, m->connect_ms);
        wait_for_it(m);
        ask(m); /* it may have come meanwhile */
    }
}

/* Nobody takes the call. */
static void on_nobody(struct method_call *m)
{
    m->arm(m, METHOD_TIMER_RESPONSE, 0);
    if (!m->known) {
        m->reading = true;
        store_read(m->hub->store, &m->store);
    } else if (m->connect_over) {
        end(m, METHOD_OFFLINE, ERR_OK);
    } else if (m->again) {
        ask(m);
    }
}

static void on_answer(struct op *op)
{
    struct method_call *m = CONTAINER_OF(op, struct method_call, call.op);
    m->calling = false;
    if (m->over) {
        end_when_home(m);
        return;
    }
    switch (op->err) {
    case ERR_OK:
        if (answer_parse(m->call.answer, m))
            end(m, METHOD_TOO_LARGE, ERR_OK);
        else
            end(m, METHOD_ANSWERED, ERR_OK);
        break;
    case ERR_NOTFOUND:
        on_nobody(m);
        break;
    case ERR_AGAIN: /* of method_on_timer */
        end(m, METHOD_TIMEOUT, ERR_OK);
        break;
    case ERR_CLOSED:
        end(m, METHOD_CLOSED, ERR_OK);
        break;
    case ERR_LIMIT:
        end(m, METHOD_BUSY, ERR_OK);
        break;
    case ERR_PROTO:
        end(m, METHOD_TOO_LARGE, ERR_OK);
        break;
    default:
        end(m, METHOD_FAILED, op->err);
        break;
    }
}

void method_on_timer(struct method_call *m, enum method_timer which)
{
    if (m->over)
        return;
    if (which == METHOD_TIMER_RESPONSE) {
        if (m->calling)
            bus_call_end(m->hub->bus, &m->call, ERR_AGAIN);
        return;
    }
    m->connect_over = true;
    if (!m->calling) /* else: what it is told decides */
        end(m, METHOD_OFFLINE, ERR_OK);
}

static bool has_slash(struct span s)
{
    return s.n && memchr(s.p, '/', s.n);
}

void method_start(struct method_call *m)
{
    struct wr w = { m->identity, sizeof m->identity, 0 };
    identity_name_put(&w, m->device, m->module);
    METRIC_ADD(m->hub, methods_called_total, 1);
    m->store.run = look;
    m->store.op.home = m->call.op.home = m->wait.op.home = m->home;
    m->store.op.done = looked;
    m->call.op.done = on_answer;
    m->wait.op.done = on_announced;
    /* Longer than any id, or "d/m" as the id of a device: the store will say that there is none. */
    if (!wr_ok(&w) || has_slash(m->device) || has_slash(m->module)) {
        m->reading = true;
        store_read(m->hub->store, &m->store);
        return;
    }
    m->identity_len = (uint16_t)w.len;
    if (request_make(m)) {
        m->calling = true;
        op_complete(&m->call.op, ERR_NOMEM);
        return;
    }
    ask(m);
}

void method_fini(struct method_call *m)
{
    bus_call_fini(&m->call);
    free(m->request);
    m->request = NULL;
    m->body = SPAN_NONE;
}
