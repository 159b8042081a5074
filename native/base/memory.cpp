#include "base/memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string_view>
#include <unordered_map>

#include "base/process_mutex.h"

namespace nybble {
namespace {

constexpr std::size_t kVectorBytes = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

// Under AddressSanitizer memory comes from malloc, so that reads past its end are detected.
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
// The weights of a layer, or more. malloc would keep freed blocks between smaller ones that are in use, and the process
// would not return that memory.
constexpr std::size_t kMapped = std::size_t{128} << 10;

// Where memory is reserved without being committed, address space costs nothing; elsewhere a whole chunk is committed.
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

// Where the weights of all stores lie, by hash. Under process_mutex().
struct WeightIndex {
  struct Entry {
    const std::uint8_t* place;
    std::size_t size;
    std::weak_ptr<const WeightStore::Chunk> chunk;
  };

  std::unordered_multimap<std::size_t, Entry> entries;

  static WeightIndex& get() {
    // Never destroyed: stores may be, when static objects go.
    static WeightIndex* const index = new WeightIndex;
    return *index;
  }
};

// Memory that one store fills and several may hold.
struct WeightStore::Chunk {
  explicit Chunk(std::size_t size) : bytes(size) {}
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  ~Chunk() {
    const std::lock_guard lock(process_mutex());
    auto& entries = WeightIndex::get().entries;
    for (const std::size_t hash : hashes) {
      const auto [first, last] = entries.equal_range(hash);
      const auto own = std::find_if(first, last, [&](const auto& entry) {
        return entry.second.place >= bytes.data() && entry.second.place < bytes.data() + bytes.size();
      });
      if (own != last) entries.erase(own);
    }
  }

  AlignedBytes bytes;
  std::size_t used = 0;
  std::vector<std::size_t> hashes;  // of its entries in the index
};

std::size_t WeightStore::kept_bytes() {
  const std::lock_guard lock(process_mutex());
  std::size_t total = 0;
  for (const auto& [hash, entry] : WeightIndex::get().entries) total += entry.size;
  return total;
}

const std::uint8_t* WeightStore::keep(const AlignedBytes& bytes) {
  const auto* const text = reinterpret_cast<const char*>(bytes.data());
  const std::size_t hash = std::hash<std::string_view>{}({text, bytes.size()});
  WeightIndex& index = WeightIndex::get();

  std::vector<std::pair<const std::uint8_t*, std::shared_ptr<const Chunk>>> candidates;
  {
    const std::lock_guard lock(process_mutex());
    const auto [first, last] = index.entries.equal_range(hash);
    for (auto entry = first; entry != last; ++entry)
      if (entry->second.size == bytes.size()) candidates.emplace_back(entry->second.place, entry->second.chunk.lock());
  }
  // Without the lock: entries of the index do not change during the lifetime of their chunk.
  for (const auto& [place, chunk] : candidates) {
    if (chunk == nullptr || std::memcmp(place, bytes.data(), bytes.size()) != 0) continue;
    if (std::find(shared_.begin(), shared_.end(), chunk) == shared_.end()) shared_.push_back(chunk);
    return place;
  }

  // Kernels may read a vector past the end of any layer's weights.
  const std::size_t size = round_up(bytes.size() + kVectorBytes, kVectorBytes);
  if (last_ == nullptr || last_->bytes.size() - last_->used < size) {
    last_ = std::make_shared<Chunk>(std::max(size, kChunk));
    shared_.push_back(last_);
  }
  std::uint8_t* place = last_->bytes.data() + last_->used;
  std::memcpy(place, bytes.data(), bytes.size());
  last_->used += size;
  last_->hashes.push_back(hash);
  const std::lock_guard lock(process_mutex());
  index.entries.emplace(hash, WeightIndex::Entry{place, bytes.size(), last_});
  return place;
}

}  // namespace nybble
