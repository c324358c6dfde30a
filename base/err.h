/* base/err.h - the one error type: the code says what to do next.
 * Results leave through out parameters, written on ERR_OK only. A caller's bug is an assert, never a code. */
#ifndef ROOST_BASE_ERR_H
#define ROOST_BASE_ERR_H

#define MUST_USE __attribute__((warn_unused_result))

enum err {
    ERR_OK = 0,
    ERR_AGAIN,    /* too little input or room: nothing changed, call again later */
    ERR_PROTO,    /* the peer broke the protocol or the format: close, refuse */
    ERR_LIMIT,    /* well formed but more than we accept: refuse it */
    ERR_NOTFOUND, /* no such thing */
    ERR_EXISTS,   /* there is one already, and it differs */
    ERR_STALE,    /* a precondition (etag, version, sequence) does not hold */
    ERR_DENIED,   /* not authenticated or not allowed */
    ERR_VERIFY,   /* a hash or signature does not match */
    ERR_FULL,     /* the disk or a queue is full: nothing was taken, it may work later */
    ERR_NOMEM,    /* out of memory */
    ERR_IO,       /* the system refused: logged, with errno, where it happened */
    ERR_STOPPED,  /* shutting down: nothing was done */
    ERR_CLOSED,   /* the other end went away before it answered: it may or may not have acted */
    ERR_CODES
};

/* "ok", "again", ... for logs, metrics and messages; never NULL. */
const char *err_name(enum err e);

#endif
