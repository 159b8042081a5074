// The step that requantizes by one factor for positive sums and another for negative ones.
#include "steps/prelu.h"

#include "core/step.h"
#include "kernels/conv/epilogue.h"

namespace nybble {
namespace {

class PReluStep final : public Step {
 public:
  PReluStep(const Layout& in, const Layout& out, const PReluSpec& spec)
      : in_(in), out_(out), rule_(spec.rule), input_(spec.input) {
    for (const std::int32_t factor : spec.negative) {
      below_zero_.push_back(factor < 0);
      negative_.push_back(static_cast<std::uint32_t>(factor < 0 ? -std::int64_t{factor} : std::int64_t{factor}));
    }
  }

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t first = chunk * out_.width;
    const std::int64_t in = first * in_.stride;
    std::uint8_t* out = memory.at(output) + first * out_.stride;
    if (in_.element == Element::s32)
      finish(reinterpret_cast<const std::int32_t*>(memory.at(input_)) + in, out);
    else if (in_.element == Element::s8)
      finish(reinterpret_cast<const std::int8_t*>(memory.at(input_)) + in, out);
    else
      finish(memory.at(input_) + in, out);
    output_lists.build(memory, first, out_.width);
  }

 private:
  template <class T>
  void finish(const T* in, std::uint8_t* out) const {
    for (std::int64_t x = 0; x < out_.width; ++x, in += in_.stride, out += out_.stride) {
      for (std::int32_t c = 0; c < out_.channels; ++c)
        out[c] = static_cast<std::uint8_t>(result(in[c], static_cast<std::size_t>(c)));
      for (std::int32_t c = out_.channels; c < out_.stride; ++c) out[c] = 0;
    }
  }

  std::int64_t result(std::int64_t value, std::size_t channel) const {
    std::int64_t made;
    if (value >= 0) {
      made = requantize(value, rule_.factor[channel], rule_.shift);
    } else {
      made = requantize(value, negative_[channel], rule_.shift);
      made = below_zero_[channel] ? -made : made;
    }
    made = made < rule_.low ? rule_.low : made;
    return made > rule_.high ? rule_.high : made;
  }

  Layout in_, out_;
  Requantize rule_;
  std::vector<std::uint32_t> negative_;
  std::vector<bool> below_zero_;
  int input_;
};

}  // namespace

void add_prelu(Program& program, const PReluSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(in.element != Element::f32 && element_bytes(out.element) == 1, "prelu: from integers to 8-bit values only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "prelu: shapes differ");
  const auto channels = static_cast<std::size_t>(out.channels);
  require(spec.rule.factor.size() == channels && spec.negative.size() == channels, "prelu: two factors a channel");
  require(spec.rule.shift >= 0 && spec.rule.shift <= 31, "prelu: shift is not in 0..31");
  const bool is_signed = out.element == Element::s8;
  require(spec.rule.low >= (is_signed ? INT8_MIN : 0) && spec.rule.high <= (is_signed ? INT8_MAX : UINT8_MAX) &&
              spec.rule.low <= spec.rule.high,
          "prelu: the result's range does not fit its type");
  program.add_step(std::make_unique<PReluStep>(in, out, spec), access);
}

}  // namespace nybble
