#include "core/memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace nybble {
namespace {

constexpr std::size_t kVectorBytes = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kChunk = 4 * kHugePage;

std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

}  // namespace

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
  const std::size_t alignment = size >= kHugePage ? kHugePage : kVectorBytes;
  const std::size_t rounded = round_up(size + kVectorBytes, kVectorBytes);
  auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(alignment, round_up(rounded, alignment)));
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  // Fewer TLB misses: 25 MB of weights are read once an image. It is a hint, so failure is no error.
  if (alignment == kHugePage) (void)madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  std::memset(memory, 0, rounded);
  data_.reset(memory);
}

void AlignedBytes::Free::operator()(std::uint8_t* p) const { std::free(p); }

const std::uint8_t* WeightStore::keep(const AlignedBytes& bytes) {
  // Kernels may read a vector past the end of any layer's weights.
  const std::size_t size = round_up(bytes.size() + kVectorBytes, kVectorBytes);
  if (chunks_.empty() || chunks_.back().size() - used_ < size) {
    chunks_.emplace_back(std::max(size, kChunk));
    used_ = 0;
  }
  std::uint8_t* place = chunks_.back().data() + used_;
  std::memcpy(place, bytes.data(), bytes.size());
  used_ += size;
  return place;
}

}  // namespace nybble
