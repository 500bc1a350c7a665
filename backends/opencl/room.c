/* room.c - the memory that CLBlast works in: a part of the op's scratch, so that it is in the plan.
 *
 *     scratch   [to where a sub-buffer may start | what CLBlast wants | the rest, for the op itself]
 */
#include <clblast_c.h>

#include "backends/opencl/opencl.h"

/* `ROUND`: sizes are rounded up to it before CLBlast is asked, so that few answers serve the widths of all masks. */
enum { ROUND = 64 };
static const int64_t MOST = INT64_C(1) << 40; /* elements; no device has as many */

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static int64_t align_floats(const ocl *cl) { return (int64_t)(cl->profile.align_bytes / sizeof(float)); }

/* Floats that CLBlast wants. Offsets of 1 keep it from finding that a matrix can be used as it lies, which is a matter
 * of the exact sizes: so asked it counts a copy of all three, whichever are transposed, and the number never falls when
 * a size grows. */
static cl_int wanted(ocl *cl, int64_t m, int64_t n, int64_t k, int64_t *floats)
{
    size_t bytes = 0;
    const cl_int code =
        CLBlastSGemmTempBufferSize(CLBlastLayoutColMajor, CLBlastTransposeNo, CLBlastTransposeNo, (size_t)m, (size_t)n,
                                   (size_t)k, 1, (size_t)m, 1, (size_t)k, 1, (size_t)m, &cl->queue, &bytes);
    *floats = (int64_t)(bytes / sizeof(float));
    return code;
}

/* The same, remembered: floats that serve this product and every smaller one; INT64_MAX for what cannot be. */
static cl_int temp_floats(ocl *cl, int64_t m, int64_t n, int64_t k, int64_t *out)
{
    *out = INT64_MAX;
    if (pol_mul_count(m, n) > MOST || pol_mul_count(m, k) > MOST || pol_mul_count(n, k) > MOST)
        return CL_SUCCESS;
    m = round_up(m, ROUND);
    n = round_up(n, ROUND);
    k = round_up(k, ROUND);
    ocl_temp *t = &cl->temps[(31 * n + 7 * m + k) / ROUND % OCL_TEMPS];
    if (t->m != m || t->n != n || t->k != k) {
        int64_t floats;
        const cl_int code = wanted(cl, m, n, k, &floats);
        if (code != CL_SUCCESS)
            return code;
        *t = (ocl_temp){m, n, k, floats};
    }
    *out = t->floats;
    return CL_SUCCESS;
}

bool ocl_room_floats(ocl *cl, int64_t m, int64_t n, int64_t k, int64_t *out)
{
    const cl_int code = temp_floats(cl, m, n, k, out);
    if (code != CL_SUCCESS)
        cl->late = code;
    else if (*out > 0 && *out < INT64_MAX)
        *out += align_floats(cl);
    return code == CL_SUCCESS;
}

pol_status ocl_room_take(ocl *cl, const char *op, pol_view scratch, int64_t m, int64_t n, int64_t k, ocl_room *out)
{
    int64_t temp;
    cl_int code = temp_floats(cl, m, n, k, &temp);
    POL_TRY(ocl_check(cl->base.ctx, op, "CLBlastSGemmTempBufferSize", code));
    const int64_t at = temp ? round_up(scratch.at, align_floats(cl)) : scratch.at;
    *out = (ocl_room){.rest = {scratch.buf, at + temp}};
    if (!temp)
        return POL_OK;
    out->temp = ocl_mem(scratch);
    if (!at)
        return POL_OK;
    const cl_buffer_region part = {(size_t)at * sizeof(float), (size_t)temp * sizeof(float)};
    out->made = clCreateSubBuffer(out->temp, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &part, &code);
    out->temp = out->made;
    return ocl_check(cl->base.ctx, op, "clCreateSubBuffer", code);
}

void ocl_room_release(ocl_room *r)
{
    if (r->made)
        clReleaseMemObject(r->made); /* what is queued keeps it */
}
