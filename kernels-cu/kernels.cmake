# The CUDA kernels, an op a file: for nvcc, and for the tests' simulator.
set(POLLARD_KERNELS_CU embed.cu rmsnorm.cu add_bias.cu rope.cu attention.cu attention_plain.cu attention_tiles.cu swiglu.cu project_swiglu.cu
  nll.cu swap_units.cu activation_stats.cu gram.cu spd.cu obs_sweep.cu)
list(TRANSFORM POLLARD_KERNELS_CU PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
