/* device/agent/fetch.h - the engine's requests through libcurl: http, https, ftp and ftps, byte ranges (FTP:
 * REST), verified TLS with the pin. One request at a time, nothing blocks. */
#ifndef ROOST_DEVICE_AGENT_FETCH_H
#define ROOST_DEVICE_AGENT_FETCH_H

#include "device/device.h"
#include "port/tls.h"

#include <curl/curl.h>

struct fetch {
    CURLM *multi;
    CURL *easy; /* NULL: no request is open */
    struct curl_slist *fields, *connect_to;
    struct tls_client *tls; /* knows stored CAs, judges chains */
    struct tls_pin pin;     /* of the request and of every kept connection */
    bool has_pin, plain_allowed, announced, complete;
    const char *address;
    struct roost_dev *dev;
    uint32_t id, offset, len, got;
    bool ranged;
    uint8_t *body; /* owned: what a POST sends */
    char error[CURL_ERROR_SIZE];
    uint64_t bytes; /* of bodies, in all: what an update cost */
};

/* address: every host is there (see port/tls.h), or NULL. */
MUST_USE enum err fetch_init(struct fetch *f, struct tls_client *tls, const char *address);
void fetch_fini(struct fetch *f);
/* Gives up an open request without telling, then starts this one; the engine hears the rest. */
void fetch_start(struct fetch *f, struct roost_dev *dev, const struct roost_dev_exchange *x, uint64_t now_ms);
void fetch_cancel(struct fetch *f);
void fetch_move(struct fetch *f, uint64_t now_ms); /* after every wait */

#endif
