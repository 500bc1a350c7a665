/* program.c - kernels by name. A program is one .cl file with args.h and prelude.cl before it, built at first use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/opencl/opencl.h"

struct ocl_program {
    struct ocl_program *next;
    const char *stem;
    char *defines;
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

static char *build_options(const ocl *cl, const char *defines)
{
    const int weights = cl->base.weight_dtype == POL_F16 ? 16 : cl->base.weight_dtype == POL_BF16 ? 17 : 32;
    return pol_format(cl->base.ctx, "-cl-std=CL1.2 -DVECTOR=%d -DGROUP=%d -DWEIGHTS=%d%s%s", cl->profile.vector,
                      cl->profile.barriers ? cl->profile.group : 0, weights, *defines ? " " : "", defines);
}

/* The compiler's log, with the file and line of each complaint, is the error. */
static pol_status build_failed(ocl *cl, const char *stem, cl_program program, cl_int code)
{
    size_t n = 0;
    pol_context *ctx = cl->base.ctx;
    if (clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) != CL_SUCCESS || n < 2)
        return ocl_check(ctx, stem, "clBuildProgram", code);
    char *log = pol_alloc_zero(ctx, n + 1);
    if (!log)
        return POL_ENOMEM;
    clGetProgramBuildInfo(program, cl->device, CL_PROGRAM_BUILD_LOG, n, log, NULL);
    ocl_check(ctx, stem, "clBuildProgram", code);
    char *sentence = pol_strdup(ctx, pol_error_text(ctx));
    if (sentence)
        pol_fail(ctx, POL_EDEVICE, "%s\n%s", sentence, log);
    pol_free(ctx, sentence);
    pol_free(ctx, log);
    return POL_EDEVICE;
}

static pol_status build(ocl *cl, const char *stem, const char *options, cl_program *out)
{
    pol_context *ctx = cl->base.ctx;
    pol_bytes text;
    pol_status s = source_text(ctx, stem, &text);
    if (s < 0) {
        pol_bytes_free(&text);
        return s;
    }
    cl_int code;
    const char *data = text.data;
    *out = clCreateProgramWithSource(cl->context, 1, &data, &text.len, &code);
    s = ocl_check(ctx, stem, "clCreateProgramWithSource", code);
    pol_bytes_free(&text);
    if (s < 0)
        return s;
    code = clBuildProgram(*out, 1, &cl->device, options, NULL, NULL);
    if (code == CL_SUCCESS)
        return POL_OK;
    s = build_failed(cl, stem, *out, code);
    clReleaseProgram(*out);
    *out = NULL;
    return s;
}

static pol_status program_get(ocl *cl, const char *stem, const char *defines, ocl_program **out)
{
    pol_context *ctx = cl->base.ctx;
    for (ocl_program *p = cl->programs; p; p = p->next)
        if (strcmp(p->stem, stem) == 0 && strcmp(p->defines, defines) == 0) {
            *out = p;
            return POL_OK;
        }
    ocl_program *p = pol_alloc_zero(ctx, sizeof *p);
    char *options = build_options(cl, defines), *copy = pol_strdup(ctx, defines);
    pol_status s = p && options && copy ? build(cl, stem, options, &p->program) : POL_ENOMEM;
    pol_free(ctx, options);
    if (s < 0) {
        pol_free(ctx, p);
        pol_free(ctx, copy);
        return s;
    }
    p->stem = stem;
    p->defines = copy;
    p->next = cl->programs;
    cl->programs = p;
    *out = p;
    return POL_OK;
}

pol_status ocl_kernel_get(ocl *cl, const char *stem, const char *name, const char *defines, ocl_kernel **out)
{
    pol_context *ctx = cl->base.ctx;
    for (ocl_kernel *k = cl->kernels; k; k = k->next)
        if (strcmp(k->name, name) == 0 && strcmp(k->program->defines, defines) == 0) {
            *out = k;
            return POL_OK;
        }
    ocl_program *program;
    POL_TRY(program_get(cl, stem, defines, &program));
    ocl_kernel *k = pol_alloc_zero(ctx, sizeof *k);
    if (!k)
        return POL_ENOMEM;
    cl_int code;
    k->kernel = clCreateKernel(program->program, name, &code);
    if (code != CL_SUCCESS) {
        pol_free(ctx, k);
        return ocl_check(ctx, name, "clCreateKernel", code);
    }
    k->name = name;
    k->program = program;
    k->next = cl->kernels;
    cl->kernels = k;
    *out = k;
    return POL_OK;
}

void ocl_programs_free(ocl *cl)
{
    for (ocl_kernel *k = cl->kernels, *next; k; k = next) {
        next = k->next;
        clReleaseKernel(k->kernel);
        pol_free(cl->base.ctx, k);
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
