// Channels of 8-bit values of one type, one value after the other.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

struct ConcatSpec {
  std::vector<int> inputs;
  int output = -1;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_concat(Program& program, const ConcatSpec& spec);

}  // namespace nybble
