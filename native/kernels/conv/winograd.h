// The Winograd kernel: squares of 2x2 outputs, 16-bit sums.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv/rows.h"

namespace nybble {

// Tasks are cut between so many squares: kernels take several at a time.
inline constexpr std::int32_t kWinogradGrain = 4;

// Input channels that segments are made of, so many at a time.
inline constexpr std::int32_t kWinogradStep = 4;

// Squares of outputs in an image; the last row and column may reach past it. Those of a batch are numbered row by row,
// image by image.
struct Squares {
  std::int32_t rows, columns;

  NYBBLE_INLINE explicit Squares(const Layout& output)
      : rows((output.height + 1) / 2), columns((output.width + 1) / 2) {}
  NYBBLE_INLINE std::int64_t count() const { return std::int64_t{rows} * columns; }
};

struct Square {
  std::int64_t image;
  std::int32_t y, x;  // first output

  NYBBLE_INLINE Square(const Squares& squares, std::int64_t index) {
    const std::int64_t row = index / squares.columns;
    image = row / squares.rows;
    y = static_cast<std::int32_t>(row % squares.rows) * 2;
    x = static_cast<std::int32_t>(index % squares.columns) * 2;
  }
};

// Input channels whose part of every output of a block fits 14 bits, so that four times it fits 16.
struct WinogradSegment {
  std::size_t offset;                // of its weights in bytes: [position][group][output][channel of the group]
  std::size_t constants;             // where [output pixel of the square][output] start
  std::int32_t first_group, groups;  // of two channels or one: ConvRow::channel_group
};

// Segments of an output block.
struct WinogradBlock {
  std::int32_t first_segment, segments;
};

// What the kernel reads besides the weights.
struct WinogradPacked {
  const WinogradBlock* blocks = nullptr;  // of each block of outputs
  const WinogradSegment* segments = nullptr;
  const std::int16_t* constants = nullptr;  // to add to four times the outputs of a segment
};

// Where the parts of Winograd's scratch memory start: zeros in place of a pixel outside the image come first.
// Positions lie a cache line further apart than they need: 4 KiB apart, their lines would evict each other from L1.
struct WinogradScratch {
  std::int64_t inputs, products, sums, bytes;
  std::int64_t inputs_apart, products_apart;  // from one position to the next, in bytes and in elements

  // A pair of channels lies there twice, single ones once.
  NYBBLE_INLINE WinogradScratch(const ConvShape& s, std::int64_t group, std::int64_t most_outputs,
                                std::int64_t squares) {
    inputs_apart = squares * s.input.stride * group + 64;
    products_apart = squares * most_outputs + 32;
    inputs = (std::int64_t{s.input.stride} + 63) / 64 * 64;
    products = inputs + 16 * inputs_apart;
    sums = products + 16 * products_apart * 2;
    bytes = sums + squares * 4 * most_outputs * 4;
  }
};

ConvWeights pack_winograd(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t winograd_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);
std::int64_t winograd_single_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);
// Squares of a task: what stays in L2.
std::int32_t winograd_tile(const ConvShape& shape, std::int32_t wanted);

}  // namespace nybble
