/* cli/main.c - roost, the operator's and the pipeline's command line: a table of commands and nothing else.
 */
#include "cli/commands.h"
#include "cli/hub_client.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const struct command *const cli_commands[] = { device_commands,     module_commands,     ca_commands,
                                               token_commands,      send_commands,       method_commands,
                                               watch_commands,      feedback_commands,   keys_commands,
                                               trust_commands,      release_commands,    update_commands,
                                               status_commands,     bootstrap_commands,  twin_commands,
                                               upload_commands,     query_commands,      job_commands,
                                               config_commands,     route_commands,      endpoint_commands,
                                               enrichment_commands, completion_commands, NULL };

static int usage(FILE *to)
{
    fprintf(
        to,
        "roost %s: runs a Roost hub's fleet.\n\nroost COMMAND ...   (roost COMMAND --help tells more)\n\n",
        ROOST_VERSION);
    command_list(to, cli_commands);
    fprintf(to,
            "\nThe hub is found by --hub, ROOST_CONNECTION_STRING, or ~/.config/roost/profile.\n"
            "Exit codes: 0 done and true, 1 usage, 2 not allowed, 3 refused, 5 devices failed, 6 timed out,\n"
            "7 hub unreachable, 8 conflict, 10 rolled back. More: roost(1)\n");
    return to == stdout ? CLI_OK : CLI_USAGE;
}

/* "twin": the commands that begin with it, as an answer (help) or as a complaint. False: none does. */
static bool list_group(const char *word, bool help)
{
    const size_t n = strlen(word);
    bool any = false;
    for (const struct command *const *t = cli_commands; *t; t++)
        for (const struct command *k = *t; k->name; k++) {
            if (strncmp(k->name, word, n) != 0 || k->name[n] != ' ')
                continue;
            if (help)
                printf("%sroost %s%s%s\n    %s\n", any ? "" : "Commands:\n\n", k->name,
                       k->usage[0] ? " " : "", k->usage, k->summary);
            else
                fprintf(stderr, "%s%s%s  roost %s%s%s\n", any ? "" : "roost: ", any ? "" : word,
                        any ? "" : " what?\n", k->name, k->usage[0] ? " " : "", k->usage);
            any = true;
        }
    if (any && help)
        printf("\nroost %s COMMAND --help tells more.\n", word);
    return any;
}

/* What somebody may have meant: "devices", "dev"; the program that makes hubs. The text is kept. */
static const char *meant(const char *word)
{
    static char text[96];
    const size_t n = strlen(word);
    if (strcmp(word, "init") == 0)
        return "`roostd init DIR` makes a hub; roost --help lists the commands.";
    for (const struct command *const *t = cli_commands; *t; t++)
        for (const struct command *k = *t; k->name; k++) {
            const size_t first = strcspn(k->name, " ");
            if (n < 3 || strncmp(k->name, word, n < first ? n : first) != 0)
                continue;
            snprintf(text, sizeof text, "Is `roost %.*s` meant? roost --help lists the commands.", (int)first,
                     k->name);
            return text;
        }
    return "roost --help lists the commands.";
}

static void common_take(struct cli *c, const struct args *a)
{
    c->hub = args_get(a, "hub") ? args_get(a, "hub") : c->hub;
    c->ca_file = args_get(a, "ca-file") ? args_get(a, "ca-file") : c->ca_file;
    c->https_port = args_get(a, "https-port") ? args_get(a, "https-port") : c->https_port;
    c->address = args_get(a, "address") ? args_get(a, "address") : c->address;
    c->json = c->json || args_has(a, "json");
}

/* A variable of the shell that is not set: "" is no name, and would lead to another path of the hub. What is
 * sent, or added to messages, may well be empty. */
static bool has_empty_name(const struct command *cmd, const struct args *a)
{
    const bool text = strcmp(cmd->name, "send") == 0 || strcmp(cmd->name, "enrichment set") == 0;
    for (size_t i = 0; i + text < a->pos_nr; i++)
        if (!a->pos[i][0])
            return true;
    return false;
}

static int run(struct cli *c, const struct command *cmd, int argc, char **argv)
{
    struct args a;
    char why[256];
    int rc;

    if (!args_parse(&a, cmd->opts, cli_common_opts, argc, argv, why, sizeof why)) {
        rc = cli_fail(CLI_USAGE, NULL, "%s: %s", cmd->name, why);
        fprintf(stderr, "  roost %s %s\n", cmd->name, cmd->usage);
    } else if (args_has(&a, "help")) {
        command_help(stdout, cmd);
        rc = CLI_OK;
    } else if (a.pos_nr < cmd->pos_min || a.pos_nr > cmd->pos_max) {
        rc = cli_fail(CLI_USAGE, NULL, "%s: %s", cmd->name,
                      a.pos_nr < cmd->pos_min ? "something is missing" : "there is too much");
        fprintf(stderr, "  roost %s %s\n", cmd->name, cmd->usage);
    } else if (has_empty_name(cmd, &a)) {
        rc = cli_fail(CLI_USAGE, NULL, "%s: an argument is empty", cmd->name);
        fprintf(stderr, "  roost %s %s\n", cmd->name, cmd->usage);
    } else {
        common_take(c, &a);
        rc = cmd->run(c, &a);
    }
    args_free(&a);
    return rc;
}

/* Somebody who has read enough (head, a pager) is no error; a full disk is one. */
static int output_end(int rc)
{
    const bool bad = fflush(stdout) != 0 || ferror(stdout);
    struct pollfd out = { .fd = STDOUT_FILENO };
    if (!bad || rc != CLI_OK || (poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP))))
        return rc;
    return cli_fail(CLI_USAGE, NULL, "cannot write the output");
}

int main(int argc, char **argv)
{
    struct cli c = { .tty_out = isatty(STDOUT_FILENO), .tty_err = isatty(STDERR_FILENO) };
    struct args before;
    char why[256];
    int at = 1, words = 0, rc;

    signal(SIGPIPE, SIG_IGN);
    const char *no_color = getenv("NO_COLOR");
    c.colour = c.tty_out && !(no_color && *no_color);
    while (at < argc && argv[at][0] == '-' &&
           strcmp(argv[at], "--version") != 0) { /* options before the command */
        bool two = strchr(argv[at], '=') == NULL && strcmp(argv[at], "--json") != 0 &&
                   strcmp(argv[at], "--help") != 0 && strcmp(argv[at], "-h") != 0;
        at += two ? 2 : 1;
    }
    if (at > argc)
        at = argc;
    if (!args_parse(&before, NULL, cli_common_opts, at - 1, argv + 1, why, sizeof why)) {
        args_free(&before);
        return cli_fail(CLI_USAGE, "roost --help lists the commands.", "%s", why);
    }
    common_take(&c, &before);
    bool help = args_has(&before, "help");
    args_free(&before);
    if (at < argc && strcmp(argv[at], "--version") == 0) {
        printf("roost %s\n", ROOST_VERSION);
        return CLI_OK;
    }
    if (help || (at < argc && strcmp(argv[at], "help") == 0 && argc == at + 1))
        return usage(stdout);
    if (at == argc)
        return usage(stderr);
    if (strcmp(argv[at], "help") == 0)
        help = true, at++;
    const struct command *cmd = command_find(cli_commands, argc - at, argv + at, &words);
    if (!cmd && at + 1 < argc && (strcmp(argv[at + 1], "--help") == 0 || strcmp(argv[at + 1], "-h") == 0))
        help = true;
    if (!cmd && list_group(argv[at], help))
        return help ? CLI_OK : CLI_USAGE;
    if (!cmd)
        return cli_fail(CLI_USAGE, meant(argv[at]), "there is no command %s%s%s", argv[at],
                        at + 1 < argc && argv[at + 1][0] != '-' ? " " : "",
                        at + 1 < argc && argv[at + 1][0] != '-' ? argv[at + 1] : "");
    if (help) {
        command_help(stdout, cmd);
        return CLI_OK;
    }
    rc = run(&c, cmd, argc - at - words, argv + at + words);
    hub_close(&c);
    return output_end(rc);
}
