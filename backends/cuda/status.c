/* status.c - codes of CUDA and cuBLAS as sentences. A fault of the device lasts: every call after it gives the same
 * code, whatever it was for, so the sentence says what the code means and not what the call wanted. */
#include "backends/cuda/cuda.h"

/* What a code means to a person and what helps, where CUDA's name for it does not say. */
static const char *meaning(cudaError_t code)
{
    switch (code) {
    case cudaErrorMemoryAllocation:
        return ": the device is out of memory; fewer or shorter sequences at a time take less, and so does a lower "
               "--memory-limit";
    case cudaErrorInsufficientDriver: return ": the driver is too old or missing; a newer one helps";
    case cudaErrorNoDevice: return ": the driver finds no device";
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
        return ": the device is not there for us; another program may hold it alone (nvidia-smi shows both)";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
        return ": the library holds no code that this device or its driver can run; a newer driver may help";
    case cudaErrorSystemNotReady: return ": the system is not ready; its fabric manager may not run";
    case cudaErrorSystemDriverMismatch: return ": kernel driver and library are of two versions; a reboot helps";
    case cudaErrorECCUncorrectable:
        return ": the device's memory is damaged beyond correction; start again, on another device if it comes back";
    case cudaErrorLaunchTimeout:
        return ": a kernel took longer than the driver allows a device with a display; use another device";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorLaunchFailure:
        return ": a kernel failed on the device; start again, and if it comes back report it as a bug";
    case cudaErrorHardwareStackError:
    case cudaErrorUnknown: return ": the driver may have lost the device; its log (dmesg, Xid) says why";
    default: return "";
    }
}

pol_status cu_check(pol_context *ctx, const char *what, const char *call, cudaError_t code)
{
    if (code == cudaSuccess)
        return POL_OK;
    return pol_fail(ctx, code == cudaErrorMemoryAllocation ? POL_ENOMEM : POL_EDEVICE, "cuda: %s: %s: %s (%d)%s", what,
                    call, cudaGetErrorName(code), (int)code, meaning(code));
}

pol_status cu_check_lt(pol_context *ctx, const char *what, const char *call, cublasStatus_t code)
{
    if (code == CUBLAS_STATUS_SUCCESS)
        return POL_OK;
    const char *means = code == CUBLAS_STATUS_EXECUTION_FAILED ? ": the device may be lost; its log says why"
                        : code == CUBLAS_STATUS_NOT_SUPPORTED  ? ": cuBLASLt has no way to compute this"
                        : code == CUBLAS_STATUS_ARCH_MISMATCH  ? ": this cuBLASLt does not serve the device"
                                                               : "";
    return pol_fail(ctx, code == CUBLAS_STATUS_ALLOC_FAILED ? POL_ENOMEM : POL_EDEVICE, "cuda: %s: %s: %s (%d)%s", what,
                    call, cublasLtGetStatusName(code), (int)code, means);
}
