// The fast epilogue: bias, shortcut, ReLU and requantize in 32-bit and float32 lanes. Included by one
// file per instruction set, after the vector type V, inside its unnamed namespace. Right only where
// Epilogue::narrow holds; conv/epilogue.cpp is the definition.

// Where an epilogue's sums lie and its results go: output channels from `first` of one pixel.
struct Finish {
  const Epilogue& epilogue;
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
    const auto half = V::set32(1 << e.shortcut_shift >> 1);
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

// ReLU (without a maximum) and requantize to a byte: what most layers do. max(0, v) + 0.5 is taken as
// max(v + 0.5, 0.5); the fused product and sum are exact below 2^24 and monotonic above.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE typename V::I32 finish_unsigned(const Finish& f, typename V::I32 sum, std::int32_t i) {
  auto value = V::add32(sum, V::load32(f.epilogue.bias + f.first + i));
  if constexpr (kShortcut != Shortcut::none) value = V::add32(value, shortcut_lanes<V, kShortcut>(f, i));
  const auto half = V::setf(0.5f);
  const auto scaled = V::fma(V::to_float(value), V::loadf(f.epilogue.scale + f.first + i), half);
  return V::truncate(V::minf(V::maxf(scaled, half), V::setf(static_cast<float>(f.epilogue.high))));
}

template <class V>
NYBBLE_INLINE typename V::I32 finish_any(const Finish& f, typename V::I32 sum, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  auto value = V::add32(sum, V::load32(e.bias + f.first + i));
  if (e.shortcut) value = V::add32(value, shortcut_lanes<V, Shortcut::any>(f, i));
  if (e.relu) value = V::min32(V::max32(value, V::set32(0)), V::set32(e.relu_maximum));
  if (!e.requantize) return value;
  auto scaled = V::mulf(V::to_float(value), V::loadf(e.scale + f.first + i));
  scaled = V::addf(scaled, V::half_with_sign_of(scaled));
  const auto low = V::setf(static_cast<float>(e.low)), high = V::setf(static_cast<float>(e.high));
  return V::truncate(V::maxf(V::minf(scaled, high), low));
}

// Finishes `count` sums, a multiple of kChannelAlign. sums(i) are the kLanes32 sums from channel first + i.
template <class V, class Sums>
NYBBLE_INLINE void finish_pixel(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                                std::int32_t count, const void* shortcut, void* out, const Sums& sums) {
  const Finish f{e, pixel * output.stride + first, first, shortcut, out};
  constexpr std::int32_t kLanes = V::kLanes32;
  if (!e.narrow) {
    alignas(64) std::int32_t stored[256];
    for (std::int32_t i = 0; i < count; i += kLanes) V::store32(stored + i, sums(i));
    finish_exact(e, output, stored, pixel, first, count, shortcut, out);
    return;
  }
  if (!e.requantize) {
    std::int32_t* target = static_cast<std::int32_t*>(out) + f.base;
    for (std::int32_t i = 0; i < count; i += kLanes) V::store32(target + i, finish_any<V>(f, sums(i), i));
    return;
  }
  std::uint8_t* target = static_cast<std::uint8_t*>(out) + f.base;
  if (!e.relu || e.relu_maximum != INT32_MAX || e.low > 0) {
    for (std::int32_t i = 0; i < count; i += 2 * kLanes)
      V::store_bytes(target + i, finish_any<V>(f, sums(i), i), finish_any<V>(f, sums(i + kLanes), i + kLanes));
  } else if (!e.shortcut) {
    for (std::int32_t i = 0; i < count; i += 2 * kLanes)
      V::store_bytes(target + i, finish_unsigned<V, Shortcut::none>(f, sums(i), i),
                     finish_unsigned<V, Shortcut::none>(f, sums(i + kLanes), i + kLanes));
  } else if (e.shortcut_type == Element::u8 && e.shortcut_requantize) {
    for (std::int32_t i = 0; i < count; i += 2 * kLanes)
      V::store_bytes(target + i, finish_unsigned<V, Shortcut::u8_scaled>(f, sums(i), i),
                     finish_unsigned<V, Shortcut::u8_scaled>(f, sums(i + kLanes), i + kLanes));
  } else {
    for (std::int32_t i = 0; i < count; i += 2 * kLanes)
      V::store_bytes(target + i, finish_unsigned<V, Shortcut::any>(f, sums(i), i),
                     finish_unsigned<V, Shortcut::any>(f, sums(i + kLanes), i + kLanes));
  }
}
