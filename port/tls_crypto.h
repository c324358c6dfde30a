/* port/tls_crypto.h - the cryptography of the TLS record layer on this machine, as the table of
 * core/tls/tls_keys.h. One for each thread: it holds one cipher context an algorithm and direction, set to a
 * connection's key for each record. */
#ifndef ROOST_PORT_TLS_CRYPTO_H
#define ROOST_PORT_TLS_CRYPTO_H

#include "core/tls/tls_keys.h"

/* ERR_NOMEM; ERR_IO: the library lacks a cipher. */
MUST_USE enum err tls_crypto_new(struct tls_crypto **out);
void tls_crypto_free(struct tls_crypto *c); /* wipes the keys in it; accepts NULL */

/* The HMAC of that table, for whoever has no table at hand. Keys are at most 64 bytes long. */
void tls_hmac(enum tls_hash h, struct span key, const struct span *parts, size_t parts_nr, uint8_t *out);

#endif
