// Packing for the direct kernel.
#include "kernels/conv/direct.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/weights.h"

namespace nybble {

ConvWeights pack_direct(const ConvRow&, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights) {
  const ConvShape& s = layer.shape;
  ConvWeights packed;
  const std::int32_t taps = s.kernel_h * s.kernel_w;
  packed.bytes = AlignedBytes(static_cast<std::size_t>(taps) * static_cast<std::size_t>(s.group_inputs()) *
                              static_cast<std::size_t>(s.output.stride));
  // With groups one block does it all: a group's outputs may straddle any other cut.
  packed.blocks = split_outputs(s.output.stride, s.groups == 1 ? cut.block_outputs : s.output.stride, 0);
  const WeightReader reader(s, weights);
  std::uint8_t* out = packed.bytes.data();
  for (std::int32_t r = 0; r < s.kernel_h; ++r)
    for (std::int32_t c = 0; c < s.kernel_w; ++c)
      for (std::int32_t i = 0; i < s.group_inputs(); ++i)
        for (std::int32_t k = 0; k < s.output.stride; ++k) *out++ = static_cast<std::uint8_t>(reader.at(k, i, r, c));
  return packed;
}

std::int64_t direct_scratch(const ConvShape& shape, std::int64_t, std::int32_t) {
  return std::int64_t{shape.output.stride} * 4;
}

}  // namespace nybble
