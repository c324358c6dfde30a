/* tests/fake/blob_fake.h - a request to the blob front as a test makes it: signed with the hub's own key, of
 * a client that is still there. Stands on http_fake.h and hub_fixture.h, which come before it. */
#ifndef ROOST_TESTS_FAKE_BLOB_FAKE_H
#define ROOST_TESTS_FAKE_BLOB_FAKE_H

#include "core/storage/service_sas.h"
#include "hub/domain/message/upload.h"
#include "hub/front/blob_http/blob_http.h"

/* Fills *out; the caller hands it to the handler of the route, which is returned. query: what follows the
 * signature, from its first '&' on. */
static inline const struct http_route *blob_fake(struct http_fake *out, struct hub *hub,
                                                 struct worker *worker, struct blob_http *front,
                                                 unsigned method, const char *path, const char *query,
                                                 struct span body)
{
    static char text[1024];
    uint8_t key[SHA256_LEN];
    struct wr w = { (uint8_t *)text, sizeof text, 0 };
    const struct http_route *route = blob_http_routes(front)->table;
    const bool in_container = strchr(path + 1, '/') != NULL;
    while (!(route->methods & method) || (strlen(route->pattern) > strlen("/{}")) != in_container)
        route++;
    upload_key(hub, key);
    service_sas_encode(&w, &port_crypto, span_of(key, sizeof key), SPAN(UPLOAD_ACCOUNT), SPAN("uploads"),
                       SPAN_NONE, fixture_wall_ms() + 3600000, SPAN("rwdl"));
    wr_str(&w, query);
    assert(wr_ok(&w));
    http_fake_free(out);
    *out = (struct http_fake){ .r = { .worker = worker,
                                      .ctx = front,
                                      .conn = (struct conn *)(void *)out, /* somebody is there */
                                      .route = route,
                                      .method = method,
                                      .path = span_str(path),
                                      .query = span_skip(wr_span(&w), 1),
                                      .body = body } };
    out->fields[0].name = "x-ms-blob-type";
    out->fields[0].value = SPAN("BlockBlob");
    return route;
}

#endif
