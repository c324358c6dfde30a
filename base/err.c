/* base/err.c - names of the error codes. */
#include "base/err.h"

const char *err_name(enum err e)
{
    static const char *const names[ERR_CODES] = {
        "ok",     "again",  "proto", "limit", "notfound", "exists",  "stale",
        "denied", "verify", "full",  "nomem", "io",       "stopped", "closed",
    };
    return (unsigned)e < ERR_CODES ? names[e] : "unknown";
}
