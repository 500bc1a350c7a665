#include "tests/ops/rig.h"

#include <math.h>

#include "core/base/rng.h"
#include "core/model/half.h"

enum { FENCE = 5, IMPOSSIBLE_ID = -77777 };

rig rig_open(pol_backend *be)
{
    return (rig){.ctx = be->ctx, .be = be, .weights = be->weight_dtype, .acts = be->act_dtype};
}

static void *host_array(int64_t n, size_t size)
{
    void *p = malloc((size_t)n * size + 1);
    assert_non_null(p);
    return p;
}

/* What upload and download take: f32, or i32 for i32 buffers. */
typedef union host_tensor {
    void *any;
    float *f32;
    int32_t *i32;
} host_tensor;

/* Uploads n values between fences of `fence` elements, into a new buffer with room for that. */
static pol_view put(rig *r, pol_buf *buf, int64_t fence, int64_t n, const double *values)
{
    const int64_t all = n + 2 * fence;
    host_tensor host = {.any = host_array(all, sizeof(float))};
    for (int64_t i = 0; i < all; i++) {
        const bool outside = i < fence || i >= n + fence;
        if (buf->dtype == POL_I32)
            host.i32[i] = outside ? IMPOSSIBLE_ID : (int32_t)values[i - fence];
        else
            host.f32[i] = outside ? NAN : (float)values[i - fence];
    }
    assert_ok(r->ctx, pol_upload(r->be, buf, 0, host.any, all));
    free(host.any);
    assert_true((size_t)r->n_made < POL_COUNT(r->made));
    r->made[r->n_made].v = (pol_view){buf, fence};
    r->made[r->n_made].n = n;
    r->made[r->n_made].fence = fence;
    return r->made[r->n_made++].v;
}

static pol_view make(rig *r, pol_dtype dtype, int64_t n, const double *values)
{
    pol_buf *buf;
    assert_ok(r->ctx, pol_buf_new(r->be, dtype, n + 2 * FENCE, &buf));
    return put(r, buf, FENCE, n, values);
}

static double rounded(pol_dtype type, double value)
{
    const float x = (float)value;
    return type == POL_F16    ? pol_f16_to_f32(pol_f32_to_f16(x))
           : type == POL_BF16 ? pol_bf16_to_f32(pol_f32_to_bf16(x))
                              : x;
}

/* Values that `type` has. */
static double *normal(rig *r, pol_dtype type, int64_t n, double scale)
{
    float *x = host_array(n, sizeof *x);
    double *values = host_array(n, sizeof *values);
    pol_normal(1, POL_STREAM_TEST, 0, (uint32_t)r->n_made, n, x);
    for (int64_t i = 0; i < n; i++)
        values[i] = rounded(type, x[i] * scale);
    free(x);
    return values;
}

pol_view rig_normal(rig *r, pol_dtype dtype, int64_t n, double scale)
{
    double *values = normal(r, dtype, n, scale);
    const pol_view v = make(r, dtype, n, values);
    free(values);
    return v;
}

pol_view rig_acts(rig *r, int64_t n, double scale)
{
    double *values = normal(r, r->acts, n, scale);
    const pol_view v = make(r, r->be->act_dtype, n, values);
    free(values);
    return v;
}

pol_view rig_weights(rig *r, int64_t rows, int64_t row, double scale)
{
    const int64_t n = rows * row, fence_rows = (FENCE + row - 1) / row;
    double *values = normal(r, r->weights, n, scale);
    pol_buf *buf;
    assert_ok(r->ctx, pol_buf_new_rows(r->be, r->be->weight_dtype, rows + 2 * fence_rows, row, &buf));
    const pol_view v = put(r, buf, fence_rows * row, n, values);
    free(values);
    return v;
}

pol_view rig_values(rig *r, pol_dtype dtype, int64_t n, const float *values)
{
    double *copy = host_array(n, sizeof *copy);
    for (int64_t i = 0; i < n; i++)
        copy[i] = values[i];
    const pol_view v = make(r, dtype, n, copy);
    free(copy);
    return v;
}

pol_view rig_zero(rig *r, pol_dtype dtype, int64_t n) { return rig_normal(r, dtype, n, 0); }

pol_view rig_ids(rig *r, int64_t n, int32_t low, int32_t high)
{
    float *u = host_array(n, sizeof *u);
    pol_uniform(1, POL_STREAM_TEST, 0, (uint32_t)r->n_made, n, u);
    for (int64_t i = 0; i < n; i++)
        u[i] = floorf(u[i] * (float)(high - low + 1)) + (float)low;
    const pol_view v = rig_values(r, POL_I32, n, u);
    free(u);
    return v;
}

pol_view rig_cos_sin(rig *r, int64_t S, int64_t D)
{
    float *table = host_array(S * D, sizeof *table);
    for (int64_t p = 0; p < S; p++)
        for (int64_t d = 0; d < D / 2; d++) {
            const double angle = (double)p * pow(10000.0, -2.0 * (double)d / (double)D);
            table[p * D + d] = (float)cos(angle);
            table[p * D + D / 2 + d] = (float)sin(angle);
        }
    const pol_view v = rig_values(r, POL_F32, S * D, table);
    free(table);
    return v;
}

static void read_any(rig *r, const pol_buf *buf, int64_t at, int64_t n, double *out)
{
    host_tensor host = {.any = host_array(n, sizeof(float))};
    assert_ok(r->ctx, pol_download(r->be, buf, at, host.any, n));
    for (int64_t i = 0; i < n; i++)
        out[i] = buf->dtype == POL_I32 ? host.i32[i] : host.f32[i];
    free(host.any);
}

void rig_read(rig *r, pol_view v, int64_t n, double *out) { read_any(r, v.buf, v.at, n, out); }

static void check_fence(rig *r, int which, int64_t at)
{
    const int64_t n = r->made[which].fence;
    double *fence = host_array(n, sizeof *fence);
    read_any(r, r->made[which].v.buf, at, n, fence);
    for (int64_t i = 0; i < n; i++)
        if (!(isnan(fence[i]) || fence[i] == IMPOSSIBLE_ID))
            fail_msg("tensor %d: element %lld outside the operand was written: %g", which, (long long)(at - n + i),
                     fence[i]);
    free(fence);
}

void rig_close(rig *r)
{
    for (int i = 0; i < r->n_made; i++) {
        check_fence(r, i, 0);
        check_fence(r, i, r->made[i].fence + r->made[i].n);
        pol_buf_free(r->be, r->made[i].v.buf);
    }
    r->n_made = 0;
}
