// The vector operations of the kernels on 16 bytes, in the compiler's own vectors, lane by lane: for tests. It shows
// that the kernels need no wider vectors, no x86 and no one type for all vectors, and each operation says here what it
// means.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/tensor.h"

namespace nybble {

struct Vector16 {
  using Bytes [[gnu::vector_size(16)]] = std::uint8_t;
  using I16 [[gnu::vector_size(16)]] = std::int16_t;
  using I32 [[gnu::vector_size(16)]] = std::int32_t;
  using F32 [[gnu::vector_size(16)]] = float;
  using U16 [[gnu::vector_size(16)]] = std::uint16_t;
  using U32 [[gnu::vector_size(16)]] = std::uint32_t;
  using HalfI16 [[gnu::vector_size(8)]] = std::int16_t;
  static constexpr int kBytes = 16;
  static constexpr int kLanes16 = 8;
  static constexpr int kLanes32 = 4;
  static constexpr bool kHasDotProducts = true;
  static constexpr bool kHasSignedQuads = false;
  static constexpr std::int32_t kMostQuadInput = 255;
  static constexpr bool kHasSplitQuads = false;
  static constexpr bool kHasLaneQuads = false;
  static constexpr bool kHasMatrixProducts = false;
  static constexpr bool kHasSingleProducts = true;
  static constexpr bool kHasSignedPairs = false;
  static constexpr int kInnerPixels = 8;
  static constexpr int kDotPixels = 4;
  static constexpr std::int32_t kDepthwisePixels = 2;
  static constexpr int kUsualOutputs = 128;
  static constexpr int kQuadVectors = 8;
  static constexpr int kWinogradTogether[4] = {1, 1, 1, 1};

  // Lane i of the result is f(i).
  template <class Result, class F>
  static NYBBLE_INLINE Result lanes(const F& f) {
    Result result{};
    for (int i = 0; i < static_cast<int>(sizeof result / sizeof result[0]); ++i)
      result[i] = static_cast<std::remove_reference_t<decltype(result[0])>>(f(i));
    return result;
  }
  template <class Result>
  static NYBBLE_INLINE Result load_as(const void* p) {
    Result result;
    __builtin_memcpy(&result, p, sizeof result);
    return result;
  }
  static NYBBLE_INLINE std::int32_t clamp(std::int32_t v, std::int32_t low, std::int32_t high) {
    return v < low ? low : v > high ? high : v;
  }
  static NYBBLE_INLINE std::int32_t wrap(std::int64_t v) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(v));
  }
  static NYBBLE_INLINE std::int32_t signed_byte(std::uint8_t v) { return static_cast<std::int8_t>(v); }
  static NYBBLE_INLINE std::uint16_t word(std::int16_t v) { return static_cast<std::uint16_t>(v); }

  static NYBBLE_INLINE Bytes load(const void* p) { return load_as<Bytes>(p); }
  static NYBBLE_INLINE void store(void* p, Bytes v) { __builtin_memcpy(p, &v, sizeof v); }
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return a + b; }
  template <class T>
  static NYBBLE_INLINE void hold(T&) {}

  // 16-bit sums.
  static NYBBLE_INLINE I16 set16(std::int16_t v) { return I16{} + v; }
  static NYBBLE_INLINE I16 load16(const std::int16_t* p) { return load_as<I16>(p); }
  static NYBBLE_INLINE void store16(std::int16_t* p, I16 v) { __builtin_memcpy(p, &v, sizeof v); }
  static NYBBLE_INLINE I16 add16(I16 a, I16 b) { return (I16)((U16)a + (U16)b); }
  static NYBBLE_INLINE I16 sub16(I16 a, I16 b) { return (I16)((U16)a - (U16)b); }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right16(I16 a) {
    return a >> kBits;
  }
  static NYBBLE_INLINE Bytes broadcast_pair(const std::uint32_t* entry) {
    return (Bytes)(U16{} + static_cast<std::uint16_t>(*entry));
  }
  static NYBBLE_INLINE std::size_t pair_index(const std::uint32_t* entry) { return *entry >> 16; }
  static NYBBLE_INLINE I16 multiply_byte_pairs(Bytes inputs, Bytes weights) {
    const I16 low = (I16)((U16)inputs & 255) * ((I16)((U16)weights << 8) >> 8);
    const I16 high = (I16)((U16)inputs >> 8) * ((I16)weights >> 8);
    return add16(low, high);
  }
  // One input of at most 127 in every lane, and the eight first weights, or the eight last.
  static NYBBLE_INLINE Bytes broadcast_byte(const void* p) { return Bytes{} + *static_cast<const std::uint8_t*>(p); }
  static NYBBLE_INLINE void load_next_four(const std::uint8_t*& p, Bytes (&v)[4]) {
    for (Bytes& each : v) {
      each = load(p);
      p += kBytes;
    }
  }
  static NYBBLE_INLINE Bytes broadcast_next_byte(const std::uint8_t*& p) { return broadcast_byte(p++); }
  static NYBBLE_INLINE I16 add_low_products(I16 sum, Bytes inputs, Bytes weights) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return sum[i] + signed_byte(inputs[i]) * signed_byte(weights[i]); });
  }
  static NYBBLE_INLINE I16 add_high_products(I16 sum, Bytes inputs, Bytes weights) {
    return lanes<I16>([&](int i)
                          NYBBLE_LAMBDA { return sum[i] + signed_byte(inputs[i + 8]) * signed_byte(weights[i + 8]); });
  }
  static NYBBLE_INLINE I32 widen_low(I16 v) { return __builtin_convertvector(load_as<HalfI16>(&v), I32); }
  static NYBBLE_INLINE I32 widen_high(I16 v) {
    return __builtin_convertvector(load_as<HalfI16>(reinterpret_cast<const char*>(&v) + 8), I32);
  }

  // 16-bit epilogue.
  static NYBBLE_INLINE I16 add_saturated16(I16 a, I16 b) {
    const I16 sum = add16(a, b);
    return ((a ^ sum) & (b ^ sum)) < 0 ? (a >> 15) ^ INT16_MAX : sum;
  }
  static NYBBLE_INLINE I16 min16(I16 a, I16 b) { return a < b ? a : b; }
  static NYBBLE_INLINE I16 max16(I16 a, I16 b) { return a > b ? a : b; }
  // -32768 stays what it is, as with the instructions of other vector types.
  static NYBBLE_INLINE I16 negated16(I16 a) { return (I16)(0 - (U16)a); }
  static NYBBLE_INLINE I16 abs16(I16 a) { return a < 0 ? negated16(a) : a; }
  static NYBBLE_INLINE I16 copy_sign16(I16 magnitude, I16 sign) { return sign < 0 ? negated16(magnitude) : magnitude; }
  static NYBBLE_INLINE I16 mul16(I16 a, I16 b) { return (I16)((U16)a * (U16)b); }
  static NYBBLE_INLINE I16 mul_high_u16(I16 a, I16 b) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return std::uint32_t{word(a[i])} * word(b[i]) >> 16; });
  }
  static NYBBLE_INLINE I16 halve_u16(I16 a) { return (I16)(((U16)a >> 1) + ((U16)a & 1)); }
  static NYBBLE_INLINE I16 average_u16(I16 a, I16 b) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return (std::uint32_t{word(a[i])} + word(b[i]) + 1) >> 1; });
  }
  static NYBBLE_INLINE I16 shift_right_u16(I16 a, int n) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return n > 15 ? 0 : word(a[i]) >> n; });
  }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right_u16(I16 a) {
    return (I16)((U16)a >> kBits);
  }
  static NYBBLE_INLINE I16 widen16_u8(const std::uint8_t* p) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return p[i]; });
  }
  static NYBBLE_INLINE I16 widen16_s8(const std::int8_t* p) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return p[i]; });
  }
  static NYBBLE_INLINE I16 pair_low(I16 a, I16 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
  static NYBBLE_INLINE I16 pair_high(I16 a, I16 b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
  static NYBBLE_INLINE I16 pack32_saturated(I32 low, I32 high) {
    return lanes<I16>(
        [&](int i) NYBBLE_LAMBDA { return clamp((i < kLanes32 ? low : high)[i % kLanes32], INT16_MIN, INT16_MAX); });
  }
  static NYBBLE_INLINE void store_unsigned_bytes(std::uint8_t* p, const I16* words, std::int32_t high) {
    for (int i = 0; i < kChannelAlign; ++i)
      p[i] = static_cast<std::uint8_t>(clamp(words[i / kLanes16][i % kLanes16], 0, high < 255 ? high : 255));
  }
  static NYBBLE_INLINE void store_signed_bytes(std::uint8_t* p, const I16* words) {
    for (int i = 0; i < kChannelAlign; ++i) p[i] = static_cast<std::uint8_t>(words[i / kLanes16][i % kLanes16]);
  }
  // Interleaving leaves one part of 16 bytes in order.
  static NYBBLE_INLINE void order16(I16*) {}
  static NYBBLE_INLINE I32 load_ordered32(const std::int32_t* sums, std::int32_t i) { return load32(sums + i); }
  static NYBBLE_INLINE I32 as32(I16 v) { return (I32)v; }

  // 16-bit operands, 32-bit sums.
  static NYBBLE_INLINE I16 widen_bytes(const std::uint8_t* p) {
    return lanes<I16>([&](int i) NYBBLE_LAMBDA { return signed_byte(p[i]); });
  }
  static NYBBLE_INLINE Bytes broadcast4(const void* p) {
    std::uint32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return (Bytes)(U32{} + value);
  }
  static NYBBLE_INLINE I16 broadcast_words(const void* p) { return (I16)broadcast4(p); }
  static NYBBLE_INLINE I32 multiply_wide_pairs(I16 a, I16 b) {
    const I32 low = ((I32)((U32)a << 16) >> 16) * ((I32)((U32)b << 16) >> 16);
    return add32(low, ((I32)a >> 16) * ((I32)b >> 16));
  }
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    for (int bits = 0; bits < 32; bits += 8)
      sum = add32(sum, (I32)((U32)inputs >> bits & 255) * ((I32)((U32)weights << (24 - bits)) >> 24));
    return sum;
  }

  // Epilogue.
  static NYBBLE_INLINE I32 set32(std::int32_t v) { return I32{} + v; }
  static NYBBLE_INLINE I32 load32(const std::int32_t* p) { return load_as<I32>(p); }
  static NYBBLE_INLINE void store32(std::int32_t* p, I32 v) { __builtin_memcpy(p, &v, sizeof v); }
  static NYBBLE_INLINE I32 add32(I32 a, I32 b) { return (I32)((U32)a + (U32)b); }
  static NYBBLE_INLINE I32 sub32(I32 a, I32 b) { return (I32)((U32)a - (U32)b); }
  static NYBBLE_INLINE I32 mul32(I32 a, I32 b) { return (I32)((U32)a * (U32)b); }
  static NYBBLE_INLINE I32 min32(I32 a, I32 b) { return a < b ? a : b; }
  static NYBBLE_INLINE I32 max32(I32 a, I32 b) { return a > b ? a : b; }
  static NYBBLE_INLINE I32 abs32(I32 a) { return a < 0 ? (I32) - (U32)a : a; }
  static NYBBLE_INLINE I32 shift_right32(I32 a, int n) { return a >> n; }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_left32(I32 a) {
    return (I32)((U32)a << kBits);
  }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_right32(I32 a) {
    return a >> kBits;
  }
  static NYBBLE_INLINE I32 min_u32(I32 a, I32 b) { return (U32)a < (U32)b ? a : b; }
  static NYBBLE_INLINE bool any_zero32(I32 a) { return a[0] == 0 || a[1] == 0 || a[2] == 0 || a[3] == 0; }
  static NYBBLE_INLINE I32 copy_sign32(I32 magnitude, I32 sign) { return sign < 0 ? -magnitude : magnitude; }
  static NYBBLE_INLINE I32 widen_u8(const std::uint8_t* p) {
    return lanes<I32>([&](int i) NYBBLE_LAMBDA { return p[i]; });
  }
  static NYBBLE_INLINE I32 widen_s8(const std::int8_t* p) {
    return lanes<I32>([&](int i) NYBBLE_LAMBDA { return p[i]; });
  }
  static NYBBLE_INLINE F32 setf(float v) { return F32{} + v; }
  static NYBBLE_INLINE F32 loadf(const float* p) { return load_as<F32>(p); }
  static NYBBLE_INLINE F32 to_float(I32 v) { return __builtin_convertvector(v, F32); }
  // What 32 bits do not hold becomes the least there is.
  static NYBBLE_INLINE std::int32_t to_int(float v) {
    return v >= -2147483648.0f && v < 2147483648.0f ? static_cast<std::int32_t>(v) : INT32_MIN;
  }
  static NYBBLE_INLINE I32 truncate(F32 v) {
    return lanes<I32>([&](int i) NYBBLE_LAMBDA { return to_int(v[i]); });
  }
  static NYBBLE_INLINE I32 round(F32 v) {
    return lanes<I32>([&](int i) NYBBLE_LAMBDA { return to_int(__builtin_rintf(v[i])); });
  }
  static NYBBLE_INLINE F32 mulf(F32 a, F32 b) { return a * b; }
  static NYBBLE_INLINE F32 addf(F32 a, F32 b) { return a + b; }
  static NYBBLE_INLINE F32 fma(F32 a, F32 b, F32 c) {
    return lanes<F32>([&](int i) NYBBLE_LAMBDA { return __builtin_fmaf(a[i], b[i], c[i]); });
  }
  static NYBBLE_INLINE F32 minf(F32 a, F32 b) { return a < b ? a : b; }
  static NYBBLE_INLINE F32 maxf(F32 a, F32 b) { return a > b ? a : b; }
  static NYBBLE_INLINE F32 half_with_sign_of(F32 v) {
    return lanes<F32>([&](int i) NYBBLE_LAMBDA { return __builtin_copysignf(0.5f, v[i]); });
  }
  static NYBBLE_INLINE void store_positive_bytes(std::uint8_t* p, const I32* v) { store_staged_bytes(p, v, 255); }
  static NYBBLE_INLINE void store_clamped_bytes(std::uint8_t* p, const I32* v, std::int32_t low, std::int32_t high) {
    for (int i = 0; i < kChannelAlign; ++i)
      p[i] = static_cast<std::uint8_t>(clamp(v[i / kLanes32][i % kLanes32], low, high));
  }
  static NYBBLE_INLINE void store_staged_bytes(std::uint8_t* p, const I32* v, std::int32_t high) {
    store_clamped_bytes(p, v, 0, high < 255 ? high : 255);
  }
  static NYBBLE_INLINE void store_bytes(std::uint8_t* p, I32 a, I32 b) {
    for (int i = 0; i < 2 * kLanes32; ++i) p[i] = static_cast<std::uint8_t>((i < kLanes32 ? a : b)[i % kLanes32]);
  }
};

// Inputs are staged and transformed in the same vectors.
struct Bytes16 {
  using Bytes = Vector16::Bytes;
  static constexpr int kBytes = 16;

  static NYBBLE_INLINE Bytes load(const std::uint8_t* p) { return Vector16::load(p); }
  static NYBBLE_INLINE Bytes set8(std::int8_t v) { return Bytes{} + static_cast<std::uint8_t>(v); }
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return a + b; }
  static NYBBLE_INLINE Bytes sub8(Bytes a, Bytes b) { return a - b; }
  static NYBBLE_INLINE void store(std::uint8_t* p, Bytes v) { Vector16::store(p, v); }
  static NYBBLE_INLINE Bytes or8(Bytes a, Bytes b) { return a | b; }
  static NYBBLE_INLINE Bytes and8(Bytes a, Bytes b) { return a & b; }
  static NYBBLE_INLINE Bytes xor8(Bytes a, Bytes b) { return a ^ b; }
  static NYBBLE_INLINE Bytes max_u8(Bytes a, Bytes b) { return a > b ? a : b; }
  static NYBBLE_INLINE Bytes max_s8(Bytes a, Bytes b) {
    return Vector16::lanes<Bytes>(
        [&](int i) NYBBLE_LAMBDA { return Vector16::signed_byte(a[i]) > Vector16::signed_byte(b[i]) ? a[i] : b[i]; });
  }
  static NYBBLE_INLINE Bytes sub_saturated8(Bytes a, Bytes b) {
    return Vector16::lanes<Bytes>([&](int i) NYBBLE_LAMBDA {
      return Vector16::clamp(Vector16::signed_byte(a[i]) - Vector16::signed_byte(b[i]), INT8_MIN, INT8_MAX);
    });
  }
  static NYBBLE_INLINE Bytes pick(Bytes part, Bytes index) {
    return Vector16::lanes<Bytes>([&](int i) NYBBLE_LAMBDA { return index[i] >= 128 ? 0 : part[index[i] % 16]; });
  }
  static NYBBLE_INLINE Bytes load_part(const std::uint8_t* p) { return load(p); }
  static NYBBLE_INLINE Bytes shuffle(Bytes v, const std::uint8_t* picks) {
    return Vector16::lanes<Bytes>([&](int i) NYBBLE_LAMBDA { return picks[i] >= 128 ? 0 : v[picks[i] % 16]; });
  }
  static NYBBLE_INLINE void store_interleaved(std::uint8_t* p, Bytes a, Bytes b) {
    for (int i = 0; i < 2 * kBytes; ++i) p[i] = (i % 2 == 0 ? a : b)[i / 2];
  }
  static NYBBLE_INLINE void store_quads(std::uint8_t* p, Bytes a, Bytes b, Bytes c, Bytes d) {
    const Bytes sources[4] = {a, b, c, d};
    for (int i = 0; i < 4 * kBytes; ++i) p[i] = sources[i % 4][i / 4];
  }
  static NYBBLE_INLINE void store_pairs_twice(std::uint32_t* p, Bytes v) {
    for (int i = 0; i < kBytes / 2; ++i) {
      const std::uint32_t pair = v[2 * i] | std::uint32_t{v[2 * i + 1]} << 8;
      p[i] = pair | pair << 16;
    }
  }
};

}  // namespace nybble
