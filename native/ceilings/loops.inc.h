// The loops, for the vectors of the including file: it defines Ints, kBytes, load, add16, add32, maddubs, madd,
// either, zero, ones16 and NYBBLE_OPAQUE (an empty asm that the compiler must believe to change a vector, so that it
// can move nothing out of the loop).
//
// Twelve sums: enough to cover a latency of five cycles at two instructions a cycle, and few enough that the sums, an
// input, a weight, the constant and a product fit sixteen registers.
constexpr int kSums = 12;

std::uint64_t fold(const Ints* sums) {
  Ints all = zero();
  for (int i = 0; i < kSums; ++i) all = either(all, sums[i]);
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

// Reads and does next to nothing with it.
struct ReadOnly {
  static NYBBLE_INLINE Ints step(Ints sum, Ints, Ints read, Ints) { return either(sum, read); }
};

// Every operand in a register.
template <typename Mix>
std::uint64_t from_registers(const std::uint8_t* data, std::size_t bytes, std::int64_t turns) {
  Ints sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = zero();
  Ints input = load(data);
  Ints weight = load(data + kBytes);
  const Ints ones = ones16();
  const std::size_t steps = bytes / (kSums * kBytes);
  for (std::int64_t turn = 0; turn < turns; ++turn)
    for (std::size_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) {
        NYBBLE_OPAQUE(weight);
        sums[i] = Mix::step(sums[i], input, weight, ones);
        NYBBLE_OPAQUE(sums[i]);
      }
    }
  return fold(sums);
}

// The weights are memory operands out of L1.
template <typename Mix>
std::uint64_t from_memory(const std::uint8_t* data, std::size_t bytes, std::int64_t turns) {
  Ints sums[kSums];
  for (int i = 0; i < kSums; ++i) sums[i] = zero();
  const Ints input = load(data);
  const Ints ones = ones16();
  for (std::int64_t turn = 0; turn < turns; ++turn) {
    asm volatile("" ::: "memory");
    for (std::size_t offset = 0; offset < bytes; offset += kSums * kBytes) {
#pragma GCC unroll 12
      for (int i = 0; i < kSums; ++i) {
        sums[i] = Mix::step(sums[i], input, load(data + offset + i * kBytes), ones);
        NYBBLE_OPAQUE(sums[i]);
      }
    }
  }
  return fold(sums);
}

// Multiply-accumulates of a turn over kL1Bytes, of a mix that makes so many of each vector.
constexpr double turn_macs(int macs_per_vector) {
  return static_cast<double>(kL1Bytes / static_cast<std::size_t>(kBytes)) * macs_per_vector;
}
