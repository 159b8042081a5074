// The features that an x86 processor reports.
#pragma once

#include <cstdint>
#include <string>

namespace nybble {

enum class CpuidRegister { eax, ebx, ecx, edx };

// A bit of what CPUID answers.
struct CpuidBit {
  std::uint32_t leaf;
  std::uint32_t subleaf;
  CpuidRegister where;
  int bit;
};

// The vector registers that the system saves when it switches threads: of 32 bytes; of 64 bytes, with masks.
enum class SavedVectors { ymm, zmm };

// Whether the bit is set; false where the processor has no such leaf, or is none of x86. Not for kernels: a virtual
// machine may take microseconds to answer.
bool has_cpuid_bit(const CpuidBit& wanted);

// Whether the bit is set, and the system saves these vectors.
bool has_feature(const CpuidBit& wanted, SavedVectors vectors);

// Who made a processor of x86, and which it is.
struct Processor {
  std::string vendor;         // as CPUID says: GenuineIntel, AuthenticAMD; empty where there is no CPUID
  int family = 0, model = 0;  // as /proc/cpuinfo counts them
};

Processor this_processor();

// Whether the processor multiplies tiles of bytes (AMX-TILE and AMX-INT8), and the system saves tiles.
bool has_byte_tiles();

// Whether the processor picks bytes from 128 of them (AVX512_VBMI). Asked once.
bool permutes_bytes();

}  // namespace nybble
