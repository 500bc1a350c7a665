/* options.c - parsing by table. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool wrong(const char *command, const char *option, const char *value, const char *what)
{
    fprintf(stderr, "pollard %s: --%s: '%s' %s\n", command, option, value, what);
    return false;
}

static bool out_of_range(const char *command, const cli_option *o, const char *value)
{
    char what[96];
    snprintf(what, sizeof what, "is outside %.12g..%.12g", o->lo, o->hi);
    return wrong(command, o->name, value, what);
}

static bool parse_int(const char *command, const cli_option *o, const char *value)
{
    char *end;
    errno = 0;
    const long long x = strtoll(value, &end, 10);
    if (end == value || *end || errno)
        return wrong(command, o->name, value, "is not a whole number");
    if ((double)x < o->lo || (double)x > o->hi)
        return out_of_range(command, o, value);
    *(int64_t *)o->target = x;
    return true;
}

static bool parse_real(const char *command, const cli_option *o, const char *value)
{
    char *end;
    const double x = strtod(value, &end);
    if (end == value || *end || !isfinite(x))
        return wrong(command, o->name, value, "is not a number");
    if (x < o->lo || x > o->hi)
        return out_of_range(command, o, value);
    *(double *)o->target = x;
    return true;
}

static bool parse_size(const char *command, const cli_option *o, const char *value)
{
    static const char units[] = "KMGT";
    char *end;
    double x = strtod(value, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        x = ldexp(x, 10 * (int)(unit - units + 1));
        end++;
        if (!strcmp(end, "iB"))
            end += 2;
    }
    if (end == value || *end || !(x >= 0) || x >= 0x1p63)
        return wrong(command, o->name, value, "is not a size such as 800M or 12G");
    *(uint64_t *)o->target = (uint64_t)x;
    return true;
}

static bool parse_choice(const char *command, const cli_option *o, const char *value)
{
    char known[256] = "is none of";
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(o->choices[i], value)) {
            *(int *)o->target = i;
            return true;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s %s", i ? "," : "", o->choices[i]);
    }
    return wrong(command, o->name, value, known);
}

static bool add_file(cli_list *list, const char *value)
{
    const char **items = realloc((void *)list->items, (size_t)(list->n + 1) * sizeof *items);
    if (!items) {
        fputs("pollard: no memory for the arguments\n", stderr);
        return false;
    }
    items[list->n++] = value;
    list->items = items;
    return true;
}

static bool apply(const char *command, const cli_option *o, const char *value)
{
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->target = true; return true;
    case CLI_STRING: *(const char **)o->target = value; return true;
    case CLI_INT: return parse_int(command, o, value);
    case CLI_REAL: return parse_real(command, o, value);
    case CLI_SIZE: return parse_size(command, o, value);
    case CLI_CHOICE: return parse_choice(command, o, value);
    case CLI_FILES: return add_file(o->target, value);
    case CLI_HEADING: break; /* its name is no option's */
    }
    return false;
}

static const cli_option *find(const cli_option *options, const char *name, size_t n)
{
    for (const cli_option *o = options; o->name; o++)
        if (strlen(o->name) == n && !strncmp(o->name, name, n))
            return o;
    return NULL;
}

bool cli_parse(const char *command, const cli_option *options, int argc, char **argv, const char **args, int max_args,
               int *n_args)
{
    bool only_args = false;
    *n_args = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!only_args && !strcmp(a, "--")) {
            only_args = true;
            continue;
        }
        if (only_args || a[0] != '-' || !a[1]) {
            if (*n_args == max_args) {
                fprintf(stderr, "pollard %s: '%s' is one argument too many; see 'pollard help %s'\n", command, a,
                        command);
                return false;
            }
            args[(*n_args)++] = a;
            continue;
        }
        const size_t n = strcspn(a, "=");
        const cli_option *o = n > 2 && a[1] == '-' ? find(options, a + 2, n - 2) : NULL;
        if (!o) {
            fprintf(stderr, "pollard %s: %.*s is no option of it; see 'pollard help %s'\n", command, (int)n, a,
                    command);
            return false;
        }
        const char *value = a[n] ? a + n + 1 : NULL;
        if (!o->value && value)
            return wrong(command, o->name, value, "is given to an option that takes no value");
        if (o->value && !value && i + 1 < argc && strncmp(argv[i + 1], "--", 2)) /* "--out --json" forgets a value */
            value = argv[++i];
        if (o->value && !value) {
            fprintf(stderr, "pollard %s: --%s needs a value: %s\n", command, o->name, o->value);
            return false;
        }
        if (!apply(command, o, value))
            return false;
        /* --data A B C: what follows up to the next option belongs to it. */
        while (o->kind == CLI_FILES && !a[n] && i + 1 < argc && argv[i + 1][0] != '-')
            if (!apply(command, o, argv[++i]))
                return false;
    }
    return true;
}

bool cli_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

enum { HELP_COLUMN = 28, HELP_WIDTH = 80 };

/* Words from HELP_COLUMN on, in as many lines as they need. */
static void print_words(const char *text)
{
    int at = HELP_COLUMN;
    while (*text) {
        const int n = (int)strcspn(text, " ");
        if (at > HELP_COLUMN && at + 1 + n > HELP_WIDTH) {
            printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        at += printf("%s%.*s", at > HELP_COLUMN ? " " : "", n, text);
        text += n + (text[n] == ' ');
    }
    putchar('\n');
}

static void print_option(const cli_option *o)
{
    char left[64], text[256];
    snprintf(left, sizeof left, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    snprintf(text, sizeof text, "%s", o->help);
    for (int i = 0; o->kind == CLI_CHOICE && o->choices[i]; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s", i ? "," : ":", o->choices[i]);
    printf("%-*s", HELP_COLUMN, left);
    print_words(text);
}

void cli_print_options(const cli_option *options)
{
    for (const cli_option *o = options; o->name; o++) {
        if (o->kind == CLI_HEADING)
            printf("\n%s\n", o->help);
        else
            print_option(o);
    }
}
