/* tests/fuzz/fuzz_amqp_address.c - any bytes as the address of a link and as the filter of a reader. */
#include "hub/front/amqp/address.h"
#include "hub/front/amqp/start.h"

#include <stdlib.h>

static void inside(struct span s, const uint8_t *data, size_t size, const uint8_t *mem)
{
    bool in_data = s.p >= data && s.p + s.n <= data + size,
         in_mem = s.p >= mem && s.p + s.n <= mem + ADDRESS_MAX;
    if (s.n && !in_data && !in_mem)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t mem[ADDRESS_MAX];
    struct address a = { 0 };
    struct start s;
    if (!address_parse(span_of(data, size), mem, &a)) {
        inside(a.device, data, size, mem);
        inside(a.module, data, size, mem);
        inside(a.entity, data, size, mem);
        inside(a.group, data, size, mem);
        inside(a.partition, data, size, mem);
        inside(a.rest, data, size, mem);
    }
    (void)!start_parse(span_of(data, size), &s);
    (void)!start_of_filter(span_of(data, size), &s);
    return 0;
}
