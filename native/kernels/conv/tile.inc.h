// Finishes several pixels of kChannelAlign channels at a time, so that the kind of epilogue is determined once for all
// of them. Included by one file per instruction set, after the vector type.
#pragma once

#include <type_traits>

#include "kernels/conv/words.inc.h"

namespace nybble {
namespace {

// Whether two vectors of sums are kChannelAlign outputs.
template <class V>
inline constexpr bool kSumsAreGroups = 2 * V::kLanes32 == kChannelAlign;

// Whether sums of dot products are finished kChannelAlign outputs at a time, as words where these suit the epilogue.
template <class V>
inline constexpr bool kFinishesWords = kSumsAreGroups<V> || V::kHasLaneQuads;

// Pixels to compute together of `pixels`: kMost, or one less where that leaves none over, as results of many networks
// are multiples of seven.
template <class V, std::int32_t kMost>
NYBBLE_INLINE std::int32_t pixel_group(std::int32_t pixels) {
  return kSumsAreGroups<V> && pixels % kMost != 0 && pixels % (kMost - 1) == 0 ? kMost - 1 : kMost;
}

// In place of biases, for sums that get theirs later.
alignas(64) constexpr std::int32_t kNoBias[kChannelAlign] = {};

// As finish_pixel, for `count` pixels, whose sums follow each other.
template <class V>
__attribute__((noinline)) void finish_tile(const Epilogue& e, const Layout& output, std::int64_t pixel,
                                           std::int32_t count, std::int32_t first, const void* shortcut, void* out,
                                           const std::int32_t* sums) {
  constexpr std::int32_t kVectors = kChannelAlign / V::kLanes32;
  const auto each = [&](const auto& finish) NYBBLE_LAMBDA {
    for (std::int32_t i = 0; i < count; ++i, ++pixel, sums += kChannelAlign)
      finish(Finish{e, output, pixel, pixel * output.stride + first, first, shortcut, out});
  };
  const auto each_narrow = [&](auto shortcuts) NYBBLE_LAMBDA {
    each([&](const Finish& f) NYBBLE_LAMBDA {
      typename V::I32 results[kVectors];
      for_each_index<kVectors>([&](auto j) NYBBLE_LAMBDA {
        results[j] =
            finish_unsigned<V, decltype(shortcuts)::value>(f, V::load32(sums + j * V::kLanes32), j * V::kLanes32);
      });
      V::store_positive_bytes(static_cast<std::uint8_t*>(out) + f.base, results);
    });
  };
  const bool is_plain = e.requantize && !e.shortcut && e.is_unsigned();
  const bool is_sum = e.requantize && e.is_unsigned() && e.has_plain_shortcut() && !e.guarded;
  if (is_plain && e.guarded) {
    each([&](const Finish& f) NYBBLE_LAMBDA {
      finish_guarded<V, Shortcut::none>(
          f, kChannelAlign, [&](std::int32_t i) NYBBLE_LAMBDA { return V::load32(sums + i); }, false);
    });
  } else if (is_plain && e.narrow) {
    each_narrow(std::integral_constant<Shortcut, Shortcut::none>{});
  } else if (is_sum && e.narrow) {
    each_narrow(std::integral_constant<Shortcut, Shortcut::u8_scaled>{});
  } else {
    each([&](const Finish& f)
             NYBBLE_LAMBDA { finish_pixel<V>(e, output, f.pixel, first, kChannelAlign, shortcut, out, sums); });
  }
}

// kChannelAlign sums that have their bias.
template <class V, Words kWords>
NYBBLE_INLINE void finish_word_sums(const Finish& f, const std::int32_t* sums) {
  typename V::I16 words[kChannelAlign / V::kLanes16];
  for_each_index<kChannelAlign / V::kLanes16>([&](auto j) NYBBLE_LAMBDA {
    const std::int32_t* const from = sums + j * V::kLanes16;
    words[j] = V::join32_saturated(V::load32(from), V::load32(from + V::kLanes32));
  });
  finish_words<V, kWords, true>(f, words, 0);
}

template <Shortcut kValue>
struct ShortcutIs {
  static constexpr Shortcut value = kValue;
};

struct GuardIs {};

// How kChannelAlign sums of a pixel in two vectors are finished. As words: sums that have their bias.
template <class V, Words kWords>
NYBBLE_INLINE void finish_two(WordsIs<kWords>, const Finish& f, const typename V::I32* sums) {
  const auto words = V::join32_saturated(sums[0], sums[1]);
  finish_words<V, kWords, true>(f, &words, 0);
}

// In 32-bit lanes, by finish_unsigned: sums without their bias.
template <class V, Shortcut kShortcut>
NYBBLE_INLINE void finish_two(ShortcutIs<kShortcut>, const Finish& f, const typename V::I32* sums) {
  const typename V::I32 results[2] = {finish_unsigned<V, kShortcut>(f, sums[0], 0),
                                      finish_unsigned<V, kShortcut>(f, sums[1], V::kLanes32)};
  V::store_positive_bytes(static_cast<std::uint8_t*>(f.out) + f.base, results);
}

// In float32 with a guard: likewise, without a shortcut.
template <class V>
NYBBLE_INLINE void finish_two(GuardIs, const Finish& f, const typename V::I32* sums) {
  finish_guarded<V, Shortcut::none>(
      f, kChannelAlign, [&](std::int32_t i) NYBBLE_LAMBDA { return sums[i / V::kLanes32]; }, false);
}

// P pixels of kChannelAlign sums in registers.
template <class V, int P, class HowTo>
NYBBLE_INLINE void finish_in_registers(HowTo how_to, const ConvTask& task, std::int64_t pixel, std::int32_t first,
                                       typename V::I32 (&sums)[P][2]) {
  // GCC 12 would copy every sum in every turn of the loop before, or spill some.
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    V::hold(sums[p][0]);
    V::hold(sums[p][1]);
  });
  // A copy, which no store of a byte could change in the compiler's eyes.
  const Epilogue e = *task.epilogue;
  const Layout& output = task.shape->output;
  std::int64_t base = pixel * output.stride + first;
  for_each_index<P>([&](auto p) NYBBLE_LAMBDA {
    finish_two<V>(how_to, Finish{e, output, pixel + p, base, first, task.shortcut, task.output}, sums[p]);
    base += output.stride;
  });
}

template <class V, Words kWords>
__attribute__((noinline)) void finish_word_tile(const Epilogue& e, const Layout& output, std::int64_t pixel,
                                                std::int32_t count, std::int32_t first, const void* shortcut, void* out,
                                                const std::int32_t* sums) {
  for (std::int32_t i = 0; i < count; ++i, ++pixel, sums += kChannelAlign) {
    finish_word_sums<V, kWords>({e, output, pixel, pixel * output.stride + first, first, shortcut, out}, sums);
  }
}

// The same for sums that have their bias, and are saturated to 16 bits. Right only where Epilogue::words is not zero
// for the channels.
template <class V>
void finish_saturated(const Epilogue& e, const Layout& output, std::int64_t pixel, std::int32_t count,
                      std::int32_t first, const void* shortcut, void* out, const std::int32_t* sums) {
  with_words(e, [&](auto words) NYBBLE_LAMBDA {
    finish_word_tile<V, decltype(words)::value>(e, output, pixel, count, first, shortcut, out, sums);
  });
}

// How sums of the kChannelAlign outputs from `first` are finished, and the bias that they begin with.
template <class V>
struct TileFinish {
  const Epilogue& e;
  bool is_word;
  const std::int32_t* bias;

  NYBBLE_INLINE TileFinish(const Epilogue& epilogue, std::int32_t first)
      : e(epilogue),
        is_word(e.words != nullptr && e.words[first / kChannelAlign] != 0),
        bias(is_word ? e.bias + first : kNoBias) {}

  // Calls function(std::integral_constant<int, count>, how_to) where finish_in_registers does so many pixels of at most
  // kMost, and the epilogue, by WordsIs, ShortcutIs or GuardIs. Otherwise false.
  template <int kMost, class F>
  NYBBLE_INLINE bool in_registers(std::int32_t count, const F& function) const {
    if (count != kMost && count != kMost - 1 && count != kMost / 2) return false;
    return with_epilogue([&](auto how_to) NYBBLE_LAMBDA {
      if (count == kMost)
        function(std::integral_constant<int, kMost>{}, how_to);
      else if (count == kMost - 1)
        function(std::integral_constant<int, kMost - 1>{}, how_to);
      else
        function(std::integral_constant<int, kMost / 2>{}, how_to);
    });
  }

  // Whether finish_unsigned is exact.
  NYBBLE_INLINE bool fits_lanes() const { return e.narrow && e.requantize && e.is_unsigned(); }

  // Calls function(how_to) where finish_two does an epilogue without a shortcut. Otherwise false.
  template <class F>
  NYBBLE_INLINE bool with_plain_epilogue(const F& function) const {
    if (is_word)
      with_plain_words(e, function);
    else if (e.guarded && e.is_unsigned())
      function(GuardIs{});
    else if (fits_lanes())
      function(ShortcutIs<Shortcut::none>{});
    else
      return false;
    return true;
  }

  template <class F>
  NYBBLE_INLINE bool with_epilogue(const F& function) const {
    if (!e.shortcut) return with_plain_epilogue(function);
    if (is_word) {
      with_words(e, function);
      return true;
    }
    if (!fits_lanes()) return false;
    if (e.has_plain_shortcut())
      function(ShortcutIs<Shortcut::u8_scaled>{});
    else
      function(ShortcutIs<Shortcut::any>{});
    return true;
  }

  // `count` pixels, whose sums follow each other.
  NYBBLE_INLINE void operator()(const Layout& output, std::int64_t pixel, std::int32_t count, std::int32_t first,
                                const void* shortcut, void* out, const std::int32_t* sums) const {
    (is_word ? finish_saturated<V> : finish_tile<V>)(e, output, pixel, count, first, shortcut, out, sums);
  }
};

}  // namespace
}  // namespace nybble
