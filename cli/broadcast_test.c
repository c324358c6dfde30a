/* cli/broadcast_test.c - what the counts of a message to all add up to. */
#include "cli/broadcast.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

const struct command *const cli_commands[] = { NULL }; /* main.c's */

static void test_verdicts(void **state)
{
    static const struct {
        const char *counts, *line;
        int code;
    } cases[] = {
        { "{\"devices\":3,\"pending\":3}", "0 of 3 delivered, 3 pending", -1 },
        { "{\"devices\":3,\"pending\":1,\"rejected\":2}", "0 of 3 delivered, 1 pending, 2 refused", -1 },
        { "{\"devices\":3,\"delivered\":3}", "3 of 3 delivered", CLI_OK },
        { "{\"devices\":0}", "0 of 0 delivered", CLI_OK },
        { "{\"devices\":3,\"delivered\":2,\"purged\":1}", "2 of 3 delivered, 1 purged", CLI_OK },
        { "{\"devices\":3,\"delivered\":2,\"expired\":1}", "2 of 3 delivered, 1 expired", CLI_FAILED },
        { "{\"devices\":4,\"delivered\":2,\"rejected\":1,\"deliveryCountExceeded\":1}",
          "2 of 4 delivered, 2 refused", CLI_FAILED },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct broadcast_counts c;
        char line[256];
        json_t *doc = json_loads(cases[i].counts, 0, NULL);
        assert_non_null(doc);
        broadcast_counts_of(doc, &c);
        json_decref(doc);
        broadcast_line(&c, line, sizeof line);
        assert_string_equal(line, cases[i].line);
        assert_int_equal(broadcast_verdict(&c), cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_verdicts) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
