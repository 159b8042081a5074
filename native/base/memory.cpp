#include "base/memory.h"

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

std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

// Under AddressSanitizer memory comes from malloc, so that reading past its end is seen.
#if defined(__SANITIZE_ADDRESS__)
#define NYBBLE_MAP 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NYBBLE_MAP 0
#endif
#endif
#if !defined(NYBBLE_MAP)
#if defined(__linux__)
#define NYBBLE_MAP 1
#else
#define NYBBLE_MAP 0
#endif
#endif

#if NYBBLE_MAP
// Weights of a layer and more. malloc would keep them for reuse between smaller ones that stay, and the
// process would hold the holes.
constexpr std::size_t kMapped = std::size_t{128} << 10;

// Where memory is only promised, address space costs nothing; elsewhere a chunk is held whole.
constexpr std::size_t kChunk = 32 * kHugePage;

// Zeroed, `alignment` a power of two that divides `size`. Null where there is no memory.
std::uint8_t* map(std::size_t size, std::size_t alignment) {
  void* found =
      mmap(nullptr, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  auto* start = static_cast<std::uint8_t*>(found);
  const std::size_t before =
      round_up(reinterpret_cast<std::uintptr_t>(start), alignment) - reinterpret_cast<std::uintptr_t>(start);
  if (before > 0) (void)munmap(start, before);
  if (before < alignment) (void)munmap(start + before + size, alignment - before);
  // Fewer TLB misses: 25 MB of weights are read once an image. It is a hint, so failure is no error.
  if (alignment == kHugePage) (void)madvise(start + before, size, MADV_HUGEPAGE);
  return start + before;
}
#else
constexpr std::size_t kChunk = 4 * kHugePage;
#endif

}  // namespace

AlignedBytes::AlignedBytes(std::size_t size) : size_(size) {
  const std::size_t rounded = round_up(size + kVectorBytes, kVectorBytes);
#if NYBBLE_MAP
  if (size >= kMapped) {
    const std::size_t unit = size >= kHugePage ? kHugePage : 4096;
    const std::size_t mapped = round_up(rounded, unit);
    std::uint8_t* memory = map(mapped, unit);
    if (memory == nullptr) throw std::bad_alloc();
    data_ = {memory, Free{mapped}};
    return;
  }
#endif
  auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(kVectorBytes, rounded));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, rounded);
  data_.reset(memory);
}

void AlignedBytes::Free::operator()(std::uint8_t* p) const {
#if NYBBLE_MAP
  if (mapped > 0) {
    (void)munmap(p, mapped);
    return;
  }
#endif
  std::free(p);
}

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
