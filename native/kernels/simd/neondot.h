// NEON with dot products of four bytes: those of FEAT_DotProd multiply signed bytes by signed ones.
#pragma once

#include "kernels/simd/neon.h"

namespace nybble {

struct NeonDot : Neon {
  static constexpr bool kHasDotProducts = true;
  static constexpr bool kHasSplitQuads = false;
  static constexpr int kDotPixels = 8;
  // Eight vectors of sums each.
  static constexpr std::int32_t kDepthwisePixels = 2;
  // Exact for signed inputs of any size, and unsigned ones up to kMostQuadInput.
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(inputs), vreinterpretq_s8_u8(weights));
  }
};

}  // namespace nybble
