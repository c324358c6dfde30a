/* tests/fuzz/fuzz_profile.c - an operator's profile and a key from paper, of any bytes. */
#include "cli/keyfile.h"
#include "cli/profile.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size), why[512] = "", paper[96];
    uint8_t seed[ED25519_KEY_LEN], again[ED25519_KEY_LEN];
    struct profile p;

    if (profile_parse(&p, text, "/srv", why, sizeof why) == ERR_OK) {
        if (!p.host || !p.policy || p.key_len == 0 || p.https_port == 0)
            abort();
        profile_free(&p);
    } else if (!why[0]) {
        abort(); /* an error says what is wrong */
    }
    if (keyfile_from_paper(text, seed) == ERR_OK) {
        struct keyfile k;
        keyfile_make(&k, "root", seed);
        keyfile_paper(&k, paper);
        if (keyfile_from_paper(paper, again) || memcmp(seed, again, sizeof seed) != 0)
            abort();
    }
    free(text);
    return 0;
}
