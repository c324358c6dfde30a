/* tests/fault/http.c - requests when memory runs out: every allocation that the hub makes for one fails once.
 * It is answered that memory is short, by the listener or by the front, or its connection ends; the next
 * request is answered as ever. */
#include "hub/conn/http_conn.h"
#include "hub/conn/net_fixture.h"
#include "hub/domain/metrics.h"
#include "hub/front/roost_http/roost_http.h"
#include "port/crypto.h"
#include "tests/fault/layer/faults.h"

static uint64_t wall(void)
{
    return 1795294710000u;
}

/* What was answered, in `code`; "" when the connection ended without a word. */
static void ask(struct net_fixture *f, uint64_t k, char code[64], unsigned *status)
{
    static const char text[] = "GET /artifacts/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    char answer[4096];
    int fd = net_connect(f);
    faults_arm(FAULT_ALLOC, k, 1, ENOMEM);
    net_write(f, fd, text, sizeof text - 1);
    net_read_all(f, fd, answer, sizeof answer);
    close(fd);
    *status = 0;
    code[0] = 0;
    if (answer[0]) {
        const char *at = strstr(answer, "\"code\":\"");
        assert_int_equal(sscanf(answer, "HTTP/1.1 %3u ", status), 1);
        assert_non_null(at);
        assert_int_equal(sscanf(at, "\"code\":\"%63[a-z-]\"", code), 1);
    }
}

static void every_allocation_may_fail(void **state)
{
    static struct hub_metrics metrics;
    struct hub hub = { .crypto = &port_crypto, .wall_ms = wall, .metrics = &metrics };
    struct roost_http *front;
    struct net_fixture f;
    char code[64];
    unsigned status, front_nr = 0, listener_nr = 0;
    uint64_t seen = 0;
    (void)state;
    if (!faults_has_alloc())
        skip();
    assert_int_equal(roost_http_new(&front, &hub, NULL, NULL), ERR_OK);
    net_start(&f, NULL, NULL, &http_proto, roost_http_plain_routes(front));
    for (uint64_t k = 0; !k || k <= seen; k++) { /* first all are counted */
        ask(&f, k ? k : UINT64_MAX, code, &status);
        if (!k)
            seen = faults_seen();
        faults_disarm();
        if (!strcmp(code, "out-of-memory"))
            front_nr++;
        else if (!strcmp(code, "no-memory"))
            listener_nr++;
        else if (k)
            assert_true(!code[0] || !strcmp(code, "artifact-not-found"));
        assert_true(!status ||
                    status ==
                        (k && (!strcmp(code, "out-of-memory") || !strcmp(code, "no-memory")) ? 503 : 404));
        ask(&f, UINT64_MAX, code, &status);
        faults_disarm();
        assert_int_equal(status, 404);
        assert_string_equal(code, "artifact-not-found");
    }
    assert_true(seen > 3);
    assert_true(front_nr);
    assert_true(listener_nr);
    NET_UNTIL(&f, net_stats(&f).open == 0);
    net_stop(&f);
    roost_http_free(front);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation_may_fail) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
