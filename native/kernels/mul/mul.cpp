#include "kernels/mul/kernels.h"

namespace nybble {
namespace {

std::int32_t load(const void* data, Element element, std::int64_t index) {
  return element == Element::u8 ? std::int32_t{static_cast<const std::uint8_t*>(data)[index]}
                                : std::int32_t{static_cast<const std::int8_t*>(data)[index]};
}

}  // namespace

void mul_exact(const MulTask& task) {
  const Layout& out = task.output;
  for (std::int64_t pixel = task.first_pixel; pixel < task.first_pixel + task.pixels; ++pixel) {
    const std::int64_t x = pixel * task.x_stride, y = task.is_gate ? 0 : pixel * task.y_stride;
    for (std::int32_t k = 0; k < out.channels; ++k)
      task.sums[k] = load(task.x, task.x_type, x + k) * load(task.y, task.y_type, y + k);
    for (std::int32_t k = out.channels; k < out.stride; ++k) task.sums[k] = 0;
    finish_exact(*task.epilogue, out, task.sums, pixel, 0, out.stride, nullptr, task.out);
  }
}

}  // namespace nybble
