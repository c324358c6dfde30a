/* cli/bundle.c - builds, opens, signs and verifies a release directory. */
#include "cli/bundle.h"

#include "base/text.h"
#include "cli/file.h"
#include "core/trust/chunk_tree.h"
#include "core/trust/report.h"
#include "port/crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST "manifest.hrm"

void bundle_name(const uint8_t root[SHA256_LEN], char out[BUNDLE_NAME_LEN + 1])
{
    struct wr w = { (uint8_t *)out, BUNDLE_NAME_LEN, 0 };
    hex_encode(&w, span_of(root, SHA256_LEN));
    out[BUNDLE_NAME_LEN] = 0;
}

enum err bundle_seq_of(const char *version, uint32_t *seq)
{
    uint64_t part[3];
    const char *at = version;
    for (unsigned i = 0; i < 3; i++) {
        size_t n = strcspn(at, ".");
        if (u64_parse(span_of(at, n), i == 0 ? 4000 : 999, &part[i]))
            return ERR_PROTO;
        if ((at[n] == '.') != (i < 2))
            return ERR_PROTO;
        at += n + 1;
    }
    *seq = (uint32_t)(part[0] * 1000000 + part[1] * 1000 + part[2] + 1);
    return ERR_OK;
}

static int put(const char *dir, const char *name, struct span bytes)
{
    char *path = path_join(dir, name);
    int rc = CLI_OK;
    if (file_save(path, bytes, 0644, false))
        rc = cli_fail(CLI_USAGE, NULL, "%s: %s", path, strerror(errno));
    free(path);
    return rc;
}

static int tree_make(struct span image, const struct release *r, uint8_t root[SHA256_LEN], uint8_t **tree,
                     size_t *tree_len)
{
    struct chunk_shape shape;
    struct chunk_builder b;
    if (image.n > UINT32_MAX || chunk_shape_of((uint32_t)image.n, r->chunk_code, r->fan_out, &shape))
        return cli_fail(CLI_REFUSED, NULL, "an image has at least one byte and at most %zu",
                        BUNDLE_PAYLOAD_MAX);
    *tree_len = chunk_tree_len(&shape);
    *tree = malloc(*tree_len);
    if (!*tree)
        return cli_fail(CLI_USAGE, NULL, "out of memory");
    chunk_builder_init(&b, &port_crypto, &shape, *tree);
    if (chunk_builder_feed(&b, image) || chunk_builder_finish(&b, root))
        abort(); /* the shape was made for exactly these bytes */
    return CLI_OK;
}

int bundle_build(const char *dir, const struct release *from, enum component_type type, struct span image)
{
    struct release r = *from, check;
    uint8_t body[ENVELOPE_BODY_MAX], raw[ENVELOPE_MAX], *tree = NULL;
    struct wr w = { body, sizeof body, 0 }, env = { raw, sizeof raw, 0 };
    char name[BUNDLE_NAME_LEN + 1], tree_name[BUNDLE_NAME_LEN + 6];
    size_t tree_len = 0;

    r.component_nr = r.encoding_nr = 1;
    r.component[0] =
        (struct release_component){ .id = 1, .type = (uint8_t)type, .image_len = (uint32_t)image.n };
    crypto_sha256(&port_crypto, image, r.component[0].image_sha256);
    r.encoding[0] =
        (struct release_encoding){ .component = 1, .method = ENCODING_RAW, .payload_len = (uint32_t)image.n };
    int rc = tree_make(image, &r, r.encoding[0].tree_root, &tree, &tree_len);
    if (rc)
        return rc;
    release_encode(&w, &r);
    if (!wr_ok(&w) || release_decode(wr_span(&w), &check)) {
        free(tree);
        return cli_fail(CLI_REFUSED,
                        "Product and version: 1 to 24 of A-Z a-z 0-9 . _ - + ~; the sequence is at least 1.",
                        "these values do not make a release");
    }
    envelope_begin(&env, ENVELOPE_RELEASE, wr_span(&w));
    bundle_name(r.encoding[0].tree_root, name);
    snprintf(tree_name, sizeof tree_name, "%s.tree", name);
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        rc = cli_fail(CLI_USAGE, NULL, "%s: %s", dir, strerror(errno));
    if (!rc)
        rc = put(dir, name, image);
    if (!rc)
        rc = put(dir, tree_name, span_of(tree, tree_len));
    if (!rc)
        rc = put(dir, MANIFEST, wr_span(&env)); /* last: a directory with a manifest is whole */
    free(tree);
    return rc;
}

int bundle_open(struct bundle *b, const char *dir)
{
    char *path = path_join(dir, MANIFEST);
    struct file_bytes f = { 0 };
    size_t used;
    enum err e = file_read(path, sizeof b->raw, &f);
    int rc = CLI_OK;

    if (e && e != ERR_LIMIT)
        rc = cli_fail(CLI_USAGE, "`roost release build` makes such a directory.", "%s: %s", path,
                      e == ERR_NOTFOUND ? "there is no release here" : strerror(errno));
    if (!e) {
        memcpy(b->raw, f.p, f.n);
        b->raw_len = f.n;
        free(f.p);
        e = envelope_decode_draft(span_of(b->raw, b->raw_len), ENVELOPE_BODY_MAX, &b->env, &used);
        if (!e && (used != b->raw_len || b->env.kind != ENVELOPE_RELEASE))
            e = ERR_PROTO;
        if (!e)
            e = release_decode(b->env.body, &b->release);
    }
    if (!rc && e)
        rc = cli_fail(CLI_REFUSED, "Build it again.", "%s is not a release manifest", path);
    if (!rc)
        envelope_id(&port_crypto, &b->env, b->id);
    free(path);
    return rc;
}

int bundle_sign(struct bundle *b, const char *dir, const uint8_t seed[ED25519_KEY_LEN])
{
    struct wr w = { b->raw, sizeof b->raw, b->raw_len };
    switch (envelope_sign(&w, &port_crypto, seed)) {
    case ERR_OK:
        b->raw_len = w.len;
        return put(dir, MANIFEST, wr_span(&w));
    case ERR_EXISTS:
        return CLI_OK; /* the same signature again changes nothing */
    default:
        return cli_fail(CLI_REFUSED, NULL, "a release carries at most %u signatures", ENVELOPE_SIG_MAX);
    }
}

static void verdict(struct bundle_verdict *v, unsigned reason, const char *detail)
{
    if (v->reason == REASON_NONE) {
        v->reason = reason;
        snprintf(v->detail, sizeof v->detail, "%s", detail);
    }
}

static const struct release_component *component_of(const struct release *r, uint8_t id)
{
    for (unsigned i = 0; i < r->component_nr; i++)
        if (r->component[i].id == id)
            return &r->component[i];
    return NULL;
}

/* Root list against the root, pages against the list, chunks against the pages, the image against its hash.
 */
static void payload_verify(const struct release *r, const struct release_encoding *k, struct span payload,
                           struct span tree, struct bundle_verdict *v)
{
    struct chunk_shape s;
    uint8_t h[SHA256_LEN];
    if (chunk_shape_of(k->payload_len, r->chunk_code, r->fan_out, &s) || payload.n != k->payload_len ||
        tree.n != chunk_tree_len(&s)) {
        verdict(v, REASON_HASH, "a file does not have the length that the manifest says");
        return;
    }
    crypto_sha256(&port_crypto, span_of(tree.p, chunk_root_list_len(&s)), h);
    if (memcmp(h, k->tree_root, SHA256_LEN) != 0)
        verdict(v, REASON_HASH, "the chunk tree is not the one in the manifest");
    for (uint32_t p = 0; p < s.page_nr; p++) {
        struct span page = span_of(tree.p + chunk_page_offset(&s, p), chunk_page_len(&s, p));
        crypto_sha256(&port_crypto, page, h);
        if (memcmp(h, tree.p + p * SHA256_LEN, SHA256_LEN) != 0)
            verdict(v, REASON_HASH, "a page of the chunk tree is not the one in its root list");
    }
    for (uint32_t i = 0; i < s.chunk_nr; i++) {
        crypto_sha256(&port_crypto, span_of(payload.p + (size_t)i * s.chunk_len, chunk_len_of(&s, i)), h);
        if (memcmp(h, tree.p + (s.page_nr + i) * SHA256_LEN, SHA256_LEN) != 0) {
            char detail[96];
            snprintf(detail, sizeof detail, "the payload differs from its tree in chunk %u", i);
            verdict(v, REASON_HASH, detail);
        }
    }
    const struct release_component *c = component_of(r, k->component);
    if (k->method == ENCODING_RAW && c) {
        crypto_sha256(&port_crypto, payload, h);
        if (memcmp(h, c->image_sha256, SHA256_LEN) != 0)
            verdict(v, REASON_HASH, "the image does not have the hash that the manifest says");
    }
}

void bundle_verify(const struct bundle *b, const char *dir, const struct trust_record *trust,
                   const struct bundle_target *target, struct bundle_verdict *v)
{
    const struct release *r = &b->release;
    *v = (struct bundle_verdict){ .reason = REASON_NONE };
    if (trust && release_verify(&port_crypto, trust, r, &b->env))
        verdict(v, REASON_SIGNATURE_RELEASE,
                b->env.sig_nr ? "not enough valid signatures of release keys that may sign this product"
                              : "it is not signed");
    if (target && target->product.n &&
        (!span_eq(target->product, r->product) || target->hw_class != r->hw_class ||
         target->hw_rev < r->hw_rev_min || target->hw_rev > r->hw_rev_max))
        verdict(v, REASON_HW_MISMATCH, "it is for another product, hardware class or revision");
    for (unsigned i = 0; i < r->encoding_nr && v->reason == REASON_NONE; i++) {
        char name[BUNDLE_NAME_LEN + 1], tree_name[BUNDLE_NAME_LEN + 6];
        struct file_bytes payload = { 0 }, tree = { 0 };
        bundle_name(r->encoding[i].tree_root, name);
        snprintf(tree_name, sizeof tree_name, "%s.tree", name);
        char *path = path_join(dir, name), *tree_path = path_join(dir, tree_name);
        if (file_read(path, BUNDLE_PAYLOAD_MAX, &payload) || file_read(tree_path, BUNDLE_PAYLOAD_MAX, &tree))
            verdict(v, REASON_HASH, "a payload or chunk tree that the manifest names is missing");
        else
            payload_verify(r, &r->encoding[i], file_span(&payload), file_span(&tree), v);
        free(payload.p);
        free(tree.p);
        free(path);
        free(tree_path);
    }
}
