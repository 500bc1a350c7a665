/* cache.c - built programs, kept as the driver's binaries from one start to the next (cachefile.c).
 *
 * Nothing here can fail a build: what is not kept, cannot be read or is refused by the driver is built from source.
 * What CLBlast builds for itself is not ours to keep: it has no door for that.
 */
#include <stdio.h>
#include <string.h>

#include "backends/opencl/cachefile.h"
#include "backends/opencl/opencl.h"
#include "core/base/file.h"

/* A part of the key, with its length: no two lists of parts give the same bytes. */
static bool add_part(pol_bytes *id, const char *part, size_t n)
{
    return pol_bytes_printf(id, "%zu:", n) == POL_OK && pol_bytes_add(id, part, n) == POL_OK;
}

enum { MOST_TEXT = 4096 }; /* of a device's or platform's name or version, which comes with its 0 byte */

static bool add_device_text(pol_bytes *id, cl_device_id device, cl_device_info what)
{
    char text[MOST_TEXT];
    size_t n = 0;
    return clGetDeviceInfo(device, what, sizeof text, text, &n) == CL_SUCCESS && n <= sizeof text &&
           add_part(id, text, n);
}

static bool add_platform_text(pol_bytes *id, cl_platform_id platform, cl_platform_info what)
{
    char text[MOST_TEXT];
    size_t n = 0;
    return clGetPlatformInfo(platform, what, sizeof text, text, &n) == CL_SUCCESS && n <= sizeof text &&
           add_part(id, text, n);
}

/* All that decides what a build gives. The version of our own files stands in each file, and here so that two versions
 * of Pollard do not write over each other's. */
static bool identity(const ocl *cl, const pol_bytes *text, const char *options, pol_bytes *id)
{
    return pol_bytes_printf(id, "%d,%zu,", OCL_CACHEFILE_VERSION, sizeof(void *)) == POL_OK &&
           add_part(id, text->data, text->len) && add_part(id, options, strlen(options)) &&
           add_device_text(id, cl->device, CL_DEVICE_NAME) && add_device_text(id, cl->device, CL_DEVICE_VENDOR) &&
           add_device_text(id, cl->device, CL_DEVICE_VERSION) && add_device_text(id, cl->device, CL_DRIVER_VERSION) &&
           add_platform_text(id, cl->platform, CL_PLATFORM_NAME) &&
           add_platform_text(id, cl->platform, CL_PLATFORM_VERSION);
}

void ocl_cache_key(const ocl *cl, const pol_bytes *text, const char *options, char key[33])
{
    key[0] = 0;
    if (!cl->cache_dir)
        return;
    pol_bytes id = {.ctx = cl->base.ctx};
    if (identity(cl, text, options, &id))
        pol_bytes_hash(id.data, id.len, key);
    pol_bytes_free(&id);
}

static bool build_binary(ocl *cl, const pol_bytes *binary, const char *options, cl_program *out)
{
    cl_int code, of_device = CL_SUCCESS;
    const unsigned char *data = (const unsigned char *)binary->data;
    *out = clCreateProgramWithBinary(cl->context, 1, &cl->device, &binary->len, &data, &of_device, &code);
    if (*out && code == CL_SUCCESS && of_device == CL_SUCCESS &&
        clBuildProgram(*out, 1, &cl->device, options, NULL, NULL) == CL_SUCCESS)
        return true;
    if (*out)
        clReleaseProgram(*out);
    *out = NULL;
    return false;
}

bool ocl_cache_load(ocl *cl, const char *stem, const char *key, const char *options, cl_program *out)
{
    pol_context *ctx = cl->base.ctx;
    pol_bytes binary;
    if (!*key)
        return false;
    if (ocl_cachefile_read(ctx, cl->cache_dir, key, &binary) < 0) {
        pol_log(ctx, POL_LOG_DEBUG, "opencl: %s: built again: %s", stem, pol_error_text(ctx));
        return false;
    }
    const bool there = binary.data, good = there && build_binary(cl, &binary, options, out);
    if (there && !good)
        pol_log(ctx, POL_LOG_DEBUG, "opencl: %s: built again: the driver refuses its binary from the cache", stem);
    pol_bytes_free(&binary);
    return good;
}

/* The program has one device, ours, hence one binary. A driver may have none to give: size 0. */
static bool binary_of(cl_program program, pol_bytes *out)
{
    size_t n = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof n, &n, NULL) != CL_SUCCESS || n == 0 ||
        n > OCL_CACHEFILE_MOST || pol_bytes_reserve(out, n) < 0)
        return false;
    out->len = n;
    return clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof out->data, &out->data, NULL) == CL_SUCCESS;
}

void ocl_cache_store(ocl *cl, const char *stem, const char *key, cl_program program)
{
    pol_context *ctx = cl->base.ctx;
    if (!*key)
        return;
    pol_bytes binary = {.ctx = ctx};
    if (!binary_of(program, &binary))
        pol_log(ctx, POL_LOG_DEBUG, "opencl: %s: not kept: the driver gives no binary of it", stem);
    else if (ocl_cachefile_write(ctx, cl->cache_dir, key, binary.data, binary.len) < 0) {
        pol_log(ctx, cl->cache_warned ? POL_LOG_DEBUG : POL_LOG_WARN,
                "opencl: built programs are not kept, so the next start will be slow too: %s", pol_error_text(ctx));
        cl->cache_warned = true;
    }
    pol_bytes_free(&binary);
}
