/* tests/fuzz/fuzz_trust_record.c - a trust record's body of any bytes: refused, or understood so that writing
 * it and reading it again yields the same bytes. */
#include "core/trust/trust_record.h"
#include "port/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t once[2 * ENVELOPE_BODY_MAX], twice[2 * ENVELOPE_BODY_MAX];
    struct wr a = { once, sizeof once, 0 }, b = { twice, sizeof twice, 0 };
    struct trust_record first, second;

    if (size > ENVELOPE_BODY_MAX || trust_record_decode(span_of(data, size), &port_crypto, &first))
        return 0;
    trust_record_encode(&a, &first);
    if (!wr_ok(&a) || trust_record_decode(wr_span(&a), &port_crypto, &second))
        abort();
    trust_record_encode(&b, &second);
    if (!span_eq(wr_span(&a), wr_span(&b)))
        abort();
    return 0;
}
