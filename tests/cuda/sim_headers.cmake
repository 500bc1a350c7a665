# The simulator's host headers against the toolkit's: each prototype is declared again after the toolkit's own, each constant and
# each field of a struct looked up there. -DCOMPILER= -DTOOLKIT=the toolkit's folders of headers -DHEADERS= -DSOURCE=the file made here.
set(source "#include <cuda_runtime_api.h>\n#include <cublasLt.h>\n#include <stddef.h>\n")
set(found 0)
foreach(header cuda_runtime_api.h cublasLt.h)
  file(READ ${HEADERS}/${header} text)
  string(REGEX REPLACE "/\\*[^*]*\\*+([^/*][^*]*\\*+)*/" "" text "${text}")
  string(REPLACE "[]" "*" text "${text}") # of parameters, and CMake's lists do not like them

  # TYPE NAME(...);
  string(REGEX MATCHALL "\n(cudaError_t|cublasStatus_t|size_t|const char \\*)[ \n]*cu[A-Za-z]+\\([^;]*\\)" prototypes "${text}")
  list(LENGTH prototypes n)
  math(EXPR found "${found} + ${n}")
  foreach(p IN LISTS prototypes)
    string(REGEX REPLACE "heuristicResultsArray\\*" "*heuristicResultsArray" p "${p}")
    string(APPEND source "${p};\n")
  endforeach()

  # NAME = NUMBER in an enum; X(NAME, NUMBER, in a list; #define NAME NUMBER
  string(REGEX MATCHALL "(cuda|CU)[A-Za-z0-9_]+ = [0-9]+|X\\(cu[A-Za-z0-9]+, [0-9]+|X\\(CU[A-Z0-9_]+, [0-9]+|#define (cuda|CUDART)[A-Za-z_]+ [0-9][0-9x]*" constants "${text}")
  list(LENGTH constants n)
  math(EXPR found "${found} + ${n}")
  foreach(c IN LISTS constants)
    string(REGEX MATCH "((cu|CU)[A-Za-z0-9_]+)[ =,]+([0-9][0-9x]*)" ignored "${c}")
    string(APPEND source "_Static_assert((int)${CMAKE_MATCH_1} == ${CMAKE_MATCH_3}, \"${CMAKE_MATCH_1}\");\n")
  endforeach()

  # struct cudaDeviceProp { TYPE NAME, NAME; ... }
  if(text MATCHES "struct cudaDeviceProp {([^}]*)}")
    string(REGEX MATCHALL "[a-z][a-z_]* [^;]+" fields "${CMAKE_MATCH_1}")
    foreach(line IN LISTS fields)
      string(REGEX MATCH "^[a-z_]+" type "${line}")
      string(REGEX MATCHALL " [A-Za-z][A-Za-z0-9]*" names "${line}")
      foreach(name IN LISTS names)
        string(STRIP "${name}" name)
        math(EXPR found "${found} + 1")
        set(size "sizeof(${type})")
        if(line MATCHES "\\[([0-9]+)\\]")
          set(size "${CMAKE_MATCH_1}")
        endif()
        string(APPEND source "_Static_assert(sizeof(((struct cudaDeviceProp *)0)->${name}) == ${size}, \"${name}\");\n")
      endforeach()
    endforeach()
  endif()
endforeach()

# What the backend keeps of an algorithm.
string(APPEND source "_Static_assert(sizeof(cublasLtMatmulAlgo_t) == 64, \"algorithm\");\n"
  "_Static_assert(offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize) == 64, \"workspaceSize\");\n")
if(found LESS 200)
  message(FATAL_ERROR "only ${found} declarations were found in ${HEADERS}")
endif()
file(WRITE ${SOURCE} "${source}")
set(includes)
foreach(folder IN LISTS TOOLKIT)
  list(APPEND includes -isystem ${folder})
endforeach()
execute_process(COMMAND ${COMPILER} -std=gnu11 -fsyntax-only -Werror ${includes} ${SOURCE} RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "the simulator's headers differ from the toolkit's")
endif()
message(STATUS "${found} declarations are the toolkit's")
