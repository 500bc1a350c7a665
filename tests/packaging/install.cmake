# Installs into an empty prefix, moves it, and uses it as a stranger would: the program, a consumer built through pkg-config, and one
# built through find_package(pollard).
set(work ${BINARY}/install-test)
set(prefix ${work}/moved/prefix)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work}/moved)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY OUTPUT_VARIABLE out ECHO_OUTPUT_VARIABLE)
  set(out "${out}" PARENT_SCOPE)
endfunction()

function(expect_version)
  if(NOT out MATCHES "${VERSION}")
    message(FATAL_ERROR "expected version ${VERSION}, got '${out}'")
  endif()
endfunction()

run(${CMAKE_COMMAND} --install ${BINARY} --prefix ${work}/prefix)
file(RENAME ${work}/prefix ${prefix})

# Nothing of the build tree may be needed: the program must find its library by its own path.
unset(ENV{LD_LIBRARY_PATH})
run(${prefix}/bin/pollard --version)
expect_version()
execute_process(COMMAND ldd ${prefix}/bin/pollard OUTPUT_VARIABLE libraries COMMAND_ERROR_IS_FATAL ANY)
if(NOT libraries MATCHES "=> ${prefix}/|=> ${prefix}/bin/[.][.]/")
  message(FATAL_ERROR "the installed program uses another libpollard:\n${libraries}")
endif()

set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
execute_process(COMMAND pkg-config --cflags --libs pollard OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
set(source ${CMAKE_CURRENT_LIST_DIR}/consumer)
run(${CC} -std=c11 -Wall -Werror ${source}/consumer.c -o ${work}/consumer-pkg-config ${flags} -Wl,-rpath,${prefix}/${LIBDIR})
run(${work}/consumer-pkg-config)
expect_version()

run(${CMAKE_COMMAND} -S ${source} -B ${work}/consumer -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC} -DWANTED=${VERSION})
run(${CMAKE_COMMAND} --build ${work}/consumer)
run(${work}/consumer/consumer)
expect_version()
