// The machine as instructions. See the PTX ISA, "Warp level matrix multiply-accumulate instructions", for fragments.
#pragma once

#include "gpu/kernels/types.h"

#define NYBBLE_DEVICE __device__ __forceinline__
#define NYBBLE_CALLED static __device__ __noinline__
#define NYBBLE_UNROLL _Pragma("unroll")
#define NYBBLE_ROLLED _Pragma("unroll 1")
// Attributes are read before the body's names are: everything lies in the kernels' namespace.
#define NYBBLE_KERNEL(NAME, PARAMS, THREADS, SHARED, ...)                                                          \
  namespace nybble::gpu {                                                                                          \
  extern "C" __global__ void __launch_bounds__(THREADS) NAME(const __grid_constant__ PARAMS p) { __VA_ARGS__(p); } \
  }

namespace nybble::gpu {

extern __shared__ __align__(128) u8 shared_bytes[];

NYBBLE_DEVICE s32 thread_index() { return static_cast<s32>(threadIdx.x); }
NYBBLE_DEVICE s32 block_x() { return static_cast<s32>(blockIdx.x); }
NYBBLE_DEVICE s32 block_y() { return static_cast<s32>(blockIdx.y); }
NYBBLE_DEVICE s32 block_threads() { return static_cast<s32>(blockDim.x); }
NYBBLE_DEVICE void block_barrier() { __syncthreads(); }
NYBBLE_DEVICE void warp_barrier() { __syncwarp(); }

template <typename T>
NYBBLE_DEVICE T global_load(const T* from) {
  return __ldg(from);
}
template <>
NYBBLE_DEVICE Words2 global_load(const Words2* from) {
  const uint2 v = __ldg(reinterpret_cast<const uint2*>(from));
  return {{v.x, v.y}};
}
template <>
NYBBLE_DEVICE Words4 global_load(const Words4* from) {
  const uint4 v = __ldg(reinterpret_cast<const uint4*>(from));
  return {{v.x, v.y, v.z, v.w}};
}

template <typename T>
NYBBLE_DEVICE void global_store(T* to, T value) {
  *to = value;
}

NYBBLE_DEVICE void shared_store(u32 to, const Words4& value) {
  *reinterpret_cast<uint4*>(shared_bytes + to) = make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
}

NYBBLE_DEVICE void shared_store(u32 to, u32 value) { *reinterpret_cast<u32*>(shared_bytes + to) = value; }

template <typename T>
NYBBLE_DEVICE T shared_load(u32 from) {
  return *reinterpret_cast<const T*>(shared_bytes + from);
}
template <>
NYBBLE_DEVICE Words4 shared_load(u32 from) {
  const uint4 words = *reinterpret_cast<const uint4*>(shared_bytes + from);
  return {{words.x, words.y, words.z, words.w}};
}

NYBBLE_DEVICE u32 shared_address(u32 offset) {
  return static_cast<u32>(__cvta_generic_to_shared(shared_bytes)) + offset;
}

// Sixteen bytes to shared memory, zeros where `valid` is false; nothing is read then.
NYBBLE_DEVICE void copy_async(u32 to, const u8* from, bool valid) {
#if NYBBLE_GPU_ARCH >= 80
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
#endif
}

NYBBLE_DEVICE void commit_async() {
#if NYBBLE_GPU_ARCH >= 80
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Until at most `Left` groups of this thread are under way.
template <s32 Left>
NYBBLE_DEVICE void wait_async() {
#if NYBBLE_GPU_ARCH >= 80
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Left) : "memory");
#endif
}

// Four matrices of eight rows of 16 bytes; lane i brings the address of row i % 8 of matrix i / 8.
NYBBLE_DEVICE void load_matrices(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

#define NYBBLE_MMA16(KIND)                                                                          \
  asm("mma.sync.aligned." KIND " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n" \
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                                              \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define NYBBLE_MMA8(KIND) \
  asm("mma.sync.aligned." KIND " {%0, %1}, {%2}, {%3}, {%0, %1};\n" : "+r"(c[0]), "+r"(c[1]) : "r"(a), "r"(b))

// m16n8 over 32 bytes of depth: 64 values of 4 bits or 32 of 8.
template <s32 Bits, bool Signed>
NYBBLE_DEVICE void multiply16(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if NYBBLE_GPU_ARCH >= 80
  if constexpr (Bits == 4 && Signed) NYBBLE_MMA16("m16n8k64.row.col.s32.s4.s4.s32");
  if constexpr (Bits == 4 && !Signed) NYBBLE_MMA16("m16n8k64.row.col.s32.u4.s4.s32");
  if constexpr (Bits == 8 && Signed) NYBBLE_MMA16("m16n8k32.row.col.s32.s8.s8.s32");
  if constexpr (Bits == 8 && !Signed) NYBBLE_MMA16("m16n8k32.row.col.s32.u8.s8.s32");
#endif
}

// m8n8 over 16 bytes of depth; `c` is two of the four sums of an m16n8.
template <s32 Bits, bool Signed>
NYBBLE_DEVICE void multiply8(s32* c, u32 a, u32 b) {
  if constexpr (Bits == 4 && Signed) NYBBLE_MMA8("m8n8k32.row.col.s32.s4.s4.s32");
  if constexpr (Bits == 4 && !Signed) NYBBLE_MMA8("m8n8k32.row.col.s32.u4.s4.s32");
  if constexpr (Bits == 8 && Signed) NYBBLE_MMA8("m8n8k16.row.col.s32.s8.s8.s32");
  if constexpr (Bits == 8 && !Signed) NYBBLE_MMA8("m8n8k16.row.col.s32.u8.s8.s32");
}

#undef NYBBLE_MMA16
#undef NYBBLE_MMA8

// Eight values as nibbles, the first in the lowest, clamped to 0..15 or -8..7.
template <bool Signed>
NYBBLE_DEVICE u32 pack_nibbles(const s32 (&v)[8]) {
  u32 packed = 0;
  NYBBLE_UNROLL
  for (s32 i = 6; i >= 0; i -= 2) {
    if constexpr (Signed) {
      asm("cvt.pack.sat.s4.s32.b32 %0, %1, %2, %0;\n" : "+r"(packed) : "r"(v[i + 1]), "r"(v[i]));
    } else {
      asm("cvt.pack.sat.u4.s32.b32 %0, %1, %2, %0;\n" : "+r"(packed) : "r"(v[i + 1]), "r"(v[i]));
    }
  }
  return packed;
}

// The integer nearest to value * numerator / denominator, to the even one of two, in low..high; all are float32.
NYBBLE_DEVICE s32 quantized(u32 value, u32 numerator, u32 denominator, u32 low, u32 high) {
  const float product = __fmul_rn(__uint_as_float(value), __uint_as_float(numerator));
  const float scaled = __fdiv_rn(product, __uint_as_float(denominator));
  return __float2int_rn(fminf(fmaxf(scaled, __uint_as_float(low)), __uint_as_float(high)));
}

// One division in float32, rounded to nearest even.
NYBBLE_DEVICE u32 divided(s32 value, u32 divisor) {
  return __float_as_uint(__fdiv_rn(__int2float_rn(value), __uint_as_float(divisor)));
}

}  // namespace nybble::gpu
