/* tests/fuzz/fuzz_sas.c - any text as a token, a resource and a connection string; a connection string that
 * is read and written reads the same. */
#include "core/sas/sas.h"
#include "port/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "hub.localhost", NULL };
    const struct sas_scope scope = { names, SPAN("h") };
    struct span text = span_of(data, size);
    struct sas_token t;
    if (!sas_parse(text, &t)) {
        (void)sas_verify(&t, &port_crypto, SPAN("key"));
        (void)sas_is_live(&t, UINT64_MAX, UINT32_MAX);
        enum sas_reach r = sas_audience(t.sr, &scope, SPAN("d"), SPAN("m"));
        if (r > SAS_REACH_MODULE || t.policy_len > SAS_POLICY_MAX)
            abort();
        (void)sas_audience_covers(t.sr, &scope, SPAN("/devices/d"));
    }
    (void)sas_audience(text, &scope, SPAN("d"), SPAN_NONE);
    struct sas_connection a, b;
    if (!sas_connection_parse(text, &a)) {
        uint8_t *room = malloc(size + 16);
        struct wr w = { room, size + 16, 0 };
        sas_connection_encode(&w, &a);
        if (!wr_ok(&w) || sas_connection_parse(wr_span(&w), &b) || !span_eq(a.host, b.host) ||
            !span_eq(a.device, b.device) || !span_eq(a.key, b.key) || a.x509 != b.x509)
            abort();
        free(room);
    }
    return 0;
}
