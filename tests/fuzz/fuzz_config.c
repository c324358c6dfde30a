/* tests/fuzz/fuzz_config.c - any bytes as a configuration: an answer in any case, a complaint that begins
 * with its place, and what was taken can be printed and read again to the same. */
#include "hub/config/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t one[1 << 18], two[1 << 18];
    struct wr a = { one, sizeof one, 0 }, b = { two, sizeof two, 0 };
    struct config *c = NULL, *d = NULL;
    struct config_error e;
    if (size > 16384)
        return 0;
    enum err err = config_parse(&c, span_of(data, size), "f", &e);
    if (err) {
        if (c || (err == ERR_PROTO && strncmp(e.text, "f:", 2) != 0))
            abort();
        return 0;
    }
    config_print(c, &a);
    if (wr_ok(&a)) {
        if (config_parse(&d, wr_span(&a), "f", &e) == ERR_OK) {
            config_print(d, &b);
            if (!span_eq(wr_span(&a), wr_span(&b)))
                abort();
            config_free(d);
        } else {
            abort();
        }
    }
    config_free(c);
    return 0;
}
