// The kernels with 32-bit sums of two or four neighbouring inputs.
#pragma once

#include <cstdint>

#include "kernels/conv/rows.h"
#include "kernels/conv/stage.h"

namespace nybble {

// What they read besides the weights.
struct DotPacked {
  std::int32_t run_groups = 0;               // groups of two or four inputs in one contiguous run of the window
  std::int32_t runs_per_row = 0;             // runs in one kernel row
  std::int32_t groups_together = 0;          // of a run, that kernels may multiply several at a time
  std::int32_t offset = 0;                   // added to every input
  const std::int32_t* correction = nullptr;  // to add to the sum of each output for that
};

// Output pixels computed together with 32-bit sums, at most: a vector type has its own number, kDotPixels.
inline constexpr std::int32_t kMostDotPixels = 8;

// Groups of two 16-bit inputs, or of four bytes, of the sign that the row multiplies once the offset is added.
ConvWeights pack_wide(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
ConvWeights pack_quad(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t dot_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
