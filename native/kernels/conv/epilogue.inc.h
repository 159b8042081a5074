// The fast epilogue: bias, shortcut, ReLU and requantize in 32-bit and float32 lanes. Included by one
// file per instruction set, after the vector type V, inside its unnamed namespace. Right only where
// Epilogue::narrow holds, and with a guard (guarded.inc.h) elsewhere; conv/epilogue.cpp is the definition.
#pragma once

// Where an epilogue's sums lie and its results go: output channels from `first` of one pixel.
struct Finish {
  const Epilogue& epilogue;
  const Layout& output;
  std::int64_t pixel;
  std::int64_t base;  // index of the first element in the shortcut and the output
  std::int32_t first;
  const void* shortcut;
  void* out;
};

enum class Shortcut { none, u8_scaled, any };

// The shortcut of kLanes32 channels from `i`.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 shortcut_lanes(const Finish& f, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  const auto* factor = reinterpret_cast<const std::int32_t*>(e.shortcut_factor) + f.first + i;
  if constexpr (kShortcut == Shortcut::u8_scaled) {
    // Never negative, so that adding half and shifting rounds.
    const auto value = V::widen_u8(static_cast<const std::uint8_t*>(f.shortcut) + f.base + i);
    const auto half = V::set32(e.shortcut_shift > 0 ? 1 << (e.shortcut_shift - 1) : 0);
    return V::shift_right32(V::add32(V::mul32(value, V::load32(factor)), half), e.shortcut_shift);
  } else {
    typename V::I32 value;
    switch (e.shortcut_type) {
      case Element::u8:
        value = V::widen_u8(static_cast<const std::uint8_t*>(f.shortcut) + f.base + i);
        break;
      case Element::s8:
        value = V::widen_s8(static_cast<const std::int8_t*>(f.shortcut) + f.base + i);
        break;
      default:
        value = V::load32(static_cast<const std::int32_t*>(f.shortcut) + f.base + i);
    }
    if (!e.shortcut_requantize) return value;
    value = V::mul32(value, V::load32(factor));
    if (e.shortcut_shift == 0) return value;
    const auto half = V::set32(1 << (e.shortcut_shift - 1));
    return V::copy_sign32(V::shift_right32(V::add32(V::abs32(value), half), e.shortcut_shift), value);
  }
}

// kLanes32 sums from `i` with their bias and shortcut.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 biased(const Finish& f, typename V::I32 sum, std::int32_t i) {
  const auto value = V::add32(sum, V::load32(f.epilogue.bias + f.first + i));
  if constexpr (kShortcut == Shortcut::none)
    return value;
  else
    return V::add32(value, shortcut_lanes<V, kShortcut>(f, i));
}

// ReLU (without a maximum), or a least result of 0, and requantize to a byte, less than 0 where ReLU leaves 0: what
// most layers do. The fused product and sum are exact below 2^24 and monotonic above; truncating what is between -1 and
// 0.5 gives 0.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 finish_unsigned(const Finish& f, typename V::I32 sum, std::int32_t i) {
  const auto value = V::to_float(biased<V, kShortcut>(f, sum, i));
  const auto scaled = V::fma(value, V::loadf(f.epilogue.scale + f.first + i), V::setf(0.5f));
  return V::truncate(V::minf(scaled, V::setf(static_cast<float>(f.epilogue.high))));
}

// Requantize to a signed byte without ReLU, exact as above with half of the sign of the product. What is too large is
// cut before it is truncated; too small, truncating gives the least integer there is.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 finish_signed(const Finish& f, typename V::I32 sum, std::int32_t i) {
  const auto value = V::to_float(biased<V, kShortcut>(f, sum, i));
  const auto scaled = V::fma(value, V::loadf(f.epilogue.scale + f.first + i), V::half_with_sign_of(value));
  return V::truncate(V::minf(scaled, V::setf(static_cast<float>(f.epilogue.high))));
}

template <class V>
NYBBLE_INLINE typename V::I32 finish_any(const Finish& f, typename V::I32 sum, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  auto value = e.shortcut ? biased<V, Shortcut::any>(f, sum, i) : biased<V, Shortcut::none>(f, sum, i);
  if (e.relu) value = V::min32(V::max32(value, V::set32(0)), V::set32(e.relu_maximum));
  if (!e.requantize) return value;
  auto scaled = V::mulf(V::to_float(value), V::loadf(e.scale + f.first + i));
  scaled = V::addf(scaled, V::half_with_sign_of(scaled));
  const auto low = V::setf(static_cast<float>(e.low)), high = V::setf(static_cast<float>(e.high));
  return V::truncate(V::maxf(V::minf(scaled, high), low));
}

// Asks for the lines that finishing a pixel will touch, before its sums are computed: its shortcut was written many
// steps ago and the result's memory was last used by another value.
NYBBLE_INLINE void prefetch_finish(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                                   std::int32_t count, const void* shortcut, void* out) {
  const std::int64_t base = pixel * output.stride + first;
  const std::int64_t bytes = e.requantize ? 1 : 4;
  for (std::int64_t i = 0; i < count * bytes; i += 64)
    __builtin_prefetch(static_cast<std::uint8_t*>(out) + base * bytes + i, 1, 3);
  if (e.shortcut && element_bytes(e.shortcut_type) == 1)
    for (std::int32_t i = 0; i < count; i += 64)
      __builtin_prefetch(static_cast<const std::uint8_t*>(shortcut) + base + i, 0, 3);
}

#include "kernels/conv/guarded.inc.h"

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
  else if (e.shortcut_type == Element::u8 && e.shortcut_requantize)
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

// ---- 16-bit lanes ---------------------------------------------------------------------------------
// EpilogueData::fits_words proves them exact. A requantize is floor(v * factor16 / 2^16), halved and rounded up.

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
    return V::add32(rounded, V::shift_right32(values, 16));
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
