/* hub/front/azure_http/routes.h - the handlers, by the file they are in. To add an operation: a handler in
 * the file of its family, a line here, a line in azure_http.c, one in docs/azure-http.md. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_ROUTES_H
#define ROOST_HUB_FRONT_AZURE_HTTP_ROUTES_H

#include "hub/conn/http_conn.h"

#endif
