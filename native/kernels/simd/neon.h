// The vector operations of the kernels in NEON, which every aarch64 processor has. Tables of codes and lists of
// channels have versions of their own (kernels/table/neon.inc.h, kernels/lists/neon.inc.h).
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "base/tensor.h"

namespace nybble {

struct Neon {
  using Bytes = uint8x16_t;
  using I16 = int16x8_t;
  using I32 = int32x4_t;
  using F32 = float32x4_t;
  static constexpr int kBytes = 16;
  static constexpr int kLanes16 = 8;
  static constexpr int kLanes32 = 4;
  static constexpr bool kHasDotProducts = false;
  static constexpr bool kHasSignedQuads = true;
  static constexpr bool kHasSplitQuads = true;
  static constexpr bool kHasLaneQuads = false;
  static constexpr bool kHasMatrixProducts = false;
  static constexpr std::int32_t kMostQuadInput = 127;
  static constexpr bool kHasSingleProducts = true;
  static constexpr bool kHasSignedPairs = true;
  // By the 32 registers; not measured.
  static constexpr int kDotPixels = 4;  // with two vectors for each sum
  static constexpr int kUsualOutputs = 128;
  static constexpr int kQuadVectors = 24;
  static constexpr int kWinogradTogether[4] = {4, 2, 2, 1};

  static NYBBLE_INLINE Bytes load(const void* p) { return vld1q_u8(static_cast<const std::uint8_t*>(p)); }
  // Four vectors, and a step past them: one instruction, which needs registers in a row. The compilers' own structure
  // of four vectors costs moves and spills.
  static NYBBLE_INLINE void load_next_four(const std::uint8_t*& p, Bytes (&v)[4]) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wregister"
    register Bytes v0 __asm__("v28");
    register Bytes v1 __asm__("v29");
    register Bytes v2 __asm__("v30");
    register Bytes v3 __asm__("v31");
#pragma GCC diagnostic pop
    // In order: only these registers are loaded so.
    __asm__ volatile("ld1 {v28.16b-v31.16b}, [%4], #64"
                     : "=w"(v0), "=w"(v1), "=w"(v2), "=w"(v3), "+r"(p)
                     : "m"(*reinterpret_cast<const std::uint8_t (*)[4 * kBytes]>(p)));
    v[0] = v0;
    v[1] = v1;
    v[2] = v2;
    v[3] = v3;
  }
  static NYBBLE_INLINE void store(void* p, Bytes v) { vst1q_u8(static_cast<std::uint8_t*>(p), v); }
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return vaddq_u8(a, b); }
  template <class T>
  static NYBBLE_INLINE void hold(T& v) {
    NYBBLE_HOLD("+w", v);
  }

  // 16-bit sums.
  static NYBBLE_INLINE I16 set16(std::int16_t v) { return vdupq_n_s16(v); }
  static NYBBLE_INLINE I16 load16(const std::int16_t* p) { return vld1q_s16(p); }
  static NYBBLE_INLINE void store16(std::int16_t* p, I16 v) { vst1q_s16(p, v); }
  static NYBBLE_INLINE I16 add16(I16 a, I16 b) { return vaddq_s16(a, b); }
  static NYBBLE_INLINE I16 sub16(I16 a, I16 b) { return vsubq_s16(a, b); }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right16(I16 a) {
    return vshrq_n_s16(a, kBits);
  }
  static NYBBLE_INLINE Bytes broadcast_pair(const std::uint32_t* entry) {
    std::uint16_t pair;
    __builtin_memcpy(&pair, entry, sizeof pair);
    return vreinterpretq_u8_u16(vdupq_n_u16(pair));
  }
  static NYBBLE_INLINE std::size_t pair_index(const std::uint32_t* entry) {
    std::uint16_t index;
    __builtin_memcpy(&index, reinterpret_cast<const std::uint8_t*>(entry) + 2, sizeof index);
    return index;
  }
  // Of signed inputs: there is no product of unsigned bytes by signed ones.
  static NYBBLE_INLINE I16 multiply_byte_pairs(Bytes inputs, Bytes weights) {
    const int8x16_t in = vreinterpretq_s8_u8(inputs), w = vreinterpretq_s8_u8(weights);
    return vpaddq_s16(vmull_s8(vget_low_s8(in), vget_low_s8(w)), vmull_high_s8(in, w));
  }
  static NYBBLE_INLINE Bytes broadcast_byte(const void* p) { return vld1q_dup_u8(static_cast<const std::uint8_t*>(p)); }
  // The same, and a step to the byte after it: one instruction.
  static NYBBLE_INLINE Bytes broadcast_next_byte(const std::uint8_t*& p) {
    Bytes v;
    __asm__("ld1r {%0.16b}, [%1], #1" : "=w"(v), "+r"(p) : "m"(*p));
    return v;
  }
  static NYBBLE_INLINE I16 add_low_products(I16 sum, Bytes inputs, Bytes weights) {
    return vmlal_s8(sum, vget_low_s8(vreinterpretq_s8_u8(inputs)), vget_low_s8(vreinterpretq_s8_u8(weights)));
  }
  static NYBBLE_INLINE I16 add_high_products(I16 sum, Bytes inputs, Bytes weights) {
    return vmlal_high_s8(sum, vreinterpretq_s8_u8(inputs), vreinterpretq_s8_u8(weights));
  }
  static NYBBLE_INLINE I32 widen_low(I16 v) { return vmovl_s16(vget_low_s16(v)); }
  static NYBBLE_INLINE I32 widen_high(I16 v) { return vmovl_high_s16(v); }

  // 16-bit epilogue.
  static NYBBLE_INLINE I16 add_saturated16(I16 a, I16 b) { return vqaddq_s16(a, b); }
  static NYBBLE_INLINE I16 min16(I16 a, I16 b) { return vminq_s16(a, b); }
  static NYBBLE_INLINE I16 max16(I16 a, I16 b) { return vmaxq_s16(a, b); }
  static NYBBLE_INLINE I16 abs16(I16 a) { return vabsq_s16(a); }
  static NYBBLE_INLINE I16 copy_sign16(I16 magnitude, I16 sign) {
    const int16x8_t mask = vshrq_n_s16(sign, 15);
    return vsubq_s16(veorq_s16(magnitude, mask), mask);
  }
  static NYBBLE_INLINE I16 mul16(I16 a, I16 b) { return vmulq_s16(a, b); }
  static NYBBLE_INLINE I16 mul_high_u16(I16 a, I16 b) {
    const uint16x8_t x = vreinterpretq_u16_s16(a), y = vreinterpretq_u16_s16(b);
    const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y)), high = vmull_high_u16(x, y);
    return vuzp2q_s16(vreinterpretq_s16_u32(low), vreinterpretq_s16_u32(high));
  }
  static NYBBLE_INLINE I16 halve_u16(I16 a) { return vreinterpretq_s16_u16(vrshrq_n_u16(vreinterpretq_u16_s16(a), 1)); }
  static NYBBLE_INLINE I16 average_u16(I16 a, I16 b) {
    return vreinterpretq_s16_u16(vrhaddq_u16(vreinterpretq_u16_s16(a), vreinterpretq_u16_s16(b)));
  }
  static NYBBLE_INLINE I16 shift_right_u16(I16 a, int n) {
    return vreinterpretq_s16_u16(vshlq_u16(vreinterpretq_u16_s16(a), vdupq_n_s16(static_cast<std::int16_t>(-n))));
  }
  template <int kBits>
  static NYBBLE_INLINE I16 shift_right_u16(I16 a) {
    return vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s16(a), kBits));
  }
  static NYBBLE_INLINE I16 widen16_u8(const std::uint8_t* p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
  static NYBBLE_INLINE I16 widen16_s8(const std::int8_t* p) { return vmovl_s8(vld1_s8(p)); }
  static NYBBLE_INLINE I16 pair_low(I16 a, I16 b) { return vzip1q_s16(a, b); }
  static NYBBLE_INLINE I16 pair_high(I16 a, I16 b) { return vzip2q_s16(a, b); }
  static NYBBLE_INLINE I16 pack32_saturated(I32 low, I32 high) { return vqmovn_high_s32(vqmovn_s32(low), high); }
  static NYBBLE_INLINE I16 join32_saturated(I32 first, I32 second) { return pack32_saturated(first, second); }
  static NYBBLE_INLINE void store_unsigned_bytes(std::uint8_t* p, const I16* words, std::int32_t high) {
    const Bytes most = vdupq_n_u8(static_cast<std::uint8_t>(high < 255 ? high : 255));
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
      store(p + i * kBytes, vminq_u8(vqmovun_high_s16(vqmovun_s16(words[2 * i]), words[2 * i + 1]), most));
    });
  }
  static NYBBLE_INLINE void store_signed_bytes(std::uint8_t* p, const I16* words) {
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
      store(p + i * kBytes, vuzp1q_u8(vreinterpretq_u8_s16(words[2 * i]), vreinterpretq_u8_s16(words[2 * i + 1])));
    });
  }

  // Interleaving leaves one part of 16 bytes in order.
  static NYBBLE_INLINE void order16(I16*) {}
  static NYBBLE_INLINE I32 load_ordered32(const std::int32_t* sums, std::int32_t i) { return load32(sums + i); }
  static NYBBLE_INLINE I32 as32(I16 v) { return vreinterpretq_s32_s16(v); }

  // 16-bit operands, 32-bit sums.
  static NYBBLE_INLINE I16 widen_bytes(const std::uint8_t* p) { return vmovl_s8(vreinterpret_s8_u8(vld1_u8(p))); }
  static NYBBLE_INLINE Bytes broadcast4(const void* p) {
    std::uint32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return vreinterpretq_u8_u32(vdupq_n_u32(value));
  }
  static NYBBLE_INLINE I16 broadcast_words(const void* p) { return vreinterpretq_s16_u8(broadcast4(p)); }
  static NYBBLE_INLINE I32 multiply_wide_pairs(I16 a, I16 b) {
    return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
  }
  struct SplitSums {
    I32 low, high;
  };
  // Any signed bytes: neighbouring products are added in 32 bits, those of the first two lanes in `low`.
  static NYBBLE_INLINE void add_split_quads(I32& low, I32& high, Bytes inputs, Bytes weights) {
    const int8x16_t in = vreinterpretq_s8_u8(inputs), w = vreinterpretq_s8_u8(weights);
    low = vpadalq_s16(low, vmull_s8(vget_low_s8(in), vget_low_s8(w)));
    high = vpadalq_s16(high, vmull_high_s8(in, w));
  }
  // The same of two quads of eight inputs by two vectors of weights each, where two products fit 16 bits.
  static NYBBLE_INLINE void add_two_split_quads(SplitSums (&sums)[2], const void* inputs, const Bytes (&weights)[4]) {
    int32x2_t both = vld1_s32(static_cast<const std::int32_t*>(inputs));
    // In order: GCC would start the products of all pixels first, and spill sums.
    __asm__ volatile("" : "+w"(both));
    const int8x16_t a = vreinterpretq_s8_s32(vdupq_lane_s32(both, 0));
    const int8x16_t b = vreinterpretq_s8_s32(vdupq_lane_s32(both, 1));
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
      const int8x16_t x = vreinterpretq_s8_u8(weights[i]), y = vreinterpretq_s8_u8(weights[2 + i]);
      const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(x)), vget_low_s8(b), vget_low_s8(y));
      sums[i].low = vpadalq_s16(sums[i].low, low);
      sums[i].high = vpadalq_s16(sums[i].high, vmlal_high_s8(vmull_high_s8(a, x), b, y));
    });
    __asm__ volatile("" : "+w"(sums[0].low), "+w"(sums[0].high), "+w"(sums[1].low), "+w"(sums[1].high));
  }
  static NYBBLE_INLINE I32 join_quads(I32 low, I32 high) { return vpaddq_s32(low, high); }
  // Inputs of at most 127: two products of them fit 16 bits.
  static NYBBLE_INLINE I32 add_quads(I32 sum, Bytes inputs, Bytes weights) {
    return vpadalq_s16(sum, multiply_byte_pairs(inputs, weights));
  }

  // Epilogue.
  static NYBBLE_INLINE I32 set32(std::int32_t v) { return vdupq_n_s32(v); }
  static NYBBLE_INLINE I32 load32(const std::int32_t* p) { return vld1q_s32(p); }
  static NYBBLE_INLINE void store32(std::int32_t* p, I32 v) { vst1q_s32(p, v); }
  static NYBBLE_INLINE I32 add32(I32 a, I32 b) { return vaddq_s32(a, b); }
  static NYBBLE_INLINE I32 sub32(I32 a, I32 b) { return vsubq_s32(a, b); }
  static NYBBLE_INLINE I32 mul32(I32 a, I32 b) { return vmulq_s32(a, b); }
  static NYBBLE_INLINE I32 min32(I32 a, I32 b) { return vminq_s32(a, b); }
  static NYBBLE_INLINE I32 max32(I32 a, I32 b) { return vmaxq_s32(a, b); }
  static NYBBLE_INLINE I32 abs32(I32 a) { return vabsq_s32(a); }
  static NYBBLE_INLINE I32 shift_right32(I32 a, int n) { return vshlq_s32(a, vdupq_n_s32(-n)); }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_left32(I32 a) {
    return vshlq_n_s32(a, kBits);
  }
  template <int kBits>
  static NYBBLE_INLINE I32 shift_right32(I32 a) {
    return vshrq_n_s32(a, kBits);
  }
  static NYBBLE_INLINE I32 min_u32(I32 a, I32 b) {
    return vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b)));
  }
  static NYBBLE_INLINE bool any_zero32(I32 a) { return vminvq_u32(vreinterpretq_u32_s32(a)) == 0; }
  static NYBBLE_INLINE I32 copy_sign32(I32 magnitude, I32 sign) {
    const int32x4_t mask = vshrq_n_s32(sign, 31);
    return vsubq_s32(veorq_s32(magnitude, mask), mask);
  }
  static NYBBLE_INLINE I32 widen_u8(const std::uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(load_four(p)))));
  }
  static NYBBLE_INLINE I32 widen_s8(const std::int8_t* p) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_four(p)))));
  }
  static NYBBLE_INLINE F32 setf(float v) { return vdupq_n_f32(v); }
  static NYBBLE_INLINE F32 loadf(const float* p) { return vld1q_f32(p); }
  static NYBBLE_INLINE F32 to_float(I32 v) { return vcvtq_f32_s32(v); }
  // What 32 bits do not hold becomes the nearest that they do.
  static NYBBLE_INLINE I32 truncate(F32 v) { return vcvtq_s32_f32(v); }
  static NYBBLE_INLINE I32 round(F32 v) { return vcvtnq_s32_f32(v); }
  static NYBBLE_INLINE F32 mulf(F32 a, F32 b) { return vmulq_f32(a, b); }
  static NYBBLE_INLINE F32 addf(F32 a, F32 b) { return vaddq_f32(a, b); }
  static NYBBLE_INLINE F32 fma(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
  static NYBBLE_INLINE F32 minf(F32 a, F32 b) { return vminq_f32(a, b); }
  static NYBBLE_INLINE F32 maxf(F32 a, F32 b) { return vmaxq_f32(a, b); }
  static NYBBLE_INLINE F32 half_with_sign_of(F32 v) { return vbslq_f32(vdupq_n_u32(1u << 31), v, vdupq_n_f32(0.5f)); }
  static NYBBLE_INLINE void store_positive_bytes(std::uint8_t* p, const I32* v) {
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA { store(p + i * kBytes, unsigned_bytes(v + 4 * i)); });
  }
  static NYBBLE_INLINE void store_clamped_bytes(std::uint8_t* p, const I32* v, std::int32_t low, std::int32_t high) {
    const int8x16_t least = vdupq_n_s8(static_cast<std::int8_t>(low)),
                    most = vdupq_n_s8(static_cast<std::int8_t>(high));
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA {
      const int16x8_t a = pack32_saturated(v[4 * i], v[4 * i + 1]), b = pack32_saturated(v[4 * i + 2], v[4 * i + 3]);
      const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(a), b);
      store(p + i * kBytes, vreinterpretq_u8_s8(vmaxq_s8(vminq_s8(bytes, most), least)));
    });
  }
  static NYBBLE_INLINE void store_staged_bytes(std::uint8_t* p, const I32* v, std::int32_t high) {
    const Bytes most = vdupq_n_u8(static_cast<std::uint8_t>(high < 255 ? high : 255));
    for_each_index<2>([&](auto i) NYBBLE_LAMBDA { store(p + i * kBytes, vminq_u8(unsigned_bytes(v + 4 * i), most)); });
  }
  static NYBBLE_INLINE void store_bytes(std::uint8_t* p, I32 a, I32 b) {
    const int16x8_t words = vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
    vst1_u8(p, vmovn_u16(vreinterpretq_u16_s16(words)));
  }

 private:
  static NYBBLE_INLINE uint8x8_t load_four(const void* p) {
    std::uint32_t value;
    __builtin_memcpy(&value, p, sizeof value);
    return vreinterpret_u8_u32(vdup_n_u32(value));
  }
  // 16 values; those that no byte holds become 0 or 255.
  static NYBBLE_INLINE Bytes unsigned_bytes(const I32* v) {
    const uint16x8_t a = vqmovun_high_s32(vqmovun_s32(v[0]), v[1]), b = vqmovun_high_s32(vqmovun_s32(v[2]), v[3]);
    return vqmovn_high_u16(vqmovn_u16(a), b);
  }
};

// Inputs are staged and transformed in the same vectors.
struct NeonBytes {
  using Bytes = uint8x16_t;
  static constexpr int kBytes = 16;

  static NYBBLE_INLINE Bytes load(const std::uint8_t* p) { return vld1q_u8(p); }
  static NYBBLE_INLINE Bytes set8(std::int8_t v) { return vdupq_n_u8(static_cast<std::uint8_t>(v)); }
  static NYBBLE_INLINE Bytes add8(Bytes a, Bytes b) { return vaddq_u8(a, b); }
  static NYBBLE_INLINE Bytes sub8(Bytes a, Bytes b) { return vsubq_u8(a, b); }
  static NYBBLE_INLINE void store(std::uint8_t* p, Bytes v) { vst1q_u8(p, v); }
  static NYBBLE_INLINE Bytes or8(Bytes a, Bytes b) { return vorrq_u8(a, b); }
  static NYBBLE_INLINE Bytes and8(Bytes a, Bytes b) { return vandq_u8(a, b); }
  static NYBBLE_INLINE Bytes max_u8(Bytes a, Bytes b) { return vmaxq_u8(a, b); }
  static NYBBLE_INLINE Bytes max_s8(Bytes a, Bytes b) {
    return vreinterpretq_u8_s8(vmaxq_s8(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)));
  }
  static NYBBLE_INLINE Bytes load_part(const std::uint8_t* p) { return load(p); }
  // An index beyond the 16 bytes gives zero.
  static NYBBLE_INLINE Bytes shuffle(Bytes v, const std::uint8_t* picks) { return vqtbl1q_u8(v, load(picks)); }
  static NYBBLE_INLINE void store_interleaved(std::uint8_t* p, Bytes a, Bytes b) {
    store(p, vzip1q_u8(a, b));
    store(p + kBytes, vzip2q_u8(a, b));
  }
  static NYBBLE_INLINE void store_quads(std::uint8_t* p, Bytes a, Bytes b, Bytes c, Bytes d) {
    // A variable: vst4q_u8 is a macro of clang, which would see four arguments more.
    const uint8x16x4_t all = {{a, b, c, d}};
    vst4q_u8(p, all);
  }
  static NYBBLE_INLINE void store_pairs_twice(std::uint32_t* p, Bytes v) {
    const uint16x8_t pairs = vreinterpretq_u16_u8(v);
    vst1q_u32(p, vreinterpretq_u32_u16(vzip1q_u16(pairs, pairs)));
    vst1q_u32(p + 4, vreinterpretq_u32_u16(vzip2q_u16(pairs, pairs)));
  }
};

}  // namespace nybble
