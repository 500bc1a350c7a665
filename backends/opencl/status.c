/* status.c - codes of OpenCL and CLBlast as sentences. CLBlast passes OpenCL's codes on and adds its own. */
#include <CL/cl_ext.h>
#include <clblast_c.h>

#include "backends/opencl/opencl.h"

static const struct {
    cl_int code;
    const char *name;
} codes[] = {
#define CODE(name)  \
    {               \
        name, #name \
    }
    CODE(CL_DEVICE_NOT_FOUND),
    CODE(CL_DEVICE_NOT_AVAILABLE),
    CODE(CL_COMPILER_NOT_AVAILABLE),
    CODE(CL_MEM_OBJECT_ALLOCATION_FAILURE),
    CODE(CL_OUT_OF_RESOURCES),
    CODE(CL_OUT_OF_HOST_MEMORY),
    CODE(CL_PROFILING_INFO_NOT_AVAILABLE),
    CODE(CL_MEM_COPY_OVERLAP),
    CODE(CL_BUILD_PROGRAM_FAILURE),
    CODE(CL_MAP_FAILURE),
    CODE(CL_MISALIGNED_SUB_BUFFER_OFFSET),
    CODE(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST),
    CODE(CL_KERNEL_ARG_INFO_NOT_AVAILABLE),
    CODE(CL_INVALID_VALUE),
    CODE(CL_INVALID_DEVICE_TYPE),
    CODE(CL_INVALID_PLATFORM),
    CODE(CL_INVALID_DEVICE),
    CODE(CL_INVALID_CONTEXT),
    CODE(CL_INVALID_QUEUE_PROPERTIES),
    CODE(CL_INVALID_COMMAND_QUEUE),
    CODE(CL_INVALID_HOST_PTR),
    CODE(CL_INVALID_MEM_OBJECT),
    CODE(CL_INVALID_BINARY),
    CODE(CL_INVALID_BUILD_OPTIONS),
    CODE(CL_INVALID_PROGRAM),
    CODE(CL_INVALID_PROGRAM_EXECUTABLE),
    CODE(CL_INVALID_KERNEL_NAME),
    CODE(CL_INVALID_KERNEL_DEFINITION),
    CODE(CL_INVALID_KERNEL),
    CODE(CL_INVALID_ARG_INDEX),
    CODE(CL_INVALID_ARG_VALUE),
    CODE(CL_INVALID_ARG_SIZE),
    CODE(CL_INVALID_KERNEL_ARGS),
    CODE(CL_INVALID_WORK_DIMENSION),
    CODE(CL_INVALID_WORK_GROUP_SIZE),
    CODE(CL_INVALID_WORK_ITEM_SIZE),
    CODE(CL_INVALID_GLOBAL_OFFSET),
    CODE(CL_INVALID_EVENT_WAIT_LIST),
    CODE(CL_INVALID_EVENT),
    CODE(CL_INVALID_OPERATION),
    CODE(CL_INVALID_BUFFER_SIZE),
    CODE(CL_INVALID_GLOBAL_WORK_SIZE),
    CODE(CL_INVALID_PROPERTY),
    CODE(CL_PLATFORM_NOT_FOUND_KHR),
    CODE(CLBlastNotImplemented),
    CODE(CLBlastInvalidMatrixA),
    CODE(CLBlastInvalidMatrixB),
    CODE(CLBlastInvalidMatrixC),
    CODE(CLBlastInvalidDimension),
    CODE(CLBlastInvalidLeadDimA),
    CODE(CLBlastInvalidLeadDimB),
    CODE(CLBlastInvalidLeadDimC),
    CODE(CLBlastInsufficientMemoryA),
    CODE(CLBlastInsufficientMemoryB),
    CODE(CLBlastInsufficientMemoryC),
    CODE(CLBlastInsufficientMemoryTemp),
    CODE(CLBlastInvalidOverrideKernel),
    CODE(CLBlastMissingOverrideParameter),
    CODE(CLBlastInvalidLocalMemUsage),
    CODE(CLBlastNoHalfPrecision),
    CODE(CLBlastDatabaseError),
    CODE(CLBlastUnknownError),
    CODE(CLBlastUnexpectedError),
#undef CODE
};

const char *ocl_code_name(cl_int code)
{
    for (size_t i = 0; i < POL_COUNT(codes); i++)
        if (codes[i].code == code)
            return codes[i].name;
    return NULL;
}

static bool is_memory(cl_int code)
{
    return code == CL_MEM_OBJECT_ALLOCATION_FAILURE || code == CL_OUT_OF_RESOURCES || code == CL_OUT_OF_HOST_MEMORY;
}

/* What a code means to a person, where OpenCL's name for it does not say. CL_OUT_OF_RESOURCES is much else besides. */
static const char *meaning(cl_int code)
{
    switch (code) {
    case CL_OUT_OF_RESOURCES:
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
        return ": the device is out of memory, or of something else; fewer or shorter sequences at a time take less";
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_INVALID_COMMAND_QUEUE:
    case CL_INVALID_CONTEXT: return ": the driver may have lost the device";
    default: return "";
    }
}

pol_status ocl_check(pol_context *ctx, const char *what, const char *call, cl_int code)
{
    if (code == CL_SUCCESS)
        return POL_OK;
    const char *name = ocl_code_name(code);
    return pol_fail(ctx, is_memory(code) ? POL_ENOMEM : POL_EDEVICE, "opencl: %s: %s: %s (%d)%s", what, call,
                    name ? name : "a code that OpenCL does not define", code, meaning(code));
}
