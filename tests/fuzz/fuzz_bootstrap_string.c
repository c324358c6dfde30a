/* tests/fuzz/fuzz_bootstrap_string.c - any text: refused, or read so that writing it and reading it again
 * says the same. */
#include "core/trust/bootstrap_string.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t text[BOOTSTRAP_STRING_MAX];
    struct wr w = { text, sizeof text, 0 };
    struct bootstrap_string a, b;

    if (bootstrap_string_decode(span_of(data, size), &a))
        return 0;
    bootstrap_string_encode(&w, &a);
    if (!wr_ok(&w) || bootstrap_string_decode(wr_span(&w), &b))
        abort();
    if (!span_eq(a.host, b.host) || a.port != b.port || a.has_root != b.has_root ||
        memcmp(a.ca_pin, b.ca_pin, SHA256_LEN) != 0 || memcmp(a.root_pin, b.root_pin, SHA256_LEN) != 0)
        abort();
    return 0;
}
