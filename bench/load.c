/* bench/load.c - load for an MQTT server, in many processes: idle connections, connection storms,
 * acknowledged publishing, calls, and reading queues back to find what was acknowledged and then lost. Prints
 * one JSON object. The CPU time and memory are those of the server process given by --pid, over the measured
 * window. */
#include "bench/load.h"

#include "base/text.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void sleep_s(double s)
{
    struct timespec ts = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };
    nanosleep(&ts, NULL);
}

/* CPU seconds (user and system, all threads) and resident bytes of a process; false when it is gone. */
static bool server_usage(long pid, double *cpu_s, double *rss)
{
    char path[64], line[512];
    unsigned long long user, sys, kb = 0;
    *cpu_s = *rss = 0;
    if (!pid)
        return true;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool ok = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    char *after = ok ? strrchr(line, ')') : NULL;
    if (!after || sscanf(after, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &sys) != 2)
        return false;
    *cpu_s = (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%ld/status", pid);
    if (!(f = fopen(path, "r")))
        return false;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "VmRSS: %llu kB", &kb) == 1)
            break;
    fclose(f);
    *rss = (double)kb * 1024;
    return true;
}

static void usage(void)
{
    fputs("load idle|connect|publish|subscribe|drain|call --port N [--host 127.0.0.1] [--tls --ca FILE] "
          "[--name "
          "hub.localhost]\n"
          "     [--conns N] [--procs N] [--seconds S] [--warm S] [--login none|password|hub] [--key BASE64] "
          "[--policy NAME]\n"
          "     [--prefix d] [--sub none|one|hub] [--qos 0|1] [--window N] [--size BYTES] [--topics "
          "hub|queue] [--queues N]\n"
          "     [--persistent] [--resume] [--spread] [--ack-log FILE] [--quiet S] [--pid SERVER] [--http "
          "PORT]\n",
          stderr);
    exit(2);
}

static struct load_options parse(int argc, char **argv)
{
    static const char *const modes[] = { "idle", "connect", "publish", "subscribe", "drain", "call" };
    static const struct option longs[] = {
        { "port", 1, NULL, 'p' },   { "host", 1, NULL, 'h' },       { "tls", 0, NULL, 't' },
        { "ca", 1, NULL, 'a' },     { "name", 1, NULL, 'n' },       { "conns", 1, NULL, 'c' },
        { "procs", 1, NULL, 'P' },  { "seconds", 1, NULL, 's' },    { "warm", 1, NULL, 'w' },
        { "login", 1, NULL, 'l' },  { "key", 1, NULL, 'k' },        { "policy", 1, NULL, 'y' },
        { "prefix", 1, NULL, 'x' }, { "sub", 1, NULL, 'u' },        { "qos", 1, NULL, 'q' },
        { "window", 1, NULL, 'W' }, { "size", 1, NULL, 'z' },       { "topics", 1, NULL, 'T' },
        { "queues", 1, NULL, 'Q' }, { "persistent", 0, NULL, 'e' }, { "resume", 0, NULL, 'r' },
        { "spread", 0, NULL, 'S' }, { "ack-log", 1, NULL, 'L' },    { "quiet", 1, NULL, 'i' },
        { "pid", 1, NULL, 'd' },    { "http", 1, NULL, 'H' },       { NULL, 0, NULL, 0 },
    };
    struct load_options o = { .mode = -1,
                              .host = "127.0.0.1",
                              .name = "hub.localhost",
                              .login = "none",
                              .policy = "",
                              .prefix = "d",
                              .sub = "none",
                              .topics = "hub",
                              .conns = 100,
                              .procs = 1,
                              .seconds = 5,
                              .warm_s = 1,
                              .quiet_s = 3,
                              .qos = 1,
                              .window = 1,
                              .size = 128,
                              .queues = 100 };
    if (argc < 2)
        usage();
    for (int i = 0; i < 6; i++)
        if (!strcmp(argv[1], modes[i]))
            o.mode = i;
    optind = 2;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (c) {
        case 'p':
            o.port = atoi(optarg);
            break;
        case 'H':
            o.http_port = atoi(optarg);
            break;
        case 'h':
            o.host = optarg;
            break;
        case 't':
            o.tls = true;
            break;
        case 'a':
            o.ca_file = optarg;
            break;
        case 'n':
            o.name = optarg;
            break;
        case 'c':
            o.conns = atoi(optarg);
            break;
        case 'P':
            o.procs = atoi(optarg);
            break;
        case 's':
            o.seconds = atof(optarg);
            break;
        case 'w':
            o.warm_s = atof(optarg);
            break;
        case 'l':
            o.login = optarg;
            break;
        case 'k':
            if (base64_decode(span_str(optarg), o.key, sizeof o.key, &o.key_len))
                usage();
            break;
        case 'y':
            o.policy = optarg;
            break;
        case 'x':
            o.prefix = optarg;
            break;
        case 'u':
            o.sub = optarg;
            break;
        case 'q':
            o.qos = atoi(optarg);
            break;
        case 'W':
            o.window = atoi(optarg);
            break;
        case 'z':
            o.size = atoi(optarg);
            break;
        case 'T':
            o.topics = optarg;
            break;
        case 'Q':
            o.queues = atoi(optarg);
            break;
        case 'e':
            o.persistent = true;
            break;
        case 'r':
            o.resume = true;
            break;
        case 'S':
            o.spread = true;
            break;
        case 'L':
            o.ack_log = optarg;
            break;
        case 'i':
            o.quiet_s = atof(optarg);
            break;
        case 'd':
            o.pid = atol(optarg);
            break;
        default:
            usage();
        }
    }
    if (o.mode < 0 || !o.port || o.conns < 1 || o.procs < 1 || o.procs > 64 || o.window < 1 ||
        o.window > 1000 || o.size < 16 || o.size > 8192 || o.queues < 1 || (o.tls && !o.ca_file) ||
        (o.tls && o.mode == LOAD_CALL))
        usage();
    return o;
}

int main(int argc, char **argv)
{
    struct load_options o = parse(argc, argv);
    struct load_shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[64];
    double cpu0, cpu1, rss0, rss1;
    if (s == MAP_FAILED)
        return 1;
    signal(SIGPIPE, SIG_IGN);
    if (!server_usage(o.pid, &cpu0, &rss0))
        return 1;
    double rss_before = rss0, begun = now_s();
    for (int i = 0, first = 0; i < o.procs; i++) {
        int nr = (o.conns - first) / (o.procs - i);
        children[i] = fork();
        if (children[i] < 0)
            return 1;
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (o.mode == LOAD_CALL)
                load_calls(&o, s, i, first, nr);
            else
                load_process(&o, s, i, first, nr);
            _exit(0);
        }
        first += nr;
    }
    while (atomic_load(&s->ready) < o.procs && atomic_load(&s->finished) < o.procs)
        sleep_s(0.01);
    double connected_s = now_s() - begun;
    bool windowed = o.mode != LOAD_SUBSCRIBE && o.mode != LOAD_DRAIN;
    sleep_s(windowed ? o.warm_s : 0);
    bool alive = server_usage(o.pid, &cpu0, &rss0);
    uint64_t sent0 = atomic_load(&s->sent), acked0 = atomic_load(&s->acked),
             connected0 = atomic_load(&s->connected);
    double from = now_s();
    atomic_store(&s->go, 1);
    while (windowed && now_s() - from < o.seconds && atomic_load(&s->finished) < o.procs)
        sleep_s(0.01);
    double window = now_s() - from;
    uint64_t sent1 = atomic_load(&s->sent), acked1 = atomic_load(&s->acked),
             connected1 = atomic_load(&s->connected);
    alive = server_usage(o.pid, &cpu1, &rss1) && alive;
    if (windowed)
        atomic_store(&s->stop, 1);
    for (int i = 0; i < o.procs; i++)
        waitpid(children[i], NULL, 0);
    struct histogram all = { { 0 } };
    for (int i = 0; i < o.procs; i++)
        for (int k = 0; k < HISTOGRAM_CELLS; k++)
            all.cell[k] += s->latency[i].cell[k];
    double rate = o.mode == LOAD_CONNECT ? (double)(connected1 - connected0)
                  : o.qos                ? (double)(acked1 - acked0)
                                         : (double)(sent1 - sent0);
    double cpu = cpu1 - cpu0;
    printf("{\"connected\":%llu,\"refused\":%llu,\"broken\":%llu,\"resumed\":%llu,\"sent\":%llu,\"acked\":%"
           "llu,\"received\":%llu,"
           "\"window_s\":%.3f,\"connect_s\":%.3f,\"per_s\":%.1f,\"cpu_s\":%.3f,\"per_cpu_s\":%.1f,\"p50_us\":"
           "%llu,\"p99_us\":%llu,"
           "\"rss_before\":%.0f,\"rss\":%.0f,\"bytes_per_conn\":%.1f,\"server_alive\":%s}\n",
           (unsigned long long)atomic_load(&s->connected), (unsigned long long)atomic_load(&s->refused),
           (unsigned long long)atomic_load(&s->broken), (unsigned long long)atomic_load(&s->resumed),
           (unsigned long long)atomic_load(&s->sent), (unsigned long long)atomic_load(&s->acked),
           (unsigned long long)atomic_load(&s->received), window, connected_s, rate / window, cpu,
           cpu > 0 ? rate / cpu : 0, (unsigned long long)histogram_percentile(&all, 0.5),
           (unsigned long long)histogram_percentile(&all, 0.99), rss_before, rss1,
           o.conns ? (rss1 - rss_before) / o.conns : 0, alive ? "true" : "false");
    return 0;
}
