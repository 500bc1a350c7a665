/* fuzz_tuning.c - what CLBlast's tuners leave, and what is kept of it: names and values that are accepted are within
 * their bounds, and a set that is accepted survives being written and read again. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/opencl/tuning.h"

static const char KEY[] = "0123456789abcdef0123456789abcdef";

static void check_kernel(const ocl_kernel_tuning *k)
{
    if (k->n < 0 || k->n > OCL_PARAMETERS)
        abort();
    for (int i = 0; i < k->n; i++) {
        const ocl_parameter *p = &k->parameters[i];
        if (!p->name[0] || strnlen(p->name, OCL_PARAMETER_NAME) == OCL_PARAMETER_NAME || p->value < 0 ||
            p->value > OCL_PARAMETER_MOST)
            abort();
        for (int other = 0; other < i; other++)
            if (!strcmp(p->name, k->parameters[other].name))
                abort();
    }
}

static void check_result(pol_context *ctx, const uint8_t *data, size_t size)
{
    ocl_kernel_tuning k;
    double ms;
    const pol_status s = ocl_tuner_result(ctx, "result", data, size, &k, &ms);
    if (s == POL_OK) {
        check_kernel(&k);
        if (!k.n || !(ms >= 0 && ms < 1e9))
            abort();
    } else if (s != POL_EFORMAT) {
        abort();
    }
}

static void check_set(pol_context *ctx, const char *path, const uint8_t *data, size_t size)
{
    ocl_tuning t, back;
    bool there;
    const pol_status s = ocl_tuning_parse(ctx, "set", data, size, KEY, &t);
    if (s != POL_OK) {
        if (s != POL_EFORMAT)
            abort();
        return;
    }
    for (int i = 0; i < OCL_TUNED; i++)
        check_kernel(&t.kernels[i]);
    const ocl_tuning_facts facts = {"device", "1.5", 1, 1};
    if (ocl_tuning_write(ctx, path, KEY, &t, &facts) < 0 || ocl_tuning_read(ctx, path, KEY, &back, &there) < 0 ||
        !there || memcmp(&back, &t, sizeof t))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/pollard-fuzz-tuning-XXXXXX";
    pol_context *ctx;
    const int file = mkstemp(path);
    if (file < 0 || pol_context_new(NULL, &ctx) < 0)
        abort();
    close(file);
    check_result(ctx, data, size);
    check_set(ctx, path, data, size);
    unlink(path);
    pol_context_free(ctx);
    return 0;
}
