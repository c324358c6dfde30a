/* bench/records.c - TLS records by themselves: what one costs a worker with many connections, each of which
 * gets one record and answers with one, in turn, as devices do.
 *
 *   records [CONNECTIONS [BYTES [SUITE]]]     (1000, 128, all of 0 to 2) */
#include "core/tls/tls_record.h"
#include "port/tls_crypto.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RECORDS = 100000, BATCHES = 5, BYTES_MAX = 16384, SLOTS = 4096, DEVICE_SLOTS = 1 << 18 };

struct pair {
    struct tls_rec hub, device;
};

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void failed(const char *what)
{
    fprintf(stderr, "records: %s\n", what);
    exit(1);
}

/* Seconds of opening and of sealing one record. */
static void measure(enum tls_aead a, size_t nr, size_t bytes, double best[2])
{
    struct tls_work hub = { 0 }, device = { 0 };
    struct pair *all = calloc(nr, sizeof *all);
    size_t room = bytes + TLS_RECORD_HEAD_MAX + TLS_RECORD_TAIL_MAX;
    uint8_t *wire = malloc(nr * room), *plain = calloc(1, BYTES_MAX + 1), *out = malloc(BYTES_MAX + 512);
    hub.slots = calloc(SLOTS, sizeof *hub.slots);
    hub.slots_nr = SLOTS;
    device.slots = calloc(DEVICE_SLOTS, sizeof *device.slots);
    device.slots_nr = DEVICE_SLOTS;
    if (!all || !wire || !plain || !out || !hub.slots || !device.slots || tls_crypto_new(&hub.crypto) ||
        tls_crypto_new(&device.crypto))
        failed("memory");
    for (size_t i = 0; i < nr; i++) {
        uint8_t secret[2][TLS_SECRET_MAX];
        for (size_t k = 0; k < sizeof secret; k++)
            ((uint8_t *)secret)[k] = (uint8_t)(k * 31 + i * 7 + (i >> 8));
        tls_rec_init_13(&all[i].hub, a, secret[0], 0, secret[1], 0);
        tls_rec_init_13(&all[i].device, a, secret[1], 0, secret[0], 0);
    }
    size_t rounds = nr < RECORDS ? RECORDS / nr : 1;
    best[0] = best[1] = 1e9;
    for (int b = 0; b < BATCHES; b++) {
        double spent[2] = { 0, 0 };
        for (size_t r = 0; r < rounds; r++) {
            size_t len = 0;
            for (size_t i = 0; i < nr; i++) {
                struct span in = span_of(plain, bytes);
                struct wr w = { wire + i * room, room, 0 };
                if (tls_rec_seal(&all[i].device, &device, &in, &w))
                    failed("sealing");
                len = w.len;
            }
            double at = cpu_s();
            for (size_t i = 0; i < nr; i++) {
                struct tls_opened o;
                if (tls_rec_open(&all[i].hub, &hub, span_of(wire + i * room, len), out, BYTES_MAX + 512,
                                 &o) ||
                    o.n != bytes)
                    failed("opening");
            }
            spent[0] += cpu_s() - at;
            at = cpu_s();
            for (size_t i = 0; i < nr; i++) {
                struct span in = span_of(plain, bytes);
                struct wr w = { out, BYTES_MAX + 512, 0 };
                if (tls_rec_seal(&all[i].hub, &hub, &in, &w))
                    failed("sealing");
            }
            spent[1] += cpu_s() - at;
            /* the device's side is not opened: its numbers do not matter here */
        }
        for (int k = 0; k < 2; k++)
            if (spent[k] / (double)nr / (double)rounds < best[k])
                best[k] = spent[k] / (double)nr / (double)rounds;
    }
    tls_crypto_free(hub.crypto);
    tls_crypto_free(device.crypto);
    free(hub.slots);
    free(device.slots);
    free(all);
    free(wire);
    free(plain);
    free(out);
}

int main(int argc, char **argv)
{
    static const char *const names[TLS_AEADS] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };
    size_t nr = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000,
           bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 128;
    if (!nr || nr > 1000000 || !bytes || bytes > BYTES_MAX)
        failed("records [CONNECTIONS [BYTES up to 16384 [SUITE]]]");
    for (int a = 0; a < TLS_AEADS; a++) {
        if (argc > 3 && atoi(argv[3]) != a)
            continue;
        double best[2];
        measure((enum tls_aead)a, nr, bytes, best);
        printf("%-18s %zu connections, %zu bytes: opened in %.0f ns, sealed in %.0f ns\n", names[a], nr,
               bytes, best[0] * 1e9, best[1] * 1e9);
    }
    return 0;
}
