# Script mode: every kernel of the folder KERNELS through clang as strict OpenCL C 1.2, for 64-bit devices and a 32-bit one,
# warnings as errors, nothing inlined: what the driver at hand lets pass, another one's compiler may not. SOURCES: a folder for
# what is compiled.
find_program(clang NAMES clang)
if(NOT clang)
  if("$ENV{POLLARD_TEST_OPENCL}" STREQUAL "required")
    message(FATAL_ERROR "clang is not here, but POLLARD_TEST_OPENCL=required")
  endif()
  message("skipped: clang is not here")
  return()
endif()

# The prelude is for all kernels: one does not use all of it.
set(common -x cl -cl-std=CL1.2 -Xclang -finclude-default-header -O0 -S -emit-llvm -o -
  -Wall -Wextra -pedantic -Werror -Wno-unused-function)
set(stem_attention "-DHEAD=64 -DKEYS=8" "-DHEAD=7 -DKEYS=1") # besides the profile's definitions
set(stem_swap_units -DUNIT=uint -DUNIT=ushort)

# What a compiler sees (backends/opencl/program.c).
function(write_source stem out)
  foreach(part args.h prelude.cl ${stem}.cl)
    file(READ ${KERNELS}/${part} text)
    string(APPEND whole "#line 1 \"${part}\"\n${text}")
  endforeach()
  file(WRITE ${out} "${whole}")
endfunction()

# OpenCL's own functions have mangled names: one that is declared without is ours, and has no definition.
function(check stem source defines)
  separate_arguments(defines)
  execute_process(COMMAND ${clang} ${common} ${defines} ${source}
    RESULT_VARIABLE code OUTPUT_VARIABLE code_text ERROR_VARIABLE complaints)
  string(REGEX MATCHALL "\ndeclare [^\n]*@[a-z][a-z0-9_]*\\(" undefined "${code_text}")
  if(NOT code EQUAL 0 OR undefined)
    message(SEND_ERROR "${stem}.cl, ${defines}: ${complaints}${undefined}")
  endif()
endfunction()

file(MAKE_DIRECTORY ${SOURCES})
file(GLOB files ${KERNELS}/*.cl)
foreach(file IN LISTS files)
  get_filename_component(stem ${file} NAME_WE)
  if(stem STREQUAL "prelude")
    continue()
  endif()
  set(source ${SOURCES}/${stem}.cl)
  write_source(${stem} ${source})
  if(NOT DEFINED stem_${stem})
    set(stem_${stem} " ")
  endif()
  foreach(own IN LISTS stem_${stem})
    foreach(profile "-DVECTOR=1 -DGROUP=1 -DWEIGHTS=16" "-DVECTOR=1 -DGROUP=128 -DWEIGHTS=17" "-DVECTOR=2 -DGROUP=16 -DWEIGHTS=32"
        "-DVECTOR=4 -DGROUP=0 -DWEIGHTS=16" "-DVECTOR=8 -DGROUP=0 -DWEIGHTS=17" "-DVECTOR=16 -DGROUP=0 -DWEIGHTS=32")
      check(${stem} ${source} "-target spir64 ${profile} ${own}")
    endforeach()
    check(${stem} ${source} "-target spir -DVECTOR=4 -DGROUP=64 -DWEIGHTS=16 ${own}")
  endforeach()
endforeach()
