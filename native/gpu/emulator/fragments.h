// Warp-level matrix instructions by the tables of the PTX ISA: which lane holds which element.
#pragma once

#include <cstdint>

namespace nybble::gpu::emulator {

// The operands of each of the 32 lanes in a product. m8n8 uses the first element of `a` and `b`, the first two of `c`.
struct Fragments {
  std::uint32_t a[32][4];
  std::uint32_t b[32][2];
  std::int32_t c[32][4];
};

// m16n8k64 of 4 bits or m16n8k32 of 8; `b` is signed. Sums wrap around.
void multiply16(Fragments& fragments, int bits, bool a_is_signed);
// m8n8k32 of 4 bits or m8n8k16 of 8.
void multiply8(Fragments& fragments, int bits, bool a_is_signed);

}  // namespace nybble::gpu::emulator
