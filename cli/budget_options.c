/* budget_options.c - --budget with --keep and --embeddings: a mode, or an amount of some quantity. */
#include <string.h>

#include "cli.h"

static int parse_request(const char *command, const char *text, pol_budget_request *out)
{
    pol_context *ctx;
    if (pol_context_new(NULL, &ctx) < 0)
        return cli_usage(command, "--budget: no memory");
    const pol_status s = pol_budget_parse(ctx, text, out);
    const int code = s < 0 ? cli_failed(ctx, command, s) : EXIT_DONE;
    pol_context_free(ctx);
    return code;
}

/* Whether `budget` is a mode; *mode stays the preset's where none is given. */
static bool read_mode(const char *budget, pol_budget_mode *mode)
{
    for (int m = 0; budget && pol_budget_mode_names[m]; m++)
        if (!strcmp(budget, pol_budget_mode_names[m])) {
            *mode = (pol_budget_mode)m;
            return true;
        }
    return !budget;
}

int cli_parse_budget(const char *command, const cli_budget *given, pol_budget_mode *mode, pol_budget_request *request)
{
    *request = (pol_budget_request){0};
    if (!read_mode(given->budget, mode)) {
        if (given->keep >= 0)
            return cli_usage(command, "--keep and --budget QUANTITY=VALUE say the same thing: give one");
        const int code = parse_request(command, given->budget, request);
        *mode = POL_BUDGET_JOINT;
        request->embeddings |= given->embeddings;
        return code;
    }
    if (given->keep < 0)
        return cli_usage(command, "--keep is missing: the share that stays");
    if (given->embeddings && *mode == POL_BUDGET_SEPARATE)
        return cli_usage(command,
                         "--embeddings in: shares of units know no embeddings; --budget joint is of parameters");
    if (given->embeddings)
        *request = (pol_budget_request){.quantity = POL_PARAMS, .embeddings = true, .value = given->keep};
    return EXIT_DONE;
}
