// Which instruction sets this build has kernels for and this machine can run.
#pragma once

#include <string>
#include <vector>

namespace nybble {

enum class Isa { scalar, avx2, avx512, avx512vnni };

// Name as NYBBLE_ISA spells it.
const char* isa_name(Isa isa);

// Every instruction set of this build that the processor and the operating system support, slowest
// first. Scalar is always there.
std::vector<Isa> available_isas();

// The instruction set of that name. Throws std::invalid_argument, naming what is available, where the
// name is unknown or this machine lacks it.
Isa isa_from_name(const std::string& name);

}  // namespace nybble
