// 32 bytes at a time, for the kernels of AVX2 and of what includes it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/tensor.h"

namespace nybble {

struct Bytes32 {
  using Bytes = __m256i;
  static constexpr int kBytes = 32;

  static NYBBLE_INLINE Bytes load(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static NYBBLE_INLINE Bytes set8(std::int8_t v) { return _mm256_set1_epi8(v); }
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return _mm256_add_epi8(a, b); }
  static NYBBLE_INLINE Bytes sub8(Bytes a, Bytes b) { return _mm256_sub_epi8(a, b); }
  // Each of the 16 pairs of neighbouring bytes twice.
  static NYBBLE_INLINE void store_pairs_twice(std::uint32_t* p, Bytes v) {
    const Bytes ordered = _mm256_permute4x64_epi64(v, 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_unpacklo_epi16(ordered, ordered));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), _mm256_unpackhi_epi16(ordered, ordered));
  }
};

}  // namespace nybble
