/* tune.c - looking for CLBlast's parameters on a device, for the products of a model.
 *
 * CLBlast's tuners time its kernels one by one, at one size. Here their best sets are tried in the products themselves,
 * and a set is kept only if it is right and faster there. As CLBlast cannot go back to its own parameters, those are
 * measured first; times are the least of a few rounds, and a gain has to be more than chance.
 *
 * Which products are small enough for CLBlast's direct kernel is found here, too, by doing each both ways: CLBlast's
 * tuner for that times kernels with CLBlast's own parameters, which are no longer in use.
 *
 * The process goes on with the last parameters that it was given: the search never leaves wrong ones behind (settle).
 */
#include "backends/opencl/tune.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/opencl/cachefile.h"
#include "backends/opencl/measure.h"
#include "backends/opencl/tuner.h"

enum {
    MOST_CANDIDATES = 3,   /* sets of Xgemm's that are tried in the products */
    FIRST_FRACTION = 1024, /* of Xgemm's first, short run, which tells how long a set takes */
    TILE = 128,            /* tuners write past the end of a matrix that is no multiple of their tiles */
    SQUARE = 1024
};
static const double GAIN = 0.97;        /* what a set has to be faster by, to be more than chance */
static const double RUN_SECONDS = 0.02; /* of a tuner's product, with CLBlast's own parameters */
static const double TUNERS_SHARE = 0.7, XGEMM_SHARE = 0.45;

/* In the order in which they matter. */
static const ocl_tuner xgemm = {"clblast_tuner_xgemm", "xgemm", OCL_XGEMM};
static const struct {
    ocl_tuner tuner;
    int fraction;
    bool product; /* it is given a product's sizes, else a square */
} others[] = {
    {{"clblast_tuner_xgemm_direct", "xgemm_direct", OCL_XGEMM_DIRECT}, 64, true},
    {{"clblast_tuner_transpose_pad", "padtranspose", OCL_PADTRANSPOSE}, 1, false},
    {{"clblast_tuner_copy_pad", "pad", OCL_PAD}, 2, false},
    {{"clblast_tuner_transpose_fast", "transpose", OCL_TRANSPOSE}, 2, false},
    {{"clblast_tuner_copy_fast", "copy", OCL_COPY}, 2, false},
};

typedef struct tuning_session {
    pol_context *ctx;
    ocl *cl;
    const pol_tune_job *job;
    pol_tune_result *result;
    char key[33], *path;
    pol_products products;
    ocl_measure measure;
    double started;
    double *seconds;                       /* of each product, for whoever measures next */
    double before, best_total;             /* seconds of all products: CLBlast's own parameters, the best set */
    ocl_tuning best;                       /* of best_total */
    ocl_tuner_part found[MOST_CANDIDATES]; /* for Xgemm, the fastest first */
    int n_found;
    ocl_tuning set; /* in the making */
    bool touched;   /* CLBlast's own parameters are no longer in place */
    bool has_right; /* the last set that gave right results: `right` */
    ocl_tuning right;
} tuning_session;

static void say(const tuning_session *s, const char *fmt, ...) POL_PRINTF(2, 3);
static void say(const tuning_session *s, const char *fmt, ...)
{
    char line[256];
    va_list ap;
    const pol_bench_observer *w = s->job->watch;
    if (!w || !w->say)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    w->say(w->user, line);
}

static double used(const tuning_session *s) { return ocl_seconds() - s->started; }
static double rate(const tuning_session *s, double total) { return ocl_measure_flops(&s->measure) / total; }

/* A set that fails on the device, or computes what is wrong, is no failure of the search. */
static bool is_the_sets_fault(pol_status s) { return s == POL_EDEVICE || s == POL_ENOMEM || s == POL_ENUMERIC; }

/* ---- the tuners ---- */

/* The loader's numbers of the device, as CLBlast's programs count. */
static pol_status number_device(const tuning_session *s, ocl_tuner_call *call)
{
    enum { MOST = 64 };
    cl_platform_id platforms[MOST];
    cl_device_id devices[MOST];
    cl_uint n_platforms = 0, n_devices = 0, p = 0, d = 0;
    OCL_TRY(s->ctx, "platforms", clGetPlatformIDs, MOST, platforms, &n_platforms);
    while (p < n_platforms && p < MOST && platforms[p] != s->cl->platform)
        p++;
    OCL_TRY(s->ctx, "devices", clGetDeviceIDs, s->cl->platform, CL_DEVICE_TYPE_ALL, MOST, devices, &n_devices);
    while (d < n_devices && d < MOST && devices[d] != s->cl->device)
        d++;
    call->platform = (int)p;
    call->device = (int)d;
    return POL_OK;
}

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* The product that takes most of the time, cut down to where the tuner can do it hundreds of times. To CLBlast, which
 * counts by columns, y is [N,T]. */
static void size_call(const tuning_session *s, ocl_tuner_call *call)
{
    int64_t heaviest = 0;
    const pol_product *list = s->products.list;
    for (int64_t i = 1; i < s->products.n; i++)
        if ((double)list[i].times * s->seconds[i] > (double)list[heaviest].times * s->seconds[heaviest])
            heaviest = i;
    int64_t size[] = {round_up(list[heaviest].N, TILE), round_up(list[heaviest].T, TILE),
                      round_up(list[heaviest].K, TILE)};
    double t = s->seconds[heaviest];
    for (;;) {
        int64_t *most = &size[0];
        for (int i = 1; i < 3; i++)
            most = size[i] > *most ? &size[i] : most;
        if (t <= RUN_SECONDS || *most == TILE)
            break;
        const int64_t half = round_up(*most / 2, TILE);
        t *= (double)half / (double)*most;
        *most = half;
    }
    call->m = size[0];
    call->n = size[1];
    call->k = size[2];
}

/* A long run finds again what the short one did: sets that are there already are passed over. */
static void add_found(tuning_session *s, const ocl_tuner_part *part)
{
    for (int i = 0; i < s->n_found; i++)
        if (ocl_same_parameters(&s->found[i].parameters, &part->parameters))
            return;
    int at = s->n_found < MOST_CANDIDATES ? s->n_found++ : MOST_CANDIDATES;
    for (; at > 0 && s->found[at - 1].milliseconds > part->milliseconds; at--)
        if (at < MOST_CANDIDATES)
            s->found[at] = s->found[at - 1];
    if (at < MOST_CANDIDATES)
        s->found[at] = *part;
}

static pol_status run_xgemm_once(tuning_session *s, ocl_tuner_call *call, int fraction, double seconds)
{
    ocl_tuner_part parts[OCL_TUNER_PARTS];
    int n;
    call->fraction = fraction;
    call->seconds = seconds;
    say(s, "%s: one set in %d of parameters, for a product of %lld x %lld x %lld", xgemm.program, fraction,
        (long long)call->m, (long long)call->n, (long long)call->k);
    POL_TRY(ocl_tuner_run(s->ctx, s->cl->cache_dir, &xgemm, call, parts, &n));
    for (int i = 0; i < n; i++)
        add_found(s, &parts[i]);
    return POL_OK;
}

/* A short run, and then as long a one as there is time for: the tuner says nothing before a part of it is done. */
static pol_status run_xgemm(tuning_session *s, ocl_tuner_call call)
{
    const double share = XGEMM_SHARE * s->job->seconds, start = ocl_seconds();
    POL_TRY(run_xgemm_once(s, &call, FIRST_FRACTION, share));
    const double first = ocl_seconds() - start, left = share - first;
    if (left <= 2 * first)
        return POL_OK;
    const double fraction = ceil(FIRST_FRACTION * first / (0.5 * left));
    return run_xgemm_once(s, &call, (int)pol_max_i64(1, (int64_t)fraction), left);
}

static pol_status run_others(tuning_session *s, ocl_tuner_call call)
{
    for (size_t i = 0; i < POL_COUNT(others); i++) {
        const ocl_tuner *t = &others[i].tuner;
        const double left = TUNERS_SHARE * s->job->seconds - used(s);
        ocl_tuner_part parts[OCL_TUNER_PARTS];
        ocl_tuner_call c = call;
        int n;
        if (left <= 0) {
            pol_log(s->ctx, POL_LOG_WARN, "%s: no time is left for it", t->program);
            continue;
        }
        if (!others[i].product) {
            c.m = c.n = SQUARE;
            c.k = 0;
        }
        c.fraction = others[i].fraction;
        c.seconds = left;
        say(s, "%s", t->program);
        POL_TRY(ocl_tuner_run(s->ctx, s->cl->cache_dir, t, &c, parts, &n));
        for (int p = 0; p < n; p++)
            if (p == 0 || parts[p].milliseconds < parts[0].milliseconds) {
                parts[0] = parts[p];
                s->set.kernels[t->kernel] = parts[p].parameters;
            }
    }
    return POL_OK;
}

/* ---- the products ---- */

static pol_status measure_set(tuning_session *s, const ocl_tuning *set, double *total)
{
    s->touched = true;
    POL_TRY(ocl_override(s->cl, set));
    POL_TRY(ocl_measure_products(&s->measure, s->seconds));
    *total = ocl_measure_total(&s->measure, s->seconds);
    s->result->tried++;
    s->right = *set;
    s->has_right = true;
    return POL_OK;
}

static void set_least_indirect(ocl_tuning *set, int64_t value)
{
    ocl_kernel_tuning *k = &set->kernels[OCL_GEMM_ROUTINE];
    *k = (ocl_kernel_tuning){.n = 1};
    strcpy(k->parameters[0].name, OCL_MIN_INDIRECT);
    k->parameters[0].value = value;
}

/* The set of those found whose indirect products are fastest; *n products' times are left in `indirect`. */
static pol_status choose_xgemm(tuning_session *s, double *indirect, bool *any)
{
    double least = 0;
    ocl_kernel_tuning chosen = {0};
    *any = false;
    set_least_indirect(&s->set, 0);
    for (int i = 0; i < s->n_found; i++) {
        double total;
        s->set.kernels[OCL_XGEMM] = s->found[i].parameters;
        const pol_status status = measure_set(s, &s->set, &total);
        if (status < 0 && !is_the_sets_fault(status))
            return status;
        if (status < 0) {
            pol_log(s->ctx, POL_LOG_WARN, "a tuned set of parameters is passed over: %s", pol_error_text(s->ctx));
            continue;
        }
        say(s, "set %d: %.1f GFLOP/s", i + 1, 1e-9 * rate(s, total));
        if (*any && total >= least)
            continue;
        *any = true;
        least = total;
        chosen = s->found[i].parameters;
        memcpy(indirect, s->seconds, (size_t)s->products.n * sizeof *indirect);
    }
    s->set.kernels[OCL_XGEMM] = chosen;
    return POL_OK;
}

static pol_status choose_least_indirect(tuning_session *s, const double *indirect)
{
    const int64_t n = s->products.n;
    double ignored;
    set_least_indirect(&s->set, OCL_PARAMETER_MOST);
    const pol_status status = measure_set(s, &s->set, &ignored);
    set_least_indirect(&s->set, 0);
    if (status < 0 && is_the_sets_fault(status)) { /* then no product is direct */
        s->set.kernels[OCL_XGEMM_DIRECT].n = 0;
        return POL_OK;
    }
    POL_TRY(status);
    ocl_both_ways *w = pol_alloc_array(s->ctx, n, sizeof *w);
    if (!w)
        return POL_ENOMEM;
    for (int64_t i = 0; i < n; i++) {
        const pol_product *p = &s->products.list[i];
        const double times = (double)p->times;
        w[i] = (ocl_both_ways){(double)p->T * (double)p->N * (double)p->K, times * s->seconds[i], times * indirect[i]};
    }
    set_least_indirect(&s->set, ocl_least_indirect(w, n));
    pol_free(s->ctx, w);
    return POL_OK;
}

/* ---- the search ---- */

/* What an earlier search kept has to be beaten, too. What this one has no result for is taken from it. */
static pol_status try_earlier(tuning_session *s)
{
    bool there;
    double total;
    pol_status status = ocl_tuning_read(s->ctx, s->path, s->key, &s->set, &there);
    if (status == POL_OK && !there)
        return POL_OK;
    if (status == POL_OK)
        status = measure_set(s, &s->set, &total);
    if (status == POL_OK) {
        say(s, "parameters found earlier: %.1f GFLOP/s", 1e-9 * rate(s, total));
        s->best_total = total;
        s->result->kept = true;
        return POL_OK;
    }
    pol_log(s->ctx, POL_LOG_WARN, "parameters found earlier are passed over: %s", pol_error_text(s->ctx));
    s->set = (ocl_tuning){0};
    return is_the_sets_fault(status) || status == POL_EFORMAT || status == POL_EIO ? POL_OK : status;
}

static pol_status keep(tuning_session *s)
{
    const ocl_tuning_facts facts = {s->cl->base.info.name, POLLARD_CLBLAST_VERSION, rate(s, s->before),
                                    rate(s, s->best_total)};
    s->result->kept = true;
    return ocl_tuning_write(s->ctx, s->path, s->key, &s->set, &facts);
}

/* Direct products, too, have to pay: where they do not, all stay indirect. */
static pol_status measure_found(tuning_session *s, double *indirect, double *total)
{
    bool any;
    POL_TRY(choose_xgemm(s, indirect, &any));
    if (!any)
        return pol_fail(s->ctx, POL_EDEVICE, "no set of parameters that the tuners found is of use");
    const double all_indirect = ocl_measure_total(&s->measure, indirect);
    say(s, "which products are small");
    POL_TRY(choose_least_indirect(s, indirect));
    POL_TRY(measure_set(s, &s->set, total));
    say(s, "parameters found: %.1f GFLOP/s, all indirect: %.1f GFLOP/s", 1e-9 * rate(s, *total),
        1e-9 * rate(s, all_indirect));
    if (all_indirect < *total) {
        set_least_indirect(&s->set, 0);
        *total = all_indirect;
    }
    return POL_OK;
}

static pol_status try_found(tuning_session *s)
{
    double total = 0, *indirect = pol_alloc_array(s->ctx, s->products.n, sizeof *indirect);
    if (!indirect)
        return POL_ENOMEM;
    const pol_status status = measure_found(s, indirect, &total);
    pol_free(s->ctx, indirect);
    if (status < 0 && is_the_sets_fault(status)) {
        pol_log(s->ctx, POL_LOG_WARN, "%s", pol_error_text(s->ctx));
        return POL_OK;
    }
    POL_TRY(status);
    if (total > GAIN * fmin(s->before, s->best_total))
        return POL_OK;
    s->best_total = total;
    return keep(s);
}

static pol_status search(tuning_session *s)
{
    ocl_tuner_call call = {0};
    say(s, "CLBlast's own parameters");
    POL_TRY(ocl_measure_products(&s->measure, s->seconds));
    s->before = s->best_total = ocl_measure_total(&s->measure, s->seconds);
    say(s, "CLBlast's own parameters: %.1f GFLOP/s", 1e-9 * rate(s, s->before));
    POL_TRY(number_device(s, &call));
    size_call(s, &call);
    POL_TRY(run_xgemm(s, call));
    POL_TRY(try_earlier(s));
    POL_TRY(run_others(s, call));
    POL_TRY(try_found(s));
    s->result->flops_before = rate(s, s->before);
    s->result->flops_after = rate(s, s->best_total);
    s->result->seconds = used(s);
    if (s->result->kept)
        snprintf(s->result->file, sizeof s->result->file, "%s", s->path);
    return POL_OK;
}

/* The last set may have been a wrong one. Where none was right, all products become direct, by the kernel whose
 * parameters are likely to be CLBlast's own still. */
static pol_status settle(tuning_session *s)
{
    if (!s->touched)
        return POL_OK;
    if (s->has_right)
        return ocl_override(s->cl, &s->right);
    ocl_tuning direct = {0};
    set_least_indirect(&direct, OCL_PARAMETER_MOST);
    POL_TRY(ocl_override(s->cl, &direct));
    return ocl_measure_products(&s->measure, s->seconds);
}

/* The device as CLBlast finds it: nothing that is kept is used. */
static pol_status open_untuned(tuning_session *s, int32_t index, const char *folder)
{
    cl_platform_id platform;
    cl_device_id device;
    pol_device_info info;
    ocl_profile profile;
    pol_backend *be;
    POL_TRY(ocl_find(s->ctx, index, &platform, &device, &info));
    POL_TRY(ocl_profile_of(s->ctx, device, &profile));
    profile.cache_dir = folder;
    POL_TRY(pol_opencl_open(s->ctx, index, &profile, POL_F32, &be));
    s->cl = ocl_of(be);
    return ocl_kept_path(s->cl, s->key, &s->path);
}

static pol_status prepare(tuning_session *s, int32_t index, const char *folder)
{
    if (!folder)
        return pol_fail(s->ctx, POL_EIO,
                        "opencl: there is no folder to keep parameters in: POLLARD_CACHE_DIR is "
                        "set to nothing, or HOME is not set");
    POL_TRY(ocl_cache_folder_make(s->ctx, folder));
    POL_TRY(open_untuned(s, index, folder));
    if (!s->path)
        return pol_fail(s->ctx, POL_EDEVICE, "opencl: device %d does not say which device and driver it is", index);
    s->products.ctx = s->ctx;
    POL_TRY(pol_products_of_job(s->job, &s->cl->base, &s->products));
    s->seconds = pol_alloc_array(s->ctx, s->products.n, sizeof *s->seconds);
    return s->seconds ? ocl_measure_open(&s->cl->base, &s->products, &s->measure) : POL_ENOMEM;
}

pol_status ocl_tune(pol_context *ctx, const pol_device_info *device, const pol_tune_job *job, pol_tune_result *result)
{
    char *folder;
    tuning_session *s = pol_alloc_zero(ctx, sizeof *s);
    if (!s)
        return POL_ENOMEM;
    s->ctx = ctx;
    s->job = job;
    s->result = result;
    s->started = ocl_seconds();
    pol_status status = ocl_cache_folder(ctx, &folder);
    if (status == POL_OK)
        status = prepare(s, device->index, folder);
    if (status == POL_OK) {
        status = search(s);
        const pol_status settled = settle(s);
        status = status < 0 ? status : settled;
    }
    ocl_measure_close(&s->measure);
    if (s->products.ctx)
        pol_products_free(&s->products);
    if (s->cl)
        pol_backend_close(&s->cl->base);
    pol_free(ctx, s->seconds);
    pol_free(ctx, s->path);
    pol_free(ctx, folder);
    pol_free(ctx, s);
    return status;
}
