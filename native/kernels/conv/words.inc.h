// The epilogue in 16-bit lanes, for sums that fit them: EpilogueData::fits_words proves them exact. A requantize is
// floor(v * factor16 / 2^16), halved and rounded up; or, with factors of 32 bits, floor(v * factor / 2^32 + 1/2).
// Included by one file per instruction set, after the vector type.
#pragma once

#include "kernels/conv/epilogue.inc.h"

namespace nybble {
namespace {

enum class Words {
  none,
  wide,  // factors of 32 bits
  shortcut,
  shifted_shortcut,
  signed_shortcut,
  signed_result,
  wide_signed_result,
  signed_sum,  // a signed shortcut, and a signed result
};

// Of 16 unsigned bits times 32, half of 2^32 added, the highest 16: the low half of one product and the high half of
// the other add up to less than 2^16 + 2^16 - 2^15, and what they carry is the highest bit of half their sum. V is at
// most 32,768, so that the second is less than that.
template <class V>
NYBBLE_INLINE typename V::I16 multiply_wide_factor(typename V::I16 value, typename V::I16 high, typename V::I16 low) {
  const auto rest = V::add16(V::mul_high_u16(value, low), V::set16(INT16_MAX));
  const auto carry = V::template shift_right_u16<15>(V::average_u16(V::mul16(value, high), rest));
  return V::add16(V::mul_high_u16(value, high), carry);
}

// A signed byte times a factor of 16 bits, rounded off by shortcut_shift16 + 8: the high half of 256 times the byte
// times the factor is the product's floor by 2^8, and a floor of a floor is the floor.
template <class V>
NYBBLE_INLINE typename V::I16 scaled_byte(const Epilogue& e, typename V::I16 byte, typename V::I16 factor) {
  const auto product = V::mul_high_u16(V::mul16(V::abs16(byte), V::set16(256)), factor);
  const auto half = V::set16(static_cast<std::int16_t>(1 << (e.shortcut_shift16 - 1)));
  return V::copy_sign16(V::shift_right_u16(V::add16(product, half), e.shortcut_shift16), byte);
}

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

// kLanes16 sums from `i` with their bias, unless they come with it, and shortcut.
template <class V, Words kWords, bool kHasBias>
NYBBLE_INLINE typename V::I16 biased_words(const Finish& f, typename V::I16 sum, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  auto value = sum;
  if constexpr (!kHasBias) value = V::add_saturated16(sum, V::load16(e.bias16 + f.first + i));
  constexpr bool kIsSigned = kWords == Words::signed_shortcut || kWords == Words::signed_sum;
  if constexpr (kWords == Words::shortcut || kWords == Words::shifted_shortcut || kIsSigned) {
    const auto factor = V::load16(reinterpret_cast<const std::int16_t*>(e.shortcut_factor16 + f.first + i));
    if constexpr (kIsSigned) {
      const auto other = V::widen16_s8(static_cast<const std::int8_t*>(f.shortcut) + f.base + i);
      if constexpr (kWords == Words::signed_sum)
        return V::add_saturated16(value, scaled_byte<V>(e, other, factor));
      else
        return add_signed_shortcut<V>(e, value, other, factor);
    } else {
      const auto other = V::widen16_u8(static_cast<const std::uint8_t*>(f.shortcut) + f.base + i);
      auto product = V::mul16(other, factor);
      if constexpr (kWords == Words::shifted_shortcut) product = V::shift_right_u16(product, e.shortcut_shift16);
      return V::add_saturated16(value, V::halve_u16(product));
    }
  } else {
    return value;
  }
}

// kLanes16 values from `i`, never negative, requantized.
template <class V, bool kIsWide>
NYBBLE_INLINE typename V::I16 requantized_words(const Finish& f, typename V::I16 value, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  const auto factor = V::load16(reinterpret_cast<const std::int16_t*>(e.factor16 + f.first + i));
  if constexpr (kIsWide) {
    const auto low = V::load16(reinterpret_cast<const std::int16_t*>(e.factor16_low + f.first + i));
    return multiply_wide_factor<V>(value, factor, low);
  } else {
    return V::halve_u16(V::mul_high_u16(value, factor));
  }
}

// One group of kChannelAlign channels from `i`.
template <class V, Words kWords, bool kHasBias = false>
NYBBLE_INLINE void finish_words(const Finish& f, const typename V::I16* sums, std::int32_t i) {
  const Epilogue& e = f.epilogue;
  constexpr bool kIsWide = kWords == Words::wide || kWords == Words::wide_signed_result;
  constexpr bool kIsSigned =
      kWords == Words::signed_result || kWords == Words::wide_signed_result || kWords == Words::signed_sum;
  constexpr int kVectors = kChannelAlign / V::kLanes16;
  typename V::I16 results[kVectors];
  for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA {
    const std::int32_t k = i + j * V::kLanes16;
    auto value = biased_words<V, kWords, kHasBias>(f, sums[j], k);
    if constexpr (kIsWide)
      for (std::int32_t n = 0; n < e.doublings; ++n) value = V::add_saturated16(value, value);
    if constexpr (kIsSigned) {
      const auto result = V::copy_sign16(requantized_words<V, kIsWide>(f, V::abs16(value), k), value);
      results[j] = V::max16(V::min16(result, V::set16(static_cast<std::int16_t>(e.high))),
                            V::set16(static_cast<std::int16_t>(e.low)));
    } else {
      results[j] = requantized_words<V, kIsWide>(f, V::max16(value, V::set16(0)), k);
    }
  });
  std::uint8_t* target = static_cast<std::uint8_t*>(f.out) + f.base + i;
  if constexpr (kIsSigned)
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

// Out of line, for kernels of many groups, where the code would be long and factors of 32 bits are rare.
template <class V, Words kWords>
__attribute__((noinline)) void finish_words_apart(const Finish& f, const typename V::I16* sums, std::int32_t i) {
  finish_words<V, kWords>(f, sums, i);
}

template <class V, Words kWords, int kGroups>
NYBBLE_INLINE void finish_groups(const Finish& f, const typename V::I16* sums) {
  constexpr int kVectors = kChannelAlign / V::kLanes16;
  const std::uint8_t* fits = f.epilogue.words + f.first / kChannelAlign;
  for_each_index<kGroups>([&](auto g) NYBBLE_LAMBDA {
    // A copy: if the sums' own address left this function, they would lie in memory all the time.
    typename V::I16 group[kVectors];
    for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA { group[j] = sums[g * kVectors + j]; });
    constexpr bool kIsApart = kGroups > 2 && (kWords == Words::wide || kWords == Words::wide_signed_result);
    if (!kIsApart && fits[g]) {
      finish_words<V, kWords>(f, group, g * kChannelAlign);
      return;
    }
    typename V::I16 copy[kVectors];
    for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA { copy[j] = group[j]; });
    if (kIsApart && fits[g])
      finish_words_apart<V, kWords>(f, copy, g * kChannelAlign);
    else
      finish_widened<V>(f, copy, g * kChannelAlign);
  });
}

template <Words kValue>
struct WordsIs {
  static constexpr Words value = kValue;
};

// Calls function(WordsIs<what there is to do>{}) for an epilogue without a shortcut.
template <class F>
NYBBLE_INLINE void with_plain_words(const Epilogue& e, const F& function) {
  const bool is_signed = e.low < 0 && !e.relu;
  if (e.factor16_low == nullptr)
    is_signed ? function(WordsIs<Words::signed_result>{}) : function(WordsIs<Words::none>{});
  else
    is_signed ? function(WordsIs<Words::wide_signed_result>{}) : function(WordsIs<Words::wide>{});
}

// Calls function(WordsIs<what there is to do>{}).
template <class F>
NYBBLE_INLINE void with_words(const Epilogue& e, const F& function) {
  if (!e.shortcut) {
    with_plain_words(e, function);
  } else if (e.low < 0 && !e.relu) {
    function(WordsIs<Words::signed_sum>{});
  } else if (e.shortcut_type == Element::s8) {
    function(WordsIs<Words::signed_shortcut>{});
  } else if (e.shortcut_shift16 == 0) {
    function(WordsIs<Words::shortcut>{});
  } else {
    function(WordsIs<Words::shifted_shortcut>{});
  }
}

// As finish_pixel, for sums of 16 bits in kGroups * kChannelAlign / V::kLanes16 vectors. Right only where
// Epilogue::words is not null.
template <class V, int kGroups>
NYBBLE_INLINE void finish_pixel16(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t first,
                                  const void* shortcut, void* out, const typename V::I16* sums) {
  const Finish f{e, output, pixel, pixel * output.stride + first, first, shortcut, out};
  with_words(e, [&](auto words) NYBBLE_LAMBDA { finish_groups<V, decltype(words)::value, kGroups>(f, sums); });
}

}  // namespace
}  // namespace nybble
