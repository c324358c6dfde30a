/* cli/profile_test.c - profiles, data directories and connection strings; errors that say where. */
#include "cli/profile.h"

#include "cli/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CONNECTION "HostName=hub.example;SharedAccessKeyName=iothubowner;SharedAccessKey=c2VjcmV0"

static char why[1024];

static void test_a_whole_profile(void **state)
{
    (void)state;
    struct profile p;
    assert_int_equal(profile_parse(&p,
                                   "# of the operator\nconnection-string=" CONNECTION
                                   "\r\n\nhttps-port=8443\nca-file=ca.pem\naddress=127.0.0.1",
                                   "/srv/hub", why, sizeof why),
                     ERR_OK);
    assert_string_equal(p.host, "hub.example");
    assert_string_equal(p.policy, "iothubowner");
    assert_int_equal(p.key_len, 6);
    assert_memory_equal(p.key, "secret", 6);
    assert_int_equal(p.https_port, 8443);
    assert_string_equal(p.ca_file, "/srv/hub/ca.pem");
    assert_string_equal(p.address, "127.0.0.1");
    profile_free(&p);
}

static void test_defaults(void **state)
{
    (void)state;
    struct profile p;
    assert_int_equal(
        profile_parse(&p, "connection-string=" CONNECTION "\nca-file=/abs/ca.pem\n", "/srv", why, sizeof why),
        ERR_OK);
    assert_int_equal(p.https_port, 443);
    assert_string_equal(p.ca_file, "/abs/ca.pem");
    assert_null(p.address);
    profile_free(&p);
}

static void test_a_host_name_may_have_a_port(void **state)
{
    (void)state;
    static const struct {
        const char *given, *host;
        uint16_t port;
    } of[] = { { "hub.example:8443", "hub.example", 8443 },
               { "10.0.0.1:1", "10.0.0.1", 1 },
               { "[::1]:8443", "::1", 8443 },
               { "[::1]", "::1", 443 },
               { "fe80::1", "fe80::1", 443 },
               { "hub.example", "hub.example", 443 } };
    static const char *const bad[] = { "hub:", "hub:0", "hub:65536", "hub:x", "[::1", "[::1]x", ":443" };
    char text[256];
    struct profile p;
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        snprintf(text, sizeof text, "HostName=%s;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0",
                 of[i].given);
        assert_int_equal(profile_from(&p, text, why, sizeof why), ERR_OK);
        assert_string_equal(p.host, of[i].host);
        assert_int_equal(p.https_port, of[i].port);
        profile_free(&p);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "HostName=%s;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0", bad[i]);
        assert_int_not_equal(profile_from(&p, text, why, sizeof why), ERR_OK);
        assert_non_null(strstr(why, "HostName"));
        profile_free(&p);
    }
}

static void test_errors_name_the_line_and_no_secret(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line;
    } bad[] = {
        { "connection-string=" CONNECTION "\nhttps-port=0\n", "line 2" },
        { "connection-string=" CONNECTION "\nhttps-port=99999\n", "line 2" },
        { "\n\nnonsense\n", "line 3" },
        { "connection-string=" CONNECTION "\ncolour=red\n", "colour" },
        { "connection-string=HostName=h;SharedAccessKeyName=p;SharedAccessKey=c2VjcmV0!\n", "line 1" },
        { "connection-string=HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0\n", "device" },
        { "connection-string=HostName=h\n", "line 1" },
        { "https-port=443\n", "connection-string" },
        { "", "connection-string" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct profile p;
        assert_int_not_equal(profile_parse(&p, bad[i].text, NULL, why, sizeof why), ERR_OK);
        assert_non_null(strstr(why, bad[i].line));
        assert_null(strstr(why, "c2VjcmV0"));
    }
}

static void test_every_cut(void **state)
{
    (void)state;
    const char *whole =
        "connection-string=" CONNECTION "\nhttps-port=8443\nca-file=ca.pem\naddress=127.0.0.1\n";
    for (size_t n = 0; n <= strlen(whole); n++) {
        struct profile p;
        char *cut = strndup(whole, n);
        if (profile_parse(&p, cut, "/srv", why, sizeof why) == ERR_OK) {
            assert_true(n > strlen("connection-string=HostName=hub.example"));
            assert_string_equal(p.host, "hub.example");
            profile_free(&p);
        } else {
            assert_true(why[0]);
        }
        free(cut);
    }
}

static void test_where_hub_leads(void **state)
{
    (void)state;
    char dir[] = "/tmp/roost-profile-XXXXXX", path[256];
    struct profile p;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(profile_from(&p, CONNECTION, why, sizeof why), ERR_OK);
    assert_string_equal(p.host, "hub.example");
    profile_free(&p);

    assert_int_equal(profile_from(&p, dir, why, sizeof why), ERR_NOTFOUND);
    assert_non_null(strstr(why, "roostd init"));
    snprintf(path, sizeof path, "%s/operator.profile", dir);
    assert_int_equal(file_save(path, SPAN("connection-string=" CONNECTION "\nca-file=ca.pem\n"), 0600, true),
                     ERR_OK);
    assert_int_equal(profile_from(&p, dir, why, sizeof why), ERR_OK); /* the directory */
    assert_memory_equal(p.ca_file, dir, strlen(dir));
    profile_free(&p);
    assert_int_equal(profile_from(&p, path, why, sizeof why), ERR_OK); /* the file */
    profile_free(&p);
    assert_int_equal(file_save(path, SPAN("oops\n"), 0600, false), ERR_OK);
    assert_int_not_equal(profile_from(&p, path, why, sizeof why), ERR_OK);
    assert_non_null(strstr(why, "operator.profile: line 1"));
    unlink(path);
    rmdir(dir);
}

static void test_files_are_written_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/roost-file-XXXXXX", path[256];
    struct file_bytes f;
    struct stat st;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    assert_int_equal(file_read(path, 10, &f), ERR_NOTFOUND);
    assert_int_equal(file_save(path, SPAN("one"), 0600, true), ERR_OK);
    assert_int_equal(file_save(path, SPAN("two"), 0600, true), ERR_EXISTS);
    assert_int_equal(file_read(path, 3, &f), ERR_OK);
    assert_int_equal(f.n, 3);
    assert_string_equal((char *)f.p, "one");
    assert_int_equal(f.mode, 0600);
    free(f.p);
    assert_int_equal(file_read(path, 2, &f), ERR_LIMIT);
    assert_int_equal(file_read(dir, 2, &f), ERR_IO);
    assert_int_equal(file_save(path, SPAN("three"), 0644, false), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 5);
    assert_int_equal(st.st_mode & 0777, 0644);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* nothing was left beside it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_profile),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_a_host_name_may_have_a_port),
        cmocka_unit_test(test_errors_name_the_line_and_no_secret),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_where_hub_leads),
        cmocka_unit_test(test_files_are_written_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
