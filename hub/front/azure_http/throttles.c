/* hub/front/azure_http/throttles.c - which route of this front counts as which operation. */
#include "hub/front/azure_http/azure.h"

#define ANY (HTTP_GET_ | HTTP_HEAD_ | HTTP_POST_ | HTTP_PUT_ | HTTP_PATCH_ | HTTP_DELETE_)

const struct http_throttle azure_throttles[] = {
    { ANY, "/devices/query", THROTTLE_QUERIES },
    { HTTP_POST_, "/devices/{}/messages/events", THROTTLE_D2C_SENDS },
    { HTTP_POST_, "/devices/{}/modules/{}/messages/events", THROTTLE_D2C_SENDS },
    { HTTP_GET_, "/devices/{}/messages/devicebound", THROTTLE_C2D_RECEIVES },
    { ANY, "/devices/{}/messages/devicebound/**", THROTTLE_C2D_RECEIVES },
    { HTTP_DELETE_, "/devices/{}/commands", THROTTLE_C2D_SENDS },
    { HTTP_POST_, "/devices/{}/files", THROTTLE_UPLOADS },
    { ANY, "/devices/{}/files/**", THROTTLE_NONE }, /* the end of one that was counted */
    { HTTP_POST_, "/devices/{}/applyConfigurationContent", THROTTLE_CONFIGURATIONS },
    { ANY, "/devices", THROTTLE_REGISTRY },
    { ANY, "/devices/**", THROTTLE_REGISTRY },
    { ANY, "/statistics/**", THROTTLE_REGISTRY },
    { ANY, "/messages/servicebound/**", THROTTLE_NONE },
    { HTTP_POST_, "/twins/{}/methods", THROTTLE_METHODS },
    { HTTP_POST_, "/twins/{}/modules/{}/methods", THROTTLE_METHODS },
    { HTTP_GET_, "/twins/**", THROTTLE_TWIN_READS },
    { HTTP_PUT_ | HTTP_PATCH_, "/twins/**", THROTTLE_TWIN_UPDATES },
    { HTTP_GET_, "/digitaltwins/{}", THROTTLE_TWIN_READS },
    { HTTP_PATCH_, "/digitaltwins/{}", THROTTLE_TWIN_UPDATES },
    { HTTP_POST_, "/digitaltwins/**", THROTTLE_METHODS },
    { ANY, "/jobs", THROTTLE_JOBS },
    { ANY, "/jobs/**", THROTTLE_JOBS },
    { ANY, "/configurations", THROTTLE_CONFIGURATIONS },
    { ANY, "/configurations/**", THROTTLE_CONFIGURATIONS },
    { 0 },
};
