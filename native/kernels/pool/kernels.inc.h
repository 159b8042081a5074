// Pools over channels-last values: first down the columns of a window, for all pixels of a row side by side, then along
// it. Included by one file per instruction set, after its vector types.
#pragma once

#include <type_traits>

#include "kernels/pool/kernels.h"

namespace nybble {
namespace {

// Whether every vector of an output pixel may be written, and channels that are not there are zero in the input.
inline bool has_pool_vectors(const PoolShape& s) {
  return s.output.stride % kChannelAlign == 0 && s.output.stride / kChannelAlign * kChannelAlign >= s.output.channels &&
         (s.input.stride == s.output.stride || s.input.stride == s.input.channels);
}

// The taps of a window that lie in the input: `first` and how many, of those at start + i * dilation.
struct PoolTaps {
  std::int32_t first, count;
};

inline PoolTaps pool_taps(std::int32_t start, std::int32_t kernel, std::int32_t dilation, std::int32_t extent) {
  std::int32_t low = 0, high = kernel;
  if (start < 0) low = (-start + dilation - 1) / dilation;
  if (start + (kernel - 1) * dilation >= extent) high = start >= extent ? 0 : (extent - 1 - start) / dilation + 1;
  return {start + low * dilation, high > low ? high - low : 0};
}

// Zeroes the bytes of a pixel that are no channels, where the input has other values there.
inline void clear_padding(const PoolShape& s, std::uint8_t* pixel) {
  if (s.input.stride != s.output.stride)
    __builtin_memset(pixel + s.output.channels, 0, static_cast<std::size_t>(s.output.stride - s.output.channels));
}

template <class B, bool kSigned>
NYBBLE_INLINE typename B::Bytes larger(typename B::Bytes a, typename B::Bytes b) {
  if constexpr (kSigned)
    return B::max_s8(a, b);
  else
    return B::max_u8(a, b);
}

// The largest value of each column of the window, `bytes` of them.
template <class B, class T>
void max_of_columns(const T* in, std::int64_t bytes, std::int32_t taps, std::int64_t step, T* out) {
  constexpr bool kSigned = std::is_signed_v<T>;
  std::int64_t i = 0;
  for (; i + B::kBytes <= bytes; i += B::kBytes) {
    const auto* p = reinterpret_cast<const std::uint8_t*>(in + i);
    auto most = B::load(p);
    for (std::int32_t r = 1; r < taps; ++r) most = larger<B, kSigned>(most, B::load(p + r * step));
    B::store(reinterpret_cast<std::uint8_t*>(out + i), most);
  }
  for (; i < bytes; ++i) {
    T most = in[i];
    for (std::int32_t r = 1; r < taps; ++r) most = in[i + r * step] > most ? in[i + r * step] : most;
    out[i] = most;
  }
}

template <class B, class T>
void max_pool_vectors(const PoolShape& s, const void* image, std::int32_t row, void* output_image, void* scratch) {
  constexpr bool kSigned = std::is_signed_v<T>;
  const std::int64_t in_row = std::int64_t{s.input.width} * s.input.stride;
  auto* out = static_cast<std::uint8_t*>(output_image) + std::int64_t{row} * s.output.width * s.output.stride;
  const PoolTaps rows = pool_taps(row * s.stride_h - s.pad_top, s.kernel_h, s.dilation_h, s.input.height);
  if (rows.count == 0) {
    __builtin_memset(out, 0, static_cast<std::size_t>(s.output.width) * static_cast<std::size_t>(s.output.stride));
    return;
  }
  const T* columns = static_cast<const T*>(image) + rows.first * in_row;
  if (rows.count > 1 || s.input.stride != s.output.stride) {
    max_of_columns<B>(columns, in_row, rows.count, s.dilation_h * in_row, static_cast<T*>(scratch));
    columns = static_cast<const T*>(scratch);
  }
  const std::int64_t step = std::int64_t{s.dilation_w} * s.input.stride;
  for (std::int32_t x = 0; x < s.output.width; ++x, out += s.output.stride) {
    const PoolTaps taps = pool_taps(x * s.stride_w - s.pad_left, s.kernel_w, s.dilation_w, s.input.width);
    if (taps.count == 0) {
      __builtin_memset(out, 0, static_cast<std::size_t>(s.output.stride));
      continue;
    }
    const auto* in = reinterpret_cast<const std::uint8_t*>(columns) + std::int64_t{taps.first} * s.input.stride;
    for (std::int32_t k = 0; k < s.output.stride; k += B::kBytes) {
      auto most = B::load(in + k);
      for (std::int32_t c = 1; c < taps.count; ++c) most = larger<B, kSigned>(most, B::load(in + k + c * step));
      B::store(out + k, most);
    }
    clear_padding(s, out);
  }
}

// Values of either sign are larger by this in sums, so that no sum is negative.
constexpr std::int32_t kPoolOffset = 128;
// Windows of so many values have sums of 16 bits, and quotients by a product of 31 bits. Let d be twice the count of
// values and M = floor(2^23 / d) + 1. The rounded average is floor(n / d) for an n of at most 255.5 d, and
// n M / 2^23 = n / d + n (M - 2^23 / d) / 2^23 exceeds it by less than 255.5 d / 2^23 <= 1 / d: too little to reach the
// next whole number. n M is at most 255.5 (2^23 + d) < 2^31.
constexpr std::int32_t kPoolValues = 90;

// The sum of each column of the window, `count` of them.
template <class V, class T>
void sum_of_columns(const T* in, std::int64_t count, std::int32_t taps, std::int64_t step, std::int16_t* out) {
  const auto offset = static_cast<std::int16_t>(std::is_signed_v<T> ? kPoolOffset * taps : 0);
  std::int64_t i = 0;
  for (; i + V::kLanes16 <= count; i += V::kLanes16) {
    auto sum = V::set16(offset);
    for (std::int32_t r = 0; r < taps; ++r) {
      if constexpr (std::is_signed_v<T>)
        sum = V::add16(sum, V::widen16_s8(in + i + r * step));
      else
        sum = V::add16(sum, V::widen16_u8(in + i + r * step));
    }
    V::store16(out + i, sum);
  }
  for (; i < count; ++i) {
    std::int32_t sum = offset;
    for (std::int32_t r = 0; r < taps; ++r) sum += in[i + r * step];
    out[i] = static_cast<std::int16_t>(sum);
  }
}

template <class V, class T>
void average_pool_vectors(const PoolShape& s, const void* image, std::int32_t row, void* output_image, void* scratch) {
  const std::int64_t in_row = std::int64_t{s.input.width} * s.input.stride;
  auto* out = static_cast<std::uint8_t*>(output_image) + std::int64_t{row} * s.output.width * s.output.stride;
  const std::int32_t top = row * s.stride_h - s.pad_top;
  const PoolSpan rows = pool_span(top, s.kernel_h, 0, s.input.height);
  const PoolSpan all_rows =
      s.count_padding ? pool_span(top, s.kernel_h, -s.pad_top, s.input.height + s.pad_bottom) : rows;
  auto* columns = static_cast<std::int16_t*>(scratch);
  if (rows.length() > 0)
    sum_of_columns<V>(static_cast<const T*>(image) + rows.low * in_row, in_row, rows.length(), in_row, columns);
  std::int32_t known = 0;
  auto factor = V::set32(0);
  const auto offset = V::set32(std::is_signed_v<T> ? kPoolOffset : 0);
  for (std::int32_t x = 0; x < s.output.width; ++x, out += s.output.stride) {
    const std::int32_t left = x * s.stride_w - s.pad_left;
    const PoolSpan taps = pool_span(left, s.kernel_w, 0, s.input.width);
    const PoolSpan all_taps =
        s.count_padding ? pool_span(left, s.kernel_w, -s.pad_left, s.input.width + s.pad_right) : taps;
    const std::int32_t count = all_rows.length() * all_taps.length(), present = rows.length() * taps.length();
    if (present == 0) {
      __builtin_memset(out, 0, static_cast<std::size_t>(s.output.stride));
      continue;
    }
    if (count != known) factor = V::set32((1 << 23) / (2 * count) + 1);
    known = count;
    const auto start = V::set32(count + (std::is_signed_v<T> ? 2 * kPoolOffset * (count - present) : 0));
    const std::int16_t* in = columns + std::int64_t{taps.low} * s.input.stride;
    for (std::int32_t k = 0; k < s.output.stride; k += V::kLanes16) {
      auto sum = V::load16(in + k);
      for (std::int32_t c = 1; c < taps.length(); ++c)
        sum = V::add16(sum, V::load16(in + k + std::int64_t{c} * s.input.stride));
      const auto average = [&](typename V::I32 half) NYBBLE_LAMBDA {
        const auto twice = V::add32(V::template shift_left32<1>(half), start);
        return V::sub32(V::template shift_right32<23>(V::mul32(twice, factor)), offset);
      };
      V::store_bytes(out + k, average(V::widen_low(sum)), average(V::widen_high(sum)));
    }
    clear_padding(s, out);
  }
}

void max_pool(const PoolShape& s, const void* image, std::int32_t row, void* out, void* scratch) {
  if (!has_pool_vectors(s))
    max_pool_exact(s, image, row, out, scratch);
  else if (s.input.element == Element::u8)
    max_pool_vectors<Staging, std::uint8_t>(s, image, row, out, scratch);
  else
    max_pool_vectors<Staging, std::int8_t>(s, image, row, out, scratch);
}

void average_pool(const PoolShape& s, const void* image, std::int32_t row, void* out, void* scratch) {
  if (!has_pool_vectors(s) || std::int64_t{s.kernel_h} * s.kernel_w > kPoolValues)
    average_pool_exact(s, image, row, out, scratch);
  else if (s.input.element == Element::u8)
    average_pool_vectors<Vector, std::uint8_t>(s, image, row, out, scratch);
  else
    average_pool_vectors<Vector, std::int8_t>(s, image, row, out, scratch);
}

constexpr PoolKernels kPoolKernels = {max_pool, average_pool};

}  // namespace
}  // namespace nybble
