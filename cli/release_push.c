/* cli/release_push.c - uploads in pieces that can be taken up again, and the list of releases. */
#include "cli/release_push.h"

#include "cli/bundle.h"
#include "cli/commands.h"
#include "cli/file.h"
#include "cli/hub_client.h"
#include "cli/out.h"

#include "base/text.h"
#include "core/trust/report.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define PIECE_LEN   (1u << 20) /* what one request may carry; docs/api.md */
#define RETRIES_MAX 5u

/* One request, tried again while the hub cannot be reached or asks for patience. */
static int ask(struct cli *c, const struct hub_request *r, struct hub_answer *a)
{
    int rc = CLI_UNREACHABLE;
    for (unsigned i = 0; i < RETRIES_MAX; i++) {
        if (i) {
            hub_answer_free(a);
            struct timespec pause = { .tv_sec = (time_t)1 << (i - 1) };
            nanosleep(&pause, NULL);
        }
        rc = hub_ask(c, r, a);
        if (!rc && a->status != 429 && a->status != 503)
            return CLI_OK;
    }
    return rc;
}

static int upload_offset(struct cli *c, const char *path, uint64_t *offset)
{
    struct hub_answer a = { 0 };
    int rc = ask(c, &(struct hub_request){ .method = "HEAD", .path = path }, &a);
    *offset = 0;
    if (rc)
        rc = hub_unreachable(c, &a);
    else if (a.status >= 200 && a.status <= 299 && a.upload_offset > 0)
        *offset = (uint64_t)a.upload_offset;
    else if (a.status > 299 && a.status != 404)
        rc = hub_complain(&a, "asking how much of an upload is there");
    hub_answer_free(&a);
    return rc;
}

static int upload(struct cli *c, const char *name, const char *what, struct span bytes)
{
    char *path = hub_path("/roost/v1/uploads/", name, "");
    uint64_t at;
    int rc = upload_offset(c, path, &at);
    struct progress bar;

    if (!rc && at > bytes.n)
        at = 0;
    if (!rc)
        progress_begin(&bar, c, what, bytes.n, at);
    bool stuck = false;
    while (!rc && at < bytes.n) {
        size_t n = bytes.n - at < PIECE_LEN ? bytes.n - (size_t)at : PIECE_LEN;
        char range[128];
        struct hub_answer a = { 0 };
        snprintf(range, sizeof range, "Content-Range: bytes %llu-%llu/%zu", (unsigned long long)at,
                 (unsigned long long)(at + n - 1), bytes.n);
        struct hub_request r = { .method = "PUT",
                                 .path = path,
                                 .content_type = "application/octet-stream",
                                 .body = span_of(bytes.p + at, n),
                                 .header = range };
        rc = ask(c, &r, &a);
        if (rc) {
            rc = hub_unreachable(c, &a);
        } else if (a.status >= 200 && a.status <= 299) {
            at += n;
            stuck = false;
        } else if ((a.status == 409 || a.status == 416) &&
                   !stuck) { /* the hub has another idea of where we are */
            stuck = true;
            rc = upload_offset(c, path, &at);
        } else {
            rc = hub_complain(&a, "uploading");
        }
        hub_answer_free(&a);
        if (!rc)
            progress_set(&bar, at);
    }
    if (!rc)
        progress_end(&bar);
    else if (c->tty_err && !c->json)
        fputc('\n', stderr);
    free(path);
    return rc;
}

static int artifact_is_there(struct cli *c, const char *name, bool *there)
{
    struct hub_answer a = { 0 };
    char *path = hub_path("/artifacts/", name, "");
    int rc = ask(c, &(struct hub_request){ .method = "HEAD", .path = path }, &a);
    *there = !rc && a.status == 200;
    if (rc)
        rc = hub_unreachable(c, &a);
    hub_answer_free(&a);
    free(path);
    return rc;
}

static int artifact_push(struct cli *c, const struct bundle *b, const struct release_encoding *k,
                         const char *dir)
{
    char name[BUNDLE_NAME_LEN + 1], tree_name[BUNDLE_NAME_LEN + 6], sha[BUNDLE_NAME_LEN + 1], what[64];
    char payload_upload[64], tree_upload[64]; /* names under which the pieces gather: at most 64 characters */
    struct file_bytes payload = { 0 }, tree = { 0 };
    bool there;
    int rc;

    bundle_name(k->tree_root, name);
    snprintf(tree_name, sizeof tree_name, "%s.tree", name);
    snprintf(payload_upload, sizeof payload_upload, "%.40s-payload", name);
    snprintf(tree_upload, sizeof tree_upload, "%.40s-tree", name);
    if ((rc = artifact_is_there(c, name, &there)) || there)
        return rc;
    char *path = path_join(dir, name), *tree_path = path_join(dir, tree_name);
    if (file_read(path, BUNDLE_PAYLOAD_MAX, &payload) || file_read(tree_path, BUNDLE_PAYLOAD_MAX, &tree))
        rc = cli_fail(CLI_REFUSED, "Build it again.", "%s lacks a payload or a chunk tree", dir);
    snprintf(what, sizeof what, "%.*s %.*s", (int)b->release.product.n, (const char *)b->release.product.p,
             (int)b->release.version.n, (const char *)b->release.version.p);
    if (!rc)
        rc = upload(c, payload_upload, what, file_span(&payload));
    if (!rc)
        rc = upload(c, tree_upload, "its chunk tree", file_span(&tree));
    if (!rc) {
        const struct release_component *at = &b->release.component[0];
        for (unsigned i = 0; i < b->release.component_nr; i++)
            if (b->release.component[i].id == k->component)
                at = &b->release.component[i];
        bundle_name(at->image_sha256, sha); /* raw: the payload is the image */
        rc = hub_json(c, "POST", "/roost/v1/artifacts",
                      json_pack("{s:s,s:s,s:s,s:s,s:i,s:i}", "payload", payload_upload, "tree", tree_upload,
                                "root", name, "sha256", sha, "chunkCode", b->release.chunk_code, "fanOut",
                                b->release.fan_out),
                      "handing over the artifact", NULL);
    }
    free(payload.p);
    free(tree.p);
    free(path);
    free(tree_path);
    return rc;
}

static int push_one(struct cli *c, const char *dir, json_t *done)
{
    struct bundle *b = cli_alloc(sizeof *b);
    struct bundle_verdict v;
    struct hub_answer a = { 0 };
    char id[BUNDLE_NAME_LEN + 1];
    int rc = bundle_open(b, dir);

    if (!rc) { /* who signed it is the hub's to say: it has the trust record */
        bundle_verify(b, dir, NULL, NULL, &v);
        if (v.reason != REASON_NONE)
            rc = cli_fail(CLI_REFUSED, "Build it again; nothing was sent.", "%s: %s", dir, v.detail);
        else if (b->env.sig_nr == 0)
            rc = cli_fail(CLI_REFUSED, "roost release sign DIR --key-file FILE", "%s is not signed", dir);
    }
    for (unsigned i = 0; !rc && i < b->release.encoding_nr; i++)
        rc = artifact_push(c, b, &b->release.encoding[i], dir);
    if (!rc) {
        struct hub_request r = { .method = "POST",
                                 .path = "/roost/v1/releases",
                                 .content_type = "application/octet-stream",
                                 .body = span_of(b->raw, b->raw_len) };
        rc = ask(c, &r, &a);
        if (rc)
            rc = hub_unreachable(c, &a);
        else if (a.status < 200 || a.status > 299)
            rc = hub_complain(&a, "publishing the release");
        hub_answer_free(&a);
    }
    if (!rc) {
        bundle_name(b->id, id);
        cli_say(c, "%.*s %.*s for hardware class %u is on the hub: %s\n", (int)b->release.product.n,
                (const char *)b->release.product.p, (int)b->release.version.n,
                (const char *)b->release.version.p, b->release.hw_class, id);
        json_array_append_new(done, json_string(id));
    }
    free(b);
    return rc;
}

int release_push(struct cli *c, const struct args *a)
{
    json_t *done = json_array();
    int rc = hub_open(c);
    for (size_t i = 0; !rc && i < a->pos_nr; i++)
        rc = push_one(c, a->pos[i], done);
    if (c->json && !rc)
        json_print(json_pack("{s:O}", "releases", done));
    json_decref(done);
    return rc;
}

int release_list(struct cli *c, const struct args *a)
{
    static const char *const head[] = { "PRODUCT", "VERSION", "HARDWARE", "SEQUENCE", "CREATED", "ID" };
    json_t *doc = NULL, *r;
    struct table t;
    size_t i;
    (void)a;
    int rc = hub_json(c, "GET", "/roost/v1/releases", NULL, "listing releases", &doc);
    if (rc)
        return rc;
    if (c->json) {
        json_print(doc);
        return CLI_OK;
    }
    table_begin(&t, 6, head);
    json_array_foreach(json_object_get(doc, "releases"), i, r)
    {
        char hardware[64], seq[24], id[13] = "";
        snprintf(hardware, sizeof hardware, "class %u rev %u-%u",
                 (unsigned)json_number(r, "hardwareClass", 0), (unsigned)json_number(r, "hardwareRevMin", 0),
                 (unsigned)json_number(r, "hardwareRevMax", 255));
        snprintf(seq, sizeof seq, "%llu", (unsigned long long)json_number(r, "sequence", 0));
        snprintf(id, sizeof id, "%s", json_text(r, "id") ? json_text(r, "id") : "");
        table_row(&t, (const char *const[]){ json_text(r, "product"), json_text(r, "version"), hardware, seq,
                                             moment_text(r, "created", (char[24]){ 0 }), id });
    }
    table_end(&t, c, stdout);
    json_decref(doc);
    return CLI_OK;
}

static bool names(const json_t *r, const char *text)
{
    const char *id = json_text(r, "id"), *product = json_text(r, "product"),
               *version = json_text(r, "version");
    const char *at = strchr(text, '@');
    if (!id || !product || !version)
        return false;
    if (at)
        return strlen(product) == (size_t)(at - text) && strncmp(product, text, (size_t)(at - text)) == 0 &&
               strcmp(version, at + 1) == 0;
    return strcmp(version, text) == 0;
}

static bool same_target(const json_t *a, const json_t *b)
{
    return strcmp(json_text(a, "product"), json_text(b, "product")) == 0 &&
           json_number(a, "hardwareClass", 0) == json_number(b, "hardwareClass", 0);
}

json_t *release_choose(const json_t *listing, const char *text)
{
    const json_t *releases = json_object_get(listing, "releases");
    json_t *chosen = json_array(), *ids = json_array(), *r, *other;
    size_t i, k;

    json_array_foreach(releases, i, r)
    {
        if (!names(r, text))
            continue;
        bool placed = false;
        json_array_foreach(chosen, k, other)
        {
            if (!same_target(r, other))
                continue;
            placed = true;
            if (json_number(r, "sequence", 0) > json_number(other, "sequence", 0))
                json_array_set(chosen, k, r);
            break;
        }
        if (!placed)
            json_array_append(chosen, r);
    }
    if (json_array_size(chosen) == 0 && strlen(text) >= 4) /* an id then; one release, or it is ambiguous */
        json_array_foreach(releases, i, r)
        {
            const char *id = json_text(r, "id");
            if (id && strncmp(id, text, strlen(text)) == 0)
                json_array_append(chosen, r);
        }
    json_array_foreach(chosen, i, r)
    {
        json_array_append(ids, json_object_get(r, "id"));
    }
    json_decref(chosen);
    return ids;
}
