// The step that multiplies two values.
#include "steps/mul.h"

#include <algorithm>

#include "core/epilogue_data.h"
#include "core/output_table.h"
#include "core/step.h"
#include "kernels/mul/kernels.h"

namespace nybble {
namespace {

class MulStep final : public Step {
 public:
  MulStep(MulKernel kernel, const Layout& x, const Layout& y, const Layout& out, std::unique_ptr<EpilogueData> epilogue,
          OutputTable table, const MulSpec& spec)
      : kernel_(kernel),
        x_(x),
        y_(y),
        out_(out),
        epilogue_(std::move(epilogue)),
        table_(std::move(table)),
        input_(spec.input),
        other_(spec.other) {}

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }
  std::int64_t scratch_bytes() const override { return std::int64_t{4} * out_.stride; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t* scratch) const override {
    MulTask task;
    task.epilogue = &epilogue_->get();
    task.output = out_;
    task.x_type = x_.element;
    task.y_type = y_.element;
    task.x_stride = x_.stride;
    task.y_stride = y_.stride;
    task.x = memory.at(input_);
    task.is_gate = y_.pixels() == 1;
    task.y = memory.at(other_) + (task.is_gate ? chunk / out_.height * y_.image_bytes() : 0);
    task.out = memory.at(output);
    task.first_pixel = chunk * out_.width;
    task.pixels = out_.width;
    task.sums = reinterpret_cast<std::int32_t*>(scratch);
    kernel_(task);
    if (!table_.empty()) table_.apply(memory.at(output), task.first_pixel, task.pixels);
    output_lists.build(memory, task.first_pixel, task.pixels);
  }

 private:
  MulKernel kernel_;
  Layout x_, y_, out_;
  std::unique_ptr<EpilogueData> epilogue_;
  OutputTable table_;
  int input_, other_;
};

// Least and greatest value.
struct Range {
  std::int64_t low, high;
};

Range range_of(const Layout& layout, std::int32_t magnitude) {
  if (layout.element == Element::u8) return {0, magnitude};
  return {-std::min(magnitude, 128), std::min(magnitude, 128)};
}

}  // namespace

void add_mul(Program& program, const MulSpec& spec) {
  const Access access{{spec.input, spec.other}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& x = program.value(spec.input).layout;
  const Layout& y = program.value(spec.other).layout;
  OutputTable table(program.isa(), program.value(spec.output).layout, spec);
  const Layout& out = table.codes();
  require(element_bytes(x.element) == 1 && element_bytes(y.element) == 1, "mul: of 8-bit values only");
  require(out.element != Element::f32, "mul: cannot write floats");
  require(out.stride % kChannelAlign == 0, "mul: writes padded values only");
  require(x.channels == out.channels && x.height == out.height && x.width == out.width, "mul: shapes differ");
  require(y.channels == x.channels && ((y.height == x.height && y.width == x.width) || y.pixels() == 1),
          "mul: the other value has neither this shape nor one pixel");
  for (std::int32_t magnitude : {spec.magnitude, spec.other_magnitude})
    require(magnitude >= 1 && magnitude <= 255, "mul: magnitude is not in 1..255");
  auto epilogue = std::make_unique<EpilogueData>(out, std::vector<std::int32_t>{});
  epilogue->finish(spec);
  require(spec.requantize || out.element == Element::s32, "mul: products need 32 bits");
  const Range a = range_of(x, spec.magnitude), b = range_of(y, spec.other_magnitude);
  const auto [low, high] = std::minmax({a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high});
  if (low >= INT16_MIN && high <= INT16_MAX) {
    const auto channels = static_cast<std::size_t>(out.channels);
    epilogue->use_words(std::vector<std::int64_t>(channels, low), std::vector<std::int64_t>(channels, high),
                        WordSums::own);
  }
  const bool is_padded = x.stride == out.stride && y.stride == out.stride;
  const MulKernel kernel = is_padded ? mul_kernels(program.isa()).run : mul_exact;
  program.add_step(std::make_unique<MulStep>(kernel, x, y, out, std::move(epilogue), std::move(table), spec), access);
}

}  // namespace nybble
