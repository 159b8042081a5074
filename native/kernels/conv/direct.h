// The plain convolution: every type, shape and group count.
#pragma once

#include "kernels/conv/rows.h"

namespace nybble {

ConvWeights pack_direct(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t direct_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
