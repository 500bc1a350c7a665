/* run.h - what the parts of a run share. */
#ifndef POL_RUN_INTERNAL_H
#define POL_RUN_INTERNAL_H

#include <jansson.h>

#include "core/base/base.h"
#include "pollard/json.h"
#include "pollard/run.h"

#define POL_RUN_JSON "run.json"
#define POL_RUN_LOG "log.jsonl"
#define POL_RUN_MASK "mask.json"
#define POL_RUN_INITIAL "initial-mask.json"
#define POL_RUN_CHECKPOINT "checkpoint.bin"

enum { POL_RUN_JSON_LIMIT = 1 << 24 };

/* Everything opened that a plan and a run need, before any weight is read. */
typedef struct pol_inputs {
    pol_context *ctx;
    pol_source *src;
    pol_tokenizer *tok;
    pol_backend *be;
    pol_units *units;
    pol_sequences text;   /* calibration, all of it */
    int64_t n_learn;      /* the first ones are learnt from, the last held_out judge */
    pol_sequences init;   /* recut for the metric; n = 0 where it needs none */
    pol_sequences eval;   /* n = 0 where there is none */
    double init_keep[POL_UNIT_KINDS]; /* mean initial probability of each kind */
    int64_t max_tokens, max_seq_len;  /* of a forward pass */
} pol_inputs;

pol_status pol_inputs_open(pol_context *ctx, const pol_prune_settings *o, pol_inputs *in);
void pol_inputs_close(pol_inputs *in);

pol_status pol_plan_make(const pol_prune_settings *o, pol_inputs *in, pol_plan *plan);

/* run.json. `inputs` and `settings` are written once; results are added as they come. */
json_t *pol_settings_json(const pol_prune_settings *o);
pol_status pol_outcome_read(pol_context *ctx, const char *where, const json_t *j, pol_outcome *x);
pol_status pol_inputs_json(const pol_prune_settings *o, pol_inputs *in, json_t *run);
/* POL_EARG naming the first setting or input that differs from those of the run. */
pol_status pol_run_json_matches(pol_context *ctx, const char *path, const json_t *run, const json_t *now);

/* log.jsonl: lines of steps >= `next` are cut off, then lines are appended. */
typedef struct pol_step_log {
    pol_context *ctx;
    char *path;
    void *stream;
} pol_step_log;
pol_status pol_step_log_open(pol_context *ctx, const char *path, int64_t next, pol_step_log *log);
pol_status pol_step_log_add(pol_step_log *log, const json_t *line);
pol_status pol_step_log_close(pol_step_log *log); /* takes a zeroed one */

uint64_t pol_memory_available(void); /* bytes this process may still take: the system's figure or a cgroup's, the smaller */
uint64_t pol_memory_peak(void);      /* highest resident size of this process */
double pol_seconds(void);            /* monotonic clock */

#endif
