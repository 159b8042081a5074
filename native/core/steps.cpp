#include "core/steps.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/epilogue_data.h"
#include "core/output_table.h"

namespace nybble {
namespace {

const Value& value_of(const std::vector<Value>& values, int id) { return values[static_cast<std::size_t>(id)]; }

class PoolStep final : public Step {
 public:
  PoolStep(PoolKernel kernel, const PoolShape& shape, int input, int output_id)
      : kernel_(kernel), shape_(shape), input_(input) {
    output = output_id;
  }

  std::int64_t chunks(std::int64_t images) const override { return images * shape_.output.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t image = chunk / shape_.output.height;
    kernel_(shape_, memory.at(input_) + image * shape_.input.image_bytes(),
            static_cast<std::int32_t>(chunk % shape_.output.height),
            memory.at(output) + image * shape_.output.image_bytes());
    output_lists.build(memory, chunk * shape_.output.width, shape_.output.width);
  }

 private:
  PoolKernel kernel_;
  PoolShape shape_;
  int input_;
};

class PointStep final : public Step {
 public:
  PointStep(const Layout& input, const Layout& out, std::unique_ptr<EpilogueData> epilogue, OutputTable table,
            const PointSpec& spec)
      : in_(input),
        out_(out),
        epilogue_(std::move(epilogue)),
        table_(std::move(table)),
        input_(spec.input),
        other_(spec.other) {
    output = spec.output;
  }

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }
  std::int64_t scratch_bytes() const override { return std::int64_t{4} * out_.stride; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t* scratch) const override {
    auto* sums = reinterpret_cast<std::int32_t*>(scratch);
    std::fill(sums, sums + out_.stride, 0);
    const std::uint8_t* input = memory.at(input_);
    for (std::int64_t pixel = chunk * out_.width; pixel < (chunk + 1) * out_.width; ++pixel) {
      const std::int64_t base = pixel * in_.stride;
      for (std::int32_t k = 0; k < in_.channels; ++k) {
        if (in_.element == Element::u8)
          sums[k] = input[base + k];
        else if (in_.element == Element::s8)
          sums[k] = reinterpret_cast<const std::int8_t*>(input)[base + k];
        else
          sums[k] = reinterpret_cast<const std::int32_t*>(input)[base + k];
      }
      finish_exact(epilogue_->get(), out_, sums, pixel, 0, out_.stride, other_ < 0 ? nullptr : memory.at(other_),
                   memory.at(output));
    }
    if (!table_.empty()) table_.apply(memory.at(output), chunk * out_.width, out_.width);
    output_lists.build(memory, chunk * out_.width, out_.width);
  }

 private:
  Layout in_, out_;
  std::unique_ptr<EpilogueData> epilogue_;
  OutputTable table_;
  int input_, other_;
};

class ConcatStep final : public Step {
 public:
  ConcatStep(const std::vector<Value>& values, const ConcatSpec& spec) : out_(value_of(values, spec.output).layout) {
    output = spec.output;
    for (const int id : spec.inputs) {
      const Layout& in = value_of(values, id).layout;
      // Channels of padding are copied where they are overwritten again or belong to the padding of the result, so that
      // most copies have a size that vectors divide.
      const std::int32_t after = out_.stride - filled_ < in.stride ? out_.stride - filled_ : in.stride;
      parts_.push_back({id, in.stride, filled_, in.stride % kChannelAlign == 0 ? after : in.channels});
      filled_ += in.channels;
    }
  }

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t first = chunk * out_.width;
    std::uint8_t* row = memory.at(output) + first * out_.stride;
    for (const Part& part : parts_) {
      const std::uint8_t* in = memory.at(part.input) + first * part.stride;
      std::uint8_t* out = row + part.offset;
      const auto bytes = static_cast<std::size_t>(part.copied);
      for (std::int64_t x = 0; x < out_.width; ++x, in += part.stride, out += out_.stride) std::memcpy(out, in, bytes);
    }
    const auto rest = static_cast<std::size_t>(out_.stride - filled_);
    if (rest != 0)
      for (std::int64_t x = 0; x < out_.width; ++x) std::memset(row + x * out_.stride + filled_, 0, rest);
    output_lists.build(memory, first, out_.width);
  }

 private:
  struct Part {
    int input;
    std::int32_t stride;  // from pixel to pixel of the input
    std::int32_t offset;  // of its first channel in the result
    std::int32_t copied;  // channels
  };

  Layout out_;
  std::vector<Part> parts_;
  std::int32_t filled_ = 0;
};

class ScaleStep final : public Step {
 public:
  ScaleStep(const Layout& layout, const ScaleSpec& spec) : layout_(layout), scale_(spec.scale), input_(spec.input) {
    scale_.resize(static_cast<std::size_t>(layout.stride), 1.0f);
    output = spec.output;
  }

  std::int64_t chunks(std::int64_t images) const override { return images * layout_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const auto* input = reinterpret_cast<const std::int32_t*>(memory.at(input_));
    auto* out = reinterpret_cast<float*>(memory.at(output));
    for (std::int64_t pixel = chunk * layout_.width; pixel < (chunk + 1) * layout_.width; ++pixel)
      for (std::int64_t k = 0; k < layout_.stride; ++k)
        out[pixel * layout_.stride + k] =
            static_cast<float>(input[pixel * layout_.stride + k]) / scale_[static_cast<std::size_t>(k)];
  }

 private:
  Layout layout_;
  std::vector<float> scale_;
  int input_;
};

}  // namespace

std::unique_ptr<Step> make_pool_step(const KernelTable& kernels, const std::vector<Value>& values,
                                     const PoolSpec& spec) {
  PoolShape s;
  s.input = value_of(values, spec.input).layout;
  s.output = value_of(values, spec.output).layout;
  require(element_bytes(s.input.element) == 1 && s.input.element == s.output.element, "pool: 8-bit values only");
  require(s.input.channels == s.output.channels, "pool: channels differ");
  for (int extent : {spec.kernel_h, spec.kernel_w, spec.stride_h, spec.stride_w, spec.dilation_h, spec.dilation_w})
    require(extent >= 1 && extent <= 1 << 16, "pool: window out of range");
  for (int pad : {spec.pad_top, spec.pad_left, spec.pad_bottom, spec.pad_right})
    require(pad >= 0 && pad <= 1 << 16, "pool: padding out of range");
  // The largest coordinate a kernel computes, and a sum of 8-bit values, stay below 2^31.
  require(
      std::int64_t{s.output.height} * spec.stride_h + std::int64_t{spec.kernel_h} * spec.dilation_h < INT32_MAX &&
          std::int64_t{s.output.width} * spec.stride_w + std::int64_t{spec.kernel_w} * spec.dilation_w < INT32_MAX &&
          std::int64_t{spec.kernel_h} * spec.kernel_w <= 1 << 22,
      "pool: window too large");
  s.kernel_h = spec.kernel_h;
  s.kernel_w = spec.kernel_w;
  s.stride_h = spec.stride_h;
  s.stride_w = spec.stride_w;
  s.pad_top = spec.pad_top;
  s.pad_left = spec.pad_left;
  s.pad_bottom = spec.pad_bottom;
  s.pad_right = spec.pad_right;
  s.dilation_h = spec.dilation_h;
  s.dilation_w = spec.dilation_w;
  s.count_padding = spec.count_padding;
  return std::make_unique<PoolStep>(spec.average ? kernels.average_pool : kernels.max_pool, s, spec.input, spec.output);
}

std::unique_ptr<Step> make_point_step(const KernelTable& kernels, const std::vector<Value>& values,
                                      const PointSpec& spec) {
  const Layout& in = value_of(values, spec.input).layout;
  OutputTable table;
  Layout out = value_of(values, spec.output).layout;
  if (!spec.table.empty()) {
    table = OutputTable(kernels, out, spec.requantize, spec.rule, spec.table);
    out.element = table.codes();
  }
  require(in.element != Element::f32 && out.element != Element::f32, "point: integers only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "point: shapes differ");
  auto epilogue = std::make_unique<EpilogueData>(out, std::vector<std::int32_t>{});
  if (spec.other >= 0) epilogue->add_shortcut(value_of(values, spec.other).layout, INT32_MAX, false, {});
  if (spec.relu) epilogue->set_relu(spec.relu_maximum);
  if (spec.requantize) epilogue->set_requantize(spec.rule);
  require(spec.requantize || out.element == Element::s32, "point: sums need 32 bits");
  return std::make_unique<PointStep>(in, out, std::move(epilogue), std::move(table), spec);
}

std::unique_ptr<Step> make_concat_step(const std::vector<Value>& values, const ConcatSpec& spec) {
  const Layout& out = value_of(values, spec.output).layout;
  require(element_bytes(out.element) == 1, "concat: 8-bit values only");
  std::int64_t channels = 0;
  for (const int id : spec.inputs) {
    const Layout& in = value_of(values, id).layout;
    require(in.element == out.element, "concat: types differ");
    require(in.height == out.height && in.width == out.width, "concat: sizes differ");
    channels += in.channels;
  }
  require(channels == out.channels, "concat: channels do not add up");
  return std::make_unique<ConcatStep>(values, spec);
}

std::unique_ptr<Step> make_scale_step(const std::vector<Value>& values, const ScaleSpec& spec) {
  const Layout& in = value_of(values, spec.input).layout;
  const Layout& out = value_of(values, spec.output).layout;
  require(in.element == Element::s32 && out.element == Element::f32, "scale: from s32 to f32 only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width && in.stride == out.stride,
          "scale: shapes differ");
  require(spec.scale.size() == static_cast<std::size_t>(in.channels), "scale: wrong length");
  return std::make_unique<ScaleStep>(in, spec);
}

}  // namespace nybble
