// The table of convolution kernels. A row states which layers its kernel computes exactly, for which of them the
// planner chooses it and how its work is divided, and has the functions that pack weights for it and run it.
//
// Rows are constants, compiled once for each instruction set beside the kernel. The executor, the planner, the tuner
// and the tests all use the rows to decide whether a kernel may run a layer.
#pragma once

#include <cstdint>
#include <string>

#include "base/cpu.h"
#include "kernels/conv/conv.h"

namespace nybble {

// A convolution in the form that rows check: its shape, and the bounds of its operands.
struct ConvLayer {
  ConvShape shape;
  std::int32_t low = 0, high = 255;  // inputs lie between; `low` is 0 for unsigned ones, negative for signed ones
  // Size of the largest weight. The executor has that of the weights that it packs. The planner has that of their type:
  // which kernel it chooses may not depend on weights that happen to be small.
  std::int32_t most_weight = 128;
  // What clips leave of low..high, whatever the weights, and least and largest weight, of which most_weight is the
  // size; 0 is within both. Only rows with byte sums ask for them: others depend on types, as far as they depend on
  // inputs.
  std::int32_t clip_low = 0, clip_high = 255;
  std::int32_t weight_low = -128, weight_high = 127;
  // Whether inputs are stored with channel padding. The planner says no of the network's input, whatever its channels.
  bool is_padded = true;

  NYBBLE_INLINE bool is_signed() const { return low < 0; }
  NYBBLE_INLINE std::int32_t magnitude() const { return high > -low ? high : -low; }
};

// How the work of a layer is divided.
struct ConvCut {
  std::int32_t block_outputs = 128;  // computed together, a multiple of kChannelAlign
  std::int32_t tile_pixels = 64;     // of a task
  std::int64_t visit_bytes = 24 << 10;
  std::int32_t list_block = 0;  // groups in a block of the lists; 0 for kernels that read none
};

inline constexpr std::int64_t kMostVisitBytes = 1 << 24;
inline constexpr std::int32_t kMostBlockOutputs = 256;
// Sizes of a block of a list.
inline constexpr std::int32_t kListBlocks[] = {16, 32, 64};

// The planner chooses no kernel that would stage more bytes than this for a task: dilated windows can need gigabytes.
inline constexpr std::int64_t kMostStaged = 64 << 20;

// The units that the tasks of a kernel consist of: output pixels, those of one output row, those of two neighbouring
// output rows, those of one output row unless the convolution is pointwise, or squares of 2x2 output pixels.
enum class Tasks : std::uint8_t { pixels, row, row_pair, row_unless_pointwise, squares };

struct ConvRow;
struct ConvWeights;

using ConvKernel = void (*)(const ConvTask& task);
// Weights in the kernel's own layout. `weights` is (outputs, inputs of the group, kernel rows, columns), C order, for a
// layer and a cut that why_not() and why_not_cut() allow.
using PackConv = ConvWeights (*)(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut,
                                 const std::int8_t* weights);
// Bytes of scratch memory of a task of `pixels` (Winograd: squares), for blocks of at most `outputs`.
using ConvScratch = std::int64_t (*)(const ConvShape& shape, std::int64_t outputs, std::int32_t pixels);
// Pixels (Winograd: squares) of a task, where so many are wanted.
using ConvTile = std::int32_t (*)(const ConvShape& shape, std::int32_t wanted);

struct ConvRow {
  const char* name;
  const char* summary;  // a line for people
  Isa isa;              // what it needs of the processor: isa_needs(isa)

  // ---- What it computes exactly: why_not().
  bool takes_groups = false;       // any number of groups, not only one
  bool takes_signed = true;        // inputs
  bool is_padded = false;          // inputs must be stored with channel padding
  bool is_depthwise = false;       // groups must have one input and one output each
  std::int32_t window = 0;         // square windows of that size alone, of stride 1 and without dilation; 0: any
  std::int32_t most_input = 255;   // largest input
  std::int32_t most_span = 510;    // difference of the largest input and the least
  std::int32_t most_weight = 128;  // size of the largest weight
  std::int32_t times_sums =
      0;  // so many times the largest sum must fit 32 bits; 0: the sum itself, which the graph sees to
  std::int32_t products16 = 0;     // so many products, each at its largest, must fit 16 bits
  bool has_list_products = false;  // so many for each entry of a block of a list
  bool has_byte_sums = false;      // sums of an input and a weight must fit bytes (inner.h)
  std::int32_t list_group = 0;     // channels in a group of the lists it reads; 0: it reads none
  bool has_dot_products = false;   // whether four products of bytes are one exact operation
  bool has_signed_quads = false;   // whether their inputs are signed bytes, not unsigned ones
  bool has_signed_pairs = false;   // whether the inputs of products of pairs are

  // ---- Which layers of these the planner chooses it for: why_not_chosen(). Types decide, not weights.
  bool is_for_groups = false;          // layers of several groups only
  std::int32_t chosen_products16 = 0;  // in place of products16: fewer would not be worth it
  bool is_for_wide = false;            // signed inputs, or larger ones than 127, only
  bool is_staged = true;               // no task may stage more than kMostStaged
  // Whether its default may look at the weights too, since they decide its speed: never for a kernel of 8-bit layers,
  // but for one that replaces a kernel that takes any weights by the same results.
  bool depends_on_weights = false;

  // ---- How its work is cut: why_not_cut().
  Tasks tasks = Tasks::pixels;
  bool does_all_blocks = false;                                       // a task, so that what it prepares is used by all
  std::int32_t grain = 1;                                             // tasks are cut between so many units
  std::int32_t most_outputs = kMostBlockOutputs;                      // in a block
  std::int32_t usual_outputs = kMostBlockOutputs, usual_pixels = 64;  // that suit most layers

  // ---- Vectors that packing has to know: 32-bit lanes, and bytes that are staged at a time.
  std::int32_t lanes32 = 0, staging_bytes = 0;
  std::int32_t channel_group = 2;  // channels that one operation multiplies, where a kernel has two forms
  std::int32_t dot_vectors = 2;    // vectors of 32-bit sums that dot products are added to together
  std::int32_t dot_group = 4;      // neighbouring inputs of an output that lie together
  bool finishes_words = false;     // whether 32-bit sums, saturated, are finished in 16-bit lanes

  PackConv pack;
  ConvScratch scratch;
  ConvKernel run;
  ConvTile tile = nullptr;  // null: as wanted
};

// Each is empty where nothing forbids it, else the end of a sentence that starts with the row's name.

// Whether the kernel computes a layer exactly, whatever its inputs and weights within the bounds are.
std::string why_not(const ConvRow& row, const ConvLayer& layer);
// Whether the planner and the tuner may choose it. `layer` has the bounds of the types.
std::string why_not_chosen(const ConvRow& row, const ConvLayer& layer);
// Whether work may be cut so, for a layer that the kernel computes.
std::string why_not_cut(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut);

// Whether a list may have blocks of so many groups: where sums are of 16 bits, the worst sum of a block fits them.
bool fits_list_block(const ConvRow& row, const ConvLayer& layer, std::int32_t list_block);

// Whether the pixels of a task lie in one output row.
bool is_by_row(const ConvRow& row, const ConvShape& shape);
// Pixels of a task, or squares, at most.
std::int32_t task_pixels(const ConvRow& row, const ConvShape& shape, std::int32_t wanted);

}  // namespace nybble
