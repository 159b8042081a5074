// Packing: how weights are laid out for each kernel, and where 16-bit sums must be widened.
#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "kernels/conv/conv.h"

namespace nybble {

enum class ConvMethod { direct, sparse, sparse_quad, wide, quad, chained, winograd, pair, grouped };

struct ConvWeights {
  AlignedBytes bytes;
  std::vector<OutputBlock> blocks;
  std::vector<SparseItem> items;
  std::vector<SparseVisit> visits;
  std::int32_t run_groups = 0, runs_per_row = 0, offset = 0;
  std::vector<std::int32_t> correction;
  // Chained:
  std::vector<ChainGroup> chain_groups;
  std::vector<std::int32_t> chain_quads;
  std::int64_t run_bytes = 0;
  // Winograd:
  std::vector<WinogradBlock> winograd;
  std::vector<WinogradSegment> segments;
  std::vector<std::int16_t> constants;
  // Pair:
  std::vector<PairTile> pair_tiles;
  std::vector<PairRun> pair_runs;
  // Grouped:
  std::vector<GroupedUnit> grouped_units;
  std::vector<std::int32_t> grouped_places;
  std::vector<GatherVector> gathers;
  std::vector<GatherStep> gather_steps;
  std::int32_t tile_pixels = 0;
  // 16-bit sums: the least and greatest sum of each output, whatever the activations are.
  std::vector<std::int64_t> lowest, highest;

  // Whether 16 bits hold every sum.
  bool fits16() const;

  // What kernels read, its weights at `kept`.
  PackedConv view(const std::uint8_t* kept) const;
};

// Equal blocks where possible: 320 outputs in blocks of at most 256 become 160 and 160.
std::vector<OutputBlock> split_outputs(std::int32_t outputs, std::int32_t most, std::size_t bytes_per_output);

// Pairs in a block of a list for activations up to `magnitude` and weights up to `weight_magnitude`:
// the largest power of two, 64 at most, whose worst sum fits 16 bits; 0 where 16 pairs do not fit.
std::int32_t list_block_pairs(std::int32_t magnitude, std::int32_t weight_magnitude);

// `weights` is (outputs, inputs of the group, kernel rows, columns), C order.
// `magnitude` bounds the activations; `block_outputs` is a multiple of 32, 256 at most.
ConvWeights pack_direct(const ConvShape& shape, const std::int8_t* weights, std::int32_t block_outputs);
// For lists of groups of two (16-bit sums, widened where the bound asks for it) or four inputs (32-bit sums).
ConvWeights pack_sparse(const ConvShape& shape, const std::int8_t* weights, std::int32_t group, std::int32_t magnitude,
                        std::int32_t block_groups, std::int32_t block_outputs, std::size_t visit_bytes);
// For 32-bit sums of groups of two (wide) or four inputs (quad), to each of which `offset` is added. Outputs are
// computed `together` within a block.
ConvWeights pack_dot(const ConvShape& shape, const std::int8_t* weights, std::int32_t block_outputs,
                     std::int32_t together, std::int32_t group, std::int32_t offset);
// For chains of quads with 16-bit sums, for inputs that are 0 to `magnitude` once `offset` is added to each.
ConvWeights pack_chained(const ConvShape& shape, const std::int8_t* weights, std::int32_t block_outputs,
                         std::int32_t magnitude, std::int32_t offset);
// For 3x3 windows of stride 1 on activations of at most kWinogradMagnitude by weights of at most kWinogradWeight.
ConvWeights pack_winograd(const ConvShape& shape, const std::int8_t* weights, std::int32_t magnitude,
                          std::int32_t block_outputs);
// For pairs of inputs between `low` (0, or less for signed ones) and `high`, padded to kChannelAlign channels, whose
// products with two weights fit 16 bits. `tile_pixels` are computed at a time, at most.
ConvWeights pack_pair(const ConvShape& shape, const std::int8_t* weights, std::int32_t block_outputs,
                      std::int32_t tile_pixels, std::int32_t low, std::int32_t high);
// For any number of groups, inputs padded to kChannelAlign channels and between `low` (0, or less for signed ones) and
// `high`. `tile_pixels` of one output row are computed at a time, at most.
ConvWeights pack_grouped(const ConvShape& shape, const std::int8_t* weights, std::int32_t block_outputs,
                         std::int32_t tile_pixels, std::int32_t low, std::int32_t high);

}  // namespace nybble
