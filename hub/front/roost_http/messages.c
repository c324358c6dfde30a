/* hub/front/roost_http/messages.c - cloud-to-device messages to one device or to all, and what became of
 * them. */
#include "base/text.h"
#include "hub/domain/message/c2d.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"
#include "hub/store/identity_name.h"

#define BODY_MAX      C2D_SIZE_MAX
#define PROPS_MAX     100u
#define FEEDBACK_PAGE 500u

struct send {
    struct c2d_send send; /* first */
    struct job *j;
    struct c2d_message message;
    char made_id[33];
};

static bool read_ack(struct job *j, struct c2d_message *m)
{
    static const char *const names[] = { "none", "positive", "negative", "full" };
    struct span s = SPAN("none");
    if (!in_text(j, j->in, "ack", IN_OPTIONAL, 16, &s))
        return false;
    for (uint8_t i = 0; i < 4; i++)
        if (span_eq(s, span_str(names[i]))) {
            m->ack = i;
            return true;
        }
    return job_fail(j, 400, "bad-member", "member \"ack\" has to be none, positive, negative or full");
}

static bool read_props(struct job *j, struct c2d_message *m)
{
    json_t *o = json_object_get(j->in, "properties"), *v;
    const char *key;
    if (!o || json_is_null(o))
        return true;
    if (!json_is_object(o) || json_object_size(o) > PROPS_MAX)
        return job_fail(j, 400, "bad-member",
                        "member \"properties\" has to be an object of at most %u strings", PROPS_MAX);
    struct c2d_prop *p = arena_alloc(&j->a, (json_object_size(o) + 1) * sizeof *p);
    if (!p)
        return job_fail_err(j, ERR_NOMEM);
    m->props = p;
    json_object_foreach(o, key, v)
    {
        if (!json_is_string(v))
            return job_fail(j, 400, "bad-member", "property \"%.64s\" has to be a string", key);
        p[m->props_nr].name = span_str(key);
        p[m->props_nr++].value = span_of(json_string_value(v), json_string_length(v));
    }
    return true;
}

static bool read_message(struct job *j, struct send *s)
{
    static const char *const names[] = { "body",          "bodyBase64",  "properties",      "messageId",
                                         "correlationId", "contentType", "contentEncoding", "ttlSeconds",
                                         "ack",           NULL };
    struct c2d_message *m = &s->message;
    uint64_t ttl_s = 0;
    struct span text = SPAN_NONE, bytes = SPAN_NONE;
    if (!in_only(j, j->in, names) || !in_text(j, j->in, "body", IN_OPTIONAL, BODY_MAX, &text) ||
        !in_base64(j, j->in, "bodyBase64", IN_OPTIONAL, BODY_MAX, &bytes) ||
        !in_text(j, j->in, "messageId", IN_OPTIONAL, 128, &m->message_id) ||
        !in_text(j, j->in, "correlationId", IN_OPTIONAL, 128, &m->correlation_id) ||
        !in_text(j, j->in, "contentType", IN_OPTIONAL, 128, &m->content_type) ||
        !in_text(j, j->in, "contentEncoding", IN_OPTIONAL, 128, &m->content_encoding) ||
        !in_u64(j, j->in, "ttlSeconds", IN_OPTIONAL, UINT32_MAX, &ttl_s) || !read_ack(j, m) ||
        !read_props(j, m))
        return false;
    bool has_text = json_is_string(json_object_get(j->in, "body")),
         has_bytes = json_is_string(json_object_get(j->in, "bodyBase64"));
    if (has_text == has_bytes)
        return job_fail(j, 400, "bad-member", "a message has one of \"body\" and \"bodyBase64\"");
    m->body = has_text ? text : bytes;
    if (ttl_s)
        m->expires_ms = j->h->wall_ms() + ttl_s * 1000;
    if (!m->message_id.n) {
        uint8_t random[16];
        struct wr w = { (uint8_t *)s->made_id, sizeof s->made_id, 0 };
        j->h->crypto->random(random, sizeof random);
        hex_encode(&w, span_of(random, sizeof random));
        m->message_id = wr_span(&w);
    }
    return true;
}

static void sent(struct op *op)
{
    struct send *s = (struct send *)op;
    struct job *j = s->j;
    switch (op->err) {
    case ERR_OK:
        j->status = 201;
        j->out = json_object();
        (void)job_fail_err(j, j->out ? ERR_OK : ERR_NOMEM);
        json_put(j->out, "sequence", json_integer((json_int_t)s->send.seq));
        json_put(j->out, "messageId", json_span(s->message.message_id));
        break;
    case ERR_LIMIT:
        (void)job_fail(j, 413, "message-too-large", "body and properties may have %u bytes in all",
                       C2D_SIZE_MAX);
        break;
    case ERR_NOTFOUND:
        (void)job_fail(j, 404, "device-not-found", "there is no device \"%.*s\"", (int)s->message.device.n,
                       (const char *)s->message.device.p);
        break;
    case ERR_PROTO:
        (void)job_fail(
            j, 400, "bad-message",
            "a property has an empty or reserved name, or the message would live longer than this hub "
            "keeps one (%u s)",
            j->h->settings.c2d_ttl_max_s);
        break;
    case ERR_FULL:
        if (s->send.queue_full)
            (void)job_fail(j, 403, "queue-full",
                           "%u messages wait for this device already: it has to take some first",
                           j->h->settings.c2d_depth_max);
        break;
    default:
        break;
    }
    job_end_err(j, op->err);
}

/* "device/module" of a path that names both. */
static bool module_in_path(struct job *j, struct span *identity)
{
    struct span device, module = j->r->params[1];
    if (!in_path_device(j, &device) || !in_device_id(j, module))
        return false;
    *identity = identity_name_in(&j->a, device, module);
    return job_fail_err(j, arena_err(&j->a));
}

enum target { TO_DEVICE, TO_MODULE, TO_ALL };
static void send_it(struct job *j, enum target to)
{
    struct send *s = job_state(j, sizeof *s);
    if (!s)
        return;
    bool named = to == TO_DEVICE   ? in_path_device(j, &s->message.device)
                 : to == TO_MODULE ? module_in_path(j, &s->message.device)
                                   : true;
    if (named && read_message(j, s)) {
        s->j = j;
        s->send.hub = j->h;
        s->send.message = &s->message;
        s->send.store.op.home = worker_mailbox(j->r->worker);
        s->send.store.op.done = sent;
        c2d_send_start(&s->send);
    } else {
        job_end(j);
    }
}

static void start_message(struct job *j)
{
    send_it(j, TO_DEVICE);
}
static void start_module_message(struct job *j)
{
    send_it(j, TO_MODULE);
}
static void start_broadcast(struct job *j)
{
    send_it(j, TO_ALL);
}

static enum err add_feedback(void *ctx, const struct feedback_row *r)
{
    json_t *o = json_object();
    if (!o)
        return ERR_NOMEM;
    json_put(o, "sequence", json_integer((json_int_t)r->seq));
    json_put(o, "at", json_time(r->at_ms));
    json_put(o, "device", json_span(r->device));
    json_put(o, "messageId", json_span(r->message_id));
    json_put(o, "outcome", json_span(r->outcome));
    if (r->broadcast_seq)
        json_put(o, "broadcast", json_integer((json_int_t)r->broadcast_seq));
    return json_array_append_new(ctx, o) ? ERR_NOMEM : ERR_OK;
}

static enum err feedback(struct job *j, struct store_tx *tx)
{
    json_t *arr = job_out_list(j, "feedback");
    if (!arr)
        return ERR_NOMEM;
    enum err e = tx_feedback_list(tx, *(uint64_t *)j->state, FEEDBACK_PAGE, add_feedback, arr);
    size_t nr = json_array_size(arr);
    if (nr)
        json_put(j->out, "next", json_incref(json_object_get(json_array_get(arr, nr - 1), "sequence")));
    return e;
}

/* Nothing but where what comes from now on begins. */
static enum err feedback_latest(struct job *j, struct store_tx *tx)
{
    uint64_t last = 0;
    enum err e = tx_feedback_last(tx, &last);
    j->out = e ? NULL : json_pack("{s:[],s:I}", "feedback", "next", (json_int_t)last);
    return e ? e : j->out ? ERR_OK : ERR_NOMEM;
}

static void start_feedback(struct job *j)
{
    uint64_t *after = job_state(j, sizeof *after);
    struct span text;
    if (!after)
        return;
    bool latest = http_query(j->r, "after", &text) && span_eq(text, SPAN("latest"));
    if (!latest)
        (void)in_query_u64(j, "after", INT64_MAX, after);
    job_read(j, latest ? feedback_latest : feedback, NULL);
}

JOB_HANDLER(message_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start_message);
JOB_HANDLER(module_message_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start_module_message);
JOB_HANDLER(broadcast_post, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_OBJECT, start_broadcast);
JOB_HANDLER(feedback_list, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_feedback);
