// How the chunks of a step are divided over threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace nybble {

// Every thread has a share of neighbouring chunks, the same part of each step, so that most of what it reads is what
// it wrote itself and lies in its own cache. A thread that has finished its share takes chunks of the others.
class Shares {
 public:
  explicit Shares(int threads) : threads_(threads), taken_(std::make_unique<Counter[]>(2 * size())) {}

  // Before a job, on one thread.
  void reset() {
    for (std::size_t i = 0; i < 2 * size(); ++i) taken_[i].count.store(0, std::memory_order_relaxed);
  }

  // The next chunk of [0, chunks), for a job of one round; -1 where all are taken.
  std::int64_t next(int thread, std::int64_t chunks) {
    for (int i = 0; i < threads_; ++i) {
      const int owner = (thread + i) % threads_;
      const std::int64_t first = chunks * owner / threads_;
      const std::int64_t share = chunks * (owner + 1) / threads_ - first;
      const std::int64_t n = taken_[static_cast<std::size_t>(owner)].count.fetch_add(1, std::memory_order_relaxed);
      if (n < share) return first + n;
    }
    return -1;
  }

  // Calls work(chunk) for chunks of [0, chunks) until all are taken. Called by each thread for rounds 0, 1, 2 and so
  // on, with a barrier after each round.
  template <class Work>
  void take(int thread, std::size_t round, std::int64_t chunks, const Work& work) {
    // Counters of even and odd rounds: no thread reads those of the next round before the barrier.
    Counter* counters = taken_.get() + round % 2 * size();
    taken_[(round + 1) % 2 * size() + static_cast<std::size_t>(thread)].count.store(0, std::memory_order_relaxed);
    for (int i = 0; i < threads_; ++i) {
      const int owner = (thread + i) % threads_;
      std::atomic<std::int64_t>& taken = counters[owner].count;
      const std::int64_t first = chunks * owner / threads_;
      const std::int64_t share = chunks * (owner + 1) / threads_ - first;
      for (std::int64_t n; (n = taken.fetch_add(1, std::memory_order_relaxed)) < share;) work(first + n);
    }
  }

 private:
  struct alignas(64) Counter {
    std::atomic<std::int64_t> count{0};
  };

  std::size_t size() const { return static_cast<std::size_t>(threads_); }

  int threads_;
  std::unique_ptr<Counter[]> taken_;
};

}  // namespace nybble
