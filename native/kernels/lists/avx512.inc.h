// Lists of non-zero channel groups, sixteen groups at a time. Included by the files of instruction sets.
// Compressing in a register and storing whole is much quicker than a compressing store on Zen 4.
#pragma once

#include <immintrin.h>

#include "kernels/lists/each.inc.h"
#include "kernels/lists/kernels.h"

namespace nybble {
namespace {

void build_pair_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  const __m512i lane = _mm512_slli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 16);
  for_each_groups<16>(
      first, count, lists, [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
        const std::uint8_t* values = input + pixel * stride + 2 * group;
        const __m512i pairs = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
        const __mmask16 mask = _mm512_test_epi32_mask(pairs, pairs);
        const __m512i entries = _mm512_or_si512(pairs, _mm512_add_epi32(lane, _mm512_set1_epi32(index << 16)));
        _mm512_storeu_si512(lists.entries + place, _mm512_maskz_compress_epi32(mask, entries));
        return static_cast<std::uint32_t>(__builtin_popcount(mask));
      });
}

void build_quad_lists(const std::uint8_t* input, std::int32_t stride, std::int64_t first, std::int64_t count,
                      const NonZeroLists& lists) {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for_each_groups<16>(first, count, lists,
                      [&](std::int64_t pixel, std::int32_t group, std::int32_t index, std::int64_t place) {
                        // A stride that is an odd multiple of 32 channels ends half way through the last sixteen quads.
                        const __mmask16 present = 4 * group + 64 <= stride ? 0xFFFF : 0x00FF;
                        const __m512i quads = _mm512_maskz_loadu_epi32(present, input + pixel * stride + 4 * group);
                        const __mmask16 mask = _mm512_test_epi32_mask(quads, quads);
                        _mm512_storeu_si512(lists.entries + place, _mm512_maskz_compress_epi32(mask, quads));
                        const __m512i indices = _mm512_add_epi32(lane, _mm512_set1_epi32(index));
                        _mm256_storeu_si256(reinterpret_cast<__m256i*>(lists.indices + place),
                                            _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(mask, indices)));
                        return static_cast<std::uint32_t>(__builtin_popcount(mask));
                      });
}

constexpr ListsKernels kListsKernels = {build_pair_lists, build_quad_lists};

}  // namespace
}  // namespace nybble
