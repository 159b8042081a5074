// How values lie in device memory: pixel by pixel, channels together, padded to whole groups of eight.
#pragma once

#include "gpu/kernels/device.h"

namespace nybble::gpu {

// Two channels per byte, the first in the low nibble; one per byte; one in 32 bits. 32-bit values are sums or floats.
enum Form : s32 { kNibbles = 0, kBytes = 1, kWords = 2 };

// `pitch` is the channels from one pixel to the next: a multiple of 64 (nibbles), 32 (bytes) or 8 (words).
struct Tensor {
  u8* data;
  s32 form;
  s32 is_signed;
  s32 pitch;
  s32 channels;
};

NYBBLE_DEVICE s32 byte_at(u32 word, s32 index, bool is_signed) {
  const u32 top = word << (24 - 8 * index);
  return is_signed ? static_cast<s32>(top) >> 24 : static_cast<s32>(top >> 24);
}

NYBBLE_DEVICE s32 nibble_at(u32 word, s32 index, bool is_signed) {
  const u32 top = word << (28 - 4 * index);
  return is_signed ? static_cast<s32>(top) >> 28 : static_cast<s32>(top >> 28);
}

// Eight channels from `channel` on, a multiple of eight.
NYBBLE_DEVICE void load8(const Tensor& from, s64 pixel, s32 channel, s32 (&v)[8]) {
  const s64 first = pixel * from.pitch + channel;
  if (from.form == kNibbles) {
    const u32 word = global_load(reinterpret_cast<const u32*>(from.data + first / 2));
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = nibble_at(word, i, from.is_signed != 0);
  } else if (from.form == kBytes) {
    const Words2 words = global_load(reinterpret_cast<const Words2*>(from.data + first));
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) v[i] = byte_at(words.word[i / 4], i % 4, from.is_signed != 0);
  } else {
    const auto* at = reinterpret_cast<const Words4*>(from.data + 4 * first);
    const Words4 low = global_load(at), high = global_load(at + 1);
    NYBBLE_UNROLL
    for (s32 i = 0; i < 4; ++i) v[i] = static_cast<s32>(low.word[i]), v[4 + i] = static_cast<s32>(high.word[i]);
  }
}

// Where a pixel begins.
NYBBLE_DEVICE const u8* pixel_address(const Tensor& from, s64 pixel) {
  const s64 first = pixel * from.pitch;
  return from.data + (from.form == kNibbles ? first / 2 : from.form == kBytes ? first : 4 * first);
}

// One channel of a pixel that begins at an address.
NYBBLE_DEVICE s32 load1(const Tensor& from, const u8* pixel, s32 channel) {
  if (from.form == kNibbles) {
    return nibble_at(global_load(pixel + channel / 2), channel & 1, from.is_signed != 0);
  }
  if (from.form == kBytes) return byte_at(global_load(pixel + channel), 0, from.is_signed != 0);
  return global_load(reinterpret_cast<const s32*>(pixel) + channel);
}

// The values fit their type; nibbles are clamped, which then changes nothing.
NYBBLE_DEVICE void store8(const Tensor& to, s64 pixel, s32 channel, const s32 (&v)[8]) {
  const s64 first = pixel * to.pitch + channel;
  if (to.form == kNibbles) {
    const u32 word = to.is_signed != 0 ? pack_nibbles<true>(v) : pack_nibbles<false>(v);
    global_store(reinterpret_cast<u32*>(to.data + first / 2), word);
  } else if (to.form == kBytes) {
    Words2 words{};
    NYBBLE_UNROLL
    for (s32 i = 0; i < 8; ++i) words.word[i / 4] |= (static_cast<u32>(v[i]) & 255U) << (8 * (i % 4));
    global_store(reinterpret_cast<Words2*>(to.data + first), words);
  } else {
    auto* at = reinterpret_cast<Words4*>(to.data + 4 * first);
    Words4 low{}, high{};
    NYBBLE_UNROLL
    for (s32 i = 0; i < 4; ++i) low.word[i] = static_cast<u32>(v[i]), high.word[i] = static_cast<u32>(v[4 + i]);
    global_store(at, low);
    global_store(at + 1, high);
  }
}

}  // namespace nybble::gpu
