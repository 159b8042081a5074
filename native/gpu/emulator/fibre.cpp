#include "gpu/emulator/fibre.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <new>

#if defined(__x86_64__)

// Saves the registers that a function must keep, and the stack: what swapcontext() does without its system call.
extern "C" void nybble_gpu_switch(void** saved, void* next);
asm(R"(
.text
.hidden nybble_gpu_switch
.globl nybble_gpu_switch
.type nybble_gpu_switch, @function
nybble_gpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size nybble_gpu_switch, . - nybble_gpu_switch
)");

#endif

namespace nybble::gpu::emulator {

struct Fibre::State {
  char* stack = nullptr;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
#if defined(__x86_64__)
  void *inside = nullptr, *outside = nullptr;
#else
  ucontext_t inside{}, outside{};
#endif
};

namespace {

// The one that begins: neither way of switching hands an argument over.
void (*starting_entry)(void*) = nullptr;
void* starting_argument = nullptr;

void begin() { starting_entry(starting_argument); }

}  // namespace

Fibre::Fibre() : state_(std::make_unique<State>()) {
  void* found = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  state_->stack = static_cast<char*>(found);
}

Fibre::Fibre(Fibre&&) noexcept = default;

Fibre::~Fibre() {
  if (state_ != nullptr) munmap(state_->stack, kStackBytes);
}

#if defined(__x86_64__)

void Fibre::start(void (*entry)(void*), void* argument) {
  state_->entry = entry;
  state_->argument = argument;
  // Six registers, then the address to return to; a function begins 8 bytes off an alignment of 16.
  auto* top = reinterpret_cast<std::uintptr_t*>(state_->stack + kStackBytes) - 2;
  *top = reinterpret_cast<std::uintptr_t>(&begin);
  for (int i = 0; i < 6; ++i) *--top = 0;
  state_->inside = top;
}

void Fibre::resume() {
  starting_entry = state_->entry;
  starting_argument = state_->argument;
  nybble_gpu_switch(&state_->outside, state_->inside);
}

void Fibre::leave() { nybble_gpu_switch(&state_->inside, state_->outside); }

#else

void Fibre::start(void (*entry)(void*), void* argument) {
  state_->entry = entry;
  state_->argument = argument;
  getcontext(&state_->inside);
  state_->inside.uc_stack.ss_sp = state_->stack;
  state_->inside.uc_stack.ss_size = kStackBytes;
  state_->inside.uc_link = nullptr;
  makecontext(&state_->inside, &begin, 0);
}

void Fibre::resume() {
  starting_entry = state_->entry;
  starting_argument = state_->argument;
  swapcontext(&state_->outside, &state_->inside);
}

void Fibre::leave() { swapcontext(&state_->inside, &state_->outside); }

#endif

}  // namespace nybble::gpu::emulator
