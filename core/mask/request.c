/* request.c - budgets as people say them, "params=5.0B", "ms=-25%": parsed, written, and made into a limit. */
#include <math.h>
#include <string.h>

#include "core/base/base.h"
#include "pollard/cost.h"

/* What an amount may end in. */
typedef struct suffix {
    const char *text;
    double times;
} suffix;

static const suffix counts[] = {{"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"B", 1e9}, {"G", 1e9}, {"T", 1e12}, {NULL, 0}};
static const suffix sizes[] = {{"B", 1},        {"kB", 1e3},     {"KB", 1e3},     {"MB", 1e6},
                               {"GB", 1e9},     {"TB", 1e12},    {"KiB", 0x1p10}, {"MiB", 0x1p20},
                               {"GiB", 0x1p30}, {"TiB", 0x1p40}, {NULL, 0}};
static const suffix times[] = {{"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {NULL, 0}};

static const suffix *const suffixes[] = {
    [POL_PARAMS] = counts, [POL_BYTES] = sizes, [POL_KV_BYTES] = sizes, [POL_MACS] = counts, [POL_MS] = times};

static pol_status refuse(pol_context *ctx, const char *text, const char *why)
{
    return pol_fail(ctx, POL_EARG, "budget '%s': %s", text, why);
}

/* Digits with a point, at most 15 of them, so that one division rounds correctly. Not strtod: it takes signs, "inf" and
 * "0x1p3" too, and the locale's point alone. */
static bool read_number(const char *at, double *value, const char **end)
{
    double digits = 0, scale = 1;
    int n = 0;
    bool point = false;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && !point); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        digits = 10 * digits + (*at - '0');
        scale *= point ? 10 : 1;
        n++;
    }
    *value = digits / scale;
    *end = at;
    return n >= 1 && n <= 15;
}

static pol_status find_quantity(pol_context *ctx, const char *text, size_t n, pol_quantity *out)
{
    for (int q = 0; pol_quantity_names[q]; q++)
        if (strlen(pol_quantity_names[q]) == n && !strncmp(text, pol_quantity_names[q], n)) {
            *out = (pol_quantity)q;
            return POL_OK;
        }
    return pol_fail(ctx, POL_EARG, "budget '%s': '%.*s' is none of params, bytes, kv-bytes, macs, ms", text, (int)n,
                    text);
}

static pol_status set_share(pol_context *ctx, const char *text, double share, pol_budget_request *out)
{
    if (!(share > 0 && share <= 1))
        return refuse(ctx, text, "what stays must be above 0 and at most all");
    out->value = share;
    return POL_OK;
}

static pol_status set_amount(pol_context *ctx, const char *text, double amount, pol_budget_request *out)
{
    if (!(amount > 0 && isfinite(amount)))
        return refuse(ctx, text, "the amount must be above 0");
    out->absolute = out->embeddings = true;
    out->value = amount;
    return POL_OK;
}

pol_status pol_budget_parse(pol_context *ctx, const char *text, pol_budget_request *out)
{
    const char *equals = strchr(text, '='), *end;
    double number;
    *out = (pol_budget_request){0};
    if (!equals)
        return refuse(ctx, text, "neither separate nor joint nor a QUANTITY=VALUE such as params=0.7 or bytes=-30%");
    POL_TRY(find_quantity(ctx, text, (size_t)(equals - text), &out->quantity));
    const bool less = equals[1] == '-';
    if (!read_number(equals + 1 + less, &number, &end))
        return refuse(ctx, text, "the value is no number");
    if (!strcmp(end, "%"))
        return set_share(ctx, text, (less ? 100 - number : number) / 100, out);
    if (less)
        return refuse(ctx, text, "what goes is said in per cent");
    if (!*end)
        return number > 1 ? set_amount(ctx, text, number, out) : set_share(ctx, text, number, out);
    for (const suffix *s = suffixes[out->quantity]; s->text; s++)
        if (!strcmp(end, s->text))
            return set_amount(ctx, text, number * s->times, out);
    return pol_fail(ctx, POL_EARG, "budget '%s': '%s' is no unit of %s", text, end, pol_quantity_names[out->quantity]);
}

/* A share that a decimal cannot say exactly, as 0.7, loses no unit by that. */
pol_status pol_budget_limit(const pol_budget_request *r, const pol_cost *c, double *limit)
{
    char asked[POL_AMOUNT_TEXT], there[POL_AMOUNT_TEXT];
    *limit = r->absolute ? r->value : fmin(c->dense, r->value * c->dense * (1 + 1e-12));
    if (*limit <= c->dense)
        return POL_OK;
    pol_amount_text(r->quantity, *limit, asked);
    pol_amount_text(r->quantity, c->dense, there);
    return pol_fail(c->ctx, POL_EARG, "budget of %s: %s is more than the %s of the whole model",
                    pol_quantity_names[r->quantity], asked, there);
}
