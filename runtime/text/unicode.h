// The parts of Unicode that BERT's basic tokenizer asks about. Categories, simple case mapping and
// canonical decomposition come from utf8proc, corrected where the `tokenizers` package knows them
// otherwise (runtime/text/unicode_tables.h).
// Thread rule: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

namespace splitee::runtime {

// What BERT's cleaning makes of a character.
enum class CharKind {
  kText,         // part of a word
  kPunctuation,  // a word of its own: ASCII 33-47, 58-64, 91-96, 123-126 and categories P*
  kIdeograph,    // a word of its own, whatever stands beside it: the CJK blocks BERT lists
  kSpace,        // tab, newline, carriage return, categories Zs, Zl, Zp
  kDropped,      // U+0000, U+FFFD, categories Cc, Cf, Co, Cs
};

struct DecodedChar {
  char32_t value = 0;
  std::size_t bytes = 0;
};

// The character at `position` (< text.size()). What is not UTF-8 gives U+FFFD for each maximal
// subpart of an ill-formed sequence (Unicode 15, section 3.9), as Python's errors="replace" does.
DecodedChar decode_utf8(std::string_view text, std::size_t position);

// Writes `value` (a code point that is no surrogate); returns the number of bytes, 1 .. 4.
std::size_t encode_utf8(char32_t value, std::span<char, 4> out);

CharKind char_kind(char32_t value);
bool is_nonspacing_mark(char32_t value);  // category Mn
int combining_class(char32_t value);

// Simple lower-case mapping: one character to one.
char32_t to_lower(char32_t value);

bool is_white_space(char32_t value);  // Unicode's White_Space
bool is_word_char(char32_t value);    // what a regular expression calls \w

inline constexpr std::size_t kMaxDecomposition = 4;

// Full canonical decomposition of one character into `out`; returns its length, at least 1.
std::size_t decompose(char32_t value, std::array<char32_t, kMaxDecomposition>& out);

}  // namespace splitee::runtime
