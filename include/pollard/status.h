/* status.h - what a call can come back with.
 *
 * Every fallible function of Pollard returns a pol_status: POL_OK (0) or a negative code to branch on. The
 * sentence for the human is in the context: pol_error_text(). One list makes the enum and the texts.
 */
#ifndef POLLARD_STATUS_H
#define POLLARD_STATUS_H

#if defined(_WIN32)
#define POL_API
#else
#define POL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define POL_STATUS_LIST(X)                                                        \
    X(POL_EARG, -1, "argument outside the function's contract")                   \
    X(POL_ESHAPE, -2, "tensor shapes do not fit each other")                      \
    X(POL_ENOMEM, -3, "host or device memory ran out")                            \
    X(POL_ENOSYS, -4, "this backend has no such op")                              \
    X(POL_EDEVICE, -5, "a driver or vendor library call failed")                  \
    X(POL_EFORMAT, -6, "input damaged, inconsistent or not of the stated format") \
    X(POL_EIO, -7, "a file could not be read or written")                         \
    X(POL_EUNSUPPORTED, -8, "valid input that this version does not handle")      \
    X(POL_ELIMIT, -9, "the work does not fit the given limits")                   \
    X(POL_ENUMERIC, -10, "a loss or weight is not a finite number")               \
    X(POL_EINTERRUPTED, -11, "stopped on request; state was saved where possible")

typedef enum pol_status {
    POL_OK = 0,
#define X(name, value, text) name = value,
    POL_STATUS_LIST(X)
#undef X
} pol_status;

/* The general text of a code; a literal, never NULL. */
POL_API const char *pol_status_text(pol_status s);
/* The code's own name, "POL_EARG"; a literal, never NULL. */
POL_API const char *pol_status_name(pol_status s);

#define POL_TRY(call)                   \
    do {                                \
        pol_status pol_try_s_ = (call); \
        if (pol_try_s_ < 0)             \
            return pol_try_s_;          \
    } while (0)

/* Of a setting that is a number: it follows from others. */
enum { POL_AUTO = -1 };

#ifdef __cplusplus
}
#endif
#endif
