/* hub/main.c - roostd: the command line. Makes a data directory (hub/config/init.c), or serves one
 * (hub/serve.c). */
#include "base/log.h"
#include "hub/config/init.h"
#include "hub/conn/tls.h"
#include "hub/serve.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char default_dir[] = "/var/lib/roost";

static const char usage[] =
    "roostd DIR                    serves the hub in DIR (default /var/lib/roost)\n"
    "roostd init DIR [options]     makes a hub: authority, certificates, policies, keys\n"
    "    --name NAME               a host name of it; the first one is what devices are told; repeatable\n"
    "    --ca-from DIR             keep the authority of another hub (its directory, or ca.crt and ca.key)\n"
    "    --listen ADDRESS          numeric address for devices and operators (default: every one)\n"
    "    --https-port N  --mqtt-port N  --amqp-port N  --http-port N (turns plain artifacts on)  --ops-port "
    "N\n"
    "roostd renew [DIR]            new server certificates for the names in the configuration\n"
    "roostd --check-config [DIR|FILE]\n"
    "roostd --print-config [DIR|FILE] [--markdown]\n"
    "roostd --version | --help\n"
    "Exit codes: 0 good, 1 failed, 2 usage, 3 configuration, 4 data directory, 5 in use, 6 nothing to listen "
    "on.\n";

static const char *config_in(const char *dir)
{
    static char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", dir, DIR_CONFIG) >= (int)sizeof path)
        path[0] = 0;
    return path;
}

static const char *config_file_of(const char *arg)
{
    struct stat st;
    return stat(arg, &st) == 0 && S_ISDIR(st.st_mode) ? config_in(arg) : arg;
}

static enum exit_code check_config(const char *arg)
{
    struct config *c = NULL;
    struct config_error why;
    const char *file = config_file_of(arg);
    if (config_load(&c, file, &why)) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_CONFIG;
    }
    config_free(c);
    printf("%s is good.\n", file);
    return EXIT_OK;
}

static enum exit_code print_config(const char *arg, bool markdown)
{
    struct config *c = NULL;
    struct config_error why;
    enum err e =
        arg ? config_load(&c, config_file_of(arg), &why) : config_parse(&c, SPAN_NONE, "defaults", &why);
    if (e) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_CONFIG;
    }
    uint8_t *buf = malloc(1 << 20);
    struct wr w = { buf, buf ? 1 << 20 : 0, 0 };
    if (markdown)
        config_print_markdown(c, &w);
    else
        config_print(c, &w);
    bool good = wr_ok(&w) && fwrite(buf, 1, w.len, stdout) == w.len && fflush(stdout) == 0;
    free(buf);
    config_free(c);
    return good ? EXIT_OK : EXIT_FAILED;
}

static bool port_arg(const char *text, long *out)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (errno || *end || end == text || v < 0 || v > 65535) {
        fprintf(stderr, "roostd init: '%s' is not a port\n", text);
        return false;
    }
    *out = v;
    return true;
}

static enum exit_code init(int argc, char **argv)
{
    static const struct option longs[] = { { "name", 1, NULL, 'n' },      { "ca-from", 1, NULL, 'c' },
                                           { "listen", 1, NULL, 'l' },    { "https-port", 1, NULL, 's' },
                                           { "mqtt-port", 1, NULL, 'm' }, { "http-port", 1, NULL, 'h' },
                                           { "ops-port", 1, NULL, 'o' },  { "amqp-port", 1, NULL, 'a' },
                                           { "help", 0, NULL, 'H' },      { NULL, 0, NULL, 0 } };
    struct init_options o = {
        .https_port = -1, .mqtt_port = -1, .amqp_port = -1, .http_port = -1, .ops_port = -1
    };
    static char self[] = "roostd init"; /* how getopt's complaints begin */
    int opt;
    argv[0] = self;
    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool good = true;
        switch (opt) {
        case 'n':
            if (o.name_nr == CONFIG_NAMES_MAX) {
                fprintf(stderr, "roostd init: too many names\n");
                return EXIT_USAGE;
            }
            o.names[o.name_nr++] = optarg;
            break;
        case 'c':
            o.ca_from = optarg;
            break;
        case 'l':
            o.listen = optarg;
            break;
        case 's':
            good = port_arg(optarg, &o.https_port);
            break;
        case 'm':
            good = port_arg(optarg, &o.mqtt_port);
            break;
        case 'a':
            good = port_arg(optarg, &o.amqp_port);
            break;
        case 'h':
            good = port_arg(optarg, &o.http_port);
            break;
        case 'o':
            good = port_arg(optarg, &o.ops_port);
            break;
        case 'H':
            fputs(usage, stdout);
            return EXIT_OK;
        default:
            fputs("roostd --help lists the options.\n", stderr);
            good = false;
        }
        if (!good)
            return EXIT_USAGE;
    }
    if (optind + 1 != argc || !argv[optind][0]) { /* a variable of the shell that is not set */
        fputs(optind == argc || !argv[optind][0] ? "roostd init: which directory?\n\n"
                                                 : "roostd init: one directory at a time\n\n",
              stderr);
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    o.dir = argv[optind];
    log_init(LOG_LEVEL_WARN, stderr);
    umask(0077);
    enum err e = init_run(&o, stdout, stderr);
    return e == ERR_OK ? EXIT_OK : e == ERR_PROTO ? EXIT_USAGE : e == ERR_EXISTS ? EXIT_DIR : EXIT_FAILED;
}

static enum exit_code renew(const char *dir)
{
    struct config *c = NULL;
    struct config_error why;
    log_init(LOG_LEVEL_WARN, stderr);
    umask(0077);
    if (access(config_in(dir), F_OK) < 0) {
        fprintf(stderr, "roostd renew: %s: %s; roostd init DIR makes a hub\n", config_in(dir),
                strerror(errno));
        return EXIT_DIR;
    }
    if (config_load(&c, config_in(dir), &why)) {
        fprintf(stderr, "%s\n", why.text);
        return EXIT_CONFIG;
    }
    enum err e = init_renew(dir, c, stdout, stderr);
    config_free(c);
    return e ? EXIT_FAILED : EXIT_OK;
}

int main(int argc, char **argv)
{
    const char *first = argc > 1 ? argv[1] : default_dir;
    if (strcmp(first, "init") == 0)
        return init(argc - 1, argv + 1);
    const char *dir = argc == 3 ? argv[2] : default_dir;
    const bool help = argc == 3 && strcmp(argv[2], "--help") == 0;
    if (help || (argc == 2 && (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0))) {
        fputs(usage, stdout);
        return EXIT_OK;
    }
    if (strcmp(first, "renew") == 0 && argc <= 3 && dir[0] != '-')
        return renew(dir);
    if (strcmp(first, "--check-config") == 0 && argc <= 3)
        return check_config(dir);
    if (strcmp(first, "--print-config") == 0 && argc <= 4) {
        bool markdown = argc > 2 && strcmp(argv[argc - 1], "--markdown") == 0;
        int rest = argc - 2 - markdown;
        if (rest <= 1)
            return print_config(rest ? argv[2] : NULL, markdown);
    }
    if (strcmp(first, "--version") == 0 && argc == 2) {
        printf("roostd %s\n", ROOST_VERSION);
        return EXIT_OK;
    }
    if (first[0] == '-' || argc > 2) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    (void)tls_guard_memory(); /* nothing has used OpenSSL yet */
    return serve(first);
}
