/* core/query/name.c - the names that have a meaning: attributes of twins and job records, key words. */
#include "core/query/query_impl.h"

static const struct {
    const char *name;
    uint8_t field;
    bool job; /* of job records; else of twins */
} fields[] = {
    { "deviceId", QUERY_DEVICE_ID, false },
    { "id", QUERY_DEVICE_ID, false },
    { "moduleId", QUERY_MODULE_ID, false },
    { "etag", QUERY_ETAG, false },
    { "deviceEtag", QUERY_DEVICE_ETAG, false },
    { "status", QUERY_STATUS, false },
    { "statusReason", QUERY_STATUS_REASON, false },
    { "statusUpdateTime", QUERY_STATUS_UPDATE_TIME, false },
    { "connectionState", QUERY_CONNECTION_STATE, false },
    { "lastActivityTime", QUERY_LAST_ACTIVITY_TIME, false },
    { "cloudToDeviceMessageCount", QUERY_C2D_COUNT, false },
    { "authenticationType", QUERY_AUTHENTICATION_TYPE, false },
    { "x509Thumbprint", QUERY_X509_THUMBPRINT, false },
    { "modelId", QUERY_MODEL_ID, false },
    { "version", QUERY_VERSION, false },
    { "tags", QUERY_TAGS, false },
    { "properties", QUERY_PROPERTIES, false },
    { "capabilities", QUERY_CAPABILITIES, false },
    { "deviceScope", QUERY_DEVICE_SCOPE, false },
    { "parentScopes", QUERY_PARENT_SCOPES, false },
    { "configurations", QUERY_CONFIGURATIONS, false },
    { "deviceId", QUERY_DEVICE_ID, true },
    { "jobId", QUERY_JOB_ID, true },
    { "jobType", QUERY_JOB_TYPE, true },
    { "status", QUERY_STATUS, true },
    { "startTimeUtc", QUERY_START_TIME, true },
    { "endTimeUtc", QUERY_END_TIME, true },
    { "createdDateTimeUtc", QUERY_CREATED_TIME, true },
    { "createdTimeUtc", QUERY_CREATED_TIME, true },
    { "lastUpdatedDateTimeUtc", QUERY_LAST_UPDATED_TIME, true },
    { "outcome", QUERY_OUTCOME, true },
    { "error", QUERY_ERROR, true },
};

const char *query_field_name(struct span name, enum query_from from, enum query_field *field)
{
    const size_t nr = sizeof fields / sizeof fields[0];
    for (size_t i = 0; i < nr; i++) {
        if (fields[i].job != (from == QUERY_JOBS) || !span_ieq(name, span_str(fields[i].name)))
            continue;
        *field = (enum query_field)fields[i].field;
        for (size_t k = 0; k < nr; k++) /* the first name of a field is the one it is shown by */
            if (fields[k].field == fields[i].field && fields[k].job == fields[i].job)
                return fields[k].name;
    }
    return NULL;
}

bool query_is_reserved(struct span name, enum query_dialect dialect)
{
    static const char *const both[] = {
        "AND", "OR", "NOT", "IN", "NIN", "TRUE", "FALSE", "NULL", "UNDEFINED"
    };
    static const char *const twins[] = { "SELECT", "TOP", "FROM", "WHERE", "GROUP", "BY", "AS" };
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++)
        if (span_ieq(name, span_str(both[i])))
            return true;
    for (size_t i = 0; dialect == QUERY_OF_TWINS && i < sizeof twins / sizeof twins[0]; i++)
        if (span_ieq(name, span_str(twins[i])))
            return true;
    return false;
}
