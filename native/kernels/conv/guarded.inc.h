// Requantize to a byte where float32 is too short to be exact: in float32 all the same, and in double precision
// what lies so close to a tie that float32 may be wrong. Included by epilogue.inc.h.
#pragma once

#include "kernels/conv/lanes.inc.h"

namespace nybble {
namespace {

// Results of one byte in double precision, exact whatever the shift and the factor. A sum and a factor have 63 bits
// together, but a product that the clip leaves alone, and its half, stay below 2^(8 + 31 + 1) units of 2^-shift, where
// every step is exact; above, every step is monotonic, and the result clamps. kChannelAlign sums from channel i.
template <class V>
__attribute__((noinline)) void finish_doubles(const Finish& f, const std::int32_t* sums, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  alignas(64) std::int32_t values[kChannelAlign], results[kChannelAlign];
  for (std::int32_t j = 0; j < kChannelAlign; j += V::kLanes32)
    V::store32(values + j, e.shortcut ? biased<V, Shortcut::any>(f, V::load32(sums + j), i + j)
                                      : biased<V, Shortcut::none>(f, V::load32(sums + j), i + j));
  const double* scale = e.scale_double + f.first + i;
  const std::int32_t least = e.relu ? 0 : INT32_MIN, most = e.relu ? e.relu_maximum : INT32_MAX;
  const double low = e.low, high = e.high;
  for (std::int32_t j = 0; j < kChannelAlign; ++j) {
    std::int32_t value = values[j];
    value = value < least ? least : value;
    value = value > most ? most : value;
    double scaled = value * scale[j] + (value < 0 ? -0.5 : 0.5);
    scaled = scaled < low ? low : scaled;
    scaled = scaled > high ? high : scaled;
    results[j] = static_cast<std::int32_t>(scaled);
  }
  std::uint8_t* target = static_cast<std::uint8_t*>(f.out) + f.base + i;
  for (std::int32_t j = 0; j < kChannelAlign; ++j) target[j] = static_cast<std::uint8_t>(results[j]);
}

// Results in float32, unless one of them lies too close to a tie.
//
// A result and its half, P, is computed in units of 2^-kGuardBits of a step and rounded to n, an integer. Float32 is
// off by less than half a unit wherever the result is not clamped, as EpilogueData::set_guard proves, so that n and P
// are less than a unit apart. Then a whole step T that lies between them, n < T <= P or P < T <= n, can only be n
// itself: where the fraction of n is not zero, the floor of n is the floor of P, which is the result, whatever its
// sign, but for ties below zero; and a tie is a P that is a whole step, so that n is, too.
template <class V>
struct Guarded {
  typename V::F32 half = V::setf(1 << (kGuardBits - 1)), most;
  typename V::I32 least_fraction = V::set32(-1);

  explicit NYBBLE_INLINE Guarded(const Epilogue& e) : most(V::setf(e.guarded_most)) {}

  // What is too large is cut before it is converted, with a fraction of one half; too small, converting gives the least
  // integer there is.
  template <bool kCut>
  NYBBLE_INLINE typename V::I32 round(typename V::I32 value, const float* scale) {
    auto scaled = V::fma(V::to_float(value), V::loadf(scale), half);
    if constexpr (kCut) scaled = V::minf(scaled, most);
    const auto units = V::round(scaled);
    least_fraction = V::min_u32(least_fraction, V::template shift_left32<32 - kGuardBits>(units));
    return V::template shift_right32<kGuardBits>(units);
  }
  // With another scale for what is below zero. One of the two products is half and nothing else.
  NYBBLE_INLINE typename V::I32 round_by_sign(typename V::I32 value, const float* scale, const float* below) {
    const auto given = V::to_float(value), zero = V::setf(0);
    const auto lower = V::fma(V::minf(given, zero), V::loadf(below), half);
    const auto scaled = V::minf(V::fma(V::maxf(given, zero), V::loadf(scale), lower), most);
    const auto units = V::round(scaled);
    least_fraction = V::min_u32(least_fraction, V::template shift_left32<32 - kGuardBits>(units));
    return V::template shift_right32<kGuardBits>(units);
  }
  NYBBLE_INLINE bool is_in_doubt() const { return V::any_zero32(least_fraction); }
};

// `count` sums of a pixel, a multiple of kChannelAlign; sums(i) are kLanes32 of them.
template <class V, Shortcut kShortcut, class Sums>
NYBBLE_INLINE void finish_guarded(const Finish& f, std::int32_t count, const Sums& sums, bool is_signed) {
  constexpr std::int32_t kLanes = V::kLanes32;
  const Epilogue& e = f.epilogue;
  std::uint8_t* target = static_cast<std::uint8_t*>(f.out) + f.base;
  for (std::int32_t i = 0; i < count; i += kChannelAlign) {
    Guarded<V> guarded(e);
    typename V::I32 results[kChannelAlign / kLanes];
    NYBBLE_UNROLL
    for (std::int32_t j = 0; j < kChannelAlign / kLanes; ++j) {
      const std::int32_t k = i + j * kLanes;
      results[j] = guarded.template round<true>(biased<V, kShortcut>(f, sums(k), k), e.scale + f.first + k);
    }
    if (__builtin_expect(guarded.is_in_doubt(), 0)) {
      alignas(64) std::int32_t stored[kChannelAlign];
      for (std::int32_t j = 0; j < kChannelAlign; j += kLanes) V::store32(stored + j, sums(i + j));
      finish_doubles<V>(f, stored, i);
    } else if (is_signed) {
      V::store_clamped_bytes(target + i, results, e.low, e.high);
    } else {
      V::store_positive_bytes(target + i, results);
    }
  }
}

// The same for an epilogue with factors of its own below zero.
template <class V, class Sums>
__attribute__((noinline)) void finish_by_sign(const Finish& f, std::int32_t count, const Sums& sums) {
  constexpr std::int32_t kLanes = V::kLanes32;
  const Epilogue& e = f.epilogue;
  std::uint8_t* target = static_cast<std::uint8_t*>(f.out) + f.base;
  for (std::int32_t i = 0; i < count; i += kChannelAlign) {
    Guarded<V> guarded(e);
    typename V::I32 results[kChannelAlign / kLanes];
    for (std::int32_t j = 0; j < kChannelAlign / kLanes; ++j) {
      const std::int32_t k = i + j * kLanes;
      const auto value =
          e.shortcut ? biased<V, Shortcut::any>(f, sums(k), k) : biased<V, Shortcut::none>(f, sums(k), k);
      results[j] = guarded.round_by_sign(value, e.scale + f.first + k, e.negative_scale + f.first + k);
    }
    if (__builtin_expect(guarded.is_in_doubt(), 0)) {
      alignas(64) std::int32_t stored[kChannelAlign];
      for (std::int32_t j = 0; j < kChannelAlign; j += kLanes) V::store32(stored + j, sums(i + j));
      finish_exact(e, f.output, stored, f.pixel, f.first + i, kChannelAlign, f.shortcut, f.out);
    } else if (e.is_signed()) {
      V::store_clamped_bytes(target + i, results, e.low, e.high);
    } else {
      V::store_positive_bytes(target + i, results);
    }
  }
}

}  // namespace
}  // namespace nybble
