/* hub/config/init_test.c - a data directory made whole, not at all when something fails, and never twice. */
#include "base/log.h"
#include "core/trust/bootstrap_string.h"
#include "hub/config/init.h"
#include "hub/config/pki.h"
#include "hub/domain/access/access.h"
#include "hub/store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <ftw.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[64];
static char out[4096], err[4096];

static const char *in(const char *rest)
{
    static char buf[8][200];
    static unsigned at;
    char *p = buf[at++ % 8];
    snprintf(p, 200, "%s/%s", top, rest);
    return p;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int make_top(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    snprintf(top, sizeof top, "/tmp/roost-init-XXXXXX");
    return mkdtemp(top) ? 0 : -1;
}
static int remove_top(void **state)
{
    (void)state;
    return nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct init_options plain_options(const char *dir)
{
    return (struct init_options){
        .dir = dir, .https_port = -1, .mqtt_port = -1, .http_port = -1, .ops_port = -1
    };
}

static enum err run(const struct init_options *o)
{
    memset(out, 0, sizeof out);
    memset(err, 0, sizeof err);
    FILE *a = fmemopen(out, sizeof out - 1, "w"), *b = fmemopen(err, sizeof err - 1, "w");
    enum err e = init_run(o, a, b);
    fclose(a);
    fclose(b);
    return e;
}

static unsigned entries(const char *dir)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static X509 *cert(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    X509 *x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(x);
    return x;
}

/* The chain holds under the authority, for this name. */
static void assert_serves(const char *dir, const char *leaf, const char *name, bool is_ip)
{
    char path[300];
    snprintf(path, sizeof path, "%s/ca/ca.crt", dir);
    X509 *ca = cert(path);
    snprintf(path, sizeof path, "%s/tls/%s", dir, leaf);
    X509 *x = cert(path);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE_add_cert(store, ca);
    X509_STORE_CTX_init(ctx, store, x, NULL);
    X509_VERIFY_PARAM_set_purpose(X509_STORE_CTX_get0_param(ctx), X509_PURPOSE_SSL_SERVER);
    assert_int_equal(X509_verify_cert(ctx), 1);
    assert_int_equal(is_ip ? X509_check_ip_asc(x, name, 0) : X509_check_host(x, name, 0, 0, NULL), 1);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(x);
    X509_free(ca);
}

struct look {
    struct store_op op;
    uint32_t rights[5];
    uint8_t key[64];
    size_t key_len;
    bool done;
};
static enum err look_run(struct store_tx *t, struct store_op *self)
{
    struct look *l = (struct look *)(void *)self;
    static const char *const names[] = { "iothubowner", "service", "device", "registryRead",
                                         "registryReadWrite" };
    for (int i = 0; i < 5; i++) {
        struct policy_row r;
        enum err e = tx_policy_get(t, span_str(names[i]), &r);
        if (e)
            return e;
        l->rights[i] = r.rights;
        if (r.key1.n != 32 || r.key2.n != 32 || span_eq(r.key1, r.key2))
            return ERR_VERIFY;
        if (i == 0)
            memcpy(l->key, r.key1.p, l->key_len = r.key1.n);
    }
    return ERR_OK;
}
static void look_done(struct op *op)
{
    ((struct look *)(void *)op)->done = true;
}

static void a_hub_is_made(void **state)
{
    (void)state;
    struct init_options o = plain_options(in("hub"));
    o.names[0] = "hub.example.org";
    o.names[1] = "192.0.2.7";
    o.name_nr = 2;
    o.https_port = 8443;
    assert_int_equal(run(&o), ERR_OK);
    assert_string_equal(err, "");
    assert_int_equal(entries(top), 1); /* nothing of the making is left beside it */
    assert_int_equal(mode_of(in("hub")), 0700);
    static const char *const secret[] = { "hub/ca/ca.key",          "hub/tls/server-ec.key",
                                          "hub/tls/server-rsa.key", "hub/director.key",
                                          "hub/operator.profile",   "hub/roost.yaml" };
    for (int i = 0; i < 6; i++)
        assert_int_equal(mode_of(in(secret[i])), 0600);
    for (int i = 0; i < 2; i++) {
        const char *leaf = i ? "server-rsa.crt" : "server-ec.crt";
        assert_serves(in("hub"), leaf, "hub.example.org", false);
        assert_serves(in("hub"), leaf, "hub.localhost", false);
        assert_serves(in("hub"), leaf, "localhost", false);
        assert_serves(in("hub"), leaf, "192.0.2.7", true);
        assert_serves(in("hub"), leaf, "127.0.0.1", true);
        assert_serves(in("hub"), leaf, "::1", true);
    }
    struct config *c;
    struct config_error why;
    assert_int_equal(config_load(&c, in("hub/roost.yaml"), &why), ERR_OK);
    assert_string_equal(c->names[0], "hub.example.org");
    assert_int_equal(c->https.port, 8443);
    assert_int_equal(c->mqtts.port, 8883);
    config_free(c);
    uint8_t seed[32], pub[32], pin[32];
    assert_int_equal(pki_ed25519_load(in("hub/director.key"), seed, pub), ERR_OK);
    /* the two strings it prints */
    char *cs = strstr(
        out, "connection string: HostName=hub.example.org;SharedAccessKeyName=iothubowner;SharedAccessKey=");
    char *bs = strstr(out, "bootstrap string: ");
    assert_true(cs && bs);
    struct bootstrap_string b;
    bs += strlen("bootstrap string: ");
    assert_int_equal(bootstrap_string_decode(span_of(bs, strcspn(bs, "\n")), &b), ERR_OK);
    assert_int_equal(pki_pin(in("hub/ca/ca.crt"), pin), ERR_OK);
    assert_memory_equal(pin, b.ca_pin, 32);
    assert_int_equal(b.port, 8443);
    /* the policies, and that the printed key is the owner's */
    struct store *s;
    struct mailbox home;
    struct look l = { .op = { .op = { .home = &home, .done = look_done }, .run = look_run } };
    assert_int_equal(mailbox_init(&home), ERR_OK);
    assert_int_equal(store_sqlite_open(&s, in("hub/store"), 1), ERR_OK);
    store_read(s, &l.op);
    mailbox_wait(&home, -1);
    for (struct op *op = mailbox_take(&home); op; op = op->next)
        op->done(op);
    assert_true(l.done);
    assert_int_equal(l.op.op.err, ERR_OK);
    store_close(s);
    mailbox_fini(&home);
    assert_int_equal(l.rights[0], ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE | ACCESS_SERVICE_CONNECT |
                                      ACCESS_DEVICE_CONNECT);
    assert_int_equal(l.rights[1], ACCESS_SERVICE_CONNECT);
    assert_int_equal(l.rights[2], ACCESS_DEVICE_CONNECT);
    assert_int_equal(l.rights[3], ACCESS_REGISTRY_READ);
    assert_int_equal(l.rights[4], ACCESS_REGISTRY_READ | ACCESS_REGISTRY_WRITE);
    char text[64];
    assert_int_equal(EVP_EncodeBlock((unsigned char *)text, l.key, (int)l.key_len), 44);
    assert_memory_equal(strstr(cs, "SharedAccessKey=") + 16, text, 44);
}

static void it_is_never_made_twice(void **state)
{
    (void)state;
    struct stat before, after;
    struct init_options o = plain_options(in("hub"));
    assert_int_equal(stat(in("hub/ca/ca.key"), &before), 0);
    assert_int_equal(run(&o), ERR_EXISTS);
    assert_string_equal(out, "");
    assert_non_null(strstr(err, "is not empty"));
    assert_int_equal(stat(in("hub/ca/ca.key"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(entries(top), 1);
}

static void an_empty_directory_is_taken(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in("empty"), 0755), 0);
    struct init_options o = plain_options(in("empty"));
    o.http_port = 8080;
    o.listen = "127.0.0.1";
    assert_int_equal(run(&o), ERR_OK);
    assert_int_equal(mode_of(in("empty")), 0700);
    struct config *c;
    struct config_error why;
    assert_int_equal(config_load(&c, in("empty/roost.yaml"), &why), ERR_OK);
    assert_true(c->http.enabled);
    assert_int_equal(c->http.port, 8080);
    assert_string_equal(c->mqtts.address, "127.0.0.1");
    assert_string_equal(c->names[0], "hub.localhost");
    config_free(c);
}

static void an_authority_is_kept(void **state)
{
    (void)state;
    uint8_t old[32], pin[32];
    struct init_options o = plain_options(in("again"));
    o.names[0] = "other.example.org";
    o.name_nr = 1;
    o.ca_from = in("hub"); /* a data directory */
    assert_int_equal(run(&o), ERR_OK);
    assert_int_equal(pki_pin(in("hub/ca/ca.crt"), old), ERR_OK);
    assert_int_equal(pki_pin(in("again/ca/ca.crt"), pin), ERR_OK);
    assert_memory_equal(old, pin, 32);
    assert_serves(in("hub"), "../../again/tls/server-ec.crt", "other.example.org",
                  false); /* under the old authority */
    o = plain_options(in("third"));
    o.ca_from = in("hub/ca"); /* the folder itself */
    assert_int_equal(run(&o), ERR_OK);
    assert_int_equal(pki_pin(in("third/ca/ca.crt"), pin), ERR_OK);
    assert_memory_equal(old, pin, 32);
}

static void a_failure_leaves_nothing(void **state)
{
    (void)state;
    unsigned before = entries(top);
    struct init_options o = plain_options(in("bad"));
    o.ca_from = in("nowhere");
    assert_int_equal(run(&o), ERR_IO);
    assert_int_equal(entries(top), before);
    assert_int_equal(mkdir(in("mixed"), 0700), 0); /* a key that is not the certificate's */
    assert_int_equal(pki_ca_new(in("mixed/ca.crt"), in("mixed/other.key")), ERR_OK);
    assert_int_equal(pki_ca_new(in("mixed/other.crt"), in("mixed/ca.key")), ERR_OK);
    o.ca_from = in("mixed");
    assert_int_equal(run(&o), ERR_IO);
    assert_int_equal(entries(top), before + 1);
    static const char *const names[] = { "a b", "-a", "a..b", "a;SharedAccessKey=x", "", "a/b" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        o = plain_options(in("bad"));
        o.names[0] = names[i];
        o.name_nr = 1;
        assert_int_equal(run(&o), ERR_PROTO);
    }
    o = plain_options(in("bad"));
    o.listen = "somewhere";
    assert_int_equal(run(&o), ERR_PROTO);
    o = plain_options(in("no/parent/here"));
    assert_int_equal(run(&o), ERR_IO);
    o = plain_options(in("hub/roost.yaml"));
    assert_int_equal(run(&o), ERR_EXISTS);
    assert_int_equal(entries(top), before + 1);
}

static void certificates_are_renewed_under_the_same_authority(void **state)
{
    (void)state;
    struct config *c;
    struct config_error why;
    struct stat before, after;
    const char text[] = "names: [new.example.org, hub.localhost]\n";
    assert_int_equal(config_parse(&c, span_str(text), "f", &why), ERR_OK);
    assert_int_equal(stat(in("hub/tls/server-ec.crt"), &before), 0);
    FILE *quiet = fopen("/dev/null", "w");
    assert_int_equal(init_renew(in("hub"), c, quiet, quiet), ERR_OK);
    fclose(quiet);
    assert_int_equal(stat(in("hub/tls/server-ec.crt"), &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_serves(in("hub"), "server-ec.crt", "new.example.org", false);
    assert_serves(in("hub"), "server-rsa.crt", "new.example.org", false);
    assert_serves(in("hub"), "server-ec.crt.old", "hub.example.org", false);
    assert_int_equal(mode_of(in("hub/tls/server-ec.key")), 0600);
    long days;
    assert_int_equal(pki_days_left(in("hub/tls/server-ec.crt"), &days), ERR_OK);
    assert_in_range(days, 800, 825);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hub_is_made),
        cmocka_unit_test(it_is_never_made_twice),
        cmocka_unit_test(an_empty_directory_is_taken),
        cmocka_unit_test(an_authority_is_kept),
        cmocka_unit_test(a_failure_leaves_nothing),
        cmocka_unit_test(certificates_are_renewed_under_the_same_authority),
    };
    return cmocka_run_group_tests(tests, make_top, remove_top);
}
