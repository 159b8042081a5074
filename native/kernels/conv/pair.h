// The kernels with 16-bit sums over segments of the window, by pairs of inputs or by single ones.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/rows.h"

namespace nybble {

// Outputs computed together; the last tile of a block may have kChannelAlign.
inline constexpr std::int32_t kPairOutputs = 2 * kChannelAlign;

struct PairTile {
  std::size_t offset;     // of its weights in bytes: [group][output][input of the group]
  std::size_t constants;  // where [segment][output] start: what 16-bit sums start at
  std::int32_t first_run, runs;
  bool is_one_segment;
};

// Groups of two inputs, or of one, that follow each other in the staged window.
struct PairRun {
  std::int32_t place;  // of the first, in bytes
  std::int32_t bytes;  // of all of them
  bool ends;           // a segment
};

// What the kernel reads besides the weights.
struct PairPacked {
  const PairTile* tiles = nullptr;  // of each block from its `offset` on
  const PairRun* runs = nullptr;
  const std::int16_t* constants = nullptr;
  std::int32_t offset = 0;       // added to every input
  std::int32_t tile_pixels = 0;  // that scratch memory is laid out for
};

// Where the parts of the scratch memory lie: 32-bit sums of kPairSums outputs, then the staged window, in which each
// pair of channels of a pixel lies twice, and single ones once.
inline constexpr std::int32_t kPairSums = 8 * kChannelAlign;
struct PairScratch {
  std::int64_t pixel_bytes, row_bytes, staged, bytes;

  NYBBLE_INLINE PairScratch(const ConvShape& s, std::int32_t group, std::int32_t pixels) {
    pixel_bytes = std::int64_t{group} * s.input.stride;
    row_bytes = (std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1) * pixel_bytes;
    staged = kPairSums * 4;
    bytes = staged + s.kernel_h * row_bytes;
  }
};

ConvWeights pack_pair(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t pair_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);
ConvWeights pack_single(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t single_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
