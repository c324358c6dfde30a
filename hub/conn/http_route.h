/* hub/conn/http_route.h - which route a path leads to. Pure. */
#ifndef ROOST_HUB_CONN_HTTP_ROUTE_H
#define ROOST_HUB_CONN_HTTP_ROUTE_H

#include "hub/conn/http_conn.h"

/* Takes path and query out of a request target (origin or absolute form). ERR_PROTO: neither. */
MUST_USE enum err http_target_split(struct span target, struct span *path, struct span *query);

struct http_match {
    const struct http_routes *routes; /* the table that has it */
    const struct http_route *route;   /* NULL: none takes this method, or none this path */
    unsigned allowed;                 /* methods of the routes that fit the path; 0: no such path */
    struct span params[HTTP_PARAMS_MAX];
};
/* Looks through the tables in order. Segments are split first and decoded then, so that %2F does not split;
 * one trailing slash and empty segments count for nothing. `scratch` (room for path.n) holds what was
 * decoded. */
void http_route_find(const struct http_routes *first, unsigned method, struct span path, uint8_t *scratch,
                     struct http_match *out);
/* The value of a query parameter as it stands, by name without case. */
bool http_query_find(struct span query, struct span name, struct span *raw);

#endif
