#include "runtime/text/normalizer.h"

#include <string>

namespace splitee::runtime {
namespace {

class Writer {
 public:
  void space() { text += ' '; }
  void put_ascii(char value) { text += value; }
  void put(char32_t value) {
    std::array<char, 4> bytes;
    text.append(bytes.data(), encode_utf8(value, bytes));
  }

  std::string text;
};

}  // namespace

const AsciiTable& ascii_table() {
  static const AsciiTable table = [] {
    AsciiTable result{};
    for (std::size_t i = 0; i < 128; ++i) {
      result.kind[i] = char_kind(static_cast<char32_t>(i));
      result.lower[i] = static_cast<char>(to_lower(static_cast<char32_t>(i)));
    }
    return result;
  }();
  return table;
}

std::string normalized(std::string_view text, Normalization what) {
  Writer writer;
  Normalizer<Writer> normalizer(text, what, writer);
  while (normalizer.step()) {
  }
  return std::move(writer.text);
}

}  // namespace splitee::runtime
