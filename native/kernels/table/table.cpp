#include "kernels/table/kernels.h"

namespace nybble {

void table_exact(const TableTask& task) {
  for (std::int64_t pixel = 0; pixel < task.pixels; ++pixel) {
    const std::uint8_t* in = task.input + pixel * task.input_stride;
    std::uint8_t* out = task.output + pixel * task.output_stride;
    for (std::int32_t k = 0; k < task.kept; ++k) out[k] = task.table->results[in[k]];
    for (std::int32_t k = task.kept; k < task.width; ++k) out[k] = 0;
  }
}

}  // namespace nybble
