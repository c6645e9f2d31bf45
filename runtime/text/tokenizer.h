// BERT's tokenizer: basic tokenizer (clean, lower-case, strip accents, split punctuation and CJK)
// and greedy longest-match WordPiece, as bert-base-uncased does it (Devlin et al. 2019).
// Thread rule: immutable; encode() may be called from many threads at once.
//
// Equal, token for token, to what Hugging Face's `tokenizers` package does today (0.23; measured by
// tests/runtime/hugging_face_check.py), with these choices:
// - the special tokens have no spelling in a text: "[SEP]" is punctuation, "sep", punctuation, so
//   that no user can inject them (there: split_special_tokens);
// - what is not UTF-8 is dropped, as BERT's cleaning drops U+FFFD;
// - a second text that is empty still has its [SEP].
// A word of more than 100 characters, counted after normalization, is [UNK].
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/token_trie.h"

namespace splitee::runtime {

// One sample: ids and token types of equal length; [CLS] a [SEP] (b [SEP]).
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> types;
};

struct TokenizerOptions {
  bool lower_case = true;
  std::optional<bool> strip_accents =
      std::nullopt;              // as lower_case where not given, as BERT ties the two
  bool split_ideographs = true;  // the CJK blocks that BERT lists are words of their own
  std::vector<AddedToken> added_tokens = {};
};

// The tokens' texts by id, one behind the other: a string each would take three times as much.
class TokenTexts {
 public:
  TokenTexts() = default;
  explicit TokenTexts(std::span<const std::string> texts);

  std::size_t size() const { return ends_.size(); }
  std::string_view operator[](std::size_t id) const {
    const std::size_t begin = id > 0 ? ends_[id - 1] : 0;
    return std::string_view(bytes_).substr(begin, ends_[id] - begin);
  }

 private:
  std::string bytes_;
  std::vector<std::uint32_t> ends_;
};

class Tokenizer {
 public:
  // `vocab` in id order with BERT's spelling ("##ing" continues a word). It must hold [PAD],
  // [UNK], [CLS] and [SEP]; refused: empty tokens, duplicates, invalid UTF-8, 2^31 tokens or more,
  // added tokens without an id, and two that are looked for alike.
  static Result<Tokenizer> create(const std::vector<std::string>& vocab,
                                  TokenizerOptions options = {});

  // Cuts to max_tokens (>= 3): a single text keeps its first tokens; of a pair the longer one is
  // cut first, then both, and an odd token is the longer text's, or the second one's where both
  // are equally long. Invalid UTF-8 becomes U+FFFD and is dropped
  // as BERT's cleaning does; never fails. Linear in the texts' length, and stops reading a
  // text once max_tokens are certain. `text2` is null for single texts.
  Encoding encode(std::string_view text, const std::string_view* text2,
                  std::size_t max_tokens) const;

  const TokenTexts& vocab() const { return vocab_; }

 private:
  Tokenizer() = default;

  class Tokens;
  Status set_added_tokens(std::span<const AddedToken> tokens);
  // The first `limit` tokens of a text, without special ones.
  std::vector<std::int32_t> tokenize(std::string_view text, std::size_t limit) const;
  std::size_t count_tokens(std::string_view text) const;
  // Both hold their texts' first `budget` tokens at most.
  void cut_pair(std::string_view text, std::string_view text2, std::size_t budget,
                std::vector<std::int32_t>& first, std::vector<std::int32_t>& second) const;

  TokenTexts vocab_;
  TokenTrie words_;   // tokens that start a word
  TokenTrie pieces_;  // tokens that continue one, without their "##"
  AddedTokens exact_, in_normalized_;
  Normalization normalization_;
  std::int32_t unknown_ = 0, cls_ = 0, sep_ = 0;
};

}  // namespace splitee::runtime
