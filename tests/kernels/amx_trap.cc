#include "tests/kernels/amx_trap.h"

#include <atomic>
#include <cstdint>
#include <cstring>

#include <signal.h>
#include <ucontext.h>

#include "tests/kernels/amx_model.h"

namespace splitee::kernels::testing::amx {
namespace {

std::atomic<std::size_t> done{0};

// Where the registers are in a context, by the numbers that instructions give them.
constexpr int kRegisters[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                              REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                              REG_R12, REG_R13, REG_R14, REG_R15};

// An instruction in three bytes of VEX, an opcode and ModRM ("Intel 64 and IA-32 Architectures
// Software Developer's Manual", volume 2, chapter 2).
class Instruction {
 public:
  explicit Instruction(const mcontext_t& context)
      : context_(context), bytes_(address(context.gregs[REG_RIP])) {}

  // VEX.128.0F38.W0; `prefix`: 0 none, 2 F3, 3 F2.
  bool is(unsigned prefix, unsigned opcode) const {
    const bool vex = bytes_[0] == 0xc4 && (bytes_[1] & 0x1f) == 2 && (bytes_[2] & 0x84) == 0;
    return vex && (bytes_[2] & 3) == prefix && bytes_[3] == opcode;
  }
  bool of_memory() const { return bytes_[4] >> 6 != 3; }
  bool of_index() const { return of_memory() && (bytes_[4] & 7) == 4; }
  std::size_t reg() const { return bytes_[4] >> 3 & 7; }
  std::size_t rm() const { return bytes_[4] & 7; }
  std::size_t third() const { return ~bytes_[2] >> 3 & 15; }

  // Of its memory: without the index, and the index times its scale.
  unsigned char* base() const {
    const std::uint64_t rest = static_cast<std::uint64_t>(displacement());
    if (of_index()) {
      const bool none = mode() == 0 && (bytes_[5] & 7) == 5;
      return address((none ? 0 : value((bytes_[5] & 7) + extension(1))) + rest);
    }
    if (rm() == 5 && mode() == 0) return bytes_ + size() + displacement();
    return address(value(rm() + extension(1)) + rest);
  }
  std::size_t index() const {
    const std::size_t number = (bytes_[5] >> 3 & 7) + extension(2);
    return number == 4 ? 0 : value(number) << (bytes_[5] >> 6);
  }
  std::size_t size() const {
    return !of_memory() ? 5 : (of_index() ? 6 : 5) + displacement_bytes();
  }

 private:
  static unsigned char* address(std::uint64_t value) {
    unsigned char* pointer;
    std::memcpy(&pointer, &value, sizeof pointer);
    return pointer;
  }
  static unsigned char* address(greg_t value) { return address(static_cast<std::uint64_t>(value)); }
  unsigned mode() const { return bytes_[4] >> 6; }
  // The fourth bit of a register: B (1) of a base, X (2) of an index, both inverted.
  std::size_t extension(unsigned bit) const {
    return (bytes_[1] & (bit == 1 ? 0x20 : 0x40)) == 0 ? 8 : 0;
  }
  std::uint64_t value(std::size_t number) const {
    return static_cast<std::uint64_t>(context_.gregs[kRegisters[number]]);
  }
  std::size_t displacement_bytes() const {
    const bool none = mode() == 0 && (of_index() ? bytes_[5] & 7 : rm()) != 5;
    return none ? 0 : mode() == 1 ? 1 : 4;
  }
  std::int64_t displacement() const {
    const unsigned char* at = bytes_ + (of_index() ? 6 : 5);
    if (displacement_bytes() == 1) return static_cast<std::int8_t>(*at);
    std::int32_t four = 0;
    if (displacement_bytes() == 4) std::memcpy(&four, at, sizeof four);
    return four;
  }
  const mcontext_t& context_;
  unsigned char* bytes_;
};

bool execute(const Instruction& i) {
  if (i.is(0, 0x49) && i.of_index()) return load_config(i.base() + i.index()), true;
  if (i.is(0, 0x49) && i.of_memory()) return load_config(i.base()), true;
  if (i.is(0, 0x49)) return release(), true;
  if (i.is(3, 0x49) && !i.of_memory()) return zero(i.reg()), true;
  if (i.is(3, 0x4b) && i.of_index()) return load(i.reg(), i.base(), i.index()), true;
  if (i.is(2, 0x4b) && i.of_index()) return store(i.reg(), i.base(), i.index()), true;
  if (i.is(3, 0x5e) && !i.of_memory()) return add_int8(i.reg(), i.rm(), i.third()), true;
  if (i.is(2, 0x5c) && !i.of_memory()) return add_bf16(i.reg(), i.rm(), i.third()), true;
  return false;
}

void handle(int, siginfo_t*, void* context) {
  mcontext_t& registers = static_cast<ucontext_t*>(context)->uc_mcontext;
  const Instruction instruction(registers);
  if (!execute(instruction)) {
    signal(SIGILL, SIG_DFL);  // faults again
    return;
  }
  registers.gregs[REG_RIP] += static_cast<greg_t>(instruction.size());
  done.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void trap_instructions() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

std::size_t trapped() {
  return done.load();
}

}  // namespace splitee::kernels::testing::amx
