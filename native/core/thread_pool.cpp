#include "core/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>

#include "base/process_mutex.h"
#include "core/clock.h"

namespace nybble {
namespace {

// Threads that sleep between the steps of a run cost a third of its speed, since waking one takes as
// long as a step. So a thread spins for 10 to 20 microseconds, the wait of an evenly divided step. It then yields its
// processor between checks, in case the thread that it waits for needs it. After half a millisecond, longer than most
// steps and than Python needs between two calls, it sleeps. Idle engines sleep.
constexpr int kSpins = 1000;
constexpr int kYields = 300;
constexpr std::int64_t kYieldNanoseconds = 500'000;

// The time after which a run passes its threads to a waiting run. Passing them on loses the contents of the caches and
// waits for the last thread: two engines at full load lost 4 % of their processor time with turns of 8 ms, 2 % with
// 30 ms, and 0.5 % without turns.
constexpr std::int64_t kTurnNanoseconds = 50'000'000;

// How often a patient run offers its processors to other threads. Linux leaves a busy thread on its processor for some
// milliseconds while others wait, among them those that bring the photos of other networks.
constexpr std::int64_t kGiveWayNanoseconds = 1'000'000;

// Of the runs that this thread begins; negative: that of all runs.
thread_local std::int64_t turn_of_thread = -1;

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

int usable_processors() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
#endif
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
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

ThreadPool::ThreadPool() : turn_(kTurnNanoseconds) {}

void ThreadPool::set_turn_of_thread(std::int64_t nanoseconds) { turn_of_thread = nanoseconds; }

ThreadPool& ThreadPool::shared() {
  // Never destroyed: threads may still run when static objects go.
  static ThreadPool* const shared_threads = new ThreadPool;
  return *shared_threads;
}

// A forked child has the handles but not the threads. They can be neither joined nor detached.
void ThreadPool::forget_before_fork() {
  if (owner_ == getpid()) return;
  owner_ = getpid();
  idle_ = nullptr;
  idle_count_ = worker_count_ = active_threads_ = 0;
  queue_.clear();
  waiting_.store(0);
}

bool ThreadPool::start_worker() {
  auto* worker = new Worker;
  try {
    worker->thread = std::thread([worker] { Crew::work(*worker); });
  } catch (const std::system_error&) {
    delete worker;
    return false;
  }
  worker->next = idle_;
  idle_ = worker;
  ++idle_count_;
  ++worker_count_;
  return true;
}

void ThreadPool::reserve(int threads) {
  std::unique_lock lock(process_mutex());
  forget_before_fork();
  processors_ = usable_processors();
  reserved_.insert(threads);
  while (worker_count_ < threads - 1)
    if (!start_worker()) {
      const int got = worker_count_ + 1;
      lock.unlock();
      release(threads);
      throw std::runtime_error("could start only " + std::to_string(got) + " of " + std::to_string(threads) +
                               " threads");
    }
}

void ThreadPool::release(int threads) {
  Worker* surplus = nullptr;
  {
    const std::lock_guard lock(process_mutex());
    forget_before_fork();
    reserved_.erase(reserved_.find(threads));
    const int needed = reserved_.empty() ? 0 : *reserved_.rbegin() - 1;
    for (; worker_count_ > needed && idle_ != nullptr; --worker_count_, --idle_count_) {
      Worker* const worker = idle_;
      idle_ = worker->next;
      worker->next = surplus;
      surplus = worker;
    }
  }
  while (surplus != nullptr) {
    Worker* const worker = surplus;
    surplus = worker->next;
    worker->crew = nullptr;
    worker->started.fetch_add(1, std::memory_order_release);
    worker->started.notify_one();
    worker->thread.join();
    delete worker;
  }
}

int ThreadPool::workers() {
  const std::lock_guard lock(process_mutex());
  forget_before_fork();
  return worker_count_;
}

// Whether a crew may begin. If so, its threads have been started.
bool ThreadPool::has_room(const Crew& crew) {
  if (active_threads_ > 0 && active_threads_ + crew.threads_ > processors_) return false;
  while (idle_count_ < crew.threads_ - 1)
    if (!start_worker()) return false;
  return true;
}

void ThreadPool::begin(Crew& crew) {
  active_threads_ += crew.threads_;
  for (int place = crew.threads_ - 1; place > 0; --place) {
    Worker* const worker = idle_;
    idle_ = worker->next;
    --idle_count_;
    worker->place = place;
    worker->next = crew.workers_;
    crew.workers_ = worker;
  }
  crew.has_turn_ = true;
}

void ThreadPool::end(Crew& crew) {
  active_threads_ -= crew.threads_;
  crew.has_turn_ = false;
  while (crew.workers_ != nullptr) {
    Worker* const worker = crew.workers_;
    crew.workers_ = worker->next;
    worker->next = idle_;
    idle_ = worker;
    ++idle_count_;
  }
}

// Strictly in the order of the queue, so that small crews do not starve a large one.
void ThreadPool::admit() {
  while (!queue_.empty()) {
    Crew& crew = *queue_.front();
    const bool room = has_room(crew);
    if (!room && active_threads_ > 0) return;
    queue_.erase(queue_.begin());
    if (room)
      begin(crew);
    else  // No other run will release threads, and the system has no more.
      crew.is_refused_ = true;
    crew.turn_.notify_one();
  }
}

// The crew is in the queue.
void ThreadPool::wait_for_turn(Crew& crew, std::unique_lock<std::mutex>& lock) {
  waiting_.fetch_add(1, std::memory_order_relaxed);
  admit();
  crew.turn_.wait(lock, [&crew] { return crew.has_turn_ || crew.is_refused_; });
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  if (crew.is_refused_)
    throw std::runtime_error("the system has no " + std::to_string(crew.threads_) + " threads for this process");
}

Crew::Crew(const void* owner, int threads) : owner_(owner), threads_(threads) {
  ThreadPool& shared_threads = ThreadPool::shared();
  is_patient_ = turn_of_thread >= 0;
  turn_limit_ = is_patient_ ? turn_of_thread : shared_threads.turn_.load(std::memory_order_relaxed);
  std::unique_lock lock(process_mutex());
  shared_threads.forget_before_fork();
  if (shared_threads.queue_.empty() && shared_threads.has_room(*this)) {
    shared_threads.begin(*this);
  } else {
    shared_threads.queue_.push_back(this);
    shared_threads.wait_for_turn(*this, lock);
  }
  lock.unlock();
  begun_ = now_ns();
}

// Runs of other engines come first, so that an engine with several callers does not take two turns in a row.
Crew::~Crew() {
  ThreadPool& shared_threads = ThreadPool::shared();
  const std::lock_guard lock(process_mutex());
  if (has_turn_) shared_threads.end(*this);
  std::vector<Crew*>& queue = shared_threads.queue_;
  const auto other = std::find_if(queue.begin(), queue.end(), [&](const Crew* crew) { return crew->owner_ != owner_; });
  if (other != queue.end()) std::rotate(queue.begin(), other, other + 1);
  shared_threads.admit();
}

void Crew::give_way() const {
  thread_local std::int64_t given = 0;
  if (!is_patient_) return;
  const std::int64_t now = now_ns();
  if (now - given < kGiveWayNanoseconds) return;
  given = now;
  sched_yield();
}

// The first run that this one has to pass its threads to by now; the end of the queue if there is none.
std::vector<Crew*>::iterator ThreadPool::next_after(const Crew& crew) {
  const std::int64_t held = now_ns() - crew.begun_;
  const bool is_over = crew.used_ + held >= turn_.load(std::memory_order_relaxed);
  return std::find_if(queue_.begin(), queue_.end(), [&](const Crew* other) {
    return other->owner_ != crew.owner_ && (other->is_patient_ ? is_over : held >= crew.turn_limit_);
  });
}

bool Crew::is_due() const {
  ThreadPool& shared_threads = ThreadPool::shared();
  if (shared_threads.waiting_.load(std::memory_order_relaxed) == 0) return false;
  if (now_ns() - begun_ < turn_limit_) return false;
  const std::lock_guard lock(process_mutex());
  return shared_threads.next_after(*this) != shared_threads.queue_.end();
}

// This run is queued directly behind the other, so that few runs have begun and hold memory.
void Crew::pass() {
  ThreadPool& shared_threads = ThreadPool::shared();
  std::unique_lock lock(process_mutex());
  std::vector<Crew*>& queue = shared_threads.queue_;
  const auto other = shared_threads.next_after(*this);
  if (other == queue.end()) return;
  used_ = (*other)->is_patient_ ? 0 : used_ + now_ns() - begun_;
  shared_threads.end(*this);
  std::rotate(queue.begin(), other, other + 1);
  queue.insert(queue.begin() + 1, this);
  shared_threads.wait_for_turn(*this, lock);
  lock.unlock();
  begun_ = now_ns();
}

void Crew::run(Job job, void* context) {
  if (threads_ == 1) {
    job(context, 0);
    return;
  }
  job_ = job;
  context_ = context;
  taken_.store(cpu_bit(), std::memory_order_relaxed);
  for (Worker* worker = workers_; worker != nullptr; worker = worker->next) {
    worker->crew = this;
    worker->started.fetch_add(1, std::memory_order_release);
    worker->started.notify_one();
  }
  job(context, 0);
  // A worker accesses only its own data from here on: the crew may be destroyed as soon as all have finished.
  for (Worker* worker = workers_; worker != nullptr; worker = worker->next)
    wait_for_change(worker->finished, worker->started.load(std::memory_order_relaxed) - 1);
}

void Crew::barrier() {
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

// Linux often wakes a thread on the CPU of the thread that woke it, although other CPUs are idle, and moves neither of
// them within the few milliseconds that a photo takes. Two threads then took twice as long after a pause. A thread that
// is woken there moves to a CPU that no thread of the job has begun on, if its affinity permits, and may be moved
// again.
void Crew::leave_taken_cpu() {
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

void Crew::work(Worker& worker) {
  for (std::uint32_t seen = 0;; ++seen) {
    wait_for_change(worker.started, seen);
    Crew* const crew = worker.crew;
    if (crew == nullptr) return;
    crew->leave_taken_cpu();
    crew->job_(crew->context_, worker.place);
    worker.finished.fetch_add(1, std::memory_order_release);
    worker.finished.notify_one();
  }
}

}  // namespace nybble
