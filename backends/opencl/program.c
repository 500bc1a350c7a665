/* program.c - kernels by name. A program is one .cl file with args.h and prelude.cl before it, built at first use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/opencl/opencl.h"

struct ocl_program {
    struct ocl_program *next;
    const char *stem;
    char *defines;
    int group;
    cl_program program;
};

static const pol_cl_source *source_named(const char *name)
{
    for (size_t i = 0; i < n_pol_cl_sources; i++)
        if (strcmp(pol_cl_sources[i].name, name) == 0)
            return &pol_cl_sources[i];
    return NULL;
}

/* #line: a compiler then names our files and their lines in its log. */
static pol_status source_text(pol_context *ctx, const char *stem, pol_bytes *out)
{
    char file[64];
    snprintf(file, sizeof file, "%s.cl", stem);
    const char *const parts[] = {"args.h", "prelude.cl", file};
    *out = (pol_bytes){.ctx = ctx};
    for (size_t i = 0; i < POL_COUNT(parts); i++) {
        const pol_cl_source *s = source_named(parts[i]);
        if (!s)
            return pol_fail(ctx, POL_EARG, "opencl: no kernel source is called %s", parts[i]);
        POL_TRY(pol_bytes_printf(out, "#line 1 \"%s\"\n", s->name));
        POL_TRY(pol_bytes_add(out, s->text, s->size));
    }
    return POL_OK;
}

static char *build_options(const ocl *cl, const char *defines, int group)
{
    const int weights = cl->base.weight_dtype == POL_F16 ? 16 : cl->base.weight_dtype == POL_BF16 ? 17 : 32;
    return pol_format(cl->base.ctx, "-cl-std=CL1.2 -DVECTOR=%d -DGROUP=%d -DWEIGHTS=%d%s%s", cl->profile.vector, group,
                      weights, *defines ? " " : "", defines);
}

/* The line of the log to put into one sentence: the first with "error" in it, or the first at all. */
static const char *complaint(const char *log)
{
    const char *at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n')
        at--;
    return at ? at : log;
}

static void show(pol_context *ctx, const char *stem, const char *log)
{
    enum { MOST_LINES = 40 };
    int n = 0;
    for (const char *line = log; *line;) {
        const int length = (int)strcspn(line, "\n");
        if (length > 0 && n++ < MOST_LINES)
            pol_log(ctx, POL_LOG_ERROR, "%s.cl: %.*s", stem, length, line);
        line += length + (line[length] == '\n');
    }
    if (n > MOST_LINES)
        pol_log(ctx, POL_LOG_ERROR, "%s.cl: and %d more lines", stem, n - MOST_LINES);
}

/* The compiler says which line of which file it does not like: the first complaint is in the sentence, its whole log in
 * ours. */
static pol_status build_failed(ocl *cl, const char *stem, cl_program program, cl_int code)
{
    enum { MOST_BYTES = 1 << 20 };
    pol_context *ctx = cl->base.ctx;
    size_t n = 0;
    clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    char *log = n > 1 && n <= MOST_BYTES ? pol_alloc_zero(ctx, n + 1) : NULL;
    if (log)
        clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, n, log, NULL);
    const pol_status s = ocl_check(ctx, stem, "clBuildProgram", code);
    if (log && *log) {
        const char *first = complaint(log);
        show(ctx, stem, log);
        pol_fail(ctx, s, "%s: %.*s", pol_error_text(ctx), (int)strcspn(first, "\n"), first);
    }
    pol_free(ctx, log);
    return s;
}

static pol_status build_source(ocl *cl, const char *stem, const pol_bytes *text, const char *options, cl_program *out)
{
    pol_context *ctx = cl->base.ctx;
    const char *data = text->data;
    cl_int code;
    *out = clCreateProgramWithSource(cl->context, 1, &data, &text->len, &code);
    POL_TRY(ocl_check(ctx, stem, "clCreateProgramWithSource", code));
    code = clBuildProgram(*out, 1, &cl->device, options, NULL, NULL);
    if (code == CL_SUCCESS)
        return POL_OK;
    const pol_status s = build_failed(cl, stem, *out, code);
    clReleaseProgram(*out);
    *out = NULL;
    return s;
}

static pol_status build(ocl *cl, const char *stem, const char *options, cl_program *out)
{
    char key[33];
    pol_bytes text;
    pol_status s = source_text(cl->base.ctx, stem, &text);
    if (s == POL_OK) {
        ocl_cache_key(cl, &text, options, key);
        if (ocl_cache_load(cl, stem, key, options, out))
            cl->n_loaded++;
        else if ((s = build_source(cl, stem, &text, options, out)) == POL_OK) {
            cl->n_built++;
            ocl_cache_store(cl, stem, key, *out);
        }
    }
    pol_bytes_free(&text);
    return s;
}

static pol_status program_get(ocl *cl, const char *stem, const char *defines, int group, ocl_program **out)
{
    pol_context *ctx = cl->base.ctx;
    for (ocl_program *p = cl->programs; p; p = p->next)
        if (strcmp(p->stem, stem) == 0 && strcmp(p->defines, defines) == 0 && p->group == group) {
            *out = p;
            return POL_OK;
        }
    ocl_program *p = pol_alloc_zero(ctx, sizeof *p);
    char *options = build_options(cl, defines, group), *copy = pol_strdup(ctx, defines);
    pol_status s = p && options && copy ? build(cl, stem, options, &p->program) : POL_ENOMEM;
    pol_free(ctx, options);
    if (s < 0) {
        pol_free(ctx, p);
        pol_free(ctx, copy);
        return s;
    }
    p->stem = stem;
    p->defines = copy;
    p->group = group;
    p->next = cl->programs;
    cl->programs = p;
    *out = p;
    return POL_OK;
}

static void kernel_free(ocl *cl, ocl_kernel *k)
{
    if (k->kernel)
        clReleaseKernel(k->kernel);
    pol_free(cl->base.ctx, k);
}

/* Whether the device can run the kernel in work-groups as large as it was built for. */
static pol_status check_group(ocl *cl, ocl_kernel *k, bool *fits)
{
    pol_context *ctx = cl->base.ctx;
    size_t built_for[3] = {0}; /* zeros: any size will do */
    cl_ulong local_bytes = 0;
    OCL_TRY(ctx, k->name, clGetKernelWorkGroupInfo, k->kernel, cl->device, CL_KERNEL_WORK_GROUP_SIZE,
            sizeof k->most_items, &k->most_items, NULL);
    OCL_TRY(ctx, k->name, clGetKernelWorkGroupInfo, k->kernel, cl->device, CL_KERNEL_COMPILE_WORK_GROUP_SIZE,
            sizeof built_for, built_for, NULL);
    OCL_TRY(ctx, k->name, clGetKernelWorkGroupInfo, k->kernel, cl->device, CL_KERNEL_LOCAL_MEM_SIZE, sizeof local_bytes,
            &local_bytes, NULL);
    *fits = built_for[0] * built_for[1] * built_for[2] <= k->most_items && local_bytes <= cl->profile.local_bytes;
    return POL_OK;
}

static pol_status kernel_new(ocl *cl, ocl_program *program, const char *name, ocl_kernel **out, bool *fits)
{
    cl_int code;
    ocl_kernel *k = pol_alloc_zero(cl->base.ctx, sizeof *k);
    if (!k)
        return POL_ENOMEM;
    k->name = name;
    k->program = program;
    k->group = (size_t)program->group;
    k->kernel = clCreateKernel(program->program, name, &code);
    pol_status s = ocl_check(cl->base.ctx, name, "clCreateKernel", code);
    if (s == POL_OK)
        s = check_group(cl, k, fits);
    if (s == POL_OK)
        *out = k;
    else
        kernel_free(cl, k);
    return s;
}

pol_status ocl_kernel_get(ocl *cl, const char *stem, const char *name, const char *defines, ocl_kernel **out)
{
    for (ocl_kernel *k = cl->kernels; k; k = k->next)
        if (strcmp(k->name, name) == 0 && strcmp(k->program->defines, defines) == 0) {
            *out = k;
            return POL_OK;
        }
    ocl_kernel *k = NULL;
    for (int group = cl->profile.barriers ? cl->profile.group : 0; !k; group /= 2) {
        bool fits = false;
        ocl_program *program;
        POL_TRY(program_get(cl, stem, defines, group, &program));
        POL_TRY(kernel_new(cl, program, name, &k, &fits));
        if (fits)
            break;
        kernel_free(cl, k);
        k = NULL;
        if (group <= 1)
            return pol_fail(cl->base.ctx, POL_EUNSUPPORTED,
                            "opencl: %s: it does not fit the device, even in work-groups of one work-item", name);
    }
    k->next = cl->kernels;
    cl->kernels = k;
    *out = k;
    return POL_OK;
}

void ocl_programs_free(ocl *cl)
{
    for (ocl_kernel *k = cl->kernels, *next; k; k = next) {
        next = k->next;
        kernel_free(cl, k);
    }
    for (ocl_program *p = cl->programs, *next; p; p = next) {
        next = p->next;
        clReleaseProgram(p->program);
        pol_free(cl->base.ctx, p->defines);
        pol_free(cl->base.ctx, p);
    }
    cl->kernels = NULL;
    cl->programs = NULL;
}

uint64_t ocl_launches(const ocl *cl, const char *name)
{
    uint64_t n = 0;
    for (const ocl_kernel *k = cl->kernels; k; k = k->next)
        n += strcmp(k->name, name) == 0 ? k->launches : 0;
    return n;
}
