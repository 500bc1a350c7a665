/* cost_json.c - budgets and what masks came to by them, as JSON values (docs/json.md). */
#include <math.h>

#include "pollard/json.h"

json_t *pol_budget_request_json(const pol_budget_request *r)
{
    return json_pack("{ss sf ss}", "quantity", pol_quantity_names[r->quantity], r->absolute ? "amount" : "share",
                     r->value, "of", r->embeddings ? "model" : "blocks");
}

json_t *pol_cost_report_json(const pol_cost_report *r)
{
    json_t *j = json_pack("{ss sf sf sf sf sb}", "quantity", pol_quantity_names[r->quantity], "achieved", r->achieved,
                          "dense", r->dense, "share", r->share, "share_with_embeddings", r->share_with_embeddings,
                          "embeddings", (int)r->embeddings);
    if (j && isfinite(r->asked))
        json_object_set_new(j, "asked", json_real(r->asked));
    return j;
}
