// Lists of non-zero channel groups in NEON: a vector's groups are moved together by a lookup of bytes. Included by the
// files of instruction sets.
#pragma once

#include <arm_neon.h>

#include "kernels/lists/each.inc.h"
#include "kernels/lists/kernels.h"

namespace nybble {
namespace {

// For each mask of four lanes of 32 bits, the bytes of those that are set, in order, and their numbers.
struct CompressQuads {
  std::uint8_t bytes[16][16];
  std::uint16_t lanes[16][4];
};

constexpr CompressQuads make_compress_quads() {
  CompressQuads table{};
  for (int mask = 0; mask < 16; ++mask) {
    int count = 0;
    for (int lane = 0; lane < 4; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      for (int byte = 0; byte < 4; ++byte)
        table.bytes[mask][4 * count + byte] = static_cast<std::uint8_t>(4 * lane + byte);
      table.lanes[mask][count++] = static_cast<std::uint16_t>(lane);
    }
  }
  return table;
}

alignas(64) constexpr CompressQuads kCompressQuads = make_compress_quads();
alignas(16) constexpr std::uint32_t kLaneBits[4] = {1, 2, 4, 8};

// For each mask of eight bytes, the numbers of those that are set, in order, and how many there are.
struct CompressBytes {
  std::uint8_t lanes[256][8];
  std::uint8_t counts[256];
};

constexpr CompressBytes make_compress_bytes() {
  CompressBytes table{};
  for (int mask = 0; mask < 256; ++mask)
    for (int lane = 0; lane < 8; ++lane)
      if (mask >> lane & 1) table.lanes[mask][table.counts[mask]++] = static_cast<std::uint8_t>(lane);
  return table;
}

alignas(64) constexpr CompressBytes kCompressBytes = make_compress_bytes();
alignas(8) constexpr std::uint8_t kByteBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};

// The lanes that are not zero, a bit each.
inline std::uint32_t non_zero_mask(uint32x4_t groups) {
  return vaddvq_u32(vandq_u32(vtstq_u32(groups, groups), vld1q_u32(kLaneBits)));
}

void build_pair_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  const uint32x4_t lane = {0, 1 << 16, 2 << 16, 3 << 16};
  for_each_groups<4>(first, count, lists,
                     [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
                       const std::uint8_t* values = input + pixel * stride + 2 * group;
                       const uint32x4_t pairs = vmovl_u16(vreinterpret_u16_u8(vld1_u8(values)));
                       const std::uint32_t mask = non_zero_mask(pairs);
                       const uint32x4_t numbers = vaddq_u32(lane, vdupq_n_u32(static_cast<std::uint32_t>(index) << 16));
                       const uint8x16_t entries = vreinterpretq_u8_u32(vorrq_u32(pairs, numbers));
                       vst1q_u32(lists.entries + place,
                                 vreinterpretq_u32_u8(vqtbl1q_u8(entries, vld1q_u8(kCompressQuads.bytes[mask]))));
                       return static_cast<std::uint32_t>(__builtin_popcount(mask));
                     });
}

void build_quad_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  for_each_groups<4>(
      first, count, lists, [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
        // The list of a stride of 32 channels has room for more quads than the pixel has.
        if (4 * group >= stride) return 0u;
        const uint8x16_t quads = vld1q_u8(input + pixel * stride + 4 * group);
        const std::uint32_t mask = non_zero_mask(vreinterpretq_u32_u8(quads));
        vst1q_u32(lists.entries + place, vreinterpretq_u32_u8(vqtbl1q_u8(quads, vld1q_u8(kCompressQuads.bytes[mask]))));
        vst1_u16(lists.indices + place,
                 vadd_u16(vld1_u16(kCompressQuads.lanes[mask]), vdup_n_u16(static_cast<std::uint16_t>(index))));
        return static_cast<std::uint32_t>(__builtin_popcount(mask));
      });
}

void build_single_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                        const NonZeroLists& lists) {
  const uint8x8_t bits = vld1_u8(kByteBits);
  for_each_groups<8>(first, count, lists,
                     [&](std::int64_t pixel, std::int32_t channel, std::int32_t index, std::int64_t place) {
                       const uint8x8_t values = vld1_u8(input + pixel * stride + channel);
                       const std::uint32_t mask = vaddv_u8(vand_u8(vtst_u8(values, values), bits));
                       const uint8x8_t lanes = vld1_u8(kCompressBytes.lanes[mask]);
                       const uint8x8_t numbers = vadd_u8(lanes, vdup_n_u8(static_cast<std::uint8_t>(index)));
                       // The number of a channel lies above it.
                       uint8x16_t entries = vcombine_u8(vtbl1_u8(values, lanes), numbers);
                       entries = vzip1q_u8(entries, vextq_u8(entries, entries, 8));
                       vst1q_u16(lists.singles + place, vreinterpretq_u16_u8(entries));
                       return static_cast<std::uint32_t>(kCompressBytes.counts[mask]);
                     });
}

constexpr ListsKernels kListsKernels = {build_pair_lists, build_quad_lists, build_single_lists};

}  // namespace
}  // namespace nybble
