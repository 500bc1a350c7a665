/* inspect.c - `pollard inspect`: the shape of a model, or what a run kept. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

typedef struct inspect_args {
    const char *model;
    bool json, quiet;
} inspect_args;

enum { N_OPTIONS = 4 };

static void make_options(inspect_args *a, cli_option out[N_OPTIONS])
{
    const cli_option table[N_OPTIONS] = {
        {"model", "PATH", "of a RUN: where its model is now, if it has moved", CLI_STRING, &a->model, 0, 0, NULL},
        {"json", NULL, "print the result as one JSON object", CLI_FLAG, &a->json, 0, 0, NULL},
        {"quiet", NULL, "print nothing on success", CLI_FLAG, &a->quiet, 0, 0, NULL},
        {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL},
    };
    memcpy(out, table, sizeof table);
}

void help_inspect(void)
{
    inspect_args a = {0};
    cli_option options[N_OPTIONS];
    make_options(&a, options);
    cli_print_options(options);
}

/* What is looked at: `left` is the shape that the mask of a run leaves, or the model's own. */
typedef struct view {
    const char *path;
    pol_target target;
    pol_config left;
    const char *tokenizer; /* kind; NULL where the model has none that can be used */
} view;

static void print_model(const view *v)
{
    const pol_config *c = &v->left;
    char params[32], blocks[32], macs[32];
    printf("%s: %s\n", v->path, c->family);
    printf("  layers %d, hidden size %d, query heads %d in %d groups of size %d, MLP width %d, vocabulary %d%s\n",
           c->n_layers, c->hidden, c->n_groups * c->heads_per_group, c->n_groups, c->head_dim, c->ffn, c->vocab,
           c->tied ? ", tied embeddings" : "");
    if (c->window)
        printf("  sliding window %d\n", c->window);
    printf("  tokenizer %s\n", v->tokenizer ? v->tokenizer : "none that can be used");
    printf("  parameters %s, of them in decoder blocks %s; MACs a token %s\n",
           cli_count(params, (double)pol_config_total_params(c)), cli_count(blocks, (double)pol_config_block_params(c)),
           cli_count(macs, (double)pol_config_macs(c)));
}

/* A folder with pruned tensors removed has layers of its own widths. */
static void print_widths(const pol_config *c)
{
    bool pruned = false;
    for (int32_t l = 0; l < c->n_layers; l++)
        pruned = pruned || c->layers[l].n_groups != c->n_groups || c->layers[l].ffn != c->ffn;
    for (int32_t l = 0; l < c->n_layers && pruned; l++)
        printf("  layer %2d  heads %3d/%-3d  channels %5d/%d\n", l, c->layers[l].n_groups, c->n_groups,
               c->layers[l].ffn, c->ffn);
}

static void print_mask(const view *v)
{
    const pol_target *t = &v->target;
    printf("  decoder blocks keep %.2f %% of the dense model's parameters\n",
           100.0 * (double)pol_config_block_params(&v->left) /
               (double)pol_config_block_params(pol_source_config(t->src)));
    char form[POL_REPAIRED_TEXT_BYTES];
    if (t->repaired)
        printf("  repaired weights: %s\n", pol_repaired_text(t->repaired, form));
    for (int32_t l = 0; l < t->units->n_layers; l++) {
        char picture[POL_PICTURE_BYTES];
        pol_mask_picture(t->units, t->mask, l, picture, sizeof picture);
        printf("  %s\n", picture);
    }
}

static json_t *view_json(const view *v)
{
    char form[POL_REPAIRED_TEXT_BYTES];
    json_t *j = pol_config_json(&v->left);
    json_object_set_new(j, "path", json_string(v->path));
    json_object_set_new(j, "tokenizer", v->tokenizer ? json_string(v->tokenizer) : json_null());
    json_object_set_new(j, "pruned", json_boolean(v->target.mask != NULL));
    if (v->target.repaired)
        json_object_set_new(j, "repaired", json_string(pol_repaired_text(v->target.repaired, form)));
    if (v->target.mask)
        json_object_set_new(j, "dense", pol_config_json(pol_source_config(v->target.src)));
    return j;
}

int cmd_inspect(pol_context *ctx, int argc, char **argv)
{
    inspect_args a = {0};
    cli_option options[N_OPTIONS];
    view v = {0};
    int n;
    make_options(&a, options);
    if (!cli_parse("inspect", options, argc, argv, &v.path, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage("inspect", "which model or run?");
    cli_progress progress;
    cli_progress_init(&progress, a.quiet);
    cli_progress_log(&progress, ctx, POL_LOG_WARN);
    const pol_status s = pol_target_open(ctx, v.path, a.model, &v.target);
    if (s < 0)
        return cli_failed(ctx, "inspect", s);
    pol_tokenizer *tok = NULL;
    if (pol_tokenizer_open(v.target.src, &tok) == POL_OK)
        v.tokenizer = pol_tokenizer_kind(tok);
    pol_target_config(&v.target, &v.left);
    int code = EXIT_DONE;
    if (a.json) {
        code = cli_print_json(view_json(&v));
    } else if (!a.quiet) {
        print_model(&v);
        if (v.target.mask)
            print_mask(&v);
        else
            print_widths(&v.left);
    }
    pol_tokenizer_free(tok);
    pol_target_close(&v.target);
    return code;
}
