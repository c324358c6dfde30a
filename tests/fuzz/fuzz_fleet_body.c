/* tests/fuzz/fuzz_fleet_body.c - contents of configurations and bodies of jobs: what is taken can be written
 * as a patch again, whatever comes. The first byte says which. */
#include "hub/domain/configuration/configuration.h"
#include "hub/domain/job/fleet_job.h"

#include <assert.h>

static uint64_t wall_ms(void)
{
    return 1000;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hub h = { .wall_ms = wall_ms };
    struct arena a;
    if (!size)
        return 0;
    struct span body = span_of(data + 1, size - 1);
    arena_init(&a, 16u << 20);
    if (data[0] & 2) {
        struct config_fault f;
        struct jnode *content, *desired;
        uint8_t kind;
        bool whole;
        if (config_content(&a, body, &kind, &content, &f) == ERR_OK && kind != CONFIG_EDGE)
            assert(config_desired(&a, content, &desired, &whole, &f) == ERR_OK);
    } else {
        struct fleet_job_fault f;
        struct fleet_job_new in = { .id = SPAN("a"), .kind = data[0] & 1, .body = body };
        enum err e = fleet_job_check(&h, &a, &in, &f);
        assert(e == ERR_OK || e == ERR_PROTO || e == ERR_NOMEM);
    }
    arena_fini(&a);
    return 0;
}
