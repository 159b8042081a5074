// Pools.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "base/tensor.h"

namespace nybble {

// A window of a pool over channels-last values.
struct PoolShape {
  Layout input;
  Layout output;
  std::int32_t kernel_h = 1, kernel_w = 1;
  std::int32_t stride_h = 1, stride_w = 1;
  std::int32_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int32_t dilation_h = 1, dilation_w = 1;
  bool count_padding = true;
};

// One output row.
using PoolKernel = void (*)(const PoolShape& shape, const void* image, std::int32_t row, void* output_image);

struct PoolKernels {
  PoolKernel max, average;
};

const PoolKernels& pool_kernels(Isa isa);

}  // namespace nybble
