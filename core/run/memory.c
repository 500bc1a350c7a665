/* memory.c - whether a model and passes over it fit, before anything of them is on the device. */
#include "pollard/memory.h"

#include <stdio.h>

#include "core/forward.h"
#include "core/model/weights.h"
#include "core/run/run.h"

/* UINT64_MAX where that does not fit: more than there is, wherever it is compared. */
static uint64_t sum(uint64_t a, uint64_t b)
{
    uint64_t total;
    return pol_add_u64(a, b, &total) ? total : UINT64_MAX;
}

static const char *size(char buf[32], uint64_t bytes)
{
    const bool small = bytes < UINT64_C(1) << 30;
    snprintf(buf, 32, "%.2f %s", (double)bytes / (small ? 0x1p20 : 0x1p30), small ? "MiB" : "GiB");
    return buf;
}

static uint64_t device_need(const pol_memory *m)
{
    return sum(sum(m->weight_bytes, m->activation_bytes), m->repair_bytes);
}

/* Needs of the model placed as `p` says. */
static void place(const pol_config *c, pol_backend *be, const pol_memory_request *r, pol_placement p, pol_memory *m)
{
    m->placement = p;
    m->weight_bytes = pol_model_bytes(c, be, &p);
    const pol_forward_size size = {r->max_tokens, r->max_seq_len, r->max_targets};
    m->activation_bytes = pol_forward_bytes_sized(c, be, &p, &size);
    m->largest_buffer = pol_forward_largest_buffer(c, be, &p, &size);
    m->slot_bytes = p.streamed ? pol_model_slot_bytes(c, be) : 0;
    m->pinned_bytes = p.streamed ? pol_model_home_bytes(c, be) : 0;
    m->repair_bytes = r->device_bytes;
    m->host_bytes = sum(r->host_bytes, pol_forward_host_bytes(c, be, &p, &size));
}

/* Where there is no room for all weights, but for layers that visit: with as many passes a visit as are wanted and fit.
 * Where the device's memory is the host's nothing is gained by that. */
static void stream(const pol_config *c, pol_backend *be, const pol_memory_request *r, pol_memory *m)
{
    pol_memory least = *m;
    if (m->shared || !pol_can_stream(be))
        return;
    place(c, be, r, (pol_placement){true, 1}, &least);
    m->streamed_bytes = device_need(&least);
    m->streamed_weight_bytes = least.weight_bytes;
    if (device_need(m) <= m->device_bytes || m->streamed_bytes > m->device_bytes)
        return;
    int64_t cells = pol_max_i64(1, pol_min_i64(r->cells, POL_MAX_CELLS));
    do
        place(c, be, r, (pol_placement){true, cells}, m);
    while (device_need(m) > m->device_bytes && --cells);
}

/* All levels, where they fit beside the rest; none where layers visit. */
static void place_levels(const pol_memory_request *r, pol_memory *m)
{
    const uint64_t none = m->repair_bytes;
    if (m->placement.streamed || !r->level_bytes)
        return;
    m->level_bytes = r->level_bytes;
    m->repair_bytes = none > r->level_bytes ? none : r->level_bytes;
    const uint64_t besides = sum(m->host_bytes, m->pinned_bytes);
    m->levels_resident =
        m->shared ? sum(device_need(m), besides) <= m->available_bytes : device_need(m) <= m->device_bytes;
    if (!m->levels_resident)
        m->repair_bytes = none > r->least_level_bytes ? none : r->least_level_bytes;
}

void pol_memory_plan(const pol_config *c, pol_backend *be, const pol_memory_request *r, pol_memory *out)
{
    const pol_device_info *d = &be->info;
    const bool limited = r->limit && r->limit < d->memory_bytes && !d->host_memory;
    *out = (pol_memory){
        .n_layers = c->n_layers,
        .largest_row = pol_model_largest_row(c, be),
        .max_targets = r->max_targets,
        .weight_bits = (int32_t)(8 * pol_dtype_size(be->weight_dtype)),
        .shared = d->host_memory,
        .limited = limited,
        .device_bytes = limited ? r->limit : d->memory_bytes,
        .available_bytes = r->limit && d->host_memory ? r->limit : pol_memory_available(),
        .max_buffer_bytes = d->max_buffer_bytes,
    };
    place(c, be, r, (pol_placement){.cells = 1}, out);
    stream(c, be, r, out);
    place_levels(r, out);
}

pol_status pol_memory_reserve(pol_backend *be, const pol_memory *m) { return pol_reserve(be, device_need(m)); }

/* Fewer tokens at a time are no help where the weights alone are too large, as little of them as there may be. */
static const char *remedy(const pol_memory *m, uint64_t room)
{
    if ((m->streamed_bytes ? m->streamed_weight_bytes : m->weight_bytes) <= room)
        return "a lower --batch or --seq-len needs less";
    if (m->weight_bits > 16)
        return "--weights bf16 halves the weights, on a backend that takes it";
    return m->limited ? "a higher --memory-limit is needed" : "a --device with more memory is needed";
}

/* ", repair SIZE", where there is any. */
static const char *repair_part(char buf[48], const pol_memory *m)
{
    char bytes[32];
    buf[0] = 0;
    if (m->repair_bytes)
        snprintf(buf, 48, ", repair %s", size(bytes, m->repair_bytes));
    return buf;
}

static pol_status check_host(pol_context *ctx, const char *model, const pol_memory *m)
{
    char need[32], there[32], weights[32], activations[32], repair[48], host[32];
    const uint64_t besides = sum(m->host_bytes, m->pinned_bytes);
    const uint64_t all = m->shared ? sum(device_need(m), besides) : besides;
    if (all <= m->available_bytes)
        return POL_OK;
    size(need, all);
    size(there, m->available_bytes);
    if (m->pinned_bytes)
        return pol_fail(
            ctx, POL_ELIMIT,
            "%s: needs %s of the host's memory (weights, of which two layers at a time fit the device, %s), "
            "%s are available; a --device with more memory is needed, or fewer devices",
            model, need, size(weights, m->pinned_bytes), there);
    if (!m->shared)
        return pol_fail(ctx, POL_ELIMIT,
                        "%s: needs %s of the host's memory, %s are available; fewer sequences need less", model, need,
                        there);
    return pol_fail(ctx, POL_ELIMIT, "%s: needs %s (weights %s, activations %s%s, host data %s), %s are available; %s",
                    model, need, size(weights, m->weight_bytes), size(activations, m->activation_bytes),
                    repair_part(repair, m), size(host, m->host_bytes), there, remedy(m, m->available_bytes));
}

static pol_status check_device(pol_context *ctx, const char *model, const pol_memory *m)
{
    char need[32], there[32], weights[32], activations[32], repair[48], streamed[32], way[96] = "";
    if (device_need(m) <= m->device_bytes)
        return POL_OK;
    if (m->streamed_bytes)
        snprintf(way, sizeof way, "; with layers that visit it one after the other it would need %s",
                 size(streamed, m->streamed_bytes));
    return pol_fail(ctx, POL_ELIMIT, "%s: needs %s on the device (weights %s, activations %s%s), which %s %s%s; %s",
                    model, size(need, device_need(m)), size(weights, m->weight_bytes),
                    size(activations, m->activation_bytes), repair_part(repair, m), m->limited ? "may have" : "has",
                    size(there, m->device_bytes), way, remedy(m, m->device_bytes));
}

static pol_status check_buffers(pol_context *ctx, const char *model, const pol_memory *m)
{
    char need[32], there[32];
    if (m->largest_buffer > m->max_buffer_bytes)
        return pol_fail(ctx, POL_ELIMIT,
                        "%s: needs %s of activations in one buffer, the device gives %s at a time; a lower --batch or "
                        "--seq-len needs less",
                        model, size(need, m->largest_buffer), size(there, m->max_buffer_bytes));
    if (m->largest_row > m->max_buffer_bytes)
        return pol_fail(ctx, POL_ELIMIT, "%s: needs %s for one row of weights, the device gives %s at a time; %s",
                        model, size(need, m->largest_row), size(there, m->max_buffer_bytes),
                        m->weight_bits > 16 ? "--weights bf16 halves it" : "another --device is needed");
    return POL_OK;
}

pol_status pol_memory_check(pol_context *ctx, const char *model, const pol_memory *m)
{
    POL_TRY(check_host(ctx, model, m));
    POL_TRY(check_device(ctx, model, m));
    return check_buffers(ctx, model, m);
}
