/* run.h - a whole pruning run: its settings, its plan, doing it, and opening what it left.
 *
 * A run is a folder: run.json (settings, versions, hashes of the inputs, results), log.jsonl (a line a step),
 * initial-mask.json and mask.json (hard masks with probabilities), repaired.safetensors (the weights that make up for
 * what the mask removes), checkpoint.bin (what a resume goes on from). docs/run.md describes them.
 */
#ifndef POLLARD_RUN_H
#define POLLARD_RUN_H

#include "pollard/allocation.h"
#include "pollard/cost.h"
#include "pollard/data.h"
#include "pollard/device.h"
#include "pollard/eval.h"
#include "pollard/learn.h"
#include "pollard/memory.h"
#include "pollard/objective.h"
#include "pollard/repair.h"
#include "pollard/score.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ALLOCATION: how many units each block keeps, in the repaired model; which ones follows from the nested order. UNITS:
 * a probability a unit, many masks on the same sequence. REFERENCE: the paper's code, number for number. */
typedef enum pol_method { POL_METHOD_ALLOCATION = 0, POL_METHOD_UNITS, POL_METHOD_REFERENCE } pol_method;
POL_API extern const char *const pol_method_names[]; /* by number; NULL at the end */

/* What a run learns, one after the other; each begins with what was accepted before it. ALLOCATION: counts. BLOCKS:
 * which blocks go whole, the counts of the others scaled to the budget. UNITS: single units; after the other two in the
 * model that is repaired for somewhat larger counts. UNITS alone is what the methods of that name and REFERENCE do. */
typedef enum pol_stage_kind { POL_STAGE_ALLOCATION = 0, POL_STAGE_BLOCKS, POL_STAGE_UNITS, POL_STAGES } pol_stage_kind;
POL_API extern const char *const pol_stage_names[]; /* "allocation", "blocks", "units", NULL */

/* What a pilot can choose: of pol_allocation_settings with method ALLOCATION, of pol_learn_settings with UNITS. */
typedef enum pol_sized {
    POL_SIZED_MASKS = 1,     /* of a step */
    POL_SIZED_SEQUENCES = 2, /* of a mask */
    POL_SIZED_RATE = 4,      /* of learning */
    POL_SIZED_SPREAD = 8     /* of channels; that of groups is twice it */
} pol_sized;

/* Which probabilities become the mask: those whose hard mask did best on the held-out sequences, or the last. */
typedef enum pol_select { POL_SELECT_BEST = 0, POL_SELECT_LAST } pol_select;
POL_API extern const char *const pol_select_names[];

/* What a granularity is put together from: a name, and the kinds of units that it covers. A NULL name at the end. */
typedef struct pol_granularity {
    const char *name;
    unsigned kinds;
} pol_granularity;
POL_API extern const pol_granularity pol_granularities[];

typedef struct pol_prune_settings {
    /* what is pruned, on which text */
    const char *model;
    const char *const *data;
    int64_t n_data;
    const double *data_weights; /* [n_data] how often sequences of each file are drawn, and what the mean over the
                                 * held-out ones gives them; NULL: one text, the files after each other */
    pol_text_options text;
    pol_bos bos;
    int64_t seq_len;
    int64_t max_sequences; /* of the text; 0 = all */
    const char *out;       /* the run's folder */
    bool resume;
    const char *eval_text; /* NULL: no perplexity */
    const pol_protocol *protocol;
    int64_t eval_limit; /* chunks of it that are scored; 0 = all */

    /* what may go, and how much of it stays */
    unsigned granularity;
    double keep;
    double keep_kind[POL_UNIT_KINDS]; /* SEPARATE: of a kind; 0 = keep */
    pol_budget_request request;       /* in place of keep, with learn.budget.mode JOINT; value 0 = none */

    /* learning */
    pol_method method;
    pol_objective_settings objective;
    int64_t passes;  /* forward sequences for learning, over all stages; 0 = the mask that learning would begin with */
    unsigned stages; /* bits of pol_stage_kind; a later one has steps where passes are enough for its variables */
    bool pilot;      /* measures, before the first stage, what is best for the settings that are left open, where that
                      * takes at most a tenth of the passes; else they are presets */
    pol_allocation_settings allocation; /* of stage ALLOCATION; candidates, sequences_per_candidate, learning_rate,
                                         * spread_channels 0: left open */
    pol_learn_settings learn; /* of the others; mask_samples, sequences_per_mask 0: left open; learn.budget is filled
                               * from the above */
    unsigned sized;                   /* filled: bits of pol_sized, what the pilot chooses; 0: there is none */
    int64_t stage_passes[POL_STAGES]; /* filled: forward sequences of each, the pilot's not among them */
    int64_t stage_steps[POL_STAGES];  /* filled; before a pilot what they would be with the presets */
    int64_t levels;                     /* of a block's channels, for which the database has repaired rows */
    int64_t obs_block;                  /* channels that the OBS sweep removes at a time */
    int64_t align_channels, min_groups; /* pol_shape_rules */
    bool keep_database;                 /* database.bin stays in the folder when the run is done */
    pol_metric init;                    /* with ALLOCATION: the nested order */
    const char *init_run; /* probabilities of an earlier run (folder or mask.json) instead of a metric; NULL = metric */
    int64_t init_sequences;
    int64_t init_seq_len; /* POL_AUTO = seq_len */
    int64_t held_out;     /* calibration sequences kept from learning, to judge hard masks by; POL_AUTO = passes / 50
                             within 32..128 */
    int64_t eval_every;   /* steps between such judgements; 0 = only at the end; POL_AUTO = a fifth of the steps */
    pol_select select;
    pol_repair_settings repair; /* of the learnt mask; with ALLOCATION and RIDGE, of the model that is learnt in, too */
    int64_t checkpoint_every;   /* steps; 0 = as time passes, about once in two minutes */

    /* the machine */
    int64_t batch;               /* sequences that go through the model at a time, at most */
    pol_backend_options backend; /* of one device or several: pol_backend_open_all() */
    uint64_t memory_limit;       /* bytes of each device, as in pol_memory_plan; 0 = none */
} pol_prune_settings;

/* The preset of a method; model, data, out and keep are left to the caller. */
POL_API void pol_prune_defaults(pol_method method, pol_prune_settings *o);
/* Fills what follows from other settings (all that is POL_AUTO, learn.steps, learn.budget) and checks what needs no
 * file: POL_EARG naming setting and value. pol_prune and pol_prune_plan call it themselves, on a copy. */
POL_API pol_status pol_prune_resolve(pol_context *ctx, pol_prune_settings *o);

enum { POL_DEVICES_BYTES = 256 };

typedef struct pol_plan {
    pol_device_info device;          /* of several, the one with least memory to spare */
    int64_t n_devices;               /* that passes are dealt out to, each with the whole model */
    char devices[POL_DEVICES_BYTES]; /* for people: "4 x NAME" */
    const char *weights;             /* what they are stored as: pol_backend_weights() */
    pol_memory memory;               /* of `device` */
    int64_t step_passes;             /* that a device has of a step: where layers visit, best served by one visit */
    int64_t units, variables;        /* in all; that are learnt */
    int64_t steps;
    int64_t pilot; /* forward sequences to learn that a pilot takes, which may choose other steps; 0: there is none */
    int64_t sequences[POL_PURPOSES]; /* forward sequences */
    int64_t tokens;                  /* of all of them */
    double seconds;                  /* estimated, from a measured matrix product */
    bool text_assumed;               /* no calibration text was given */
} pol_plan;

/* One row of the closing table: a model and what it costs. */
typedef struct pol_outcome {
    bool known;
    int64_t params, macs;      /* whole model; MACs a token */
    int64_t block_params;      /* decoder blocks only */
    double held_out;           /* mean NLL of the held-out calibration sequences; NaN = not measured */
    pol_perplexity perplexity; /* tokens == 0: not measured */
} pol_outcome;

/* What a stage did, by the loss of its hard mask on the held-out sequences, in the model that it learnt in. */
typedef struct pol_stage_result {
    int64_t steps,
        chosen_step;      /* 0 steps: it was not done; chosen 0: it gained nothing, and what it began with stays */
    double before, after; /* NaN where nothing is held out */
} pol_stage_result;

typedef struct pol_prune_result {
    pol_outcome dense, initial, learnt; /* initial and learnt: the mask alone, no weight changed */
    pol_outcome repaired;               /* known: false where nothing was repaired */
    pol_repair_outcome repair;          /* what gave it */
    pol_cost_report budget;             /* of the learnt mask: in the budget's quantity, else in parameters */
    pol_stage_result stages[POL_STAGES];
    int64_t sequences[POL_PURPOSES]; /* forward sequences used */
    int64_t steps, chosen_step;      /* over all stages */
    double seconds;
    uint64_t peak_bytes;        /* resident memory of the process, its highest */
    uint64_t peak_device_bytes; /* of buffers on the device that had most */
} pol_prune_result;

/* What the caller is told. Any may be NULL. */
typedef struct pol_prune_observer {
    void *user;
    void (*plan)(void *user, const pol_plan *p);
    void (*stage)(void *user, const char *name); /* "loading", "dense perplexity", ... */
    void (*progress)(void *user, int64_t done, int64_t total);
    void (*step)(void *user, const pol_step_report *r, int64_t steps, double tokens_per_second, double seconds_left);
    void (*judged)(void *user, int64_t step, double held_out, bool best);
    void (*staged)(void *user, pol_stage_kind stage, const pol_stage_result *x); /* a stage has ended */
    void (*sized)(void *user, const char *line); /* what a pilot chose and why, line after line */
} pol_prune_observer;

/* The plan alone, before any work; opens the model's headers and reads the text. Without calibration text (n_data 0) as
 * much of it is assumed as the run can see. POL_ELIMIT, with the numbers, where it cannot fit. */
POL_API pol_status pol_prune_plan(pol_context *ctx, const pol_prune_settings *o, pol_plan *plan);

/* The run. POL_EINTERRUPTED after pol_context_stop(): the state is saved, `resume` goes on and ends bit for bit where
 * an uninterrupted run on as many threads would, however many devices of the same kind. On a failure before the first
 * checkpoint the folder is removed, if this call made it; after it, the last checkpoint stands. */
POL_API pol_status pol_prune(pol_context *ctx, const pol_prune_settings *o, const pol_prune_observer *watch,
                             pol_prune_result *result);

/* The repair of a run, or of a mask that no run of ours has made. */
typedef struct pol_repair_request {
    const char *run;   /* a run that has its mask; with `mask`: the folder that is made */
    const char *mask;  /* a mask.json in place of a run's own; NULL */
    const char *model; /* of the mask; without one: where the run's model is now, NULL = where it was */
    const char *const *data;
    int64_t n_data;
    pol_text_options text;
    pol_bos bos;
    int64_t seq_len;
    pol_repair_settings repair;
    int64_t held_out;      /* sequences behind those that are looked at, to judge by */
    const char *eval_text; /* NULL: no perplexity */
    const pol_protocol *protocol;
    int64_t eval_limit; /* chunks of it that are scored; 0 = all */
    int64_t batch;      /* sequences that go through the model at a time, at most */
    pol_backend_options backend;
    uint64_t memory_limit;
    bool resume; /* goes on with what an earlier call has left */
} pol_repair_request;

/* All but run, mask, model and data. */
POL_API void pol_repair_request_defaults(pol_repair_request *o);

typedef struct pol_repair_plan {
    pol_device_info device;
    const char *weights;
    pol_memory memory;
    int64_t sequences, held_out, eval_chunks; /* looked at, judged by, scored */
    int64_t seq_len, columns;                 /* of the widest block that stays: what tokens are needed for */
    int64_t passes;                           /* forward sequences for all of it */
} pol_repair_plan;

typedef struct pol_repair_result {
    pol_outcome dense, masked, repaired; /* the last one not known where nothing did better than the mask alone */
    pol_repair_outcome repair;
    int64_t sequences[POL_PURPOSES];
    double seconds;
    uint64_t peak_bytes, peak_device_bytes; /* as of pol_prune_result */
} pol_repair_result;

typedef struct pol_repair_observer { /* any may be NULL */
    void *user;
    void (*plan)(void *user, const pol_repair_plan *p);
    void (*stage)(void *user, const char *name);
    void (*progress)(void *user, int64_t done, int64_t total); /* layers, or chunks */
} pol_repair_observer;

/* Leaves RUN/repaired.safetensors and "repair" in RUN/run.json. POL_EINTERRUPTED after pol_context_stop(): `resume`
 * goes on behind the last whole layer and ends bit for bit where an uninterrupted call would. */
POL_API pol_status pol_repair(pol_context *ctx, const pol_repair_request *o, const pol_repair_observer *watch,
                              pol_repair_result *result);

/* A model as it can be named on a command line: a folder or GGUF file, or a run whose mask applies, with its repaired
 * weights. */
typedef struct pol_target {
    pol_context *ctx;
    pol_source *src;
    pol_units *units;
    uint8_t *mask;          /* [units->n]; NULL for a plain model */
    float *s;               /* [units->n]; NULL for a plain model */
    unsigned granularity;   /* of the run */
    pol_repaired *repaired; /* weights that go with the mask; NULL: the model's own */
} pol_target;

/* `model` is where a run's model is now, and refused for what is no run (POL_EARG); NULL = where it was. A run whose
 * model has changed since (hash) is POL_EFORMAT; one without a mask yet is POL_EFORMAT saying that it is unfinished. */
POL_API pol_status pol_target_open(pol_context *ctx, const char *path, const char *model, pol_target *out);
/* The mask alone: repaired weights are forgotten. */
POL_API void pol_target_bare(pol_target *t);
/* Mask and repaired weights, into the model of t->src. Passes that are queued have been settled. */
POL_API pol_status pol_target_apply(const pol_target *t, pol_model *m);
/* The shape of what the mask leaves; the model's own where there is none. */
POL_API void pol_target_config(const pol_target *t, pol_config *out);
POL_API void pol_target_close(pol_target *t); /* takes a zeroed one */

#ifdef __cplusplus
}
#endif
#endif
