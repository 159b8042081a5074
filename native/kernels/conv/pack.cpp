#include "kernels/conv/pack.h"

#include <algorithm>

namespace nybble {

std::vector<OutputBlock> split_outputs(std::int32_t outputs, std::int32_t most, std::size_t bytes_per_output) {
  const std::int32_t units = outputs / kChannelAlign;
  const std::int32_t count = (units + most / kChannelAlign - 1) / (most / kChannelAlign);
  std::vector<OutputBlock> blocks;
  std::size_t offset = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t first = units * i / count * kChannelAlign;
    const std::int32_t size = units * (i + 1) / count * kChannelAlign - first;
    blocks.push_back({first, size, offset});
    offset += static_cast<std::size_t>(size) * bytes_per_output;
  }
  return blocks;
}

PackedConv ConvWeights::view(const std::uint8_t* kept) const {
  PackedConv packed;
  packed.weights = kept;
  packed.blocks = blocks.data();
  packed.block_count = static_cast<std::int32_t>(blocks.size());
  for (const OutputBlock& block : blocks) packed.most_outputs = std::max(packed.most_outputs, block.outputs);
  packed.own = own.get();
  return packed;
}

bool ConvWeights::fits16() const {
  return std::all_of(highest.begin(), highest.end(), [](std::int64_t sum) { return sum <= INT16_MAX; }) &&
         std::all_of(lowest.begin(), lowest.end(), [](std::int64_t sum) { return sum >= INT16_MIN; });
}

void bound_sums(const ConvLayer& layer, const std::int8_t* weights, ConvWeights* packed) {
  const ConvShape& s = layer.shape;
  const std::int64_t per_output = std::int64_t{s.kernel_h} * s.kernel_w * s.group_inputs();
  packed->lowest.assign(static_cast<std::size_t>(s.output.stride), 0);
  packed->highest = packed->lowest;
  for (std::size_t k = 0; k < static_cast<std::size_t>(s.output.channels); ++k, weights += per_output) {
    // A window has 2^24 values at most, so that 32 bits hold their sum.
    std::int32_t above = 0, below = 0;
    for (std::int64_t i = 0; i < per_output; ++i) {
      above += weights[i] > 0 ? weights[i] : 0;
      below += weights[i] < 0 ? weights[i] : 0;
    }
    packed->lowest[k] = std::int64_t{above} * layer.low + std::int64_t{below} * layer.high;
    packed->highest[k] = std::int64_t{above} * layer.high + std::int64_t{below} * layer.low;
  }
}

std::int32_t sign_offset(const ConvLayer& layer, bool is_signed) {
  if (is_signed) return layer.high > INT8_MAX ? INT8_MIN : 0;
  return -layer.low;
}

}  // namespace nybble
