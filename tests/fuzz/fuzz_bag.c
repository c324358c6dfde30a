/* tests/fuzz/fuzz_bag.c - any text as a property bag: what is read, written again, reads the same; decoding
 * needs no more room than the text has. */
#include "core/bag/bag.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *room = malloc(size + 1), *wire = malloc(3 * size + 2), *room2 = malloc(size + 1);
    struct wr mem = { room, size, 0 }, w = { wire, 3 * size + 2, 0 };
    struct span bag = span_of(data, size);
    struct bag_item a, b;
    enum err e;
    while (!(e = bag_next(&bag, &mem, &a))) {
        struct wr mem2 = { room2, size, 0 };
        w.len = 0;
        if (a.has_value)
            bag_put(&w, 0, a.name, a.value);
        else
            bag_put_null(&w, 0, a.name);
        struct span again = wr_span(&w);
        if (bag_next(&again, &mem2, &b) || again.n || a.has_value != b.has_value ||
            !span_eq(a.name, b.name) || !span_eq(a.value, b.value))
            abort();
        (void)bag_system_of_wire(a.name);
        (void)bag_system_of_stored(a.name);
    }
    if (e != ERR_AGAIN)
        abort();
    free(room);
    free(room2);
    free(wire);
    return 0;
}
