/* config.c - sizes of a decoder: checks, and what they amount to. */
#include <inttypes.h>
#include <string.h>

#include "core/model/family.h"
#include "core/model/tensors.h"

/* Well above any published model, and small enough that products of three fit 64 bits. */
enum {
    MAX_HIDDEN = 1 << 20,
    MAX_HEADS = 1 << 16,
    MAX_HEAD_DIM = 1 << 12,
    MAX_FFN = 1 << 24,
    MAX_VOCAB = 1 << 24,
    MAX_POSITIONS = 1 << 30
};

static pol_status check_range(pol_context *ctx, const char *where, const char *what, int64_t v, int64_t lo, int64_t hi)
{
    if (v >= lo && v <= hi)
        return POL_OK;
    return pol_fail(ctx, POL_EFORMAT, "%s: %s is %" PRId64 ", outside %" PRId64 "..%" PRId64, where, what, v, lo, hi);
}

pol_status pol_config_set_shape(pol_context *ctx, const char *where, const pol_raw_shape *s, pol_config *c)
{
    POL_TRY(check_range(ctx, where, "the number of layers", s->layers, 1, POL_MAX_LAYERS));
    POL_TRY(check_range(ctx, where, "the hidden size", s->hidden, 1, MAX_HIDDEN));
    POL_TRY(check_range(ctx, where, "the number of heads", s->heads, 1, MAX_HEADS));
    POL_TRY(check_range(ctx, where, "the number of key/value heads", s->groups, 1, s->heads));
    POL_TRY(check_range(ctx, where, "the MLP width", s->ffn, 1, MAX_FFN));
    POL_TRY(check_range(ctx, where, "the vocabulary size", s->vocab, 1, MAX_VOCAB));
    POL_TRY(check_range(ctx, where, "the number of positions", s->positions, 1, MAX_POSITIONS));
    POL_TRY(check_range(ctx, where, "the sliding window", s->window, 0, MAX_POSITIONS));
    if (s->heads % s->groups)
        return pol_fail(ctx, POL_EFORMAT, "%s: %" PRId64 " heads do not divide into %" PRId64 " key/value heads", where,
                        s->heads, s->groups);
    int64_t head_dim = s->head_dim;
    if (!head_dim) {
        if (s->hidden % s->heads)
            return pol_fail(ctx, POL_EFORMAT,
                            "%s: hidden size %" PRId64 " does not divide into %" PRId64
                            " heads and no head size is given",
                            where, s->hidden, s->heads);
        head_dim = s->hidden / s->heads;
    }
    POL_TRY(check_range(ctx, where, "the head size", head_dim, 2, MAX_HEAD_DIM));
    if (head_dim % 2)
        return pol_fail(ctx, POL_EFORMAT, "%s: head size %" PRId64 " is odd, rotary embedding needs pairs", where,
                        head_dim);
    c->n_layers = (int32_t)s->layers;
    c->hidden = (int32_t)s->hidden;
    c->n_groups = (int32_t)s->groups;
    c->heads_per_group = (int32_t)(s->heads / s->groups);
    c->head_dim = (int32_t)head_dim;
    c->ffn = (int32_t)s->ffn;
    c->vocab = (int32_t)s->vocab;
    c->max_positions = (int32_t)s->positions;
    c->window = (int32_t)s->window;
    for (int32_t l = 0; l < c->n_layers; l++)
        c->layers[l] = (pol_layer_shape){c->n_groups, c->ffn};
    return POL_OK;
}

static pol_status check_number(pol_context *ctx, const char *where, const char *what, double v, double lo, double hi)
{
    if (v >= lo && v <= hi) /* not for NaN */
        return POL_OK;
    return pol_fail(ctx, POL_EFORMAT, "%s: %s is %g, outside %g..%g", where, what, v, lo, hi);
}

pol_status pol_config_check_numbers(pol_context *ctx, const char *where, const pol_config *c)
{
    POL_TRY(check_number(ctx, where, "the epsilon of RMS normalisation", c->rms_eps, 1e-12, 1));
    POL_TRY(check_number(ctx, where, "the base of rotary embedding", c->rope_theta, 1, 1e15));
    if (c->rope_scaling == POL_ROPE_NONE)
        return POL_OK;
    POL_TRY(check_number(ctx, where, "the factor of rope scaling", c->rope_factor, 1e-3, 1e6));
    if (c->rope_scaling == POL_ROPE_LINEAR)
        return POL_OK;
    POL_TRY(check_range(ctx, where, "original_max_position_embeddings", c->rope_original_positions, 1, MAX_POSITIONS));
    POL_TRY(check_number(ctx, where, "low_freq_factor", c->rope_low_freq, 1e-6, 1e6));
    POL_TRY(check_number(ctx, where, "high_freq_factor", c->rope_high_freq, 1e-6, 1e6));
    if (c->rope_low_freq >= c->rope_high_freq)
        return pol_fail(ctx, POL_EFORMAT, "%s: low_freq_factor %g is not below high_freq_factor %g", where,
                        c->rope_low_freq, c->rope_high_freq);
    return POL_OK;
}

static int64_t tensor_size(const pol_config *c, pol_tensor_kind kind, int32_t layer)
{
    int64_t rows, cols;
    pol_tensor_shape(c, kind, layer, &rows, &cols);
    return rows * cols;
}

int64_t pol_config_block_params(const pol_config *c)
{
    int64_t n = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++)
            if (!pol_tensor_is_global(k) && !pol_tensor_is_norm(k))
                n += tensor_size(c, k, l);
    return n;
}

int64_t pol_config_total_params(const pol_config *c)
{
    int64_t n = pol_config_block_params(c);
    for (int k = 0; k < POL_T_KINDS; k++) {
        if (pol_tensor_is_global(k))
            n += tensor_size(c, k, 0);
        else if (pol_tensor_is_norm(k))
            for (int32_t l = 0; l < c->n_layers; l++)
                n += tensor_size(c, k, l);
    }
    return n;
}

int64_t pol_config_macs(const pol_config *c)
{
    int64_t n = (int64_t)c->vocab * c->hidden; /* the output matrix works whether it is tied or not */
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int k = 0; k < POL_T_KINDS; k++)
            if (!pol_tensor_is_global(k) && !pol_tensor_is_vector(k))
                n += tensor_size(c, k, l);
    return n;
}
