// The steps that scale sums, or 8-bit values that become sums.
#include "steps/scale.h"

#include "core/step.h"
#include "kernels/conv/epilogue.h"

namespace nybble {
namespace {

class ScaleStep final : public Step {
 public:
  ScaleStep(const Layout& layout, const ScaleSpec& spec) : layout_(layout), scale_(spec.scale), input_(spec.input) {}

  std::int64_t chunks(std::int64_t images) const override { return images * layout_.height; }

  // Nothing reads the padding of a result in floats.
  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t first = chunk * layout_.width * layout_.stride;
    const auto* input = reinterpret_cast<const std::int32_t*>(memory.at(input_)) + first;
    auto* out = reinterpret_cast<float*>(memory.at(output)) + first;
    const float* scale = scale_.data();
    for (std::int32_t x = 0; x < layout_.width; ++x, input += layout_.stride, out += layout_.stride)
      for (std::int32_t k = 0; k < layout_.channels; ++k) out[k] = static_cast<float>(input[k]) / scale[k];
  }

 private:
  Layout layout_;
  std::vector<float> scale_;
  int input_;
};

// There are few 8-bit values: what becomes of each is looked up.
class ScaleCodesStep final : public Step {
 public:
  ScaleCodesStep(const Layout& in, const Layout& out, const ScaleSpec& spec) : in_(in), out_(out), input_(spec.input) {
    const bool is_signed = in.element == Element::s8;
    for (std::int32_t k = 0; k < in.channels; ++k) {
      const auto channel = static_cast<std::size_t>(k);
      for (int code = 0; code < kCodes; ++code) {
        const std::int64_t value = is_signed && code >= kCodes / 2 ? code - kCodes : code;
        const std::int64_t sum = requantize(value, spec.input_rule.factor[channel], spec.input_rule.shift);
        table_.push_back(static_cast<float>(static_cast<std::int32_t>(sum)) / spec.scale[channel]);
      }
    }
  }

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }
  std::int64_t weight_bytes() const override { return static_cast<std::int64_t>(table_.size() * sizeof(float)); }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t first = chunk * out_.width;
    const std::uint8_t* input = memory.at(input_) + first * in_.stride;
    auto* out = reinterpret_cast<float*>(memory.at(output)) + first * out_.stride;
    for (std::int32_t x = 0; x < out_.width; ++x, input += in_.stride, out += out_.stride) {
      const float* of_channel = table_.data();
      for (std::int32_t k = 0; k < out_.channels; ++k, of_channel += kCodes) out[k] = of_channel[input[k]];
    }
  }

 private:
  static constexpr int kCodes = 256;

  Layout in_, out_;
  std::vector<float> table_;  // by channel, then by the byte that is read
  int input_;
};

}  // namespace

void add_scale(Program& program, const ScaleSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, {}};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(out.element == Element::f32, "scale: to f32 only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "scale: shapes differ");
  const auto channels = static_cast<std::size_t>(in.channels);
  require(spec.scale.size() == channels, "scale: wrong length");
  if (spec.input_requantize) {
    require(element_bytes(in.element) == 1, "scale: rescales 8-bit values only");
    require(spec.input_rule.factor.size() == channels, "scale: a factor for each channel");
    require(spec.input_rule.shift >= 0 && spec.input_rule.shift <= 31, "scale: shift is not in 0..31");
    program.add_step(std::make_unique<ScaleCodesStep>(in, out, spec), access);
    return;
  }
  require(in.element == Element::s32 && in.stride == out.stride, "scale: from s32 to f32 only");
  program.add_step(std::make_unique<ScaleStep>(in, spec), access);
}

}  // namespace nybble
