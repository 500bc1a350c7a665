/* tune.h - CLBlast's parameters on a device: using those that are kept, and looking for better ones.
 *
 * CLBlast holds overridden parameters in the process, by device, and has no way back to its own: they stay when a
 * backend is closed, and another on the same device gets them too. A backend overrides them when it is opened, before
 * anything is asked of CLBlast.
 */
#ifndef POL_TUNE_H
#define POL_TUNE_H

#include "backends/opencl/opencl.h"
#include "backends/opencl/tuning.h"

/* Overrides what `t` has parameters for. */
pol_status ocl_override(ocl *cl, const ocl_tuning *t);
/* The set that is kept for the device, if there is one. Cannot fail: the log says why one is not used. */
void ocl_use_kept(ocl *cl);
/* The file that a set is kept in, and the key that it holds. *path is yours: pol_free(); NULL where none can be. */
pol_status ocl_kept_path(const ocl *cl, char key[33], char **path);

/* The driver's `tune`. */
pol_status ocl_tune(pol_context *ctx, const pol_device_info *device, const pol_tune_job *job, pol_tune_result *result);

#endif
