#include "kernels/pool/kernels.h"

namespace nybble {
namespace {

template <typename T>
void max_pool_row(const PoolShape& s, const T* image, std::int32_t row, T* out_image) {
  // A tight input has no padding channels to read; those of the output are zero.
  const std::int32_t channels = s.input.stride < s.output.stride ? s.input.stride : s.output.stride;
  for (std::int32_t ox = 0; ox < s.output.width; ++ox) {
    T* __restrict out = out_image + (std::int64_t{row} * s.output.width + ox) * s.output.stride;
    bool first = true;
    for (std::int32_t r = 0; r < s.kernel_h; ++r) {
      const std::int32_t y = row * s.stride_h - s.pad_top + r * s.dilation_h;
      if (y < 0 || y >= s.input.height) continue;
      for (std::int32_t c = 0; c < s.kernel_w; ++c) {
        const std::int32_t x = ox * s.stride_w - s.pad_left + c * s.dilation_w;
        if (x < 0 || x >= s.input.width) continue;
        const T* __restrict in = image + (std::int64_t{y} * s.input.width + x) * s.input.stride;
        if (first)
          for (std::int32_t k = 0; k < channels; ++k) out[k] = in[k];
        else
          for (std::int32_t k = 0; k < channels; ++k) out[k] = in[k] > out[k] ? in[k] : out[k];
        first = false;
      }
    }
    for (std::int32_t k = channels; k < s.output.stride; ++k) out[k] = 0;
    // A window of nothing but padding (dilation can step over the whole input) is zero.
    if (first)
      for (std::int32_t k = 0; k < channels; ++k) out[k] = 0;
  }
}

template <typename T>
void average_pool_row(const PoolShape& s, const T* image, std::int32_t row, T* out_image) {
  const std::int32_t top = row * s.stride_h - s.pad_top;
  const PoolSpan rows = pool_span(top, s.kernel_h, 0, s.input.height);
  const PoolSpan padded_rows = pool_span(top, s.kernel_h, -s.pad_top, s.input.height + s.pad_bottom);
  constexpr std::int32_t kChunk = kChannelAlign;
  for (std::int32_t ox = 0; ox < s.output.width; ++ox) {
    const std::int32_t left = ox * s.stride_w - s.pad_left;
    const PoolSpan columns = pool_span(left, s.kernel_w, 0, s.input.width);
    const PoolSpan padded_columns = pool_span(left, s.kernel_w, -s.pad_left, s.input.width + s.pad_right);
    const std::int64_t count = s.count_padding ? std::int64_t{padded_rows.length()} * padded_columns.length()
                                               : std::int64_t{rows.length()} * columns.length();
    T* out = out_image + (std::int64_t{row} * s.output.width + ox) * s.output.stride;
    for (std::int32_t first = 0; first < s.output.stride; first += kChunk) {
      const std::int32_t width = s.output.stride - first < kChunk ? s.output.stride - first : kChunk;
      const std::int32_t present = s.input.stride - first < width ? s.input.stride - first : width;
      std::int32_t sums[kChunk] = {};
      for (std::int32_t y = rows.low; y < rows.high; ++y)
        for (std::int32_t x = columns.low; x < columns.high; ++x) {
          const T* in = image + (std::int64_t{y} * s.input.width + x) * s.input.stride + first;
          for (std::int32_t k = 0; k < present; ++k) sums[k] += in[k];
        }
      for (std::int32_t k = 0; k < width; ++k) {
        const std::int64_t numerator = 2 * std::int64_t{sums[k]} + count;
        const std::int64_t quotient = count == 0 ? 0 : numerator / (2 * count);
        const bool round_down = count != 0 && numerator < 0 && quotient * 2 * count != numerator;
        out[first + k] = static_cast<T>(quotient - (round_down ? 1 : 0));
      }
    }
  }
}

}  // namespace

void max_pool_exact(const PoolShape& s, const void* image, std::int32_t row, void* out, void*) {
  if (s.input.element == Element::u8)
    max_pool_row(s, static_cast<const std::uint8_t*>(image), row, static_cast<std::uint8_t*>(out));
  else
    max_pool_row(s, static_cast<const std::int8_t*>(image), row, static_cast<std::int8_t*>(out));
}

void average_pool_exact(const PoolShape& s, const void* image, std::int32_t row, void* out, void*) {
  if (s.input.element == Element::u8)
    average_pool_row(s, static_cast<const std::uint8_t*>(image), row, static_cast<std::uint8_t*>(out));
  else
    average_pool_row(s, static_cast<const std::int8_t*>(image), row, static_cast<std::int8_t*>(out));
}

}  // namespace nybble
