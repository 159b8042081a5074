// The convolution step: checks a specification, packs its weights, cuts the work into tasks.
#include <algorithm>
#include <stdexcept>

#include "core/epilogue_data.h"
#include "core/steps.h"

namespace nybble {
namespace {

constexpr std::int64_t kMostWindow = 1 << 24;

// Transformed inputs of a task that stay in L2.
constexpr std::int64_t kWinogradInputs = 256 << 10;

// Of one Winograd task.
std::int32_t most_squares(const ConvShape& shape, std::int32_t wanted) {
  const std::int64_t fitting =
      std::min<std::int64_t>(wanted, kWinogradInputs / (std::int64_t{shape.input.stride} * 32));
  return static_cast<std::int32_t>(std::max<std::int64_t>(fitting / kWinogradGrain, 1)) * kWinogradGrain;
}

class ConvStep final : public Step {
 public:
  ConvStep(ConvKernel kernel, ConvMethod method, const ConvShape& shape, ConvWeights weights,
           std::unique_ptr<EpilogueData> epilogue, const ConvSpec& spec, const Value* lists, WeightStore& store,
           int threads)
      : kernel_(kernel),
        method_(method),
        shape_(shape),
        weights_(std::move(weights)),
        packed_(weights_.view(store.keep(weights_.bytes))),
        weight_bytes_(static_cast<std::int64_t>(weights_.bytes.size())),
        epilogue_(std::move(epilogue)),
        input_(spec.input),
        lists_id_(lists == nullptr ? -1 : spec.lists),
        shortcut_(spec.shortcut),
        tile_pixels_(method == ConvMethod::winograd ? most_squares(shape, spec.tile_pixels) : spec.tile_pixels),
        threads_(threads),
        by_tile_(weight_bytes_ <= (lists == nullptr ? shape.input.image_bytes() : lists->bytes)) {
    weights_.bytes = AlignedBytes();
    if (lists != nullptr) lists_ = *lists;
    output = spec.output;
  }

  std::int64_t chunks(std::int64_t images) const override { return tiles(images) * blocks(); }

  std::int64_t weight_bytes() const override { return weight_bytes_; }

  std::int64_t scratch_bytes() const override {
    const std::int64_t outputs = packed_.most_outputs;
    switch (method_) {
      case ConvMethod::sparse:
      case ConvMethod::sparse_quad:
        return static_cast<std::int64_t>(sizeof(TileCoordinates)) + kMostTilePixels * outputs * 8;
      case ConvMethod::wide:
      case ConvMethod::quad:
        return kDotPixels * outputs * 4 + staged_row_elements(shape_, most_pixels()) * shape_.kernel_h * 2;
      case ConvMethod::chained:
        return ChainedScratch(shape_, most_pixels()).bytes;
      case ConvMethod::pair:
        return PairScratch(shape_, packed_.tile_pixels).bytes;
      case ConvMethod::grouped:
        return GroupedScratch(shape_, packed_.tile_pixels).bytes;
      case ConvMethod::winograd:
        return WinogradScratch(shape_, packed_.most_outputs, tile_pixels_).bytes;
      default:
        return std::int64_t{shape_.output.stride} * 4;
    }
  }

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
      const std::int64_t row = tile / per_row, part = tile % per_row;
      const std::int64_t first = shape_.output.width * part / per_row;
      const std::int64_t last = shape_.output.width * (part + 1) / per_row;
      task.first_pixel = row * shape_.output.width + first;
      task.pixels = static_cast<std::int32_t>(last - first);
    } else {
      // Even tiles: 196 pixels in tiles of at most 64 are four of 49.
      const std::int64_t parts = divide_up(units(images), grain());
      task.first_pixel = parts * tile / count * grain();
      const std::int64_t end = std::min(parts * (tile + 1) / count * grain(), units(images));
      task.pixels = static_cast<std::int32_t>(end - task.first_pixel);
    }
    kernel_(task);
    if (output_lists.empty()) return;
    if (per_tile > 1) {
      // Whoever finishes the last block of a tile sees what the others wrote, and builds its lists.
      std::atomic<std::int32_t>& finished = memory.finished[tile];
      if (finished.fetch_add(1, std::memory_order_acq_rel) + 1 < per_tile) return;
      finished.store(0, std::memory_order_relaxed);
    }
    build_lists(memory, task.first_pixel, task.pixels);
  }

 private:
  // Of the units of a task.
  void build_lists(const Memory& memory, std::int64_t first, std::int64_t count) const {
    if (method_ != ConvMethod::winograd) {
      output_lists.build(memory, first, count);
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
        output_lists.build(memory, (square.image * out.height + y) * out.width + square.x, width);
    }
  }

  // The dense kernels stage the rows of one output row.
  bool by_row() const {
    if (method_ == ConvMethod::grouped) return true;
    return (method_ == ConvMethod::wide || method_ == ConvMethod::quad || method_ == ConvMethod::chained ||
            method_ == ConvMethod::pair) &&
           !shape_.pointwise();
  }

  // Of one task.
  std::int32_t most_pixels() const { return by_row() ? std::min(tile_pixels_, shape_.output.width) : tile_pixels_; }

  // A Winograd task does all blocks, so that inputs are transformed once.
  std::int64_t blocks() const { return method_ == ConvMethod::winograd ? 1 : packed_.block_count; }

  // What tasks are cut out of: squares of 2x2 outputs, or outputs.
  std::int64_t units(std::int64_t images) const {
    return images * (method_ == ConvMethod::winograd ? Squares(shape_.output).count() : shape_.output.pixels());
  }

  // Tasks are cut between so many units.
  std::int64_t grain() const { return method_ == ConvMethod::winograd ? kWinogradGrain : 1; }

  std::int64_t tiles(std::int64_t images) const {
    if (by_row()) return images * shape_.output.height * divide_up(shape_.output.width, tile_pixels_);
    const std::int64_t parts = divide_up(units(images), grain());
    const std::int64_t count = divide_up(parts, tile_pixels_ / grain());
    // Few chunks are shared out evenly, so that no thread waits for another's last one.
    if (count * blocks() % threads_ == 0 || count * blocks() > 16 * threads_) return count;
    return std::min(parts, divide_up(count, threads_) * threads_);
  }

  ConvKernel kernel_;
  ConvMethod method_;
  ConvShape shape_;
  ConvWeights weights_;
  PackedConv packed_;
  std::int64_t weight_bytes_;
  std::unique_ptr<EpilogueData> epilogue_;
  Value lists_;
  int input_, lists_id_, shortcut_;
  std::int32_t tile_pixels_;
  std::int64_t threads_;
  bool by_tile_;
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

std::int64_t largest(const std::int8_t* weights, std::size_t count) {
  std::int64_t most = 0;
  for (std::size_t i = 0; i < count; ++i)
    most = std::max(most, weights[i] < 0 ? -std::int64_t{weights[i]} : std::int64_t{weights[i]});
  return most;
}

}  // namespace

std::unique_ptr<Step> make_conv_step(const KernelTable& kernels, const std::vector<Value>& values, const ConvSpec& spec,
                                     WeightStore& store, int threads) {
  const Layout& input = values[static_cast<std::size_t>(spec.input)].layout;
  const Layout& output = values[static_cast<std::size_t>(spec.output)].layout;
  const ConvShape shape = checked_shape(input, output, spec);
  require(spec.block_outputs >= kChannelAlign && spec.block_outputs <= 256 && spec.block_outputs % kChannelAlign == 0,
          "conv: block_outputs is not a multiple of 32 in 32..256");
  require(spec.tile_pixels >= 1 && spec.tile_pixels <= kMostTilePixels, "conv: tile_pixels is not in 1..64");

  auto epilogue = std::make_unique<EpilogueData>(output, spec.bias);
  if (spec.shortcut >= 0) {
    const Layout& shortcut = values[static_cast<std::size_t>(spec.shortcut)].layout;
    require(spec.shortcut_magnitude >= 1 && spec.shortcut_magnitude <= 255, "conv: shortcut out of range");
    const std::int64_t magnitude = element_bytes(shortcut.element) == 1 ? spec.shortcut_magnitude : INT32_MAX;
    epilogue->add_shortcut(shortcut, magnitude, spec.shortcut_requantize, spec.shortcut_rule);
  }
  if (spec.relu) epilogue->set_relu(spec.relu_maximum);
  if (spec.requantize) epilogue->set_requantize(spec.rule);
  require(spec.requantize || output.element == Element::s32, "conv: sums need 32 bits");
  const bool quads = spec.method == "sparse_quad";
  const bool reads_lists = quads || spec.method == "sparse";
  require(reads_lists || spec.lists < 0, "conv: this method reads no lists");

  if (spec.method == "direct")
    return std::make_unique<ConvStep>(kernels.conv_direct, ConvMethod::direct, shape,
                                      pack_direct(shape, spec.weights, spec.block_outputs), std::move(epilogue), spec,
                                      nullptr, store, threads);
  const bool is_signed = input.element == Element::s8;
  // Inputs lie between these.
  const std::int32_t magnitude = is_signed ? std::min(spec.magnitude, 128) : spec.magnitude;
  const std::int32_t low = is_signed ? -magnitude : 0, high = is_signed ? magnitude - 1 : magnitude;
  if (spec.method == "grouped") {
    require(kernels.conv_grouped != nullptr, "conv: this instruction set has no grouped kernel");
    require(magnitude >= 1 && magnitude <= 255, "conv: magnitude is not in 1..255");
    require(input.stride % kChannelAlign == 0, "conv: the grouped method needs padded inputs");
    const std::int32_t pixels = std::min(spec.tile_pixels, output.width);
    require(GroupedScratch(shape, pixels).bytes <= INT32_MAX, "conv: window too large for the grouped method");
    ConvWeights weights = pack_grouped(shape, spec.weights, spec.block_outputs, pixels, low, high);
    epilogue->use_words(weights.lowest, weights.highest);
    epilogue->use_staged(weights.highest, weights.correction, kernels.dot_outputs / 2);
    return std::make_unique<ConvStep>(kernels.conv_grouped, ConvMethod::grouped, shape, std::move(weights),
                                      std::move(epilogue), spec, nullptr, store, threads);
  }
  require(shape.groups == 1, "conv: groups need the direct or the grouped method");
  if (spec.method == "wide") {
    require(kernels.conv_wide != nullptr, "conv: this instruction set has no wide kernel");
    return std::make_unique<ConvStep>(kernels.conv_wide, ConvMethod::wide, shape,
                                      pack_dot(shape, spec.weights, spec.block_outputs, kernels.dot_outputs, 2, 0),
                                      std::move(epilogue), spec, nullptr, store, threads);
  }
  if (spec.method == "quad") {
    require(kernels.conv_quad != nullptr, "conv: this instruction set has no kernel for groups of four");
    require(kernels.quad_takes_any || (!is_signed && spec.magnitude <= 127),
            "conv: groups of four could saturate with these inputs");
    return std::make_unique<ConvStep>(
        kernels.conv_quad, ConvMethod::quad, shape,
        pack_dot(shape, spec.weights, spec.block_outputs, kernels.dot_outputs, 4, is_signed ? 128 : 0),
        std::move(epilogue), spec, nullptr, store, threads);
  }
  if (spec.method == "pair") {
    require(kernels.conv_pair != nullptr, "conv: this instruction set has no kernel for pairs");
    require(magnitude >= 1 && magnitude <= 255, "conv: magnitude is not in 1..255");
    require(input.stride % kChannelAlign == 0, "conv: pairs need padded inputs");
    require(std::int64_t{2} * (high - low) * largest(spec.weights, spec.weight_count) <= INT16_MAX,
            "conv: a pair could saturate with these inputs and weights");
    const std::int32_t pixels = shape.pointwise() ? spec.tile_pixels : std::min(spec.tile_pixels, output.width);
    require(PairScratch(shape, pixels).bytes <= INT32_MAX, "conv: window too large for pairs");
    ConvWeights weights = pack_pair(shape, spec.weights, spec.block_outputs, pixels, low, high);
    epilogue->use_words(weights.lowest, weights.highest);
    return std::make_unique<ConvStep>(kernels.conv_pair, ConvMethod::pair, shape, std::move(weights),
                                      std::move(epilogue), spec, nullptr, store, threads);
  }
  if (spec.method == "chained") {
    require(kernels.conv_chained != nullptr, "conv: this instruction set has no chained kernel");
    require(magnitude >= 1 && magnitude <= 255, "conv: magnitude is not in 1..255");
    return std::make_unique<ConvStep>(kernels.conv_chained, ConvMethod::chained, shape,
                                      pack_chained(shape, spec.weights, spec.block_outputs, high - low, -low),
                                      std::move(epilogue), spec, nullptr, store, threads);
  }
  if (spec.method == "winograd") {
    require(kernels.conv_winograd != nullptr, "conv: this instruction set has no Winograd kernel");
    require(shape.kernel_h == 3 && shape.kernel_w == 3 && shape.stride_h == 1 && shape.stride_w == 1 &&
                shape.dilation_h == 1 && shape.dilation_w == 1,
            "conv: Winograd needs a 3x3 window of stride 1");
    require(input.element == Element::u8 && input.stride % kChannelAlign == 0 && spec.magnitude >= 1 &&
                spec.magnitude <= kWinogradMagnitude,
            "conv: Winograd needs padded inputs of at most 15");
    require(largest(spec.weights, spec.weight_count) <= kWinogradWeight, "conv: Winograd needs weights of at most 8");
    require(spec.block_outputs <= kWinogradOutputs, "conv: block_outputs is more than registers hold");
    ConvWeights weights = pack_winograd(shape, spec.weights, spec.magnitude, spec.block_outputs);
    if (weights.fits16()) epilogue->use_words(weights.lowest, weights.highest);
    return std::make_unique<ConvStep>(kernels.conv_winograd, ConvMethod::winograd, shape, std::move(weights),
                                      std::move(epilogue), spec, nullptr, store, threads);
  }
  require(reads_lists, "conv: unknown method");
  const ConvKernel kernel = quads ? kernels.conv_sparse_quad : kernels.conv_sparse;
  require(kernel != nullptr, "conv: this instruction set has no sparse kernel");
  require(spec.lists >= 0, "conv: the sparse methods need lists");
  const Value& lists = values[static_cast<std::size_t>(spec.lists)];
  require(lists.is_lists && lists.list_group == (quads ? 4 : 2) && lists.lists_of == spec.input,
          "conv: lists of another value");
  require(spec.visit_bytes >= 1 && spec.visit_bytes <= 1 << 24, "conv: visit_bytes out of range");
  require(spec.magnitude >= 1 && spec.magnitude <= 255, "conv: magnitude is not in 1..255");
  if (quads) {
    require(kernels.quad_takes_any || spec.magnitude <= 127, "conv: groups of four could saturate with these inputs");
    require(spec.block_outputs <= kernels.most_quad_outputs, "conv: block_outputs is more than registers hold");
  } else {
    const std::int64_t weight = largest(spec.weights, spec.weight_count);
    require(std::int64_t{2} * lists.block_groups * spec.magnitude * weight <= INT16_MAX,
            "conv: a block of pairs could overflow 16 bits");
  }
  ConvWeights weights = pack_sparse(shape, spec.weights, quads ? 4 : 2, spec.magnitude, lists.block_groups,
                                    shared_outputs(shape, spec, threads), static_cast<std::size_t>(spec.visit_bytes));
  if (!quads && weights.fits16()) epilogue->use_words(weights.lowest, weights.highest);
  return std::make_unique<ConvStep>(kernel, quads ? ConvMethod::sparse_quad : ConvMethod::sparse, shape,
                                    std::move(weights), std::move(epilogue), spec, &lists, store, threads);
}

}  // namespace nybble
