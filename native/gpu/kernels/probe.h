// Single instructions on given registers: where fragments lie on a GPU, apart from any kernel that uses them.
#pragma once

#include "gpu/kernels/products.h"

namespace nybble::gpu {

// Of each thread: registers of the fragments, a row of 16 bytes and eight values. What comes out, in the same order.
struct ProbeParams {
  const u32* a;       // 4 words
  const u32* b;       // 2 words
  const s32* sums;    // 4 words
  const u32* rows;    // 4 words
  const s32* values;  // 8 words
  u32* out;           // 16 products' sums (u4 s4, s4 s4, u8 s8, s8 s8), 4 of matrices, 2 packed
};
constexpr s32 kProbeWords = 22, kProbeShared = 128 * 16;

template <s32 Count, typename T>
NYBBLE_DEVICE void probe_load(T (&v)[Count], const T* from) {
  NYBBLE_UNROLL
  for (s32 i = 0; i < Count; ++i) v[i] = global_load(from + thread_index() * Count + i);
}

template <class Arch, s32 Bits, bool Signed>
NYBBLE_DEVICE void probe_product(const ProbeParams& p, u32* out) {
  u32 a[4], b[2];
  s32 c[4];
  probe_load(a, p.a);
  probe_load(b, p.b);
  probe_load(c, p.sums);
  // The instruction itself, also where kernels of 9.0 do without it.
  if constexpr (Arch::kAsync) {
    multiply16<Bits, Signed>(c, a, b);
  } else {
    Arch::template multiply<Types<Bits, Signed>>(c, a, b);
  }
  NYBBLE_UNROLL
  for (s32 i = 0; i < 4; ++i) global_store(out + i, static_cast<u32>(c[i]));
}

// A row through shared memory, asynchronously where that exists, with zeros in place of every fifth thread's.
template <class Arch>
NYBBLE_DEVICE void probe_matrices(const ProbeParams& p, u32* out) {
  const u32 place = static_cast<u32>(thread_index()) * 16;
  const bool valid = thread_index() % 5 != 0;
  const auto* row = reinterpret_cast<const u8*>(p.rows) + thread_index() * 16;
  if constexpr (Arch::kAsync) {
    copy_async(place, row, valid);
    commit_async();
    wait_async<0>();
  } else {
    shared_store(place, valid ? global_load(reinterpret_cast<const Words4*>(row)) : Words4{});
  }
  warp_barrier();
  u32 found[4];
  load_matrices(found, place);
  NYBBLE_UNROLL
  for (s32 i = 0; i < 4; ++i) global_store(out + i, found[i]);
}

template <class Arch>
NYBBLE_DEVICE void probe_instructions(const ProbeParams& p) {
  u32* out = p.out + thread_index() * kProbeWords;
  probe_product<Arch, 4, false>(p, out);
  probe_product<Arch, 4, true>(p, out + 4);
  probe_product<Arch, 8, false>(p, out + 8);
  probe_product<Arch, 8, true>(p, out + 12);
  probe_matrices<Arch>(p, out + 16);
  s32 v[8];
  probe_load(v, p.values);
  global_store(out + 20, pack_nibbles<false>(v));
  global_store(out + 21, pack_nibbles<true>(v));
}

}  // namespace nybble::gpu
