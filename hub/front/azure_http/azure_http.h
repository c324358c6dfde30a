/* hub/front/azure_http/azure_http.h - the Azure-compatible HTTPS interface, service side and device side:
 * registry, twins, methods, queries, jobs, messages (docs/azure-http.md). Its routes hang on the same
 * listener as the hub's own ones. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_AZURE_HTTP_H
#define ROOST_HUB_FRONT_AZURE_HTTP_AZURE_HTTP_H

#include "hub/conn/http_conn.h"
#include "hub/domain/hub.h"

struct azure_http;
struct pool;

/* hub and pool are borrowed. After the hub's settings are known, before the workers start. */
MUST_USE enum err azure_http_new(struct azure_http **out, struct hub *hub, struct pool *pool);
/* After the workers have ended and the pool, store and stream are closed. */
void azure_http_free(struct azure_http *f);

/* For the listener; `next` is the caller's to chain another front. */
struct http_routes *azure_http_routes(struct azure_http *f);

#endif
