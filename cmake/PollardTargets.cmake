# Compile settings that every target of the project shares, and the one way to declare a module.
add_library(pollard_settings INTERFACE)
target_include_directories(pollard_settings INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include ${CMAKE_BINARY_DIR}/include)
target_compile_definitions(pollard_settings INTERFACE _GNU_SOURCE)
target_compile_options(pollard_settings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wvla -fno-math-errno -ffp-contract=off
                                                  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes$<SEMICOLON>-Wmissing-prototypes>)
# clang warns of a loop marked simd that it leaves scalar, as it does below -O2; that is slow, not wrong.
target_compile_options(pollard_settings INTERFACE $<$<C_COMPILER_ID:Clang>:-Wno-pass-failed>)
if(POLLARD_WERROR)
  target_compile_options(pollard_settings INTERFACE -Werror)
endif()
if(POLLARD_SANITIZE)
  target_compile_options(pollard_settings INTERFACE -fsanitize=${POLLARD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(pollard_settings INTERFACE -fsanitize=${POLLARD_SANITIZE})
  # gcc sees less through instrumented code, and says so of variables that are always set.
  target_compile_options(pollard_settings INTERFACE $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
endif()
if(POLLARD_FUZZ) # coverage of the whole library is what steers the fuzzer; the programs add libFuzzer's main themselves
  target_compile_options(pollard_settings INTERFACE -fsanitize=fuzzer-no-link)
endif()

# pol_module(NAME SOURCES... [LINK libraries...]): an object library that goes into libpollard.
function(pol_module name)
  cmake_parse_arguments(M "" "" "SOURCES;LINK" ${ARGN})
  if(NOT M_SOURCES)
    return()
  endif()
  add_library(${name} OBJECT ${M_SOURCES})
  target_link_libraries(${name} PUBLIC pollard_settings ${M_LINK})
  set_property(GLOBAL APPEND PROPERTY POLLARD_MODULES ${name})
endfunction()
