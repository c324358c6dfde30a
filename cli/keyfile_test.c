/* cli/keyfile_test.c - key files: modes, damage, paper; trust records in a directory. */
#include "cli/keyfile.h"

#include "base/text.h"
#include "cli/commands.h"
#include "cli/file.h"
#include "port/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

const struct command *const cli_commands[] = { NULL }; /* main.c's */

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/roost-keys-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

static void test_round_trip_and_modes(void **state)
{
    (void)state;
    struct keyfile k, got;
    struct stat st;
    uint8_t seed[ED25519_KEY_LEN] = { 1, 2, 3 };
    char *path = path_join(dir, "root-1.key");
    keyfile_make(&k, "root", seed);
    assert_int_equal(keyfile_write(&k, path), CLI_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(keyfile_write(&k, path), CLI_USAGE); /* never overwritten */
    assert_int_equal(keyfile_read(&got, path), CLI_OK);
    assert_memory_equal(&got, &k, sizeof k);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(keyfile_read(&got, path), CLI_USAGE);
    free(path);
}

static void test_a_damaged_file_is_refused(void **state)
{
    (void)state;
    struct keyfile k, got;
    uint8_t seed[ED25519_KEY_LEN] = { 9 };
    char *path = path_join(dir, "damaged.key");
    struct file_bytes f;
    keyfile_make(&k, "release", seed);
    assert_int_equal(keyfile_write(&k, path), CLI_OK);
    assert_int_equal(file_read(path, 4096, &f), ERR_OK);
    char *digit = strstr((char *)f.p, "seed=") + 5;
    for (unsigned i = 0; i < 64; i++) { /* every digit of the seed */
        char was = digit[i];
        digit[i] = was == '7' ? '8' : '7';
        assert_int_equal(file_save(path, span_of(f.p, f.n), 0600, false), ERR_OK);
        assert_int_equal(keyfile_read(&got, path), CLI_USAGE);
        digit[i] = was;
    }
    for (size_t n = 0; n + 1 < f.n; n += 7) { /* cut */
        assert_int_equal(file_save(path, span_of(f.p, n), 0600, false), ERR_OK);
        assert_int_equal(keyfile_read(&got, path), CLI_USAGE);
    }
    free(f.p);
    free(path);
}

static void test_paper(void **state)
{
    (void)state;
    struct keyfile k;
    uint8_t seed[ED25519_KEY_LEN], back[ED25519_KEY_LEN];
    char paper[96];
    port_crypto.random(seed, sizeof seed);
    keyfile_make(&k, "root", seed);
    keyfile_paper(&k, paper);
    assert_int_equal(strlen(paper), 9 * 8 + 8);
    assert_int_equal(keyfile_from_paper(paper, back), ERR_OK);
    assert_memory_equal(back, seed, sizeof seed);
    for (size_t i = 0; i < strlen(paper); i++) { /* every slip of the pen */
        char was = paper[i];
        if (was == ' ')
            continue;
        paper[i] = was == 'a' ? 'b' : 'a';
        assert_int_equal(keyfile_from_paper(paper, back), ERR_VERIFY);
        paper[i] = 'x';
        assert_int_equal(keyfile_from_paper(paper, back), ERR_PROTO);
        paper[i] = was;
    }
    paper[strlen(paper) - 1] = 0;
    assert_int_equal(keyfile_from_paper(paper, back), ERR_PROTO);
    assert_int_equal(keyfile_from_paper("", back), ERR_PROTO);
}

/* Runs a command as main does. */
static int run(const struct command *table, const char *name, char **argv)
{
    struct cli c = { .json = true };
    struct args a;
    char why[128];
    int argc = 0, rc;
    while (argv[argc])
        argc++;
    while (strcmp(table->name, name) != 0)
        table++;
    assert_true(args_parse(&a, table->opts, cli_common_opts, argc, argv, why, sizeof why));
    rc = table->run(&c, &a);
    args_free(&a);
    return rc;
}
#define RUN(table, name, ...) run(table, name, (char *[]){ __VA_ARGS__, NULL })

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void test_a_fleets_life(void **state)
{
    (void)state;
    static struct trust_file one, two, three;
    char *keys = path_join(dir, "fleet"), key_id[2 * KEY_ID_LEN + 1] = "";
    struct stat st;
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", HEX_A, "--home", "hub.example:443"),
                     CLI_OK);
    assert_int_equal(stat(keys, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", HEX_A),
                     CLI_USAGE); /* there is one */
    assert_int_equal(trust_dir_newest(keys), 1);
    assert_int_equal(trust_dir_read(&one, keys, 1), CLI_OK);
    assert_int_equal(one.record.root_nr, 3);
    assert_int_equal(one.record.root_threshold, 2);
    assert_int_equal(one.record.release_nr, 1);
    assert_true(span_eq(one.record.home[0].address, SPAN("hub.example:443")));

    /* another director and home; roots and release keys stay */
    assert_int_equal(
        RUN(keys_commands, "keys trust", keys, "--director", HEX_B, "--home", "new.example:8443#ca=" HEX_A),
        CLI_OK);
    assert_int_equal(trust_dir_read(&two, keys, 2), CLI_OK);
    assert_int_equal(trust_record_accept(&port_crypto, &one.record, &two.record, &two.env), ERR_OK);
    assert_int_equal(two.record.director_nr, 1);
    assert_int_equal(two.record.director[0].pub[0], 0xbb);
    assert_int_equal(two.record.home[0].ca_pin[0], 0xaa);
    assert_memory_equal(two.record.release[0].pub, one.record.release[0].pub, ED25519_KEY_LEN);

    /* a new root comes, an old one is revoked: signed by old and new */
    struct wr w = { (uint8_t *)key_id, 2 * KEY_ID_LEN, 0 };
    hex_encode(&w, span_of(two.record.root[0].id, KEY_ID_LEN));
    assert_int_equal(RUN(keys_commands, "keys trust", keys, "--new-root", "--revoke", key_id, "--add-release",
                         HEX_A ":pump"),
                     CLI_OK);
    assert_int_equal(trust_dir_read(&three, keys, 3), CLI_OK);
    assert_int_equal(trust_record_accept(&port_crypto, &two.record, &three.record, &three.env), ERR_OK);
    assert_int_equal(trust_record_accept(&port_crypto, &one.record, &three.record, &three.env), ERR_STALE);
    assert_int_equal(three.record.root_nr, 3);
    assert_true(trust_key_revoked(&three.record, two.record.root[0].id));
    assert_true(span_eq(three.record.release[1].product_prefix, SPAN("pump")));

    /* without enough root keys nothing is signed */
    for (unsigned i = 1; i <= 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "root-%u.key", i);
        char *path = path_join(keys, name);
        assert_int_equal(unlink(path), 0);
        free(path);
    }
    assert_int_equal(RUN(keys_commands, "keys trust", keys, "--director", HEX_A), CLI_USAGE);
    assert_int_equal(trust_dir_newest(keys), 3);
    free(keys);
}

static void test_refusals(void **state)
{
    (void)state;
    char *keys = path_join(dir, "refused");
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", "abc"), CLI_USAGE);
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", HEX_A, "--roots", "6"), CLI_USAGE);
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", HEX_A, "--threshold", "4"),
                     CLI_USAGE);
    assert_int_equal(RUN(keys_commands, "keys init", keys, "--director", HEX_A, "--home", "nowhere"),
                     CLI_USAGE);
    assert_int_equal(RUN(keys_commands, "keys trust", keys), CLI_USAGE);
    assert_int_equal(RUN(keys_commands, "keys show", keys), CLI_USAGE);
    assert_false(is_dir(keys)); /* nothing was made on the way */
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_and_modes),
        cmocka_unit_test(test_a_damaged_file_is_refused),
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_a_fleets_life),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
