// Element by element, for what could not be fused: value (+ other), then an epilogue.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

struct PointSpec : EpilogueSpec {
  int input = -1, output = -1, other = -1;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_point(Program& program, const PointSpec& spec);

}  // namespace nybble
