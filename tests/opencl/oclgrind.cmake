# Runs PROGRAM on oclgrind's simulated device, which reports reads and writes outside a buffer and data races of every kernel, CLBlast's
# included. What it says comes with standard error, each time with the kernel: its --log file is emptied whenever a context is made.
# Not with --uninitialized: oclgrind 21.10 ends a kernel at LLVM's `freeze` under that option, and takes memory that a fill command has
# set for uninitialised.
find_program(oclgrind NAMES oclgrind)
if(NOT oclgrind)
  if("$ENV{POLLARD_TEST_OPENCL}" STREQUAL "required")
    message(FATAL_ERROR "oclgrind is not here, but POLLARD_TEST_OPENCL=required")
  endif()
  message("skipped: oclgrind is not here")
  return()
endif()

execute_process(COMMAND ${oclgrind} --data-races --max-errors 10 ${PROGRAM} RESULT_VARIABLE code ERROR_VARIABLE said)
if(said MATCHES "Kernel:|OCLGRIND|Oclgrind:")
  message(FATAL_ERROR "oclgrind reports:\n${said}")
elseif(NOT code EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${code}:\n${said}")
endif()
