// The step that works element by element.
#include "steps/point.h"

#include <algorithm>

#include "core/epilogue_data.h"
#include "core/output_table.h"
#include "core/step.h"

namespace nybble {
namespace {

class PointStep final : public Step {
 public:
  PointStep(const Layout& input, const Layout& out, std::unique_ptr<EpilogueData> epilogue, OutputTable table,
            const PointSpec& spec)
      : in_(input),
        out_(out),
        epilogue_(std::move(epilogue)),
        table_(std::move(table)),
        input_(spec.input),
        other_(spec.other) {}

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

}  // namespace

void add_point(Program& program, const PointSpec& spec) {
  const Access access{{spec.input, spec.other < 0 ? spec.input : spec.other}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  OutputTable table(program.isa(), program.value(spec.output).layout, spec);
  const Layout& out = table.codes();
  require(in.element != Element::f32 && out.element != Element::f32, "point: integers only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "point: shapes differ");
  auto epilogue = std::make_unique<EpilogueData>(out, std::vector<std::int32_t>{});
  if (spec.other >= 0) epilogue->add_shortcut(program.value(spec.other).layout, INT32_MAX, false, {});
  epilogue->finish(spec);
  require(spec.requantize || out.element == Element::s32, "point: sums need 32 bits");
  program.add_step(std::make_unique<PointStep>(in, out, std::move(epilogue), std::move(table), spec), access);
}

}  // namespace nybble
