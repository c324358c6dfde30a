/* bench/handshake.c - what a TLS 1.3 handshake takes the hub, without the kernel's network and without MQTT:
 * hub/conn's side of it and a client of OpenSSL's take turns in one thread, and only the former's CPU time
 * counts: the best of batches of twenty, so that other programs matter less. A run under `valgrind
 * --tool=callgrind --toggle-collect=tls_handshake` says where it goes. handshake [ROUNDS [resume|full
 * [openssl]]] */
#include "hub/config/pki.h"
#include "hub/conn/tls.h"

#include <openssl/ssl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static SSL_SESSION *session;
static int keep_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = s;
    return 1;
}

enum { BATCH = 20 };
struct spent { /* us of CPU time */
    double begin, shake, end;
    bool resumed;
};

static double sum(const struct spent *s)
{
    return s->begin + s->shake + s->end;
}

static void shake_once(struct tls_ctx *server, struct tls_worker *w, SSL_CTX *client, struct spent *all)
{
    static uint8_t buf[TLS_READ_MIN];
    struct tls_outcome out = { .why = "" };
    enum tls_need need = TLS_NEED_READ;
    struct tls *t;
    int s[2], done = 0;
    size_t n;
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s) == 0, "socketpair");
    SSL *ssl = SSL_new(client);
    SSL_set_fd(ssl, s[0]);
    if (session)
        SSL_set_session(ssl, session);
    double at = cpu_us();
    must(tls_accept_new(&t, server, w, s[1]) == ERR_OK, "accept");
    all->begin += cpu_us() - at;
    while (need != TLS_DONE || done != 1) {
        done = SSL_connect(ssl);
        at = cpu_us();
        if (need != TLS_DONE)
            need = tls_handshake(&t, &out);
        all->shake += cpu_us() - at;
        must(need != TLS_FAILED && need != TLS_CLOSED, out.why);
    }
    SSL_read(ssl, buf, sizeof buf); /* the ticket */
    SSL_shutdown(ssl);
    SSL_free(ssl);
    all->resumed = out.resumed;
    at = cpu_us();
    (void)t->ops->read(t, buf, sizeof buf, &n);
    t->ops->bye(t);
    t->ops->free(t);
    all->end += cpu_us() - at;
    close(s[0]);
    close(s[1]);
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "hub.localhost" };
    char dir[] = "/tmp/roost-bench-XXXXXX", files[4][64];
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 2000;
    bool resume = argc > 2 && strcmp(argv[2], "resume") == 0;
    struct tls_worker *w;
    struct tls_ctx *server;
    must(rounds > 0 && mkdtemp(dir), "handshake [ROUNDS [resume|full [openssl]]]");
    for (int i = 0; i < 4; i++)
        snprintf(files[i], sizeof files[i], "%s/%d", dir, i);
    must(pki_ca_new(files[0], files[1]) == ERR_OK &&
             pki_server_new(PKI_EC, names, 1, files[0], files[1], files[2], files[3]) == ERR_OK,
         "certificates");
    struct tls_config c = { .chain_files = { files[2] }, .key_files = { files[3] } };
    if (argc > 3 && strcmp(argv[3], tls_layer_name(TLS_LAYER_OPENSSL)) == 0)
        c.layer = TLS_LAYER_OPENSSL;
    must(tls_ctx_new(&server, &c, NULL) == ERR_OK && tls_worker_new(&w) == ERR_OK, "server");
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client, TLS1_3_VERSION);
    SSL_CTX_set_session_cache_mode(client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    if (resume)
        SSL_CTX_sess_set_new_cb(client, keep_session);
    struct spent all = { 0 }, best = { 0 };
    for (int i = 0; i < BATCH; i++) /* what is made once */
        shake_once(server, w, client, &all);
    for (long i = 0; i < rounds; i += BATCH) {
        all = (struct spent){ 0 };
        for (int k = 0; k < BATCH; k++)
            shake_once(server, w, client, &all);
        if (i == 0 || sum(&all) < sum(&best))
            best = all;
    }
    must(all.resumed == resume, "not as asked for");
    printf("%s handshake: %.1f us of CPU time (before %.1f, hands %.1f, after %.1f)\n",
           resume ? "resumed" : "full", sum(&best) / BATCH, best.begin / BATCH, best.shake / BATCH,
           best.end / BATCH);
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    tls_worker_free(w);
    tls_ctx_unref(server);
    for (int i = 0; i < 4; i++)
        unlink(files[i]);
    rmdir(dir);
    return 0;
}
