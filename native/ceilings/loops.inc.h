// The loops, for the vectors of the including file: it defines Ints, kBytes, load, add16, add32, maddubs, madd,
// either, zero, ones16 and NYBBLE_OPAQUE (an empty asm that the compiler must believe to change a vector, so that it
// can move nothing out of the loop).
//
// Twelve sums: enough to cover a latency of five cycles at two instructions per cycle, and few enough that the sums, an
// input, a weight, the constant and a product fit sixteen registers.
#pragma once

#include "ceilings/ceilings.h"

namespace nybble {
namespace {

constexpr int kSums = 12;
// Variables of their own, for compilers that keep an array in memory.
#define NYBBLE_EACH_SUM(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#define NYBBLE_DECLARE_SUM(i) Ints sum##i = zero();
#define NYBBLE_FOLD_SUM(i) all = either(all, sum##i);
#define NYBBLE_REGISTER_STEP(i)                    \
  NYBBLE_OPAQUE(weight);                           \
  sum##i = Mix::step(sum##i, input, weight, ones); \
  NYBBLE_OPAQUE(sum##i);
#define NYBBLE_MEMORY_STEP(i)                                                \
  sum##i = Mix::step(sum##i, input, load(data + offset + i * kBytes), ones); \
  NYBBLE_OPAQUE(sum##i);

std::uint64_t fold(Ints all) {
  std::uint64_t words[kBytes / 8];
  __builtin_memcpy(words, &all, sizeof words);
  std::uint64_t result = 0;
  for (const std::uint64_t word : words) result |= word;
  return result;
}

struct MaddubsAdd16 {
  static NYBBLE_INLINE Ints step(Ints sum, Ints input, Ints weight, Ints) { return add16(sum, maddubs(input, weight)); }
};

struct MaddubsMaddAdd32 {
  static NYBBLE_INLINE Ints step(Ints sum, Ints input, Ints weight, Ints ones) {
    return add32(sum, madd(maddubs(input, weight), ones));
  }
};

struct MaddAdd32 {
  static NYBBLE_INLINE Ints step(Ints sum, Ints input, Ints weight, Ints) { return add32(sum, madd(input, weight)); }
};

// Reads, with as little arithmetic as possible.
struct ReadOnly {
  static NYBBLE_INLINE Ints step(Ints sum, Ints, Ints read, Ints) { return either(sum, read); }
};

// Every operand in a register.
template <typename Mix>
std::uint64_t from_registers(const std::uint8_t* data, std::size_t bytes, std::int64_t turns) {
  NYBBLE_EACH_SUM(NYBBLE_DECLARE_SUM)
  const Ints input = load(data);
  Ints weight = load(data + kBytes);
  const Ints ones = ones16();
  const std::size_t steps = bytes / (kSums * kBytes);
  for (std::int64_t turn = 0; turn < turns; ++turn)
    for (std::size_t step = 0; step < steps; ++step) {
      NYBBLE_EACH_SUM(NYBBLE_REGISTER_STEP)
    }
  Ints all = zero();
  NYBBLE_EACH_SUM(NYBBLE_FOLD_SUM)
  return fold(all);
}

// The weights are memory operands.
template <typename Mix>
std::uint64_t from_memory(const std::uint8_t* data, std::size_t bytes, std::int64_t turns) {
  NYBBLE_EACH_SUM(NYBBLE_DECLARE_SUM)
  const Ints input = load(data);
  const Ints ones = ones16();
  for (std::int64_t turn = 0; turn < turns; ++turn)
    for (std::size_t offset = 0; offset < bytes; offset += kSums * kBytes) {
      NYBBLE_EACH_SUM(NYBBLE_MEMORY_STEP)
    }
  Ints all = zero();
  NYBBLE_EACH_SUM(NYBBLE_FOLD_SUM)
  return fold(all);
}

// Multiply-accumulates of a turn over kL1Bytes, of a mix that makes so many of each vector.
constexpr double turn_macs(int macs_per_vector) {
  return static_cast<double>(kL1Bytes / static_cast<std::size_t>(kBytes)) * macs_per_vector;
}

}  // namespace
}  // namespace nybble
