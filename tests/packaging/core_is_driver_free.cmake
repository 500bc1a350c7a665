# core/ knows no backend: no file of core/ or include/ includes, directly or through others, a header of a driver, a BLAS or OpenMP, or
# one of ours from outside core/ and include/. Each file compiles by itself, with no include path but the project's own.
file(GLOB_RECURSE files ${SOURCE}/core/*.[ch] ${SOURCE}/include/*.h)
set(foreign "(^|/)((cblas|lapacke?|f77blas|omp|mpi|hip_runtime)[^/]*[.]h|openblas[^/]*|cuda[^/]*|cublas[^/]*|clblast[^/]*|CL/.*)$")
set(ours_outside "^${SOURCE}/(backends|cpu|cli|kernels-cl|kernels-cu|tests|bench)/")
set(depends ${BINARY}/core_is_driver_free.d)

set(bad)
foreach(file IN LISTS files)
  execute_process(
    COMMAND ${CC} -std=gnu11 -D_GNU_SOURCE -I${SOURCE} -I${SOURCE}/include -I${BINARY}/include -fsyntax-only -MD -MF ${depends} -x c ${file}
    RESULT_VARIABLE code ERROR_VARIABLE messages)
  if(NOT code EQUAL 0)
    list(APPEND bad "${file} does not compile by itself: ${messages}")
    continue()
  endif()
  file(READ ${depends} headers) # "file.o: file.c one.h \<newline> two.h ..."
  string(REGEX MATCHALL "[^ \\\n]+" headers "${headers}")
  foreach(header IN LISTS headers)
    if(header MATCHES "${foreign}" OR header MATCHES "${ours_outside}")
      list(APPEND bad "${file} includes ${header}")
    endif()
  endforeach()
  file(STRINGS ${file} pragmas REGEX "^[ \t]*#[ \t]*pragma[ \t]+omp")
  if(pragmas)
    list(APPEND bad "${file} uses OpenMP: ${pragmas}")
  endif()
endforeach()

list(LENGTH files count)
if(bad)
  list(JOIN bad "\n  " bad)
  message(FATAL_ERROR "core/ is not free of drivers:\n  ${bad}")
elseif(count EQUAL 0)
  message(FATAL_ERROR "no file found below ${SOURCE}/core")
endif()
message(STATUS "${count} files, all free of drivers")
