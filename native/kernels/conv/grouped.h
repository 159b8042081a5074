// The grouped kernel: pairs of bytes of each output's own inputs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/rows.h"

namespace nybble {

// Bytes of one pair of each of kChannelAlign outputs.
inline constexpr std::int32_t kGroupedBytes = 2 * kChannelAlign;

// Vectors interleave their bytes, and their 16-bit lanes, in parts of 16 bytes: the low halves of all parts first.
inline constexpr std::int32_t kPartBytes = 16;

// The output, of kChannelAlign, at place i of a staged pixel, where `bytes` are staged at a time: as interleaving so
// many bytes with others leaves them. In vectors of one part it is i.
NYBBLE_INLINE constexpr std::int32_t staged_output(std::int32_t i, std::int32_t bytes) {
  constexpr std::int32_t kHalf = kPartBytes / 2;
  const std::int32_t within = i % bytes, place = within % (bytes / 2);
  return i - within + place / kHalf * kPartBytes + within / (bytes / 2) * kHalf + place % kHalf;
}

// The place, of kChannelAlign, in staged pixels, of the sum at lane i of the 32-bit sums that interleaved 16-bit ones
// become, in vectors of so many 32-bit lanes. In vectors of one part it is i.
NYBBLE_INLINE constexpr std::int32_t staged_place(std::int32_t i, std::int32_t lanes32) {
  constexpr std::int32_t kLanes = kPartBytes / 4;
  const std::int32_t both = 2 * lanes32, lane = i % lanes32;
  return i / both * both + lane / kLanes * 2 * kLanes + i / lanes32 % 2 * kLanes + lane % kLanes;
}

// kChannelAlign outputs, from that multiple of it.
struct GroupedUnit {
  std::size_t offset;  // of its weights in bytes: [chain][entry][place of the output][input of the pair]
  std::int32_t first_entry;
  std::int32_t chains, chain, last;  // chains, entries in each but the last, and in that
};

// Shuffles, one or more, whose results together are the pairs of half as many outputs as a vector has bytes.
struct GatherVector {
  std::int32_t first_step, steps;
};
struct GatherStep {
  std::int32_t first;                 // of 16 neighbouring channels
  std::uint8_t picks[kChannelAlign];  // as many as a vector has bytes
};

// What the kernel reads besides the weights.
struct GroupedPacked {
  const GroupedUnit* units = nullptr;     // of each kChannelAlign outputs
  const std::int32_t* places = nullptr;   // of each entry: its first byte in the staged window
  const GatherVector* gathers = nullptr;  // [unit][pair][vector], none for depthwise
  const GatherStep* gather_steps = nullptr;
  std::int32_t offset = 0;                   // added to every input
  const std::int32_t* correction = nullptr;  // to add to the sum of each output for that
  const std::int16_t* constants = nullptr;   // the same modulo 2^16
  std::int32_t tile_pixels = 0;              // that scratch memory is laid out for
};

// Grouped kernel: pixels computed together, at most.
inline constexpr std::int32_t kMostGroupedPixels = 4;

// Where the parts of the grouped kernel's scratch memory lie: sums, then the staged window of one unit. A staged pixel
// is the pairs of each output's inputs; depthwise, the pair is of two kernel rows, and so many rows are one.
struct GroupedScratch {
  bool is_depthwise;
  bool is_odd;
  std::int32_t rows, pairs;
  std::int64_t columns, pixel_bytes, row_bytes, staged, bytes;

  NYBBLE_INLINE GroupedScratch(const ConvShape& s, std::int32_t pixels) {
    is_depthwise = s.group_inputs() == 1 && s.group_outputs() == 1;
    is_odd = s.kernel_h % 2 != 0;
    rows = is_depthwise ? (s.kernel_h + 1) / 2 : s.kernel_h;
    pairs = (s.group_inputs() + 1) / 2;
    columns = std::int64_t{pixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
    pixel_bytes = std::int64_t{pairs} * kGroupedBytes;
    row_bytes = columns * pixel_bytes;
    staged = kMostGroupedPixels * kChannelAlign * 4;
    bytes = staged + rows * row_bytes;
  }
  // Whether a staged row has pairs of neighbouring taps.
  NYBBLE_INLINE bool is_beside(std::int32_t row) const { return is_depthwise && is_odd && row == rows - 1; }
};

ConvWeights pack_grouped(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t grouped_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
