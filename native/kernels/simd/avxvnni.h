// AVX2 with VNNI: the dot product of four bytes in one instruction, on vectors of 32 bytes.
//
// The compiler's flags decide the encoding: VEX with AVX-VNNI, EVEX with AVX512-VNNI and AVX512-VL.
#pragma once

#include "kernels/simd/avx2.h"
#include "kernels/simd/halves.h"

namespace nybble {

struct AvxVnni : Avx2 {
  static constexpr bool kHasDotProducts = true;
  static constexpr std::int32_t kMostQuadInput = 255;
  static NYBBLE_INLINE std::int32_t sum_halves(const std::uint8_t* bytes, std::int32_t count, char p, char q) {
    return sum_of_halves(bytes, count, p, q);
  }
  // Twelve sums, two weights and an input: eight sums would not hide a product's latency of five at two a cycle.
  static constexpr int kDotPixels = 6;
  // Eight sums, four weights, two inputs and two of their sums with weights: sixteen registers.
  static constexpr int kInnerPixels = 4;
  // Four vectors of sums each.
  static constexpr std::int32_t kDepthwisePixels = 2;
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
  // Four unsigned inputs by four weights, exact for every value (the instruction that does not saturate).
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    return _mm256_dpbusd_epi32(sum, inputs, weights);
  }
};

}  // namespace nybble
