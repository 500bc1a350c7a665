# The CUDA backend: a module that the library opens at run time, so that one program starts on every machine. Sets POLLARD_HAVE_CUDA.
#
# nvcc comes from CMAKE_CUDA_COMPILER, CUDACXX, the PATH, or the folder that scripts/install-deps.sh --cuda fills.
set(POLLARD_HAVE_CUDA FALSE)
if(POLLARD_CUDA STREQUAL OFF)
  return()
endif()

# Code for the cards of a decade's first half, and PTX of the last, from which drivers make code for later ones. In 13.0 the names of
# architectures that CMake would try by default are gone, so it is told before it looks at the compiler.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90)
endif()
set(absent)
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  enable_language(CUDA)
  if(NOT TARGET CUDA::nvToolsExt) # gone from CUDA 13, but CMake 3.25.1 sets a property of it
    add_library(CUDA::nvToolsExt INTERFACE IMPORTED)
  endif()
  find_package(CUDAToolkit 12.0)
  if(NOT CUDAToolkit_FOUND)
    list(APPEND absent "the CUDA toolkit, 12.0 or later, of ${CMAKE_CUDA_COMPILER}")
  elseif(NOT TARGET CUDA::cublasLt OR NOT EXISTS "${CUDAToolkit_INCLUDE_DIRS}/cublasLt.h")
    list(APPEND absent "cuBLASLt beside ${CMAKE_CUDA_COMPILER}")
  elseif(NOT TARGET CUDA::cudart_static)
    list(APPEND absent "the static CUDA runtime beside ${CMAKE_CUDA_COMPILER}")
  endif()
else()
  list(APPEND absent "nvcc of the CUDA toolkit, 12.0 or later (scripts/install-deps.sh --cuda)")
endif()

if(NOT absent)
  set(POLLARD_HAVE_CUDA TRUE)
elseif(POLLARD_CUDA STREQUAL ON)
  message(FATAL_ERROR "The CUDA backend is asked for (POLLARD_CUDA=ON); not found: ${absent}")
else()
  message(STATUS "The CUDA backend is left out; not found: ${absent}")
endif()
