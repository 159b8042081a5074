// The fast epilogue: bias, shortcut, ReLU and requantize in 32-bit and float32 lanes. Included by one
// file per instruction set, after the vector type V, inside its unnamed namespace. Right only where
// Epilogue::narrow holds; conv/epilogue.cpp is the definition.

// Finishes sums[0 .. count) of one pixel. count is a multiple of kChannelAlign.
template <class V, bool Shortcut, bool Requantize>
inline void finish_lanes(const Epilogue& e, const Layout& output, const std::int32_t* sums, std::int64_t pixel,
                         std::int32_t first, std::int32_t count, const void* shortcut, void* out) {
  using I = typename V::I32;
  using F = typename V::F32;
  const std::int64_t base = pixel * output.stride + first;
  const std::int32_t* bias = e.bias + first;
  const I zero = V::set32(0);
  const I maximum = V::set32(e.relu_maximum);
  const F low = V::setf(static_cast<float>(e.low)), high = V::setf(static_cast<float>(e.high));
  const I half = V::set32(e.shortcut_shift > 0 ? 1 << (e.shortcut_shift - 1) : 0);

  const auto finish = [&](std::int32_t i) {
    I value = V::add32(V::load32(sums + i), V::load32(bias + i));
    if constexpr (Shortcut) {
      I other;
      switch (e.shortcut_type) {
        case Element::u8:
          other = V::widen_u8(static_cast<const std::uint8_t*>(shortcut) + base + i);
          break;
        case Element::s8:
          other = V::widen_s8(static_cast<const std::int8_t*>(shortcut) + base + i);
          break;
        default:
          other = V::load32(static_cast<const std::int32_t*>(shortcut) + base + i);
      }
      if (e.shortcut_requantize) {
        other = V::mul32(other, V::load32(reinterpret_cast<const std::int32_t*>(e.shortcut_factor) + first + i));
        if (e.shortcut_shift > 0)
          other = V::copy_sign32(V::shift_right32(V::add32(V::abs32(other), half), e.shortcut_shift), other);
      }
      value = V::add32(value, other);
    }
    if (e.relu) value = V::min32(V::max32(value, zero), maximum);
    if constexpr (Requantize) {
      F scaled = V::mulf(V::to_float(value), V::loadf(e.scale + first + i));
      scaled = V::addf(scaled, V::half_with_sign_of(scaled));
      value = V::truncate(V::maxf(V::minf(scaled, high), low));
    }
    return value;
  };

  if constexpr (Requantize) {
    std::uint8_t* target = static_cast<std::uint8_t*>(out) + base;
    for (std::int32_t i = 0; i < count; i += 2 * V::kLanes32)
      V::store_bytes(target + i, finish(i), finish(i + V::kLanes32));
  } else {
    std::int32_t* target = static_cast<std::int32_t*>(out) + base;
    for (std::int32_t i = 0; i < count; i += V::kLanes32) V::store32(target + i, finish(i));
  }
}

template <class V>
inline void finish_pixel(const Epilogue& e, const Layout& output, const std::int32_t* sums, std::int64_t pixel,
                         std::int32_t first, std::int32_t count, const void* shortcut, void* out) {
  if (!e.narrow || (e.requantize && element_bytes(output.element) != 1))
    finish_exact(e, output, sums, pixel, first, count, shortcut, out);
  else if (e.requantize)
    e.shortcut ? finish_lanes<V, true, true>(e, output, sums, pixel, first, count, shortcut, out)
               : finish_lanes<V, false, true>(e, output, sums, pixel, first, count, shortcut, out);
  else
    e.shortcut ? finish_lanes<V, true, false>(e, output, sums, pixel, first, count, shortcut, out)
               : finish_lanes<V, false, false>(e, output, sums, pixel, first, count, shortcut, out);
}
