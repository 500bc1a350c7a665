/* json.h - results as JSON values, with the stable keys of docs/json.md. For those who use jansson too: no other header
 * needs it. */
#ifndef POLLARD_JSON_H
#define POLLARD_JSON_H

#include <jansson.h>

#include "pollard/cost.h"
#include "pollard/eval.h"
#include "pollard/run.h"
#include "pollard/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* New references, yours: json_decref(). A number that is not finite becomes null. */
POL_API json_t *pol_perplexity_json(const pol_perplexity *p);
POL_API json_t *pol_task_result_json(const pol_task_result *r);
POL_API json_t *pol_outcome_json(const pol_outcome *x);
POL_API json_t *pol_repair_settings_json(const pol_repair_settings *o);
POL_API json_t *pol_repair_outcome_json(const pol_repair_outcome *x);
POL_API json_t *pol_plan_json(const pol_plan *p);
POL_API json_t *pol_sequences_json(const int64_t sequences[POL_PURPOSES]); /* by purpose */
POL_API json_t *pol_placement_json(const pol_memory *m);
POL_API json_t *pol_device_json(const pol_device_info *d);
POL_API json_t *pol_backend_json(const pol_backend_summary *b);
POL_API json_t *pol_budget_request_json(const pol_budget_request *r);
POL_API json_t *pol_cost_report_json(const pol_cost_report *r); /* "asked" where there is a limit in its quantity */
POL_API json_t *pol_config_json(const pol_config *c); /* of the model as it is: family, sizes, parameters, MACs */

#ifdef __cplusplus
}
#endif
#endif
