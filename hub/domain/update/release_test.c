/* hub/domain/update/release_test.c - what is not taken: unsigned, wrongly signed, revoked, tampered with; and
 * that a refusal leaves nothing behind. On the real store and a real directory of blobs. */
#include "tests/fake/hub_fixture.h"
#include "tests/fake/trust_fixture.h"

#include "hub/domain/update/release.h"
#include "hub/domain/update/trust.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct fixture fx;
static struct arena arena;
static struct trust_payload payload;

static int setup(void **state)
{
    char dir[96];
    (void)state;
    fixture_init(&fx);
    snprintf(dir, sizeof dir, "%s/blob", fx.dir);
    assert_int_equal(blob_dir_open(&fx.hub.blob, dir), ERR_OK);
    arena_init(&arena, 4u << 20);
    struct trust_key d = trust_fixture_key(TRUST_KEY_DIRECTOR);
    memcpy(fx.hub.director_pub, d.pub, sizeof d.pub);
    trust_fixture_payload(&payload, 9000, 1);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    free(payload.tree);
    blob_close(fx.hub.blob);
    arena_fini(&arena);
    fixture_fini(&fx);
    return 0;
}

static struct trust_published published;
static enum err run_publish(struct store_tx *tx, void *ctx)
{
    return trust_publish(&fx.hub, tx, &arena, SPAN("tester"), ((struct trust_object *)ctx)->raw, &published);
}
static enum trust_refusal publish(struct trust_object *o)
{
    assert_int_equal(fixture_tx(&fx, run_publish, o), ERR_OK);
    return published.refusal;
}
static void publish_version(uint32_t version, int release_key, int revoked)
{
    struct trust_object o;
    trust_fixture_record(&o, version, release_key, TRUST_KEY_DIRECTOR, revoked, TRUST_KEY_ROOT);
    assert_int_equal(publish(&o), TRUST_TAKEN);
}

static struct release_added added;
static enum err run_add(struct store_tx *tx, void *ctx)
{
    return release_add(&fx.hub, tx, &arena, SPAN("tester"), ((struct trust_object *)ctx)->raw, &added);
}
static enum release_refusal add(struct trust_object *o)
{
    assert_int_equal(fixture_tx(&fx, run_add, o), ERR_OK);
    return added.refusal;
}

static void upload(const char *name, const uint8_t *p, size_t n)
{
    struct blob_upload *u;
    uint64_t have;
    assert_int_equal(blob_upload_open(fx.hub.blob, span_str(name), &u, &have), ERR_OK);
    assert_int_equal(have, 0);
    assert_int_equal(blob_upload_write(u, 0, span_of(p, n)), ERR_OK);
    blob_upload_close(u);
}
static struct artifact_ingest ingest_of(const struct trust_payload *p)
{
    struct artifact_ingest in = { .payload = SPAN("p"),
                                  .tree = SPAN("t"),
                                  .chunk_code = CHUNK_CODE_DEFAULT,
                                  .fan_out = CHUNK_FAN_OUT_DEFAULT };
    memcpy(in.root, p->root, SHA256_LEN);
    memcpy(in.payload_sha256, p->sha256, SHA256_LEN);
    return in;
}
static enum artifact_refusal ingest(struct artifact_ingest *in)
{
    assert_int_equal(artifact_ingest(&fx.hub, in), ERR_OK);
    return in->refusal;
}
static enum err run_put_artifact(struct store_tx *tx, void *ctx)
{
    struct artifact_row row = artifact_ingest_row(ctx);
    return tx_artifact_put(tx, &row);
}
static void artifact_here(struct trust_payload *p)
{
    struct artifact_ingest in = ingest_of(p);
    upload("p", p->bytes, p->len);
    upload("t", p->tree, p->tree_len);
    assert_int_equal(ingest(&in), ARTIFACT_TAKEN);
    assert_int_equal(fixture_tx(&fx, run_put_artifact, &in), ERR_OK);
}

static enum err run_newest(struct store_tx *tx, void *ctx)
{
    struct hardware hw = { SPAN("widget"), 7, 1 };
    return release_newest(tx, &arena, &hw, ctx);
}

/* ---- artifacts ------------------------------------------------------------------------------------- */

static void test_artifact_is_computed_anew(void **state)
{
    struct artifact_ingest in = ingest_of(&payload);
    (void)state;
    assert_int_equal(ingest(&in), ARTIFACT_NO_PAYLOAD);
    upload("p", payload.bytes, payload.len);
    assert_int_equal(ingest(&in), ARTIFACT_NO_TREE);
    upload("t", payload.tree, payload.tree_len); /* the payload stays: only what is missing comes again */
    assert_int_equal(ingest(&in), ARTIFACT_TAKEN);
    assert_int_equal(in.payload_len, payload.len);
    assert_int_equal(ingest(&in), ARTIFACT_TAKEN); /* told twice */
}

static void test_tampered_payload(void **state)
{
    struct artifact_ingest in = ingest_of(&payload);
    (void)state;
    payload.bytes[4097] ^= 1;
    upload("p", payload.bytes, payload.len);
    upload("t", payload.tree, payload.tree_len);
    assert_int_equal(ingest(&in), ARTIFACT_PAYLOAD_SUM);
    payload.bytes[4097] ^= 1;
    upload("p", payload.bytes, payload.len); /* starts from nothing again */
    assert_int_equal(ingest(&in), ARTIFACT_TAKEN);
}

static void test_tampered_tree_and_root(void **state)
{
    struct artifact_ingest in = ingest_of(&payload);
    (void)state;
    upload("p", payload.bytes, payload.len);
    payload.tree[40] ^= 1;
    upload("t", payload.tree, payload.tree_len);
    assert_int_equal(ingest(&in), ARTIFACT_TREE);
    payload.tree[40] ^= 1;
    upload("t", payload.tree, payload.tree_len - 1);
    assert_int_equal(ingest(&in), ARTIFACT_TREE);
    upload("t", payload.tree, payload.tree_len);
    in.root[0] ^= 1;
    assert_int_equal(ingest(&in), ARTIFACT_ROOT);
    in.root[0] ^= 1;
    in.chunk_code = 8;
    assert_int_equal(ingest(&in), ARTIFACT_SHAPE);
    in.chunk_code = 13; /* another cut has another root */
    assert_int_equal(ingest(&in), ARTIFACT_ROOT);
    in.chunk_code = CHUNK_CODE_DEFAULT;
    assert_int_equal(ingest(&in), ARTIFACT_TAKEN);
}

/* ---- releases -------------------------------------------------------------------------------------- */

static void test_release_needs_trust_artifact_and_signature(void **state)
{
    struct trust_object rel, other;
    uint8_t id[OBJECT_ID_LEN];
    struct release_row newest;
    (void)state;
    trust_fixture_release(&rel, 5, 7, &payload, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_NO_TRUST);
    publish_version(1, TRUST_KEY_RELEASE, 0);
    assert_int_equal(add(&rel), RELEASE_NO_ARTIFACT);
    assert_memory_equal(added.artifact, payload.root, SHA256_LEN);
    artifact_here(&payload);
    trust_fixture_release(&other, 5, 7, &payload, TRUST_KEY_RELEASE2, id);
    assert_int_equal(add(&other), RELEASE_SIGNATURES);
    trust_fixture_release(&other, 5, 7, &payload, TRUST_KEY_DIRECTOR, id); /* a director may not */
    assert_int_equal(add(&other), RELEASE_SIGNATURES);
    assert_int_equal(fixture_tx(&fx, run_newest, &newest), ERR_NOTFOUND); /* nothing was kept */
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    assert_false(added.existed);
    assert_memory_equal(added.id, id, sizeof id);
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    assert_true(added.existed);
    assert_int_equal(fixture_tx(&fx, run_newest, &newest), ERR_OK);
    assert_true(span_eq(newest.id, span_of(id, sizeof id)));
}

static void test_every_flipped_byte_is_refused(void **state)
{
    struct trust_object rel;
    uint8_t id[OBJECT_ID_LEN];
    (void)state;
    publish_version(1, TRUST_KEY_RELEASE, 0);
    artifact_here(&payload);
    trust_fixture_release(&rel, 5, 7, &payload, TRUST_KEY_RELEASE, id);
    for (size_t i = 0; i < rel.raw.n; i++) {
        rel.mem[i] ^= 0x40;
        if (add(&rel) == RELEASE_TAKEN)
            fail_msg("byte %zu", i);
        rel.mem[i] ^= 0x40;
    }
    for (size_t n = 0; n < rel.raw.n; n++) {
        struct trust_object cut = rel;
        cut.raw = span_of(cut.mem, n);
        assert_int_equal(add(&cut), RELEASE_FORMAT);
    }
    assert_int_equal(add(&rel), RELEASE_TAKEN);
}

static void test_artifact_of_another_content(void **state)
{
    struct trust_object rel;
    uint8_t id[OBJECT_ID_LEN];
    struct trust_payload lie = payload;
    (void)state;
    publish_version(1, TRUST_KEY_RELEASE, 0);
    artifact_here(&payload);
    lie.sha256[0] ^= 1; /* the manifest promises other bytes under the same root */
    trust_fixture_release(&rel, 5, 7, &lie, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_ARTIFACT_LEN);
    lie = payload;
    lie.len--;
    trust_fixture_release(&rel, 5, 7, &lie, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_ARTIFACT_LEN);
}

static void test_sequence_belongs_to_one_release(void **state)
{
    struct trust_object rel;
    uint8_t id[OBJECT_ID_LEN];
    struct trust_payload second;
    (void)state;
    publish_version(1, TRUST_KEY_RELEASE, 0);
    artifact_here(&payload);
    trust_fixture_payload(&second, 5000, 2);
    artifact_here(&second);
    trust_fixture_release(&rel, 5, 7, &payload, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    trust_fixture_release(&rel, 5, 7, &second, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_SEQ_TAKEN);
    trust_fixture_release(&rel, 5, 8, &second, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    free(second.tree);
}

static void test_revoked_key_bars_its_releases(void **state)
{
    struct trust_object rel;
    uint8_t id[OBJECT_ID_LEN], id2[OBJECT_ID_LEN];
    struct release_row newest;
    struct trust_payload second;
    (void)state;
    publish_version(1, TRUST_KEY_RELEASE, 0);
    artifact_here(&payload);
    trust_fixture_payload(&second, 5000, 2);
    artifact_here(&second);
    trust_fixture_release(&rel, 5, 7, &payload, TRUST_KEY_RELEASE, id);
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    publish_version(2, TRUST_KEY_RELEASE2, TRUST_KEY_RELEASE);
    assert_int_equal(published.releases_barred, 1);
    assert_int_equal(fixture_tx(&fx, run_newest, &newest), ERR_NOTFOUND); /* it is not offered any more */
    assert_int_equal(add(&rel), RELEASE_SIGNATURES);
    trust_fixture_release(&rel, 4, 7, &second, TRUST_KEY_RELEASE2, id2);
    assert_int_equal(add(&rel), RELEASE_TAKEN);
    assert_int_equal(fixture_tx(&fx, run_newest, &newest), ERR_OK);
    assert_true(span_eq(newest.id, span_of(id2, sizeof id2)));
    publish_version(3, TRUST_KEY_RELEASE, 0); /* the roots think again */
    assert_int_equal(published.releases_barred, 1);
    assert_int_equal(fixture_tx(&fx, run_newest, &newest), ERR_OK);
    assert_true(span_eq(newest.id, span_of(id, sizeof id)));
    free(second.tree);
}

/* ---- trust records --------------------------------------------------------------------------------- */

static enum err run_after(struct store_tx *tx, void *ctx)
{
    struct span *out = ctx;
    return trust_records_after(&fx.hub, tx, &arena, (uint32_t)out->n, 600, out);
}

static void test_chain_of_trust_records(void **state)
{
    struct trust_object o, first;
    (void)state;
    trust_fixture_record(&first, 3, TRUST_KEY_RELEASE, TRUST_KEY_RELEASE2, 0, TRUST_KEY_ROOT);
    assert_int_equal(publish(&first), TRUST_TAKEN); /* a new hub may begin in the middle of the chain */
    assert_true(published.director_missing);
    assert_int_equal(publish(&first), TRUST_TAKEN); /* told twice */
    trust_fixture_record(&o, 5, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT);
    assert_int_equal(publish(&o), TRUST_VERSION);
    assert_int_equal(published.newest, 3);
    trust_fixture_record(&o, 3, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT);
    assert_int_equal(publish(&o), TRUST_VERSION);
    trust_fixture_record(&o, 4, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT2);
    assert_int_equal(publish(&o), TRUST_SIGNATURES);
    trust_fixture_record(&o, 4, TRUST_KEY_RELEASE, TRUST_KEY_DIRECTOR, 0, TRUST_KEY_ROOT);
    o.raw.n--;
    assert_int_equal(publish(&o), TRUST_FORMAT);
    o.raw.n++;
    assert_int_equal(publish(&o), TRUST_TAKEN);
    assert_false(published.director_missing);

    struct span out = { NULL, 0 }; /* holds nothing: gets what there is */
    assert_int_equal(fixture_tx(&fx, run_after, &out), ERR_OK);
    assert_int_equal(out.n, first.raw.n + o.raw.n);
    assert_memory_equal(out.p, first.mem, first.raw.n);
    out.n = 3;
    assert_int_equal(fixture_tx(&fx, run_after, &out), ERR_OK);
    assert_int_equal(out.n, o.raw.n);
    assert_memory_equal(out.p, o.mem, o.raw.n);
    out.n = 4;
    assert_int_equal(fixture_tx(&fx, run_after, &out), ERR_OK);
    assert_int_equal(out.n, 0);
    out.n = 9; /* it knows more than this hub */
    assert_int_equal(fixture_tx(&fx, run_after, &out), ERR_OK);
    assert_int_equal(out.n, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_artifact_is_computed_anew),       T(test_tampered_payload),
        T(test_tampered_tree_and_root),          T(test_release_needs_trust_artifact_and_signature),
        T(test_every_flipped_byte_is_refused),   T(test_artifact_of_another_content),
        T(test_sequence_belongs_to_one_release), T(test_revoked_key_bars_its_releases),
        T(test_chain_of_trust_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
