// Threads that live as long as an engine and run one job at a time, all of them together.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace nybble {

class ThreadPool {
 public:
  // `threads` includes the one that calls run(). Throws std::runtime_error where the system has no more.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  using Job = void (*)(void* context, int thread);
  // Calls job(context, i) once on each thread and returns when all have. One caller at a time.
  void run(Job job, void* context);

  // Waits until every thread of the running job has come here.
  void barrier();

 private:
  void start();
  void stop();
  void abandon();
  void work(int thread, std::uint32_t seen);
  void leave_taken_cpu();

  int threads_;
  pid_t owner_ = 0;
  std::vector<std::thread> workers_;
  Job job_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> started_{0};  // counts jobs
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> passed_{0};  // counts barriers
  std::atomic<std::uint64_t> taken_{0};  // bit c: a thread of this job has begun it on CPU c, of the first 64
  std::atomic<bool> stop_{false};
};

}  // namespace nybble
