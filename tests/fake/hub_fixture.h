/* tests/fake/hub_fixture.h - a hub for tests of the domain and the fronts: the real store, stream and bus in
 * a directory of their own, a clock that can be moved, and ways to wait for what was asked. Include it once
 * in a test program; with FIXTURE_STREAM defined it has a stream as well. */
#ifndef ROOST_TESTS_FAKE_HUB_FIXTURE_H
#define ROOST_TESTS_FAKE_HUB_FIXTURE_H

#include "base/text.h"
#include "core/sas/sas.h"
#include "hub/domain/access/access.h"
#include "hub/domain/hub.h"
#include "hub/domain/message/c2d_lock.h"
#include "hub/domain/metrics.h"
#include "port/clock.h"
#include "port/crypto.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const fixture_names[] = { "hub.example.net", NULL };
static int64_t fixture_clock_offset_ms; /* tests move the wall clock by this */
static inline uint64_t fixture_wall_ms(void)
{
    return (uint64_t)((int64_t)clock_wall_ms() + fixture_clock_offset_ms);
}

struct fixture {
    char dir[64];
    struct hub hub;
    struct hub_metrics metrics;
    struct mailbox mail; /* where ops of the test itself come home */
};

static inline void fixture_open(struct fixture *f)
{
    assert(store_sqlite_open(&f->hub.store, f->dir, 2) == ERR_OK);
#ifdef FIXTURE_STREAM
    char stream_dir[80];
    snprintf(stream_dir, sizeof stream_dir, "%s/stream", f->dir);
    assert(stream_segment_open(&f->hub.stream,
                               &(struct stream_config){ .dir = stream_dir, .partitions = 4 }) == ERR_OK);
#endif
    assert(bus_local_new(&f->hub.bus, 1) == ERR_OK);
    assert(access_new(&f->hub.access, &port_crypto, 64) == ERR_OK);
    assert(c2d_locks_new(&f->hub.c2d_locks, &port_crypto, 4) == ERR_OK);
}

static inline void fixture_shut(struct fixture *f)
{
    store_close(f->hub.store);
#ifdef FIXTURE_STREAM
    stream_close(f->hub.stream);
#endif
    bus_free(f->hub.bus);
    access_free(f->hub.access);
    c2d_locks_free(f->hub.c2d_locks);
}

static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    /* OpenSSL is set up here, not by whichever thread asks first: what it then gives that thread for its
     * errors is not found by LeakSanitizer. */
    assert(OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL) == 1);
    strcpy(f->dir, "/tmp/roost-test-XXXXXX");
    assert(mkdtemp(f->dir));
    fixture_clock_offset_ms = 0;
    f->hub.crypto = &port_crypto;
    f->hub.names = fixture_names;
    f->hub.wall_ms = fixture_wall_ms;
    f->hub.metrics = &f->metrics;
    f->hub.settings = (struct hub_settings){ .c2d_ttl_s = 3600,
                                             .c2d_ttl_max_s = 172800,
                                             .c2d_depth_max = 50,
                                             .c2d_deliveries_max = 10,
                                             .c2d_lock_s = 60,
                                             .feedback_ttl_s = 3600,
                                             .feedback_deliveries_max = 10,
                                             .feedback_lock_s = 60,
                                             .note_ttl_s = 3600,
                                             .note_deliveries_max = 10,
                                             .note_lock_s = 60,
                                             .sas_skew_s = 300,
                                             .sas_grace_s = 300,
                                             .message_max = 262144,
                                             .methods_in_flight = 4 };
    assert(mailbox_init(&f->mail) == ERR_OK);
    fixture_open(f);
}

static inline void fixture_fini(struct fixture *f)
{
    char cmd[96];
    fixture_shut(f);
    mailbox_fini(&f->mail);
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", f->dir);
    assert(system(cmd) == 0);
}

/* ---- waiting ---------------------------------------------------------------------------------------- */

static inline void fixture_flag(struct op *op)
{
    op->home = NULL; /* seen by fixture_wait */
}
/* Prepares an op of the test; then start it, then fixture_wait. */
static inline void fixture_prepare(struct fixture *f, struct op *op)
{
    op->home = &f->mail;
    op->done = fixture_flag;
}
static inline void fixture_pump(struct fixture *f, int timeout_ms)
{
    mailbox_wait(&f->mail, timeout_ms);
    struct op *op = mailbox_take(&f->mail);
    while (op) {
        struct op *next = op->next;
        op->done(op);
        op = next;
    }
}
static inline enum err fixture_wait(struct fixture *f, struct op *op)
{
    while (op->home)
        fixture_pump(f, 10000);
    return op->err;
}

struct fixture_tx {
    struct store_op store;
    enum err (*fn)(struct store_tx *tx, void *ctx);
    void *ctx;
};
static inline enum err fixture_tx_run(struct store_tx *tx, struct store_op *self)
{
    struct fixture_tx *t = (struct fixture_tx *)(void *)self;
    return t->fn(tx, t->ctx);
}
/* Runs fn in a transaction, on the store's thread, and waits. Everything written before is then there. */
static inline enum err fixture_tx(struct fixture *f, enum err (*fn)(struct store_tx *tx, void *ctx),
                                  void *ctx)
{
    struct fixture_tx t = { .store.run = fixture_tx_run, .fn = fn, .ctx = ctx };
    fixture_prepare(f, &t.store.op);
    store_write(f->hub.store, &t.store);
    return fixture_wait(f, &t.store.op);
}

/* ---- identities -----------------------------------------------------------------------------------------
 */

static const uint8_t fixture_key1[32] = "key-one-key-one-key-one-key-one";
static const uint8_t fixture_key2[32] = "key-two-key-two-key-two-key-two";
#define FIXTURE_KEY(k) span_of(k, sizeof(k))

static inline enum err fixture_put_device(struct store_tx *tx, void *ctx)
{
    return tx_device_put(tx, ctx, 0, NULL);
}
static inline struct device_row fixture_row(const char *id)
{
    return (struct device_row){ .id = span_str(id),
                                .key1 = FIXTURE_KEY(fixture_key1),
                                .key2 = FIXTURE_KEY(fixture_key2),
                                .generation = SPAN("637000000000000001"),
                                .product = SPAN(""),
                                .origin = SPAN("operator") };
}
static inline void fixture_device(struct fixture *f, const char *id, enum device_status status)
{
    struct device_row r = fixture_row(id);
    r.status = (uint8_t)status;
    assert(fixture_tx(f, fixture_put_device, &r) == ERR_OK);
    access_forget(f->hub.access, r.id);
}
static inline enum err fixture_put_policy(struct store_tx *tx, void *ctx)
{
    return tx_policy_put(tx, ctx);
}
static inline void fixture_policy(struct fixture *f, const char *name, uint32_t rights)
{
    struct policy_row p = { span_str(name), FIXTURE_KEY(fixture_key1), FIXTURE_KEY(fixture_key2), rights };
    assert(fixture_tx(f, fixture_put_policy, &p) == ERR_OK);
    access_forget_policy(f->hub.access, p.name);
}
static inline enum err fixture_delete_device(struct store_tx *tx, void *ctx)
{
    return tx_device_delete(tx, span_str(ctx));
}
/* A token for a resource in plain text, valid from now for ttl_s (may be negative). */
static inline struct span fixture_token(char buf[SAS_TOKEN_MAX], const char *resource, const uint8_t key[32],
                                        int64_t ttl_s, const char *policy)
{
    struct wr w = { (uint8_t *)buf, SAS_TOKEN_MAX, 0 };
    sas_token_encode(&w, &port_crypto, span_str(resource), span_of(key, 32),
                     (uint64_t)((int64_t)(fixture_wall_ms() / 1000) + ttl_s), span_str(policy));
    return wr_span(&w);
}

#endif
