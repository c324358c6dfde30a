/* cli/out.c - tables, progress, JSON. */
#include "cli/out.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int cli_fail(int code, const char *next, const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    fputs("roost: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (next)
        fprintf(stderr, "  %s\n", next);
    return code;
}

void *cli_alloc(size_t n)
{
    void *p = calloc(1, n);
    if (!p) {
        fputs("roost: out of memory\n", stderr);
        exit(CLI_USAGE);
    }
    return p;
}

void cli_say(const struct cli *c, const char *fmt, ...)
{
    va_list ap;
    if (c->json)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
}

char *printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p; p++) { /* UTF-8 stays, its C1 controls go */
        if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
            p[0] = p[1] = '?'; /* left alone, the second byte is one for some terminals */
            p++;
        } else if (*p < ' ' || *p == 0x7f) {
            *p = '?';
        }
    }
    return text;
}

void table_begin(struct table *t, unsigned cols, const char *const *head)
{
    *t = (struct table){ .cols = cols };
    table_row(t, head);
}

void table_row(struct table *t, const char *const *cells)
{
    if (t->nr == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->cell = realloc(t->cell, t->cap * t->cols * sizeof *t->cell);
        if (!t->cell)
            abort();
    }
    for (unsigned i = 0; i < t->cols; i++) {
        char *z = strdup(cells[i] ? cells[i] : "-");
        if (!z)
            abort();
        t->cell[t->nr * t->cols + i] = printable(z);
    }
    t->nr++;
}

/* Characters of a text in UTF-8. */
static size_t characters(const char *z)
{
    size_t n = 0;
    for (; *z; z++)
        n += ((unsigned char)*z & 0xc0) != 0x80;
    return n;
}

void table_end(struct table *t, const struct cli *c, FILE *to)
{
    size_t width[TABLE_COLS] = { 0 };
    for (size_t i = 0; i < t->nr * t->cols; i++) {
        size_t n = characters(t->cell[i]);
        if (n > width[i % t->cols])
            width[i % t->cols] = n;
    }
    for (size_t r = 0; r < t->nr; r++) {
        if (r == 0 && c->colour)
            fputs("\033[1m", to);
        for (unsigned i = 0; i < t->cols; i++) {
            const char *z = t->cell[r * t->cols + i];
            if (i + 1 < t->cols)
                fprintf(to, "%s%*s  ", z, (int)(width[i] - characters(z)), "");
            else
                fputs(z, to);
        }
        fputs(r == 0 && c->colour ? "\033[0m\n" : "\n", to);
    }
    for (size_t i = 0; i < t->nr * t->cols; i++)
        free(t->cell[i]);
    free(t->cell);
}

double monotonic_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

char *bytes_text(uint64_t n, char out[16])
{
    static const char units[] = " kMGT";
    double v = (double)n;
    unsigned u = 0;
    while (v >= 1000 && u < 4)
        v /= 1000, u++;
    if (u)
        snprintf(out, 16, "%.1f %cB", v, units[u]);
    else
        snprintf(out, 16, "%u B", (unsigned)n);
    return out;
}

void progress_begin(struct progress *p, const struct cli *c, const char *what, uint64_t total, uint64_t done)
{
    *p = (struct progress){
        .cli = c, .what = what, .total = total, .shown = ~0u, .started_s = monotonic_s(), .at_start = done
    };
    progress_set(p, done);
}

void progress_begin_count(struct progress *p, const struct cli *c, const char *what, uint64_t total,
                          uint64_t done)
{
    *p = (struct progress){ .cli = c,
                            .what = what,
                            .counts = true,
                            .total = total,
                            .shown = ~0u,
                            .started_s = monotonic_s(),
                            .at_start = done };
    progress_set(p, done);
}

static char *amount(const struct progress *p, uint64_t n, char out[24])
{
    if (!p->counts)
        return bytes_text(n, out);
    snprintf(out, 24, "%llu", (unsigned long long)n);
    return out;
}

static void bar_draw(struct progress *p)
{
    enum { WIDTH = 30 };
    char done[24], total[24], rate[24];
    double s = monotonic_s() - p->started_s;
    unsigned full = p->total ? (unsigned)(p->done * WIDTH / p->total) : WIDTH;
    amount(p, s > 0.1 ? (uint64_t)((double)(p->done - p->at_start) / s) : 0, rate);
    fprintf(stderr, "\r%s ", p->what);
    for (unsigned i = 0; i < WIDTH; i++)
        fputs(i < full ? "█" : "░", stderr);
    fprintf(stderr, " %3u%%  %s of %s  %s/s\033[K", p->total ? (unsigned)(p->done * 100 / p->total) : 100,
            amount(p, p->done, done), amount(p, p->total, total), rate);
    fflush(stderr);
}

void progress_set(struct progress *p, uint64_t done)
{
    char a[24], b[24];
    p->done = done;
    if (p->cli->json)
        return;
    if (p->cli->tty_err) {
        bar_draw(p);
        return;
    }
    unsigned tenth = p->total ? (unsigned)(done * 10 / p->total) : 10;
    if (tenth == p->shown)
        return;
    p->shown = tenth;
    fprintf(stderr, "%s: %u%% (%s of %s)\n", p->what, tenth * 10, amount(p, done, a), amount(p, p->total, b));
}

void progress_end(struct progress *p)
{
    if (!p->cli->json && p->cli->tty_err)
        fputc('\n', stderr);
}

void members_print(const json_t *obj, int indent)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)obj, name, v)
    {
        if (json_is_object(v)) {
            printf("%*s%s\n", indent, "", name);
            members_print(v, indent + 2);
            continue;
        }
        char *text =
            json_is_string(v) ? strdup(json_string_value(v)) : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("%*s%-*s %s\n", indent, "", 18 - indent, name, text ? printable(text) : "");
        free(text);
    }
}

static void write_real(FILE *to, double d)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    fputs(text, to);
    if (!strpbrk(text, ".e")) /* it stays a fraction */
        fputs(".0", to);
}

/* Within JSON text DEL and C1 controls stand in strings only. */
void json_bytes(FILE *to, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char b = (unsigned char)p[i];
        const bool c1 =
            b == 0xc2 && i + 1 < n && (unsigned char)p[i + 1] >= 0x80 && (unsigned char)p[i + 1] < 0xa0;
        if (b == 0x7f || c1)
            fprintf(to, "\\u%04X", c1 ? (unsigned char)p[++i] : b);
        else
            fputc(b, to);
    }
}

static void write_text(FILE *to, const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY);
    if (!text)
        abort();
    json_bytes(to, text, strlen(text));
    free(text);
}

/* depth: of what is indented; below zero: nothing is. */
static void new_line(FILE *to, int depth)
{
    if (depth >= 0)
        fprintf(to, "\n%*s", 2 * depth, "");
}

static void write_value(FILE *to, const json_t *v, int depth)
{
    const int inner = depth < 0 ? depth : depth + 1;
    const bool object = json_is_object(v);
    bool first = true;
    const char *name;
    json_t *child;
    size_t i;
    if (json_is_real(v)) {
        write_real(to, json_real_value(v));
        return;
    }
    if (!object && !json_is_array(v)) {
        write_text(to, v);
        return;
    }
    fputc(object ? '{' : '[', to);
    json_object_foreach((json_t *)(uintptr_t)v, name, child)
    {
        json_t *key = json_string(name);
        fputs(first ? "" : ",", to);
        new_line(to, inner);
        write_text(to, key);
        fputs(depth < 0 ? ":" : ": ", to);
        write_value(to, child, inner);
        json_decref(key);
        first = false;
    }
    json_array_foreach(v, i, child)
    {
        fputs(first ? "" : ",", to);
        new_line(to, inner);
        write_value(to, child, inner);
        first = false;
    }
    if (!first)
        new_line(to, depth);
    fputc(object ? '}' : ']', to);
}

void json_write(FILE *to, const json_t *v)
{
    write_value(to, v, -1);
}

void json_print(json_t *doc)
{
    write_value(stdout, doc, isatty(STDOUT_FILENO) ? 0 : -1);
    putchar('\n');
    json_decref(doc);
}

const char *json_text(const json_t *obj, const char *name)
{
    return json_string_value(json_object_get(obj, name));
}

const char *moment_text(const json_t *obj, const char *name, char out[24])
{
    const char *text = json_text(obj, name);
    if (!text || strlen(text) < 20 || text[19] != '.' || text[strlen(text) - 1] != 'Z')
        return text;
    snprintf(out, 24, "%.19sZ", text);
    return out;
}

uint64_t json_number(const json_t *obj, const char *name, uint64_t absent)
{
    const json_t *v = json_object_get(obj, name);
    return json_is_integer(v) ? (uint64_t)json_integer_value(v) : absent;
}
