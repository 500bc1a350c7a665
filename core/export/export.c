/* export.c - pol_export: the folder, piece by piece, under a temporary name. */
#include "pollard/export.h"

#include <string.h>

#include "core/base/file.h"
#include "core/export/describe.h"
#include "core/export/hf_config.h"
#include "core/export/layout.h"
#include "core/export/weights.h"
#include "core/model/tokenizer/export.h"

static const uint64_t DEFAULT_SHARD_BYTES = 5000000000u;

/* What a folder may have beside config and weights that a user of the pruned model needs; licences included. */
static const char *const copied_files[] = {
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
};

static pol_status copy_file(pol_context *ctx, const char *from_dir, const char *name, const char *to_dir)
{
    char *from = pol_path_join(ctx, from_dir, name), *to = pol_path_join(ctx, to_dir, name);
    pol_status s = !from || !to ? POL_ENOMEM : pol_path_exists(from) ? pol_file_copy(ctx, from, to) : POL_OK;
    pol_free(ctx, from);
    pol_free(ctx, to);
    return s;
}

/* A folder's files as they are; a GGUF's vocabulary as tokenizer.json. *bos and *eos are set for a GGUF only: a
 * folder's config.json has them already. */
static pol_status write_tokenizer(pol_source *src, const char *dir, int32_t *bos, int32_t *eos)
{
    pol_context *ctx = pol_source_context(src);
    *bos = *eos = -1;
    if (!pol_source_is_gguf(src)) {
        for (size_t i = 0; i < POL_COUNT(copied_files); i++)
            POL_TRY(copy_file(ctx, pol_source_path(src), copied_files[i], dir));
        return POL_OK;
    }
    pol_tokenizer *tok;
    POL_TRY(pol_tokenizer_open(src, &tok));
    *bos = pol_tokenizer_bos(tok);
    *eos = pol_tokenizer_eos(tok);
    pol_status s = pol_tokenizer_write_json(tok, ctx, dir);
    pol_tokenizer_free(tok);
    return s;
}

static pol_status write_all(pol_source *src, const pol_layout *l, const pol_export_options *o, const char *dir)
{
    pol_dtype written;
    int32_t bos, eos;
    POL_TRY(write_tokenizer(src, dir, &bos, &eos));
    POL_TRY(pol_export_weights(src, l, o->dtype, o->shard_bytes ? o->shard_bytes : DEFAULT_SHARD_BYTES, dir, &written));
    POL_TRY(pol_export_config(src, &l->out, written, bos, eos, dir));
    if (o->format == POL_EXPORT_HF)
        POL_TRY(pol_export_pollard_json(src, l, dir));
    return pol_export_card(src, l, dir);
}

static pol_status check_options(pol_context *ctx, const pol_export_options *o)
{
    if (o->format != POL_EXPORT_ZEROS && o->format != POL_EXPORT_HF)
        return pol_fail(ctx, POL_EARG, "export format %d is unknown", (int)o->format);
    if (o->dtype && strcmp(o->dtype, "f32") != 0 && strcmp(o->dtype, "f16") != 0 && strcmp(o->dtype, "bf16") != 0)
        return pol_fail(ctx, POL_EARG, "export type '%s' is none of f32, f16, bf16", o->dtype);
    return POL_OK;
}

pol_status pol_export(pol_source *src, const pol_units *u, const uint8_t *mask, const pol_export_options *o,
                      const char *out_dir)
{
    pol_context *ctx = pol_source_context(src);
    POL_TRY(check_options(ctx, o));
    pol_layout l;
    POL_TRY(pol_layout_make(src, u, mask, o->format, o->repaired, &l));
    pol_outdir dir;
    pol_status s = pol_export_check_biases(src, &l.out);
    if (s == POL_OK)
        s = pol_outdir_open(ctx, out_dir, &dir);
    if (s == POL_OK) {
        s = write_all(src, &l, o, dir.tmp);
        if (s == POL_OK)
            s = pol_outdir_commit(&dir);
        else
            pol_outdir_abort(&dir);
    }
    pol_layout_free(&l);
    return s;
}
