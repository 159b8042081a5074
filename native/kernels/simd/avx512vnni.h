// AVX-512 with VNNI: the dot product of four bytes in one instruction.
#pragma once

#include "kernels/simd/avx512.h"
#include "kernels/simd/halves.h"

namespace nybble {

struct Avx512Vnni : Avx512 {
  static constexpr bool kHasDotProducts = true;
  static constexpr std::int32_t kMostQuadInput = 255;
  static NYBBLE_INLINE std::int32_t sum_halves(const std::uint8_t* bytes, std::int32_t count, char p, char q) {
    return sum_of_halves(bytes, count, p, q);
  }
  // Sixteen sums, four weights, two inputs and two of their sums with weights, of 32 registers.
  static constexpr int kInnerPixels = 8;
  // Two vectors of sums each, and weights of as many.
  static constexpr std::int32_t kDepthwisePixels = 4;
  // Four unsigned inputs by four weights, exact for every value (the instruction that does not saturate).
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    return _mm512_dpbusd_epi32(sum, inputs, weights);
  }
};

}  // namespace nybble
