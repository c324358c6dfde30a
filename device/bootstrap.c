/* device/bootstrap.c - a blank or homeless device asks the one address it knows. C99. */
#include "device/dev_internal.h"

#include "base/text.h"
#include "core/json/json.h"

#define ASK_AGAIN_S 30u /* a pending device whose hub names no time */

/* The configured address first, then the homes that the trust record lists: each failure moves on by one. */
static void bootstrap_target(struct roost_dev *d)
{
    struct dev_exchange *x = &d->ex;
    struct trust_record t;
    struct envelope env;
    uint8_t homes = dev_trust(d, &t, &env) == ERR_OK ? t.home_nr : 0;
    if (d->home_at > homes)
        d->home_at = 0;
    if (d->home_at == 0) {
        wr_put(&x->w, d->cfg->bootstrap_url);
        if (d->cfg->has_ca_pin) {
            memcpy(x->pin, d->cfg->ca_pin, SHA256_LEN);
            x->x.ca_pin = x->pin;
        }
    } else {
        const struct trust_home *h = &t.home[d->home_at - 1];
        wr_put(&x->w, SPAN("https://"));
        wr_put(&x->w, h->address);
        if (h->has_pin || d->cfg->has_ca_pin) {
            memcpy(x->pin, h->has_pin ? h->ca_pin : d->cfg->ca_pin, SHA256_LEN);
            x->x.ca_pin = x->pin;
        }
    }
    wr_put(&x->w, SPAN("/bootstrap"));
    x->x.url = ex_since(d, 0);
}

static void member(struct wr *w, struct span name, struct span value)
{
    json_put_string(w, name);
    wr_u8(w, ':');
    json_put_string(w, value);
    wr_u8(w, ',');
}

static void bootstrap_body(struct roost_dev *d, struct wr *w)
{
    uint8_t key[ED25519_KEY_LEN], text[RELEASE_TEXT_MAX + 16];
    struct wr t = { text, sizeof text, 0 };
    wr_put(&t, d->cfg->product);
    wr_u8(&t, ':');
    wr_u32(&t, d->cfg->hw_class);
    wr_u8(&t, ':');
    wr_u32(&t, d->cfg->hw_rev);
    wr_u8(w, '{');
    member(w, SPAN("hardware"), wr_span(&t));
    if (d->conf.id_len)
        member(w, SPAN("id"), roost_dev_id(d)); /* who we are, from now on */
    else if (d->cfg->proposed_id.n)
        member(w, SPAN("id"), d->cfg->proposed_id);
    if (d->cfg->fleet_token.n && !d->without_token)
        member(w, SPAN("token"), d->cfg->fleet_token);
    d->port->crypto->ed25519_public(d->conf.seed, key);
    wr_put(w, SPAN("\"publicKey\":\""));
    base64_encode(w, span_of(key, sizeof key));
    wr_put(w, SPAN("\",\"trustVersion\":"));
    wr_u32(w, d->conf.trust_version);
    wr_u8(w, '}');
}

void bootstrap_request(struct roost_dev *d)
{
    struct wr text = { d->mem->page, d->mem->page_cap, 0 };
    struct wr trust = { d->mem->chunk, d->mem->chunk_cap, 0 };
    uint8_t sig[ED25519_SIG_LEN];
    struct span parts[2];
    struct dev_exchange *x = &d->ex;
    size_t from;
    ex_begin(d, EX_BOOTSTRAP, ROOST_DEV_POST);
    bootstrap_target(d);
    from = x->w.len;
    bootstrap_body(d, &x->w);
    x->x.body = ex_since(d, from);
    x->x.content_type = SPAN("application/json");
    /* The key is the identity: it signs exactly the bytes that travel. */
    parts[0] = span_of("roost-bootstrap-v1", 19); /* with its zero */
    parts[1] = x->x.body;
    d->port->crypto->ed25519_sign(d->conf.seed, parts, 2, sig);
    from = x->w.len;
    base64_encode(&x->w, span_of(sig, sizeof sig));
    x->x.signature = ex_since(d, from);
    answer_init(&d->in.answer, text, trust);
    if (!ex_ready(d)) { /* a token or id of the longest kind beside a long home: the next one is shorter */
        d->home_at = 0;
        dev_backoff(d, ROOST_DEV_BOOTSTRAP, 1, 0);
    }
}

static void bootstrap_failed(struct roost_dev *d, uint32_t retry_after_s)
{
    if (d->boot_failures < UINT16_MAX)
        d->boot_failures++;
    d->home_at++;
    /* With an identity the hub itself is asked in between: it may be what came back first. */
    dev_backoff(d, dev_has_identity(d) && d->wall_known ? ROOST_DEV_CHECKIN : ROOST_DEV_BOOTSTRAP,
                d->boot_failures, retry_after_s);
}

static bool keep(struct span s, uint8_t *to, size_t cap, uint8_t *len)
{
    if (s.n == 0 || s.n > cap)
        return false;
    memcpy(to, s.p, s.n);
    *len = (uint8_t)s.n;
    return true;
}

static bool is_plain(struct span s) /* an id, host or URL that cannot break a topic, a line or a header */
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~')
            return false;
    return true;
}

/* All of the answer, or nothing of it. */
static bool identity_take(struct roost_dev *d)
{
    const struct answer *a = &d->in.answer;
    struct config *c = &d->conf;
    struct span id = answer_text(a, ANSWER_ID), host = answer_text(a, ANSWER_HOST);
    struct span url = answer_text(a, ANSWER_CHECKIN);
    uint8_t key[CONFIG_KEY_MAX];
    size_t key_len = 0;
    uint32_t mqtt = answer_u32(a, ANSWER_MQTT_PORT, 65535), https = answer_u32(a, ANSWER_HTTPS_PORT, 65535);
    if (base64_decode(answer_text(a, ANSWER_KEY), key, sizeof key, &key_len) != ERR_OK || key_len == 0 ||
        id.n == 0 || id.n > CONFIG_ID_MAX || host.n == 0 || host.n > CONFIG_HOST_MAX ||
        url.n > CONFIG_URL_MAX || !mqtt || !https || !is_plain(id) || !is_plain(host) || !is_plain(url) ||
        !span_starts(url, SPAN("https://")))
        return false;
    (void)keep(id, c->id, sizeof c->id, &c->id_len);
    (void)keep(host, c->host, sizeof c->host, &c->host_len);
    (void)keep(url, c->checkin, sizeof c->checkin, &c->checkin_len);
    (void)keep(span_of(key, key_len), c->key, sizeof c->key, &c->key_len);
    c->mqtt_port = (uint16_t)mqtt;
    c->https_port = (uint16_t)https;
    c->checkin_s = answer_u32(a, ANSWER_CHECKIN_S, 2000000u);
    return true;
}

/* The trust records lie whole in mem->chunk. A record that does not follow ours means: not our fleet. */
static bool trust_walk(struct roost_dev *d, bool *changed)
{
    struct span in = wr_span(&d->in.answer.trust);
    struct envelope env;
    size_t used;
    while (in.n && envelope_decode(in, ENVELOPE_BODY_MAX_MCU, &env, &used) == ERR_OK) {
        uint32_t before = d->conf.trust_version;
        if (trust_take(d, &env) != ERR_OK)
            return false;
        *changed |= d->conf.trust_version != before;
        in = span_skip(in, used);
    }
    return true; /* a cut last one comes with the check-in */
}

static void assigned(struct roost_dev *d)
{
    bool changed = false;
    uint32_t now = answer_u32(&d->in.answer, ANSWER_TIME, UINT32_MAX);
    if (!trust_walk(d, &changed)) {
        d->trial_refused = true;
        dev_refuse(d, REASON_TRUST, NULL);
        if (changed)
            dev_save(d); /* what did follow is ours all the same */
        bootstrap_failed(d, 0);
        return;
    }
    if (!identity_take(d)) {
        dev_refuse(d, REASON_FORMAT, NULL);
        bootstrap_failed(d, 0);
        return;
    }
    if (changed)
        trust_changed(d);
    dev_save(d);
    if (now)
        roost_dev_wall(d, now, d->now_ms);
    d->boot_failures = 0;
    d->home_at = 0;
    dev_phase(d, ROOST_DEV_CHECKIN, d->now_ms);
}

void bootstrap_done(struct roost_dev *d, enum roost_dev_result result)
{
    const struct answer *a = &d->in.answer;
    uint32_t wait;
    if (result != ROOST_DEV_DONE) {
        bootstrap_failed(d, d->ex.retry_after_s);
        return;
    }
    switch (d->ex.status) {
    case 200:
        if (answer_finish(a) == ERR_OK && span_eq(answer_text(a, ANSWER_STATUS), SPAN("assigned"))) {
            assigned(d);
            return;
        }
        bootstrap_failed(d, 0);
        return;
    case 202:
        wait = answer_finish(a) == ERR_OK ? answer_u32(a, ANSWER_RETRY_S, 86400) : 0;
        if (!wait)
            wait = d->ex.retry_after_s ? d->ex.retry_after_s : ASK_AGAIN_S;
        d->boot_failures = 0;
        dev_phase(d, ROOST_DEV_PENDING, d->now_ms + wait * 1000u + dev_random_below(d, wait * 100u));
        return;
    case 400:
    case 401:
    case 403:
        d->trial_refused = true;
        /* A hub made anew does not know the token of the old one's batch: ask as one who waits for
         * approval, and again with it, in turn. */
        d->without_token = !d->without_token;
        bootstrap_failed(d, d->ex.retry_after_s);
        return;
    default:
        bootstrap_failed(d, d->ex.retry_after_s);
        return;
    }
}
