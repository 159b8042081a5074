// Instruction sets: their names, what they need of the processor, and which this machine can run.
#pragma once

#include <nybble_isas.h>

#include <string>
#include <vector>

namespace nybble {

// The lines nybble_isa() of native/CMakeLists.txt, slowest first.
enum class Isa {
#define NYBBLE_ISA(name, like, needs, is_for_tests, is_built, is_supported) name,
  NYBBLE_ISAS(NYBBLE_ISA)
#undef NYBBLE_ISA
};

// Name as NYBBLE_ISA spells it.
const char* isa_name(Isa isa);

// The processor's features that it needs, by their names in /proc/cpuinfo, separated by spaces.
const char* isa_needs(Isa isa);

// The instruction set that it extends, whose kernels it uses where it has no own ones; empty if there is none.
const char* isa_like(Isa isa);

// Whether it exists only to test the kernels and is never chosen by default: vectors of 16 bytes in the compiler's own
// operations, which any processor has, or another encoding of instructions.
bool is_for_tests(Isa isa);

// Every line, whatever was built.
std::vector<Isa> all_isas();

// Those that this build has kernels for, also if the machine lacks them.
std::vector<Isa> built_isas();

// Every instruction set that the processor and the operating system support, slowest first, but for those for tests.
// Scalar is always there.
std::vector<Isa> available_isas();

// Those for tests too.
std::vector<Isa> runnable_isas();

// The instruction set of that name. Throws std::invalid_argument, naming what is available, where the
// name is unknown or this machine lacks it.
Isa isa_from_name(const std::string& name);

// As isa_from_name, for any instruction set that there are kernels for, on this machine or another.
Isa known_isa(const std::string& name);

}  // namespace nybble
