// Bytes32 for processors with vectors of 64 bytes, which store two of 32 at once.
#pragma once

#include "kernels/simd/bytes32.h"

namespace nybble {

struct Bytes32Avx512 : Bytes32 {
  // Byte i of each of four vectors, for every i in order: two stores in place of eight, which were what limited it.
  static NYBBLE_INLINE void store_quads(std::uint8_t* p, Bytes a, Bytes b, Bytes c, Bytes d) {
    const __m512i even = join(a, c), odd = join(b, d);
    // In 16 bytes each: pairs of a and b of bytes 0 to 7 and 16 to 23, the same of c and d; the other bytes likewise.
    const __m512i low = _mm512_unpacklo_epi8(even, odd), high = _mm512_unpackhi_epi8(even, odd);
    _mm512_storeu_si512(p, _mm512_permutex2var_epi16(low, places(0), high));
    _mm512_storeu_si512(p + 64, _mm512_permutex2var_epi16(low, places(8), high));
  }

 private:
  static NYBBLE_INLINE __m512i join(Bytes low, Bytes high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  // Where the words of 16 results lie: of i, a and b in word i + `first` and c and d 16 words later, from the second
  // vector (32 more) where i is 8 and more.
  static NYBBLE_INLINE __m512i places(std::int32_t first) {
    constexpr auto kPair = [](std::int32_t word) { return word | (word + 16) << 16; };
    const __m512i of_none =
        _mm512_setr_epi32(kPair(0), kPair(1), kPair(2), kPair(3), kPair(4), kPair(5), kPair(6), kPair(7), kPair(32),
                          kPair(33), kPair(34), kPair(35), kPair(36), kPair(37), kPair(38), kPair(39));
    return _mm512_add_epi16(of_none, _mm512_set1_epi16(static_cast<std::int16_t>(first)));
  }
};

}  // namespace nybble
