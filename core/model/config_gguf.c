/* config_gguf.c - the metadata of a GGUF file as a configuration. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/model/family.h"
#include "core/model/rope.h"

typedef struct reader {
    pol_context *ctx;
    const pol_gguf *g;
    const pol_family *family;
    char key[96];
} reader;

static const char *full_key(reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->family->architecture, suffix);
    return r->key;
}

/* Leaves *v alone where the key is absent. Per-layer arrays are for other architectures: this block is uniform. */
static pol_status read_int_opt(reader *r, const char *suffix, int64_t *v)
{
    const char *key = full_key(r, suffix);
    if (pol_gguf_array(r->g, key) >= 0)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: key '%s' is an array, only one value for all layers is handled",
                        pol_gguf_name(r->g), key);
    if (!pol_gguf_has(r->g, key) || pol_gguf_int(r->g, key, v))
        return POL_OK;
    return pol_fail(r->ctx, POL_EFORMAT, "%s: key '%s' is no integer", pol_gguf_name(r->g), key);
}

static pol_status read_int(reader *r, const char *suffix, int64_t *v)
{
    const char *key = full_key(r, suffix);
    return pol_gguf_has(r->g, key) ? read_int_opt(r, suffix, v)
                                   : pol_fail(r->ctx, POL_EFORMAT, "%s: key '%s' is missing", pol_gguf_name(r->g), key);
}

/* Through double to float; the range check comes with pol_config_check_numbers(), for which NaN stands for what no
 * float can hold. */
static pol_status read_float_opt(reader *r, const char *suffix, float *v)
{
    const char *key = full_key(r, suffix);
    double d;
    if (!pol_gguf_has(r->g, key))
        return POL_OK;
    if (!pol_gguf_float(r->g, key, &d))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: key '%s' is no number", pol_gguf_name(r->g), key);
    *v = fabs(d) <= 1e30 ? (float)d : NAN;
    return POL_OK;
}

/* What would change the block, so that going on would be silently wrong. */
static pol_status refuse_unknown(reader *r)
{
    static const char parts[] = "split.count";
    int64_t n;
    if (pol_gguf_int(r->g, parts, &n) && n > 1)
        return pol_fail(r->ctx, POL_EUNSUPPORTED,
                        "%s: key '%s' is %" PRId64 ": a part of a split model; merge the parts first",
                        pol_gguf_name(r->g), parts, n);
    static const struct {
        const char *suffix;
        int64_t neutral;
    } known[] = {{"expert_count", 0}, {"attention.causal", 1}, {"attention.scale", 0}, {"use_parallel_residual", 0}};
    for (size_t i = 0; i < POL_COUNT(known); i++) {
        const char *key = full_key(r, known[i].suffix);
        double v;
        if (pol_gguf_float(r->g, key, &v) && v != (double)known[i].neutral)
            return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: key '%s' is %g, only %" PRId64 " is handled",
                            pol_gguf_name(r->g), key, v, known[i].neutral);
    }
    return POL_OK;
}

/* Llama 3.1 and later store their rope scaling as one divisor per frequency. All published models of that line differ
 * in the factor only, so the parameters are recognised and then verified against every stored number. */
static pol_status recognise_llama3(reader *r, pol_config *c)
{
    static const char name[] = "rope_freqs.weight";
    const pol_gguf_tensor *t = pol_gguf_tensor_find(r->g, name);
    if (!t)
        return POL_OK;
    if (c->rope_scaling != POL_ROPE_NONE)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: tensor '%s' beside linear rope scaling is not handled",
                        pol_gguf_name(r->g), name);
    const int32_t half = c->head_dim / 2;
    if (t->ne[0] != half || t->n_dims != 1 || strcmp(t->coding->name, "f32"))
        return pol_fail(r->ctx, POL_EFORMAT, "%s: tensor '%s' is not %d values of type f32", pol_gguf_name(r->g), name,
                        (int)half);
    float *work = pol_alloc_array(r->ctx, 3 * (int64_t)half, sizeof *work);
    if (!work)
        return POL_ENOMEM;
    float *stored = work, *plain = work + half, *scaled = work + 2 * half;
    t->coding->decode(pol_gguf_data(r->g) + t->at, half, stored);
    pol_rope_frequencies(c, plain);
    if (stored[half - 1] != 1) {
        c->rope_scaling = POL_ROPE_LLAMA3;
        c->rope_factor = stored[half - 1]; /* the longest wavelength is divided by the whole factor */
        c->rope_low_freq = 1;
        c->rope_high_freq = 4;
        c->rope_original_positions = 8192;
    }
    pol_rope_frequencies(c, scaled);
    pol_status s = POL_OK;
    for (int32_t i = 0; i < half && s == POL_OK; i++)
        if (!(fabsf(plain[i] / scaled[i] / stored[i] - 1) < 1e-4f))
            s = pol_fail(r->ctx, POL_EUNSUPPORTED,
                         "%s: tensor '%s': value %d is %g, not that of the rope scaling of Llama 3",
                         pol_gguf_name(r->g), name, (int)i, stored[i]);
    pol_free(r->ctx, work);
    return s;
}

static pol_status read_rope(reader *r, pol_config *c)
{
    int64_t rotated = c->head_dim;
    POL_TRY(read_int_opt(r, "rope.dimension_count", &rotated));
    if (rotated != c->head_dim)
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: key '%s' is %" PRId64 ", only the head size %d is handled",
                        pol_gguf_name(r->g), full_key(r, "rope.dimension_count"), rotated, (int)c->head_dim);
    c->rope_theta = 10000;
    POL_TRY(read_float_opt(r, "rope.freq_base", &c->rope_theta));
    const char *type = "linear";
    size_t n = strlen(type);
    pol_gguf_str(r->g, full_key(r, "rope.scaling.type"), &type, &n);
    const bool linear = n == 6 && !memcmp(type, "linear", 6);
    if (!linear && !(n == 4 && !memcmp(type, "none", 4)))
        return pol_fail(r->ctx, POL_EUNSUPPORTED, "%s: key '%s' is '%.*s', which is not handled", pol_gguf_name(r->g),
                        full_key(r, "rope.scaling.type"), (int)(n < 40 ? n : 40), type);
    float factor = 1;
    POL_TRY(read_float_opt(r, "rope.scale_linear", &factor)); /* the name in older files */
    POL_TRY(read_float_opt(r, "rope.scaling.factor", &factor));
    if (linear && factor != 1 && factor != 0) {
        c->rope_scaling = POL_ROPE_LINEAR;
        c->rope_factor = factor;
    }
    POL_TRY(pol_config_check_numbers(r->ctx, pol_gguf_name(r->g), c));
    POL_TRY(recognise_llama3(r, c));
    return pol_config_check_numbers(r->ctx, pol_gguf_name(r->g), c);
}

static bool has_tensor(const reader *r, const char *name) { return pol_gguf_tensor_find(r->g, name) != NULL; }

pol_status pol_config_from_gguf(pol_context *ctx, const pol_gguf *g, pol_config *c)
{
    memset(c, 0, sizeof *c);
    const char *arch, *where = pol_gguf_name(g);
    size_t n;
    if (!pol_gguf_str(g, "general.architecture", &arch, &n))
        return pol_fail(ctx, POL_EFORMAT, "%s: key 'general.architecture' is missing or no string", where);
    reader r = {.ctx = ctx, .g = g, .family = pol_family_of_architecture(arch, n)};
    if (!r.family)
        return pol_fail(ctx, POL_EUNSUPPORTED, "%s: key 'general.architecture' is '%.*s', which is not handled", where,
                        (int)(n < 40 ? n : 40), arch);
    snprintf(c->family, sizeof c->family, "%s", r.family->name);
    POL_TRY(refuse_unknown(&r));

    pol_raw_shape s = {.positions = r.family->positions};
    POL_TRY(read_int(&r, "block_count", &s.layers));
    POL_TRY(read_int(&r, "embedding_length", &s.hidden));
    POL_TRY(read_int(&r, "attention.head_count", &s.heads));
    POL_TRY(read_int(&r, "feed_forward_length", &s.ffn));
    s.groups = s.heads;
    POL_TRY(read_int_opt(&r, "attention.head_count_kv", &s.groups));
    POL_TRY(read_int_opt(&r, "context_length", &s.positions));
    POL_TRY(read_int_opt(&r, "attention.sliding_window", &s.window));
    POL_TRY(read_int_opt(&r, "attention.key_length", &s.head_dim));
    int64_t value_length = s.head_dim;
    POL_TRY(read_int_opt(&r, "attention.value_length", &value_length));
    if (value_length != s.head_dim)
        return pol_fail(ctx, POL_EUNSUPPORTED,
                        "%s: key '%s' is %" PRId64 ", only that of keys (%" PRId64 ") is handled", where,
                        full_key(&r, "attention.value_length"), value_length, s.head_dim);
    const pol_gguf_tensor *embed = pol_gguf_tensor_find(g, "token_embd.weight");
    if (!embed)
        return pol_fail(ctx, POL_EFORMAT, "%s: tensor 'token_embd.weight' is missing", where);
    s.vocab = embed->ne[1]; /* the key vocab_size is younger than many files */
    POL_TRY(read_int_opt(&r, "vocab_size", &s.vocab));
    POL_TRY(pol_config_set_shape(ctx, where, &s, c));

    const char *eps = full_key(&r, "attention.layer_norm_rms_epsilon");
    if (!pol_gguf_has(g, eps))
        return pol_fail(ctx, POL_EFORMAT, "%s: key '%s' is missing", where, eps);
    POL_TRY(read_float_opt(&r, "attention.layer_norm_rms_epsilon", &c->rms_eps));
    POL_TRY(read_rope(&r, c));
    c->tied = !has_tensor(&r, "output.weight");
    /* Later layers must then agree: their tensors are asked for by name. */
    c->qkv_bias = has_tensor(&r, "blk.0.attn_q.bias");
    c->o_bias = has_tensor(&r, "blk.0.attn_output.bias");
    c->mlp_bias = has_tensor(&r, "blk.0.ffn_gate.bias");
    return POL_OK;
}
