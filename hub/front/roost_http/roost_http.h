/* hub/front/roost_http/roost_http.h - the hub's own HTTP interface (docs/api.md): bootstrap and check-in for
 * devices, artifacts, everything the operator's tools ask, and the loopback pages. main.c makes one and gives
 * its route tables to the listeners. To add a route: a handler in the file of its subject, a line in
 * routes.c, a line in docs/api.md. */
#ifndef ROOST_HUB_FRONT_ROOST_HTTP_ROOST_HTTP_H
#define ROOST_HUB_FRONT_ROOST_HTTP_ROOST_HTTP_H

#include "hub/conn/http_conn.h"
#include "hub/domain/hub.h"

struct roost_http;
struct pool;
struct conn_net;

/* hub, pool and net are borrowed; net may be NULL (then /metrics has no connections). After the hub's
 * settings are known, before the workers start. */
MUST_USE enum err roost_http_new(struct roost_http **out, struct hub *hub, struct pool *pool,
                                 struct conn_net *net);
/* Before the workers start: endpoints and their streams. Without it only the built-in stream is read. */
struct routing;
void roost_http_set_routing(struct roost_http *f, struct routing *r);
/* After the workers have ended and the pool, store and stream are closed. */
void roost_http_free(struct roost_http *f);

/* For the listeners; `next` of each is the caller's to chain another front. */
struct http_routes *roost_http_routes(struct roost_http *f); /* HTTPS: everything but the loopback pages */
struct http_routes *roost_http_plain_routes(struct roost_http *f); /* plain HTTP: artifacts, nothing else */
struct http_routes *roost_http_ops_routes(struct roost_http *f);   /* loopback: /metrics /healthz /readyz */

/* Once, before worker w is started: housekeeping runs on it (deadlines of deployments, campaigns that have
 * ended, expired messages). */
void roost_http_housekeep(struct roost_http *f, struct worker *w);

#endif
