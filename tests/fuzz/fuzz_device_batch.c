/* tests/fuzz/fuzz_device_batch.c - any bytes as a batch of telemetry: events lie inside what was given. */
#include "hub/front/azure_http/device_batch.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *in = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    struct arena a;
    const char *why = NULL;
    size_t nr, bytes, sum = 0;
    bool too_many;
    if (!in)
        return 0;
    arena_init(&a, 1u << 24);
    struct device_event *e = device_batch_read(in, &a, &nr, &bytes, &why, &too_many);
    for (size_t i = 0; e && i < nr; i++)
        sum += e[i].body.n;
    if (e ? sum != bytes || bytes > size || nr > DEVICE_BATCH_MAX : !why && !arena_err(&a))
        abort();
    arena_fini(&a);
    json_decref(in);
    return 0;
}
