// The step that joins channels.
#include "steps/concat.h"

#include <cstring>

#include "core/step.h"

namespace nybble {
namespace {

class ConcatStep final : public Step {
 public:
  ConcatStep(const Program& program, const ConcatSpec& spec) : out_(program.value(spec.output).layout) {
    for (const int id : spec.inputs) {
      const Layout& in = program.value(id).layout;
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

}  // namespace

void add_concat(Program& program, const ConcatSpec& spec) {
  require(!spec.inputs.empty(), "concat: no inputs");
  const Access access{spec.inputs, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& out = program.value(spec.output).layout;
  require(element_bytes(out.element) == 1, "concat: 8-bit values only");
  std::int64_t channels = 0;
  for (const int id : spec.inputs) {
    const Layout& in = program.value(id).layout;
    require(in.element == out.element, "concat: types differ");
    require(in.height == out.height && in.width == out.width, "concat: sizes differ");
    channels += in.channels;
  }
  require(channels == out.channels, "concat: channels do not add up");
  program.add_step(std::make_unique<ConcatStep>(program, spec), access);
}

}  // namespace nybble
