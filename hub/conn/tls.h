/* hub/conn/tls.h - TLS of accepted connections in two phases: a handshake, which OpenSSL makes, then a record
 * layer, which is what stays with the connection for as long as it lives: ours of core/tls where it can take
 * the keys over, else OpenSSL's (docs/tls.md). A context is shared by all workers; a connection belongs to
 * one. */
#ifndef ROOST_HUB_CONN_TLS_H
#define ROOST_HUB_CONN_TLS_H

#include "base/err.h"
#include "base/span.h"

enum tls_layer {
    TLS_LAYER_AUTO = 0, /* asked for: the best there is; of a connection: its handshake is not over */
    TLS_LAYER_OPENSSL,
    TLS_LAYER_COMPACT,
    TLS_LAYER_KERNEL, /* for what goes out, where there is one; else as compact */
    TLS_LAYERS
};
const char *tls_layer_name(enum tls_layer l); /* "auto", "openssl", "compact", "kernel" */

/* For a program to call before it does anything with OpenSSL: the memory of its connection objects is wiped
 * when they go. False: too late; they go unwiped. */
bool tls_guard_memory(void);

struct tls_ctx;
struct tls_config {
    const char *chain_files[2]; /* PEM, an EC and an RSA one; NULL: none */
    const char *key_files[2];
    uint32_t session_timeout_s; /* 0: 12 hours */
    uint32_t session_cache_nr;  /* sessions kept for clients without tickets; 0: 20 000 */
    enum tls_layer layer;
    bool ask_client_certificate; /* any is accepted at the handshake; who may do what is decided above */
};
/* ERR_IO: a file cannot be read or does not hold what it should; logged with its name. `before`: a context
 * that this one replaces, whose tickets stay good; or NULL. */
MUST_USE enum err tls_ctx_new(struct tls_ctx **out, const struct tls_config *cfg,
                              const struct tls_ctx *before);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *c); /* any thread */
void tls_ctx_unref(struct tls_ctx *c);
/* The context made last asks for the kernel's TLS, and this kernel offers none: the hub seals what goes out
 * itself. Any thread. */
bool tls_kernel_is_missed(void);

/* What the connections of one worker share: buffers, ciphers, derived keys, and the connections themselves.
 * ERR_NOMEM, ERR_IO. Outlives its connections; free accepts NULL. */
struct tls_worker;
MUST_USE enum err tls_worker_new(struct tls_worker **out);
void tls_worker_free(struct tls_worker *w);
void tls_worker_tidy(struct tls_worker *w); /* derived keys go; those that are needed come back */

enum tls_need { TLS_DONE, TLS_NEED_READ, TLS_NEED_WRITE, TLS_CLOSED /* the peer said so */, TLS_FAILED };

struct tls { /* first member of an implementation's own */
    const struct tls_ops *ops;
};
#define TLS_READ_MIN 17408u /* a record, and a little */
struct tls_ops {
    enum tls_layer layer;
    /* *n > 0 on TLS_DONE; cap is at least TLS_READ_MIN, unless has_more said so just now */
    enum tls_need (*read)(struct tls *t, uint8_t *buf, size_t cap, size_t *n);
    /* After TLS_NEED_WRITE or TLS_NEED_READ the same bytes are given again, perhaps with more behind them. */
    enum tls_need (*write)(struct tls *t, struct span s, size_t *n);
    /* The same for a piece of a file; NULL: read it and write that. */
    enum tls_need (*file)(struct tls *t, int fd, uint64_t offset, uint64_t len, size_t *n);
    bool (*has_more)(const struct tls *t); /* input that epoll will not tell about */
    /* Records the socket has not taken, or not whole; write, of nothing too, goes on with them. NULL: never.
     */
    bool (*has_sealed)(const struct tls *t);
    void (*bye)(struct tls *t); /* close_notify; behind what is sealed, if there is has_sealed */
    void (*free)(struct tls *t);
    bool (*peer_certificate)(struct tls *t, struct span *der);
    bool (*peer_chain)(struct tls *t, struct span *ders); /* what it sent behind that, DER after DER */
    unsigned (*max_fragment)(const struct tls *t);
};
struct tls_outcome {
    bool resumed;
    const char *why; /* of TLS_FAILED: a fixed text, or "" */
};
MUST_USE enum err tls_accept_new(struct tls **out, struct tls_ctx *c, struct tls_worker *w, int fd);
/* TLS_DONE: *t is now the record layer (perhaps another object); further calls go through its ops. */
enum tls_need tls_handshake(struct tls **t, struct tls_outcome *out);

#endif
