// From sums to floats.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

struct ScaleSpec {
  int input = -1, output = -1;
  std::vector<float> scale;
  // 8-bit values become sums first: their product with a factor, rounded off and not clipped.
  bool input_requantize = false;
  Requantize input_rule;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_scale(Program& program, const ScaleSpec& spec);

}  // namespace nybble
