// The step that requantizes by one factor for positive sums and another for negative ones.
#pragma once

#include <cstdint>
#include <vector>

#include "core/program.h"

namespace nybble {

struct PReluSpec {
  int input = -1;
  int output = -1;
  Requantize rule;                     // of values from 0 on
  std::vector<std::int32_t> negative;  // factors of negative values, a channel each, of either sign
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_prelu(Program& program, const PReluSpec& spec);

}  // namespace nybble
