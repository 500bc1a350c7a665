# Each public header compiles as the only include of a file, as strict C11 and as C++11, with only the public include paths.
file(GLOB headers ${SOURCE}/include/pollard/*.h ${BINARY}/include/pollard/*.h)
list(LENGTH headers count)
if(count EQUAL 0)
  message(FATAL_ERROR "no header found below ${SOURCE}/include/pollard")
endif()

function(compile compiler)
  execute_process(COMMAND ${compiler} ${ARGN} -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I${SOURCE}/include -I${BINARY}/include
                  COMMAND_ERROR_IS_FATAL ANY)
endfunction()

foreach(header IN LISTS headers)
  get_filename_component(name ${header} NAME)
  foreach(language IN ITEMS c cpp)
    # Included twice: the guard works, and nothing is defined that may not be.
    file(WRITE ${BINARY}/header-alone/${name}.${language} "#include <pollard/${name}>\n#include <pollard/${name}>\nint header_alone_${language};\n")
  endforeach()
  compile(${CC} -std=c11 -Wstrict-prototypes ${BINARY}/header-alone/${name}.c)
  if(CXX)
    compile(${CXX} -std=c++11 ${BINARY}/header-alone/${name}.cpp)
  endif()
endforeach()
if(NOT CXX)
  message(STATUS "C++ not tried: no C++ compiler here")
endif()
message(STATUS "${count} headers")
