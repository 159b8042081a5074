// Packing for the fast inner product.
#include <algorithm>

#include "kernels/conv/inner.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {

namespace {

struct InnerArrays {
  std::int32_t run_chunks = 0, runs_per_row = 0;
  ByteOffsets offsets;
  std::vector<std::int32_t> correction;

  InnerPacked view() const { return {run_chunks, runs_per_row, offsets, correction.data()}; }
};

ByteOffsets byte_offsets(const ConvLayer& layer) {
  return {-layer.clip_low - layer.weight_low, std::max(0, layer.clip_high + layer.weight_high - INT8_MAX)};
}

// Bytes of `together` outputs for one run: four pairs of channels of every output at a time, those of x before those of
// y. Adds the third sum of each output to `totals`.
std::uint8_t* pack_run(const WeightReader& reader, const ConvShape& s, ByteOffsets offsets, std::int32_t first,
                       std::int32_t together, std::int32_t r, std::int32_t column, std::int32_t chunks,
                       std::int64_t* totals, std::uint8_t* out) {
  constexpr std::int32_t kHalf = kInnerChannels / 2;
  for (std::int32_t element = 0; element < chunks * kInnerChannels; element += kInnerChannels)
    for (std::int32_t four = element; four < element + kHalf; four += 4) {
      const std::int32_t at = column + four / s.input.stride;
      for (std::int32_t k = 0; k < together; ++k)
        for (std::int32_t i = 0; i < 4; ++i) {
          const std::int32_t channel = four % s.input.stride + i;
          const std::int32_t x = reader.at(first + k, channel + kHalf, r, at) + offsets.first;
          const std::int32_t y = reader.at(first + k, channel, r, at) - offsets.second;
          out[4 * k + i] = static_cast<std::uint8_t>(x);
          out[4 * (together + k) + i] = static_cast<std::uint8_t>(y);
          totals[first + k] += x * y + offsets.first * offsets.second;
        }
      out += 8 * together;
    }
  return out;
}

}  // namespace

ConvWeights pack_inner(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  InnerArrays arrays;
  ConvWeights packed;
  // A staged pixel has the input's stride; columns are contiguous unless dilation leaves gaps.
  arrays.runs_per_row = s.dilation_w == 1 ? 1 : s.kernel_w;
  const std::int32_t columns = s.dilation_w == 1 ? s.kernel_w : 1;
  arrays.run_chunks = columns * (s.input.stride / kInnerChannels);
  arrays.offsets = byte_offsets(layer);
  const auto outputs = static_cast<std::size_t>(s.output.stride);
  const std::size_t per_output = static_cast<std::size_t>(s.kernel_h) *
                                 static_cast<std::size_t>(arrays.runs_per_row * arrays.run_chunks) *
                                 static_cast<std::size_t>(kInnerChannels);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * outputs);
  std::vector<std::int64_t> totals(outputs, 0);
  const WeightReader reader(s, weights);
  const std::int32_t together = 2 * row.lanes32;
  // Blocks are multiples of `together`, and follow each other.
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t first = 0; first < s.output.stride; first += together)
    for (std::int32_t r = 0; r < s.kernel_h; ++r)
      for (std::int32_t n = 0; n < arrays.runs_per_row; ++n)
        out =
            pack_run(reader, s, arrays.offsets, first, together, r, n * columns, arrays.run_chunks, totals.data(), out);
  // Sums are taken modulo 2^32, and so is this; the result is in range.
  for (std::int64_t total : totals)
    arrays.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total)));
  if (together == kChannelAlign) {
    bound_sums(layer, weights, &packed);
    packed.words = WordSums::saturated;
  }
  packed.own = keep_own(std::move(arrays));
  return packed;
}

std::int64_t inner_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels) {
  return InnerScratch(shape, outputs, pixels).bytes;
}

}  // namespace nybble
