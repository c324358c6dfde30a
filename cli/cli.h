/* cli/cli.h - what every command of `roost` stands on: the table entry of a command, its arguments, what it
 * prints, and the exit codes. To add a command: a cmd_NAME.c with a table, and a line in main.c. */
#ifndef ROOST_CLI_CLI_H
#define ROOST_CLI_CLI_H

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The promise to pipelines; docs/updates.md. */
enum cli_exit {
    CLI_OK = 0,          /* reached, and confirmed by what the devices run */
    CLI_USAGE = 1,       /* usage, or something on this machine */
    CLI_AUTH = 2,        /* authentication or permission */
    CLI_REFUSED = 3,     /* validation or policy refused: nothing was done */
    CLI_PAUSED = 4,      /* paused at a gate: safe to resume */
    CLI_FAILED = 5,      /* devices failed */
    CLI_TIMEOUT = 6,     /* the wait timed out, the campaign goes on */
    CLI_UNREACHABLE = 7, /* no hub, or it is in trouble: campaigns are unaffected */
    CLI_CONFLICT = 8,    /* another campaign took over */
    CLI_GATE = 9,        /* a gate was rejected */
    CLI_ROLLED_BACK = 10 /* devices went back to what they ran before */
};

struct opt {
    const char *name; /* "message-id"; NULL ends a table */
    char letter;      /* 0: none */
    const char *arg;  /* placeholder of its value; NULL: it is a switch */
    const char *help;
};

#define ARGS_OPT_MAX 64u
struct args {
    struct {
        const struct opt *opt;
        const char *val; /* "" for a switch */
    } given[ARGS_OPT_MAX];
    size_t given_nr;
    const char **pos; /* positional arguments, owned */
    size_t pos_nr;
};

struct cli;
struct command {
    const char *name;    /* "device list"; NULL ends a table */
    const char *usage;   /* what follows the name: "DEVICE..." */
    const char *summary; /* one line */
    const char *details; /* the rest of the help text; may be NULL */
    const struct opt *opts;
    size_t pos_min, pos_max;
    int (*run)(struct cli *c, const struct args *a); /* an enum cli_exit */
};

extern const struct opt cli_common_opts[];
extern const struct command *const cli_commands[]; /* tables, NULL ends */

/* Parses argv behind the command's words. Options may stand anywhere; "--" ends them. An error is written
 * to `why` as one sentence. */
bool args_parse(struct args *a, const struct opt *opts, const struct opt *common, int argc, char **argv,
                char *why, size_t why_cap);
void args_free(struct args *a);
const char *args_get(const struct args *a, const char *name); /* the last one given, NULL: absent */
/* The i-th value given for this name; NULL: no more. */
const char *args_nth(const struct args *a, const char *name, size_t i);
static inline bool args_has(const struct args *a, const char *name)
{
    return args_get(a, name) != NULL;
}
/* The command whose words argv begins with; *words is how many they are. NULL: none. */
const struct command *command_find(const struct command *const *tables, int argc, char **argv, int *words);
void command_help(FILE *to, const struct command *cmd);
void command_list(FILE *to, const struct command *const *tables);

/* Number in [min, max]; ERR_PROTO otherwise. */
MUST_USE enum err arg_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out);
/* "90", "90s", "30m", "2h", "7d". */
MUST_USE enum err arg_duration_s(const char *text, uint64_t *out);

/* How the program was called; the rest of it is private to the files that use it. */
struct cli {
    bool json;
    bool tty_out, tty_err; /* forms for a person, bars */
    bool colour;           /* on standard output */
    const char *hub, *ca_file, *https_port, *address;
    struct hub_client *client; /* opened on first use, hub_client.h */
};

/* "roost: <what went wrong>" and, on the next line, what to do; next may be NULL. Returns `code`. */
int cli_fail(int code, const char *next, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Memory, zeroed; the program ends when there is none. */
void *cli_alloc(size_t n);
/* For a person: not with --json. */
void cli_say(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
