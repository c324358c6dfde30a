/* tests/fuzz/fuzz_device_engine.c - the engine against a hub that answers anything: HTTP bodies, statuses,
 * MQTT bytes, broken connections, at any time. Hashes are all zero and every signature is good, so that the
 * code behind them is reached too; the seeds hold a whole life in these terms.
 * Input: operations [op u8] with operands, see below. */
#include "device/dev.h"
#include "device/slot.h"

#include "port/crypto.h"
#include "port/flash_sim.h"

#include <assert.h>

#define SECTOR 4096u

static uint8_t cells[16 * SECTOR + 2 * 8 * SECTOR];
static struct roost_dev dev;
static uint8_t chunk[4096], page[2048], packet[1024], out[2048];

static void zero_random(uint8_t *p, size_t n)
{
    memset(p, 0, n);
}
static void zero_final(struct sha256 *h, uint8_t sum[SHA256_LEN])
{
    (void)h;
    memset(sum, 0, SHA256_LEN);
}
static void no_update(struct sha256 *h, struct span s)
{
    (void)h;
    (void)s;
}
static bool good_signature(const uint8_t pub[ED25519_KEY_LEN], const struct span *parts, size_t nr,
                           const uint8_t sig[ED25519_SIG_LEN])
{
    (void)pub;
    (void)parts;
    (void)nr;
    (void)sig;
    return true;
}
static void cheap_sign(const uint8_t seed[ED25519_KEY_LEN], const struct span *parts, size_t nr,
                       uint8_t sig[ED25519_SIG_LEN])
{
    (void)seed;
    (void)parts;
    (void)nr;
    memset(sig, 0, ED25519_SIG_LEN);
}
static void cheap_public(const uint8_t seed[ED25519_KEY_LEN], uint8_t pub[ED25519_KEY_LEN])
{
    memcpy(pub, seed, ED25519_KEY_LEN);
}
static bool sample(void *ctx, struct wr *body)
{
    (void)ctx;
    wr_str(body, "{}");
    return true;
}
static void on_message(void *ctx, struct span props, struct span body)
{
    volatile uint8_t sum = 0;
    (void)ctx;
    for (size_t i = 0; i < props.n; i++)
        sum ^= props.p[i];
    for (size_t i = 0; i < body.n; i++)
        sum ^= body.p[i];
    (void)sum;
}

static const struct roost_dev_config cfg = { .bootstrap_url = { (const uint8_t *)"https://h", 9 },
                                             .product = { (const uint8_t *)"p", 1 },
                                             .hw_class = 1,
                                             .telemetry_every_ms = 1000,
                                             .allow_plain_http = true };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned status[8] = { 200, 204, 202, 206, 401, 404, 429, 503 };
    struct roost_dev_mem mem = { chunk, page, packet, sizeof chunk, sizeof page, sizeof packet };
    struct crypto_ops crypto = port_crypto;
    struct roost_dev_port port = { &crypto, NULL, sample, on_message, NULL, NULL };
    struct flash_geometry geo;
    struct flash_sim sim;
    struct boot_result boot;
    struct roost_dev_exchange x;
    struct roost_dev_link l;
    struct rd r = rd_of(span_of(data, size));
    uint64_t now = 1000;
    bool open = false, ask = false;
    uint32_t len = flash_geometry_layout(&geo, SECTOR, 256, 8 * SECTOR);
    enum err e;
    crypto.random = zero_random;
    crypto.sha256_update = no_update;
    crypto.sha256_final = zero_final;
    crypto.ed25519_verify = good_signature;
    crypto.ed25519_sign = cheap_sign;
    crypto.ed25519_public = cheap_public;
    memset(cells, 0, sizeof cells);
    flash_sim_init(&sim, &geo, cells, len, 1);
    e = boot_run(&sim.base, &crypto, RESET_POWER, &boot);
    assert(e == ERR_OK);
    e = roost_dev_init(&dev, &cfg, &sim.base, &mem, &port, &boot, now, 1795294710);
    assert(e == ERR_OK);
    while (!r.bad && r.n) {
        uint8_t op = rd_u8(&r);
        struct span s;
        roost_dev_tick(&dev, now);
        ask = roost_dev_link(&dev, &l);
        if (!ask && open) {
            roost_dev_link_closed(&dev, ROOST_DEV_DONE, now);
            open = false;
        }
        if (roost_dev_wants_reboot(&dev) || op == 7) { /* also at any other moment */
            e = boot_run(&sim.base, &crypto, RESET_SOFT, &boot);
            assert(e == ERR_OK);
            e = roost_dev_init(&dev, &cfg, &sim.base, &mem, &port, &boot, now, 1795294710);
            assert(e == ERR_OK);
            open = false;
            continue;
        }
        switch (op & 7) {
        case 0: /* time: up to four and a half minutes */
            now += rd_u8(&r) * 1000u + 1;
            break;
        case 1: /* an answer: [status u8][length u16][body], in pieces of 1 + op >> 3 */
        case 2: /* the same, of zeros: an artifact */
        {
            unsigned st = status[rd_u8(&r) & 7];
            size_t n = rd_le16(&r), step = 1u + (op >> 3) * 37u;
            static const uint8_t zeros[65536];
            s = (op & 7) == 2 ? span_of(zeros, n) : rd_take(&r, n < r.n ? n : r.n);
            if (!roost_dev_exchange(&dev, &x))
                break;
            assert(x.url.n && x.id);
            roost_dev_exchange_status(&dev, x.id, st, 0);
            for (size_t at = 0; at < s.n; at += step)
                roost_dev_exchange_body(&dev, x.id, span_of(s.p + at, s.n - at < step ? s.n - at : step));
            roost_dev_exchange_end(&dev, x.id, ROOST_DEV_DONE, now);
            break;
        }
        case 3: /* no answer */
            if (roost_dev_exchange(&dev, &x))
                roost_dev_exchange_end(&dev, x.id, (enum roost_dev_result)(op >> 3 & 3), now);
            break;
        case 4: /* the link opens */
            if (ask && !open) {
                roost_dev_link_opened(&dev, now);
                open = true;
            }
            break;
        case 5: /* bytes on it: [length u8] */
            s = rd_take(&r, rd_u8(&r));
            if (open)
                roost_dev_link_bytes(&dev, s, now);
            break;
        case 6:
            if (op & 8 && open) {
                roost_dev_link_closed(&dev, (enum roost_dev_result)(op >> 4 & 3), now);
                open = false;
            } else if (open) {
                size_t n = roost_dev_link_take(&dev, out, op & 128 ? 16 : sizeof out);
                assert(n <= sizeof out);
            } else {
                roost_dev_app_health(&dev, op & 16);
                (void)roost_dev_publish(&dev, SPAN("a=b"), SPAN("c"));
            }
            break;
        default:
            break;
        }
    }
    assert(sim.refused_nr == 0);
    return 0;
}
