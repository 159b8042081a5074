#include "core/program.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "core/clock.h"
#include "core/step.h"
#include "core/thread_pool.h"

namespace nybble {
namespace {

constexpr int kMostExtent = 1 << 16;
constexpr std::int64_t kMostArenaBytes = std::int64_t{1} << 36;
constexpr int kMostThreads = 1024;

void check_limits(int threads, int most_images, std::int64_t arena_bytes) {
  require(threads >= 1 && threads <= kMostThreads, "threads is not in 1..1024");
  require(most_images >= 1 && most_images <= 1 << 16, "most_images is not in 1..65536");
  require(arena_bytes >= 0 && arena_bytes <= kMostArenaBytes / most_images / threads, "the arena is too large");
}

WorkspaceSize first_size(int threads, int most_images, std::int64_t arena_bytes) {
  check_limits(threads, most_images, arena_bytes);
  WorkspaceSize size;
  size.threads = threads;
  size.arena = static_cast<std::size_t>(arena_bytes * most_images * threads);
  size.scratch = 64 * static_cast<std::size_t>(threads);
  return size;
}

}  // namespace

namespace {

// Tables of samples of one form: clamp(sample, low, high) - less, modulo 2^8. Vectors compute that; looking
// samples up one by one takes as long as a layer.
struct SampleRule {
  bool holds = false;
  std::uint8_t low = 0, high = 255, less = 0;

  SampleRule() = default;

  SampleRule(const std::uint8_t* table, std::int32_t channels) {
    // Samples whose results keep their distance, around the middle.
    less = static_cast<std::uint8_t>(128 - table[128]);
    const auto keeps = [&](int sample) { return table[sample] == static_cast<std::uint8_t>(sample - less); };
    while (low < 128 && !keeps(low)) ++low;
    while (high > 128 && !keeps(high)) --high;
    for (int i = 0; i < 256 * channels; ++i)
      if (table[i] != (*this)(static_cast<std::uint8_t>(i % 256))) return;
    holds = true;
  }

  NYBBLE_INLINE std::uint8_t operator()(std::uint8_t sample) const {
    return static_cast<std::uint8_t>(std::max(std::min(sample, high), low) - less);
  }
};

}  // namespace

struct Program::Source {
  enum class Kind { integer, samples, floats } kind;
  const std::uint8_t* data;
  const std::uint8_t* table;
  float numerator, denominator, low, high;
  SampleRule rule = {};

  // One row of one image; the input value is tight.
  void load(const Layout& layout, std::int64_t image, std::int64_t row, std::uint8_t* out) const {
    const std::int64_t plane = layout.pixels();
    out += row * layout.width * layout.channels;
    if (kind == Kind::samples) {
      const std::int64_t count = std::int64_t{layout.width} * layout.channels;
      const std::uint8_t* in = data + image * layout.image_elements() + row * count;
      if (rule.holds) {
        const SampleRule same = rule;
        for (std::int64_t i = 0; i < count; ++i) out[i] = same(in[i]);
        return;
      }
      if (layout.channels == 3) {
        for (std::int64_t x = 0; x < layout.width; ++x, in += 3, out += 3) {
          out[0] = table[in[0]];
          out[1] = table[256 + in[1]];
          out[2] = table[512 + in[2]];
        }
        return;
      }
      for (std::int64_t x = 0; x < layout.width; ++x)
        for (std::int64_t c = 0; c < layout.channels; ++c) *out++ = table[256 * c + *in++];
      return;
    }
    const std::int64_t start = image * plane * layout.channels + row * layout.width;
    for (std::int64_t c = 0; c < layout.channels; ++c) {
      if (kind == Kind::integer) {
        const std::uint8_t* in = data + start + c * plane;
        for (std::int64_t x = 0; x < layout.width; ++x) out[x * layout.channels + c] = in[x];
      } else {
        const float* in = reinterpret_cast<const float*>(data) + start + c * plane;
        for (std::int64_t x = 0; x < layout.width; ++x) {
          float value = in[x] * numerator / denominator;
          value = value < low ? low : value;
          value = value > high ? high : value;
          // Adding and taking away 1.5 * 2^23 rounds half to even below 2^22.
          value = (value + 12582912.0f) - 12582912.0f;
          out[x * layout.channels + c] = static_cast<std::uint8_t>(static_cast<std::int32_t>(value));
        }
      }
    }
  }
};

Program::Program(Isa isa, int threads, int most_images, std::int64_t arena_bytes)
    : isa_(isa),
      most_images_(most_images),
      arena_bytes_(arena_bytes),
      size_(first_size(threads, most_images, arena_bytes)) {
  ThreadPool::shared().reserve(threads);
  WorkspacePool::shared().add(&size_);
}

Program::~Program() {
  WorkspacePool::shared().remove(&size_);
  ThreadPool::shared().release(size_.threads);
}

const Value& Program::value(int id) const {
  check_value(id, "value");
  return values_[static_cast<std::size_t>(id)];
}

void Program::check_value(int id, const char* what) const {
  if (id < 0 || static_cast<std::size_t>(id) >= values_.size())
    throw std::invalid_argument(std::string(what) + ": there is no such value");
}

int Program::add_value(Element element, int channels, int height, int width, bool tight, std::int64_t offset) {
  for (int extent : {channels, height, width})
    require(extent >= 1 && extent <= kMostExtent, "value: extent out of range");
  Value value;
  value.layout.element = element;
  value.layout.channels = channels;
  value.layout.height = height;
  value.layout.width = width;
  value.layout.stride = tight ? channels : (channels + kChannelAlign - 1) / kChannelAlign * kChannelAlign;
  value.offset = offset;
  value.bytes = value.layout.image_bytes();
  require(offset >= 0 && offset % 64 == 0 && value.bytes <= arena_bytes_ && offset <= arena_bytes_ - value.bytes,
          "value: does not lie in the arena");
  values_.push_back(value);
  holds_.push_back(false);
  return static_cast<int>(values_.size()) - 1;
}

int Program::add_lists(int input, int group, int block_groups, std::int64_t offset) {
  check_value(input, "lists");
  const Value of = values_[static_cast<std::size_t>(input)];
  require(!of.is_lists && of.layout.stride % kChannelAlign == 0, "lists: of a padded value only");
  require(group == 1 || group == 2 || group == 4, "lists: of one, two or four channels only");
  require(block_groups == 16 || block_groups == 32 || block_groups == 64, "lists: block is not 16, 32 or 64");
  Value value = of;
  value.is_lists = true;
  value.lists_of = input;
  value.list_group = group;
  value.groups = list_groups(of.layout.stride, group);
  value.block_groups = block_groups;
  value.blocks = (value.groups + block_groups - 1) / block_groups;
  value.offset = offset;
  const std::int64_t entry_bytes = list_entry_bytes(group);
  value.bytes = value.layout.pixels() * (value.groups * entry_bytes + std::int64_t{value.blocks} * 2);
  require(offset >= 0 && offset % 64 == 0 && value.bytes <= arena_bytes_ && offset <= arena_bytes_ - value.bytes,
          "lists: do not lie in the arena");
  values_.push_back(value);
  holds_.push_back(false);
  return static_cast<int>(values_.size()) - 1;
}

void Program::set_input(int id) {
  check_value(id, "input");
  const Value& value = values_[static_cast<std::size_t>(id)];
  require(!value.is_lists && value.layout.stride == value.layout.channels && element_bytes(value.layout.element) == 1,
          "input: not a tight 8-bit value");
  require(steps_.empty(), "input: set it before the first step");
  if (input_ >= 0) holds_[static_cast<std::size_t>(input_)] = false;
  input_ = id;
  holds_[static_cast<std::size_t>(id)] = true;
}

void Program::set_outputs(const std::vector<int>& ids) {
  require(!ids.empty(), "output: there is none");
  for (const int id : ids) {
    check_value(id, "output");
    require(!values_[static_cast<std::size_t>(id)].is_lists, "output: lists are not a result");
  }
  outputs_ = ids;
}

void Program::check(const Access& access) const {
  const auto& [reads, reads_lists, writes, writes_lists] = access;
  check_value(writes, "step output");
  require(!values_[static_cast<std::size_t>(writes)].is_lists, "step: writes to lists");
  std::vector<const Value*> apart{&values_[static_cast<std::size_t>(writes)]};
  for (int id : writes_lists) {
    check_value(id, "step output lists");
    apart.push_back(&values_[static_cast<std::size_t>(id)]);
    for (std::size_t i = 0; i + 1 < apart.size(); ++i)
      require(!apart[i]->overlaps(*apart.back()), "step: writes lists over what it writes");
  }
  const auto check_read = [&](int id, bool is_lists) {
    check_value(id, "step input");
    const Value& in = values_[static_cast<std::size_t>(id)];
    require(in.is_lists == is_lists, "step: lists in place of a value, or a value in place of lists");
    require(holds_[static_cast<std::size_t>(id)], "step: reads a value or lists that nothing has written");
    for (const Value* out : apart) require(!in.overlaps(*out), "step: reads what it overwrites");
  };
  for (int id : reads) check_read(id, false);
  if (reads_lists >= 0) check_read(reads_lists, true);
}

void Program::add_step(std::unique_ptr<Step> step, const Access& access) {
  check(access);
  step->output = access.writes;
  step->output_lists = OutputLists(isa_, values_, step->output, access.writes_lists);
  const auto threads = static_cast<std::size_t>(size_.threads);
  size_.scratch = std::max(size_.scratch, static_cast<std::size_t>((step->scratch_bytes() + 127) / 64 * 64) * threads);
  weight_bytes_ += step->weight_bytes();
  counters_ = std::max(counters_, step->counters(most_images_));
  std::vector<int> writes = access.writes_lists;
  writes.push_back(access.writes);
  for (int id : writes)
    for (std::size_t i = 0; i < values_.size(); ++i)
      if (values_[i].overlaps(values_[static_cast<std::size_t>(id)])) holds_[i] = false;
  for (int id : writes) holds_[static_cast<std::size_t>(id)] = true;
  steps_.push_back(std::move(step));
  step_times_.resize(step_times_.size() + writes.size(), 0);
  size_.stamps = (steps_.size() + 1) * threads;
  size_.list_times = values_.size() * threads;
  size_.counters = static_cast<std::size_t>(counters_) * threads;
}

void Program::run_integer(const std::uint8_t* nchw, std::int64_t images, std::uint8_t* out) {
  run(Source{Source::Kind::integer, nchw, nullptr, 0, 0, 0, 0}, images, out, nullptr, nullptr);
}

void Program::run_samples(const std::uint8_t* nhwc, const std::uint8_t* table, std::int64_t images, std::uint8_t* out) {
  const SampleRule rule(table, value(input_).layout.channels);
  run(Source{Source::Kind::samples, nhwc, table, 0, 0, 0, 0, rule}, images, out, nullptr, nullptr);
}

bool Program::run_float(const float* nchw, float numerator, float denominator, float low, float high,
                        std::int64_t images, std::uint8_t* out) {
  const std::int64_t count = images * value(input_).layout.image_elements();
  bool has_nan = false;
  for (std::int64_t i = 0; i < count; ++i) has_nan |= nchw[i] != nchw[i];
  if (has_nan) return false;
  run(Source{Source::Kind::floats, reinterpret_cast<const std::uint8_t*>(nchw), nullptr, numerator, denominator, low,
             high},
      images, out, nullptr, nullptr);
  return true;
}

void Program::run_tapped(const std::uint8_t* nchw, std::int64_t images, std::uint8_t* out,
                         const std::vector<int>& values, const Tap& tap) {
  for (int id : values) {
    check_value(id, "tap");
    require(!values_[static_cast<std::size_t>(id)].is_lists, "tap: lists cannot be tapped");
  }
  run(Source{Source::Kind::integer, nchw, nullptr, 0, 0, 0, 0}, images, out, &values, &tap);
}

std::vector<std::int64_t> Program::take_step_times() {
  std::lock_guard lock(timed_);
  std::vector<std::int64_t> times(step_times_.size(), 0);
  times.swap(step_times_);
  return times;
}

// A run in progress.
class Program::Run {
 public:
  Run(Program& program, const Source& source, std::uint8_t* out, const std::vector<int>* taps, const Tap* tap)
      : program_(program),
        source_(source),
        out_(out),
        taps_(taps),
        tap_(tap),
        is_timed_(program.timing_.load(std::memory_order_relaxed)),
        crew_(&program, program.threads()),
        work_(WorkspacePool::shared().take(program.size_)) {}

  void all(std::int64_t images);

  // A workspace that an exception has interrupted is not reused.
  void finish() { WorkspacePool::shared().give_back(std::move(work_)); }

 private:
  void run_apart(int thread);
  bool go_on(int thread, Place& place);
  bool is_passing();
  void run_together(int thread);
  void add_step_times();
  void emit(const Memory& where, int value, std::int64_t images, std::uint8_t* nchw) const;
  void emit_outputs(const Memory& where, std::int64_t first, std::int64_t images) const;
  Memory memory(int slice, std::int64_t images, std::int64_t* list_times) const;
  std::uint8_t* scratch(int thread) {
    return work_->scratch.data() + program_.scratch_bytes() * static_cast<std::size_t>(thread);
  }
  std::int64_t* list_times(int thread) {
    return work_->list_times.data() + program_.values_.size() * static_cast<std::size_t>(thread);
  }

  Program& program_;
  const Source& source_;
  std::uint8_t* out_;
  const std::vector<int>* taps_;
  const Tap* tap_;
  bool is_timed_;
  Crew crew_;  // before memory is taken: runs that wait for threads hold none
  std::unique_ptr<Workspace> work_;
  std::int64_t all_images_ = 0;
  std::int64_t first_ = 0, images_ = 0;
  std::int64_t groups_ = 0;  // that images are cut into where threads run apart
  std::atomic<bool> passing_{false};
};

void Program::run(const Source& source, std::int64_t images, std::uint8_t* out, const std::vector<int>* taps,
                  const Tap* tap) {
  require(input_ >= 0 && !outputs_.empty() && !steps_.empty(), "the program has no input, output or steps");
  for (const int id : outputs_)
    require(holds_[static_cast<std::size_t>(id)], "no step writes the output, or another one overwrites it");
  Run run(*this, source, out, taps, tap);
  run.all(images);
  run.finish();
}

// Several images: each thread runs the whole network on some of them, without waiting for other threads. All threads
// together run the remaining images, or a single one, step by step. In both cases up to most_images go through each
// step together.
void Program::Run::all(std::int64_t images) {
  all_images_ = images;
  const std::int64_t threads = crew_.threads(), most = program_.most_images_;
  if (images >= std::max<std::int64_t>(threads, 2) && taps_ == nullptr) {
    images_ = images / threads * threads;
    groups_ = divide_up(images_ / threads, most) * threads;
    work_->shares.reset();
    for (Place& place : work_->places) place = Place();
    for (;;) {
      crew_.run([](void* self, int thread) { static_cast<Run*>(self)->run_apart(thread); }, this);
      if (!passing_.exchange(false, std::memory_order_relaxed)) break;
      crew_.pass();
    }
    first_ = images_;
  }
  for (; first_ < images; first_ += images_) {
    if (first_ > 0 && crew_.is_due()) crew_.pass();
    images_ = divide_up(images - first_, divide_up(images - first_, most));
    work_->shares.reset();
    crew_.run([](void* self, int thread) { static_cast<Run*>(self)->run_together(thread); }, this);
    if (is_timed_) add_step_times();
    emit_outputs(memory(0, images_, nullptr), first_, images_);
  }
}

// A step ends when its last thread has finished. Stamps are taken before the barriers: a thread that has to wait for
// its processor may leave a barrier when the others have already done the next step.
void Program::Run::add_step_times() {
  const auto& steps = program_.steps_;
  const std::size_t count = steps.size() + 1, threads = static_cast<std::size_t>(crew_.threads());
  const std::lock_guard lock(program_.timed_);
  const auto done = [&](std::size_t stamp) {
    std::int64_t last = 0;
    for (std::size_t i = stamp; i < count * threads; i += count) last = std::max(last, work_->stamps[i]);
    return last;
  };
  std::vector<std::int64_t>& times = program_.step_times_;
  std::size_t row = 0;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    const std::size_t of_step = row++;
    times[of_step] += done(s + 1) - done(s);
    for (int id : steps[s]->output_lists.ids()) {
      std::int64_t spent = 0;
      for (int thread = 0; thread < crew_.threads(); ++thread) spent += std::exchange(list_times(thread)[id], 0);
      spent /= crew_.threads();
      times[of_step] -= spent;
      times[row++] += spent;
    }
  }
}

Memory Program::Run::memory(int slice, std::int64_t images, std::int64_t* list_times) const {
  return {work_->arena.data() + program_.arena_bytes_ * program_.most_images_ * slice, images, &program_.values_,
          work_->finished.get() + program_.counters_ * slice, list_times};
}

std::int64_t Program::output_bytes() const {
  std::int64_t bytes = 0;
  for (const int id : outputs_) bytes += output_bytes(id);
  return bytes;
}

std::int64_t Program::output_bytes(int value) const {
  const Layout& layout = values_[static_cast<std::size_t>(value)].layout;
  return layout.pixels() * layout.channels * static_cast<std::int64_t>(element_bytes(layout.element));
}

void Program::Run::run_apart(int thread) {
  Place& place = work_->places[static_cast<std::size_t>(thread)];
  if (place.group >= 0 && !go_on(thread, place)) return;
  const Layout& input = program_.value(program_.input_).layout;
  while ((place.group = work_->shares.next(thread, groups_)) >= 0) {
    place.step = 0;
    const std::int64_t first = images_ * place.group / groups_, count = images_ * (place.group + 1) / groups_ - first;
    const Memory where = memory(thread, count, nullptr);
    for (std::int64_t i = 0; i < count * input.height; ++i) {
      const std::int64_t image = i / input.height;
      source_.load(input, first + image, i % input.height, where.at(program_.input_) + image * input.image_bytes());
    }
    if (!go_on(thread, place)) return;
  }
}

// Runs the remaining steps for a group of images. False if the threads are to be passed on. Runs at least one step, so
// that runs which pass the threads to each other make progress.
bool Program::Run::go_on(int thread, Place& place) {
  const std::int64_t first = images_ * place.group / groups_, count = images_ * (place.group + 1) / groups_ - first;
  const Memory where = memory(thread, count, nullptr);
  for (;;) {
    const Step& step = *program_.steps_[place.step];
    for (std::int64_t i = 0, chunks = step.chunks(count); i < chunks; ++i) step.run(where, i, count, scratch(thread));
    if (++place.step == program_.steps_.size()) break;
    if (is_passing()) return false;
  }
  emit_outputs(where, first, count);
  place.group = -1;
  return !is_passing();
}

// All threads leave the job once one of them has found that another run is due.
bool Program::Run::is_passing() {
  if (passing_.load(std::memory_order_relaxed)) return true;
  crew_.give_way();
  if (!crew_.is_due()) return false;
  passing_.store(true, std::memory_order_relaxed);
  return true;
}

void Program::Run::run_together(int thread) {
  const Memory where = memory(0, images_, is_timed_ ? list_times(thread) : nullptr);
  const Layout& input = program_.value(program_.input_).layout;
  const std::int64_t rows = images_ * input.height;
  Shares& shares = work_->shares;
  shares.take(thread, 0, rows, [&](std::int64_t i) {
    const std::int64_t image = i / input.height;
    source_.load(input, first_ + image, i % input.height, where.at(program_.input_) + image * input.image_bytes());
  });
  std::int64_t* stamp = work_->stamps.data() + static_cast<std::size_t>(thread) * (program_.steps_.size() + 1);
  if (is_timed_) *stamp++ = now_ns();
  crew_.barrier();

  for (std::size_t s = 0; s < program_.steps_.size(); ++s) {
    const Step& step = *program_.steps_[s];
    shares.take(thread, s + 1, step.chunks(images_),
                [&](std::int64_t chunk) { step.run(where, chunk, images_, scratch(thread)); });
    if (is_timed_) *stamp++ = now_ns();
    crew_.barrier();
    if (taps_ == nullptr) continue;
    if (thread == 0)
      for (std::size_t t = 0; t < taps_->size(); ++t) {
        if ((*taps_)[t] != step.output) continue;
        const Layout& layout = program_.value(step.output).layout;
        std::vector<std::uint8_t> nchw(static_cast<std::size_t>(images_ * layout.pixels() * layout.channels) *
                                       element_bytes(layout.element));
        emit(where, step.output, images_, nchw.data());
        (*tap_)(t, nchw.data(), images_);
      }
    crew_.barrier();
  }
}

// The results of images [first, first + images) of the run.
void Program::Run::emit_outputs(const Memory& where, std::int64_t first, std::int64_t images) const {
  std::uint8_t* out = out_;
  for (const int id : program_.outputs_) {
    const std::int64_t bytes = program_.output_bytes(id);
    emit(where, id, images, out + first * bytes);
    out += all_images_ * bytes;
  }
}

// Pixels whose channels stay in the caches while each channel is written.
constexpr std::int64_t kPlanePixels = 64;

// One image of elements of so many bytes, from channels last to channels first.
template <class T>
void to_planes(const Layout& layout, const std::uint8_t* values, std::uint8_t* planes) {
  const std::int64_t pixels = layout.pixels();
  for (std::int64_t first = 0; first < pixels; first += kPlanePixels) {
    const std::int64_t last = std::min(first + kPlanePixels, pixels);
    for (std::int64_t c = 0; c < layout.channels; ++c) {
      const std::uint8_t* in = values + (first * layout.stride + c) * static_cast<std::int64_t>(sizeof(T));
      std::uint8_t* out = planes + (c * pixels + first) * static_cast<std::int64_t>(sizeof(T));
      for (std::int64_t p = first; p < last; ++p) {
        std::memcpy(out, in, sizeof(T));
        in += layout.stride * static_cast<std::int64_t>(sizeof(T));
        out += sizeof(T);
      }
    }
  }
}

void Program::Run::emit(const Memory& where, int id, std::int64_t images, std::uint8_t* nchw) const {
  const Layout& layout = program_.values_[static_cast<std::size_t>(id)].layout;
  const auto size = static_cast<std::int64_t>(element_bytes(layout.element));
  const std::uint8_t* values = where.at(id);
  if (layout.pixels() == 1) {
    for (std::int64_t n = 0; n < images; ++n)
      std::memcpy(nchw + n * layout.channels * size, values + n * layout.image_bytes(),
                  static_cast<std::size_t>(layout.channels * size));
    return;
  }
  const std::int64_t image_bytes = layout.pixels() * layout.channels * size;
  for (std::int64_t n = 0; n < images; ++n) {
    const std::uint8_t* image = values + n * layout.image_bytes();
    if (size == 1)
      to_planes<std::uint8_t>(layout, image, nchw + n * image_bytes);
    else
      to_planes<std::uint32_t>(layout, image, nchw + n * image_bytes);
  }
}

}  // namespace nybble
