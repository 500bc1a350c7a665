/* gemm.c - products by CLBlast. The kept prefix is a range of the weight buffer: nothing is gathered or copied.
 *
 * A product goes by in slices of w: whole rows of one piece, at most profile.slice_rows of them. That bounds what
 * CLBlast pads and transposes for itself, and what is widened for it where weights have 16 bits. Both lie in the
 * caller's scratch, so that all memory is in the plan:
 *
 *     scratch   [to where a sub-buffer may start | what CLBlast wants | a slice of w in f32]
 */
#include <clblast_c.h>

#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

/* `ROUND`: sizes are rounded up to it before CLBlast is asked, so that few answers serve the widths of all masks. */
enum { ROUND = 64 };
static const int64_t MOST = INT64_C(1) << 40; /* elements; no device has as many */

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static int64_t align_floats(const ocl *cl) { return (int64_t)(cl->profile.align_bytes / sizeof(float)); }

/* Bytes that CLBlast wants for y [T,N] of depth K. Offsets of 1 keep it from finding that a matrix can be used as it
 * lies, which is a matter of the exact sizes: so asked, the number never falls when a size grows. */
static cl_int ask(ocl *cl, ocl_form form, int64_t T, int64_t N, int64_t K, size_t *bytes)
{
    const bool out = form == OCL_ROWS_OUT;
    return CLBlastSGemmTempBufferSize(CLBlastLayoutColMajor, out ? CLBlastTransposeYes : CLBlastTransposeNo,
                                      CLBlastTransposeNo, (size_t)N, (size_t)T, (size_t)K, 1, (size_t)(out ? K : N), 1,
                                      (size_t)K, 1, (size_t)N, &cl->queue, bytes);
}

/* Floats that serve both forms of a product with w [rows,row], and every smaller one; INT64_MAX for what cannot be. */
static cl_int temp_floats(ocl *cl, int64_t T, int64_t rows, int64_t row, int64_t *out)
{
    *out = INT64_MAX;
    rows = pol_min_i64(rows, cl->profile.slice_rows);
    if (pol_mul_count(T, row) > MOST || pol_mul_count(rows, row) > MOST || pol_mul_count(T, rows) > MOST)
        return CL_SUCCESS;
    T = round_up(T, ROUND);
    rows = round_up(rows, ROUND);
    row = round_up(row, ROUND);
    ocl_temp *t = &cl->temps[(31 * T + 7 * rows + row) / ROUND % OCL_TEMPS];
    if (t->T != T || t->rows != rows || t->row != row) {
        size_t rows_out, rows_in;
        cl_int code = ask(cl, OCL_ROWS_OUT, T, rows, row, &rows_out);
        if (code == CL_SUCCESS)
            code = ask(cl, OCL_ROWS_IN, T, row, rows, &rows_in);
        if (code != CL_SUCCESS)
            return code;
        *t = (ocl_temp){T, rows, row, (int64_t)((rows_out > rows_in ? rows_out : rows_in) / sizeof(float))};
    }
    *out = t->floats;
    return CL_SUCCESS;
}

/* Floats of a slice in f32; none where weights are f32 themselves. */
static int64_t stage_floats(const ocl *cl, int64_t rows, int64_t row)
{
    return cl->base.weight_dtype == POL_F32 ? 0 : pol_min_i64(rows, cl->profile.slice_rows) * row;
}

int64_t gemm_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    ocl *cl = ocl_of(be);
    int64_t temp;
    const cl_int code = temp_floats(cl, T, N, C, &temp);
    if (code != CL_SUCCESS) {
        cl->late = code;
        return 0;
    }
    if (temp == INT64_MAX)
        return temp;
    return (temp ? temp + align_floats(cl) : 0) + stage_floats(cl, N, C);
}

/* The scratch of one product, divided. */
typedef struct room {
    cl_mem temp;    /* for CLBlast: a buffer that it uses from the start; NULL where it wants none */
    cl_mem made;    /* the same, where it is a sub-buffer and not the caller's buffer */
    pol_view stage; /* for a slice in f32 */
} room;

static pol_status divide(ocl *cl, const char *op, pol_view scratch, int64_t T, int64_t rows, int64_t row, room *out)
{
    int64_t temp;
    cl_int code = temp_floats(cl, T, rows, row, &temp);
    POL_TRY(ocl_check(cl->base.ctx, op, "CLBlastSGemmTempBufferSize", code));
    const int64_t at = temp ? round_up(scratch.at, align_floats(cl)) : scratch.at;
    *out = (room){.stage = {scratch.buf, at + temp}};
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

/* A product, and the slice of w that is its turn: `rows` rows, of which `before` came earlier. */
typedef struct product {
    const char *op;
    ocl_form form;
    int64_t T, N, K;
    pol_view x, y;
    room room;
    cl_mem w;
    int64_t w_at, rows, before;
} product;

static int64_t row_of(const product *p) { return p->form == OCL_ROWS_OUT ? p->K : p->N; }

/* The slice is in f32 from here on. */
static pol_status widen_slice(ocl *cl, product *p)
{
    ocl_kernel *k;
    const cl_mem y = ocl_mem(p->room.stage), w = p->w;
    const widen_args args = {.y_at = p->room.stage.at, .w_at = p->w_at, .n = p->rows * row_of(p)};
    POL_TRY(ocl_kernel_get(cl, "gemm", "widen_slice", "", &k));
    POL_TRY(OCL_LAUNCH(cl, k, ((ocl_range){1, {(size_t)args.n}, {OCL_ITEMS}}), OCL_MEM(y), OCL_MEM(w), OCL_ARG(args)));
    p->w = y;
    p->w_at = args.y_at;
    return POL_OK;
}

/* Rows of w are columns of y, or terms of its sums, which are added up from slice to slice. To CLBlast each matrix
 * is its own transpose by columns, y^T = w x^T or w^T x^T: told of rows, it transposes y into scratch and back. */
static pol_status multiply_slice(ocl *cl, product p)
{
    const bool out = p.form == OCL_ROWS_OUT;
    if (cl->base.weight_dtype != POL_F32)
        POL_TRY(widen_slice(cl, &p));
    OCL_TRY(cl->base.ctx, p.op, CLBlastSgemmWithTempBuffer, CLBlastLayoutColMajor,
            out ? CLBlastTransposeYes : CLBlastTransposeNo, CLBlastTransposeNo, (size_t)(out ? p.rows : p.N),
            (size_t)p.T, (size_t)(out ? p.K : p.rows), 1.0f, p.w, (size_t)p.w_at, (size_t)row_of(&p), ocl_mem(p.x),
            (size_t)(p.x.at + (out ? 0 : p.before)), (size_t)p.K, out ? 0.0f : 1.0f, ocl_mem(p.y),
            (size_t)(p.y.at + (out ? p.before : 0)), (size_t)p.N, &cl->queue, NULL, p.room.temp);
    return POL_OK;
}

static pol_status multiply_stretch(ocl *cl, product p, const ocl_stretch *s)
{
    const int64_t row = row_of(&p), rows = s->n / row, first = s->first / row;
    p.w = s->mem;
    for (int64_t r = 0; r < rows; r += cl->profile.slice_rows) {
        p.w_at = s->at + r * row;
        p.rows = pol_min_i64(cl->profile.slice_rows, rows - r);
        p.before = first + r;
        POL_TRY(multiply_slice(cl, p));
    }
    return POL_OK;
}

pol_status ocl_gemm(ocl *cl, const char *op, ocl_form form, int64_t T, int64_t N, int64_t K, pol_view x, pol_view w,
                    pol_view y, pol_view scratch)
{
    product p = {.op = op, .form = form, .T = T, .N = N, .K = K, .x = x, .y = y};
    POL_TRY(divide(cl, op, scratch, T, form == OCL_ROWS_OUT ? N : K, row_of(&p), &p.room));
    pol_status status = POL_OK;
    for (ocl_stretch s = ocl_stretch_of(w, N * K); status == POL_OK && ocl_next(&s);)
        status = multiply_stretch(cl, p, &s);
    if (p.room.made)
        clReleaseMemObject(p.room.made); /* what is queued keeps it */
    return status;
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
    return OCL_LAUNCH(cl, k, ((ocl_range){2, {(size_t)N, (size_t)T}, {OCL_ITEMS, 1}}), OCL_MEM(y_mem),
                      OCL_MEM(bias_mem), OCL_ARG(args));
}

pol_status project_opencl(pol_backend *be, const pol_project_args *a)
{
    ocl *cl = ocl_of(be);
    POL_TRY(ocl_mark(cl, OCL_PROJECT));
    POL_TRY(ocl_gemm(cl, "project", OCL_ROWS_OUT, a->T, a->N, a->C, a->x, a->w, a->y, a->scratch));
    return add_bias(cl, "project", a->T, a->N, a->bias, a->y);
}

pol_status project_add_opencl(pol_backend *be, const pol_project_add_args *a)
{
    ocl *cl = ocl_of(be);
    POL_TRY(ocl_mark(cl, OCL_PROJECT_ADD));
    if (a->N > 0)
        POL_TRY(ocl_gemm(cl, "project_add", OCL_ROWS_IN, a->T, a->C, a->N, a->h, a->w, a->x, a->scratch));
    return add_bias(cl, "project_add", a->T, a->C, a->bias, a->x);
}
