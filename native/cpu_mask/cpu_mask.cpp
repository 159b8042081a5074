// Makes this process believe that it runs on an older processor: CPUID no longer tells of newer vector instructions.
//
// Linux lets a thread give up CPUID (arch_prctl ARCH_CPUID, "CPUID faulting", inherited by the threads it starts, gone
// with exec); each use of it then raises SIGSEGV, and the handler here answers in its place with bits cleared. So any
// library that asks the processor what it can do, and is loaded later, takes the code it would take on the older one.
// A library of its own, which knows neither the engine nor Python: the benchmark's peers run in processes without
// nybble.
#include <cerrno>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <csignal>

namespace {

// arch/x86/include/uapi/asm/prctl.h
constexpr int kSetCpuid = 0x1012;

struct Answer {
  std::uint32_t eax, ebx, ecx, edx;
};

constexpr std::uint32_t bits() { return 0; }
template <typename... Rest>
constexpr std::uint32_t bits(int first, Rest... rest) {
  return (std::uint32_t{1} << first) | bits(rest...);
}

// What to clear; the numbers are those of the Intel manual, volume 2A, CPUID.
struct Mask {
  Answer leaf7, leaf7_1;
};

// AMX (bfloat16, tiles, int8, fp16, complex), AVX10, APX, and FP16.
constexpr Mask kBeyondVnni = {
    {0, 0, 0, bits(2, 3, 8, 22, 23, 24, 25)},
    {bits(5, 21, 22), 0, 0, bits(8, 19, 21)},
};
// Dot products: AVX512_VNNI, AVX_VNNI and their kin, and all that is above.
constexpr Mask kBeyondAvx512 = {
    {0, bits(21, 26, 27), bits(1, 6, 11, 12, 14), kBeyondVnni.leaf7.edx},
    {kBeyondVnni.leaf7_1.eax | bits(4, 23), 0, 0, kBeyondVnni.leaf7_1.edx | bits(4, 5, 10)},
};
// AVX-512 in all its parts, and all that is above.
constexpr Mask kBeyondAvx2 = {
    {0, kBeyondAvx512.leaf7.ebx | bits(16, 17, 28, 30, 31), kBeyondAvx512.leaf7.ecx, kBeyondAvx512.leaf7.edx},
    kBeyondAvx512.leaf7_1,
};

const Mask* hidden = nullptr;

long set_cpuid(bool allowed) { return syscall(SYS_arch_prctl, kSetCpuid, allowed ? 1 : 0); }

void clear(Answer& answer, const Answer& mask) {
  answer.eax &= ~mask.eax;
  answer.ebx &= ~mask.ebx;
  answer.ecx &= ~mask.ecx;
  answer.edx &= ~mask.edx;
}

void answer_cpuid(int signal_number, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* code = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
  // A general protection fault, so the instruction could be fetched: reading it is safe.
  const bool is_cpuid = info->si_code == SI_KERNEL && code[0] == 0x0f && code[1] == 0xa2;
  if (!is_cpuid) {
    // Not ours: the instruction runs again and meets the default, which ends the process.
    signal(signal_number, SIG_DFL);
    return;
  }
  const auto leaf = static_cast<std::uint32_t>(registers[REG_RAX]);
  const auto subleaf = static_cast<std::uint32_t>(registers[REG_RCX]);
  Answer answer{};
  set_cpuid(true);
  __cpuid_count(leaf, subleaf, answer.eax, answer.ebx, answer.ecx, answer.edx);
  set_cpuid(false);
  if (leaf == 7 && subleaf == 0) clear(answer, hidden->leaf7);
  if (leaf == 7 && subleaf == 1) clear(answer, hidden->leaf7_1);
  registers[REG_RAX] = answer.eax;
  registers[REG_RBX] = answer.ebx;
  registers[REG_RCX] = answer.ecx;
  registers[REG_RDX] = answer.edx;
  registers[REG_RIP] += 2;
}

const Mask* mask_of(const char* isa) {
  if (std::strcmp(isa, "avx2") == 0) return &kBeyondAvx2;
  if (std::strcmp(isa, "avx512") == 0) return &kBeyondAvx512;
  if (std::strcmp(isa, "avx512vnni") == 0) return &kBeyondVnni;
  return nullptr;
}

}  // namespace
#endif

// Hides from this thread, and from those it starts, all vector instructions beyond `isa` ("avx2", "avx512" or
// "avx512vnni"). Returns 0, EINVAL for another name, or why the system refuses: ENODEV where the processor has no CPUID
// faulting, ENOSYS on other systems. Libraries loaded before have asked already.
extern "C" __attribute__((visibility("default"))) int nybble_hide_instructions(const char* isa) {
#if defined(__x86_64__) && defined(__linux__)
  const Mask* mask = mask_of(isa);
  if (mask == nullptr) return EINVAL;
  struct sigaction action = {};
  action.sa_sigaction = answer_cpuid;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  hidden = mask;
  if (sigaction(SIGSEGV, &action, nullptr) != 0) return errno;
  if (set_cpuid(false) != 0) {
    const int why = errno;
    signal(SIGSEGV, SIG_DFL);
    return why;
  }
  return 0;
#else
  (void)isa;
  return ENOSYS;
#endif
}
