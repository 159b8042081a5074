// Products of two activations.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "kernels/conv/epilogue.h"

namespace nybble {

// Output pixels [first_pixel, first_pixel + pixels) of one image, of the whole batch's arrays. With a gate, `y` is
// the one pixel that all of these are multiplied by.
struct MulTask {
  const Epilogue* epilogue;
  Layout output;
  Element x_type, y_type;
  std::int32_t x_stride, y_stride;
  const void* x;
  const void* y;
  void* out;
  std::int64_t first_pixel;
  std::int32_t pixels;
  bool is_gate;
  std::int32_t* sums;  // output.stride of them
};

// Any processor, any strides: the definition for the kernels.
void mul_exact(const MulTask& task);

using MulKernel = void (*)(const MulTask& task);

struct MulKernels {
  // Both inputs have the output's stride. Epilogue::words is null unless 16 bits hold every product.
  MulKernel run;
};

const MulKernels& mul_kernels(Isa isa);

}  // namespace nybble
