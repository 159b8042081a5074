// A plugin of qemu-user that counts executed instructions of aarch64 by kind.
//
// The functions of the interface that are used are declared here, since Debian packages no header: version 1 of the API
// as QEMU 7.2 documents it (https://www.qemu.org/docs/master/devel/tcg-plugins.html). Encodings are those of the "Arm
// Architecture Reference Manual for A-profile" (DDI 0487), section C4.1.
//
// The program that is counted marks a place by a system call that fails at once, getpriority(kMark, n): the counters
// are then written, as a line of JSON with n. Counters are not atomic: they are right for a program of one thread.
#include <array>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

extern "C" {
using PluginId = std::uint64_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;
using TranslationCallback = void (*)(PluginId, qemu_plugin_tb*);
using SyscallCallback = void (*)(PluginId, unsigned vcpu, std::int64_t number, std::uint64_t a1, std::uint64_t a2,
                                 std::uint64_t a3, std::uint64_t a4, std::uint64_t a5, std::uint64_t a6,
                                 std::uint64_t a7, std::uint64_t a8);
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(PluginId id, TranslationCallback callback);
void qemu_plugin_register_vcpu_tb_exec_inline(qemu_plugin_tb* block, qemu_plugin_op op, void* counter,
                                              std::uint64_t added);
void qemu_plugin_register_vcpu_syscall_cb(PluginId id, SyscallCallback callback);
std::size_t qemu_plugin_tb_n_insns(const qemu_plugin_tb* block);
qemu_plugin_insn* qemu_plugin_tb_get_insn(const qemu_plugin_tb* block, std::size_t index);
const void* qemu_plugin_insn_data(const qemu_plugin_insn* instruction);

__attribute__((visibility("default"))) extern int qemu_plugin_version;
int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(PluginId id, const qemu_info_t* info, int count,
                                                               char** arguments);
}

namespace {

constexpr std::int64_t kGetPriority = 141;  // of Linux on aarch64
constexpr std::uint64_t kMark = 0x6e79;

enum Kind : unsigned {
  kWidening,
  kMultiply,
  kDot,
  kMatrix,
  kFloat,
  kVector,
  kScalable,
  kVectorLoad,
  kVectorStore,
  kLoad,
  kStore,
  kBranch,
  kOther,
  kKinds
};
constexpr std::array<const char*, kKinds> kNames = {"smlal",  "mla",    "sdot",        "smmla",        "float",
                                                    "vector", "sve",    "vector load", "vector store", "load",
                                                    "store",  "branch", "other"};

std::array<std::uint64_t, kKinds> counters;

constexpr std::uint32_t bits(std::uint32_t code, int high, int low) {
  return code >> low & ((1U << (high - low + 1)) - 1);
}

// Multiplications of vectors and by an element of a vector; everything else of vectors is kVector.
Kind vector_kind(std::uint32_t code) {
  const bool is_unsigned = bits(code, 29, 29) != 0;
  if (bits(code, 31, 31) != 0) return kVector;
  if (bits(code, 28, 24) == 0b01111 && bits(code, 10, 10) == 0) {  // by element
    switch (bits(code, 15, 12)) {
      case 0b0010:
      case 0b0110:
      case 0b1010:
        return kWidening;  // smlal, smlsl, smull, and unsigned
      case 0b0000:
      case 0b0100:
        return is_unsigned ? kMultiply : kFloat;  // mla, mls; fmlal
      case 0b1000:
        return is_unsigned ? kFloat : kMultiply;  // mul
      case 0b1110:
        return kDot;  // sdot, udot
      case 0b1111:
        if (is_unsigned) return kVector;
        return bits(code, 22, 22) != 0 ? kFloat : kDot;  // bfdot; usdot, sudot
      case 0b0001:
      case 0b0101:
      case 0b1001:
        return kFloat;
      default:
        return kVector;
    }
  }
  if (bits(code, 28, 24) != 0b01110) return kVector;
  if (bits(code, 21, 21) != 0) {
    if (bits(code, 11, 10) == 0b00) {  // three different: widening
      const std::uint32_t operation = bits(code, 15, 12);
      return operation == 0b1000 || operation == 0b1010 || operation == 0b1100 ? kWidening : kVector;
    }
    if (bits(code, 10, 10) == 1) {  // three of one width
      const std::uint32_t operation = bits(code, 15, 11);
      if (operation == 0b10010 || (operation == 0b10011 && !is_unsigned)) return kMultiply;  // mla, mls, mul
      return operation >= 0b11000 ? kFloat : kVector;
    }
    return kVector;
  }
  if (bits(code, 22, 22) == 1 && bits(code, 15, 14) == 0 && bits(code, 10, 10) == 1) return kFloat;  // of 16 bits
  if (bits(code, 15, 15) == 1 && bits(code, 10, 10) == 1) {                                          // three, extension
    switch (bits(code, 14, 11)) {
      case 0b0010:
      case 0b0011:
        return kDot;  // sdot, udot, usdot
      case 0b0100:
      case 0b0101:
        return kMatrix;  // smmla, ummla, usmmla
      default:
        return kVector;
    }
  }
  return kVector;
}

Kind memory_kind(std::uint32_t code) {
  const bool is_vector = bits(code, 26, 26) != 0;
  bool loads = bits(code, 22, 22) != 0;          // structures, exclusive, pairs
  if (bits(code, 29, 28) == 0b01) loads = true;  // literals
  if (bits(code, 29, 28) == 0b11) {              // one register
    const std::uint32_t operation = bits(code, 23, 22);
    const bool is_store_of_16_bytes = is_vector && bits(code, 31, 30) == 0 && operation == 0b10;
    loads = operation != 0b00 && !is_store_of_16_bytes;
  }
  if (is_vector) return loads ? kVectorLoad : kVectorStore;
  return loads ? kLoad : kStore;
}

Kind kind_of(std::uint32_t code) {
  const std::uint32_t group = bits(code, 28, 25);
  if (group == 0b0010) return kScalable;
  if ((group & 0b0101) == 0b0100) return memory_kind(code);
  if ((group & 0b0111) == 0b0111)
    return bits(code, 28, 28) != 0 && bits(code, 30, 30) == 0 ? kFloat : vector_kind(code);
  if ((group & 0b1110) == 0b1010) return kBranch;
  return kOther;
}

void on_translation(PluginId, qemu_plugin_tb* block) {
  std::array<std::uint64_t, kKinds> found{};
  const std::size_t count = qemu_plugin_tb_n_insns(block);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint32_t code;
    std::memcpy(&code, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof code);
    ++found[kind_of(code)];
  }
  for (unsigned kind = 0; kind < kKinds; ++kind)
    if (found[kind] != 0)
      qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &counters[kind], found[kind]);
}

void on_syscall(PluginId, unsigned, std::int64_t number, std::uint64_t a1, std::uint64_t a2, std::uint64_t,
                std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t) {
  if (number != kGetPriority || a1 != kMark) return;
  std::fprintf(stderr, "{\"mark\": %" PRIu64, a2);
  for (unsigned kind = 0; kind < kKinds; ++kind)
    std::fprintf(stderr, ", \"%s\": %" PRIu64, kNames[kind], counters[kind]);
  std::fprintf(stderr, "}\n");
}

}  // namespace

int qemu_plugin_install(PluginId id, const qemu_info_t*, int, char**) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  return 0;
}
