/* device/agent/main.c - roost-agent: reads the command line and the configuration, runs the agent. */
#include "base/log.h"
#include "device/agent/agent.h"

#include <getopt.h>

static const char help[] =
    "usage: roost-agent [--config FILE] [--check-config | --status]\n"
    "\n"
    "Brings this machine to its hub, keeps it there, and keeps one application running and up to date.\n"
    "\n"
    "  --config FILE    configuration (/etc/roost/agent.yaml)\n"
    "  --check-config   read it, say what is wrong, and end\n"
    "  --status         print what a running agent last wrote about itself\n"
    "  --help, --version\n";

static int show_status(const struct agent_config *c)
{
    char path[4200], buf[4096];
    snprintf(path, sizeof path, "%s/status.json", c->state);
    FILE *f = fopen(path, "re");
    if (!f) {
        fprintf(stderr, "roost-agent: %s cannot be read: has the agent run? are you allowed to?\n", path);
        return 1;
    }
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;)
        fwrite(buf, 1, n, stdout);
    fclose(f);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        { "config", required_argument, NULL, 'c' }, { "check-config", no_argument, NULL, 'k' },
        { "status", no_argument, NULL, 's' },       { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },      { NULL, 0, NULL, 0 },
    };
    const char *path = "/etc/roost/agent.yaml";
    bool check = false, status = false;
    for (int opt; (opt = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        if (opt == 'c')
            path = optarg;
        else if (opt == 'k')
            check = true;
        else if (opt == 's')
            status = true;
        else if (opt == 'h' || opt == 'v') {
            fputs(opt == 'h' ? help : "roost-agent " ROOST_VERSION "\n", stdout);
            return 0;
        } else {
            fputs("see roost-agent --help\n", stderr);
            return 1;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "roost-agent: %s: unexpected; see roost-agent --help\n", argv[optind]);
        return 1;
    }
    log_init(LOG_LEVEL_INFO, stderr);
    struct agent_config cfg;
    if (agent_config_load(&cfg, path, stderr) != ERR_OK)
        return 1;
    if (check || status) {
        int code = status ? show_status(&cfg) : 0;
        agent_config_free(&cfg);
        return code;
    }
    static struct agent a; /* too large for a stack */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        agent_config_free(&cfg);
        return 1;
    }
    int code = agent_init(&a, path, &cfg) == ERR_OK ? agent_run(&a) : 1;
    agent_fini(&a);
    curl_global_cleanup();
    return code;
}
