# libpollard from the modules: the shared library with the public symbols, and a static one with all of them for the tests.
get_property(modules GLOBAL PROPERTY POLLARD_MODULES)
set(objects)
foreach(m IN LISTS modules)
  list(APPEND objects $<TARGET_OBJECTS:${m}>)
endforeach()
set(POLLARD_PRIVATE_LIBS PkgConfig::JANSSON PkgConfig::PCRE2 PkgConfig::ZSTD PkgConfig::XXHASH PkgConfig::UTF8PROC ZLIB::ZLIB
                         PkgConfig::OPENBLAS OpenMP::OpenMP_C Threads::Threads m ${CMAKE_DL_LIBS})
if(POLLARD_HAVE_OPENCL)
  list(APPEND POLLARD_PRIVATE_LIBS OpenCL::OpenCL PkgConfig::CLBLAST)
endif()
add_library(pollard SHARED ${objects})
target_link_libraries(pollard PRIVATE pollard_settings ${POLLARD_PRIVATE_LIBS})
target_include_directories(pollard PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<BUILD_INTERFACE:${CMAKE_BINARY_DIR}/include>
                                          $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# Before 1.0 a minor version may break the API, and with it the ABI.
set_target_properties(pollard PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

add_library(pollard_static STATIC EXCLUDE_FROM_ALL ${objects})
target_link_libraries(pollard_static PUBLIC pollard_settings ${POLLARD_PRIVATE_LIBS})
