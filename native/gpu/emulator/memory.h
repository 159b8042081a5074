// Device memory of the emulator: one reserved range, and the state of each of its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace nybble::gpu::emulator {

// A fault of a kernel or a caller; the text says where.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// State of a byte: not allocated, allocated but never written, written.
enum class Byte : std::uint8_t { absent = 0, unset = 1, set = 2 };

class Memory {
 public:
  static constexpr std::size_t kReserved = std::size_t{1} << 36;
  static constexpr std::size_t kAlign = 256;

  Memory();
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  // An address aligned to kAlign bytes. Between blocks there are bytes that are not allocated.
  std::uintptr_t allocate(std::size_t bytes);
  void release(std::uintptr_t address);
  void write(std::uintptr_t to, const void* from, std::size_t bytes);
  void read(void* to, std::uintptr_t from, std::size_t bytes) const;
  void fill(std::uintptr_t to, std::uint8_t value, std::size_t bytes);

  // Throws unless all bytes may be read (`is_read`) or written, and are aligned to their number.
  void check(const void* at, std::size_t bytes, bool is_read) const;
  void mark_set(const void* at, std::size_t bytes);
  // The thread that wrote a word in the running launch: launch and thread together in 64 bits.
  std::uint64_t& writer(const void* at) { return writers_[index(at) / 4]; }

 private:
  std::size_t index(const void* at) const { return static_cast<std::size_t>(static_cast<const char*>(at) - base_); }

  char* base_;
  Byte* state_;
  std::uint64_t* writers_;
  std::map<std::uintptr_t, std::size_t> blocks_;
};

Memory& memory();

}  // namespace nybble::gpu::emulator
