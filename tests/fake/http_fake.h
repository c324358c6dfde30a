/* tests/fake/http_fake.h - the HTTP layer as a test sees it: a request made of strings, an answer that is
 * kept. It stands in for hub/conn's http_* functions, so handlers run whole, on the real store, without a
 * socket. Include it once in a test program. */
#ifndef ROOST_TESTS_FAKE_HTTP_FAKE_H
#define ROOST_TESTS_FAKE_HTTP_FAKE_H

#include "base/text.h"
#include "hub/conn/http_conn.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HTTP_FAKE_FIELDS 6u

struct http_fake {
    struct http_req r; /* first */
    struct {
        const char *name;
        struct span value;
    } fields[HTTP_FAKE_FIELDS];
    char mem[1024]; /* decoded query values */
    size_t mem_len;
    /* the answer */
    unsigned status; /* 0: none yet */
    char code[64], answer_fields[1024];
    char *body; /* owned */
    size_t body_len;
};

static inline void http_fake_free(struct http_fake *f)
{
    free(f->body);
    f->body = NULL;
}
static inline void http_fake_keep(struct http_req *r, unsigned status, struct span body, const char *fields)
{
    struct http_fake *f = (struct http_fake *)(void *)r;
    assert(!f->status); /* one answer a request */
    f->status = status;
    f->body = malloc(body.n + 1);
    assert(f->body);
    if (body.n)
        memcpy(f->body, body.p, body.n);
    f->body[body.n] = 0;
    f->body_len = body.n;
    snprintf(f->answer_fields, sizeof f->answer_fields, "%s", fields ? fields : "");
}

struct span http_field(const struct http_req *r, const char *name)
{
    const struct http_fake *f = (const struct http_fake *)(const void *)r;
    for (size_t i = 0; i < HTTP_FAKE_FIELDS && f->fields[i].name; i++)
        if (span_ieq(span_str(f->fields[i].name), span_str(name)))
            return f->fields[i].value;
    return SPAN_NONE;
}

bool http_field_next(const struct http_req *r, size_t *at, struct span *name, struct span *value)
{
    const struct http_fake *f = (const struct http_fake *)(const void *)r;
    if (*at >= HTTP_FAKE_FIELDS || !f->fields[*at].name)
        return false;
    *name = span_str(f->fields[*at].name);
    *value = f->fields[(*at)++].value;
    return true;
}

bool http_query(struct http_req *r, const char *name, struct span *out)
{
    struct http_fake *f = (struct http_fake *)(void *)r;
    struct span q = r->query;
    while (q.n) {
        const uint8_t *end = memchr(q.p, '&', q.n);
        struct span item = end ? span_of(q.p, (size_t)(end - q.p)) : q;
        const uint8_t *eq = item.n ? memchr(item.p, '=', item.n) : NULL;
        q = end ? span_skip(q, item.n + 1) : SPAN_NONE;
        if (!eq || !span_ieq(span_of(item.p, (size_t)(eq - item.p)), span_str(name)))
            continue;
        struct wr w = { (uint8_t *)f->mem + f->mem_len, sizeof f->mem - f->mem_len, 0 };
        percent_decode(&w, span_of(eq + 1, item.n - (size_t)(eq + 1 - item.p)));
        *out = wr_span(&w);
        f->mem_len += out->n;
        return true;
    }
    return false;
}

void http_answer(struct http_req *r, unsigned status, const char *content_type, struct span body,
                 const char *fields)
{
    (void)content_type;
    http_fake_keep(r, status, body, fields);
}
void http_error(struct http_req *r, unsigned status, const char *code, const char *message,
                const char *fields)
{
    struct http_fake *f = (struct http_fake *)(void *)r;
    http_fake_keep(r, status, span_str(message), fields);
    snprintf(f->code, sizeof f->code, "%s", code);
}
void http_answer_file(struct http_req *r, unsigned status, const char *content_type, int fd, uint64_t offset,
                      uint64_t len, const char *fields)
{
    char *bytes = malloc(len + 1);
    (void)content_type;
    assert(bytes && pread(fd, bytes, len, (off_t)offset) == (ssize_t)len);
    close(fd);
    http_fake_keep(r, status, span_of(bytes, len), fields);
    free(bytes);
}
/* The body is one piece, r->body. */
void http_read(struct http_req *r, void (*fn)(struct http_req *r))
{
    r->body_end = true;
    fn(r);
}
void http_stream_begin(struct http_req *r, unsigned status, const char *content_type, const char *fields)
{
    (void)r, (void)status, (void)content_type, (void)fields;
    abort(); /* streams are tested over the real listener */
}
size_t http_stream_send(struct http_req *r, struct span piece)
{
    (void)r, (void)piece;
    abort();
}
void http_stream_on_room(struct http_req *r, void (*fn)(struct http_req *r))
{
    (void)r, (void)fn;
    abort();
}
void http_stream_end(struct http_req *r)
{
    (void)r;
    abort();
}

#endif
