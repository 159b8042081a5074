// NEON with dot products of four bytes: those of FEAT_DotProd multiply signed bytes by signed ones.
#pragma once

#include "kernels/simd/neon.h"

namespace nybble {

struct NeonDot : Neon {
  static constexpr bool kHasDotProducts = true;
  static constexpr bool kHasSplitQuads = false;
  static constexpr bool kHasLaneQuads = true;
  // 20 vectors of sums, and twelve for what they are made of.
  static constexpr int kDotPixels = 5;
  static constexpr int kDotVectors = 4;
  // Eight vectors of sums each.
  static constexpr std::int32_t kDepthwisePixels = 2;
  // Exact for signed inputs of any size, and unsigned ones up to kMostQuadInput.
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(inputs), vreinterpretq_s8_u8(weights));
  }
  // The next kQuads quads at `p`, which steps past them: one instruction. In order: started early, they would take
  // registers from the sums.
  template <int kQuads>
  static NYBBLE_INLINE Bytes load_next_quads(const std::uint8_t*& p) {
    Bytes v;
    const auto& from = *reinterpret_cast<const std::uint8_t (*)[4 * kQuads]>(p);
    if constexpr (kQuads == 4)
      __asm__ volatile("ldr %q0, [%1], #16" : "=w"(v), "+r"(p) : "m"(from));
    else if constexpr (kQuads == 2)
      __asm__ volatile("ldr %d0, [%1], #8" : "=w"(v), "+r"(p) : "m"(from));
    else
      __asm__ volatile("ldr %s0, [%1], #4" : "=w"(v), "+r"(p) : "m"(from));
    return v;
  }
  // The same of one of the four quads of a vector of inputs.
  template <int kQuad>
  static NYBBLE_INLINE I32 add_lane_quads(I32 sum, Bytes inputs, Bytes weights) {
    return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(weights), vreinterpretq_s8_u8(inputs), kQuad);
  }
};

}  // namespace nybble
