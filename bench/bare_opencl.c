/* bare_opencl.c - the products by CLBlastSgemmWithTempBuffer, in the queue of the backend itself; and device time by
 * op.
 *
 * The calls are the fastest that CLBlast offers: y^T = w x^T by columns rather than y by rows, each product whole, and
 * with a temporary buffer that lies ready rather than one that CLBlast makes and frees for each call.
 */
#include <clblast_c.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends/opencl/opencl.h"
#include "bench/bare.h"

struct bare {
    ocl *cl;
    cl_mem x, w, y, temp;
};

static void close_bare(bare *b)
{
    if (!b)
        return;
    const cl_mem all[] = {b->x, b->w, b->y, b->temp};
    for (size_t i = 0; i < POL_COUNT(all); i++)
        if (all[i])
            clReleaseMemObject(all[i]);
    free(b);
}

static pol_status new_buffer(ocl *cl, int64_t n, cl_mem *out)
{
    const cl_float zero = 0;
    cl_int code;
    *out = clCreateBuffer(cl->context, CL_MEM_READ_WRITE, (size_t)n * sizeof zero, NULL, &code);
    POL_TRY(ocl_check(cl->base.ctx, "bare calls", "clCreateBuffer", code));
    OCL_TRY(cl->base.ctx, "bare calls", clEnqueueFillBuffer, cl->queue, *out, &zero, sizeof zero, 0,
            (size_t)n * sizeof zero, 0, NULL, NULL);
    return POL_OK;
}

/* That serve these products and all smaller ones: offsets of 1 count a copy of each matrix, needed or not. */
static pol_status temp_floats(ocl *cl, const pol_products *p, int64_t *most)
{
    *most = 1;
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        size_t bytes = 0;
        OCL_TRY(cl->base.ctx, "bare calls", CLBlastSGemmTempBufferSize, CLBlastLayoutColMajor,
                q->add ? CLBlastTransposeNo : CLBlastTransposeYes, CLBlastTransposeNo, (size_t)q->N, (size_t)q->T,
                (size_t)q->K, 1, (size_t)(q->add ? q->N : q->K), 1, (size_t)q->K, 1, (size_t)q->N, &cl->queue, &bytes);
        *most = pol_max_i64(*most, (int64_t)(bytes / sizeof(float)));
    }
    return POL_OK;
}

static pol_status open_bare(pol_backend *be, const pol_products *largest, const pol_bench_settings *o, bare **out)
{
    (void)o;
    const bare_sizes n = bare_sizes_of(largest);
    int64_t temp;
    POL_TRY(temp_floats(ocl_of(be), largest, &temp));
    bare *b = calloc(1, sizeof *b);
    if (!b)
        return pol_fail(be->ctx, POL_ENOMEM, "no memory for the bare calls");
    b->cl = ocl_of(be);
    pol_status s = new_buffer(b->cl, n.x, &b->x);
    if (s == POL_OK)
        s = new_buffer(b->cl, n.w, &b->w);
    if (s == POL_OK)
        s = new_buffer(b->cl, n.y, &b->y);
    if (s == POL_OK)
        s = new_buffer(b->cl, temp, &b->temp);
    if (s < 0)
        close_bare(b);
    else
        *out = b;
    return s;
}

static pol_status run_bare(bare *b, const pol_products *p)
{
    pol_context *ctx = b->cl->base.ctx;
    for (int64_t i = 0; i < p->n; i++) {
        const pol_product *q = &p->list[i];
        for (int64_t t = 0; t < q->times; t++)
            OCL_TRY(ctx, "bare calls", CLBlastSgemmWithTempBuffer, CLBlastLayoutColMajor,
                    q->add ? CLBlastTransposeNo : CLBlastTransposeYes, CLBlastTransposeNo, (size_t)q->N, (size_t)q->T,
                    (size_t)q->K, 1.0f, b->w, 0, (size_t)(q->add ? q->N : q->K), b->x, 0, (size_t)q->K,
                    q->add ? 1.0f : 0.0f, b->y, 0, (size_t)q->N, &b->cl->queue, NULL, b->temp);
    }
    OCL_TRY(ctx, "bare calls", clFinish, b->cl->queue);
    return POL_OK;
}

static pol_status print_times(pol_bench_run *r)
{
    double warm_up[OCL_OPS], seconds[OCL_OPS], sum = 0;
    pol_bench_times t;
    POL_TRY(pol_bench_round(r, 0, &t));
    POL_TRY(ocl_times(ocl_of(r->be), warm_up));
    POL_TRY(pol_forward_nll(r->forward, r->ids, r->o->batch, r->o->seq_len, NULL, r->loss));
    POL_TRY(ocl_times(ocl_of(r->be), seconds));
    for (int i = 0; i < OCL_OPS; i++)
        sum += seconds[i];
    printf("device time of a masked pass, by op (of a queue that keeps times):\n");
    for (int i = 0; i < OCL_OPS; i++)
        if (seconds[i] > 0)
            printf("  %-17s %9.1f ms  %5.1f %%\n", ocl_op_names[i], 1e3 * seconds[i], 100 * seconds[i] / sum);
    return POL_OK;
}

/* A backend as pol_backend_open() gives it, but for the times that its queue keeps. */
static pol_status report_ops(pol_context *ctx, const pol_bench_settings *o)
{
    cl_platform_id platform;
    cl_device_id device;
    pol_device_info info;
    ocl_profile profile;
    pol_backend *be, *chosen;
    pol_bench_run r;
    POL_TRY(pol_backend_open(ctx, &o->backend, &chosen));
    const int32_t index = pol_backend_info(chosen)->index;
    const pol_dtype weights = chosen->weight_dtype;
    pol_backend_close(chosen);
    POL_TRY(ocl_find(ctx, index, &platform, &device, &info));
    POL_TRY(ocl_profile_of(ctx, device, &profile));
    profile.timing = true;
    POL_TRY(pol_opencl_open(ctx, index, &profile, weights, &be));
    POL_TRY(pol_bench_open(ctx, o, be, &r));
    const pol_status s = print_times(&r);
    pol_bench_close(&r);
    return s;
}

const bare_calls bare_opencl = {.backend = "opencl",
                                .call = "CLBlastSgemmWithTempBuffer",
                                .open = open_bare,
                                .run = run_bare,
                                .close = close_bare,
                                .report = report_ops};
