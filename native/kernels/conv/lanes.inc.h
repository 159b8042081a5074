// Lanes of the fast epilogue: bias, shortcut, ReLU and requantize in 32-bit and float32 lanes. Included by one file per
// instruction set, after the vector type. Right only where Epilogue::narrow holds; conv/epilogue.cpp is the definition.
#pragma once

#include "kernels/conv/conv.h"

namespace nybble {
namespace {

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

// kLanes32 values times their factors from `i`, rounded off, with the sign that they have. LaneFactor says why it is
// exact.
template <class V>
NYBBLE_INLINE typename V::I32 rescaled(typename V::I32 value, const LaneFactor& rule, std::int32_t i) {
  const auto factor = V::load32(reinterpret_cast<const std::int32_t*>(rule.factor) + i);
  if (rule.low != nullptr) {
    const auto size = V::abs32(value);
    const auto low = V::mul32(size, V::load32(reinterpret_cast<const std::int32_t*>(rule.low) + i));
    const auto rest = V::add32(V::shift_right32(low, kLowFactorBits), V::set32(1 << (rule.shift - 1 - kLowFactorBits)));
    const auto sum = V::add32(V::mul32(size, factor), rest);
    return V::copy_sign32(V::shift_right32(sum, rule.shift - kLowFactorBits), value);
  }
  value = V::mul32(value, factor);
  if (rule.shift == 0) return value;
  const auto half = V::set32(1 << (rule.shift - 1));
  return V::copy_sign32(V::shift_right32(V::add32(V::abs32(value), half), rule.shift), value);
}

// The shortcut of kLanes32 channels from `i`.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 shortcut_lanes(const Finish& f, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  if constexpr (kShortcut == Shortcut::u8_scaled) {
    // Never negative, so that adding half and shifting rounds.
    const auto* factor = reinterpret_cast<const std::int32_t*>(e.shortcut_factor) + f.first + i;
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
    return e.shortcut_requantize ? rescaled<V>(value, e.shortcut_lanes, f.first + i) : value;
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

}  // namespace
}  // namespace nybble
