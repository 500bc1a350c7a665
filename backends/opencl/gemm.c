/* gemm.c - products by CLBlast. The kept prefix is a range of the weight buffer: nothing is gathered or copied. Pads
 * and transposes that CLBlast makes for itself go to the caller's scratch, so that all memory is in the plan. */
#include <clblast_c.h>

#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

enum { ALIGN_FLOATS = 1024 }; /* of a sub-buffer's start: 4 KiB, at least what any device asks for */

/* Bytes that CLBlast wants for y [m,n] of depth k. Offsets of 1 keep it from finding that a matrix can be used as it
 * lies, which is a matter of the exact sizes: so asked, the number never falls when a size grows. */
static size_t temp_bytes(ocl *cl, ocl_form form, int64_t m, int64_t n, int64_t k)
{
    const bool out = form == OCL_ROWS_OUT;
    size_t bytes = 0;
    CLBlastSGemmTempBufferSize(CLBlastLayoutRowMajor, CLBlastTransposeNo,
                               out ? CLBlastTransposeYes : CLBlastTransposeNo, (size_t)m, (size_t)n, (size_t)k, 1,
                               (size_t)k, 1, (size_t)(out ? k : n), 1, (size_t)n, &cl->queue, &bytes);
    return bytes;
}

int64_t gemm_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    ocl *cl = ocl_of(be);
    const size_t out = temp_bytes(cl, OCL_ROWS_OUT, T, N, C), in = temp_bytes(cl, OCL_ROWS_IN, T, C, N);
    const size_t most = out > in ? out : in;
    return most ? (int64_t)(most / sizeof(float)) + ALIGN_FLOATS : 0;
}

pol_status ocl_gemm(ocl *cl, const char *op, ocl_form form, int64_t T, int64_t N, int64_t K, pol_view x, pol_view w,
                    float beta, pol_view y, pol_view scratch)
{
    (void)scratch;
    const bool out = form == OCL_ROWS_OUT;
    const int64_t row = out ? K : N; /* elements of a row of w */
    for (ocl_stretch s = ocl_stretch_of(w, N * K); ocl_next(&s);) {
        const int64_t rows = s.n / row, before = s.first / row;
        /* Rows of w are columns of y, or terms of its sums. */
        OCL_TRY(cl->base.ctx, op, CLBlastSgemm, CLBlastLayoutRowMajor, CLBlastTransposeNo,
                out ? CLBlastTransposeYes : CLBlastTransposeNo, (size_t)T, (size_t)(out ? rows : N),
                (size_t)(out ? K : rows), 1.0f, ocl_mem(x), (size_t)(x.at + (out ? 0 : before)), (size_t)K, s.mem,
                (size_t)s.at, (size_t)row, out || before == 0 ? beta : 1.0f, ocl_mem(y),
                (size_t)(y.at + (out ? before : 0)), (size_t)N, &cl->queue, NULL);
    }
    return POL_OK;
}

static pol_status add_bias(ocl *cl, const char *op, int64_t T, int64_t N, pol_view bias, pol_view y)
{
    if (!bias.buf)
        return POL_OK;
    ocl_kernel *k;
    bias_args args = {.y_at = y.at, .bias_at = bias.at};
    POL_TRY(ocl_int(cl, op, "T", T, &args.T));
    POL_TRY(ocl_int(cl, op, "N", N, &args.N));
    POL_TRY(ocl_kernel_get(cl, "gemm", "add_bias", "", &k));
    const cl_mem y_mem = ocl_mem(y), bias_mem = ocl_mem(bias);
    return OCL_LAUNCH(cl, k, ((ocl_range){2, {(size_t)N, (size_t)T}, {64, 1}}), OCL_MEM(y_mem), OCL_MEM(bias_mem),
                      OCL_ARG(args));
}

pol_status project_opencl(pol_backend *be, const pol_project_args *a)
{
    ocl *cl = ocl_of(be);
    POL_TRY(ocl_mark(cl, OCL_PROJECT));
    POL_TRY(ocl_gemm(cl, "project", OCL_ROWS_OUT, a->T, a->N, a->C, a->x, a->w, 0.0f, a->y, a->scratch));
    return add_bias(cl, "project", a->T, a->N, a->bias, a->y);
}

pol_status project_add_opencl(pol_backend *be, const pol_project_add_args *a)
{
    ocl *cl = ocl_of(be);
    POL_TRY(ocl_mark(cl, OCL_PROJECT_ADD));
    if (a->N > 0)
        POL_TRY(ocl_gemm(cl, "project_add", OCL_ROWS_IN, a->T, a->C, a->N, a->h, a->w, 1.0f, a->x, a->scratch));
    return add_bias(cl, "project_add", a->T, a->C, a->bias, a->x);
}
