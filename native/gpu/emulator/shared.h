// Shared memory of a block, and the state of each of its words, to check bounds, initialisation and races between
// threads.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/emulator/memory.h"

namespace nybble::gpu::emulator {

// Who accesses: a thread of the block, or the whole of its warp, and when: the barriers that were passed.
struct Access {
  int thread;  // kMany: several threads of the warp
  int warp;
  std::uint64_t barrier;       // of the block
  std::uint64_t warp_barrier;  // __syncwarp
};

class SharedMemory {
 public:
  static constexpr int kNone = -1, kMany = -2;

  // All bytes are unset again.
  void reset(std::size_t bytes);
  // Each checks bounds, alignment to `bytes`, and that no other thread accessed a word without a barrier between.
  const std::uint8_t* read(std::uint32_t at, std::uint32_t bytes, const Access& access);
  std::uint8_t* write(std::uint32_t at, std::uint32_t bytes, const Access& access);
  // An asynchronous write: from its start to its completion no thread may access the words.
  void begin_copy(std::uint32_t at, std::uint32_t bytes, const Access& access);
  std::uint8_t* land_copy(std::uint32_t at, std::uint32_t bytes, const Access& access);

 private:
  struct Word {
    std::uint64_t write_barrier = 0, write_warp_barrier = 0, read_barrier = 0, read_warp_barrier = 0;
    int writer = kNone, writer_warp = kNone, reader = kNone, reader_warp = kNone;
    int copies = 0;
    bool is_set = false;
  };

  void check(std::uint32_t at, std::uint32_t bytes) const;
  void note_write(Word& word, std::uint32_t at, const Access& access);
  void note_read(Word& word, std::uint32_t at, const Access& access);

  std::vector<std::uint8_t> bytes_;
  std::vector<Word> words_;
};

}  // namespace nybble::gpu::emulator
