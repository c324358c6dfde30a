/* core/trust/sample_test.h - objects from fixed seeds, shared by the tests of this folder: every field of
 * every body is set once, so the test vectors cover them all. */
#ifndef ROOST_CORE_TRUST_SAMPLE_TEST_H
#define ROOST_CORE_TRUST_SAMPLE_TEST_H

#include "core/trust/chunk_tree.h"
#include "core/trust/release.h"
#include "core/trust/report.h"
#include "core/trust/ticket.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEED_ROOT = 0x11, SEED_RELEASE = 0x21, SEED_DIRECTOR = 0x31 }; /* + 0, 1, 2 */

struct object {
    uint8_t buf[ENVELOPE_MAX];
    struct wr w;
    struct envelope env; /* set by object_seal */
};

static inline const uint8_t *seed_of(uint8_t n)
{
    static uint8_t seed[256][ED25519_KEY_LEN];
    memset(seed[n], n, ED25519_KEY_LEN);
    return seed[n];
}

static inline struct trust_key key_of(uint8_t n, struct span prefix)
{
    struct trust_key k = { .alg = SIG_ED25519, .product_prefix = prefix };
    port_crypto.ed25519_public(seed_of(n), k.pub);
    key_id_of(&port_crypto, k.pub, k.id);
    return k;
}

static inline void object_begin(struct object *o, enum envelope_kind kind, struct span body)
{
    o->w = (struct wr){ o->buf, sizeof o->buf, 0 };
    envelope_begin(&o->w, kind, body);
}

static inline void object_sign(struct object *o, uint8_t seed)
{
    assert_int_equal(envelope_sign(&o->w, &port_crypto, seed_of(seed)), ERR_OK);
}

static inline void object_seal(struct object *o)
{
    size_t used;
    assert_int_equal(envelope_decode(wr_span(&o->w), ENVELOPE_BODY_MAX, &o->env, &used), ERR_OK);
    assert_int_equal(used, o->w.len);
}

/* Three roots of which two must sign, a release key for everything and one for "sensor" only, two directors.
 */
static inline struct trust_record sample_trust(uint32_t version)
{
    struct trust_record t = { .version = version,
                              .epoch = 7,
                              .created_s = 1795294710,
                              .root_threshold = 2,
                              .release_threshold = 1,
                              .root_nr = 3,
                              .release_nr = 2,
                              .director_nr = 2,
                              .revoked_nr = 1,
                              .home_nr = 2,
                              .min_agent = 0x0102 };
    memcpy(t.fleet_id, "fleet-0123456789", FLEET_ID_LEN);
    for (uint8_t i = 0; i < 3; i++)
        t.root[i] = key_of((uint8_t)(SEED_ROOT + i), SPAN_NONE);
    t.release[0] = key_of(SEED_RELEASE, SPAN_NONE);
    t.release[1] = key_of(SEED_RELEASE + 1, SPAN("sensor"));
    for (uint8_t i = 0; i < 2; i++)
        t.director[i] = key_of((uint8_t)(SEED_DIRECTOR + i), SPAN_NONE);
    memset(t.revoked[0], 0xee, KEY_ID_LEN);
    t.home[0] = (struct trust_home){ .address = SPAN("hub.example:443"), .has_pin = true };
    memset(t.home[0].ca_pin, 0xca, SHA256_LEN);
    t.home[1] = (struct trust_home){ .address = SPAN("backup.example:8443") };
    return t;
}

static inline struct release sample_release(void)
{
    struct release r = { .product = SPAN("sensor-a"),
                         .hw_class = 8266,
                         .hw_rev_min = 1,
                         .hw_rev_max = 3,
                         .version = SPAN("1.4.2-rc.1+b7"),
                         .release_seq = 42,
                         .security_counter = 3,
                         .flags = RELEASE_NEEDS_REBOOT | RELEASE_ALLOW_DOWNGRADE,
                         .min_agent = 0x0100,
                         .min_bootloader = 2,
                         .min_free_flash_kib = 512,
                         .min_heap_block_b = 4096,
                         .min_battery_pct = 30,
                         .component_nr = 2,
                         .encoding_nr = 3,
                         .chunk_code = CHUNK_CODE_DEFAULT,
                         .fan_out = CHUNK_FAN_OUT_DEFAULT,
                         .probation_s = 90,
                         .confirm_checks = CONFIRM_NET | CONFIRM_HUB,
                         .has_dependency = true,
                         .dependency_component = 1,
                         .dependency_product = { 'g', 'w', 'y' },
                         .dependency_seq = 9,
                         .has_provenance = true };
    r.component[0] = (struct release_component){
        .id = 1, .type = COMPONENT_APP, .version = SPAN("1.4.2"), .image_len = 300000, .target = 0, .order = 0
    };
    memset(r.component[0].image_sha256, 0xa1, SHA256_LEN);
    r.component[1] = (struct release_component){
        .id = 2, .type = COMPONENT_FS, .image_len = 5000, .target = 1, .order = 1
    };
    memset(r.component[1].image_sha256, 0xa2, SHA256_LEN);
    r.encoding[0] =
        (struct release_encoding){ .component = 1, .method = ENCODING_RAW, .payload_len = 300000 };
    memset(r.encoding[0].tree_root, 0xb1, SHA256_LEN);
    r.encoding[1] = (struct release_encoding){
        .component = 1, .method = ENCODING_PATCH, .payload_len = 9000, .has_base = true
    };
    memset(r.encoding[1].tree_root, 0xb2, SHA256_LEN);
    memset(r.encoding[1].base_sha256, 0xb3, SHA256_LEN);
    r.encoding[2] = (struct release_encoding){ .component = 2, .method = ENCODING_RAW, .payload_len = 5000 };
    memset(r.encoding[2].tree_root, 0xb4, SHA256_LEN);
    memset(r.provenance, 0xdd, SHA256_LEN);
    return r;
}

static inline struct ticket sample_ticket(void)
{
    struct ticket t = { .campaign = { 1, 2, 3, 4, 5, 6, 7, 8 },
                        .attempt = 1,
                        .ticket_seq = 77,
                        .action = TICKET_INSTALL,
                        .issued_s = 1795294800,
                        .ttl_s = TICKET_TTL_DEFAULT_S,
                        .has_nonce = true,
                        .nonce = { 8, 7, 6, 5, 4, 3, 2, 1 },
                        .window_start_s = 60,
                        .window_len_s = 7200,
                        .deferrals = 2,
                        .url_nr = 2,
                        .url = { SPAN("https://hub.example/artifacts"), SPAN("http://cache.example/a") },
                        .rate_cap_bps = 100000 };
    device_hash_of(&port_crypto, SPAN("d42"), t.device_hash);
    memset(t.release_id, 0x5e, OBJECT_ID_LEN);
    return t;
}

static inline struct report sample_report(void)
{
    struct report r = { .state = DEVICE_TRIAL,
                        .reason = REASON_PROBATION_HUB,
                        .report_seq = 1001,
                        .boot_id = 0xdeadbeef,
                        .uptime_s = 86400,
                        .campaign = { 1, 2, 3, 4, 5, 6, 7, 8 },
                        .attempt = 2,
                        .other_valid = 1,
                        .trust_version = 4,
                        .security_counter = 3,
                        .ticket_seq = 77,
                        .bytes_done = 123456,
                        .bytes_total = 300000,
                        .source = SOURCE_CACHE,
                        .reset_cause = 2,
                        .free_heap = 40000,
                        .largest_block = 20000,
                        .slot_len = 1u << 20,
                        .battery_pct = 80,
                        .rssi_dbm = -67,
                        .agent_version = 0x0102,
                        .nonce = { 8, 7, 6, 5, 4, 3, 2, 1 },
                        .product = SPAN("sensor-a"),
                        .hw_class = 8266,
                        .hw_rev = 2,
                        .release_seq = 42,
                        .trial_release = 0x04030201 };
    memset(r.running, 0x5e, OBJECT_ID_LEN);
    memset(r.other, 0x5d, OBJECT_ID_LEN);
    return r;
}

#endif
