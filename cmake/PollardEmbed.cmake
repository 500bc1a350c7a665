# pol_embed_text(OUT FILES...): a C file that defines pol_cl_sources (backends/opencl/opencl.h) with the text of each file under its
# name. Bytes, not string literals: those have a length that a C compiler must accept, and kernels exceed it.
function(pol_embed_text out)
  list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/ OUTPUT_VARIABLE files)
  add_custom_command(OUTPUT ${out} DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake VERBATIM COMMENT "Embedding kernels"
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} "-DFILES=${files}" -P ${PROJECT_SOURCE_DIR}/cmake/embed_text.cmake)
endfunction()
