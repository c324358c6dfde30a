/* device/hub_test.h - a scripted hub for the engine's tests: it signs real trust records, releases and
 * tickets, checks tokens and signatures, serves real chunks, and has a knob for everything a hub could do
 * wrong. Also the memory of the world it shares with the device: world_test.h. */
#ifndef ROOST_DEVICE_HUB_TEST_H
#define ROOST_DEVICE_HUB_TEST_H

#include "base/text.h"
#include "core/mqtt/mqtt_packet.h"
#include "core/sas/sas.h"
#include "core/topic/username.h"
#include "device/dev.h"
#include "device/journal.h"
#include "device/slot.h"
#include "port/crypto.h"
#include "port/flash_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define WORLD_SLOT_LEN  (128u * 1024u)
#define WORLD_FLASH_MAX (16u * 65536u + 2u * 512u * 1024u)
#define WORLD_RELEASES  6
#define WORLD_TRUSTS    8
#define WORLD_WALL      1795294710u

enum { KEY_ROOT = 0x11, KEY_RELEASE = 0x21, KEY_DIRECTOR = 0x31 };

struct world_release {
    uint8_t raw[2048];
    size_t raw_len;
    uint8_t id[OBJECT_ID_LEN], root[SHA256_LEN];
    uint8_t *payload, *tree;
    uint32_t payload_len, tree_len;
    bool crashes; /* dies at every start */
    uint32_t seq;
};
struct world_trust {
    uint8_t raw[2048];
    size_t len;
};

struct world {
    /* the device */
    struct flash_sim sim;
    uint8_t *cells;
    struct roost_dev d;
    struct roost_dev_config cfg;
    struct roost_dev_mem mem;
    struct roost_dev_port port;
    struct boot_result boot;
    uint8_t chunk[4096], page[2048], packet[2048];
    uint64_t now_ms;
    bool clock_known;
    uint32_t boots, crashes, reboots, flash_resets;
    /* what its application saw */
    uint32_t samples, messages, events[16], last_refused, last_reverted;
    char message[64];
    bool app_silent, app_ill;
    /* the hub */
    bool down, unreachable, link_down, no_artifacts, no_ranges, pending, forgets, refuses_bootstrap,
        refuses_token;
    bool has_identity;
    uint8_t device_key[ED25519_KEY_LEN];
    char id[64], host[64];
    uint8_t sas[32];
    struct world_trust trust[WORLD_TRUSTS];
    int trust_nr;
    struct world_release rel[WORLD_RELEASES];
    int rel_nr, target; /* target -1: nothing deployed */
    uint32_t ticket_seq, tickets, checkins, bootstraps, artifact_bytes, telemetry, connects;
    uint8_t action, director, release_signer;
    struct report report; /* the last one; spans invalid */
    uint32_t report_max;
    int spoil_chunk, spoil_tree; /* so many answers are damaged */
    /* a ticket or bundle bent by a test, before it is signed or sent */
    void (*bend_ticket)(struct world *w, struct ticket *t);
    void (*bend_bundle)(struct world *w, struct wr *bundle);
    /* MQTT */
    bool link_open, link_up, subscribed;
    uint8_t c2d[256];
    size_t c2d_len;
    bool c2d_sent;
    uint8_t connack;
    uint32_t acks;
    uint8_t link_in[4096];
    size_t link_in_len;
};

static uint32_t world_seed;

static inline void world_random(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        world_seed = world_seed * 1664525u + 1013904223u;
        out[i] = (uint8_t)(world_seed >> 24);
    }
}

static inline const struct crypto_ops *world_crypto(void)
{
    static struct crypto_ops c;
    c = port_crypto;
    c.random = world_random;
    return &c;
}

static inline const uint8_t *world_key(uint8_t n)
{
    static uint8_t seed[256][ED25519_KEY_LEN];
    memset(seed[n], n, ED25519_KEY_LEN);
    return seed[n];
}

static inline struct trust_key world_public(uint8_t n)
{
    struct trust_key k = { .alg = SIG_ED25519 };
    port_crypto.ed25519_public(world_key(n), k.pub);
    key_id_of(&port_crypto, k.pub, k.id);
    return k;
}

static inline struct trust_record world_trust_body(struct world *w, uint32_t version)
{
    struct trust_record t = { .version = version,
                              .epoch = 1,
                              .created_s = WORLD_WALL,
                              .root_threshold = 1,
                              .release_threshold = 1,
                              .root_nr = 1,
                              .release_nr = 1,
                              .director_nr = 1,
                              .home_nr = 1 };
    memcpy(t.fleet_id, "fleet-0123456789", FLEET_ID_LEN);
    t.root[0] = world_public(KEY_ROOT);
    t.release[0] = world_public(w->release_signer);
    t.director[0] = world_public(w->director);
    t.home[0].address = SPAN("second.example:8443");
    return t;
}

static inline void world_trust_publish(struct world *w, const struct trust_record *t, uint8_t signer)
{
    uint8_t body[1500];
    struct wr b = { body, sizeof body, 0 };
    struct world_trust *o = &w->trust[w->trust_nr++];
    struct wr r = { o->raw, sizeof o->raw, 0 };
    trust_record_encode(&b, t);
    assert_true(wr_ok(&b));
    envelope_begin(&r, ENVELOPE_TRUST_RECORD, wr_span(&b));
    assert_int_equal(envelope_sign(&r, &port_crypto, world_key(signer)), ERR_OK);
    o->len = r.len;
}

/* Adds a release of an image of `len` bytes; returns its index. */
static inline int world_release_bent(struct world *w, uint32_t seq, uint16_t counter, uint32_t len,
                                     bool crashes, void (*bend)(struct release *))
{
    struct world_release *o = &w->rel[w->rel_nr];
    struct release r = { .product = SPAN("sensor"),
                         .hw_class = 7,
                         .hw_rev_min = 1,
                         .hw_rev_max = 3,
                         .version = SPAN("1.0.0"),
                         .release_seq = seq,
                         .security_counter = counter,
                         .component_nr = 1,
                         .encoding_nr = 1,
                         .chunk_code = CHUNK_CODE_DEFAULT,
                         .fan_out = CHUNK_FAN_OUT_DEFAULT,
                         .probation_s = 5,
                         .confirm_checks = CONFIRM_NET | CONFIRM_HUB };
    struct chunk_shape s;
    struct chunk_builder b;
    struct sha256 h;
    uint8_t body[1100];
    struct wr bw = { body, sizeof body, 0 }, rw = { o->raw, sizeof o->raw, 0 };
    struct envelope env;
    size_t used;
    memset(o, 0, sizeof *o);
    o->payload_len = len;
    o->payload = malloc(len);
    for (uint32_t i = 0; i < len; i++)
        o->payload[i] = (uint8_t)(i * 7 + seq * 31 + (i >> 8) * 13);
    o->crashes = crashes;
    o->seq = seq;
    r.component[0] = (struct release_component){ .id = 1, .type = COMPONENT_APP, .image_len = len };
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, span_of(o->payload, len));
    port_crypto.sha256_final(&h, r.component[0].image_sha256);
    r.encoding[0] = (struct release_encoding){ .component = 1, .method = ENCODING_RAW, .payload_len = len };
    if (bend)
        bend(&r);
    assert_int_equal(chunk_shape_of(len, r.chunk_code, r.fan_out, &s), ERR_OK);
    o->tree_len = chunk_tree_len(&s);
    o->tree = malloc(o->tree_len);
    chunk_builder_init(&b, &port_crypto, &s, o->tree);
    assert_int_equal(chunk_builder_feed(&b, span_of(o->payload, len)), ERR_OK);
    assert_int_equal(chunk_builder_finish(&b, o->root), ERR_OK);
    memcpy(r.encoding[0].tree_root, o->root, SHA256_LEN);
    release_encode(&bw, &r);
    assert_true(wr_ok(&bw));
    envelope_begin(&rw, ENVELOPE_RELEASE, wr_span(&bw));
    assert_int_equal(envelope_sign(&rw, &port_crypto, world_key(w->release_signer)), ERR_OK);
    o->raw_len = rw.len;
    assert_int_equal(envelope_decode(wr_span(&rw), ENVELOPE_BODY_MAX_MCU, &env, &used), ERR_OK);
    envelope_id(&port_crypto, &env, o->id);
    return w->rel_nr++;
}

static inline int world_release(struct world *w, uint32_t seq, uint16_t counter, uint32_t len, bool crashes)
{
    return world_release_bent(w, seq, counter, len, crashes, NULL);
}

/* ---- the application -------------------------------------------------------------------------------------
 */

static inline bool world_sample(void *ctx, struct wr *body)
{
    struct world *w = ctx;
    w->samples++;
    wr_str(body, "{\"temperature\":21.5}");
    return true;
}

static inline void world_on_message(void *ctx, struct span props, struct span body)
{
    struct world *w = ctx;
    (void)props;
    w->messages++;
    snprintf(w->message, sizeof w->message, "%.*s", (int)body.n, (const char *)body.p);
}

static inline void world_on_event(void *ctx, enum roost_dev_event ev, uint32_t arg)
{
    struct world *w = ctx;
    w->events[ev]++;
    if (ev == ROOST_DEV_EV_REFUSED)
        w->last_refused = arg;
    if (ev == ROOST_DEV_EV_REVERTED)
        w->last_reverted = arg;
}

/* ---- the hub: HTTP ---------------------------------------------------------------------------------------
 */

struct answer_out {
    unsigned status;
    uint32_t retry_after_s;
    uint8_t *p;
    size_t n;
};

static inline void hub_text(struct answer_out *a, unsigned status, const char *text)
{
    a->status = status;
    a->n = strlen(text);
    a->p = malloc(a->n + 1);
    memcpy(a->p, text, a->n + 1);
}

static inline uint32_t json_number(struct span body, const char *name)
{
    char *text = strndup((const char *)body.p, body.n), *at = strstr(text, name);
    uint32_t v = at ? (uint32_t)strtoul(at + strlen(name), NULL, 10) : 0;
    free(text);
    return v;
}

static inline void hub_bootstrap(struct world *w, const struct roost_dev_exchange *x, struct answer_out *a)
{
    char *body = strndup((const char *)x->body.p, x->body.n), *at, *text;
    uint8_t key[64], sig[64], trust[4200];
    size_t key_len, sig_len;
    struct wr t = { trust, sizeof trust, 0 }, o;
    struct span parts[2] = { span_of("roost-bootstrap-v1", 19), x->body };
    uint32_t have = json_number(x->body, "\"trustVersion\":");
    w->bootstraps++;
    at = strstr(body, "\"publicKey\":\"");
    assert_non_null(at);
    at += strlen("\"publicKey\":\"");
    assert_int_equal(base64_decode(span_of(at, strcspn(at, "\"")), key, sizeof key, &key_len), ERR_OK);
    assert_int_equal(key_len, ED25519_KEY_LEN);
    assert_int_equal(base64_decode(x->signature, sig, sizeof sig, &sig_len), ERR_OK);
    assert_true(port_crypto.ed25519_verify(key, parts, 2, sig));
    assert_non_null(strstr(body, "\"hardware\":\"sensor:7:2\""));
    bool has_token = strstr(body, "\"token\":") != NULL;
    free(body);
    if (w->refuses_bootstrap || (has_token && w->refuses_token)) {
        hub_text(a, 403, "{\"error\":{}}");
        return;
    }
    if (w->pending) {
        hub_text(a, 202, "{\"status\":\"pending\",\"retryAfterSeconds\":30}");
        return;
    }
    if (w->has_identity) /* the same key gets the same identity */
        assert_memory_equal(w->device_key, key, sizeof w->device_key);
    memcpy(w->device_key, key, sizeof w->device_key);
    w->has_identity = true;
    w->forgets = false;
    for (int i = 0; i < w->trust_nr; i++) {
        struct envelope env;
        struct trust_record r;
        size_t used;
        assert_int_equal(envelope_decode(span_of(w->trust[i].raw, w->trust[i].len), 4096, &env, &used),
                         ERR_OK);
        assert_int_equal(trust_record_decode(env.body, &port_crypto, &r), ERR_OK);
        if (r.version > have && t.len + w->trust[i].len <= 4096)
            wr_put(&t, span_of(w->trust[i].raw, w->trust[i].len));
    }
    text = malloc(8192);
    o = (struct wr){ (uint8_t *)text, 8192, 0 };
    wr_str(&o, "{\"status\":\"assigned\",\"id\":\"");
    wr_str(&o, w->id);
    wr_str(&o, "\",\"host\":\"");
    wr_str(&o, w->host);
    wr_str(&o, "\",\"mqttPort\":8883,\"httpsPort\":443,\"key\":\"");
    base64_encode(&o, span_of(w->sas, sizeof w->sas));
    if (t.len) {
        wr_str(&o, "\",\"trust\":\"");
        base64_encode(&o, wr_span(&t));
    }
    wr_str(&o, "\",\"checkin\":\"https://");
    wr_str(&o, w->host);
    wr_str(
        &o,
        "/roost/v1/checkin\",\"artifacts\":[\"https://x/{}\",\"\\\"]\"],\"checkinSeconds\":21600,\"time\":");
    wr_u32(&o, WORLD_WALL + (uint32_t)(w->now_ms / 1000));
    wr_str(&o, "}");
    assert_true(wr_ok(&o));
    a->status = 200;
    a->p = (uint8_t *)text;
    a->n = o.len;
}

/* Is it a live token of this device, made with its key? */
static inline bool hub_token_ok(struct world *w, struct span text)
{
    struct sas_token t;
    char sr[256];
    struct wr plain = { (uint8_t *)sr, sizeof sr, 0 }, want_w;
    char want[256];
    if (sas_parse(text, &t) != ERR_OK || !sas_verify(&t, &port_crypto, span_of(w->sas, sizeof w->sas)))
        return false;
    percent_decode(&plain, t.sr);
    want_w = (struct wr){ (uint8_t *)want, sizeof want, 0 };
    wr_str(&want_w, w->host);
    wr_str(&want_w, "/devices/");
    wr_str(&want_w, w->id);
    return span_eq(wr_span(&plain), wr_span(&want_w)) &&
           sas_is_live(&t, WORLD_WALL + (uint32_t)(w->now_ms / 1000), 300);
}

static inline void hub_put_ticket(struct world *w, struct wr *o)
{
    uint8_t body[512];
    struct wr b = { body, sizeof body, 0 };
    struct ticket t = { .campaign = { 1, 2, 3 },
                        .attempt = 1,
                        .ticket_seq = ++w->ticket_seq,
                        .action = w->action,
                        .issued_s = WORLD_WALL + (uint32_t)(w->now_ms / 1000),
                        .ttl_s = TICKET_TTL_DEFAULT_S,
                        .has_nonce = true,
                        .url_nr = 1,
                        .url = { SPAN("http://hub.example/artifacts") } };
    memcpy(t.nonce, w->report.nonce, sizeof t.nonce);
    memcpy(t.release_id, w->rel[w->target].id, OBJECT_ID_LEN);
    device_hash_of(&port_crypto, span_str(w->id), t.device_hash);
    if (w->bend_ticket)
        w->bend_ticket(w, &t);
    ticket_encode(&b, &t);
    assert_true(wr_ok(&b));
    struct wr e = { o->p + o->len, o->cap - o->len, 0 };
    envelope_begin(&e, ENVELOPE_TICKET, wr_span(&b));
    assert_int_equal(envelope_sign(&e, &port_crypto, world_key(w->director)), ERR_OK);
    o->len += e.len;
    w->tickets++;
}

static inline void hub_checkin(struct world *w, const struct roost_dev_exchange *x, struct answer_out *a)
{
    struct report r;
    struct wr o;
    if (w->forgets || !hub_token_ok(w, x->authorization)) {
        hub_text(a, 401, "{}");
        return;
    }
    w->checkins++;
    assert_int_equal(report_decode(x->body, &r), ERR_OK);
    assert_true(r.report_seq > w->report_max); /* never used twice, whatever happened in between */
    w->report_max = r.report_seq;
    w->report = r;
    w->report.product = SPAN_NONE;
    a->p = malloc(16384);
    o = (struct wr){ a->p, 16384, 0 };
    for (int i = 0; i < w->trust_nr; i++) {
        struct envelope env;
        struct trust_record t;
        size_t used;
        assert_int_equal(envelope_decode(span_of(w->trust[i].raw, w->trust[i].len), 4096, &env, &used),
                         ERR_OK);
        assert_int_equal(trust_record_decode(env.body, &port_crypto, &t), ERR_OK);
        if (t.version > r.trust_version)
            wr_put(&o, span_of(w->trust[i].raw, w->trust[i].len));
    }
    if (w->target >= 0 && r.state != DEVICE_TRIAL && r.state != DEVICE_ARMED &&
        memcmp(r.running, w->rel[w->target].id, OBJECT_ID_LEN) != 0) {
        wr_put(&o, span_of(w->rel[w->target].raw, w->rel[w->target].raw_len));
        hub_put_ticket(w, &o);
    }
    if (w->bend_bundle)
        w->bend_bundle(w, &o);
    a->status = o.len ? 200 : 204;
    a->n = o.len;
}

static inline void hub_artifact(struct world *w, const struct roost_dev_exchange *x, struct answer_out *a)
{
    const char *url = (const char *)x->url.p, *at = NULL;
    bool is_tree = x->url.n > 5 && memcmp(x->url.p + x->url.n - 5, ".tree", 5) == 0;
    for (size_t i = 0; i < x->url.n; i++)
        if (url[i] == '/')
            at = url + i + 1;
    for (int i = 0; i < w->rel_nr && !w->no_artifacts; i++) {
        const struct world_release *r = &w->rel[i];
        uint8_t root[SHA256_LEN];
        const uint8_t *p = is_tree ? r->tree : r->payload;
        uint32_t n = is_tree ? r->tree_len : r->payload_len;
        assert_int_equal(hex_decode(span_of(at, 64), root, sizeof root), ERR_OK);
        if (memcmp(root, r->root, sizeof root) != 0)
            continue;
        assert_true(x->ranged && x->offset < n && x->len <= n - x->offset);
        a->status = w->no_ranges ? 200 : 206;
        a->n = w->no_ranges ? n : x->len;
        a->p = malloc(a->n);
        memcpy(a->p, w->no_ranges ? p : p + x->offset, a->n);
        if (!is_tree)
            w->artifact_bytes += x->len;
        if (is_tree ? w->spoil_tree : w->spoil_chunk) {
            a->p[a->n / 2] ^= 0x10;
            if (is_tree)
                w->spoil_tree--;
            else
                w->spoil_chunk--;
        }
        return;
    }
    hub_text(a, 404, "");
}

static inline void world_serve(struct world *w, const struct roost_dev_exchange *x)
{
    struct answer_out a = { 0 };
    char *url = strndup((const char *)x->url.p, x->url.n);
    enum roost_dev_result result = ROOST_DEV_DONE;
    size_t at = 0, step = 1;
    if (w->unreachable) {
        result = ROOST_DEV_UNREACHABLE;
    } else if (w->down) {
        result = ROOST_DEV_REFUSED;
    } else if (strstr(url, "/bootstrap")) {
        hub_bootstrap(w, x, &a);
    } else if (strstr(url, "/roost/v1/checkin")) {
        if (strncmp(url + 8, w->host, strlen(w->host)) != 0) /* the old name: nobody there */
            result = ROOST_DEV_UNREACHABLE;
        else
            hub_checkin(w, x, &a);
    } else {
        hub_artifact(w, x, &a);
    }
    free(url);
    w->now_ms += 20;
    if (result == ROOST_DEV_DONE) {
        roost_dev_exchange_status(&w->d, x->id, a.status, a.retry_after_s);
        while (at < a.n && !w->sim.dead) { /* in pieces that fall anywhere */
            size_t n = a.n - at < step ? a.n - at : step;
            roost_dev_exchange_body(&w->d, x->id, span_of(a.p + at, n));
            at += n;
            step = step * 3 % 1459 + 1;
        }
    }
    free(a.p);
    if (!w->sim.dead)
        roost_dev_exchange_end(&w->d, x->id, result, w->now_ms);
}

#endif
