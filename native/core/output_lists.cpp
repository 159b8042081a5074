#include "core/output_lists.h"

#include "core/clock.h"

namespace nybble {

OutputLists::OutputLists(Isa isa, const std::vector<Value>& values, int output, const std::vector<int>& ids)
    : stride_(values[static_cast<std::size_t>(output)].layout.stride), output_(output) {
  for (const int id : ids) {
    const Value& lists = values[static_cast<std::size_t>(id)];
    require(lists.is_lists && lists.lists_of == output, "lists: of another value than the step writes");
    require(lists.layout.element == Element::u8, "lists: of an unsigned 8-bit value only");
    const ListsKernels& kernels = lists_kernels(isa);
    const ListKernel kernel = lists.list_group == 1   ? kernels.singles
                              : lists.list_group == 2 ? kernels.pairs
                                                      : kernels.quads;
    require(kernel != nullptr, "lists: this instruction set has no kernel for them");
    lists_.push_back({kernel, lists, id});
  }
}

std::vector<int> OutputLists::ids() const {
  std::vector<int> ids;
  for (const One& one : lists_) ids.push_back(one.id);
  return ids;
}

void OutputLists::build(const Memory& memory, std::int64_t first, std::int64_t count) const {
  for (const One& one : lists_) {
    const std::int64_t begun = memory.list_times == nullptr ? 0 : now_ns();
    one.kernel(memory.at(output_), stride_, first, count, lists_at(one.value, memory.at(one.id), memory.most_images));
    if (memory.list_times != nullptr) memory.list_times[one.id] += now_ns() - begun;
  }
}

NonZeroLists lists_at(const Value& value, std::uint8_t* memory, std::int64_t images) {
  NonZeroLists lists;
  const std::int64_t count = images * value.layout.pixels();
  lists.groups = value.groups;
  lists.block_groups = value.block_groups;
  lists.blocks = value.blocks;
  const std::int64_t entries = count * value.groups;
  auto* after = reinterpret_cast<std::uint16_t*>(memory);
  if (value.list_group == 1) {
    lists.singles = after;
    after += entries;
  } else {
    lists.entries = reinterpret_cast<std::uint32_t*>(memory);
    after += 2 * entries;
  }
  if (value.list_group == 4) {
    lists.indices = after;
    after += entries;
  }
  lists.counts = after;
  return lists;
}

}  // namespace nybble
