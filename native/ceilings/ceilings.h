// Peak rates of this machine: loops that execute one mix of instructions, or only read.
// A kernel's speed is compared with them (nybble bench --ceilings); the engine does not use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/cpu.h"

namespace nybble {

// Runs `turns` times over `data`; the result keeps the compiler from dropping the work.
using CeilingLoop = std::uint64_t (*)(const std::uint8_t* data, std::size_t bytes, std::int64_t turns);

struct Ceiling {
  const char* name;
  Isa isa;
  CeilingLoop loop;
  // Bytes of data of each thread: a multiple of kCeilingChunk.
  std::size_t bytes;
  // What one turn does: multiply-accumulates, or bytes read where `reads`.
  double work;
  bool reads;
};

// Twelve vectors of 64 bytes: what one step of the longest unrolled loop takes.
inline constexpr std::size_t kCeilingChunk = 12 * 64;
// Half of the smallest L1 in use, and well inside the smallest second-level cache.
inline constexpr std::size_t kL1Bytes = 21 * kCeilingChunk;
inline constexpr std::size_t kL2Bytes = 192 * kCeilingChunk;
// Of each thread: more than the part of a last-level cache that two threads are likely to own.
inline constexpr std::size_t kMemoryBytes = (std::size_t{128} << 20) / kCeilingChunk * kCeilingChunk;

// Those that this build has and this machine can run.
std::vector<Ceiling> available_ceilings();

// Work a second, of all threads together, in one window of that many seconds. Each thread has data of its own and
// starts when all are ready. Throws std::invalid_argument on an unknown name, a machine without the instruction
// set, or numbers out of range.
double measure_ceiling(const std::string& name, const std::string& isa, int threads, double seconds);

}  // namespace nybble
