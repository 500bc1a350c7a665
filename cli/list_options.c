/* list_options.c - values of options that are made of parts: "2,1", "NAME=FILE", "accuracy=NAME=FILE". */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static int wrong(const char *command, const char *option, const char *value, const char *what)
{
    fprintf(stderr, "pollard %s: --%s: '%s' %s\n", command, option, value, what);
    return EXIT_USAGE;
}

int cli_parse_weights(const char *command, const char *list, int64_t n, double weights[CLI_MAX_WEIGHTS])
{
    const char *at = list;
    int64_t given = 0;
    for (bool more = true; more && given < CLI_MAX_WEIGHTS; given++) {
        char *end;
        weights[given] = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(weights[given] > 0) || !isfinite(weights[given]))
            return wrong(command, "data-weights", list, "is not a list of positive numbers such as 2,1");
        more = *end == ',';
        at = end + 1;
    }
    return given == n ? EXIT_DONE : wrong(command, "data-weights", list, "has not one weight for each file of --data");
}

int cli_parse_task(const char *command, const char *option, const char *value, cli_task *out)
{
    const size_t n = strcspn(value, "=");
    if (!value[n] || !value[n + 1])
        return wrong(command, option, value, "is not NAME=FILE");
    out->file = value + n + 1;
    for (int64_t i = 0;; i++) {
        const pol_task_template *t = pol_task_template_at(i);
        if (!t)
            break;
        out->name = t->name;
        if (strlen(t->name) == n && !strncmp(t->name, value, n))
            return EXIT_DONE;
    }
    fprintf(stderr, "pollard %s: --%s: '%.*s' is none of", command, option, (int)n, value);
    const pol_task_template *t;
    for (int64_t i = 0; (t = pol_task_template_at(i)); i++)
        fprintf(stderr, "%s %s", i ? "," : "", t->name);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

int cli_parse_objective(const char *command, const char *value, pol_objective_settings *out)
{
    const size_t n = strcspn(value, "=");
    for (int i = 0; pol_objective_names[i]; i++)
        if (strlen(pol_objective_names[i]) == n && !strncmp(pol_objective_names[i], value, n)) {
            out->kind = (pol_objective_kind)i;
            if ((i == POL_OBJECTIVE_ACCURACY) != (value[n] == '='))
                break;
            if (i != POL_OBJECTIVE_ACCURACY)
                return EXIT_DONE;
            cli_task task;
            const int code = cli_parse_task(command, "objective", value + n + 1, &task);
            out->task = task.name;
            out->task_file = task.file;
            return code;
        }
    return wrong(command, "objective", value, "is none of cross-entropy, kl, accuracy=NAME=FILE");
}
