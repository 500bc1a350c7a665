# Every dependency comes from the system's packages (scripts/install-deps.sh); each becomes one imported target.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(ZLIB REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.30)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash>=0.8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
if(POLLARD_TESTS)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
endif()

# OpenBLAS with OpenMP threads: BLAS and the ops around it then share one pool, while two pools fight for the cores. Debian keeps each
# variant in a folder of its own and lets the administrator choose the default; ours is named outright where it is there.
set(openblas_openmp /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp)
if(EXISTS ${openblas_openmp}/pkgconfig/openblas.pc)
  set(ENV{PKG_CONFIG_PATH} "${openblas_openmp}/pkgconfig:$ENV{PKG_CONFIG_PATH}")
endif()
pkg_check_modules(OPENBLAS REQUIRED IMPORTED_TARGET openblas)
if(NOT OPENBLAS_LINK_LIBRARIES MATCHES "openmp")
  message(WARNING "OpenBLAS: ${OPENBLAS_LINK_LIBRARIES} may not be the OpenMP variant; on Debian and Ubuntu install libopenblas-openmp-dev")
endif()
