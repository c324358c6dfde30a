/* tests/fuzz/fuzz_http_range.c - any bytes as Range, If-Range and If-None-Match: the answer lies in the file.
 */
#include "hub/front/http/range.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t lens[] = { 0, 1, 4096, UINT64_MAX / 2 };
    if (!size)
        return 0;
    size_t cut = data[0] < size ? data[0] : size - 1; /* where If-Range begins */
    struct span range = span_of(data + 1, cut), if_range = span_of(data + 1 + cut, size - 1 - cut);
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        struct range_answer a = range_of(range, if_range, SPAN("\"abc\""), lens[i]);
        if (a.offset > lens[i] || a.len > lens[i] - a.offset ||
            (a.status != 200 && a.status != 206 && a.status != 416) || (a.status == 206 && !a.len))
            abort();
    }
    (void)etag_listed(range, SPAN("\"abc\""));
    return 0;
}
