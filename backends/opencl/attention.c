/* attention.c - the host side of attention.cl: a program a head size, and blocks of keys that fit local memory. */
#include <stdio.h>

#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

enum {
    MOST_HEAD = 1024,
    ITEM_KEYS = 8,   /* that many scores stay in the registers of a CPU */
    GROUP_KEYS = 32, /* more do no good: a work-item holds their scores */
};

/* The softmax is online: nothing is kept besides. */
int64_t attention_scratch_opencl(pol_backend *be, int64_t T, int64_t S, int64_t G, int64_t g, int64_t D)
{
    (void)be, (void)T, (void)S, (void)G, (void)g, (void)D;
    return 0;
}

/* Keys of a block; 0 where a head is too large. Half of the local memory, so that two work-groups share a unit. */
static int keys_at_a_time(const ocl *cl, int64_t D)
{
    if (D > MOST_HEAD)
        return 0;
    if (!cl->profile.barriers)
        return ITEM_KEYS;
    const uint64_t key_and_value = 2 * (uint64_t)((D + 3) / 4) * sizeof(cl_float4);
    int keys = GROUP_KEYS;
    while (keys > 0 && (uint64_t)keys * key_and_value > cl->profile.local_bytes / 2)
        keys /= 2;
    return keys;
}

pol_status attention_opencl(pol_backend *be, const pol_attention_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    char defines[64];
    attention_args args = {.out_at = a->out.at, .qkv_at = a->qkv.at, .scale = a->scale};
    const bool groups = cl->profile.barriers;
    const int keys = keys_at_a_time(cl, a->D);
    if (!keys)
        return pol_fail(be->ctx, POL_EUNSUPPORTED, "attention: D: heads of %lld are too large for this device",
                        (long long)a->D);
    /* Kernels count rows and keys to the end of a block. */
    const int64_t block = pol_max_i64(groups ? cl->profile.group : cl->profile.vector, keys);
    cl_int end;
    POL_TRY(ocl_int(cl, "attention", "S * g, in blocks", pol_mul_count(a->S + block, a->g), &end));
    POL_TRY(ocl_int(cl, "attention", "S", a->S, &args.S));
    POL_TRY(ocl_int(cl, "attention", "G", a->G, &args.G));
    POL_TRY(ocl_int(cl, "attention", "g", a->g, &args.g));
    args.window = a->window > 0 && a->window < a->S ? (cl_int)a->window : args.S;
    POL_TRY(ocl_mark(cl, OCL_ATTENTION));
    snprintf(defines, sizeof defines, "-DHEAD=%d -DKEYS=%d", (int)a->D, keys);
    POL_TRY(ocl_kernel_get(cl, "attention", groups ? "attention_group" : "attention_item", defines, &k));
    const size_t rows = (size_t)(a->S * a->g), rows_each = groups ? k->group : (size_t)cl->profile.vector;
    const size_t blocks = (rows + rows_each - 1) / rows_each, items = groups ? rows_each : 1;
    const cl_mem out = ocl_mem(a->out), qkv = ocl_mem(a->qkv);
    return OCL_LAUNCH(cl, k, ((ocl_range){3, {blocks * items, (size_t)a->G, (size_t)(a->T / a->S)}, {items, 1, 1}}),
                      OCL_MEM(out), OCL_MEM(qkv), OCL_ARG(args));
}
