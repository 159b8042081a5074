// From sums to stored values: shortcut, ReLU, requantize, table.
#pragma once

#include "gpu/kernels/tensor.h"

namespace nybble::gpu {

// How sums become codes: not at all, in 32 bits where the host's bound allows it, or in 64 bits.
enum Requantize : s32 { kAsTheyAre = 0, kNarrow = 1, kWide = 2 };

// Arrays have an entry for each channel that is stored, padding included.
struct Epilogue {
  Tensor out;
  Tensor shortcut;             // data null: none
  const u32* shortcut_factor;  // null: added as it is
  const u32* factor;
  const s32* negative_factor;  // null: factor; else the one of sums below 0, and requantize is kWide
  const u8* table;             // null: none; 256 codes, of values from table_low on
  s32 shortcut_shift;
  s32 shortcut_is_narrow;   // whether the shortcut is rescaled in 32 bits
  s32 relu_low, relu_high;  // of the sums; the whole range where there is no ReLU, or where `low` has its place
  s32 requantize;           // a Requantize
  s32 shift;
  s32 low, high;  // of the codes that requantizing gives
  s32 table_low;
};

// What rounds to the nearest where so many bits are left out.
NYBBLE_DEVICE s32 half_of(s32 shift) { return static_cast<s32>((1U << shift) >> 1); }

// sign(v) * ((|v| + half) >> shift) of v = sum * factor, where |v| + half < 2^31.
NYBBLE_DEVICE s32 requantized(s32 sum, u32 factor, s32 shift) {
  const s32 v = sum * static_cast<s32>(factor);
  return (v + half_of(shift) + (shift > 0 ? v >> 31 : 0)) >> shift;
}

// The same where |v| + half < 2^63.
NYBBLE_DEVICE s64 requantized_wide(s32 sum, s64 factor, s32 shift) {
  const s64 v = static_cast<s64>(sum) * factor;
  const s64 half = (1LL << shift) >> 1;
  return (v + half + (shift > 0 ? v >> 63 : 0)) >> shift;
}

template <typename T>
NYBBLE_DEVICE T clamped(T v, T low, T high) {
  const T raised = v > low ? v : low;
  return raised < high ? raised : high;
}

// The factors of eight channels.
NYBBLE_DEVICE void load_factors(const u32* from, u32 (&factor)[8]) {
  const auto* at = reinterpret_cast<const Words4*>(from);
  const Words4 low = global_load(at), high = global_load(at + 1);
  NYBBLE_UNROLL
  for (s32 i = 0; i < 4; ++i) factor[i] = low.word[i], factor[4 + i] = high.word[i];
}

NYBBLE_DEVICE void add_shortcut(const Epilogue& e, s64 pixel, s32 channel, s32 (&v)[8]) {
  s32 other[8];
  load8(e.shortcut, pixel, channel, other);
  if (e.shortcut_factor != nullptr && e.shortcut_is_narrow != 0) {
    u32 factor[8];
    load_factors(e.shortcut_factor + channel, factor);
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) other[i] = requantized(other[i], factor[i], e.shortcut_shift);
  } else if (e.shortcut_factor != nullptr) {
    // It fits 32 bits: inference refuses others.
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) {
      const u32 factor = global_load(e.shortcut_factor + channel + i);
      other[i] = static_cast<s32>(requantized_wide(other[i], factor, e.shortcut_shift));
    }
  }
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) v[i] += other[i];
}

NYBBLE_DEVICE void look_up(const Epilogue& e, s32 (&v)[8]) {
  NYBBLE_UNROLL
  for (s32 i = 0; i < 8; ++i) v[i] = byte_at(global_load(e.table + v[i] - e.table_low), 0, e.out.is_signed != 0);
}

// Finishes and stores the sums of eight channels of a pixel.
NYBBLE_DEVICE void finish8_inline(const Epilogue& e, s64 pixel, s32 channel, s32 (&v)[8]) {
  // The result may be padded to more channels than the shortcut.
  if (e.shortcut.data != nullptr && channel < e.shortcut.pitch) add_shortcut(e, pixel, channel, v);
  if (e.relu_low != kLowest || e.relu_high != kHighest) {
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = clamped(v[i], e.relu_low, e.relu_high);
  }
  if (e.requantize == kNarrow) {
    u32 factor[8];
    load_factors(e.factor + channel, factor);
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = clamped(requantized(v[i], factor[i], e.shift), e.low, e.high);
  } else if (e.requantize == kWide) {
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) {
      s64 factor = global_load(e.factor + channel + i);
      if (e.negative_factor != nullptr && v[i] < 0) factor = global_load(e.negative_factor + channel + i);
      const s64 code = requantized_wide(v[i], factor, e.shift);
      v[i] = static_cast<s32>(clamped(code, static_cast<s64>(e.low), static_cast<s64>(e.high)));
    }
  }
  if (e.table != nullptr) look_up(e, v);
  store8(e.out, pixel, channel, v);
}

struct Sums8 {
  s32 v[8];
};

// Not inlined, since each kernel would get a copy for each of its fragments.
NYBBLE_CALLED void finish8_called(const Epilogue& e, s64 pixel, s32 channel, Sums8 sums) {
  finish8_inline(e, pixel, channel, sums.v);
}

NYBBLE_DEVICE void finish8(const Epilogue& e, s64 pixel, s32 channel, const s32 (&v)[8]) {
  finish8_called(e, pixel, channel, {{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}});
}

}  // namespace nybble::gpu
