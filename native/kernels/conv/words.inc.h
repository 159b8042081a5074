// The epilogue in 16-bit lanes, for sums that fit them: EpilogueData::fits_words proves them exact. A requantize is
// floor(v * factor16 / 2^16), halved and rounded up. Included by one file per instruction set, after the vector type.
#pragma once

#include "kernels/conv/epilogue.inc.h"

namespace nybble {
namespace {

enum class Words { none, shortcut, shifted_shortcut, signed_shortcut, signed_result };

// A sum and its signed shortcut: exact in 32-bit lanes, then saturated.
template <class V>
NYBBLE_INLINE typename V::I16 add_signed_shortcut(const Epilogue& e, typename V::I16 value, typename V::I16 other,
                                                  typename V::I16 factor) {
  if (e.shortcut_shift == 0) {
    const auto one = V::set16(1);
    return V::pack32_saturated(V::multiply_wide_pairs(V::pair_low(other, value), V::pair_low(factor, one)),
                               V::multiply_wide_pairs(V::pair_high(other, value), V::pair_high(factor, one)));
  }
  // Ties go away from zero: where the shortcut is negative, half less one is added before the shift.
  const auto half = V::set32(1 << (e.shortcut_shift - 1));
  const auto add = [&](typename V::I16 others, typename V::I16 factors, typename V::I16 values) {
    const auto product = V::multiply_wide_pairs(others, factors);
    const auto rounded =
        V::shift_right32(V::add32(V::add32(product, half), V::shift_right32(product, 31)), e.shortcut_shift);
    return V::add32(rounded, V::shift_right32(V::as32(values), 16));
  };
  const auto zero = V::set16(0);
  return V::pack32_saturated(add(V::pair_low(other, zero), V::pair_low(factor, zero), V::pair_low(value, value)),
                             add(V::pair_high(other, zero), V::pair_high(factor, zero), V::pair_high(value, value)));
}

// One group of kChannelAlign channels from `i`.
template <class V, Words kWords>
NYBBLE_INLINE void finish_words(const Finish& f, const typename V::I16* sums, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  constexpr int kVectors = kChannelAlign / V::kLanes16;
  typename V::I16 results[kVectors];
  for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA {
    const std::int32_t k = i + j * V::kLanes16;
    const auto factor = V::load16(reinterpret_cast<const std::int16_t*>(e.factor16 + f.first + k));
    auto value = V::add_saturated16(sums[j], V::load16(e.bias16 + f.first + k));
    if constexpr (kWords == Words::shortcut || kWords == Words::shifted_shortcut) {
      const auto other = V::widen16_u8(static_cast<const std::uint8_t*>(f.shortcut) + f.base + k);
      auto product =
          V::mul16(other, V::load16(reinterpret_cast<const std::int16_t*>(e.shortcut_factor16 + f.first + k)));
      if constexpr (kWords == Words::shifted_shortcut) product = V::shift_right_u16(product, e.shortcut_shift16);
      value = V::add_saturated16(value, V::halve_u16(product));
    } else if constexpr (kWords == Words::signed_shortcut) {
      const auto other = V::widen16_s8(static_cast<const std::int8_t*>(f.shortcut) + f.base + k);
      const auto scale = V::load16(reinterpret_cast<const std::int16_t*>(e.shortcut_factor16 + f.first + k));
      value = add_signed_shortcut<V>(e, value, other, scale);
    }
    if constexpr (kWords == Words::signed_result) {
      const auto magnitude = V::halve_u16(V::mul_high_u16(V::abs16(value), factor));
      const auto result = V::copy_sign16(magnitude, value);
      results[j] = V::max16(V::min16(result, V::set16(static_cast<std::int16_t>(e.high))),
                            V::set16(static_cast<std::int16_t>(e.low)));
    } else {
      results[j] = V::halve_u16(V::mul_high_u16(V::max16(value, V::set16(0)), factor));
    }
  });
  std::uint8_t* target = static_cast<std::uint8_t*>(f.out) + f.base + i;
  if constexpr (kWords == Words::signed_result)
    V::store_signed_bytes(target, results);
  else
    V::store_unsigned_bytes(target, results, e.high);
}

// Groups that 16-bit lanes do not finish exactly.
template <class V>
__attribute__((noinline)) void finish_widened(const Finish& f, const typename V::I16* sums, std::int32_t i) {
  alignas(64) std::int32_t wide[kChannelAlign];
  for (int j = 0; j < kChannelAlign / V::kLanes16; ++j) {
    V::store32(wide + j * V::kLanes16, V::widen_low(sums[j]));
    V::store32(wide + j * V::kLanes16 + V::kLanes32, V::widen_high(sums[j]));
  }
  finish_pixel<V>(f.epilogue, f.output, f.pixel, f.first + i, kChannelAlign, f.shortcut, f.out, wide);
}

template <class V, Words kWords, int kGroups>
NYBBLE_INLINE void finish_groups(const Finish& f, const typename V::I16* sums) {
  constexpr int kVectors = kChannelAlign / V::kLanes16;
  const std::uint8_t* fits = f.epilogue.words + f.first / kChannelAlign;
  for_each_index<kGroups>([&](auto g) NYBBLE_LAMBDA {
    // A copy: if the sums' own address left this function, they would lie in memory all the time.
    typename V::I16 group[kVectors];
    for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA { group[j] = sums[g * kVectors + j]; });
    if (fits[g]) {
      finish_words<V, kWords>(f, group, g * kChannelAlign);
    } else {
      typename V::I16 wide[kVectors];
      for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA { wide[j] = group[j]; });
      finish_widened<V>(f, wide, g * kChannelAlign);
    }
  });
}

// As finish_pixel, for sums of 16 bits in kGroups * kChannelAlign / V::kLanes16 vectors. Right only where
// Epilogue::words is not null.
template <class V, int kGroups>
NYBBLE_INLINE void finish_pixel16(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                                  const void* shortcut, void* out, const typename V::I16* sums) {
  const Finish f{e, output, pixel, pixel * output.stride + first, first, shortcut, out};
  if (e.low < 0 && !e.relu)
    finish_groups<V, Words::signed_result, kGroups>(f, sums);
  else if (!e.shortcut)
    finish_groups<V, Words::none, kGroups>(f, sums);
  else if (e.shortcut_type == Element::s8)
    finish_groups<V, Words::signed_shortcut, kGroups>(f, sums);
  else if (e.shortcut_shift16 == 0)
    finish_groups<V, Words::shortcut, kGroups>(f, sums);
  else
    finish_groups<V, Words::shifted_shortcut, kGroups>(f, sums);
}

}  // namespace
}  // namespace nybble
