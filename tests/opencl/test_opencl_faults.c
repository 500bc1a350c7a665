/* test_opencl_faults.c - every OpenCL call of a small job fails in turn, ours and CLBlast's: nothing crashes, nothing
 * of ours stays behind, the error names what failed, and what ends well has the right result. */
#include <clblast_c.h>
#include <string.h>

#include "core/base/file.h"
#include "pollard/model.h"
#include "tests/opencl/profiles.h"
#include "tests/opencl/shim.h"
#include "tests/ops/rig.h"

enum {
    B = 2,
    S = 16,
    SCORED = B * (S - 1),
    PRODUCT_T = 5,
    PRODUCT_N = 7,
    PRODUCT_C = 9,
    MOMENTS = 4 * PRODUCT_C * PRODUCT_C
};

typedef struct fixture {
    pol_context *ctx;
    bool device; /* there is one */
    pol_source *src;
    uint8_t *mask;
    int32_t ids[B * S], others[B * S];
    ocl_profile profile;
    pol_dtype weights;
    float right[SCORED]; /* of `ids`, to the bit: the same kernels on the same device */
    char fault[160];     /* what is being done to it */
    pol_backend *be;
    pol_model *model;
    pol_forward *forward;
    pol_project_args project;
    pol_project_add_args project_add;
    pol_gram_args gram;
    float product_right[PRODUCT_T * PRODUCT_C], moments_right[MOMENTS];
} fixture;

/* A part of the job. It frees what it makes, however it ends, and fails the test where it ends well with a wrong
 * result.
 */
typedef pol_status stage(fixture *f);

static pol_status opened(fixture *f, stage *then)
{
    POL_TRY(pol_opencl_open(f->ctx, 0, &f->profile, f->weights, &f->be));
    const pol_status s = then ? then(f) : POL_OK;
    pol_backend_close(f->be);
    f->be = NULL;
    return s;
}

/* Masked, for which its rows move on the device. */
static pol_status loaded(fixture *f, stage *then)
{
    pol_status s = pol_model_load(f->src, f->be, NULL, &f->model);
    if (s == POL_OK)
        s = pol_model_set_mask(f->model, f->mask);
    if (s == POL_OK)
        s = pol_forward_new(f->model, B * S, S, &f->forward);
    if (s == POL_OK)
        s = then(f);
    double seconds[OCL_OPS];
    if (s == POL_OK && f->profile.timing)
        s = ocl_times(ocl_of(f->be), seconds);
    pol_forward_free(f->forward);
    pol_model_free(f->model);
    f->forward = NULL;
    f->model = NULL;
    return s;
}

static pol_status forward(fixture *f)
{
    float nll[SCORED] = {0};
    POL_TRY(pol_forward_nll(f->forward, f->ids, B, S, nll, NULL));
    if (memcmp(nll, f->right, sizeof nll) != 0)
        fail_msg("%s: done, but the result is wrong", f->fault);
    return POL_OK;
}

static pol_status learn_what_is_right(fixture *f) { return pol_forward_nll(f->forward, f->ids, B, S, f->right, NULL); }

static pol_status open_and_close(fixture *f) { return opened(f, NULL); }
static pol_status load_and_forward(fixture *f) { return loaded(f, forward); }
static pol_status whole(fixture *f) { return opened(f, load_and_forward); }

/* ---- one fault ---- */

static pol_status status_of(cl_int code)
{
    return code == CL_OUT_OF_RESOURCES || code == CL_MEM_OBJECT_ALLOCATION_FAILURE ? POL_ENOMEM : POL_EDEVICE;
}

/* The entry point that failed is in the sentence, or the CLBlast routine inside which it did, or where all calls fail
 * one that came later; and the code, or the one that CLBlast makes of it. A device that does not describe itself is not
 * usable, whatever the reason. */
static void assert_told(fixture *f, pol_status s, cl_int code, bool lasting)
{
    char number[16];
    const char *text = pol_error_text(f->ctx), *entry = shim_names[shim_failed()];
    snprintf(number, sizeof number, "(%d)", code);
    const bool clblast = strstr(text, ": CLBlast"), own = strstr(text, ": CLBlastInvalid"),
               listed = strstr(text, "it does not answer");
    if (s != (own || listed ? POL_EDEVICE : status_of(code)))
        fail_msg("%s: %s: %s", f->fault, pol_status_name(s), text);
    if (strncmp(text, "opencl: ", 8) != 0 || (!clblast && !strstr(text, lasting ? ": cl" : entry)) ||
        (!own && !strstr(text, number)) || strchr(text, '?'))
        fail_msg("%s: %s failed, and it said: %s", f->fault, entry, text);
}

static void assert_nothing_left(const fixture *f, int64_t before)
{
    char live[512];
    if (shim_live(SHIM_OURS) != before)
        fail_msg("%s (%s): left behind, among: %s", f->fault, shim_names[shim_failed()],
                 shim_live_text(SHIM_OURS, live, sizeof live));
}

/* Call n of `entry` in the stage gives the code, and with `lasting` all after it. False: there is no such call. */
static bool fails_once(fixture *f, stage *run, shim_entry entry, int64_t n, cl_int code, bool lasting)
{
    const int64_t before = shim_live(SHIM_OURS);
    snprintf(f->fault, sizeof f->fault, "call %lld of %s%s gives %d", (long long)n, shim_names[entry],
             lasting ? " and all after it" : "", code);
    shim_reset();
    shim_fail(entry, n, code, lasting ? SHIM_LASTING : SHIM_ONCE);
    const pol_status s = run(f);
    shim_fail(SHIM_ANY, 0, CL_SUCCESS, SHIM_ONCE);
    if (!shim_failed())
        return false;
    if (s < 0)
        assert_told(f, s, code, lasting);
    assert_nothing_left(f, before);
    return true;
}

/* ---- many faults ---- */

/* What drivers say when memory is out, when a device is gone, and what OpenCL does not know. */
static cl_int code_for(int64_t n)
{
    static const cl_int codes[] = {CL_OUT_OF_RESOURCES, CL_DEVICE_NOT_AVAILABLE, CL_MEM_OBJECT_ALLOCATION_FAILURE,
                                   CL_INVALID_COMMAND_QUEUE, -9999};
    return codes[n % (int64_t)POL_COUNT(codes)];
}

/* Every call of a stage, once; then every call with all after it. Where given, `before` and `after` go well around it.
 */
static void each_call_fails(fixture *f, stage *before, stage *run, stage *after)
{
    for (int lasting = 0; lasting < 2; lasting++) {
        int64_t n = 0;
        do {
            if (n && after)
                assert_ok(f->ctx, after(f));
            if (before)
                assert_ok(f->ctx, before(f));
            n++;
        } while (fails_once(f, run, SHIM_ANY, n, code_for(n), lasting));
        assert_true(n > 1);
    }
}

/* Of the entries that `chosen` names, or of all where it is NULL: the first two calls, one in the middle and the last.
 */
static void some_calls_fail(fixture *f, stage *run, const bool chosen[SHIM_END])
{
    int64_t calls[SHIM_END];
    shim_reset();
    assert_ok(f->ctx, run(f));
    for (int e = 0; e < SHIM_END; e++)
        calls[e] = chosen && !chosen[e] ? 0 : shim_calls((shim_entry)e);
    for (int e = SHIM_ANY + 1; e < SHIM_END; e++) {
        const int64_t some[] = {1, 2, calls[e] / 2, calls[e]};
        for (size_t i = 0; i < POL_COUNT(some); i++)
            for (int lasting = 0; lasting < 2; lasting++)
                if (some[i] > (i ? some[i - 1] : 0) && some[i] <= calls[e] &&
                    !fails_once(f, run, (shim_entry)e, some[i], code_for(e + (int)i), lasting))
                    fail_msg("%s: there is no such call", f->fault);
    }
}

/* ---- the tests ---- */

static fixture *with_device(void **state)
{
    fixture *f = *state;
    if (!f->device)
        skip();
    return f;
}

/* Every one of our calls and CLBlast's goes through the shim, and all that is made is released. */
static void the_shim_sees_the_job(void **state)
{
    fixture *f = with_device(state);
    char live[512];
    shim_reset();
    assert_ok(f->ctx, whole(f));
    static const shim_entry seen[] = {SHIM_clCreateContext,   SHIM_clCreateBuffer,         SHIM_clEnqueueFillBuffer,
                                      SHIM_clBuildProgram,    SHIM_clGetCommandQueueInfo,  SHIM_clGetMemObjectInfo,
                                      SHIM_clSetKernelArg,    SHIM_clEnqueueNDRangeKernel, SHIM_clEnqueueReadBuffer,
                                      SHIM_clReleaseMemObject};
    for (size_t i = 0; i < POL_COUNT(seen); i++)
        if (!shim_calls(seen[i]))
            fail_msg("%s is not seen", shim_names[seen[i]]);
    assert_string_equal(shim_live_text(SHIM_OURS, live, sizeof live), "");
    assert_string_equal(shim_live_text(SHIM_CLBLAST, live, sizeof live), "");
}

static void opening_fails_cleanly(void **state) { each_call_fails(with_device(state), NULL, open_and_close, NULL); }

static pol_status each_call_of_loading_and_forward(fixture *f)
{
    assert_ok(f->ctx, load_and_forward(f)); /* what is built at first use is there then */
    each_call_fails(f, NULL, load_and_forward, NULL);
    return POL_OK;
}

static void loading_and_forward_fail_cleanly(void **state)
{
    fixture *f = with_device(state);
    assert_ok(f->ctx, opened(f, each_call_of_loading_and_forward));
    assert_nothing_left(f, 0);
}

/* Of another text: what it leaves on the device would be wrong to use. */
static pol_status another_forward(fixture *f)
{
    return pol_forward_nll(f->forward, f->others, B, S, NULL, (double[B]){0});
}

static pol_status each_call_of_forward(fixture *f)
{
    each_call_fails(f, another_forward, forward, forward);
    return POL_OK;
}

static pol_status load_and_each_call_of_forward(fixture *f) { return loaded(f, each_call_of_forward); }

/* A pass that failed computes nothing from what the last one left, and the next is right. */
static void a_pass_after_a_fault_is_right(void **state)
{
    fixture *f = with_device(state);
    assert_ok(f->ctx, opened(f, load_and_each_call_of_forward));
    assert_nothing_left(f, 0);
}

/* With programs to be built, by us and by CLBlast. */
static void building_fails_cleanly(void **state)
{
    static const bool building[SHIM_END] = {[SHIM_clBuildProgram] = true,
                                            [SHIM_clCreateProgramWithSource] = true,
                                            [SHIM_clCreateKernel] = true,
                                            [SHIM_clGetProgramInfo] = true,
                                            [SHIM_clGetKernelWorkGroupInfo] = true};
    some_calls_fail(with_device(state), whole, building);
}

/* With our programs from the disk: where that fails, they are built. And with times taken. */
static void a_second_start_fails_cleanly(void **state)
{
    fixture *f = with_device(state);
    char cache[] = "/tmp/pollard-faults-XXXXXX";
    assert_non_null(mkdtemp(cache));
    f->profile.cache_dir = cache;
    f->profile.timing = true;
    assert_ok(f->ctx, whole(f));
    some_calls_fail(f, whole, NULL);
    assert_true(shim_calls(SHIM_clCreateProgramWithBinary) > 0);
    f->profile.cache_dir = NULL;
    f->profile.timing = false;
    assert_ok(f->ctx, pol_remove_tree(f->ctx, cache));
}

/* ---- products and moments that CLBlast makes copies for ---- */

/* Of the operand and the result of the products; both sums lie in one buffer. */
static pol_status moments(fixture *f)
{
    float sums[MOMENTS] = {0};
    pol_gram_args *g = &f->gram;
    POL_TRY(pol_upload(f->be, g->a.buf, g->a.at, sums, MOMENTS));
    POL_TRY(pol_gram(f->be, g));
    POL_TRY(pol_download(f->be, g->a.buf, g->a.at, sums, MOMENTS));
    if (!f->moments_right[0])
        memcpy(f->moments_right, sums, sizeof sums);
    if (memcmp(sums, f->moments_right, sizeof sums) != 0)
        fail_msg("%s: done, but the moments are wrong", f->fault);
    return POL_OK;
}

static pol_status products(fixture *f)
{
    float x[PRODUCT_T * PRODUCT_C] = {0};
    pol_project_args *to = &f->project;
    pol_project_add_args *from = &f->project_add;
    POL_TRY(pol_upload(f->be, from->x.buf, from->x.at, x, PRODUCT_T * PRODUCT_C));
    POL_TRY(pol_project(f->be, to));
    POL_TRY(pol_project_add(f->be, from));
    POL_TRY(pol_download(f->be, from->x.buf, from->x.at, x, PRODUCT_T * PRODUCT_C));
    if (!f->product_right[0])
        memcpy(f->product_right, x, sizeof x);
    if (memcmp(x, f->product_right, sizeof x) != 0)
        fail_msg("%s: done, but the product is wrong", f->fault);
    return moments(f);
}

/* What the last products left would be wrong to use. */
static pol_status spoil(fixture *f)
{
    const float h[PRODUCT_T * PRODUCT_N] = {0};
    return pol_upload(f->be, f->project.y.buf, f->project.y.at, h, PRODUCT_T * PRODUCT_N);
}

static pol_status each_call_of_products(fixture *f)
{
    const int64_t T = PRODUCT_T, N = PRODUCT_N, C = PRODUCT_C;
    const size_t least = 1; /* of a cube that is copied: it has to be large on a CPU */
    assert_int_equal(CLBlastOverrideParameters(ocl_of(f->be)->device, "GemmRoutine", CLBlastPrecisionSingle, 1,
                                               (const char *[]){"XGEMM_MIN_INDIRECT_SIZE"}, &least),
                     CLBlastSuccess);
    rig r = rig_open(f->be);
    const pol_view h = rig_zero(&r, POL_F32, T * N), scratch = rig_zero(&r, POL_F32, pol_gemm_scratch(f->be, T, N, C));
    f->project = (pol_project_args){.y = h,
                                    .x = rig_normal(&r, POL_F32, T * C, 1),
                                    .w = rig_weights(&r, N, C, 1),
                                    .scratch = scratch,
                                    .T = T,
                                    .N = N,
                                    .C = C};
    f->project_add = (pol_project_add_args){.x = rig_zero(&r, POL_F32, T * C),
                                            .h = h,
                                            .w = rig_weights(&r, N, C, 1),
                                            .scratch = scratch,
                                            .T = T,
                                            .N = N,
                                            .C = C};
    f->gram = (pol_gram_args){.a = rig_zero(&r, POL_F32, MOMENTS),
                              .x = f->project.x,
                              .y = f->project_add.x,
                              .scratch = rig_zero(&r, POL_F32, pol_gram_scratch(f->be, T, C, C)),
                              .T = T,
                              .N = C,
                              .M = C};
    f->gram.b = (pol_view){f->gram.a.buf, f->gram.a.at + MOMENTS / 2};
    assert_ok(f->ctx, products(f));
    each_call_fails(f, spoil, products, products);
    assert_true(shim_calls(SHIM_clCreateSubBuffer) > 0);
    rig_close(&r);
    return POL_OK;
}

static void products_fail_cleanly(void **state)
{
    fixture *f = with_device(state);
    assert_ok(f->ctx, opened(f, each_call_of_products));
    assert_nothing_left(f, 0);
}

static void a_release_that_fails_does_not_matter(void **state)
{
    static const shim_entry releases[] = {SHIM_clReleaseCommandQueue, SHIM_clReleaseContext,   SHIM_clReleaseEvent,
                                          SHIM_clReleaseKernel,       SHIM_clReleaseMemObject, SHIM_clReleaseProgram};
    fixture *f = with_device(state);
    for (size_t i = 0; i < POL_COUNT(releases); i++) {
        shim_reset();
        shim_fail(releases[i], 1, CL_INVALID_VALUE, SHIM_LASTING);
        snprintf(f->fault, sizeof f->fault, "%s fails", shim_names[releases[i]]);
        assert_ok(f->ctx, whole(f));
        assert_nothing_left(f, 0);
    }
}

/* ---- the job ---- */

/* Drops every third unit, but no block. */
static uint8_t *some_mask(const fixture *f)
{
    pol_units *u;
    assert_ok(f->ctx, pol_units_new(f->ctx, pol_source_config(f->src), &u));
    uint8_t *mask = malloc((size_t)u->n);
    const int64_t blocks = u->n_of[POL_UNIT_GROUP] + u->n_of[POL_UNIT_CHANNEL];
    for (int64_t i = 0; i < u->n; i++)
        mask[i] = i >= blocks || i % 3 != 1;
    pol_units_free(u);
    return mask;
}

static pol_status load_and_learn(fixture *f) { return loaded(f, learn_what_is_right); }

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    *state = f;
    assert_int_equal(pol_context_new(NULL, &f->ctx), POL_OK);
    pol_backend *be = open_profile(f->ctx, &test_profiles[0]);
    if (!be)
        return 0;
    f->device = true;
    f->profile = ocl_of(be)->profile;
    f->profile.cache_dir = NULL;
    f->weights = POL_BF16; /* which takes more calls */
    pol_backend_close(be);
    assert_ok(f->ctx, pol_source_open(f->ctx, test_file("models/llama-linear-bias"), &f->src));
    f->mask = some_mask(f);
    const int32_t vocab = pol_source_config(f->src)->vocab;
    for (int i = 0; i < B * S; i++) {
        f->ids[i] = i * 7 % vocab;
        f->others[i] = i * 11 % vocab;
    }
    assert_ok(f->ctx, opened(f, load_and_learn));
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    free(f->mask);
    pol_source_close(f->src);
    pol_context_free(f->ctx);
    free(f);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shim_sees_the_job),
        cmocka_unit_test(opening_fails_cleanly),
        cmocka_unit_test(loading_and_forward_fail_cleanly),
        cmocka_unit_test(a_pass_after_a_fault_is_right),
        cmocka_unit_test(building_fails_cleanly),
        cmocka_unit_test(a_second_start_fails_cleanly),
        cmocka_unit_test(products_fail_cleanly),
        cmocka_unit_test(a_release_that_fails_does_not_matter),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
