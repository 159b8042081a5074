#include "core/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <system_error>

#include "core/clock.h"

namespace nybble {
namespace {

// Threads that sleep between the steps of a run cost a third of its speed, since waking one takes as
// long as a step. So a thread spins for 10 to 20 microseconds, the wait of an even step; then offers its
// processor to others between looks, in case the thread it waits for needs it; and sleeps after half a
// millisecond, longer than most steps and than Python takes between two calls. Idle engines sleep.
constexpr int kSpins = 1000;
constexpr int kYields = 300;
constexpr std::int64_t kYieldNanoseconds = 500'000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// The bit of the CPU that the calling thread is on; none beyond the first 64, or where the system does not say.
std::uint64_t cpu_bit() {
#if defined(__linux__)
  const int cpu = sched_getcpu();
  if (cpu >= 0 && cpu < 64) return std::uint64_t{1} << cpu;
#endif
  return 0;
}

// Waits until `value` differs from `old`.
void wait_for_change(std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  // A yield takes from a fraction of a microsecond to a time slice of another process.
  const std::int64_t begun = now_ns();
  for (int i = 0; i < kYields || now_ns() - begun < kYieldNanoseconds; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    sched_yield();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads) { start(); }

void ThreadPool::start() {
  owner_ = getpid();
  const std::uint32_t seen = started_.load();
  try {
    for (int i = 1; i < threads_; ++i) workers_.emplace_back([this, i, seen] { work(i, seen); });
  } catch (const std::system_error& error) {
    const std::size_t got = workers_.size() + 1;
    stop();
    throw std::runtime_error("could start only " + std::to_string(got) + " of " + std::to_string(threads_) +
                             " threads: " + error.what());
  }
}

void ThreadPool::stop() {
  stop_.store(true);
  started_.fetch_add(1);
  started_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

// A forked child has the handles but not the threads. They can be neither joined nor detached.
void ThreadPool::abandon() { static_cast<void>(new std::vector<std::thread>(std::move(workers_))); }

ThreadPool::~ThreadPool() {
  if (owner_ == getpid())
    stop();
  else
    abandon();
}

void ThreadPool::run(Job job, void* context) {
  if (threads_ == 1) {
    job(context, 0);
    return;
  }
  if (owner_ != getpid()) {
    abandon();
    arrived_.store(0);
    start();
  }
  job_ = job;
  context_ = context;
  taken_.store(cpu_bit(), std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  job(context, 0);
  barrier();
}

void ThreadPool::barrier() {
  if (threads_ == 1) return;
  const std::uint32_t round = passed_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(threads_)) {
    arrived_.store(0, std::memory_order_relaxed);
    passed_.fetch_add(1, std::memory_order_release);
    passed_.notify_all();
  } else {
    wait_for_change(passed_, round);
  }
}

// Linux likes to wake a thread where the one that woke it runs, with other CPUs idle, and moves neither away in the few
// milliseconds that a photo takes: after a pause two threads took twice as long for it as they need. A thread that
// finds itself there goes to a CPU that no thread of the job has begun on, if it may, and is free to be moved again.
void ThreadPool::leave_taken_cpu() {
#if defined(__linux__)
  const std::uint64_t here = cpu_bit();
  const std::uint64_t taken = taken_.fetch_or(here, std::memory_order_relaxed);
  if ((taken & here) == 0) return;
  cpu_set_t allowed, free;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  free = allowed;
  for (int cpu = 0; cpu < 64; ++cpu)
    if (taken >> cpu & 1) CPU_CLR(cpu, &free);
  if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof(free), &free) != 0) return;
  taken_.fetch_or(cpu_bit(), std::memory_order_relaxed);
  sched_setaffinity(0, sizeof(allowed), &allowed);
#endif
}

void ThreadPool::work(int thread, std::uint32_t seen) {
  for (;;) {
    wait_for_change(started_, seen);
    ++seen;
    if (stop_.load()) return;
    leave_taken_cpu();
    job_(context_, thread);
    barrier();
  }
}

}  // namespace nybble
