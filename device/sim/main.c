/* device/sim/main.c - roost-sim: thousands of devices in one process. Wires options, fleet, control and
 * progress together. */
#include "base/log.h"
#include "device/sim/control.h"
#include "port/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* Descriptors: one for each device, some for exchanges. Raised as far as we may. */
static bool make_room(const struct sim_options *o)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
        return true;
    lim.rlim_cur = lim.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &lim);
    if ((uint64_t)o->count + 256 <= lim.rlim_cur)
        return true;
    fprintf(
        stderr,
        "roost-sim: %u devices need %u descriptors, %llu are allowed here; raise the limit (ulimit -n) or "
        "take fewer devices\n",
        o->count, o->count + 256, (unsigned long long)lim.rlim_cur);
    return false;
}

static int watch(struct fleet *f, struct control *control, int signal_fd)
{
    const struct sim_options *o = f->opt;
    bool terminal = isatty(STDERR_FILENO);
    uint64_t show_at = 0, end_at = o->duration_ms ? f->started_ms + o->duration_ms : UINT64_MAX;
    for (;;) {
        struct pollfd p[CONTROL_CLIENT_MAX + 2] = { { .fd = signal_fd, .events = POLLIN } };
        size_t nr = 1 + control_poll(control, p + 1);
        (void)poll(p, nr, 100);
        struct fleet_counts c;
        uint64_t now = clock_mono_ms();
        fleet_counts(f, &c);
        if (!o->quiet && now >= show_at) {
            fleet_progress(f, &c, stderr, terminal);
            show_at = now + (terminal ? 200 : 5000);
        }
        if (p[0].revents)
            return SIM_DONE;
        if (fleet_is_there(f, &c)) {
            f->reached = true;
            return SIM_DONE;
        }
        if (now >= end_at)
            return o->until == SIM_UNTIL_NONE ? SIM_DONE : SIM_NOT_REACHED;
        if (control_serve(control, f, p + 1, nr - 1))
            return SIM_DONE;
    }
}

int main(int argc, char **argv)
{
    struct sim_options o;
    int code = sim_options_parse(argc, argv, &o, stdout, stderr);
    if (code != SIM_DONE)
        return code == SIM_HELP ? 0 : code;
    log_init(LOG_LEVEL_WARN, stderr);
    if (!make_room(&o))
        return SIM_USAGE;
    if (o.flash_dir)
        (void)mkdir(o.flash_dir, 0700);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct fleet f;
    struct control control;
    int signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (signal_fd < 0 || control_open(&control, o.control) != ERR_OK)
        return SIM_USAGE;
    if (fleet_start(&f, &o) != ERR_OK) {
        control_close(&control);
        return SIM_USAGE;
    }
    code = watch(&f, &control, signal_fd);
    if (!o.quiet && isatty(STDERR_FILENO))
        fputc('\n', stderr);
    fleet_stop(&f);
    if (o.json) {
        json_t *summary = fleet_summary(&f, o.list);
        json_dumpf(summary, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        fputc('\n', stdout);
        json_decref(summary);
    } else {
        fleet_print(&f, stdout);
    }
    control_close(&control);
    fleet_fini(&f);
    close(signal_fd);
    return code;
}
