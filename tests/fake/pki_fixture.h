/* tests/fake/pki_fixture.h - an authority and a server certificate of it, as files in a directory of their
 * own: setup and teardown of a group of tests. Include it once in a program. */
#ifndef ROOST_TESTS_FAKE_PKI_FIXTURE_H
#define ROOST_TESTS_FAKE_PKI_FIXTURE_H

#include "hub/config/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <unistd.h>

static char dir[64], ca[80], ca_key[80], chain[80], key[80];
static const char *const names[] = { "hub.localhost" };

static inline int make_files(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/roost-pki-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    snprintf(ca_key, sizeof ca_key, "%s/ca.key", dir);
    snprintf(chain, sizeof chain, "%s/0.crt", dir);
    snprintf(key, sizeof key, "%s/0.key", dir);
    assert_int_equal(pki_ca_new(ca, ca_key), ERR_OK);
    assert_int_equal(pki_server_new(PKI_EC, names, 1, ca, ca_key, chain, key), ERR_OK);
    return 0;
}
static inline int remove_files(void **state)
{
    const char *const all[] = { ca, ca_key, chain, key };
    (void)state;
    for (int i = 0; i < 4; i++)
        unlink(all[i]);
    rmdir(dir);
    return 0;
}

#endif
