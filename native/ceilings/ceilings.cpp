#include "ceilings/ceilings.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <new>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "ceilings/list.h"

namespace nybble {
namespace {

using Clock = std::chrono::steady_clock;

// Bytes of data processed between two readings of the clock, in a few microseconds.
constexpr std::size_t kBytesPerLook = std::size_t{1} << 20;

std::vector<Ceiling> all() {
  std::vector<Ceiling> list;
#define NYBBLE_CEILING(isa) \
  list.insert(list.end(), ceilings_##isa.entries, ceilings_##isa.entries + ceilings_##isa.count);
  NYBBLE_CEILINGS(NYBBLE_CEILING)
#undef NYBBLE_CEILING
  return list;
}

struct Window {
  std::atomic<int> waiting{0};
  std::atomic<bool> abandoned{false};
  std::atomic<std::uint64_t> sink{0};
};

// Memory of the alignment that keeps a vector within one cache line.
class Data {
 public:
  explicit Data(std::size_t bytes) : bytes_(static_cast<std::uint8_t*>(::operator new(bytes, std::align_val_t{64}))) {
    // Nibbles, as in the kernels. They are written so that every page is committed before the clock starts.
    for (std::size_t i = 0; i < bytes; ++i) bytes_[i] = static_cast<std::uint8_t>((i * 7 + i / 13) & 15);
  }
  ~Data() { ::operator delete(bytes_, std::align_val_t{64}); }
  Data(const Data&) = delete;
  Data& operator=(const Data&) = delete;
  const std::uint8_t* get() const { return bytes_; }

 private:
  std::uint8_t* bytes_;
};

// Work a second of one thread.
double run(const Ceiling& ceiling, const Data& data, Window& window, double seconds) {
  const auto turns_per_look = static_cast<std::int64_t>(std::max<std::size_t>(1, kBytesPerLook / ceiling.bytes));
  // One unmeasured interval brings the data into the cache and the core out of its sleep state.
  std::uint64_t sink = ceiling.loop(data.get(), ceiling.bytes, turns_per_look);
  window.waiting.fetch_sub(1);
  while (window.waiting.load() > 0 && !window.abandoned.load()) std::this_thread::yield();
  const auto begun = Clock::now();
  std::chrono::duration<double> elapsed{0};
  std::int64_t turns = 0;
  while (!window.abandoned.load() && elapsed.count() < seconds) {
    sink |= ceiling.loop(data.get(), ceiling.bytes, turns_per_look);
    turns += turns_per_look;
    elapsed = Clock::now() - begun;
  }
  window.sink.fetch_or(sink);
  return elapsed.count() > 0 ? static_cast<double>(turns) * ceiling.work / elapsed.count() : 0.0;
}

}  // namespace

std::vector<Ceiling> available_ceilings() {
  const std::vector<Isa> isas = available_isas();
  std::vector<Ceiling> list = all();
  std::erase_if(list,
                [&](const Ceiling& entry) { return std::find(isas.begin(), isas.end(), entry.isa) == isas.end(); });
  return list;
}

double measure_ceiling(const std::string& name, const std::string& isa, int threads, double seconds) {
  if (threads < 1 || threads > 1024) throw std::invalid_argument("threads must be 1..1024");
  if (!std::isfinite(seconds) || seconds <= 0 || seconds > 60) throw std::invalid_argument("seconds must be in 0..60");
  const Isa wanted = isa_from_name(isa);
  const std::vector<Ceiling> list = available_ceilings();
  const auto found = std::find_if(list.begin(), list.end(),
                                  [&](const Ceiling& entry) { return entry.isa == wanted && entry.name == name; });
  if (found == list.end()) throw std::invalid_argument("no ceiling '" + name + "' for " + isa);

  Window window;
  window.waiting = threads;
  std::vector<double> rates(static_cast<std::size_t>(threads), 0.0);
  // What the threads read is made here, where an exception is an exception of the caller.
  std::vector<std::unique_ptr<Data>> data;
  for (int i = 0; i < threads; ++i) data.push_back(std::make_unique<Data>(found->bytes));
  std::vector<std::thread> others;
  const auto join = [&others] {
    for (std::thread& thread : others) thread.join();
  };
  try {
    for (std::size_t i = 1; i < rates.size(); ++i)
      others.emplace_back([&, i] { rates[i] = run(*found, *data[i], window, seconds); });
  } catch (const std::system_error&) {
    window.abandoned = true;
    join();
    throw std::runtime_error("the system gives no more threads");
  }
  rates[0] = run(*found, *data[0], window, seconds);
  join();
  double total = 0.0;
  for (const double rate : rates) total += rate;
  return total;
}

}  // namespace nybble
