/* database_plan.c - which levels a block has, and what they take. */
#include "core/repair/database_state.h"
#include "core/repair/walk.h"

static int64_t steps(int64_t count, pol_unit_kind kind, int64_t levels)
{
    return kind == POL_UNIT_GROUP ? count : levels;
}

/* Step i of them. */
static int64_t step(int64_t count, pol_unit_kind kind, int64_t levels, int64_t align, int64_t i)
{
    if (kind == POL_UNIT_GROUP || i == levels)
        return kind == POL_UNIT_GROUP ? i : count;
    const double want = (double)count * (double)i / (double)levels;
    return pol_min_i64((int64_t)(want / (double)align + 0.5) * align, count);
}

void pol_database_levels(int64_t count, pol_unit_kind kind, int64_t levels, int64_t align, int64_t *level, int64_t *n)
{
    *n = 0;
    level[(*n)++] = 0;
    for (int64_t i = 1; i <= steps(count, kind, levels); i++) {
        const int64_t units = step(count, kind, levels, align, i);
        if (units > level[*n - 1])
            level[(*n)++] = units;
    }
}

int64_t pol_obs_block(pol_unit_kind kind, int64_t count)
{
    enum { WIDE = 4096, SEVERAL = 32 };
    return kind == POL_UNIT_CHANNEL && count > WIDE ? SEVERAL : 1;
}

/* Adds up what the rows of each level of a block take on a device, or without one in f32; `largest`: of one level. */
static uint64_t block_bytes(const pol_config *c, const pol_backend *be, int32_t layer, pol_unit_kind kind,
                            int64_t levels, int64_t align, bool largest)
{
    const int64_t inputs = pol_unit_inputs(c, kind), count = pol_block_inputs(c, layer, kind) / inputs;
    const int64_t unit = inputs * c->hidden;
    uint64_t bytes = 0;
    int64_t last = 0;
    for (int64_t i = 1; i <= steps(count, kind, levels); i++) {
        const int64_t units = step(count, kind, levels, align, i);
        if (units == last || units == count)
            continue;
        last = units;
        const int64_t n = (be && kind == POL_UNIT_CHANNEL ? pol_padded(be, units) : units) * unit;
        const uint64_t these = be ? pol_buf_bytes(be, be->weight_dtype, n) : (uint64_t)n * sizeof(float);
        bytes = largest ? these : bytes + these;
    }
    return bytes;
}

typedef enum summing { ALL_LEVELS, LARGEST_LEVELS, LARGEST_BLOCK } summing;

static uint64_t all_bytes(const pol_config *c, const pol_backend *be, int64_t levels, int64_t align,
                          unsigned granularity, summing what)
{
    uint64_t bytes = 0;
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            if (!(granularity & 1u << kind))
                continue;
            const uint64_t these = block_bytes(c, be, l, (pol_unit_kind)kind, levels, align, what == LARGEST_LEVELS);
            bytes = what != LARGEST_BLOCK ? bytes + these : these > bytes ? these : bytes;
        }
    return bytes;
}

uint64_t pol_database_bytes(const pol_config *c, const pol_backend *be, int64_t levels, int64_t align,
                            unsigned granularity)
{
    return all_bytes(c, be, levels, align, granularity, ALL_LEVELS);
}

uint64_t pol_database_least_bytes(const pol_config *c, const pol_backend *be, int64_t levels, int64_t align,
                                  unsigned granularity)
{
    return all_bytes(c, be, levels, align, granularity, LARGEST_LEVELS);
}

uint64_t pol_database_file_bytes(const pol_config *c, int64_t levels, int64_t align, unsigned granularity)
{
    const uint64_t of_record = 64, of_unit = sizeof(int32_t), of_level = sizeof(int64_t) + sizeof(double);
    uint64_t bytes = of_record + all_bytes(c, NULL, levels, align, granularity, ALL_LEVELS);
    for (int32_t l = 0; l < c->n_layers; l++)
        for (int kind = POL_UNIT_GROUP; kind <= POL_UNIT_CHANNEL; kind++) {
            const int64_t count = pol_block_inputs(c, l, (pol_unit_kind)kind) / pol_unit_inputs(c, (pol_unit_kind)kind);
            if (granularity & 1u << kind && count)
                bytes += of_record + (uint64_t)count * of_unit +
                         (uint64_t)steps(count, (pol_unit_kind)kind, levels) * of_level;
        }
    return bytes;
}

/* obs_sweep has a matrix of its own and W in f64, and the rows that go at a time. */
uint64_t pol_database_host_bytes(const pol_config *c, const pol_database_settings *o, int64_t n, int64_t S)
{
    const uint64_t N = (uint64_t)pol_widest_input(c, o->granularity), C = (uint64_t)c->hidden;
    const int64_t channels = o->obs_block == POL_AUTO ? pol_obs_block(POL_UNIT_CHANNEL, (int64_t)N) : o->obs_block;
    const uint64_t gone = (uint64_t)pol_max_i64(channels, pol_ctx_cols(c));
    return pol_walk_host_bytes(c, o->granularity, n, S) + (N + gone) * (N + C) * sizeof(double) +
           all_bytes(c, NULL, o->levels, o->align, o->granularity, LARGEST_BLOCK);
}
