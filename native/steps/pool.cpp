// The step that pools.
#include "steps/pool.h"

#include "core/step.h"
#include "kernels/pool/kernels.h"

namespace nybble {
namespace {

class PoolStep final : public Step {
 public:
  PoolStep(PoolKernel kernel, const PoolShape& shape, int input) : kernel_(kernel), shape_(shape), input_(input) {}

  std::int64_t chunks(std::int64_t images) const override { return images * shape_.output.height; }
  std::int64_t scratch_bytes() const override { return pool_scratch_bytes(shape_); }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t* scratch) const override {
    const std::int64_t image = chunk / shape_.output.height;
    kernel_(shape_, memory.at(input_) + image * shape_.input.image_bytes(),
            static_cast<std::int32_t>(chunk % shape_.output.height),
            memory.at(output) + image * shape_.output.image_bytes(), scratch);
    output_lists.build(memory, chunk * shape_.output.width, shape_.output.width);
  }

 private:
  PoolKernel kernel_;
  PoolShape shape_;
  int input_;
};

}  // namespace

void add_pool(Program& program, const PoolSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, spec.output_lists};
  program.check(access);
  PoolShape s;
  s.input = program.value(spec.input).layout;
  s.output = program.value(spec.output).layout;
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
  const PoolKernels& kernels = pool_kernels(program.isa());
  program.add_step(std::make_unique<PoolStep>(spec.average ? kernels.average : kernels.max, s, spec.input), access);
}

}  // namespace nybble
