/* tests/conformance/peers/bearssl_pipe.c - a TLS client of BearSSL as a pipe, as small as on a chip: one
 * record buffer for both directions and fragments of FRAGMENT bytes. What is on its standard input goes to
 * the server, what comes back to its standard output. "resumed" on standard error says that it did.
 *   bearssl_pipe HOST PORT NAME KEY(hex, 65 bytes: the server's public point) FRAGMENT RESUME(0, 1)
 *                [CERTIFICATE(file, DER) SECRET(hex, 32 bytes: its key)]
 * Built by tls.test.mjs against Debian's libbearssl-dev. */
#define _GNU_SOURCE
#include <bearssl.h>

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what, int code)
{
    fprintf(stderr, "%s: %d\n", what, code);
    exit(1);
}

static int dial(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *a;
    int fd = -1;
    if (getaddrinfo(host, port, &hints, &a) == 0) {
        fd = socket(a->ai_family, a->ai_socktype, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0)
            fd = -1;
        freeaddrinfo(a);
    }
    if (fd < 0)
        die("connect", 0);
    return fd;
}

static int sock_read(void *ctx, unsigned char *buf, size_t len)
{
    ssize_t n = read(*(int *)ctx, buf, len);
    return n > 0 ? (int)n : -1;
}
static int sock_write(void *ctx, const unsigned char *buf, size_t len)
{
    ssize_t n = write(*(int *)ctx, buf, len);
    return n > 0 ? (int)n : -1;
}

static void from_hex(const char *text, unsigned char *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char byte[3] = { text[2 * i], text[2 * i + 1], 0 };
        to[i] = (unsigned char)strtoul(byte, NULL, 16);
    }
}

int main(int argc, char **argv)
{
    static unsigned char der[4096], secret[32];
    br_x509_certificate own = { der, 0 };
    br_ec_private_key own_key = { BR_EC_secp256r1, secret, sizeof secret };
    static unsigned char data[4 << 20], room[BR_SSL_BUFSIZE_MONO], point[65], buf[4096];
    br_ssl_client_context cc;
    br_x509_minimal_context unused;
    br_x509_knownkey_context known;
    br_ssl_session_parameters first, second;
    br_sslio_context io;
    br_ec_public_key key = { BR_EC_secp256r1, point, sizeof point };
    if (argc < 7 || strlen(argv[4]) != 130)
        return 2;
    size_t fragment = (size_t)strtoul(argv[5], NULL, 10), len = fread(data, 1, sizeof data, stdin);
    int resume = (int)strtol(argv[6], NULL, 10), fd, n;
    from_hex(argv[4], point, sizeof point);
    br_ssl_client_init_full(&cc, &unused, NULL, 0);
    if (argc > 8) {
        FILE *file = fopen(argv[7], "rb");
        if (!file || !(own.data_len = fread(der, 1, sizeof der, file)) || strlen(argv[8]) != 64)
            die("certificate", 0);
        fclose(file);
        from_hex(argv[8], secret, sizeof secret);
        br_ssl_client_set_single_ec(&cc, &own, 1, &own_key, BR_KEYTYPE_SIGN, 0, br_ec_get_default(),
                                    br_ecdsa_sign_asn1_get_default());
    }
    br_x509_knownkey_init_ec(&known, &key, BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN);
    br_ssl_engine_set_x509(&cc.eng, &known.vtable);
    br_ssl_engine_set_buffer(&cc.eng, room, fragment + 325, 0);
    for (int last = !resume;; last = 1) {
        fd = dial(argv[1], argv[2]);
        if (!br_ssl_client_reset(&cc, argv[3], resume && last))
            die("reset", br_ssl_engine_last_error(&cc.eng));
        br_sslio_init(&io, &cc.eng, sock_read, &fd, sock_write, &fd);
        if (br_sslio_flush(&io) < 0)
            die("handshake", br_ssl_engine_last_error(&cc.eng));
        if (last)
            break;
        br_ssl_engine_get_session_parameters(&cc.eng, &first);
        br_sslio_close(&io);
        close(fd);
    }
    if (resume) {
        br_ssl_engine_get_session_parameters(&cc.eng, &second);
        if (memcmp(first.master_secret, second.master_secret, sizeof first.master_secret) == 0)
            fprintf(stderr, "resumed\n");
    }
    if (br_sslio_write_all(&io, data, len) < 0 || br_sslio_flush(&io) < 0)
        die("write", br_ssl_engine_last_error(&cc.eng));
    while ((n = br_sslio_read(&io, buf, sizeof buf)) > 0)
        fwrite(buf, 1, (size_t)n, stdout);
    fflush(stdout);
    if (br_ssl_engine_last_error(&cc.eng) != BR_ERR_OK)
        die("read", br_ssl_engine_last_error(&cc.eng));
    return 0;
}
