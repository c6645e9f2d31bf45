#include "runtime/text/unicode.h"

#include <algorithm>
#include <cstdint>

#include <utf8proc.h>

#include "base/status.h"
#include "runtime/text/unicode_tables.h"

namespace splitee::runtime {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

utf8proc_category_t category(char32_t value) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(value));
}

bool is_punctuation_category(utf8proc_category_t value) {
  return value >= UTF8PROC_CATEGORY_PC && value <= UTF8PROC_CATEGORY_PO;
}

constexpr bool in(char32_t value, char32_t first, char32_t last) {
  return value >= first && value <= last;
}

constexpr bool is_ascii_punctuation(char32_t value) {
  return in(value, 33, 47) || in(value, 58, 64) || in(value, 91, 96) || in(value, 123, 126);
}

constexpr bool is_ideograph(char32_t value) {
  return in(value, 0x4E00, 0x9FFF) || in(value, 0x3400, 0x4DBF) || in(value, 0xF900, 0xFAFF) ||
         in(value, 0x20000, 0x2A6DF) || in(value, 0x2A700, 0x2B81F) ||
         in(value, 0x2B920, 0x2CEAF) || in(value, 0x2F800, 0x2FA1F);
}

bool in(char32_t value, std::span<const CodeRange> ranges) {
  const auto found =
      std::ranges::upper_bound(ranges, value, {}, [](CodeRange range) { return range.first; });
  return found != ranges.begin() && value <= (found - 1)->last;
}

bool is_plain_text(char32_t value) {
  return in(value, kPlainText);
}

// Categories of Unicode 8 that changed since.
constexpr bool was_punctuation(char32_t value) {
  return value == 0x166D || value == 0x111C9;
}
constexpr char32_t kWasMark = 0x1734;

// The range of the byte after `lead`, and how many bytes follow in all (Unicode 15, table 3-7).
struct Continuation {
  unsigned char first_low, first_high;
  std::size_t count;
};

Continuation continuation(unsigned char lead) {
  if (in(lead, 0xC2, 0xDF)) return {0x80, 0xBF, 1};
  if (lead == 0xE0) return {0xA0, 0xBF, 2};
  if (lead == 0xED) return {0x80, 0x9F, 2};
  if (in(lead, 0xE1, 0xEF)) return {0x80, 0xBF, 2};
  if (lead == 0xF0) return {0x90, 0xBF, 3};
  if (in(lead, 0xF1, 0xF3)) return {0x80, 0xBF, 3};
  if (lead == 0xF4) return {0x80, 0x8F, 3};
  return {0, 0, 0};
}

}  // namespace

DecodedChar decode_utf8(std::string_view text, std::size_t position) {
  const auto lead = static_cast<unsigned char>(text[position]);
  if (lead < 0x80) return {lead, 1};
  const Continuation rest = continuation(lead);
  if (rest.count == 0) return {kReplacement, 1};
  char32_t value = lead & (0x3Fu >> rest.count);
  for (std::size_t i = 1; i <= rest.count; ++i) {
    if (position + i == text.size()) return {kReplacement, i};
    const auto byte = static_cast<unsigned char>(text[position + i]);
    const bool fits = i == 1 ? in(byte, rest.first_low, rest.first_high) : (byte & 0xC0u) == 0x80u;
    if (!fits) return {kReplacement, i};
    value = value << 6 | (byte & 0x3Fu);
  }
  return {value, rest.count + 1};
}

std::size_t encode_utf8(char32_t value, std::span<char, 4> out) {
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(value),
                                         reinterpret_cast<utf8proc_uint8_t*>(out.data()));
  SPLITEE_CHECK(size > 0);
  return static_cast<std::size_t>(size);
}

CharKind char_kind(char32_t value) {
  if (is_ascii_punctuation(value)) return CharKind::kPunctuation;
  if (value == '\t' || value == '\n' || value == '\r') return CharKind::kSpace;
  if (value == kReplacement) return CharKind::kDropped;
  if (is_ideograph(value)) return CharKind::kIdeograph;
  if (was_punctuation(value)) return CharKind::kPunctuation;
  const utf8proc_category_t kind = category(value);
  if (kind != UTF8PROC_CATEGORY_LO && is_plain_text(value)) return CharKind::kText;
  if (is_punctuation_category(kind)) return CharKind::kPunctuation;
  if (kind >= UTF8PROC_CATEGORY_ZS && kind <= UTF8PROC_CATEGORY_ZP) return CharKind::kSpace;
  if (kind >= UTF8PROC_CATEGORY_CC && kind <= UTF8PROC_CATEGORY_CO) return CharKind::kDropped;
  return CharKind::kText;
}

bool is_nonspacing_mark(char32_t value) {
  if (value == kWasMark) return true;
  return category(value) == UTF8PROC_CATEGORY_MN && !was_punctuation(value) &&
         !is_plain_text(value);
}

int combining_class(char32_t value) {
  const int order = utf8proc_get_property(static_cast<utf8proc_int32_t>(value))->combining_class;
  return order != 0 && in(value, kUnordered) ? 0 : order;
}

char32_t to_lower(char32_t value) {
  if (value < kLaterLowerCase.front().capitals.first) {
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value)));
  }
  for (const LowerCase& later : kLaterLowerCase) {
    if (in(value, later.capitals.first, later.capitals.last)) {
      return static_cast<char32_t>(static_cast<int>(value) + later.offset);
    }
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(value)));
}

bool is_white_space(char32_t value) {
  const utf8proc_category_t kind = category(value);
  return in(value, '\t', '\r') || value == 0x85 ||
         (kind >= UTF8PROC_CATEGORY_ZS && kind <= UTF8PROC_CATEGORY_ZP);
}

bool is_word_char(char32_t value) {
  const utf8proc_category_t kind = category(value);
  if (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL) return true;
  if (kind == UTF8PROC_CATEGORY_PC || value == 0x200C || value == 0x200D) return true;
  if (in(value, kLaterWordChars)) return true;
  // Alphabetic symbols: letters in circles and squares.
  return in(value, 0x24B6, 0x24E9) || in(value, 0x1F130, 0x1F149) || in(value, 0x1F150, 0x1F169) ||
         in(value, 0x1F170, 0x1F189);
}

std::size_t decompose(char32_t value, std::array<char32_t, kMaxDecomposition>& out) {
  constexpr char32_t kLater = 0x11938;  // decomposes since Unicode 13
  if (value == kLater) {
    out[0] = value;
    return 1;
  }
  std::array<utf8proc_int32_t, kMaxDecomposition> parts{};
  int boundary = 0;
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(value), parts.data(),
                                             parts.size(), UTF8PROC_DECOMPOSE, &boundary);
  SPLITEE_CHECK(count > 0 && static_cast<std::size_t>(count) <= kMaxDecomposition);
  std::ranges::transform(parts, out.begin(), [](auto part) { return static_cast<char32_t>(part); });
  return static_cast<std::size_t>(count);
}

}  // namespace splitee::runtime
