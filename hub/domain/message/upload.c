/* hub/domain/message/upload.c - see upload.h. */
#include "hub/domain/message/upload.h"

#include "base/text.h"
#include "hub/domain/message/receivers.h"

void upload_key(const struct hub *h, uint8_t out[SHA256_LEN])
{
    struct span what = SPAN("roost uploads 1");
    h->crypto->hmac_sha256(span_of(h->director_seed, sizeof h->director_seed), &what, 1, out);
}

bool registry_container_is(const struct hub *h, struct span name)
{
    const char *ours = h->settings.registry_container;
    return h->files && ours && *ours && span_eq(name, span_str(ours));
}

bool upload_container_ok(const char *name)
{
    static const char *const taken[] = { "artifacts",    "bootstrap", "configurations", "devices",
                                         "digitaltwins", "jobs",      "messages",       "roost",
                                         "statistics",   "twins" };
    const size_t n = strlen(name);
    for (size_t i = 0; i < n; i++)
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '-')
            return false;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (strcmp(name, taken[i]) == 0)
            return false;
    return !n || (n >= 3 && n <= 63);
}

/* Clients take "." and ".." out of an address before they send it: nobody could upload there. And whoever
 * copies files by their names must not be led out of a folder. */
static bool segment_ok(struct span s)
{
    return s.n && !span_eq(s, SPAN(".")) && !span_eq(s, SPAN(".."));
}

bool upload_name_ok(struct span name)
{
    size_t segments = 1, from = 0;
    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] < 0x20 || name.p[i] == 0x7f || name.p[i] == '\\')
            return false;
        if (name.p[i] != '/')
            continue;
        if (!segment_ok(span_of(name.p + from, i - from)))
            return false;
        segments++;
        from = i + 1;
    }
    return segment_ok(span_skip(name, from)) && name.n <= UPLOAD_NAME_MAX && segments <= UPLOAD_SEGMENTS_MAX;
}

enum err upload_announce(struct hub *h, struct store_tx *tx, struct arena *a, struct upload_announce *u)
{
    uint8_t random[UPLOAD_ID_LEN / 2];
    struct wr id = { (uint8_t *)u->id, UPLOAD_ID_LEN, 0 };
    size_t len = u->device.n + 1 + u->name.n;
    struct wr blob = { arena_alloc(a, len), len, 0 };
    if (!blob.p)
        return ERR_NOMEM;
    wr_put(&blob, u->device);
    wr_u8(&blob, '/');
    wr_put(&blob, u->name);
    u->blob = wr_span(&blob);
    h->crypto->random(random, sizeof random);
    hex_encode(&id, span_of(random, sizeof random));
    u->id[UPLOAD_ID_LEN] = 0;
    uint64_t now = h->wall_ms();
    u->expires_ms = now + 1000ull * h->settings.upload_ttl_s;
    return tx_upload_push(tx,
                          &(struct upload_row){ .id = span_of(u->id, UPLOAD_ID_LEN),
                                                .device = u->device,
                                                .blob = u->blob,
                                                .created_ms = now,
                                                .expires_ms = u->expires_ms },
                          UPLOAD_OPEN_MAX);
}

static enum err notify(struct hub *h, struct store_tx *tx, const struct upload_row *r,
                       const struct named_blob_row *b, struct span base)
{
    uint8_t mem[256 + 3 * UPLOAD_NAME_MAX];
    struct wr uri = { mem, sizeof mem, 0 };
    wr_put(&uri, base);
    for (struct span left = r->blob; left.n;) { /* the slashes stay */
        size_t n = 0;
        while (n < left.n && left.p[n] != '/')
            n++;
        percent_encode(&uri, span_of(left.p, n));
        if (n < left.n)
            wr_u8(&uri, '/');
        left = span_skip(left, n < left.n ? n + 1 : n);
    }
    enum err e = tx_file_note_push(tx, &(struct file_note_row){ .device = r->device,
                                                                .blob = r->blob,
                                                                .uri = wr_span(&uri),
                                                                .length = b->length,
                                                                .modified_ms = b->modified_ms,
                                                                .enqueued_ms = h->wall_ms() });
    return e ? e : receivers_tell(h, tx, RECEIVERS_FILES);
}

enum err upload_complete(struct hub *h, struct store_tx *tx, struct span device, struct span id, bool success,
                         struct span base, enum upload_refusal *refusal)
{
    struct upload_row r;
    struct named_blob_row b;
    *refusal = UPLOAD_TAKEN;
    enum err e = tx_upload_get(tx, id, &r);
    if (e == ERR_NOTFOUND || (!e && !span_eq(r.device, device))) {
        *refusal = UPLOAD_UNKNOWN;
        return ERR_OK;
    }
    if (!e && r.expires_ms <= h->wall_ms()) {
        *refusal = UPLOAD_EXPIRED;
        return ERR_OK;
    }
    if (!e && success) {
        e = tx_blob_get(tx, span_str(h->settings.upload_container), r.blob, &b);
        if (e == ERR_NOTFOUND) { /* it may still upload, and say so again */
            *refusal = UPLOAD_NO_BLOB;
            return ERR_OK;
        }
        if (!e && h->settings.upload_notify)
            e = notify(h, tx, &r, &b, base);
    }
    return e ? e : tx_upload_delete(tx, id);
}

enum err upload_room(struct hub *h, struct store_tx *tx, struct span container, struct span name,
                     uint64_t add, uint64_t less)
{
    bool devices = !registry_container_is(h, container);
    const uint8_t *slash = name.n ? memchr(name.p, '/', name.n) : NULL;
    struct span owner = slash ? span_of(name.p, (size_t)(slash - name.p)) : name;
    uint64_t own = 0, all = 0;
    enum err e = add > less && devices ? tx_upload_usage(tx, owner, &own) : ERR_OK;
    if (!e && add > less)
        e = tx_upload_usage(tx, SPAN_NONE, &all);
    if (e || add <= less)
        return e;
    uint64_t device_max = h->settings.upload_device_bytes, all_max = h->settings.upload_total_bytes;
    return (devices && device_max && own + add - less > device_max) || (all_max && all + add - less > all_max)
               ? ERR_LIMIT
               : ERR_OK;
}

/* ---- the sweep -------------------------------------------------------------------------------------- */

struct doomed {
    struct arena *a;
    struct span keys[2 * UPLOAD_SWEEP_BATCH][3]; /* container, name, block id or none */
    size_t nr;
    struct upload_sweep *s;
};

static enum err doom(struct doomed *d, struct span container, struct span name, struct span id,
                     struct span file)
{
    struct span *k = d->keys[d->nr++];
    k[0] = arena_copy(d->a, container);
    k[1] = arena_copy(d->a, name);
    k[2] = id.n ? arena_copy(d->a, id) : SPAN_NONE;
    if (file.n == sizeof d->s->files[0])
        memcpy(d->s->files[d->s->nr++], file.p, file.n);
    return arena_err(d->a);
}

static enum err blob_each(void *ctx, const struct named_blob_row *r)
{
    return doom(ctx, r->container, r->name, SPAN_NONE, r->file);
}
static enum err block_each_old(void *ctx, const struct block_row *r)
{
    return doom(ctx, r->container, r->name, r->id, r->file);
}

enum err upload_sweep_tx(struct hub *h, struct store_tx *tx, struct arena *a, struct upload_sweep *s)
{
    uint64_t now = h->wall_ms(), ttl = 1000ull * h->settings.upload_ttl_s,
             keep = 1000ull * UPLOAD_BLOCK_KEEP_S, retain = 86400000ull * h->settings.upload_retain_days;
    struct doomed *d = arena_alloc(a, sizeof *d);
    s->nr = 0;
    s->files = arena_alloc(a, 2 * UPLOAD_SWEEP_BATCH * sizeof *s->files);
    if (!d || !s->files)
        return ERR_NOMEM;
    d->a = a;
    d->s = s;
    d->nr = 0;
    /* Kept as long again, so that who comes late is told that it is late. */
    enum err e = tx_upload_expire(tx, now > ttl ? now - ttl : 0);
    if (!e && retain && now > retain)
        e = tx_blob_list_old(tx, now - retain, UPLOAD_SWEEP_BATCH, blob_each, d);
    if (!e && now > keep)
        e = tx_block_list_old(tx, now - keep, UPLOAD_SWEEP_BATCH, block_each_old, d);
    for (size_t i = 0; !e && i < d->nr; i++)
        e = d->keys[i][2].n ? tx_block_delete(tx, d->keys[i][0], d->keys[i][1], d->keys[i][2])
                            : tx_blob_delete(tx, d->keys[i][0], d->keys[i][1]);
    s->more = d->nr >= UPLOAD_SWEEP_BATCH;
    return e;
}

enum err upload_orphans_tx(struct store_tx *tx, struct upload_sweep *s)
{
    size_t kept = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < s->nr; i++) {
        bool known = true;
        e = tx_file_known(tx, span_of(s->files[i], sizeof s->files[i]), &known);
        if (!e && !known)
            memmove(s->files[kept++], s->files[i], sizeof s->files[i]);
    }
    if (!e)
        s->nr = kept;
    return e;
}
