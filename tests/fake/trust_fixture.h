/* tests/fake/trust_fixture.h - signed objects for tests of the hub: root, release and director keys from
 * fixed seeds, trust records, releases, payloads with their chunk trees. Include it once in a test program.
 */
#ifndef ROOST_TESTS_FAKE_TRUST_FIXTURE_H
#define ROOST_TESTS_FAKE_TRUST_FIXTURE_H

#include "core/trust/chunk_tree.h"
#include "core/trust/release.h"
#include "core/trust/report.h"
#include "port/crypto.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { TRUST_KEY_ROOT = 1, TRUST_KEY_ROOT2, TRUST_KEY_RELEASE, TRUST_KEY_RELEASE2, TRUST_KEY_DIRECTOR };

static inline void trust_fixture_seed(uint8_t seed[ED25519_KEY_LEN], int which)
{
    memset(seed, which, ED25519_KEY_LEN);
}
static inline struct trust_key trust_fixture_key(int which)
{
    struct trust_key k = { .alg = SIG_ED25519 };
    uint8_t seed[ED25519_KEY_LEN];
    trust_fixture_seed(seed, which);
    port_crypto.ed25519_public(seed, k.pub);
    key_id_of(&port_crypto, k.pub, k.id);
    return k;
}

struct trust_object {
    uint8_t mem[ENVELOPE_MAX];
    struct span raw;
};
static inline void trust_fixture_sign(struct trust_object *o, enum envelope_kind kind, struct span body,
                                      const int *keys)
{
    struct wr w = { o->mem, sizeof o->mem, 0 };
    envelope_begin(&w, kind, body);
    for (; *keys; keys++) {
        uint8_t seed[ED25519_KEY_LEN];
        trust_fixture_seed(seed, *keys);
        assert(envelope_sign(&w, &port_crypto, seed) == ERR_OK);
    }
    assert(wr_ok(&w));
    o->raw = wr_span(&w);
}

/* One root, one release and one director key; revoked: a key whose id is on the list, or 0. */
static inline void trust_fixture_record(struct trust_object *o, uint32_t version, int release_key,
                                        int director_key, int revoked, int signer)
{
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    struct trust_record t = { .fleet_id = "a test's fleet!",
                              .version = version,
                              .epoch = 1,
                              .created_s = 1700000000,
                              .root_threshold = 1,
                              .release_threshold = 1,
                              .root_nr = 1,
                              .release_nr = 1,
                              .director_nr = 1 };
    t.root[0] = trust_fixture_key(TRUST_KEY_ROOT);
    t.release[0] = trust_fixture_key(release_key);
    t.director[0] = trust_fixture_key(director_key);
    if (revoked) {
        struct trust_key k = trust_fixture_key(revoked);
        memcpy(t.revoked[t.revoked_nr++], k.id, KEY_ID_LEN);
    }
    trust_record_encode(&w, &t);
    trust_fixture_sign(o, ENVELOPE_TRUST_RECORD, wr_span(&w), (const int[]){ signer, 0 });
}

struct trust_payload {
    uint8_t bytes[20000];
    uint32_t len;
    uint8_t *tree; /* owned */
    uint32_t tree_len;
    uint8_t root[SHA256_LEN], sha256[SHA256_LEN];
};
static inline void trust_fixture_payload(struct trust_payload *p, uint32_t len, int fill)
{
    struct chunk_shape shape;
    struct chunk_builder b;
    struct sha256 h;
    assert(len <= sizeof p->bytes);
    p->len = len;
    for (uint32_t i = 0; i < len; i++)
        p->bytes[i] = (uint8_t)(fill + (int)(i * 31u + i / 7u));
    assert(chunk_shape_of(len, CHUNK_CODE_DEFAULT, CHUNK_FAN_OUT_DEFAULT, &shape) == ERR_OK);
    p->tree_len = chunk_tree_len(&shape);
    p->tree = malloc(p->tree_len);
    assert(p->tree);
    chunk_builder_init(&b, &port_crypto, &shape, p->tree);
    assert(chunk_builder_feed(&b, span_of(p->bytes, len)) == ERR_OK);
    assert(chunk_builder_finish(&b, p->root) == ERR_OK);
    port_crypto.sha256_init(&h);
    port_crypto.sha256_update(&h, span_of(p->bytes, len));
    port_crypto.sha256_final(&h, p->sha256);
}

/* "widget", class 7, revisions 0 to 3, one raw application image. */
static inline void trust_fixture_release(struct trust_object *o, uint32_t seq, uint16_t hw_class,
                                         const struct trust_payload *p, int signer, uint8_t id[OBJECT_ID_LEN])
{
    uint8_t body[ENVELOPE_BODY_MAX];
    struct wr w = { body, sizeof body, 0 };
    struct envelope env;
    size_t used;
    static char version[16];
    version[0] = (char)('0' + seq % 10);
    memcpy(version + 1, ".0.0", 5);
    struct release r = { .product = SPAN("widget"),
                         .hw_class = hw_class,
                         .hw_rev_max = 3,
                         .version = span_str(version),
                         .release_seq = seq,
                         .security_counter = 1,
                         .component_nr = 1,
                         .encoding_nr = 1,
                         .chunk_code = CHUNK_CODE_DEFAULT,
                         .fan_out = CHUNK_FAN_OUT_DEFAULT,
                         .probation_s = 60,
                         .confirm_checks = CONFIRM_HUB };
    r.component[0] = (struct release_component){
        .id = 1, .type = COMPONENT_APP, .version = span_str(version), .image_len = p->len
    };
    memcpy(r.component[0].image_sha256, p->sha256, SHA256_LEN);
    r.encoding[0] =
        (struct release_encoding){ .component = 1, .method = ENCODING_RAW, .payload_len = p->len };
    memcpy(r.encoding[0].tree_root, p->root, SHA256_LEN);
    release_encode(&w, &r);
    trust_fixture_sign(o, ENVELOPE_RELEASE, wr_span(&w),
                       signer ? (const int[]){ signer, 0 } : (const int[]){ TRUST_KEY_ROOT2, 0 });
    assert(envelope_decode(o->raw, ENVELOPE_BODY_MAX, &env, &used) == ERR_OK);
    envelope_id(&port_crypto, &env, id);
}

#endif
