// Chooses the instruction set, once: the best the CPU has, or what QKV_ISA asks for.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"
#include "qkv/isa.h"

namespace qkv::kernels {

extern const Kernels scalar_kernels;
#if defined(__x86_64__)
extern const Kernels avx512_kernels;
extern const PairKernels avx512bf16_pairs;
extern const PairKernels avx512bf16_32_pairs;
extern const PairKernels avx512bf16_16_pairs;
extern const Kernels avx2_kernels;
#elif defined(__aarch64__)
extern const Kernels neon_kernels;
#endif

namespace {

struct Candidate {
  const Kernels* table;
  bool supported;
};

#if defined(__x86_64__)
// clang 14's __builtin_cpu_supports does not know f16c.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

#if defined(__x86_64__)
// The table of avx512 and of each narrower panel, with products of bfloat16 beside it.
const Kernels& avx512_bf16_kernels() {
  const auto with_pairs = [](const Kernels& from, const PairKernels& pairs, const Kernels* narrow) {
    Kernels to = from;
    to.name = "avx512_bf16";
    to.pairs = &pairs;
    to.narrow = narrow;
    return to;
  };
  static const Kernels lanes_16 =
      with_pairs(*avx512_kernels.narrow->narrow, avx512bf16_16_pairs, nullptr);
  static const Kernels lanes_32 =
      with_pairs(*avx512_kernels.narrow, avx512bf16_32_pairs, &lanes_16);
  static const Kernels lanes_64 = with_pairs(avx512_kernels, avx512bf16_pairs, &lanes_32);
  return lanes_64;
}
#endif

std::vector<Candidate> find_candidates() {
  std::vector<Candidate> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  found.push_back({&avx512_bf16_kernels(), avx512 && __builtin_cpu_supports("avx512bf16") != 0});
  found.push_back({&avx512_kernels, avx512});
  found.push_back({&avx2_kernels, avx2});
#elif defined(__aarch64__)
  found.push_back({&neon_kernels, true});
#endif
  found.push_back({&scalar_kernels, true});
  return found;
}

// What this build holds, best first. The CPU is asked once: in a virtual machine a question takes 20 µs.
const std::vector<Candidate>& candidates() {
  static const std::vector<Candidate> found = find_candidates();
  return found;
}

std::string names_of_supported() {
  std::string names;
  for (const std::string_view name : supported_isas())
    names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

const Kernels& choose() {
  const char* asked = std::getenv("QKV_ISA");
  for (const Candidate& c : candidates()) {
    if (asked == nullptr || *asked == '\0') {
      if (c.supported) return *c.table;
    } else if (std::string_view(asked) == c.table->name) {
      if (c.supported) return *c.table;
      throw std::invalid_argument("QKV_ISA: this CPU does not run \"" + std::string(asked) +
                                  "\"; it runs " + names_of_supported());
    }
  }
  throw std::invalid_argument("QKV_ISA: expected one of " + names_of_supported() + ", got \"" +
                              std::string(asked) + "\"");
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const Kernels& float_kernels() {
#if defined(__x86_64__)
  if (kernels().pairs != nullptr) return avx512_kernels;
#endif
  return kernels();
}

const Kernels* kernels_of(const char* name) {
  for (const Candidate& c : candidates())
    if (c.supported && std::string_view(name) == c.table->name) return c.table;
  return nullptr;
}

}  // namespace qkv::kernels

namespace qkv {

std::string_view isa() { return kernels::kernels().name; }

std::vector<std::string_view> supported_isas() {
  std::vector<std::string_view> names;
  for (const kernels::Candidate& c : kernels::candidates())
    if (c.supported) names.emplace_back(c.table->name);
  return names;
}

std::string_view version() { return QKV_VERSION; }

}  // namespace qkv
