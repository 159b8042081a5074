// The step that copies channels from pixel to pixel.
#include "steps/move.h"

#include <cstring>
#include <utility>

#include "core/step.h"
#include "kernels/move/kernels.h"

namespace nybble {
namespace {

// Channels that lie side by side on both sides, in bytes. Zeros where `from` is negative.
struct Run {
  std::int32_t from, to, bytes;
};

// Where the channels of a pixel come from: as runs, or one by one where runs would be short.
struct ChannelMap {
  std::vector<Run> runs;
  std::vector<std::int32_t> singles;  // by channel of the result; empty where runs are used
};

// Shorter runs on average than this cost more than single copies.
constexpr std::size_t kShortRun = 4;
// A run costs more than so many shuffles of 16 bytes.
constexpr std::size_t kPartsOfRun = 3;

// Channels of padding are zero.
std::vector<std::int32_t> padded_channels(const std::vector<int>& channels, std::int32_t stride) {
  std::vector<std::int32_t> padded(channels.begin(), channels.end());
  padded.resize(static_cast<std::size_t>(stride), -1);
  return padded;
}

ChannelMap channel_map(const std::vector<int>& channels, std::int32_t stride, std::int32_t size) {
  const std::vector<std::int32_t> padded = padded_channels(channels, stride);
  ChannelMap map;
  for (std::size_t c = 0; c < padded.size(); ++c) {
    const std::int32_t to = static_cast<std::int32_t>(c) * size;
    const std::int32_t from = padded[c] < 0 ? -1 : padded[c] * size;
    if (!map.runs.empty()) {
      Run& last = map.runs.back();
      if (from < 0 ? last.from < 0 : last.from >= 0 && last.from + last.bytes == from) {
        last.bytes += size;
        continue;
      }
    }
    map.runs.push_back({from, to, size});
  }
  if (map.runs.size() * kShortRun > padded.size()) map.singles = padded;
  return map;
}

// Few bytes, of about as many in every call: inlined, where memcpy and memset would be called for each pixel.
template <std::size_t kSize>
void copy_ends(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {
  std::uint8_t first[kSize], last[kSize];
  std::memcpy(first, from, kSize);
  std::memcpy(last, from + bytes - kSize, kSize);
  std::memcpy(to, first, kSize);
  std::memcpy(to + bytes - kSize, last, kSize);
}

void copy_few(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {
  if (bytes >= 16) {
    for (std::size_t i = 0; i + 16 < bytes; i += 16) std::memcpy(to + i, from + i, 16);
    std::memcpy(to + bytes - 16, from + bytes - 16, 16);
  } else if (bytes >= 8) {
    copy_ends<8>(to, from, bytes);
  } else if (bytes >= 4) {
    copy_ends<4>(to, from, bytes);
  } else {
    for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i];
  }
}

alignas(16) constexpr std::uint8_t kZeros[16] = {};

void clear_few(std::uint8_t* to, std::size_t bytes) {
  for (; bytes >= 16; bytes -= 16, to += 16) std::memcpy(to, kZeros, 16);
  copy_few(to, kZeros, bytes);
}

template <class T>
void copy_singles(const std::vector<std::int32_t>& singles, const std::uint8_t* in, std::uint8_t* out) {
  const auto* from = reinterpret_cast<const T*>(in);
  auto* to = reinterpret_cast<T*>(out);
  for (std::size_t c = 0; c < singles.size(); ++c) to[c] = singles[c] < 0 ? T{} : from[singles[c]];
}

// The channels of a pixel as shuffles: for each kChannelAlign bytes of the result, those of every 16 bytes of the
// input.
struct ShuffleMap {
  std::vector<MovePart> parts;
  std::vector<std::int32_t> ends;
};

ShuffleMap shuffle_map(const std::vector<std::int32_t>& singles, std::int32_t size) {
  ShuffleMap map;
  const std::size_t bytes = singles.size() * static_cast<std::size_t>(size);
  for (std::size_t first = 0; first < bytes; first += kChannelAlign) {
    const std::size_t begin = map.parts.size();
    for (std::size_t i = 0; i < kChannelAlign; ++i) {
      const auto unit = static_cast<std::size_t>(size);
      const std::int32_t channel = singles[(first + i) / unit];
      if (channel < 0) continue;
      const std::int32_t from = channel * size + static_cast<std::int32_t>((first + i) % unit);
      std::size_t p = begin;
      while (p < map.parts.size() && map.parts[p].from != from / 16 * 16) ++p;
      if (p == map.parts.size()) {
        map.parts.emplace_back();
        map.parts[p].from = from / 16 * 16;
        std::memset(map.parts[p].picks, 128, sizeof map.parts[p].picks);
      }
      map.parts[p].picks[i] = static_cast<std::uint8_t>(from % 16);
    }
    map.ends.push_back(static_cast<std::int32_t>(map.parts.size()));
  }
  return map;
}

bool rises_by_one(const std::vector<int>& indices) {
  for (std::size_t i = 1; i < indices.size(); ++i)
    if (indices[i] != indices[i - 1] + 1) return false;
  return true;
}

class MoveStep final : public Step {
 public:
  MoveStep(MoveKernel kernel, const Layout& in, const Layout& out, const MoveSpec& spec)
      : in_(in),
        out_(out),
        size_(static_cast<std::int32_t>(element_bytes(out.element))),
        input_(spec.input),
        rows_(spec.rows),
        columns_(spec.columns),
        row_maps_(spec.row_maps),
        column_maps_(spec.column_maps) {
    for (const std::vector<int>& channels : spec.channels) maps_.push_back(channel_map(channels, out.stride, size_));
    is_run_of_pixels_ = spec.channels.size() == 1 && in.stride == out.stride && in.channels == out.channels &&
                        rises_by_one(spec.channels[0]) && spec.channels[0][0] == 0 && rises_by_one(columns_) &&
                        columns_[0] >= 0;
    if (kernel == nullptr || is_run_of_pixels_ || in.stride * size_ % 16 != 0 ||
        out.stride * size_ % kChannelAlign != 0)
      return;
    for (std::size_t i = 0; i < maps_.size(); ++i) {
      shuffles_.push_back(shuffle_map(padded_channels(spec.channels[i], out.stride), size_));
      if (maps_[i].singles.empty() && shuffles_[i].parts.size() > kPartsOfRun * maps_[i].runs.size()) return;
    }
    for (const ShuffleMap& map : shuffles_)
      shuffle_views_.push_back({map.parts.data(), map.ends.data(), static_cast<std::int32_t>(map.ends.size())});
    kernel_ = kernel;
  }

  std::int64_t chunks(std::int64_t images) const override { return images * out_.height; }

  void run(const Memory& memory, std::int64_t chunk, std::int64_t, std::uint8_t*) const override {
    const std::int64_t image = chunk / out_.height;
    const auto y = static_cast<std::size_t>(chunk % out_.height);
    const std::int64_t out_pixel = std::int64_t{out_.stride} * size_, in_pixel = std::int64_t{in_.stride} * size_;
    std::uint8_t* out = memory.at(output) + chunk * out_.width * out_pixel;
    const std::int64_t row = rows_[y];
    const std::uint8_t* in = memory.at(input_) + image * in_.image_bytes() + row * in_.width * in_pixel;
    if (is_run_of_pixels_ && row >= 0) {
      std::memcpy(out, in + columns_[0] * in_pixel, static_cast<std::size_t>(out_.width * out_pixel));
      output_lists.build(memory, chunk * out_.width, out_.width);
      return;
    }
    if (kernel_ != nullptr && row >= 0) {
      MoveTask task;
      task.maps = shuffle_views_.data() + row_maps_[y];
      task.columns = columns_.data();
      task.column_maps = column_maps_.data();
      task.in = in;
      task.out = out;
      task.in_pixel = in_pixel;
      task.out_pixel = out_pixel;
      task.width = out_.width;
      kernel_(task);
      output_lists.build(memory, chunk * out_.width, out_.width);
      return;
    }
    for (std::size_t x = 0; x < columns_.size(); ++x, out += out_pixel) {
      if (row < 0 || columns_[x] < 0)
        std::memset(out, 0, static_cast<std::size_t>(out_pixel));
      else
        copy(maps_[static_cast<std::size_t>(row_maps_[y] + column_maps_[x])], in + columns_[x] * in_pixel, out);
    }
    output_lists.build(memory, chunk * out_.width, out_.width);
  }

 private:
  void copy(const ChannelMap& map, const std::uint8_t* in, std::uint8_t* out) const {
    if (!map.singles.empty()) {
      if (size_ == 1)
        copy_singles<std::uint8_t>(map.singles, in, out);
      else
        copy_singles<std::uint32_t>(map.singles, in, out);
      return;
    }
    for (const Run& run : map.runs) {
      if (run.from < 0)
        clear_few(out + run.to, static_cast<std::size_t>(run.bytes));
      else
        copy_few(out + run.to, in + run.from, static_cast<std::size_t>(run.bytes));
    }
  }

  Layout in_, out_;
  std::int32_t size_;
  int input_;
  std::vector<int> rows_, columns_, row_maps_, column_maps_;
  std::vector<ChannelMap> maps_;
  // Where shuffles are faster than copies of runs.
  std::vector<ShuffleMap> shuffles_;
  std::vector<MoveMap> shuffle_views_;
  MoveKernel kernel_ = nullptr;
  bool is_run_of_pixels_ = false;  // whether a row is copied at once
};

bool lie_below(const std::vector<int>& indices, std::int64_t least, std::int64_t end) {
  for (const int index : indices)
    if (index < least || index >= end) return false;
  return true;
}

int largest(const std::vector<int>& values) {
  int most = 0;
  for (const int value : values) most = value > most ? value : most;
  return most;
}

}  // namespace

void add_move(Program& program, const MoveSpec& spec) {
  const Access access{{spec.input}, -1, spec.output, spec.output_lists};
  program.check(access);
  const Layout& in = program.value(spec.input).layout;
  const Layout& out = program.value(spec.output).layout;
  require(in.element == out.element, "move: types differ");
  const auto height = static_cast<std::size_t>(out.height), width = static_cast<std::size_t>(out.width);
  require(spec.rows.size() == height && spec.row_maps.size() == height, "move: an index for each row");
  require(spec.columns.size() == width && spec.column_maps.size() == width, "move: an index for each column");
  require(lie_below(spec.rows, -1, in.height) && lie_below(spec.columns, -1, in.width),
          "move: reads outside of the input");
  const auto maps = static_cast<std::int64_t>(spec.channels.size());
  require(lie_below(spec.row_maps, 0, maps) && lie_below(spec.column_maps, 0, maps) &&
              largest(spec.row_maps) + largest(spec.column_maps) < maps,
          "move: there is no such map of channels");
  for (const std::vector<int>& channels : spec.channels) {
    require(channels.size() == static_cast<std::size_t>(out.channels), "move: an index for each channel");
    require(lie_below(channels, -1, in.channels), "move: reads a channel that the input lacks");
  }
  program.add_step(std::make_unique<MoveStep>(move_kernels(program.isa()).run, in, out, spec), access);
}

}  // namespace nybble
