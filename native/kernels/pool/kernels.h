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

// One output row. `scratch` has room for pool_scratch_bytes().
using PoolKernel = void (*)(const PoolShape& shape, const void* image, std::int32_t row, void* output_image,
                            void* scratch);

// A row of the input in 16 bits, and a vector more.
inline std::int64_t pool_scratch_bytes(const PoolShape& shape) {
  return 2 * (std::int64_t{shape.input.width} * shape.input.stride + 64);
}

// Indices of a window that lie in the input, or in the input grown by padding.
struct PoolSpan {
  std::int32_t low, high;
  std::int32_t length() const { return high > low ? high - low : 0; }
};

inline PoolSpan pool_span(std::int32_t start, std::int32_t kernel, std::int32_t low, std::int32_t high) {
  const std::int32_t end = start + kernel;
  return {start < low ? low : start, end > high ? high : end};
}

// Any processor, any strides: the definitions for the kernels.
void max_pool_exact(const PoolShape& shape, const void* image, std::int32_t row, void* output_image, void* scratch);
void average_pool_exact(const PoolShape& shape, const void* image, std::int32_t row, void* output_image, void* scratch);

struct PoolKernels {
  PoolKernel max, average;
};

const PoolKernels& pool_kernels(Isa isa);

}  // namespace nybble
