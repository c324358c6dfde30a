/* hub/front/azure_http/routes.h - the handlers, by the file they are in. To add an operation: a handler in
 * the file of its family, a line here, a line in azure_http.c, one in docs/azure-http.md. */
#ifndef ROOST_HUB_FRONT_AZURE_HTTP_ROUTES_H
#define ROOST_HUB_FRONT_AZURE_HTTP_ROUTES_H

#include "hub/conn/http_conn.h"

http_handler azure_devices_list, azure_device_get, azure_device_put, azure_device_delete; /* devices.c */
http_handler azure_commands_delete;
http_handler azure_modules_list, azure_module_get, azure_module_put, azure_module_delete; /* modules.c */
http_handler azure_devices_post, azure_keys_regenerate;                                   /* bulk.c */
http_handler azure_statistics_devices, azure_statistics_service;                          /* service.c */
http_handler azure_feedback_get, azure_feedback_delete, azure_feedback_abandon;
http_handler azure_twin_get, azure_twin_patch, azure_twin_put; /* twins.c */
http_handler azure_digital_get, azure_digital_patch;           /* digital_twins.c */
http_handler azure_query;                                      /* query.c */
/* methods.c */
http_handler azure_device_method, azure_module_method, azure_root_command, azure_component_command;
http_handler azure_device_events_post, azure_module_events_post;       /* device_messages.c */
http_handler azure_bound_get, azure_bound_delete, azure_bound_abandon; /* device_bound.c */
http_handler azure_files_post, azure_files_done;                       /* files.c */
/* configurations.c */
http_handler azure_config_put, azure_config_get, azure_config_delete, azure_configs_list, azure_configs_test;
http_handler azure_content_apply;
/* jobs.c */
http_handler azure_job_put, azure_job_get, azure_job_cancel, azure_jobs_list;
/* registry_jobs.c */
http_handler azure_registry_job_post, azure_registry_job_get, azure_registry_jobs_list;
http_handler azure_registry_job_delete;

#endif
