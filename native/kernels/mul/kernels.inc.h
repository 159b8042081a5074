// Products of two activations in 32-bit lanes, or in 16-bit lanes where the epilogue is exact in these. Included by one
// file per instruction set, after the vector type. A product is 65,025 at most, far below 2^31.
#pragma once

#include <type_traits>

#include "kernels/conv/epilogue.inc.h"
#include "kernels/conv/words.inc.h"
#include "kernels/mul/kernels.h"

namespace nybble {
namespace {

// Sums that finish_sums takes at most.
constexpr std::int32_t kMulOutputs = 256;

template <class V, class T>
NYBBLE_INLINE typename V::I32 widen_value(const T* p) {
  if constexpr (std::is_signed_v<T>)
    return V::widen_s8(p);
  else
    return V::widen_u8(p);
}

template <class V, class T>
NYBBLE_INLINE typename V::I16 widen_value16(const T* p) {
  if constexpr (std::is_signed_v<T>)
    return V::widen16_s8(p);
  else
    return V::widen16_u8(p);
}

template <class V, class X, class Y>
void mul_pixels(const MulTask& task) {
  const Epilogue& e = *task.epilogue;
  const Layout& output = task.output;
  for (std::int64_t pixel = task.first_pixel; pixel < task.first_pixel + task.pixels; ++pixel) {
    const X* x = static_cast<const X*>(task.x) + pixel * output.stride;
    const Y* y = static_cast<const Y*>(task.y) + (task.is_gate ? 0 : pixel * output.stride);
    if (e.words != nullptr) {
      constexpr int kVectors = kChannelAlign / V::kLanes16;
      for (std::int32_t k = 0; k < output.stride; k += kChannelAlign) {
        typename V::I16 products[kVectors];
        for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA {
          const std::int32_t i = k + j * V::kLanes16;
          products[j] = V::mul16(widen_value16<V>(x + i), widen_value16<V>(y + i));
        });
        finish_pixel16<V, 1>(e, output, pixel, k, nullptr, task.out, products);
      }
      continue;
    }
    for (std::int32_t k = 0; k < output.stride; k += kMulOutputs) {
      const std::int32_t count = output.stride - k < kMulOutputs ? output.stride - k : kMulOutputs;
      finish_sums<V>(e, output, pixel, k, count, nullptr, task.out, [&](std::int32_t i) NYBBLE_LAMBDA {
        return V::mul32(widen_value<V>(x + k + i), widen_value<V>(y + k + i));
      });
    }
  }
}

// Both inputs have the output's stride. Epilogue::words is null unless 16 bits hold every product.
void mul_vectors(const MulTask& task) {
  using V = Vector;
  const bool is_x_signed = task.x_type == Element::s8, is_y_signed = task.y_type == Element::s8;
  if (is_x_signed && is_y_signed)
    mul_pixels<V, std::int8_t, std::int8_t>(task);
  else if (is_x_signed)
    mul_pixels<V, std::int8_t, std::uint8_t>(task);
  else if (is_y_signed)
    mul_pixels<V, std::uint8_t, std::int8_t>(task);
  else
    mul_pixels<V, std::uint8_t, std::uint8_t>(task);
}

constexpr MulKernels kMulKernels = {mul_vectors};

}  // namespace
}  // namespace nybble
