// One value or the sum of two in 32-bit lanes. Included by one file per instruction set, after the vector type.
#pragma once

#include <type_traits>

#include "kernels/conv/epilogue.inc.h"
#include "kernels/point/kernels.h"

namespace nybble {
namespace {

// Sums that finish_sums takes at most.
constexpr std::int32_t kPointOutputs = 256;

template <class V, class T>
NYBBLE_INLINE typename V::I32 point_value(const T* p) {
  if constexpr (std::is_same_v<T, std::int32_t>)
    return V::load32(p);
  else if constexpr (std::is_signed_v<T>)
    return V::widen_s8(p);
  else
    return V::widen_u8(p);
}

template <class V, class T>
void point_pixels(const PointTask& task) {
  const Epilogue& e = *task.epilogue;
  const Layout& output = task.output;
  for (std::int64_t pixel = task.first_pixel; pixel < task.first_pixel + task.pixels; ++pixel) {
    const T* in = static_cast<const T*>(task.input) + pixel * output.stride;
    for (std::int32_t k = 0; k < output.stride; k += kPointOutputs) {
      const std::int32_t count = output.stride - k < kPointOutputs ? output.stride - k : kPointOutputs;
      if (task.input_factor == nullptr)
        finish_sums<V>(e, output, pixel, k, count, task.other, task.out,
                       [&](std::int32_t i) NYBBLE_LAMBDA { return point_value<V>(in + k + i); });
      else
        finish_sums<V>(e, output, pixel, k, count, task.other, task.out, [&](std::int32_t i) NYBBLE_LAMBDA {
          return rescaled<V>(point_value<V>(in + k + i), task.input_lanes, k + i);
        });
    }
  }
}

void point_vectors(const PointTask& task) {
  using V = Vector;
  if (task.input_type == Element::u8)
    point_pixels<V, std::uint8_t>(task);
  else if (task.input_type == Element::s8)
    point_pixels<V, std::int8_t>(task);
  else
    point_pixels<V, std::int32_t>(task);
}

constexpr PointKernels kPointKernels = {point_vectors};

}  // namespace
}  // namespace nybble
