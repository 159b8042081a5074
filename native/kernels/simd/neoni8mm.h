// NEON with FEAT_I8MM: products of matrices of bytes, and dot products of unsigned bytes by signed ones.
#pragma once

#include "kernels/simd/neondot.h"

namespace nybble {

struct NeonI8mm : NeonDot {
  static constexpr bool kHasMatrixProducts = true;
  // Two by two.
  static constexpr int kDotPixels = 6;
  // The next eight bytes of two places, which step on: two instructions.
  static NYBBLE_INLINE Bytes load_next_halves(const std::uint8_t*& low, const std::uint8_t*& high) {
    Bytes v;
    __asm__("ldr %d0, [%1], #8" : "=w"(v), "+r"(low) : "m"(*low));
    __asm__("ld1 {%0.d}[1], [%1], #8" : "+w"(v), "+r"(high) : "m"(*high));
    return v;
  }
  // Two rows of eight inputs by two rows of eight weights: sums of the first row, then of the second.
  static NYBBLE_INLINE I32 add_matrix(I32 sums, Bytes inputs, Bytes weights) {
    return vmmlaq_s32(sums, vreinterpretq_s8_u8(inputs), vreinterpretq_s8_u8(weights));
  }
  // One of the two rows of both.
  template <int kRow>
  static NYBBLE_INLINE I32 row_of_pairs(I32 a, I32 b) {
    const int64x2_t x = vreinterpretq_s64_s32(a), y = vreinterpretq_s64_s32(b);
    return vreinterpretq_s32_s64(kRow == 0 ? vzip1q_s64(x, y) : vzip2q_s64(x, y));
  }
};

}  // namespace nybble
