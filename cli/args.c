/* cli/args.c - arguments of a command by its table of options, and the help text from the same table. */
#include "cli/cli.h"

#include "base/text.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

const struct opt cli_common_opts[] = {
    { "hub", 0, "HUB", "a directory made by roostd init, a profile file, or a connection string" },
    { "ca-file", 0, "FILE", "certificate of the authority that the hub's certificate comes from" },
    { "https-port", 0, "PORT", "the hub's HTTPS port" },
    { "address", 0, "IP", "connect there, whatever the hub's name resolves to" },
    { "json", 0, NULL, "answer in JSON, one document (watch: one a line)" },
    { "help", 'h', NULL, "what a command does and takes" },
    { 0 }
};

static const struct opt *opt_by_name(const struct opt *table, const char *name, size_t n)
{
    for (; table && table->name; table++)
        if (strlen(table->name) == n && strncmp(table->name, name, n) == 0)
            return table;
    return NULL;
}

static const struct opt *opt_by_letter(const struct opt *table, char letter)
{
    for (; table && table->name; table++)
        if (table->letter == letter)
            return table;
    return NULL;
}

/* "-p VALUE", "-pVALUE", "--name VALUE", "--name=VALUE": the option, and its value when it is attached. */
static const struct opt *opt_of(const struct opt *opts, const struct opt *common, const char *word,
                                const char **attached)
{
    const struct opt *o;
    *attached = NULL;
    if (word[1] == '-') {
        const char *name = word + 2, *eq = strchr(name, '=');
        size_t n = eq ? (size_t)(eq - name) : strlen(name);
        o = opt_by_name(opts, name, n);
        if (!o)
            o = opt_by_name(common, name, n);
        if (eq)
            *attached = eq + 1;
        return o;
    }
    o = opt_by_letter(opts, word[1]);
    if (!o)
        o = opt_by_letter(common, word[1]);
    if (word[2])
        *attached = word + 2;
    return o;
}

bool args_parse(struct args *a, const struct opt *opts, const struct opt *common, int argc, char **argv,
                char *why, size_t why_cap)
{
    bool only_pos = false;
    *a = (struct args){ .pos = calloc((size_t)argc + 1, sizeof *a->pos) };
    if (!a->pos) {
        snprintf(why, why_cap, "out of memory");
        return false;
    }
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *val;
        if (only_pos || word[0] != '-' || word[1] == 0) { /* "-" alone is a file name */
            a->pos[a->pos_nr++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_pos = true;
            continue;
        }
        const struct opt *o = opt_of(opts, common, word, &val);
        if (!o) {
            snprintf(why, why_cap, "there is no option %s", word);
            return false;
        }
        if (!o->arg && val) {
            snprintf(why, why_cap, "--%s takes no value", o->name);
            return false;
        }
        if (o->arg && !val) {
            if (i + 1 == argc) {
                snprintf(why, why_cap, "--%s needs a value: %s", o->name, o->arg);
                return false;
            }
            val = argv[++i];
        }
        if (a->given_nr == ARGS_OPT_MAX) {
            snprintf(why, why_cap, "more than %u options", ARGS_OPT_MAX);
            return false;
        }
        a->given[a->given_nr].opt = o;
        a->given[a->given_nr++].val = val ? val : "";
    }
    return true;
}

void args_free(struct args *a)
{
    free(a->pos);
    *a = (struct args){ 0 };
}

const char *args_nth(const struct args *a, const char *name, size_t i)
{
    for (size_t k = 0; k < a->given_nr; k++)
        if (strcmp(a->given[k].opt->name, name) == 0 && i-- == 0)
            return a->given[k].val;
    return NULL;
}

const char *args_get(const struct args *a, const char *name)
{
    for (size_t k = a->given_nr; k > 0; k--)
        if (strcmp(a->given[k - 1].opt->name, name) == 0)
            return a->given[k - 1].val;
    return NULL;
}

const struct command *command_find(const struct command *const *tables, int argc, char **argv, int *words)
{
    for (int nr = argc < 2 ? argc : 2; nr >= 1; nr--) { /* two words win over one */
        char name[128];
        snprintf(name, sizeof name, nr == 2 ? "%s %s" : "%s", argv[0], nr == 2 ? argv[1] : "");
        for (const struct command *const *t = tables; *t; t++)
            for (const struct command *k = *t; k->name; k++)
                if (strcmp(k->name, name) == 0) {
                    *words = nr;
                    return k;
                }
    }
    return NULL;
}

static void opts_help(FILE *to, const struct opt *o)
{
    for (; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                 o->letter ? ", " : "  ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        fprintf(to, "  %-30s  %s\n", left, o->help);
    }
}

void command_help(FILE *to, const struct command *cmd)
{
    fprintf(to, "roost %s %s\n\n%s.\n", cmd->name, cmd->usage, cmd->summary);
    if (cmd->details)
        fprintf(to, "\n%s\n", cmd->details);
    if (cmd->opts && cmd->opts->name) {
        fprintf(to, "\nOptions:\n");
        opts_help(to, cmd->opts);
    }
    fprintf(to, "\nOptions of every command:\n");
    opts_help(to, cli_common_opts);
}

void command_list(FILE *to, const struct command *const *tables)
{
    for (const struct command *const *t = tables; *t; t++) {
        for (const struct command *k = *t; k->name; k++)
            fprintf(to, "  %-25s %s\n", k->name, k->summary);
    }
    fprintf(to, "\nOptions of every command:\n");
    opts_help(to, cli_common_opts);
}

enum err arg_u64(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t v;
    if (u64_parse(span_str(text), max, &v) || v < min)
        return ERR_PROTO;
    *out = v;
    return ERR_OK;
}

enum err arg_duration_s(const char *text, uint64_t *out)
{
    static const struct {
        char unit;
        uint64_t s;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
    size_t n = strlen(text);
    uint64_t v, each = 1;
    if (n && isalpha((unsigned char)text[n - 1])) {
        each = 0;
        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
            if (units[i].unit == text[n - 1])
                each = units[i].s;
        n--;
    }
    if (!each || u64_parse(span_of(text, n), 1000000000u, &v))
        return ERR_PROTO;
    *out = v * each;
    return ERR_OK;
}
