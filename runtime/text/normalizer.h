// BERT's normalization of a text, character by character: cleaning, spaces around ideographs,
// canonical decomposition without nonspacing marks, lower case. Internal to the tokenizer.
// Thread rule: one thread at a time. Memory does not depend on the text.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "runtime/text/unicode.h"

namespace splitee::runtime {

struct Normalization {
  bool lower_case = false;
  bool strip_accents = false;
  bool split_ideographs = false;
};

// ASCII's kinds and lower case by table.
struct AsciiTable {
  std::array<CharKind, 128> kind;
  std::array<char, 128> lower;
};
const AsciiTable& ascii_table();

// Writes to a Sink, which has
//   void space();               // between words
//   void put_ascii(char);       // neither punctuation nor space
//   void put(char32_t);         // any other character
template <class Sink>
class Normalizer {
 public:
  Normalizer(std::string_view text, Normalization what, Sink& sink)
      : text_(text), what_(what), sink_(sink) {}

  // One character of the text; false at its end, when all of it has been written.
  bool step() {
    if (position_ == text_.size()) {
      write_marks();
      return false;
    }
    const auto byte = static_cast<unsigned char>(text_[position_]);
    if (byte < 0x80) {
      ++position_;
      add_ascii(byte);
    } else {
      const auto [value, bytes] = decode_utf8(text_, position_);
      position_ += bytes;
      add_other(value);
    }
    return true;
  }

 private:
  struct Mark {
    char32_t value;
    int order;
  };
  // More than fit a word: whatever their order, no token holds them.
  static constexpr std::size_t kMostMarks = 128;

  void add_ascii(unsigned char value) {
    const CharKind kind = ascii_.kind[value];
    if (kind == CharKind::kDropped) return;
    write_marks();
    if (kind == CharKind::kText) {
      sink_.put_ascii(what_.lower_case ? ascii_.lower[value] : static_cast<char>(value));
    } else if (kind == CharKind::kSpace) {
      sink_.space();
    } else {
      sink_.put(value);
    }
  }

  void add_other(char32_t value) {
    const CharKind kind = char_kind(value);
    if (kind == CharKind::kDropped) return;
    const bool apart = kind == CharKind::kIdeograph && what_.split_ideographs;
    if (apart || kind == CharKind::kSpace) {
      write_marks();
      sink_.space();
    }
    if (kind == CharKind::kSpace) return;
    if (what_.strip_accents) {
      add_parts(value);
    } else {
      put(value);
    }
    if (apart) {
      write_marks();
      sink_.space();
    }
  }

  // The canonical decomposition, its marks in canonical order, nonspacing ones left out.
  void add_parts(char32_t value) {
    std::array<char32_t, kMaxDecomposition> parts;
    const std::size_t count = decompose(value, parts);
    for (std::size_t i = 0; i < count; ++i) {
      const int order = combining_class(parts[i]);
      if (order == 0) write_marks();
      if (is_nonspacing_mark(parts[i])) continue;
      if (order == 0) {
        put(parts[i]);
      } else {
        add_mark({parts[i], order});
      }
    }
  }

  void add_mark(Mark mark) {
    if (mark_count_ == kMostMarks) write_marks();
    const auto end = marks_.begin() + static_cast<std::ptrdiff_t>(mark_count_++);
    const auto place = std::find_if(marks_.begin(), end,
                                    [&](const Mark& other) { return other.order > mark.order; });
    std::move_backward(place, end, end + 1);
    *place = mark;
  }

  void write_marks() {
    for (std::size_t i = 0; i < mark_count_; ++i) put(marks_[i].value);
    mark_count_ = 0;
  }

  void put(char32_t value) {
    constexpr char32_t kCapitalDottedI = 0x130, kDotAbove = 0x307;
    if (!what_.lower_case) {
      sink_.put(value);
    } else if (value == kCapitalDottedI) {  // the one character whose lower case is two
      sink_.put('i');
      sink_.put(kDotAbove);
    } else {
      sink_.put(to_lower(value));
    }
  }

  const AsciiTable& ascii_ = ascii_table();
  std::string_view text_;
  const Normalization what_;
  Sink& sink_;
  std::size_t position_ = 0;
  std::array<Mark, kMostMarks> marks_;
  std::size_t mark_count_ = 0;
};

// The normalized text.
std::string normalized(std::string_view text, Normalization what);

}  // namespace splitee::runtime
