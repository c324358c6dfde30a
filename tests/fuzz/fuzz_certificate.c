/* tests/fuzz/fuzz_certificate.c - any bytes as a certificate, as what was sent behind one, and as PEM; what
 * is read has one form and is trusted by nobody. */
#include "hub/domain/access/certificate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t der[CERTIFICATE_DER_MAX];
    struct certificate_roots *roots;
    struct certificate_facts f;
    struct span in = span_of(data, size);
    size_t n = 0, cut = size ? data[0] * 4u : 0;
    struct certificate_proof proof;
    if (!certificate_facts(in, &f) && f.not_after_ms &&
        !certificate_has_thumbprint(in, span_of(f.sha256, 32)))
        abort();
    if (!certificate_from_pem(in, der, sizeof der, &n) && certificate_facts(span_of(der, n), &f))
        abort();
    if (certificate_roots_new(&roots))
        return 0;
    if (cut > size)
        cut = size;
    struct span leaf = span_of(data, cut), chain = span_of(data + cut, size - cut);
    if (certificate_check(roots, leaf, chain, SPAN("d"), 1700000000, &proof) == CERTIFICATE_OK ||
        certificate_check(roots, in, SPAN_NONE, SPAN("d"), 1700000000, &proof) == CERTIFICATE_OK)
        abort();
    (void)certificate_roots_add(roots, in);
    certificate_roots_unref(roots);
    return 0;
}
