/* core/tls/tls_keys.c - the part of the TLS key schedule that goes on after the handshake. */
#include "core/tls/tls_keys.h"

/* A call through it cannot be left out: nobody knows what it does. */
static void *(*const volatile set_bytes)(void *, int, size_t) = memset;

void tls_wipe(void *p, size_t n)
{
    if (n)
        set_bytes(p, 0, n);
}

/* HKDF-Expand-Label with an empty context [RFC 8446, 7.1]; n is at most the length of the hash, so that one
 * block of HKDF-Expand is all. */
static void expand(struct tls_crypto *c, enum tls_hash h, const uint8_t *secret, const char *label, size_t n,
                   uint8_t *out)
{
    uint8_t info[32], block[TLS_SECRET_MAX];
    struct wr w = { info, sizeof info, 0 };
    wr_be16(&w, (uint16_t)n);
    wr_u8(&w, (uint8_t)(6 + strlen(label)));
    wr_str(&w, "tls13 ");
    wr_str(&w, label);
    wr_u8(&w, 0);
    wr_u8(&w, 1); /* the number of the block */
    struct span part = wr_span(&w);
    c->ops->hmac(c, h, span_of(secret, tls_hash_len(h)), &part, 1, block);
    memcpy(out, block, n);
    tls_wipe(block, sizeof block);
}

void tls_keys_derive(struct tls_crypto *c, enum tls_aead a, const uint8_t *secret, struct tls_keys *out)
{
    expand(c, tls_aead_hash(a), secret, "key", tls_key_len(a), out->key);
    expand(c, tls_aead_hash(a), secret, "iv", TLS_NONCE_LEN, out->iv);
}

void tls_keys_next_secret(struct tls_crypto *c, enum tls_aead a, uint8_t *secret)
{
    enum tls_hash h = tls_aead_hash(a);
    expand(c, h, secret, "traffic upd", tls_hash_len(h), secret);
}

void tls_keys_block(struct tls_crypto *c, enum tls_aead a, enum tls_hash h,
                    const uint8_t master[TLS_MASTER_LEN], const uint8_t client_random[TLS_RANDOM_LEN],
                    const uint8_t server_random[TLS_RANDOM_LEN], struct tls_keys *client,
                    struct tls_keys *server)
{
    uint8_t block[2 * sizeof(struct tls_keys) + TLS_SECRET_MAX], at[TLS_SECRET_MAX], next[TLS_SECRET_MAX];
    size_t key = tls_key_len(a), iv = a == TLS_CHACHA20_POLY1305 ? TLS_NONCE_LEN : 4u;
    size_t want = 2 * (key + iv), hash = tls_hash_len(h), n = 0;
    struct span secret = span_of(master, TLS_MASTER_LEN);
    struct span seed[4] = { SPAN_NONE, SPAN("key expansion"), span_of(server_random, TLS_RANDOM_LEN),
                            span_of(client_random, TLS_RANDOM_LEN) };
    c->ops->hmac(c, h, secret, seed + 1, 3, at); /* P_hash [RFC 5246, 5] */
    while (n < want) {
        seed[0] = span_of(at, hash);
        c->ops->hmac(c, h, secret, seed, 4, block + n);
        n += hash;
        c->ops->hmac(c, h, secret, seed, 1, next);
        memcpy(at, next, hash);
    }
    memset(client, 0, sizeof *client);
    memset(server, 0, sizeof *server);
    memcpy(client->key, block, key);
    memcpy(server->key, block + key, key);
    memcpy(client->iv, block + 2 * key, iv);
    memcpy(server->iv, block + 2 * key + iv, iv);
    tls_wipe(block, sizeof block);
    tls_wipe(at, sizeof at);
    tls_wipe(next, sizeof next);
}

/* The first of the slots for an owner; NULL: there are none. */
static struct tls_key_slot *ways_of(const struct tls_work *w, const void *owner)
{
    uint64_t x = (uint64_t)(uintptr_t)owner * 0x9e3779b97f4a7c15u;
    return w->slots_nr ? &w->slots[(uint32_t)(x >> 32) & (w->slots_nr - 1) & ~(TLS_KEY_WAYS - 1)] : NULL;
}

static struct tls_key_slot *slot_of(const struct tls_work *w, const void *owner)
{
    struct tls_key_slot *s = ways_of(w, owner);
    for (uint32_t i = 0; s && i < TLS_KEY_WAYS; i++)
        if (s[i].owner == owner)
            return &s[i];
    return NULL;
}

const struct tls_keys *tls_work_keys(struct tls_work *w, const void *owner, enum tls_aead a,
                                     const uint8_t *secret, struct tls_keys *spare)
{
    struct tls_key_slot *s = slot_of(w, owner), *ways = ways_of(w, owner);
    if (s)
        return &s->keys;
    if (!ways) {
        tls_keys_derive(w->crypto, a, secret, spare);
        return spare;
    }
    for (uint32_t i = 0; !s && i < TLS_KEY_WAYS; i++)
        s = ways[i].owner ? NULL : &ways[i];
    if (!s)
        s = &ways[w->next++ % TLS_KEY_WAYS];
    tls_keys_derive(w->crypto, a, secret, &s->keys);
    s->owner = owner;
    return &s->keys;
}

void tls_work_forget(struct tls_work *w, const void *owner)
{
    struct tls_key_slot *s = slot_of(w, owner);
    if (s)
        tls_wipe(s, sizeof *s);
}
