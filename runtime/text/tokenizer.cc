#include "runtime/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "base/utf8.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/unicode.h"

namespace splitee::runtime {
namespace {

constexpr std::size_t kMaxWordChars = 100;
constexpr std::size_t kMaxWordBytes = 4 * kMaxWordChars;
constexpr std::string_view kContinuation = "##";

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
    if (!valid_utf8(text)) return {Code::kCorrupt, describe(id, "is not UTF-8")};
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
  void clear() { chars_ = size_ = 0; }

  void add_ascii(char value) {
    if (++chars_ <= kMaxWordChars) bytes_[size_++] = value;
  }
  void add(char32_t value) {
    if (++chars_ > kMaxWordChars) return;
    size_ += encode_utf8(value, std::span<char, 4>(bytes_.data() + size_, 4));
  }

 private:
  std::array<char, kMaxWordBytes> bytes_;
  std::size_t chars_ = 0, size_ = 0;
};

// Splits normalized characters into words for `emit`, a callable (bytes of the word, or nullopt
// where it is too long).
template <class Emit>
class WordSplitter {
 public:
  explicit WordSplitter(Emit emit) : emit_(std::move(emit)) {}

  void space() { end_word(); }
  void put_ascii(char value) { word_.add_ascii(value); }
  void put(char32_t value) {
    if (char_kind(value) != CharKind::kPunctuation) return word_.add(value);
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

 private:
  Emit emit_;
  Word word_;
};

}  // namespace

TokenTexts::TokenTexts(std::span<const std::string> texts) {
  std::size_t size = 0;
  for (const std::string& text : texts) size += text.size();
  bytes_.reserve(size);
  ends_.reserve(texts.size());
  for (const std::string& text : texts) {
    bytes_ += text;
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
}

Result<Tokenizer> Tokenizer::create(const std::vector<std::string>& vocab,
                                    TokenizerOptions options) {
  if (vocab.size() > std::numeric_limits<std::int32_t>::max()) {
    return Status(Code::kUnsupported, "vocabulary: more than 2^31 - 1 tokens");
  }
  std::uint64_t bytes = 0;
  for (const std::string& token : vocab) bytes += token.size();
  if (bytes > std::numeric_limits<std::uint32_t>::max()) {
    return Status(Code::kUnsupported, "vocabulary: more than 4 GiB of tokens");
  }
  Tokenizer result;
  result.vocab_ = TokenTexts(vocab);
  result.normalization_ = {options.lower_case, options.strip_accents.value_or(options.lower_case),
                           options.split_ideographs};
  const std::vector<Entry> sorted = sort_entries(vocab);
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

  if (Status s = result.set_added_tokens(options.added_tokens); !s.ok()) return s;
  std::vector<bool> added_only(result.vocab_.size(), false);
  for (const AddedToken& token : options.added_tokens) {
    added_only[static_cast<std::size_t>(token.id)] = !token.word;
  }
  std::vector<Entry> words, pieces;
  words.reserve(sorted.size());
  pieces.reserve(sorted.size());
  for (const Entry& entry : sorted) {
    if (added_only[static_cast<std::size_t>(entry.id)]) continue;
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

Status Tokenizer::set_added_tokens(std::span<const AddedToken> tokens) {
  std::vector<AddedTokens::Entry> exact, in_normalized;
  for (const AddedToken& token : tokens) {
    if (token.id < 0 || static_cast<std::size_t>(token.id) >= vocab_.size()) {
      return {Code::kCorrupt, "added token " + std::to_string(token.id) + " is no token"};
    }
    const std::string text(vocab_[static_cast<std::size_t>(token.id)]);
    if (token.normalized) {
      in_normalized.push_back({token, normalized(text, normalization_)});
    } else {
      exact.push_back({token, text});
    }
  }
  for (auto [entries, place] : {std::pair(&exact, &exact_), {&in_normalized, &in_normalized_}}) {
    Result<AddedTokens> added = AddedTokens::create(std::move(*entries));
    if (!added.ok()) return added.status();
    *place = std::move(*added);
  }
  return {};
}

// Tokens of texts, without special ones: the first `limit` of them, and how many there are.
class Tokenizer::Tokens {
 public:
  Tokens(const Tokenizer& tokenizer, std::size_t limit, bool count_all)
      : tokenizer_(tokenizer), limit_(limit), count_all_(count_all) {}

  void read(std::string_view text) {
    if (tokenizer_.exact_.empty()) return read_between(text);
    for (const TextPart& part : tokenizer_.exact_.split(text)) {
      if (part.id >= 0) {
        add(part.id);
      } else {
        read_between(part.text);
      }
    }
  }

  std::size_t count() const { return count_; }
  std::vector<std::int32_t>& ids() { return ids_; }

 private:
  bool done() const { return !count_all_ && count_ >= limit_; }

  void read_between(std::string_view text) {
    if (tokenizer_.in_normalized_.empty()) return read_words(text, tokenizer_.normalization_);
    const std::string whole = normalized(text, tokenizer_.normalization_);
    for (const TextPart& part : tokenizer_.in_normalized_.split(whole)) {
      if (part.id >= 0) {
        add(part.id);
      } else {
        read_words(part.text, {});
      }
    }
  }

  void read_words(std::string_view text, Normalization what) {
    WordSplitter words([this](std::optional<std::string_view> word) { add_word(word); });
    Normalizer<decltype(words)> normalizer(text, what, words);
    while (!done()) {
      if (normalizer.step()) continue;
      words.end_word();
      return;
    }
  }

  void add_word(std::optional<std::string_view> word) {
    const std::size_t before = ids_.size();
    const TokenTrie* trie = &tokenizer_.words_;
    while (word && !word->empty()) {
      const TokenTrie::Match match = trie->longest(*word);
      if (match.bytes == 0) {
        word = std::nullopt;
      } else {
        ids_.push_back(match.id);
        word->remove_prefix(match.bytes);
        trie = &tokenizer_.pieces_;
      }
    }
    if (!word) {
      ids_.resize(before);
      ids_.push_back(tokenizer_.unknown_);
    }
    count_ += ids_.size() - before;
    ids_.resize(std::min(ids_.size(), limit_));
  }

  void add(std::int32_t id) {
    ++count_;
    if (ids_.size() < limit_) ids_.push_back(id);
  }

  const Tokenizer& tokenizer_;
  const std::size_t limit_;
  const bool count_all_;
  std::vector<std::int32_t> ids_;
  std::size_t count_ = 0;
};

std::vector<std::int32_t> Tokenizer::tokenize(std::string_view text, std::size_t limit) const {
  Tokens tokens(*this, limit, false);
  tokens.read(text);
  return std::move(tokens.ids());
}

std::size_t Tokenizer::count_tokens(std::string_view text) const {
  Tokens tokens(*this, 0, true);
  tokens.read(text);
  return tokens.count();
}

// The longer one is cut until the shorter one has half of the budget, then both are; an odd token
// is the longer one's, or the second one's where both are as long.
void Tokenizer::cut_pair(std::string_view text, std::string_view text2, std::size_t budget,
                         std::vector<std::int32_t>& first,
                         std::vector<std::int32_t>& second) const {
  if (first.size() + second.size() <= budget) return;
  bool first_is_longer = first.size() > second.size();
  if (budget % 2 == 1 && std::min(first.size(), second.size()) == budget) {
    first_is_longer = count_tokens(text) > count_tokens(text2);
  }
  auto& longer = first_is_longer ? first : second;
  auto& shorter = first_is_longer ? second : first;
  shorter.resize(std::min(shorter.size(), budget / 2));
  longer.resize(std::min(longer.size(), budget - shorter.size()));
}

Encoding Tokenizer::encode(std::string_view text, const std::string_view* text2,
                           std::size_t max_tokens) const {
  SPLITEE_CHECK(max_tokens >= 3);
  const std::size_t budget = max_tokens - (text2 == nullptr ? 2 : 3);
  std::vector<std::int32_t> first = tokenize(text, budget);
  std::vector<std::int32_t> second;
  if (text2 != nullptr) {
    second = tokenize(*text2, budget);
    cut_pair(text, *text2, budget, first, second);
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
