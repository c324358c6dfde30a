/* cli/cmd_completion.c - roost completion: a script for bash, made from the same tables as the help texts. */
#include "cli/commands.h"

#include <string.h>

static void opt_words(const struct opt *o)
{
    for (; o && o->name; o++)
        printf(" --%s", o->name);
}

static int completion_run(struct cli *c, const struct args *a)
{
    (void)c;
    if (strcmp(a->pos[0], "bash") != 0)
        return cli_fail(CLI_USAGE, NULL, "only bash is known");
    printf(
        "# bash completion of roost; in ~/.bashrc: source <(roost completion bash)\n"
        "_roost() {\n"
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= i cmd=\n"
        "  case $prev in\n"
        "    --hub|--ca-file|--file|-f|--key-file|--trust|--out|--output|-o|--content|--labels|--metrics|\\\n"
        "    --errors|--configurations) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
        "  esac\n"
        "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "    case ${COMP_WORDS[i]} in\n"
        "      --hub|--ca-file|--https-port|--address) ((i++)) ;;\n"
        "      -*) ;;\n"
        "      *) cmd=\"${cmd:+$cmd }${COMP_WORDS[i]}\" ;;\n"
        "    esac\n"
        "  done\n"
        "  case $cmd in\n");
    for (const struct command *const *t = cli_commands; *t; t++)
        for (const struct command *k = *t; k->name; k++) {
            printf("    \"%s\"|\"%s \"*) words=\"", k->name, k->name);
            opt_words(k->opts);
            opt_words(cli_common_opts);
            printf("\" ;;\n");
        }
    for (const struct command *const *t = cli_commands; *t; t++) {
        const char *first = (*t)->name, *space = first ? strchr(first, ' ') : NULL;
        if (!space)
            continue;
        printf("    \"%.*s\") words=\"", (int)(space - first), first);
        for (const struct command *k = *t; k->name; k++)
            printf(" %s", k->name + (space - first) + 1);
        printf("\" ;;\n");
    }
    printf("    \"\") words=\"");
    for (const struct command *const *t = cli_commands; *t; t++) {
        const char *first = (*t)->name;
        if (first)
            printf(" %.*s", (int)strcspn(first, " "), first);
    }
    opt_words(cli_common_opts);
    printf("\" ;;\n"
           "  esac\n"
           "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "  [[ ${#COMPREPLY[@]} -gt 0 || $cur == -* ]] || COMPREPLY=($(compgen -f -- \"$cur\"))\n"
           "}\n"
           "complete -o filenames -F _roost roost\n");
    return CLI_OK;
}

const struct command completion_commands[] = {
    { "completion", "bash", "Prints the completion script for bash",
      "In ~/.bashrc: source <(roost completion bash)", NULL, 1, 1, completion_run },
    { 0 }
};
