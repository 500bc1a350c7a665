/* task.h - multiple choice by log-likelihood, as EleutherAI's lm-evaluation-harness does it without examples in the
 * prompt. docs/tasks.md has the templates and where the files differ from the harness's own data. */
#ifndef POLLARD_TASK_H
#define POLLARD_TASK_H

#include "pollard/eval.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a record of a file becomes prompts (eval/task_template.c). A prompt is context + " " + continuation:
 *   choices   {"query", "choices", "gold"}: one context, a continuation a choice
 *   contexts  {"context_options", "continuation", "gold"}: a context a choice, one continuation */
typedef struct pol_task_template {
    const char *name;
    const char *strip;  /* what a query may begin with that the harness's prompt does not have; "" = nothing */
    const char *append; /* what the prompt ends with behind the query, white space at whose end is dropped first; NULL =
                         * the query as it is */
    bool normed;        /* the harness reports acc_norm */
    const char *text;   /* one line for people */
} pol_task_template;
/* NULL for an unknown name. pol_task_template_at: i-th of the table, NULL past its end. */
POL_API const pol_task_template *pol_task_template_find(const char *name);
POL_API const pol_task_template *pol_task_template_at(int64_t i);

/* The items of a file as token sequences. */
typedef struct pol_task pol_task;

/* JSONL, also compressed. Records of both shapes are taken, whatever the template. At most `limit` items (0 = all).
 * `bos` MODEL or DOCUMENT: BOS leads a prompt by the tokenizer's policy, or in any case; NONE: never. Sequences longer
 * than the model's positions are cut from the left. POL_EARG: no such template or policy. POL_EFORMAT naming file and
 * line: a record that is no item. On success *out is yours: pol_task_free(). */
POL_API pol_status pol_task_read(pol_context *ctx, const pol_tokenizer *tok, const pol_config *c, const char *name,
                                 const char *path, pol_bos bos, int64_t limit, pol_task **out);
POL_API void pol_task_free(pol_task *t); /* takes NULL */
POL_API int64_t pol_task_items(const pol_task *t);
POL_API int64_t pol_task_longest(const pol_task *t); /* tokens of the longest sequence: a forward pass's max_seq_len */
POL_API int64_t pol_task_rows(const pol_task *t, int64_t first, int64_t n); /* choices of items [first, first + n) */
POL_API const pol_task_template *pol_task_template_of(const pol_task *t);
POL_API uint64_t pol_task_bytes(const pol_task *t); /* of host memory */

typedef struct pol_task_result {
    const pol_task_template *how;
    int64_t items, bad_items; /* bad: a log-likelihood that is not finite; then acc is NaN, never a mean without it */
    int64_t choices;          /* sequences scored */
    int64_t cut;              /* of these, cut from the left */
    double acc, acc_error;    /* share whose right choice has the largest log-likelihood, the first of equals; its
                               * standard error, sqrt(acc (1 - acc) / (items - 1)), NaN for one item */
    double norm, norm_error;  /* the same by log-likelihood a character of the choice; NaN where the harness has none */
} pol_task_result;

/* Items [first, first + n) under the model as masked now. loglik (may be NULL) [pol_task_rows()] gets the
 * log-likelihoods, item by item, choice by choice. As pol_eval_sequences() where it fails or is stopped. */
POL_API pol_status pol_task_eval(pol_forward *f, const pol_task *t, int64_t first, int64_t n, pol_eval_progress_fn fn,
                                 void *user, double *loglik, pol_task_result *out);

#ifdef __cplusplus
}
#endif
#endif
