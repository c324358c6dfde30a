/* hub/front/blob_http/list.c - List Blobs, Get Container Properties, Get Block List, as XML. */
#include "base/text.h"
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
    struct wr xml; /* grows in the arena */
    bool blocks;
};

static void put(struct listing *l, struct span s)
{
    if (l->xml.len + s.n > l->xml.cap) {
        size_t cap = 2 * (l->xml.len + s.n) + 4096;
        uint8_t *p = arena_alloc(l->a, cap);
        if (!p)
            return; /* the arena knows */
        if (l->xml.len)
            memcpy(p, l->xml.p, l->xml.len);
        l->xml = (struct wr){ p, cap, l->xml.len };
    }
    wr_put(&l->xml, s);
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
    return arena_err(l->a);
}

static enum err show_block(void *ctx, const struct block_row *r)
{
    struct listing *l = ctx;
    uint8_t id[4 * UPLOAD_BLOCK_ID_MAX];
    char number[24];
    struct wr w = { id, sizeof id, 0 };
    base64_encode(&w, r->id);
    snprintf(number, sizeof number, "%llu", (unsigned long long)r->length);
    put_z(l, "<Block>");
    put_element(l, "Name", wr_span(&w));
    put_element(l, "Size", span_str(number));
    put_z(l, "</Block>");
    return arena_err(l->a);
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
    return ERR_OK;
}

static enum err run_blocks(struct job *j, struct store_tx *tx)
{
    struct listing *l = j->state;
    put_z(l, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList><CommittedBlocks></CommittedBlocks>"
             "<UncommittedBlocks>");
    enum err e = tx_block_list(tx, l->target.container, l->target.name, show_block, l);
    put_z(l, "</UncommittedBlocks></BlockList>");
    return e;
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
        if (!mem || s.n % 2 || s.n > 2 * UPLOAD_NAME_MAX || hex_decode(s, mem, s.n / 2))
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
    struct listing *l = list_of(j, "r");
    if (l)
        job_read(j, run_blocks, listed);
}
