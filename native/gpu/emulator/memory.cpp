#include "gpu/emulator/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace nybble::gpu::emulator {
namespace {

void* reserve(std::size_t bytes) {
  // Pages take memory when they are touched.
  void* found = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  return found;
}

[[noreturn]] void refuse(const char* why, const void* at, std::size_t bytes) {
  throw Error("global memory: " + std::to_string(bytes) + " bytes at " +
              std::to_string(reinterpret_cast<std::uintptr_t>(at)) + " " + why);
}

}  // namespace

Memory::Memory()
    : base_(static_cast<char*>(reserve(kReserved))),
      state_(static_cast<Byte*>(reserve(kReserved))),
      writers_(static_cast<std::uint64_t*>(reserve(kReserved / 4 * sizeof(std::uint64_t)))) {}

Memory::~Memory() {
  munmap(base_, kReserved);
  munmap(state_, kReserved);
  munmap(writers_, kReserved / 4 * sizeof(std::uint64_t));
}

std::uintptr_t Memory::allocate(std::size_t bytes) {
  // First fit; a gap of kAlign bytes or more stays behind each block.
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign + kAlign;
  const auto base = reinterpret_cast<std::uintptr_t>(base_);
  std::uintptr_t at = base + kAlign;
  for (const auto& [start, used] : blocks_) {
    if (at + size <= start) break;
    at = start + (used + kAlign - 1) / kAlign * kAlign + kAlign;
  }
  if (at + size > base + kReserved) throw std::bad_alloc();
  blocks_[at] = std::max<std::size_t>(bytes, 1);
  std::fill_n(state_ + (at - base), bytes, Byte::unset);
  return at;
}

void Memory::release(std::uintptr_t address) {
  const auto found = blocks_.find(address);
  if (found == blocks_.end()) throw Error("released memory that was not allocated");
  char* at = reinterpret_cast<char*>(address);
  std::fill_n(state_ + index(at), found->second, Byte::absent);
  blocks_.erase(found);
}

void Memory::check(const void* at, std::size_t bytes, bool is_read) const {
  const auto address = reinterpret_cast<std::uintptr_t>(at), base = reinterpret_cast<std::uintptr_t>(base_);
  if (address < base || address + bytes > base + kReserved) refuse("are outside device memory", at, bytes);
  if (address % bytes != 0) refuse("are not aligned", at, bytes);
  const Byte least = is_read ? Byte::set : Byte::unset;
  for (std::size_t i = 0; i < bytes; ++i) {
    const Byte found = state_[index(at) + i];
    if (found == Byte::absent) refuse("are outside every allocation", at, bytes);
    if (found < least) refuse("were read and never written", at, bytes);
  }
}

void Memory::mark_set(const void* at, std::size_t bytes) { std::fill_n(state_ + index(at), bytes, Byte::set); }

void Memory::write(std::uintptr_t to, const void* from, std::size_t bytes) {
  char* at = reinterpret_cast<char*>(to);
  for (std::size_t i = 0; i < bytes; ++i) check(at + i, 1, false);
  std::memcpy(at, from, bytes);
  mark_set(at, bytes);
}

void Memory::read(void* to, std::uintptr_t from, std::size_t bytes) const {
  const char* at = reinterpret_cast<const char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) check(at + i, 1, true);
  std::memcpy(to, at, bytes);
}

void Memory::fill(std::uintptr_t to, std::uint8_t value, std::size_t bytes) {
  char* at = reinterpret_cast<char*>(to);
  for (std::size_t i = 0; i < bytes; ++i) check(at + i, 1, false);
  std::memset(at, value, bytes);
  mark_set(at, bytes);
}

Memory& memory() {
  static Memory one;
  return one;
}

}  // namespace nybble::gpu::emulator
