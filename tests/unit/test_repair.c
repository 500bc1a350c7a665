/* test_repair.c - repaired weights against their definition.
 *
 * A second model goes through the blocks here, one after the other, on streams of this program's own. What enters a
 * block's last matrix is taken from the forward pass; least squares are solved in long double by normal equations that
 * are put together token by token, as the definition has them.
 */
#include "core/forward_state.h"
#include "tests/unit/repair_model.h"

/* x [n, m] solves a x = b, a [n, n] symmetric and positive definite: elimination, which such a matrix needs no pivots
 * for. Both are destroyed. */
static void solve(int64_t n, int64_t m, long double *a, long double *b)
{
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = k + 1; i < n; i++) {
            const long double l = a[i * n + k] / a[k * n + k];
            for (int64_t j = k; j < n; j++)
                a[i * n + j] -= l * a[k * n + j];
            for (int64_t j = 0; j < m; j++)
                b[i * m + j] -= l * b[k * m + j];
        }
    for (int64_t k = n; k-- > 0;)
        for (int64_t j = 0; j < m; j++) {
            for (int64_t i = k + 1; i < n; i++)
                b[k * m + j] -= a[k * n + i] * b[i * m + j];
            b[k * m + j] /= a[k * n + k];
        }
}

/* (x^T x + damping mean(diag) I)^-1 x^T y: x [T, n] of rows of `width`, y [T, m]; the result is yours to free. */
static long double *ridge(const double *x, int64_t width, const double *y, int64_t T, int64_t n, int64_t m)
{
    long double *a = calloc((size_t)(n * n), sizeof *a), *b = calloc((size_t)(n * m), sizeof *b), trace = 0;
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < n; i++) {
            const long double xi = x[t * width + i];
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] += xi * x[t * width + j];
            for (int64_t j = 0; j < m; j++)
                b[i * m + j] += xi * y[t * m + j];
        }
    for (int64_t i = 0; i < n; i++)
        trace += a[i * n + i];
    for (int64_t i = 0; i < n; i++)
        a[i * n + i] += 0.01L * trace / n;
    solve(n, m, a, b);
    free(a);
    return b;
}

/* The model that goes beside the repaired one, whole, its units in the order kept first. */
typedef struct oracle {
    fixture *f;
    loaded m;
    const pol_config *c;
    pol_config left;
    float *x, *dense; /* [TOKENS, C] */
    const pol_repaired *r;
    double share; /* r of the definition */
    double refit;
} oracle;

static void open_oracle(oracle *o, fixture *f, const char *name, const pol_repaired *r, double share, double refit)
{
    char model[256];
    snprintf(model, sizeof model, "models/%s", name);
    *o = (oracle){.f = f, .r = r, .share = share, .refit = refit};
    load_placed(&o->m, f->ctx, open_cpu(f->ctx), test_file(model), NULL, B, S);
    o->c = pol_model_config(o->m.model);
    pol_mask_config(o->m.units, f->mask, o->c, &o->left);
    uint8_t *kept = malloc((size_t)o->m.units->n);
    int32_t *order = malloc((size_t)pol_model_order_size(o->m.model) * sizeof *order);
    pol_mask_effective(o->m.units, f->mask, kept);
    for (int32_t i = 0; i < 2 * o->c->n_layers; i++) {
        const pol_section *sec = &o->m.units->sections[i];
        int64_t at = sec->first;
        for (int64_t j = 0; j < 2 * sec->count; j++)
            if (kept[sec->first + j % sec->count] == (j < sec->count))
                order[at++] = (int32_t)(sec->first + j % sec->count);
    }
    assert_ok(f->ctx, pol_model_set_order(o->m.model, order));
    free(order);
    free(kept);
    o->x = malloc((size_t)TOKENS * (size_t)o->c->hidden * sizeof *o->x);
    o->dense = malloc((size_t)TOKENS * (size_t)o->c->hidden * sizeof *o->x);
    for (int i = 0; i < SEQUENCES; i++) {
        assert_ok(f->ctx, pol_forward_begin(o->m.forward, f->ids + i * S, 1, S));
        assert_ok(f->ctx, pol_forward_get(o->m.forward, o->x + i * S * o->c->hidden));
    }
    memcpy(o->dense, o->x, (size_t)TOKENS * (size_t)o->c->hidden * sizeof *o->x);
}

static void close_oracle(oracle *o)
{
    free(o->x);
    free(o->dense);
    unload(&o->m);
}

/* x through the whole block; `into` [TOKENS, all] gets what enters its last matrix, `out` the stream behind it. */
static void pass(oracle *o, int32_t l, pol_unit_kind kind, const float *x, int64_t all, double *into, float *out)
{
    const int64_t C = o->c->hidden;
    float *mid = malloc((size_t)(S * all) * sizeof *mid);
    for (int i = 0; i < SEQUENCES; i++) {
        assert_ok(o->f->ctx, pol_forward_put(o->m.forward, x + i * S * C, 1, S));
        assert_ok(o->f->ctx, kind == POL_UNIT_GROUP ? pol_forward_attention(o->m.forward, l, NULL)
                                                    : pol_forward_mlp(o->m.forward, l, NULL));
        assert_ok(o->f->ctx, pol_download(o->m.be, o->m.forward->mid, 0, mid, S * all));
        assert_ok(o->f->ctx, pol_forward_get(o->m.forward, out + i * S * C));
        for (int64_t t = 0; t < S * all; t++)
            into[i * S * all + t] = (double)mid[t];
    }
    free(mid);
}

static void download(oracle *o, const pol_buf *b, int64_t n, double *out)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        out[i] = 0;
    if (b)
        assert_ok(o->f->ctx, pol_download(o->m.be, b, 0, x, n));
    for (int64_t i = 0; b && i < n; i++)
        out[i] = (double)x[i];
    free(x);
}

/* Of a tensor in the file, where the element of input i, output j is: most have outputs as rows. */
static void check_tensor(const oracle *o, pol_tensor_kind kind, int32_t l, int64_t inputs, int64_t outputs,
                         const double *w, int64_t row)
{
    float *tensor = malloc((size_t)(inputs * outputs) * sizeof *tensor);
    double largest = 0;
    assert_ok(o->f->ctx, pol_repaired_read(o->r, kind, l, 0, outputs, tensor));
    for (int64_t i = 0; i < inputs * outputs; i++)
        largest = fmax(largest, fabs((double)tensor[i]));
    for (int64_t i = 0; i < inputs; i++)
        for (int64_t j = 0; j < outputs; j++)
            assert_near((double)tensor[j * inputs + i], w[i * row + j], 2e-5 * largest);
    free(tensor);
}

static void norm(const oracle *o, const double *gain, const float *x, double *y)
{
    const int64_t C = o->c->hidden;
    for (int64_t t = 0; t < TOKENS; t++) {
        double sum = 0;
        for (int64_t i = 0; i < C; i++)
            sum += (double)x[t * C + i] * (double)x[t * C + i];
        for (int64_t i = 0; i < C; i++)
            y[t * C + i] = (double)x[t * C + i] / sqrt(sum / (double)C + (double)o->c->rms_eps) * gain[i];
    }
}

/* One tensor of a first matrix in the file: its rows of kept units start at `at` in a unit of `unit` rows. */
static void check_first(const oracle *o, pol_tensor_kind kind, int32_t l, int64_t units, int64_t unit, int64_t at,
                        int64_t n, const float *rows)
{
    const int64_t C = o->c->hidden;
    float *tensor = malloc((size_t)(units * n * C) * sizeof *tensor);
    assert_ok(o->f->ctx, pol_repaired_read(o->r, kind, l, 0, units * n, tensor));
    for (int64_t u = 0; u < units; u++)
        for (int64_t i = 0; i < n * C; i++)
            assert_near((double)tensor[u * n * C + i], (double)rows[(u * unit + at) * C + i], 1e-5);
    free(tensor);
}

/* The first matrix becomes what its definition says, and is compared with the file; *old is the one that was. */
static void refit(oracle *o, int32_t l, pol_unit_kind kind, int64_t units, int64_t kept, float **old)
{
    const bool attention = kind == POL_UNIT_GROUP;
    const int64_t C = o->c->hidden, unit = attention ? pol_qkv_rows(o->c) : 2, n = units * unit;
    const pol_layer_weights *w = &o->m.model->layers[l];
    const pol_part part = attention ? POL_W_QKV : POL_W_GATE_UP;
    double *gain = malloc((size_t)C * sizeof *gain), *y = malloc((size_t)(2 * TOKENS * C) * sizeof *y);
    double *yd = y + TOKENS * C;
    float *rows = malloc((size_t)(n * C) * sizeof *rows);
    *old = malloc((size_t)(n * C) * sizeof **old);
    download(o, attention ? w->attn_norm : w->mlp_norm, C, gain);
    assert_ok(o->f->ctx, pol_download(o->m.be, attention ? w->w_qkv : w->w_gate_up, 0, *old, n * C));
    norm(o, gain, o->x, y);
    norm(o, gain, o->dense, yd);
    for (int64_t i = 0; i < TOKENS * C; i++)
        yd[i] -= y[i];
    long double *z = ridge(y, C, yd, TOKENS, C, C);
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < C; i++) {
            long double sum = (*old)[r * C + i];
            for (int64_t j = 0; j < C; j++)
                sum += o->refit * z[i * C + j] * (*old)[r * C + j];
            rows[r * C + i] = (float)sum;
        }
    assert_ok(o->f->ctx, pol_model_put(o->m.model, l, part, 0, units, rows));
    const int64_t D = o->c->head_dim, gD = pol_ctx_cols(o->c);
    if (attention) {
        check_first(o, POL_T_Q, l, kept, unit, 0, gD, rows);
        check_first(o, POL_T_K, l, kept, unit, gD, D, rows);
        check_first(o, POL_T_V, l, kept, unit, gD + D, D, rows);
    } else {
        check_first(o, POL_T_GATE, l, kept, unit, 0, 1, rows);
        check_first(o, POL_T_UP, l, kept, unit, 1, 1, rows);
    }
    free(gain);
    free(y);
    free(rows);
    free(z);
}

/* Y = r (x_d - x - b) + (1 - r) X_all W_all: what the kept columns shall give, the output bias b left to itself. */
static double *aim(const oracle *o, const float *after, const double *into, int64_t all, const double *w,
                   const double *bias)
{
    const int64_t C = o->c->hidden;
    double *y = malloc((size_t)(TOKENS * C) * sizeof *y);
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t j = 0; j < C; j++) {
            double whole = 0;
            for (int64_t i = 0; i < all; i++)
                whole += into[t * all + i] * w[i * C + j];
            const double way = (double)after[t * C + j] - (double)o->x[t * C + j] - bias[j];
            y[t * C + j] = o->share * way + (1 - o->share) * whole;
        }
    return y;
}

/* W += (X^T X + ...)^-1 X^T (Y - X W), and the stream goes on with that. */
static void update(oracle *o, const double *into, int64_t all, int64_t kept, double *y, double *w, const double *bias)
{
    const int64_t C = o->c->hidden;
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t j = 0; j < C; j++)
            for (int64_t i = 0; i < kept; i++)
                y[t * C + j] -= into[t * all + i] * w[i * C + j];
    long double *d = ridge(into, all, y, TOKENS, kept, C);
    for (int64_t i = 0; i < kept * C; i++)
        w[i] += (double)d[i];
    free(d);
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t j = 0; j < C; j++) {
            double sum = (double)o->x[t * C + j] + bias[j];
            for (int64_t i = 0; i < kept; i++)
                sum += into[t * all + i] * w[i * C + j];
            o->x[t * C + j] = (float)sum;
        }
}

static void check_block(oracle *o, int32_t l, pol_unit_kind kind)
{
    const bool attention = kind == POL_UNIT_GROUP;
    const int64_t C = o->c->hidden, all = pol_block_inputs(o->c, l, kind), kept = pol_block_inputs(&o->left, l, kind);
    const int64_t inputs = pol_unit_inputs(o->c, kind);
    const pol_layer_weights *m = &o->m.model->layers[l];
    float *after = malloc((size_t)(TOKENS * C) * sizeof *after), *unused = malloc((size_t)(TOKENS * C) * sizeof *after);
    double *into = malloc((size_t)(TOKENS * all) * sizeof *into), *w = malloc((size_t)(all * C) * sizeof *w);
    double *bias = malloc((size_t)C * sizeof *bias);
    float *old = NULL;
    pass(o, l, kind, o->dense, all, into, after);
    download(o, attention ? m->w_o : m->w_down, all * C, w);
    download(o, attention ? m->b_o : m->b_down, C, bias);
    assert_int_equal(pol_repaired_has(o->r, attention ? POL_T_O : POL_T_DOWN, l), kept > 0);
    if (kept) {
        if (o->refit > 0)
            refit(o, l, kind, all / inputs, kept / inputs, &old);
        pass(o, l, kind, o->x, all, into, unused);
        double *y = aim(o, after, into, all, w, bias);
        update(o, into, all, kept, y, w, bias);
        check_tensor(o, attention ? POL_T_O : POL_T_DOWN, l, kept, C, w, C);
        free(y);
    }
    if (old)
        assert_ok(o->f->ctx, pol_model_put(o->m.model, l, attention ? POL_W_QKV : POL_W_GATE_UP, 0, all / inputs, old));
    memcpy(o->dense, after, (size_t)(TOKENS * C) * sizeof *after);
    free(after);
    free(unused);
    free(into);
    free(w);
    free(bias);
    free(old);
}

static void check_file(fixture *f, const char *model, const char *name, double share, double strength)
{
    oracle o;
    pol_repaired *r = open_repaired(f, name);
    assert_int_equal(pol_repaired_kind(r), POL_REPAIR_RIDGE);
    assert_int_equal(pol_repaired_target(r), share > 0 ? POL_REPAIR_HALF : POL_REPAIR_LOCAL);
    assert_int_equal(pol_repaired_refitted(r), strength > 0);
    open_oracle(&o, f, model, r, share, strength);
    for (int32_t l = 0; l < o.c->n_layers; l++) {
        check_block(&o, l, POL_UNIT_GROUP);
        check_block(&o, l, POL_UNIT_CHANNEL);
    }
    close_oracle(&o);
    pol_repaired_close(r);
}

/* Groups of several heads, one head each, and output biases. */
static void test_ridge(void **state)
{
    static const char *const models[] = {"llama-gqa-tied", "llama-mha-bf16", "llama-linear-bias", "mistral-window"};
    fixture *f = *state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        int64_t sequences;
        load_fixture(f, models[i]);
        pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
        j.identity[0] = (char)('a' + i);
        assert_ok(f->ctx, pol_repair_run(&j, &sequences));
        assert_int_equal(sequences, 7 * SEQUENCES);
        check_file(f, models[i], "half", 0.5, 0);
        check_file(f, models[i], "local", 0, 0);
        unload_fixture(f);
    }
    assert_int_equal(f->warnings, 0);
}

static void test_refit(void **state)
{
    fixture *f = *state;
    load_fixture(f, "llama-linear-bias");
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    j.o.refit_inputs = 0.5;
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    check_file(f, "llama-linear-bias", "half", 0.5, 0.5);
    check_file(f, "llama-linear-bias", "local", 0, 0.5);
    unload_fixture(f);
}

/* One target by itself gives the same as both together. */
static void test_one_target(void **state)
{
    static const char *const names[] = {"half", "local"};
    fixture *f = *state;
    load_fixture(f, "llama-gqa-tied");
    pol_repair_job j = job_of(f, POL_REPAIR_RIDGE);
    assert_ok(f->ctx, pol_repair_run(&j, NULL));
    for (int t = 0; t < POL_REPAIR_TARGETS; t++) {
        char both[33], one[33];
        int64_t sequences;
        j.o.targets = 1u << t;
        j.path[t] = in(f, "one");
        assert_ok(f->ctx, pol_repair_run(&j, &sequences));
        assert_int_equal(sequences, 4 * SEQUENCES);
        assert_ok(f->ctx, pol_file_hash(f->ctx, in(f, names[t]), both));
        assert_ok(f->ctx, pol_file_hash(f->ctx, in(f, "one"), one));
        assert_string_equal(both, one);
        unlink(in(f, "one"));
    }
    unload_fixture(f);
}

/* b + mean over tokens of X_removed W_removed, all of the dense model. */
static void check_bias(oracle *o, int32_t l, pol_unit_kind kind)
{
    const bool attention = kind == POL_UNIT_GROUP;
    const int64_t C = o->c->hidden, all = pol_block_inputs(o->c, l, kind), kept = pol_block_inputs(&o->left, l, kind);
    const pol_tensor_kind tensor = attention ? POL_T_O_BIAS : POL_T_DOWN_BIAS;
    const pol_layer_weights *m = &o->m.model->layers[l];
    double *into = malloc((size_t)(TOKENS * all) * sizeof *into), *w = malloc((size_t)(all * C) * sizeof *w);
    double *bias = malloc((size_t)C * sizeof *bias);
    float got[64];
    pass(o, l, kind, o->dense, all, into, o->dense);
    download(o, attention ? m->w_o : m->w_down, all * C, w);
    download(o, attention ? m->b_o : m->b_down, C, bias);
    assert_int_equal(pol_repaired_has(o->r, tensor, l), kept > 0);
    if (kept)
        assert_ok(o->f->ctx, pol_repaired_read(o->r, tensor, l, 0, 1, got));
    for (int64_t j = 0; kept && j < C; j++) {
        double sum = 0;
        for (int64_t t = 0; t < TOKENS; t++)
            for (int64_t i = kept; i < all; i++)
                sum += into[t * all + i] * w[i * C + j];
        assert_near((double)got[j], bias[j] + sum / TOKENS, 1e-5);
    }
    free(into);
    free(w);
    free(bias);
}

static void test_bias(void **state)
{
    static const char *const models[] = {"llama-gqa-tied", "llama-linear-bias"};
    fixture *f = *state;
    for (size_t i = 0; i < POL_COUNT(models); i++) {
        oracle o;
        int64_t sequences;
        load_fixture(f, models[i]);
        pol_repair_job j = job_of(f, POL_REPAIR_BIAS);
        j.identity[0] = (char)('a' + i);
        assert_ok(f->ctx, pol_repair_run(&j, &sequences));
        assert_int_equal(sequences, SEQUENCES);
        pol_repaired *r = open_repaired(f, "half");
        open_oracle(&o, f, models[i], r, 0, 0);
        for (int32_t l = 0; l < o.c->n_layers; l++) {
            check_bias(&o, l, POL_UNIT_GROUP);
            check_bias(&o, l, POL_UNIT_CHANNEL);
        }
        close_oracle(&o);
        pol_repaired_close(r);
        unload_fixture(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ridge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_target, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bias, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
