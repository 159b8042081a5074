// The step that resizes by bilinear interpolation.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

// Where each row, or column, of a result lies between two of the input: `high[i]` counts with `weight[i]`, `low[i]`
// with `divisor - weight[i]`.
struct BilinearAxis {
  std::vector<int> low, high, weight;
  int divisor = 1;
};

// The weighted sum of four pixels, divided by the product of both divisors and rounded, halves up.
struct BilinearSpec {
  int input = -1;
  int output = -1;
  BilinearAxis rows, columns;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where an index has no place, a weight is out of range, or types differ.
void add_bilinear(Program& program, const BilinearSpec& spec);

}  // namespace nybble
