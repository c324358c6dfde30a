/* cli/spki.c - pins by OpenSSL. */
#include "cli/spki.h"

#include "cli/cli.h"
#include "port/crypto.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

int spki_pin_of_file(const char *path, uint8_t pin[SHA256_LEN])
{
    FILE *f = fopen(path, "r");
    uint8_t *der = NULL;
    if (!f)
        return cli_fail(CLI_USAGE, NULL, "%s: %s", path, strerror(errno));
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    int n = x ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der) : -1;
    X509_free(x);
    if (n <= 0)
        return cli_fail(CLI_USAGE, NULL, "%s is not a certificate in PEM form", path);
    crypto_sha256(&port_crypto, span_of(der, (size_t)n), pin);
    OPENSSL_free(der);
    return CLI_OK;
}
