/* core/tls/tls_record_test.c - records of RFC 8448, two of us talking, every cut, every rule that ends a
 * connection. The numbers are those of the RFC's example trace, section 3. */
#include "core/tls/tls_record.h"
#include "port/tls_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>

enum { PEER = 0, HUB = 1, SLOTS = TLS_KEY_WAYS };
static struct tls_key_slot slots[SLOTS];
static struct tls_work work;
static struct tls_rec ends[2]; /* what one sends the other gets */
static uint8_t wire[200000], plain[200000];

static int make_work(void **state)
{
    (void)state;
    work.slots = slots;
    work.slots_nr = SLOTS;
    assert_int_equal(tls_crypto_new(&work.crypto), ERR_OK);
    return 0;
}
static int free_work(void **state)
{
    (void)state;
    tls_crypto_free(work.crypto);
    return 0;
}

static size_t hex(const char *text, uint8_t *out)
{
    size_t n = 0;
    for (; *text; text++) {
        if (*text == ' ')
            continue;
        int hi = *text > '9' ? *text - 'a' + 10 : *text - '0';
        text++;
        out[n++] = (uint8_t)(hi << 4 | (*text > '9' ? *text - 'a' + 10 : *text - '0'));
    }
    return n;
}

/* Both ends of a connection with made-up secrets. version: 12 or 13. */
static void connect_ends(int version, enum tls_aead a)
{
    uint8_t s[2][TLS_SECRET_MAX];
    memset(slots, 0, sizeof slots);
    for (size_t i = 0; i < TLS_SECRET_MAX; i++) {
        s[0][i] = (uint8_t)(i * 7 + 1);
        s[1][i] = (uint8_t)(i * 11 + 3);
    }
    if (version == 13) {
        tls_rec_init_13(&ends[PEER], a, s[1], 1, s[0], 0);
        tls_rec_init_13(&ends[HUB], a, s[0], 0, s[1], 1);
    } else {
        struct tls_keys client, server;
        tls_keys_block(work.crypto, a, tls_aead_hash(a), s[0], s[1], s[1] + 8, &client, &server);
        tls_rec_init_12(&ends[PEER], a, &server, 1, &client, 1, 1000);
        tls_rec_init_12(&ends[HUB], a, &client, 1, &server, 1, UINT64_MAX - 2); /* the sum wraps */
    }
}

/* Every suite of both versions. */
#define FOR_ALL(version, a)                                                                                  \
    for (int version = 12; version <= 13; version++)                                                         \
        for (enum tls_aead a = TLS_AES_128_GCM; a < TLS_AEADS; a = (enum tls_aead)(a + 1))

static struct tls_opened opened;
static enum err feed(struct span in)
{
    return tls_rec_open(&ends[HUB], &work, in, plain, sizeof plain, &opened);
}

/* A record of the peer with this content, made by hand where the API would not. Its length. */
static size_t record(uint8_t type, struct span content, size_t padding)
{
    struct tls_rec *r = &ends[PEER];
    size_t head = tls_rec_head_len(r), n = content.n;
    bool v13 = r->suite & TLS_REC_13;
    memcpy(wire + head, content.p, n);
    if (v13) {
        /* as if it were data, with the type and padding at its end, but for the type that seal adds: a zero
         * would do, so the padding is made with the cipher itself */
        struct tls_keys k;
        uint8_t nonce[TLS_NONCE_LEN];
        enum tls_aead a = (enum tls_aead)(r->suite & ~TLS_REC_13);
        wire[head + n++] = type;
        memset(wire + head + n, 0, padding);
        n += padding;
        tls_keys_derive(work.crypto, a, r->secret[TLS_OUT], &k);
        memcpy(nonce, k.iv, sizeof nonce);
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= r->seq[TLS_OUT][i];
        wire[0] = 0x17;
        wire[1] = wire[2] = 3;
        wire[3] = (uint8_t)((n + TLS_TAG_LEN) >> 8);
        wire[4] = (uint8_t)(n + TLS_TAG_LEN);
        assert_true(work.crypto->ops->seal(work.crypto, a, k.key, nonce, span_of(wire, 5),
                                           span_of(wire + 5, n), wire + 5, wire + 5 + n));
        for (int i = 7; i >= 0 && !++r->seq[TLS_OUT][i]; i--)
            ;
        return 5 + n + TLS_TAG_LEN;
    }
    struct tls_keys k;
    uint8_t nonce[TLS_NONCE_LEN], aad[13];
    enum tls_aead a = (enum tls_aead)r->suite;
    size_t explicit_len = head - 5;
    memcpy(&k, r->secret[TLS_OUT], sizeof k);
    memcpy(nonce, k.iv, sizeof nonce);
    if (explicit_len) {
        memcpy(nonce + 4, r->seq[TLS_OUT], 8);
        memcpy(wire + 5, r->seq[TLS_OUT], 8);
    } else {
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= r->seq[TLS_OUT][i];
    }
    memcpy(aad, r->seq[TLS_OUT], 8);
    aad[8] = type;
    aad[9] = aad[10] = 3;
    aad[11] = (uint8_t)(n >> 8);
    aad[12] = (uint8_t)n;
    wire[0] = type;
    wire[1] = wire[2] = 3;
    wire[3] = (uint8_t)((explicit_len + n + TLS_TAG_LEN) >> 8);
    wire[4] = (uint8_t)(explicit_len + n + TLS_TAG_LEN);
    assert_true(work.crypto->ops->seal(work.crypto, a, k.key, nonce, span_of(aad, 13),
                                       span_of(wire + head, n), wire + head, wire + head + n));
    for (int i = 7; i >= 0 && !++r->seq[TLS_OUT][i]; i--)
        ;
    return head + n + TLS_TAG_LEN;
}

static void refused(size_t len, unsigned alert)
{
    uint8_t before[2][TLS_SECRET_MAX];
    memcpy(before, ends[HUB].secret, sizeof before);
    assert_int_equal(feed(span_of(wire, len)), ERR_PROTO);
    assert_int_equal(opened.alert, alert);
    assert_int_equal(opened.n, 0);
    assert_int_equal(opened.used, 0);
    assert_memory_equal(before, ends[HUB].secret, sizeof before);
    assert_int_equal(feed(span_of(wire, len)), ERR_PROTO); /* and for good */
    assert_int_equal(opened.alert, TLS_CLOSE_NOTIFY);
}

/* ---- vectors -------------------------------------------------------------------------------------- */

static void the_keys_of_rfc_8448(void **state)
{
    static const struct {
        const char *secret, *key, *iv;
    } v[] = {
        { "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
          "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984" },
        { "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
          "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9" },
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t secret[32], key[16], iv[12];
        struct tls_keys k;
        hex(v[i].secret, secret);
        hex(v[i].key, key);
        hex(v[i].iv, iv);
        tls_keys_derive(work.crypto, TLS_AES_128_GCM, secret, &k);
        assert_memory_equal(k.key, key, 16);
        assert_memory_equal(k.iv, iv, 12);
    }
}

static void the_records_of_rfc_8448(void **state)
{
    uint8_t in[32], out[32], data[50], expected[128];
    static const char from_client[] = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819"
                                      "a8a5b46b395bd54a9a20441e2b62974e1f"
                                      "5a6292a2977014bd1e3deae63aeebb21694915e4";
    static const char from_server[] = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efa"
                                      "f97d90e6dffc602dcb501a59a8fcc49c4b"
                                      "f2e5f0a21c0047c2abf332540dd032e167c2955d";
    (void)state;
    memset(slots, 0, sizeof slots);
    hex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", in);
    hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643", out);
    tls_rec_init_13(&ends[HUB], TLS_AES_128_GCM, in, 0, out, 1); /* one ticket has left */
    for (uint8_t i = 0; i < 50; i++)
        data[i] = i;
    size_t n = hex(from_client, wire);
    assert_int_equal(feed(span_of(wire, n)), ERR_OK);
    assert_int_equal(opened.used, n);
    assert_int_equal(opened.n, 50);
    assert_memory_equal(plain, data, 50);
    struct wr w = { wire, sizeof wire, 0 };
    struct span s = span_of(data, 50);
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_OK);
    n = hex(from_server, expected);
    assert_int_equal(w.len, n);
    assert_memory_equal(wire, expected, n);
    n = hex("1703030013c9872760655666b74d7ff1153efd6db6d0b0e3", wire); /* close_notify */
    assert_int_equal(feed(span_of(wire, n)), ERR_OK);
    assert_true(opened.eof);
    w.len = 0;
    assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_CLOSE_NOTIFY, &w), ERR_OK);
    n = hex("1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9", expected);
    assert_int_equal(w.len, n);
    assert_memory_equal(wire, expected, n);
    assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_CLOSE_NOTIFY, &w), ERR_STOPPED);
    s = span_of(data, 50);
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_STOPPED);
}

/* ---- two of us ------------------------------------------------------------------------------------ */

/* n bytes from one to the other, whatever records that takes. */
static void talk(int from, size_t n)
{
    uint8_t *data = malloc(n);
    size_t got = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)(i * 31 + i / 253 + n);
    struct span s = span_of(data, n);
    struct wr w = { wire, sizeof wire, 0 };
    assert_int_equal(tls_rec_seal(&ends[from], &work, &s, &w), ERR_OK);
    assert_int_equal(s.n, 0);
    while (at < w.len) {
        struct tls_opened o;
        assert_int_equal(tls_rec_open(&ends[1 - from], &work, span_of(wire + at, w.len - at), plain + got,
                                      sizeof plain - got, &o),
                         ERR_OK);
        at += o.used;
        got += o.n;
    }
    assert_int_equal(got, n);
    assert_memory_equal(plain, data, n);
    free(data);
}

static void all_suites_carry_data_both_ways(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        for (uint8_t frag = 0; frag <= 4; frag++) {
            connect_ends(version, a);
            ends[HUB].frag = ends[PEER].frag = frag;
            static const size_t lengths[] = { 1, 2, 15, 16, 17, 511, 512, 513, 16383, 16384, 16385, 100000 };
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                talk(PEER, lengths[i]);
                talk(HUB, lengths[i]);
            }
        }
    }
}

static void a_record_comes_when_its_last_byte_does(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        connect_ends(version, a);
        size_t len = record(23, SPAN("twelve bytes"), 3);
        for (size_t n = 0; n < len; n++) {
            memset(plain, 0xee, 64);
            assert_int_equal(feed(span_of(wire, n)), ERR_AGAIN);
            assert_int_equal(plain[0], 0xee);
        }
        assert_int_equal(feed(span_of(wire, len + 9)), ERR_OK);
        assert_int_equal(opened.used, len);
        assert_int_equal(opened.n, 12);
        assert_memory_equal(plain, "twelve bytes", 12);
    }
}

static void no_room_takes_nothing(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        uint8_t small[8];
        connect_ends(version, a);
        size_t len = record(23, SPAN("more than eight"), 0);
        assert_int_equal(tls_rec_open(&ends[HUB], &work, span_of(wire, len), small, sizeof small, &opened),
                         ERR_LIMIT);
        assert_int_equal(feed(span_of(wire, len)), ERR_OK);
        assert_int_equal(opened.n, 15);
        for (size_t cap = 0; cap < 40; cap++) {
            struct span s = SPAN("0123456789");
            struct wr w = { wire, cap, 0 };
            assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_OK);
            assert_true(w.len ? s.n == 0 && w.len <= cap : s.n == 10);
        }
    }
}

static void every_changed_bit_is_found(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        uint8_t good[64];
        connect_ends(version, a);
        struct tls_rec before = ends[HUB];
        size_t len = record(23, SPAN("secret"), 0);
        memcpy(good, wire, len);
        for (size_t bit = 5 * 8; bit < len * 8; bit++) { /* behind the head, which has alerts of its own */
            ends[HUB] = before;
            memcpy(wire, good, len);
            wire[bit / 8] ^= (uint8_t)(1 << bit % 8);
            memset(plain, 0xee, 64);
            refused(len, TLS_BAD_RECORD_MAC);
            for (size_t i = 0; i < 6; i++)
                assert_int_equal(plain[i], 0); /* what was deciphered is gone */
        }
    }
}

static void replayed_and_reordered_records_are_found(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        uint8_t first[64];
        connect_ends(version, a);
        struct tls_rec before = ends[HUB];
        size_t n1 = record(23, SPAN("one"), 0);
        memcpy(first, wire, n1);
        assert_int_equal(feed(span_of(wire, n1)), ERR_OK);
        refused(n1, TLS_BAD_RECORD_MAC); /* again */
        ends[HUB] = before;
        size_t n2 = record(23, SPAN("two"), 0);
        refused(n2, TLS_BAD_RECORD_MAC); /* before the first */
        ends[HUB] = before;
        struct wr w = { wire, sizeof wire, 0 }; /* our own, sent back to us */
        struct span s = SPAN("mirror");
        assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_OK);
        refused(w.len, TLS_BAD_RECORD_MAC);
    }
}

static void heads_that_cannot_be_are_refused(void **state)
{
    static const struct {
        int version;
        unsigned alert;
        const char *head;
    } bad[] = {
        { 13, TLS_UNEXPECTED_MESSAGE, "\x15\x03\x03\x00\x02" }, /* a plaintext alert */
        { 13, TLS_UNEXPECTED_MESSAGE, "\x16\x03\x03\x00\x20" },
        { 13, TLS_UNEXPECTED_MESSAGE, "\x14\x03\x03\x00\x01" },
        { 13, TLS_PROTOCOL_VERSION, "GET /" },
        { 13, TLS_DECODE_ERROR, "\x17\x03\x01\x00\x20" },
        { 13, TLS_PROTOCOL_VERSION, "\x17\x02\x03\x00\x20" },
        { 13, TLS_RECORD_OVERFLOW, "\x17\x03\x03\x41\x01" },
        { 13, TLS_RECORD_OVERFLOW, "\x17\x03\x03\xff\xff" },
        { 13, TLS_BAD_RECORD_MAC, "\x17\x03\x03\x00\x10" },
        { 13, TLS_BAD_RECORD_MAC, "\x17\x03\x03\x00\x00" },
        { 12, TLS_PROTOCOL_VERSION, "\x17\x03\x01\x00\x30" },
        { 12, TLS_PROTOCOL_VERSION, "GET /" },
        { 12, TLS_RECORD_OVERFLOW, "\x17\x03\x03\x40\x19" },
        { 12, TLS_BAD_RECORD_MAC, "\x17\x03\x03\x00\x0f" },
        { 12, TLS_BAD_RECORD_MAC, "\x15\x03\x03\x00\x02" }, /* a plaintext alert */
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        connect_ends(bad[i].version, TLS_AES_128_GCM);
        memcpy(wire, bad[i].head, 5);
        assert_int_equal(feed(span_of(wire, 4)), ERR_AGAIN);
        refused(5, bad[i].alert); /* at once: nobody has to wait for what it promises */
    }
}

static void contents_have_a_largest_length(void **state)
{
    static uint8_t big[TLS_PLAIN_MAX + 200];
    (void)state;
    FOR_ALL(version, a)
    {
        for (uint8_t frag = 0; frag <= 4; frag++) {
            size_t max = frag ? (size_t)256 << frag : TLS_PLAIN_MAX;
            connect_ends(version, a);
            ends[HUB].frag = frag;
            assert_int_equal(feed(span_of(wire, record(23, span_of(big, max), 0))), ERR_OK);
            assert_int_equal(opened.n, max);
            if (version == 13) {
                assert_int_equal(feed(span_of(wire, record(23, span_of(big, max), 200))), ERR_OK);
                assert_int_equal(opened.n, max); /* padding does not count */
            }
            refused(record(23, span_of(big, max + 1), 0), TLS_RECORD_OVERFLOW);
        }
    }
}

static void types_that_do_not_belong_here_are_refused(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        for (unsigned type = 0; type < 256; type++) {
            if (type >= 21 && type <= 23)
                continue;
            connect_ends(version, a);
            refused(record((uint8_t)type, SPAN("x"), 0), TLS_UNEXPECTED_MESSAGE);
        }
    }
    connect_ends(13, TLS_AES_128_GCM);
    refused(record(0, SPAN(""), 30), TLS_UNEXPECTED_MESSAGE); /* padding and nothing else */
    connect_ends(13, TLS_AES_128_GCM);
    refused(record(21, SPAN(""), 0), TLS_UNEXPECTED_MESSAGE);
    connect_ends(13, TLS_AES_128_GCM);
    refused(record(22, SPAN(""), 0), TLS_UNEXPECTED_MESSAGE);
}

static void empty_records_are_counted(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        connect_ends(version, a);
        for (unsigned round = 0; round < 2; round++) {
            for (unsigned i = 0; i < TLS_IDLE_MAX; i++) {
                assert_int_equal(feed(span_of(wire, record(23, SPAN(""), i))), ERR_OK);
                assert_int_equal(opened.n, 0);
                assert_true(opened.used > 0);
            }
            if (!round) /* data begins the count anew */
                assert_int_equal(feed(span_of(wire, record(23, SPAN("x"), 0))), ERR_OK);
        }
        refused(record(23, SPAN(""), 0), TLS_UNEXPECTED_MESSAGE);
    }
}

/* ---- alerts --------------------------------------------------------------------------------------- */

static void alerts_mean_what_the_standard_says(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        connect_ends(version, a);
        assert_int_equal(feed(span_of(wire, record(21, SPAN("\x01\x00"), 0))), ERR_OK);
        assert_true(opened.eof);
        assert_int_equal(feed(SPAN("whatever comes behind it")), ERR_OK); /* is not looked at */
        assert_true(opened.eof);
        assert_int_equal(opened.used, 24);
        talk(HUB, 10); /* half closed: the other direction goes on */
        connect_ends(version, a);
        refused(record(21, SPAN("\x02\x14"), 0), TLS_CLOSE_NOTIFY); /* no alert answers an alert */
        connect_ends(version, a);
        refused(record(21, SPAN("\x01\x00\x00"), 0), TLS_UNEXPECTED_MESSAGE);
        connect_ends(version, a);
        for (int i = 0; i < 4; i++)
            assert_int_equal(feed(span_of(wire, record(21, SPAN("\x01\x5a"), 0))),
                             ERR_OK); /* user_canceled */
        assert_false(opened.eof);
        refused(record(21, SPAN("\x01\x5a"), 0), TLS_UNEXPECTED_MESSAGE); /* the fifth */
    }
    connect_ends(12, TLS_AES_128_GCM);
    refused(record(21, SPAN("\x01\x64"), 0), TLS_HANDSHAKE_FAILURE);
    connect_ends(12, TLS_AES_128_GCM);
    refused(record(21, SPAN("\x03\x00"), 0), TLS_ILLEGAL_PARAMETER);
    connect_ends(13, TLS_AES_128_GCM);
    refused(record(21, SPAN("\x01\x28"), 0), TLS_CLOSE_NOTIFY); /* all others are fatal, whatever they say */
}

static void our_alert_reaches_the_other_side(void **state)
{
    (void)state;
    FOR_ALL(version, a)
    {
        struct wr w = { wire, sizeof wire, 0 };
        connect_ends(version, a);
        refused(record(99, SPAN("x"), 0), TLS_UNEXPECTED_MESSAGE);
        assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_UNEXPECTED_MESSAGE, &w), ERR_OK);
        assert_int_equal(tls_rec_open(&ends[PEER], &work, span_of(wire, w.len), plain, sizeof plain, &opened),
                         ERR_PROTO);
        assert_int_equal(opened.alert, TLS_CLOSE_NOTIFY);
        assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_CLOSE_NOTIFY, &w), ERR_STOPPED);
    }
}

/* ---- after the handshake -------------------------------------------------------------------------- */

static void key_updates_go_both_ways(void **state)
{
    (void)state;
    for (enum tls_aead a = TLS_AES_128_GCM; a < TLS_AEADS; a = (enum tls_aead)(a + 1)) {
        connect_ends(13, a);
        talk(PEER, 100);
        uint8_t in[TLS_SECRET_MAX], out[TLS_SECRET_MAX];
        memcpy(in, ends[HUB].secret[TLS_IN], sizeof in);
        memcpy(out, ends[HUB].secret[TLS_OUT], sizeof out);
        ends[PEER].state |= TLS_REC_UPDATE_DUE | TLS_REC_UPDATE_ASK;
        talk(PEER, 100);
        assert_memory_not_equal(in, ends[HUB].secret[TLS_IN], 32);
        assert_memory_equal(out, ends[HUB].secret[TLS_OUT], sizeof out);
        assert_true(tls_rec_is_due(&ends[HUB]));
        assert_true(ends[PEER].state & TLS_REC_UPDATE_ASKED);
        talk(HUB, 100); /* the answer comes first */
        assert_memory_not_equal(out, ends[HUB].secret[TLS_OUT], 32);
        assert_false(tls_rec_is_due(&ends[HUB]));
        assert_false(tls_rec_is_due(&ends[PEER]));
        assert_false(ends[PEER].state & TLS_REC_UPDATE_ASKED);
        talk(HUB, 40000);
        talk(PEER, 40000);
    }
}

static void a_key_update_may_be_cut_but_ends_its_record(void **state)
{
    (void)state;
    static const char update[5] = { 24, 0, 0, 1, 0 };
    for (size_t cut = 1; cut < 5; cut++) {
        connect_ends(13, TLS_AES_128_GCM);
        assert_int_equal(feed(span_of(wire, record(22, span_of(update, cut), 0))), ERR_OK);
        struct tls_rec half = ends[HUB];
        struct tls_rec peer = ends[PEER];
        assert_int_equal(feed(span_of(wire, record(22, span_of(update + cut, 5 - cut), 0))), ERR_OK);
        tls_keys_next_secret(work.crypto, TLS_AES_128_GCM, ends[PEER].secret[TLS_OUT]);
        memset(ends[PEER].seq[TLS_OUT], 0, 8);
        talk(PEER, 10);
        ends[HUB] = half;
        ends[PEER] = peer;
        memset(slots, 0, sizeof slots); /* the keys of both went back in time */
        refused(record(23, SPAN("between"), 0), TLS_UNEXPECTED_MESSAGE);
    }
    const struct {
        unsigned alert;
        struct span s;
    } bad[] = {
        { TLS_UNEXPECTED_MESSAGE, SPAN("\x18\x00\x00\x01\x00\x18") },
        { TLS_ILLEGAL_PARAMETER, SPAN("\x18\x00\x00\x01\x02") },
        { TLS_ILLEGAL_PARAMETER, SPAN("\x18\x00\x00\x02\x00\x00") },
        { TLS_DECODE_ERROR, SPAN("\x18\x00\x00\x00") },
        { TLS_UNEXPECTED_MESSAGE, SPAN("\x04\x00\x00\x01\x00") }, /* a ticket: only servers give them */
        { TLS_UNEXPECTED_MESSAGE, SPAN("\x01\x00\x00\x01\x00") }, /* a second handshake */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        connect_ends(13, TLS_AES_128_GCM);
        refused(record(22, bad[i].s, 0), bad[i].alert);
    }
}

static void key_updates_alone_come_to_an_end(void **state)
{
    unsigned nr = 0;
    (void)state;
    connect_ends(13, TLS_AES_128_GCM);
    for (;; nr++) {
        enum err e = feed(span_of(wire, record(22, SPAN("\x18\x00\x00\x01\x01"), 0)));
        if (e)
            break;
        tls_work_forget(&work, ends[PEER].secret[TLS_OUT]);
        tls_keys_next_secret(work.crypto, TLS_AES_128_GCM, ends[PEER].secret[TLS_OUT]);
        memset(ends[PEER].seq[TLS_OUT], 0, 8);
    }
    assert_int_equal(nr, TLS_IDLE_MAX);
    assert_int_equal(opened.alert, TLS_UNEXPECTED_MESSAGE);
}

static void set_seq(struct tls_rec *r, int direction, uint64_t v)
{
    for (int i = 8; i-- > 0; v >>= 8)
        r->seq[direction][i] = (uint8_t)v;
}

static void keys_are_changed_before_they_wear_out(void **state)
{
    (void)state;
    connect_ends(13, TLS_AES_256_GCM);
    set_seq(&ends[HUB], TLS_OUT, TLS_GCM_LIMIT - 1);
    set_seq(&ends[PEER], TLS_IN, TLS_GCM_LIMIT - 1);
    talk(HUB, 1);
    assert_int_equal(ends[HUB].seq[TLS_OUT][4], 1);
    talk(HUB, 1); /* with a KeyUpdate in front */
    assert_int_equal(ends[HUB].seq[TLS_OUT][4], 0);
    assert_int_equal(ends[HUB].seq[TLS_OUT][7], 1);
    /* the peer's key: it is asked for another, once */
    connect_ends(13, TLS_AES_256_GCM);
    set_seq(&ends[PEER], TLS_OUT, TLS_GCM_LIMIT - 1);
    set_seq(&ends[HUB], TLS_IN, TLS_GCM_LIMIT - 1);
    talk(PEER, 1);
    assert_true(tls_rec_is_due(&ends[HUB]));
    struct wr w = { wire, TLS_DUE_MAX, 0 };
    assert_int_equal(tls_rec_due(&ends[HUB], &work, &w), ERR_OK);
    assert_false(tls_rec_is_due(&ends[HUB]));
    size_t n = w.len;
    assert_int_equal(tls_rec_open(&ends[PEER], &work, span_of(wire, n), plain, sizeof plain, &opened),
                     ERR_OK);
    assert_true(tls_rec_is_due(&ends[PEER]));
    assert_int_equal(feed(span_of(wire, record(23, SPAN("not yet"), 0))), ERR_OK);
    assert_int_equal(opened.n, 7);
    assert_false(tls_rec_is_due(&ends[HUB]));
    talk(PEER, 1);
    assert_int_equal(ends[HUB].seq[TLS_IN][7], 1);
    assert_false(tls_rec_is_due(&ends[HUB]));
    /* ChaCha20 does not wear out */
    connect_ends(13, TLS_CHACHA20_POLY1305);
    set_seq(&ends[HUB], TLS_OUT, TLS_GCM_LIMIT);
    set_seq(&ends[PEER], TLS_IN, TLS_GCM_LIMIT);
    talk(HUB, 1);
    assert_int_equal(ends[HUB].seq[TLS_OUT][7], 1);
    /* TLS 1.2 has no KeyUpdate: the end, but a decent one */
    connect_ends(12, TLS_AES_128_GCM);
    set_seq(&ends[HUB], TLS_OUT, TLS_GCM_LIMIT);
    set_seq(&ends[PEER], TLS_IN, TLS_GCM_LIMIT);
    struct span s = SPAN("x");
    w = (struct wr){ wire, sizeof wire, 0 };
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_STOPPED);
    assert_int_equal(w.len, 0);
    assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_CLOSE_NOTIFY, &w), ERR_OK);
    assert_int_equal(tls_rec_open(&ends[PEER], &work, span_of(wire, w.len), plain, sizeof plain, &opened),
                     ERR_OK);
    assert_true(opened.eof);
}

static void numbers_do_not_wrap(void **state)
{
    (void)state;
    connect_ends(13, TLS_CHACHA20_POLY1305);
    set_seq(&ends[HUB], TLS_OUT, UINT64_MAX - 1);
    set_seq(&ends[PEER], TLS_IN, UINT64_MAX - 1);
    talk(HUB, 1);
    struct span s = SPAN("x");
    struct wr w = { wire, sizeof wire, 0 };
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_STOPPED);
    assert_int_equal(tls_rec_alert(&ends[HUB], &work, TLS_CLOSE_NOTIFY, &w), ERR_STOPPED);
    connect_ends(13, TLS_CHACHA20_POLY1305);
    set_seq(&ends[HUB], TLS_IN, UINT64_MAX);
    refused(record(23, SPAN("x"), 0), TLS_INTERNAL_ERROR);
}

static void renegotiation_is_refused_once(void **state)
{
    (void)state;
    connect_ends(12, TLS_AES_128_GCM);
    assert_int_equal(feed(span_of(wire, record(22, SPAN("\x01\x00\x01\x00"), 0))), ERR_OK);
    assert_true(tls_rec_is_due(&ends[HUB]));
    struct span s = SPAN("x");
    struct wr w = { wire, sizeof wire, 0 };
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_OK);
    assert_int_equal(tls_rec_open(&ends[PEER], &work, span_of(wire, w.len), plain, sizeof plain, &opened),
                     ERR_PROTO); /* for this peer it is the end; another goes on */
    assert_int_equal(opened.alert, TLS_HANDSHAKE_FAILURE);
    assert_false(tls_rec_is_due(&ends[HUB]));
    refused(record(22, SPAN("\x01\x00\x01\x00"), 0), TLS_UNEXPECTED_MESSAGE);
    connect_ends(12, TLS_AES_128_GCM);
    refused(record(22, SPAN("\x14\x00\x00\x0c"), 0), TLS_UNEXPECTED_MESSAGE);
}

static void nonces_of_tls_12_go_on_from_the_handshakes(void **state)
{
    (void)state;
    connect_ends(12, TLS_AES_128_GCM); /* base 2^64-3, number 1 */
    for (uint64_t i = 0; i < 4; i++) {
        struct span s = SPAN("x");
        struct wr w = { wire, sizeof wire, 0 };
        assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_OK);
        uint64_t nonce = 0;
        for (int b = 0; b < 8; b++)
            nonce = nonce << 8 | wire[5 + b];
        assert_true(nonce == UINT64_MAX - 1 + i);
    }
}

static void nothing_stays_behind(void **state)
{
    static const uint8_t zero[sizeof(struct tls_rec)];
    (void)state;
    connect_ends(13, TLS_AES_128_GCM);
    talk(PEER, 5);
    talk(HUB, 5);
    bool used = false;
    for (size_t i = 0; i < SLOTS; i++)
        used |= slots[i].owner != NULL;
    assert_true(used);
    tls_rec_fini(&ends[PEER], &work);
    tls_rec_fini(&ends[HUB], &work);
    assert_memory_equal(&ends[HUB], zero, sizeof zero);
    for (size_t i = 0; i < SLOTS; i++)
        for (size_t k = 0; k < sizeof slots[i].keys.key; k++)
            assert_int_equal(slots[i].keys.key[k], 0);
}

static unsigned derived;
static void counted_hmac(struct tls_crypto *c, enum tls_hash h, struct span key, const struct span *parts,
                         size_t parts_nr, uint8_t *out)
{
    (void)c;
    derived++;
    tls_hmac(h, key, parts, parts_nr, out);
}

/* A key costs two HMACs; those of TLS_KEY_WAYS owners that share their slots stay, and with one more somebody
 * has to go: the keys are right all the same. */
static void a_full_cache_and_none_are_as_good(void **state)
{
    struct tls_crypto_ops ops = *work.crypto->ops;
    struct tls_crypto counting = { &ops }, *whole = work.crypto;
    static uint8_t secrets[SLOTS + 1][TLS_SECRET_MAX]; /* and owners, by their addresses */
    struct tls_keys spare, want;
    (void)state;
    ops.hmac = counted_hmac;
    for (size_t i = 0; i <= SLOTS; i++)
        for (size_t k = 0; k < TLS_SECRET_MAX; k++)
            secrets[i][k] = (uint8_t)(i * 77 + k * 13 + 5);
    for (work.slots_nr = 0; work.slots_nr <= SLOTS; work.slots_nr += SLOTS) {
        for (size_t owners = SLOTS; owners <= SLOTS + 1; owners++) {
            memset(slots, 0, sizeof slots);
            work.crypto = &counting;
            derived = 0;
            for (size_t k = 0; k < 10 * owners; k++) {
                const uint8_t *secret = secrets[k % owners];
                const struct tls_keys *got = tls_work_keys(&work, secret, TLS_AES_256_GCM, secret, &spare);
                tls_keys_derive(whole, TLS_AES_256_GCM, secret, &want);
                assert_memory_equal(got, &want, sizeof want);
            }
            if (work.slots_nr && owners <= TLS_KEY_WAYS)
                assert_int_equal(derived, 2 * owners);
            else if (!work.slots_nr)
                assert_int_equal(derived, 20 * owners);
            tls_work_forget(&work, secrets[1]); /* there or not */
            for (size_t k = 0; k < SLOTS; k++)
                assert_ptr_not_equal(slots[k].owner, secrets[1]);
            work.crypto = whole;
        }
        connect_ends(13, TLS_AES_256_GCM);
        talk(PEER, 5);
        talk(HUB, 5);
        talk(PEER, 50000);
    }
    work.slots_nr = SLOTS;
}

static bool no_seal(struct tls_crypto *c, enum tls_aead a, const uint8_t *key, const uint8_t *nonce,
                    struct span aad, struct span in, uint8_t *out, uint8_t *tag)
{
    (void)c, (void)a, (void)key, (void)nonce, (void)aad, (void)in, (void)out, (void)tag;
    return false;
}

static void a_cipher_that_fails_ends_the_sending(void **state)
{
    struct tls_crypto_ops ops = *work.crypto->ops;
    struct tls_crypto broken = { &ops }, *whole = work.crypto;
    struct wr w = { wire, sizeof wire, 0 };
    struct span s = SPAN("x");
    (void)state;
    connect_ends(12, TLS_CHACHA20_POLY1305);
    ops.seal = no_seal;
    work.crypto = &broken;
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_IO);
    work.crypto = whole;
    assert_int_equal(w.len, 0);
    assert_int_equal(tls_rec_seal(&ends[HUB], &work, &s, &w), ERR_STOPPED); /* never that number again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_keys_of_rfc_8448),
        cmocka_unit_test(the_records_of_rfc_8448),
        cmocka_unit_test(all_suites_carry_data_both_ways),
        cmocka_unit_test(a_record_comes_when_its_last_byte_does),
        cmocka_unit_test(no_room_takes_nothing),
        cmocka_unit_test(every_changed_bit_is_found),
        cmocka_unit_test(replayed_and_reordered_records_are_found),
        cmocka_unit_test(heads_that_cannot_be_are_refused),
        cmocka_unit_test(contents_have_a_largest_length),
        cmocka_unit_test(types_that_do_not_belong_here_are_refused),
        cmocka_unit_test(empty_records_are_counted),
        cmocka_unit_test(alerts_mean_what_the_standard_says),
        cmocka_unit_test(our_alert_reaches_the_other_side),
        cmocka_unit_test(key_updates_go_both_ways),
        cmocka_unit_test(a_key_update_may_be_cut_but_ends_its_record),
        cmocka_unit_test(key_updates_alone_come_to_an_end),
        cmocka_unit_test(keys_are_changed_before_they_wear_out),
        cmocka_unit_test(numbers_do_not_wrap),
        cmocka_unit_test(renegotiation_is_refused_once),
        cmocka_unit_test(nonces_of_tls_12_go_on_from_the_handshakes),
        cmocka_unit_test(nothing_stays_behind),
        cmocka_unit_test(a_full_cache_and_none_are_as_good),
        cmocka_unit_test(a_cipher_that_fails_ends_the_sending),
    };
    return cmocka_run_group_tests(tests, make_work, free_work);
}
