# The CUDA backend's host side, in C: for the toolkit's headers, and for the tests' simulator.
set(POLLARD_CUDA_SOURCES module.c status.c device.c timer.c memory.c moves.c transfer.c stream.c pass.c gemm.c ops.c nll.c swap.c gram.c spd.c spd_condition.c solve_spd.c obs_sweep.c obs_order.c obs_rows.c backend.c)
list(TRANSFORM POLLARD_CUDA_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
