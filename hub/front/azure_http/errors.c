/* hub/front/azure_http/errors.c - see errors.h. */
#include "hub/front/azure_http/errors.h"

static const struct row {
    const char *name;
    enum azure_error error;
} rows[] = {
#define X(name, number) { #name, AZ_##name },
    AZURE_ERRORS(X)
#undef X
};
#define ROWS (sizeof rows / sizeof rows[0])

const char *azure_error_name(enum azure_error e)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].error == e)
            return rows[i].name;
    return "GenericServerError";
}

bool azure_error_find(struct span name, enum azure_error *out)
{
    for (size_t i = 0; i < ROWS; i++)
        if (span_eq(name, span_str(rows[i].name))) {
            *out = rows[i].error;
            return true;
        }
    return false;
}

enum azure_error azure_error_of_status(unsigned status)
{
    for (size_t i = 0; i < ROWS; i++) /* the first of each status is the general one */
        if (azure_error_status(rows[i].error) == status)
            return rows[i].error;
    return status == 408   ? AZ_RequestTimedOut
           : status == 507 ? AZ_ServerBusy
           : status >= 500 ? AZ_GenericServerError
                           : AZ_GenericBadRequest;
}
