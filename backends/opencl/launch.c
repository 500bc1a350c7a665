/* launch.c - one kernel launch; and device time by op.
 *
 * Time is measured by markers rather than by the launches' own events: an op may be several launches, some of them
 * inside CLBlast, which gives the event of its last one only. On an in-order queue the end of a marker is the end of
 * all before it, so an op's time is from the end of its marker to the end of the next.
 */
#include <limits.h>

#include "backends/opencl/opencl.h"

const char *const ocl_op_names[OCL_OPS] = {
    [OCL_EMBED] = "embed",
    [OCL_RMSNORM] = "rmsnorm",
    [OCL_PROJECT] = "project",
    [OCL_PROJECT_ADD] = "project_add",
    [OCL_ROPE] = "rope",
    [OCL_ATTENTION] = "attention",
    [OCL_SWIGLU] = "swiglu",
    [OCL_NLL] = "nll",
    [OCL_SWAP_UNITS] = "swap_units",
    [OCL_ACTIVATION_STATS] = "activation_stats",
    [OCL_GRAM] = "gram",
    [OCL_TRANSFER] = "transfer",
};

pol_status ocl_int(ocl *cl, const char *op, const char *name, int64_t value, cl_int *out)
{
    if (value > INT_MAX / 2) /* the last vector or work-group may reach past a size */
        return pol_fail(cl->base.ctx, POL_EUNSUPPORTED, "%s: %s: %lld: the kernels count in 32 bits", op, name,
                        (long long)value);
    *out = (cl_int)value;
    return POL_OK;
}

static size_t items_of(const ocl_range *r)
{
    size_t n = 1;
    for (cl_uint d = 0; d < r->dims; d++)
        n *= r->local[d];
    return n;
}

pol_status ocl_launch(ocl *cl, ocl_kernel *k, ocl_range r, const ocl_arg *args, size_t n)
{
    pol_context *ctx = cl->base.ctx;
    for (size_t i = 0; i < n; i++)
        OCL_TRY(ctx, k->name, clSetKernelArg, k->kernel, (cl_uint)i, args[i].size, args[i].value);
    while (r.local[0] > 1 && items_of(&r) > k->most_items)
        r.local[0] /= 2;
    for (cl_uint d = 0; d < r.dims; d++)
        r.global[d] = (r.global[d] + r.local[d] - 1) / r.local[d] * r.local[d];
    OCL_TRY(ctx, k->name, clEnqueueNDRangeKernel, cl->queue, k->kernel, r.dims, NULL, r.global, r.local, 0, NULL, NULL);
    k->launches++;
    return POL_OK;
}

typedef struct mark {
    cl_event event;
    ocl_op op;
} mark;

typedef struct ocl_timer {
    mark *marks;
    int64_t n, cap;
} ocl_timer;

pol_status ocl_mark(ocl *cl, ocl_op op)
{
    pol_context *ctx = cl->base.ctx;
    if (!cl->profile.timing)
        return POL_OK;
    if (!cl->timer) {
        cl->timer = pol_alloc_zero(ctx, sizeof *cl->timer);
        if (!cl->timer)
            return POL_ENOMEM;
    }
    ocl_timer *t = cl->timer;
    if (t->n == t->cap) {
        const int64_t cap = t->cap ? 2 * t->cap : 1024;
        mark *more = pol_realloc(ctx, t->marks, (size_t)cap * sizeof *more);
        if (!more)
            return POL_ENOMEM;
        t->marks = more;
        t->cap = cap;
    }
    OCL_TRY(ctx, ocl_op_names[op], clEnqueueMarkerWithWaitList, cl->queue, 0, NULL, &t->marks[t->n].event);
    t->marks[t->n++].op = op;
    return POL_OK;
}

static void forget_marks(ocl_timer *t)
{
    for (int64_t i = 0; i < t->n; i++)
        clReleaseEvent(t->marks[i].event);
    t->n = 0;
}

pol_status ocl_times(ocl *cl, double seconds[OCL_OPS])
{
    pol_context *ctx = cl->base.ctx;
    for (int i = 0; i < OCL_OPS; i++)
        seconds[i] = 0;
    POL_TRY(ocl_mark(cl, OCL_TRANSFER)); /* the end of the last op */
    OCL_TRY(ctx, "times", clFinish, cl->queue);
    ocl_timer *t = cl->timer;
    cl_ulong before = 0;
    pol_status s = POL_OK;
    for (int64_t i = 0; t && i < t->n && s == POL_OK; i++) {
        cl_ulong end = 0;
        s = ocl_check(ctx, "times", "clGetEventProfilingInfo",
                      clGetEventProfilingInfo(t->marks[i].event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL));
        if (i > 0)
            seconds[t->marks[i - 1].op] += 1e-9 * (double)(end - before);
        before = end;
    }
    if (t)
        forget_marks(t);
    return s;
}

void ocl_timer_free(ocl *cl)
{
    if (!cl->timer)
        return;
    forget_marks(cl->timer);
    pol_free(cl->base.ctx, cl->timer->marks);
    pol_free(cl->base.ctx, cl->timer);
    cl->timer = NULL;
}
