/* hub/front/roost_http/broadcasts.c - GET /roost/v1/broadcasts[/{number or message id}]: what became of
 * messages to the whole fleet, in numbers. */
#include "base/text.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

#define PAGE 100u

static json_t *broadcast_json(const struct broadcast_row *b)
{
    static const char *const names[BROADCAST_ENDS] = { [BROADCAST_DELIVERED] = "delivered",
                                                       [BROADCAST_EXPIRED] = "expired",
                                                       [BROADCAST_DEAD] = "deliveryCountExceeded",
                                                       [BROADCAST_PURGED] = "purged",
                                                       [BROADCAST_REJECTED] = "rejected" };
    json_t *o = json_object();
    if (!o)
        return NULL;
    json_put(o, "sequence", json_integer((json_int_t)b->seq));
    json_put(o, "messageId", json_span(b->message_id));
    json_put(o, "sent", json_time(b->sent_ms));
    json_put(o, "expires", json_time(b->expires_ms));
    json_put(o, "devices", json_integer((json_int_t)b->devices));
    json_put(o, "pending", json_integer((json_int_t)b->pending));
    for (int i = 0; i < BROADCAST_ENDS; i++)
        json_put(o, names[i], json_integer((json_int_t)b->ended[i]));
    return o;
}

static enum err show(struct job *j, struct store_tx *tx)
{
    struct span which = j->r->params[0];
    struct broadcast_row b;
    uint64_t seq;
    enum err e = u64_parse(which, INT64_MAX, &seq) ? ERR_NOTFOUND : tx_broadcast_get(tx, seq, &b);
    if (e == ERR_NOTFOUND) /* an id may well be a number too */
        e = tx_broadcast_find(tx, which, &b);
    if (e == ERR_NOTFOUND)
        (void)job_fail(j, 404, "broadcast-not-found", "there is no broadcast of this number or message id");
    else if (!e && !(j->out = broadcast_json(&b)))
        e = ERR_NOMEM;
    return e;
}

struct listing {
    json_t *arr;
    uint64_t last;
};
static enum err add(void *ctx, const struct broadcast_row *b)
{
    struct listing *l = ctx;
    json_t *o = broadcast_json(b);
    l->last = b->seq;
    return !o || json_array_append_new(l->arr, o) ? ERR_NOMEM : ERR_OK;
}

static enum err list(struct job *j, struct store_tx *tx)
{
    struct listing l = { .arr = job_out_list(j, "broadcasts") };
    if (!l.arr)
        return ERR_NOMEM;
    enum err e = tx_broadcast_list(tx, *(uint64_t *)j->state, PAGE, add, &l);
    if (json_array_size(l.arr) == PAGE)
        json_put(j->out, "next", json_integer((json_int_t)l.last));
    return e;
}

static void start_list(struct job *j)
{
    uint64_t *before = job_state(j, sizeof *before);
    if (!before)
        return;
    *before = INT64_MAX;
    (void)in_query_u64(j, "before", INT64_MAX, before);
    job_read(j, list, NULL);
}

JOB_HANDLER(broadcasts_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_list);
JOB_STEP_HANDLER(broadcast_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, show, NULL);
