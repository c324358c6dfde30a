/* tests/fuzz/fuzz_service_sas.c - any bytes as the query of a blob address: no such signature is right, and
 * nothing is read outside. */
#include "core/storage/service_sas.h"
#include "port/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct service_sas s;
    struct wr mem = { malloc(size + 1), size, 0 };
    if (!mem.p)
        return 0;
    enum err e = service_sas_parse(span_of(data, size), &mem, &s);
    if (e && e != ERR_NOTFOUND && e != ERR_PROTO)
        abort(); /* the decoded text is never longer */
    if (!e) {
        if (service_sas_verify(&s, &port_crypto, SPAN("0123456789abcdef"), SPAN("a"), SPAN("c"), SPAN("b")))
            abort();
        (void)service_sas_is_live(&s, 1786000000000u);
        (void)service_sas_permits(&s, 'w');
    }
    free(mem.p);
    return 0;
}
