/* hub/domain/job/registry_job.c - import and export jobs as they are asked for and shown: which files they
 * may touch, what is remembered of them. */
#include "hub/domain/job/registry_job.h"

#include "base/text.h"
#include "core/storage/service_sas.h"
#include "hub/domain/audit.h"
#include "hub/domain/job/registry_line.h"
#include "hub/domain/json_members.h"
#include "hub/domain/json_tree.h"
#include "hub/domain/message/upload.h"

#include <stdarg.h>
#include <stdio.h>

#define ADDRESS_MAX 4096u

static enum err wrong(struct registry_job_fault *f, enum registry_wrong what, const char *text, ...)
    __attribute__((format(printf, 3, 4)));
static enum err wrong(struct registry_job_fault *f, enum registry_wrong what, const char *text, ...)
{
    va_list ap;
    va_start(ap, text);
    vsnprintf(f->text, sizeof f->text, text, ap);
    va_end(ap);
    f->wrong = what;
    return ERR_PROTO;
}

/* ---- addresses ------------------------------------------------------------------------------------------
 */

/* Up to the first of these characters, which is left in *rest. */
static struct span until(struct span *rest, const char *stops)
{
    struct span s = *rest;
    size_t n = 0;
    while (n < s.n && (!s.p[n] || !strchr(stops, s.p[n])))
        n++;
    *rest = span_skip(s, n);
    return span_of(s.p, n);
}

/* Any port: whoever came through a mapped one sees another than the hub does, and nothing is connected to. */
static bool is_here(const struct hub *h, struct span authority)
{
    struct span port = authority, name = until(&port, ":");
    uint64_t nr;
    if (port.n && (port.n < 2 || u64_parse(span_skip(port, 1), 65535, &nr)))
        return false;
    for (const char *const *n = h->names; *n; n++)
        if (span_ieq(name, span_str(*n)))
            return true;
    return false;
}

static enum err signature(struct hub *h, struct arena *a, struct span query, struct span container,
                          const char *member, const char *letters, struct registry_job_fault *f)
{
    struct wr mem = { arena_alloc(a, query.n + 1), query.n, 0 };
    struct service_sas s;
    uint8_t key[SHA256_LEN];
    if (!mem.p)
        return ERR_NOMEM;
    if (service_sas_parse(query, &mem, &s))
        return wrong(f, REGISTRY_BAD_CONTAINER, "%s has no shared access signature", member);
    upload_key(h, key);
    bool is = service_sas_verify(&s, h->crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT), container,
                                 SPAN_NONE);
    explicit_bzero(key, sizeof key);
    if (!is || !span_eq(s.field[SERVICE_SAS_SR], SPAN("c")) || s.field[SERVICE_SAS_SI].n ||
        s.field[SERVICE_SAS_SIP].n)
        return wrong(f, REGISTRY_BAD_CONTAINER, "the signature in %s is not that of the container", member);
    if (!service_sas_is_live(&s, h->wall_ms()))
        return wrong(f, REGISTRY_BAD_CONTAINER, "the signature in %s is not valid now", member);
    for (const char *l = letters; *l; l++)
        if (!service_sas_permits(&s, *l))
            return wrong(f, REGISTRY_BAD_CONTAINER, "the signature in %s has to permit all of \"%s\"", member,
                         letters);
    return ERR_OK;
}

static enum err container(struct hub *h, struct arena *a, const char *member, struct span address,
                          bool by_identity, const char *letters, struct registry_job_fault *f)
{
    struct span rest = address, scheme = SPAN("https://");
    const char *ours = h->settings.registry_container;
    if (!h->files || !ours || !*ours)
        return wrong(f, REGISTRY_BAD_CONTAINER, "this hub has no container for files of the registry");
    if (!address.n)
        return wrong(f, REGISTRY_BAD_ARGUMENT, "member \"%s\" is missing", member);
    if (address.n > ADDRESS_MAX)
        return wrong(f, REGISTRY_BAD_ARGUMENT, "member \"%s\" is longer than %u bytes", member, ADDRESS_MAX);
    bool good = rest.n > scheme.n && span_ieq(span_of(rest.p, scheme.n), scheme);
    rest = good ? span_skip(rest, scheme.n) : SPAN_NONE;
    struct span authority = until(&rest, "/?#");
    good = good && is_here(h, authority);
    struct span path = until(&rest, "?#"), query = SPAN_NONE;
    if (rest.n && rest.p[0] == '?') {
        rest = span_skip(rest, 1);
        query = until(&rest, "#");
    }
    while (path.n && path.p[0] == '/')
        path = span_skip(path, 1);
    while (path.n && path.p[path.n - 1] == '/')
        path.n--;
    struct wr name = { arena_alloc(a, path.n + 1), path.n, 0 };
    if (!name.p)
        return ERR_NOMEM;
    percent_decode(&name, path);
    if (!good || !registry_container_is(h, wr_span(&name)))
        return wrong(
            f, REGISTRY_BAD_CONTAINER,
            "%s has to be the container of this hub, https://%s/%s: the hub reads and writes no other "
            "place",
            member, h->names[0], ours);
    return by_identity ? ERR_OK : signature(h, a, query, wr_span(&name), member, letters, f);
}

static struct span or_else(struct span s, const char *absent)
{
    return s.n ? s : span_str(absent);
}

static enum err blob_name(const char *member, struct span name, struct registry_job_fault *f)
{
    if (name.n && !upload_name_ok(name))
        return wrong(f, REGISTRY_BAD_ARGUMENT,
                     "member \"%s\" has 1 to %u segments, at most %u bytes and no control characters", member,
                     UPLOAD_SEGMENTS_MAX, UPLOAD_NAME_MAX);
    return ERR_OK;
}

enum err registry_job_check(struct hub *h, struct arena *a, const struct registry_job_new *in,
                            struct registry_job_fault *f)
{
    bool import = in->kind == FLEET_JOB_IMPORT, same = import && !in->output.n;
    enum err e = ERR_OK;
    if (import)
        e = container(h, a, "inputBlobContainerUri", in->input, in->by_identity, same ? "rwd" : "r", f);
    if (!e && !same)
        e = container(h, a, "outputBlobContainerUri", in->output, in->by_identity, "rwd", f);
    if (!e)
        e = blob_name("inputBlobName", in->input_blob, f);
    if (!e)
        e = blob_name("outputBlobName", in->output_blob, f);
    if (!e)
        e = blob_name("errorsBlobName", in->errors_blob, f);
    if (!e)
        e = blob_name("configurationsBlobName", in->configurations_blob, f);
    if (!e && in->configurations &&
        span_eq(or_else(import ? in->input_blob : in->output_blob, REGISTRY_BLOB),
                or_else(in->configurations_blob, REGISTRY_CONFIGS_BLOB)))
        e = wrong(f, REGISTRY_BAD_ARGUMENT,
                  "member \"configurationsBlobName\" has to be another name than that of the identities");
    if (!e && !registry_mode_find(in->mode))
        e = wrong(f, REGISTRY_BAD_ARGUMENT, "member \"importMode\" is not known");
    return e;
}

/* ---- what is stored -------------------------------------------------------------------------------------
 */

static void file_write_members(struct wr *w, const char *file, const uint8_t id[FILE_ID_LEN],
                               const char *length, uint64_t nr)
{
    member_number(w, length, nr);
    member_raw(w, file, SPAN("\""));
    hex_encode(w, span_of(id, FILE_ID_LEN));
    wr_u8(w, '"');
}

static void body_write(struct wr *w, const struct registry_job_body *b, bool import)
{
    wr_str(w, "{\"container\":");
    member_string(w, b->container);
    member_text(w, "blob", b->blob);
    if (b->configurations.n)
        member_text(w, "configurations", b->configurations);
    if (import) {
        member_text(w, "errors", b->errors);
        member_text(w, "mode", b->mode);
        file_write_members(w, "file", b->file, "length", b->length);
        if (b->configurations.n)
            file_write_members(w, "configurationsFile", b->configurations_file, "configurationsLength",
                               b->configurations_length);
    } else {
        member_bool(w, "excludeKeys", b->exclude_keys);
    }
    member_bool(w, "byIdentity", b->by_identity);
    wr_u8(w, '}');
}

static struct span body_text(const struct jnode *o, const char *name)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    return n && (n->kind == JSTRING || n->kind == JNUMBER) ? n->text : SPAN_NONE;
}

static bool body_true(const struct jnode *o, const char *name)
{
    const struct jnode *n = jtree_get(o, span_str(name));
    return n && n->kind == JTRUE;
}

static enum err body_file(const struct jnode *o, const char *file, uint8_t id[FILE_ID_LEN],
                          const char *length, uint64_t *nr)
{
    struct span hex = body_text(o, file);
    return hex.n && (hex_decode(hex, id, FILE_ID_LEN) || u64_parse(body_text(o, length), UINT64_MAX, nr))
               ? ERR_PROTO
               : ERR_OK;
}

enum err registry_job_body(struct arena *a, struct span text, struct registry_job_body *out)
{
    struct jnode *o = NULL;
    enum err e = jtree_parse(a, text, &o, NULL);
    if (e)
        return e;
    *out = (struct registry_job_body){ .container = body_text(o, "container"),
                                       .blob = body_text(o, "blob"),
                                       .errors = body_text(o, "errors"),
                                       .mode = body_text(o, "mode"),
                                       .configurations = body_text(o, "configurations"),
                                       .exclude_keys = body_true(o, "excludeKeys"),
                                       .by_identity = body_true(o, "byIdentity") };
    e = body_file(o, "file", out->file, "length", &out->length);
    return e ? e
             : body_file(o, "configurationsFile", out->configurations_file, "configurationsLength",
                         &out->configurations_length);
}

static enum err find_blob(struct store_tx *tx, struct span container, struct span blob,
                          uint8_t file[FILE_ID_LEN], uint64_t *length, struct registry_job_fault *f)
{
    struct named_blob_row r;
    enum err e = tx_blob_get(tx, container, blob, &r);
    if (e == ERR_NOTFOUND)
        return wrong(f, REGISTRY_BAD_CONTAINER, "the container has no blob \"%.*s\"",
                     blob.n > 200 ? 200 : (int)blob.n, (const char *)blob.p);
    if (!e && r.file.n != FILE_ID_LEN)
        return ERR_IO;
    if (e)
        return e;
    memcpy(file, r.file.p, FILE_ID_LEN);
    *length = r.length;
    return ERR_OK;
}

static enum err find_input(struct store_tx *tx, struct registry_job_body *b, struct registry_job_fault *f)
{
    enum err e = find_blob(tx, b->container, b->blob, b->file, &b->length, f);
    if (!e && b->configurations.n)
        e = find_blob(tx, b->container, b->configurations, b->configurations_file, &b->configurations_length,
                      f);
    return e;
}

enum err registry_job_create(struct hub *h, struct store_tx *tx, struct arena *a,
                             const struct registry_job_new *in, struct fleet_job_row *out,
                             struct registry_job_fault *f)
{
    bool import = in->kind == FLEET_JOB_IMPORT;
    struct registry_job_body b = { .container = span_str(h->settings.registry_container),
                                   .blob = or_else(import ? in->input_blob : in->output_blob, REGISTRY_BLOB),
                                   .errors = or_else(in->errors_blob, REGISTRY_ERRORS_BLOB),
                                   .mode = span_str(registry_mode_find(in->mode)->name),
                                   .configurations = in->configurations ? or_else(in->configurations_blob,
                                                                                  REGISTRY_CONFIGS_BLOB)
                                                                        : SPAN_NONE,
                                   .exclude_keys = in->exclude_keys,
                                   .by_identity = in->by_identity };
    uint8_t random[16];
    char id[37];
    uint64_t active = 0, seq;
    const uint64_t now = h->wall_ms();
    struct wr w = { 0 };
    enum err e = tx_fleet_job_active(tx, FLEET_JOB_EXPORT, FLEET_JOB_IMPORT, &active);
    if (!e && active)
        return ERR_LIMIT;
    if (!e && import)
        e = find_input(tx, &b, f);
    if (e)
        return e;
    body_write(&w, &b, import);
    w = (struct wr){ arena_alloc(a, w.len), w.len, 0 };
    if (!w.p)
        return ERR_NOMEM;
    body_write(&w, &b, import);
    h->crypto->random(random, sizeof random);
    uuid_encode(random, id);
    struct fleet_job_row r = { .id = span_str(id),
                               .kind = in->kind,
                               .state = FLEET_JOB_QUEUED,
                               .open = true,
                               .body = wr_span(&w),
                               .created_by = in->who,
                               .created_ms = now,
                               .start_ms = now };
    e = tx_fleet_job_add(tx, &r, &seq);
    if (!e)
        e = audit_push(h, tx, in->who, import ? "registry.import" : "registry.export", r.id, "%.*s",
                       b.blob.n > 200 ? 200 : (int)b.blob.n, (const char *)b.blob.p);
    return e ? e : fleet_job_get(tx, a, span_str(id), out);
}

enum err registry_job_get(struct store_tx *tx, struct arena *a, struct span id, struct fleet_job_row *out)
{
    enum err e = fleet_job_get(tx, a, id, out);
    return !e && out->kind != FLEET_JOB_EXPORT && out->kind != FLEET_JOB_IMPORT ? ERR_NOTFOUND : e;
}

unsigned registry_job_progress(const struct fleet_job_row *r, const struct registry_job_body *b)
{
    uint64_t done = r->kind == FLEET_JOB_IMPORT ? r->cursor : r->succeeded;
    uint64_t all = r->kind == FLEET_JOB_IMPORT ? b->length + b->configurations_length : r->total;
    if (r->state == FLEET_JOB_COMPLETED)
        return 100;
    unsigned percent = all ? (unsigned)((double)done * 100 / (double)all) : 0;
    return percent > 99 ? 99 : percent;
}
