// The step that scales sums.
#include "steps/scale.h"

#include "core/step.h"

namespace nybble {
namespace {

class ScaleStep final : public Step {
 public:
  ScaleStep(const Layout& layout, const ScaleSpec& spec) : layout_(layout), scale_(spec.scale), input_(spec.input) {
    scale_.resize(static_cast<std::size_t>(layout.stride), 1.0f);
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

void add_scale(Program& program, const ScaleSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, {}};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(in.element == Element::s32 && out.element == Element::f32, "scale: from s32 to f32 only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width && in.stride == out.stride,
          "scale: shapes differ");
  require(spec.scale.size() == static_cast<std::size_t>(in.channels), "scale: wrong length");
  program.add_step(std::make_unique<ScaleStep>(in, spec), access);
}

}  // namespace nybble
