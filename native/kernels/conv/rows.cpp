#include "kernels/conv/rows.h"

#include <algorithm>

#include "kernels/conv/kernels.h"

namespace nybble {
namespace {

// Of so many products, each as large as the bounds allow. Signed inputs get an offset that makes them unsigned.
bool fits16(const ConvLayer& layer, std::int64_t products) {
  return products * (std::int64_t{layer.high} - layer.low) * layer.most_weight <= INT16_MAX;
}

bool needs_more_than16(const ConvRow& row, const ConvLayer& layer, std::int64_t products) {
  return !fits16(layer, row.has_list_products ? products * kListBlocks[0] : products);
}

// Sums of an input and a weight, with an offset: one of unsigned bytes, one of signed ones. inner.h has the proof.
bool fits_byte_sums(const ConvLayer& layer) {
  const std::int32_t low = layer.clip_low + layer.weight_low, high = layer.clip_high + layer.weight_high;
  return high - low <= UINT8_MAX && low >= INT8_MIN;
}

// The largest that a sum could be.
std::int64_t most_sum(const ConvLayer& layer) {
  const ConvShape& s = layer.shape;
  return std::int64_t{s.kernel_h} * s.kernel_w * s.group_inputs() * layer.magnitude() * layer.most_weight;
}

// Bytes that a task of the most pixels stages, at most: pairs of each output's inputs, or inputs as 16-bit values.
std::int64_t staged_bytes(const ConvRow& row, const ConvShape& s) {
  const std::int64_t columns =
      std::int64_t{kMostTilePixels - 1} * s.stride_w + std::int64_t{s.kernel_w - 1} * s.dilation_w + 1;
  if (row.is_depthwise) return std::int64_t{(s.kernel_h + 3) / 4} * columns * 4 * kChannelAlign;
  const std::int64_t each = row.is_for_groups ? std::int64_t{(s.group_inputs() + 1) / 2} * 2 * kChannelAlign
                                              : std::int64_t{2} * s.input.stride;
  return s.kernel_h * columns * each;
}

std::string number(std::int64_t value) { return std::to_string(value); }

}  // namespace

std::string why_not(const ConvRow& row, const ConvLayer& layer) {
  const ConvShape& s = layer.shape;
  if (s.groups > 1 && !row.takes_groups) return "takes no groups";
  if (row.is_depthwise && (s.group_inputs() != 1 || s.group_outputs() != 1))
    return "needs groups of one input and one output";
  if (layer.magnitude() < 1 || layer.magnitude() > 255) return "takes inputs whose magnitude is in 1..255";
  if (layer.is_signed() && !row.takes_signed) return "takes unsigned inputs only";
  if (row.is_padded && !layer.is_padded) return "needs padded inputs";
  if (row.window != 0) {
    const bool is_plain = s.kernel_h == row.window && s.kernel_w == row.window && s.stride_h == 1 && s.stride_w == 1 &&
                          s.dilation_h == 1 && s.dilation_w == 1;
    if (!is_plain) return "needs a " + number(row.window) + "x" + number(row.window) + " window of stride 1";
  }
  if (layer.magnitude() > row.most_input)
    return "needs inputs of at most " + number(row.most_input) + ": with larger ones it could saturate";
  if (layer.high - layer.low > row.most_span) return "needs inputs that differ by at most " + number(row.most_span);
  if (layer.most_weight > row.most_weight) return "needs weights of at most " + number(row.most_weight);
  if (row.has_byte_sums && !fits_byte_sums(layer)) return "needs inputs and weights whose sums fit bytes";
  if (row.times_sums != 0 && row.times_sums * most_sum(layer) > INT32_MAX)
    return "could pass 32 bits with so many inputs";
  if (needs_more_than16(row, layer, row.products16)) return "could saturate 16 bits with these inputs and weights";
  return "";
}

std::string why_not_chosen(const ConvRow& row, const ConvLayer& layer) {
  std::string why = why_not(row, layer);
  if (!why.empty()) return why;
  if (row.is_for_groups && layer.shape.groups == 1) return "is for layers of several groups";
  if (needs_more_than16(row, layer, row.chosen_products16)) return "could add up too few products of these types";
  if (row.is_for_wide && !layer.is_signed() && layer.high <= 127) return "is for inputs that are signed or beyond 127";
  if (row.is_staged && staged_bytes(row, layer.shape) > kMostStaged) return "would stage too large a window";
  return "";
}

bool fits_list_block(const ConvRow& row, const ConvLayer& layer, std::int32_t list_block) {
  const bool is_known = std::find(std::begin(kListBlocks), std::end(kListBlocks), list_block) != std::end(kListBlocks);
  return row.list_group != 0 && is_known &&
         (!row.has_list_products || fits16(layer, std::int64_t{row.products16} * list_block));
}

std::string why_not_cut(const ConvRow& row, const ConvLayer& layer, const ConvCut& cut) {
  if (cut.block_outputs < kChannelAlign || cut.block_outputs > row.most_outputs ||
      cut.block_outputs % kChannelAlign != 0)
    return "block_outputs " + number(cut.block_outputs) + " is not a multiple of " + number(kChannelAlign) + " up to " +
           number(row.most_outputs);
  if (cut.tile_pixels < 1 || cut.tile_pixels > kMostTilePixels)
    return "tile_pixels " + number(cut.tile_pixels) + " is not in 1.." + number(kMostTilePixels);
  if (cut.visit_bytes < 1 || cut.visit_bytes > kMostVisitBytes)
    return "visit_bytes " + number(cut.visit_bytes) + " is not in 1.." + number(kMostVisitBytes);
  if (row.list_group == 0 ? cut.list_block != 0 : !fits_list_block(row, layer, cut.list_block))
    return "list_block " + number(cut.list_block) + " could overflow, or belongs to another method";
  // Places in it are 32-bit.
  if (row.scratch(layer.shape, cut.block_outputs, task_pixels(row, layer.shape, cut.tile_pixels)) > INT32_MAX)
    return "the window is too large";
  return "";
}

bool is_by_row(const ConvRow& row, const ConvShape& shape) {
  return row.tasks == Tasks::row || row.tasks == Tasks::row_pair ||
         (row.tasks == Tasks::row_unless_pointwise && !shape.pointwise());
}

std::int32_t task_pixels(const ConvRow& row, const ConvShape& shape, std::int32_t wanted) {
  if (row.tile != nullptr) return row.tile(shape, wanted);
  return is_by_row(row, shape) ? std::min(wanted, shape.output.width) : wanted;
}

const ConvRow* find_row(Isa isa, std::string_view name) {
  for (const ConvRow& row : conv_kernels(isa))
    if (name == row.name) return &row;
  return nullptr;
}

}  // namespace nybble
