/* walk.c - the dense streams, block after block, with moments. */
#include "core/repair/walk.h"

#include <string.h>

pol_status pol_walk_begin(pol_forward *f, const pol_sequences *cal, unsigned granularity, pol_walk *out)
{
    pol_model *m = pol_forward_model(f);
    const int64_t widest = pol_widest_input(&m->config, granularity);
    memset(out, 0, sizeof *out);
    out->m = m;
    pol_status s = pol_model_set_order(m, NULL);
    if (s == POL_OK)
        s = pol_streams_begin(f, cal, &out->streams);
    if (s == POL_OK && widest) {
        s = pol_gram_new(m->be, pol_forward_max_tokens(f), widest, 0, &out->sums);
        out->h = pol_alloc_array(m->ctx, widest * widest, sizeof *out->h);
        out->w = pol_alloc_array(m->ctx, widest, (size_t)m->config.hidden * sizeof *out->w);
        if (s == POL_OK && (!out->h || !out->w))
            s = POL_ENOMEM;
    }
    if (s < 0)
        pol_walk_end(out);
    return s;
}

void pol_walk_end(pol_walk *w)
{
    if (!w->m)
        return;
    pol_free(w->m->ctx, w->h);
    pol_free(w->m->ctx, w->w);
    pol_gram_free(&w->sums);
    pol_streams_free(&w->streams);
    memset(w, 0, sizeof *w);
}

static pol_status read_moments(pol_walk *w, int64_t N)
{
    double trace = 0;
    POL_TRY(pol_gram_read(&w->sums, N, w->h, NULL));
    for (int64_t i = 0; i < N * N; i++)
        w->h[i] /= (double)w->sums.tokens;
    for (int64_t i = 0; i < N; i++)
        trace += w->h[i * N + i];
    for (int64_t i = 0; trace == 0 && i < N; i++)
        w->h[i * N + i] = 1;
    return POL_OK;
}

pol_status pol_walk_block(pol_walk *w, int32_t layer, pol_unit_kind kind, bool look)
{
    pol_model *m = w->m;
    const pol_config *c = &m->config;
    const int64_t N = pol_block_inputs(c, layer, kind);
    const bool last = layer + 1 == c->n_layers && kind == POL_UNIT_CHANNEL;
    if (!N)
        return POL_OK;
    if (look)
        POL_TRY(pol_gram_reset(&w->sums, kind == POL_UNIT_CHANNEL ? pol_padded(m->be, N) : N, false));
    if (look || !last) /* nobody reads the last stream */
        POL_TRY(pol_streams_block(&w->streams, layer, kind, look ? &(pol_tap){.gram = &w->sums} : NULL, NULL, !last));
    if (!look)
        return POL_OK;
    pol_layer_weights l;
    POL_TRY(read_moments(w, N));
    POL_TRY(pol_model_layer(m, layer, &l));
    return pol_download(m->be, kind == POL_UNIT_GROUP ? l.w_o : l.w_down, 0, w->w, N * c->hidden);
}

uint64_t pol_walk_host_bytes(const pol_config *c, unsigned granularity, int64_t n, int64_t S)
{
    const uint64_t N = (uint64_t)pol_widest_input(c, granularity);
    return pol_streams_bytes(c, n, S) + N * N * sizeof(double) + N * (uint64_t)c->hidden * sizeof(float);
}

pol_status pol_check_tokens(pol_context *ctx, const pol_config *c, unsigned granularity, int64_t tokens)
{
    enum { REFUSED = 4, WARNED = 10 };
    const int64_t columns = pol_widest_input(c, granularity);
    if (tokens / REFUSED < columns)
        return pol_fail(ctx, POL_ELIMIT,
                        "%lld tokens for least squares over %lld columns: it takes at least %d a column, %lld tokens",
                        (long long)tokens, (long long)columns, REFUSED, (long long)(REFUSED * columns));
    if (tokens / WARNED < columns)
        pol_log(ctx, POL_LOG_WARN, "%lld tokens for least squares over %lld columns: below %d a column it over-fits",
                (long long)tokens, (long long)columns, WARNED);
    return POL_OK;
}
