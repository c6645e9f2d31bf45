#include "runtime/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "runtime/unicode.h"

namespace splitee::runtime {
namespace {

constexpr std::size_t kMaxWordChars = 100;
constexpr std::size_t kMaxWordBytes = 4 * kMaxWordChars;
constexpr std::string_view kContinuation = "##";
constexpr char32_t kCapitalSigma = 0x3A3, kSmallSigma = 0x3C3, kFinalSigma = 0x3C2;

using Entry = TokenTrie::Entry;

std::optional<std::int32_t> find_id(std::span<const Entry> sorted, std::string_view token) {
  const auto found = std::ranges::lower_bound(sorted, token, {}, &Entry::text);
  if (found == sorted.end() || found->text != token) return std::nullopt;
  return found->id;
}

std::string describe(std::int32_t id, std::string_view problem) {
  return "vocabulary: token " + std::to_string(id) + " " + std::string(problem);
}

// A token's place in the vocabulary, and its first bytes as a number that is ordered as they are.
struct Key {
  std::uint64_t first_bytes;
  std::uint32_t id;
};

std::uint64_t first_bytes(std::string_view text) {
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t value = 0;
  std::memcpy(&value, text.data(), std::min(text.size(), sizeof(value)));
  return __builtin_bswap64(value);
}

// By first_bytes, stable: a radix sort, as a vocabulary is sorted at every start.
void sort_by_first_bytes(std::vector<Key>& keys) {
  constexpr std::size_t kDigits = sizeof(std::uint64_t), kValues = 256;
  const auto digit = [](const Key& key, std::size_t i) {
    return static_cast<std::size_t>(key.first_bytes >> (8 * i)) % kValues;
  };
  std::array<std::array<std::size_t, kValues>, kDigits> places{};
  for (const Key& key : keys) {
    for (std::size_t i = 0; i < kDigits; ++i) ++places[i][digit(key, i)];
  }
  std::vector<Key> sorted(keys.size());
  for (std::size_t i = 0; i < kDigits; ++i) {
    std::exclusive_scan(places[i].begin(), places[i].end(), places[i].begin(), std::size_t{0});
    for (const Key& key : keys) sorted[places[i][digit(key, i)]++] = key;
    keys.swap(sorted);
  }
}

// The tokens with their ids, by text and id.
std::vector<Entry> sort_entries(std::span<const std::string> vocab) {
  std::vector<Key> keys(vocab.size());
  for (std::size_t i = 0; i < vocab.size(); ++i) {
    keys[i] = {first_bytes(vocab[i]), static_cast<std::uint32_t>(i)};
  }
  sort_by_first_bytes(keys);
  std::vector<Entry> sorted(keys.size());
  std::ranges::transform(keys, sorted.begin(), [&](const Key& key) {
    return Entry{vocab[key.id], static_cast<std::int32_t>(key.id)};
  });
  // What begins alike is left: stable, so that the ids of equal texts stay ascending.
  for (std::size_t begin = 0, end = 0; begin < keys.size(); begin = end) {
    while (end < keys.size() && keys[end].first_bytes == keys[begin].first_bytes) ++end;
    if (end - begin == 1) continue;
    std::ranges::stable_sort(std::span(sorted).subspan(begin, end - begin), {}, &Entry::text);
  }
  return sorted;
}

Status check_tokens(std::span<const Entry> sorted) {
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const auto& [text, id] = sorted[i];
    if (text.empty()) return {Code::kCorrupt, describe(id, "is empty")};
    if (!is_valid_utf8(text)) return {Code::kCorrupt, describe(id, "is not UTF-8")};
    if (i > 0 && text == sorted[i - 1].text) {
      const std::int32_t first = sorted[i - 1].id;
      return {Code::kCorrupt, describe(id, "repeats token " + std::to_string(first))};
    }
  }
  return {};
}

// One word on its way to WordPiece. Longer words than BERT's limit are only counted.
class Word {
 public:
  bool empty() const { return chars_ == 0; }
  bool too_long() const { return chars_ > kMaxWordChars; }
  std::string_view bytes() const { return {bytes_.data(), size_}; }

  void clear() { chars_ = size_ = marks_start_ = marks_ = 0; }

  void add_ascii(char value) {
    if (++chars_ <= kMaxWordChars) bytes_[size_++] = value;
    end_marks();
  }

  void add(char32_t value) {
    if (++chars_ <= kMaxWordChars) append(value);
    end_marks();
  }

  // A character of combining class `order` > 0 that stays in the word: marks are kept in
  // canonical order, which Unicode normalization prescribes.
  void add_mark(char32_t value, int order) {
    if (++chars_ > kMaxWordChars) return;
    const auto end = mark_list_.begin() + static_cast<std::ptrdiff_t>(marks_++);
    const auto place = std::find_if(mark_list_.begin(), end,
                                    [order](const Mark& mark) { return mark.order > order; });
    std::move_backward(place, end, end + 1);
    *place = {value, order};
    size_ = marks_start_;
    for (std::size_t i = 0; i < marks_; ++i) append(mark_list_[i].value);
  }

  // A starter stands here, in the word or dropped from it: no mark moves across.
  void end_marks() {
    marks_start_ = size_;
    marks_ = 0;
  }

 private:
  struct Mark {
    char32_t value;
    int order;
  };

  void append(char32_t value) {
    size_ += encode_utf8(value, std::span<char, 4>(bytes_.data() + size_, 4));
  }

  std::array<char, kMaxWordBytes> bytes_;
  std::array<Mark, kMaxWordChars> mark_list_;
  std::size_t chars_ = 0, size_ = 0;
  std::size_t marks_start_ = 0, marks_ = 0;
};

// ASCII's kinds and lower case by table.
struct AsciiTable {
  std::array<CharKind, 128> kind;
  std::array<char, 128> lower;
};

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

// Reads one text and hands words to `emit`, a callable (bytes of the word, or nullopt where it is
// too long). Memory does not depend on the text.
template <class Emit>
class BasicTokenizer {
 public:
  BasicTokenizer(std::string_view text, bool lower_case, Emit emit)
      : text_(text), lower_case_(lower_case), emit_(std::move(emit)) {}

  // One character of the text; false at its end, when every word has been emitted.
  bool step() {
    if (position_ == text_.size()) {
      end_word();
      return false;
    }
    const auto byte = static_cast<unsigned char>(text_[position_]);
    if (byte < 0x80) {
      ++position_;
      add_ascii(byte);
      return true;
    }
    const auto [value, bytes] = decode_utf8(text_, position_);
    const std::size_t start = position_;
    position_ += bytes;
    add_other(value, start);
    return true;
  }

 private:
  void add_ascii(unsigned char value) {
    const CharKind kind = ascii_.kind[value];
    if (kind == CharKind::kText) {
      word_.add_ascii(lower_case_ ? ascii_.lower[value] : static_cast<char>(value));
    } else if (kind == CharKind::kSpace) {
      end_word();
    } else if (kind == CharKind::kPunctuation) {
      put_alone(value);
    }
  }

  void add_other(char32_t value, std::size_t start) {
    const CharKind kind = char_kind(value);
    if (kind == CharKind::kDropped) return;
    if (kind == CharKind::kSpace) {
      end_word();
    } else if (kind == CharKind::kIdeograph) {
      end_word();
      normalize(value, start);
      end_word();
    } else if (lower_case_) {
      normalize(value, start);
    } else if (kind == CharKind::kPunctuation) {
      put_alone(value);
    } else {
      word_.add(value);
    }
  }

  // Lower case, canonical decomposition, no nonspacing marks.
  void normalize(char32_t value, std::size_t start) {
    if (!lower_case_) return word_.add(value);
    if (value == kCapitalSigma) return word_.add(ends_word(start) ? kFinalSigma : kSmallSigma);
    std::array<char32_t, kMaxDecomposition> parts;
    const std::size_t count = decompose(to_lower(value), parts);
    for (std::size_t i = 0; i < count; ++i) put(parts[i]);
  }

  void put(char32_t value) {
    const int order = combining_class(value);
    if (is_nonspacing_mark(value)) {
      if (order == 0) word_.end_marks();
    } else if (char_kind(value) == CharKind::kPunctuation) {
      put_alone(value);
    } else if (order == 0) {
      word_.add(value);
    } else {
      word_.add_mark(value, order);
    }
  }

  void put_alone(char32_t value) {
    end_word();
    word_.add(value);
    end_word();
  }

  void end_word() {
    if (word_.empty()) return;
    if (word_.too_long()) {
      emit_(std::nullopt);
    } else {
      emit_(std::optional(word_.bytes()));
    }
    word_.clear();
  }

  // Unicode's Final_Sigma: a cased character before, none after, case-ignorable ones skipped;
  // spaces and ideographs are neither cased nor ignorable. Linear: what lies before is looked at
  // once, what lies after once for each stretch of ignorable characters.
  bool ends_word(std::size_t start) {
    while (context_ < start) {
      const auto [value, bytes] = decode_utf8(text_, context_);
      context_ += bytes;
      if (char_kind(value) != CharKind::kDropped && !is_case_ignorable(value)) {
        cased_before_ = is_cased(value);
      }
    }
    return cased_before_ && !cased_after();
  }

  bool cased_after() const {
    for (std::size_t next = position_; next < text_.size();) {
      const auto [value, bytes] = decode_utf8(text_, next);
      next += bytes;
      if (char_kind(value) != CharKind::kDropped && !is_case_ignorable(value)) {
        return is_cased(value);
      }
    }
    return false;
  }

  const AsciiTable& ascii_ = ascii_table();
  std::string_view text_;
  bool lower_case_;
  Emit emit_;
  Word word_;
  std::size_t position_ = 0;
  std::size_t context_ = 0;  // how far ends_word has looked
  bool cased_before_ = false;
};

}  // namespace

Result<Tokenizer> Tokenizer::create(std::vector<std::string> vocab, TokenizerOptions options) {
  if (vocab.size() > std::numeric_limits<std::int32_t>::max()) {
    return Status(Code::kUnsupported, "vocabulary: more than 2^31 - 1 tokens");
  }
  Tokenizer result;
  result.vocab_ = std::move(vocab);
  result.options_ = options;
  const std::vector<Entry> sorted = sort_entries(result.vocab_);
  if (Status status = check_tokens(sorted); !status.ok()) return status;

  std::int32_t padding = 0;
  const std::array<std::pair<std::string_view, std::int32_t*>, 4> special = {
      {{"[PAD]", &padding},
       {"[UNK]", &result.unknown_},
       {"[CLS]", &result.cls_},
       {"[SEP]", &result.sep_}}};
  for (const auto& [token, id] : special) {
    const auto found = find_id(sorted, token);
    if (!found) return Status(Code::kCorrupt, "vocabulary: " + std::string(token) + " is missing");
    *id = *found;
  }

  std::vector<Entry> words, pieces;
  words.reserve(sorted.size());
  pieces.reserve(sorted.size());
  for (const Entry& entry : sorted) {
    if (!entry.text.starts_with(kContinuation)) {
      if (entry.text.size() <= kMaxWordBytes) words.push_back(entry);
    } else if (entry.text.size() > kContinuation.size()) {
      const std::string_view piece = entry.text.substr(kContinuation.size());
      if (piece.size() <= kMaxWordBytes) pieces.push_back({piece, entry.id});
    }
  }
  result.words_ = TokenTrie(words);
  result.pieces_ = TokenTrie(pieces);
  return result;
}

std::vector<std::int32_t> Tokenizer::tokenize(std::string_view text, std::size_t limit) const {
  std::vector<std::int32_t> ids;
  const auto add_word = [this, &ids](std::optional<std::string_view> word) {
    const std::size_t before = ids.size();
    const TokenTrie* trie = &words_;
    while (word && !word->empty()) {
      const TokenTrie::Match match = trie->longest(*word);
      if (match.bytes == 0) {
        word = std::nullopt;
      } else {
        ids.push_back(match.id);
        word->remove_prefix(match.bytes);
        trie = &pieces_;
      }
    }
    if (!word) {
      ids.resize(before);
      ids.push_back(unknown_);
    }
  };
  BasicTokenizer basic(text, options_.lower_case, add_word);
  while (ids.size() < limit && basic.step()) {
  }
  return ids;
}

Encoding Tokenizer::encode(std::string_view text, const std::string_view* text2,
                           std::size_t max_tokens) const {
  SPLITEE_CHECK(max_tokens >= 3);
  const std::size_t budget = max_tokens - (text2 == nullptr ? 2 : 3);
  std::vector<std::int32_t> first = tokenize(text, budget);
  std::vector<std::int32_t> second;
  if (text2 != nullptr) second = tokenize(*text2, budget);
  while (first.size() + second.size() > budget) {
    auto& longer = first.size() > second.size() ? first : second;
    longer.pop_back();
  }

  Encoding result;
  result.ids.reserve(first.size() + second.size() + 3);
  result.ids.push_back(cls_);
  result.ids.insert(result.ids.end(), first.begin(), first.end());
  result.ids.push_back(sep_);
  result.types.assign(result.ids.size(), 0);
  if (text2 != nullptr) {
    result.ids.insert(result.ids.end(), second.begin(), second.end());
    result.ids.push_back(sep_);
    result.types.resize(result.ids.size(), 1);
  }
  return result;
}

}  // namespace splitee::runtime
