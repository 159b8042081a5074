// The convolution step: checks a specification, packs its weights, cuts the work into tasks.
#include "steps/conv.h"

#include <algorithm>
#include <stdexcept>

#include "core/epilogue_data.h"
#include "core/output_table.h"
#include "core/step.h"
#include "kernels/conv/kernels.h"
#include "kernels/conv/pack.h"
#include "kernels/conv/winograd.h"

namespace nybble {
namespace {

constexpr std::int64_t kMostWindow = 1 << 24;

class ConvStep final : public Step {
 public:
  ConvStep(const ConvRow& row, const ConvShape& shape, ConvWeights weights, std::unique_ptr<EpilogueData> epilogue,
           OutputTable table, const ConvSpec& spec, const Value* lists, WeightStore& store, int threads)
      : row_(row),
        shape_(shape),
        weights_(std::move(weights)),
        packed_(weights_.view(store.keep(weights_.bytes))),
        weight_bytes_(static_cast<std::int64_t>(weights_.bytes.size())),
        epilogue_(std::move(epilogue)),
        table_(std::move(table)),
        input_(spec.input),
        lists_id_(lists == nullptr ? -1 : spec.lists),
        shortcut_(spec.shortcut),
        tile_pixels_(task_pixels(row, shape, spec.tile_pixels)),
        threads_(threads),
        by_tile_(weight_bytes_ <= (lists == nullptr ? shape.input.image_bytes() : lists->bytes)),
        by_row_(is_by_row(row, shape)),
        blocks_(row.does_all_blocks ? 1 : packed_.block_count) {
    weights_.bytes = AlignedBytes();
    if (lists != nullptr) lists_ = *lists;
  }

  std::int64_t chunks(std::int64_t images) const override { return tiles(images) * blocks(); }

  std::int64_t weight_bytes() const override { return weight_bytes_; }

  std::int64_t scratch_bytes() const override { return row_.scratch(shape_, packed_.most_outputs, tile_pixels_); }

  // Fewer images may be cut into more tiles, by less than a tile a thread.
  std::int64_t counters(std::int64_t images) const override { return tiles(images) + threads_; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t images, std::uint8_t* scratch) const override {
    // Neighbouring chunks share what is larger, a block of weights or the inputs of a tile.
    const std::int64_t count = tiles(images), per_tile = blocks();
    const std::int64_t tile = by_tile_ ? chunk / per_tile : chunk % count;
    ConvTask task;
    task.shape = &shape_;
    task.epilogue = &epilogue_->get();
    task.packed = &packed_;
    task.input = memory.at(input_);
    task.shortcut = shortcut_ < 0 ? nullptr : memory.at(shortcut_);
    task.output = memory.at(output);
    task.block = static_cast<std::int32_t>(by_tile_ ? chunk % per_tile : chunk / count);
    task.scratch = scratch;
    NonZeroLists lists;
    if (lists_id_ >= 0) lists = lists_at(lists_, memory.at(lists_id_), memory.most_images);
    task.lists = &lists;
    if (by_row()) {
      const std::int64_t per_row = divide_up(shape_.output.width, tile_pixels_);
      const std::int64_t per_image = divide_up(shape_.output.height, task_rows());
      const std::int64_t place = tile / per_row, part = tile % per_row;
      const std::int64_t row = place % per_image * task_rows();
      const std::int64_t first = shape_.output.width * part / per_row;
      const std::int64_t last = shape_.output.width * (part + 1) / per_row;
      task.first_pixel = (place / per_image * shape_.output.height + row) * shape_.output.width + first;
      task.pixels = static_cast<std::int32_t>(last - first);
      task.rows = static_cast<std::int32_t>(std::min(task_rows(), shape_.output.height - row));
    } else {
      // Even tiles: 196 pixels in tiles of at most 64 are four of 49.
      const std::int64_t parts = divide_up(units(images), grain());
      task.first_pixel = parts * tile / count * grain();
      const std::int64_t end = std::min(parts * (tile + 1) / count * grain(), units(images));
      task.pixels = static_cast<std::int32_t>(end - task.first_pixel);
    }
    row_.run(task);
    if (!table_.empty()) apply_table(task);
    if (output_lists.empty()) return;
    if (per_tile > 1) {
      // The thread that finishes the last block of a tile sees the results of the others, and builds the lists of the
      // tile.
      std::atomic<std::int32_t>& finished = memory.finished[tile];
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 < per_tile) return;
      finished.store(0, std::memory_order_relaxed);
    }
    build_lists(memory, task);
  }

 private:
  // Calls f(first pixel, pixels) for the runs of pixels that the units of a task are.
  template <class F>
  void for_each_run(const ConvTask& task, const F& f) const {
    const std::int64_t first = task.first_pixel, count = task.pixels;
    if (row_.tasks != Tasks::squares) {
      for (std::int32_t row = 0; row < task.rows; ++row) f(first + std::int64_t{row} * shape_.output.width, count);
      return;
    }
    // Squares that are neighbours in a row of squares are runs of pixels in two rows.
    const Layout& out = shape_.output;
    const Squares squares(out);
    for (std::int64_t index = first, last = first + count, next; index < last; index = next) {
      const Square square(squares, index);
      next = std::min(last, (index / squares.columns + 1) * squares.columns);
      const std::int64_t width = std::min<std::int64_t>((next - index) * 2, out.width - square.x);
      for (std::int32_t y = square.y; y < std::min(square.y + 2, out.height); ++y)
        f((square.image * out.height + y) * out.width + square.x, width);
    }
  }

  void build_lists(const Memory& memory, const ConvTask& task) const {
    for_each_run(task, [&](std::int64_t pixel, std::int64_t pixels) { output_lists.build(memory, pixel, pixels); });
  }

  void apply_table(const ConvTask& task) const {
    const OutputBlock& block = packed_.blocks[task.block];
    const std::int32_t first = row_.does_all_blocks ? 0 : block.first;
    const std::int32_t channels = row_.does_all_blocks ? shape_.output.stride : block.outputs;
    for_each_run(task, [&](std::int64_t pixel, std::int64_t pixels) {
      table_.apply(static_cast<std::uint8_t*>(task.output), pixel, pixels, first, channels);
    });
  }

  bool by_row() const { return by_row_; }

  std::int64_t task_rows() const { return row_.tasks == Tasks::row_pair ? 2 : 1; }

  std::int64_t blocks() const { return blocks_; }

  // What tasks are cut out of: squares of 2x2 outputs, or outputs.
  std::int64_t units(std::int64_t images) const {
    return images * (row_.tasks == Tasks::squares ? Squares(shape_.output).count() : shape_.output.pixels());
  }

  // Tasks are cut between so many units.
  std::int64_t grain() const { return row_.grain; }

  std::int64_t tiles(std::int64_t images) const {
    if (by_row())
      return images * divide_up(shape_.output.height, task_rows()) * divide_up(shape_.output.width, tile_pixels_);
    const std::int64_t parts = divide_up(units(images), grain());
    const std::int64_t count = divide_up(parts, tile_pixels_ / grain());
    // If there are few chunks, their number is a multiple of the threads, so that no thread waits for another's last
    // one.
    if (count * blocks() % threads_ == 0 || count * blocks() > 16 * threads_) return count;
    return std::min(parts, divide_up(count, threads_) * threads_);
  }

  const ConvRow& row_;
  ConvShape shape_;
  ConvWeights weights_;
  PackedConv packed_;
  std::int64_t weight_bytes_;
  std::unique_ptr<EpilogueData> epilogue_;
  OutputTable table_;
  Value lists_;
  int input_, lists_id_, shortcut_;
  std::int32_t tile_pixels_;
  std::int64_t threads_;
  bool by_tile_;
  bool by_row_;  // asked for each chunk
  std::int64_t blocks_;
};

ConvShape checked_shape(const Layout& input, const Layout& output, const ConvSpec& spec) {
  require(element_bytes(input.element) == 1, "conv: reads 8-bit values only");
  require(output.element != Element::f32, "conv: cannot write floats");
  require(output.stride % kChannelAlign == 0, "conv: writes padded values only");
  for (int extent : {spec.kernel_h, spec.kernel_w, spec.stride_h, spec.stride_w, spec.dilation_h, spec.dilation_w})
    require(extent >= 1 && extent <= 1 << 16, "conv: window out of range");
  for (int pad : {spec.pad_top, spec.pad_left}) require(pad >= 0 && pad <= 1 << 16, "conv: padding out of range");
  require(std::int64_t{output.height} * spec.stride_h + std::int64_t{spec.kernel_h} * spec.dilation_h < INT32_MAX &&
              std::int64_t{output.width} * spec.stride_w + std::int64_t{spec.kernel_w} * spec.dilation_w < INT32_MAX,
          "conv: window too large");
  require(spec.groups >= 1 && input.channels % spec.groups == 0 && output.channels % spec.groups == 0,
          "conv: groups do not divide the channels");
  ConvShape s;
  s.input = input;
  s.output = output;
  s.kernel_h = spec.kernel_h;
  s.kernel_w = spec.kernel_w;
  s.stride_h = spec.stride_h;
  s.stride_w = spec.stride_w;
  s.pad_top = spec.pad_top;
  s.pad_left = spec.pad_left;
  s.dilation_h = spec.dilation_h;
  s.dilation_w = spec.dilation_w;
  s.groups = spec.groups;
  const std::int64_t taps = std::int64_t{s.kernel_h} * s.kernel_w;
  const std::int64_t per_output = taps * s.group_inputs();
  require(taps <= kMostWindow && per_output <= kMostWindow, "conv: window holds more than 16,777,216 values");
  require(static_cast<std::int64_t>(spec.weight_count) == per_output * output.channels, "conv: wrong weight count");
  return s;
}

// Outputs in a block, so that threads share the blocks of a layer of few pixels. Were its only tile cut for them
// instead, weights would pass through L1 once for each part.
std::int32_t shared_outputs(const ConvShape& shape, const ConvSpec& spec, std::int64_t threads) {
  const std::int64_t tiles = divide_up(shape.output.pixels(), spec.tile_pixels);
  if (tiles >= threads) return spec.block_outputs;
  // In blocks smaller than two thirds the entries of a list would cost more than that.
  for (std::int32_t outputs = spec.block_outputs; outputs * 3 >= spec.block_outputs * 2; outputs -= kChannelAlign)
    if (tiles * divide_up(shape.output.stride, outputs) % threads == 0) return outputs;
  return spec.block_outputs;
}

// With the bounds of the weights that there are.
ConvLayer layer_of(const ConvShape& shape, const ConvSpec& spec) {
  const bool is_signed = shape.input.element == Element::s8;
  // Limited so that a magnitude beyond the type's range stays one that no row accepts.
  const std::int32_t magnitude = std::clamp(spec.magnitude, 0, is_signed ? 128 : 256);
  ConvLayer layer;
  layer.shape = shape;
  layer.low = is_signed ? -magnitude : 0;
  layer.high = is_signed ? magnitude - 1 : magnitude;
  layer.clip_low = std::max(layer.low, spec.clip_low);
  layer.clip_high = std::min(layer.high, spec.clip_high);
  layer.weight_low = layer.weight_high = 0;
  for (std::size_t i = 0; i < spec.weight_count; ++i) {
    layer.weight_low = std::min<std::int32_t>(layer.weight_low, spec.weights[i]);
    layer.weight_high = std::max<std::int32_t>(layer.weight_high, spec.weights[i]);
  }
  layer.most_weight = std::max(-layer.weight_low, layer.weight_high);
  layer.is_padded = shape.input.stride % kChannelAlign == 0;
  return layer;
}

void allow(const ConvRow& row, const std::string& why_not) {
  if (!why_not.empty()) throw std::invalid_argument(std::string("conv: ") + row.name + ": " + why_not);
}

}  // namespace

void add_conv(Program& program, const ConvSpec& spec) {
  require(!program.value(spec.input).is_lists, "conv: lists in place of a value");
  Access access{{}, spec.lists, spec.output, spec.output_lists};
  // If a value has lists, only these are read: the value may have been overwritten since.
  if (spec.lists < 0) access.reads.push_back(spec.input);
  if (spec.shortcut >= 0) access.reads.push_back(spec.shortcut);
  program.check(access);
  const Layout& input = program.value(spec.input).layout;
  OutputTable table(program.isa(), program.value(spec.output).layout, spec);
  const Layout& output = table.codes();
  const ConvShape shape = checked_shape(input, output, spec);
  require(spec.tile_pixels >= 1 && spec.tile_pixels <= kMostTilePixels, "conv: tile_pixels is not in 1..64");

  auto epilogue = std::make_unique<EpilogueData>(output, spec.bias);
  if (spec.shortcut >= 0) {
    const Layout& shortcut = program.value(spec.shortcut).layout;
    require(spec.shortcut_magnitude >= 1 && spec.shortcut_magnitude <= 255, "conv: shortcut out of range");
    const std::int64_t magnitude = element_bytes(shortcut.element) == 1 ? spec.shortcut_magnitude : INT32_MAX;
    epilogue->add_shortcut(shortcut, magnitude, spec.shortcut_requantize, spec.shortcut_rule);
  }
  epilogue->finish(spec);
  require(spec.requantize || output.element == Element::s32, "conv: sums need 32 bits");

  const ConvRow* const row = find_row(program.isa(), spec.method);
  if (row == nullptr) throw std::invalid_argument("conv: this instruction set has no method '" + spec.method + "'");
  const Value* lists = nullptr;
  ConvCut cut{spec.block_outputs, task_pixels(*row, shape, spec.tile_pixels), spec.visit_bytes, 0};
  if (row->list_group != 0) {
    require(spec.lists >= 0, "conv: the sparse methods need lists");
    lists = &program.value(spec.lists);
    require(lists->is_lists && lists->list_group == row->list_group && lists->lists_of == spec.input,
            "conv: lists of another value");
    cut.list_block = lists->block_groups;
  } else {
    require(spec.lists < 0, "conv: this method reads no lists");
  }
  require(spec.clip_low <= 0 && spec.clip_high >= 0, "conv: clips leave no 0");
  const ConvLayer layer = layer_of(shape, spec);
  allow(*row, why_not(*row, layer));
  allow(*row, why_not_cut(*row, layer, {spec.block_outputs, spec.tile_pixels, spec.visit_bytes, cut.list_block}));
  if (lists != nullptr) cut.block_outputs = shared_outputs(shape, spec, program.threads());
  ConvWeights weights = row->pack(*row, layer, cut, spec.weights);
  if (weights.words != WordSums::none) epilogue->use_words(weights.lowest, weights.highest, weights.words);
  if (!weights.staged_order.empty())
    epilogue->use_staged(weights.highest, weights.staged_correction, weights.staged_order);
  program.add_step(std::make_unique<ConvStep>(*row, shape, std::move(weights), std::move(epilogue), std::move(table),
                                              spec, lists, program.weights(), program.threads()),
                   access);
}

}  // namespace nybble
