// A table of codes as a step of its own, where no step before it could take it along.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

// Any function of one code: its results by codes in ascending order, 16, 128 or 256 of them; signed codes start with
// the least.
struct TableSpec {
  int input = -1, output = -1;
  std::vector<int> table;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where the parts do not fit together.
void add_table(Program& program, const TableSpec& spec);

}  // namespace nybble
