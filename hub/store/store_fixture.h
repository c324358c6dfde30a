/* hub/store/store_fixture.h - what the suites of the store share: the store under test, an op that is waited
 * for, and rows as text. */
#ifndef ROOST_HUB_STORE_STORE_FIXTURE_H
#define ROOST_HUB_STORE_STORE_FIXTURE_H

#include "hub/store/store_suite.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* The store under test: open between setup and teardown. */
extern struct store *S;
void store_fixture_use(const struct store_suite *how);
int setup(void **state); /* wiped, then opened */
int teardown(void **state);
void reopen(void);

#define W(fn, ctx) assert_int_equal(store_write_wait(S, fn, ctx), ERR_OK)
#define R(fn, ctx) assert_int_equal(store_read_wait(S, fn, ctx), ERR_OK)
#define OK(call)   assert_int_equal(call, ERR_OK)

void same(struct span got, const char *want);

/* What a walk met, in its order: each value with a comma behind it. */
struct text {
    char p[8192];
    size_t n;
    enum err stop_with; /* what the walk's callback returns */
};
void text_add(struct text *x, struct span s);

struct device_row device_named(const char *id);
enum err make_devices(struct store_tx *t, void *ctx); /* ctx: a NULL-terminated array of ids */
/* What a listing yields, as text; returns the text's stop_with. */
enum err each_device(void *ctx, const struct device_row *r);

#endif
