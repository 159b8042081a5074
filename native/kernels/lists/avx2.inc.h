// Lists of non-zero channel groups, eight groups at a time. Included by the files of instruction sets.
#pragma once

#include <immintrin.h>

#include "kernels/lists/each.inc.h"
#include "kernels/lists/kernels.h"

namespace nybble {
namespace {

// For each mask of eight lanes, the lanes that are set, in order.
struct CompressTable {
  std::uint32_t lanes[256][8];
};

constexpr CompressTable make_compress_table() {
  CompressTable table{};
  for (std::uint32_t mask = 0; mask < 256; ++mask) {
    int count = 0;
    for (std::uint32_t lane = 0; lane < 8; ++lane)
      if (mask >> lane & 1) table.lanes[mask][count++] = lane;
  }
  return table;
}

alignas(32) constexpr CompressTable kCompress = make_compress_table();

inline std::uint32_t non_zero_mask(__m256i groups) {
  const __m256i is_zero = _mm256_cmpeq_epi32(groups, _mm256_setzero_si256());
  return ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_zero))) & 255;
}

void build_pair_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  const __m256i lane = _mm256_setr_epi32(0, 1 << 16, 2 << 16, 3 << 16, 4 << 16, 5 << 16, 6 << 16, 7 << 16);
  for_each_groups<8>(
      first, count, lists, [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
        const std::uint8_t* values = input + pixel * stride + 2 * group;
        const __m256i pairs = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
        const std::uint32_t mask = non_zero_mask(pairs);
        const __m256i entries = _mm256_or_si256(pairs, _mm256_add_epi32(lane, _mm256_set1_epi32(index << 16)));
        const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.lanes[mask]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lists.entries + place),
                            _mm256_permutevar8x32_epi32(entries, lanes));
        return static_cast<std::uint32_t>(__builtin_popcount(mask));
      });
}

void build_quad_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  for_each_groups<8>(
      first, count, lists, [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
        // A stride of 32 channels has 8 quads; the list's second eight lie past the pixel.
        if (4 * group >= stride) return 0u;
        const __m256i quads = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(input + pixel * stride + 4 * group));
        const std::uint32_t mask = non_zero_mask(quads);
        const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kCompress.lanes[mask]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lists.entries + place),
                            _mm256_permutevar8x32_epi32(quads, lanes));
        const __m256i indices = _mm256_add_epi32(lanes, _mm256_set1_epi32(index));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(lists.indices + place),
                         _mm_packus_epi32(_mm256_castsi256_si128(indices), _mm256_extracti128_si256(indices, 1)));
        return static_cast<std::uint32_t>(__builtin_popcount(mask));
      });
}

constexpr ListsKernels kListsKernels = {build_pair_lists, build_quad_lists};

}  // namespace
}  // namespace nybble
