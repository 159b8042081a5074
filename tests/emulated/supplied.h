// Intrinsics that SIMDe 0.7.4 lacks, or does not compute bit for bit, from Intel's definition of what they compute,
// lane by lane. They take whatever types __m512i and the others are: SIMDe's, or the compiler's own, which
// tests/emulated/ supplied.cpp compares them in.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace supplied {

// A vector as an array of lanes.
template <class Lane, class Vector>
struct Lanes {
  static constexpr std::size_t kCount = sizeof(Vector) / sizeof(Lane);
  Lane at[kCount];

  Lanes() = default;
  explicit Lanes(const Vector& v) { std::memcpy(at, &v, sizeof v); }
  Vector vector() const {
    Vector v;
    std::memcpy(&v, at, sizeof v);
    return v;
  }
};

// Lane i of the result is f(lane i of v, i).
template <class To, class Result, class From, class Vector, class F>
inline Result map(const Vector& v, const F& f) {
  const Lanes<From, Vector> from(v);
  Lanes<To, Result> to;
  static_assert(to.kCount <= from.kCount);
  for (std::size_t i = 0; i < to.kCount; ++i) to.at[i] = static_cast<To>(f(from.at[i], i));
  return to.vector();
}

// Each lane as a type that holds it, or cut to its low bits.
template <class To, class Result, class From, class Vector>
inline Result convert(const Vector& v) {
  return map<To, Result, From>(v, [](From lane, std::size_t) { return static_cast<To>(lane); });
}

inline __m512i mm512_cvtepi16_epi32(__m256i v) { return convert<std::int32_t, __m512i, std::int16_t>(v); }
inline __m512i mm512_cvtepi8_epi32(__m128i v) { return convert<std::int32_t, __m512i, std::int8_t>(v); }
inline __m512i mm512_cvtepu16_epi32(__m256i v) { return convert<std::int32_t, __m512i, std::uint16_t>(v); }
inline __m512i mm512_cvtepu8_epi16(__m256i v) { return convert<std::int16_t, __m512i, std::uint8_t>(v); }
inline __m512i mm512_cvtepu8_epi32(__m128i v) { return convert<std::int32_t, __m512i, std::uint8_t>(v); }
inline __m256i mm512_cvtepi32_epi16(__m512i v) { return convert<std::uint16_t, __m256i, std::uint32_t>(v); }
inline __m128i mm512_cvtepi32_epi8(__m512i v) { return convert<std::uint8_t, __m128i, std::uint32_t>(v); }
inline __m512 mm512_cvtepi32_ps(__m512i v) { return convert<float, __m512, std::int32_t>(v); }

// Unsigned words; those beyond 255 become 255.
inline __m256i mm512_cvtusepi16_epi8(__m512i v) {
  return map<std::uint8_t, __m256i, std::uint16_t>(
      v, [](std::uint16_t lane, std::size_t) { return lane < 255 ? lane : std::uint16_t{255}; });
}

// The "integer indefinite" for what 32 bits do not hold, and for what is no number.
inline std::int32_t integer(float whole) {
  const bool fits = whole >= -0x1p31f && whole < 0x1p31f;
  return fits ? static_cast<std::int32_t>(whole) : std::numeric_limits<std::int32_t>::min();
}
// To the nearest, ties to even: the rounding mode that the process has.
inline __m512i mm512_cvtps_epi32(__m512 v) {
  return map<std::int32_t, __m512i, float>(v, [](float lane, std::size_t) { return integer(std::nearbyint(lane)); });
}
inline __m512i mm512_cvttps_epi32(__m512 v) {
  return map<std::int32_t, __m512i, float>(v, [](float lane, std::size_t) { return integer(std::trunc(lane)); });
}

inline __m512i mm512_mask_sub_epi16(__m512i source, __mmask32 mask, __m512i a, __m512i b) {
  const Lanes<std::uint16_t, __m512i> from(source), left(a);
  return map<std::uint16_t, __m512i, std::uint16_t>(
      b, [&](std::uint16_t right, std::size_t i) { return mask >> i & 1 ? left.at[i] - right : from.at[i]; });
}

inline __m512i mm512_mulhi_epu16(__m512i a, __m512i b) {
  const Lanes<std::uint16_t, __m512i> left(a);
  return map<std::uint16_t, __m512i, std::uint16_t>(
      b, [&](std::uint16_t right, std::size_t i) { return std::uint32_t{left.at[i]} * right >> 16; });
}

// Shifts by 32 and more leave the sign in every bit.
inline __m512i mm512_srai_epi32(__m512i v, unsigned count) {
  return map<std::int32_t, __m512i, std::int32_t>(
      v, [&](std::int32_t lane, std::size_t) { return lane >> (count < 31 ? count : 31); });
}
// The count is the low 64 bits.
inline __m512i mm512_sra_epi32(__m512i v, __m128i count) {
  const std::uint64_t bits = Lanes<std::uint64_t, __m128i>(count).at[0];
  return mm512_srai_epi32(v, static_cast<unsigned>(bits < 31 ? bits : 31));
}

inline __mmask16 mm512_testn_epi32_mask(__m512i a, __m512i b) {
  const Lanes<std::uint32_t, __m512i> left(a), right(b);
  unsigned mask = 0;
  for (std::size_t i = 0; i < left.kCount; ++i) mask |= (left.at[i] & right.at[i]) == 0 ? 1u << i : 0u;
  return static_cast<__mmask16>(mask);
}

// Lanes whose bit is not set are 0 and are not read.
template <class Lane, class Mask>
inline __m512i load_some(Mask mask, const void* p) {
  Lanes<Lane, __m512i> to;
  for (std::size_t i = 0; i < to.kCount; ++i) {
    to.at[i] = 0;
    const auto* lane = static_cast<const unsigned char*>(p) + i * sizeof(Lane);
    if (mask >> i & 1) std::memcpy(&to.at[i], lane, sizeof(Lane));
  }
  return to.vector();
}
inline __m512i mm512_maskz_loadu_epi32(__mmask16 mask, const void* p) { return load_some<std::uint32_t>(mask, p); }
inline __m512i mm512_maskz_loadu_epi8(__mmask64 mask, const void* p) { return load_some<std::uint8_t>(mask, p); }

// Lanes whose bit is not set stay as they are in memory.
inline void mm512_mask_storeu_epi8(void* p, __mmask64 mask, __m512i v) {
  const Lanes<std::uint8_t, __m512i> from(v);
  for (std::size_t i = 0; i < from.kCount; ++i)
    if (mask >> i & 1) static_cast<unsigned char*>(p)[i] = from.at[i];
}

// Rounded once.
template <class Vector>
inline Vector fused(const Vector& a, const Vector& b, const Vector& c) {
  const Lanes<float, Vector> left(a), right(b);
  return map<float, Vector, float>(c,
                                   [&](float lane, std::size_t i) { return std::fma(left.at[i], right.at[i], lane); });
}
inline __m256 mm256_fmadd_ps(__m256 a, __m256 b, __m256 c) { return fused(a, b, c); }
inline __m512 mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { return fused(a, b, c); }

}  // namespace supplied
