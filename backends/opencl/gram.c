/* gram.c - second moments: products of POL_GRAM_ROWS rows at most by CLBlast, each added to the sums by gram.cl.
 *
 * The rows of a sum go by in bands, and a band of x^T x ends with its diagonal, which leaves out most of the upper
 * triangle. CLBlast's own symmetric product would take memory that is in no plan. Scratch: CLBlast's room (room.c),
 * then the product of one band.
 */
#include <clblast_c.h>

#include "backends/opencl/opencl.h"
#include "kernels-cl/args.h"

/* Rows of a band: enough for CLBlast's large kernels, few beside an MLP's width. */
enum { BAND = 512 };

static int64_t band_rows(const ocl *cl, int64_t N) { return pol_min_i64(N, pol_min_i64(BAND, cl->profile.slice_rows)); }

int64_t gram_scratch_opencl(pol_backend *be, int64_t T, int64_t N, int64_t M)
{
    ocl *cl = ocl_of(be);
    const int64_t rows = band_rows(cl, N), columns = pol_max_i64(N, M), product = pol_mul_count(rows, columns);
    int64_t room;
    if (!ocl_room_floats(cl, columns, rows, pol_min_i64(T, POL_GRAM_ROWS), &room))
        return 0;
    return product > INT64_MAX - room ? INT64_MAX : room + product;
}

/* One of the two sums, and the rows [t, t + n_t) of x and z that are its turn: sum [2,N,columns] += x^T z, or where z
 * is x itself, what is not above the diagonal of that. */
typedef struct moment {
    pol_view sum, x, z;
    int64_t N, columns, t, n_t;
    bool symmetric;
} moment;

/* Sums of rows [first, first + rows). By columns, as CLBlast has it (gemm.c), the product is z^T x: both matrices lie
 * as the op has them, and only the second is transposed. */
static pol_status add_band(ocl *cl, ocl_kernel *k, const moment *m, const ocl_room *room, int64_t first, int64_t rows)
{
    const int64_t columns = m->symmetric ? first + rows : m->columns;
    const cl_mem sums = ocl_mem(m->sum), product = ocl_mem(room->rest);
    const gram_args args = {.high_at = m->sum.at + first * m->columns,
                            .low_at = m->sum.at + (m->N + first) * m->columns,
                            .product_at = room->rest.at,
                            .columns = (cl_int)columns,
                            .stride = (cl_int)m->columns};
    OCL_TRY(cl->base.ctx, "gram", CLBlastSgemmWithTempBuffer, CLBlastLayoutColMajor, CLBlastTransposeNo,
            CLBlastTransposeYes, (size_t)columns, (size_t)rows, (size_t)m->n_t, 1.0f, ocl_mem(m->z),
            (size_t)(m->z.at + m->t * m->columns), (size_t)m->columns, ocl_mem(m->x),
            (size_t)(m->x.at + m->t * m->N + first), (size_t)m->N, 0.0f, product, (size_t)room->rest.at,
            (size_t)columns, &cl->queue, NULL, room->temp);
    return OCL_LAUNCH(cl, k, ((ocl_range){2, {(size_t)columns, (size_t)rows}, {OCL_ITEMS, 1}}), OCL_MEM(sums),
                      OCL_MEM(product), OCL_ARG(args));
}

static pol_status add_moment(ocl *cl, ocl_kernel *k, const moment *m, const ocl_room *room)
{
    const int64_t band = band_rows(cl, m->N);
    for (int64_t first = 0; first < m->N; first += band)
        POL_TRY(add_band(cl, k, m, room, first, pol_min_i64(band, m->N - first)));
    return POL_OK;
}

pol_status gram_opencl(pol_backend *be, const pol_gram_args *a)
{
    ocl *cl = ocl_of(be);
    ocl_kernel *k;
    ocl_room room;
    moment own = {.sum = a->a, .x = a->x, .z = a->x, .N = a->N, .columns = a->N, .symmetric = true},
           cross = {.sum = a->b, .x = a->x, .z = a->y, .N = a->N, .columns = a->M};
    cl_int ignored;
    POL_TRY(ocl_int(cl, "gram", "N", a->N, &ignored));
    POL_TRY(ocl_int(cl, "gram", "M", a->M, &ignored));
    POL_TRY(ocl_mark(cl, OCL_GRAM));
    POL_TRY(ocl_kernel_get(cl, "gram", "gram_add", "", &k));
    POL_TRY(ocl_room_take(cl, "gram", a->scratch, pol_max_i64(a->N, a->M), band_rows(cl, a->N),
                          pol_min_i64(a->T, POL_GRAM_ROWS), &room));
    pol_status s = POL_OK;
    for (int64_t t = 0; t < a->T && s == POL_OK; t += POL_GRAM_ROWS) {
        own.t = cross.t = t;
        own.n_t = cross.n_t = pol_min_i64(POL_GRAM_ROWS, a->T - t);
        s = add_moment(cl, k, &own, &room);
        if (s == POL_OK && a->b.buf)
            s = add_moment(cl, k, &cross, &room);
    }
    ocl_room_release(&room);
    return s;
}
