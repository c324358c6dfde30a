/* port/tls.h - client connections: TCP, and TLS 1.2 or 1.3 on it, never blocking, for poll or epoll.
 * Small enough for ten thousand in one process: an idle one keeps no record buffers.
 *
 * Verification is never off: the chain must be valid now and the host name must match. Without a pin the
 * trust anchors are the system's. With a pin (SHA-256 of a CA's SubjectPublicKeyInfo, DER) the only trust
 * anchor is the CA certificate with that hash: one the server sent along, or one stored here before.
 *
 * All calls on one struct tls_client and its connections are made by one thread. SIGPIPE must be ignored. */
#ifndef ROOST_PORT_TLS_H
#define ROOST_PORT_TLS_H

#include "base/err.h"
#include "base/span.h"

#define TLS_PIN_LEN  32u
#define TLS_HOST_MAX 253u

struct tls_client;  /* what the connections of a thread share */
struct tls_conn;    /* one connection */
struct tls_session; /* what lets the same device come back with a short handshake */

MUST_USE enum err tls_client_new(struct tls_client **out);
void tls_client_free(struct tls_client *t); /* its connections are gone already; accepts NULL */
/* Every name is taken to be at this address literal: a hub that has no name here yet, a laboratory. Names in
 * certificates are checked as always. ERR_PROTO: not an address. */
MUST_USE enum err tls_client_set_address(struct tls_client *t, const char *address);
/* CA certificates (PEM, any number) that a pin may refer to although the server does not send them. They
 * are no trust anchors by themselves. ERR_PROTO: not a certificate. */
MUST_USE enum err tls_client_store_ca(struct tls_client *t, struct span pem);
/* The stored CA with this pin as PEM: a CA a server proved with is kept, so the next start knows it even
 * when that server does not send it. ERR_NOTFOUND. */
MUST_USE enum err tls_client_stored_ca(const struct tls_client *t, const uint8_t pin[TLS_PIN_LEN],
                                       struct wr *pem);

struct tls_target {
    struct span host; /* name or address literal (IPv6 without brackets) */
    uint16_t port;
    bool plain;                   /* TCP only */
    const uint8_t *pin;           /* TLS_PIN_LEN bytes, copied; NULL: the system's trust */
    uint32_t source_ipv4;         /* host byte order; 0: the system chooses */
    struct tls_session **session; /* the owner's slot, NULL: none. It must outlive the connection. */
};
/* Begins to connect. ERR_LIMIT: host too long or empty; ERR_NOMEM, ERR_IO (out of descriptors). */
MUST_USE enum err tls_conn_open(struct tls_client *t, const struct tls_target *target, struct tls_conn **out);
void tls_conn_close(struct tls_conn *c); /* says goodbye where that costs no waiting; accepts NULL */

/* Wait on this descriptor for these poll events (the values of POLLIN and POLLOUT, which epoll shares),
 * then step; step once right after opening. Until it is open every step may bring another descriptor, even
 * one of the same number: register anew. -1 before the first step: do not wait. */
int tls_conn_fd(const struct tls_conn *c);
uint32_t tls_conn_events(const struct tls_conn *c);
/* Goes on connecting. ERR_OK: open; ERR_AGAIN: wait; ERR_VERIFY: the server is not who it must be;
 * ERR_NOTFOUND: the name does not resolve; ERR_DENIED: the host is there, but nobody listens;
 * ERR_IO: unreachable or broke off. */
MUST_USE enum err tls_conn_step(struct tls_conn *c);
/* Open ones. ERR_AGAIN: wait. ERR_OK with *n == 0: the peer closed. ERR_IO: it broke off. Read until
 * ERR_AGAIN: bytes may be inside already decrypted, where no poll sees them. */
MUST_USE enum err tls_conn_read(struct tls_conn *c, uint8_t *buf, size_t cap, size_t *n);
MUST_USE enum err tls_conn_write(struct tls_conn *c, struct span s, size_t *n); /* what was taken */
const char *tls_conn_why(const struct tls_conn *c); /* for a log line: what the last error was about */
bool tls_conn_resumed(const struct tls_conn *c);

void tls_session_free(struct tls_session *s); /* accepts NULL */

/* The same verification for a TLS context that someone else made (libcurl's SSL_CTX): `pin` as above. The
 * pin and t stay valid as long as the context; the host name stays the other one's to check. */
struct tls_pin {
    struct tls_client *client;
    uint8_t pin[TLS_PIN_LEN];
};
void tls_pin_apply(struct tls_pin *p, void *ssl_ctx);

#endif
