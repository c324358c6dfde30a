/* hub/front/blob_http/list.c - List Blobs, Get Container Properties, Get Block List, as XML. */
#include "base/text.h"
#include "core/storage/block_table.h"
#include "hub/front/blob_http/blob_impl.h"

#include <stdlib.h>
#include <time.h>

#define PAGE_MAX 1000u

struct listing {
    struct blob_target target;
    struct span prefix, after, last;
    uint64_t limit;
    size_t nr;
    bool more;
    struct arena *a;
    struct wr xml;               /* p: owned */
    bool failed;                 /* it could not grow */
    bool committed, uncommitted; /* blocks that are asked for */
};

static void give_back(struct job *j)
{
    const struct listing *l = j->state;
    free(l->xml.p);
}

static void put(struct listing *l, struct span s)
{
    if (l->xml.len + s.n > l->xml.cap) {
        size_t cap = 2 * (l->xml.len + s.n) + 4096;
        uint8_t *p = l->failed ? NULL : realloc(l->xml.p, cap);
        l->failed = !p;
        if (l->failed)
            return;
        l->xml = (struct wr){ p, cap, l->xml.len };
    }
    wr_put(&l->xml, s);
}

static enum err put_err(const struct listing *l)
{
    return l->failed ? ERR_NOMEM : arena_err(l->a);
}
static void put_z(struct listing *l, const char *z)
{
    put(l, span_str(z));
}

static void put_text(struct listing *l, struct span s)
{
    for (size_t i = 0; i < s.n; i++)
        switch (s.p[i]) {
        case '&':
            put_z(l, "&amp;");
            break;
        case '<':
            put_z(l, "&lt;");
            break;
        case '>':
            put_z(l, "&gt;");
            break;
        default:
            put(l, span_of(s.p + i, 1));
        }
}

static void put_element(struct listing *l, const char *name, struct span text)
{
    put_z(l, "<");
    put_z(l, name);
    put_z(l, ">");
    put_text(l, text);
    put_z(l, "</");
    put_z(l, name);
    put_z(l, ">");
}

static void put_time(struct listing *l, const char *name, uint64_t wall_ms)
{
    char text[48];
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    put_element(l, name, span_str(text));
}

static enum err show_blob(void *ctx, const struct named_blob_row *r)
{
    struct listing *l = ctx;
    char etag[BLOB_ETAG_MAX], number[24];
    uint8_t md5[32];
    struct wr w = { md5, sizeof md5, 0 };
    if (l->nr == l->limit) {
        l->more = true;
        return ERR_EXISTS;
    }
    l->nr++;
    l->last = arena_copy(l->a, r->name);
    struct span tag = blob_etag(r->file, etag);
    snprintf(number, sizeof number, "%llu", (unsigned long long)r->length);
    base64_encode(&w, r->md5);
    put_z(l, "<Blob>");
    put_element(l, "Name", r->name);
    put_z(l, "<Properties>");
    put_time(l, "Creation-Time", r->created_ms);
    put_time(l, "Last-Modified", r->modified_ms);
    put_element(l, "Etag", span_of(tag.p + 1, tag.n - 2));
    put_element(l, "Content-Length", span_str(number));
    put_element(l, "Content-Type", r->content_type.n ? r->content_type : SPAN("application/octet-stream"));
    put_element(l, "Content-MD5", wr_span(&w));
    put_z(l, "<BlobType>BlockBlob</BlobType></Properties></Blob>");
    return put_err(l);
}

static void put_block(struct listing *l, struct span name, uint64_t length)
{
    uint8_t id[4 * UPLOAD_BLOCK_ID_MAX];
    char number[24];
    struct wr w = { id, sizeof id, 0 };
    base64_encode(&w, name);
    snprintf(number, sizeof number, "%llu", (unsigned long long)length);
    put_z(l, "<Block>");
    put_element(l, "Name", wr_span(&w));
    put_element(l, "Size", span_str(number));
    put_z(l, "</Block>");
}

static enum err show_block(void *ctx, const struct block_row *r)
{
    struct listing *l = ctx;
    put_block(l, r->id, r->length);
    return put_err(l);
}

static enum err run_list(struct job *j, struct store_tx *tx)
{
    struct listing *l = j->state;
    uint8_t *mem = NULL;
    put_z(l, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"");
    put_text(l, l->target.container);
    put_z(l, "\">");
    put_element(l, "Prefix", l->prefix);
    put_z(l, "<Blobs>");
    enum err e = tx_blob_list(tx, l->target.container, l->prefix, l->after, l->limit + 1, show_blob, l);
    if (e && !(e == ERR_EXISTS && l->more))
        return e;
    put_z(l, "</Blobs><NextMarker>");
    if (l->more && (mem = arena_alloc(&j->a, 2 * l->last.n + 1))) {
        struct wr w = { mem, 2 * l->last.n + 1, 0 };
        hex_encode(&w, l->last);
        put(l, wr_span(&w));
    }
    put_z(l, "</NextMarker></EnumerationResults>");
    return put_err(l);
}

/* In the order in which they make the blob. */
static enum err put_committed(struct listing *l, struct store_tx *tx)
{
    struct span table;
    struct table_block b;
    enum err e = tx_blob_blocks(tx, l->target.container, l->target.name, &table);
    while (!e && (e = block_table_next(&table, &b)) == ERR_OK)
        put_block(l, b.id, b.length);
    return e == ERR_STOPPED ? ERR_OK : e;
}

static enum err run_blocks(struct job *j, struct store_tx *tx)
{
    struct listing *l = j->state;
    struct named_blob_row now;
    struct block_open_row open = { 0, 0, 0 };
    enum err e = tx_blob_get(tx, l->target.container, l->target.name, &now);
    bool there = !e;
    if (!e || e == ERR_NOTFOUND)
        e = tx_block_open(tx, l->target.container, l->target.name, &open);
    if (e && e != ERR_NOTFOUND)
        return e;
    if (!there && !open.blocks) {
        (void)blob_fail(j, "BlobNotFound", "There is no such blob, and no block of one.");
        return ERR_DENIED;
    }
    if (there) {
        blob_fields(j, &now);
        job_field(j, "x-ms-blob-content-length", "%llu", (unsigned long long)now.length);
    }
    l->xml.len = 0;
    put_z(l, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    e = ERR_OK;
    if (l->committed) {
        put_z(l, "<CommittedBlocks>");
        e = there ? put_committed(l, tx) : ERR_OK;
        put_z(l, "</CommittedBlocks>");
    }
    if (!e && l->uncommitted) {
        put_z(l, "<UncommittedBlocks>");
        e = tx_block_list(tx, l->target.container, l->target.name, show_block, l);
        put_z(l, "</UncommittedBlocks>");
    }
    put_z(l, "</BlockList>");
    return e ? e : put_err(l);
}

static void listed(struct job *j)
{
    struct listing *l = j->state;
    j->bytes = wr_span(&l->xml);
    j->bytes_type = "application/xml";
    job_end(j);
}

static struct listing *list_of(struct job *j, const char *letters)
{
    struct listing *l = arena_alloc(&j->a, sizeof *l);
    j->state = l;
    if (!l) {
        blob_end_err(j, ERR_NOMEM);
        return NULL;
    }
    *l = (struct listing){ .limit = PAGE_MAX, .a = &j->a };
    j->on_release = give_back;
    if (!blob_target(j, &l->target))
        return NULL;
    if (!blob_permit(j, &l->target, letters)) {
        job_end(j);
        return NULL;
    }
    return l;
}

static bool read_query(struct job *j, struct listing *l)
{
    struct span s;
    if (http_query(j->r, "delimiter", &s) && s.n)
        return blob_fail(j, "InvalidQueryParameterValue", "Lists are flat here: leave delimiter out.");
    if (http_query(j->r, "maxresults", &s) && s.n && (u64_parse(s, 5000, &l->limit) || !l->limit))
        return blob_fail(j, "InvalidQueryParameterValue", "maxresults has to be 1 to 5000.");
    if (l->limit > PAGE_MAX)
        l->limit = PAGE_MAX;
    if (http_query(j->r, "prefix", &s))
        l->prefix = s;
    if (http_query(j->r, "marker", &s) && s.n) {
        uint8_t *mem = arena_alloc(&j->a, s.n);
        if (!mem)
            return blob_fail(j, "ServerBusy", "The hub is short of memory: try again.");
        if (s.n % 2 || s.n > 2 * UPLOAD_NAME_MAX || hex_decode(s, mem, s.n / 2))
            return blob_fail(j, "InvalidQueryParameterValue", "marker is none that this hub has handed out.");
        l->after = span_of(mem, s.n / 2);
    }
    return true;
}

void blob_list_start(struct job *j)
{
    struct span s;
    struct listing *l = list_of(j, "lr");
    if (!l)
        return;
    if (http_query(j->r, "comp", &s)) {
        if (!span_ieq(s, SPAN("list")))
            (void)blob_fail(j, "InvalidQueryParameterValue", "This hub knows comp=list of a container.");
        else if (blob_permit(j, &l->target, "l") && read_query(j, l)) {
            job_read(j, run_list, listed);
            return;
        }
    } else { /* properties of the container */
        job_field(j, "ETag", "\"0x1\"");
        blob_field_time(j, "Last-Modified", j->h->started_ms);
        j->bytes_type = "application/xml";
    }
    job_end(j);
}

void blob_block_list_start(struct job *j)
{
    struct span s = SPAN_NONE;
    struct listing *l = list_of(j, "r");
    if (!l)
        return;
    bool all = http_query(j->r, "blocklisttype", &s) && span_ieq(s, SPAN("all"));
    l->uncommitted = all || span_ieq(s, SPAN("uncommitted"));
    l->committed = all || !s.n || span_ieq(s, SPAN("committed"));
    if (l->committed || l->uncommitted) {
        job_read(j, run_blocks, listed);
        return;
    }
    (void)blob_fail(j, "InvalidQueryParameterValue", "blocklisttype is committed, uncommitted or all.");
    job_end(j);
}
