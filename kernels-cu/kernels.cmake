# The CUDA kernels, an op a file: for nvcc, and for the tests' simulator.
set(POLLARD_KERNELS_CU rmsnorm.cu attention.cu attention_plain.cu attention_tiles.cu project_swiglu.cu)
list(TRANSFORM POLLARD_KERNELS_CU PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
