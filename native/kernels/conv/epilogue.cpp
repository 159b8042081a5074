#include "base/load.h"
#include "kernels/conv/conv.h"

namespace nybble {

std::int64_t requantize(std::int64_t value, std::uint32_t factor, std::int32_t shift) {
  const std::int64_t product = value * static_cast<std::int64_t>(factor);
  if (shift == 0) return product;
  const std::int64_t half = std::int64_t{1} << (shift - 1);
  return product < 0 ? -((-product + half) >> shift) : (product + half) >> shift;
}

namespace {

// As requantize, by a factor of either sign.
std::int64_t requantize_below(std::int64_t value, std::int64_t factor, std::int32_t shift) {
  const auto size = static_cast<std::uint32_t>(factor < 0 ? -factor : factor);
  return factor < 0 ? -requantize(value, size, shift) : requantize(value, size, shift);
}

}  // namespace

void finish_exact(const Epilogue& epilogue, const Layout& output, const std::int32_t* sums, std::int64_t pixel,
                  std::int32_t first, std::int32_t count, const void* shortcut, void* out) {
  const std::int64_t base = pixel * output.stride + first;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t channel = first + i;
    std::int64_t value = std::int64_t{sums[i]} + epilogue.bias[channel];
    if (epilogue.shortcut) {
      std::int64_t other = load_integer(shortcut, epilogue.shortcut_type, base + i);
      if (epilogue.shortcut_requantize)
        other = requantize(other, epilogue.shortcut_factor[channel], epilogue.shortcut_shift);
      value += other;
    }
    if (epilogue.relu) {
      value = value < 0 ? 0 : value;
      value = value > epilogue.relu_maximum ? epilogue.relu_maximum : value;
    }
    if (epilogue.requantize) {
      value = epilogue.negative != nullptr && value < 0
                  ? requantize_below(value, epilogue.negative[channel], epilogue.shift)
                  : requantize(value, epilogue.factor[channel], epilogue.shift);
      value = value < epilogue.low ? epilogue.low : value;
      value = value > epilogue.high ? epilogue.high : value;
    }
    switch (output.element) {
      case Element::u8:
        static_cast<std::uint8_t*>(out)[base + i] = static_cast<std::uint8_t>(value);
        break;
      case Element::s8:
        static_cast<std::int8_t*>(out)[base + i] = static_cast<std::int8_t>(value);
        break;
      default:
        static_cast<std::int32_t*>(out)[base + i] = static_cast<std::int32_t>(value);
    }
  }
}

}  // namespace nybble
