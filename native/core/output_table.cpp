#include "core/output_table.h"

#include <algorithm>

namespace nybble {

std::unique_ptr<CodeTable> make_code_table(Element input, Element output, const std::vector<int>& results) {
  const std::size_t count = results.size();
  require(count == 16 || count == 128 || count == 256, "table: does not have 16, 128 or 256 entries");
  const bool is_signed = input == Element::s8;
  require(!is_signed || count != 128, "table: signed codes have 16 or 256 entries");
  const int low = output == Element::s8 ? INT8_MIN : 0, high = output == Element::s8 ? INT8_MAX : UINT8_MAX;
  for (int result : results)
    require(result >= low && result <= high, "table: an entry is not in the range of the output");
  auto table = std::make_unique<CodeTable>();
  table->entries = static_cast<std::int32_t>(count);
  for (std::size_t byte = 0; byte < 256; ++byte)
    table->results[byte] = static_cast<std::uint8_t>(results[(byte + (is_signed ? count / 2 : 0)) % count]);
  for (std::size_t i = 0; i < 256; ++i) {
    const std::uint8_t before = i % 128 < 16 ? std::uint8_t{0} : table->results[i - 16];
    table->parts[i / 16][i % 16] = table->results[i] ^ before;
  }
  return table;
}

OutputTable::OutputTable(Isa isa, const Layout& output, const EpilogueSpec& spec)
    : kernel_(table_kernels(isa).run), output_(output), codes_(output) {
  if (spec.table.empty()) return;
  require(spec.requantize, "table: of a step that does not requantize");
  require(element_bytes(output.element) == 1 && output.stride % kChannelAlign == 0,
          "table: writes padded 8-bit values only");
  const auto count = static_cast<std::int64_t>(spec.table.size());
  const std::int64_t low = spec.rule.low, high = spec.rule.high;
  require(high - low + 1 == count, "table: does not have an entry for each code");
  require(low == 0 || low == -count / 2, "table: codes start neither at 0 nor at the least signed one");
  codes_.element = low < 0 ? Element::s8 : Element::u8;
  table_ = make_code_table(codes_.element, output.element, spec.table);
}

void OutputTable::apply(std::uint8_t* values, std::int64_t first, std::int64_t count, std::int32_t first_channel,
                        std::int32_t channels) const {
  TableTask task;
  task.table = table_.get();
  task.output = values + first * output_.stride + first_channel;
  task.input = task.output;
  task.input_stride = task.output_stride = output_.stride;
  task.pixels = count;
  task.width = channels;
  task.kept = std::min(channels, output_.channels - first_channel);
  kernel_(task);
}

}  // namespace nybble
