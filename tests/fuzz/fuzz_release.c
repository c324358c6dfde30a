/* tests/fuzz/fuzz_release.c - a release's body of any bytes: refused, or understood so that writing it and
 * reading it again yields the same bytes. */
#include "core/trust/release.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t once[2 * ENVELOPE_BODY_MAX], twice[2 * ENVELOPE_BODY_MAX];
    struct wr a = { once, sizeof once, 0 }, b = { twice, sizeof twice, 0 };
    struct release first, second;

    if (size > ENVELOPE_BODY_MAX || release_decode(span_of(data, size), &first))
        return 0;
    release_encode(&a, &first);
    if (!wr_ok(&a) || release_decode(wr_span(&a), &second))
        abort();
    release_encode(&b, &second);
    if (!span_eq(wr_span(&a), wr_span(&b)))
        abort();
    return 0;
}
