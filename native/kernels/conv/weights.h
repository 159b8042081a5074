// Reading weights in their graph's order, for packing.
#pragma once

#include "kernels/conv/conv.h"

namespace nybble {

class WeightReader {
 public:
  WeightReader(const ConvShape& shape, const std::int8_t* weights) : shape_(shape), weights_(weights) {}

  // Weights of one output at one kernel position: input i of the group at [i * stride()].
  const std::int8_t* column(std::int32_t output, std::int32_t r, std::int32_t c) const {
    const std::int64_t index =
        (std::int64_t{output} * shape_.group_inputs() * shape_.kernel_h + r) * shape_.kernel_w + c;
    return weights_ + index;
  }
  std::int64_t stride() const { return std::int64_t{shape_.kernel_h} * shape_.kernel_w; }

  // Zero past the real channels.
  std::int8_t at(std::int32_t output, std::int32_t input, std::int32_t r, std::int32_t c) const {
    if (output >= shape_.output.channels || input >= shape_.group_inputs()) return 0;
    return column(output, r, c)[input * stride()];
  }

 private:
  const ConvShape& shape_;
  const std::int8_t* weights_;
};

}  // namespace nybble
