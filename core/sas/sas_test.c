/* core/sas/sas_test.c - the signature vectors of the protocol, every spelling of a resource, every way a
 * token is wrong; connection strings. */
#include "core/sas/sas.h"

#include "base/text.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above */
#include <cmocka.h>

static const uint8_t key_bytes[32] = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 };
static const struct span key = { key_bytes, sizeof key_bytes };
static const char *const names[] = { "hub.example.net", "alias.example.net", NULL };
static const struct sas_scope scope = { names, { NULL, 0 } };

/* key 00..1f, se 1893456000 */
static const struct {
    const char *sr, *sig, *skn;
} vectors[] = {
    { "hub.example.net%2Fdevices%2Fdev1", "1IPTb/ewSK2jmYklJnSIBtldzTQiA3k2R9CROX05ecg=", "" },
    { "hub.example.net%2fdevices%2fdev1", "rzorJhv7MHTQCI0DAaVk5662HxdHrhS4+15iIjMkchg=", "" },
    { "hub.example.net/devices/dev1", "hFfylptGC1MB5GeK9WKTGANc7Cbw/zqhagNpAy7ZKH0=", "" },
    { "hub.example.net%2Fdevices%2Fdev1%2Fmodules%2Fm1", "vInnPncy/br0mu2MlaMRQXM1qbYdHsejgeLZpdI78/U=", "" },
    { "hub.example.net", "lKq1+Utf2VjBCfhCcgw1T3SkAaONghER6NWw5HP3wzU=", "service" },
};

/* The form with `sr` for every '<' and `sig` for every '>'. */
static struct span text_of(uint8_t *room, size_t cap, const char *form, const char *sr, const char *sig)
{
    struct wr w = { room, cap, 0 };
    for (; *form; form++)
        if (*form == '<')
            wr_str(&w, sr);
        else if (*form == '>')
            wr_str(&w, sig);
        else
            wr_u8(&w, (uint8_t)*form);
    assert_true(wr_ok(&w));
    return wr_span(&w);
}

static void the_vectors_hold(void **state)
{
    (void)state;
    uint8_t room[512];
    static const char *forms[] = {
        "SharedAccessSignature sr=<&sig=>&se=1893456000",
        "SharedAccessSignature sig=>&se=1893456000&sr=<", /* any order, any case */
        "SharedAccessSignature SE=1893456000&Sr=<&SIG=>&skn=",
        "SharedAccessSignature sr=<&sig=>&skn=service&se=1893456000",
        "SharedAccessSignature sr=<&x=y&&sig=>&se=1893456000",
    };
    for (size_t v = 0; v < sizeof vectors / sizeof vectors[0]; v++)
        for (size_t f = 0; f < 5; f++)
            for (int raw = 0; raw < 2; raw++) {
                uint8_t enc[128];
                struct wr w = { enc, sizeof enc - 1, 0 };
                if (raw) /* some clients leave + / = as they are */
                    wr_str(&w, vectors[v].sig);
                else
                    percent_encode(&w, span_str(vectors[v].sig));
                enc[w.len] = 0;
                struct sas_token t;
                struct span text = text_of(room, sizeof room, forms[f], vectors[v].sr, (char *)enc);
                assert_int_equal(sas_parse(text, &t), ERR_OK);
                assert_true(sas_verify(&t, &port_crypto, key));
                assert_true(t.expiry_s == 1893456000);
                assert_true(span_eq(sas_policy(&t), span_str(f == 3 ? "service" : "")));
            }
}

static void we_make_what_the_sdks_make(void **state)
{
    (void)state;
    uint8_t room[512];
    struct wr w = { room, sizeof room, 0 };
    sas_token_encode(&w, &port_crypto, SPAN("hub.example.net/devices/dev1"), key, 1893456000, SPAN_NONE);
    assert_true(span_eq(wr_span(&w), SPAN("SharedAccessSignature sr=hub.example.net%2Fdevices%2Fdev1&sig="
                                          "1IPTb%2FewSK2jmYklJnSIBtldzTQiA3k2R9CROX05ecg%3D&se=1893456000")));
    w.len = 0;
    sas_token_encode(&w, &port_crypto, SPAN("hub.example.net"), key, 1893456000, SPAN("service"));
    struct sas_token t;
    assert_int_equal(sas_parse(wr_span(&w), &t), ERR_OK);
    assert_true(sas_verify(&t, &port_crypto, key));
    assert_true(span_eq(sas_policy(&t), SPAN("service")));
    w.len = 0;
    sas_resource_encode(&w, SPAN("h"), SPAN("d"), SPAN("m"));
    assert_true(span_eq(wr_span(&w), SPAN("h/devices/d/modules/m")));
}

static void another_key_or_another_byte_does_not_verify(void **state)
{
    (void)state;
    uint8_t room[512];
    struct wr w = { room, sizeof room, 0 };
    sas_token_encode(&w, &port_crypto, SPAN("hub.example.net/devices/dev1"), key, 1893456000, SPAN_NONE);
    struct sas_token t;
    assert_int_equal(sas_parse(wr_span(&w), &t), ERR_OK);
    assert_true(sas_verify(&t, &port_crypto, key));
    assert_false(sas_verify(&t, &port_crypto, span_of(key_bytes, 31)));
    assert_false(sas_verify(&t, &port_crypto, SPAN_NONE));
    for (size_t i = 0; i < SHA256_LEN; i++) {
        t.sig[i] ^= 1;
        assert_false(sas_verify(&t, &port_crypto, key));
        t.sig[i] ^= 1;
    }
    struct sas_token u = t;
    u.se = SPAN("1893456001");
    assert_false(sas_verify(&u, &port_crypto, key));
    u = t;
    u.sr = SPAN("hub.example.net%2fdevices%2Fdev1"); /* signed as spelled */
    assert_false(sas_verify(&u, &port_crypto, key));
}

#define SIG "1IPTb%2FewSK2jmYklJnSIBtldzTQiA3k2R9CROX05ecg%3D"
static void a_bad_token_is_refused(void **state)
{
    (void)state;
    static const char *bad[] = {
        "",
        "SharedAccessSignature",
        "SharedAccessSignature ",
        "sharedaccesssignature sr=h&sig=" SIG "&se=1",
        "SharedAccessSignature sr=h&sig=" SIG,
        "SharedAccessSignature sr=h&se=1",
        "SharedAccessSignature sig=" SIG "&se=1",
        "SharedAccessSignature sr=&sig=" SIG "&se=1",
        "SharedAccessSignature sr=h&sig=" SIG "&se=",
        "SharedAccessSignature sr=h&sig=" SIG "&se=-1",
        "SharedAccessSignature sr=h&sig=" SIG "&se=1x",
        "SharedAccessSignature sr=h&sig=" SIG "&se=1.",
        "SharedAccessSignature sr=h&sig=" SIG "&se=1.x",
        "SharedAccessSignature sr=h&sig=" SIG "&se=18446744073709551616",
        "SharedAccessSignature sr=h&sig=" SIG "&se=1&se=2",
        "SharedAccessSignature sr=h&SR=h&sig=" SIG "&se=1",
        "SharedAccessSignature sr=h&sig=" SIG "&sig=" SIG "&se=1",
        "SharedAccessSignature sr=h&sig=" SIG "&se=1&skn=&skn=device",
        "SharedAccessSignature sr=h&sig=AAAA&se=1",
        "SharedAccessSignature sr=h&sig=" SIG "A&se=1",
        "SharedAccessSignature sr=h&sig=*&se=1",
    };
    struct sas_token t;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(sas_parse(span_str(bad[i]), &t), ERR_PROTO);
    assert_int_equal(sas_parse(SPAN("SharedAccessSignature sr=h&sig=" SIG "&se=1893456000.75"), &t), ERR_OK);
    assert_true(t.expiry_s == 1893456000);

    /* the caps: resource and policy name */
    uint8_t room[2048], filler[1100];
    memset(filler, 'a', sizeof filler);
    for (int over = 0; over < 2; over++) {
        struct wr w = { room, sizeof room, 0 };
        wr_str(&w, "SharedAccessSignature sig=" SIG "&se=1&sr=");
        wr_put(&w, span_of(filler, SAS_SR_MAX + (size_t)over));
        assert_int_equal(sas_parse(wr_span(&w), &t), over ? ERR_LIMIT : ERR_OK);
        w.len = 0;
        wr_str(&w, "SharedAccessSignature sr=h&sig=" SIG "&se=1&skn=");
        wr_put(&w, span_of(filler, SAS_POLICY_MAX + (size_t)over));
        assert_int_equal(sas_parse(wr_span(&w), &t), over ? ERR_LIMIT : ERR_OK);
    }
}

static void every_cut_of_a_token_is_judged(void **state)
{
    (void)state;
    const struct span whole = SPAN("SharedAccessSignature sr=h%2Fdevices%2Fd&sig=" SIG "&se=18&skn=device");
    for (size_t n = 0; n <= whole.n; n++) {
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, whole.p, n);
        struct sas_token t;
        enum err e = sas_parse(span_of(exact, n), &t);
        assert_true(e == ERR_OK || e == ERR_PROTO);
        assert_true(e == ERR_PROTO || n >= whole.n - 12); /* it takes sr, sig and a digit of se */
        (void)sas_audience(span_of(exact, n), &scope, SPAN("d"), SPAN("m"));
        free(exact);
    }
}

static void expiry_has_a_skew_and_never_wraps(void **state)
{
    (void)state;
    struct sas_token t;
    assert_int_equal(sas_parse(SPAN("SharedAccessSignature sr=h&sig=" SIG "&se=1000"), &t), ERR_OK);
    assert_true(sas_is_live(&t, 1300, 300));
    assert_false(sas_is_live(&t, 1301, 300));
    assert_int_equal(sas_parse(SPAN("SharedAccessSignature sr=h&sig=" SIG "&se=18446744073709551"), &t),
                     ERR_OK);
    assert_true(sas_is_live(&t, UINT32_MAX, UINT32_MAX));
}

static void the_audience_reaches_by_whole_segments(void **state)
{
    (void)state;
    static const struct {
        const char *sr, *device, *module;
        enum sas_reach reach;
    } rows[] = {
        { "hub.example.net", "d", "", SAS_REACH_HUB },
        { "HUB.Example.Net%2F", "d", "", SAS_REACH_HUB },
        { "alias.example.net/devices", "d", "", SAS_REACH_HUB },
        { "hub.example.net%2fdevices%2F", "d", "", SAS_REACH_HUB },
        { "hub.example.net/devices/dev1", "dev1", "", SAS_REACH_DEVICE },
        { "hub.example.net/devices/dev1/", "dev1", "", SAS_REACH_DEVICE },
        { "hub.example.net/devices/dev1", "dev1", "m", SAS_REACH_DEVICE },
        { "hub.example.net/devices/dev1", "dev10", "", SAS_REACH_NONE },
        { "hub.example.net/devices/dev10", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net/devices/DEV1", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net/devices/dev1/api-version=2016-11-14", "dev1", "", SAS_REACH_DEVICE },
        { "hub.example.net/devices/dev1/modules/m", "dev1", "m", SAS_REACH_MODULE },
        { "hub.example.net/devices/dev1/modules/m/x", "dev1", "m", SAS_REACH_MODULE },
        { "hub.example.net/devices/dev1/modules/m", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net/devices/dev1/modules/m", "dev1", "mm", SAS_REACH_NONE },
        { "hub.example.net/devices/dev1/modules/", "dev1", "", SAS_REACH_NONE },
        { "other.example.net/devices/dev1", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net.evil/devices/dev1", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net/messages", "dev1", "", SAS_REACH_NONE },
        { "", "dev1", "", SAS_REACH_NONE },
        { "/devices/dev1", "dev1", "", SAS_REACH_NONE },
        { "hub.example.net%2Fdevices%2Fa%2541", "a%41", "", SAS_REACH_DEVICE }, /* an id with a percent */
        { "hub.example.net/devices/a%41", "a%41", "", SAS_REACH_DEVICE },       /* signed as plain text */
        { "hub.example.net%2Fdevices%2Fa%2541", "aA", "", SAS_REACH_NONE },
        { "hub.example.net%2Fdevices%2Fa%2b", "a+", "", SAS_REACH_DEVICE },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(
            sas_audience(span_str(rows[i].sr), &scope, span_str(rows[i].device), span_str(rows[i].module)),
            rows[i].reach);
    const struct sas_scope called = { names, SPAN("10.0.0.1") };
    assert_int_equal(sas_audience(SPAN("10.0.0.1%2Fdevices%2Fd"), &called, SPAN("d"), SPAN_NONE),
                     SAS_REACH_DEVICE);
    assert_true(sas_audience_covers(SPAN("hub.example.net"), &scope, SPAN("/devices/d")));
    assert_true(sas_audience_covers(SPAN("hub.example.net"), &scope, SPAN("")));
    assert_true(sas_audience_covers(SPAN("hub.example.net%2fdevices"), &scope, SPAN("/devices/d")));
    assert_true(sas_audience_covers(SPAN("hub.example.net%2fdevices%2fd"), &scope, SPAN("/devices/d/")));
    assert_false(sas_audience_covers(SPAN("hub.example.net%2fdevices%2fd"), &scope, SPAN("/devices/dd")));
    assert_false(sas_audience_covers(SPAN("hub.example.net%2fdevices%2fd"), &scope, SPAN("/devices")));
    assert_false(sas_audience_covers(SPAN("other.net"), &scope, SPAN("/devices")));
}

static void connection_strings_go_round(void **state)
{
    (void)state;
    static const char *good[] = {
        "HostName=hub.example.net;DeviceId=d;SharedAccessKey=AAEC==",
        "HostName=hub.example.net;DeviceId=d;ModuleId=m;SharedAccessKey=AAEC",
        "HostName=hub.example.net;DeviceId=d;x509=true",
        "HostName=hub.example.net;SharedAccessKeyName=iothubowner;SharedAccessKey=AA==",
        "HostName=h;DeviceId=d;SharedAccessSignature=SharedAccessSignature sr=h&se=1;GatewayHostName=g",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct sas_connection c;
        uint8_t room[256];
        struct wr w = { room, sizeof room, 0 };
        assert_int_equal(sas_connection_parse(span_str(good[i]), &c), ERR_OK);
        sas_connection_encode(&w, &c);
        assert_true(span_eq(wr_span(&w), span_str(good[i])));
    }
    struct sas_connection c;
    assert_int_equal(sas_connection_parse(SPAN("sharedaccesskey=a=;hostname=h;X509=False;"), &c), ERR_OK);
    assert_true(span_eq(c.key, SPAN("a=")) && span_eq(c.host, SPAN("h")) && !c.x509);
    static const char *bad[] = { "",
                                 "HostName",
                                 "HostName=",
                                 "DeviceId=d",
                                 "HostName=h;;DeviceId=d",
                                 "HostName=h;DeviceId=d;DeviceId=e",
                                 "HostName=h;Color=red",
                                 "HostName=h;x509=maybe",
                                 "HostName=h;x509=true;x509=true",
                                 "=h" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(sas_connection_parse(span_str(bad[i]), &c), ERR_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_hold),
        cmocka_unit_test(we_make_what_the_sdks_make),
        cmocka_unit_test(another_key_or_another_byte_does_not_verify),
        cmocka_unit_test(a_bad_token_is_refused),
        cmocka_unit_test(every_cut_of_a_token_is_judged),
        cmocka_unit_test(expiry_has_a_skew_and_never_wraps),
        cmocka_unit_test(the_audience_reaches_by_whole_segments),
        cmocka_unit_test(connection_strings_go_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
