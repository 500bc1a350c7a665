# The CUDA backend's host side, in C: for the toolkit's headers, and for the tests' simulator.
set(POLLARD_CUDA_SOURCES)
list(TRANSFORM POLLARD_CUDA_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
