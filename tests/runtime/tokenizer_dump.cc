// Runs the tokenizer for tests/runtime/tokenizer_reference.py.
//   tokenizer_dump VOCAB cased|uncased < REQUESTS: a request is four little-endian u32 (maximum of
//     tokens, 1 for a pair, bytes of either text) and the texts; a line of ids and types answers.
//   tokenizer_dump --unicode: a line "kind lower decomposition..." for every code point; the kind
//   is
//     a letter: Text, Mark (nonspacing), Punctuation, Ideograph, Space, Dropped.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode.h"

namespace {

using splitee::runtime::Encoding;
using splitee::runtime::Tokenizer;

struct Request {
  std::uint32_t max_tokens, pair, bytes, bytes2;
};

std::string read_bytes(std::size_t size) {
  std::string text(size, '\0');
  std::cin.read(text.data(), static_cast<std::streamsize>(size));
  return text;
}

void print(const Encoding& encoding) {
  std::string line;
  for (const auto* list : {&encoding.ids, &encoding.types}) {
    for (const std::int32_t value : *list) line += std::to_string(value) + ' ';
  }
  line.back() = '\n';
  std::cout << line;
}

void print_unicode() {
  for (char32_t value = 0; value < 0x110000; ++value) {
    std::array<char32_t, splitee::runtime::kMaxDecomposition> parts{};
    std::size_t count = 0;
    const bool surrogate = value >= 0xD800 && value < 0xE000;
    if (!surrogate) count = splitee::runtime::decompose(value, parts);
    const auto kind = static_cast<std::size_t>(splitee::runtime::char_kind(value));
    std::string line(1, splitee::runtime::is_nonspacing_mark(value) ? 'M' : "TPISD"[kind]);
    line += ' ' + std::to_string(static_cast<std::uint32_t>(splitee::runtime::to_lower(value)));
    for (std::size_t i = 0; i < count; ++i) {
      line += ' ' + std::to_string(static_cast<std::uint32_t>(parts[i]));
    }
    std::cout << line << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments == std::vector<std::string>{"--unicode"}) {
    print_unicode();
    return 0;
  }
  if (arguments.size() != 2) return 2;
  std::ifstream file(arguments[0], std::ios::binary);
  std::vector<std::string> vocab;
  for (std::string line; std::getline(file, line);) vocab.push_back(line);
  auto tokenizer = Tokenizer::create(std::move(vocab), {.lower_case = arguments[1] == "uncased"});
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status().message() << '\n';
    return 1;
  }
  Request request{};
  while (std::cin.read(reinterpret_cast<char*>(&request), sizeof request)) {
    const std::string text = read_bytes(request.bytes);
    const std::string text2 = read_bytes(request.bytes2);
    const std::string_view view2 = text2;
    print(tokenizer->encode(text, request.pair != 0 ? &view2 : nullptr, request.max_tokens));
  }
}
