/* tests/fuzz/fuzz_envelope.c - envelopes of any bytes, one after the other, and the signature check on them.
 */
#include "core/trust/envelope.h"
#include "port/crypto.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    struct envelope env;
    size_t used;

    while (envelope_decode(in, ENVELOPE_BODY_MAX, &env, &used) == ERR_OK) {
        uint8_t id[OBJECT_ID_LEN];
        struct trust_key key = { .alg = SIG_ED25519 };
        if (used == 0 || used > in.n || env.raw.n != used || env.sig_nr < 1 || env.sig_nr > ENVELOPE_SIG_MAX)
            abort();
        for (unsigned i = 0; i < env.sig_nr; i++) {
            if (env.sig[i].sig.p < in.p || env.sig[i].sig.p + env.sig[i].sig.n > in.p + used)
                abort();
            memcpy(key.id, env.sig[i].key_id, KEY_ID_LEN);
        }
        envelope_id(&port_crypto, &env, id);
        if (envelope_count_valid(&env, &port_crypto, &key, 1) > 1)
            abort();
        struct tlv t;
        struct tlv_walk walk = { .rest = env.body };
        while (tlv_walk_next(&walk, &t) == ERR_OK)
            if (t.val.p < env.body.p || t.val.p + t.val.n > env.body.p + env.body.n)
                abort();
        in = span_skip(in, used);
    }
    return 0;
}
