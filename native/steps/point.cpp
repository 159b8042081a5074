// The step that works element by element.
#include "steps/point.h"

#include <algorithm>

#include "core/epilogue_data.h"
#include "core/output_table.h"
#include "core/step.h"
#include "kernels/point/kernels.h"

namespace nybble {
namespace {

class PointStep final : public Step {
 public:
  // `kernel` where 32-bit lanes hold the products of the input's factors.
  PointStep(PointKernel kernel, const Layout& input, const Layout& out, std::unique_ptr<EpilogueData> epilogue,
            OutputTable table, std::vector<std::uint32_t> factor, const PointSpec& spec)
      : in_(input),
        out_(out),
        epilogue_(std::move(epilogue)),
        table_(std::move(table)),
        factor_(std::move(factor)),
        shift_(spec.input_rule.shift),
        lanes_(factor_, shift_, spec.magnitude),
        kernel_(lanes_.fits() ? kernel : point_exact),
        input_(spec.input),
        other_(spec.other) {}

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }
  std::int64_t scratch_bytes() const override { return std::int64_t{4} * out_.stride; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t* scratch) const override {
    PointTask task;
    task.epilogue = &epilogue_->get();
    task.output = out_;
    task.input_type = in_.element;
    task.input_stride = in_.stride;
    task.input_factor = factor_.empty() ? nullptr : factor_.data();
    task.input_shift = shift_;
    task.input_lanes = lanes_.get();
    task.input = memory.at(input_);
    task.other = other_ < 0 ? nullptr : memory.at(other_);
    task.out = memory.at(output);
    task.first_pixel = chunk * out_.width;
    task.pixels = out_.width;
    task.sums = reinterpret_cast<std::int32_t*>(scratch);
    kernel_(task);
    if (!table_.empty()) table_.apply(memory.at(output), task.first_pixel, task.pixels);
    output_lists.build(memory, task.first_pixel, task.pixels);
  }

 private:
  Layout in_, out_;
  std::unique_ptr<EpilogueData> epilogue_;
  OutputTable table_;
  std::vector<std::uint32_t> factor_;  // padded, empty where values are taken as they are
  std::int32_t shift_;
  LaneFactorData lanes_;
  PointKernel kernel_;
  int input_, other_;
};

std::vector<std::uint32_t> input_factor(const PointSpec& spec, const Layout& in, const Layout& out) {
  if (!spec.input_requantize) return {};
  const Requantize& rule = spec.input_rule;
  require(element_bytes(in.element) == 1, "point: rescales 8-bit values only");
  require(rule.factor.size() == static_cast<std::size_t>(out.channels), "point: a factor for each channel");
  require(rule.shift >= 0 && rule.shift <= 31, "point: shift is not in 0..31");
  std::vector<std::uint32_t> factor = rule.factor;
  factor.resize(static_cast<std::size_t>(out.stride), 0);
  return factor;
}

}  // namespace

void add_point(Program& program, const PointSpec& spec) {
  const Access access{{spec.input, spec.other < 0 ? spec.input : spec.other}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  OutputTable table(program.isa(), program.value(spec.output).layout, spec);
  const Layout& out = table.codes();
  require(in.element != Element::f32 && out.element != Element::f32, "point: integers only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "point: shapes differ");
  for (std::int32_t magnitude : {spec.magnitude, spec.shortcut_magnitude})
    require(magnitude >= 1 && magnitude <= 255, "point: magnitude is not in 1..255");
  auto epilogue = std::make_unique<EpilogueData>(out, std::vector<std::int32_t>{});
  if (spec.other >= 0) {
    const Layout& other = program.value(spec.other).layout;
    const bool is_byte = element_bytes(other.element) == 1;
    require(is_byte || !spec.shortcut_requantize, "point: rescales 8-bit values only");
    epilogue->add_shortcut(other, is_byte ? spec.shortcut_magnitude : INT32_MAX, spec.shortcut_requantize,
                           spec.shortcut_rule);
  }
  epilogue->finish(spec);
  require(spec.requantize || out.element == Element::s32, "point: sums need 32 bits");
  std::vector<std::uint32_t> factor = input_factor(spec, in, out);
  const bool is_padded = in.stride == out.stride && out.stride % kChannelAlign == 0;
  program.add_step(std::make_unique<PointStep>(is_padded ? point_kernels(program.isa()).run : point_exact, in, out,
                                               std::move(epilogue), std::move(table), std::move(factor), spec),
                   access);
}

}  // namespace nybble
