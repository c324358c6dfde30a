/* device/agent/supervisor_test.c - real child processes: started, restarted, asked, stopped, killed. */
#include "device/agent/supervisor.h"

#include "port/clock.h"

#include <ftw.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
    struct supervisor s;
    struct agent_app_config cfg;
    char dir[64];
    int signal_fd;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    sigset_t set;
    snprintf(w->dir, sizeof w->dir, "/tmp/roost-app-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    w->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    assert_true(w->signal_fd >= 0);
    w->cfg = (struct agent_app_config){ .health_every_ms = 20,
                                        .health_timeout_ms = 5000,
                                        .settle_ms = 30,
                                        .stop_timeout_ms = 10000,
                                        .health_tries = 2 };
    supervisor_init(&w->s, &w->cfg);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = (struct world *)*state;
    supervisor_fini(&w->s);
    close(w->signal_fd);
    nftw(w->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static void script(struct world *w, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/app", w->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", text);
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
}

static void run(struct world *w, bool ask_health)
{
    static const char *const env[] = { "ROOST_SLOT=a", "ROOST_VERSION=1.2.3", NULL };
    assert_int_equal(supervisor_run(&w->s, w->dir, env, ask_health, clock_mono_ms()), ERR_OK);
}

/* One turn as the agent makes it; fails the test when nothing ever happens. */
static void turn(struct world *w)
{
    uint64_t now = clock_mono_ms(), at = supervisor_deadline(&w->s);
    struct pollfd p = { .fd = w->signal_fd, .events = POLLIN };
    struct signalfd_siginfo info;
    int ms = at <= now ? 0 : at - now > 20000 ? 20000 : (int)(at - now);
    int n = poll(&p, 1, ms);
    assert_true(n > 0 || ms < 20000);
    while (read(w->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        continue;
    now = clock_mono_ms();
    supervisor_reap(&w->s, now);
    supervisor_tick(&w->s, now);
}
#define UNTIL(holds)                                                                                         \
    while (!(holds))                                                                                         \
    turn(w)

static bool exists(const struct world *w, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", w->dir, name);
    return access(path, F_OK) == 0;
}

/* For what a child does by itself, without a signal to us. */
static void wait_for_file(struct world *w, const char *name)
{
    for (int i = 0; i < 2000 && !exists(w, name); i++)
        poll(NULL, 0, 10);
    assert_true(exists(w, name));
}

static void test_runs_in_its_folder_with_its_environment(void **state)
{
    struct world *w = (struct world *)*state;
    setenv("NOTIFY_SOCKET", "/secret", 1);
    setenv("ROOST_SLOT", "outer", 1);
    script(w, "echo \"$ROOST_SLOT $ROOST_VERSION $NOTIFY_SOCKET $(pwd)\" > out.new; mv out.new out; exec "
              "sleep 1000");
    run(w, false);
    assert_true(w->s.app.pid > 0);
    wait_for_file(w, "out");
    char path[128], line[256], want[256];
    snprintf(path, sizeof path, "%s/out", w->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    snprintf(want, sizeof want, "a 1.2.3  %s\n", w->dir);
    assert_string_equal(line, want);
    assert_int_equal(getpgid(w->s.app.pid), w->s.app.pid);
    supervisor_stop(&w->s, clock_mono_ms());
    UNTIL(supervisor_is_idle(&w->s));
    assert_true(WIFSIGNALED(w->s.app.status) && WTERMSIG(w->s.app.status) == SIGTERM);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("ROOST_SLOT");
}

static void test_one_that_dies_is_started_again_later_and_later(void **state)
{
    struct world *w = (struct world *)*state;
    script(w, "exit 3");
    run(w, false);
    UNTIL(w->s.died);
    assert_int_equal(WEXITSTATUS(w->s.app.status), 3);
    assert_int_equal(w->s.deaths, 1);
    uint64_t first = w->s.start_at;
    UNTIL(w->s.deaths == 2);
    uint64_t now = clock_mono_ms();
    assert_true(w->s.start_at > first);
    assert_true(w->s.start_at <= now + 2 * BACKOFF_MIN_MS);
    supervisor_stop(&w->s, now);
    assert_true(supervisor_is_idle(&w->s));
    assert_true(supervisor_deadline(&w->s) == UINT64_MAX); /* it stays down */
}

static void test_one_that_does_not_listen_is_killed_with_its_children(void **state)
{
    struct world *w = (struct world *)*state;
    w->cfg.stop_timeout_ms = 50;
    script(w, "trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ > child.new; mv child.new child; while :; do "
              "sleep 1; done\" & "
              "while :; do sleep 1; done");
    run(w, false);
    wait_for_file(w, "child");
    char path[128];
    int child = 0;
    snprintf(path, sizeof path, "%s/child", w->dir);
    FILE *f = fopen(path, "r");
    assert_int_equal(fscanf(f, "%d", &child), 1);
    fclose(f);
    supervisor_stop(&w->s, clock_mono_ms());
    UNTIL(supervisor_is_idle(&w->s));
    assert_int_equal(WTERMSIG(w->s.app.status), SIGKILL);
    for (int i = 0; i < 2000 && kill(child, 0) == 0; i++) { /* whoever inherited it reaps it */
        char stat[64], line[256] = "";
        snprintf(stat, sizeof stat, "/proc/%d/stat", child);
        FILE *p = fopen(stat, "r");
        bool zombie = p && fgets(line, sizeof line, p) && strstr(line, ") Z ");
        if (p)
            fclose(p);
        if (zombie)
            return;
        poll(NULL, 0, 10);
    }
    assert_int_not_equal(kill(child, 0), 0);
}

static void test_without_a_health_command_running_is_well(void **state)
{
    struct world *w = (struct world *)*state;
    script(w, "exec sleep 1000");
    run(w, true);
    assert_int_equal(w->s.health, APP_UNKNOWN);
    UNTIL(w->s.health != APP_UNKNOWN);
    assert_int_equal(w->s.health, APP_WELL);
    assert_true(clock_mono_ms() - w->s.started_ms >= w->cfg.settle_ms);
}

static void test_health_command_decides(void **state)
{
    struct world *w = (struct world *)*state;
    char word1[] = "/bin/sh", word2[] = "-c", word3[] = "test -e {slot}/good";
    char *health[] = { word1, word2, word3 };
    char path[128];
    w->cfg.health = health;
    w->cfg.health_nr = 3;
    w->cfg.health_tries = 2;
    script(w, "exec sleep 1000");
    run(w, true);
    UNTIL(w->s.ill_nr == 1);
    assert_int_equal(w->s.health, APP_UNKNOWN); /* once is not enough */
    UNTIL(w->s.health != APP_UNKNOWN);
    assert_int_equal(w->s.health, APP_ILL);
    snprintf(path, sizeof path, "%s/good", w->dir);
    fclose(fopen(path, "w"));
    UNTIL(w->s.health == APP_WELL);
    assert_int_equal(w->s.ill_nr, 0);
}

static void test_health_command_that_hangs_is_no(void **state)
{
    struct world *w = (struct world *)*state;
    char word1[] = "/bin/sleep", word2[] = "1000";
    char *health[] = { word1, word2 };
    w->cfg.health = health;
    w->cfg.health_nr = 2;
    w->cfg.health_tries = 1;
    w->cfg.health_timeout_ms = 30;
    script(w, "exec sleep 1000");
    run(w, true);
    UNTIL(w->s.health != APP_UNKNOWN);
    assert_int_equal(w->s.health, APP_ILL);
}

static void test_what_cannot_be_executed_counts_as_died(void **state)
{
    struct world *w = (struct world *)*state;
    run(w, true); /* there is no app */
    UNTIL(w->s.died);
    assert_int_equal(WEXITSTATUS(w->s.app.status), 127);
    assert_int_equal(w->s.health, APP_UNKNOWN);
}

static void test_command_with_placeholders(void **state)
{
    struct world *w = (struct world *)*state;
    char word1[] = "/bin/sh", word2[] = "-c",
         word3[] = "echo {app} {slot} {other} > {slot}/said.new; mv {slot}/said.new {slot}/said";
    char *command[] = { word1, word2, word3 };
    char path[128], line[256], want[300];
    w->cfg.command = command;
    w->cfg.command_nr = 3;
    run(w, false);
    UNTIL(w->s.died);
    snprintf(path, sizeof path, "%s/said", w->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    snprintf(want, sizeof want, "%s/app %s {other}\n", w->dir, w->dir);
    assert_string_equal(line, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
        TEST(test_runs_in_its_folder_with_its_environment),
        TEST(test_one_that_dies_is_started_again_later_and_later),
        TEST(test_one_that_does_not_listen_is_killed_with_its_children),
        TEST(test_without_a_health_command_running_is_well),
        TEST(test_health_command_decides),
        TEST(test_health_command_that_hangs_is_no),
        TEST(test_what_cannot_be_executed_counts_as_died),
        TEST(test_command_with_placeholders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
