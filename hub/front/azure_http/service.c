/* hub/front/azure_http/service.c - numbers of the registry, and what became of messages. */
#include "hub/domain/message/feedback.h"
#include "hub/front/azure_http/azure.h"
#include "hub/front/azure_http/routes.h"

#include <stdlib.h>

/* ---- statistics --------------------------------------------------------------------------------------- */

static enum err count_devices(struct job *j, struct store_tx *tx)
{
    uint64_t nr[3] = { 0 };
    enum err e = tx_device_count(tx, nr);
    j->out = json_object();
    json_put_u64(j->out, "totalDeviceCount", nr[DEVICE_ENABLED] + nr[DEVICE_DISABLED] + nr[DEVICE_PENDING]);
    json_put_u64(j->out, "enabledDeviceCount", nr[DEVICE_ENABLED]);
    json_put_u64(j->out, "disabledDeviceCount", nr[DEVICE_DISABLED] + nr[DEVICE_PENDING]);
    return e;
}

static enum err count_connected(struct job *j, struct store_tx *tx)
{
    uint64_t nr = 0;
    enum err e = tx_report_count_connected(tx, &nr);
    j->out = json_object();
    json_put_u64(j->out, "connectedDeviceCount", nr);
    return e;
}

JOB_STEP_HANDLER(azure_statistics_devices, JOB_POLICY, ACCESS_REGISTRY_READ, job_read, count_devices, NULL);
JOB_STEP_HANDLER(azure_statistics_service, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_read, count_connected,
                 NULL);

/* ---- feedback ----------------------------------------------------------------------------------------- */

static json_t *record_json(const struct feedback_row *r)
{
    json_t *o = json_object();
    json_put(o, "originalMessageId", json_span(r->message_id));
    json_put(o, "enqueuedTimeUtc", azure_time(r->at_ms));
    json_put(o, "statusCode", json_span(r->outcome));
    json_put(o, "description", json_span(r->outcome));
    json_put(o, "deviceId", json_span(r->device));
    json_put(o, "deviceGenerationId", json_span(r->generation));
    return o;
}

static enum err take(struct job *j, struct store_tx *tx)
{
    struct feedback_batch *b = j->state;
    enum err e = feedback_take(j->h, tx, &j->a, b);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    j->out = json_array();
    for (size_t i = 0; i < b->nr; i++)
        if (json_array_append_new(j->out, record_json(&b->rows[i])))
            return ERR_NOMEM;
    azure_answer_etag(j, span_str(b->token));
    return ERR_OK;
}

static void taken(struct job *j)
{
    char *text = j->out ? json_dumps(j->out, JSON_COMPACT) : NULL;
    if (text) {
        j->bytes = arena_copy(&j->a, span_str(text));
        j->bytes_type = "application/vnd.microsoft.iothub.feedback.json";
    }
    free(text);
    (void)job_fail_err(j, arena_err(&j->a)); /* it is locked, and comes again */
    job_end(j);
}

static void start_take(struct job *j)
{
    if (job_state(j, sizeof(struct feedback_batch)))
        job_write(j, take, taken);
}

static enum err settled(struct job *j, enum err e)
{
    return e == ERR_NOTFOUND
               ? AZURE_REFUSE(j, AZ_DeviceMessageLockLost, "the lock is unknown, or its time is over")
               : e;
}
static enum err complete(struct job *j, struct store_tx *tx)
{
    return settled(j, feedback_complete(j->h, tx, azure_etag_bare(j->r->params[0])));
}
static enum err abandon(struct job *j, struct store_tx *tx)
{
    return settled(j, feedback_abandon(j->h, tx, azure_etag_bare(j->r->params[0])));
}

JOB_HANDLER(azure_feedback_get, JOB_POLICY, ACCESS_SERVICE_CONNECT, JOB_RAW, start_take);
JOB_STEP_HANDLER(azure_feedback_delete, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_write, complete, NULL);
JOB_STEP_HANDLER(azure_feedback_abandon, JOB_POLICY, ACCESS_SERVICE_CONNECT, job_write, abandon, NULL);
