// Input rows that are staged before a kernel reads them.
#pragma once

#include <cstdint>

#include "kernels/conv/conv.h"

namespace nybble {

// Elements of one staged input row for `pixels` output pixels: what the windows reach, and what the last
// group of a run may read past them.
inline constexpr std::int64_t kStagedSlack = 8;
NYBBLE_INLINE std::int64_t staged_row_elements(const ConvShape& s, std::int32_t pixels) {
  return (std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1) * s.input.stride +
         kStagedSlack;
}

}  // namespace nybble
