/* hub/front/roost_http/routes.h - the handlers, by the file they are in. */
#ifndef ROOST_HUB_FRONT_ROOST_HTTP_ROUTES_H
#define ROOST_HUB_FRONT_ROOST_HTTP_ROUTES_H

#include "hub/conn/http_conn.h"

struct roost_http;

http_handler bootstrap_post, checkin_post;                                        /* bootstrap.c, checkin.c */
http_handler devices_list, device_put, device_get, device_delete, device_approve; /* devices.c */
http_handler twin_show, twin_patch, twin_replace;                                 /* twins.c */
http_handler modules_list, module_put_one, module_get_one, module_delete_one;     /* modules.c */
http_handler authorities_list, authority_put_one, authority_delete_one;           /* authorities.c */
http_handler tokens_list, token_post, token_delete;                               /* tokens.c */
http_handler message_post, module_message_post, broadcast_post, feedback_list;    /* messages.c */
http_handler method_post, module_method_post;                                     /* methods.c */
http_handler broadcasts_list, broadcast_get;                                      /* broadcasts.c */
http_handler telemetry_get;                                                       /* telemetry.c */
http_handler groups_list, group_get, group_put, group_delete;                     /* groups.c */
http_handler routes_list, route_get, route_put, route_delete;                     /* routing.c */
http_handler endpoints_list, endpoint_get, endpoint_put, endpoint_delete;
http_handler enrichments_list, enrichment_get, enrichment_put, enrichment_delete;
http_handler route_test_post;                                     /* route_test_post.c */
http_handler trust_get, trust_post;                               /* trust_record.c */
http_handler upload_put, upload_head, artifact_post;              /* uploads.c */
http_handler artifact_get;                                        /* artifacts.c */
http_handler releases_list, release_get_one, release_post;        /* releases.c */
http_handler campaigns_list, campaign_get, campaign_post;         /* campaigns.c */
http_handler job_put_one, job_get_one, job_cancel_one, jobs_list; /* jobs.c */
/* configurations.c */
http_handler configurations_list, configuration_get_one, configuration_put_one, configuration_patch_one,
    configuration_delete_one, device_content_post;
http_handler query_post;                           /* query.c */
http_handler status_get, audit_list;               /* status.c */
http_handler metrics_get, healthz_get, readyz_get; /* ops.c */

/* device_uploads.c */
http_handler device_uploads_list, device_upload_get, device_upload_delete, file_notifications_list,
    container_sas_post;

/* artifacts.c: which blobs an artifact is made of, kept in memory; artifacts are immutable. */
struct artifact_cache;
struct artifact_cache *artifact_cache_new(void);
void artifact_cache_free(struct artifact_cache *c);

#endif
