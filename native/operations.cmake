# How an instruction set and an operation become part of the engine.

# The intrinsics' own headers trip these in GCC (bug 105593).
set(intrinsics_warn "")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(intrinsics_warn -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(processor x86_64)
  target_compile_definitions(nybble_core PUBLIC NYBBLE_X86)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
  set(processor aarch64)
else()
  set(processor "${CMAKE_SYSTEM_PROCESSOR}")
endif()

# For the tests, the kernels of x86 on any processor: SIMDe's intrinsics in place of the compiler's (tests/emulated).
option(NYBBLE_EMULATE "Build the kernels of every instruction set so that any processor runs them, slowly" OFF)
if(NYBBLE_EMULATE)
  target_compile_definitions(nybble_core PUBLIC NYBBLE_X86 NYBBLE_EMULATED)
endif()

option(NYBBLE_ISAS_FOR_TESTS "Build the instruction sets that only tests use; published wheels do without" ON)

set(isas "")                # that this build has kernels for
set(isa_lines "")           # of nybble_isas.h
set(ceiling_lines "")       # of nybble_ceilings.h
set(operation_bindings "")  # sources of the Python module
set(operation_names "")     # that have bindings
set(kernel_names "")        # that have kernels for instruction sets

# nybble_feature(NAME LEAF SUBLEAF REGISTER BIT STATE)
#
# A feature of x86 processors. Compilers have __builtin_cpu_supports, but not all know every name, and where the runtime
# is zig's it answers 0 to all.
macro(nybble_feature name leaf subleaf register bit state)
  set(feature_${name} "has_feature({${leaf}, ${subleaf}, CpuidRegister::${register}, ${bit}}, SavedVectors::${state})")
endmacro()

# nybble_isa(NAME [FOR_TESTS] [LIKE OTHER] [ON PROCESSOR] [NEEDS FEATURE...] [CHECK EXPRESSION] [FLAGS FLAG...])
#
# An instruction set, whose vector types kernels/isas/NAME.h names. FOR_TESTS: it is never chosen. LIKE: it takes the
# kernels written for OTHER where there are none for NAME. ON: it is built for that processor only. NEEDS: features by
# their names in /proc/cpuinfo. CHECK: a C++ expression for whether the processor and the system have them, which may use
# base/cpuid.h; on x86 it follows from NEEDS. FLAGS: those of the compiler, for its files alone: base/cpu.cpp decides
# at run time whether they are called.
macro(nybble_isa name)
  cmake_parse_arguments(isa "FOR_TESTS" "LIKE;ON;CHECK" "NEEDS;FLAGS" ${ARGN})
  set(isa_emulated false)
  if(NYBBLE_EMULATE AND isa_ON STREQUAL x86_64)
    set(isa_emulated true)
    set(isa_ON "")
    # Vectors are loops over lanes: more optimization takes minutes.
    set(isa_FLAGS -isystem "${PROJECT_SOURCE_DIR}/tests/emulated/include" -O1 -Wno-psabi ${intrinsics_warn})
  endif()
  set(isa_flags_${name} "${isa_FLAGS}")
  set(isa_like_${name} "${isa_LIKE}")
  set(isa_built true)
  if((isa_ON AND NOT isa_ON STREQUAL processor) OR (wanted_isas AND NOT ${name} IN_LIST wanted_isas)
    OR (isa_FOR_TESTS AND NOT NYBBLE_ISAS_FOR_TESTS))
    set(isa_built false)
  endif()
  set(isa_check true)
  if(NOT isa_built)
    set(isa_check false)
  elseif(isa_CHECK AND NOT isa_emulated)
    set(isa_check "${isa_CHECK}")
  elseif(processor STREQUAL x86_64 AND NOT isa_emulated)
    foreach(feature IN LISTS isa_NEEDS)
      if(NOT DEFINED feature_${feature})
        message(FATAL_ERROR "nybble_isa(${name}): nybble_feature() does not say how to find ${feature}")
      endif()
      string(APPEND isa_check " && ${feature_${feature}}")
    endforeach()
  endif()
  set(isa_for_tests false)
  if(isa_FOR_TESTS)
    set(isa_for_tests true)
  endif()
  list(JOIN isa_NEEDS " " isa_needs)
  string(APPEND isa_lines
    " \\\n  line(${name}, \"${isa_LIKE}\", \"${isa_needs}\", ${isa_for_tests}, ${isa_built}, ${isa_check})")
  if(isa_built)
    list(APPEND isas ${name})
    if(EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/ceilings/${name}.cpp" AND NOT isa_emulated)
      target_sources(nybble_core PRIVATE ceilings/${name}.cpp)
      string(APPEND ceiling_lines " \\\n  line(${name})")
      set_source_files_properties(ceilings/${name}.cpp PROPERTIES COMPILE_OPTIONS "${isa_FLAGS}")
    endif()
  endif()
endmacro()

# nybble_operation(NAME)
#
# Of an operation all that is there: kernels/NAME/*.cpp; kernels/NAME/kernels.inc.h, compiled once for each instruction
# set, or the file written for it, kernels/NAME/ISA.inc.h; the step, steps/NAME.cpp; bindings/NAME.cpp.
macro(nybble_operation name)
  # Globs, so that a build notices a new file.
  set(here "${CMAKE_CURRENT_SOURCE_DIR}")
  file(GLOB operation_sources CONFIGURE_DEPENDS "${here}/kernels/${name}/*.cpp" "${here}/steps/${name}.cpp")
  file(GLOB operation_kernels CONFIGURE_DEPENDS "${here}/kernels/${name}/*.inc.h")
  file(GLOB operation_binding CONFIGURE_DEPENDS "${here}/bindings/${name}.cpp")
  target_sources(nybble_core PRIVATE ${operation_sources})
  if("${here}/kernels/${name}/kernels.inc.h" IN_LIST operation_kernels)
    nybble_kernels(${name})
    list(APPEND kernel_names ${name})
  endif()
  if(operation_binding)
    list(APPEND operation_bindings bindings/${name}.cpp)
    list(APPEND operation_names ${name})
  endif()
endmacro()

# The files of kernels of an operation, one for each instruction set, and the function that finds them.
function(nybble_kernels operation)
  string(SUBSTRING ${operation} 0 1 first)
  string(SUBSTRING ${operation} 1 -1 rest)
  string(TOUPPER ${first} first)
  set(Operation ${first}${rest})
  set(declarations "")
  set(choices "")
  foreach(isa IN LISTS isas)
    set(like ${isa})
    while(like AND NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/kernels/${operation}/${like}.inc.h")
      set(like "${isa_like_${like}}")
    endwhile()
    set(kernels kernels)
    if(like)
      set(kernels ${like})
    endif()
    set(source "${generated}/kernels/${operation}/${isa}.cpp")
    configure_file(kernels/kernels.cpp.in "${source}" @ONLY)
    target_sources(nybble_core PRIVATE "${source}")
    set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "${isa_flags_${isa}}")
    string(APPEND declarations "extern const ${Operation}Kernels ${operation}_kernels_${isa};\n")
    string(APPEND choices "  if (isa == Isa::${isa}) return ${operation}_kernels_${isa};\n")
  endforeach()
  configure_file(kernels/kernels_of.cpp.in "${generated}/kernels/${operation}.cpp" @ONLY)
  target_sources(nybble_core PRIVATE "${generated}/kernels/${operation}.cpp")
endfunction()

# The list of instruction sets, and the function that binds every operation.
macro(nybble_finish_operations)
  file(CONFIGURE OUTPUT "${generated}/nybble_isas.h" CONTENT "#pragma once\n\n#define NYBBLE_ISAS(line)@isa_lines@\n" @ONLY)
  file(CONFIGURE OUTPUT "${generated}/nybble_ceilings.h"
    CONTENT "#pragma once\n\n#define NYBBLE_CEILINGS(line)@ceiling_lines@\n" @ONLY)
  set(declarations "")
  set(calls "")
  foreach(operation IN LISTS operation_names)
    string(APPEND declarations "void bind_${operation}(nb::module_& m, nb::class_<nybble::Program>& program);\n")
    string(APPEND calls "  bind_${operation}(m, program);\n")
  endforeach()
  set(includes "")
  set(kernels "")
  foreach(operation IN LISTS kernel_names)
    string(APPEND includes "#include \"kernels/${operation}/kernels.h\"\n")
    string(APPEND kernels "  if (has_kernels(nybble::${operation}_kernels(isa))) names.emplace_back(\"${operation}\");\n")
  endforeach()
  configure_file(bindings/operations.cpp.in "${generated}/bindings/operations.cpp" @ONLY)
  list(APPEND operation_bindings "${generated}/bindings/operations.cpp")
endmacro()
