// The fast epilogue: sums of a pixel are finished in 32-bit and float32 lanes, with a guard (guarded.inc.h) where these
// alone are not exact. Included by one file per instruction set, after the vector type.
#pragma once

#include "kernels/conv/guarded.inc.h"
#include "kernels/conv/lanes.inc.h"

namespace nybble {
namespace {

// Finishes `count` sums of one pixel, a multiple of kChannelAlign, output channels from `first`. sums(i) are the
// kLanes32 sums from channel first + i.
template <class V, class Sums>
NYBBLE_INLINE void finish_sums(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                               std::int32_t count, const void* shortcut, void* out, const Sums& sums) {
  const Finish f{e, output, pixel, pixel * output.stride + first, first, shortcut, out};
  constexpr std::int32_t kLanes = V::kLanes32;
  const bool is_signed = e.is_signed();
  if (e.guarded) {
    if (!e.shortcut)
      finish_guarded<V, Shortcut::none>(f, count, sums, is_signed);
    else
      finish_guarded<V, Shortcut::any>(f, count, sums, is_signed);
    return;
  }
  if (e.negative_scale != nullptr) {
    finish_by_sign<V>(f, count, sums);
    return;
  }
  if (!e.narrow) {
    alignas(64) std::int32_t stored[256];
    for (std::int32_t i = 0; i < count; i += kLanes) V::store32(stored + i, sums(i));
    if (e.scale_double == nullptr)
      finish_exact(e, output, stored, pixel, first, count, shortcut, out);
    else
      for (std::int32_t i = 0; i < count; i += kChannelAlign) finish_doubles<V>(f, stored + i, i);
    return;
  }
  if (!e.requantize) {
    std::int32_t* target = static_cast<std::int32_t*>(out) + f.base;
    for (std::int32_t i = 0; i < count; i += kLanes) V::store32(target + i, finish_any<V>(f, sums(i), i));
    return;
  }
  std::uint8_t* target = static_cast<std::uint8_t*>(out) + f.base;
  using I32 = typename V::I32;
  if (!is_signed && !e.is_unsigned()) {
    for (std::int32_t i = 0; i < count; i += 2 * kLanes)
      V::store_bytes(target + i, finish_any<V>(f, sums(i), i), finish_any<V>(f, sums(i + kLanes), i + kLanes));
    return;
  }
  const auto finish = [&](const auto& lanes) {
    for (std::int32_t i = 0; i < count; i += kChannelAlign) {
      I32 results[kChannelAlign / kLanes];
      NYBBLE_UNROLL
      for (std::int32_t j = 0; j < kChannelAlign / kLanes; ++j)
        results[j] = lanes(sums(i + j * kLanes), i + j * kLanes);
      if (is_signed)
        V::store_clamped_bytes(target + i, results, e.low, e.high);
      else
        V::store_positive_bytes(target + i, results);
    }
  };
  if (is_signed) {
    if (!e.shortcut)
      finish([&](I32 v, std::int32_t i) { return finish_signed<V, Shortcut::none>(f, v, i); });
    else
      finish([&](I32 v, std::int32_t i) { return finish_signed<V, Shortcut::any>(f, v, i); });
    return;
  }
  if (!e.shortcut)
    finish([&](I32 v, std::int32_t i) { return finish_unsigned<V, Shortcut::none>(f, v, i); });
  else if (e.has_plain_shortcut())
    finish([&](I32 v, std::int32_t i) { return finish_unsigned<V, Shortcut::u8_scaled>(f, v, i); });
  else
    finish([&](I32 v, std::int32_t i) { return finish_unsigned<V, Shortcut::any>(f, v, i); });
}

// As finish_sums, for sums in memory.
template <class V>
void finish_pixel(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first, std::int32_t count,
                  const void* shortcut, void* out, const std::int32_t* sums) {
  finish_sums<V>(e, output, pixel, first, count, shortcut, out, [&](std::int32_t i) { return V::load32(sums + i); });
}

}  // namespace
}  // namespace nybble
