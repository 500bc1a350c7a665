/* settings.c - what a repair is told. */
#include "core/base/base.h"
#include "pollard/repair.h"

const char *const pol_repair_names[] = {
    [POL_REPAIR_NONE] = "none", [POL_REPAIR_BIAS] = "bias", [POL_REPAIR_RIDGE] = "ridge", NULL};
const char *const pol_repair_target_names[] = {[POL_REPAIR_HALF] = "half", [POL_REPAIR_LOCAL] = "local", NULL};

void pol_repair_defaults(pol_repair_settings *o)
{
    *o = (pol_repair_settings){.kind = POL_REPAIR_RIDGE,
                               .damping = 0.01,
                               .targets = 1u << POL_REPAIR_HALF | 1u << POL_REPAIR_LOCAL,
                               .sequences = POL_AUTO};
}

pol_status pol_repair_check(pol_context *ctx, const pol_repair_settings *o)
{
    if (o->kind == POL_REPAIR_NONE)
        return POL_OK;
    if (!(o->damping > 0 && o->damping <= 10))
        return pol_fail(ctx, POL_EARG, "repair: damping: %g is outside (0, 10]", o->damping);
    if (!(o->refit_inputs >= 0 && o->refit_inputs <= 1))
        return pol_fail(ctx, POL_EARG, "repair: strength of the input re-fit: %g is outside [0, 1]", o->refit_inputs);
    if (!o->targets || o->targets >> POL_REPAIR_TARGETS)
        return pol_fail(ctx, POL_EARG, "repair: targets: neither 'half' nor 'local' is chosen");
    if (o->sequences != POL_AUTO && (o->sequences < 1 || o->sequences > 1 << 24))
        return pol_fail(ctx, POL_EARG, "repair: sequences: %lld is outside 1..%d", (long long)o->sequences, 1 << 24);
    return POL_OK;
}
