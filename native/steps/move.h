// The step that copies channels from pixel to pixel: slices, padding, nearest-neighbour resizing, channels in another
// order, and channels that become pixels.
#pragma once

#include <vector>

#include "core/program.h"

namespace nybble {

// A result's row y and column x are row `rows[y]` and column `columns[x]` of the input. Its channel c is channel
// `channels[row_maps[y] + column_maps[x]][c]` there. An index of -1 stands for zeros.
struct MoveSpec {
  int input = -1;
  int output = -1;
  std::vector<int> rows, columns;
  std::vector<int> row_maps, column_maps;
  std::vector<std::vector<int>> channels;
  std::vector<int> output_lists;
};

// Throws std::invalid_argument where an index has no place, or types differ.
void add_move(Program& program, const MoveSpec& spec);

}  // namespace nybble
