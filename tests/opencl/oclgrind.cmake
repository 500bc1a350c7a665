# Runs PROGRAM on oclgrind's simulated device, which reports reads and writes outside a buffer and data races of every kernel, CLBlast's
# included; any line in its log is a failure. Not with --uninitialized: oclgrind 21.10 ends a kernel at LLVM's `freeze` under that option,
# and takes memory that a fill command has set for uninitialised.
find_program(oclgrind NAMES oclgrind)
if(NOT oclgrind)
  if("$ENV{POLLARD_TEST_OPENCL}" STREQUAL "required")
    message(FATAL_ERROR "oclgrind is not here, but POLLARD_TEST_OPENCL=required")
  endif()
  message("skipped: oclgrind is not here")
  return()
endif()

file(REMOVE ${LOG})
execute_process(COMMAND ${oclgrind} --data-races --max-errors 10 --log ${LOG} ${PROGRAM} RESULT_VARIABLE code)
if(NOT EXISTS ${LOG})
  message(FATAL_ERROR "${oclgrind} has left no log: it did not run")
endif()
file(READ ${LOG} findings)
if(NOT "${findings}" STREQUAL "")
  message(FATAL_ERROR "oclgrind reports:\n${findings}")
endif()
if(NOT code EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${code}")
endif()
