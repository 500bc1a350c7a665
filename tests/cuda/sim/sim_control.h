/* sim_control.h - how a test steers the simulated devices and asks what happened.
 *
 * What is simulated. Work given to a stream waits there until the host waits for something: a stream, an event, the
 * device (cudaFree waits too), cudaMemcpy, a copy to pageable memory. Then it runs, one operation at a time, in an
 * order that streams and events allow and a seed picks. So a wait that is missing between streams, or host memory that
 * is used again too early, gives a wrong result for some seed. Pinned memory is read and written when a copy runs,
 * pageable memory at the call. New memory is all NaN. Device memory can be touched only by work of its own device while
 * that runs: the host, or another device's kernel, that does gets a segmentation fault.
 *
 * Stricter than the toolkit, and a misuse (a line on stderr, counted, and the call fails): the null stream but in
 * cudaMemset and cudaMemcpy; streams that are not cudaStreamNonBlocking; a handle that is not, or no longer, one;
 * memory that is not a live block of the right device; cudaFree while its device has work to do; less shared memory for
 * a kernel than it was allowed before; captures that spread over several streams.
 *
 * Environment, read at the first call and by sim_restart():
 *   POLLARD_SIM_DEVICES  how many; 0 none, -1 a driver that is too old, -2 no driver        (1)
 *   POLLARD_SIM_MEMORY   bytes of each                                                      (4 GiB)
 *   POLLARD_SIM_ARCH     compute capability: 80, 86, 89, 90, or anything, which is as 80    (80)
 *   POLLARD_SIM_COMPUTE_MODE  as an administrator sets it; 2: prohibited                    (0)
 *   POLLARD_SIM_SEED     of the order in which work is done                                 (1)
 *   POLLARD_SIM_FAIL     calls to fail: ENTRY:NTH:CODE[,...] as sim_fail(); "late" as ENTRY is sim_fail_late()
 *   POLLARD_SIM_REPORT   a file that counts and leaks are written to when the process ends, a line each: NAME NUMBER
 */
#ifndef SIM_CONTROL_H
#define SIM_CONTROL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A machine just switched on: nothing allocated, created, counted or planned to fail; the environment read again. */
void sim_restart(void);
void sim_seed(uint64_t seed);

/* The nth call from now on (1: the next) of an entry point of the runtime or cuBLASLt returns `code`, a cudaError_t or
 * cublasStatus_t, and does nothing; one that frees or destroys still does it. Kernels are launched by "launch". */
void sim_fail(const char *entry_point, int64_t nth, int code);
/* The nth operation put on any stream from now on fails when it runs. As on a real device nothing works from then on:
 * each call on that device returns `code`, until cudaDeviceReset. */
void sim_fail_late(int64_t nth, int code);

int64_t sim_calls(const char *entry_point);

typedef struct sim_counts {
    int64_t waits;    /* calls that waited for the device */
    int64_t launches; /* of kernels and products, by the host: those of a graph do not count */
    int64_t graph_launches;
    int64_t operations; /* done by the devices */
    int64_t bytes_to_device, bytes_to_host, bytes_on_device;
    int64_t pageable_copies; /* how many copies had pageable memory at one end */
    int64_t misuses;
} sim_counts;
sim_counts sim_counted(void);
void sim_count_anew(void); /* sets these counts, and sim_calls, to 0 */
/* Bytes copied on a stream, by the order in which its device's streams were created, from 0. */
int64_t sim_copied_on(int device, int stream);

/* What was made and not yet released: streams, events, blocks of device and pinned memory, graphs, cuBLASLt's objects.
 */
int64_t sim_leaks(void);

#ifdef __cplusplus
}
#endif
#endif
