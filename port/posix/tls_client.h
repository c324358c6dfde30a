/* port/posix/tls_client.h - what tls.c (connections) and tls_verify.c (who may be trusted) share. */
#ifndef ROOST_PORT_POSIX_TLS_CLIENT_H
#define ROOST_PORT_POSIX_TLS_CLIENT_H

#include "port/posix/resolve.h"
#include "port/tls.h"

#include <openssl/ssl.h>

#define TLS_CA_MAX 16u /* stored CA certificates; the oldest gives way */

struct tls_client {
    SSL_CTX *ctx;
    struct resolver resolver;
    STACK_OF(X509) * ca; /* known by hash: candidates for a pin, no anchors of their own */
};

/* Decides on the chain that X has. pin NULL: the anchors of the context. Learns the CA it ends in. */
int tls_verify_chain(struct tls_client *t, const uint8_t *pin, X509_STORE_CTX *x);

#endif
