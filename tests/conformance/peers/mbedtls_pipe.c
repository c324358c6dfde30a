/* tests/conformance/peers/mbedtls_pipe.c - a TLS client of mbedTLS as a pipe: what is on its standard input
 * goes to the server, what comes back to its standard output. "resumed" on standard error says that it did.
 *   mbedtls_pipe HOST PORT NAME CA.pem FRAGMENT(0, 512..4096) RESUME(0, 1) [CERT.pem KEY.pem]
 * Built by tls.test.mjs against Debian's libmbedtls-dev. */
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(int r, const char *what)
{
    if (r == 0)
        return;
    fprintf(stderr, "%s: -0x%04x\n", what, (unsigned)-r);
    exit(1);
}

int main(int argc, char **argv)
{
    static unsigned char data[4 << 20], buf[16384];
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config conf;
    mbedtls_ssl_session session;
    mbedtls_x509_crt ca, own;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context rng;
    if (argc < 7)
        return 2;
    int fragment = (int)strtol(argv[5], NULL, 10), resume = (int)strtol(argv[6], NULL, 10), r;
    size_t len = fread(data, 1, sizeof data, stdin);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&rng);
    mbedtls_x509_crt_init(&ca);
    mbedtls_x509_crt_init(&own);
    mbedtls_pk_init(&key);
    mbedtls_ssl_config_init(&conf);
    mbedtls_ssl_session_init(&session);
    must(mbedtls_ctr_drbg_seed(&rng, mbedtls_entropy_func, &entropy, NULL, 0), "seed");
    must(mbedtls_x509_crt_parse_file(&ca, argv[4]), "ca");
    must(mbedtls_ssl_config_defaults(&conf, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT),
         "defaults");
    mbedtls_ssl_conf_rng(&conf, mbedtls_ctr_drbg_random, &rng);
    mbedtls_ssl_conf_ca_chain(&conf, &ca, NULL);
    if (fragment)
        must(mbedtls_ssl_conf_max_frag_len(&conf, fragment == 512    ? MBEDTLS_SSL_MAX_FRAG_LEN_512
                                                  : fragment == 1024 ? MBEDTLS_SSL_MAX_FRAG_LEN_1024
                                                  : fragment == 2048 ? MBEDTLS_SSL_MAX_FRAG_LEN_2048
                                                                     : MBEDTLS_SSL_MAX_FRAG_LEN_4096),
             "fragment");
    if (argc > 8) {
        must(mbedtls_x509_crt_parse_file(&own, argv[7]), "certificate");
        must(mbedtls_pk_parse_keyfile(&key, argv[8], NULL), "key");
        must(mbedtls_ssl_conf_own_cert(&conf, &own, &key), "own");
    }
    for (int last = !resume;; last = 1) {
        mbedtls_net_init(&net);
        mbedtls_ssl_init(&ssl);
        must(mbedtls_net_connect(&net, argv[1], argv[2], MBEDTLS_NET_PROTO_TCP), "connect");
        must(mbedtls_ssl_setup(&ssl, &conf), "setup");
        must(mbedtls_ssl_set_hostname(&ssl, argv[3]), "name");
        if (resume && last)
            must(mbedtls_ssl_set_session(&ssl, &session), "session");
        mbedtls_ssl_set_bio(&ssl, &net, mbedtls_net_send, mbedtls_net_recv, NULL);
        must(mbedtls_ssl_handshake(&ssl), "handshake");
        if (last)
            break;
        must(mbedtls_ssl_get_session(&ssl, &session), "session");
        mbedtls_ssl_close_notify(&ssl);
        mbedtls_net_free(&net);
        mbedtls_ssl_free(&ssl);
    }
    if (resume) { /* the same master secret, which only a resumed session has */
        mbedtls_ssl_session now;
        mbedtls_ssl_session_init(&now);
        must(mbedtls_ssl_get_session(&ssl, &now), "session");
        if (memcmp(now.master, session.master, sizeof now.master) == 0)
            fprintf(stderr, "resumed\n");
    }
    for (size_t at = 0; at < len; at += (size_t)r)
        if ((r = mbedtls_ssl_write(&ssl, data + at, len - at)) <= 0)
            must(r, "write");
    while ((r = mbedtls_ssl_read(&ssl, buf, sizeof buf)) > 0)
        fwrite(buf, 1, (size_t)r, stdout);
    fflush(stdout);
    if (r != 0 && r != MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        must(r, "read");
    return 0;
}
