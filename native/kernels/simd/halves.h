// Products of a pixel's own bytes on x86 with VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/tensor.h"

namespace nybble {

// The sum of (a0 + p)(a1 - q) over runs of 32 bytes, of which the first 16 are a0 and the others a1: exact while it
// fits 32 bits. By instructions, since compilers differ: clang makes no dot products of the loop over bytes.
NYBBLE_INLINE std::int32_t sum_of_halves(const std::uint8_t* bytes, std::int32_t count, char p, char q) {
  const __m128i first = _mm_set1_epi8(p), second = _mm_set1_epi8(q);
  __m128i sums = _mm_setzero_si128();
  for (std::int32_t at = 0; at < count; at += 32) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at));
    const __m128i y = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + at + 16));
    sums = _mm_dpbusd_epi32(sums, _mm_add_epi8(x, first), _mm_sub_epi8(y, second));
  }
  sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xb1)));
}

}  // namespace nybble
