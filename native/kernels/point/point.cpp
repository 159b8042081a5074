#include "base/load.h"
#include "kernels/point/kernels.h"

namespace nybble {

void point_exact(const PointTask& task) {
  const Layout& out = task.output;
  for (std::int32_t k = out.channels; k < out.stride; ++k) task.sums[k] = 0;
  for (std::int64_t pixel = task.first_pixel; pixel < task.first_pixel + task.pixels; ++pixel) {
    for (std::int32_t k = 0; k < out.channels; ++k) {
      const std::int32_t value = load_integer(task.input, task.input_type, pixel * task.input_stride + k);
      task.sums[k] = task.input_factor == nullptr
                         ? value
                         : static_cast<std::int32_t>(requantize(value, task.input_factor[k], task.input_shift));
    }
    finish_exact(*task.epilogue, out, task.sums, pixel, 0, out.stride, task.other, task.out);
  }
}

}  // namespace nybble
