/* streams.c - the residual streams of calibration sequences, batch after batch through a block or a layer. */
#include "core/streams.h"

#include <string.h>

#include "core/model/weights.h"

pol_status pol_streams_begin(pol_forward *f, const pol_sequences *s, pol_streams *out)
{
    pol_model *m = pol_forward_model(f);
    pol_context *ctx = m->ctx;
    const int64_t S = s->seq_len, C = m->config.hidden;
    memset(out, 0, sizeof *out);
    if (s->n < 1 || S < 2)
        return pol_fail(ctx, POL_EARG, "%lld sequences of %lld tokens: it takes one of at least 2", (long long)s->n,
                        (long long)S);
    *out = (pol_streams){.f = f, .n = s->n, .S = S, .C = C, .batch = pol_forward_max_tokens(f) / S};
    out->x = pol_alloc_array(ctx, pol_mul_count(s->n, S), (size_t)C * sizeof *out->x);
    pol_status status = out->x ? POL_OK : POL_ENOMEM;
    for (int64_t i = 0; status == POL_OK && i < s->n; i += out->batch) {
        status = pol_forward_begin(f, s->ids + i * S, pol_min_i64(out->batch, s->n - i), S);
        if (status == POL_OK)
            status = pol_forward_get(f, out->x + i * S * C);
    }
    if (status < 0)
        pol_streams_free(out);
    return status;
}

pol_status pol_streams_copy(const pol_streams *s, pol_streams *out)
{
    *out = *s;
    out->x = pol_alloc_array(pol_forward_model(s->f)->ctx, s->n * s->S, (size_t)s->C * sizeof *out->x);
    if (!out->x) {
        memset(out, 0, sizeof *out);
        return POL_ENOMEM;
    }
    memcpy(out->x, s->x, (size_t)(s->n * s->S * s->C) * sizeof *out->x);
    return POL_OK;
}

void pol_streams_free(pol_streams *s)
{
    if (!s->f)
        return;
    pol_free(pol_forward_model(s->f)->ctx, s->x);
    memset(s, 0, sizeof *s);
}

uint64_t pol_streams_bytes(const pol_config *c, int64_t n, int64_t S)
{
    return (uint64_t)(n * S) * (uint64_t)c->hidden * sizeof(float);
}

/* What every batch goes through. */
typedef struct course {
    int32_t layer;
    bool attention, mlp;
    const pol_tap *tap[2]; /* of attention, of the MLP */
    const pol_streams *toward;
    float *way; /* [batch, S, C] toward - x, where that is wanted */
    bool advance;
} course;

/* The tap's target of the batch of n elements from `at` on. */
static pol_status put_target(const pol_streams *s, const course *c, int64_t at, int64_t n)
{
    pol_gram_sums *g = c->tap[c->mlp]->gram;
    for (int64_t i = 0; i < n; i++)
        c->way[i] = c->toward->x[at + i] - s->x[at + i];
    return pol_upload(g->be, g->target, 0, c->way, n);
}

static pol_status pass(pol_streams *s, const course *c)
{
    pol_context *ctx = pol_forward_model(s->f)->ctx;
    for (int64_t i = 0; i < s->n; i += s->batch) {
        const int64_t B = pol_min_i64(s->batch, s->n - i), at = i * s->S * s->C;
        POL_TRY(pol_check_stop(ctx));
        POL_TRY(pol_forward_put(s->f, s->x + at, B, s->S));
        if (c->way)
            POL_TRY(put_target(s, c, at, B * s->S * s->C));
        if (c->attention)
            POL_TRY(pol_forward_attention(s->f, c->layer, c->tap[0]));
        if (c->mlp)
            POL_TRY(pol_forward_mlp(s->f, c->layer, c->tap[1]));
        if (c->advance)
            POL_TRY(pol_forward_get(s->f, s->x + at));
    }
    return POL_OK;
}

pol_status pol_streams_layer(pol_streams *s, int32_t layer, const pol_tap *groups, const pol_tap *channels,
                             bool advance)
{
    return pass(
        s, &(course){.layer = layer, .attention = true, .mlp = true, .tap = {groups, channels}, .advance = advance});
}

pol_status pol_streams_block(pol_streams *s, int32_t layer, pol_unit_kind kind, const pol_tap *tap,
                             const pol_streams *toward, bool advance)
{
    pol_context *ctx = pol_forward_model(s->f)->ctx;
    course c = {.layer = layer,
                .attention = kind == POL_UNIT_GROUP,
                .mlp = kind == POL_UNIT_CHANNEL,
                .tap = {tap, tap},
                .toward = toward,
                .advance = advance};
    if (toward && !(c.way = pol_alloc_array(ctx, s->batch * s->S, (size_t)s->C * sizeof *c.way)))
        return POL_ENOMEM;
    const pol_status status = pass(s, &c);
    pol_free(ctx, c.way);
    return status;
}
