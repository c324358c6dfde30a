/* hub/front/blob_http/blob_http.h - the blob service: what storage SDKs need to upload, read back, list and
 * delete (docs/uploads.md). Its containers lie beside the paths of the other fronts, on the same names: it is
 * asked last. */
#ifndef ROOST_HUB_FRONT_BLOB_HTTP_BLOB_HTTP_H
#define ROOST_HUB_FRONT_BLOB_HTTP_BLOB_HTTP_H

#include "hub/conn/http_conn.h"
#include "hub/domain/hub.h"

struct blob_http;
struct pool;

/* hub and pool are borrowed. After the hub's settings are known, before the workers start. */
MUST_USE enum err blob_http_new(struct blob_http **out, struct hub *hub, struct pool *pool);
void blob_http_free(struct blob_http *f); /* as azure_http_free */
struct http_routes *blob_http_routes(struct blob_http *f);
/* Watches what has had its time, on this worker; before it starts. */
void blob_http_housekeep(struct blob_http *f, struct worker *w);

#endif
