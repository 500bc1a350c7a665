/* gemm.c - products by CLBlast. The kept prefix is a range of the weight buffer: nothing is gathered or copied.
 *
 * A product goes by in slices of w: whole rows of one piece, at most profile.slice_rows of them. That bounds what
 * CLBlast pads and transposes for itself, and what is widened for it where weights have 16 bits. Both lie in the
 * caller's scratch: CLBlast's room (room.c), then a slice of w in f32.
 */
#include <clblast_c.h>

#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

/* To CLBlast each matrix is its own transpose by columns, y^T = w x^T or w^T x^T: told of rows, it transposes y into
 * scratch and back. The sizes of that, for slices of w: y^T [m,n], sums of k terms. */
typedef struct sizes {
    int64_t m, n, k;
} sizes;

static sizes sizes_of(const ocl *cl, ocl_form form, int64_t T, int64_t N, int64_t K)
{
    const int64_t most = cl->profile.slice_rows;
    return form == OCL_ROWS_OUT ? (sizes){pol_min_i64(N, most), T, K} : (sizes){N, T, pol_min_i64(K, most)};
}

/* Floats of a slice in f32; none where weights are f32 themselves. */
static int64_t stage_floats(const ocl *cl, int64_t rows, int64_t row)
{
    return cl->base.weight_dtype == POL_F32 ? 0 : pol_min_i64(rows, cl->profile.slice_rows) * row;
}

/* For w [N,C] in either form. */
int64_t gemm_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t C)
{
    ocl *cl = ocl_of(be);
    int64_t out, in;
    const sizes o = sizes_of(cl, OCL_ROWS_OUT, T, N, C), i = sizes_of(cl, OCL_ROWS_IN, T, C, N);
    if (!ocl_room_floats(cl, o.m, o.n, o.k, &out) || !ocl_room_floats(cl, i.m, i.n, i.k, &in))
        return 0;
    const int64_t room = pol_max_i64(out, in);
    return room == INT64_MAX ? room : room + stage_floats(cl, N, C);
}

/* A product, and the slice of w that is its turn: `rows` rows, of which `before` came earlier. */
typedef struct product {
    const char *op;
    ocl_form form;
    int64_t T, N, K;
    pol_view x, y;
    ocl_room room;
    cl_mem w;
    int64_t w_at, rows, before;
} product;

static int64_t row_of(const product *p) { return p->form == OCL_ROWS_OUT ? p->K : p->N; }

/* The slice is in f32 from here on. */
static pol_status widen_slice(ocl *cl, product *p)
{
    ocl_kernel *k;
    const cl_mem y = ocl_mem(p->room.rest), w = p->w;
    const widen_args args = {.y_at = p->room.rest.at, .w_at = p->w_at, .n = p->rows * row_of(p)};
    POL_TRY(ocl_kernel_get(cl, "gemm", "widen_slice", "", &k));
    POL_TRY(OCL_LAUNCH(cl, k, ((ocl_range){1, {(size_t)args.n}, {OCL_ITEMS}}), OCL_MEM(y), OCL_MEM(w), OCL_ARG(args)));
    p->w = y;
    p->w_at = args.y_at;
    return POL_OK;
}

/* Rows of w are columns of y, or terms of its sums, which are added up from slice to slice. */
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
    const sizes s = sizes_of(cl, form, T, N, K);
    POL_TRY(ocl_room_take(cl, op, scratch, s.m, s.n, s.k, &p.room));
    pol_status status = POL_OK;
    for (ocl_stretch t = ocl_stretch_of(w, N * K); status == POL_OK && ocl_next(&t);)
        status = multiply_stretch(cl, p, &t);
    ocl_room_release(&p.room);
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
