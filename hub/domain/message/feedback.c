/* hub/domain/message/feedback.c - see feedback.h. */
#include "hub/domain/message/feedback.h"

#include "base/text.h"
#include "hub/domain/message/receivers.h"

enum err feedback_push(struct hub *h, struct store_tx *tx, const struct feedback_row *r)
{
    enum err e = tx_feedback_push(tx, r);
    return e ? e : receivers_tell(h, tx, RECEIVERS_FEEDBACK);
}

struct taking {
    struct arena *a;
    struct feedback_batch *b;
};

static enum err take_each(void *ctx, const struct feedback_row *r)
{
    struct taking *x = ctx;
    struct feedback_row *to = &x->b->rows[x->b->nr++];
    *to = *r;
    to->device = arena_copy(x->a, r->device);
    to->message_id = arena_copy(x->a, r->message_id);
    to->outcome = arena_copy(x->a, r->outcome);
    to->generation = arena_copy(x->a, r->generation);
    return arena_err(x->a);
}

enum err feedback_take(struct hub *h, struct store_tx *tx, struct arena *a, struct feedback_batch *out)
{
    const struct hub_settings *s = &h->settings;
    uint64_t now = h->wall_ms(), ttl = 1000ull * s->feedback_ttl_s;
    struct taking x = { a, out };
    uint8_t random[16];
    h->crypto->random(random, sizeof random);
    uuid_encode(random, out->token);
    out->nr = 0;
    return tx_feedback_take(tx, span_str(out->token), now, now + 1000ull * s->feedback_lock_s,
                            now > ttl ? now - ttl : 0, s->feedback_deliveries_max, FEEDBACK_BATCH_MAX,
                            take_each, &x);
}

enum err feedback_complete(struct hub *h, struct store_tx *tx, struct span token)
{
    return tx_feedback_settle(tx, token, h->wall_ms(), true);
}

enum err feedback_abandon(struct hub *h, struct store_tx *tx, struct span token)
{
    enum err e = tx_feedback_settle(tx, token, h->wall_ms(), false);
    return e ? e : receivers_tell(h, tx, RECEIVERS_FEEDBACK);
}
