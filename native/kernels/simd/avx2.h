// The vector operations of the kernels in AVX2. Include inside a file's unnamed namespace is not needed:
// the type is named after its instruction set, so no two files can disagree about it.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/tensor.h"

namespace nybble {

struct Avx2 {
  using Bytes = __m256i;
  using I16 = __m256i;
  using I32 = __m256i;
  using F32 = __m256;
  static constexpr int kBytes = 32;
  static constexpr int kLanes16 = 16;
  static constexpr int kLanes32 = 8;
  // Whether add_quads is exact for every input, and one operation; whether its inputs are signed bytes; the largest
  // unsigned input that it is exact for.
  static constexpr bool kHasDotProducts = false;
  static constexpr bool kHasSignedQuads = false;
  static constexpr std::int32_t kMostQuadInput = 127;
  // Whether quads of any signed bytes are added in two vectors (add_split_quads).
  static constexpr bool kHasSplitQuads = false;
  static constexpr bool kHasLaneQuads = false;
  static constexpr bool kHasMatrixProducts = false;
  // Whether multiply_byte_pairs takes signed inputs, not unsigned ones.
  static constexpr bool kHasSignedPairs = false;
  // Whether a product of bytes, one input by several outputs, is added to 16-bit sums in one operation.
  static constexpr bool kHasSingleProducts = false;
  // Pixels computed together, each with two vectors of 32-bit sums: so many sums hide how long a product takes.
  static constexpr int kDotPixels = 4;
  // Vectors of 32-bit sums that registers hold with what they are made of, and squares of Winograd whose sums of 32,
  // 64, 96 and 128 outputs they hold; measured on Zen 4. Outputs in a block that suit most layers; measured there too.
  static constexpr int kUsualOutputs = 192;
  static constexpr int kQuadVectors = 12;
  static constexpr int kWinogradTogether[4] = {4, 2, 2, 1};

  static NYBBLE_INLINE Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static NYBBLE_INLINE void store(void* p, Bytes v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

  // 16-bit sums.
  static NYBBLE_INLINE I16 set16(std::int16_t v) { return _mm256_set1_epi16(v); }
  static NYBBLE_INLINE I16 load16(const std::int16_t* p) { return load(p); }
  static NYBBLE_INLINE void store16(std::int16_t* p, I16 v) { store(p, v); }
  static NYBBLE_INLINE I16 add16(I16 a, I16 b) { return _mm256_add_epi16(a, b); }
  // Keeps a value in its register: the compiler neither reorders the sums it is part of nor reads it again.
  static NYBBLE_INLINE void hold(__m256i& v) { NYBBLE_HOLD("+x", v); }
  static NYBBLE_INLINE I16 sub16(I16 a, I16 b) { return _mm256_sub_epi16(a, b); }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right16(I16 a) {
    return _mm256_srai_epi16(a, kBits);
  }
  // The low half of a list entry in every lane.
  static NYBBLE_INLINE Bytes broadcast_pair(const std::uint32_t* entry) {
    // From memory: through a general register it would take two more instructions.
    std::int16_t pair;
    __builtin_memcpy(&pair, entry, sizeof pair);
    return _mm256_set1_epi16(pair);
  }
  // The high half: the pair's index in its block.
  static NYBBLE_INLINE std::size_t pair_index(const std::uint32_t* entry) {
    std::uint16_t index;
    __builtin_memcpy(&index, reinterpret_cast<const std::uint8_t*>(entry) + 2, sizeof index);
    return index;
  }
  // Lane i: inputs[2i] * weights[2i] + inputs[2i + 1] * weights[2i + 1], unsigned by signed bytes. The sum must fit.
  static NYBBLE_INLINE I16 multiply_byte_pairs(Bytes inputs, Bytes weights) {
    return _mm256_maddubs_epi16(inputs, weights);
  }
  static NYBBLE_INLINE I32 widen_low(I16 v) { return _mm256_cvtepi16_epi32(_mm256_castsi256_si128(v)); }
  static NYBBLE_INLINE I32 widen_high(I16 v) { return _mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1)); }

  // 16-bit epilogue.
  static NYBBLE_INLINE I16 add_saturated16(I16 a, I16 b) { return _mm256_adds_epi16(a, b); }
  static NYBBLE_INLINE I16 min16(I16 a, I16 b) { return _mm256_min_epi16(a, b); }
  static NYBBLE_INLINE I16 max16(I16 a, I16 b) { return _mm256_max_epi16(a, b); }
  static NYBBLE_INLINE I16 abs16(I16 a) { return _mm256_abs_epi16(a); }
  static NYBBLE_INLINE I16 copy_sign16(I16 magnitude, I16 sign) { return _mm256_sign_epi16(magnitude, sign); }
  static NYBBLE_INLINE I16 mul16(I16 a, I16 b) { return _mm256_mullo_epi16(a, b); }
  static NYBBLE_INLINE I16 mul_high_u16(I16 a, I16 b) { return _mm256_mulhi_epu16(a, b); }
  // Unsigned: half of each, rounded up.
  static NYBBLE_INLINE I16 halve_u16(I16 a) { return _mm256_avg_epu16(a, _mm256_setzero_si256()); }
  // Unsigned: half of the sum of two, rounded up.
  static NYBBLE_INLINE I16 average_u16(I16 a, I16 b) { return _mm256_avg_epu16(a, b); }
  static NYBBLE_INLINE I16 shift_right_u16(I16 a, int n) { return _mm256_srl_epi16(a, _mm_cvtsi32_si128(n)); }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right_u16(I16 a) {
    return _mm256_srli_epi16(a, kBits);
  }
  static NYBBLE_INLINE I16 widen16_u8(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static NYBBLE_INLINE I16 widen16_s8(const std::int8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // Neighbours of a and b as 32-bit lanes; the order of the lanes is the one that pack32_saturated undoes.
  static NYBBLE_INLINE I16 pair_low(I16 a, I16 b) { return _mm256_unpacklo_epi16(a, b); }
  static NYBBLE_INLINE I16 pair_high(I16 a, I16 b) { return _mm256_unpackhi_epi16(a, b); }
  static NYBBLE_INLINE I16 pack32_saturated(I32 low, I32 high) { return _mm256_packs_epi32(low, high); }
  // 32 values of 0 to 32,767, no more than `high` of them kept.
  static NYBBLE_INLINE void store_unsigned_bytes(std::uint8_t* p, const I16* words, std::int32_t high) {
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(words[0], words[1]), 0xD8);
    store(p, _mm256_min_epu8(bytes, _mm256_set1_epi8(static_cast<char>(high))));
  }
  // 32 values, which fit signed bytes.
  static NYBBLE_INLINE void store_signed_bytes(std::uint8_t* p, const I16* words) {
    store(p, _mm256_permute4x64_epi64(_mm256_packs_epi16(words[0], words[1]), 0xD8));
  }

  // Sums of kChannelAlign channels in the order of staged_output(i, Staging::kBytes), put in order.
  static NYBBLE_INLINE void order16(I16* sums) {
    const __m256i low = _mm256_permute2x128_si256(sums[0], sums[1], 0x20);
    sums[1] = _mm256_permute2x128_si256(sums[0], sums[1], 0x31);
    sums[0] = low;
  }
  // kLanes32 of them from channel i, stored as pair_low and pair_high of each vector leave them.
  static NYBBLE_INLINE I32 load_ordered32(const std::int32_t* sums, std::int32_t i) {
    const std::int32_t* half = sums + i % 16 * 2 + i / 16 * 4;
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half + 8));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
  }

  // 16-bit lanes as 32-bit ones, two neighbours each.
  static NYBBLE_INLINE I32 as32(I16 v) { return v; }

  // 16-bit operands, 32-bit sums.
  static NYBBLE_INLINE I16 widen_bytes(const std::uint8_t* p) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  // Four bytes, or two 16-bit values, in every 32-bit lane.
  static NYBBLE_INLINE Bytes broadcast4(const void* p) {
    std::int32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return _mm256_set1_epi32(value);
  }
  static NYBBLE_INLINE I16 broadcast_words(const void* p) { return broadcast4(p); }
  // Lane i: a[2i] * b[2i] + a[2i + 1] * b[2i + 1].
  static NYBBLE_INLINE I32 multiply_wide_pairs(I16 a, I16 b) { return _mm256_madd_epi16(a, b); }
  // Four unsigned inputs of at most 127 by four weights: 2 * 127 * 128 fits 16 bits, no pair saturates.
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    const __m256i pairs = multiply_byte_pairs(inputs, weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // Epilogue.
  static NYBBLE_INLINE I32 set32(std::int32_t v) { return _mm256_set1_epi32(v); }
  static NYBBLE_INLINE I32 load32(const std::int32_t* p) { return load(p); }
  static NYBBLE_INLINE void store32(std::int32_t* p, I32 v) { store(p, v); }
  static NYBBLE_INLINE I32 add32(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
  static NYBBLE_INLINE I32 sub32(I32 a, I32 b) { return _mm256_sub_epi32(a, b); }
  static NYBBLE_INLINE I32 mul32(I32 a, I32 b) { return _mm256_mullo_epi32(a, b); }
  static NYBBLE_INLINE I32 min32(I32 a, I32 b) { return _mm256_min_epi32(a, b); }
  static NYBBLE_INLINE I32 max32(I32 a, I32 b) { return _mm256_max_epi32(a, b); }
  static NYBBLE_INLINE I32 abs32(I32 a) { return _mm256_abs_epi32(a); }
  static NYBBLE_INLINE I32 shift_right32(I32 a, int n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_left32(I32 a) {
    return _mm256_slli_epi32(a, kBits);
  }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_right32(I32 a) {
    return _mm256_srai_epi32(a, kBits);
  }
  static NYBBLE_INLINE I32 min_u32(I32 a, I32 b) { return _mm256_min_epu32(a, b); }
  static NYBBLE_INLINE bool any_zero32(I32 a) {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(a, _mm256_setzero_si256())) != 0;
  }
  static NYBBLE_INLINE I32 copy_sign32(I32 magnitude, I32 sign) { return _mm256_sign_epi32(magnitude, sign); }
  static NYBBLE_INLINE I32 widen_u8(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static NYBBLE_INLINE I32 widen_s8(const std::int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static NYBBLE_INLINE F32 setf(float v) { return _mm256_set1_ps(v); }
  static NYBBLE_INLINE F32 loadf(const float* p) { return _mm256_loadu_ps(p); }
  static NYBBLE_INLINE F32 to_float(I32 v) { return _mm256_cvtepi32_ps(v); }
  static NYBBLE_INLINE I32 truncate(F32 v) { return _mm256_cvttps_epi32(v); }
  // To the nearest integer; what 32 bits do not hold becomes the least there is.
  static NYBBLE_INLINE I32 round(F32 v) { return _mm256_cvtps_epi32(v); }
  static NYBBLE_INLINE F32 mulf(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
  static NYBBLE_INLINE F32 addf(F32 a, F32 b) { return _mm256_add_ps(a, b); }
  static NYBBLE_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
  static NYBBLE_INLINE F32 minf(F32 a, F32 b) { return _mm256_min_ps(a, b); }
  static NYBBLE_INLINE F32 maxf(F32 a, F32 b) { return _mm256_max_ps(a, b); }
  static NYBBLE_INLINE F32 half_with_sign_of(F32 v) {
    return _mm256_or_ps(_mm256_set1_ps(0.5f), _mm256_and_ps(v, _mm256_set1_ps(-0.0f)));
  }
  // 32 values of at most 255; negative ones become 0.
  static NYBBLE_INLINE void store_positive_bytes(std::uint8_t* p, const I32* v) {
    const __m256i words0 = _mm256_packus_epi32(v[0], v[1]), words1 = _mm256_packus_epi32(v[2], v[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    store(p, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words0, words1), order));
  }
  // 32 values; those beyond `low` or `high`, signed bytes, become these.
  static NYBBLE_INLINE void store_clamped_bytes(std::uint8_t* p, const I32* v, std::int32_t low, std::int32_t high) {
    const __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words0, words1), order);
    const __m256i cut = _mm256_min_epi8(bytes, _mm256_set1_epi8(static_cast<char>(high)));
    store(p, _mm256_max_epi8(cut, _mm256_set1_epi8(static_cast<char>(low))));
  }
  // 32 values in the order that load_ordered32 reads, at most `high` of them kept; negative ones become 0.
  static NYBBLE_INLINE void store_staged_bytes(std::uint8_t* p, const I32* v, std::int32_t high) {
    const __m256i words0 = _mm256_packs_epi32(v[0], v[1]), words1 = _mm256_packs_epi32(v[2], v[3]);
    store(p, _mm256_min_epu8(_mm256_packus_epi16(words0, words1), _mm256_set1_epi8(static_cast<char>(high))));
  }
  // The low bytes of 16 values, which fit them.
  static NYBBLE_INLINE void store_bytes(std::uint8_t* p, I32 a, I32 b) {
    const __m256i low = _mm256_set1_epi32(255);
    const __m256i words = _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
  }
};

}  // namespace nybble
