/* inspect.c - `pollard inspect`: the shape of a model, or what a run kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "pollard/json.h"

void help_inspect(void) { puts("  --json                         print the result as one JSON object"); }

static void print_model(const char *path, const pol_config *c)
{
    char params[32], blocks[32], macs[32];
    printf("%s: %s\n", path, c->family);
    printf("  layers %d, hidden size %d, query heads %d in %d groups of size %d, MLP width %d, vocabulary %d%s\n", c->n_layers, c->hidden,
           c->n_groups * c->heads_per_group, c->n_groups, c->head_dim, c->ffn, c->vocab, c->tied ? ", tied embeddings" : "");
    if (c->window)
        printf("  sliding window %d\n", c->window);
    printf("  parameters %s, of them in decoder blocks %s; MACs a token %s\n", cli_count(params, (double)pol_config_total_params(c)),
           cli_count(blocks, (double)pol_config_block_params(c)), cli_count(macs, (double)pol_config_macs(c)));
}

static void print_layers(const pol_target *t)
{
    for (int32_t l = 0; l < t->units->n_layers; l++) {
        char picture[POL_PICTURE_BYTES];
        pol_mask_picture(t->units, t->mask, l, picture, sizeof picture);
        printf("  %s\n", picture);
    }
}

static json_t *target_json(const char *path, const pol_target *t, const pol_config *left)
{
    json_t *j = pol_config_json(left);
    json_object_set_new(j, "path", json_string(path));
    json_object_set_new(j, "pruned", json_boolean(t->mask != NULL));
    if (t->mask)
        json_object_set_new(j, "dense", pol_config_json(pol_source_config(t->src)));
    return j;
}

int cmd_inspect(pol_context *ctx, int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = {{"json", NULL, "", CLI_FLAG, &json, 0, 0, NULL}, {NULL, NULL, NULL, CLI_FLAG, NULL, 0, 0, NULL}};
    const char *path;
    int n;
    if (!cli_parse("inspect", options, argc, argv, &path, 1, &n))
        return EXIT_USAGE;
    if (n < 1)
        return cli_usage("inspect", "which model or run?");
    pol_target t;
    const pol_status s = pol_target_open(ctx, path, &t);
    if (s < 0)
        return cli_failed(ctx, "inspect", s);
    int code = EXIT_FAILED;
    const pol_config *dense = pol_source_config(t.src);
    pol_config *left = malloc(sizeof *left);
    if (left) {
        *left = *dense;
        if (t.mask)
            pol_mask_config(t.units, t.mask, dense, left);
        code = EXIT_DONE;
        if (json) {
            code = cli_print_json(target_json(path, &t, left));
        } else {
            print_model(path, left);
            if (t.mask) {
                printf("  decoder blocks keep %.2f %% of the dense model's parameters\n",
                       100.0 * (double)pol_config_block_params(left) / (double)pol_config_block_params(dense));
                print_layers(&t);
            }
        }
    }
    free(left);
    pol_target_close(&t);
    return code;
}
