// The threads of a process, which all engines share. Each run gets a crew of threads, or waits for them in a queue.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <set>
#include <thread>
#include <vector>

namespace nybble {

class Crew;

// A thread that waits for a crew to give it a job.
struct Worker {
  alignas(64) std::atomic<std::uint32_t> started{0};   // counts jobs
  alignas(64) std::atomic<std::uint32_t> finished{0};  // counts jobs
  Crew* crew = nullptr;                                // that gives the job; null ends the thread
  int place = 0;                                       // among the threads of the crew
  Worker* next = nullptr;
  std::thread thread;
};

// Crews run concurrently as long as their threads together do not exceed the process's processors. A larger crew runs
// alone.
class ThreadPool {
 public:
  static ThreadPool& shared();

  // Starts threads until there are enough for a crew of this size, whose caller is one of them. They exist until
  // release(). Throws std::runtime_error if a thread cannot be started.
  void reserve(int threads);
  void release(int threads);

  // The time after which a run passes its threads to a waiting one: of all runs, and of those that the calling thread
  // begins. A negative time is that of all runs. Runs with a time of their own are patient: they wait as long as all
  // runs may take, and the short time is for others.
  void set_turn(std::int64_t nanoseconds) { turn_.store(nanoseconds); }
  static void set_turn_of_thread(std::int64_t nanoseconds);

  // For tests: the number of running threads.
  int workers();

 private:
  friend class Crew;

  ThreadPool();
  void forget_before_fork();
  bool start_worker();
  bool has_room(const Crew& crew);
  std::vector<Crew*>::iterator next_after(const Crew& crew);
  void begin(Crew& crew);
  void end(Crew& crew);
  void admit();
  void wait_for_turn(Crew& crew, std::unique_lock<std::mutex>& lock);

  // Under process_mutex().
  pid_t owner_ = 0;
  std::multiset<int> reserved_;
  Worker* idle_ = nullptr;
  int idle_count_ = 0, worker_count_ = 0;
  int processors_ = 1;
  int active_threads_ = 0;
  std::vector<Crew*> queue_;
  std::atomic<int> waiting_{0};  // crews
  std::atomic<std::int64_t> turn_;
};

// The threads of one run: its caller's and some of the shared ones.
class Crew {
 public:
  // Waits for its turn. `owner` is the same for all runs of an engine. Throws std::runtime_error if threads cannot be
  // started.
  Crew(const void* owner, int threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int threads() const { return threads_; }

  using Job = void (*)(void* context, int thread);
  // Calls job(context, i) once on each thread and returns when all have.
  void run(Job job, void* context);

  // Waits until every thread of the running job has reached the barrier.
  void barrier();

  // Of a patient run, now and then: offers the processor of the calling thread to other threads.
  void give_way() const;

  // Whether a run of another owner is waiting and this one's turn is over.
  bool is_due() const;
  // Between two jobs: passes the threads to the first run of another owner, and waits for the next turn.
  void pass();

 private:
  friend class ThreadPool;
  static void work(Worker& worker);
  void leave_taken_cpu();

  const void* owner_;
  int threads_;
  Worker* workers_ = nullptr;
  Job job_ = nullptr;
  void* context_ = nullptr;
  std::int64_t begun_ = 0;  // nanoseconds: when it got its threads
  std::int64_t used_ = 0;   // nanoseconds, before that, since a patient run was let in
  std::int64_t turn_limit_;
  bool is_patient_;
  bool has_turn_ = false, is_refused_ = false;
  std::condition_variable turn_;
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> passed_{0};  // counts barriers
  std::atomic<std::uint64_t> taken_{0};  // bit c: a thread of this job has begun it on CPU c, of the first 64
};

}  // namespace nybble
