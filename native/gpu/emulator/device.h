// The machine as emulated: the same functions as kernels/ptx.h, for the thread that runs. Every access is checked.
#pragma once

#include <cmath>
#include <cstring>

#include "gpu/emulator/block.h"
#include "gpu/emulator/memory.h"
#include "gpu/kernels/types.h"

#define NYBBLE_DEVICE inline
#define NYBBLE_CALLED inline
#define NYBBLE_UNROLL
#define NYBBLE_ROLLED

namespace nybble::gpu {

inline s32 thread_index() { return emulator::running->thread(); }
inline s32 block_x() { return emulator::running->x(); }
inline s32 block_y() { return emulator::running->y(); }
inline s32 block_threads() { return emulator::running->threads(); }
inline void block_barrier() { emulator::running->barrier(); }
inline void warp_barrier() {
  emulator::running->meet(emulator::Meeting::warp_barrier, 0, [] { emulator::running->pass_warp_barrier(); });
}

template <typename T>
T global_load(const T* from) {
  emulator::memory().check(from, sizeof(T), true);
  for (u32 at = 0; at < sizeof(T); at += 4) {
    // Loads go by the read-only cache: what a kernel writes none of its threads reads.
    const u64 writer = emulator::memory().writer(reinterpret_cast<const u8*>(from) + at);
    if (emulator::Block::of_one_launch(writer, emulator::running->author())) {
      throw emulator::Error("global memory: a word is written and read in one launch");
    }
  }
  return *from;
}

template <typename T>
void global_store(T* to, T value) {
  static_assert(sizeof(T) >= 4);
  emulator::memory().check(to, sizeof(T), false);
  const u64 author = emulator::running->author();
  for (u32 at = 0; at < sizeof(T); at += 4) {
    auto& writer = emulator::memory().writer(reinterpret_cast<u8*>(to) + at);
    if (emulator::Block::of_one_launch(writer, author) && writer != author) {
      throw emulator::Error("global memory: two threads of one launch write a word");
    }
    writer = author;
  }
  emulator::memory().mark_set(to, sizeof(T));
  *to = value;
}

template <typename T>
void shared_store(u32 to, const T& value) {
  emulator::Block& block = *emulator::running;
  std::memcpy(block.shared().write(to, sizeof value, block.access()), &value, sizeof value);
}

template <typename T>
T shared_load(u32 from) {
  emulator::Block& block = *emulator::running;
  T value;
  std::memcpy(&value, block.shared().read(from, sizeof value, block.access()), sizeof value);
  return value;
}

inline void copy_async(u32 to, const u8* from, bool valid) {
  u8 bytes[16] = {};
  if (valid) {
    const Words4 found = global_load(reinterpret_cast<const Words4*>(from));
    std::memcpy(bytes, &found, sizeof found);
  }
  emulator::running->begin_copy(to, bytes);
}

inline void commit_async() { emulator::running->commit_copies(); }

template <s32 Left>
void wait_async() {
  emulator::running->wait_for_copies(Left);
}

inline void load_matrices(u32 (&r)[4], u32 row) {
  emulator::Block& block = *emulator::running;
  auto& addresses = block.addresses();
  addresses[block.lane()] = row;
  block.meet(emulator::Meeting::matrices, 0, [&] {
    emulator::Access access = block.access();
    access.thread = emulator::SharedMemory::kMany;
    for (int lane = 0; lane < 32; ++lane) {
      const u8* from = block.shared().read(addresses[lane], 16, access);
      // Four neighbouring lanes take four bytes each of a row; the matrix says in which register.
      for (int i = 0; i < 4; ++i) std::memcpy(&block.fragments().a[lane % 8 * 4 + i][lane / 8], from + 4 * i, 4);
    }
  });
  for (int i = 0; i < 4; ++i) r[i] = block.fragments().a[block.lane()][i];
}

template <s32 Bits, bool Signed>
void multiply16(s32 (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  emulator::Block& block = *emulator::running;
  emulator::Fragments& all = block.fragments();
  const int lane = block.lane();
  std::memcpy(all.a[lane], a, sizeof a);
  std::memcpy(all.b[lane], b, sizeof b);
  std::memcpy(all.c[lane], c, sizeof c);
  block.meet(emulator::Meeting::product16, Bits * 2 + Signed, [&] { emulator::multiply16(all, Bits, Signed); });
  std::memcpy(c, all.c[lane], sizeof c);
}

template <s32 Bits, bool Signed>
void multiply8(s32* c, u32 a, u32 b) {
  emulator::Block& block = *emulator::running;
  emulator::Fragments& all = block.fragments();
  const int lane = block.lane();
  all.a[lane][0] = a;
  all.b[lane][0] = b;
  std::memcpy(all.c[lane], c, 2 * sizeof *c);
  block.meet(emulator::Meeting::product8, Bits * 2 + Signed, [&] { emulator::multiply8(all, Bits, Signed); });
  std::memcpy(c, all.c[lane], 2 * sizeof *c);
}

template <bool Signed>
u32 pack_nibbles(const s32 (&v)[8]) {
  constexpr s32 low = Signed ? -8 : 0, high = Signed ? 7 : 15;
  u32 packed = 0;
  for (s32 i = 0; i < 8; ++i) {
    const s32 nibble = v[i] < low ? low : v[i] > high ? high : v[i];
    packed |= (static_cast<u32>(nibble) & 15U) << (4 * i);
  }
  return packed;
}

// NaN becomes `low`, as the instructions have it.
inline s32 quantized(u32 value, u32 numerator, u32 denominator, u32 low, u32 high) {
  const auto real = [](u32 bits) {
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
  };
  const float scaled = real(value) * real(numerator) / real(denominator);
  const float raised = scaled > real(low) ? scaled : real(low);
  return static_cast<s32>(std::nearbyint(raised < real(high) ? raised : real(high)));
}

inline u32 divided(s32 value, u32 divisor) {
  float scale, quotient;
  std::memcpy(&scale, &divisor, sizeof scale);
  quotient = static_cast<float>(value) / scale;
  u32 bits;
  std::memcpy(&bits, &quotient, sizeof bits);
  return bits;
}

}  // namespace nybble::gpu
