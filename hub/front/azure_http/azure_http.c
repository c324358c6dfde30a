/* hub/front/azure_http/azure_http.c - the route table of the Azure-compatible interface. */
#include "hub/front/azure_http/azure_http.h"

#include "hub/front/azure_http/activity.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"
#include "hub/front/http/method_step.h"
#include "hub/front/http/query_step.h"

#include <stdlib.h>

struct azure_http {
    struct http_front front; /* first */
    struct http_routes routes;
    struct activity activity;
};

/* Below these paths an unknown one is answered in this front's form. */
#define OURS(top)                                                                                            \
    {                                                                                                        \
        0, top "/**", NULL, 0                                                                                \
    }

#define IDENTITY_MAX (64u * 1024u)
#define BULK_MAX     (1024u * 1024u)
/* Of what is too large for a message most is still read, so that the refusal can say what is too large. */
#define EVENTS_MAX  (1024u * 1024u)
#define IGNORED_MAX 4096u /* some clients send a body where none is meant */
/* A whole twin may be sent back: what is allowed in it, and as much again several times for its $metadata. */
#define TWIN_BODY_MAX (1024u * 1024u)
#define TWIN_ROUTES(path)                                                                                    \
    { HTTP_GET_, path, azure_twin_get, IGNORED_MAX },                                                        \
        { HTTP_PATCH_, path, azure_twin_patch, TWIN_BODY_MAX },                                              \
    {                                                                                                        \
        HTTP_PUT_, path, azure_twin_put, TWIN_BODY_MAX                                                       \
    }

static const struct http_route routes[] = {
    { HTTP_GET_, "/devices", azure_devices_list, IGNORED_MAX },
    { HTTP_POST_, "/devices", azure_devices_post, BULK_MAX },
    { HTTP_POST_, "/devices/query", azure_query, QUERY_BODY_MAX },
    { HTTP_POST_, "/devices/keys/regenerate", azure_keys_regenerate, IDENTITY_MAX },
    { HTTP_GET_, "/devices/{}", azure_device_get, IGNORED_MAX },
    { HTTP_PUT_, "/devices/{}", azure_device_put, IDENTITY_MAX },
    { HTTP_DELETE_, "/devices/{}", azure_device_delete, IGNORED_MAX },
    { HTTP_DELETE_, "/devices/{}/commands", azure_commands_delete, IGNORED_MAX },
    { HTTP_GET_, "/devices/{}/modules", azure_modules_list, IGNORED_MAX },
    { HTTP_GET_, "/devices/{}/modules/{}", azure_module_get, IGNORED_MAX },
    { HTTP_PUT_, "/devices/{}/modules/{}", azure_module_put, IDENTITY_MAX },
    { HTTP_DELETE_, "/devices/{}/modules/{}", azure_module_delete, IGNORED_MAX },
    { HTTP_GET_, "/statistics/devices", azure_statistics_devices, IGNORED_MAX },
    { HTTP_GET_, "/statistics/service", azure_statistics_service, IGNORED_MAX },
    { HTTP_GET_, "/messages/servicebound/feedback", azure_feedback_get, IGNORED_MAX },
    { HTTP_DELETE_, "/messages/servicebound/feedback/{}", azure_feedback_delete, IGNORED_MAX },
    { HTTP_POST_, "/messages/servicebound/feedback/{}/abandon", azure_feedback_abandon, IGNORED_MAX },
    TWIN_ROUTES("/twins/{}"),
    TWIN_ROUTES("/twins/{}/modules/{}"),
    { HTTP_GET_, "/digitaltwins/{}", azure_digital_get, IGNORED_MAX },
    { HTTP_PATCH_, "/digitaltwins/{}", azure_digital_patch, IDENTITY_MAX },
    { HTTP_POST_, "/twins/{}/methods", azure_device_method, METHOD_BODY_MAX },
    { HTTP_POST_, "/twins/{}/modules/{}/methods", azure_module_method, METHOD_BODY_MAX },
    { HTTP_POST_, "/digitaltwins/{}/commands/{}", azure_root_command, METHOD_PAYLOAD_MAX },
    { HTTP_POST_, "/digitaltwins/{}/components/{}/commands/{}", azure_component_command, METHOD_PAYLOAD_MAX },
    { HTTP_POST_, "/devices/{}/messages/events", azure_device_events_post, EVENTS_MAX },
    { HTTP_POST_, "/devices/{}/modules/{}/messages/events", azure_module_events_post, EVENTS_MAX },
    { HTTP_GET_, "/devices/{}/messages/devicebound", azure_bound_get, IGNORED_MAX },
    { HTTP_DELETE_, "/devices/{}/messages/devicebound/{}", azure_bound_delete, IGNORED_MAX },
    { HTTP_POST_, "/devices/{}/messages/devicebound/{}/abandon", azure_bound_abandon, IGNORED_MAX },
    { HTTP_POST_, "/devices/{}/files", azure_files_post, IDENTITY_MAX },
    { HTTP_POST_, "/devices/{}/files/notifications", azure_files_done, IDENTITY_MAX },
    { HTTP_POST_, "/devices/{}/files/notifications/{}", azure_files_done, IDENTITY_MAX },
    { HTTP_GET_, "/configurations", azure_configs_list, IGNORED_MAX },
    { HTTP_POST_, "/configurations/testqueries", azure_configs_test, IDENTITY_MAX * 2 },
    { HTTP_GET_, "/configurations/{}", azure_config_get, IGNORED_MAX },
    { HTTP_PUT_, "/configurations/{}", azure_config_put, TWIN_BODY_MAX },
    { HTTP_DELETE_, "/configurations/{}", azure_config_delete, IGNORED_MAX },
    { HTTP_POST_, "/devices/{}/applyconfigurationcontent", azure_content_apply, TWIN_BODY_MAX },
    { HTTP_GET_, "/jobs/v2/query", azure_jobs_list, IGNORED_MAX },
    { HTTP_GET_, "/jobs/v2/{}", azure_job_get, IGNORED_MAX },
    { HTTP_PUT_, "/jobs/v2/{}", azure_job_put, TWIN_BODY_MAX },
    { HTTP_POST_, "/jobs/v2/{}/cancel", azure_job_cancel, IGNORED_MAX },
    { HTTP_POST_, "/jobs/create", azure_registry_job_post, IDENTITY_MAX },
    { HTTP_GET_, "/jobs", azure_registry_jobs_list, IGNORED_MAX },
    { HTTP_GET_, "/jobs/{}", azure_registry_job_get, IGNORED_MAX },
    { HTTP_DELETE_, "/jobs/{}", azure_registry_job_delete, IGNORED_MAX },
    OURS("/devices"),
    OURS("/twins"),
    OURS("/jobs"),
    OURS("/configurations"),
    OURS("/messages"),
    OURS("/statistics"),
    OURS("/digitaltwins"),
    { 0 },
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
    activity_init(&f->activity, hub);
    *out = f;
    return ERR_OK;
}

void azure_http_free(struct azure_http *f)
{
    if (f)
        activity_fini(&f->activity);
    free(f);
}

struct activity *activity_of(struct job *j)
{
    return &((struct azure_http *)(void *)j->front)->activity;
}

struct http_routes *azure_http_routes(struct azure_http *f)
{
    return &f->routes;
}
