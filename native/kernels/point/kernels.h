// Element by element: one value or the sum of two, then an epilogue.
#pragma once

#include <cstdint>

#include "base/cpu.h"
#include "kernels/conv/epilogue.h"

namespace nybble {

// Output pixels [first_pixel, first_pixel + pixels) of the whole batch's arrays.
struct PointTask {
  const Epilogue* epilogue;  // with `other` as its shortcut
  Layout output;
  Element input_type;
  std::int32_t input_stride;
  // What input values are multiplied by, rounded off by the shift; null: they are taken as they are.
  const std::uint32_t* input_factor;
  std::int32_t input_shift;
  LaneFactor input_lanes;  // the same factor and shift
  const void* input;
  const void* other;
  void* out;
  std::int64_t first_pixel;
  std::int32_t pixels;
  std::int32_t* sums;  // output.stride of them
};

// Any processor, any strides, any factors: the definition for the kernels.
void point_exact(const PointTask& task);

using PointKernel = void (*)(const PointTask& task);

struct PointKernels {
  // The input has the output's stride. Its products, rounding included, stay below 2^31.
  PointKernel run;
};

const PointKernels& point_kernels(Isa isa);

}  // namespace nybble
