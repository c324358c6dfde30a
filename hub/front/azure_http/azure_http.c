/* hub/front/azure_http/azure_http.c - the route table of the Azure-compatible interface. */
#include "hub/front/azure_http/azure_http.h"

#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"

#include <stdlib.h>

struct azure_http {
    struct http_front front; /* first */
    struct http_routes routes;
};

/* Below these paths an unknown one is answered in this front's form. */
#define OURS(top)                                                                                            \
    {                                                                                                        \
        0, top "/**", NULL, 0                                                                                \
    }

static const struct http_route routes[] = {
    OURS("/devices"),  OURS("/twins"),      OURS("/jobs"),         OURS("/configurations"),
    OURS("/messages"), OURS("/statistics"), OURS("/digitaltwins"), { 0 },
};

enum err azure_http_new(struct azure_http **out, struct hub *hub, struct pool *pool)
{
    struct azure_http *f = calloc(1, sizeof *f);
    if (!f)
        return ERR_NOMEM;
    f->front = (struct http_front){ hub, pool, &azure_front_ops };
    f->routes = (struct http_routes){
        .table = routes, .ctx = f, .on_error = azure_on_error, .method_override = true
    };
    *out = f;
    return ERR_OK;
}

void azure_http_free(struct azure_http *f)
{
    free(f);
}

struct http_routes *azure_http_routes(struct azure_http *f)
{
    return &f->routes;
}
