// Matrix products of each generation, as one step: m16n8 over 32 bytes of depth.
#pragma once

#include "gpu/kernels/device.h"

namespace nybble::gpu {

// Types of both operands; weights are signed and as wide as the activations are stored.
template <s32 BitsOfBoth, bool IsSigned>
struct Types {
  static constexpr s32 kBits = BitsOfBoth;
  static constexpr bool kSigned = IsSigned;
};

// Compute capability 7.5: fragments of eight rows, no asynchronous copies.
struct Turing {
  static constexpr bool kAsync = false;
  template <class T>
  static constexpr s32 kScale = 0;

  template <class T>
  NYBBLE_DEVICE static void multiply(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    multiply8<T::kBits, T::kSigned>(c, a[0], b[0]);
    multiply8<T::kBits, T::kSigned>(c, a[2], b[1]);
    multiply8<T::kBits, T::kSigned>(c + 2, a[1], b[0]);
    multiply8<T::kBits, T::kSigned>(c + 2, a[3], b[1]);
  }
};

// 8.0 to 8.9.
struct Ampere {
  static constexpr bool kAsync = true;
  template <class T>
  static constexpr s32 kScale = 0;

  template <class T>
  NYBBLE_DEVICE static void multiply(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    multiply16<T::kBits, T::kSigned>(c, a, b);
  }
};

// 9.0 and later have no 4-bit products: even and odd nibbles become bytes, signed ones 16 times as large, since their
// signs are then in place. Sums come out 2^kScale times as large; the host keeps them within 32 bits.
struct Hopper {
  static constexpr bool kAsync = true;
  template <class T>
  static constexpr s32 kScale = T::kBits == 8 ? 0
                                : T::kSigned  ? 8
                                              : 4;

  template <class T>
  NYBBLE_DEVICE static void multiply(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    if constexpr (T::kBits == 8) {
      multiply16<8, T::kSigned>(c, a, b);
    } else {
      u32 x[4], y[2];
      NYBBLE_UNROLL
      for (s32 i = 0; i < 4; ++i) x[i] = even<T::kSigned>(a[i]);
      NYBBLE_UNROLL
      for (s32 i = 0; i < 2; ++i) y[i] = even<true>(b[i]);
      multiply16<8, T::kSigned>(c, x, y);
      NYBBLE_UNROLL
      for (s32 i = 0; i < 4; ++i) x[i] = odd<T::kSigned>(a[i]);
      NYBBLE_UNROLL
      for (s32 i = 0; i < 2; ++i) y[i] = odd<true>(b[i]);
      multiply16<8, T::kSigned>(c, x, y);
    }
  }

 private:
  template <bool Signed>
  NYBBLE_DEVICE static u32 even(u32 nibbles) {
    return Signed ? (nibbles << 4) & 0xf0f0f0f0U : nibbles & 0x0f0f0f0fU;
  }
  template <bool Signed>
  NYBBLE_DEVICE static u32 odd(u32 nibbles) {
    return Signed ? nibbles & 0xf0f0f0f0U : (nibbles >> 4) & 0x0f0f0f0fU;
  }
};

}  // namespace nybble::gpu
