# Script mode: writes OUT from FILES, a list. See PollardEmbed.cmake.
set(arrays "")
set(rows "")
set(i 0)
foreach(file IN LISTS FILES)
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const char text_${i}[] = {${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", text_${i}, sizeof text_${i} - 1},\n")
  math(EXPR i "${i} + 1")
endforeach()
file(WRITE ${OUT} "/* Made by cmake/embed_text.cmake. */
#include \"backends/opencl/opencl.h\"

${arrays}
const pol_cl_source pol_cl_sources[] = {
${rows}};
const size_t n_pol_cl_sources = ${i};
")
