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

std::int32_t sign_offset(const ConvLayer& layer, bool is_signed) {
  if (is_signed) return layer.high > INT8_MAX ? INT8_MIN : 0;
  return -layer.low;
}

}  // namespace nybble
