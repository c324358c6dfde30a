/* hub/conn/tls_tickets.c - the keys of session tickets [RFC 5077, 4]. Whoever has one can read every ticket
 * sealed with it, and with TLS 1.2 all that was said in those sessions; so a key seals only as long as a
 * session lasts, opens tickets for as long again, and is wiped. A reload of the configuration keeps them. */
#include "hub/conn/tls_impl.h"

#include "port/clock.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { NAME_LEN = 16, KEY_LEN = 32 }; /* AES-256-CBC and HMAC-SHA-256, as OpenSSL's own */
struct ticket_key {
    uint8_t name[NAME_LEN], cipher[KEY_LEN], mac[KEY_LEN];
    uint64_t since_ms; /* it is in its place; 0: there is none */
};
struct tls_tickets {
    pthread_mutex_t lock;
    EVP_CIPHER *cipher;
    struct ticket_key keys[2]; /* [0] seals, both open */
    uint64_t life_ms;
    atomic_uint refs;
};

static bool make_key(struct ticket_key *k, uint64_t now_ms)
{
    k->since_ms = now_ms;
    return RAND_bytes(k->name, sizeof k->name) == 1 && RAND_priv_bytes(k->cipher, sizeof k->cipher) == 1 &&
           RAND_priv_bytes(k->mac, sizeof k->mac) == 1;
}

enum err tls_tickets_new(struct tls_tickets **out)
{
    struct tls_tickets *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->lock, NULL);
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!t->cipher || !make_key(&t->keys[0], clock_mono_ms())) {
        tls_tickets_unref(t);
        return ERR_NOMEM;
    }
    *out = t;
    return ERR_OK;
}

struct tls_tickets *tls_tickets_ref(struct tls_tickets *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void tls_tickets_unref(struct tls_tickets *t)
{
    if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
        return;
    EVP_CIPHER_free(t->cipher);
    pthread_mutex_destroy(&t->lock);
    tls_wipe(t, sizeof *t);
    free(t);
}

bool tls_tickets_turn(struct tls_tickets *t, uint64_t now_ms)
{
    struct ticket_key next;
    bool ok = true;
    pthread_mutex_lock(&t->lock);
    if (now_ms >= t->keys[0].since_ms + t->life_ms && (ok = make_key(&next, now_ms))) {
        t->keys[1] = t->keys[0];
        t->keys[1].since_ms += t->life_ms; /* that was when it sealed for the last time, at the latest */
        t->keys[0] = next;
        tls_wipe(&next, sizeof next);
    }
    if (t->keys[1].since_ms && now_ms >= t->keys[1].since_ms + t->life_ms)
        tls_wipe(&t->keys[1], sizeof t->keys[1]); /* so is every session in its tickets */
    pthread_mutex_unlock(&t->lock);
    return ok;
}

/* The key of that name, or, without one, that which seals. 0: there is none; 2: it has been replaced. */
static int find(struct tls_tickets *t, const uint8_t *name, struct ticket_key *out)
{
    int r = 0;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < 2 && !r; i++)
        if (t->keys[i].since_ms && (!name || memcmp(name, t->keys[i].name, NAME_LEN) == 0)) {
            *out = t->keys[i];
            r = i + 1;
        }
    pthread_mutex_unlock(&t->lock);
    return r;
}

static int ctx_index;

/* Connections that still shake hands keep OpenSSL's context, and with it this. */
static void on_ctx_free(void *parent, void *tickets, CRYPTO_EX_DATA *all, int index, long l, void *p)
{
    (void)parent, (void)all, (void)index, (void)l, (void)p;
    tls_tickets_unref(tickets);
}

static void make_index(void)
{
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, on_ctx_free);
}

/* OpenSSL asks with which key a ticket is sealed or opened. -1: end the handshake; 0: make a full one; 2: it
 * is good, but give the client another. */
static int on_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                  int sealing)
{
    struct tls_tickets *t = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), ctx_index);
    struct ticket_key k;
    if (!tls_tickets_turn(t, clock_mono_ms()))
        return -1;
    int r = find(t, sealing ? NULL : name, &k);
    if (!r)
        return 0;
    OSSL_PARAM params[] = { OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k.mac, sizeof k.mac),
                            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
                            OSSL_PARAM_construct_end() };
    bool ok = EVP_MAC_CTX_set_params(mac, params) == 1;
    if (sealing) {
        memcpy(name, k.name, NAME_LEN);
        ok = ok && RAND_bytes(iv, EVP_CIPHER_get_iv_length(t->cipher)) == 1 &&
             EVP_EncryptInit_ex2(cipher, t->cipher, k.cipher, iv, NULL) == 1;
    } else {
        ok = ok && EVP_DecryptInit_ex2(cipher, t->cipher, k.cipher, iv, NULL) == 1;
        if (tls_shaking)
            tls_shaking->by_ticket = true;
    }
    tls_wipe(&k, sizeof k);
    if (!ok)
        return -1;
    return !sealing && SSL_version(ssl) == TLS1_3_VERSION ? 2 : r; /* there each is for one use */
}

bool tls_tickets_use(struct tls_tickets *t, SSL_CTX *ssl, uint32_t life_s)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_index);
    if (ctx_index < 0 || SSL_CTX_set_ex_data(ssl, ctx_index, t) != 1)
        return false;
    tls_tickets_ref(t);
    pthread_mutex_lock(&t->lock);
    t->life_ms = (uint64_t)life_s * 1000;
    pthread_mutex_unlock(&t->lock);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_key) == 1;
}
