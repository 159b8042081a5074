// The step that looks codes up in a table.
#include "steps/table.h"

#include "core/output_table.h"
#include "core/step.h"

namespace nybble {
namespace {

class TableStep final : public Step {
 public:
  TableStep(TableKernel kernel, const Layout& input, const Layout& out, std::unique_ptr<CodeTable> table,
            const TableSpec& spec)
      : kernel_(kernel), in_(input), out_(out), table_(std::move(table)), input_(spec.input) {}

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t first = chunk * out_.width;
    TableTask task;
    task.table = table_.get();
    task.input = memory.at(input_) + first * in_.stride;
    task.output = memory.at(output) + first * out_.stride;
    task.input_stride = in_.stride;
    task.output_stride = out_.stride;
    task.pixels = out_.width;
    task.width = out_.stride;
    task.kept = out_.channels;
    kernel_(task);
    output_lists.build(memory, first, out_.width);
  }

 private:
  TableKernel kernel_;
  Layout in_, out_;
  std::unique_ptr<CodeTable> table_;
  int input_;
};

}  // namespace

void add_table(Program& program, const TableSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(element_bytes(in.element) == 1 && element_bytes(out.element) == 1, "table: 8-bit values only");
  require(in.channels == out.channels && in.height == out.height && in.width == out.width, "table: shapes differ");
  auto table = make_code_table(in.element, out.element, spec.table);
  const bool is_padded = in.stride % kChannelAlign == 0 && out.stride % kChannelAlign == 0;
  const TableKernel kernel = is_padded ? table_kernels(program.isa()).run : table_exact;
  program.add_step(std::make_unique<TableStep>(kernel, in, out, std::move(table), spec), access);
}

}  // namespace nybble
