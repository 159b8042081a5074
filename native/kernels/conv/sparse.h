// The sparse kernels: lists of non-zero pairs with 16-bit sums, or of non-zero quads with 32-bit sums.
#pragma once

#include <cstdint>

#include "kernels/conv/rows.h"

namespace nybble {

// One (kernel position, block of channel groups).
struct SparseItem {
  std::int32_t dy, dx;  // input row and column relative to the window's first
  std::int32_t block;
  std::int32_t first_group;  // where its weights start, in groups from the start of the output block
  std::int64_t entries;      // from the entries of the window's first input pixel to its own
  std::int64_t counts;       // likewise
};

// Items whose weights are read together, so that they stay in L1 while the tile's pixels pass.
struct SparseVisit {
  std::int32_t first_item, items;
  std::int32_t groups_ahead;  // of the next visit
  bool widen;                 // add the 16-bit sums into the 32-bit ones after it: the next visit could overflow them
};

// What the kernels read besides the weights.
struct SparsePacked {
  const SparseItem* items = nullptr;
  const SparseVisit* visits = nullptr;
  std::int32_t visit_count = 0;
};

// Sparse kernel: where the pixels of a tile read.
struct TileCoordinates {
  std::int32_t rows[kMostTilePixels];
  std::int32_t columns[kMostTilePixels];
  // Of the input pixel of the window's first, which may lie outside the image.
  std::int64_t entries[kMostTilePixels];
  std::int64_t counts[kMostTilePixels];
  bool is_inside[kMostTilePixels];  // the whole window
};

// Pairs have 16-bit sums, widened where the bound asks for it, quads 32-bit ones.
ConvWeights pack_sparse(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut, const std::int8_t* weights);
std::int64_t sparse_scratch(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);

}  // namespace nybble
