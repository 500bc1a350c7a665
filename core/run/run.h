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
#define POL_RUN_REPAIRED "repaired.safetensors"
#define POL_RUN_DATABASE "database.bin"

/* The folder of a run, in which this process alone works. */
typedef struct pol_run_folder {
    pol_context *ctx;
    char *path;
    char *json, *log, *mask, *initial, *checkpoint, *database; /* paths of its files */
    int lock;                                                  /* descriptor that holds the folder */
    bool made;                                                 /* by this call: it held nothing before */
} pol_run_folder;

/* Makes the folder, or takes up one that a run has been working in; with `resume` only. What a killed process was
 * writing there is removed. On failure nothing has been made and *f is zeroed. */
pol_status pol_run_folder_open(pol_context *ctx, const char *path, bool resume, pol_run_folder *f);
/* Removes the files of a run and the folder, unless something else lies in it. */
void pol_run_folder_discard(pol_run_folder *f);
void pol_run_folder_close(pol_run_folder *f); /* takes a zeroed one */

/* shares.c: what a pilot is to choose (o->sized), presets in place of what is left open, and passes and steps of the
 * stages. `units` NULL: the model is not known yet, and every stage has its share. Called again when more is known. */
pol_status pol_prune_share_out(pol_context *ctx, pol_prune_settings *o, const pol_units *units);
/* The first stage, which a pilot is for; and how many variables one has. */
pol_stage_kind pol_prune_first_stage(const pol_prune_settings *o);
int64_t pol_prune_variables(const pol_prune_settings *o, const pol_units *u, pol_stage_kind stage);
int64_t pol_prune_pilot_passes(const pol_prune_settings *o);
/* Steps of learning, over all stages, and steps between judgements. */
int64_t pol_prune_steps(const pol_prune_settings *o);
int64_t pol_prune_eval_every(const pol_prune_settings *o);
/* Sequences that are drawn to learn from, at most so many different ones; of a stage that a pilot sizes, whatever it
 * chooses. And of that stage alone; 0 where there is no pilot. */
int64_t pol_prune_draws(const pol_prune_settings *o);
int64_t pol_prune_sized_draws(const pol_prune_settings *o);

/* Bits of the kinds of blocks that the stage BLOCKS may take whole: those whose units may all go. */
unsigned pol_blocks_that_may_go(const pol_prune_settings *o);

/* Everything opened that a plan and a run need, before any weight is read. */
typedef struct pol_inputs {
    pol_context *ctx;
    pol_source *src;
    pol_tokenizer *tok;
    pol_backend **devices; /* of one kind of backend; passes are dealt out to them */
    int64_t n_devices;
    pol_memory *memory; /* [n_devices] what each needs and where its weights go: pol_plan_make() */
    pol_units *units;
    pol_sequences text;   /* calibration, all of it */
    int64_t n_learn;      /* the first ones are learnt from, the last held_out judge */
    pol_deck_part *parts; /* [n_parts] of what is learnt from, where texts have weights; else NULL */
    int64_t n_parts;
    double *held_weight;   /* [held_out] of each sequence in their mean, where texts have weights; else NULL: equal */
    pol_sequences init;    /* recut for the metric; n = 0 where it needs none */
    pol_sequences repair;  /* of those learnt from, what the repair's statistics are made of; n = 0: no repair */
    pol_sequences eval;    /* n = 0 where there is none */
    pol_task *task;        /* NULL but with objective ACCURACY */
    int64_t n_learn_items; /* of it, the first ones; the others judge */
    char *init_mask;       /* mask.json of the run to begin from; NULL = metric */
    pol_cost *cost;        /* in the quantity that the budget is in, else in parameters; NULL: not yet (milliseconds) */
    pol_budget budget;     /* settings' own, with cost and limit where a quantity is asked for */
    double init_keep[POL_UNIT_KINDS]; /* mean initial probability of each kind */
    int64_t max_tokens, max_seq_len;  /* of a forward pass */
} pol_inputs;

/* Settles o's shares by the units of the model. */
pol_status pol_inputs_open(pol_context *ctx, pol_prune_settings *o, pol_inputs *in);
void pol_inputs_close(pol_inputs *in);

/* budget.c: cost, budget and init_keep of what the settings ask for, checked. Milliseconds wait for `timing` (NULL: not
 * yet). */
pol_status pol_inputs_budget(const pol_prune_settings *o, const pol_timing *timing, pol_inputs *in);

/* texts.c: the calibration text, and what of it is learnt from. And the mean of the held-out sequences' losses. */
pol_status pol_texts_read(const pol_prune_settings *o, pol_inputs *in);
double pol_held_out_mean(const pol_inputs *in, const double *loss, int64_t n);

/* Once the plan has placed the weights: whether counts are learnt in the repaired model, which layers that visit a
 * device leave no room for. */
bool pol_inputs_have_database(const pol_prune_settings *o, const pol_inputs *in);

pol_status pol_plan_make(const pol_prune_settings *o, pol_inputs *in, pol_plan *plan);

/* run.json. Settings and inputs (model, data, eval, init, each with its hash) are written once, results as they come.
 */
json_t *pol_settings_json(const pol_prune_settings *o);
pol_status pol_inputs_json(const pol_prune_settings *o, pol_inputs *in, json_t *run);
/* {"path", "hash"} of an input, of a file by its contents. The path is absolute, so that a run can be used from any
 * folder. On success *out is yours: json_decref(). */
pol_status pol_input_json(pol_context *ctx, const char *path, const char *hash, json_t **out);
pol_status pol_file_json(pol_context *ctx, const char *path, json_t **out);
/* A file that is a run.json of this version. *out is yours: json_decref(). */
pol_status pol_run_json_read(pol_context *ctx, const char *path, json_t **out);
pol_status pol_repair_outcome_read(pol_context *ctx, const char *where, const json_t *j, pol_repair_outcome *x);
pol_status pol_outcome_read(pol_context *ctx, const char *where, const json_t *j, pol_outcome *x);
/* Names the first setting (POL_EARG) or input (POL_EFORMAT) that differs from those of the run. */
pol_status pol_run_json_matches(pol_context *ctx, const char *path, const json_t *run, const json_t *now);

/* log.jsonl: lines of steps >= `next` are cut off, then lines are appended. */
typedef struct pol_step_log {
    pol_context *ctx;
    char *path;
    void *stream;
} pol_step_log;
pol_status pol_step_log_open(pol_context *ctx, const char *path, int64_t next, pol_step_log *log);
pol_status pol_step_log_add(pol_step_log *log, const json_t *line);
pol_status pol_step_log_sync(pol_step_log *log);  /* to disk */
pol_status pol_step_log_close(pol_step_log *log); /* takes a zeroed one */

/* Bytes that this process may still take: the system's figure or a cgroup's, the smaller. */
uint64_t pol_memory_available(void);
uint64_t pol_memory_peak(void); /* highest resident size of this process */
double pol_seconds(void);       /* monotonic clock */

#endif
