// What every fuzz target defines. The same file is a libFuzzer target (-Dfuzzers=true) and, with
// replay_main.cc, a short test of the default suite.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace splitee::fuzz {

// Inputs to begin with, that reach far.
std::vector<std::string> seeds();

// Gives a changed input the checksum that the code under test looks at first. Most targets have
// none, or put it right themselves.
void repair(std::string& input);

// What must hold for every input.
inline void require(bool condition) {
  if (!condition) std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Takes values off the front of an input; zeros once it is used up.
class Taker {
 public:
  Taker(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const std::uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  std::string_view bytes(std::size_t count) {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return text_of(taken.data(), taken.size());
  }
  std::string_view rest() { return bytes(rest_.size()); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace splitee::fuzz
