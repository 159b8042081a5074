// Memory for weights and values: aligned to vectors, in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nybble {

// Zeroed and aligned to 64 bytes (large ones to huge pages), with room for a vector to read past the end.
// Untouched pages of a large one take no memory, and freeing it returns its memory to the system.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t size = 0);
  std::uint8_t* data() { return data_.get(); }
  const std::uint8_t* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    std::size_t mapped;  // bytes, or 0 where malloc gave them
    void operator()(std::uint8_t* p) const;
  };
  std::unique_ptr<std::uint8_t[], Free> data_{nullptr, Free{0}};
  std::size_t size_;
};

// Keeps packed weights of all layers side by side, so that they share huge pages. Equal weights of all stores of a
// process are kept once.
class WeightStore {
 public:
  // A copy of `bytes`, aligned to 64, that lives as long as the store.
  const std::uint8_t* keep(const AlignedBytes& bytes);

  // Bytes that all stores of the process keep, for tests.
  static std::size_t kept_bytes();

 private:
  struct Chunk;
  friend struct WeightIndex;

  std::vector<std::shared_ptr<const Chunk>> shared_;  // of this store and others
  std::shared_ptr<Chunk> last_;                       // that weights are added to
};

}  // namespace nybble
