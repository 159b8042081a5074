// The kernel of the fast inner product (Winograd 1968, "A new algorithm for inner product"): one product of two sums in
// place of two products.
//
// Channels are paired: a0, a1 of the input, w0, w1 of the weights. With x = a0 + w1 + p and y = a1 + w0 - q
//
//   sum of x y = sum of (a0 w0 + a1 w1)  +  sum of (a0 + p)(a1 - q)  +  sum of ((w1 + p)(w0 - q) + p q)
//
// over all pairs of all pixels of the window. The second sum is the same for all outputs: it is computed once for a
// pixel, at about the cost of one more output. The third is a constant of an output. A pixel outside the image has
// a0 = a1 = 0, and so has a channel that is there for alignment alone: both go through the same products.
//
// Dot products multiply unsigned bytes by signed ones. Sums of an input and a weight lie in low..high, where low is the
// least input and the least weight, each 0 at most, and high the largest ones, each 0 at least; then
//
//   p = -low                  x is in 0..high - low
//   q = max(0, high - 127)    y is in low - q..high - q
//
// x fits where high - low <= 255. Then y does as well if low >= -128: either q is 0 and high <= 127, or high - q is 127
// and low - q = low - high + 127 >= -128. why_not() asks for these two conditions. The sums of the pixel alone, a0 + p
// and a1 - q, are among those of x and y, as the weight of a channel that is there for alignment is 0.
//
// With s4 weights, -8..7, (p, q) is (8, 0) for u4, (16, 0) for s4, (8, 7) for u7. Inputs of 8 bits fit where clips
// leave 241 codes: u8 up to 240 with (8, 120), s8 in -120..120 with (128, 0). All of s8 or u8 fits with no weight but
// 0.
#pragma once

#include <cstdint>

#include "kernels/conv/rows.h"
#include "kernels/conv/stage.h"

namespace nybble {

// The first half of so many channels are paired with the second half.
inline constexpr std::int32_t kInnerChannels = kChannelAlign;
inline constexpr std::int32_t kMostInnerPixels = 8;  // output pixels computed together, whatever the vectors

// p and q.
struct ByteOffsets {
  std::int32_t first = 0, second = 0;
};

// What the kernel reads besides the weights: these are [block][two vectors of outputs][run][four pairs of channels]
// [bytes of x, bytes of y][vector][output][pair], already with p and -q.
struct InnerPacked {
  std::int32_t run_chunks = 0;    // of kInnerChannels bytes, in one contiguous run of the window
  std::int32_t runs_per_row = 0;  // runs in one kernel row
  ByteOffsets offsets;
  const std::int32_t* correction = nullptr;  // less the third sum, of each output
};

// Where the parts of the scratch memory start, in bytes; sums of blocks come first.
struct InnerScratch {
  std::int64_t columns;  // staged pixels of a kernel row
  std::int64_t row;      // their bytes
  std::int64_t pixel_sums, staged, bytes;

  NYBBLE_INLINE InnerScratch(const ConvShape& s, std::int64_t outputs, std::int32_t pixels) {
    row = staged_row_elements(s, pixels);
    columns = (row - kStagedSlack) / s.input.stride;
    pixel_sums = kMostInnerPixels * outputs * 4;
    staged = pixel_sums + columns * s.kernel_h * 4;
    bytes = staged + row * s.kernel_h;
  }
};

ConvWeights pack_inner(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t inner_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
