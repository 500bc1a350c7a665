# What `cmake --install` puts in place: the program, libpollard, its headers, and what pkg-config and find_package(pollard) read.
# The installed tree can be moved: every path in it is relative to the prefix.
include(CMakePackageConfigHelpers)

file(RELATIVE_PATH cli_to_lib /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
set_target_properties(pollard-cli PROPERTIES INSTALL_RPATH "$ORIGIN/${cli_to_lib}")
# The library goes on finding the OpenBLAS variant that it was linked with, whatever the system's default is.
set_target_properties(pollard PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)

install(TARGETS pollard-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS pollard EXPORT pollard-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(POLLARD_HAVE_CUDA) # where backends/module.c looks for it, from wherever libpollard is
  install(TARGETS pollard_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/pollard)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/pollard ${PROJECT_BINARY_DIR}/include/pollard
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/pollard)
install(EXPORT pollard-targets NAMESPACE pollard:: DESTINATION ${package_dir})
configure_package_config_file(cmake/pollard-config.cmake.in ${PROJECT_BINARY_DIR}/pollard-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pollard-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pollard-config.cmake ${PROJECT_BINARY_DIR}/pollard-config-version.cmake DESTINATION ${package_dir})

file(RELATIVE_PATH POLLARD_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" POLLARD_PC_TO_PREFIX "${POLLARD_PC_TO_PREFIX}")
configure_file(cmake/pollard.pc.in ${PROJECT_BINARY_DIR}/pollard.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/pollard.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
