/* checkpoint.c - the checkpoint file.
 *
 *   offset  bytes  field
 *        0      8  magic "POLCKPT1"
 *        8      4  version, u32
 *       12      4  1 where a best snapshot is stored, else 0, u32
 *       16     32  settings fingerprint, hex digits
 *       48     24  n_units, n_order, n_state, i64
 *       72     16  stage, step, i64
 *       88     24  estimator: baseline f64, deviation f64, steps i64
 *      112     16  best snapshot: step i64, loss f64; 0 where there is none
 *      128     40  sequences [5], i64
 *      168      8  seconds, f64
 *      176         s f32 [n_units]; best_s f32 [n_units] where there is a best snapshot; order i32 [n_order];
 *                  state f64 [n_state]
 *       -8      8  XXH3-64 of all before, u64
 *
 * Little-endian throughout. Each size follows from the header and is checked against the file's before memory is taken.
 */
#include "core/learn/checkpoint.h"

#include <float.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/endian.h"
#include "core/base/file.h"

static const char MAGIC[8] = {'P', 'O', 'L', 'C', 'K', 'P', 'T', '1'};
enum { VERSION = 2, HEADER_BYTES = 176, CHECKSUM_BYTES = 8, FINGERPRINT_DIGITS = 32 };

_Static_assert(POL_PURPOSES == 5, "the layout has five counters; another needs a new version");

pol_status pol_checkpoint_init(pol_context *ctx, const pol_checkpoint_shape *shape, pol_checkpoint *out)
{
    const size_t units = (size_t)shape->n_units, order = (size_t)shape->n_order, state = (size_t)shape->n_state;
    *out = (pol_checkpoint){.ctx = ctx, .shape = *shape};
    out->s = pol_alloc_zero(ctx, units * sizeof *out->s);
    out->best_s = pol_alloc_zero(ctx, units * sizeof *out->best_s);
    out->order = pol_alloc_zero(ctx, order * sizeof *out->order);
    out->state = pol_alloc_zero(ctx, state * sizeof *out->state);
    if (!out->s || !out->best_s || !out->order || !out->state) {
        pol_checkpoint_free(out);
        return POL_ENOMEM;
    }
    return POL_OK;
}

void pol_checkpoint_free(pol_checkpoint *c)
{
    if (!c->ctx)
        return;
    pol_free(c->ctx, c->s);
    pol_free(c->ctx, c->best_s);
    pol_free(c->ctx, c->order);
    pol_free(c->ctx, c->state);
    memset(c, 0, sizeof *c);
}

/* What any checkpoint satisfies. The writer asks too: a file that the reader would refuse is never written. */

static pol_status check_number(pol_context *ctx, pol_status code, const char *name, const char *field, double x,
                               double lo, double hi)
{
    if (!(x >= lo && x <= hi))
        return pol_fail(ctx, code, "%s: %s: %g is outside %g..%g", name, field, x, lo, hi);
    return POL_OK;
}

static pol_status check_count(pol_context *ctx, pol_status code, const char *name, const char *field, int64_t x)
{
    if (x < 0)
        return pol_fail(ctx, code, "%s: %s: %lld is negative", name, field, (long long)x);
    return POL_OK;
}

static pol_status check_probabilities(pol_context *ctx, pol_status code, const char *name, const char *field,
                                      const float *s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!(s[i] >= 0.0f && s[i] <= 1.0f))
            return pol_fail(ctx, code, "%s: %s: unit %lld has probability %g", name, field, (long long)i, (double)s[i]);
    return POL_OK;
}

static pol_status check(pol_context *ctx, pol_status code, const char *name, const pol_checkpoint *c)
{
    static const char *const purposes[POL_PURPOSES] = {"sequences.init", "sequences.learn", "sequences.held_out",
                                                       "sequences.eval", "sequences.repair"};
    if (strspn(c->settings, "0123456789abcdef") != FINGERPRINT_DIGITS)
        return pol_fail(ctx, code, "%s: settings: '%.32s' is not a fingerprint of 32 hex digits", name, c->settings);
    POL_TRY(check_count(ctx, code, name, "stage", c->stage));
    POL_TRY(check_count(ctx, code, name, "step", c->step));
    POL_TRY(check_count(ctx, code, name, "estimator.steps", c->estimator.steps));
    POL_TRY(check_number(ctx, code, name, "estimator.baseline", c->estimator.baseline, -DBL_MAX, DBL_MAX));
    POL_TRY(check_number(ctx, code, name, "estimator.deviation", c->estimator.deviation, 0.0, DBL_MAX));
    for (int i = 0; i < POL_PURPOSES; i++)
        POL_TRY(check_count(ctx, code, name, purposes[i], c->sequences[i]));
    POL_TRY(check_number(ctx, code, name, "seconds", c->seconds, 0.0, DBL_MAX));
    POL_TRY(check_probabilities(ctx, code, name, "s", c->s, c->shape.n_units));
    for (int64_t i = 0; i < c->shape.n_state; i++)
        POL_TRY(check_number(ctx, code, name, "state", c->state[i], -DBL_MAX, DBL_MAX));
    if (!c->has_best)
        return POL_OK;
    POL_TRY(check_count(ctx, code, name, "best.step", c->best_step));
    POL_TRY(check_number(ctx, code, name, "best.loss", c->best_loss, -DBL_MAX, DBL_MAX));
    return check_probabilities(ctx, code, name, "best.s", c->best_s, c->shape.n_units);
}

static size_t array_bytes(const pol_checkpoint_shape *shape, bool has_best)
{
    return 4 * ((size_t)shape->n_units * (has_best ? 2 : 1) + (size_t)shape->n_order) + 8 * (size_t)shape->n_state;
}

pol_status pol_checkpoint_write(pol_context *ctx, const char *path, const pol_checkpoint *c)
{
    POL_TRY(check(ctx, POL_EARG, path, c));
    const pol_checkpoint_shape *shape = &c->shape;
    const size_t bytes = HEADER_BYTES + array_bytes(shape, c->has_best) + CHECKSUM_BYTES;
    uint8_t *const file = pol_alloc_zero(ctx, bytes);
    if (!file)
        return POL_ENOMEM;
    memcpy(file, MAGIC, sizeof MAGIC);
    pol_put_u32le(file + 8, VERSION);
    pol_put_u32le(file + 12, c->has_best);
    memcpy(file + 16, c->settings, FINGERPRINT_DIGITS);
    pol_put_u64le(file + 48, (uint64_t)shape->n_units);
    pol_put_u64le(file + 56, (uint64_t)shape->n_order);
    pol_put_u64le(file + 64, (uint64_t)shape->n_state);
    pol_put_u64le(file + 72, (uint64_t)c->stage);
    pol_put_u64le(file + 80, (uint64_t)c->step);
    pol_put_f64le(file + 88, c->estimator.baseline);
    pol_put_f64le(file + 96, c->estimator.deviation);
    pol_put_u64le(file + 104, (uint64_t)c->estimator.steps);
    if (c->has_best) {
        pol_put_u64le(file + 112, (uint64_t)c->best_step);
        pol_put_f64le(file + 120, c->best_loss);
    }
    for (int i = 0; i < POL_PURPOSES; i++)
        pol_put_u64le(file + 128 + 8 * i, (uint64_t)c->sequences[i]);
    pol_put_f64le(file + 168, c->seconds);
    uint8_t *at = file + HEADER_BYTES;
    for (int64_t i = 0; i < shape->n_units; i++, at += 4)
        pol_put_f32le(at, c->s[i]);
    for (int64_t i = 0; c->has_best && i < shape->n_units; i++, at += 4)
        pol_put_f32le(at, c->best_s[i]);
    for (int64_t i = 0; i < shape->n_order; i++, at += 4)
        pol_put_u32le(at, (uint32_t)c->order[i]);
    for (int64_t i = 0; i < shape->n_state; i++, at += 8)
        pol_put_f64le(at, c->state[i]);
    pol_put_u64le(at, XXH3_64bits(file, bytes - CHECKSUM_BYTES));
    const pol_status s = pol_file_write(ctx, path, file, bytes);
    pol_free(ctx, file);
    return s;
}

static pol_status check_count_is(pol_context *ctx, const char *name, const char *field, uint64_t is, int64_t wanted)
{
    if (is != (uint64_t)wanted)
        return pol_fail(ctx, POL_EFORMAT, "%s: %s: %lld, this run has %lld", name, field, (long long)is,
                        (long long)wanted);
    return POL_OK;
}

/* The header's sizes against the caller's and the file's; the checksum. After this every offset is inside the file. */
static pol_status check_frame(pol_context *ctx, const char *name, const uint8_t *file, size_t size,
                              const pol_checkpoint_shape *shape)
{
    if (size < HEADER_BYTES + CHECKSUM_BYTES)
        return pol_fail(ctx, POL_EFORMAT, "%s: %zu bytes, fewer than a checkpoint's header", name, size);
    if (memcmp(file, MAGIC, sizeof MAGIC) != 0)
        return pol_fail(ctx, POL_EFORMAT, "%s: magic: not a checkpoint", name);
    const uint32_t version = pol_get_u32le(file + 8), has_best = pol_get_u32le(file + 12);
    if (version != VERSION)
        return pol_fail(ctx, POL_EFORMAT, "%s: version: %u, this program reads %d", name, version, VERSION);
    if (has_best > 1)
        return pol_fail(ctx, POL_EFORMAT, "%s: best snapshot: flag is %u, neither 0 nor 1", name, has_best);
    POL_TRY(check_count_is(ctx, name, "n_units", pol_get_u64le(file + 48), shape->n_units));
    POL_TRY(check_count_is(ctx, name, "n_order", pol_get_u64le(file + 56), shape->n_order));
    POL_TRY(check_count_is(ctx, name, "n_state", pol_get_u64le(file + 64), shape->n_state));
    const int64_t most = (int64_t)(size / 4); /* elements; with this bound the sum cannot overflow */
    if (shape->n_units > most || shape->n_order > most || shape->n_state > most ||
        size != HEADER_BYTES + array_bytes(shape, has_best == 1) + CHECKSUM_BYTES)
        return pol_fail(ctx, POL_EFORMAT, "%s: %zu bytes do not hold %lld units, an order of %lld and %lld numbers",
                        name, size, (long long)shape->n_units, (long long)shape->n_order, (long long)shape->n_state);
    if (XXH3_64bits(file, size - CHECKSUM_BYTES) != pol_get_u64le(file + size - CHECKSUM_BYTES))
        return pol_fail(ctx, POL_EFORMAT, "%s: checksum: does not match, the file is damaged", name);
    return POL_OK;
}

pol_status pol_checkpoint_parse(pol_context *ctx, const char *name, const void *data, size_t size,
                                const pol_checkpoint_shape *shape, pol_checkpoint *out)
{
    const uint8_t *const file = data;
    memset(out, 0, sizeof *out);
    POL_TRY(check_frame(ctx, name, file, size, shape));
    POL_TRY(pol_checkpoint_init(ctx, shape, out));
    out->has_best = pol_get_u32le(file + 12) == 1;
    memcpy(out->settings, file + 16, FINGERPRINT_DIGITS);
    out->stage = (int64_t)pol_get_u64le(file + 72);
    out->step = (int64_t)pol_get_u64le(file + 80);
    out->estimator.baseline = pol_get_f64le(file + 88);
    out->estimator.deviation = pol_get_f64le(file + 96);
    out->estimator.steps = (int64_t)pol_get_u64le(file + 104);
    out->best_step = (int64_t)pol_get_u64le(file + 112);
    out->best_loss = pol_get_f64le(file + 120);
    for (int i = 0; i < POL_PURPOSES; i++)
        out->sequences[i] = (int64_t)pol_get_u64le(file + 128 + 8 * i);
    out->seconds = pol_get_f64le(file + 168);
    const uint8_t *at = file + HEADER_BYTES;
    for (int64_t i = 0; i < shape->n_units; i++, at += 4)
        out->s[i] = pol_get_f32le(at);
    for (int64_t i = 0; out->has_best && i < shape->n_units; i++, at += 4)
        out->best_s[i] = pol_get_f32le(at);
    for (int64_t i = 0; i < shape->n_order; i++, at += 4)
        out->order[i] = (int32_t)pol_get_u32le(at);
    for (int64_t i = 0; i < shape->n_state; i++, at += 8)
        out->state[i] = pol_get_f64le(at);
    const pol_status s = check(ctx, POL_EFORMAT, name, out);
    if (s < 0)
        pol_checkpoint_free(out);
    return s;
}

pol_status pol_checkpoint_read(pol_context *ctx, const char *path, const pol_checkpoint_shape *shape,
                               pol_checkpoint *out)
{
    memset(out, 0, sizeof *out);
    pol_map m;
    POL_TRY(pol_map_open(ctx, path, &m));
    const pol_status s = pol_checkpoint_parse(ctx, path, m.data, m.size, shape, out);
    pol_map_close(&m);
    return s;
}

pol_status pol_checkpoint_check_settings(pol_context *ctx, const char *path, const pol_checkpoint *c,
                                         const char settings[33])
{
    if (memcmp(c->settings, settings, sizeof c->settings) != 0)
        return pol_fail(ctx, POL_EARG, "%s: settings: the checkpoint was made with settings %s, this run has %s", path,
                        c->settings, settings);
    return POL_OK;
}
