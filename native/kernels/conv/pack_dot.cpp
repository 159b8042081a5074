// Packing for the kernels with 32-bit sums of two or four neighbouring inputs.
#include <algorithm>
#include <cstdlib>

#include "kernels/conv/dot.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {

namespace {

struct DotArrays {
  std::int32_t run_groups = 0, runs_per_row = 0, groups_together = 0, offset = 0;
  std::vector<std::int32_t> correction;

  DotPacked view() const { return {run_groups, runs_per_row, groups_together, offset, correction.data()}; }
};

// Whether two products fit 16 bits: neighbours are multiplied so where there are no dot products.
bool two_products_fit(const ConvLayer& layer, std::int32_t offset) {
  const std::int32_t most = std::max(std::abs(layer.low + offset), std::abs(layer.high + offset));
  return 2 * most * layer.most_weight <= INT16_MAX;
}

// Inputs are multiplied in groups of so many.
ConvWeights pack_dot(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights,
                     std::int32_t group, std::int32_t offset, bool is_together) {
  const ConvShape& s = layer.shape;
  const std::int32_t together = row.dot_vectors * row.lanes32;
  DotArrays arrays;
  ConvWeights packed;
  // A staged pixel has the input's stride; columns are contiguous unless dilation leaves gaps.
  arrays.runs_per_row = s.dilation_w == 1 ? 1 : s.kernel_w;
  const std::int32_t columns = s.dilation_w == 1 ? s.kernel_w : 1;
  // Padding for alignment behind the last column is left out.
  const std::int32_t run = (columns - 1) * s.input.stride + s.input.channels;
  arrays.run_groups = (run + group - 1) / group;
  arrays.groups_together = is_together ? arrays.run_groups : 0;
  const std::size_t per_output = static_cast<std::size_t>(s.kernel_h) *
                                 static_cast<std::size_t>(arrays.runs_per_row * arrays.run_groups) *
                                 static_cast<std::size_t>(group);
  packed.blocks = split_outputs(s.output.stride, cut.block_outputs, per_output);
  packed.bytes = AlignedBytes(per_output * static_cast<std::size_t>(s.output.stride));
  arrays.offset = offset;
  std::vector<std::int64_t> totals(static_cast<std::size_t>(s.output.stride), 0);
  const WeightReader reader(s, weights);
  // Blocks are multiples of `together`, and follow each other.
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t first = 0; first < s.output.stride; first += together)
    for (std::int32_t r = 0; r < s.kernel_h; ++r)
      for (std::int32_t n = 0; n < arrays.runs_per_row; ++n)
        for (std::int32_t g = 0; g < arrays.run_groups; ++g)
          for (std::int32_t k = first; k < first + together; ++k)
            for (std::int32_t i = 0; i < group; ++i) {
              const std::int32_t element = group * g + i;
              const std::int32_t column = n * columns + element / s.input.stride;
              const std::int8_t w = element < run ? reader.at(k, element % s.input.stride, r, column) : std::int8_t{0};
              *out++ = static_cast<std::uint8_t>(w);
              totals[static_cast<std::size_t>(k)] += w;
            }
  // Sums are taken modulo 2^32, and so is this; the result is in range.
  for (std::int64_t total : totals)
    arrays.correction.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(-total * offset)));
  if (row.finishes_words) {
    bound_sums(layer, weights, &packed);
    packed.words = WordSums::saturated;
  }
  packed.own = keep_own(std::move(arrays));
  return packed;
}

// That makes inputs bytes of the sign that the row multiplies. Added modulo 2^8.
std::int32_t quad_offset(const ConvRow& row, const ConvLayer& layer) {
  if (row.has_signed_quads) return layer.high > INT8_MAX ? INT8_MIN : 0;
  return layer.is_signed() ? -INT8_MIN : 0;
}

}  // namespace

ConvWeights pack_wide(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  return pack_dot(row, layer, cut, weights, 2, 0, false);
}

ConvWeights pack_quad(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const std::int32_t offset = quad_offset(row, layer);
  return pack_dot(row, layer, cut, weights, row.dot_group, offset, two_products_fit(layer, offset));
}

std::int64_t dot_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels) {
  return kMostDotPixels * outputs * 4 + staged_row_elements(shape, pixels) * shape.kernel_h * 2;
}

}  // namespace nybble
