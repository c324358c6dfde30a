/* hub/front/roost_http/throttles.c - which route of this front counts as which operation. */
#include "hub/front/roost_http/roost_impl.h"

#define ANY      (HTTP_GET_ | HTTP_HEAD_ | HTTP_POST_ | HTTP_PUT_ | HTTP_PATCH_ | HTTP_DELETE_)
#define V1(path) "/roost/v1/" path

const struct http_throttle roost_throttles[] = {
    { HTTP_GET_, V1("devices/{}/twin"), THROTTLE_TWIN_READS },
    { ANY, V1("devices/{}/twin"), THROTTLE_TWIN_UPDATES },
    { HTTP_GET_, V1("devices/{}/modules/{}/twin"), THROTTLE_TWIN_READS },
    { ANY, V1("devices/{}/modules/{}/twin"), THROTTLE_TWIN_UPDATES },
    { ANY, V1("devices/{}/messages"), THROTTLE_C2D_SENDS },
    { ANY, V1("devices/{}/modules/{}/messages"), THROTTLE_C2D_SENDS },
    { ANY, V1("broadcast"), THROTTLE_C2D_SENDS },
    { ANY, V1("devices/{}/methods/{}"), THROTTLE_METHODS },
    { ANY, V1("devices/{}/modules/{}/methods/{}"), THROTTLE_METHODS },
    { ANY, V1("devices"), THROTTLE_REGISTRY },
    { ANY, V1("devices/**"), THROTTLE_REGISTRY },
    { ANY, V1("query"), THROTTLE_QUERIES },
    { ANY, V1("jobs"), THROTTLE_JOBS },
    { ANY, V1("jobs/**"), THROTTLE_JOBS },
    { ANY, V1("configurations"), THROTTLE_CONFIGURATIONS },
    { ANY, V1("configurations/**"), THROTTLE_CONFIGURATIONS },
    /* Devices that come home, the pipeline, and whoever looks after the hub: bounded in other ways. */
    { ANY, "/bootstrap", THROTTLE_NONE },
    { ANY, "/artifacts/**", THROTTLE_NONE },
    { ANY, V1("**"), THROTTLE_NONE },
    { 0 },
};
