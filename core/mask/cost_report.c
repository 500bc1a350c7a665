/* cost_report.c - what a mask came to in a budget's quantity. */
#include <math.h>
#include <stdio.h>

#include "core/base/base.h"
#include "core/mask/units.h"
#include "pollard/cost.h"

/* The blocks that a mask leaves, without anything of the embeddings' side: norms out. */
static double blocks_cost(const pol_cost *c, const uint8_t *mask)
{
    pol_cost bare = *c;
    bare.embeddings = false;
    bare.fixed = 0;
    return pol_cost_mask(&bare, mask);
}

static double whole_cost(const pol_cost *c, const uint8_t *mask)
{
    pol_cost whole = *c;
    whole.embeddings = true;
    whole.fixed = c->outside;
    return pol_cost_mask(&whole, mask);
}

static double share(double part, double whole) { return whole > 0 ? part / whole : 1; }

void pol_cost_reported(const pol_cost *c, double limit, const uint8_t *mask, pol_cost_report *out)
{
    *out = (pol_cost_report){
        .quantity = c->quantity,
        .embeddings = c->embeddings,
        .asked = limit,
        .achieved = pol_cost_mask(c, mask),
        .dense = c->dense,
        .share = share(blocks_cost(c, mask), blocks_cost(c, NULL)),
        .share_with_embeddings = share(whole_cost(c, mask), whole_cost(c, NULL)),
    };
}

void pol_amount_text(pol_quantity q, double amount, char dst[POL_AMOUNT_TEXT])
{
    static const char *const thousands[] = {"", " k", " M", " G", " T"};
    static const char *const kibi[] = {" B", " KiB", " MiB", " GiB", " TiB"};
    const bool bytes = q == POL_BYTES || q == POL_KV_BYTES;
    const double base = bytes ? 1024 : 1000;
    int i = 0;
    if (q == POL_MS) {
        snprintf(dst, POL_AMOUNT_TEXT, "%.4g ms", amount);
        return;
    }
    for (; i < 4 && fabs(amount) >= base; i++)
        amount /= base;
    snprintf(dst, POL_AMOUNT_TEXT, i ? "%.2f%s" : "%.10g%s", amount, bytes ? kibi[i] : thousands[i]);
}

void pol_cost_report_text(const pol_cost_report *r, char dst[POL_COST_TEXT])
{
    char achieved[POL_AMOUNT_TEXT], asked[POL_AMOUNT_TEXT], limit[POL_AMOUNT_TEXT + 16] = "", dense[POL_AMOUNT_TEXT];
    pol_amount_text(r->quantity, r->achieved, achieved);
    pol_amount_text(r->quantity, r->dense, dense);
    if (!isnan(r->asked)) {
        pol_amount_text(r->quantity, r->asked, asked);
        snprintf(limit, sizeof limit, " of at most %s", asked);
    }
    snprintf(dst, POL_COST_TEXT, "%s %s%s, dense %s: %.2f %% of the decoder blocks, %.2f %% with embeddings",
             pol_quantity_names[r->quantity], achieved, limit, dense, 100 * r->share, 100 * r->share_with_embeddings);
}
