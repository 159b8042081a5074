// The depthwise kernel: quads of bytes of each channel, for dot products.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/rows.h"

namespace nybble {

// Bytes of one quad of each of kChannelAlign channels: what a staged pixel has, and an entry of weights.
inline constexpr std::int32_t kDepthwiseBytes = 4 * kChannelAlign;

// What the kernel reads besides the weights, which are [unit][entry][channel][input of the quad]. Those of two output
// rows that are computed together follow, [unit][entry][output row][channel][input of the quad].
struct DepthwisePacked {
  const std::int32_t* places = nullptr;      // of each entry: its first byte in the staged window
  std::int32_t entries = 0;                  // of each unit of kChannelAlign channels
  std::int32_t offset = 0;                   // added to every input
  const std::int32_t* correction = nullptr;  // to add to the sum of each channel for that
  std::int32_t tile_pixels = 0;              // that scratch memory is laid out for
  const std::int32_t* pair_places = nullptr;
  std::int32_t pair_entries = 0;  // of two output rows; 0 where they are computed one by one
  std::int64_t pair_weights = 0;  // where those weights begin
};

// Whether two output rows share their staged rows: those of the second lie one row below those of the first, and the
// quads that hold one window have a row left.
NYBBLE_INLINE bool is_depthwise_pair(const ConvShape& s) {
  return s.stride_h == 1 && s.dilation_h == 1 && s.output.height > 1 && (s.kernel_h == 3 || s.kernel_h == 5);
}

// Where the parts of the scratch memory lie: sums of a task, then the staged window of one unit. A staged row has quads
// of four kernel rows; where one row is left over, of four neighbouring taps.
struct DepthwiseScratch {
  std::int32_t rows;
  bool has_beside;  // whether the last staged row has neighbouring taps
  std::int64_t columns, row_bytes, staged, bytes;

  NYBBLE_INLINE DepthwiseScratch(const ConvShape& s, std::int32_t pixels) {
    rows = (s.kernel_h + 3) / 4;
    has_beside = s.kernel_h % 4 == 1;
    columns = std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
    row_bytes = columns * kDepthwiseBytes;
    staged = std::int64_t{pixels} * kChannelAlign * 4;
    bytes = staged + rows * row_bytes;
  }
  NYBBLE_INLINE bool is_beside(std::int32_t row) const { return has_beside && row == rows - 1; }
};

ConvWeights pack_depthwise(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t depthwise_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
