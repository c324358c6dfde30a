/* hub/conn/tls_impl.h - what the files of TLS share: a worker's part, the socket under OpenSSL, and the step
 * from one record layer to the other. Nobody outside includes it. */
#ifndef ROOST_HUB_CONN_TLS_IMPL_H
#define ROOST_HUB_CONN_TLS_IMPL_H

#include "base/slab.h"
#include "core/tls/tls_record.h"
#include "hub/conn/tls.h"

#include <openssl/ssl.h>

enum {
    TLS_RAW_LEN = 65536,    /* taken off a socket at once */
    TLS_SHAKE_LEN = 16384,  /* the same while hands are shaken */
    TLS_SEAL_PLAIN = 65536, /* sealed at once */
    TLS_SEAL_LEN = 73728,   /* and as it goes out, in the smallest fragments too */
    TLS_KEY_SLOTS = 4096,   /* derived keys kept: two a busy connection */
    TLS_FILE_RECORDS = 4    /* records of a file sealed at once */
};

struct tls_worker {
    struct tls_work work;
    uint8_t *in, *out; /* TLS_RAW_LEN and a record; TLS_SEAL_LEN */
    struct slab slab;
};

/* Records as they pass by on the wire: their number, and the nonce of the last, which nobody else tells. */
struct tls_wire {
    uint64_t nr, since_ccs; /* begun; of them after a ChangeCipherSpec */
    uint64_t nonce;         /* first 8 bytes of the last one's body */
    uint32_t left;          /* bytes of it still to come */
    uint8_t head_len, type, body_len;
    uint8_t head[5];
};
void tls_wire_pass(struct tls_wire *w, const uint8_t *p, size_t n);

/* OpenSSL's side of a connection: all of it while hands are shaken, and the record layer of those that stay.
 */
struct tls_ossl {
    struct tls tls; /* first */
    struct tls_worker *w;
    SSL *ssl;
    int fd;
    bool shaking, drained, eof, by_ticket; /* by_ticket: the session it resumes came in one */
    struct span fresh; /* shaking: read from the socket, not yet taken by OpenSSL; in w->in */
    uint8_t *early;    /* afterwards: what was left of that */
    uint32_t early_len, early_at;
    enum tls_layer wanted;
    struct tls_wire in, out;
    uint64_t out_at_read; /* out.nr when OpenSSL last read: what was sent since is under the newest key */
    uint8_t secret[2][TLS_SECRET_MAX]; /* traffic secrets of TLS 1.3; wiped when they have moved on */
    uint8_t secret_len[2];
    uint8_t *cert; /* the peer's, DER; made when it is first asked for */
    int cert_len;
    struct wr chain; /* what it sent behind it, DER after DER; as well */
};

/* tls_memory.c */
void tls_ssl_free(SSL *ssl); /* and wipes it, with tls_guard_memory */

/* tls_bio.c */
MUST_USE enum err tls_bio_attach(struct tls_ossl *t); /* ERR_NOMEM */
/* The handshake is over: what it has not taken goes to a record layer of OpenSSL's. ERR_NOMEM. */
MUST_USE enum err tls_bio_settle(struct tls_ossl *t);

enum held_kind {
    HELD_IN,      /* the beginning of a record: `len` bytes */
    HELD_OUT,     /* sealed, from `at` on not yet taken by the socket; `plain` bytes of data are in it */
    HELD_CERT,    /* the peer's certificate, `at` bytes, and what it sent behind it */
    HELD_SESSION, /* a struct held_session */
    HELD_KINDS
};
struct held { /* what some connections have for some time */
    struct held *next;
    uint32_t kind, len, at, plain;
    uint8_t data[];
};
/* A session in the cache of its context, which has to forget it when the connection breaks. */
struct held_session {
    SSL_CTX *ctx;
    SSL_SESSION *session;
};
struct tls_compact {
    struct tls tls; /* first */
    struct tls_worker *w;
    struct held *held;
    int fd;
    struct tls_rec rec;
};
static inline struct tls_compact *tls_compact_of(const struct tls *t)
{
    return (struct tls_compact *)(uintptr_t)t;
}

/* tls_kdf.c */
extern _Thread_local struct tls_ossl *tls_shaking; /* whose traffic secrets are made now; or NULL */
/* What a context has to ask OpenSSL for, so that it uses our key schedule. NULL: that cannot be had; then TLS
 * 1.3 stays with OpenSSL. */
const char *tls_kdf_query(void);

/* tls_tickets.c: the keys of session tickets, which a context has from the one before. ERR_NOMEM. */
struct tls_tickets;
MUST_USE enum err tls_tickets_new(struct tls_tickets **out);
struct tls_tickets *tls_tickets_ref(struct tls_tickets *t); /* any thread */
void tls_tickets_unref(struct tls_tickets *t);
/* `ssl` seals its tickets with them, and keeps them as long as it lives. life_s: of its sessions. */
bool tls_tickets_use(struct tls_tickets *t, SSL_CTX *ssl, uint32_t life_s);
/* Replaces the key that seals, when it is old enough, and forgets the one before, when that is. The callback
 * of each ticket does so. False: no random numbers. */
bool tls_tickets_turn(struct tls_tickets *t, uint64_t now_ms);
struct tls_tickets *tls_ctx_tickets(struct tls_ctx *c);

/* tls_compact.c */
/* A record layer of ours for the connection whose handshake `o` has just finished; `o` stays whole and is the
 * caller's to free. ERR_NOTFOUND: its suite, or anything about it, is not ours: stay with OpenSSL. ERR_NOMEM.
 */
MUST_USE enum err tls_compact_take(struct tls_ossl *o, struct tls **out);
/* The operations that tls_kernel.c has in common with it. */
enum tls_need tls_compact_read(struct tls *t, uint8_t *buf, size_t cap, size_t *n);
bool tls_compact_has_more(const struct tls *t);
void tls_compact_free(struct tls *t);
bool tls_compact_peer_certificate(struct tls *t, struct span *der);
bool tls_compact_peer_chain(struct tls *t, struct span *ders);
unsigned tls_compact_max_fragment(const struct tls *t);

/* tls_kernel.c */
/* For a new context: asks the kernel whether it has TLS, and says in the log when it is wanted in vain. */
void tls_kernel_probe(bool wanted);
extern const struct tls_ops tls_kernel_ops;
/* Gives our sending key to the kernel. False: it does not want it, and nothing has changed. */
bool tls_kernel_take(struct tls_compact *c);
void tls_kernel_alert(struct tls_compact *c, enum tls_alert a);
bool tls_kernel_due(struct tls_compact *c); /* false: what is due only we could have said */

#endif
