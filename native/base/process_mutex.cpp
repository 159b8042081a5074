#include "base/process_mutex.h"

#include <pthread.h>

namespace nybble {
namespace {

std::mutex mutex;

bool register_fork() {
  pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
  return true;
}

}  // namespace

std::mutex& process_mutex() {
  static const bool registered = register_fork();
  static_cast<void>(registered);
  return mutex;
}

}  // namespace nybble
