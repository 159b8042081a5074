// 32 bytes at a time, in which inputs are staged and transformed, in AVX2 and what includes it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/tensor.h"

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
  static NYBBLE_INLINE void store(std::uint8_t* p, Bytes v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static NYBBLE_INLINE Bytes or8(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
  static NYBBLE_INLINE Bytes and8(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
  static NYBBLE_INLINE Bytes xor8(Bytes a, Bytes b) { return _mm256_xor_si256(a, b); }
  static NYBBLE_INLINE Bytes max_u8(Bytes a, Bytes b) { return _mm256_max_epu8(a, b); }
  static NYBBLE_INLINE Bytes max_s8(Bytes a, Bytes b) { return _mm256_max_epi8(a, b); }
  // Of signed bytes.
  static NYBBLE_INLINE Bytes sub_saturated8(Bytes a, Bytes b) { return _mm256_subs_epi8(a, b); }
  // Byte i of `part`, the same 16 bytes in each part of 16, is picked by index[i] % 16; 0 where index[i] is negative.
  static NYBBLE_INLINE Bytes pick(Bytes part, Bytes index) { return _mm256_shuffle_epi8(part, index); }
  // The same 16 bytes in each part of 16.
  static NYBBLE_INLINE Bytes load_part(const std::uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // Byte picks[i] of i's part of 16; zero where picks[i] is 128.
  static NYBBLE_INLINE Bytes shuffle(Bytes v, const std::uint8_t* picks) { return _mm256_shuffle_epi8(v, load(picks)); }
  // Neighbours of a and b, in the order of staged_output(i, kBytes).
  static NYBBLE_INLINE void store_interleaved(std::uint8_t* p, Bytes a, Bytes b) {
    store(p, _mm256_unpacklo_epi8(a, b));
    store(p + kBytes, _mm256_unpackhi_epi8(a, b));
  }
  // Byte i of each of four vectors, for every i in order.
  static NYBBLE_INLINE void store_quads(std::uint8_t* p, Bytes a, Bytes b, Bytes c, Bytes d) {
    const Bytes low = _mm256_unpacklo_epi8(a, b), low_beside = _mm256_unpacklo_epi8(c, d);
    const Bytes high = _mm256_unpackhi_epi8(a, b), high_beside = _mm256_unpackhi_epi8(c, d);
    const Bytes quads[4] = {_mm256_unpacklo_epi16(low, low_beside), _mm256_unpackhi_epi16(low, low_beside),
                            _mm256_unpacklo_epi16(high, high_beside), _mm256_unpackhi_epi16(high, high_beside)};
    auto* out = reinterpret_cast<__m128i*>(p);
    for (int n = 0; n < 4; ++n) {
      _mm_storeu_si128(out + n, _mm256_castsi256_si128(quads[n]));
      _mm_storeu_si128(out + n + 4, _mm256_extracti128_si256(quads[n], 1));
    }
  }
  // Each of the 16 pairs of neighbouring bytes twice.
  static NYBBLE_INLINE void store_pairs_twice(std::uint32_t* p, Bytes v) {
    const Bytes ordered = _mm256_permute4x64_epi64(v, 0xD8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_unpacklo_epi16(ordered, ordered));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), _mm256_unpackhi_epi16(ordered, ordered));
  }
};

}  // namespace nybble
