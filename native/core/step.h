// The steps that a program consists of.
#pragma once

#include <memory>

#include "core/output_lists.h"
#include "core/program.h"

namespace nybble {

// A step is cut into chunks that any thread may take in any order.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::int64_t chunks(std::int64_t images) const = 0;
  virtual void run(const Memory& memory, std::int64_t chunk, std::int64_t images, std::uint8_t* scratch) const = 0;
  virtual std::int64_t scratch_bytes() const { return 0; }
  virtual std::int64_t weight_bytes() const { return 0; }
  // How many `Memory::finished` it uses.
  virtual std::int64_t counters(std::int64_t) const { return 0; }

  // Program::add_step sets them.
  int output = -1;
  OutputLists output_lists;
};

inline std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace nybble
