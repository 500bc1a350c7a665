/* sim_fault.h - where it ends up when a kernel does what the device would not forgive, or not notice. */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#ifdef __cplusplus
extern "C" {
#endif

/* `line` names the kernel, its block and its thread. The default prints it and aborts; where a handler returns, the
 * rest of the grid is left undone. NULL: the default. */
typedef void sim_fault_handler(const char *line);
void sim_on_fault(sim_fault_handler *handler);

#ifdef __cplusplus
}
#endif
#endif
