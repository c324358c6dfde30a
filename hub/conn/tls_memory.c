/* hub/conn/tls_memory.c - wipes OpenSSL's connection objects. In TLS 1.3 an SSL object holds every secret of
 * its handshake, and SSL_free gives its memory back as it is; nobody but the allocator can wipe it. So we
 * are OpenSSL's allocator: the one of the C library, which knows which object goes now. */
#include "hub/conn/tls_impl.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>

static _Thread_local void *going;

static void *get(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return n ? malloc(n) : NULL;
}

static void give_back(void *p, const char *file, int line)
{
    (void)file, (void)line;
    if (p && p == going)
        tls_wipe(p, malloc_usable_size(p));
    free(p);
}

static void *resize(void *p, size_t n, const char *file, int line)
{
    if (!n) {
        give_back(p, file, line);
        return NULL;
    }
    return realloc(p, n);
}

bool tls_guard_memory(void)
{
    return CRYPTO_set_mem_functions(get, resize, give_back) == 1;
}

void tls_ssl_free(SSL *ssl)
{
    going = ssl;
    SSL_free(ssl);
    going = NULL;
}
