/* override.c - CLBlast's parameters, overridden by those that are kept for a device. */
#include <clblast_c.h>
#include <string.h>

#include "backends/opencl/tune.h"
#include "core/base/file.h"

static pol_status override_kernel(ocl *cl, ocl_tuned which, const ocl_kernel_tuning *k)
{
    const char *names[OCL_PARAMETERS];
    size_t values[OCL_PARAMETERS];
    for (int i = 0; i < k->n; i++) {
        names[i] = k->parameters[i].name;
        values[i] = (size_t)k->parameters[i].value;
    }
    OCL_TRY(cl->base.ctx, ocl_tuned_names[which], CLBlastOverrideParameters, cl->device, ocl_tuned_names[which],
            CLBlastPrecisionSingle, (size_t)k->n, names, values);
    return POL_OK;
}

pol_status ocl_override(ocl *cl, const ocl_tuning *t)
{
    memset(cl->temps, 0, sizeof cl->temps); /* they follow from the parameters */
    for (int i = 0; i < OCL_TUNED; i++)
        if (t->kernels[i].n)
            POL_TRY(override_kernel(cl, (ocl_tuned)i, &t->kernels[i]));
    return POL_OK;
}

pol_status ocl_kept_path(const ocl *cl, char key[33], char **path)
{
    pol_context *ctx = cl->base.ctx;
    static char what[] = "CLBlast's parameters";
    const pol_bytes text = {.data = what, .len = sizeof what - 1};
    *path = NULL;
    ocl_cache_key(cl, &text, POLLARD_CLBLAST_VERSION, key);
    if (!*key)
        return POL_OK;
    *path = pol_format(ctx, "%s/%s.cltuning", cl->cache_dir, key);
    return *path ? POL_OK : POL_ENOMEM;
}

void ocl_use_kept(ocl *cl)
{
    pol_context *ctx = cl->base.ctx;
    char key[33], *path;
    ocl_tuning t;
    bool there = false;
    pol_status s = ocl_kept_path(cl, key, &path);
    if (s == POL_OK && path)
        s = ocl_tuning_read(ctx, path, key, &t, &there);
    if (there && s == POL_OK)
        s = ocl_override(cl, &t);
    if (s < 0)
        pol_log(ctx, POL_LOG_WARN, "opencl: tuned parameters are not used, so products may be slower: %s",
                pol_error_text(ctx));
    else if (there)
        pol_log(ctx, POL_LOG_INFO, "opencl: CLBlast's parameters are those of %s", path);
    pol_free(ctx, path);
}
