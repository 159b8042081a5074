// Lists of a value's non-zero groups, built by the step that writes the value, while it is in the cache.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "core/program.h"
#include "kernels/lists/kernels.h"

namespace nybble {

// Where the values of the running batch lie, as one thread sees them.
struct Memory {
  std::uint8_t* arena;
  std::int64_t most_images;  // that values have room for: those that run together
  const std::vector<Value>* values;
  // Of the running step, Step::counters of them: 0 before it and after it.
  std::atomic<std::int32_t>* finished;
  // Nanoseconds that this thread spent on lists, by their id; null if they are not measured.
  std::int64_t* list_times;

  std::uint8_t* at(int value) const { return arena + (*values)[static_cast<std::size_t>(value)].offset * most_images; }
};

class OutputLists {
 public:
  OutputLists() = default;
  // `ids` are lists of the value `output`. Throws std::invalid_argument where they are not, or cannot be built.
  OutputLists(Isa isa, const std::vector<Value>& values, int output, const std::vector<int>& ids);

  bool empty() const { return lists_.empty(); }
  std::vector<int> ids() const;
  // Of pixels [first, first + count) of the batch, whose values are written.
  void build(const Memory& memory, std::int64_t first, std::int64_t count) const;

 private:
  struct One {
    ListKernel kernel;
    Value value;
    int id;
  };

  std::vector<One> lists_;
  std::int32_t stride_ = 0;
  int output_ = -1;
};

// Lists of a value whose memory starts at `memory`, for a batch of at most `images`.
NonZeroLists lists_at(const Value& value, std::uint8_t* memory, std::int64_t images);

}  // namespace nybble
