// Simulates an older processor for this process: CPUID no longer reports newer vector instructions.
//
// Linux lets a thread give up CPUID (arch_prctl ARCH_CPUID, "CPUID faulting", inherited by the threads it starts, gone
// with exec); each use of it then raises SIGSEGV, and the handler here answers in its place with bits cleared. So any
// library that is loaded later and reads the processor's features selects the code that it would select on the older
// one. It is a separate library without the engine and Python, since the benchmark's peers run in processes without
// nybble.
#include <cerrno>
#include <cstddef>
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

constexpr Answer operator|(const Answer& a, const Answer& b) {
  return {a.eax | b.eax, a.ebx | b.ebx, a.ecx | b.ecx, a.edx | b.edx};
}
constexpr Mask operator|(const Mask& a, const Mask& b) { return {a.leaf7 | b.leaf7, a.leaf7_1 | b.leaf7_1}; }

// Always: AMX (bfloat16, tiles, int8, fp16, complex), AVX10, APX, and FP16.
constexpr Mask kAlways = {
    {0, 0, 0, bits(2, 3, 8, 22, 23, 24, 25)},
    {bits(5, 21, 22), 0, 0, bits(8, 19, 21)},
};
// Without AVX-512: all its parts.
constexpr Mask kParts = {{0, bits(16, 17, 28, 30, 31), 0, 0}, {}};
// Without AVX512_VNNI: it, and what came after AVX-512's first parts; relatives of AVX-VNNI.
constexpr Mask kLaterParts = {{0, bits(21, 26, 27), bits(1, 6, 11, 12, 14), 0}, {bits(23), 0, 0, bits(4, 5, 10)}};
// Without any VNNI: AVX-VNNI.
constexpr Mask kVexDots = {{}, {bits(4), 0, 0, 0}};

Mask hidden;

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
  if (leaf == 7 && subleaf == 0) clear(answer, hidden.leaf7);
  if (leaf == 7 && subleaf == 1) clear(answer, hidden.leaf7_1);
  registers[REG_RAX] = answer.eax;
  registers[REG_RBX] = answer.ebx;
  registers[REG_RCX] = answer.ecx;
  registers[REG_RDX] = answer.edx;
  registers[REG_RIP] += 2;
}

// Whether one of the names in `features`, with spaces between them, is `name`.
bool has(const char* features, const char* name) {
  const std::size_t size = std::strlen(name);
  for (const char* at = features; (at = std::strstr(at, name)) != nullptr; at += size) {
    const bool begins = at == features || at[-1] == ' ', ends = at[size] == 0 || at[size] == ' ';
    if (begins && ends) return true;
  }
  return false;
}

Mask mask_beyond(const char* features) {
  Mask mask = kAlways;
  if (!has(features, "avx512f")) mask = mask | kParts;
  if (!has(features, "avx512_vnni")) mask = mask | kLaterParts;
  if (!has(features, "avx512_vnni") && !has(features, "avx_vnni")) mask = mask | kVexDots;
  return mask;
}

}  // namespace
#endif

// Hides from this thread, and from those it starts, all vector instructions beyond AVX2 that are not among `features`,
// names of /proc/cpuinfo with spaces between them: avx512f, avx512_vnni and avx_vnni are known. Returns 0, EINVAL where
// avx2 is not among them, or why the system refuses: ENODEV where the processor has no CPUID
// faulting, ENOSYS on other systems. Libraries loaded before have asked already.
extern "C" __attribute__((visibility("default"))) int nybble_hide_instructions(const char* features) {
#if defined(__x86_64__) && defined(__linux__)
  if (!has(features, "avx2")) return EINVAL;
  struct sigaction action = {};
  action.sa_sigaction = answer_cpuid;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  hidden = mask_beyond(features);
  if (sigaction(SIGSEGV, &action, nullptr) != 0) return errno;
  if (set_cpuid(false) != 0) {
    const int why = errno;
    signal(SIGSEGV, SIG_DFL);
    return why;
  }
  return 0;
#else
  (void)features;
  return ENOSYS;
#endif
}
