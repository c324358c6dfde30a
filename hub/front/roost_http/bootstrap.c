/* hub/front/roost_http/bootstrap.c - POST /bootstrap: reads the request, limits its source, answers what the
 * domain decides. */
#include "base/text.h"
#include "hub/domain/audit.h"
#include "hub/domain/metrics.h"
#include "hub/domain/provisioning/provisioning.h"
#include "hub/domain/rate.h"
#include "hub/front/roost_http/roost_impl.h"
#include "hub/front/roost_http/routes.h"

struct bootstrap {
    struct bootstrap_ask ask;
    struct bootstrap_answer answer;
    char source[RATE_SOURCE_MAX];
};

static bool read_ask(struct job *j, struct bootstrap_ask *ask)
{
    static const char *const names[] = { "hardware", "id", "publicKey", "token", "trustVersion", NULL };
    struct span hardware = SPAN_NONE, sig64 = http_field(j->r, "Roost-Signature");
    uint64_t trust = 0;
    uint8_t sig[ED25519_SIG_LEN + 3];
    size_t sig_len;
    if (!in_only(j, j->in, names) || !in_text(j, j->in, "hardware", IN_REQUIRED, 64, &hardware) ||
        !in_text(j, j->in, "id", IN_OPTIONAL, DEVICE_ID_MAX, &ask->id) ||
        !in_base64(j, j->in, "publicKey", IN_OPTIONAL, ED25519_KEY_LEN, &ask->public_key) ||
        !in_text(j, j->in, "token", IN_OPTIONAL, FLEET_TOKEN_MAX, &ask->token) ||
        !in_u64(j, j->in, "trustVersion", IN_OPTIONAL, UINT32_MAX, &trust))
        return false;
    ask->trust_version = (uint32_t)trust;
    if (hardware_parse(hardware, &ask->hw))
        return job_fail(
            j, 400, "bad-hardware",
            "member \"hardware\" has to be PRODUCT:CLASS or PRODUCT:CLASS:REV, with a class from 0 to "
            "65535 and a revision from 0 to 255");
    if (ask->id.n && !in_device_id(j, ask->id))
        return false;
    if (ask->public_key.n && ask->public_key.n != ED25519_KEY_LEN)
        return job_fail(j, 400, "bad-member", "member \"publicKey\" has to be an Ed25519 key of 32 bytes");
    if (!ask->id.n && !ask->public_key.n)
        return job_fail(j, 400, "missing-member",
                        "member \"id\" is missing: without a public key it is all that names the device");
    if (!ask->public_key.n)
        return true;
    if (!sig64.n)
        return job_fail(j, 401, "signature-missing",
                        "a request with a public key needs the field Roost-Signature, made with that key");
    if (base64_decode(sig64, sig, sizeof sig, &sig_len) ||
        !provisioning_signature_ok(j->h, ask->public_key, j->r->body, span_of(sig, sig_len)))
        return job_fail(j, 401, "signature-wrong",
                        "Roost-Signature is not a signature of this body by its public key");
    return true;
}

static enum err note_refused(struct job *j, struct store_tx *tx)
{
    struct bootstrap *b = j->state;
    return audit_push(j->h, tx, span_str(b->source), "bootstrap.refused", b->ask.id, "%s", j->message);
}

/* What the request itself disproves is refused before the store is asked; the audit log gets its line all
 * the same. The error is kept aside, because a step that runs clears it. */
struct refusal {
    struct store_op op; /* first */
    struct job *j;
};
static enum err run_note(struct store_tx *tx, struct store_op *self)
{
    return note_refused(((struct refusal *)self)->j, tx);
}
static void noted(struct op *op)
{
    job_end(((struct refusal *)op)->j);
}
static void refuse(struct job *j)
{
    struct refusal *r = arena_alloc(&j->a, sizeof *r);
    if (!r || j->status == 400) { /* malformed: says nothing about a device */
        job_end(j);
        return;
    }
    r->j = j;
    r->op.run = run_note;
    r->op.op.home = worker_mailbox(j->r->worker);
    r->op.op.done = noted;
    store_write(j->h->store, &r->op);
}

static enum err decide(struct job *j, struct store_tx *tx)
{
    struct bootstrap *b = j->state;
    return provisioning_decide(j->h, tx, &j->a, &b->ask, &b->answer);
}

static void put_url(struct job *j, json_t *to, const char *name, const char *scheme, uint16_t port,
                    uint16_t usual, const char *path)
{
    char url[320];
    int n = port == usual ? snprintf(url, sizeof url, "%s://%s%s", scheme, j->h->names[0], path)
                          : snprintf(url, sizeof url, "%s://%s:%u%s", scheme, j->h->names[0], port, path);
    json_t *v = n > 0 && (size_t)n < sizeof url ? json_string(url) : NULL;
    if (name)
        json_put(to, name, v);
    else if (v)
        (void)json_array_append_new(to, v);
}

static void answer_assigned(struct job *j, const struct bootstrap_answer *b)
{
    json_t *o = json_object(), *urls = json_array();
    if (!o || !urls) {
        json_decref(o);
        json_decref(urls);
        job_end_err(j, ERR_NOMEM);
        return;
    }
    json_put(o, "status", json_string("assigned"));
    json_put(o, "id", json_span(b->device.id));
    json_put(o, "host", json_string(j->h->names[0]));
    json_put(o, "mqttPort", json_integer(j->h->mqtt_port));
    json_put(o, "httpsPort", json_integer(j->h->https_port));
    json_put(o, "key", json_base64(b->device.key1));
    if (b->trust.n)
        json_put(o, "trust", json_base64(b->trust));
    put_url(j, o, "checkin", "https", j->h->https_port, 443, "/roost/v1/checkin");
    put_url(j, urls, NULL, "https", j->h->https_port, 443, "/artifacts");
    if (j->h->http_port)
        put_url(j, urls, NULL, "http", j->h->http_port, 80, "/artifacts");
    json_put(o, "artifacts", urls);
    json_put(o, "checkinSeconds", json_integer(j->h->settings.checkin_s));
    json_put(o, "time", json_integer((json_int_t)(j->h->wall_ms() / 1000)));
    j->out = o;
    job_end(j);
}

static void decided(struct job *j)
{
    struct bootstrap *b = j->state;
    struct bootstrap_answer *a = &b->answer;
    uint32_t retry_s = j->h->settings.pending_retry_s ? j->h->settings.pending_retry_s : 30;
    provisioning_count(j->h, a->verdict);
    if (a->changed)
        identity_announce(j->h, a->device.id);
    switch (a->verdict) {
    case BOOTSTRAP_ASSIGNED:
        answer_assigned(j, a);
        return;
    case BOOTSTRAP_PENDING:
        j->status = 202;
        j->out = json_pack("{s:s,s:i}", "status", "pending", "retryAfterSeconds", (int)retry_s);
        job_field(j, "Retry-After", "%u", retry_s);
        break;
    case BOOTSTRAP_DENIED:
        (void)job_fail(j, 401, a->code, "%s", a->message);
        break;
    case BOOTSTRAP_FORBIDDEN:
        (void)job_fail(j, 403, a->code, "%s", a->message);
        break;
    case BOOTSTRAP_BUSY:
        (void)job_fail(j, 429, a->code, "%s", a->message);
        job_field(j, "Retry-After", "%u", retry_s);
        break;
    }
    job_end(j);
}

static void start(struct job *j)
{
    struct bootstrap *b = j->state;
    b->ask.source = span_str(b->source);
    if (!read_ask(j, &b->ask)) {
        provisioning_count(j->h, BOOTSTRAP_DENIED);
        refuse(j);
        return;
    }
    b->ask.authorization = http_field(j->r, "Authorization");
    job_write(j, decide, decided);
}

/* The limit comes before anything that costs: parsing, signatures, the store. */
static void limit(struct job *j)
{
    static const struct job_call after = { .who = JOB_PUBLIC, .body = JOB_OBJECT, .start = start };
    char peer[64];
    struct bootstrap *b = job_state(j, sizeof *b);
    if (!b)
        return;
    (void)rate_source(j->r->conn ? span_str(conn_peer(j->r->conn, peer)) : SPAN_NONE, b->source);
    struct rate_verdict v = rate_take(roost_of(j)->rate, span_str(b->source), worker_now_ms(j->r->worker));
    if (!v.allowed) {
        METRIC_ADD(j->h, bootstrap_limited_total, 1);
        job_field(j, "Retry-After", "%u", v.retry_after_s);
        (void)job_fail(j, 429, "too-many-requests", "this source asks too often: wait %u s", v.retry_after_s);
        if (v.first)
            refuse(j);
        else
            job_end(j);
        return;
    }
    job_go_on(j, &after);
}

JOB_HANDLER(bootstrap_post, .who = JOB_PUBLIC, .start = limit);
