// What a processor of x86 tells of itself, for features that the compiler's __builtin_cpu_supports does not know.
#pragma once

#include <cstdint>

namespace nybble {

enum class CpuidRegister { eax, ebx, ecx, edx };

// A bit of what CPUID answers; false where the processor has no such leaf, or is none of x86.
bool has_cpuid_bit(std::uint32_t leaf, std::uint32_t subleaf, CpuidRegister where, int bit);

// Whether Intel made it.
bool is_intel();

// Whether the processor multiplies tiles of bytes (AMX-TILE and AMX-INT8), and the system saves tiles.
bool has_byte_tiles();

}  // namespace nybble
