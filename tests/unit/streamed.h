/* streamed.h - a model whose layers visit the device, on a backend that serves late, beside the same model on the
 * device: every number must be the same. */
#ifndef POL_TEST_STREAMED_H
#define POL_TEST_STREAMED_H

#include <math.h>

#include "backends/drivers.h"
#include "core/base/rng.h"
#include "core/model/weights.h"
#include "tests/unit/late_backend.h"

enum { B = 2, S = 16, V = 32, SEQUENCES = 24, CELLS = 5 };

/* Which of the two. */
enum { STREAMED, RESIDENT };

typedef struct fixture {
    pol_context *ctx;
    pol_source *src;
    pol_backend *be[2];
    pol_model *model[2];
    pol_forward *forward[2];
    const pol_units *units;
    uint8_t *mask;
    int32_t ids[SEQUENCES * S];
    int32_t slot[2]; /* the layers that are there, as far as buffers_filled() knows */
} fixture;

static const pol_placement five = {.streamed = true, .cells = CELLS};

static inline void open_placed(fixture *f, const char *path, const pol_placement *p)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    assert_ok(f->ctx, pol_source_open(f->ctx, path, &f->src));
    for (int i = 0; i < 2; i++) {
        assert_ok(f->ctx, pol_reference_open(f->ctx, &f->be[i]));
        f->be[i]->width_tile = 4;
        f->be[i]->buf_align = 256;
        if (i == STREAMED)
            late_start(f->be[i]);
        assert_ok(f->ctx, pol_model_load(f->src, f->be[i], i == STREAMED ? p : NULL, &f->model[i]));
        assert_ok(f->ctx, pol_forward_new(f->model[i], B * S, S, &f->forward[i]));
    }
    f->units = pol_model_units(f->model[STREAMED]);
    f->mask = malloc((size_t)f->units->n);
    f->slot[0] = f->slot[1] = -1;
    for (int i = 0; i < SEQUENCES * S; i++)
        f->ids[i] = (i * 37 + i / 11) % V;
}

static inline void open_fixture(fixture *f, const char *name) { open_placed(f, test_file(name), &five); }

static inline void close_fixture(fixture *f)
{
    free(f->mask);
    for (int i = 0; i < 2; i++) {
        pol_forward_free(f->forward[i]);
        pol_model_free(f->model[i]);
        assert_int_equal(f->be[i]->bytes_in_use, 0);
        pol_backend_close(f->be[i]);
    }
    late_end();
    pol_source_close(f->src);
    pol_context_free(f->ctx);
}

static inline void draw(const pol_units *u, uint64_t i, float keep, uint8_t *mask)
{
    float *x = malloc((size_t)u->n * sizeof *x);
    pol_uniform(3, POL_STREAM_TEST, i, 0, u->n, x);
    for (int64_t k = 0; k < u->n; k++)
        mask[k] = x[k] < (k < u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL] ? keep : 0.85f);
    free(x);
}

static inline void set_mask(fixture *f, uint64_t i)
{
    draw(f->units, i, 0.6f, f->mask);
    for (int k = 0; k < 2; k++)
        assert_ok(f->ctx, pol_model_set_mask(f->model[k], i ? f->mask : NULL)); /* 0: dense */
}

/* Buffers that are filled in so many visits of all layers: each layer comes once a visit, unless it is in its slot from
 * the last one. */
static inline int64_t buffers_filled(fixture *f, int64_t visits)
{
    const pol_config *c = pol_model_config(f->model[STREAMED]);
    int64_t n = 0;
    for (int64_t i = 0; i < visits * c->n_layers; i++) {
        const int32_t l = (int32_t)(i % c->n_layers);
        for (int part = 0; part < POL_PARTS && f->slot[l % 2] != l; part++)
            n += pol_part_of(c, f->be[STREAMED], l, (pol_part)part).units > 0;
        f->slot[l % 2] = l;
    }
    return n;
}

/* `n` passes under masks from `first` on, two under each, on both; the same bits. */
static inline void check_passes(fixture *f, int64_t first, int64_t n)
{
    double loss[2][64][B];
    float nll[2][64][B * S];
    assert_true(n <= 64);
    memset(nll, 0, sizeof nll);
    for (int64_t i = 0; i < n; i++) {
        const int64_t sequences = 1 + (first + i) % B, length = S - (first + i) % 3;
        if (i % 2 == 0)
            set_mask(f, (uint64_t)(first + i));
        for (int k = 0; k < 2; k++)
            assert_ok(f->ctx,
                      pol_forward_queue(f->forward[k], f->ids + first + i, sequences, length, nll[k][i], loss[k][i]));
        for (int64_t b = sequences; b < B; b++)
            loss[STREAMED][i][b] = loss[RESIDENT][i][b] = 0;
    }
    for (int k = 0; k < 2; k++)
        assert_ok(f->ctx, pol_forward_settle(f->forward[k]));
    for (int64_t i = 0; i < n; i++) {
        for (int b = 0; b < B; b++)
            assert_true(isfinite(loss[STREAMED][i][b]));
        assert_memory_equal(loss[STREAMED][i], loss[RESIDENT][i], sizeof loss[0][0]);
        assert_memory_equal(nll[STREAMED][i], nll[RESIDENT][i], sizeof nll[0][0]);
    }
}

static inline void check_order(const fixture *f)
{
    const int64_t n = pol_model_order_size(f->model[STREAMED]);
    int32_t *order = malloc(2 * (size_t)n * sizeof *order);
    for (int k = 0; k < 2; k++)
        pol_model_get_order(f->model[k], order + k * n);
    assert_memory_equal(order, order + n, (size_t)n * sizeof *order);
    free(order);
}

#endif
