/* prune_options.c - from the command line to settings. A preset is laid down first, what was given goes over it. */
#include "prune_options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was given; a value that no user can give where it was not. */
typedef struct given {
    const char *data_weights, *objective, *budget, *stages;
    int64_t objective_items;
    const char *out, *granularity, *init, *field, *separator, *eval_text, *protocol, *backend, *device;
    int method, format, bos, weights, baseline, score, schedule, embeddings, select, repair, advantage;
    int64_t passes, steps, seq_len, max_sequences, eval_limit, mask_samples, per_mask, window, seed, init_sequences,
        init_seq_len, held_out, eval_every, checkpoint_every, batch, threads, candidates, per_candidate, levels,
        obs_block, align_channels, min_groups, repair_sequences;
    double keep, keep_heads, keep_channels, keep_attention, keep_mlp, lr, smin, allocation_lr, spread, damping, refit;
    uint64_t memory_limit;
    bool resume, separate, normalise, no_normalise, no_repair, keep_database, fixed_spread, no_pilot;
} given;

enum { OPTION_ROOM = 96 };

static const char *const embeddings_choices[] = {"out", "in", NULL};

#define HEADING(text)                                 \
    {                                                 \
        "", NULL, text, CLI_HEADING, NULL, 0, 0, NULL \
    }

/* The table, with targets in g and c. */
static void make_options(given *g, cli_prune *c, cli_option out[OPTION_ROOM])
{
    const double most = 9e15;
    const cli_option table[] = {
        {"data", "FILE...", "calibration text: plain, JSONL or WikiText, also .gz and .zst", CLI_FILES, &c->data, 0, 0,
         NULL},
        {"keep", "SHARE", "share that stays: of each kind's units, or of parameters with --budget joint", CLI_REAL,
         &g->keep, 1e-6, 1, NULL},
        {"out", "RUN", "folder that the run writes", CLI_STRING, &g->out, 0, 0, NULL},
        {"granularity", "LIST",
         "what may go: heads, channels, blocks, in any combination; blocks not with an allocation (heads,channels)",
         CLI_STRING, &g->granularity, 0, 0, NULL},
        {"method", "NAME", "what is learnt, and preset of all below: allocation, units, reference (allocation)",
         CLI_CHOICE, &g->method, 0, 0, pol_method_names},
        {"passes", "N", "forward sequences for learning, all masks counted (1000; units 3000; reference 240000)",
         CLI_INT, &g->passes, 0, most, NULL},
        {"steps", "N", "the passes, said in steps of learning; units, reference", CLI_INT, &g->steps, 0, most, NULL},
        {"eval", "FILE", "text to measure perplexity on, before and after", CLI_STRING, &g->eval_text, 0, 0, NULL},
        {"resume", NULL, "go on where the run stopped", CLI_FLAG, &g->resume, 0, 0, NULL},

        HEADING("Budget"),
        {"budget", "WHAT",
         "separate: --keep is of each kind of units; joint: of all parameters; or an amount, a share or what goes of "
         "params, bytes, kv-bytes, macs, ms: params=5.0B, bytes=3GiB, kv-bytes=-40%, macs=-30%, ms=-25% (separate)",
         CLI_STRING, &g->budget, 0, 0, NULL},
        {"embeddings", "WHERE",
         "shares are of the decoder blocks (out), or of the whole model (in); amounts are of the whole (out)",
         CLI_CHOICE, &g->embeddings, 0, 0, embeddings_choices},
        {"keep-heads", "SHARE", "of KV groups, where it differs from --keep", CLI_REAL, &g->keep_heads, 1e-6, 1, NULL},
        {"keep-channels", "SHARE", "of MLP channels", CLI_REAL, &g->keep_channels, 1e-6, 1, NULL},
        {"keep-attention", "SHARE", "of attention blocks", CLI_REAL, &g->keep_attention, 1e-6, 1, NULL},
        {"keep-mlp", "SHARE", "of MLP blocks", CLI_REAL, &g->keep_mlp, 1e-6, 1, NULL},

        HEADING("Calibration text"),
        {"data-weights", "LIST", "how often sequences of each file are drawn, such as 2,1 (one text of all files)",
         CLI_STRING, &g->data_weights, 0, 0, NULL},
        {"seq-len", "N", "tokens of a sequence (128)", CLI_INT, &g->seq_len, 2, 1 << 20, NULL},
        {"max-sequences", "N", "sequences at most (all)", CLI_INT, &g->max_sequences, 1, most, NULL},
        CLI_TEXT_ROWS(g),

        HEADING("Perplexity of --eval"),
        {"protocol", "NAME", "how the text is cut and scored (paper): paper, standard", CLI_STRING, &g->protocol, 0, 0,
         NULL},
        {"eval-limit", "N", "chunks at most (all)", CLI_INT, &g->eval_limit, 1, most, NULL},

        HEADING("Repair"),
        {"repair", "NAME", "what makes up for the mask: ridge, bias, none (ridge)", CLI_CHOICE, &g->repair, 0, 0,
         pol_repair_names},
        {"no-repair", NULL, "the same as --repair none: masks alone", CLI_FLAG, &g->no_repair, 0, 0, NULL},
        {"repair-sequences", "N", "sequences that the repair looks at (20 tokens a column, 256 at least)", CLI_INT,
         &g->repair_sequences, 1, 1 << 24, NULL},
        {"damping", "X", "of its matrices, as a share of their mean diagonal (0.01)", CLI_REAL, &g->damping, 1e-9, 10,
         NULL},
        {"refit-inputs", "X", "strength at which the inputs of blocks are re-fitted too (0: not)", CLI_REAL, &g->refit,
         0, 1, NULL},

        HEADING("Allocation"),
        {"stages", "LIST", "what is learnt one after the other, as passes allow (allocation,blocks,units)", CLI_STRING,
         &g->stages, 0, 0, NULL},
        {"candidates", "K", "allocations a step, even (16)", CLI_INT, &g->candidates, 2, 1 << 20, NULL},
        {"sequences-per-candidate", "N", "that all candidates of a step see (1)", CLI_INT, &g->per_candidate, 1,
         1 << 20, NULL},
        {"advantage", "NAME", "what a candidate's loss counts as: rank, normalised (rank)", CLI_CHOICE, &g->advantage,
         0, 0, pol_advantage_names},
        {"spread", "X", "of a block's channels at the start, as a share of them (0.1)", CLI_REAL, &g->spread, 1e-6, 1,
         NULL},
        {"fixed-spread", NULL, "it follows the schedule alone", CLI_FLAG, &g->fixed_spread, 0, 0, NULL},
        {"allocation-lr", "X", "learning rate of the counts, in spreads (3)", CLI_REAL, &g->allocation_lr, 0, 1e9,
         NULL},
        {"levels", "N", "of a block's channels that have repaired rows (16)", CLI_INT, &g->levels, 2, 1024, NULL},
        {"obs-block", "N", "channels that the nested order removes at a time (1)", CLI_INT, &g->obs_block, 1, 1 << 16,
         NULL},
        {"align-channels", "N", "channels kept are a multiple of N (1)", CLI_INT, &g->align_channels, 1, 1 << 16, NULL},
        {"min-groups", "N", "KV groups that every attention block keeps (0)", CLI_INT, &g->min_groups, 0, 1 << 20,
         NULL},
        {"keep-database", NULL, "leave the repaired levels in the run's folder", CLI_FLAG, &g->keep_database, 0, 0,
         NULL},

        HEADING("Initial probabilities"),
        {"init", "METRIC|RUN",
         "wanda-sp, flap, obs, magnitude, random, uniform, or an earlier run (wanda-sp; allocation: obs, the nested order)",
         CLI_STRING, &g->init, 0, 0, NULL},
        {"init-sequences", "N", "sequences that wanda-sp, flap or obs sees (128)", CLI_INT, &g->init_sequences, 1,
         1 << 20, NULL},
        {"init-seq-len", "N", "tokens of one (as --seq-len; reference 1024)", CLI_INT, &g->init_seq_len, 2, 1 << 20,
         NULL},

        HEADING("Learning"),
        {"no-pilot", NULL, "measure nothing: K, sequences a mask, learning rate and spread are presets or as given",
         CLI_FLAG, &g->no_pilot, 0, 0, NULL},
        {"objective", "NAME",
         "what is brought down: cross-entropy; kl, the divergence from the dense model; accuracy=TASK=FILE, the share "
         "of a multiple-choice file's items that are wrong (cross-entropy)",
         CLI_STRING, &g->objective, 0, 0, NULL},
        {"objective-items", "N", "of accuracy: items that are learnt from, the others judge (half)", CLI_INT,
         &g->objective_items, 1, most, NULL},
        {"mask-samples", "K", "masks a step (16; reference 2)", CLI_INT, &g->mask_samples, 1, 1 << 20, NULL},
        {"sequences-per-mask", "N", "sequences each mask sees (1; reference 8)", CLI_INT, &g->per_mask, 1, 1 << 20,
         NULL},
        {"separate-sequences", NULL, "each mask sees its own sequences (all see the same)", CLI_FLAG, &g->separate, 0,
         0, NULL},
        {"baseline", "NAME", "what losses are compared with (leave-one-out; reference moving-average)", CLI_CHOICE,
         &g->baseline, 0, 0, pol_baseline_names},
        {"baseline-window", "W", "of the moving average (5)", CLI_INT, &g->window, 1, 1 << 20, NULL},
        {"score", "NAME", "score function (sqrt)", CLI_CHOICE, &g->score, 0, 0, pol_score_names},
        {"normalise", NULL, "divide advantages by their running deviation (yes; reference no)", CLI_FLAG, &g->normalise,
         0, 0, NULL},
        {"no-normalise", NULL, "do not divide; needs --lr", CLI_FLAG, &g->no_normalise, 0, 0, NULL},
        {"lr", "X", "learning rate (sized to the passes; reference 0.002)", CLI_REAL, &g->lr, 0, 1e9, NULL},
        {"schedule", "NAME", "of the learning rate (cosine)", CLI_CHOICE, &g->schedule, 0, 0, pol_schedule_names},
        {"smin", "X", "probabilities stay within X and 1 - X (0.003; reference 0)", CLI_REAL, &g->smin, 0, 0.49, NULL},
        {"seed", "N", "of all random choices (42)", CLI_INT, &g->seed, 0, most, NULL},

        HEADING("Choice of the mask"),
        {"held-out", "N", "calibration sequences that only judge masks (passes / 50, within 32..128)", CLI_INT,
         &g->held_out, 0, 1 << 30, NULL},
        {"eval-every", "STEPS", "steps between judgements (a fifth of the run)", CLI_INT, &g->eval_every, 0, most,
         NULL},
        {"select", "WHICH", "probabilities that become the mask, best by held-out loss or last (best; reference last)",
         CLI_CHOICE, &g->select, 0, 0, pol_select_names},

        HEADING("Machine and output"),
        {"checkpoint-every", "STEPS", "steps between checkpoints (about two minutes)", CLI_INT, &g->checkpoint_every, 0,
         most, NULL},
        {"batch", "N", "sequences that go through the model at a time, at most (8)", CLI_INT, &g->batch, 1, 1 << 20,
         NULL},
        CLI_DEVICE_ROWS(g, "N|NAME,...",
                        "index, name or part of a name, as 'pollard devices' lists them; with commas between, or all: "
                        "several, which share the work",
                        "what weights are stored as; 16 bits need cuda or opencl (auto: f32, with cuda bf16; --resume: "
                        "as they were)"),
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &c->json, 0, 0, NULL},
        {"verbose", NULL, "print the library's log", CLI_FLAG, &c->verbose, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &c->quiet, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    _Static_assert(sizeof table / sizeof table[0] <= OPTION_ROOM, "room for every option");
    memcpy(out, table, sizeof table);
}

void help_prune(void)
{
    given g = {0};
    cli_prune c = {0};
    cli_option options[OPTION_ROOM];
    make_options(&g, &c, options);
    cli_print_options(options);
}

static int parse_granularity(const char *command, const char *list, unsigned *out)
{
    *out = 0;
    for (const char *at = list; *at;) {
        const size_t n = strcspn(at, ",");
        const pol_granularity *part = pol_granularities;
        while (part->name && !(strlen(part->name) == n && !strncmp(part->name, at, n)))
            part++;
        if (!part->name) {
            fprintf(stderr, "pollard %s: --granularity: '%.*s' is none of heads, channels, blocks\n", command, (int)n,
                    at);
            return EXIT_USAGE;
        }
        *out |= part->kinds;
        at += n + (at[n] == ',');
    }
    return EXIT_DONE;
}

#define OVER(field, value)     \
    do {                       \
        if ((value) >= 0)      \
            (field) = (value); \
    } while (0)

static int parse_stages(const char *command, const char *list, unsigned *out)
{
    *out = 0;
    for (const char *at = list; *at;) {
        const size_t n = strcspn(at, ",");
        int i = 0;
        while (pol_stage_names[i] && !(strlen(pol_stage_names[i]) == n && !strncmp(pol_stage_names[i], at, n)))
            i++;
        if (!pol_stage_names[i]) {
            fprintf(stderr, "pollard %s: --stages: '%.*s' is none of allocation, blocks, units\n", command, (int)n, at);
            return EXIT_USAGE;
        }
        *out |= 1u << i;
        at += n + (at[n] == ',');
    }
    return EXIT_DONE;
}

static int lay_allocation(const char *command, const given *g, pol_prune_settings *o)
{
    pol_allocation_settings *a = &o->allocation;
    OVER(a->candidates, (int32_t)g->candidates);
    OVER(a->sequences_per_candidate, (int32_t)g->per_candidate);
    OVER(a->learning_rate, g->allocation_lr);
    OVER(a->spread_channels, g->spread);
    if (g->advantage >= 0)
        a->advantage = (pol_advantage)g->advantage;
    if (g->fixed_spread)
        a->adapt_spread = false;
    OVER(o->levels, g->levels);
    OVER(o->obs_block, g->obs_block);
    OVER(o->align_channels, g->align_channels);
    OVER(o->min_groups, g->min_groups);
    o->keep_database = g->keep_database;
    if (!g->stages)
        return EXIT_DONE;
    if (o->method != POL_METHOD_ALLOCATION)
        return cli_usage(command, "--stages are those of --method allocation");
    return parse_stages(command, g->stages, &o->stages);
}

static void lay_repair(const given *g, pol_prune_settings *o)
{
    pol_repair_settings *r = &o->repair;
    if (g->repair >= 0)
        r->kind = (pol_repair_kind)g->repair;
    if (g->no_repair)
        r->kind = POL_REPAIR_NONE;
    OVER(r->sequences, g->repair_sequences);
    OVER(r->damping, g->damping);
    OVER(r->refit_inputs, g->refit);
}

/* Forward sequences for learning, said as such or as steps. */
static int lay_passes(const char *command, const given *g, pol_prune_settings *o)
{
    OVER(o->passes, g->passes);
    if (g->steps < 0)
        return EXIT_DONE;
    if (o->method == POL_METHOD_ALLOCATION)
        return cli_usage(command, "--steps: an allocation is learnt in several stages: give --passes");
    if (g->passes >= 0)
        return cli_usage(command, "--steps and --passes say the same thing: give one");
    if (!o->learn.mask_samples)
        o->learn.mask_samples = 16;
    if (!o->learn.sequences_per_mask)
        o->learn.sequences_per_mask = 1; /* what a step is, is said with it */
    if (__builtin_mul_overflow(g->steps, (int64_t)o->learn.mask_samples * o->learn.sequences_per_mask, &o->passes))
        return cli_usage(command, "--steps: more forward sequences than can be counted");
    return EXIT_DONE;
}

static void lay_learning(const given *g, pol_prune_settings *o)
{
    pol_learn_settings *l = &o->learn;
    OVER(l->mask_samples, (int32_t)g->mask_samples);
    OVER(l->sequences_per_mask, (int32_t)g->per_mask);
    OVER(l->baseline_window, (int32_t)g->window);
    OVER(l->learning_rate, g->lr);
    OVER(l->smin, g->smin);
    if (g->seed >= 0)
        l->seed = o->allocation.seed = (uint64_t)g->seed;
    if (g->baseline >= 0)
        l->baseline = (pol_baseline)g->baseline;
    if (g->score >= 0)
        l->score = (pol_score)g->score;
    if (g->schedule >= 0)
        l->schedule = (pol_schedule)g->schedule;
    l->shared_sequences = !g->separate;
    if (g->normalise || g->no_normalise)
        l->normalise = g->normalise;
}

static int lay_over(const char *command, const given *g, pol_prune_settings *o)
{
    o->out = g->out;
    o->resume = g->resume;
    o->pilot &= !g->no_pilot;
    o->text = (pol_text_options){.format = (pol_text_format)g->format, .field = g->field, .separator = g->separator};
    o->bos = (pol_bos)g->bos;
    o->eval_text = g->eval_text;
    o->keep = fmax(g->keep, 0);
    const double kinds[POL_UNIT_KINDS] = {[POL_UNIT_GROUP] = g->keep_heads,
                                          [POL_UNIT_CHANNEL] = g->keep_channels,
                                          [POL_UNIT_ATTENTION] = g->keep_attention,
                                          [POL_UNIT_MLP] = g->keep_mlp};
    for (int k = 0; k < POL_UNIT_KINDS; k++)
        OVER(o->keep_kind[k], kinds[k]);
    lay_learning(g, o);
    lay_repair(g, o);
    int code = lay_allocation(command, g, o);
    if (code != EXIT_DONE)
        return code;
    if (g->select >= 0)
        o->select = (pol_select)g->select;
    OVER(o->seq_len, g->seq_len);
    OVER(o->max_sequences, g->max_sequences);
    OVER(o->eval_limit, g->eval_limit);
    OVER(o->init_sequences, g->init_sequences);
    OVER(o->init_seq_len, g->init_seq_len);
    OVER(o->held_out, g->held_out);
    OVER(o->eval_every, g->eval_every);
    OVER(o->checkpoint_every, g->checkpoint_every);
    OVER(o->batch, g->batch);
    o->backend = (pol_backend_options){.name = g->backend,
                                       .device = g->device,
                                       .threads = (int32_t)g->threads,
                                       .weights = pol_weight_names[g->weights]};
    o->memory_limit = g->memory_limit;
    if (g->init && !pol_metric_find(g->init, &o->init))
        o->init_run = g->init;
    if (g->protocol && !(o->protocol = cli_protocol(command, g->protocol)))
        return EXIT_USAGE;
    if (g->granularity) {
        code = parse_granularity(command, g->granularity, &o->granularity);
        if (code != EXIT_DONE)
            return code;
    }
    return lay_passes(command, g, o);
}

int cli_prune_parse(const char *command, int argc, char **argv, cli_prune *c)
{
    given g = {.repair = -1,
               .advantage = -1,
               .candidates = -1,
               .per_candidate = -1,
               .levels = -1,
               .obs_block = -1,
               .align_channels = -1,
               .min_groups = -1,
               .repair_sequences = -1,
               .allocation_lr = -1,
               .spread = -1,
               .damping = -1,
               .refit = -1,
               .baseline = -1,
               .score = -1,
               .schedule = -1,
               .select = -1,
               .passes = -1,
               .steps = -1,
               .seq_len = -1,
               .max_sequences = -1,
               .eval_limit = -1,
               .mask_samples = -1,
               .per_mask = -1,
               .window = -1,
               .seed = -1,
               .init_sequences = -1,
               .init_seq_len = -1,
               .held_out = -1,
               .eval_every = -1,
               .checkpoint_every = -1,
               .batch = -1,
               .keep = -1,
               .keep_heads = -1,
               .keep_channels = -1,
               .keep_attention = -1,
               .keep_mlp = -1,
               .lr = -1,
               .smin = -1};
    cli_option options[OPTION_ROOM];
    memset(c, 0, sizeof *c);
    make_options(&g, c, options);
    const char *model;
    int n;
    if (!cli_parse(command, options, argc, argv, &model, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage(command, "which model?");
    if (g.normalise && g.no_normalise)
        return cli_usage(command, "--normalise and --no-normalise contradict each other");
    pol_prune_defaults((pol_method)g.method, &c->settings);
    c->settings.model = model;
    c->settings.data = c->data.items;
    c->settings.n_data = c->data.n;
    if (g.data_weights) {
        const int code = cli_parse_weights(command, g.data_weights, c->data.n, c->weights);
        if (code != EXIT_DONE)
            return code;
        c->settings.data_weights = c->weights;
    }
    if (g.objective) {
        const int code = cli_parse_objective(command, g.objective, &c->settings.objective);
        if (code != EXIT_DONE)
            return code;
    }
    c->settings.objective.task_items = g.objective_items;
    const cli_budget budget = {.budget = g.budget, .keep = g.keep, .embeddings = g.embeddings};
    const int code = cli_parse_budget(command, &budget, &c->settings.learn.budget.mode, &c->settings.request);
    return code == EXIT_DONE ? lay_over(command, &g, &c->settings) : code;
}
