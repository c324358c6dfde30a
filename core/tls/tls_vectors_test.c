/* core/tls/tls_vectors_test.c - connections as OpenSSL 3.0 had them, one of each suite and version, written
 * down: their secrets, and every byte that went either way after the handshake, with padding, KeyUpdates of
 * the client's (one asks for ours) and both ends. */
#include "core/tls/tls_record.h"
#include "port/tls_crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the four above */
#include <cmocka.h>

static const struct transcript {
    int version; /* 12 or 13 */
    enum tls_aead aead;
    enum tls_hash hash;
    const char *client, *server; /* 1.3: traffic secrets; 1.2: randoms */
    const char *master, *base;   /* 1.2: and the server's explicit nonce of record 0 */
    unsigned sent;               /* 1.3: tickets */
    struct step {
        char who; /* c: the client says this; s: the server; e, E: their ends */
        const char *text, *records;
    } steps[10];
} all[] = {
    { /* TLS_AES_128_GCM_SHA256 */
      .version = 13, .aead = TLS_AES_128_GCM, .hash = TLS_SHA256,
      .client = "dacc02e40531fefa4c70e1ddc1bdaa1c1c6c532e4ceb423a936687a601c618c8",
      .server = "4b768fd407cd1bcc096eca5e5a181ae040142fbfe6b3ee545e1d8dd2d8a3b9bd",
      .sent = 2,
      .steps = {
        { 'c', "one", "1703030014824349cb6b9c5318df245c5117f71c6ec2f1cbf3" },
        { 's', "two", "1703030014832920826f251b0c5c4ce1d928ed63f4599894d7" },
        { 'c', "three", "17030300306f155130649e5f5701f5645ca57b6140498fb57e93d283b3a889432f570fe1c78b7dee8034520c9ed44b4b7b746ab2ea" },
        { 'c', "four", "170303001654375654f959cd5b7d3a7ac1cb3241aeca4b0821185a1703030015090fced965919ca51104917fbf84d958516b5c9d0f" },
        { 's', "five", "1703030016c93f3e103b510c7938e05cc8438ee8c4269877ba597b1703030015ec0fa1892cdac069252e2c3a300f3087d0a7e012c4" },
        { 'c', "six", "17030300163fca04a4ca9e38d8bdd7e4410113a5d68fb7846c77611703030014e48ededc62e04b4ba70e8d8802e51e5145f658d7" },
        { 's', "seven", "1703030016771ac2075f6ac073deef004a1349d3baacfdf8ead438" },
        { 'e', "", "1703030013b2e59bf52544244bd5b569f8f3010f248257dd" },
        { 'E', "", "17030300133152d7ccb911c6a048cb4d85256712ca10e750" },
      } },
    { /* TLS_AES_256_GCM_SHA384 */
      .version = 13, .aead = TLS_AES_256_GCM, .hash = TLS_SHA384,
      .client = "42903068594f24c956ec1e86cad47508763a898342026328bcdfd5d8792f300a8117cf6e3f5f4054c99d4e69a866045c",
      .server = "ca34c1be4d75228279df30fe9160a29a708cf9568436d2a6b60706ee6c7d11e251c6aaaac380de1267a23fda573b1f43",
      .sent = 2,
      .steps = {
        { 'c', "one", "17030300145e0fcb9c7728a217f9ab5a0a87c1cae00705d4e1" },
        { 's', "two", "1703030014d9307afe72b5cb74b44032d4349a44b733c926b5" },
        { 'c', "three", "1703030030ef4e82483621aef19615aa2dda46fd4c9d776325df350f789d67b2b7322ffb9127bc840db6ab1dffdfc62bac96885410" },
        { 'c', "four", "1703030016e1b2b9de55cabbe0d3042d037f637969d19088cc955617030300158cb5cf62abc0751e8f67254975657be366a587c120" },
        { 's', "five", "1703030016f7dd5d7ddb0d44e3f9277aeee5718adfc8aee10483b6170303001551000de33ff04ed73108c247bbc69d5355e5866f64" },
        { 'c', "six", "1703030016cbce3c78144a0e19650922755a093624d80df521fd0a17030300146ea58937b03f276601ac3d60c2d255245a561331" },
        { 's', "seven", "1703030016a0cb55bc3294d325c90c60ceb1f51aa1a7797469612f" },
        { 'e', "", "1703030013e5020f4fe060aaa03d6d9300ad1ecec131d760" },
        { 'E', "", "17030300132a745a76c7ceed9f38c0a1d0881c4a82b11915" },
      } },
    { /* TLS_CHACHA20_POLY1305_SHA256 */
      .version = 13, .aead = TLS_CHACHA20_POLY1305, .hash = TLS_SHA256,
      .client = "575b2c9580d7e48ebfaa77d172ac5b8f0c33e63dbeecddc6384c90f14bd69b2e",
      .server = "c6a68a5bb37061c1af68b779def793b43035405464e35af16b4078964f34784d",
      .sent = 2,
      .steps = {
        { 'c', "one", "170303001448dadba160ec997f39b5ca46db30acbbd076a792" },
        { 's', "two", "1703030014486b01a4946936fc1745b6307a6ef5fdf34c8e9c" },
        { 'c', "three", "170303003015461f0712ee50cf79a55265a11e55c6cc0d8b10ddfe707e85590146c86788fcd861ae2ffe054a42e293357ee762b00f" },
        { 'c', "four", "1703030016e8888258c9d07780b337591ba687fdf14dff713e02111703030015d717880b8b661ffe015369bee23efdcedf5b509816" },
        { 's', "five", "1703030016a8027b4198329348e3eb80c2eb17440431789601615917030300156b345a7613a86c08aa5220692fab52675e1c4cac7e" },
        { 'c', "six", "1703030016dca6625198357c046c776cea59efee3e9cb9c7bf9d161703030014fa670a87b654b7116dab84e72048efc744596287" },
        { 's', "seven", "1703030016b812c512b261d45540cd19f6e19bfa03a947800b3ebe" },
        { 'e', "", "170303001396385d5f2f39cb4d4a87f335a968aa579bca58" },
        { 'E', "", "170303001315f9e7114d54a37d9fe156843b10fcba9244c4" },
      } },
    { /* ECDHE-ECDSA-AES128-GCM-SHA256 */
      .version = 12, .aead = TLS_AES_128_GCM, .hash = TLS_SHA256,
      .master = "2f1a23b3e7d24a97543fa19b2cb040b85d84e36d1a287b2343f59e453799bd1dff0429a05c5ff55ec5676cf676e338e4",
      .client = "cb6a52ba63b3f092b1aebbb807bd93dc25808968ba29b14ad0f1348fdb284d4c",
      .server = "dd66e74f00413abe6a8b6f8c7f6ab7a47666a158a6c16641da20c1a44dcf1c94",
      .base = "83f4b5a64cc4e497",
      .steps = {
        { 'c', "one", "170303001bd6eba56819ed5cb5b5cd8e3f6362394cebbd68e1e92505cd1b7a6f" },
        { 's', "two", "170303001b83f4b5a64cc4e498c4afdae47bc5c628350434c290f526ef023ba0" },
        { 'c', "three", "170303001dd6eba56819ed5cb65d09d2bc15fe55e517527a34fc29b5a36a25a651c5" },
        { 'c', "four", "170303001cd6eba56819ed5cb7a5a56294ebbfc03be3377d8af1d5e6e842ac6959" },
        { 's', "five", "170303001c83f4b5a64cc4e499fa54f296aad719986302b3383b455f35c5c0ff69" },
        { 'c', "six", "170303001bd6eba56819ed5cb8928d8fbf42fb41fccfb6129a3ca51d4db496ae" },
        { 's', "seven", "170303001d83f4b5a64cc4e49add132cd6e62e15581f3c8e7fbbd4406ca945126d7e" },
        { 'e', "", "150303001ad6eba56819ed5cb9563e62ffbfd902780898d839ae8e0193ceaf" },
        { 'E', "", "150303001a83f4b5a64cc4e49b0383497bec3a4db25abe0256cca996698f3e" },
      } },
    { /* ECDHE-ECDSA-AES256-GCM-SHA384 */
      .version = 12, .aead = TLS_AES_256_GCM, .hash = TLS_SHA384,
      .master = "c49feb87c6168e22c3702bc823a5b75d0d2ba9a9acc38fa0558d179e27d0cb5b9bbc6945eb66c2e0f3c654ed0edaa3c9",
      .client = "bbf696e17d4a4a90f4037786a1e356ee9e8af8bc0e9f736fc21aa84523a35c66",
      .server = "f30d4356b77abaf01cc99cc9a8803d7f6a79dbea3fbf332e199fd60a10264aec",
      .base = "cc45a9751cb05463",
      .steps = {
        { 'c', "one", "170303001bb77eed2c21b6abf44b9f8c4b3f2d1b8a27e741ca5a6d380a90b895" },
        { 's', "two", "170303001bcc45a9751cb0546457bced610cbdd6dbaf3517dda4d1bc7804eab4" },
        { 'c', "three", "170303001db77eed2c21b6abf58f91047a4c7b6520191c246c4c7b437126e4bf63c9" },
        { 'c', "four", "170303001cb77eed2c21b6abf684c26d2be3b43049a968f297958d7c9b0db0f8bb" },
        { 's', "five", "170303001ccc45a9751cb05465883a4531e3385b40d10aefc7516a116b197fc4ad" },
        { 'c', "six", "170303001bb77eed2c21b6abf7ecd0a76ef539d5488ecab93740bcd49452cda1" },
        { 's', "seven", "170303001dcc45a9751cb0546642b29d998157c7c937bb45cd553e23ca2aefa63060" },
        { 'e', "", "150303001ab77eed2c21b6abf8079b7aff46f20fd2abb6021c9381dd05ea08" },
        { 'E', "", "150303001acc45a9751cb05467b1c4cc194a551460b9ca2e9de0e4279d29a2" },
      } },
    { /* ECDHE-ECDSA-CHACHA20-POLY1305 */
      .version = 12, .aead = TLS_CHACHA20_POLY1305, .hash = TLS_SHA256,
      .master = "7536e2e07f4a7710f2bfa2751626c4cd896d261668f4dfffd2bad97f353f587b136b718d7e7f58103c3cbb3f7ff27c58",
      .client = "05626492cd8846bab1857887352cf68e02db8327ee69b786ae544149a0e2c983",
      .server = "3c585a7f20dad2916f41dde467002d921305792ab58e61b22920e5b63d456f57",
      .steps = {
        { 'c', "one", "170303001357c1755b6fd978cb48a5a1c563553a4f8a1381" },
        { 's', "two", "17030300131e6ecba7fd8e611506932bfce7d3c728d7fd7c" },
        { 'c', "three", "1703030015cc7ff5246cf332346c392080d2c132e817f5731501" },
        { 'c', "four", "170303001459d8f74d4f68af46488b670741c5a86010b4fbed" },
        { 's', "five", "170303001465eb521dc50889bb1b322fb97704f4eecf894e90" },
        { 'c', "six", "1703030013b237d93e4346b651368d9787de4ed7b5e204f4" },
        { 's', "seven", "17030300158b0180e10e3147c9c015d35871f20e01aa75efea4b" },
        { 'e', "", "1503030012daa844ae89480ffca2cf9c450ca1b8112fa1" },
        { 'E', "", "15030300128562d3cb648ceb30c16001ea3e1cf7cdb450" },
      } },
};

static struct tls_work work;
static struct tls_key_slot slots[4];

static size_t hex(const char *text, uint8_t *out)
{
    size_t n = 0;
    for (; text && text[2 * n]; n++) {
        const char byte[3] = { text[2 * n], text[2 * n + 1], 0 };
        out[n] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return n;
}

static void init(struct tls_rec *r, const struct transcript *t)
{
    uint8_t client[TLS_SECRET_MAX], server[TLS_SECRET_MAX], master[TLS_MASTER_LEN], base[8] = { 0 };
    struct tls_keys c, s;
    hex(t->client, client);
    hex(t->server, server);
    if (t->version == 13) {
        tls_rec_init_13(r, t->aead, client, 0, server, t->sent);
        return;
    }
    uint64_t nonce = 0;
    hex(t->master, master);
    hex(t->base, base);
    for (int i = 0; i < 8; i++)
        nonce = nonce << 8 | base[i];
    tls_keys_block(work.crypto, t->aead, t->hash, master, client, server, &c, &s);
    tls_rec_init_12(r, t->aead, &c, 1, &s, 1, nonce);
}

static void take_step(struct tls_rec *r, const struct step *s)
{
    uint8_t records[200], out[200], plain[200];
    size_t len = hex(s->records, records), used = 0, n = 0;
    struct wr w = { out, sizeof out, 0 };
    struct span text = span_str(s->text);
    struct tls_opened o = { 0 };
    if (s->who == 's')
        assert_int_equal(tls_rec_seal(r, &work, &text, &w), ERR_OK);
    else if (s->who == 'E')
        assert_int_equal(tls_rec_alert(r, &work, TLS_CLOSE_NOTIFY, &w), ERR_OK);
    if (s->who == 's' || s->who == 'E') {
        assert_int_equal(w.len, len);
        assert_memory_equal(out, records, len);
        return;
    }
    for (; used < len; used += o.used) {
        assert_int_equal(
            tls_rec_open(r, &work, span_of(records + used, len - used), plain + n, sizeof plain - n, &o),
            ERR_OK);
        n += o.n;
    }
    assert_int_equal(o.eof, s->who == 'e');
    assert_true(span_eq(span_of(plain, n), text));
}

static void each_byte_is_what_openssl_sent_and_got(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tls_rec r;
        memset(slots, 0, sizeof slots);
        init(&r, &all[i]);
        for (const struct step *s = all[i].steps; s->who; s++)
            take_step(&r, s);
        tls_rec_fini(&r, &work);
    }
}

/* The same with each byte of what the client sends changed, one after the other: nothing of that comes out.
 */
static void each_changed_byte_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint8_t records[200], plain[200];
        size_t len = hex(all[i].steps[0].records, records);
        for (size_t at = 0; at < len; at++) {
            struct tls_rec r;
            struct tls_opened o;
            memset(slots, 0, sizeof slots);
            init(&r, &all[i]);
            records[at] ^= 0x20;
            enum err e = tls_rec_open(&r, &work, span_of(records, len), plain, sizeof plain, &o);
            assert_true(e == ERR_PROTO || (e == ERR_AGAIN && (at == 3 || at == 4))); /* a longer one */
            assert_int_equal(o.n, 0);
            records[at] ^= 0x20;
            tls_rec_fini(&r, &work);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_byte_is_what_openssl_sent_and_got),
        cmocka_unit_test(each_changed_byte_is_found),
    };
    work.slots = slots;
    work.slots_nr = 4;
    if (tls_crypto_new(&work.crypto) != ERR_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tls_crypto_free(work.crypto);
    return failed;
}
