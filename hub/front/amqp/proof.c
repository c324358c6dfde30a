/* hub/front/amqp/proof.c - links of devices that no token named: the certificate of the connection is the
 * device's, or a policy may connect as any device. The address of the link says which identity is meant; it
 * is looked up before the link is answered, and nothing of the peer is read meanwhile. */
#include "hub/domain/message/message.h"
#include "hub/front/amqp/peer.h"

#include <stdlib.h>

struct proof {                 /* owned by itself */
    struct access_check check; /* first */
    struct amqp_worker *aw;
    struct bus_addr addr;
    struct peer_link *l; /* referenced */
    struct amqp_attach attach;
    struct wr mem;
    uint8_t room[];
};

static struct span keep(struct proof *p, struct span s)
{
    struct span copy = span_of(p->mem.p + p->mem.len, s.n);
    wr_put(&p->mem, s);
    return copy;
}

static void terminus_keep(struct proof *p, struct amqp_terminus *t)
{
    struct amqp_value v;
    if (!t->raw.n)
        return;
    if (amqp_read_one(keep(p, t->raw), &v) || !amqp_terminus_decode(&v, t))
        assert(!"what was read once is read again");
}

static void proof_free(struct proof *p)
{
    link_unref(p->l);
    explicit_bzero(p->room, p->mem.len);
    free(p);
}

static void proven(struct op *op)
{
    struct proof *p = (struct proof *)(void *)op;
    const struct access_check *k = &p->check;
    struct conn *c = conn_find(p->aw->w, p->addr);
    if (c && !conn_is_closing(c)) {
        peer_of(c)->busy = false;
        bool may = op->err || grant_may_connect(c, k);
        if (!op->err && may &&
            grant_put(c, false, span_of(k->identity, k->identity_len),
                      span_of(k->generation, k->generation_len), k)) {
            METRIC_ADD(peer_hub(c), amqp_logins_total, 1);
            peer_proven(c);
        } else if (op->err == ERR_DENIED) {
            login_note_refused(c, k->device, k->why);
        }
        if (p->l->link && may)
            link_decide(p->l, &p->attach, false);
        else if (p->l->link)
            link_refuse(p->l, "com.microsoft:device-container-throttled",
                        "devices connect faster than this hub is set to take them");
        peer_go_on(c);
        peer_arm(c);
        peer_flush(c);
    }
    proof_free(p);
}

bool proof_start(struct peer_link *l, const struct amqp_attach *a, const struct address *to)
{
    struct conn *c = l->conn;
    struct peer *peer = peer_of(c);
    struct grant *g = grant_of_policy(c, ACCESS_DEVICE_CONNECT, NULL);
    struct span leaf = SPAN_NONE, chain = SPAN_NONE, token = g ? span_of(g->token, g->token_len) : SPAN_NONE;
    if (!g && (!list_is_empty(&peer->grants) && ((struct grant *)peer->grants.next)->policy))
        return false;
    if (!token.n && conn_peer_certificate(c, &leaf) && !conn_peer_chain(c, &chain))
        chain = SPAN_NONE;
    if ((!token.n && !leaf.n) || to->device.n > DEVICE_ID_MAX || to->module.n > DEVICE_ID_MAX ||
        login_has_to_wait(c, to->device))
        return false;
    size_t room = a->source.raw.n + a->target.raw.n + a->properties.n + to->device.n + to->module.n + leaf.n +
                  chain.n + token.n;
    struct proof *p = malloc(sizeof *p + room);
    if (!p)
        return false;
    memset(p, 0, sizeof *p);
    p->mem = (struct wr){ p->room, room, 0 };
    p->aw = peer_worker(c);
    p->addr = conn_addr(c);
    p->l = l;
    link_ref(l);
    p->attach = *a;
    p->attach.name = SPAN_NONE; /* the link has it */
    p->attach.desired_capabilities = SPAN_NONE;
    terminus_keep(p, &p->attach.source);
    terminus_keep(p, &p->attach.target);
    p->attach.properties = keep(p, a->properties);
    p->check.hub = peer_hub(c);
    p->check.token = keep(p, token);
    p->check.key_text = true;
    p->check.device = keep(p, to->device);
    p->check.module = keep(p, to->module);
    p->check.leaf = keep(p, leaf);
    p->check.chain = keep(p, chain);
    p->check.store.op.home = worker_mailbox(conn_worker(c));
    p->check.store.op.done = proven;
    peer->busy = true;
    access_start(&p->check);
    return true;
}
