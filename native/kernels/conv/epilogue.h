// The epilogue of a convolution: what happens to its sums before they are stored.
#pragma once

#include <cstdint>

#include "base/lane_factor.h"
#include "base/tensor.h"

namespace nybble {

// Bits below a step that guarded.inc.h computes results with.
inline constexpr int kGuardBits = 13;

// What happens to a sum before it is stored, in this order: bias, shortcut, ReLU, requantize.
// Arrays have `output.stride` elements, zero past the channels.
struct Epilogue {
  const std::int32_t* bias = nullptr;

  bool shortcut = false;
  Element shortcut_type = Element::s32;
  bool shortcut_requantize = false;  // v * factor, rounded off by shift, before it is added
  const std::uint32_t* shortcut_factor = nullptr;
  std::int32_t shortcut_shift = 0;
  LaneFactor shortcut_lanes;  // the same factor and shift

  bool relu = false;
  std::int32_t relu_maximum = INT32_MAX;

  bool requantize = false;
  const std::uint32_t* factor = nullptr;
  const float* scale = nullptr;  // factor * 2^-shift; where `guarded`, 2^kGuardBits times that
  std::int32_t shift = 0;
  std::int32_t low = INT32_MIN, high = INT32_MAX;

  // Where values below zero have factors of their own (PReLU): these, of either sign, in place of `factor`. There is no
  // ReLU then, and nothing below is set but these: in float32, where it is `guarded` by EpilogueData::set_negative,
  // 2^kGuardBits * negative * 2^-shift, and `scale` is 2^kGuardBits times what it says. Null elsewhere.
  const std::int64_t* negative = nullptr;
  const float* negative_scale = nullptr;

  // Whether 32-bit lanes are exact: `shortcut_lanes` fits, and
  // requantizing in float32 cannot round: high + 1 times 2^shift is at most 2^24 and every factor is a
  // float32. (Below 2^24 every step is exact; above it every step is monotonic, and the result clamps.)
  bool narrow = false;

  // For results of one byte that float32 alone keeps from being `narrow`: factor * 2^-shift, for double precision. Null
  // elsewhere. Most of them are `guarded`: float32 does but for results close to a tie.
  const double* scale_double = nullptr;
  bool guarded = false;
  float guarded_most = 0;  // half a step above the largest result, in units of 2^-kGuardBits of a step

  // 16-bit lanes, for sums that fit them: exact in the groups of kChannelAlign channels where `words` is not
  // zero, as EpilogueData::use_words proves. Null where no group is.
  const std::uint8_t* words = nullptr;
  const std::int16_t* bias16 = nullptr;
  const std::uint16_t* factor16 = nullptr;  // factor * 2^(17 - shift)
  // Where factors need more bits: of factor * 2^(32 - shift - doublings) the low half, and its high half is factor16.
  // Sums are doubled so often. Null elsewhere.
  const std::uint16_t* factor16_low = nullptr;
  std::int32_t doublings = 0;
  const std::uint16_t* shortcut_factor16 = nullptr;
  // Unsigned shortcuts: one less than theirs, since the last bit is rounded. Signed ones of a signed result: eight
  // less, which their product loses as its high half.
  std::int32_t shortcut_shift16 = 0;

  // As EpilogueData::use_staged arranges them; null where it does not.
  const std::int32_t* bias_staged = nullptr;
  const float* scale_staged = nullptr;

  // Whether the shortcut is bytes without a sign, whose products 32 bits hold.
  NYBBLE_INLINE bool has_plain_shortcut() const {
    return shortcut && shortcut_type == Element::u8 && shortcut_requantize && shortcut_lanes.low == nullptr;
  }
  // Whether results are bytes that only a largest one bounds, as 0 is the least (a ReLU, or the clamp)...
  NYBBLE_INLINE bool is_unsigned() const { return relu ? relu_maximum == INT32_MAX && low <= 0 : low == 0; }
  // ... or bytes of both signs.
  NYBBLE_INLINE bool is_signed() const { return !relu && low < 0 && low >= INT8_MIN && high <= INT8_MAX; }
};

// sign(v) * ((|v| + half) >> shift) for v = value * factor; |value| < 2^31 and factor < 2^32, so that v
// and its rounding fit 64 bits.
std::int64_t requantize(std::int64_t value, std::uint32_t factor, std::int32_t shift);

// Finishes `count` sums of one pixel, output channels from `first`, in 64-bit integers: right for every
// epilogue, and the definition for the fast ones.
void finish_exact(const Epilogue& epilogue, const Layout& output, const std::int32_t* sums, std::int64_t pixel,
                  std::int32_t first, std::int32_t count, const void* shortcut, void* out);

}  // namespace nybble
